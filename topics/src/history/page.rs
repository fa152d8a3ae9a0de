//! Pages: a part of a log as one answer.

use std::{io::Write as _, ops::Range};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    entry::{Description, Entry},
    json::Readable,
    name::TopicName,
    options::{Around, HistoryPageOptions},
    position::{Epoch, Offset, Position},
    refusal::Refusal,
};

/// A log at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Its topic.
    pub topic: &'a TopicName,
    /// Its numbering.
    pub epoch: Epoch,
    /// The oldest message that is kept; `end` if none is.
    pub base: Offset,
    /// The offset behind the newest.
    pub end: Offset,
}

/// The messages that a page needs: those from an offset on, or those before one, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// From this offset upwards.
    From(Offset),
    /// Below this offset, downwards.
    Before(Offset),
}

/// A page that is asked for, and what is left out before it.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    of: Moment<'a>,
    wanted: Wanted,
    gap: Option<Gap>,
    options: &'a HistoryPageOptions,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Gap {
    from: Offset,
    to: Offset,
}

/// The question that a page ends with: its answer is the page behind it.
#[derive(Serialize)]
#[serde(untagged)]
enum Next {
    After { epoch: Epoch, after: Offset },
    Before { epoch: Epoch, before: Offset },
}

#[derive(Serialize)]
struct Listed<'a> {
    offset: Offset,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<&'a RawValue>,
    #[serde(flatten)]
    data: Readable<'a>,
}

/// The data of a message; of a deleted key there are none.
fn readable(entry: &Entry) -> Readable<'_> {
    if entry.is_tombstone { Readable::Deleted(true) } else { Readable::of(entry.data()) }
}

impl<'a> Question<'a> {
    /// The page that these options ask for.
    ///
    /// # Errors
    /// [`Refusal::Rejected`] if they speak of another numbering.
    pub fn new(of: Moment<'a>, options: &'a HistoryPageOptions) -> Result<Self, Refusal> {
        if let Around::After(position) | Around::Before(position) = options.around
            && position.epoch != of.epoch
        {
            return Err(Refusal::began_anew(of.topic, of.epoch, position.epoch));
        }
        let mut gap = None;
        let wanted = match options.around {
            Around::Newest => Wanted::Before(of.end),
            Around::Before(Position { after: offset, .. }) => Wanted::Before(offset.min(of.end)),
            Around::After(Position { after, .. }) => {
                let next = after.next();
                if next < of.base {
                    gap = Some(Gap { from: next, to: Offset(of.base.0 - 1) });
                }
                Wanted::From(next.max(of.base))
            }
        };
        Ok(Self { of, wanted, gap, options })
    }

    /// The messages to answer with.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// The offset behind the newest message of its moment.
    pub fn end(&self) -> Offset {
        self.of.end
    }

    /// Messages at most that are looked at: the last of them only says that there are more.
    pub fn limit(&self) -> usize {
        self.options.limit + 1
    }

