//! JetStream on this store is JetStream on the memory store: the same commands have the same outcomes, deliveries and events, after a reopening and after
//! a crash too.

use jetstream::command::{
    Ack, Append, Batch, Command, ConsumerAction, Deliveries, Event, MessageGet, Outcome, Pull, Request,
};
use jetstream::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Discard, Retention, StreamConfig};
use jetstream::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
use jetstream::store::Store;
use jetstream::store::memory::MemoryStore;
use jetstream::{JetStream, Limits};
use proptest::prelude::*;
use sqlite_store::SqliteStore;
use subject::Filter;

use crate::options;

const STREAMS: [(&str, Retention); 3] =
    [("L", Retention::Limits), ("W", Retention::WorkQueue), ("I", Retention::Interest)];
const CONSUMERS: [&str; 2] = ["one", "two"];
const HEADERS: [&str; 6] = [
    "Nats-Rollup: sub",
    "Nats-Rollup: all",
    "Nats-TTL: 1",
    "Nats-Expected-Last-Sequence: 3",
    "Nats-Expected-Last-Subject-Sequence: 0",
    "Other: header",
];

#[derive(Clone, Debug)]
enum Step {
    Publish { stream: u8, subject: u8, count: u8, header: Option<u8>, id: Option<u8> },
    Pull { stream: u8, consumer: u8, batch: u8, waits: bool },
    Ack { which: u16, how: u8 },
    Purge { stream: u8, subject: Option<u8>, below: Option<u8>, keep: Option<u8> },
    Erase { stream: u8, sequence: u8 },
    Look { stream: u8, what: u8 },
    Update { stream: u8, variant: u8 },
    Delete { stream: u8 },
    Consumer { stream: u8, consumer: u8, variant: u8 },
    DeleteConsumer { stream: u8, consumer: u8 },
    Pass(u16),
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let header = || prop::option::weighted(0.3, 0..HEADERS.len() as u8);
    let id = || prop::option::weighted(0.2, 0..6u8);
    prop_oneof![
        8 => (0..3u8, 0..5u8, 1..8u8, header(), id())
            .prop_map(|(stream, subject, count, header, id)| Step::Publish { stream, subject, count, header, id }),
        6 => (0..3u8, 0..2u8, 1..9u8, prop::bool::weighted(0.2))
            .prop_map(|(stream, consumer, batch, waits)| Step::Pull { stream, consumer, batch, waits }),
        8 => (any::<u16>(), 0..6u8).prop_map(|(which, how)| Step::Ack { which, how }),
        2 => (0..3u8, prop::option::of(0..5u8), prop::option::weighted(0.3, any::<u8>()), prop::option::weighted(0.3, 0..9u8))
            .prop_map(|(stream, subject, below, keep)| Step::Purge { stream, subject, below, keep }),
        2 => (0..3u8, any::<u8>()).prop_map(|(stream, sequence)| Step::Erase { stream, sequence }),
        4 => (0..3u8, 0..9u8).prop_map(|(stream, what)| Step::Look { stream, what }),
        1 => (0..3u8, 0..6u8).prop_map(|(stream, variant)| Step::Update { stream, variant }),
        1 => (0..3u8).prop_map(|stream| Step::Delete { stream }),
        2 => (0..3u8, 0..2u8, 0..8u8).prop_map(|(stream, consumer, variant)| Step::Consumer { stream, consumer, variant }),
        1 => (0..3u8, 0..2u8).prop_map(|(stream, consumer)| Step::DeleteConsumer { stream, consumer }),
        3 => (1..1500u16).prop_map(Step::Pass),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// JetStream on one of the stores.
struct Side<S> {
    store: S,
    jetstream: JetStream,
}

impl<S: Store> Side<S> {
    /// What came of a turn, as text.
    fn turn(&mut self, now: Now, batch: &Batch) -> (Vec<Outcome>, Deliveries, Vec<Event>) {
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let store = &mut self.store;
        self.jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).unwrap();
        self.jetstream.tick(store, now, &mut deliveries, &mut events).unwrap();
        if self.jetstream.needs_commit(now) {
            self.commit(now);
        }
        (outcomes, deliveries, events)
    }

    fn commit(&mut self, now: Now) {
        self.jetstream.before_commit(&mut self.store, now).unwrap();
        self.store.commit().unwrap();
        self.jetstream.committed(1);
    }

    fn load(&mut self, now: Now) -> Vec<Event> {
        let (jetstream, events) = JetStream::load(&mut self.store, now, Limits::default()).unwrap();
        self.jetstream = jetstream;
        events
    }
}

struct Pair {
    folder: tempfile::TempDir,
    ours: Option<Side<SqliteStore>>,
    model: Side<MemoryStore>,
    age: u64,
    /// Ids of messages that were removed may be remembered longer after an opening: each opening has its own.
    openings: u32,
    streams: [Option<StreamId>; 3],
    /// Ack subjects that came, and for which consumer.
    acks: Vec<(ConsumerId, Vec<u8>)>,
    consumers: Vec<(ConsumerId, Box<str>, Box<str>)>,
}

fn config(stream: usize, variant: u8) -> StreamConfig {
    let (name, retention) = STREAMS[stream];
    StreamConfig {
        subjects: vec![Filter::parse(&format!("{name}.>")).unwrap()],
        retention,
        max_messages: if variant & 1 == 0 { 40 } else { -1 },
        max_messages_per_subject: if variant & 2 == 0 { -1 } else { 3 },
        max_age_ns: if variant == 5 { 3_000_000_000 } else { 0 },
        duplicate_window_ns: 2_000_000_000,
        discard: if variant == 4 { Discard::New } else { Discard::Old },
        allow_rollup: true,
        allow_message_ttl: true,
        ..StreamConfig::named(name)
    }
}

fn consumer(stream: usize, consumer: usize, variant: u8) -> ConsumerConfig {
    let (name, retention) = STREAMS[stream];
    let filter = |number: usize| Filter::parse(&format!("{name}.{number}")).unwrap();
    let filters = match (retention, variant & 1) {
        (Retention::Limits, 0) => vec![],
        (Retention::Limits, _) => vec![filter(1), filter(2)],
        _ => vec![filter(consumer), filter(consumer + 2)],
    };
    let last = variant >= 6 && retention == Retention::Limits && !filters.is_empty();
    ConsumerConfig {
        filters,
        durable: true,
        deliver_policy: if last { DeliverPolicy::LastPerSubject } else { DeliverPolicy::All },
        ack_policy: if variant == 4 && retention == Retention::Limits { AckPolicy::All } else { AckPolicy::Explicit },
        ack_wait_ns: 1_000_000_000,
        max_deliver: if variant & 2 == 0 { -1 } else { 2 },
        max_ack_pending: 12,
        ..ConsumerConfig::named(CONSUMERS[consumer])
    }
}

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let load = |store: &mut dyn Store| JetStream::load(store, Now::default(), Limits::default()).unwrap().0;
        let mut store = Pair::open(folder.path());
        let ours = Side { jetstream: load(&mut store), store };
        let mut store = MemoryStore::with_crashes();
        let model = Side { jetstream: load(&mut store), store };
        let mut pair = Pair {
            folder,
            ours: Some(ours),
            model,
            age: 1,
            openings: 0,
            streams: [None; 3],
            acks: Vec::new(),
            consumers: Vec::new(),
        };
        for stream in 0..STREAMS.len() {
            pair.run(&Step::Update { stream: stream as u8, variant: 0 });
            for consumer in 0..CONSUMERS.len() {
                pair.run(&Step::Consumer { stream: stream as u8, consumer: consumer as u8, variant: consumer as u8 });
            }
        }
        pair
    }

    fn open(folder: &std::path::Path) -> SqliteStore {
        let (store, report) = SqliteStore::open(folder, options()).unwrap();
        assert_eq!(report.damage, []);
        store
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) }
    }

    /// The same turn on both.
    fn turn(&mut self, commands: Vec<Command>, mut batch: Batch) {
        batch.commands = commands;
        let now = self.now();
        let ours = self.ours.as_mut().unwrap().turn(now, &batch);
        let model = self.model.turn(now, &batch);
        assert_eq!(format!("{:?}", ours.0), format!("{:?}", model.0));
        assert_eq!(listed(&ours.1), listed(&model.1));
        assert_eq!(format!("{:?}", ours.2), format!("{:?}", model.2));
        self.note(&ours.2);
        let mut credit = Vec::new();
        for delivery in ours.1.entries.iter().filter(|delivery| delivery.from.is_some()) {
            let ack = delivery.reply.of(&ours.1.arena);
            let mut words = std::str::from_utf8(ack).unwrap().split('.').skip(2);
            let names = (words.next().unwrap(), words.next().unwrap());
            let known = self.consumers.iter().rev().find(|(_, stream, name)| (&**stream, &**name) == names);
            self.acks.extend(known.map(|(id, ..)| (*id, ack.to_vec())));
            credit.extend(delivery.from.map(|to| Command::Credit { to, bytes: delivery.cost() }));
        }
        if !credit.is_empty() {
            self.turn(credit, Batch::default());
        }
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::StreamUp { stream, name, .. } => {
                    let place = STREAMS.iter().position(|(known, _)| *known == &**name);
                    self.streams[place.unwrap()] = Some(*stream);
                }
                Event::StreamDown { stream } => {
                    self.streams.iter_mut().filter(|known| **known == Some(*stream)).for_each(|known| *known = None);
                }
                Event::ConsumerUp { consumer, stream, name, .. } => {
                    self.consumers.push((*consumer, stream.clone(), name.clone()));
                }
                _ => {}
            }
        }
    }

    fn request(&mut self, request: Request) {
        self.turn(vec![Command::Request(Box::new(request))], Batch::default());
    }

    fn run(&mut self, step: &Step) {
        let name = |stream: u8| -> Box<str> { STREAMS[usize::from(stream)].0.into() };
        let named = |consumer: u8| -> Box<str> { CONSUMERS[usize::from(consumer)].into() };
        match *step {
            Step::Publish { stream, subject, count, header, id } => self.publish(stream, subject, count, header, id),
            Step::Pull { stream, consumer, batch, waits } => {
                let pull = Pull {
                    stream: name(stream),
                    consumer: named(consumer),
                    inbox: b"in".as_slice().into(),
                    batch: u32::from(batch),
                    no_wait: !waits,
                    expires_ms: waits.then_some(2000),
                    ..Pull::default()
                };
                self.turn(vec![Command::Pull(Box::new(pull))], Batch::default());
            }
            Step::Ack { which, how } => self.acknowledge(which, how),
            Step::Purge { stream, subject, below, keep } => self.request(Request::StreamPurge {
                name: name(stream),
                filter: subject.map(|subject| format!("{}.{subject}", name(stream)).into()),
                below: below.map(|below| Sequence(u64::from(below))),
                keep: keep.map(u64::from),
            }),
            Step::Erase { stream, sequence } => {
                let sequence = Sequence(u64::from(sequence));
                self.request(Request::MessageDelete { name: name(stream), sequence, erase: true });
            }
            Step::Look { stream, what } => self.look(&name(stream), what),
            Step::Update { stream, variant } => {
                let config = Box::new(config(usize::from(stream), variant));
                self.request(match self.streams[usize::from(stream)] {
                    None => Request::StreamCreate { config },
                    Some(_) => Request::StreamUpdate { config },
                });
            }
            Step::Delete { stream } => self.request(Request::StreamDelete { name: name(stream) }),
            Step::Consumer { stream, consumer: number, variant } => self.request(Request::ConsumerCreate {
                stream: name(stream),
                config: Box::new(consumer(usize::from(stream), usize::from(number), variant)),
                action: ConsumerAction::CreateOrUpdate,
            }),
            Step::DeleteConsumer { stream, consumer } => {
                self.request(Request::ConsumerDelete { stream: name(stream), name: named(consumer) });
            }
            Step::Pass(millis) => {
                self.age += u64::from(millis);
                self.turn(Vec::new(), Batch::default());
            }
            Step::Reopen => {
                let now = self.now();
                self.ours.as_mut().unwrap().commit(now);
                self.model.commit(now);
                self.reopen();
            }
            Step::Crash => {
                self.model.store.crash();
                self.reopen();
            }
        }
    }

    fn publish(&mut self, stream: u8, subject: u8, count: u8, header: Option<u8>, id: Option<u8>) {
        let Some(to) = self.streams[usize::from(stream)] else { return };
        let (mut batch, mut commands) = (Batch::default(), Vec::new());
        for number in 0..count {
            let mut block = String::from("NATS/1.0\r\n");
            block.extend(header.map(|header| format!("{}\r\n", HEADERS[usize::from(header)])));
            block.extend(id.map(|id| format!("Nats-Msg-Id: {}.{id}\r\n", self.openings)));
            block.push_str("\r\n");
            let subject = batch.add(format!("{}.{subject}", STREAMS[usize::from(stream)].0).as_bytes());
            let headers = if block.len() > 12 { batch.add(block.as_bytes()) } else { batch.add(b"") };
            let payload = batch.add(&vec![number; usize::from(number) * 7]);
            commands.push(Command::Append(Append { stream: to, subject, headers, payload, ..Append::default() }));
        }
        self.turn(commands, batch);
    }

    fn acknowledge(&mut self, which: u16, how: u8) {
        let Some((consumer, subject)) = self.acks.get(usize::from(which) % self.acks.len().max(1)).cloned() else {
            return;
        };
        let mut batch = Batch::default();
        let payload = [&b""[..], b"+ACK", b"-NAK", b"+WPI", b"+TERM", b"-NAK {\"delay\":500000000}"][usize::from(how)];
        let (subject, payload) = (batch.add(&subject), batch.add(payload));
        let reply = batch.add(if how.is_multiple_of(2) { b"" } else { b"reply" });
        self.turn(vec![Command::Ack(Ack { consumer, subject, payload, reply })], batch);
    }

    fn look(&mut self, name: &str, what: u8) {
        let (stream, sequence) = (name.into(), Sequence(u64::from(what) * 3));
        let get = |get: MessageGet| Request::MessageGet { name: name.into(), get };
        self.request(match what {
            0 | 1 => Request::StreamInfo {
                name: stream,
                subjects_filter: Some(">".into()),
                deleted_details: true,
                offset: u64::from(what),
            },
            2 => Request::ConsumerList { stream, offset: 0 },
            3 => Request::AccountInfo,
            4 => get(MessageGet::LastBySubject(format!("{name}.*").into())),
            5 => get(MessageGet::NextBySubject(sequence, format!("{name}.1").into())),
            6 => get(MessageGet::FromTime(Timestamp(self.age as i64 * 500_000), None)),
            _ => get(MessageGet::Sequence(sequence)),
        });
    }

    fn reopen(&mut self) {
        let now = self.now();
        self.openings += 1;
        self.ours = None;
        (self.streams, self.consumers) = ([None; 3], Vec::new());
        let mut store = Pair::open(self.folder.path());
        let (jetstream, ours) = JetStream::load(&mut store, now, Limits::default()).unwrap();
        self.ours = Some(Side { store, jetstream });
        let model = self.model.load(now);
        assert_eq!(format!("{ours:?}"), format!("{model:?}"));
        self.note(&ours);
    }
}

/// Deliveries as bytes, with who pays for them.
fn listed(deliveries: &Deliveries) -> Vec<String> {
    let each = deliveries.entries.iter().map(|delivery| {
        let piece = |span: jetstream::command::Span| span.of(&deliveries.arena).escape_ascii().to_string();
        format!("{:?} {} {} {}", delivery.from, piece(delivery.to), piece(delivery.subject), piece(delivery.tail))
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn like_streams_in_memory(steps in prop::collection::vec(step(), 1..70)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.run(step);
        }
        pair.run(&Step::Reopen);
        for stream in 0..3 {
            pair.run(&Step::Look { stream, what: 0 });
            pair.run(&Step::Look { stream, what: 2 });
        }
    }
}
