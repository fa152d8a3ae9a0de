//! JSON as text: on one line, or indented where it does not fit one. Numbers and order are never touched.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::IgnoredAny;

/// Nothing that lies deeper is indented: nobody reads it, and the stack has an end.
const MAX_DEPTH: usize = 64;

/// JSON on one line; text that is not JSON as a string, other bytes as an object that says so.
pub(crate) fn line(data: &[u8]) -> Vec<u8> {
    if is_json(data) {
        return without_space(data);
    }
    let value = match str::from_utf8(data) {
        Ok(text) => serde_json::Value::from(text),
        Err(_) => serde_json::json!({ "base64": base64(data) }),
    };
    value.to_string().into_bytes()
}

/// Bytes that are not text, in JSON.
pub(crate) fn base64(data: &[u8]) -> String {
    BASE64_STANDARD.encode(data)
}

/// The indented form of a JSON object or array that has one line and is longer than `width`; `None` of
/// all else, which is to be shown as it is.
pub(crate) fn indented(data: &[u8], width: usize) -> Option<String> {
    let is_long = data.len() > width && !data.trim_ascii_end().contains(&b'\n');
    if !(is_long && matches!(data.first(), Some(b'{' | b'[')) && is_json(data)) {
        return None;
    }
    let json = String::from_utf8(without_space(data)).ok()?;
    if depth(&json) > MAX_DEPTH {
        return None;
    }
    let mut text = String::with_capacity(json.len() * 2);
    Indenting { width, text: &mut text }.value(&json, 0, 0);
    Some(text)
}

/// How many objects and arrays lie within each other.
fn depth(json: &str) -> usize {
    let (mut strings, mut depth, mut deepest) = (Strings::default(), 0_usize, 0);
    for byte in json.bytes() {
        match byte {
            _ if strings.is_inside(byte) => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn is_json(data: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(data).is_ok()
}

/// Valid JSON without the space between its tokens.
fn without_space(json: &[u8]) -> Vec<u8> {
    let mut strings = Strings::default();
    let kept =
        json.iter().copied().filter(|&byte| strings.is_inside(byte) || !byte.is_ascii_whitespace());
    kept.collect()
}

/// Tells the bytes of strings from those between them.
#[derive(Default)]
struct Strings {
    inside: bool,
    escaped: bool,
}

impl Strings {
    /// Whether the next byte is one of a string, its quotes included.
    fn is_inside(&mut self, byte: u8) -> bool {
        let was_inside = self.inside;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.inside,
            b'"' => self.inside = !self.inside,
            _ => {}
        }
        was_inside || self.inside
    }
}

/// Splits what is between the brackets of an object or array at its commas, or of a member at its colon.
fn split(json: &str, at: u8) -> Vec<&str> {
    let (mut strings, mut depth, mut start, mut parts) =
        (Strings::default(), 0_usize, 0, Vec::new());
    for (index, byte) in json.bytes().enumerate() {
        if strings.is_inside(byte) {
            continue;
        }
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            byte if byte == at && depth == 0 => {
                parts.push(&json[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&json[start..]);
    parts
}

struct Indenting<'a> {
    width: usize,
    text: &'a mut String,
}

impl Indenting<'_> {
    /// Adds a value, of which `used` columns of its line are taken: on that line if it fits.
    fn value(&mut self, json: &str, indent: usize, used: usize) {
        let spaced = spaced(json);
        // A comma may follow.
        if json.len() <= 2
            || !json.starts_with(['{', '['])
            || used + spaced.chars().count() < self.width
        {
            return self.text.push_str(&spaced);
        }
        let (inner, deeper) = (&json[1..json.len() - 1], indent + 2);
        self.text.push_str(&json[..1]);
        for (index, member) in split(inner, b',').into_iter().enumerate() {
            self.text.push_str(if index > 0 { ",\n" } else { "\n" });
            self.text.extend(std::iter::repeat_n(' ', deeper));
            let mut used = deeper;
            let mut value = member;
            if json.starts_with('{')
                && let [key, rest] = split(member, b':')[..]
            {
                self.text.push_str(key);
                self.text.push_str(": ");
                used += key.chars().count() + 2;
                value = rest;
            }
            self.value(value, deeper, used);
        }
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.text.push_str(&json[json.len() - 1..]);
    }
}

/// One line with a space behind each comma and colon.
fn spaced(json: &str) -> String {
    let mut strings = Strings::default();
    let mut text = String::with_capacity(json.len() + json.len() / 4);
    for character in json.chars() {
        text.push(character);
        // What is not ASCII is within a string, and changes nothing.
        let is_inside = u8::try_from(character).is_ok_and(|byte| strings.is_inside(byte));
        if !is_inside && matches!(character, ',' | ':') {
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_and_otherwise_untouched() {
        for (data, expected) in [
            ("{ \"b\" : 1.10,\n \"a\": \" \\\" x \" }", "{\"b\":1.10,\"a\":\" \\\" x \"}"),
            ("[1, 2]\n", "[1,2]"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("a \"word\"", "\"a \\\"word\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(String::from_utf8(line(data.as_bytes())).unwrap(), expected);
        }
        assert_eq!(line(b"\xff"), b"{\"base64\":\"/w==\"}");
    }

    #[test]
    fn what_does_not_fit_a_line_is_indented() {
        let json =
            r#"{"b":1.10,"list":[1,2,{"x":"a, b: \" ]"}],"empty":{},"ü":"an ü, and more","z":0}"#;
        let text = indented(json.as_bytes(), 24).unwrap();
        assert_eq!(
            text,
            "{\n  \"b\": 1.10,\n  \"list\": [\n    1,\n    2,\n    {\"x\": \"a, b: \\\" ]\"}\n  ],\n  \
             \"empty\": {},\n  \"ü\": \"an ü, and more\",\n  \"z\": 0\n}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 25), "{text}");
        assert_eq!(line(text.as_bytes()), json.as_bytes());
    }

    #[test]
    fn what_fits_or_is_no_json_is_left_alone() {
        for (data, width) in [
            (&br#"{"a":1}"#[..], 7),
            (b"[1,2,3]", 80),
            (b"\"a long string\"", 4),
            (b"{\n\"a\":1}", 4),
            (b"{broken", 4),
            (b"plain text", 4),
            (b"{\"\xff\":1}", 4),
            (b"", 0),
        ] {
            assert_eq!(indented(data, width), None);
        }
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert_eq!(indented(&deep, 80), None);
    }
}
