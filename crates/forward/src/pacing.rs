//! How fast: a byte rate on the wire, a window of what the link drains in about a second, and growing pauses.

/// Smallest window, bytes: a slow link still gets more than one small message at a time.
const MIN_WINDOW: u64 = 16 * 1024;
/// Largest window, bytes.
const MAX_WINDOW: u64 = 4 * 1024 * 1024;
/// Where a link session begins, bytes.
const FIRST_WINDOW: u64 = 64 * 1024;
/// An answer later than this says that more is on the way than the link drains in a second.
const SLOW_ANSWER_MS: u64 = 1_000;
/// An answer earlier than this lets the window grow.
const FAST_ANSWER_MS: u64 = 500;

/// Bytes per second, spent in advance by at most one message.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    per_second: Option<u64>,
    /// In thousandths of a byte, so that nothing is lost by rounding; negative: in debt.
    credit: i64,
    at_ms: u64,
}

impl Rate {
    pub(crate) fn new(per_second: Option<u64>, now_ms: u64) -> Rate {
        let per_second = per_second.filter(|rate| *rate > 0);
        Rate { per_second, credit: 0, at_ms: now_ms }
    }

    fn refill(&mut self, now_ms: u64) {
        let Some(rate) = self.per_second else { return };
        let elapsed = now_ms.saturating_sub(self.at_ms).min(60_000);
        self.at_ms = self.at_ms.max(now_ms);
        // At most a quarter of a second is saved up: a burst may not fill the link.
        let most = i64::try_from(rate.saturating_mul(250)).unwrap_or(i64::MAX);
        let earned = i64::try_from(rate.saturating_mul(elapsed)).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(earned).min(most);
    }

    /// May something be sent now?
    pub(crate) fn is_open(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        self.per_second.is_none() || self.credit >= 0
    }

    /// How many bytes may be sent now without getting into debt.
    pub(crate) fn allowance(&mut self, now_ms: u64) -> u64 {
        self.refill(now_ms);
        match self.per_second {
            None => u64::MAX,
            Some(_) => u64::try_from(self.credit / 1_000).unwrap_or(0),
        }
    }

    pub(crate) fn spend(&mut self, bytes: u64) {
        if self.per_second.is_some() {
            self.credit = self.credit.saturating_sub(i64::try_from(bytes.saturating_mul(1_000)).unwrap_or(i64::MAX));
        }
    }

    /// When it opens again.
    pub(crate) fn opens_at(&self) -> Option<u64> {
        let rate = self.per_second?;
        let debt = u64::try_from(-self.credit).ok().filter(|debt| *debt > 0)?;
        Some(self.at_ms.saturating_add(debt.div_ceil(rate)))
    }
}

/// Bytes sent and not answered, and how many there may be.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    size: u64,
    outstanding: u64,
    shrunk_at_ms: u64,
}

impl Window {
    pub(crate) fn new() -> Window {
        Window { size: FIRST_WINDOW, outstanding: 0, shrunk_at_ms: 0 }
    }

    /// Room for more; at least one message always goes.
    pub(crate) fn room(&self) -> u64 {
        self.size.saturating_sub(self.outstanding)
    }

    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    pub(crate) fn sent(&mut self, bytes: u64) {
        self.outstanding += bytes;
    }

    /// An answer for `bytes`, sent at `sent_ms`.
    pub(crate) fn answered(&mut self, bytes: u64, sent_ms: u64, now_ms: u64) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
        let took = now_ms.saturating_sub(sent_ms);
        if took <= FAST_ANSWER_MS {
            self.size = (self.size + bytes).min(MAX_WINDOW);
        } else if took > SLOW_ANSWER_MS && sent_ms >= self.shrunk_at_ms {
            // Once per window: what was sent before the last step says nothing about it.
            self.size = (self.size / 2).max(MIN_WINDOW);
            self.shrunk_at_ms = now_ms;
        }
    }

    /// Nothing is on the way any more.
    pub(crate) fn clear(&mut self) {
        self.outstanding = 0;
    }
}

/// Exponential pauses with jitter.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    base_ms: u64,
    max_ms: u64,
    failures: u32,
    state: u64,
}

impl Pause {
    pub(crate) fn new(base_ms: u64, max_ms: u64, seed: u64) -> Pause {
        Pause { base_ms, max_ms: max_ms.max(base_ms), failures: 0, state: seed | 1 }
    }

    /// Between three quarters and all of `base · 2ⁿ`.
    pub(crate) fn next_pause(&mut self) -> u64 {
        let whole = self.base_ms.saturating_mul(1 << self.failures.min(16)).min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        whole - self.state % (whole / 4 + 1)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_time() {
        let mut rate = Rate::new(Some(1_000), 0);
        let (mut now, mut sent) = (0, 0);
        while now < 60_000 {
            if rate.is_open(now) {
                rate.spend(700);
                sent += 700;
                assert!(!rate.is_open(now));
            }
            now = rate.opens_at().unwrap().max(now + 1);
        }
        assert!((59_000..=61_000).contains(&sent), "{sent}");
        assert!(Rate::new(None, 0).is_open(0));
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut rate = Rate::new(Some(1_000_000), 0);
        assert!(rate.allowance(3_600_000) <= 250_000);
    }

    #[test]
    fn the_window_follows_the_link() {
        // A link of 20 kB/s: the window settles where an answer takes about a second.
        let mut window = Window::new();
        let (mut now, mut free_at) = (0u64, 0u64);
        for _ in 0..200 {
            let bytes = window.room().max(1_000);
            let sent_at = now;
            window.sent(bytes);
            free_at = free_at.max(now) + bytes * 1_000 / 20_000;
            now = free_at + 50;
            window.answered(bytes, sent_at, now);
        }
        let seconds = window.room() as f64 / 20_000.0;
        assert!((0.4..2.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut pause = Pause::new(5_000, 300_000, 3);
        let pauses: Vec<u64> = (0..10).map(|_| pause.next_pause()).collect();
        assert!((3_750..=5_000).contains(&pauses[0]) && (225_000..=300_000).contains(&pauses[9]), "{pauses:?}");
        pause.reset();
        assert!(pause.next_pause() <= 5_000);
    }
}
