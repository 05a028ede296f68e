//! Runs the golden scripts in `src/testscripts`: commands in, what came out of a turn of the store thread below them.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p jetstream` writes the outputs anew; read the difference before committing it.

mod origins;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Context};

use crate::clock::AgeClock;
use crate::command::{
    Ack, Answer, Append, Batch, Change, Command, ConsumerAction, Deliveries, Event, MessageGet, Outcome, Pull,
    QueueFor, Recipient, Request, Span,
};
use crate::config::{Discard, ExternalStream, Retention, Source, Storage, StreamConfig, SubjectTransform};
use crate::direct_get::{DirectEdge, DirectEnd, DirectGet, DirectStart, DirectWanted};
use crate::forwarded::gaps::gap_stream;
use crate::forwarded::ledger::Cause;
use crate::identity::{ConsumerId, Now, Sequence, SessionId, StreamId, Timestamp};
use crate::origin::OriginId;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::testing::script_consumers::{consumer_config, group};
use crate::testing::script_output::{advisory_text, short, write_answer, write_outcome};
use crate::{JetStream, Limits};
use subject::Filter;

/// 2026-01-01, in milliseconds.
const START_WALL: i64 = 1_767_225_600_000;

#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testscripts");
    let entries = std::fs::read_dir(folder).expect("the folder of scripts");
    let mut cases: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        goldenscript::run(&mut Runner::new(), &case).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    }
}

