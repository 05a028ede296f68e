//! Thousands of consumers on one stream: what is for all of them goes in steps, between which others are served, and what is for one costs one.

use std::collections::BTreeMap;

use crate::command::{Append, Batch, Command, ConsumerAction, Deliveries, Outcome, Pull, Recipient, Request, Ticket};
use crate::config::{ConsumerConfig, Push, StreamConfig};
use crate::consumer::consuming::SERVED_PER_TURN;
use crate::identity::{AgeMillis, ConsumerId, Now, StreamId};
use crate::store::memory::MemoryStore;
use crate::{JetStream, Limits};

const CROWD: u32 = 2_000;
const WAIT: u64 = 1_000;

struct World {
    jetstream: JetStream,
    store: MemoryStore,
    age: u64,
    /// Deliveries to each consumer.
    got: BTreeMap<ConsumerId, u32>,
}

/// What one turn came to.
struct Done {
    outcomes: Vec<Outcome>,
    deliveries: usize,
    unsaved: usize,
}

impl World {
    /// A stream `S` with a crowd of consumers, each as `shape` makes it.
    fn new(shape: impl Fn(u32, &mut ConsumerConfig)) -> World {
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let mut world = World { jetstream, store, age: 1, got: BTreeMap::new() };
        let subjects = vec![subject::Filter::parse("s.>").expect("valid")];
        let config = Box::new(StreamConfig { subjects, ..StreamConfig::named("S") });
        let mut commands = vec![Command::Request(Box::new(Request::StreamCreate { config }))];
        for number in 0..CROWD {
            let mut config = Box::new(ConsumerConfig::named(&format!("c{number}")));
            config.ack_wait_ns = WAIT * 1_000_000;
            shape(number, &mut config);
            let action = ConsumerAction::Create;
            commands.push(Command::Request(Box::new(Request::ConsumerCreate { stream: "S".into(), config, action })));
        }
        let done = world.turn(&Batch { commands, ..Batch::default() });
        assert!(done.outcomes.iter().all(|outcome| !format!("{outcome:?}").contains("Error")));
        world.settle();
        world
    }

    /// A stream whose consumers push, and somebody listens to each.
    fn pushing(shape: impl Fn(u32, &mut ConsumerConfig)) -> World {
        let mut world = World::new(|number, config| {
            config.push = Some(Push { subject: format!("to.{number}").into(), ..Push::default() });
            shape(number, config);
        });
        let consumers: Vec<ConsumerId> = (1..=CROWD).map(ConsumerId).collect();
        let interest = |consumer: &ConsumerId| Command::Interest { consumer: *consumer, is_there: true };
        world.turn(&Batch { commands: consumers.iter().map(interest).collect(), ..Batch::default() });
        world.settle();
        world
    }

    fn turn(&mut self, batch: &Batch) -> Done {
        let now = Now { age: AgeMillis(self.age), ..Now::default() };
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let World { jetstream, store, .. } = self;
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
        let unsaved = jetstream.dirty.len();
        if jetstream.needs_commit(now) {
            jetstream.before_commit(store, now).expect("saves");
            jetstream.committed(1);
        }
        for delivery in &deliveries.entries {
            if let Some(Recipient::Consumer(consumer)) = delivery.from {
                *self.got.entry(consumer).or_default() += 1;
            }
        }
        Done { outcomes, deliveries: deliveries.entries.len(), unsaved }
    }

    fn publish(&mut self, subject: &str) -> Done {
        let mut batch = Batch::default();
        let (subject, payload) = (batch.add(subject.as_bytes()), batch.add(b"x"));
        let append = Append { stream: StreamId::FIRST, ticket: Ticket(0, 0), subject, payload, ..Append::default() };
        batch.commands.push(Command::Append(append));
        let done = self.turn(&batch);
        assert!(matches!(done.outcomes[..], [Outcome::Appended { .. }]), "answered in its turn: {:?}", done.outcomes);
        done
    }

