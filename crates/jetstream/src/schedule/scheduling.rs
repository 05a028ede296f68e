//! Messages that are sent later, once or again and again (ADR-51), in streams that allow it.
//!
//! A message with `Nats-Schedule` is stored like any other, and rolls up its subject: there is one schedule for a subject. When its time comes, a message with
//! its body, or with that of the newest message of `Nats-Schedule-Source`, is stored under `Nats-Schedule-Target`. A schedule ends when its message is gone,
//! when another message follows on its subject, or when it was sent for good.
//!
//! Two records keep it: by its subject, and by the time it is due, so that the next one is the first record however many there are. What leaves
//! a stream by other ways leaves its records behind until then.
//!
//! **Clocks.** `@at` and patterns name times of day: they go by the wall clock, whatever it was before. An interval (`@every`) goes by the age clock, so that
//! a step of the wall clock neither fires nor delays it. What became due while nobody was there is sent once. A clock that was set back does not let what
//! was sent be sent again, unless by more than an hour: then patterns begin anew from what the clock shows, or else a clock that
//! once stood years ahead would silence them for years.

use crate::api_error::ApiError;
use crate::header_block;
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::record::{Reader, put};
use crate::schedule::Schedule;
use crate::store::{Store, StoreError, record_space};
use crate::stream::trimming::Excess;
use crate::stream::{Incoming, Removal, Stream};

/// So often the wall clock is looked at while something waits for it.
const LOOK_MILLIS: u64 = 30_000;
/// Set back by more than this, the wall clock makes patterns begin anew, milliseconds.
pub(crate) const SET_BACK_MILLIS: u64 = 3_600_000;
const VERSION: u8 = 1;
/// Stands before the key from which patterns are reckoned anew.
const RECKONING: u8 = 1;
pub(crate) const MILLI_NS: i64 = 1_000_000;

/// What a due time is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Age,
    Wall,
}

impl Clock {
    fn letter(self) -> u8 {
        match self {
            Clock::Age => b'a',
            Clock::Wall => b'w',
        }
    }

    pub(crate) fn now(self, now: Now) -> u64 {
        match self {
            Clock::Age => now.age.0,
            Clock::Wall => millis(now.wall),
        }
    }
}

/// What is to come of a stream's schedules, so that no record is read before its time.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) age: Option<u64>,
    pub(crate) wall: Option<u64>,
    /// The latest that the wall clock was when a pattern was reckoned, milliseconds.
    pub(crate) latest: u64,
    /// The clock was set back, and patterns are reckoned anew, from this key on; empty: from the first. It is kept with `latest`, so that
    /// what a crash interrupts goes on.
    pub(crate) reckoning: Option<Vec<u8>>,
}

/// A schedule as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) clock: Clock,
    /// When, in milliseconds of that clock.
    pub(crate) due: u64,
    /// Its message.
    pub(crate) sequence: Sequence,
}

/// The headers of a message that schedules.
pub(crate) struct Wanted<'a> {
    pub(crate) block: &'a [u8],
}

impl<'a> Wanted<'a> {
    /// An empty header is as good as none.
    pub(crate) fn value(&self, key: &str) -> Option<&'a [u8]> {
        header_block::value(self.block, key).filter(|value| !value.is_empty())
    }

    pub(crate) fn schedule(&self) -> Result<Option<Schedule>, ApiError> {
        let zone = header_block::value(self.block, "Nats-Schedule-Time-Zone");
        match (self.value("Nats-Schedule"), zone) {
            (Some(pattern), zone) => Schedule::parse(pattern, zone).map(Some),
            // Stock reads the zone of every message.
            (None, Some(zone)) => Schedule::parse(b"@daily", Some(zone)).map(|_| None),
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn target(&self) -> Option<&'a [u8]> {
        self.value("Nats-Schedule-Target")
    }

    pub(crate) fn source(&self) -> Option<&'a [u8]> {
        self.value("Nats-Schedule-Source")
    }
}

