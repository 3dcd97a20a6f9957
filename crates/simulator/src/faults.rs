mod kind;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use replyvault_domain::parse_duration;

pub(super) use kind::Fault;

/// What goes wrong, and how often: the `--faults` of `simulate`.
///
/// In text a comma-separated list such as `drop=0.1,cdn-500=0.2,cdn-slow=64KiB/s,expire=10s`; empty means none.
/// [`Faults::TABLE`] says what each does. Probabilities are from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    chances: Chances,
    cdn_slow: Option<u64>,
    expire: Option<Duration>,
    slow: Option<Duration>,
    stream_gap: Option<Duration>,
    max_jobs: Option<usize>,
    credits: Option<u64>,
    list_order: ListOrder,
}

#[derive(Clone, Debug, PartialEq)]
struct Chances(Box<[f64; Fault::ALL.len()]>);

impl Default for Chances {
    fn default() -> Self {
        Self(Box::new([0.0; Fault::ALL.len()]))
    }
}

/// In which order lists are; the provider's is not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListOrder {
    #[default]
    Newest,
    Oldest,
    /// Any, but the same from page to page.
    Shuffled,
}

impl ListOrder {
    const ALL: [(Self, &str); 3] = [(Self::Newest, "newest"), (Self::Oldest, "oldest"), (Self::Shuffled, "shuffled")];
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

impl Faults {
    pub(super) fn chance(&self, fault: Fault) -> f64 {
        self.chances.0[fault as usize]
    }

    /// Bytes per second of one CDN answer.
    pub(super) fn cdn_slow(&self) -> Option<u64> {
        self.cdn_slow
    }

    /// How long a signed link is good for; without it links are not signed.
    pub(super) fn expire(&self) -> Option<Duration> {
        self.expire
    }

    /// How long every answer of the API is held back.
    pub(super) fn slow(&self) -> Option<Duration> {
        self.slow
    }

    /// How long an event stream is silent in its middle.
    pub(super) fn stream_gap(&self) -> Option<Duration> {
        self.stream_gap
    }

    /// How many videos an account may have running.
    pub(super) fn max_jobs(&self) -> Option<usize> {
        self.max_jobs
    }

    /// How many jobs there may be.
    pub(super) fn credits(&self) -> Option<u64> {
        self.credits
    }

    pub(super) fn list_order(&self) -> ListOrder {
        self.list_order
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), FaultsError> {
        let wrong = |expected| FaultsError::Value { name: name.into(), expected, value: value.into() };
        let duration = || parse_duration(value).map_err(|_| wrong("a duration as in 10s"));
        match name {
            "cdn-slow" => {
                let rate = value.strip_suffix("/s").and_then(|size| ByteSize::from_str(size).ok()).map(|size| size.0);
                let rate = rate.filter(|rate| *rate > 0);
                self.cdn_slow = Some(rate.ok_or_else(|| wrong("bytes per second as in 64KiB/s"))?);
            }
            "expire" => self.expire = Some(duration()?),
            "slow" => self.slow = Some(duration()?),
            "stream-gap" => self.stream_gap = Some(duration()?),
            "max-jobs" => self.max_jobs = Some(value.parse().map_err(|_| wrong("a number"))?),
            "credits" => self.credits = Some(value.parse().map_err(|_| wrong("a number"))?),
            "list-order" => {
                let order = ListOrder::ALL.into_iter().find(|(_, name)| *name == value);
                self.list_order = order.ok_or_else(|| wrong("newest, oldest or shuffled"))?.0;
            }
            _ => {
                let fault = Fault::ALL.into_iter().find(|fault| fault.name() == name);
                let fault = fault.ok_or_else(|| FaultsError::Unknown(name.into()))?;
                let chance = value.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
                self.chances.0[fault as usize] = chance.ok_or_else(|| wrong("a probability from 0 to 1"))?;
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
        let time = |name, time: Option<Duration>| Some(format!("{name}={}", humantime::format_duration(time?)));
        let order = ListOrder::ALL.iter().find(|(order, _)| *order == self.list_order && *order != ListOrder::Newest);
        let rest = [
            self.cdn_slow.map(|rate| format!("cdn-slow={rate}B/s")),
            time("expire", self.expire),
            time("slow", self.slow),
            time("stream-gap", self.stream_gap),
            self.max_jobs.map(|number| format!("max-jobs={number}")),
            self.credits.map(|number| format!("credits={number}")),
            order.map(|(_, name)| format!("list-order={name}")),
        ];
        f.write_str(&chances.chain(rest.into_iter().flatten()).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_named_and_read_back() {
        let mut text: Vec<_> = Fault::ALL.iter().map(|fault| format!("{}=0.25", fault.name())).collect();
        text.extend(["cdn-slow=64KiB/s", "expire=1m 10s", "slow=20ms", "stream-gap=3s"].map(String::from));
        text.extend(["max-jobs=3", "credits=40", "list-order=shuffled"].map(String::from));
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
            ("slow=5", "duration"),
            ("max-jobs=-1", "a number"),
            ("list-order=sideways", "newest, oldest or shuffled"),
        ] {
            let error = bad.parse::<Faults>().unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
