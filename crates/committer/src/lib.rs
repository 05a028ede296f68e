//! Takes the commands that wait, applies them, commits once, releases what waited.
//!
//! One [`Committer::turn`] is: take what waits (never wait for more), apply it, let time act, and, if anything of it must be durable, commit
//! once. Outcomes, deliveries and events come out only after that; so one flush of the disk serves everybody who waited.
//!
//! Changes that nobody waits for (where a consumer stands, an acknowledgement without reply) are committed with the next that somebody waits
//! for, at the latest after 100 ms: a crash in between repeats deliveries, it loses nothing.
//!
//! It owns no thread and no clock: the caller passes the time, and makes and measures the commit.

use jetstream::JetStream;
use jetstream::api_error;
use jetstream::command::{Answer, Batch, Command, Event, Outcome, Turn};
use jetstream::identity::Now;
use jetstream::store::{Store, StoreError};

/// Commands of one commit at most, unless a single batch has more.
pub const MOST_COMMANDS: usize = 4096;
/// Bytes of one commit at most, unless a single batch has more.
pub const MOST_BYTES: usize = 4 << 20;

/// Commits the store, and says how long it took, in microseconds: `store.commit()` between two readings of a clock. Meanwhile JetStream may answer what
/// does not wait for it: [`JetStream::take_early`], [`JetStream::answer_early`].
pub type Sync<'a> = &'a mut dyn FnMut(&mut dyn Store, &mut JetStream) -> Result<u64, StoreError>;

/// The turn of a store thread.
#[derive(Debug, Default)]
pub struct Committer {
    /// Batches of this turn with their outcomes, which nobody may see yet.
    held: Vec<(Batch, Vec<Outcome>)>,
    /// Memory for outcomes, given back by [`Committer::recycle`].
    spare: Vec<Vec<Outcome>>,
}

impl Committer {
    /// Takes batches from the front of `inbox` up to the caps, and puts what came of them into `turn`, which should be empty (its memory is
    /// used again). What is left in `inbox` is for the next turn. Call it also with an empty inbox when [`Turn::wake_at`] has come.
    ///
    /// # Errors
    /// When the store fails. Then nothing of this turn has happened: `turn` holds the batches with refusals, no deliveries and no events, and the
    /// caller must drop store and JetStream and load both again.
    pub fn turn(
        &mut self,
        now: Now,
        inbox: &mut Vec<Batch>,
        turn: &mut Turn,
        jetstream: &mut JetStream,
        store: &mut dyn Store,
        sync: Sync<'_>,
    ) -> Result<(), StoreError> {
        let taken = how_many(inbox);
        for batch in inbox.drain(..taken) {
            self.held.push((batch, self.spare.pop().unwrap_or_default()));
        }
        match self.apply_and_commit(now, turn, jetstream, store, sync) {
            Ok(()) => {
                turn.done.append(&mut self.held);
                turn.wake_at = jetstream.next_wake(now);
                Ok(())
            }
            Err(error) => {
                self.refuse_all(turn);
                Err(error)
            }
        }
    }

    /// Takes back the memory of outcomes that were read.
    pub fn recycle(&mut self, mut outcomes: Vec<Outcome>) {
        if self.spare.len() < 16 {
            outcomes.clear();
            self.spare.push(outcomes);
        }
    }

    fn apply_and_commit(
        &mut self,
        now: Now,
        turn: &mut Turn,
        jetstream: &mut JetStream,
        store: &mut dyn Store,
        sync: Sync<'_>,
    ) -> Result<(), StoreError> {
        let (deliveries, events) = (&mut turn.deliveries, &mut turn.events);
        for (batch, outcomes) in &mut self.held {
            jetstream.apply(store, now, batch, outcomes, deliveries, events)?;
        }
        jetstream.tick(store, now, deliveries, events)?;
        if jetstream.needs_commit(now) {
            jetstream.before_commit(store, now)?;
            let micros = sync(store, jetstream)?;
            jetstream.committed(micros);
        }
        let early = jetstream.take_early();
        if !early.is_empty() {
            events.push(Event::Early(early));
        }
        Ok(())
    }

    fn refuse_all(&mut self, turn: &mut Turn) {
        turn.deliveries.arena.clear();
        turn.deliveries.entries.clear();
        turn.events.clear();
        for (batch, mut outcomes) in self.held.drain(..) {
            outcomes.clear();
            outcomes.extend(batch.commands.iter().map(refusal));
            turn.done.push((batch, outcomes));
        }
    }
}

/// The outcomes of a batch that no store can take at the moment: each command is worth trying again.
#[must_use]
pub fn refusals(batch: &Batch) -> Vec<Outcome> {
    batch.commands.iter().map(refusal).collect()
}

/// How many batches from the front go into one commit: at least one, if there is one.
fn how_many(inbox: &[Batch]) -> usize {
    let (mut commands, mut bytes) = (0, 0);
    let fits = |batch: &&Batch| {
        let first = commands == 0 && bytes == 0;
        commands += batch.commands.len();
        bytes += batch.arena.len();
        first || (commands <= MOST_COMMANDS && bytes <= MOST_BYTES)
    };
    inbox.iter().take_while(fits).count()
}