    /// Turns until nothing is left to do now: the largest number of deliveries and of consumers to be saved in one of them, and how many turns.
    fn settle(&mut self) -> (usize, usize, usize) {
        let (mut most, mut unsaved) = (0, 0);
        for turns in 0..10_000 {
            let now = Now { age: AgeMillis(self.age), ..Now::default() };
            if self.jetstream.next_wake(now).is_none_or(|at| at > now.age) {
                return (most, unsaved, turns);
            }
            let done = self.turn(&Batch::default());
            (most, unsaved) = (most.max(done.deliveries), unsaved.max(done.unsaved));
        }
        panic!("there is always more to do");
    }

    fn everybody_got(&self, times: u32) -> bool {
        self.got.len() == CROWD as usize && self.got.values().all(|got| *got == times)
    }
}

#[test]
fn a_message_for_a_crowd_goes_in_steps_and_publishes_are_answered_between_them() {
    let mut world = World::pushing(|_, _| ());
    assert!(world.publish("s.a").deliveries <= SERVED_PER_TURN);
    let second = world.publish("s.b");
    assert!(second.deliveries <= 2 * SERVED_PER_TURN, "{}", second.deliveries);
    let (most, unsaved, _) = world.settle();
    assert!(most <= 2 * SERVED_PER_TURN && unsaved <= 4 * SERVED_PER_TURN, "{most} deliveries, {unsaved} to be saved");
    assert!(world.everybody_got(2));
}

#[test]
fn what_a_crowd_did_not_acknowledge_comes_again_in_steps() {
    let mut world = World::pushing(|_, _| ());
    world.publish("s.a");
    world.settle();
    assert!(world.everybody_got(1));
    world.age += WAIT;
    assert!(world.publish("s.b").deliveries <= 2 * SERVED_PER_TURN, "also while all of it is due");
    let (most, unsaved, turns) = world.settle();
    assert!(most <= 2 * SERVED_PER_TURN && unsaved <= 4 * SERVED_PER_TURN, "{most} deliveries, {unsaved} to be saved");
    assert!(turns >= CROWD as usize / SERVED_PER_TURN);
    assert!(world.everybody_got(3), "the first twice, the second once");
}

#[test]
fn pulls_of_a_crowd_are_served_in_steps() {
    let mut world = World::new(|_, _| ());
    let pull = |number: u32| {
        let (stream, consumer) = ("S".into(), format!("c{number}").into());
        Command::Pull(Box::new(Pull { stream, consumer, inbox: b"in".as_slice().into(), batch: 1, ..Pull::default() }))
    };
    world.turn(&Batch { commands: (0..CROWD).map(pull).collect(), ..Batch::default() });
    world.settle();
    assert!(world.publish("s.a").deliveries <= SERVED_PER_TURN);
    let (most, ..) = world.settle();
    assert!(most <= SERVED_PER_TURN && world.everybody_got(1), "{most}");
}

#[test]
fn a_message_for_one_of_a_crowd_concerns_only_that_one() {
    let mut world = World::pushing(|number, config| {
        config.filters = vec![subject::Filter::parse(&format!("s.{number}")).expect("valid")];
    });
    for number in [7, 1_999, 7] {
        let done = world.publish(&format!("s.{number}"));
        assert_eq!((done.deliveries, done.unsaved), (1, 1), "nobody else is served or saved");
        assert_eq!(world.settle().0, 0);
    }
    let got: Vec<(u32, u32)> = world.got.iter().map(|(consumer, got)| (consumer.0, *got)).collect();
    assert_eq!(got, [(8, 2), (2_000, 1)]);
}

#[test]
fn credit_that_a_crowd_did_not_need_makes_no_work() {
    let mut world = World::pushing(|_, _| ());
    let credit = |number| Command::Credit { to: Recipient::Consumer(ConsumerId(number)), bytes: 100 };
    let batch = Batch { commands: (1..=CROWD).map(credit).collect(), ..Batch::default() };
    let World { jetstream, store, .. } = &mut world;
    let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
    jetstream.apply(store, Now::default(), &batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
    assert!(jetstream.ready.is_empty());
}
