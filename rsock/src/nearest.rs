//! "Did you mean": of the words there are, the one that is spelled most like another.

use std::array;

/// A longer word is not compared: what a peer sends costs no more than its length justifies.
const MAX_BYTES: usize = 64;

/// The words that are compared with one at most.
const MAX_WORDS: usize = 256;

/// The word that is at most two slips of the hand away: bytes left out, put in, changed, or two in the
/// wrong order. For a word of up to three bytes it is one slip. Of those that are near, what is not
/// allowed is passed over.
pub(crate) fn nearest<'a>(
    word: &str,
    words: impl Iterator<Item = &'a str>,
    is_allowed: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    let most = if word.len() > 3 { 2 } else { 1 };
    let near = words.take(MAX_WORDS).filter_map(|other| Some((slips(word, other, most)?, other)));
    near.filter(|(_, other)| is_allowed(other)).min().map(|(_, other)| other)
}

/// The slips between two words, if they are not more: the distance of optimal string alignment.
fn slips(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().max(b.len()) > MAX_BYTES || a.len().abs_diff(b.len()) > most {
        return None;
    }
    // Rows of the table of distances between the beginnings of both words: the last two and this one. A
    // distance is at most MAX_BYTES, and small cells are quickly made.
    let mut before = [0_u8; MAX_BYTES + 1];
    let mut last: [u8; MAX_BYTES + 1] = array::from_fn(|at| at as u8);
    for (i, &from) in a.iter().enumerate() {
        let mut row = [0; MAX_BYTES + 1];
        row[0] = last[0] + 1;
        for (j, &to) in b.iter().enumerate() {
            let changed = last[j] + u8::from(from != to);
            row[j + 1] = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && to == a[i - 1] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        // It becomes no less.
        if row[..=b.len()].iter().chain(&last[..=b.len()]).all(|&slips| usize::from(slips) > most) {
            return None;
        }
        (before, last) = (last, row);
    }
    let slips = last[b.len()].into();
    (slips <= most).then_some(slips)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (a, b, expected) in [
            ("echo", "echo", Some(0)),
            ("ehco", "echo", Some(1)),
            ("ecoh", "echo", Some(1)),
            ("eho", "echo", Some(1)),
            ("echoo", "echo", Some(1)),
            ("ecko", "echo", Some(1)),
            ("hceo", "echo", Some(2)),
            ("", "ab", Some(2)),
            ("range", "echo", None),
            ("abc", "abcdef", None),
        ] {
            assert_eq!(slips(a, b, 2), expected, "{a} {b}");
            assert_eq!(slips(b, a, 2), expected, "{b} {a}");
        }
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(slips(&long, &long[1..], 2), Some(1));
        assert_eq!(slips(&format!("{long}x"), &long, 2), None);
    }

    #[test]
    fn the_nearest_is_the_first_of_those_with_fewest_slips() {
        let words = ["stream", "stem", "strap", "tcp", "ws"];
        let nearest = |word| nearest(word, words.into_iter(), |other| other != "ws");
        assert_eq!(nearest("strem"), Some("stem"));
        assert_eq!(nearest("streams"), Some("stream"));
        assert_eq!(nearest("tpc"), Some("tcp"));
        // Two of three bytes are another word.
        assert_eq!(nearest("udp"), None);
        assert_eq!(nearest(""), None);
        // It is not allowed.
        assert_eq!(nearest("ws"), None);
    }
}
