//! Schedules whose time has come: what is sent, and when the next time is. How they are kept is [`crate::schedule::scheduling`].

use crate::header_block;
use crate::identity::{Now, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::schedule::scheduling::{
    Clock, MILLI_NS, Plan, SET_BACK_MILLIS, Wanted, clock_prefix, due_key, due_parts, first_due, first_record, millis,
    millis_up, subject_key,
};
use crate::schedule::{Schedule, to_second};
use crate::store::{MessageBuffer, StoreError, undamaged};
use crate::stream::mapping::draw;
use crate::stream::{Incoming, Verdict};

/// Messages sent in a turn.
const FIRED_PER_TURN: usize = 64;
/// Schedules looked at in a turn after the wall clock was set back.
const RECKONED_PER_TURN: usize = 64;
/// What is refused is tried again after this.
const RETRY_MILLIS: u64 = 60_000;

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
        let is_renamed = self.rename(id, target, draw(turn.now.wall, plan.sequence.0), &mut renamed).unwrap_or(false);
        let target = if is_renamed { &renamed[..] } else { target };
        let sent = Incoming { subject: target, headers: &headers, payload: content.payload, taken: None };
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
            stream.planned.reckoning = Some(Vec::new());
        }
        let Some(from) = stream.planned.reckoning.clone() else { return Ok(false) };
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
            // In the transaction that holds what was moved: a crash leaves both or neither.
            stream.planned.reckoning = keys.pop().filter(|_| more).map(|last| [&last[..], &[0]].concat());
            stream.save_latest(turn.store)?;
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

#[cfg(test)]
mod tests {
    use super::{JetStream, RECKONED_PER_TURN};
    use crate::Limits;
    use crate::command::{Append, Batch, Command, Deliveries, Request};
    use crate::config::StreamConfig;
    use crate::identity::{AgeMillis, Now, StreamId, Timestamp};
    use crate::schedule::scheduling::{Clock, clock_prefix, due_parts};
    use crate::store::Store;
    use crate::store::memory::MemoryStore;
    use subject::Filter;

    const MANY: usize = RECKONED_PER_TURN * 3 + 7;
    const RIGHT: i64 = 1_767_225_600_000;
    const YEARS_AHEAD: i64 = 4_000_000_000_000;

    fn at(wall: i64, age: u64) -> Now {
        Now { wall: Timestamp(wall * 1_000_000), age: AgeMillis(age) }
    }

    fn turn(jetstream: &mut JetStream, store: &mut MemoryStore, now: Now, batch: &Batch) {
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
    }

    fn open(store: &mut MemoryStore, now: Now) -> JetStream {
        JetStream::load(store, now, Limits::default()).expect("loads").0
    }

    /// How many patterns wait for a time that is years ahead, and how many there are.
    fn waiting(store: &mut MemoryStore) -> (usize, usize) {
        let (mut all, prefix) = (Vec::new(), clock_prefix(StreamId::FIRST, Clock::Wall));
        store
            .scan_records(&prefix, &prefix, &mut |key, _| {
                all.extend(due_parts(key).map(|(due, _)| due));
                true
            })
            .expect("reads");
        (all.iter().filter(|due| **due > YEARS_AHEAD as u64).count(), all.len())
    }

    /// A store whose patterns were planned while the clock was years ahead.
    fn planned() -> MemoryStore {
        let (mut store, ahead) = (MemoryStore::default(), at(YEARS_AHEAD, 1000));
        let mut jetstream = open(&mut store, ahead);
        let mut batch = Batch::default();
        let subjects = vec![Filter::parse("s.>").expect("a filter")];
        let config = StreamConfig { subjects, allow_schedules: true, allow_rollup: true, ..StreamConfig::named("S") };
        batch.commands.push(Command::Request(Box::new(Request::StreamCreate { config: Box::new(config) })));
        for number in 0..MANY {
            let block = b"NATS/1.0\r\nNats-Schedule: 0 0 * * * *\r\nNats-Schedule-Target: s.t\r\n\r\n";
            let (subject, headers) = (batch.add(format!("s.{number}").as_bytes()), batch.add(block));
            let append = Append { stream: StreamId::FIRST, subject, headers, ..Append::default() };
            batch.commands.push(Command::Append(append));
        }
        turn(&mut jetstream, &mut store, ahead, &batch);
        assert_eq!(waiting(&mut store), (MANY, MANY));
        store
    }

    /// A process that ends half-way, after any number of steps, leaves none of the patterns silent for years.
    #[test]
    fn patterns_are_reckoned_anew_to_the_end_whatever_ends_half_way() {
        let steps = MANY / RECKONED_PER_TURN + 1;
        for before_the_crash in 1..=steps {
            let (mut store, mut age) = (planned(), 40_000);
            let mut jetstream = open(&mut store, at(YEARS_AHEAD, 1000));
            for _ in 0..before_the_crash {
                turn(&mut jetstream, &mut store, at(RIGHT, age), &Batch::default());
                age += 1;
            }
            let left = MANY.saturating_sub(before_the_crash * RECKONED_PER_TURN);
            assert_eq!(waiting(&mut store), (left, MANY), "after {before_the_crash} steps");
            let mut jetstream = open(&mut store, at(RIGHT, age));
            for _ in 0..steps {
                age += 1;
                turn(&mut jetstream, &mut store, at(RIGHT, age), &Batch::default());
            }
            assert_eq!(waiting(&mut store), (0, MANY), "after a crash behind {before_the_crash} steps");
        }
    }
}
