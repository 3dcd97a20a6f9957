use sha2::{Digest as _, Sha256};

/// Decisions that depend on the seed and on what is decided, not on the order in which requests arrive, so that a run
/// with many concurrent jobs can be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice {
    seed: u64,
}

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number that is the same for the same seed, question, subject and turn.
    pub(super) fn number(self, question: &str, subject: &str, turn: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        for text in [question, subject] {
            hash.update(text.as_bytes());
            hash.update([0]);
        }
        hash.update(turn.to_le_bytes());
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// A number from 0 up to, not including, 1.
    pub(super) fn share(self, question: &str, subject: &str, turn: u64) -> f64 {
        (self.number(question, subject, turn) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub(super) fn hits(self, probability: f64, question: &str, subject: &str, turn: u64) -> bool {
        probability > 0.0 && self.share(question, subject, turn) < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_decides_the_same() {
        let (one, other) = (Dice::new(1), Dice::new(2));
        assert_eq!(one.number("drop", "job", 3), Dice::new(1).number("drop", "job", 3));
        assert_ne!(one.number("drop", "job", 3), other.number("drop", "job", 3));
        assert_ne!(one.number("drop", "job", 3), one.number("drop", "job", 4));
        let hits = (0..10_000).filter(|turn| one.hits(0.2, "drop", "job", *turn)).count();
        assert!((1_800..2_200).contains(&hits), "{hits}");
        assert!(!one.hits(0.0, "drop", "job", 0) && one.hits(1.0, "drop", "job", 0));
    }
}