/// The outcome of a command that the store could not take: worth trying again.
fn refusal(command: &Command) -> Outcome {
    match command {
        Command::Ack(_) => Outcome::Acknowledged { confirm: false },
        Command::Request(_) => Outcome::Answer(Box::new(Answer::Error(api_error::CLUSTER_NOT_AVAIL))),
        Command::Append(_) | Command::Take(_) | Command::Pull(_) | Command::Record { .. } | Command::Restore { .. } => {
            Outcome::Refused(api_error::CLUSTER_NOT_AVAIL)
        }
        _ => Outcome::Done,
    }
}

#[cfg(test)]
mod tests {
    use jetstream::command::{Append, Batch, Command, Event, Outcome, Request, Ticket, Turn};
    use jetstream::config::StreamConfig;
    use jetstream::identity::{AgeMillis, Now, StreamId, Timestamp};
    use jetstream::store::memory::MemoryStore;
    use jetstream::store::{Store, StoreError};
    use jetstream::{JetStream, Limits};

    use super::{Committer, MOST_COMMANDS};

    fn now(age: u64) -> Now {
        Now { wall: Timestamp(age as i64 * 1_000_000), age: AgeMillis(age) }
    }

    fn commit(store: &mut dyn Store, _: &mut JetStream) -> Result<u64, StoreError> {
        store.commit().map(|()| 100)
    }

    /// A loaded JetStream with one stream `S`.
    fn with_stream(store: &mut MemoryStore) -> JetStream {
        let (mut jetstream, _) = JetStream::load(store, now(0), Limits::default()).expect("loads");
        let mut batch = Batch::default();
        let config = Box::new(StreamConfig::named("S"));
        batch.commands.push(Command::Request(Box::new(Request::StreamCreate { config })));
        let mut turn = Turn::default();
        Committer::default()
            .turn(now(0), &mut vec![batch], &mut turn, &mut jetstream, store, &mut commit)
            .expect("commits");
        jetstream
    }

    fn appends(count: usize) -> Batch {
        let mut batch = Batch::default();
        for number in 0..count {
            let append = Append {
                stream: StreamId::FIRST,
                ticket: Ticket(number as u64, 0),
                subject: batch.add(b"S"),
                payload: batch.add(b"x"),
                ..Append::default()
            };
            batch.commands.push(Command::Append(append));
        }
        batch
    }

    #[test]
    fn everything_that_waits_is_committed_once() {
        let mut store = MemoryStore::default();
        let mut jetstream = with_stream(&mut store);
        let (before, mut turn) = (store.commits(), Turn::default());
        let mut inbox = vec![appends(3), appends(4)];
        Committer::default()
            .turn(now(1), &mut inbox, &mut turn, &mut jetstream, &mut store, &mut commit)
            .expect("commits");
        assert_eq!((turn.done.len(), store.commits() - before), (2, 1));
        let sequences: Vec<u64> = turn.done.iter().flat_map(|(_, outcomes)| outcomes).map(sequence).collect();
        assert_eq!(sequences, [1, 2, 3, 4, 5, 6, 7]);
    }

    fn sequence(outcome: &Outcome) -> u64 {
        match outcome {
            Outcome::Appended { sequence, .. } => sequence.0,
            _ => 0,
        }
    }

    #[test]
    fn a_failing_store_releases_no_outcome_delivery_or_event() {
        let mut store = MemoryStore::with_crashes();
        let mut jetstream = with_stream(&mut store);
        store.fail_next_commit();
        let (mut turn, mut inbox) = (Turn::default(), vec![appends(3)]);
        let failed = Committer::default().turn(now(1), &mut inbox, &mut turn, &mut jetstream, &mut store, &mut commit);
        assert!(failed.is_err());
        let outcomes: Vec<&Outcome> = turn.done.iter().flat_map(|(_, outcomes)| outcomes).collect();
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(error) if error.code == 503)));
        assert!(turn.deliveries.entries.is_empty() && turn.events.is_empty());

        store.crash();
        let (mut again, events) = JetStream::load(&mut store, now(2), Limits::default()).expect("loads");
        assert!(matches!(&events[..], [Event::StreamUp { state, .. }] if state.messages == 0));
        let (mut turn, mut inbox) = (Turn::default(), vec![appends(1)]);
        Committer::default()
            .turn(now(3), &mut inbox, &mut turn, &mut again, &mut store, &mut commit)
            .expect("works again");
        assert_eq!(sequence(&turn.done[0].1[0]), 1);
    }

    #[test]
    fn what_exceeds_the_caps_waits_for_the_next_turn() {
        let mut store = MemoryStore::default();
        let mut jetstream = with_stream(&mut store);
        let mut inbox = vec![appends(MOST_COMMANDS), appends(1), appends(1)];
        let (mut committer, mut turn) = (Committer::default(), Turn::default());
        committer.turn(now(1), &mut inbox, &mut turn, &mut jetstream, &mut store, &mut commit).expect("commits");
        assert_eq!((turn.done.len(), inbox.len()), (1, 2));
        committer.turn(now(1), &mut inbox, &mut turn, &mut jetstream, &mut store, &mut commit).expect("commits");
        assert_eq!((turn.done.len(), inbox.len()), (3, 0));
    }

    #[test]
    fn nothing_to_make_durable_costs_no_commit() {
        let mut store = MemoryStore::default();
        let mut jetstream = with_stream(&mut store);
        let before = store.commits();
        let mut turn = Turn::default();
        Committer::default()
            .turn(now(1), &mut Vec::new(), &mut turn, &mut jetstream, &mut store, &mut commit)
            .expect("no commit");
        assert_eq!(store.commits(), before);
    }
}
