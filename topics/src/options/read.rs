//! The reader of options: a JSON object whose members are known.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{json::is_plain, position::Offset, refusal::Refusal};

/// Bytes of the largest object of options: what is kept of it is bounded member by member.
const MAX_BYTES: usize = 16 << 10;
/// Characters of a peer's text in a refusal.
const MAX_SHOWN: usize = 64;

/// Options that are members of an object.
pub(super) trait Members: Default {
    /// The names of all of them, as they are told to who has used another; 32 at most.
    const KNOWN: &'static [&'static [&'static str]];

    /// Those of them of which `null` says something, and is not as if they were absent.
    const NULLS: &'static [&'static str] = &[];

    /// Takes the member of a known name.
    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal>;

    /// Looks at them together.
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Reads options; nothing, or an empty object, is the default. A member that is `null` counts as absent, but
/// for those of which that says something.
pub(super) fn read<M: Members>(json: &[u8]) -> Result<M, Refusal> {
    let mut options = M::default();
    if json.trim_ascii().is_empty() {
        return Ok(options);
    }
    if json.len() > MAX_BYTES {
        let bytes = json.len();
        return Err(Refusal::invalid(format_args!(
            "too large: options of {bytes} bytes, {MAX_BYTES} at most"
        )));
    }
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let visitor = Object { options: &mut options, refusal: &mut refusal };
    let read = deserializer.deserialize_map(visitor).and_then(|()| deserializer.end());
    match (refusal, read) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(error)) => Err(Refusal::invalid(format_args!("not valid options: {error}"))),
        (None, Ok(())) => options.check().map(|()| options),
    }
}

struct Object<'a, M> {
    options: &'a mut M,
    /// The reason to stop, where it is one of ours: serde would add to its text.
    refusal: &'a mut Option<Refusal>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, M: Members> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        while let Some(Name(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            let value = Value { name: &name, json: value.get() };
            let mut known = M::KNOWN.iter().flat_map(|names| names.iter());
            let taken = match known.position(|known| *known == name) {
                None => Err(unknown::<M>(&name)),
                Some(at) if seen & (1 << at) != 0 => {
                    Err(Refusal::invalid(format_args!("not valid options: {name:?} stands twice")))
                }
                Some(_) if value.json == "null" && !M::NULLS.contains(&&*name) => Ok(()),
                Some(at) => {
                    seen |= 1 << at;
                    self.options.set(value)
                }
            };
            if let Err(refusal) = taken {
                *self.refusal = Some(refusal);
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cold]
fn unknown<M: Members>(name: &str) -> Refusal {
    let known: Vec<_> = M::KNOWN.concat();
    let shown: String = name.chars().take(MAX_SHOWN).collect();
    let near = known.iter().map(|known| (strsim::osa_distance(&shown, known), known));
    // Two slips of the hand; half of a short word would be another word.
    let near = near.filter(|(slips, known)| *slips <= 2 && 2 * slips < known.len()).min();
    let meant = near.map_or(String::new(), |(_, known)| format!(" (did you mean {known:?}?)"));
    Refusal::invalid(format_args!(
        "unknown option: {shown:?}{meant}; there are {}",
        known.join(", ")
    ))
}

/// A member's value, as it was written.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) name: &'a str,
    pub(super) json: &'a str,
}

impl<'a> Value<'a> {
    #[cold]
    pub(super) fn wrong(self, expected: impl fmt::Display) -> Refusal {
        let mut shown: String = self.json.chars().take(MAX_SHOWN).collect();
        if shown.len() < self.json.len() {
            shown.push('…');
        }
        Refusal::invalid(format_args!("not a valid {}: {shown}; it is {expected}", self.name))
    }

    #[cold]
    fn too_large(self, bytes: usize, most: usize) -> Refusal {
        Refusal::too_large_field(self.name, bytes, most)
    }

    /// The text, if it is one.
    pub(super) fn as_text(self) -> Option<Cow<'a, str>> {
        let inside = self.json.strip_prefix('"')?.strip_suffix('"')?;
        if inside.contains('\\') {
            return serde_json::from_str(self.json).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inside))
    }

    /// Text of 1 byte to so many.
    pub(super) fn text(self, most: usize) -> Result<Box<str>, Refusal> {
        match self.as_text() {
            Some(text) if text.len() > most => Err(self.too_large(text.len(), most)),
            Some(text) if !text.is_empty() => Ok(text.into()),
            _ => Err(self.wrong(format_args!("text of 1 to {most} bytes"))),
        }
    }

    /// The name of somebody.
    pub(super) fn member_name(self) -> Result<Box<str>, Refusal> {
        let text = self.text(super::names::MAX_BYTES)?;
        if !super::names::is_member_name(&text) {
            return Err(self.wrong("text without control and format characters"));
        }
        Ok(text)
    }

    /// One of two words.
    pub(super) fn flag(self) -> Result<bool, Refusal> {
        match self.json {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    /// A whole number in this range.
    pub(super) fn number(self, range: RangeInclusive<u64>) -> Result<u64, Refusal> {
        let number = self.json.parse().ok().filter(|number| range.contains(number));
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| self.wrong(format_args!("a whole number from {least} to {most}")))
    }

    /// An offset.
    pub(super) fn offset(self) -> Result<Offset, Refusal> {
        self.number(0..=Offset::MAX.0).map(Offset)
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Refusal> {
        let text = self.as_text();
        let found = words.iter().find(|(word, _)| Some(*word) == text.as_deref());
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.wrong(format_args!("one of {}", words.join(", ")))
        })
    }

    /// The JSON, verbatim, in at most so many bytes.
    pub(super) fn verbatim(self, most: usize) -> Result<Box<RawValue>, Refusal> {
        if self.json.len() > most {
            return Err(self.too_large(self.json.len(), most));
        }
        // It becomes a part of JSON that others read.
        if !is_plain(self.json.as_bytes()) {
            return Err(self.wrong("JSON of at most 32 levels, in whole characters"));
        }
        // It was read as JSON before.
        RawValue::from_string(self.json.to_owned()).map_err(|error| self.wrong(error))
    }
}
