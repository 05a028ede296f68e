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

use crate::api_error::{self, ApiError};
use crate::header_block;
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::message_ttl::TimeToLive;
use crate::publish_header::PublishHeaders;
use crate::record::{Reader, put};
use crate::schedule::{Schedule, to_second};
use crate::store::{MessageBuffer, Store, StoreError, record_space, undamaged};
use crate::stream::{Incoming, Removal, Stream, Verdict};
use subject::Filter;

/// Messages sent in a turn.
const FIRED_PER_TURN: usize = 64;
/// Schedules looked at in a turn after the wall clock was set back.
const RECKONED_PER_TURN: usize = 64;
/// So often the wall clock is looked at while something waits for it.
const LOOK_MILLIS: u64 = 30_000;
/// Set back by more than this, the wall clock makes patterns begin anew, milliseconds.
const SET_BACK_MILLIS: u64 = 3_600_000;
/// What is refused is tried again after this.
const RETRY_MILLIS: u64 = 60_000;
const VERSION: u8 = 1;
const MILLI_NS: i64 = 1_000_000;

/// What a due time is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
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

    fn now(self, now: Now) -> u64 {
        match self {
            Clock::Age => now.age.0,
            Clock::Wall => millis(now.wall),
        }
    }
}

/// What is to come of a stream's schedules, so that no record is read before its time.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    age: Option<u64>,
    wall: Option<u64>,
    /// The latest that the wall clock was when a pattern was reckoned, milliseconds.
    latest: u64,
    /// The clock was set back, and patterns are reckoned anew, from this key on.
    reckoning: bool,
    reckoned: Vec<u8>,
}

/// A schedule as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    clock: Clock,
    /// When, in milliseconds of that clock.
    due: u64,
    /// Its message.
    sequence: Sequence,
}

/// The headers of a message that schedules.
struct Wanted<'a> {
    block: &'a [u8],
}

impl<'a> Wanted<'a> {
    /// An empty header is as good as none.
    fn value(&self, key: &str) -> Option<&'a [u8]> {
        header_block::value(self.block, key).filter(|value| !value.is_empty())
    }

    fn schedule(&self) -> Result<Option<Schedule>, ApiError> {
        let zone = header_block::value(self.block, "Nats-Schedule-Time-Zone");
        match (self.value("Nats-Schedule"), zone) {
            (Some(pattern), zone) => Schedule::parse(pattern, zone).map(Some),
            // Stock reads the zone of every message.
            (None, Some(zone)) => Schedule::parse(b"@daily", Some(zone)).map(|_| None),
            (None, None) => Ok(None),
        }
    }

    fn target(&self) -> Option<&'a [u8]> {
        self.value("Nats-Schedule-Target")
    }

    fn source(&self) -> Option<&'a [u8]> {
        self.value("Nats-Schedule-Source")
    }
}

impl Stream {
    /// What speaks against the scheduling headers of a publish, in stock's order.
    pub(crate) fn schedule_refusal(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
    ) -> Result<Option<ApiError>, StoreError> {
        if headers.is_scheduling {
            let wanted = Wanted { block: message.headers };
            let refusal = match wanted.schedule() {
                Err(_) if !self.config.allow_schedules => Some(api_error::MESSAGE_SCHEDULES_DISABLED),
                Err(refusal) => Some(refusal),
                Ok(None) => None,
                Ok(Some(_)) if !self.config.allow_schedules => Some(api_error::MESSAGE_SCHEDULES_DISABLED),
                Ok(Some(_)) => self.new_schedule_refusal(&wanted, message.subject, headers),
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
            let refusal = match headers.schedule_next {
                None => headers.scheduler.map(|_| api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID),
                Some(b"purge") => self.end_refusal(store, message.subject, headers)?,
                Some(_) => Some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID),
            };
            if refusal.is_some() {
                return Ok(refusal);
            }
        }
        Ok(headers.source.map(|_| api_error::MESSAGE_SOURCE_HDR_NOT_ALLOWED))
    }