/// A store thread and the part of a broker that it needs.
struct Runner {
    store: MemoryStore,
    jetstream: JetStream,
    limits: Limits,
    clock: AgeClock,
    wall: i64,
    monotonic: u64,
    streams: BTreeMap<StreamId, (String, Vec<Filter>)>,
    consumers: BTreeMap<(String, String), ConsumerId>,
    /// Ack subjects by consumer and stream sequence, as last delivered.
    acks: BTreeMap<(ConsumerId, u64), Vec<u8>>,
    /// Where the last request for flow control wants its answer.
    asked: Vec<u8>,
    /// Advisories are shown.
    advisories: bool,
    /// Credit is given back at once.
    drains: bool,
    /// Where gap records go, if ledgers are kept.
    gaps: Option<StreamConfig>,
    /// Streams that are forwarded.
    forwards: Vec<Box<str>>,
    /// Ids of streams' origins.
    origins: BTreeMap<String, Vec<OriginId>>,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

impl Runner {
    fn new() -> Runner {
        let mut store = MemoryStore::with_crashes();
        let limits = Limits { seed: (1, 2), ..Limits::default() };
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), limits).expect("an empty store");
        let wall = START_WALL;
        let clock = AgeClock::open(&mut store, Timestamp(wall * 1_000_000), 0).expect("an empty store");
        Runner {
            store,
            jetstream,
            limits,
            clock,
            wall,
            monotonic: 0,
            streams: BTreeMap::new(),
            consumers: BTreeMap::new(),
            acks: BTreeMap::new(),
            asked: Vec::new(),
            advisories: false,
            drains: true,
            gaps: None,
            forwards: Vec::new(),
            origins: BTreeMap::new(),
        }
    }

    fn now(&mut self) -> Now {
        self.clock.now(Timestamp(self.wall * 1_000_000), self.monotonic)
    }

    /// Applies a batch, lets time act, commits if needed; the output is what came of it.
    fn turn(&mut self, batch: &Batch) -> Result<String> {
        let now = self.now();
        let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
        self.jetstream.apply(&mut self.store, now, batch, &mut outcomes, &mut deliveries, &mut events)?;
        self.jetstream.tick(&mut self.store, now, &mut deliveries, &mut events)?;
        if self.jetstream.needs_commit(now) {
            self.jetstream.before_commit(&mut self.store, now)?;
            self.store.commit()?;
            self.jetstream.committed(1);
        }
        let mut out = String::new();
        outcomes.iter().try_for_each(|outcome| write_outcome(&mut out, outcome))?;
        self.write_events(&mut out, &events)?;
        self.write_deliveries(&mut out, &deliveries)?;
        if self.drains && deliveries.entries.iter().any(|delivery| delivery.from.is_some()) {
            let mut credit = Batch::default();
            for delivery in &deliveries.entries {
                credit.commands.extend(delivery.from.map(|to| Command::Credit { to, bytes: delivery.cost() }));
            }
            let more = self.turn(&credit)?;
            out.push_str(&more);
        }
        Ok(out)
    }

    fn one(&mut self, command: Command) -> Result<String> {
        self.turn(&Batch { commands: vec![command], ..Batch::default() })
    }

    fn request(&mut self, request: Request) -> Result<String> {
        self.one(Command::Request(Box::new(request)))
    }

    /// Opens the store anew; `crash`: without what was not committed.
    fn reopen(&mut self, crash: bool) -> Result<String> {
        let now = self.now();
        if crash {
            self.store.crash();
        } else {
            self.jetstream.before_commit(&mut self.store, now)?;
            self.store.commit()?;
        }
        self.clock = AgeClock::open(&mut self.store, Timestamp(self.wall * 1_000_000), self.monotonic)?;
        let now = self.now();
        let (jetstream, events) = JetStream::load(&mut self.store, now, self.limits)?;
        self.jetstream = jetstream;
        if let Some(gaps) = self.gaps.clone() {
            self.jetstream.keep_gaps(&mut self.store, Some(gaps), &|_| true)?;
        }
        self.jetstream.expect_forwards(self.forwards.clone());
        self.streams.clear();
        self.consumers.clear();
        let mut out = String::new();
        self.write_events(&mut out, &events)?;
        Ok(out)
    }

    fn write_events(&mut self, out: &mut String, events: &[Event]) -> Result<()> {
        for event in events {
            match event {
                Event::StreamUp { stream, name, subjects, state, .. } => {
                    let filters = subjects.iter().filter_map(|subject| Filter::parse(subject).ok()).collect();
                    writeln!(out, "  stream up: {name} on {} with {} messages", subjects.join(" "), state.messages)?;
                    self.streams.insert(*stream, (name.to_string(), filters));
                }
                Event::Origins { origins, .. } => {
                    let kind = if origins.is_mirror { "mirror" } else { "source" };
                    writeln!(out, "  origins of {}: {}", origins.name, origins.origins.len())?;
                    for facts in &origins.origins {
                        let (position, identity) = (facts.position.0, &facts.identity);
                        writeln!(out, "    {kind} {} at {position} {identity:?}", facts.source.name)?;
                    }
                    self.origins
                        .insert(origins.name.to_string(), origins.origins.iter().map(|facts| facts.id).collect());
                }
                Event::StreamDown { stream } => {
                    let name = self.streams.remove(stream).map(|(name, _)| name).unwrap_or_default();
                    writeln!(out, "  stream down: {name}")?;
                }
                Event::TemplateUp { id, subjects } => {
                    let filters = subjects.iter().filter_map(|subject| Filter::parse(subject).ok()).collect();
                    writeln!(out, "  template up: {}", subjects.join(" "))?;
                    self.streams.insert(*id, ("a template".to_owned(), filters));
                }
                Event::TemplateDown { id } => {
                    self.streams.remove(id);
                    writeln!(out, "  template down")?;
                }
                Event::ConsumerUp { consumer, stream, name, .. } => {
                    self.consumers.insert((stream.to_string(), name.to_string()), *consumer);
                    writeln!(out, "  consumer up: {stream} {name}")?;
                }
                Event::ConsumerDown { consumer } => {
                    let name = self.consumers.iter().find(|(_, id)| *id == consumer).map(|(name, _)| name.clone());
                    let (stream, name) = name.unwrap_or_default();
                    writeln!(out, "  consumer down: {stream} {name}")?;
                    self.consumers.remove(&(stream, name));
                }
                Event::Removed { first, last, messages, .. } => {
                    writeln!(out, "  removed: {messages} of {}..{}", first.0, last.0)?;
                }
                Event::Slice { messages, next, .. } => {
                    let found: Vec<u64> = messages.iter().map(|message| message.sequence.0).collect();
                    writeln!(out, "  slice: {found:?} next {}", next.0)?;
                }
                Event::Ledger { stream, ledger, last, is_written } => {
                    let name = self.streams.get(stream).map_or("?", |(name, _)| name);
                    write!(
                        out,
                        "  ledger of {name}: accepted {} delivered {} held {}",
                        ledger.accepted(*last),
                        ledger.delivered(),
                        ledger.held(*last)
                    )?;
                    for cause in Cause::ALL.into_iter().filter(|cause| ledger.dropped(*cause) > 0) {
                        write!(out, " {} {}", cause.name(), ledger.dropped(cause))?;
                    }
                    writeln!(out, "{}", if *is_written { ", written" } else { "" })?;
                }
                Event::Stored { stream, last } => {
                    let name = self.streams.get(stream).map_or("?", |(name, _)| name);
                    writeln!(out, "  stored in {name}: up to {}", last.0)?;
                }
                Event::Changed(changes) => {
                    for (stream, change) in changes {
                        let name = self.streams.get(stream).map_or("?", |(name, _)| name);
                        match change {
                            Change::Stored(_) => writeln!(out, "  changed in {name}: one more")?,
                            Change::Gone(first, last) => {
                                writeln!(out, "  changed in {name}: {}..{} gone", first.0, last.0)?
                            }
                            other => writeln!(out, "  changed in {name}: {other:?}")?,
                        }
                    }
                }
                Event::Full(full) => writeln!(out, "  full: {full}")?,
                Event::QueueDropped { session, messages } => {
                    writeln!(out, "  dropped of session {}: {messages}", session.0)?;
                }
                Event::Answered { number, answer } => {
                    write!(out, "  answer {number}: ")?;
                    write_answer(out, answer)?;
                }
                Event::Advisory(advisory) => {
                    if self.advisories {
                        writeln!(out, "  told: {}", advisory_text(advisory))?;
                    }
                }
                Event::Reopened { reason } => writeln!(out, "  reopened: {reason}")?,
                Event::Early(answers) => writeln!(out, "  {} answered early", answers.len())?,
            }
        }
        Ok(())
    }

    fn write_deliveries(&mut self, out: &mut String, deliveries: &Deliveries) -> Result<()> {
        let text = |span: Span| short(&String::from_utf8_lossy(span.of(&deliveries.arena)).replace("\r\n", "|"));
        for delivery in &deliveries.entries {
            if let Some(place) = delivery.queue {
                let again = if place.resent { " again" } else { "" };
                writeln!(
                    out,
                    "  to session {}: {} {:?} position {} quality {}{again}",
                    place.session.0,
                    text(delivery.subject),
                    text(delivery.payload),
                    place.position,
                    place.quality
                )?;
                continue;
            }
            if delivery.reply.of(&deliveries.arena).starts_with(b"$JS.FC.") {
                self.asked = delivery.reply.of(&deliveries.arena).to_vec();
            }
            writeln!(out, "  to {}: {} [{}]", text(delivery.to), text(delivery.subject), text(delivery.tail))?;
            if let Some(Recipient::Consumer(consumer)) = delivery.from {
                let subject = delivery.reply.of(&deliveries.arena);
                let sequence = text(delivery.reply).split('.').nth(5).and_then(|text| text.parse().ok()).unwrap_or(0);
                self.acks.insert((consumer, sequence), subject.to_vec());
            }
        }
        Ok(())
    }

    fn publish(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let subject = args.next_pos().ok_or("subject?")?.to_owned();
        let payload = args.next_pos().unwrap_or("").to_owned();
        let mut headers = String::new();
        let mut queues = Vec::new();
        let mut reply = String::new();
        let (mut count, mut size) = (1, 0);
        while let Some((key, value)) = args.next_key() {
            match key {
                "count" => count = value.parse()?,
                "size" => size = value.parse()?,
                "id" => write!(headers, "Nats-Msg-Id: {value}\r\n")?,
                "batch" => headers.push_str(&batch_headers(value)),
                "fast" => reply = format!("_INBOX.x.{value}.$FI"),
                "sessions" => {
                    for target in value.split(',') {
                        let (session, quality) = target.split_once(':').unwrap_or((target, "1"));
                        queues.push(QueueFor { session: SessionId(session.parse()?), quality: quality.parse()? });
                    }
                }
                header => write!(headers, "{header}: {value}\r\n")?,
            }
        }
        let matching = self
            .streams
            .iter()
            .find(|(_, (_, filters))| filters.iter().any(|filter| filter.matches(subject.as_bytes())));
        let stream = matching.map_or(StreamId::NONE, |(id, _)| *id);
        let mut batch = Batch { queues, ..Batch::default() };
        for _ in 0..count {
            let mut append = Append { stream, subject: batch.add(subject.as_bytes()), ..Append::default() };
            if !headers.is_empty() {
                append.headers = batch.add(format!("NATS/1.0\r\n{headers}\r\n").as_bytes());
            }
            let padding = "x".repeat(size);
            append.payload = batch.add(format!("{payload}{padding}").as_bytes());
            append.queues = (0, batch.queues.len() as u32);
            append.reply = batch.add(reply.as_bytes());
            batch.commands.push(Command::Append(append));
        }
        self.turn(&batch)
    }

    fn stream(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let action = args.next_pos().ok_or("action?")?.to_owned();
        let name: Box<str> = args.next_pos().unwrap_or("").into();
        let request = match &*action {
            "create" => Request::StreamCreate { config: Box::new(stream_config(&name, args)?) },
            "update" => Request::StreamUpdate { config: Box::new(stream_config(&name, args)?) },
            "delete" => Request::StreamDelete { name },
            "info" => Request::StreamInfo {
                name,
                subjects_filter: args.take_key("subjects").map(Into::into),
                deleted_details: args.take_key("deleted").is_some(),
                offset: 0,
            },
            "names" => Request::StreamNames { subject: args.take_key("subject").map(Into::into), offset: 0 },
            "purge" => Request::StreamPurge {
                name,
                filter: args.take_key("filter").map(Into::into),
                below: args.take_key("below").map(str::parse).transpose()?.map(Sequence),
                keep: args.take_key("keep").map(str::parse).transpose()?,
            },
            _ => return Err("unknown action".into()),
        };
        args.reject_next()?;
        self.request(request)
    }

    fn template(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let action = args.next_pos().ok_or("action?")?.to_owned();
        let name: Box<str> = args.next_pos().unwrap_or("").into();
        let request = match &*action {
            "create" => {
                let max_streams = args.take_key("max_streams").map(str::parse).transpose()?.unwrap_or(2);
                let config = Box::new(stream_config(crate::templates::NO_NAME, args)?);
                Request::TemplateCreate { name, config, max_streams }
            }
            "info" => Request::TemplateInfo { name },
            "names" => Request::TemplateNames { offset: 0 },
            "delete" => Request::TemplateDelete { name },
            _ => return Err("unknown action".into()),
        };
        args.reject_next()?;
        self.request(request)
    }

    fn get(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let name = args.next_pos().ok_or("stream?")?.into();
        let from = Sequence(args.take_key("from").map(str::parse).transpose()?.unwrap_or(0));
        let get = match args.next_key().ok_or("which?")? {
            ("seq", sequence) => MessageGet::Sequence(Sequence(sequence.parse()?)),
            ("last", filter) => MessageGet::LastBySubject(filter.into()),
            ("next", filter) => MessageGet::NextBySubject(from, filter.into()),
            ("since", ms) => {
                let time = Timestamp((START_WALL + ms.parse::<i64>()?) * 1_000_000);
                MessageGet::FromTime(time, args.take_key("filter").map(Into::into))
            }
            _ => return Err("which?".into()),
        };
        self.request(Request::MessageGet { name, get })
    }

    /// Several messages as they are, piece by piece.
    fn direct(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let name: Box<str> = args.next_pos().ok_or("stream?")?.into();
        let number = |text: Option<&str>| text.map(str::parse::<u64>).transpose();
        let from = Sequence(number(args.take_key("from"))?.unwrap_or(0));
        let since = args.take_key("since").map(str::parse::<i64>).transpose()?;
        let time = |ms: i64| Timestamp((START_WALL + ms) * 1_000_000);
        let wanted = match args.take_key("newest") {
            Some(list) => DirectWanted::Newest {
                filters: list.split(',').map(Box::from).collect(),
                from,
                up_to: match (number(args.take_key("up_to"))?, args.take_key("before")) {
                    (Some(sequence), _) => DirectEdge::Sequence(Sequence(sequence)),
                    (None, Some(ms)) => DirectEdge::Time(time(ms.parse()?)),
                    (None, None) => DirectEdge::Now,
                },
            },
            None => DirectWanted::Following {
                from: since.map_or(DirectStart::Sequence(from), |ms| DirectStart::Time(time(ms))),
                filter: args.take_key("next").map(Into::into),
            },
        };
        let (batch, max_bytes) = (number(args.take_key("batch"))?, number(args.take_key("max_bytes"))?.unwrap_or(0));
        args.reject_next()?;
        let mut out = String::new();
        let mut next = Some(DirectGet { wanted, batch, max_bytes, progress: None });
        while let Some(get) = next.take() {
            let mut batch = Batch::default();
            let request = Request::DirectGet { name: name.clone(), get: Box::new(get) };
            batch.commands.push(Command::Request(Box::new(request)));
            let now = self.now();
            let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
            self.jetstream.apply(&mut self.store, now, &batch, &mut outcomes, &mut deliveries, &mut events)?;
            for outcome in outcomes {
                write_outcome(&mut out, &outcome)?;
                if let Outcome::Answer(answer) = outcome
                    && let Answer::Direct(piece) = *answer
                    && let DirectEnd::More(more) = piece.end
                {
                    next = Some(more);
                }
            }
        }
        Ok(out)
    }

    fn consumer(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let action = args.next_pos().ok_or("action?")?.to_owned();
        let stream: Box<str> = args.next_pos().ok_or("stream?")?.into();
        let name: Box<str> = args.next_pos().unwrap_or("").into();
        let create = match &*action {
            "create" => Some(ConsumerAction::CreateOrUpdate),
            "create-only" => Some(ConsumerAction::Create),
            "update" => Some(ConsumerAction::Update),
            _ => None,
        };
        if let Some(action) = create {
            let identity = args.take_key("identity").map(Into::into);
            let config = Box::new(consumer_config(&name, args)?);
            if config.direct {
                return self.request(Request::SourceCreate { stream, config, action, identity });
            }
            return self.request(Request::ConsumerCreate { stream, config, action });
        }
        self.request(match &*action {
            "info" => Request::ConsumerInfo { stream, name },
            "reset" => {
                let sequence = Sequence(args.take_key("seq").map(str::parse).transpose()?.unwrap_or(0));
                Request::ConsumerReset { stream, name, sequence, with_identity: false }
            }
            "unpin" => {
                let group = args.take_key("group").unwrap_or_default().into();
                Request::ConsumerUnpin { stream, name, group }
            }
            "pause" => Request::ConsumerPause {
                stream,
                name,
                until: args.take_key("until").map(str::parse).transpose()?.map(|ms: i64| Timestamp(ms * 1_000_000)),
            },
            "names" => Request::ConsumerNames { stream, offset: 0 },
            "delete" => Request::ConsumerDelete { stream, name },
            _ => return Err("unknown action".into()),
        })
    }

    fn pull(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let mut pull = Pull {
            stream: args.next_pos().ok_or("stream?")?.into(),
            consumer: args.next_pos().ok_or("consumer?")?.into(),
            inbox: args.next_pos().unwrap_or("inbox").as_bytes().into(),
            batch: 1,
            ..Pull::default()
        };
        while let Some((key, value)) = args.next_key() {
            match key {
                "batch" => pull.batch = value.parse()?,
                "expires" => pull.expires_ms = Some(value.parse()?),
                "no_wait" => pull.no_wait = value.parse()?,
                "heartbeat" => pull.heartbeat_ms = Some(value.parse()?),
                "max_bytes" => pull.max_bytes = Some(value.parse()?),
                "group" => group(&mut pull).group = value.into(),
                "min_pending" => group(&mut pull).min_pending = value.parse()?,
                "min_ack_pending" => group(&mut pull).min_ack_pending = value.parse()?,
                "pin" => group(&mut pull).pin = value.into(),
                "priority" => group(&mut pull).priority = value.parse()?,
                "object" => pull.is_object = value.parse()?,
                _ => return Err(format!("unknown {key}").into()),
            }
        }
        self.one(Command::Pull(Box::new(pull)))
    }

    /// Somebody listens on a push consumer's subject, or nobody does; or a receiver answers what it was last asked.
    fn audience(&mut self, action: &str, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let stream = args.next_pos().ok_or("stream?")?.to_owned();
        let name = args.next_pos().ok_or("consumer?")?.to_owned();
        let consumer = self.consumer_called(&stream, &name)?;
        let mut batch = Batch::default();
        let command = match action {
            "listen" => Command::Interest { consumer, is_there: true },
            "leave" => Command::Interest { consumer, is_there: false },
            _ => {
                let subject = batch.add(&std::mem::take(&mut self.asked));
                let last = args.take_key("last").map(|last| format!("NATS/1.0\r\nNats-Last-Stream: {last}\r\n\r\n"));
                let headers = batch.add(last.unwrap_or_default().as_bytes());
                Command::FlowAnswer { consumer, subject, headers }
            }
        };
        batch.commands.push(command);
        self.turn(&batch)
    }

    /// By its whole name, or the newest of those that begin with it and have a suffix.
    fn consumer_called(&self, stream: &str, name: &str) -> Result<ConsumerId> {
        let prefix = format!("{name}-");
        let fits = |known: &(String, String)| known.0 == stream && (known.1 == name || known.1.starts_with(&prefix));
        let found = self.consumers.iter().filter(|(known, _)| fits(known)).map(|(_, id)| *id).max();
        found.ok_or_else(|| "no such consumer".into())
    }

    fn ack(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let stream = args.next_pos().ok_or("stream?")?.to_owned();
        let name = args.next_pos().ok_or("consumer?")?.to_owned();
        let consumer = self.consumer_called(&stream, &name)?;
        let mut batch = Batch::default();
        let payload = batch.add(args.take_key("payload").unwrap_or("").as_bytes());
        let reply = batch.add(args.take_key("reply").unwrap_or("").as_bytes());
        while let Some(sequence) = args.next_pos() {
            let subject = self.acks.get(&(consumer, sequence.parse()?)).ok_or("never delivered")?;
            let subject = batch.add(subject);
            batch.commands.push(Command::Ack(Ack { consumer, subject, payload, reply }));
        }
        self.turn(&batch)
    }

    fn session(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let action = args.next_pos().ok_or("action?")?.to_owned();
        let session = SessionId(args.next_pos().ok_or("session?")?.parse()?);
        let window = args.take_key("window").map(str::parse).transpose()?.unwrap_or(20);
        let command = match &*action {
            "attach" => Command::QueueAttach { session, window },
            "detach" => Command::QueueDetach { session },
            "drop" => Command::QueueDrop { session },
            "ack" => Command::QueueAck { session, position: args.next_pos().ok_or("position?")?.parse()? },
            _ => return Err("unknown action".into()),
        };
        self.one(command)
    }

    /// Lets time pass in one step, then runs a turn.
    fn pass(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let millis: u64 = args.next_pos().ok_or("milliseconds?")?.parse()?;
        self.monotonic += millis;
        self.wall += millis as i64;
        self.turn(&Batch::default())
    }

    fn limits(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        while let Some((key, value)) = args.next_key() {
            match key {
                "queued" => self.limits.max_queued_messages = value.parse()?,
                "queued_bytes" => self.limits.max_queued_bytes = value.parse()?,
                "memory" => self.limits.max_memory_store = Some(value.parse()?),
                "store" => self.limits.max_file_store = Some(value.parse()?),
                "streams" => self.limits.max_streams = value.parse()?,
                "account_store" => self.limits.account.max_storage = Some(value.parse()?),
                "account_memory" => self.limits.account.max_memory = Some(value.parse()?),
                "account_streams" => self.limits.account.max_streams = Some(value.parse()?),
                "account_consumers" => self.limits.account.max_consumers = Some(value.parse()?),
                "account_pending" => self.limits.account.max_ack_pending = Some(value.parse()?),
                "stream_store" => self.limits.account.max_storage_stream = Some(value.parse()?),
                "stream_memory" => self.limits.account.max_memory_stream = Some(value.parse()?),
                "bytes_required" => self.limits.account.max_bytes_required = value.parse()?,
                "batches" => self.limits.requests.batches.of_stream = Some(value.parse()?),
                "all_batches" => self.limits.requests.batches.total = Some(value.parse()?),
                "batch_messages" => self.limits.requests.batches.messages = Some(value.parse()?),
                "batch_timeout" => self.limits.requests.batches.timeout_ms = Some(value.parse()?),
                "pending" => self.limits.requests.max_ack_pending = Some(value.parse()?),
                "batch" => self.limits.requests.max_request_batch = Some(value.parse()?),
                "window" => self.limits.requests.duplicate_window_ns = Some(value.parse::<u64>()? * 1_000_000),
                "capacity" => self.store.set_capacity(value.parse().ok()),
                _ => return Err(format!("unknown {key}").into()),
            }
        }
        self.reopen(false)
    }

    fn statistics(&mut self) -> Result<String> {
        self.request(Request::Statistics)
    }
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _: &Context) -> Result<String> {
        let mut args = command.consume_args();
        match &*command.name {
            "publish" => self.publish(&mut args),
            "stream" => self.stream(&mut args),
            "take" => self.take(&mut args),
            "begin" => self.begin(&mut args),
            "template" => self.template(&mut args),
            "get" => self.get(&mut args),
            "direct" => self.direct(&mut args),
            "erase" => {
                let name = args.next_pos().ok_or("stream?")?.into();
                let sequence = Sequence(args.next_pos().ok_or("sequence?")?.parse()?);
                self.request(Request::MessageDelete { name, sequence, erase: true })
            }
            "consumer" => self.consumer(&mut args),
            "pull" => self.pull(&mut args),
            "ack" => self.ack(&mut args),
            "listen" | "leave" | "answer" => self.audience(&command.name, &mut args),
            "session" => self.session(&mut args),
            "pass" => self.pass(&mut args),
            "wall" => {
                self.wall = args.next_pos().ok_or("milliseconds?")?.parse()?;
                self.turn(&Batch::default())
            }
            "drains" => {
                self.drains = args.next_pos() == Some("yes");
                Ok(String::new())
            }
            "credit" => {
                let stream = args.next_pos().ok_or("stream?")?.to_owned();
                let name = args.next_pos().ok_or("consumer?")?.to_owned();
                let consumer = self.consumer_called(&stream, &name)?;
                let bytes = args.next_pos().ok_or("bytes?")?.parse()?;
                self.one(Command::Credit { to: Recipient::Consumer(consumer), bytes })
            }
            "unreachable" => {
                let stream = args.next_pos().ok_or("stream?")?.to_owned();
                let name = args.next_pos().ok_or("consumer?")?.to_owned();
                let consumer = self.consumer_called(&stream, &name)?;
                let mut batch = Batch::default();
                let inbox = batch.add(args.next_pos().ok_or("inbox?")?.as_bytes());
                let mut lost = 0;
                while let Some(sequence) = args.next_pos() {
                    lost += 1;
                    let subject = self.acks.get(&(consumer, sequence.parse()?)).ok_or("never delivered")?;
                    let reply = batch.add(subject);
                    batch.commands.push(Command::Unreachable { consumer, inbox, reply });
                }
                if lost == 0 {
                    batch.commands.push(Command::Unreachable { consumer, inbox, reply: Span::default() });
                }
                self.turn(&batch)
            }
            "forwarded" => self.one(crate::testing::script_forwards::forwarded(&self.streams, &mut args)?),
            "gaps" => {
                let gaps = gap_stream(args.next_pos().ok_or("stream?")?, 16 << 20);
                self.gaps = Some(gaps);
                self.jetstream.keep_gaps(&mut self.store, self.gaps.clone(), &|_| true)?;
                Ok(String::new())
            }
            "forwards" => {
                self.forwards = std::iter::from_fn(|| args.next_pos().map(Into::into)).collect();
                self.jetstream.expect_forwards(self.forwards.clone());
                self.turn(&Batch::default())
            }
            "limits" => self.limits(&mut args),
            "statistics" => self.statistics(),
            "advisories" => {
                self.advisories = true;
                Ok(String::new())
            }
            "restart" => self.reopen(false),
            "crash" => self.reopen(true),
            "read" => {
                let (stream, _) = self.streams.first_key_value().ok_or("no stream")?;
                let from = Sequence(args.next_pos().unwrap_or("1").parse()?);
                let read =
                    Command::Read { ticket: crate::command::Ticket(7, 0), stream: *stream, from, max_bytes: 100 };
                self.one(read)
            }
            other => Err(format!("unknown command {other}").into()),
        }
    }
}

