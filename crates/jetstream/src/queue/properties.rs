//! Random stories of MQTT session queues: nothing that was queued is lost or comes out of order, whatever is attached, acknowledged, restarted
//! or crashed; what the limits drop is counted; and no message stays behind that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{Strategy, any, prop, proptest};

use crate::command::{Answer, Append, Batch, Command, Deliveries, Outcome, QueueFor, Request};
use crate::config::StreamConfig;
use crate::identity::{AgeMillis, Now, Sequence, SessionId, StreamId, Timestamp};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::{JetStream, Limits};

const SESSIONS: u32 = 3;
const MOST_QUEUED: u64 = 12;

#[derive(Clone, Debug)]
enum Step {
    /// Into the stream or not, and which sessions get it (bits).
    Publish(bool, u8),
    Attach(u8, u16),
    Detach(u8),
    Ack(u8, u16),
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        8 => (any::<bool>(), 1..8u8).prop_map(|(captured, sessions)| Step::Publish(captured, sessions)),
        3 => (0..3u8, 1..6u16).prop_map(|(session, window)| Step::Attach(session, window)),
        1 => (0..3u8).prop_map(Step::Detach),
        10 => (0..3u8, any::<u16>()).prop_map(|(session, which)| Step::Ack(session, which)),
        1 => proptest::strategy::Just(Step::Restart),
        1 => proptest::strategy::Just(Step::Crash),
    ]
}

/// What a session is to get, and what it was sent on its connection.
#[derive(Clone, Default)]
struct Session {
    queued: BTreeMap<u64, Vec<u8>>,
    sent: BTreeSet<u64>,
    next: u64,
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    sessions: BTreeMap<u32, Session>,
    durable: BTreeMap<u32, Session>,
    published: u64,
    commits: u64,
}

fn limits() -> Limits {
    Limits { max_queued_messages: MOST_QUEUED, ..Limits::default() }
}

impl World {
    fn new() -> World {
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), limits()).expect("loads");
        let session = Session { next: 1, ..Session::default() };
        let sessions: BTreeMap<u32, Session> = (0..SESSIONS).map(|id| (id, session.clone())).collect();
        let mut world = World { store, jetstream, durable: sessions.clone(), sessions, published: 0, commits: 0 };
        let config = Box::new(StreamConfig::named("S"));
        world.one(Command::Request(Box::new(Request::StreamCreate { config })));
        world
    }

    fn one(&mut self, command: Command) -> Vec<Outcome> {
        self.turn(&Batch { commands: vec![command], ..Batch::default() })
    }

    fn turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let now = Now { wall: Timestamp(1), age: AgeMillis(1) };
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let applied = self.jetstream.apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events);
        applied.expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        self.check_deliveries(&deliveries);
        if self.store.commits() != self.commits {
            self.commits = self.store.commits();
            self.durable = self.sessions.clone();
        }
        outcomes
    }

    fn check_deliveries(&mut self, deliveries: &Deliveries) {
        for delivery in &deliveries.entries {
            let place = delivery.queue.expect("only queues here");
            let session = self.sessions.get_mut(&place.session.0).expect("ours");
            let payload = session.queued.get(&place.position).expect("queued and not acknowledged");
            assert_eq!(delivery.payload.of(&deliveries.arena), payload);
            assert!(session.sent.last().is_none_or(|last| *last < place.position), "in order, once a connection");
            session.sent.insert(place.position);
        }
    }

    fn publish(&mut self, captured: bool, targets: u8) {
        self.published += 1;
        let payload = self.published.to_string().into_bytes();
        let mut batch = Batch::default();
        let stream = if captured { StreamId::FIRST } else { StreamId::NONE };
        for id in (0..SESSIONS).filter(|id| targets & 1 << id != 0) {
            batch.queues.push(QueueFor { session: SessionId(id), quality: 1 });
            let session = self.sessions.get_mut(&id).expect("ours");
            while session.queued.len() as u64 >= MOST_QUEUED {
                let mut waiting = session.queued.keys().filter(|position| !session.sent.contains(position));
                let oldest = *waiting.next().or(session.queued.keys().next()).expect("one");
                session.queued.remove(&oldest);
                session.sent.remove(&oldest);
            }
            session.queued.insert(session.next, payload.clone());
            session.next += 1;
        }
        let mut append = Append { stream, subject: batch.add(b"S"), ..Append::default() };
        append.payload = batch.add(&payload);
        append.queues = (0, batch.queues.len() as u32);
        batch.commands.push(Command::Append(append));
        self.turn(&batch);
    }

    fn attach(&mut self, id: u32, window: u16) {
        self.sessions.get_mut(&id).expect("ours").sent.clear();
        self.one(Command::QueueAttach { session: SessionId(id), window });
    }

    fn ack(&mut self, id: u32, which: usize) {
        let session = self.sessions.get_mut(&id).expect("ours");
        let Some(position) = session.sent.iter().nth(which % session.sent.len().max(1)).copied() else { return };
        session.sent.remove(&position);
        session.queued.remove(&position);
        self.one(Command::QueueAck { session: SessionId(id), position });
    }

    fn reopen(&mut self, crash: bool) {
        let now = Now { wall: Timestamp(1), age: AgeMillis(1) };
        if crash {
            self.store.crash();
            self.sessions = self.durable.clone();
        } else {
            self.jetstream.before_commit(&mut self.store, now).expect("writes");
            self.store.commit().expect("commits");
        }
        self.commits = self.store.commits();
        self.jetstream = JetStream::load(&mut self.store, now, limits()).expect("loads").0;
        self.sessions.values_mut().for_each(|session| session.sent.clear());
        self.durable = self.sessions.clone();
    }

    fn queued(&mut self) -> u64 {
        match self.one(Command::Request(Box::new(Request::Statistics))).pop() {
            Some(Outcome::Answer(answer)) => match *answer {
                Answer::Statistics(statistics) => statistics.queued,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish(captured, sessions) => self.publish(*captured, *sessions),
            Step::Attach(session, window) => self.attach(u32::from(*session), *window),
            Step::Detach(session) => {
                let id = u32::from(*session);
                self.sessions.get_mut(&id).expect("ours").sent.clear();
                self.one(Command::QueueDetach { session: SessionId(id) });
            }
            Step::Ack(session, which) => self.ack(u32::from(*session), usize::from(*which)),
            Step::Restart => self.reopen(false),
            Step::Crash => self.reopen(true),
        }
    }

    /// Every session comes and takes what is its own; then nothing is left, also of the messages.
    fn drain(&mut self) {
        for id in 0..SESSIONS {
            self.attach(id, 3);
            while !self.sessions[&id].sent.is_empty() {
                self.ack(id, 0);
            }
            assert!(self.sessions[&id].queued.is_empty(), "session {id} never got everything");
        }
        assert_eq!(self.queued(), 0);
        // What nobody needs leaves with the next commit.
        self.reopen(false);
        assert_eq!(self.queued(), 0);
        assert_eq!(self.store.state(StreamId::QUEUED).messages, 0);
        let from = Sequence(1);
        assert_eq!(self.store.count_matching(StreamId::QUEUED, from, &[]).expect("counts"), 0);
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]
    #[test]
    fn sessions_get_what_is_theirs(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            let model: usize = world.sessions.values().map(|session| session.queued.len()).sum();
            assert_eq!(world.jetstream.queues.queued, model as u64);
        }
        world.drain();
    }
}