    fn new_schedule_refusal(
        &self,
        wanted: &Wanted<'_>,
        subject: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Option<ApiError> {
        let lives = wanted.value("Nats-Schedule-TTL");
        if lives.is_some_and(|value| TimeToLive::parse(value).is_err()) {
            return Some(api_error::MESSAGE_SCHEDULES_TTL_INVALID);
        }
        if wanted.value("Nats-Schedule-Rollup").is_some_and(|value| value != b"sub") {
            return Some(api_error::MESSAGE_SCHEDULES_ROLLUP_INVALID);
        }
        if lives.is_some() && !self.config.allow_message_ttl {
            return Some(api_error::MESSAGE_TTL_DISABLED);
        }
        let captured = |subject: &[u8]| self.config.subjects.iter().any(|filter| filter.matches(subject));
        let (target, source) = (wanted.target().unwrap_or_default(), wanted.source());
        if !is_literal(target) || target == subject {
            return Some(api_error::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        if source.is_some_and(|source| source == target || source == subject || !is_literal(source)) {
            return Some(api_error::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        if !captured(target) {
            return Some(api_error::MESSAGE_SCHEDULES_TARGET_INVALID);
        }
        if source.is_some_and(|source| !captured(source)) {
            return Some(api_error::MESSAGE_SCHEDULES_SOURCE_INVALID);
        }
        let rollup = headers.rollup.filter(|rollup| !rollup.eq_ignore_ascii_case(b"sub"));
        rollup.map(|_| api_error::MESSAGE_SCHEDULES_ROLLUP_INVALID)
    }

    /// A publish that ends the schedule on the subject it names.
    fn end_refusal(
        &self,
        store: &mut dyn Store,
        subject: &[u8],
        headers: &PublishHeaders<'_>,
    ) -> Result<Option<ApiError>, StoreError> {
        let scheduler = headers.scheduler.unwrap_or_default();
        if scheduler == subject || !is_literal(scheduler) {
            return Ok(Some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID));
        }
        if !self.config.allow_schedules {
            return Ok(Some(api_error::MESSAGE_SCHEDULES_DISABLED));
        }
        let mut buffer = MessageBuffer::default();
        if let Some(state) = store.subject_state(self.id, scheduler) {
            undamaged(store, self.id, state.last, &mut buffer)?;
        }
        let is_none = |headers: &[u8]| header_block::value(headers, "Nats-Schedule").is_none_or(<[u8]>::is_empty);
        let other = buffer.get(0).is_some_and(|message| is_none(message.headers));
        Ok(other.then_some(api_error::MESSAGE_SCHEDULES_SCHEDULER_INVALID))
    }

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
        if let (Some(sequence), Ok(Some(schedule))) = (sequence, wanted.schedule())
            && let Some((clock, due, _)) = first_due(&schedule, now)
        {
            self.plan(store, now, message.subject, Plan { clock, due, sequence })?;
        }
        if wanted.value("Nats-Schedule-Next") == Some(b"purge")
            && let Some(scheduler) = wanted.value("Nats-Scheduler")
        {
            self.forget_plan(store, scheduler)?;
            if let Ok(filter) = Filter::from_bytes(scheduler) {
                self.purge(store, &filter, None, 0, removed)?;
            }
        }
        Ok(())
    }

    fn plan(&mut self, store: &mut dyn Store, now: Now, subject: &[u8], plan: Plan) -> Result<(), StoreError> {
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

    fn save_latest(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        let mut record = vec![VERSION];
        put(&mut record, self.planned.latest);
        store.put_record(&latest_key(self.id), &record)
    }

    fn forget_plan(&mut self, store: &mut dyn Store, subject: &[u8]) -> Result<(), StoreError> {
        let Some(plan) = self.plan_of(store, subject)? else { return Ok(()) };
        store.delete_record(&due_key(self.id, plan.clock, plan.due, subject))?;
        store.delete_record(&subject_key(self.id, subject))
    }

    fn plan_of(&self, store: &mut dyn Store, subject: &[u8]) -> Result<Option<Plan>, StoreError> {
        Ok(store.record(&subject_key(self.id, subject))?.and_then(|record| decode(&record).ok()))
    }

    /// Reads what is to come, at opening and after something was sent.
    pub(crate) fn load_plans(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        if !self.config.allow_schedules {
            return Ok(());
        }
        self.planned.age = first_record(store, self.id, Clock::Age)?.map(|(due, _)| due);
        self.planned.wall = first_record(store, self.id, Clock::Wall)?.map(|(due, _)| due);
        let latest = store.record(&latest_key(self.id))?;
        let latest = latest.and_then(|record| Reader::new(&record, VERSION, "schedules").ok()?.number().ok());
        self.planned.latest = latest.unwrap_or(0).max(self.planned.latest);
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
        self.planned.age.map(AgeMillis).into_iter().chain(by_wall).min()
    }
}

impl JetStream {
    /// Sends what is due; `true` when more waits for the next turn.
    pub(crate) fn fire_schedules(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<bool, StoreError> {
        let mut more = self.reckon_anew(turn, id)?;
        let mut fired = 0;
        for clock in [Clock::Age, Clock::Wall] {
            while let Some(stream) = self.streams.get(&id) {
                let planned = if clock == Clock::Age { stream.planned.age } else { stream.planned.wall };
                if planned.is_none_or(|due| due > clock.now(turn.now)) {
                    break;
                }
                if fired == FIRED_PER_TURN {
                    more = true;
                    break;
                }
                fired += 1;
                if let Some((due, subject)) = first_record(turn.store, id, clock)?
                    && due <= clock.now(turn.now)
                {
                    turn.store.delete_record(&due_key(id, clock, due, &subject))?;
                    self.fire(turn, id, (clock, due), &subject)?;
                    self.lazy_since.get_or_insert(turn.now.age);
                }
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.load_plans(turn.store)?;
                }
            }
        }
        Ok(more)
    }

    /// Sends what one schedule says, and plans its next time.
    fn fire(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        (clock, due): (Clock, u64),
        subject: &[u8],
    ) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let Some(plan) = stream.plan_of(turn.store, subject)? else { return Ok(()) };
        if (plan.clock, plan.due) != (clock, due) {
            return Ok(());
        }
        let is_last = turn.store.subject_state(id, subject).is_some_and(|state| state.last == plan.sequence);
        let mut buffer = MessageBuffer::default();
        let is_there = is_last && undamaged(turn.store, id, plan.sequence, &mut buffer)?;
        let message = buffer.get(0).filter(|_| is_there);
        let wanted = message.map(|message| Wanted { block: message.headers });
        let schedule = wanted.as_ref().and_then(|wanted| wanted.schedule().ok().flatten());
        let (Some(message), Some(wanted), Some(schedule)) = (message, wanted, schedule) else {
            return turn.store.delete_record(&subject_key(id, subject));
        };
        let target = wanted.target().unwrap_or_default();
        let mut from_source = MessageBuffer::default();
        if let Some(state) = wanted.source().and_then(|source| turn.store.subject_state(id, source)) {
            undamaged(turn.store, id, state.last, &mut from_source)?;
        }
        let next = if schedule.repeats() { next_due(&schedule, &plan, turn.now) } else { None };
        let content = from_source.get(0).unwrap_or(message);
        let headers = sent_headers(&wanted, content.headers, subject, &schedule, next.map(|(_, _, at)| at));
        let mut renamed = Vec::new();
        let is_renamed = self.rename(id, target, &mut renamed).unwrap_or(false);
        let target = if is_renamed { &renamed[..] } else { target };
        let sent = Incoming { subject: target, headers: &headers, payload: content.payload };
        let verdict = self.append_own(turn, id, &sent)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        match (next, verdict) {
            (Some((clock, due, _)), _) => stream.plan(turn.store, turn.now, subject, Plan { clock, due, ..plan }),
            // There was no room for it, or it is too large now.
            (None, Verdict::Refused(_)) => {
                let due = plan.clock.now(turn.now) + RETRY_MILLIS;
                stream.plan(turn.store, turn.now, subject, Plan { due, ..plan })
            }
            (None, _) => turn.store.delete_record(&subject_key(id, subject)),
        }
    }

    /// Where the wall clock was set back, patterns are reckoned anew in steps; `true` when more waits.
    fn reckon_anew(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<bool, StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(false) };
        let wall = millis(turn.now.wall);
        if wall.saturating_add(SET_BACK_MILLIS) < stream.planned.latest {
            stream.planned.latest = wall;
            stream.save_latest(turn.store)?;
            stream.planned.reckoning = true;
        }
        if !stream.planned.reckoning {
            return Ok(false);
        }
        let from = std::mem::take(&mut stream.planned.reckoned);
        let (mut keys, prefix) = (Vec::new(), clock_prefix(id, Clock::Wall));
        turn.store.scan_records(&prefix, if from.is_empty() { &prefix } else { &from }, &mut |key, _| {
            keys.push(key.to_vec());
            keys.len() < RECKONED_PER_TURN
        })?;
        // What is moved goes before where this goes on.
        for (due, subject) in keys.iter().filter_map(|key| due_parts(key)) {
            self.reckon(turn, id, due, &subject)?;
        }
        let more = keys.len() == RECKONED_PER_TURN;
        self.lazy_since.get_or_insert(turn.now.age);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.planned.reckoning = more;
            stream.planned.reckoned = keys.pop().filter(|_| more).unwrap_or_default();
            if more {
                stream.planned.reckoned.push(0);
            }
            stream.load_plans(turn.store)?;
        }
        Ok(more)
    }

    /// Moves a pattern's next time to where the clock says it is.
    fn reckon(&mut self, turn: &mut Context<'_>, id: StreamId, due: u64, subject: &[u8]) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(plan) = stream.plan_of(turn.store, subject)?.filter(|plan| plan.due == due) else { return Ok(()) };
        let mut buffer = MessageBuffer::default();
        let is_there = undamaged(turn.store, id, plan.sequence, &mut buffer)?;
        let block = buffer.get(0).filter(|_| is_there).map(|message| message.headers);
        let schedule = block.and_then(|block| Wanted { block }.schedule().ok().flatten());
        let Some(schedule @ Schedule::Cron(..)) = schedule else { return Ok(()) };
        match first_due(&schedule, turn.now) {
            Some((clock, earlier, _)) if earlier < due => {
                stream.plan(turn.store, turn.now, subject, Plan { clock, due: earlier, ..plan })
            }
            _ => Ok(()),
        }
    }
}

/// The headers of what is sent: those of its content, without what was meant for the schedule, and which schedule it comes from.
fn sent_headers(
    wanted: &Wanted<'_>,
    content: &[u8],
    scheduler: &[u8],
    schedule: &Schedule,
    next: Option<Timestamp>,
) -> Vec<u8> {
    let mut block = header_block::without(content, |key| {
        key.starts_with(b"Nats-Schedule")
            || key.starts_with(b"Nats-Expected-")
            || matches!(key, b"Nats-Msg-Id" | b"Nats-TTL" | b"Nats-Rollup")
    });
    header_block::add(&mut block, "Nats-Scheduler", scheduler);
    let next = next.map_or_else(|| "purge".to_owned(), |next| schedule.show(next));
    header_block::add(&mut block, "Nats-Schedule-Next", next.as_bytes());
    for (from, to) in [("Nats-Schedule-TTL", "Nats-TTL"), ("Nats-Schedule-Rollup", "Nats-Rollup")] {
        if let Some(value) = wanted.value(from) {
            header_block::add(&mut block, to, value);
        }
    }
    block
}

fn is_literal(subject: &[u8]) -> bool {
    Filter::from_bytes(subject).is_ok_and(|filter| filter.is_literal())
}

/// Whole milliseconds since 1970.
fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.0.div_euclid(MILLI_NS)).unwrap_or(0)
}

