//! A puller with a real stream behind it and a made-up origin before it, in one thread, from one seed: links are cut, messages and answers lost, the
//! store refuses and crashes, the origin deletes and is made anew. At the end nothing is missing, nothing is there twice, and the order is kept; and
//! nothing was ever confirmed to the origin that a crash could take back.

use std::collections::VecDeque;

use crate::api_error;
use crate::command::{Batch, Command, Deliveries, Event, Outcome, Request, Ticket};
use crate::config::{DeliverPolicy, ExternalStream, Source, StreamConfig};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::origin::{Asked, Begin, Created, Origins, Puller, Step, Take};
use crate::store::memory::MemoryStore;
use crate::store::{MessageBuffer, Store};
use crate::{JetStream, Limits};

const SECOND: u64 = 1_000_000;
const SEEDS: u64 = 100;
const ACTIONS: usize = 300;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// A stream elsewhere with the one consumer that was last asked for.
#[derive(Default)]
struct Elsewhere {
    incarnation: u64,
    held: Vec<u64>,
    last: u64,
    consumers: u64,
    consumer: Option<Far>,
}

struct Far {
    name: String,
    next: u64,
    sent: u64,
}

struct World {
    random: Random,
    is_mirror: bool,
    now: u64,
    store: MemoryStore,
    jetstream: JetStream,
    puller: Puller,
    batch: Batch,
    origin: Elsewhere,
    is_linked: bool,
    listens: bool,
    /// What is on its way: consumer sequence and sequence; 0: a heartbeat that says so much was sent.
    arriving: VecDeque<(String, u64, u64)>,
    answer: Option<Result<Created, api_error::ApiError>>,
    /// The last sequence that is durable here, of this incarnation.
    durable: u64,
    requests: u64,
}

fn source() -> Source {
    let external = Some(ExternalStream { api: "$JS.hub.API".into(), deliver: "".into() });
    Source { name: "FAR".into(), external, ..Source::default() }
}

fn config(is_mirror: bool) -> StreamConfig {
    StreamConfig {
        subjects: Vec::new(),
        duplicate_window_ns: 0,
        mirror: is_mirror.then(|| Box::new(source())),
        sources: if is_mirror { Vec::new() } else { vec![source()] },
        ..StreamConfig::named("S")
    }
}

impl World {
    fn new(seed: u64, is_mirror: bool) -> World {
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("an empty store");
        let mut world = World {
            random: Random(seed * 2 + 1),
            is_mirror,
            now: SECOND,
            store,
            jetstream,
            puller: placeholder(is_mirror),
            batch: Batch::default(),
            origin: Elsewhere { incarnation: 1, ..Elsewhere::default() },
            is_linked: true,
            listens: false,
            arriving: VecDeque::new(),
            answer: None,
            durable: 0,
            requests: 0,
        };
        let create = Request::StreamCreate { config: Box::new(config(is_mirror)) };
        world.batch.commands.push(Command::Request(Box::new(create)));
        let origins = world.turn().expect("origins are announced");
        world.host(&origins);
        world
    }

    fn host(&mut self, origins: &Origins) {
        let seed = self.random.below(u64::from(u32::MAX));
        self.puller = Puller::new(&origins.origins[0], "S", self.is_mirror, ("$G", None), self.now, seed);
        self.listens = false;
    }

    fn clock(&self) -> Now {
        Now { wall: Timestamp(self.now as i64 * 1000), age: AgeMillis(self.now / 1000) }
    }

