//! Messages as they are kept: encoded once for all who read them.

use std::{
    borrow::Cow,
    io::Write as _,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use rsock_proto::SharedPayload;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    memory::Held,
    name::TopicName,
    position::{Epoch, Offset},
    sync::{AtomicUsize, Ordering},
    time::Instant,
};

/// A message on its way into a log. It borrows what was read, and the log copies it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// The bytes that were published.
    pub data: &'a [u8],
    /// The name of its sender.
    pub from: Option<&'a str>,
    /// The key that it replaces, in a topic of the newest by key; elsewhere carried along.
    pub key: Option<&'a str>,
    /// A JSON object that goes with it, verbatim.
    pub headers: Option<&'a str>,
    /// It deletes its key.
    pub is_tombstone: bool,
    /// The connection that it came by, for readers that do not want their own; 0 for none.
    pub origin: u64,
    /// The number of the join that it came by, for that it knows its own; 0 for none.
    pub join: u32,
}

/// The parts of an item's metadata that a reader asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meta {
    /// All there is.
    #[default]
    Full,
    /// The offset alone.
    Offset,
    /// Nothing.
    None,
}

/// The form that JSON has in an item's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Metadata of the type `application/json`.
    Plain,
    /// An entry of composite metadata.
    Composite,
}

/// The id of `application/json` among the well-known MIME types, with the bit that says that it is one.
const JSON_ID: u8 = 0x80 | 0x05;
/// Bytes of the header of an entry whose MIME type is well known.
const COMPOSITE_HEADER: usize = 4;

/// JSON as an entry of composite metadata: the header is set when its length is known.
fn as_composite(mut json: Vec<u8>) -> Vec<u8> {
    let len = json.len() - COMPOSITE_HEADER;
    // Metadata are a few KiB at most: headers, keys and names are bounded.
    let [_, a, b, c] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    json[..COMPOSITE_HEADER].copy_from_slice(&[JSON_ID, a, b, c]);
    json
}

impl Form {
    /// Metadata that hold this JSON.
    pub fn metadata(self, json: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Plain => json.into(),
            Self::Composite => as_composite([&[0; COMPOSITE_HEADER], json].concat()).into(),
        }
    }
}

/// An item of the service's own, such as a gap or a member's arrival: JSON alone, or with data.
#[derive(Debug)]
pub struct Item {
    composite: SharedPayload,
    plain: OnceLock<Box<SharedPayload>>,
}

impl Item {
    /// An item whose metadata are this JSON.
    pub fn new(json: &[u8], data: &[u8]) -> Self {
        let metadata = Form::Composite.metadata(json);
        Self { composite: SharedPayload::new(Some(&metadata), data), plain: OnceLock::new() }
    }

    /// The item for connections whose metadata have this form.
    pub fn in_form(&self, form: Form) -> &SharedPayload {
        match form {
            Form::Composite => &self.composite,
            Form::Plain => self.plain.get_or_init(|| {
                let composite = self.composite.to_payload();
                let json = json_of(&composite.metadata);
                Box::new(SharedPayload::new(Some(json), &composite.data))
            }),
        }
    }

    /// The memory it takes, in both forms.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * self.composite.size() + size_of::<SharedPayload>()
    }
}

pub(crate) fn json_of(composite: &Option<Bytes>) -> &[u8] {
    composite.as_deref().and_then(|metadata| metadata.get(COMPOSITE_HEADER..)).unwrap_or_default()
}

/// The encoder of a topic's metadata: all of it that is the same for every message is written once.
#[derive(Debug)]
pub struct Encoder {
    /// The header's place and the JSON up to the offset.
    begin: Box<[u8]>,
}

