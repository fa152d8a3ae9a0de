//! Names of somebody.

/// Bytes of the longest name.
pub const MAX_NAME_BYTES: usize = 64;

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

/// Characters that show nothing by themselves although they are letters or marks: Unicode's default
/// ignorables beside those above, and the empty pattern of Braille.
const BLANK: &[(char, char)] = &[
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2065}', '\u{2065}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{e0000}', '\u{e0fff}'),
];

fn is_among(ranges: &[(char, char)], character: char) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// Whether a name has 1 to 64 bytes, without control and format characters: names that people give themselves.
pub fn is_shown(name: &str) -> bool {
    let is_seen = |character: char| {
        character.is_ascii_graphic()
            || character == ' '
            || !(character.is_control() || is_among(FORMAT, character))
    };
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_seen)
}

/// Checks the name of somebody: 1 to 64 bytes, without control or format characters, and not beginning
/// with `~`, by which those are known that nobody vouches for. Nor may it look like another name because of
/// what cannot be seen in it: blanks at its ends, other blanks than U+0020, or characters that show nothing.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about it.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("has not from 1 to 64 bytes");
    }
    if name.starts_with('~') {
        return Err("begins with ~, which marks names that nobody vouches for");
    }
    if !is_shown(name) {
        return Err("has control or format characters");
    }
    let is_blank = |character: char| {
        character.is_whitespace() && character != ' ' || is_among(BLANK, character)
    };
    if name.starts_with(' ') || name.ends_with(' ') || name.contains(is_blank) {
        return Err("has characters that cannot be seen, or blanks at its ends");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_can_be_seen() {
        for good in ["ann", "Ann Ó", "a.b", "0", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "~ann", "a\nb", "a\u{202e}b", "a\u{200b}", "\u{feff}a", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    /// None of these can be told from `ann` where it is shown.
    #[test]
    fn a_name_does_not_look_like_another_by_what_cannot_be_seen() {
        for bad in [
            " ann",
            "ann ",
            "ann\u{a0}",
            "ann\u{3000}",
            "ann\u{2003}x",
            "ann\u{3164}",
            "an\u{34f}n",
            "ann\u{fe0f}",
            "ann\u{2800}",
            "ann\u{115f}",
            "ann\u{e0100}",
            "ann\u{8e2}",
            "ann\u{13430}",
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["ann b", "安", "\u{430}nn"] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
    }
}
