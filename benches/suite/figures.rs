//! What was measured, against what, and whether that is enough.

use std::fmt;

/// One figure over several runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Microseconds,
    Milliseconds,
    Seconds,
    MegabytesPerSecond,
    Mebibytes,
    Bytes,
    Count,
}

/// What a figure must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// So many times the peer's at least.
    TimesAtLeast(f64),
    /// So many times the peer's at most.
    TimesAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
    /// Stated for who wants to know.
    None,
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) ours: Samples,
    /// What it is held against, and what that gave.
    pub(crate) peer: Option<(&'static str, Samples)>,
    pub(crate) limit: Limit,
}

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    /// The median, and the least and the most where there was more than one run.
    pub(crate) fn show(&self, unit: Unit) -> String {
        let (least, most) = self.0.iter().fold((f64::MAX, f64::MIN), |(a, b), it| (a.min(*it), b.max(*it)));
        let median = number(self.median());
        if self.0.len() < 2 {
            return format!("{median} {unit}");
        }
        format!("{median} {unit} ({}–{})", number(least), number(most))
    }
}

impl Extend<f64> for Samples {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, samples: T) {
        self.0.extend(samples);
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(samples: T) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl From<f64> for Samples {
    fn from(sample: f64) -> Self {
        Self(vec![sample])
    }
}

impl Figure {
    /// Ours, in times of the peer's.
    pub(crate) fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, theirs)| self.ours.median() / theirs.median())
    }

    /// Whether it keeps to its limit; `None` where it has none.
    pub(crate) fn is_met(&self) -> Option<bool> {
        match self.limit {
            Limit::TimesAtLeast(times) => self.ratio().map(|ratio| ratio >= times),
            Limit::TimesAtMost(times) => self.ratio().map(|ratio| ratio <= times),
            Limit::AtLeast(least) => Some(self.ours.median() >= least),
            Limit::AtMost(most) => Some(self.ours.median() <= most),
            Limit::None => None,
        }
    }

    /// The cells of its line: figure, ours, peer, ratio, limit, met.
    pub(crate) fn cells(&self) -> [String; 6] {
        let peer = self.peer.as_ref().map(|(name, theirs)| format!("{name}: {}", theirs.show(self.unit)));
        let limit = match self.limit {
            Limit::TimesAtLeast(times) => format!("≥ {times} ×"),
            Limit::TimesAtMost(times) => format!("≤ {times} ×"),
            Limit::AtLeast(least) => format!("≥ {} {}", number(least), self.unit),
            Limit::AtMost(most) => format!("≤ {} {}", number(most), self.unit),
            Limit::None => String::new(),
        };
        let met = self.is_met().map_or("", |met| if met { "yes" } else { "NO" });
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2} ×")).unwrap_or_default();
        [self.what.clone(), self.ours.show(self.unit), peer.unwrap_or_default(), ratio, limit, met.to_owned()]
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PerSecond => "/s",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Mebibytes => "MiB",
            Self::Bytes => "B",
            Self::Count => "",
        })
    }
}

/// Three digits that count, and thousands apart.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.abs() < 100.0 && value.fract() != 0.0 {
        return format!(
            "{value:.*}",
            if value.abs() < 1.0 {
                3
            } else if value.abs() < 10.0 {
                2
            } else {
                1
            }
        );
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_its_limit() {
        let figure = |limit| Figure {
            what: "x".to_owned(),
            unit: Unit::PerSecond,
            ours: [3.0, 1.0, 2.0].into_iter().collect(),
            peer: Some(("p", 4.0.into())),
            limit,
        };
        assert_eq!(figure(Limit::TimesAtLeast(0.5)).is_met(), Some(true));
        assert_eq!(figure(Limit::TimesAtMost(0.4)).is_met(), Some(false));
        assert_eq!(figure(Limit::AtLeast(2.5)).is_met(), Some(false));
        assert_eq!(figure(Limit::None).is_met(), None);
        assert_eq!(figure(Limit::AtMost(2.0)).cells()[1], "2 /s (1–3)");
    }

    #[test]
    fn numbers_can_be_read() {
        let shown = [0.01234, 3.45678, 34.56, 100.4, 1_234_567.0, f64::NAN].map(number);
        assert_eq!(shown, ["0.012", "3.46", "34.6", "100", "1,234,567", "–"]);
    }
}