impl Encoder {
    /// The encoder of this topic in this epoch.
    pub fn new(topic: &TopicName, epoch: Epoch) -> Self {
        // A name has no character that JSON would escape.
        let json = format!(r#"    {{"topic":"{topic}","epoch":"{epoch}","offset":"#);
        Self { begin: json.into_bytes().into() }
    }

    /// Full metadata, as an entry of composite metadata.
    fn full(&self, offset: Offset, time: u64, message: &Message<'_>) -> Vec<u8> {
        let of = |text: Option<&str>| text.map_or(0, |text| text.len() + 16);
        let len = self.begin.len() + 64 + of(message.from) + of(message.key) + of(message.headers);
        let mut json = Vec::with_capacity(len);
        json.extend_from_slice(&self.begin);
        // A Vec takes all that is written.
        let _ = write!(json, r#"{offset},"time":{time}"#);
        for (name, text) in [("from", message.from), ("key", message.key)] {
            if let Some(text) = text {
                let _ = write!(json, r#","{name}":"#);
                let _ = serde_json::to_writer(&mut json, text);
            }
        }
        if let Some(headers) = message.headers {
            json.extend_from_slice(br#","headers":"#);
            json.extend_from_slice(headers.as_bytes());
        }
        if message.is_tombstone {
            json.extend_from_slice(br#","deleted":true"#);
        }
        json.push(b'}');
        as_composite(json)
    }
}

/// The metadata of a message, beside its topic and its offset.
#[derive(Debug, Default, Deserialize)]
pub struct Description<'a> {
    /// Milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
    /// The name of its sender.
    #[serde(borrow, default)]
    pub from: Option<Cow<'a, str>>,
    /// The key that it replaces.
    #[serde(borrow, default)]
    pub key: Option<Cow<'a, str>>,
    /// A JSON object that went with it.
    #[serde(borrow, default)]
    pub headers: Option<&'a RawValue>,
    /// It deleted its key.
    #[serde(default, rename = "deleted")]
    pub is_tombstone: bool,
}

/// A message of a log, encoded as most readers want it; other forms are encoded when one first asks.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub offset: Offset,
    /// Milliseconds since 1970; never less than that of the message before it.
    pub time: u64,
    /// The moment that its age counts from.
    pub appended: Instant,
    /// The connection that it came by; 0 for none.
    pub origin: u64,
    /// The join that it came by; 0 for none.
    pub join: u32,
    /// The key that it replaces.
    pub key: Option<Arc<str>>,
    /// It deletes its key.
    pub is_tombstone: bool,
    full: SharedPayload,
    others: OnceLock<Box<Others>>,
}

/// The less usual forms of an entry.
#[derive(Debug, Default)]
struct Others {
    full_plain: OnceLock<SharedPayload>,
    offset_composite: OnceLock<SharedPayload>,
    offset_plain: OnceLock<SharedPayload>,
    data: OnceLock<SharedPayload>,
}

/// The room for further forms of entries: they are counted when they are made, and not kept where their log
/// would hold more than it may.
#[derive(Debug)]
pub struct Room<'a> {
    /// Bytes of the further forms of these entries.
    pub(crate) of: &'a AtomicUsize,
    pub(crate) held: &'a Held,
    /// Bytes that their log may hold.
    pub(crate) limit: usize,
}

impl Room<'_> {
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let is_taken = self.held.take(bytes, self.limit);
        if is_taken {
            self.of.fetch_add(bytes, Ordering::Relaxed);
        }
        is_taken
    }
}

/// An item of an entry: shared with other readers, or one reader's own.
#[derive(Debug)]
pub enum Encoded<'a> {
    /// It is kept with the entry.
    Shared(&'a SharedPayload),
    /// It was made for this reader.
    Own(SharedPayload),
}

impl std::ops::Deref for Encoded<'_> {
    type Target = SharedPayload;

    fn deref(&self) -> &SharedPayload {
        match self {
            Self::Shared(item) => item,
            Self::Own(item) => item,
        }
    }
}

impl Entry {
    /// A copy of a message, encoded.
    pub fn new(
        encoder: &Encoder,
        offset: Offset,
        time: u64,
        appended: Instant,
        message: &Message<'_>,
    ) -> Self {
        let metadata = encoder.full(offset, time, message);
        Self {
            offset,
            time,
            appended,
            origin: message.origin,
            join: message.join,
            key: message.key.map(Into::into),
            is_tombstone: message.is_tombstone,
            full: SharedPayload::new(Some(&metadata), message.data),
            others: OnceLock::new(),
        }
    }

