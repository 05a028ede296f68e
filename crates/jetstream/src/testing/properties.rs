//! Random stories: whatever is published, pulled, acknowledged, purged, restarted and crashed, consumers keep their promises.
//!
//! What must hold at any time: a delivered message exists, matches, and was not acknowledged durably; the first deliveries come in order; the
//! count of what is left is the store's own. And in the end: everything that is still there and matches can be had and acknowledged. A work queue
//! and an interest stream hold at any time exactly what some consumer has still to acknowledge.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, any, prop, proptest};

use crate::command::{
    Ack, Answer, Append, Batch, Command, ConsumerAction, ConsumerInfo, Deliveries, Event, Outcome, Pull, Request,
};
use crate::config::{ConsumerConfig, Retention, StreamConfig};
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::testing::credits;
use crate::{JetStream, Limits};
use subject::Filter;

type Filters = [&'static [&'static str]; 3];
const FILTERS: Filters = [&[], &["s.1"], &["s.0", "s.2"]];
/// Nobody has interest in `s.3`.
const INTERESTS: Filters = [&["s.0", "s.1"], &["s.1"], &["s.0", "s.2"]];
const QUEUES: Filters = [&["s.0"], &["s.1"], &["s.2"]];
const NAMES: [&str; 3] = ["all", "one", "two"];
const ACK_WAIT_MS: u64 = 1000;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, u8),
    Pull(u8, u8),
    Ack(u8, u16),
    Nak(u8, u16),
    PurgeSubject(u8),
    Keep(u8),
    Erase(u16),
    Pass(u16),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        8 => (0..4u8, 1..6u8).prop_map(|(subject, count)| Step::Publish(subject, count)),
        6 => (0..3u8, 1..9u8).prop_map(|(consumer, batch)| Step::Pull(consumer, batch)),
        8 => (0..3u8, any::<u16>()).prop_map(|(consumer, which)| Step::Ack(consumer, which)),
        2 => (0..3u8, any::<u16>()).prop_map(|(consumer, which)| Step::Nak(consumer, which)),
        1 => (0..4u8).prop_map(Step::PurgeSubject),
        1 => (1..50u8).prop_map(Step::Keep),
        2 => any::<u16>().prop_map(Step::Erase),
        2 => (1..1500u16).prop_map(Step::Pass),
        1 => proptest::strategy::Just(Step::Restart),
        1 => proptest::strategy::Just(Step::Crash),
    ]
}

/// What one consumer has seen, and what a crash would leave of it.
#[derive(Clone, Default)]
struct Seen {
    acknowledged: BTreeSet<u64>,
    outstanding: BTreeMap<u64, Vec<u8>>,
}

struct World {
    /// The stream is made to keep whom what concerns, as if there were many consumers.
    crowded: bool,
    retention: Retention,
    filters: Filters,
    /// Subjects of everything that was ever given a sequence.
    published: BTreeMap<u64, u8>,
    store: MemoryStore,
    jetstream: JetStream,
    age: u64,
    ids: [ConsumerId; 3],
    seen: [Seen; 3],
    durable: [Seen; 3],
    commits: u64,
}

