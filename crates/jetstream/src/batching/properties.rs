//! Random stories of atomic and fast batches among other publishes, with pauses, restarts and crashes.
//!
//! What must hold: of an atomic batch all messages are stored, one behind the other, or none; what was acknowledged is there; a batch is refused only
//! when something of it was missing; what waits for a commit is counted, and nothing of it is left when every batch is over.

use std::collections::BTreeMap;

use proptest::prelude::{Just, Strategy, prop, proptest};

use crate::batching::BatchAnswer;
use crate::command::{Append, Batch, Command, Deliveries, Event, Outcome, Request};
use crate::config::StreamConfig;
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{MessageBuffer, Store};
use crate::{JetStream, Limits};
use subject::Filter;

#[derive(Clone, Debug)]
enum Step {
    /// The next message of a batch; or one further on, and the commit.
    Atomic {
        batch: u8,
        gap: bool,
        commit: u8,
    },
    Fast {
        batch: u8,
        gap: bool,
        operation: u8,
    },
    Plain,
    Pass(u16),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let rarely = || proptest::bool::weighted(0.05);
    proptest::prop_oneof![
        20 => (0..4u8, rarely(), 0..8u8).prop_map(|(batch, gap, commit)| Step::Atomic { batch, gap, commit }),
        10 => (0..3u8, rarely(), 0..5u8).prop_map(|(batch, gap, operation)| Step::Fast { batch, gap, operation }),
        4 => Just(Step::Plain),
        2 => (1..12_000u16).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
    ]
}

/// What the sender of a batch knows.
#[derive(Clone, Copy, Debug, Default)]
struct Sender {
    /// Which of its batches this is: stands in each payload.
    generation: u32,
    sent: u64,
    /// Something was left out.
    broken: bool,
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    age: u64,
    atomic: [Sender; 4],
    fast: [Sender; 3],
    /// Sequence of the last message of each batch that was acknowledged, and how many it has, by its name in payloads.
    committed: BTreeMap<String, (u64, u64)>,
}