    /// The same message once more, of the same bytes, without its less usual forms.
    pub(crate) fn copy(&self) -> Self {
        Self {
            offset: self.offset,
            time: self.time,
            appended: self.appended,
            origin: self.origin,
            join: self.join,
            key: self.key.clone(),
            is_tombstone: self.is_tombstone,
            full: self.full.clone(),
            others: OnceLock::new(),
        }
    }

    /// The bytes that were published.
    pub fn data(&self) -> &[u8] {
        self.full.data()
    }

    /// The rest of it, read from its metadata: for those who look at few.
    pub fn describe<T>(&self, see: impl FnOnce(&Description<'_>) -> T) -> T {
        let payload = self.full.to_payload();
        // We have written it.
        see(&serde_json::from_slice(json_of(&payload.metadata)).unwrap_or_default())
    }

    /// The item that readers of this kind are sent.
    #[inline]
    pub fn item(&self, meta: Meta, form: Form, room: &Room<'_>) -> Encoded<'_> {
        match (meta, form) {
            (Meta::Full, Form::Composite) => Encoded::Shared(&self.full),
            _ => self.other(meta, form, room),
        }
    }

    fn other<'a>(&'a self, meta: Meta, form: Form, room: &Room<'_>) -> Encoded<'a> {
        let place = |others: &'a Others| match (meta, form) {
            (Meta::Full, _) => &others.full_plain,
            (Meta::Offset, Form::Composite) => &others.offset_composite,
            (Meta::Offset, Form::Plain) => &others.offset_plain,
            (Meta::None, _) => &others.data,
        };
        if let Some(item) = self.others.get().and_then(|others| place(others).get()) {
            return Encoded::Shared(item);
        }
        let item = self.encode(meta, form);
        // Where two are the first the place of all forms is counted twice: once too often is no harm.
        let others = if self.others.get().is_some() { 0 } else { size_of::<Others>() };
        if !room.take(others + item.size() + ALLOCATION) {
            return Encoded::Own(item);
        }
        let others = self.others.get_or_init(Box::default);
        Encoded::Shared(place(others).get_or_init(|| item))
    }

    fn encode(&self, meta: Meta, form: Form) -> SharedPayload {
        let of_offset;
        let full = self.full.to_payload();
        let json = match meta {
            Meta::None => return SharedPayload::new(None, &full.data),
            Meta::Full => json_of(&full.metadata),
            Meta::Offset => {
                of_offset = format!(r#"{{"offset":{}}}"#, self.offset);
                of_offset.as_bytes()
            }
        };
        SharedPayload::new(Some(&form.metadata(json)), &full.data)
    }

    /// The item for a reader that was not sent as many before it, because it wants the newest alone.
    pub fn item_after_skipped(&self, skipped: u64, meta: Meta, form: Form) -> SharedPayload {
        self.item_with(&format!(r#","skipped":{skipped}"#), meta, form)
    }

    /// The item with these members more in its metadata, each with its comma; if it has any.
    pub(crate) fn item_with(&self, members: &str, meta: Meta, form: Form) -> SharedPayload {
        let item = self.encode(meta, Form::Plain).to_payload();
        let Some(json) = item.metadata else { return SharedPayload::from(&item) };
        let begin = json.strip_suffix(b"}").unwrap_or_default();
        let json = [begin, members.as_bytes(), b"}"].concat();
        SharedPayload::new(Some(&form.metadata(&json)), &item.data)
    }

    /// The memory it takes, before it is encoded in a further form.
    pub fn bytes(&self) -> usize {
        let key = self.key.as_deref().map_or(0, |key| key.len() + ALLOCATION);
        size_of::<Self>() + self.full.size() + ALLOCATION + key
    }
}

/// Bytes that an allocation takes beside what was asked for, about.
pub(crate) const ALLOCATION: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> Encoder {
        let topic = TopicName::parse("room.1").expect("a name");
        Encoder::new(&topic, Epoch(0x9f3c_1a7b_e2d0_4411))
    }

    fn entry(message: &Message<'_>) -> Entry {
        Entry::new(&encoder(), Offset(42), 1_764_417_433_123, Instant(7), message)
    }

    fn text(item: &SharedPayload) -> (String, Vec<u8>) {
        let payload = item.to_payload();
        let metadata = payload.metadata.as_deref().unwrap_or_default();
        (String::from_utf8_lossy(metadata).into_owned(), payload.data.to_vec())
    }

    struct Forms(AtomicUsize, Arc<Held>);

    impl Forms {
        fn new() -> Self {
            Self(AtomicUsize::new(0), Held::new(Arc::default()))
        }

        fn room(&self, limit: usize) -> Room<'_> {
            Room { of: &self.0, held: &self.1, limit }
        }
    }

    #[test]
    fn metadata_say_what_is_known_and_no_more() {
        let forms = Forms::new();
        let plain = entry(&Message { data: b"hi", ..Message::default() });
        let (json, data) = text(&plain.item(Meta::Full, Form::Plain, &forms.room(usize::MAX)));
        let begin =
            r#"{"topic":"room.1","epoch":"9f3c1a7be2d04411","offset":42,"time":1764417433123"#;
        assert_eq!((json, data), (format!("{begin}}}"), b"hi".to_vec()));
        let whole = entry(&Message {
            data: b"",
            from: Some("an\"n"),
            key: Some("42/ä"),
            headers: Some(r#"{"edits": 41}"#),
            is_tombstone: true,
            origin: 3,
            join: 0,
        });
        let (json, _) = text(&whole.item(Meta::Full, Form::Plain, &forms.room(usize::MAX)));
        let rest = r#","from":"an\"n","key":"42/ä","headers":{"edits": 41},"deleted":true}"#;
        assert_eq!(json, format!("{begin}{rest}"));
        whole.describe(|described| {
            assert_eq!(described.from.as_deref(), Some("an\"n"));
            assert_eq!(described.key.as_deref(), Some("42/ä"));
            assert_eq!(described.headers.map(RawValue::get), Some(r#"{"edits": 41}"#));
            assert!(described.is_tombstone && described.time == 1_764_417_433_123);
        });
        let skipping = whole.item_after_skipped(7, Meta::Full, Form::Plain);
        assert!(text(&skipping).0.ends_with(r#""deleted":true,"skipped":7}"#));
        let skipping = whole.item_after_skipped(7, Meta::None, Form::Plain);
        assert_eq!(text(&skipping).0, "");
    }

    #[test]
    fn composite_metadata_have_one_entry_of_json() {
        let forms = Forms::new();
        let entry = entry(&Message { data: b"x", ..Message::default() });
        for meta in [Meta::Full, Meta::Offset] {
            let composite = entry.item(meta, Form::Composite, &forms.room(usize::MAX)).to_payload();
            let metadata = composite.metadata.expect("metadata");
            let (json, _) = text(&entry.item(meta, Form::Plain, &forms.room(usize::MAX)));
            assert_eq!(metadata[0], JSON_ID);
            assert_eq!(metadata[1..4], (json.len() as u32).to_be_bytes()[1..]);
            assert_eq!(metadata[4..], *json.as_bytes());
        }
    }

    #[test]
    fn forms_are_kept_once_and_as_long_as_there_is_room() {
        let forms = Forms::new();
        let entry = entry(&Message { data: &[b'x'; 1_000], ..Message::default() });
        let full = entry.item(Meta::Full, Form::Composite, &forms.room(0));
        assert!(matches!(full, Encoded::Shared(_)), "it is there already");
        let none = forms.room(500);
        assert!(matches!(entry.item(Meta::None, Form::Plain, &none), Encoded::Own(_)));
        assert_eq!(forms.1.bytes(), 0);
        let first =
            std::ptr::from_ref(&*entry.item(Meta::None, Form::Plain, &forms.room(usize::MAX)));
        let counted = forms.1.bytes();
        assert!((1_000..1_500).contains(&counted), "{counted}");
        let again = entry.item(Meta::None, Form::Composite, &none);
        assert_eq!(std::ptr::from_ref(&*again), first);
        assert_eq!((forms.1.bytes(), forms.0.load(Ordering::Relaxed)), (counted, counted));
    }

    #[test]
    fn items_of_the_services_own_have_both_forms() {
        let item = Item::new(br#"{"event":"all"}"#, b"");
        assert_eq!(text(item.in_form(Form::Plain)).0, r#"{"event":"all"}"#);
        assert!(text(item.in_form(Form::Composite)).0.ends_with(r#"{"event":"all"}"#));
    }
}
