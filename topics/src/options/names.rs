//! Names of members: of who sends, and of who is there.

/// Bytes of the longest.
pub(super) const MAX_BYTES: usize = rsock_access::MAX_NAME_BYTES;

/// Whether this may be the name of somebody: 1 to 64 bytes, without control and format characters.
pub fn is_member_name(text: &str) -> bool {
    rsock_access::is_shown(text)
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
