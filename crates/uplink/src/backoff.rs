//! Growing pauses with jitter, from a seed.

use crate::config::Timings;

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

/// Pauses between dials, in two parts.
///
/// For some time after the link was lost they are short: somebody waits for what is stored, and a dial costs a few packets. They begin at `first_ms`,
/// double up to `quick_max_ms` and stay there. Later they double again, up to `max_ms`. Each lies between half of that and all of it, so that boxes
/// that lost their hub together don't dial in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_ms: u64,
    quick_max_ms: u64,
    quick_for_ms: u64,
    max_ms: u64,
    quick: u32,
    slow: u32,
    /// When the link was lost.
    lost_ms: u64,
}

impl Backoff {
    /// Pauses as the timings say; the time of short ones begins now.
    #[must_use]
    pub fn new(timings: &Timings, now_ms: u64) -> Backoff {
        let first_ms = timings.reconnect_ms;
        let quick_max_ms = timings.quick_max_ms.max(first_ms);
        Backoff {
            first_ms,
            quick_max_ms,
            quick_for_ms: timings.quick_for_ms,
            max_ms: timings.reconnect_max_ms.max(first_ms),
            quick: 0,
            slow: 0,
            lost_ms: now_ms,
        }
    }

    /// Pauses that grow from the first one on, without a time of short ones.
    #[must_use]
    pub fn growing(first_ms: u64, max_ms: u64) -> Backoff {
        let max_ms = max_ms.max(first_ms);
        Backoff { first_ms, quick_max_ms: first_ms, quick_for_ms: 0, max_ms, quick: 0, slow: 0, lost_ms: 0 }
    }

    /// The pause after one more failure, milliseconds.
    pub fn next_pause(&mut self, now_ms: u64, random: &mut Random) -> u64 {
        let (base, failures, most) = if now_ms.saturating_sub(self.lost_ms) < self.quick_for_ms {
            (self.first_ms, &mut self.quick, self.quick_max_ms.min(self.max_ms))
        } else {
            (self.quick_max_ms, &mut self.slow, self.max_ms)
        };
        let whole = base.saturating_mul(1 << (*failures).min(20)).min(most);
        *failures = failures.saturating_add(1);
        let half = whole / 2;
        half + random.below(whole - half + 1)
    }

    /// The link worked and is lost now: pauses begin small again.
    pub fn reset(&mut self, now_ms: u64) {
        (self.quick, self.slow, self.lost_ms) = (0, 0, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_are_spread() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::growing(1_000, 20_000);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.next_pause(0, &mut random)).collect();
        for (n, pause) in pauses.iter().enumerate() {
            let whole = (1_000u64 << n).min(20_000);
            assert!((whole / 2..=whole).contains(pause), "{pauses:?}");
        }
        backoff.reset(0);
        assert!(backoff.next_pause(0, &mut random) <= 1_000);
        let spread: std::collections::BTreeSet<u64> =
            (0..50).map(|seed| Backoff::growing(1_000, 1_000).next_pause(0, &mut Random::new(seed))).collect();
        assert!(spread.len() > 30, "fifty boxes must not dial in step");
    }

    /// When a box whose dials fail at once dials, from the loss of its link on.
    fn dials(backoff: &mut Backoff, seed: u64, until_ms: u64) -> Vec<u64> {
        let mut random = Random::new(seed);
        let mut now = 0;
        let mut dials = Vec::new();
        while now < until_ms {
            now += backoff.next_pause(now, &mut random);
            dials.push(now);
        }
        dials
    }

    proptest! {
        #[test]
        fn whenever_a_link_comes_back_soon_it_is_dialled_within_the_quick_pause(seed: u64, back in 0u64..119_000) {
            let times = Timings::default();
            let dials = dials(&mut Backoff::new(&times, 0), seed, 200_000);
            let dialled = dials.iter().find(|at| **at >= back).unwrap();
            prop_assert!(dialled - back <= times.quick_max_ms, "back at {back}, dialled at {dialled}");
        }

        #[test]
        fn a_hub_is_never_hammered(seed: u64) {
            let times = Timings::default();
            let hour = 3_600_000;
            let dials = dials(&mut Backoff::new(&times, 0), seed, hour);
            // Two minutes of dials at least 300 ms apart but for the first few, then at least 30 s apart but for the first few.
            let quick = dials.iter().filter(|at| **at < times.quick_for_ms).count();
            prop_assert!(quick <= 330, "{quick} dials in the first two minutes");
            prop_assert!(dials.len() - quick <= 130, "{} dials in the rest of the hour", dials.len() - quick);
            let first_minute_later = dials.iter().filter(|at| (600_000..660_000).contains(*at)).count();
            prop_assert!(first_minute_later <= 3);
        }

        #[test]
        fn pauses_stay_within_what_is_configured(
            seed: u64,
            first in 1u64..5_000,
            quick_max in 1u64..5_000,
            quick_for in 0u64..10_000,
            max in 1u64..60_000,
        ) {
            let times = Timings {
                reconnect_ms: first,
                quick_max_ms: quick_max,
                quick_for_ms: quick_for,
                reconnect_max_ms: max,
                ..Timings::default()
            };
            let most = max.max(first);
            let mut at = 0;
            for dial in dials(&mut Backoff::new(&times, 0), seed, 50_000).into_iter().take(100) {
                prop_assert!(dial - at <= most);
                prop_assert!(dial - at >= first.min(most) / 2);
                at = dial;
            }
        }
    }
}
