//! Wall-clock time: Unix milliseconds, and their ISO-8601 text in UTC.
//!
//! Times are stored and passed as milliseconds since 1970-01-01T00:00:00Z in an `i64`, and become text only
//! where a person reads them. Leap seconds don't exist here, as in Unix time. Local time zones, and reading
//! a text back, are left out: nothing needs them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds in a day of Unix time.
const DAY_MS: i64 = 86_400_000;

/// The time now, in Unix milliseconds.
///
/// A clock outside the range of `i64` milliseconds (some 292 million years either way) gives its nearest end.
#[must_use]
pub fn unix_ms_now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// The time as ISO-8601 in UTC with milliseconds, such as `2026-11-22T01:34:59.123Z`.
///
/// A year outside 0..=9999 is written with its sign and at least six digits, ISO-8601's expanded form.
#[must_use]
pub fn iso_utc(unix_ms: i64) -> String {
    let (year, month, day) = civil_from_days(unix_ms.div_euclid(DAY_MS));
    let ms_of_day = unix_ms.rem_euclid(DAY_MS);
    let (hours, minutes) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (seconds, ms) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

/// Year, month (1 to 12) and day (1 to 31) in the proleptic Gregorian calendar, from days since 1970-01-01.
///
/// This is `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms". A year is
/// taken to begin in March, so the leap day is its last and month lengths follow one linear formula; 400
/// years are an era of exactly 146,097 days.
fn civil_from_days(days_since_epoch: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    /// Days from 0000-03-01 to 1970-01-01.
    const EPOCH_DAY: i64 = 719_468;
    let days = days_since_epoch + EPOCH_DAY;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unix_ms: i64, expected: &str) {
        assert_eq!(iso_utc(unix_ms), expected, "unix_ms {unix_ms}");
    }

    #[test]
    fn known_dates() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_000_000_000_000, "2001-09-09T01:46:40.000Z");
        check(1_234_567_890_123, "2009-02-13T23:31:30.123Z");
        check(1_709_251_199_999, "2024-02-29T23:59:59.999Z");
        check(1_795_311_299_123, "2026-11-22T01:34:59.123Z");
        check(2_147_483_647_000, "2038-01-19T03:14:07.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn before_the_epoch_and_beyond_four_digits() {
        check(-1, "1969-12-31T23:59:59.999Z");
        check(-2_208_988_800_000, "1900-01-01T00:00:00.000Z");
        check(-62_167_219_200_000, "0000-01-01T00:00:00.000Z");
        check(-62_167_219_200_001, "-000001-12-31T23:59:59.999Z");
        check(253_402_300_800_000, "+010000-01-01T00:00:00.000Z");
        check(i64::MAX, "+292278994-08-17T07:12:55.807Z");
        check(i64::MIN, "-292275055-05-16T16:47:04.192Z");
    }

    #[test]
    fn each_day_of_four_centuries_follows_the_day_before() {
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let (mut year, mut month, mut day) = (1900, 1, 1);
        for days in -25_567..120_530 {
            assert_eq!(civil_from_days(days), (year, month, day), "days {days}");
            let month_days = match month {
                4 | 6 | 9 | 11 => 30,
                2 if is_leap(year) => 29,
                2 => 28,
                _ => 31,
            };
            day += 1;
            if day > month_days {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!((year, month, day), (2300, 1, 1));
    }

    #[test]
    fn the_clock_reads_a_time_of_this_century() {
        let now = iso_utc(unix_ms_now());
        assert!(now.starts_with("20") && now.len() == 24, "now {now}");
    }
}
