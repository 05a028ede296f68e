//! Random stories of a forwarded work queue or interest stream: whatever is published, acknowledged, refused, confirmed, and whoever comes and goes,
//! the store holds exactly what some consumer or the hub has still to get, over restarts and crashes; and no consumer gets what all were done with.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Just, Strategy, any, prop, proptest};

use crate::command::{
    Ack, Append, Batch, Command, ConsumerAction, Deliveries, Event, Forwarded, Outcome, Pull, Recipient, Request,
};
use crate::config::{AckPolicy, ConsumerConfig, Push, Retention, StreamConfig};
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::{JetStream, Limits};
use subject::Filter;

/// A position, and the hub's stream, as the gateway keeps them.
const POSITION: [u8; 2] = *b"fS";
const MOST_TURNS: usize = 100;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    /// Asks for so many, and acknowledges those whose bit is set; the others are refused and come again.
    Consume(u8, u8),
    /// So many more are confirmed; and all but so many of what is confirmed was long enough ago.
    Confirm(u8, u8),
    /// The consumer goes, or comes.
    Toggle,
    Pass(u16),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        6 => (1..6u8).prop_map(Step::Publish),
        8 => (1..8u8, any::<u8>()).prop_map(|(count, mask)| Step::Consume(count, mask)),
        5 => (0..8u8, 0..12u8).prop_map(|(more, held)| Step::Confirm(more, held)),
        2 => Just(Step::Toggle),
        2 => (1..300u16).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

/// What must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    last: u64,
    confirmed: u64,
    /// Confirmed for long enough.
    released: u64,
    /// Everybody here is done with them.
    done: BTreeSet<u64>,
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    retention: Retention,
    age: u64,
    model: Model,
    durable: Model,
    commits: u64,
    consumer: Option<ConsumerId>,
    /// Delivered in the last turn: ack subjects by sequence.
    delivered: BTreeMap<u64, Vec<u8>>,
    /// Where the last request for flow control wants its answer.
    asked: Vec<u8>,
}

impl World {
    fn new(retention: Retention) -> World {
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let (model, durable) = Default::default();
        let (consumer, delivered) = (None, BTreeMap::new());
        let (age, commits, asked) = (1, 0, Vec::new());
        let mut world = World { store, jetstream, retention, age, model, durable, commits, consumer, delivered, asked };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.jetstream.expect_forwards([Box::from("S")]);
        if !self.jetstream.stream_names.contains_key("S") {
            let subjects = vec![Filter::parse("s").expect("filter")];
            let config = StreamConfig { subjects, retention: self.retention, ..StreamConfig::named("S") };
            self.request(Request::StreamCreate { config: Box::new(config) });
        }
        let position = self.store.record(&POSITION).expect("reads");
        let position = position.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight")));
        assert_eq!(position, self.model.confirmed);
        self.confirm(position, self.model.released);
    }