    /// The store's turn over what waits. Gives the last announcement of origins.
    fn turn(&mut self) -> Option<Origins> {
        let (now, batch) = (self.clock(), std::mem::take(&mut self.batch));
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let applied = self.jetstream.apply(&mut self.store, now, &batch, &mut outcomes, &mut deliveries, &mut events);
        applied.expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now).expect("saves");
            self.store.commit().expect("commits");
            self.jetstream.committed(1);
        }
        let mut announced = events.into_iter().filter_map(|event| match event {
            Event::Origins { origins, .. } => Some(*origins),
            _ => None,
        });
        let announced = announced.next_back();
        if let Some(origins) = &announced {
            self.puller.handle_position(origins.origins[0].position);
        }
        for (command, outcome) in batch.commands.iter().zip(&outcomes) {
            let Command::Take(take) = command else { continue };
            let refused = if let Outcome::Refused(error) = outcome { Some(error) } else { None };
            if refused.is_none() {
                self.durable = take.sequence.0;
            }
            self.puller.handle_stored(self.now, take.sequence, refused);
        }
        announced
    }

    /// The process is gone: what was not committed too.
    fn crash(&mut self) {
        self.store.crash();
        self.batch = Batch::default();
        let now = self.clock();
        let (jetstream, events) = JetStream::load(&mut self.store, now, Limits::default()).expect("loads");
        self.jetstream = jetstream;
        let origins = events.into_iter().find_map(|event| match event {
            Event::Origins { origins, .. } => Some(*origins),
            _ => None,
        });
        self.host(&origins.expect("origins are announced"));
        (self.answer, self.listens) = (None, false);
        self.arriving.clear();
    }

    fn steps(&mut self) {
        self.puller.handle_timeout(self.now);
        while let Some(step) = self.puller.poll_step() {
            match step {
                Step::Ask(_) if !self.is_linked => self.puller.handle_unheard(self.now),
                Step::Ask(ask) => {
                    self.requests += 1;
                    self.listens = false;
                    self.arriving.clear();
                    let Asked::Create(_, config) = &ask.asked else { panic!("a consumer is asked for") };
                    let start = match config.deliver_policy {
                        DeliverPolicy::FromSequence(start) => start.0,
                        _ => 1,
                    };
                    self.answer = Some(self.origin.create(start, ask.identity.as_deref()));
                }
                Step::Listen { .. } => self.listens = true,
                Step::Leave => self.listens = false,
                Step::Begin(begun) => {
                    let identity = self.batch.add(begun.identity.as_bytes());
                    let (is_anew, skip_to) = (begun.is_anew, begun.skip_to);
                    if is_anew {
                        self.durable = 0;
                    }
                    let origin = self.origin_id();
                    let begin = Begin { stream: StreamId::FIRST, origin, identity, is_anew, skip_to };
                    self.batch.commands.push(Command::Begin(Box::new(begin)));
                }
                Step::Answer { last, .. } => {
                    let confirmed = last.map_or(0, |(_, sequence)| sequence.0);
                    assert!(confirmed <= self.durable, "{confirmed} is confirmed, {} is durable", self.durable);
                }
            }
        }
    }

    fn origin_id(&self) -> crate::origin::OriginId {
        let stream = self.jetstream.streams.get(&StreamId::FIRST).expect("the stream");
        stream.all_origins(&self.store, self.jetstream.key).origins[0].id
    }

    /// The origin sends what it has, as far as somebody listens.
    fn send(&mut self, most: usize) {
        let (listens, Some(far)) = (self.listens && self.is_linked, &mut self.origin.consumer) else { return };
        if !listens {
            return;
        }
        for _ in 0..most {
            let Some(next) = self.origin.held.iter().copied().find(|held| *held >= far.next) else { break };
            far.sent += 1;
            far.next = next + 1;
            self.arriving.push_back((far.name.clone(), far.sent, next));
        }
        self.arriving.push_back((far.name.clone(), far.sent, 0));
    }

    fn arrive(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.puller.handle_answer(self.now, answer);
            self.steps();
        }
        while let Some((name, sent, sequence)) = self.arriving.pop_front() {
            if !self.listens {
                continue;
            }
            if sequence == 0 {
                let headers = format!("NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {sent}\r\n\r\n");
                self.puller.handle_message(self.now, b"", headers.as_bytes(), true);
                self.puller.handle_message(self.now, b"$JS.FC.x", b"NATS/1.0 100 FlowControl Request\r\n\r\n", true);
                continue;
            }
            let reply = format!("$JS.ACK.FAR.{name}.1.{sequence}.{sent}.{}.0", time_of(sequence));
            let Some(taking) = self.puller.handle_message(self.now, reply.as_bytes(), b"", false) else { continue };
            if self.random.below(50) == 0 {
                self.puller.handle_overload(self.now);
                continue;
            }
            let (origin, subject) = (self.origin_id(), self.batch.add(b"far.a"));
            // Of different sizes: where there is little room the next one may fit.
            let body = format!("{}/{sequence}{}", self.origin.incarnation, " ".repeat((sequence * 37 % 200) as usize));
            let payload = self.batch.add(body.as_bytes());
            let take = Take {
                stream: StreamId::FIRST,
                origin,
                ticket: Ticket::default(),
                sequence: taking.sequence,
                previous: taking.previous,
                time: taking.time,
                subject,
                payload,
                ..Take::default()
            };
            self.batch.commands.push(Command::Take(Box::new(take)));
        }
        self.steps();
    }

    fn act(&mut self) {
        match self.random.below(20) {
            0..=5 => self.origin.publish(1 + self.random.below(6)),
            6 => {
                let nth = self.random.below(self.origin.held.len() as u64 + 1) as usize;
                if nth < self.origin.held.len() {
                    self.origin.held.remove(nth);
                }
            }
            7 => _ = self.arriving.pop_front(),
            8 => _ = self.arriving.pop_back(),
            9 => self.answer = None,
            10 => {
                self.is_linked = !self.is_linked;
                if self.is_linked {
                    self.puller.handle_reachable(self.now);
                } else {
                    self.arriving.clear();
                    self.answer = None;
                    self.puller.handle_link_down(self.now);
                }
            }
            11 => self.crash(),
            12 => {
                let room = self.store.space().used + self.random.below(400);
                self.store.set_capacity(Some(room));
            }
            13..=14 => self.store.set_capacity(None),
            15 => self.origin.forget(),
            16 if !self.is_mirror && self.random.below(4) == 0 => {
                self.origin = Elsewhere { incarnation: self.origin.incarnation + 1, ..Elsewhere::default() };
                self.arriving.clear();
                self.answer = None;
            }
            _ => self.now += self.random.below(3 * SECOND),
        }
    }

    fn run(&mut self) {
        for _ in 0..ACTIONS {
            self.act();
            self.now += self.random.below(SECOND / 4);
            self.steps();
            let most = self.random.below(5) as usize;
            self.send(most);
            if self.random.below(3) > 0 {
                self.arrive();
            }
            if self.random.below(3) > 0 {
                self.turn();
                self.steps();
            }
        }
        self.store.set_capacity(None);
        self.is_linked = true;
        self.puller.handle_reachable(self.now);
        for _ in 0..400 {
            self.now += SECOND / 4;
            self.steps();
            self.send(100);
            self.arrive();
            self.turn();
            self.steps();
        }
    }

    fn stored(&mut self) -> Vec<(u64, String, i64)> {
        let mut buffer = MessageBuffer::default();
        self.store.read(StreamId::FIRST, Sequence(1), &[], usize::MAX, usize::MAX, &mut buffer).expect("reads");
        let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).expect("text").trim_end().to_owned();
        buffer.iter().map(|message| (message.sequence.0, text(message.payload), message.time.0)).collect()
    }

    fn check(&mut self, seed: u64) {
        let stored = self.stored();
        let bodies: Vec<(u64, u64)> = stored
            .iter()
            .map(|(_, body, _)| {
                let (incarnation, sequence) = body.split_once('/').expect("a body of ours");
                (incarnation.parse().expect("number"), sequence.parse().expect("number"))
            })
            .collect();
        assert!(bodies.is_sorted_by(|one, other| one < other), "seed {seed}: twice, or out of order: {bodies:?}");
        for held in &self.origin.held {
            assert!(bodies.contains(&(self.origin.incarnation, *held)), "seed {seed}: {held} is missing: {bodies:?}");
        }
        if self.is_mirror {
            for (sequence, body, time) in &stored {
                assert_eq!((body, *time), (&format!("1/{sequence}"), time_of(*sequence)), "seed {seed}");
            }
        }
    }
}

