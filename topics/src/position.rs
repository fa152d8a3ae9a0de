//! Positions: where in a topic's log somebody is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One life of a topic's numbering: 16 hexadecimal digits of random bits. It changes when offsets of before
/// mean nothing any more, and only then.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// The number of a message in its epoch: larger for each later one of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The largest there can be: JavaScript's numbers are exact up to it.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The offset behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The whole state that a reader has to keep: the epoch, and the offset of the last message it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// The last message; 0 before the first.
    pub after: Offset,
}

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

impl FromStr for Epoch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex =
            text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u64::from_str_radix(text, 16) {
            Ok(bits) if is_hex => Ok(Self(bits)),
            _ => Err(format!("{text:?} is not an epoch: 16 digits of 0-9 a-f")),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.after)
    }
}

/// As it stands behind `id:` in a stream of events, and in `Last-Event-ID`.
impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let position = text.split_once(':').and_then(|(epoch, after)| {
            let after = after.parse().ok().map(Offset).filter(|after| *after <= Offset::MAX)?;
            Some(Self { epoch: epoch.parse().ok()?, after })
        });
        position.ok_or_else(|| format!("{text:?} is not a position: EPOCH:OFFSET"))
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for (bits, offset) in [(0, 0), (0x9f3c_1a7b_e2d0_4411, 42), (u64::MAX, Offset::MAX.0)] {
            let position = Position { epoch: Epoch(bits), after: Offset(offset) };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        let written = Position { epoch: Epoch(0x1a), after: Offset(7) }.to_string();
        assert_eq!(written, "000000000000001a:7");
    }

    #[test]
    fn what_is_not_a_position_is_refused() {
        let epoch = "9f3c1a7be2d04411";
        for bad in [
            "",
            epoch,
            "9f3c1a7be2d04411:",
            "9f3c1a7be2d04411:-1",
            "9f3c1a7be2d04411:9007199254740992",
            "9F3C1A7BE2D04411:1",
            "9f3c1a7be2d0441:1",
            "+f3c1a7be2d04411:1",
        ] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }
}
