//! A broker with its store, batches and turns as slow as one likes: with what is remembered, every get is answered as without.

use std::collections::{BTreeMap, VecDeque};

use committer::Committer;
use jetstream::command::{Batch, Event, Turn};
use jetstream::identity::{AgeMillis, Now as StoreNow, Timestamp};
use jetstream::store::Store;
use jetstream::store::memory::MemoryStore;
use jetstream::{JetStream, Limits};
use proptest::prelude::*;

use super::*;
use crate::{
    Broker, ConnectionId, JetStreamSettings, NewConnection, Now, Outbox, Protocol, Settings, TlsFacts, Transport,
};

/// What somebody does, or time, or the store.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8, &'static str),
    Get(usize, u8),
    Api(&'static str, &'static str),
    /// The store is given what waits; a turn of it; its end is heard of.
    Given,
    Turn,
    Heard,
    /// Nothing is under way, and some time passes.
    Pass(u64),
}

const CREATE: &str = r#"{"name":"KV_B","subjects":["$KV.B.>"],"storage":"file","allow_direct":true,"allow_rollup_hdrs":true,
    "max_msgs_per_subject":2,"max_msgs":5,"max_age":2000000000,"allow_atomic":true,"allow_msg_ttl":true}"#;
const MAPPED: &str = r#"{"name":"KV_B","subjects":["$KV.B.>"],"storage":"file","allow_direct":true,"allow_rollup_hdrs":true,
    "max_msgs_per_subject":2,"max_msgs":5,"max_age":2000000000,"allow_atomic":true,"allow_msg_ttl":true,
    "subject_transform":{"src":"$KV.B.0","dest":"$KV.B.1"}}"#;

