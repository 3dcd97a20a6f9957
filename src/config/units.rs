//! What a setting can be: each type is valid once read, and says in its error what was expected.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::parse_duration;

/// A setting that is written as text.
pub trait Setting: Sized {
    /// Reads the text; an error says what was expected, without "found".
    ///
    /// # Errors
    /// When the text is none of the forms expected.
    fn read(text: &str) -> Result<Self, String>;
}

/// Makes a [`Setting`] readable by serde. A whole number is read as its digits.
macro_rules! setting {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::units::read(deserializer)
            }
        }
    };
    ($type:ty, shown) => {
        $crate::config::units::setting!($type);

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(super) use setting;

pub(super) fn read<'de, D: Deserializer<'de>, T: Setting>(deserializer: D) -> Result<T, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let text = match &value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        // No setting reads this as what it is.
        _ => "\0".to_owned(),
    };
    T::read(&text).map_err(|expected| D::Error::custom(format!("{expected}, found {}", found(&value))))
}

/// A value as an error shows it: on one line and not long.
pub(super) fn found(value: &toml::Value) -> String {
    const MAX_SHOWN_CHARS: usize = 60;
    match value {
        toml::Value::String(text) if text.chars().nth(MAX_SHOWN_CHARS).is_some() => {
            format!("{:?}…", text.chars().take(MAX_SHOWN_CHARS).collect::<String>())
        }
        toml::Value::String(text) => format!("{text:?}"),
        toml::Value::Array(_) => "a list".to_owned(),
        toml::Value::Table(_) => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// Reads a whole number from `LEAST` to `MAX_SHOWN_CHARS`.
pub(super) fn between<'de, D, T, const LEAST: u32, const MAX_SHOWN_CHARS: u32>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u32>,
{
    let value = toml::Value::deserialize(deserializer)?;
    let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
    let number =
        number.filter(|number| (LEAST..=MAX_SHOWN_CHARS).contains(number)).and_then(|number| T::try_from(number).ok());
    let expected = || format!("expected a whole number from {LEAST} to {MAX_SHOWN_CHARS}, found {}", found(&value));
    number.ok_or_else(|| D::Error::custom(expected()))
}

/// A number of bytes: `"4GiB"`, `"10MB"` or a plain integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Setting for Size {
    fn read(text: &str) -> Result<Self, String> {
        let size: Option<ByteSize> = text.parse().ok();
        // Larger ones saturate while they are read.
        let size = size.filter(|size| size.0 <= i64::MAX as u64);
        size.map(|size| Self(size.0)).ok_or_else(|| "expected a size such as \"4GiB\"".to_owned())
    }
}

/// In the largest unit that shows it exactly.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, shift)| self.0 >= 1 << shift && self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

setting!(Size, shown);

/// A speed in bytes per second: `"16KiB/s"` or a plain integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed(pub u64);

impl Setting for Speed {
    fn read(text: &str) -> Result<Self, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let size = if digits { Some(text) } else { text.strip_suffix("/s") };
        let size = size.and_then(|size| Size::read(size.trim_end()).ok());
        size.map(|size| Self(size.0)).ok_or_else(|| "expected a speed such as \"16KiB/s\"".to_owned())
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Size(self.0))
    }
}

setting!(Speed, shown);

/// A length of time: `"30s"`, `"500ms"`, `"31d"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DurationSetting(pub Duration);

impl DurationSetting {
    /// Keeps sums with points in time far from any overflow.
    const MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
}

impl Setting for DurationSetting {
    fn read(text: &str) -> Result<Self, String> {
        // A bare number of what? Zero is the same in any unit.
        let unit = text == "0" || text.contains(|char: char| char.is_ascii_alphabetic());
        let span = parse_duration(text).ok().filter(|span| unit && *span <= Self::MAX);
        span.map(Self).ok_or_else(|| "expected a duration such as \"30s\" or \"31d\"".to_owned())
    }
}

/// In the largest unit that shows it exactly; `humantime` would make a month of 31 days.
impl fmt::Display for DurationSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("m", 60_000_000_000)];
        let small = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)];
        let exact = |(_, length): &(&str, u128)| nanos >= *length && nanos.is_multiple_of(*length);
        match units.into_iter().chain(small).find(exact) {
            Some((unit, length)) => write!(f, "{}{unit}", nanos / length),
            None if nanos == 0 => f.write_str("0s"),
            None => write!(f, "{nanos}ns"),
        }
    }
}

setting!(DurationSetting, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_durations_and_speeds_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("4GiB", 4 << 30, "4GiB"),
            ("1.5 MiB", 3 << 19, "1536KiB"),
            ("10MB", 10_000_000, "10000000B"),
            ("1048576", 1 << 20, "1MiB"),
            ("0", 0, "0B"),
        ] {
            let size = Size::read(text).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for (text, millis, shown) in [
            ("30s", 30_000, "30s"),
            ("31d", 31 * 86_400_000, "31d"),
            ("500ms", 500, "500ms"),
            ("1h 30m", 5_400_000, "90m"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let span = DurationSetting::read(text).unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (millis, shown), "{text}");
        }
        for (text, bytes, shown) in
            [("16KiB/s", 16 << 10, "16KiB/s"), ("1 MB/s", 1_000_000, "1000000B/s"), ("0", 0, "0B/s")]
        {
            let speed = Speed::read(text).unwrap();
            assert_eq!((speed.0, speed.to_string().as_str()), (bytes, shown), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in ["", "big", "-1", "4 GiB/s", "99999EiB", "1e3", "\0"] {
            assert!(Size::read(bad).is_err(), "{bad:?}");
        }
        let too_long = "18446744073709551615s1000ms";
        for bad in ["", "30", "soon", "-1s", "30 parsecs", "200000000000000000000d", "101y", too_long, "\0"] {
            assert!(DurationSetting::read(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "16KiB", "fast", "/s", "16KiB/h", "\0"] {
            assert!(Speed::read(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn displayed_units_parse_back(bytes in 0..=i64::MAX as u64, millis in 0..100_000_000_000_u64) {
            prop_assert_eq!(Size::read(&Size(bytes).to_string()), Ok(Size(bytes)));
            prop_assert_eq!(Speed::read(&Speed(bytes).to_string()), Ok(Speed(bytes)));
            let span = DurationSetting(Duration::from_millis(millis));
            prop_assert_eq!(DurationSetting::read(&span.to_string()), Ok(span));
        }
    }
}
