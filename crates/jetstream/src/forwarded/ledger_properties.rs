//! Random stories of a forwarded stream: whatever is published, confirmed, rewound, refused, limited, expired, purged, deleted, restarted and crashed,
//! `accepted = delivered + held + dropped`, each as a simple list has it; and in the end gap records say of every dropped message why it went.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, any, prop, proptest};

use crate::command::{Append, Batch, Command, Deliveries, Forwarded, Outcome, Request};
use crate::config::StreamConfig;
use crate::forwarded::gaps::gap_stream;
use crate::forwarded::ledger::{Cause, Ledger};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{MessageBuffer, Store};
use crate::{JetStream, Limits};
use subject::Filter;

const POSITION: [u8; 2] = *b"fS";

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, u8),
    Confirm(u8),
    Rewind(u8),
    Reject,
    Purge(Option<u8>),
    PurgeBelow(u8),
    Skip(u8),
    Erase(u8),
    Link(bool),
    Pass(u16),
    Recreate,
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        8 => (0..4u8, 1..6u8).prop_map(|(subject, count)| Step::Publish(subject, count)),
        6 => (1..8u8).prop_map(Step::Confirm),
        1 => (1..8u8).prop_map(Step::Rewind),
        2 => proptest::strategy::Just(Step::Reject),
        2 => prop::option::of(0..4u8).prop_map(Step::Purge),
        1 => (1..9u8).prop_map(Step::PurgeBelow),
        1 => (1..9u8).prop_map(Step::Skip),
        3 => any::<u8>().prop_map(Step::Erase),
        3 => any::<bool>().prop_map(Step::Link),
        3 => (1..800u16).prop_map(Step::Pass),
        1 => proptest::strategy::Just(Step::Recreate),
        2 => proptest::strategy::Just(Step::Restart),
        2 => proptest::strategy::Just(Step::Crash),
    ]
}

/// What must be counted.
#[derive(Clone, Debug, Default)]
struct Model {
    accepted: u64,
    /// Of the present instance, by sequence; and of earlier ones.
    delivered: BTreeSet<u64>,
    delivered_before: u64,
    held: BTreeSet<u64>,
    dropped: u64,
    confirmed: u64,
    /// Not rewound beyond it: a message that is set aside twice counts twice.
    rejected: u64,
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    config: StreamConfig,
    age: u64,
    is_linked: bool,
    model: Model,
    durable: Model,
    commits: u64,
}

impl World {
    fn new(max_messages: i64, per_subject: i64) -> World {
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let config = StreamConfig {
            subjects: vec![Filter::parse("s.*").expect("filter")],
            max_messages,
            max_messages_per_subject: per_subject,
            max_age_ns: 2_000_000_000,
            duplicate_window_ns: 1_000_000_000,
            ..StreamConfig::named("S")
        };
        let (model, durable) = Default::default();
        let mut world = World { store, jetstream, config, age: 1, is_linked: false, model, durable, commits: 0 };
        world.begin();
        world
    }