/// `id/sequence` or `id/sequence/commit`
fn batch_headers(text: &str) -> String {
    let names = ["Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"];
    names.iter().zip(text.split('/')).map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

pub(crate) fn filters(list: &str) -> Result<Vec<Filter>> {
    list.split(',').map(|text| Ok(Filter::parse(text)?)).collect()
}

fn stream_config(name: &str, args: &mut ArgumentConsumer<'_>) -> Result<StreamConfig> {
    let mut config = StreamConfig::named(name);
    while let Some((key, value)) = args.next_key() {
        match key {
            "subjects" if value.is_empty() => config.subjects.clear(),
            "subjects" => config.subjects = filters(value)?,
            "retention" => {
                config.retention = match value {
                    "interest" => Retention::Interest,
                    "workqueue" => Retention::WorkQueue,
                    _ => Retention::Limits,
                }
            }
            "storage" => config.storage = if value == "memory" { Storage::Memory } else { Storage::File },
            "max_messages" => config.max_messages = value.parse()?,
            "max_bytes" => config.max_bytes = value.parse()?,
            "max_age" => config.max_age_ns = value.parse::<u64>()? * 1_000_000,
            "per_subject" => config.max_messages_per_subject = value.parse()?,
            "max_size" => config.max_message_size = value.parse()?,
            "max_consumers" => config.max_consumers = value.parse()?,
            "discard" => config.discard = if value == "new" { Discard::New } else { Discard::Old },
            "new_per_subject" => config.discard_new_per_subject = value.parse()?,
            "window" => config.duplicate_window_ns = value.parse::<u64>()? * 1_000_000,
            "deny_delete" => config.deny_delete = value.parse()?,
            "deny_purge" => config.deny_purge = value.parse()?,
            "rollup" => config.allow_rollup = value.parse()?,
            "sealed" => config.sealed = value.parse()?,
            "first" => config.first_sequence = value.parse()?,
            "stored_as" => config.subject_transform = Some(transform(value)),
            "republish" => config.republish.get_or_insert_default().subjects = transform(value),
            "headers_only" => config.republish.get_or_insert_default().headers_only = value.parse()?,
            "ttl" => config.allow_message_ttl = value.parse()?,
            "counter" => config.allow_counter = value.parse()?,
            "markers" => config.subject_delete_marker_ttl_ns = value.parse::<u64>()? * 1_000_000,
            "schedules" => config.allow_schedules = value.parse()?,
            "atomic" => config.allow_atomic = value.parse()?,
            "batched" => config.allow_batched = value.parse()?,
            "no_ack" => config.no_ack = value.parse()?,
            "async" => config.persist_async = value.parse()?,
            "limit_pending" => config.consumer_limits.max_ack_pending = value.parse()?,
            "mirror" => config.mirror = Some(Box::new(source(value))),
            "source" => config.sources.push(source(value)),
            "mirror_direct" => config.mirror_direct = value.parse()?,
            "limit_inactive" => config.consumer_limits.inactive_threshold_ns = value.parse::<u64>()? * 1_000_000,
            _ => return Err(format!("unknown {key}").into()),
        }
    }
    Ok(config)
}

/// `name`, `name@domain`, with `/filter` behind it.
fn source(text: &str) -> Source {
    let (name, filter) = text.split_once('/').unwrap_or((text, ""));
    let (name, domain) = name.split_once('@').map_or((name, None), |(name, domain)| (name, Some(domain)));
    let external = domain.map(|domain| ExternalStream { api: format!("$JS.{domain}.API").into(), deliver: "".into() });
    Source { name: name.into(), filter: filter.into(), external, ..Source::default() }
}

/// `source:destination`
fn transform(text: &str) -> SubjectTransform {
    let (source, destination) = text.split_once(':').unwrap_or((text, ""));
    SubjectTransform { source: source.into(), destination: destination.into() }
}
