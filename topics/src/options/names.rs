//! Names of members: of who sends, and of who is there.

/// Bytes of the longest.
pub(super) const MAX_BYTES: usize = 64;

/// Characters that are not seen, or change how others are: the category Cf of Unicode 16, and the two
/// separators of lines and paragraphs.
const FORMAT: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether this may be the name of somebody's name: 1 to 64 bytes, without control and format characters.
pub fn is_member_name(text: &str) -> bool {
    let is_format = |c: char| FORMAT.iter().any(|(first, last)| (*first..=*last).contains(&c));
    let is_seen = |c: char| c.is_ascii_graphic() || c == ' ' || !(c.is_control() || is_format(c));
    (1..=MAX_BYTES).contains(&text.len()) && text.chars().all(is_seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_show_all_they_are() {
        let long = "x".repeat(MAX_BYTES);
        for good in ["a", "ann", "Ann Ä", "安", "🙂", "~guest", "a.b", &long] {
            assert!(is_member_name(good), "{good:?}");
        }
        let longer = "x".repeat(MAX_BYTES + 1);
        let bad = [
            "",
            "a\nb",
            "a\0",
            "a\u{7f}",
            "\u{85}",
            "a\u{200b}b",
            "\u{202e}nna",
            "\u{feff}ann",
            "a\u{ad}b",
            "\u{2028}",
            "\u{e0041}",
            &longer,
        ];
        for bad in bad {
            assert!(!is_member_name(bad), "{bad:?}");
        }
    }
}
