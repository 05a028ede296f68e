//! Everything that the API does to a stream's messages, against a list: publishes with expectations and roll-ups, purges in all forms, deletes, changed
//! limits, gets, and openings in between.

use proptest::prelude::{Just, Strategy, any, prop, proptest};

use crate::command::{Answer, Append, Batch, Command, Deliveries, Event, MessageGet, Outcome, Request};
use crate::config::{Discard, StreamConfig};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::store::memory::MemoryStore;
use crate::{JetStream, Limits};
use subject::Filter;

const SUBJECTS: u8 = 4;
const FILTERS: [&str; 5] = ["s.0", "s.1", "s.*", ">", "none"];

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, Header),
    Purge { filter: Option<u8>, below: Option<u8>, keep: Option<u8> },
    Delete(u8),
    Limits { most: u8, per_subject: u8, discards_new: bool, per_subject_too: bool },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Header {
    None,
    RollUpSubject,
    RollUpAll,
    /// Distances from the right number.
    LastSequence(u8),
    SubjectSequence(u8),
    /// Of all that a filter matches.
    FilterSequence(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let header = proptest::prop_oneof![
        10 => Just(Header::None),
        1 => Just(Header::RollUpSubject),
        1 => Just(Header::RollUpAll),
        2 => (0..2u8).prop_map(Header::LastSequence),
        2 => (0..2u8).prop_map(Header::SubjectSequence),
        1 => (0..FILTERS.len() as u8, 0..2u8).prop_map(|(filter, distance)| Header::FilterSequence(filter, distance)),
    ];
    let optional = |end: u8| prop::option::weighted(0.4, 0..end);
    proptest::prop_oneof![
        12 => (0..SUBJECTS, header).prop_map(|(subject, header)| Step::Publish(subject, header)),
        3 => (optional(FILTERS.len() as u8), optional(60), optional(6))
            .prop_map(|(filter, below, keep)| Step::Purge { filter, below, keep }),
        3 => (0..60u8).prop_map(Step::Delete),
        1 => (0..20u8, 0..5u8, any::<bool>(), any::<bool>()).prop_map(|(most, per_subject, discards_new, too)| {
            Step::Limits { most, per_subject, discards_new, per_subject_too: too && discards_new && per_subject > 0 }
        }),
        1 => Just(Step::Reopen),
    ]
}

/// The stream as a list of sequence and subject.
#[derive(Default)]
struct Model {
    messages: Vec<(u64, u8)>,
    last: u64,
    most: usize,
    per_subject: usize,
    discards_new: bool,
    per_subject_too: bool,
}

fn matches(filter: &str, subject: u8) -> bool {
    Filter::parse(filter).expect("filter").matches(format!("s.{subject}").as_bytes())
}

impl Model {
    fn newest(&self, filter: &str) -> u64 {
        self.messages.iter().rev().find(|(_, subject)| matches(filter, *subject)).map_or(0, |(sequence, _)| *sequence)
    }

    fn publish(&mut self, subject: u8, header: Header) -> Option<u64> {
        let own = format!("s.{subject}");
        let is_wrong = match header {
            Header::LastSequence(distance)
            | Header::SubjectSequence(distance)
            | Header::FilterSequence(_, distance) => distance != 0,
            _ => false,
        };
        let rolls_up = matches!(header, Header::RollUpSubject | Header::RollUpAll);
        let on_subject = self.messages.iter().filter(|(_, other)| *other == subject).count();
        let replaces = on_subject >= self.per_subject;
        let full = self.messages.len() >= self.most && !replaces;
        if is_wrong || (self.discards_new && ((replaces && self.per_subject_too && !rolls_up) || full)) {
            return None;
        }
        self.last += 1;
        self.messages.push((self.last, subject));
        self.settle();
        // Of what the limits have left.
        match header {
            Header::RollUpSubject => self.remove(self.last, usize::MAX, |other| matches(&own, other)),
            Header::RollUpAll => self.remove(self.last, usize::MAX, |_| true),
            _ => 0,
        };
        Some(self.last)
    }

    /// Removes the oldest that are meant, below a sequence, so many at most.
    fn remove(&mut self, below: u64, mut most: usize, is_meant: impl Fn(u8) -> bool) -> u64 {
        let before = self.messages.len();
        self.messages.retain(|(sequence, subject)| {
            let goes = *sequence < below && most > 0 && is_meant(*subject);
            most -= usize::from(goes);
            !goes
        });
        (before - self.messages.len()) as u64
    }

    fn settle(&mut self) {
        for subject in 0..SUBJECTS {
            let over = self.messages.iter().filter(|(_, other)| *other == subject).count();
            self.remove(u64::MAX, over.saturating_sub(self.per_subject), |other| other == subject);
        }
        if !self.discards_new {
            let over = self.messages.len().saturating_sub(self.most);
            self.messages.drain(..over);
        }
    }

    /// How many went; `None`: refused.
    fn purge(&mut self, filter: Option<&str>, below: Option<u64>, keep: Option<usize>) -> Option<u64> {
        let (below, keep) = (below.filter(|below| *below > 0), keep.filter(|keep| *keep > 0));
        if below.is_some() && keep.is_some() {
            return None;
        }
        let filter = filter.unwrap_or(">");
        let meant = self.messages.iter().filter(|(_, subject)| matches(filter, *subject)).count();
        let most = keep.map_or(usize::MAX, |keep| meant.saturating_sub(keep));
        let count = self.remove(below.unwrap_or(u64::MAX), most, |subject| matches(filter, subject));
        if let Some(below) = below.filter(|below| filter == ">" && *below > self.last + 1) {
            self.last = below - 1;
        }
        Some(count)
    }
}

struct World {
    store: MemoryStore,
    jetstream: JetStream,
    model: Model,
}

impl World {
    fn turn(&mut self, batch: &Batch) -> (Vec<Outcome>, Vec<Event>) {
        let (now, mut outcomes, mut deliveries, mut events) = (at(1), Vec::new(), Deliveries::default(), Vec::new());
        self.jetstream
            .apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events)
            .expect("applies");
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events).expect("ticks");
        (outcomes, events)
    }

    fn request(&mut self, request: Request) -> Answer {
        let batch = Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() };
        let (mut outcomes, _) = self.turn(&batch);
        match outcomes.pop() {
            Some(Outcome::Answer(answer)) => *answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn publish(&mut self, subject: u8, header: Header) -> Option<u64> {
        let line = match header {
            Header::None => String::new(),
            Header::RollUpSubject => "Nats-Rollup: sub\r\n".into(),
            Header::RollUpAll => "Nats-Rollup: all\r\n".into(),
            Header::LastSequence(distance) => {
                format!("Nats-Expected-Last-Sequence: {}\r\n", self.model.last + u64::from(distance))
            }
            Header::SubjectSequence(distance) => {
                let newest = self.model.newest(&format!("s.{subject}"));
                format!("Nats-Expected-Last-Subject-Sequence: {}\r\n", newest + u64::from(distance))
            }
            Header::FilterSequence(filter, distance) => {
                let filter = FILTERS[usize::from(filter)];
                let newest = self.model.newest(filter) + u64::from(distance);
                format!(
                    "Nats-Expected-Last-Subject-Sequence: {newest}\r\nNats-Expected-Last-Subject-Sequence-Subject: {filter}\r\n"
                )
            }
        };
        let mut batch = Batch::default();
        let name = batch.add(format!("s.{subject}").as_bytes());
        let headers =
            batch.add(if line.is_empty() { String::new() } else { format!("NATS/1.0\r\n{line}\r\n") }.as_bytes());
        let append = Append { stream: StreamId::FIRST, subject: name, headers, ..Append::default() };
        batch.commands.push(Command::Append(append));
        match self.turn(&batch).0.pop() {
            Some(Outcome::Appended { sequence, .. }) => Some(sequence.0),
            _ => None,
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Publish(subject, header) => {
                let sequence = self.publish(subject, header);
                assert_eq!(sequence, self.model.publish(subject, header), "{step:?}");
            }
            Step::Purge { filter, below, keep } => {
                let filter = filter.map(|filter| FILTERS[usize::from(filter)]);
                let answer = self.request(Request::StreamPurge {
                    name: "S".into(),
                    filter: filter.map(Box::from),
                    below: below.map(|below| Sequence(u64::from(below))),
                    keep: keep.map(u64::from),
                });
                let count = match answer {
                    Answer::Purged { count } => Some(count),
                    _ => None,
                };
                assert_eq!(count, self.model.purge(filter, below.map(u64::from), keep.map(usize::from)), "{step:?}");
            }
            Step::Delete(sequence) => {
                let sequence = u64::from(sequence);
                let request = Request::MessageDelete { name: "S".into(), sequence: Sequence(sequence), erase: false };
                let is_there = self.model.messages.iter().any(|(known, _)| *known == sequence);
                self.model.messages.retain(|(known, _)| *known != sequence);
                assert_eq!(matches!(self.request(request), Answer::Deleted), is_there, "{step:?}");
            }
            Step::Limits { most, per_subject, discards_new, per_subject_too } => {
                let config = config(most, per_subject, discards_new, per_subject_too);
                let answer = self.request(Request::StreamUpdate { config: Box::new(config) });
                assert!(matches!(answer, Answer::Stream(_)), "{answer:?}");
                let unlimited = |limit: u8| if limit == 0 { usize::MAX } else { usize::from(limit) };
                (self.model.most, self.model.per_subject) = (unlimited(most), unlimited(per_subject));
                (self.model.discards_new, self.model.per_subject_too) = (discards_new, per_subject_too);
                self.model.settle();
            }
            Step::Reopen => {
                self.jetstream = JetStream::load(&mut self.store, at(1), Limits::default()).expect("loads").0;
            }
        }
    }

    /// Counters, subjects, and each message by all ways to ask for it.
    fn check(&mut self) {
        let info = Request::StreamInfo {
            name: "S".into(),
            subjects_filter: Some(">".into()),
            deleted_details: true,
            offset: 0,
        };
        let Answer::Stream(info) = self.request(info) else { panic!("no info") };
        let model = &self.model;
        let first = model.messages.first().map_or(model.last + 1, |(sequence, _)| *sequence);
        assert_eq!((info.state.messages, info.state.last.0), (model.messages.len() as u64, model.last));
        assert_eq!(info.state.first.0, first);
        let known = |sequence: &u64| model.messages.iter().any(|(known, _)| known == sequence);
        let missing = (first..=model.last).filter(|sequence| !model.messages.is_empty() && !known(sequence));
        let listed: Vec<u64> = info.deleted_list.iter().flatten().map(|sequence| sequence.0).collect();
        assert_eq!(listed, missing.collect::<Vec<_>>());
        for (subject, count) in info.subjects.iter().flatten() {
            let expected = model.messages.iter().filter(|(_, number)| **subject == *format!("s.{number}")).count();
            assert_eq!(*count, expected as u64, "{subject}");
        }
        for filter in FILTERS {
            let model = &self.model;
            let newest = Some(model.newest(filter)).filter(|sequence| *sequence > 0);
            let from = model.last / 2;
            let next = model.messages.iter().find(|(sequence, subject)| *sequence >= from && matches(filter, *subject));
            let next = next.map(|(sequence, _)| *sequence);
            assert_eq!(self.get(MessageGet::LastBySubject(filter.into())), newest, "last of {filter}");
            assert_eq!(self.get(MessageGet::NextBySubject(Sequence(from), filter.into())), next, "next of {filter}");
        }
    }

    fn get(&mut self, get: MessageGet) -> Option<u64> {
        match self.request(Request::MessageGet { name: "S".into(), get }) {
            Answer::Message(buffer) => buffer.get(0).map(|message| message.sequence.0),
            _ => None,
        }
    }
}

fn at(age: u64) -> Now {
    Now { wall: Timestamp(age as i64 * 1_000_000), age: AgeMillis(age) }
}

fn config(most: u8, per_subject: u8, discards_new: bool, per_subject_too: bool) -> StreamConfig {
    let limit = |limit: u8| if limit == 0 { -1 } else { i64::from(limit) };
    StreamConfig {
        subjects: Filter::parse("s.*").into_iter().collect(),
        max_messages: limit(most),
        max_messages_per_subject: limit(per_subject),
        discard: if discards_new { Discard::New } else { Discard::Old },
        discard_new_per_subject: per_subject_too,
        allow_rollup: true,
        ..StreamConfig::named("S")
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]
    #[test]
    fn what_the_api_does_to_messages_equals_what_it_does_to_a_list(steps in prop::collection::vec(step(), 0..100)) {
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, at(0), Limits::default()).expect("loads");
        let model = Model { most: usize::MAX, per_subject: usize::MAX, ..Model::default() };
        let mut world = World { store, jetstream, model };
        world.request(Request::StreamCreate { config: Box::new(config(0, 0, false, false)) });
        for step in &steps {
            world.run(step);
            world.check();
        }
    }
}