impl World {
    fn new(retention: Retention, crowded: bool) -> World {
        let filters = match retention {
            Retention::Limits => FILTERS,
            Retention::Interest => INTERESTS,
            Retention::WorkQueue => QUEUES,
        };
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let mut world = World {
            crowded,
            retention,
            filters,
            published: BTreeMap::new(),
            store,
            jetstream,
            age: 1,
            ids: [ConsumerId(0); 3],
            seen: Default::default(),
            durable: Default::default(),
            commits: 0,
        };
        let subjects = vec![Filter::parse("s.*").expect("filter")];
        let max_messages = if retention == Retention::Limits { 60 } else { -1 };
        let config = StreamConfig { subjects, max_messages, retention, ..StreamConfig::named("S") };
        world.request(Request::StreamCreate { config: Box::new(config) });
        if crowded {
            world.jetstream.make_crowds();
        }
        for (name, filters) in NAMES.iter().zip(filters) {
            let config = ConsumerConfig {
                filters: filters.iter().map(|filter| Filter::parse(filter).expect("filter")).collect(),
                ack_wait_ns: ACK_WAIT_MS * 1_000_000,
                max_ack_pending: 20,
                ..ConsumerConfig::named(name)
            };
            let action = ConsumerAction::Create;
            world.request(Request::ConsumerCreate { stream: "S".into(), config: Box::new(config), action });
        }
        world
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) }
    }

    fn turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let now = self.now();
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let applied = self.jetstream.apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events);
        applied.expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        self.note_consumers(&events);
        self.check_deliveries(&deliveries);
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        if self.store.commits() != self.commits {
            self.commits = self.store.commits();
            self.durable = self.seen.clone();
        }
        let credit = credits(&deliveries);
        if !credit.commands.is_empty() {
            self.turn(&credit);
        }
        outcomes
    }

    fn note_consumers(&mut self, events: &[Event]) {
        for event in events {
            if let Event::ConsumerUp { consumer, name, .. } = event {
                let index = NAMES.iter().position(|known| *known == &**name).expect("ours");
                self.ids[index] = *consumer;
            }
        }
    }

    fn check_deliveries(&mut self, deliveries: &Deliveries) {
        for delivery in deliveries.entries.iter().filter(|delivery| delivery.from.is_some()) {
            let reply = delivery.reply.of(&deliveries.arena);
            let text = std::str::from_utf8(reply).expect("text");
            let tokens: Vec<&str> = text.split('.').collect();
            let index = NAMES.iter().position(|name| *name == tokens[3]).expect("ours");
            let (count, sequence): (u64, u64) =
                (tokens[4].parse().expect("number"), tokens[5].parse().expect("number"));
            let subject = delivery.subject.of(&deliveries.arena);
            let filters =
                self.filters[index].iter().map(|filter| Filter::parse(filter).expect("filter")).collect::<Vec<_>>();
            assert!(filters.is_empty() || filters.iter().any(|filter| filter.matches(subject)), "{text}");
            let seen = &mut self.seen[index];
            assert!(!seen.acknowledged.contains(&sequence), "delivered after its acknowledgement: {text}");
            if count == 1 {
                let newest = seen.outstanding.keys().chain(&seen.acknowledged).max().copied();
                assert!(newest.is_none_or(|newest| sequence > newest), "out of order: {text}");
            }
            seen.outstanding.insert(sequence, reply.to_vec());
        }
    }

    fn request(&mut self, request: Request) -> Answer {
        let batch = Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() };
        match self.turn(&batch).pop() {
            Some(Outcome::Answer(answer)) => *answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn publish(&mut self, number: u8, count: u8) {
        let mut batch = Batch::default();
        for _ in 0..count {
            let subject = batch.add(format!("s.{number}").as_bytes());
            batch.commands.push(Command::Append(Append { stream: StreamId::FIRST, subject, ..Append::default() }));
        }
        for outcome in self.turn(&batch) {
            let Outcome::Appended { sequence, .. } = outcome else { panic!("{outcome:?}") };
            self.published.insert(sequence.0, number);
        }
    }

    fn pull(&mut self, consumer: usize, batch: u32) {
        let (stream, consumer, inbox) = ("S".into(), NAMES[consumer].into(), b"in".as_slice().into());
        let pull = Pull { stream, consumer, inbox, batch, no_wait: true, ..Pull::default() };
        self.turn(&Batch { commands: vec![Command::Pull(Box::new(pull))], ..Batch::default() });
    }

    /// Answers one of the outstanding messages of a consumer.
    fn answer(&mut self, consumer: usize, which: usize, payload: &[u8]) {
        let outstanding = &self.seen[consumer].outstanding;
        let Some((sequence, reply)) = outstanding.iter().nth(which % outstanding.len().max(1)) else { return };
        let (sequence, reply) = (*sequence, reply.clone());
        let mut batch = Batch::default();
        let ack = Ack {
            consumer: self.ids[consumer],
            subject: batch.add(&reply),
            payload: batch.add(payload),
            reply: batch.add(b""),
        };
        batch.commands.push(Command::Ack(ack));
        if payload.is_empty() {
            self.seen[consumer].outstanding.remove(&sequence);
            self.seen[consumer].acknowledged.insert(sequence);
        }
        self.turn(&batch);
    }

    fn reopen(&mut self, crash: bool) {
        let now = self.now();
        if crash {
            self.store.crash();
            self.seen = self.durable.clone();
        } else {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
        }
        let (jetstream, events) = JetStream::load(&mut self.store, now, Limits::default()).expect("loads");
        self.jetstream = jetstream;
        if self.crowded {
            self.jetstream.make_crowds();
        }
        self.commits = self.store.commits();
        self.durable = self.seen.clone();
        self.note_consumers(&events);
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish(subject, count) => self.publish(*subject, *count),
            Step::Pull(consumer, batch) => self.pull(usize::from(*consumer), u32::from(*batch)),
            Step::Ack(consumer, which) => self.answer(usize::from(*consumer), usize::from(*which), b""),
            Step::Nak(consumer, which) => self.answer(usize::from(*consumer), usize::from(*which), b"-NAK"),
            Step::PurgeSubject(subject) => self.purge(Some(format!("s.{subject}")), None),
            Step::Keep(keep) => self.purge(None, Some(u64::from(*keep))),
            Step::Erase(which) => {
                let state = self.store.state(StreamId::FIRST);
                let sequence = Sequence(state.first.0 + u64::from(*which) % (state.last.0 + 2 - state.first.0));
                self.request(Request::MessageDelete { name: "S".into(), sequence, erase: false });
            }
            Step::Pass(millis) => {
                self.age += u64::from(*millis);
                self.turn(&Batch::default());
            }
            Step::Restart => self.reopen(false),
            Step::Crash => self.reopen(true),
        }
    }

    fn purge(&mut self, filter: Option<String>, keep: Option<u64>) {
        let filter = filter.map(String::into_boxed_str);
        self.request(Request::StreamPurge { name: "S".into(), filter, below: None, keep });
    }

    fn info(&mut self, consumer: usize) -> ConsumerInfo {
        match self.request(Request::ConsumerInfo { stream: "S".into(), name: NAMES[consumer].into() }) {
            Answer::Consumer(info) => *info,
            other => panic!("no info: {other:?}"),
        }
    }

    fn check_counts(&mut self) {
        for consumer in 0..NAMES.len() {
            let info = self.info(consumer);
            let from = info.delivered.1.next();
            let left = self.store.count_matching(StreamId::FIRST, from, &info.config.filters).expect("counts");
            assert_eq!(info.pending, left, "{} from {from:?}", info.name);
            assert!(info.ack_pending <= self.seen[consumer].outstanding.len() as u64);
            assert!(info.ack_floor.1 <= info.delivered.1 && info.ack_floor.0 <= info.delivered.0);
        }
    }

    /// Is there what somebody has still to acknowledge, and nothing else?
    fn check_held(&mut self) {
        let mut held = Vec::new();
        self.store.sequences(StreamId::FIRST, Sequence(0), usize::MAX, &mut held).expect("reads");
        let held: Vec<u64> = held.into_iter().map(|sequence| sequence.0).collect();
        let needed = self.published.iter().filter(|(sequence, number)| {
            let subject = format!("s.{number}");
            let for_whom = (0..NAMES.len()).filter(|index| self.filters[*index].contains(&&*subject));
            let (mut matches, mut needs) = (false, false);
            for index in for_whom {
                matches = true;
                needs |= !self.seen[index].acknowledged.contains(sequence);
            }
            needs || (!matches && self.retention == Retention::WorkQueue)
        });
        assert_eq!(held, needed.map(|(sequence, _)| *sequence).collect::<Vec<_>>());
    }

    /// Pulls and acknowledges until nothing comes any more; then nothing may be missing. The clients have forgotten what they were sent.
    fn drain(&mut self) {
        self.seen.iter_mut().for_each(|seen| seen.outstanding.clear());
        for _ in 0..40 {
            self.age += ACK_WAIT_MS;
            self.turn(&Batch::default());
            for consumer in 0..NAMES.len() {
                self.pull(consumer, 100);
                for _ in 0..self.seen[consumer].outstanding.len() {
                    self.answer(consumer, 0, b"");
                }
            }
        }
        for consumer in 0..NAMES.len() {
            let info = self.info(consumer);
            assert_eq!((info.pending, info.ack_pending), (0, 0), "{}", info.name);
            let mut from = Sequence(1);
            let acknowledged = &self.seen[consumer].acknowledged;
            while let Some(sequence) =
                self.store.next_matching(StreamId::FIRST, from, &info.config.filters).expect("reads")
            {
                assert!(acknowledged.contains(&sequence.0), "{} never got {}", info.name, sequence.0);
                from = sequence.next();
            }
        }
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]
    #[test]
    fn consumers_keep_their_promises(crowded in any::<bool>(), steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new(Retention::Limits, crowded);
        for step in &steps {
            world.run(step);
            world.check_counts();
        }
        world.drain();
    }

    #[test]
    fn messages_stay_until_everybody_concerned_has_acknowledged_them(
        interest in any::<bool>(),
        crowded in any::<bool>(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new(if interest { Retention::Interest } else { Retention::WorkQueue }, crowded);
        for step in &steps {
            if matches!(step, Step::PurgeSubject(_) | Step::Keep(_) | Step::Erase(_)) {
                continue;
            }
            world.run(step);
            world.check_counts();
            world.check_held();
        }
        world.drain();
        world.check_held();
    }
}