    fn id(&self) -> StreamId {
        self.jetstream.stream_names["S"]
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) }
    }

    /// A turn with a batch, and those that it calls for.
    fn turn(&mut self, batch: &Batch) {
        self.delivered.clear();
        let mut credit = self.one_turn(batch);
        for _ in 0..MOST_TURNS {
            if credit.commands.is_empty() && !self.jetstream.again {
                return;
            }
            credit = self.one_turn(&std::mem::take(&mut credit));
        }
        panic!("it never comes to rest");
    }

    fn one_turn(&mut self, batch: &Batch) -> Batch {
        let now = self.now();
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let (jetstream, store) = (&mut self.jetstream, &mut self.store);
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
        for outcome in &outcomes {
            if let Outcome::Appended { sequence, .. } = outcome {
                self.model.last = sequence.0;
            }
        }
        for event in &events {
            match event {
                Event::ConsumerUp { consumer, .. } => self.consumer = Some(*consumer),
                Event::ConsumerDown { .. } => self.consumer = None,
                _ => {}
            }
        }
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        if self.store.commits() != self.commits {
            self.commits = self.store.commits();
            self.durable = self.model.clone();
        }
        let mut credit = Batch::default();
        for delivery in &deliveries.entries {
            let reply = delivery.reply.of(&deliveries.arena);
            if reply.starts_with(b"$JS.FC.") {
                self.asked = reply.to_vec();
            }
            let Some(to @ Recipient::Consumer(_)) = delivery.from else { continue };
            credit.commands.push(Command::Credit { to, bytes: delivery.cost() });
            let sequence = std::str::from_utf8(reply).ok().and_then(|reply| reply.split('.').nth(5)?.parse().ok());
            let sequence: u64 = sequence.expect("a sequence");
            assert!(!self.model.done.contains(&sequence), "{sequence} is delivered, and everybody was done with it");
            self.delivered.insert(sequence, reply.to_vec());
        }
        credit
    }

    fn one(&mut self, command: Command) {
        self.turn(&Batch { commands: vec![command], ..Batch::default() });
    }

    fn request(&mut self, request: Request) {
        self.one(Command::Request(Box::new(request)));
    }

    fn confirm(&mut self, confirmed: u64, released: u64) {
        (self.model.confirmed, self.model.released) = (confirmed, released);
        let mut batch = Batch::default();
        let (key, value) = (batch.add(&POSITION), batch.add(&confirmed.to_be_bytes()));
        batch.commands.push(Command::Record { ticket: Default::default(), key, value });
        let (confirmed, releasable) = (Sequence(confirmed), Sequence(released));
        let told = Forwarded { stream: self.id(), confirmed, releasable, ..Forwarded::default() };
        batch.commands.push(Command::Forwarded(told));
        self.turn(&batch);
    }

    fn publish(&mut self, count: u8) {
        let mut batch = Batch::default();
        for _ in 0..count {
            let append = Append { stream: self.id(), subject: batch.add(b"s"), ..Append::default() };
            batch.commands.push(Command::Append(append));
        }
        let before = self.model.last;
        if self.retention == Retention::Interest && self.consumer.is_none() {
            self.model.done.extend(before + 1..=before + u64::from(count));
        }
        self.turn(&batch);
        assert_eq!(self.model.last, before + u64::from(count));
    }

    fn consume(&mut self, count: u8, mask: u8) {
        let Some(consumer) = self.consumer else { return };
        let (stream, name, inbox) = ("S".into(), "c".into(), b"in".as_slice().into());
        let batch = u32::from(count);
        let pull = Pull { stream, consumer: name, inbox, batch, no_wait: true, ..Pull::default() };
        self.one(Command::Pull(Box::new(pull)));
        let mut batch = Batch::default();
        let delivered = std::mem::take(&mut self.delivered);
        for (index, (sequence, reply)) in delivered.iter().enumerate() {
            let is_done = mask & (1 << (index % 8)) != 0;
            if is_done {
                self.model.done.insert(*sequence);
            }
            let payload = batch.add(if is_done { b"+ACK" } else { b"-NAK" });
            let subject = batch.add(reply);
            batch.commands.push(Command::Ack(Ack { consumer, subject, payload, reply: Default::default() }));
        }
        self.turn(&batch);
    }

    fn toggle(&mut self) {
        let stream: Box<str> = "S".into();
        if self.consumer.is_some() {
            if self.retention == Retention::Interest {
                self.model.done.extend(1..=self.model.last);
            }
            self.request(Request::ConsumerDelete { stream, name: "c".into() });
        } else {
            let config = ConsumerConfig {
                durable: true,
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: -1,
                ..ConsumerConfig::named("c")
            };
            let (config, action) = (Box::new(config), ConsumerAction::Create);
            self.request(Request::ConsumerCreate { stream, config, action });
        }
    }

    fn load(&mut self) {
        let now = self.now();
        let (jetstream, events) = JetStream::load(&mut self.store, now, Limits::default()).expect("loads");
        self.jetstream = jetstream;
        self.consumer = events.iter().find_map(|event| match event {
            Event::ConsumerUp { consumer, .. } => Some(*consumer),
            _ => None,
        });
        self.begin();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(count) => self.publish(*count),
            Step::Consume(count, mask) => self.consume(*count, *mask),
            Step::Confirm(more, held) => {
                let confirmed = (self.model.confirmed + u64::from(*more)).min(self.model.last);
                self.confirm(confirmed, confirmed.saturating_sub(u64::from(*held)).max(self.model.released));
            }
            Step::Toggle => self.toggle(),
            Step::Pass(millis) => {
                self.age += u64::from(*millis);
                self.turn(&Batch::default());
            }
            Step::Restart => {
                let now = self.now();
                self.jetstream.before_commit(&mut self.store, now).expect("writes");
                self.store.commit().expect("commits");
                self.commits = self.store.commits();
                self.durable = self.model.clone();
                self.load();
            }
            Step::Crash => {
                self.store.crash();
                self.model = self.durable.clone();
                self.load();
            }
        }
    }

    fn check(&mut self) {
        let mut there = Vec::new();
        let id = self.id();
        self.store.sequences(id, Sequence(1), usize::MAX, &mut there).expect("reads");
        let there: Vec<u64> = there.iter().map(|sequence| sequence.0).collect();
        let model = &self.model;
        let needed = |sequence: &u64| *sequence > model.released || !model.done.contains(sequence);
        let expected: Vec<u64> = (1..=model.last).filter(needed).collect();
        assert_eq!(there, expected, "{model:?}");
        let stream = &self.jetstream.streams[&id];
        assert_eq!(stream.counted_bytes, self.store.state(id).bytes);
        let owed: Vec<u64> = (1..=model.last).filter(|sequence| stream.owed.contains(Sequence(*sequence))).collect();
        let waiting: Vec<u64> = model.done.range(model.released + 1..).copied().collect();
        assert_eq!(owed, waiting, "{model:?}");
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn what_is_there_is_what_a_consumer_or_the_hub_has_still_to_get(
        steps in prop::collection::vec(step(), 1..60),
        is_queue in any::<bool>(),
    ) {
        let mut world = World::new(if is_queue { Retention::WorkQueue } else { Retention::Interest });
        world.check();
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}

/// Thousands of acknowledgements in one: they go in steps, and all of them.
#[test]
fn many_at_once_go_in_steps() {
    for retention in [Retention::WorkQueue, Retention::Interest] {
        let mut world = World::new(retention);
        world.toggle();
        for _ in 0..100 {
            world.publish(100);
        }
        for _ in 0..200 {
            world.consume(50, u8::MAX);
        }
        world.check();
        for (confirmed, released) in [(9_999, 0), (9_999, 9_999), (10_000, 9_999), (10_000, 10_000)] {
            world.confirm(confirmed, released);
            world.check();
        }
    }
}

/// An older hub that draws from a queue confirms by answers alone: one of them may be about thousands.
#[test]
fn an_answer_that_confirms_thousands_lets_all_of_them_go() {
    let mut world = World::new(Retention::WorkQueue);
    let push = Push { subject: "hub".into(), flow_control: true, heartbeat_ns: 1_000_000_000, ..Push::default() };
    let config = ConsumerConfig {
        durable: false,
        direct: true,
        ack_policy: AckPolicy::None,
        max_waiting: 0,
        push: Some(push),
        ..ConsumerConfig::named("hub")
    };
    let (stream, config, action) = ("S".into(), Box::new(config), ConsumerAction::CreateOrUpdate);
    world.request(Request::SourceCreate { stream, config, action, identity: None });
    let consumer = world.consumer.expect("a consumer");
    world.one(Command::Interest { consumer, is_there: true });
    for _ in 0..100 {
        world.publish(100);
    }
    for _ in 0..2 {
        let mut batch = Batch::default();
        let subject = batch.add(&std::mem::take(&mut world.asked));
        batch.commands.push(Command::FlowAnswer { consumer, subject, headers: Default::default() });
        world.turn(&batch);
        world.age += 1_000;
        world.turn(&Batch::default());
    }
    world.model.done.extend(1..=10_000);
    world.check();
    world.confirm(10_000, 10_000);
    world.check();
}
