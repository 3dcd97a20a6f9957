use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time in whole milliseconds since 1970 UTC, the resolution the provider uses. RFC 3339 in text.
///
/// Always within the years 1970 to 9999, so that it can be written as RFC 3339 and as a folder of four digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(u64);

/// 9999-12-31T23:59:59.999Z.
const MAX_MILLIS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// The present, by the system's clock.
    pub fn now() -> Self {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_millis_clamped(elapsed.as_millis().try_into().unwrap_or(MAX_MILLIS))
    }

    /// `None` beyond the year 9999.
    pub fn from_millis(millis: u64) -> Option<Self> {
        (millis <= MAX_MILLIS).then_some(Self(millis))
    }

    /// As [`Self::from_millis`], with anything later taken as the end of the year 9999.
    pub fn from_millis_clamped(millis: u64) -> Self {
        Self(millis.min(MAX_MILLIS))
    }

    /// Reads an RFC 3339 time, such as the provider's `created`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = DateTime::parse_from_rfc3339(text).ok()?;
        Self::from_millis(u64::try_from(parsed.timestamp_millis()).ok()?)
    }

    /// As [`Self::parse_rfc3339`], with anything earlier taken as the begin of 1970, and anything later as the end of the
    /// year 9999.
    pub fn parse_rfc3339_clamped(text: &str) -> Option<Self> {
        let parsed = DateTime::parse_from_rfc3339(text).ok()?;
        Some(Self::from_millis_clamped(u64::try_from(parsed.timestamp_millis()).unwrap_or_default()))
    }

    /// Reads the form `20261120T110410Z` that signed links use, which is UTC.
    pub fn parse_iso_basic(text: &str) -> Option<Self> {
        let parsed = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok()?;
        Self::from_millis(u64::try_from(parsed.and_utc().timestamp_millis()).ok()?)
    }

    /// Milliseconds since 1970 UTC.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// This much later; stops at the end of the year 9999.
    pub fn after(self, delay: Duration) -> Self {
        Self::from_millis_clamped(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whether a time that was set at most `longest` ahead has come. One that lies further ahead than that was set by a
    /// clock that was wrong, and has come, too.
    pub fn has_come(self, now: Self, longest: Duration) -> bool {
        self <= now || self > now.after(longest)
    }

    /// Year, month and day in UTC.
    pub fn date(self) -> (u16, u8, u8) {
        let date = self.to_utc();
        (date.year().try_into().unwrap_or(9999), date.month() as u8, date.day() as u8)
    }

    /// The begin of the day in UTC.
    pub const fn midnight(self) -> Self {
        Self(self.0 - self.0 % 86_400_000)
    }

    fn to_utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0 as i64).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parsed = if deserializer.is_human_readable() {
            Self::parse_rfc3339(&String::deserialize(deserializer)?)
        } else {
            Self::from_millis(u64::deserialize(deserializer)?)
        };
        parsed.ok_or_else(|| de::Error::custom("expected an RFC 3339 time between the years 1970 and 9999"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let time = Timestamp::parse_rfc3339("2026-11-20T11:04:10.120Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-20T11:04:10.120Z");
        assert_eq!(time.date(), (2026, 11, 20));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-20T12:04:10.120+01:00"), Some(time));
    }

    #[test]
    fn a_time_set_by_a_clock_that_was_ahead_has_come() {
        let now = Timestamp::parse_rfc3339("2026-11-20T11:00:00Z").unwrap();
        let hour = Duration::from_secs(3600);
        let has_come = |at: Timestamp| at.has_come(now, 6 * hour);
        assert!(has_come(now) && has_come(Timestamp::default()) && has_come(now.after(30 * 24 * hour)));
        assert!(!has_come(now.after(Duration::from_millis(1))) && !has_come(now.after(6 * hour)));
    }

    #[test]
    fn times_outside_the_range_are_refused_or_clamped() {
        assert_eq!(Timestamp::from_millis(MAX_MILLIS + 1), None);
        assert_eq!(Timestamp::from_millis_clamped(u64::MAX).date(), (9999, 12, 31));
        assert_eq!(Timestamp::parse_rfc3339("1969-12-31T23:59:59Z"), None);
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
        let clamped = Timestamp::parse_rfc3339_clamped;
        for early in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "1970-01-01T00:59:00+01:00"] {
            assert_eq!(clamped(early), Some(Timestamp::default()), "{early}");
        }
        assert_eq!(clamped("9999-12-31T23:59:59-01:00"), Timestamp::from_millis(MAX_MILLIS));
        let time = "2026-11-20T11:04:10.120Z";
        assert_eq!((clamped(time), clamped("yesterday")), (Timestamp::parse_rfc3339(time), None));
    }
}