/// The first millisecond that is not before.
fn millis_up(time: Timestamp) -> u64 {
    millis(Timestamp(time.0.saturating_add(MILLI_NS - 1)))
}

/// When a schedule is due from now on: by which clock, in its milliseconds, and as a wall time.
fn first_due(schedule: &Schedule, now: Now) -> Option<(Clock, u64, Timestamp)> {
    let at = schedule.next(now.wall)?;
    Some(match schedule {
        Schedule::Every(_) => (Clock::Age, now.age.0 + millis_up(Timestamp(at.0.saturating_sub(now.wall.0))), at),
        Schedule::At(_) | Schedule::Cron(..) => (Clock::Wall, millis_up(at), at),
    })
}

/// When a schedule is due again that is sent now. What was missed meanwhile is not made up for.
fn next_due(schedule: &Schedule, plan: &Plan, now: Now) -> Option<(Clock, u64, Timestamp)> {
    match schedule {
        Schedule::Every(interval) if now.age.0 < plan.due.saturating_add(*interval) => {
            let due = plan.due + interval;
            let interval = i64::try_from(*interval).ok()?.checked_mul(MILLI_NS)?;
            let late = i64::try_from(now.age.0 - plan.due).ok()?.checked_mul(MILLI_NS)?;
            Some((Clock::Age, due, Timestamp(to_second(Timestamp(now.wall.0 - late)).0.saturating_add(interval))))
        }
        Schedule::Cron(..) => {
            let due = Timestamp(i64::try_from(plan.due).ok()?.saturating_mul(MILLI_NS));
            let next =
                schedule.next(due).filter(|next| *next >= now.wall).or_else(|| schedule.next(to_second(now.wall)))?;
            Some((Clock::Wall, millis_up(next), next))
        }
        _ => first_due(schedule, now),
    }
}

