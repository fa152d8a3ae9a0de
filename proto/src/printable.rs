//! Text that others chose, made harmless for logs and terminals.

use std::fmt::{self, Display, Write};

/// Shows a text so that it stays on its line and commands nothing: control characters, and those
/// that are not seen but change what is (the direction of writing, invisible marks, line
/// separators), are escaped as in `\u{202e}`. Everything else stands as it is.
///
/// The text of an error, a route or a MIME type is the peer's: put it in this before it goes to a
/// log, a terminal or a page.
///
/// ```
/// # use rsock_proto::Printable;
/// assert_eq!(Printable("all \u{1b}[31mred, größer").to_string(), "all \\u{1b}[31mred, größer");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Passes on what is written to it, escaped.
struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Self(out) = self;
        let mut plain = 0;
        for (at, character) in text.char_indices().filter(|&(_, character)| is_hidden(character)) {
            // What needs no escape goes on in one piece.
            out.write_str(&text[plain..at])?;
            write!(out, "{}", character.escape_default())?;
            plain = at + character.len_utf8();
        }
        out.write_str(&text[plain..])
    }
}

/// Unicode's categories Cc (control), Cf (format), Zl and Zp (separators of lines and paragraphs).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || (!character.is_ascii()
            && matches!(
                character,
                '\u{ad}'
                    | '\u{600}'..='\u{605}'
                    | '\u{61c}'
                    | '\u{6dd}'
                    | '\u{70f}'
                    | '\u{890}'..='\u{891}'
                    | '\u{8e2}'
                    | '\u{180e}'
                    | '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
                    | '\u{fff9}'..='\u{fffb}'
                    | '\u{110bd}'
                    | '\u{110cd}'
                    | '\u{13430}'..='\u{1343f}'
                    | '\u{1bca0}'..='\u{1bca3}'
                    | '\u{1d173}'..='\u{1d17a}'
                    | '\u{e0000}'..='\u{e007f}'
            ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_commands_a_terminal_or_turns_its_text_is_escaped() {
        for (text, shown) in [
            ("", ""),
            ("größer 日本 🦀 'a' \"b\" \\n", "größer 日本 🦀 'a' \"b\" \\n"),
            ("a\x1b[2J\nb\t\0\x7f", "a\\u{1b}[2J\\nb\\t\\u{0}\\u{7f}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("exe.\u{202e}gpj", "exe.\\u{202e}gpj"),
            ("\u{200b}\u{200f}\u{2028}\u{2029}", "\\u{200b}\\u{200f}\\u{2028}\\u{2029}"),
            ("\u{2066}\u{2069}\u{feff}", "\\u{2066}\\u{2069}\\u{feff}"),
            ("\u{e0001}\u{e0041}", "\\u{e0001}\\u{e0041}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
            // Once more, it stays as it is.
            assert_eq!(Printable(Printable(text)).to_string(), shown);
        }
    }

    #[test]
    fn nothing_is_escaped_that_std_calls_printable() {
        for character in (char::MIN..=char::MAX).filter(|&character| is_hidden(character)) {
            let escaped = character.escape_debug().to_string();
            assert!(escaped.starts_with('\\'), "{character:?} is seen");
        }
    }

    #[test]
    fn a_long_text_is_written_in_as_many_pieces_as_it_has_escapes() {
        struct Pieces(usize);

        impl Write for Pieces {
            fn write_str(&mut self, piece: &str) -> fmt::Result {
                self.0 += usize::from(!piece.is_empty());
                Ok(())
            }
        }

        let mut pieces = Pieces(0);
        write!(pieces, "{}", Printable("x".repeat(100_000))).unwrap();
        assert_eq!(pieces.0, 1);
    }
}
