use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

/// What goes wrong, and how often: the `--faults` of `simulate`.
///
/// In text a comma-separated list such as `drop=0.1,cdn-500=0.2,cdn-slow=64KiB/s,expire=10s`; empty means none.
/// [`Faults::HELP`] lists the names. Probabilities are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    chances: [f64; Fault::ALL.len()],
    cdn_slow: Option<u64>,
    expire: Option<Duration>,
}

/// Why a text is no [`Faults`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultsError {
    /// A name that is not in the list.
    #[error("unknown fault {0:?}; accepted are {help}", help = Faults::HELP)]
    Unknown(String),
    /// A known name with a value it can't have, or with none.
    #[error("fault {name}: expected {expected}, got {value:?}")]
    Value {
        /// The fault.
        name: String,
        /// What it accepts.
        expected: &'static str,
        /// What was given.
        value: String,
    },
}

macro_rules! faults {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// A fault with a probability.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fault { $($variant),+ }

        impl Fault {
            const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl Faults {
            /// The names and values that are accepted.
            pub const HELP: &str = concat!($($name, ", "),+, "each with a probability from 0 to 1; \
                cdn-slow with bytes per second as in 64KiB/s; expire with a duration as in 10s");
        }
    };
}

faults! {
    Disorder "disorder", Repeat "repeat", Drop "drop", Fail "fail", Moderate "moderate", Remove "remove",
    NoClean "no-clean", WatermarkOnly "watermark-only", Processing "processing", Busy "429", OnHold "596",
    Cdn500 "cdn-500", Cdn404 "cdn-404", CdnReset "cdn-reset", CdnShort "cdn-short", CdnStall "cdn-stall",
    CdnHtml "cdn-html", Get500 "get-500", Get401 "get-401", Get404 "get-404", Get429 "get-429", Get596 "get-596",
    GetReset "get-reset", GetRunning "get-running", GetFailed "get-failed", GetHost "get-host", Stale "stale",
}

impl Faults {
    pub(super) fn chance(&self, fault: Fault) -> f64 {
        self.chances[fault as usize]
    }

    /// Bytes per second of one CDN answer.
    pub(super) fn cdn_slow(&self) -> Option<u64> {
        self.cdn_slow
    }

    /// How long a signed link is good for; without it links are not signed.
    pub(super) fn expire(&self) -> Option<Duration> {
        self.expire
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FaultsError> {
        let wrong = |expected| FaultsError::Value { name: name.into(), expected, value: value.into() };
        match name {
            "cdn-slow" => {
                let rate = value.strip_suffix("/s").and_then(|size| ByteSize::from_str(size).ok()).map(|size| size.0);
                let rate = rate.filter(|rate| *rate > 0);
                self.cdn_slow = Some(rate.ok_or_else(|| wrong("bytes per second as in 64KiB/s"))?);
            }
            "expire" => {
                let duration = humantime::parse_duration(value).map_err(|_| wrong("a duration as in 10s"))?;
                self.expire = Some(duration);
            }
            _ => {
                let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
                let fault = fault.ok_or_else(|| FaultsError::Unknown(name.into()))?;
                let chance = value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
                self.chances[fault as usize] = chance.ok_or_else(|| wrong("a probability from 0 to 1"))?;
            }
        }
        Ok(())
    }
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            faults.set(name.trim(), value.trim())?;
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chances = Fault::ALL.into_iter().filter(|fault| self.chance(*fault) > 0.0);
        let chances = chances.map(|fault| format!("{}={}", fault.name(), self.chance(fault)));
        let slow = self.cdn_slow.map(|rate| format!("cdn-slow={rate}B/s"));
        let expire = self.expire.map(|time| format!("expire={}", humantime::format_duration(time)));
        f.write_str(&chances.chain(slow).chain(expire).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_named_and_read_back() {
        let mut text: Vec<_> = Fault::ALL.iter().map(|fault| format!("{}=0.25", fault.name())).collect();
        text.extend(["cdn-slow=64KiB/s".into(), "expire=1m 10s".into()]);
        let faults: Faults = text.join(" , ").parse().unwrap();
        assert_eq!(faults.cdn_slow(), Some(65_536));
        assert_eq!(faults.expire(), Some(Duration::from_secs(70)));
        assert_eq!(faults.chance(Fault::CdnHtml), 0.25);
        assert_eq!(faults.to_string().parse(), Ok(faults));
        assert_eq!("".parse(), Ok(Faults::default()));
        assert_eq!(Faults::default().to_string(), "");
    }

    #[test]
    fn the_rest_is_refused_with_what_is_accepted() {
        for (bad, says) in [
            ("cdn-501=0.1", "cdn-500"),
            ("drop", "probability from 0 to 1"),
            ("drop=2", "probability from 0 to 1"),
            ("drop=NaN", "probability from 0 to 1"),
            ("cdn-slow=64KiB", "bytes per second"),
            ("cdn-slow=0B/s", "bytes per second"),
            ("expire=soon", "duration"),
        ] {
            let error = bad.parse::<Faults>().unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
