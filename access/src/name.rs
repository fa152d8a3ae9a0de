//! Names of somebody.

/// Bytes of the longest name.
pub const MAX_NAME_BYTES: usize = 64;

/// Checks the name of somebody: 1 to 64 bytes, without control or format characters, and not beginning
/// with `~`, by which those are known that nobody vouches for.
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
    if name.chars().any(|character| character.is_control() || is_format(character)) {
        return Err("has control or format characters");
    }
    Ok(())
}

/// Characters that cannot be seen, and change how others are.
fn is_format(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
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
}