impl Stream {
    /// A message was stored that begins a schedule, or ends one.
    pub(crate) fn note_schedule(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        sequence: Option<Sequence>,
        removed: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        if !self.config.allow_schedules {
            return Ok(());
        }
        let wanted = Wanted { block: message.headers };
        if let Some(sequence) = sequence {
            self.plan_again(store, now, (message.subject, message.headers), sequence)?;
        }
        if wanted.value("Nats-Schedule-Next") == Some(b"purge")
            && let Some(scheduler) = wanted.value("Nats-Scheduler")
        {
            self.forget_plan(store, scheduler)?;
            // What the schedule itself is still to remove of its subject may be more than a turn can.
            let mut rest = Excess::RolledUp { subject: scheduler.into(), below: store.state(self.id).last.next() };
            if !rest.step(store, self.id, 0, removed)? {
                rest.save(store, self.id)?;
                self.unfinished.push(rest);
            }
        }
        Ok(())
    }

    /// A message is there that may hold a schedule: when it is due from now on.
    pub(crate) fn plan_again(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        (subject, block): (&[u8], &[u8]),
        sequence: Sequence,
    ) -> Result<(), StoreError> {
        if self.config.allow_schedules
            && let Ok(Some(schedule)) = (Wanted { block }).schedule()
            && let Some((clock, due, _)) = first_due(&schedule, now)
        {
            self.plan(store, now, subject, Plan { clock, due, sequence })?;
        }
        Ok(())
    }

    pub(crate) fn plan(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        subject: &[u8],
        plan: Plan,
    ) -> Result<(), StoreError> {
        self.forget_plan(store, subject)?;
        store.put_record(&due_key(self.id, plan.clock, plan.due, subject), &[VERSION])?;
        store.put_record(&subject_key(self.id, subject), &encode(&plan))?;
        let next = match plan.clock {
            Clock::Age => &mut self.planned.age,
            Clock::Wall => &mut self.planned.wall,
        };
        *next = Some(next.map_or(plan.due, |next| next.min(plan.due)));
        let wall = millis(now.wall);
        // Written now and then only: it has to be right by an hour.
        if plan.clock == Clock::Wall && wall > self.planned.latest.saturating_add(SET_BACK_MILLIS / 6) {
            self.planned.latest = wall;
            self.save_latest(store)?;
        }
        Ok(())
    }

    pub(crate) fn save_latest(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut record = vec![VERSION];
        put(&mut record, self.planned.latest);
        // Where nothing is reckoned anew, and before that was kept, it ends here.
        if let Some(from) = &self.planned.reckoning {
            record.push(RECKONING);
            record.extend_from_slice(from);
        }
        store.put_record(&latest_key(self.id), &record)
    }

    fn forget_plan(&mut self, store: &mut dyn Store, subject: &[u8]) -> Result<(), StoreError> {
        let Some(plan) = self.plan_of(store, subject)? else { return Ok(()) };
        store.delete_record(&due_key(self.id, plan.clock, plan.due, subject))?;
        store.delete_record(&subject_key(self.id, subject))
    }

    pub(crate) fn plan_of(&self, store: &mut dyn Store, subject: &[u8]) -> Result<Option<Plan>, StoreError> {
        Ok(store.record(&subject_key(self.id, subject))?.and_then(|record| decode(&record).ok()))
    }

    /// Reads what is to come, at opening and after something was sent.
    pub(crate) fn load_plans(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        if !self.config.allow_schedules {
            return Ok(());
        }
        self.planned.age = first_record(store, self.id, Clock::Age)?.map(|(due, _)| due);
        self.planned.wall = first_record(store, self.id, Clock::Wall)?.map(|(due, _)| due);
        let record = store.record(&latest_key(self.id))?;
        let (latest, reckoning) = record.and_then(|record| decode_latest(&record).ok()).unwrap_or_default();
        self.planned.latest = latest;
        self.planned.reckoning = reckoning;
        Ok(())
    }

    /// It has, or may have, records of schedules.
    pub(crate) fn has_plans(&self) -> bool {
        self.config.allow_schedules
    }

    /// When its schedules are to be looked at.
    pub(crate) fn next_schedule(&self, now: Now) -> Option<AgeMillis> {
        let by_wall =
            self.planned.wall.map(|due| AgeMillis(now.age.0 + due.saturating_sub(millis(now.wall)).min(LOOK_MILLIS)));
        let at_once = self.planned.reckoning.as_ref().map(|_| now.age);
        self.planned.age.map(AgeMillis).into_iter().chain(by_wall).chain(at_once).min()
    }
}

