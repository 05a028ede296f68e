//! Growing pauses with jitter, from a seed.

/// A small generator (SplitMix64): enough for jitter and shuffling, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.draw() % bound }
    }

    /// Puts a list in random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            list.swap(at, other);
        }
    }
}

/// Exponential back-off: the n-th pause lies between half of `base · 2ⁿ` and all of it, at most `max`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Pauses from `base_ms` up to `max_ms`.
    #[must_use]
    pub fn new(base_ms: u64, max_ms: u64) -> Backoff {
        Backoff { base_ms, max_ms: max_ms.max(base_ms), failures: 0 }
    }

    /// The pause after one more failure, milliseconds.
    pub fn next_pause(&mut self, random: &mut Random) -> u64 {
        let whole = self.base_ms.saturating_mul(1 << self.failures.min(20)).min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + random.below(whole - half + 1)
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_are_spread() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::new(1_000, 20_000);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.next_pause(&mut random)).collect();
        for (n, pause) in pauses.iter().enumerate() {
            let whole = (1_000u64 << n).min(20_000);
            assert!((whole / 2..=whole).contains(pause), "{pauses:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause(&mut random) <= 1_000);
        let spread: std::collections::BTreeSet<u64> =
            (0..50).map(|seed| Backoff::new(1_000, 1_000).next_pause(&mut Random::new(seed))).collect();
        assert!(spread.len() > 30, "fifty boxes must not dial in step");
    }
}
