//! Positions: the whole state that a reader of a topic has to keep.

use std::{borrow::Cow, error, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One life of a topic's numbering. It changes when offsets of before mean nothing any more, as after a
/// restart of the service for a topic that is kept in memory, and only then. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// The place in a topic up to which a reader has received: to be stored, and gone on from. Written as
/// `EPOCH:OFFSET`.
///
/// ```
/// use rsock::topic::Position;
///
/// let stored = "9f3c1a7be2d04411:42";
/// let position: Position = stored.parse()?;
/// assert_eq!((position.offset, position.to_string().as_str()), (42, stored));
/// # Ok::<(), rsock::topic::NotAPosition>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// The last message received; one less than the next where none was.
    pub offset: u64,
}

/// An error of reading a [`Position`] or an [`Epoch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPosition(String);

impl fmt::Display for NotAPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a valid position: EPOCH:OFFSET, as in 9f3c1a7be2d04411:42", self.0)
    }
}

impl error::Error for NotAPosition {}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

impl FromStr for Epoch {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let is_hex =
            text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(bits) if is_hex => Ok(Self(bits)),
            _ => Err(NotAPosition(text.to_owned())),
        }
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let position = text.split_once(':').and_then(|(epoch, offset)| {
            let is_number = offset.bytes().all(|byte| byte.is_ascii_digit());
            let offset = offset.parse().ok().filter(|_| is_number)?;
            Some(Self { epoch: epoch.parse().ok()?, offset })
        });
        position.ok_or_else(|| NotAPosition(text.to_owned()))
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (bits, offset) in [(0, 0), (0x9f3c_1a7b_e2d0_4411, 42), (u64::MAX, u64::MAX)] {
            let position = Position { epoch: Epoch(bits), offset };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for wrong in ["", "9f3c1a7be2d04411", "9f3c1a7be2d04411:+1", "9F3C1A7BE2D04411:1", "1:1"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
