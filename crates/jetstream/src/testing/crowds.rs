//! Many consumers are told only what concerns them ([`crate::stream::audience`]): nobody can tell that from a stream that tells each of them everything.

use std::collections::BTreeMap;

use proptest::prelude::{Strategy, any, prop, proptest};

use crate::command::{Ack, Answer, Append, Batch, Command, ConsumerAction, Deliveries, Event, Outcome, Pull, Request};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Push, Retention, StreamConfig};
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::testing::credits;
use crate::{JetStream, Limits};
use subject::Filter;

const CONSUMERS: u8 = 7;
const FILTERS: [&[&str]; 6] = [&[], &["s.1"], &["s.0", "s.4"], &["s.2", "s.3"], &["s.>"], &["s.0"]];

impl JetStream {
    /// As if all streams had many consumers.
    pub(crate) fn make_crowds(&mut self) {
        let streams: Vec<StreamId> = self.stream_names.values().copied().collect();
        for id in streams {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.audience.make_crowd(stream.consumers.values().copied(), 7);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The first subject, how many, and how far apart their subjects are.
    Publish(u8, u8, u8),
    Pull(u8, u8),
    Answer(u8, u16, bool),
    /// Whether somebody listens to a push consumer.
    Listen(u8, bool),
    Purge(Option<u8>),
    Erase(u8),
    Pass(u16),
    Delete(u8),
    /// Created with these filters, instead of the one that was there.
    Make(u8, u8),
    Reset(u8, u8),
    Look(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let consumer = || 0..CONSUMERS;
    proptest::prop_oneof![
        10 => (0..5u8, 1..6u8, 0..3u8).prop_map(|(subject, count, apart)| Step::Publish(subject, count, apart)),
        6 => (consumer(), 1..9u8).prop_map(|(consumer, batch)| Step::Pull(consumer, batch)),
        8 => (consumer(), any::<u16>(), any::<bool>()).prop_map(|(one, which, ack)| Step::Answer(one, which, ack)),
        3 => (consumer(), any::<bool>()).prop_map(|(consumer, is_there)| Step::Listen(consumer, is_there)),
        1 => prop::option::of(0..5u8).prop_map(Step::Purge),
        2 => any::<u8>().prop_map(Step::Erase),
        2 => (1..1500u16).prop_map(Step::Pass),
        1 => consumer().prop_map(Step::Delete),
        2 => (consumer(), 0..FILTERS.len() as u8).prop_map(|(consumer, filters)| Step::Make(consumer, filters)),
        1 => (consumer(), 1..40u8).prop_map(|(consumer, begin)| Step::Reset(consumer, begin)),
        2 => consumer().prop_map(Step::Look),
    ]
}

/// What a stream is like.
#[derive(Clone, Copy, Debug)]
struct Shape {
    retention: Retention,
    max_messages: i64,
    per_subject: i64,
}

fn shape() -> impl Strategy<Value = Shape> {
    let limits = (prop::option::of(5..30i64), prop::option::of(1..4i64));
    (any::<bool>(), limits).prop_map(|(interest, (max_messages, per_subject))| Shape {
        retention: if interest { Retention::Interest } else { Retention::Limits },
        max_messages: max_messages.unwrap_or(-1),
        per_subject: per_subject.unwrap_or(-1),
    })
}

struct World {
    jetstream: JetStream,
    store: MemoryStore,
    age: u64,
    ids: BTreeMap<Box<str>, ConsumerId>,
    /// By consumer: subjects with all of the acknowledgement's subject but how many are left, which is counted again at different times.
    got: BTreeMap<String, Vec<(Vec<u8>, String)>>,
    /// Acknowledgement subjects of what was not answered.
    open: BTreeMap<String, Vec<Vec<u8>>>,
}

impl World {
    fn new(shape: Shape, crowded: bool) -> World {
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let (ids, got, open) = Default::default();
        let mut world = World { jetstream, store, age: 1, ids, got, open };
        let config = StreamConfig {
            subjects: vec![Filter::parse("s.>").expect("valid")],
            retention: shape.retention,
            max_messages: shape.max_messages,
            max_messages_per_subject: shape.per_subject,
            ..StreamConfig::named("S")
        };
        world.ask(Request::StreamCreate { config: Box::new(config) });
        if crowded {
            world.jetstream.make_crowds();
        }
        (0..CONSUMERS).for_each(|number| world.make(number, number % FILTERS.len() as u8));
        world
    }

    /// Made anew where there is one already: what did not match is passed sooner in a crowd, and by other filters one could tell.
    fn make(&mut self, number: u8, filters: u8) {
        let is_slow = number % 2 == 1;
        let filters = FILTERS[usize::from(filters)].iter().map(|filter| Filter::parse(filter).expect("valid"));
        let push = Push { subject: format!("to.{number}").into(), ..Push::default() };
        let config = ConsumerConfig {
            filters: filters.collect(),
            ack_wait_ns: 1_000_000_000,
            max_ack_pending: if is_slow { 2 } else { 1000 },
            push: (number % 3 == 2).then_some(push),
            ack_policy: if number == 5 { AckPolicy::None } else { AckPolicy::Explicit },
            deliver_policy: if number == 4 { DeliverPolicy::LastPerSubject } else { DeliverPolicy::All },
            ..ConsumerConfig::named(&format!("c{number}"))
        };
        self.ask(Request::ConsumerDelete { stream: "S".into(), name: format!("c{number}").into() });
        let action = ConsumerAction::CreateOrUpdate;
        self.ask(Request::ConsumerCreate { stream: "S".into(), config: Box::new(config), action });
    }

    fn ask(&mut self, request: Request) -> Answer {
        let outcome = self.turn(&Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() });
        let Some(Outcome::Answer(answer)) = outcome.into_iter().next() else { panic!("no answer") };
        *answer
    }

    /// The batch, and all that follows from it at once.
    fn turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let first = self.one_turn(batch);
        for _ in 0..100 {
            let now = AgeMillis(self.age);
            if self.jetstream.next_wake(Now { age: now, ..Now::default() }).is_none_or(|at| at > now) {
                return first;
            }
            self.one_turn(&Batch::default());
        }
        panic!("there is always more to do");
    }

    fn one_turn(&mut self, batch: &Batch) -> Vec<Outcome> {
        let now = Now { wall: Timestamp(self.age as i64 * 1_000_000), age: AgeMillis(self.age) };
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        let World { jetstream, store, .. } = self;
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
        if jetstream.needs_commit(now) {
            jetstream.before_commit(store, now).expect("saves");
            jetstream.committed(1);
        }
        for event in events {
            if let Event::ConsumerUp { consumer, name, .. } = event {
                self.ids.insert(name, consumer);
            }
        }
        for delivery in deliveries.entries.iter().filter(|delivery| delivery.from.is_some()) {
            let reply = delivery.reply.of(&deliveries.arena);
            let text = String::from_utf8_lossy(reply);
            let (place, _) = text.rsplit_once('.').expect("tokens");
            let name = place.split('.').nth(3).expect("a consumer").to_owned();
            let subject = delivery.subject.of(&deliveries.arena).to_vec();
            self.got.entry(name.clone()).or_default().push((subject, place.to_owned()));
            self.open.entry(name).or_default().push(reply.to_vec());
        }
        let credit = credits(&deliveries);
        if !credit.commands.is_empty() {
            self.one_turn(&credit);
        }
        outcomes
    }

    fn run(&mut self, step: &Step) -> String {
        let name = |number: &u8| Box::<str>::from(format!("c{number}"));
        match step {
            Step::Publish(subject, count, apart) => {
                let mut batch = Batch::default();
                for number in 0..*count {
                    let subject = batch.add(format!("s.{}", (subject + number * apart) % 5).as_bytes());
                    let append = Append { stream: StreamId::FIRST, subject, ..Append::default() };
                    batch.commands.push(Command::Append(append));
                }
                format!("{:?}", self.turn(&batch))
            }
            Step::Pull(number, batch) => {
                let (stream, consumer, inbox) = ("S".into(), name(number), b"in".as_slice().into());
                let (batch, expires_ms) = (u32::from(*batch), Some(700));
                let pull = Pull { stream, consumer, inbox, batch, expires_ms, ..Pull::default() };
                let commands = vec![Command::Pull(Box::new(pull))];
                format!("{:?}", self.turn(&Batch { commands, ..Batch::default() }))
            }
            Step::Answer(number, which, is_ack) => {
                let Some(open) = self.open.get_mut(&*name(number)).filter(|open| !open.is_empty()) else {
                    return String::new();
                };
                let reply = open.remove(usize::from(*which) % open.len());
                let mut batch = Batch::default();
                let payload = if *is_ack { b"".as_slice() } else { b"-NAK" };
                let (subject, payload, reply) = (batch.add(&reply), batch.add(payload), batch.add(b""));
                let consumer = self.ids[&name(number)];
                batch.commands.push(Command::Ack(Ack { consumer, subject, payload, reply }));
                format!("{:?}", self.turn(&batch))
            }
            Step::Listen(number, is_there) => {
                let commands = vec![Command::Interest { consumer: self.ids[&name(number)], is_there: *is_there }];
                format!("{:?}", self.turn(&Batch { commands, ..Batch::default() }))
            }
            Step::Purge(subject) => {
                let filter = subject.map(|subject| format!("s.{subject}").into());
                self.shown(Request::StreamPurge { name: "S".into(), filter, below: None, keep: None })
            }
            Step::Erase(which) => {
                let sequence = Sequence(u64::from(*which) % 60 + 1);
                self.shown(Request::MessageDelete { name: "S".into(), sequence, erase: false })
            }
            Step::Pass(millis) => {
                self.age += u64::from(*millis);
                format!("{:?}", self.turn(&Batch::default()))
            }
            Step::Delete(number) => self.shown(Request::ConsumerDelete { stream: "S".into(), name: name(number) }),
            Step::Make(number, filters) => {
                self.make(*number, *filters);
                String::new()
            }
            Step::Reset(number, begin) => self.shown_consumer(Request::ConsumerReset {
                stream: "S".into(),
                name: name(number),
                // Ahead of the stream, what is left is counted by what comes until then.
                sequence: Sequence(u64::from(*begin)).min(self.store.state(StreamId::FIRST).last.next()),
                with_identity: false,
            }),
            Step::Look(number) => self.look(*number),
        }
    }

    fn shown(&mut self, request: Request) -> String {
        format!("{:?}", self.ask(request))
    }

    fn look(&mut self, number: u8) -> String {
        self.shown_consumer(Request::ConsumerInfo { stream: "S".into(), name: format!("c{number}").into() })
    }

    /// Whether the beginning of the stream moved it, or it was behind that before, is all the same.
    fn shown_consumer(&mut self, request: Request) -> String {
        let mut info = match self.ask(request) {
            Answer::Consumer(info) | Answer::Reset { info, .. } => info,
            other => return format!("{other:?}"),
        };
        let before_first = Sequence(self.store.state(StreamId::FIRST).first.0 - 1);
        for place in [&mut info.delivered.1, &mut info.ack_floor.1] {
            *place = before_first.max(*place);
        }
        format!("{info:?}")
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(128))]
    #[test]
    fn a_crowd_is_told_what_each_of_a_few_is_told(shape in shape(), steps in prop::collection::vec(step(), 0..70)) {
        let (mut few, mut many) = (World::new(shape, false), World::new(shape, true));
        for step in &steps {
            assert_eq!(few.run(step), many.run(step), "{step:?}");
            assert_eq!(few.got, many.got, "after {step:?}");
        }
        for number in 0..CONSUMERS {
            assert_eq!(few.look(number), many.look(number));
        }
    }
}
