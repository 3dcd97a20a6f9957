use std::fmt;
use std::str::FromStr;

use crate::domain::Digest;

/// A share of all objects, picked by a hash of their keys: from `0%` to `100%`, in steps of a ten-thousandth of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    per_million: u32,
}

/// The text is no [`Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a share from 0% to 100%, such as 5%")]
pub struct SampleError;

impl Sample {
    /// Every object.
    pub const ALL: Self = Self { per_million: 1_000_000 };

    /// Whether the object under `key` is in the sample that `seed` stands for.
    pub(super) fn takes(self, seed: u64, key: &str) -> bool {
        let digest = Digest::of(&[&seed.to_be_bytes(), key.as_bytes()].concat());
        let number = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        number % 1_000_000 < self.per_million.into()
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for Sample {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
        let number = number.filter(|number| (0.0..=100.0).contains(number)).ok_or(SampleError)?;
        Ok(Self { per_million: (number * 10_000.0).round() as u32 })
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.per_million) / 10_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        for (text, shown) in [("5%", "5%"), ("0%", "0%"), ("100%", "100%"), ("0.25%", "0.25%"), ("5.00%", "5%")] {
            assert_eq!(text.parse::<Sample>().unwrap().to_string(), shown);
        }
        for bad in ["", "%", "5", "-1%", "100.1%", "NaN%", "inf%", "5 %", "five%", "5%%"] {
            assert_eq!(bad.parse::<Sample>(), Err(SampleError), "{bad}");
        }
    }

    #[test]
    fn it_takes_its_share_and_another_seed_takes_others() {
        let taken = |sample: &str, seed| {
            let sample: Sample = sample.parse().unwrap();
            (0..10_000).filter(|number| sample.takes(seed, &format!("video/{number}/video.mp4"))).collect::<Vec<_>>()
        };
        assert_eq!((taken("0%", 1).len(), taken("100%", 1).len()), (0, 10_000));
        assert!((400..600).contains(&taken("5%", 1).len()), "{}", taken("5%", 1).len());
        assert_eq!(taken("5%", 1), taken("5%", 1));
        assert_ne!(taken("5%", 1), taken("5%", 2));
    }
}
