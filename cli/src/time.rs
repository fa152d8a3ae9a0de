//! Times as options take them, and as they are shown.

use std::{fmt, time::Duration};

/// The line of help on how times are written.
pub const TIMES: &str =
    "A TIME is written as 500ms, 10s, 5m, 1h or 1h30m; a number alone is seconds.";

/// The same where one is wrong.
const A_TIME: &str = "write 500ms, 10s, 5m, 1h or 1h30m; a number alone is seconds";

/// The units, in milliseconds.
const UNITS: [(&str, f64); 7] = [
    ("ms", 1.0),
    ("s", 1e3),
    ("sec", 1e3),
    ("m", 60e3),
    ("min", 60e3),
    ("h", 3_600e3),
    ("d", 86_400e3),
];

/// A hundred years, in milliseconds: clocks that count on from now do not reach much further.
const MOST: f64 = 36_500.0 * 86_400e3;

/// Reads a time that is more than none.
///
/// # Errors
/// The mistake, in words.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match any_time(text)? {
        Duration::ZERO => Err("it must be more than 0, as 500ms or 10s".to_owned()),
        time => Ok(time),
    }
}

/// Reads a time: numbers with their units, of which none comes twice, or seconds alone.
///
/// # Errors
/// The mistake, in words.
pub fn any_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("it is not a time: {A_TIME}");
    let mut rest = text.trim();
    let (mut millis, mut smallest) = (0.0, f64::INFINITY);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let is_alone = smallest.is_infinite() && behind.is_empty();
        let factor = match unit {
            "" if is_alone => 1e3,
            "" => return Err(wrong()),
            unit => match UNITS.iter().find(|(name, _)| *name == unit) {
                Some((_, factor)) => *factor,
                None => {
                    return Err(format!("{unit:?} is not a unit of time: ms, s, m, h and d are"));
                }
            },
        };
        if factor >= smallest {
            return Err(format!("its units go from large to small, each once: {A_TIME}"));
        }
        (millis, smallest) = (millis + number * factor, factor);
        rest = behind.trim_start();
    }
    if smallest.is_infinite() {
        return Err(wrong());
    }
    if millis > MOST {
        return Err("it is too long: at most 36500d".to_owned());
    }
    Duration::try_from_secs_f64(millis / 1e3).map_err(|_| "it is too long".to_owned())
}

/// A measured time in three digits: `464µs`, `1.23ms`, `12.3s`.
#[derive(Clone, Copy, Debug)]
pub struct Rounded(pub Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let (mut scale, mut unit) = (1, "ns");
        for (larger, name) in [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")] {
            // What would be rounded up to a thousand is one of the next unit.
            if nanos * 2 >= larger * 2 - larger / 1_000 {
                (scale, unit) = (larger, name);
            }
        }
        let number = nanos as f64 / scale as f64;
        let decimals = match number {
            _ if scale == 1 => 0,
            ..9.995 => 2,
            ..99.95 => 1,
            _ => 0,
        };
        write!(f, "{number:.decimals$}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units_or_seconds() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("10sec", 10_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("5", 5_000),
            ("0.25", 250),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("1m 500ms", 60_500),
            ("0", 0),
            ("0s", 0),
            (" 1s ", 1_000),
        ] {
            assert_eq!(any_time(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("", "it is not a time: write 500ms, 10s, 5m"),
            ("soon", "it is not a time: write"),
            ("s", "it is not a time"),
            ("-1s", "it is not a time"),
            ("1..5s", "it is not a time"),
            (".", "it is not a time"),
            ("1h30", "it is not a time"),
            ("5 s", "it is not a time"),
            ("5x", "\"x\" is not a unit of time: ms, s, m, h and d are"),
            ("5S", "\"S\" is not a unit"),
            ("5us", "\"us\" is not a unit"),
            ("1s1m", "from large to small"),
            ("1s1s", "from large to small"),
            ("1e30h", "\"e\" is not a unit"),
            ("99999999999999999999s", "too long"),
        ] {
            let error = any_time(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn none_is_refused_where_it_makes_no_sense() {
        for text in ["0", "0s", "0ms", "0h0m"] {
            assert_eq!(some_time(text).unwrap_err(), "it must be more than 0, as 500ms or 10s");
        }
        assert_eq!(some_time("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn measured_times_have_three_digits() {
        for (nanos, shown) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (463_900, "464µs"),
            (999_499, "999µs"),
            (999_500, "1.00ms"),
            (1_234_567, "1.23ms"),
            (9_994_000, "9.99ms"),
            (9_996_000, "10.0ms"),
            (12_340_000, "12.3ms"),
            (99_960_000, "100ms"),
            (999_600_000, "1.00s"),
            (12_345_678_901, "12.3s"),
            (123_456_789_012, "123s"),
            (3_723_000_000_000, "3723s"),
        ] {
            assert_eq!(Rounded(Duration::from_nanos(nanos)).to_string(), shown);
        }
    }
}
