//! Random publishes against the plainest model of a stream: limits, expectations, ids and ages give the same verdicts and leave the same messages,
//! and what was removed is accounted for.

use proptest::prelude::{Strategy, any, prop, proptest};

use crate::command::{Append, Batch, Command, Deliveries, Event, Outcome, Request};
use crate::config::{Discard, StreamConfig};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::{JetStream, Limits};
use subject::Filter;

const MAX_AGE: u64 = 500;
const WINDOW: u64 = 200;

#[derive(Clone, Debug)]
struct Publish {
    subject: u8,
    id: Option<u8>,
    /// Expected last sequence, as a distance from the right one.
    expects: Option<u8>,
    passes: u8,
    restarts: bool,
}

fn publish() -> impl Strategy<Value = Publish> {
    let expects = prop::option::weighted(0.3, 0..2u8);
    let id = prop::option::weighted(0.5, 0..20u8);
    (0..4u8, id, expects, 0..60u8, prop::bool::weighted(0.05))
        .prop_map(|(subject, id, expects, passes, restarts)| Publish { subject, id, expects, passes, restarts })
}

fn config(max_messages: i64, per_subject: i64, discard_new: bool) -> StreamConfig {
    StreamConfig {
        subjects: Filter::parse("s.*").into_iter().collect(),
        max_messages,
        max_messages_per_subject: per_subject,
        max_age_ns: MAX_AGE * 1_000_000,
        duplicate_window_ns: WINDOW * 1_000_000,
        discard: if discard_new { Discard::New } else { Discard::Old },
        ..StreamConfig::named("S")
    }
}

/// The stream as a list, and what its publishers were told.
#[derive(Default)]
struct Model {
    /// Sequence, subject, age.
    messages: Vec<(u64, u8, u64)>,
    /// Id, sequence, age.
    ids: Vec<(u8, u64, u64)>,
    last: u64,
}

impl Model {
    /// The sequence that is answered; `None`: refused.
    fn publish(&mut self, publish: &Publish, config: &StreamConfig, age: u64) -> Option<u64> {
        if publish.expects.is_some_and(|distance| distance != 0) {
            return None;
        }
        let known = self.ids.iter().find(|(id, _, stored)| Some(*id) == publish.id && stored + WINDOW >= age);
        if let Some((_, sequence, _)) = known {
            return Some(*sequence);
        }
        let on_subject = self.messages.iter().filter(|(_, subject, _)| *subject == publish.subject).count() as i64;
        let replaces = on_subject >= config.max_messages_per_subject;
        if config.discard == Discard::New && self.messages.len() as i64 >= config.max_messages && !replaces {
            return None;
        }
        self.last += 1;
        self.messages.push((self.last, publish.subject, age));
        if replaces {
            let oldest = self.messages.iter().position(|(_, subject, _)| *subject == publish.subject);
            self.messages.remove(oldest.expect("one"));
        }
        self.ids.retain(|(id, ..)| Some(*id) != publish.id);
        self.ids.extend(publish.id.map(|id| (id, self.last, age)));
        Some(self.last)
    }

    fn settle(&mut self, config: &StreamConfig, age: u64) {
        self.messages.retain(|(_, _, stored)| stored + MAX_AGE > age);
        let over = self.messages.len().saturating_sub(config.max_messages as usize);
        self.messages.drain(..over);
    }
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    age: u64,
    removed: u64,
}

impl World {
    fn turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let now = Now { wall: Timestamp(5), age: AgeMillis(self.age) };
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let applied = self.jetstream.apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events);
        applied.expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        for event in events {
            if let Event::Removed { messages, first, last, .. } = event {
                assert!(first <= last && messages <= last.0 - first.0 + 1);
                self.removed += messages;
            }
        }
        outcomes
    }

    fn publish(&mut self, publish: &Publish) -> Option<u64> {
        let mut batch = Batch::default();
        let mut headers = String::from("NATS/1.0\r\n");
        if let Some(id) = publish.id {
            headers.push_str(&format!("Nats-Msg-Id: {id}\r\n"));
        }
        if let Some(distance) = publish.expects {
            let last = self.store.state(StreamId::FIRST).last.0 + u64::from(distance);
            headers.push_str(&format!("Nats-Expected-Last-Sequence: {last}\r\n"));
        }
        headers.push_str("\r\n");
        let subject = batch.add(format!("s.{}", publish.subject).as_bytes());
        let headers = batch.add(headers.as_bytes());
        batch.commands.push(Command::Append(Append { stream: StreamId::FIRST, subject, headers, ..Append::default() }));
        match self.turn(&batch).pop() {
            Some(Outcome::Appended { sequence, .. }) => Some(sequence.0),
            _ => None,
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn a_stream_equals_a_list(
        publishes in prop::collection::vec(publish(), 0..120),
        max_messages in 1..20i64,
        per_subject in 1..6i64,
        discard_new in any::<bool>(),
    ) {
        let config = config(max_messages, per_subject, discard_new);
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let mut world = World { store, jetstream, age: 0, removed: 0 };
        let create = Request::StreamCreate { config: Box::new(config.clone()) };
        world.turn(&Batch { commands: vec![Command::Request(Box::new(create))], ..Batch::default() });
        let mut model = Model::default();
        for publish in &publishes {
            world.age += u64::from(publish.passes);
            world.turn(&Batch::default());
            model.settle(&config, world.age);
            if publish.restarts {
                let now = Now { wall: Timestamp(5), age: AgeMillis(world.age) };
                world.jetstream = JetStream::load(&mut world.store, now, Limits::default()).expect("loads").0;
                // Ids live in the rows of their messages: those that a limit removed are forgotten with them.
                let kept = |sequence: u64| model.messages.iter().any(|(known, ..)| *known == sequence);
                model.ids = model.ids.iter().copied().filter(|(_, sequence, _)| kept(*sequence)).collect();
            }
            assert_eq!(world.publish(publish), model.publish(publish, &config, world.age), "{publish:?}");
            model.settle(&config, world.age);
            let state = world.store.state(StreamId::FIRST);
            assert_eq!((state.messages, state.last), (model.messages.len() as u64, Sequence(model.last)));
            assert_eq!(model.last, state.messages + world.removed, "everything stored is held or was removed");
            let first = model.messages.first().map_or(model.last + 1, |(sequence, ..)| *sequence);
            assert_eq!(state.first.0, first);
        }
    }
}
