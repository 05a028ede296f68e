//! Properties: routing equals a naive model, however the bytes are cut.

use std::collections::BTreeMap;

use proptest::prelude::*;
use subject::Filter;

use crate::{Broker, CloseReason, ConnectionId, NewConnection, Now, Outbox, Protocol, Settings, TlsFacts, Transport};

/// What a random client does.
#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        client: usize,
        filter: &'static str,
        queue: Option<&'static str>,
        sid: u8,
    },
    Unsubscribe {
        client: usize,
        sid: u8,
        max: u64,
    },
    Publish {
        client: usize,
        subject: &'static str,
        reply: bool,
    },
    /// The connection ends and another one takes its place.
    Replace {
        client: usize,
    },
}

const CLIENTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let filter = prop::sample::select(vec!["a", "a.b", "a.*", "a.>", ">", "*.b", "a.b.c", "*.*.c", "b"]);
    let queue = prop::option::weighted(0.3, prop::sample::select(vec!["g", "h"]));
    let subject = prop::sample::select(vec!["a", "a.b", "a.b.c", "b", "a.c", "x.b"]);
    prop_oneof![
        3 => (client.clone(), filter, queue, 0..4u8)
            .prop_map(|(client, filter, queue, sid)| Step::Subscribe { client, filter, queue, sid }),
        2 => (client.clone(), 0..4u8, 0..3u64).prop_map(|(client, sid, max)| Step::Unsubscribe { client, sid, max }),
        // The same subject several times in a row is what plans and memos are made of.
        8 => (client.clone(), subject, any::<bool>()).prop_map(|(client, subject, reply)| Step::Publish { client, subject, reply }),
        1 => client.prop_map(|client| Step::Replace { client }),
    ]
}

/// A subscription of the model.
#[derive(Clone, Debug)]
struct Known {
    filter: Filter,
    queue: Option<&'static str>,
    seen: u64,
    max: u64,
}

type Model = BTreeMap<(usize, u8), Known>;

/// A broker with some clients, and what each was sent.
struct World {
    broker: Broker,
    out: Outbox,
    clients: Vec<ConnectionId>,
}

const NOW: Now = Now { micros: 1, wall_ns: 0 };

impl World {
    fn new() -> World {
        let broker = Broker::new(Settings::default(), 3);
        let out = broker.outbox();
        let mut world = World { broker, out, clients: Vec::new() };
        world.clients = (0..CLIENTS).map(|_| world.connect()).collect();
        world
    }

    fn connect(&mut self) -> ConnectionId {
        let new = NewConnection {
            protocol: Protocol::Nats,
            transport: Transport::Tcp,
            peer: ([127, 0, 0, 1], 1).into(),
            tls: TlsFacts::default(),
        };
        let id = self.broker.open(NOW, &new, &mut self.out).unwrap();
        self.send(id, b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n", &[]);
        self.take(id);
        id
    }

    /// Sends bytes cut at the given places.
    fn send(&mut self, id: ConnectionId, bytes: &[u8], cuts: &[prop::sample::Index]) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len().max(1))).collect();
        places.push(bytes.len());
        places.sort_unstable();
        let mut from = 0;
        for place in places {
            while from < place {
                let received = self.broker.received(NOW, id, &bytes[from..place], &mut self.out);
                from += received.used;
                if received.need > 0 {
                    assert!(received.need > place - from, "a complete frame was left");
                    break;
                }
            }
        }
    }

    fn take(&mut self, id: ConnectionId) -> Vec<u8> {
        let bytes: Vec<u8> = self.out.pending(id).flatten().copied().collect();
        self.out.sent(id, bytes.len());
        let mut dirty = Vec::new();
        self.out.take_dirty(&mut dirty);
        bytes
    }

    /// How many MSG each sid of each client got.
    fn deliveries(&mut self) -> BTreeMap<(usize, u8), u64> {
        let mut found = BTreeMap::new();
        for client in 0..CLIENTS {
            let bytes = self.take(self.clients[client]);
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"MSG ")) {
                let sid = line.split(|byte| *byte == b' ').nth(2).and_then(|sid| sid.first()).copied().unwrap();
                *found.entry((client, sid - b'0')).or_default() += 1;
            }
        }
        found
    }
}

/// Checks what a publish brought against the model, and lets the model see it.
fn check(model: &mut Model, subject: &str, found: &BTreeMap<(usize, u8), u64>) {
    let matching: Vec<_> = model.iter().filter(|(_, known)| known.filter.matches(subject.as_bytes())).collect();
    let mut groups: BTreeMap<&str, u64> = BTreeMap::new();
    for (key, known) in &matching {
        let got = found.get(key).copied().unwrap_or(0);
        match known.queue {
            None => assert_eq!(got, 1, "{key:?} of {subject}"),
            Some(queue) => *groups.entry(queue).or_default() += got,
        }
    }
    for (queue, got) in groups {
        assert_eq!(got, 1, "queue {queue} of {subject}");
    }
    for key in found.keys() {
        assert!(matching.iter().any(|(other, _)| *other == key), "{key:?} got {subject} and did not ask");
    }
    for key in found.keys() {
        let known = model.get_mut(key).unwrap();
        known.seen += 1;
        if known.seen >= known.max {
            model.remove(key);
        }
    }
}

fn apply(world: &mut World, model: &mut Model, step: &Step, cuts: &[prop::sample::Index]) {
    match *step {
        Step::Subscribe { client, filter, queue, sid } => {
            let line = format!("SUB {filter} {} {sid}\r\n", queue.unwrap_or_default());
            world.send(world.clients[client], line.as_bytes(), cuts);
            let new = Known { filter: Filter::parse(filter).unwrap(), queue, seen: 0, max: u64::MAX };
            model.entry((client, sid)).or_insert(new);
        }
        Step::Unsubscribe { client, sid, max } => {
            world.send(world.clients[client], format!("UNSUB {sid} {max}\r\n").as_bytes(), cuts);
            if let Some(known) = model.get_mut(&(client, sid)) {
                known.max = max;
                if max <= known.seen {
                    model.remove(&(client, sid));
                }
            }
        }
        Step::Publish { client, subject, reply } => {
            let line = format!("PUB {subject} {} 2\r\nhi\r\n", if reply { "r.x" } else { "" });
            world.send(world.clients[client], line.as_bytes(), cuts);
            let found = world.deliveries();
            check(model, subject, &found);
        }
        Step::Replace { client } => {
            world.broker.closed(NOW, world.clients[client], CloseReason::ClientClosed, &mut world.out);
            model.retain(|key, _| key.0 != client);
            world.clients[client] = world.connect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn routing_equals_a_naive_model(
        steps in prop::collection::vec((step(), 1..4usize), 1..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (mut world, mut model) = (World::new(), Model::new());
        for (step, times) in &steps {
            for _ in 0..*times {
                apply(&mut world, &mut model, step, &cuts);
            }
        }
        for id in world.clients.clone() {
            world.broker.closed(NOW, id, CloseReason::ClientClosed, &mut world.out);
        }
        prop_assert_eq!(world.broker.subscriptions.len(), 0);
        prop_assert!(world.broker.accounts[0].index.is_empty());
        prop_assert_eq!(world.out.memory(), 0);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4)) {
        let mut world = World::new();
        let id = world.clients[0];
        world.send(id, &bytes, &cuts);
        // Nobody else notices.
        let other = world.clients[1];
        world.send(other, b"PING\r\n", &[]);
        prop_assert_eq!(world.take(other), b"PONG\r\n");
    }
}