/// What a stream's records of one kind begin with.
fn prefix_of(stream: StreamId, kind: u8) -> Vec<u8> {
    [&[record_space::SCHEDULE][..], &stream.0.to_be_bytes(), &[kind]].concat()
}

fn clock_prefix(stream: StreamId, clock: Clock) -> Vec<u8> {
    prefix_of(stream, clock.letter())
}

fn due_key(stream: StreamId, clock: Clock, due: u64, subject: &[u8]) -> Vec<u8> {
    [&clock_prefix(stream, clock)[..], &due.to_be_bytes(), subject].concat()
}

fn subject_key(stream: StreamId, subject: &[u8]) -> Vec<u8> {
    [&prefix_of(stream, b's')[..], subject].concat()
}

fn latest_key(stream: StreamId) -> Vec<u8> {
    prefix_of(stream, b'l')
}

/// Due time and subject of a key.
fn due_parts(key: &[u8]) -> Option<(u64, Vec<u8>)> {
    let due = u64::from_be_bytes(key.get(6..14)?.try_into().ok()?);
    Some((due, key.get(14..)?.to_vec()))
}

fn first_record(store: &mut dyn Store, id: StreamId, clock: Clock) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
    let (mut found, prefix) = (None, clock_prefix(id, clock));
    store.scan_records(&prefix, &prefix, &mut |key, _| {
        found = due_parts(key);
        false
    })?;
    Ok(found)
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
