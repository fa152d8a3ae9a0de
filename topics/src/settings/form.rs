//! The form that settings have in a file.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer,
    },
};

use super::{Limits, Settings, TopicSettings};

/// The file: `[topics]`, and `[[topic]]` for each pattern.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    topics: Limits,
    topic: Vec<Row>,
}

impl TryFrom<File> for Settings {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let rows = file.topic.iter().map(|row| (row.pattern.as_str(), row.settings.clone()));
        Self::new(file.topics, rows)
    }
}

/// A pattern with its settings beside it, of which an unknown one is refused: `flatten` would let it pass.
struct Row {
    pattern: String,
    settings: TopicSettings,
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;

        impl<'de> Visitor<'de> for Rows {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with a pattern, and settings of its topics")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Row, A::Error> {
                let mut pattern = None;
                let others = Others { map, pattern: &mut pattern };
                let settings = TopicSettings::deserialize(MapAccessDeserializer::new(others))?;
                let pattern = pattern.ok_or_else(|| de::Error::missing_field("pattern"))?;
                Ok(Row { pattern, settings })
            }
        }

        deserializer.deserialize_map(Rows)
    }
}

/// The members of a map but `pattern`, which is put aside.
struct Others<'a, A> {
    map: A,
    pattern: &'a mut Option<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Others<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "pattern" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.pattern = Some(self.map.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Reads bytes: a number, or text as `8MiB`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    fn parse(text: &str) -> Option<usize> {
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let (digits, shift) = units
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
            .unwrap_or((text, 0));
        digits.parse::<usize>().ok()?.checked_mul(1_usize.checked_shl(shift)?)
    }
    let number =
        |number: f64| (number.fract() == 0.0 && number < 2_f64.powi(53)).then_some(number as usize);
    read(deserializer, "bytes: a number, or text as \"64KiB\", \"8MiB\" or \"1GiB\"", number, parse)
}

/// Reads a time: seconds, or text as `24h`.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let number = |seconds| Duration::try_from_secs_f64(seconds).ok();
    let text = |text: &str| humantime::parse_duration(text).ok();
    read(
        deserializer,
        "a time: seconds, or text as \"500ms\", \"10s\", \"5m\" or \"24h\"",
        number,
        text,
    )
}

/// Reads a quantity: a number that is not negative, or text with a unit.
fn read<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    number: impl FnOnce(f64) -> Option<T>,
    text: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct Quantity<T, N, S> {
        expected: &'static str,
        number: N,
        text: S,
        is: PhantomData<T>,
    }

    impl<T, N, S> Quantity<T, N, S>
    where
        N: FnOnce(f64) -> Option<T>,
        S: FnOnce(&str) -> Option<T>,
    {
        fn number<E: de::Error>(self, number: f64) -> Result<T, E> {
            let read = (number >= 0.0).then_some(number).and_then(self.number);
            read.ok_or_else(|| E::custom(format_args!("{number} is not {}", self.expected)))
        }
    }

    impl<T, N, S> Visitor<'_> for Quantity<T, N, S>
    where
        N: FnOnce(f64) -> Option<T>,
        S: FnOnce(&str) -> Option<T>,
    {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            self.number(number as f64)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            self.number(number as f64)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
            self.number(number)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let read = (self.text)(text);
            read.ok_or_else(|| E::custom(format_args!("{text:?} is not {}", self.expected)))
        }
    }

    deserializer.deserialize_any(Quantity { expected, number, text, is: PhantomData })
}