    /// As a gateway does at each opening: what was known of the position comes before anything else.
    fn begin(&mut self) {
        let gaps = Some(gap_stream("GAPS", 1 << 30));
        self.jetstream.keep_gaps(&mut self.store, gaps, &|name| name == "S").expect("begins");
        if !self.jetstream.stream_names.contains_key("S") {
            let config = Box::new(self.config.clone());
            self.request(Request::StreamCreate { config });
        }
        let position = self.store.record(&POSITION).expect("reads");
        let position = position.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().expect("eight")));
        assert_eq!(position, self.model.confirmed);
        self.tell(position, None);
    }

    fn id(&self) -> StreamId {
        self.jetstream.stream_names["S"]
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) }
    }

    fn turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let now = self.now();
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let (jetstream, store) = (&mut self.jetstream, &mut self.store);
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
        for outcome in &outcomes {
            if let Outcome::Appended { sequence, .. } = outcome {
                self.model.accepted += 1;
                self.model.held.insert(sequence.0);
            }
        }
        self.note_lost();
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        if self.store.commits() != self.commits {
            self.commits = self.store.commits();
            self.durable = self.model.clone();
        }
        outcomes
    }

    fn note_lost(&mut self) {
        let there = self.present();
        let before = self.model.held.len();
        self.model.held.retain(|sequence| there.contains(sequence));
        self.model.dropped += (before - self.model.held.len()) as u64;
    }

    fn present(&mut self) -> BTreeSet<u64> {
        let mut there = Vec::new();
        if let Some(id) = self.jetstream.stream_names.get("S") {
            self.store.sequences(*id, Sequence(1), usize::MAX, &mut there).expect("reads");
        }
        there.iter().map(|sequence| sequence.0).collect()
    }

    fn one(&mut self, command: Command) {
        self.turn(&Batch { commands: vec![command], ..Batch::default() });
    }

    fn request(&mut self, request: Request) {
        self.one(Command::Request(Box::new(request)));
    }

    /// The position and what goes with it, in one batch.
    fn tell(&mut self, confirmed: u64, rejected: Option<u64>) {
        let mut batch = Batch::default();
        let (key, value) = (batch.add(&POSITION), batch.add(&confirmed.to_be_bytes()));
        batch.commands.push(Command::Record { ticket: Default::default(), key, value });
        batch.commands.push(Command::Forwarded(Forwarded {
            stream: self.id(),
            confirmed: Sequence(confirmed),
            rejected: rejected.map(|sequence| (Sequence(sequence), 40)),
            is_linked: self.is_linked,
            ..Forwarded::default()
        }));
        let there = self.present();
        let model = &mut self.model;
        if let Some(sequence) = rejected {
            model.held.remove(&sequence);
            model.dropped += 1;
            model.rejected = sequence;
        }
        let gone = model.held.split_off(&(confirmed + 1));
        model.delivered.extend(std::mem::replace(&mut model.held, gone));
        let again: Vec<u64> =
            model.delivered.range(confirmed + 1..).copied().filter(|one| there.contains(one)).collect();
        for sequence in again {
            model.delivered.remove(&sequence);
            model.held.insert(sequence);
        }
        model.confirmed = confirmed;
        self.turn(&batch);
    }

    fn load(&mut self) {
        let now = self.now();
        self.jetstream = JetStream::load(&mut self.store, now, Limits::default()).expect("loads").0;
        self.begin();
    }

    fn purge(&mut self, filter: Option<u8>, below: Option<u64>) {
        let filter = filter.map(|subject| format!("s.{subject}").into());
        let below = below.map(Sequence);
        self.request(Request::StreamPurge { name: "S".into(), filter, below, keep: None });
    }

    fn step(&mut self, step: &Step) {
        let last = self.store.state(self.id()).last.0;
        match step {
            Step::Publish(subject, count) => {
                let mut batch = Batch::default();
                for _ in 0..*count {
                    let subject = batch.add(format!("s.{subject}").as_bytes());
                    let append = Append { stream: self.id(), subject, ..Append::default() };
                    batch.commands.push(Command::Append(append));
                }
                self.turn(&batch);
            }
            Step::Confirm(count) => self.tell((self.model.confirmed + u64::from(*count)).min(last), None),
            Step::Rewind(count) => {
                let to = self.model.confirmed.saturating_sub(u64::from(*count)).max(self.model.rejected);
                self.tell(to.min(self.model.confirmed), None);
            }
            Step::Reject => {
                if let Some(next) = self.model.held.first().copied() {
                    self.tell(next, Some(next));
                }
            }
            Step::Purge(filter) => self.purge(*filter, None),
            Step::PurgeBelow(count) => self.purge(None, Some(last.saturating_sub(u64::from(*count)))),
            Step::Skip(count) => self.purge(None, Some(last + 1 + u64::from(*count))),
            Step::Erase(which) => {
                let there = self.present();
                if let Some(sequence) = there.iter().nth(usize::from(*which) % there.len().max(1)) {
                    let sequence = Sequence(*sequence);
                    self.request(Request::MessageDelete { name: "S".into(), sequence, erase: false });
                }
            }
            Step::Link(is_linked) => {
                self.is_linked = *is_linked;
                self.tell(self.model.confirmed, None);
            }
            Step::Pass(millis) => {
                self.age += u64::from(*millis);
                self.turn(&Batch::default());
            }
            Step::Recreate => self.recreate(),
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

    fn recreate(&mut self) {
        self.request(Request::StreamDelete { name: "S".into() });
        let model = &mut self.model;
        model.delivered_before += std::mem::take(&mut model.delivered).len() as u64;
        let config = Box::new(self.config.clone());
        self.request(Request::StreamCreate { config });
        self.model.rejected = 0;
        self.tell(0, None);
    }

    fn ledger(&self) -> Ledger {
        self.jetstream.streams[&self.id()].book.as_ref().expect("a ledger").ledger
    }

    fn check(&self) {
        let (ledger, last) = (self.ledger(), self.store.state(self.id()).last);
        let dropped: u64 = Cause::ALL.iter().map(|cause| ledger.dropped(*cause)).sum();
        let counted = (ledger.accepted(last), ledger.delivered(), ledger.held(last), dropped);
        let model = &self.model;
        let delivered = model.delivered_before + model.delivered.len() as u64;
        assert_eq!(counted, (model.accepted, delivered, model.held.len() as u64, model.dropped), "{model:?}");
        assert_eq!(model.accepted, delivered + model.held.len() as u64 + model.dropped);
    }

    /// What the messages of the gap stream say, by reason.
    fn recorded(&mut self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let Some(id) = self.jetstream.stream_names.get("GAPS").copied() else { return sums };
        let mut buffer = MessageBuffer::default();
        self.store.read(id, Sequence(1), &[], usize::MAX, usize::MAX, &mut buffer).expect("reads");
        for message in buffer.iter() {
            assert_eq!(message.subject, b"$TRIBUTARY.GAPS.S");
            let fields = crate::consumer::flat_json::fields(message.payload).expect("an object");
            let number = |name| fields.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.count());
            let text = std::str::from_utf8(message.payload).expect("text");
            let reason = text.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a reason");
            let (first, last, count) = (number("first"), number("last"), number("count").expect("a count"));
            assert!(first <= last && count > 0, "{text}");
            *sums.entry(reason.to_owned()).or_default() += count;
        }
        sums
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn accepted_is_delivered_held_and_dropped(
        steps in prop::collection::vec(step(), 1..80),
        max_messages in 3..15i64,
        per_subject in 1..9i64,
    ) {
        let mut world = World::new(max_messages, per_subject);
        world.check();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.step(&Step::Link(true));
        world.step(&Step::Pass(1000));
        world.step(&Step::Crash);
        world.step(&Step::Pass(1001));
        world.check();
        let ledger = world.ledger();
        let dropped = Cause::ALL.iter().map(|cause| (cause.name().to_owned(), ledger.dropped(*cause)));
        assert_eq!(world.recorded(), dropped.filter(|(_, count)| *count > 0).collect());
    }
}