    /// The answer, of the messages that are [wanted](Self::wanted), in their order. There may be more behind
    /// them than are given.
    pub fn answer<'e>(
        &self,
        messages: impl IntoIterator<Item = &'e Entry>,
        is_more: bool,
    ) -> Vec<u8> {
        let mut listed = Vec::new();
        let mut places: Vec<Range<usize>> = Vec::new();
        let (mut last, mut is_whole) = (None, !is_more);
        for entry in messages {
            let begin = listed.len();
            if places.len() < self.options.limit {
                entry.describe(|description| write_message(&mut listed, entry, description));
            }
            // One message is a page, however large it is.
            let is_full = listed.len() > self.options.max_bytes && !places.is_empty();
            if is_full || listed.len() == begin {
                is_whole = false;
                break;
            }
            places.push(begin..listed.len());
            last = Some(entry.offset);
        }
        let is_downward = matches!(self.wanted, Wanted::Before(_));
        if is_downward != self.options.is_reversed {
            places.reverse();
        }
        let epoch = self.of.epoch;
        let next = last.filter(|_| !is_whole).map(|last| match is_downward {
            true => Next::Before { epoch, before: last },
            false => Next::After { epoch, after: last },
        });
        self.write(&listed, &places, next)
    }

    fn write(&self, listed: &[u8], places: &[Range<usize>], next: Option<Next>) -> Vec<u8> {
        let Moment { topic, epoch, base, end } = self.of;
        let mut page = Vec::with_capacity(listed.len() + places.len() + 256);
        // A Vec takes all that is written, and what is written here is JSON.
        let head = end.0 - 1;
        let _ = write!(
            page,
            r#"{{"topic":"{topic}","epoch":"{epoch}","base":{base},"head":{head},"messages":["#
        );
        for (index, place) in places.iter().enumerate() {
            if index > 0 {
                page.push(b',');
            }
            page.extend_from_slice(&listed[place.clone()]);
        }
        page.push(b']');
        if let Some(gap) = &self.gap {
            page.extend_from_slice(br#","gap":"#);
            let _ = serde_json::to_writer(&mut page, gap);
        }
        if let Some(next) = next {
            page.extend_from_slice(br#","next":"#);
            let _ = serde_json::to_writer(&mut page, &next);
        }
        page.push(b'}');
        page
    }
}

fn write_message(listed: &mut Vec<u8>, entry: &Entry, description: &Description<'_>) {
    let message = Listed {
        offset: entry.offset,
        time: entry.time,
        from: description.from.as_deref(),
        key: description.key.as_deref(),
        headers: description.headers,
        data: readable(entry),
    };
    // A Vec takes all that is written, and names, numbers and JSON can be written as JSON.
    let _ = serde_json::to_writer(listed, &message);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        entry::{Encoder, Message},
        time::Instant,
    };

    struct Log {
        topic: TopicName,
        epoch: Epoch,
        base: u64,
        entries: Vec<Entry>,
    }

    impl Log {
        /// A log of these messages, the first of which has this offset.
        fn new<'a>(base: u64, messages: impl IntoIterator<Item = Message<'a>>) -> Self {
            let (topic, epoch) = (TopicName::parse("room.1").expect("a name"), Epoch(0x1a));
            let encoder = Encoder::new(&topic, epoch);
            let entry = |(at, message): (usize, Message<'_>)| {
                Entry::new(&encoder, Offset(base + at as u64), 1_000, Instant(0), &message)
            };
            let entries = messages.into_iter().enumerate().map(entry).collect();
            Self { topic, epoch, base, entries }
        }

        fn of(base: u64, data: &[&[u8]]) -> Self {
            Self::new(base, data.iter().map(|data| Message { data, ..Message::default() }))
        }

        fn ask(&self, options: &str) -> Result<Value, Refusal> {
            let (base, end) = (Offset(self.base), Offset(self.base + self.entries.len() as u64));
            let moment = Moment { topic: &self.topic, epoch: self.epoch, base, end };
            let options = HistoryPageOptions::parse(options.as_bytes())?;
            let question = Question::new(moment, &options)?;
            let page = match question.wanted() {
                Wanted::From(from) => {
                    question.answer(self.entries.iter().filter(|entry| entry.offset >= from), false)
                }
                Wanted::Before(end) => question
                    .answer(self.entries.iter().rev().filter(|entry| entry.offset < end), false),
            };
            Ok(serde_json::from_slice(&page).expect("JSON"))
        }

        fn page(&self, options: &str) -> Value {
            self.ask(options).expect("a page")
        }
    }

    fn offsets(page: &Value) -> Vec<u64> {
        let messages = page["messages"].as_array().expect("messages");
        messages.iter().map(|message| message["offset"].as_u64().expect("an offset")).collect()
    }

    #[test]
    fn a_page_says_what_it_is_of_and_all_of_each_message() {
        let log = Log::new(
            17,
            [
                Message {
                    data: br#" {"text": "hi"} "#,
                    from: Some("ann"),
                    headers: Some(r#"{"edits":3}"#),
                    ..Message::default()
                },
                Message { data: b"plain\n", key: Some("7"), ..Message::default() },
                Message { data: &[0, 1, 2, 255], ..Message::default() },
                Message { key: Some("7"), is_tombstone: true, ..Message::default() },
                Message::default(),
            ],
        );
        let expected = json!({
            "topic": "room.1", "epoch": "000000000000001a", "base": 17, "head": 21,
            "messages": [
                {"offset": 17, "time": 1_000, "from": "ann", "headers": {"edits": 3},
                 "data": {"text": "hi"}},
                {"offset": 18, "time": 1_000, "key": "7", "text": "plain\n"},
                {"offset": 19, "time": 1_000, "base64": "AAEC/w=="},
                {"offset": 20, "time": 1_000, "key": "7", "deleted": true},
                {"offset": 21, "time": 1_000, "text": ""},
            ],
        });
        assert_eq!(log.page(""), expected);
    }

    #[test]
    fn a_page_ends_with_the_question_for_the_next_one() {
        let log = Log::of(17, &[&b"1"[..]; 10]);
        let page = log.page(r#"{"limit":3}"#);
        assert_eq!(offsets(&page), [24, 25, 26]);
        assert_eq!(page["next"], json!({"epoch": "000000000000001a", "before": 24}));
        assert_eq!(offsets(&log.page(r#"{"limit":3,"reverse":true}"#)), [26, 25, 24]);
        let page = log.page(r#"{"after":18,"epoch":"000000000000001a","limit":3}"#);
        assert_eq!(offsets(&page), [19, 20, 21]);
        assert_eq!(page["next"], json!({"epoch": "000000000000001a", "after": 21}));
        assert_eq!(page.get("gap"), None);
        // As many as there are: there is none behind.
        let page = log.page(r#"{"after":18,"epoch":"000000000000001a","limit":8}"#);
        assert_eq!((offsets(&page).len(), page.get("next")), (8, None));
        let page = log.page(r#"{"before":20,"epoch":"000000000000001a"}"#);
        assert_eq!((offsets(&page), page.get("next")), (vec![17, 18, 19], None));
    }

    #[test]
    fn what_is_not_kept_any_more_is_told() {
        let log = Log::of(17, &[&b"1"[..]; 3]);
        let page = log.page(r#"{"after":4,"epoch":"000000000000001a","limit":1}"#);
        assert_eq!(offsets(&page), [17]);
        assert_eq!(page["gap"], json!({"from": 5, "to": 16}));
        let page = log.page(r#"{"after":16,"epoch":"000000000000001a"}"#);
        assert_eq!((offsets(&page).len(), page.get("gap")), (3, None));
        // Nothing is left, and nothing was missed by whoever had all of it.
        let empty = Log::of(20, &[]);
        let page = empty.page(r#"{"after":19,"epoch":"000000000000001a"}"#);
        assert_eq!((&page["base"], &page["head"], page.get("gap")), (&json!(20), &json!(19), None));
        let page = empty.page(r#"{"after":18,"epoch":"000000000000001a"}"#);
        assert_eq!(page["gap"], json!({"from": 19, "to": 19}));
        // What is not there yet is not there.
        let page = log.page(r#"{"after":500,"epoch":"000000000000001a"}"#);
        assert!(offsets(&page).is_empty());
        let page = log.page(r#"{"before":500,"epoch":"000000000000001a"}"#);
        assert_eq!(offsets(&page), [17, 18, 19]);

        let other = log.ask(r#"{"after":18,"epoch":"000000000000001b"}"#).expect_err("another");
        assert_eq!(
            other.to_string(),
            "began anew: the log of topic \"room.1\" has epoch 000000000000001a, not 000000000000001b; read \
             from the start"
        );
    }

    #[test]
    fn a_page_is_no_larger_than_was_asked_but_for_one_message() {
        let large = [b'x'; 5_000];
        let log = Log::of(1, &[b"1", b"2", &large, b"4", b"5"]);
        let page = log.page(r#"{"after":0,"epoch":"000000000000001a","max_bytes":1000}"#);
        assert_eq!(offsets(&page), [1, 2]);
        let page = log.page(r#"{"after":2,"epoch":"000000000000001a","max_bytes":1000}"#);
        assert_eq!(offsets(&page), [3]);
        assert_eq!(page["next"]["after"], 3);
        let page = log.page(r#"{"max_bytes":1000}"#);
        assert_eq!((offsets(&page), &page["next"]["before"]), (vec![4, 5], &json!(4)));
    }

    /// One message cannot make a page that others cannot read.
    #[test]
    fn json_that_not_all_can_read_is_text() {
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        let log = Log::of(1, &[deep.as_bytes(), br#"{"x":"\ud800"}"#, b"1e999", b"[1]"]);
        let page = log.page("");
        assert_eq!(page["messages"][0]["text"], deep);
        assert_eq!(page["messages"][1]["text"], r#"{"x":"\ud800"}"#);
        assert_eq!(page["messages"][2]["text"], "1e999");
        assert_eq!(page["messages"][3]["data"], json!([1]));
    }

    /// Whatever the sizes of pages and messages, and both ways: one behind the other they are the log.
    #[test]
    fn pages_one_behind_the_other_are_the_log() {
        let data: Vec<Vec<u8>> = (0..150_usize).map(|n| vec![b'a'; n * 37 % 401]).collect();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let log = Log::of(1_000, &data);
        let all: Vec<u64> = (1_000..1_150).collect();
        for (limit, max_bytes) in
            [(1, 1), (1, 9_999), (7, 1_000), (150, 1), (149, 1 << 20), (1_000, 3_000)]
        {
            for is_reversed in [false, true] {
                for is_downward in [false, true] {
                    let around = if is_downward { "before" } else { "after" };
                    let mut at = if is_downward { 1_150 } else { 999 };
                    let (mut read, mut pages) = (Vec::new(), 0);
                    loop {
                        let page = log.page(&format!(
                            r#"{{"{around}":{at},"epoch":"000000000000001a","limit":{limit},"max_bytes":{max_bytes},"reverse":{is_reversed}}}"#
                        ));
                        let mut offsets = offsets(&page);
                        assert!(!offsets.is_empty() && offsets.len() <= limit);
                        if is_reversed {
                            assert!(offsets.is_sorted_by(|a, b| a > b));
                            offsets.reverse();
                        }
                        if is_downward {
                            offsets.append(&mut read);
                            read = offsets;
                        } else {
                            read.append(&mut offsets);
                        }
                        pages += 1;
                        match page["next"][around].as_u64() {
                            Some(next) => at = next,
                            None => break,
                        }
                    }
                    assert_eq!(read, all, "{limit} {max_bytes} {is_downward}");
                    assert!(pages <= 150);
                }
            }
        }
    }
}
