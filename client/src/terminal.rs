//! The person at the terminal, who asks for more.

use std::{fs::File, future::poll_fn};

use crate::{exit::Failure, input::Lines};

/// The lines that were typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Enter: the usual number of items more.
    More,
    /// A number: so many.
    Exactly(u32),
    Quit,
}

/// The controlling terminal, whatever stdin is.
pub(crate) struct Terminal(Lines);

impl Terminal {
    pub(crate) fn open() -> Result<Self, Failure> {
        let terminal = File::open("/dev/tty").map_err(|error| {
            Failure::Usage(format!(
                "--step asks at a terminal, and there is none ({error}); --delay makes a slow \
                 consumer without one"
            ))
        })?;
        Ok(Self(Lines::new(terminal)))
    }

    /// The next key; a terminal that is gone quits.
    pub(crate) async fn key(&mut self) -> Key {
        match poll_fn(|cx| self.0.poll_line(cx)).await {
            Ok(Some(line)) => key(&line),
            Ok(None) | Err(_) => Key::Quit,
        }
    }
}

fn key(line: &[u8]) -> Key {
    match String::from_utf8_lossy(line).trim() {
        "q" | "Q" => Key::Quit,
        text => text.parse().map_or(Key::More, |n: u32| match n {
            0 => Key::More,
            n => Key::Exactly(n),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_a_number_or_q() {
        for (line, expected) in [
            ("", Key::More),
            ("\r", Key::More),
            ("x", Key::More),
            ("0", Key::More),
            (" 12 ", Key::Exactly(12)),
            ("q", Key::Quit),
        ] {
            assert_eq!(key(line.as_bytes()), expected, "{line:?}");
        }
    }
}
