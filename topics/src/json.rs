//! JSON of peers that is put into JSON of ours as it is.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The bytes of a message as a member of a JSON object, in the most readable form that has all of them: `data`
/// where they are JSON, `text` where they are text, `base64` otherwise.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Readable<'a> {
    /// JSON that every reader takes inside of other JSON.
    #[serde(rename = "data")]
    Json(&'a RawValue),
    /// Text.
    Text(&'a str),
    /// Neither.
    Base64(String),
    /// There are none, since they were deleted.
    Deleted(bool),
}

impl<'a> Readable<'a> {
    /// The form of these bytes.
    pub fn of(data: &'a [u8]) -> Self {
        let json = is_plain(data).then(|| serde_json::from_slice(data).ok()).flatten();
        match (json, std::str::from_utf8(data)) {
            (Some(json), _) => Self::Json(json),
            (None, Ok(text)) => Self::Text(text),
            (None, Err(_)) => Self::base64(data),
        }
    }

    /// These bytes as base64, whatever they are.
    pub fn base64(data: &[u8]) -> Self {
        Self::Base64(BASE64_STANDARD.encode(data))
    }
}

/// Objects and arrays in each other at most. Every parser reads as many, and what is around them.
const MAX_DEPTH: u8 = 32;

/// Whether every reader of JSON takes this inside of other JSON. Many refuse a whole document for an escape
/// that is half a character, a number beyond a double, or for hundreds of brackets; where one message
/// could have that in it, it would hide all others of its page.
pub(crate) fn is_plain(json: &[u8]) -> bool {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let is_read = Plain { depth: MAX_DEPTH }.deserialize(&mut deserializer).is_ok();
    is_read && deserializer.end().is_ok()
}

/// Anything, looked at as far as its last character, and not kept.
#[derive(Clone, Copy)]
struct Plain {
    depth: u8,
}

impl Plain {
    fn inside<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while items.next_element_seed(inside)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inside = self.inside()?;
        while members.next_key_seed(inside)?.is_some() {
            members.next_value_seed(inside)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_parser_reads_is_plain() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for json in [
            "null",
            "true",
            " 5 ",
            "-1.5e300",
            "18446744073709551615",
            r#""ä \u00e4 \ud83d\ude42""#,
            r#"{"a":[1,{"b":null}],"a":""}"#,
            &deep(32),
        ] {
            assert!(is_plain(json.as_bytes()), "{json}");
        }
        for json in [
            "",
            "nul",
            "{",
            "[1,]",
            "1 2",
            "1e999",
            "\"a\nb\"",
            r#""\ud800""#,
            r#"{"\udc00":1}"#,
            r#"{"a":"\ud83d!"}"#,
            &deep(33),
            &deep(100_000),
        ] {
            assert!(!is_plain(json.as_bytes()), "{:.20}", json);
        }
        assert!(!is_plain(b"\"\xff\""));
    }
}
