//! The durable age clock: boxes boot in 1970 and jump by years, and nothing may expire by that.
//!
//! While running it follows the monotonic clock. Between runs it is moved on by the difference of the wall clock, when that is plausible (0 to 30
//! days), else not at all. A step of the wall clock while running moves it by nothing.
//!
//! It is pure: both clocks are read by the owner and passed in. It is stored with commits, at most once a second.

use crate::identity::{AgeMillis, Now, Timestamp};
use crate::record::{Reader, put, put_signed};
use crate::store::{Store, StoreError, record_space};

const KEY: [u8; 6] = [record_space::SINGLE, b'c', b'l', b'o', b'c', b'k'];
const VERSION: u8 = 1;
/// A box may lie in a warehouse; but a difference above this is rather a clock that was wrong.
const LONGEST_PLAUSIBLE_PAUSE_MILLIS: i64 = 30 * 24 * 3600 * 1000;
/// Disks are spared: the age that a crash may lose is this.
const STORED_EVERY_MILLIS: u64 = 1000;
/// A wall clock that differs by more from what the monotonic one leads to expect was set.
const STEP_MILLIS: i64 = 2000;

/// The age clock of a running process.
#[derive(Clone, Copy, Debug)]
pub struct AgeClock {
    /// Age when the process opened the store.
    start: AgeMillis,
    /// Monotonic milliseconds at that moment.
    monotonic_start: u64,
    /// Wall minus monotonic, as last seen, milliseconds.
    offset: i64,
    /// Steps of the wall clock seen.
    steps: u64,
}

impl AgeClock {
    /// Reads what was stored last. `monotonic` is any millisecond count that only moves on while the process runs.
    ///
    /// # Errors
    /// When the store can't be read. A damaged record is taken as none.
    pub fn open(store: &mut dyn Store, wall: Timestamp, monotonic: u64) -> Result<AgeClock, StoreError> {
        let stored = store.record(&KEY)?.and_then(|record| decode(&record).ok());
        let start = match stored {
            Some((age, stored_wall)) => {
                let pause = (wall.0 - stored_wall.0) / 1_000_000;
                let plausible = (0..=LONGEST_PLAUSIBLE_PAUSE_MILLIS).contains(&pause);
                AgeMillis(age.0 + if plausible { pause as u64 } else { 0 })
            }
            None => AgeMillis(0),
        };
        Ok(AgeClock { start, monotonic_start: monotonic, offset: offset(wall, monotonic), steps: 0 })
    }

    /// Both clocks now. Notices when the wall clock was set.
    pub fn now(&mut self, wall: Timestamp, monotonic: u64) -> Now {
        let seen = offset(wall, monotonic);
        if (seen - self.offset).abs() > STEP_MILLIS {
            self.steps += 1;
        }
        self.offset = seen;
        Now { wall, age: AgeMillis(self.start.0 + monotonic.saturating_sub(self.monotonic_start)) }
    }

    /// How often the wall clock was set since the start.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// When the clock was stored last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoredClock {
    at: Option<AgeMillis>,
}

impl StoredClock {
    /// Writes the clock into the transaction that is about to be committed, unless that happened within the last second.
    pub(crate) fn save(&mut self, store: &mut dyn Store, now: Now) -> Result<(), StoreError> {
        if self.at.is_some_and(|at| now.age.0 < at.0 + STORED_EVERY_MILLIS) {
            return Ok(());
        }
        self.at = Some(now.age);
        let mut record = vec![VERSION];
        put(&mut record, now.age.0);
        put_signed(&mut record, now.wall.0);
        store.put_record(&KEY, &record)
    }
}

fn offset(wall: Timestamp, monotonic: u64) -> i64 {
    wall.0 / 1_000_000 - monotonic as i64
}

fn decode(record: &[u8]) -> Result<(AgeMillis, Timestamp), StoreError> {
    let mut from = Reader::new(record, VERSION, "age clock")?;
    Ok((AgeMillis(from.number()?), Timestamp(from.signed()?)))
}

#[cfg(test)]
mod tests {
    use super::{AgeClock, StoredClock};
    use crate::identity::{AgeMillis, Timestamp};
    use crate::store::memory::MemoryStore;

    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 24 * 3600 * SECOND;

    /// The age after a run of 10 s that began at `wall`, and a restart at `again`.
    fn age_after_restart(wall: i64, again: i64) -> u64 {
        let mut store = MemoryStore::default();
        let mut clock = AgeClock::open(&mut store, Timestamp(wall), 5).expect("opens");
        let now = clock.now(Timestamp(wall + 10 * SECOND), 10_005);
        StoredClock::default().save(&mut store, now).expect("saves");
        AgeClock::open(&mut store, Timestamp(again), 77).expect("opens").now(Timestamp(again), 77).age.0
    }

    #[test]
    fn a_plausible_pause_counts_and_others_do_not() {
        let start = 20_000 * DAY;
        assert_eq!(age_after_restart(start, start + 70 * SECOND), 70_000, "a minute off is a minute older");
        assert_eq!(age_after_restart(start, 0), 10_000, "booted in 1970");
        assert_eq!(age_after_restart(0, start), 10_000, "the clock was right at last: years ahead");
        assert_eq!(age_after_restart(start, start + 31 * DAY), 10_000, "over 30 days");
    }

    #[test]
    fn a_step_while_running_expires_nothing_and_is_counted() {
        let mut clock = AgeClock::open(&mut MemoryStore::default(), Timestamp(0), 0).expect("opens");
        assert_eq!(clock.now(Timestamp(20_000 * DAY), 1000).age, AgeMillis(1000));
        assert_eq!(clock.now(Timestamp(20_000 * DAY + SECOND), 2000).age, AgeMillis(2000));
        assert_eq!(clock.now(Timestamp(SECOND), 3000).age, AgeMillis(3000));
        assert_eq!(clock.steps(), 2);
    }
}
