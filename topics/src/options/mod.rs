//! Options of requests: JSON of which every member is known, and every size bounded.

mod names;
mod publish;
mod query;
mod read;
mod subscribe;

pub use names::is_member_name;
pub use publish::{Info, PublishOptions};
pub use query::{
    Around, HistoryOptions, HistoryPageOptions, PresenceOptions, PresencePageOptions, TopicsOptions,
};
pub use subscribe::{JoinOptions, Lag, Receive, Start, SubscribeOptions};

/// Bytes of the largest headers of a message, and information on a member.
const MAX_JSON_BYTES: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Meta,
        name::TopicName,
        position::{Epoch, Offset, Position},
        refusal::Refusal,
    };

    fn text<T: std::fmt::Debug>(read: Result<T, Refusal>) -> String {
        match read {
            Err(Refusal::Invalid(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_and_an_empty_object_are_the_defaults() {
        for json in ["", " \n", "{}", " { } "] {
            let json = json.as_bytes();
            assert_eq!(SubscribeOptions::parse(json), Ok(SubscribeOptions::default()));
            assert_eq!(HistoryOptions::parse(json), Ok(HistoryOptions::default()));
            assert_eq!(PresenceOptions::parse(json), Ok(PresenceOptions::default()));
            assert_eq!(PresencePageOptions::parse(json), Ok(PresencePageOptions::default()));
            let all = TopicsOptions::List { prefix: "".into() };
            assert_eq!(TopicsOptions::parse(json), Ok(all));
            let newest = HistoryPageOptions {
                around: Around::Newest,
                limit: 100,
                max_bytes: 256 << 10,
                is_reversed: false,
            };
            assert_eq!(HistoryPageOptions::parse(json), Ok(newest));
            let publish = PublishOptions::parse(json).expect("nothing is right");
            assert!(publish.id.is_none() && !publish.is_ephemeral && publish.expect.is_none());
            let join = JoinOptions::parse(json).expect("nothing is right");
            assert!(join.is_present && join.receive == Receive::Messages);
        }
    }

    #[test]
    fn a_publish_is_read_as_it_was_written() {
        let json = r#"{"id":"m-\u0037","from":"ann","key":"7","headers": { "edits" :42} ,"expect":31,
            "close":true, "ephemeral":null}"#;
        let options = PublishOptions::parse(json.as_bytes()).expect("valid");
        assert_eq!(options.id.as_deref(), Some("m-7"));
        assert_eq!(options.from.as_deref(), Some("ann"));
        assert_eq!(options.key.as_deref(), Some("7"));
        assert_eq!(
            options.headers.map(|headers| headers.to_string()).as_deref(),
            Some(r#"{ "edits" :42}"#)
        );
        assert_eq!(options.expect, Some(Offset(31)));
        assert!(options.is_last && !options.is_ephemeral && !options.is_tombstone);
        for (json, expected) in
            [(r#"{"a": 1}"#, Some(r#"{"a": 1}"#)), ("null", None), ("[]", Some("[]"))]
        {
            let json = format!(r#"{{"id":"x","info":{json}}}"#);
            let info =
                PublishOptions::parse(json.as_bytes()).expect("valid").info.expect("it is there");
            assert_eq!(info.json().map(|json| json.get()), expected);
        }
        let deletes = PublishOptions::parse(br#"{"key":"7","delete":true}"#).expect("valid");
        assert!(deletes.is_tombstone);
    }

    #[test]
    fn a_subscription_starts_where_it_is_asked_to() {
        let position = Position { epoch: Epoch(0x9f3c_1a7b_e2d0_4411), after: Offset(40) };
        for (json, expected) in [
            (r#""new""#, Start::New),
            (r#""start""#, Start::Oldest),
            (r#"{"last":0}"#, Start::Last(0)),
            (r#"{"last":10000}"#, Start::Last(10_000)),
            (r#"{"epoch":"9f3c1a7be2d04411","after":40}"#, Start::After(position)),
            (r#"{"since":"1970-01-01T00:00:01.5Z"}"#, Start::Since(1_500)),
            ("null", Start::New),
        ] {
            let json = format!(r#"{{"from":{json}}}"#);
            let options = SubscribeOptions::parse(json.as_bytes()).expect(&json);
            assert_eq!(options.from, expected, "{json}");
        }
        for (json, expected) in [
            (r#""old""#, r#"not a valid from: "old"; it is "new", "start", {"last":N}"#),
            ("5", "not a valid from: 5"),
            ("{}", "not a valid from: {}"),
            (r#"{"last":10001}"#, "not a valid last: 10001; it is a whole number from 0 to 10000"),
            (r#"{"last":1.5}"#, "not a valid last: 1.5"),
            (r#"{"last":1,"since":"1970-01-01T00:00:00Z"}"#, "not a valid from"),
            (r#"{"after":40}"#, "not a valid from"),
            (r#"{"epoch":"9F","after":40}"#, "16 digits of 0-9 a-f"),
            (r#"{"epoch":"9f3c1a7be2d04411","after":9007199254740992}"#, "9007199254740991"),
            (r#"{"since":"today"}"#, "2026-11-30T04:05:06Z"),
            (
                r#"{"sinse":"today"}"#,
                "(did you mean \"since\"?); there are last, epoch, after, since",
            ),
        ] {
            let json = format!(r#"{{"from":{json}}}"#);
            let text = text(SubscribeOptions::parse(json.as_bytes()));
            assert!(text.contains(expected), "{json}: {text}");
        }
    }

    #[test]
    fn a_join_has_all_that_a_subscription_has() {
        let json = r#"{"name":"ann","receive":"both","info":{"avatar":3},"presence":false,"from":"start",
            "lag":"conflate","max_lag":7,"start":true,"live":true,"meta":"offset","echo":false,
            "token":"abc"}"#;
        let join = JoinOptions::parse(json.as_bytes()).expect("valid");
        assert_eq!(join.name.as_deref(), Some("ann"));
        assert_eq!(join.info.map(|info| info.to_string()).as_deref(), Some(r#"{"avatar":3}"#));
        assert_eq!((join.receive, join.is_present), (Receive::Both, false));
        let subscribe = SubscribeOptions {
            from: Start::Oldest,
            lag: Lag::Conflate,
            max_lag: Some(7),
            tells_start: true,
            tells_live: true,
            meta: Meta::Offset,
            has_echo: false,
            token: Some("abc".into()),
        };
        assert_eq!(join.subscribe, subscribe);
    }

    #[test]
    fn pages_and_lists_are_read() {
        let epoch = Epoch(0x1a);
        let of = |json: &str| HistoryPageOptions::parse(json.as_bytes());
        let page = of(r#"{"after":3,"epoch":"000000000000001a","limit":1000,"max_bytes":1048576}"#);
        let page = page.expect("valid");
        assert_eq!(page.around, Around::After(Position { epoch, after: Offset(3) }));
        assert_eq!((page.limit, page.max_bytes, page.is_reversed), (1_000, 1 << 20, false));
        let page = of(r#"{"before":3,"epoch":"000000000000001a","reverse":true}"#).expect("valid");
        assert_eq!(page.around, Around::Before(Position { epoch, after: Offset(3) }));
        assert!(page.is_reversed);
        for bad in [r#"{"after":3}"#, r#"{"epoch":"000000000000001a"}"#] {
            assert!(text(of(bad)).contains("a page is"), "{bad}");
        }
        assert!(text(of(r#"{"limit":1001}"#)).contains("1 to 1000"));
        assert!(text(of(r#"{"max_bytes":0}"#)).contains("1 to 1048576"));

        let stream =
            HistoryOptions::parse(br#"{"from":{"last":5},"to":7,"limit":3,"reverse":true}"#);
        let expected = HistoryOptions {
            from: Start::Last(5),
            to: Some(Offset(7)),
            limit: Some(3),
            is_reversed: true,
            meta: Meta::Full,
        };
        assert_eq!(stream, Ok(expected));
        assert_eq!(HistoryOptions::parse(br#"{"to":"head"}"#), Ok(HistoryOptions::default()));
        assert!(text(HistoryOptions::parse(br#"{"to":"tail"}"#)).contains("\"head\" or an offset"));

        let room = TopicName::parse("room.1").expect("a name");
        let topics = |json: &str| TopicsOptions::parse(json.as_bytes());
        assert_eq!(
            topics(r#"{"prefix":"room."}"#),
            Ok(TopicsOptions::List { prefix: "room.".into() })
        );
        assert_eq!(topics(r#"{"purge":"room.1"}"#), Ok(TopicsOptions::Purge(room.clone())));
        assert_eq!(topics(r#"{"delete":"room.1"}"#), Ok(TopicsOptions::Delete(room)));
        assert!(text(topics(r#"{"delete":"a","purge":"b"}"#)).contains("at a time"));
        assert!(text(topics(r#"{"delete":"_presence.a"}"#)).contains("the service's own"));
        assert!(text(topics(r#"{"delete":"a b"}"#)).contains("not a topic's name"));
    }

    #[test]
    fn refusals_say_what_there_is_and_how_much_of_it() {
        let (long, longer) = ("i".repeat(65), "k".repeat(129));
        let headers = format!(r#"{{"headers":{{"x":"{}"}}}}"#, "y".repeat(1_024));
        let object = format!(r#"{{"x":"{}"}}"#, "y".repeat(16_384));
        for (json, expected) in [
            (
                r#"{"idd":"x"}"#,
                "unknown option: \"idd\"; there are id, from, key, delete, headers, ephemeral, expect, info, close",
            ),
            (
                r#"{"hedaers":{}}"#,
                "unknown option: \"hedaers\" (did you mean \"headers\"?); there are id",
            ),
            (r#"{"zzz":1}"#, "unknown option: \"zzz\"; there are"),
            (r#"{"id":"a","id":"b"}"#, "not valid options: \"id\" stands twice"),
            (r#"{"id":""}"#, "not a valid id: \"\"; it is text of 1 to 64 bytes"),
            (r#"{"id":5}"#, "not a valid id: 5"),
            (r#"{"id":"\ud800"}"#, "not a valid id"),
            (&format!(r#"{{"id":"{long}"}}"#), "too large: id of 65 bytes, 64 at most"),
            (&format!(r#"{{"key":"{longer}"}}"#), "too large: key of 129 bytes, 128 at most"),
            (&headers, "too large: headers of 1032 bytes, 1024 at most"),
            (&object, "too large: options of 16392 bytes, 16384 at most"),
            (r#"{"headers":{"x":"\ud800"}}"#, "in whole characters"),
            (r#"{"headers":[1]}"#, "not a valid headers: [1]; it is an object"),
            (r#"{"from":"a\u200bb"}"#, "without control and format characters"),
            (r#"{"from":"a\nb"}"#, "without control and format characters"),
            (r#"{"ephemeral":1}"#, "not a valid ephemeral: 1; it is true or false"),
            (r#"{"expect":-1}"#, "not a valid expect: -1"),
            (r#"{"info":{},"ephemeral":true}"#, "\"info\" is no message"),
            (r#"{"info":null,"key":"k"}"#, "\"info\" is no message"),
            (r#"{"delete":true}"#, "\"delete\" goes with the \"key\""),
            (r#"{"ephemeral":true,"expect":1}"#, "\"expect\" is about the log"),
            ("[]", "not valid options: invalid type: sequence, expected an object"),
            ("{", "not valid options: EOF"),
            (r#"{"id":"a"} x"#, "not valid options: trailing characters"),
            ("\u{feff}{}", "not valid options"),
        ] {
            let text = text(PublishOptions::parse(json.as_bytes()));
            assert!(text.contains(expected), "{json}: {text}");
        }
        let info = format!(r#"{{"info":"{}"}}"#, "y".repeat(1_024));
        assert!(text(JoinOptions::parse(info.as_bytes())).contains("info of 1026 bytes, 1024"));
        assert!(
            text(JoinOptions::parse(br#"{"receive":"all"}"#))
                .contains(r#"one of "messages", "acks""#)
        );
        assert!(
            text(JoinOptions::parse(br#"{"nmae":"a"}"#))
                .contains("name, info, receive, presence, from")
        );
        assert!(text(PublishOptions::parse(b"{\"id\":\"\xff\"}")).contains("not valid options"));
    }

    /// Pieces of options and of nonsense, one behind the other: whatever they make, they are read or refused,
    /// and a refusal says no more of them than its bound.
    #[test]
    fn nonsense_is_refused() {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\\",
            "\\u",
            "null",
            "true",
            "-1",
            "1e9",
            "\"id\"",
            "\"from\"",
            "\"headers\"",
            "\"last\":",
            "{\"last\":",
            "\"new\"",
            "{\"id\":\"a\"",
            "{\"from\":",
            "\u{feff}",
            "ä",
            " ",
            "{\"epoch\":\"9f3c1a7be2d04411\"",
            "\"after\":",
            "99999999999999999999",
            "\"2026-11-30T04:05:06",
        ];
        let mut random = 1_u64;
        for _ in 0..20_000 {
            let mut json = String::new();
            for _ in 0..6 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                json.push_str(pieces[(random >> 33) as usize % pieces.len()]);
            }
            let json = json.as_bytes();
            let refusals = [
                PublishOptions::parse(json).err(),
                JoinOptions::parse(json).err(),
                HistoryOptions::parse(json).err(),
                HistoryPageOptions::parse(json).err(),
                PresencePageOptions::parse(json).err(),
                TopicsOptions::parse(json).err(),
            ];
            for refusal in refusals.into_iter().flatten() {
                assert!(
                    matches!(&refusal, Refusal::Invalid(text) if text.len() < 600),
                    "{refusal}"
                );
            }
        }
    }

    /// The last arm of a reader takes the last name of its list, and no other.
    #[test]
    fn every_name_that_is_told_is_known() {
        fn told(text: &str) -> Vec<String> {
            let (_, names) = text.split_once("there are ").expect("it lists them");
            names.split(", ").map(str::to_owned).collect()
        }
        fn check<T: std::fmt::Debug>(parse: fn(&[u8]) -> Result<T, Refusal>) {
            for name in told(&text(parse(br#"{"?":1}"#))) {
                let wrong = format!(r#"{{"{name}":[[]]}}"#);
                match parse(wrong.as_bytes()) {
                    Err(Refusal::Invalid(text)) => {
                        assert!(text.starts_with(&format!("not a valid {name}")), "{name}: {text}");
                    }
                    other => assert_eq!(name, "info", "{other:?}"),
                }
            }
        }
        check(PublishOptions::parse);
        check(SubscribeOptions::parse);
        check(JoinOptions::parse);
        check(HistoryOptions::parse);
        check(HistoryPageOptions::parse);
        check(PresenceOptions::parse);
        check(PresencePageOptions::parse);
        check(TopicsOptions::parse);
    }
}