fn step() -> impl Strategy<Value = Step> {
    let headers = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "KV-Operation: DEL\r\n",
        "Nats-Rollup: sub\r\n",
        "Nats-Rollup: all\r\n",
        "Nats-TTL: 1s\r\n",
        "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\n",
        "Nats-Batch-Id: b\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: 1\r\n",
    ]);
    let asked = prop::sample::select(vec![
        ("STREAM.MSG.DELETE.KV_B", r#"{"seq":2}"#),
        ("STREAM.MSG.DELETE.KV_B", r#"{"seq":5}"#),
        ("STREAM.PURGE.KV_B", ""),
        ("STREAM.PURGE.KV_B", r#"{"filter":"$KV.B.1"}"#),
        ("STREAM.UPDATE.KV_B", MAPPED),
        ("STREAM.UPDATE.KV_B", CREATE),
        ("STREAM.DELETE.KV_B", ""),
        ("STREAM.CREATE.KV_B", CREATE),
    ]);
    let (client, key) = (0..2usize, 0..3u8);
    prop_oneof![
        4 => (client.clone(), key.clone(), headers).prop_map(|(client, key, headers)| Step::Put(client, key, headers)),
        12 => (client, key).prop_map(|(client, key)| Step::Get(client, key)),
        1 => asked.prop_map(|(subject, body)| Step::Api(subject, body)),
        3 => Just(Step::Given),
        3 => Just(Step::Turn),
        4 => Just(Step::Heard),
        1 => (1..1_500u64).prop_map(Step::Pass),
    ]
}

struct World {
    broker: Broker,
    out: Outbox,
    now: Now,
    store: MemoryStore,
    jetstream: JetStream,
    clients: [ConnectionId; 2],
    inbox: Vec<Batch>,
    turns: VecDeque<Turn>,
    number: usize,
    answers: BTreeMap<String, String>,
    /// Commands that the store was given.
    commands: usize,
    /// Requests that were answered before their turn, or before its commit.
    early: usize,
}

impl World {
    fn new() -> World {
        let settings = Settings { jetstream: Some(JetStreamSettings { domain: None }), ..Settings::default() };
        let mut broker = Broker::new(settings, 7);
        let mut out = broker.outbox();
        let now = Now { micros: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, StoreNow::default(), Limits::default()).unwrap();
        let clients = [1, 2].map(|_| {
            let (protocol, transport, peer) = (Protocol::Nats, Transport::Tcp, ([127, 0, 0, 1], 1).into());
            broker.open(now, &NewConnection { protocol, transport, peer, tls: TlsFacts::default() }, &mut out).unwrap()
        });
        let (inbox, turns, answers) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        let mut world = World {
            broker,
            out,
            now,
            store,
            jetstream,
            clients,
            inbox,
            turns,
            number: 0,
            answers,
            commands: 0,
            early: 0,
        };
        world.send(0, "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB r.> 1\r\n");
        world.send(1, "CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        world.ask("STREAM.CREATE.KV_B", CREATE);
        world.settle();
        world
    }

    fn send(&mut self, client: usize, text: &str) {
        let received = self.broker.received(self.now, self.clients[client], text.as_bytes(), &mut self.out);
        assert_eq!(received.used, text.len(), "{text}");
    }

    fn ask(&mut self, subject: &str, body: &str) {
        self.send(0, &format!("PUB $JS.API.{subject} none {}\r\n{body}\r\n", body.len()));
    }

    fn get(&mut self, client: usize, key: u8) {
        self.number += 1;
        let number = self.number;
        self.send(client, &format!("PUB $JS.API.DIRECT.GET.KV_B.$KV.B.{key} r.{number} 0\r\n\r\n"));
    }

    fn put(&mut self, client: usize, key: u8, headers: &str) {
        self.number += 1;
        let (body, headers) = (self.number.to_string(), format!("NATS/1.0\r\n{headers}\r\n"));
        if headers.len() == 12 {
            return self.send(client, &format!("PUB $KV.B.{key} {}\r\n{body}\r\n", body.len()));
        }
        let total = headers.len() + body.len();
        self.send(client, &format!("HPUB $KV.B.{key} {} {total}\r\n{headers}{body}\r\n", headers.len()));
    }

    fn given(&mut self) {
        let batch = self.broker.take_batch(self.now, &self.out);
        self.commands += batch.as_ref().map_or(0, |batch| batch.commands.len());
        self.inbox.extend(batch);
    }

    fn turn(&mut self) {
        let mut turn = Turn::default();
        let now = StoreNow { wall: Timestamp(self.now.wall_ns), age: AgeMillis(self.now.micros / 1000) };
        let mut early = Vec::new();
        let mut arrived = self.broker.take_batch(self.now, &self.out);
        self.commands += arrived.as_ref().map_or(0, |batch| batch.commands.len());
        // What comes while it commits: some of it is answered meanwhile.
        let mut commit = |store: &mut dyn Store, jetstream: &mut JetStream| {
            early.push(jetstream.take_early());
            let mut answers = Vec::new();
            arrived.iter_mut().try_for_each(|batch| jetstream.answer_early(store, batch, &mut answers))?;
            early.push(answers);
            store.commit().map(|()| 1)
        };
        let (jetstream, store) = (&mut self.jetstream, &mut self.store);
        Committer::default().turn(now, &mut self.inbox, &mut turn, jetstream, store, &mut commit).unwrap();
        self.inbox.extend(arrived);
        self.early += early.iter().map(Vec::len).sum::<usize>();
        let early = early.into_iter().map(|answers| Turn { events: vec![Event::Early(answers)], ..Turn::default() });
        self.turns.extend(early);
        self.turns.push_back(turn);
    }

    fn heard(&mut self) {
        if let Some(mut turn) = self.turns.pop_front() {
            self.broker.committed(self.now, &mut turn, &mut self.out);
        }
        self.read();
    }

    /// Notes what was answered, by where the answer went.
    fn read(&mut self) {
        let bytes: Vec<u8> = self.out.pending(self.clients[0]).flatten().copied().collect();
        self.out.sent(self.clients[0], bytes.len());
        self.out.take_dirty(&mut Vec::new());
        let text = String::from_utf8(bytes).unwrap();
        for answer in text.split("HMSG r.").skip(1) {
            let (number, answer) = answer.split_once(' ').unwrap();
            let before = self.answers.insert(number.to_owned(), answer.to_owned());
            assert_eq!(before, None, "two answers to {number}");
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.given();
            self.turn();
            while !self.turns.is_empty() {
                self.heard();
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Put(client, key, headers) => self.put(*client, *key, headers),
            Step::Get(client, key) => self.get(*client, *key),
            Step::Api(subject, body) => self.ask(subject, body),
            Step::Given => self.given(),
            Step::Turn => self.turn(),
            Step::Heard => self.heard(),
            Step::Pass(milliseconds) => {
                self.settle();
                self.now.micros += milliseconds * 1_000;
                self.now.wall_ns += *milliseconds as i64 * 1_000_000;
                self.settle();
            }
        }
        self.read();
    }
}

#[test]
fn what_was_read_twice_is_answered_without_the_store_until_it_changes() {
    let mut world = World::new();
    world.put(0, 1, "");
    // The first is not remembered, as nothing is told of the stream yet, and the second was not read before.
    for _ in 0..3 {
        world.get(0, 1);
        world.settle();
    }
    let before = world.commands;
    world.get(1, 1);
    world.get(0, 1);
    world.settle();
    assert_eq!(world.commands, before, "the store was not asked");
    assert_eq!(world.answers["5"], world.answers["2"]);
    assert_eq!(world.answers["6"], world.answers["2"]);
    world.put(0, 1, "");
    world.get(1, 1);
    world.settle();
    assert_eq!(world.commands, before + 2, "it was asked");
    assert!(world.answers["8"].ends_with("\r\n7\r\n"), "{}", world.answers["8"]);
}

#[test]
fn a_get_waits_for_no_commit_unless_it_is_of_what_is_committed() {
    let mut world = World::new();
    world.put(0, 1, "");
    world.put(0, 2, "");
    world.settle();
    // The stream is told of from the first on, and it is certain what is on its way when the next has come back.
    for _ in 0..2 {
        world.get(0, 1);
        world.settle();
    }
    let answered = |world: &mut World, number: &str| {
        world.turn();
        while world.turns.len() > 1 {
            world.heard();
        }
        let is_answered = world.answers.contains_key(number);
        world.settle();
        is_answered && world.answers.contains_key(number)
    };
    world.put(0, 2, "");
    world.given();
    // It arrives while that is committed.
    world.get(1, 1);
    assert!(answered(&mut world, "6"), "before the turn was heard of");
    world.put(0, 2, "");
    world.given();
    world.get(1, 2);
    assert!(!answered(&mut world, "8"), "its value is on its way");
    assert_eq!(world.early, 1);
    assert!(world.answers["8"].ends_with("\r\n7\r\n"), "{}", world.answers["8"]);
}

#[test]
fn gets_of_more_than_a_turn_answers_are_all_answered() {
    let mut world = World::new();
    let large = "x".repeat(700_000);
    for key in 0..5 {
        world.send(0, &format!("PUB $KV.B.{key} {}\r\n{large}\r\n", large.len()));
        world.settle();
    }
    for round in 0..3 {
        (0..15).for_each(|number| world.get(1, number % 5));
        world.settle();
        assert_eq!(world.answers.len(), 15 * (round + 1));
        let missing = world.answers.iter().filter(|(_, answer)| answer.contains("404")).count();
        assert_eq!(missing, 0, "in round {round}");
    }
}

#[test]
fn memory_is_bounded_and_who_is_asked_for_stays() {
    let mut recall = Recall::default();
    recall.changed(&[(StreamId(16), Change::Watched)]);
    recall.given();
    recall.back();
    let payload = vec![b'x'; 10_000];
    let message = |subject: &'static [u8], sequence| StoredMessage {
        sequence: Sequence(sequence),
        time: Timestamp(0),
        age: AgeMillis(0),
        subject,
        headers: b"",
        payload: &payload,
    };
    let often = message(b"often", 1);
    (0..2).for_each(|_| recall.answered(StreamId(16), &often));
    for sequence in 2..2_000 {
        let subject: &'static [u8] = Box::leak(sequence.to_string().into_bytes().into_boxed_slice());
        (0..2).for_each(|_| recall.answered(StreamId(16), &message(subject, sequence)));
        assert!(recall.newest(StreamId(16), b"often").is_some());
        assert!(recall.bytes <= MOST_BYTES && recall.places.len() == recall.values.len());
    }
    assert!(recall.values.len() > MOST_BYTES / 11_000);
    (0..10_000).for_each(|_| {
        recall.changed(&[(StreamId(16), Change::Stored(subject_hash(b"often")))]);
        recall.answered(StreamId(16), &often);
    });
    assert!(recall.order.len() < 2_000);
    recall.changed(&[(StreamId(16), Change::Gone(Sequence(0), Sequence(u64::MAX)))]);
    assert_eq!((recall.bytes, recall.values.len(), recall.places.len()), (0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_get_is_answered_as_without(steps in prop::collection::vec(step(), 1..120)) {
        let (mut world, mut forgetful) = (World::new(), World::new());
        for step in &steps {
            world.apply(step);
            forgetful.broker.store.recall.forget_all();
            forgetful.apply(step);
        }
        world.settle();
        forgetful.broker.store.recall.forget_all();
        forgetful.settle();
        prop_assert_eq!(&world.answers, &forgetful.answers);
        prop_assert!(world.commands <= forgetful.commands);
    }
}