fn placeholder(is_mirror: bool) -> Puller {
    let facts = crate::origin::OriginFacts {
        id: crate::origin::OriginId(0),
        source: source(),
        position: Sequence(0),
        identity: "".into(),
        consumer: "".into(),
    };
    Puller::new(&facts, "S", is_mirror, ("$G", None), 0, 1)
}

fn time_of(sequence: u64) -> i64 {
    1_000 + sequence as i64
}

impl Elsewhere {
    fn publish(&mut self, count: u64) {
        self.held.extend(self.last + 1..=self.last + count);
        self.last += count;
    }

    /// It was restarted, and does not know its consumers any more.
    fn forget(&mut self) {
        self.consumer = None;
    }

    fn create(&mut self, start: u64, identity: Option<&str>) -> Result<Created, api_error::ApiError> {
        let own = format!("i{}", self.incarnation);
        if identity.is_some_and(|known| !known.is_empty() && known != own) {
            return Err(api_error::consumer_stream_identity_mismatch(&own));
        }
        self.consumers += 1;
        let name = format!("C{}", self.consumers);
        self.consumer = Some(Far { name: name.clone(), next: start, sent: 0 });
        Ok(Created {
            name: name.into(),
            deliver_subject: "$JS.S.x".into(),
            delivered: Sequence(start - 1),
            is_confirmed_by_flow: false,
            identity: own.into(),
        })
    }
}

#[test]
fn a_source_misses_nothing_and_has_nothing_twice() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, false);
        world.run();
        world.check(seed);
    }
}

#[test]
fn a_mirror_holds_what_its_origin_holds() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, true);
        world.run();
        world.check(seed);
    }
}

#[test]
fn an_origin_that_is_quiet_is_asked_once() {
    let mut world = World::new(3, false);
    for _ in 0..200 {
        world.now += SECOND / 2;
        world.steps();
        world.send(1);
        world.arrive();
        world.turn();
    }
    assert_eq!(world.requests, 1, "heartbeats are enough");
}

/// A cluster without a leader loses requests, and nobody tells when there is one: for as long as an election may take it is asked every five seconds.
#[test]
fn an_origin_that_does_not_answer_is_asked_again_soon_and_then_less() {
    let mut world = World::new(3, false);
    let mut asked = Vec::new();
    for quarter in 0..400 {
        world.now = SECOND + quarter * SECOND / 4;
        let before = world.requests;
        world.steps();
        world.answer = None;
        if world.requests > before {
            asked.push(quarter / 4);
        }
    }
    // Between two are 5, 5, 5, 10, 20 and 30 seconds, and what each is late at random.
    assert_eq!(asked, [0, 5, 10, 16, 26, 46, 76], "seconds");
}
