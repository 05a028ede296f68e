//! Properties: routing equals a naive model, however the bytes are cut.

use std::collections::BTreeMap;

use proptest::prelude::*;
use subject::Filter;

use crate::{
    Broker, CloseReason, ConnectionId, Frame, NewConnection, Now, Outbox, OutboxLimits, Protocol, Settings, TlsFacts,
    Transport,
};

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

/// What happens to an outbox.
#[derive(Clone, Debug)]
enum Output {
    Deliver { to: usize, prefix: usize, tail: usize },
    Share { to: Vec<usize>, size: usize },
    Sent { to: usize, part: prop::sample::Index },
    Close { to: usize },
}

fn output() -> impl Strategy<Value = Output> {
    let to = 0..CLIENTS;
    prop_oneof![
        6 => (to.clone(), 0..60usize, 0..40_000usize).prop_map(|(to, prefix, tail)| Output::Deliver { to, prefix, tail }),
        2 => (prop::collection::vec(to.clone(), 1..4), 1..90_000usize).prop_map(|(to, size)| Output::Share { to, size }),
        4 => (to.clone(), any::<prop::sample::Index>()).prop_map(|(to, part)| Output::Sent { to, part }),
        1 => to.prop_map(|to| Output::Close { to }),
    ]
}

/// Bytes that differ from place to place, so that a piece in the wrong order is seen.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at % 251) as u8).collect()
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
        // What is left is the row that was there at the start: `$SYS.REQ.USER.INFO`.
        prop_assert_eq!(world.broker.accounts[0].index.len(), 1);
        prop_assert_eq!(world.out.memory(), 0);
    }

    #[test]
    fn what_goes_into_an_outbox_comes_out_in_order(steps in prop::collection::vec(output(), 1..30)) {
        let limits = OutboxLimits { budget: usize::MAX / 2, max_pending: usize::MAX / 2, write_deadline: 1 };
        let mut out = Outbox::new(0, limits);
        let mut ids: Vec<ConnectionId> = (0..CLIENTS).map(|slot| ConnectionId::new(0, slot as u32, 0)).collect();
        ids.iter().for_each(|id| out.open(*id));
        let mut expected: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS];
        for (number, step) in steps.iter().enumerate() {
            match step {
                Output::Deliver { to, prefix, tail } => {
                    let (prefix, tail) = (pattern(number, *prefix), pattern(number * 7, *tail));
                    out.deliver(*to, &prefix, &tail, tail.len());
                    expected[*to].extend_from_slice(&prefix);
                    expected[*to].extend_from_slice(&tail);
                }
                Output::Share { to, size } => {
                    let frame = Frame::new(pattern(number, *size));
                    for to in to {
                        out.deliver_shared(*to, b"MSG ", &frame, 1..*size, *size);
                        expected[*to].extend_from_slice(b"MSG ");
                        expected[*to].extend_from_slice(&frame.bytes()[1..]);
                    }
                }
                Output::Sent { to, part } => {
                    let count = part.index(expected[*to].len() + 1);
                    out.sent(ids[*to], count);
                    expected[*to].drain(..count);
                }
                Output::Close { to } => {
                    out.close(ids[*to]);
                    ids[*to] = ConnectionId::new(0, *to as u32, ids[*to].generation() + 1);
                    out.open(ids[*to]);
                    expected[*to].clear();
                }
            }
            for (id, expected) in ids.iter().zip(&expected) {
                prop_assert_eq!(out.pending_bytes(*id), expected.len());
                if !matches!(step, Output::Sent { .. }) && number + 1 < steps.len() {
                    continue;
                }
                let pending: Vec<u8> = out.pending(*id).flatten().copied().collect();
                prop_assert!(&pending == expected, "{:?} after {:?}", id, step);
            }
        }
        ids.iter().for_each(|id| out.close(*id));
        prop_assert_eq!(out.memory(), 0);
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