impl World {
    fn new() -> World {
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let mut world = World {
            store,
            jetstream,
            age: 1,
            atomic: Default::default(),
            fast: Default::default(),
            committed: BTreeMap::new(),
        };
        let subjects = vec![Filter::parse("s.*").expect("filter")];
        let config = StreamConfig { subjects, allow_atomic: true, allow_batched: true, ..StreamConfig::named("S") };
        let request = Request::StreamCreate { config: Box::new(config) };
        world.turn(&Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() });
        world
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) }
    }

    fn turn(&mut self, batch: &Batch) -> Option<Outcome> {
        let now = self.now();
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::<Event>::new());
        let applied = self.jetstream.apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events);
        applied.expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        outcomes.pop()
    }

    fn publish(&mut self, payload: &str, headers: &str, reply: &str) -> Option<Outcome> {
        let mut batch = Batch::default();
        let block = if headers.is_empty() { String::new() } else { format!("NATS/1.0\r\n{headers}\r\n") };
        let append = Append {
            stream: StreamId::FIRST,
            subject: batch.add(b"s.1"),
            headers: batch.add(block.as_bytes()),
            payload: batch.add(payload.as_bytes()),
            reply: batch.add(reply.as_bytes()),
            ..Append::default()
        };
        batch.commands.push(Command::Append(append));
        self.turn(&batch)
    }

    fn atomic(&mut self, which: u8, gap: bool, commit: u8) {
        let sender = &mut self.atomic[which as usize];
        sender.sent += 1 + u64::from(gap);
        sender.broken |= gap;
        let Sender { generation, sent, broken } = *sender;
        let name = format!("a{which}.{generation}");
        let end = ["1", "eob"].get(commit as usize);
        let mut headers = format!("Nats-Batch-Id: b{which}\r\nNats-Batch-Sequence: {sent}\r\n");
        headers.extend(end.map(|end| format!("Nats-Batch-Commit: {end}\r\n")));
        let outcome = self.publish(&format!("{name} {sent}"), &headers, "in");
        let answers = match outcome {
            Some(Outcome::Batch { answers, .. }) => answers,
            Some(Outcome::Refused(_)) => {
                // Nothing of it stays, and the next message begins another one.
                self.atomic[which as usize] = Sender { generation: generation + 1, ..Sender::default() };
                return;
            }
            other => panic!("{other:?}"),
        };
        match &answers[..] {
            [BatchAnswer::Staged] => assert!(end.is_none() && !broken),
            [BatchAnswer::Committed { sequence, count, .. }] => {
                assert!(end.is_some() && !broken);
                assert_eq!(*count, sent - u64::from(end == Some(&"eob")));
                self.committed.insert(name, (sequence.0, *count));
                self.atomic[which as usize] = Sender { generation: generation + 1, ..Sender::default() };
            }
            other => panic!("{other:?}"),
        }
    }

    fn fast(&mut self, which: u8, gap: bool, operation: u8) {
        let sender = &mut self.fast[which as usize];
        let Sender { generation, sent, .. } = *sender;
        let sequence = sent + 1 + u64::from(gap);
        let operation = match operation {
            3 if sequence > 1 => 3,
            2 => 2,
            _ => u8::from(sequence > 1),
        };
        sender.sent = sequence;
        let name = format!("f{which}.{generation}");
        let reply = format!("in.{name}.3.fail.{sequence}.{operation}.$FI").replace(&name, &name.replace('.', "-"));
        let answers = match self.publish(&format!("{name} {sequence}"), "", &reply) {
            Some(Outcome::Batch { answers, .. }) => answers,
            Some(Outcome::Refused(_)) => Vec::from([BatchAnswer::Staged]),
            other => panic!("{other:?}"),
        };
        for answer in answers {
            match answer {
                BatchAnswer::Flow { sequence: told, .. } => assert!(told <= sequence && !gap),
                BatchAnswer::Gap { expected, current } => assert_eq!((expected, current), (sent + 1, sequence)),
                BatchAnswer::Committed { sequence, count, .. } => {
                    _ = self.committed.insert(name.clone(), (sequence.0, count));
                    self.fast[which as usize] = Sender { generation: generation + 1, ..Sender::default() };
                }
                _ => self.fast[which as usize] = Sender { generation: generation + 1, ..Sender::default() },
            }
        }
    }

    fn reopen(&mut self, crash: bool) {
        let now = self.now();
        if crash {
            self.store.crash();
        } else {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
        }
        self.jetstream = JetStream::load(&mut self.store, now, Limits::default()).expect("loads").0;
    }

    /// Batches as they are stored: sequence and number of each message.
    fn check(&mut self) {
        let mut found: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        let mut buffer = MessageBuffer::default();
        let last = self.store.state(StreamId::FIRST).last;
        for sequence in 1..=last.0 {
            self.store.message(StreamId::FIRST, Sequence(sequence), &mut buffer).expect("reads");
        }
        for message in buffer.iter() {
            let text = String::from_utf8_lossy(message.payload).into_owned();
            let Some((name, number)) = text.split_once(' ') else { continue };
            found.entry(name.into()).or_default().push((message.sequence.0, number.parse().expect("a number")));
        }
        for (name, messages) in &found {
            let numbers: Vec<u64> = messages.iter().map(|(_, number)| *number).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{name}");
            if name.starts_with('a') {
                let (first, last) = (messages[0].0, messages[messages.len() - 1].0);
                assert_eq!(last - first + 1, messages.len() as u64, "{name} is not in one piece");
                assert!(self.committed.contains_key(name), "{name} was not committed");
            }
        }
        for (name, (last, count)) in &self.committed {
            let messages = found.get(name).map_or(&[][..], |messages| messages);
            assert_eq!(messages.len() as u64, *count, "{name}");
            assert_eq!(messages.last().map_or(0, |(sequence, _)| *sequence), *last, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

    #[test]
    fn batches_are_there_whole_or_not_at_all(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Atomic { batch, gap, commit } => world.atomic(batch, gap, commit),
                Step::Fast { batch, gap, operation } => world.fast(batch, gap, operation),
                Step::Plain => drop(world.publish("single", "", "")),
                Step::Pass(millis) => {
                    world.age += u64::from(millis);
                    world.turn(&Batch::default());
                }
                Step::Restart => world.reopen(false),
                Step::Crash => world.reopen(true),
            }
        }
        world.check();
        for _ in 0..3 {
            world.age += 11_000;
            world.turn(&Batch::default());
        }
        assert_eq!(world.jetstream.batches.staged(), (0, 0));
        world.reopen(true);
        world.check();
    }
}