/// Whole milliseconds since 1970.
pub(crate) fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.0.div_euclid(MILLI_NS)).unwrap_or(0)
}

/// The first millisecond that is not before.
pub(crate) fn millis_up(time: Timestamp) -> u64 {
    millis(Timestamp(time.0.saturating_add(MILLI_NS - 1)))
}

/// When a schedule is due from now on: by which clock, in its milliseconds, and as a wall time.
pub(crate) fn first_due(schedule: &Schedule, now: Now) -> Option<(Clock, u64, Timestamp)> {
    let at = schedule.next(now.wall)?;
    Some(match schedule {
        Schedule::Every(_) => (Clock::Age, now.age.0 + millis_up(Timestamp(at.0.saturating_sub(now.wall.0))), at),
        Schedule::At(_) | Schedule::Cron(..) => (Clock::Wall, millis_up(at), at),
    })
}

/// What a stream's records of one kind begin with.
fn prefix_of(stream: StreamId, kind: u8) -> Vec<u8> {
    [&[record_space::SCHEDULE][..], &stream.0.to_be_bytes(), &[kind]].concat()
}

pub(crate) fn clock_prefix(stream: StreamId, clock: Clock) -> Vec<u8> {
    prefix_of(stream, clock.letter())
}

pub(crate) fn due_key(stream: StreamId, clock: Clock, due: u64, subject: &[u8]) -> Vec<u8> {
    [&clock_prefix(stream, clock)[..], &due.to_be_bytes(), subject].concat()
}

pub(crate) fn subject_key(stream: StreamId, subject: &[u8]) -> Vec<u8> {
    [&prefix_of(stream, b's')[..], subject].concat()
}

fn latest_key(stream: StreamId) -> Vec<u8> {
    prefix_of(stream, b'l')
}

/// Due time and subject of a key.
pub(crate) fn due_parts(key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let due = u64::from_be_bytes(key.get(6..14)?.try_into().ok()?);
    Some((due, key.get(14..)?.to_vec()))
}

pub(crate) fn first_record(
    store: &mut dyn Store,
    id: StreamId,
    clock: Clock,
) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let (mut found, prefix) = (None, clock_prefix(id, clock));
    store.scan_records(&prefix, &prefix, &mut |key, _| {
        found = due_parts(key);
        false
    })?;
    Ok(found)
}

/// What [`Stream::save_latest`] wrote.
fn decode_latest(record: &[u8]) -> Result<(u64, Option<Vec<u8>>), StoreError> {
    let mut from = Reader::new(record, VERSION, "schedules")?;
    let latest = from.number()?;
    let reckons = !from.is_at_end() && from.byte()? == RECKONING;
    Ok((latest, reckons.then(|| from.rest().to_vec())))
}

fn encode(plan: &Plan) -> Vec<u8> {
    let mut record = vec![VERSION, plan.clock.letter()];
    put(&mut record, plan.due);
    put(&mut record, plan.sequence.0);
    record
}

fn decode(record: &[u8]) -> Result<Plan, StoreError> {
    let mut from = Reader::new(record, VERSION, "schedule")?;
    let clock = if from.byte()? == b'a' { Clock::Age } else { Clock::Wall };
    Ok(Plan { clock, due: from.number()?, sequence: Sequence(from.number()?) })
}

#[cfg(test)]
mod tests {
    use super::{Clock, Plan, decode, due_key, due_parts, encode};
    use crate::identity::{Sequence, StreamId};

    #[test]
    fn records_are_read_back() {
        let plan = Plan { clock: Clock::Wall, due: 1 << 41, sequence: Sequence(7) };
        assert_eq!(decode(&encode(&plan)).expect("reads"), plan);
        let key = due_key(StreamId(20), Clock::Age, 77, b"a.b");
        assert_eq!(due_parts(&key), Some((77, b"a.b".to_vec())));
        assert!(decode(&[9, 9]).is_err());
        assert_eq!(due_parts(b"x"), None);
    }
}
