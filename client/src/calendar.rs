//! The day and time of a moment, in UTC.

/// Milliseconds of a day.
const DAY: u64 = 24 * 60 * 60 * 1_000;

/// A time in milliseconds since 1970, as RFC 3339 has it.
pub(crate) fn rfc3339(millis: u64) -> String {
    let (year, month, day) = date(millis / DAY);
    format!("{year:04}-{month:02}-{day:02}T{}.{:03}Z", time_of_day(millis), millis % 1_000)
}

/// Hours, minutes and seconds.
pub(crate) fn time_of_day(millis: u64) -> String {
    let seconds = millis % DAY / 1_000;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day, by days since 1970, in eras of 400 years that begin with a March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_of_year = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_of_year + 2) / 5 + 1;
    let month = if month_of_year < 10 { month_of_year + 3 } else { month_of_year - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_the_calendar_has_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_764_417_433_123, "2025-11-29T11:57:13.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(millis), expected);
        }
    }
}
