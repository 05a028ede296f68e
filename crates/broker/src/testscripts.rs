//! Golden scripts: bytes in, bytes out, connection by connection.
//!
//! `NAME: open` connects (`mqtt`, `leaf` as argument for other kinds), `NAME: send BYTES…` delivers bytes, `NAME: large BYTES…` the same as a
//! frame of its own, `NAME: repeat COUNT BYTES` sends the same often in one piece, `NAME: flood COUNT BYTES` one by one and shows no bytes,
//! `NAME: stuck` makes its socket take nothing, `NAME: connected` opens and says CONNECT with what stock clients say, `NAME: gone` closes, `after DURATION_MS` moves the
//! clock and handles deadlines. `settings KEY=VALUE…` comes first, `reload KEY=VALUE…` takes others over; `publish`, `not_publish` and the like
//! are lists of the user before them. `store` shows the batch the broker has for the store thread, `stored` gives
//! it back committed, `stream NAME SUBJECTS…` and `consumer STREAM NAME` make events. After each command everything that connections were
//! sent is shown, and every effect.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use goldenscript::{Command, Context};
use jetstream::advisory::{Action, Advisory, DeliveryFact};
use jetstream::batching::BatchAnswer;
use jetstream::command::{Answer, Batch, Command as StoreCommand, Event, Outcome, Turn};
use jetstream::identity::{ConsumerId, Sequence, StreamId};

use subject::{Filter, SubjectError};

use crate::authorization::{Authorization, Secret, User};
use crate::permissions::{Permissions, Responses, Subscribable};
use crate::{
    Broker, ConnectionId, Effect, Frame, NewConnection, Now, Outbox, Protocol, ServerIdentity, Settings, TlsFacts,
    Transport,
};

/// What stock clients say, with all the options on.
const CONNECT: &str = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}"#;

struct Runner {
    broker: Broker,
    out: Outbox,
    now: Now,
    names: BTreeMap<String, ConnectionId>,
    /// Bytes each connection sent that were left by the broker.
    left: BTreeMap<String, Vec<u8>>,
    batches: Vec<Batch>,
    sequence: u64,
    /// Sockets that take nothing.
    stuck: Vec<String>,
}

impl Runner {
    fn new(settings: Settings) -> Runner {
        let broker = Broker::new(settings, 7);
        let out = broker.outbox();
        let now = Now { micros: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
        Runner {
            broker,
            out,
            now,
            names: BTreeMap::new(),
            left: BTreeMap::new(),
            batches: Vec::new(),
            sequence: 0,
            stuck: Vec::new(),
        }
    }

    fn open(&mut self, name: &str, protocol: Protocol) -> String {
        let new = NewConnection {
            protocol,
            transport: Transport::Tcp,
            peer: ([127, 0, 0, 1], 40_000).into(),
            tls: TlsFacts::default(),
        };
        match self.broker.open(self.now, &new, &mut self.out) {
            Ok(id) => {
                self.names.insert(name.into(), id);
                String::new()
            }
            Err(refusal) => format!("refused: {refusal}: {}\n", self.broker.farewell(&new).escape_ascii()),
        }
    }

    fn send(&mut self, name: &str, bytes: &[u8], large: bool) -> Result<String, Box<dyn Error>> {
        let id = *self.names.get(name).ok_or("no such connection")?;
        let mut input = self.left.remove(name).unwrap_or_default();
        input.extend_from_slice(bytes);
        let mut output = String::new();
        let mut used = 0;
        while used < input.len() {
            let received = if large {
                self.broker.received_frame(self.now, id, &Frame::new(input[used..].to_vec()), &mut self.out)
            } else {
                self.broker.received(self.now, id, &input[used..], &mut self.out)
            };
            used += received.used;
            if received.pause {
                writeln!(output, "{name} paused with {} bytes", input.len() - used)?;
                break;
            }
            if received.need > 0 {
                writeln!(output, "{name} has {} of {} bytes", input.len() - used, received.need)?;
                break;
            }
        }
        self.left.insert(name.into(), input.split_off(used));
        Ok(output)
    }

    /// What everybody gets, and the effects.
    fn drain(&mut self) -> String {
        let mut output = String::new();
        let mut dirty = Vec::new();
        while self.out.take_full().is_some() {}
        self.out.take_dirty(&mut dirty);
        for (name, id) in &self.names {
            if !dirty.contains(id) {
                continue;
            }
            if self.stuck.contains(name) {
                self.out.blocked(*id, self.now.micros);
                continue;
            }
            let pending: Vec<u8> = self.out.pending(*id).flatten().copied().collect();
            self.out.sent(*id, pending.len());
            for line in pending.split_inclusive(|byte| *byte == b'\n') {
                let _ = writeln!(output, "{name} ← {}", line.escape_ascii());
            }
        }
        while let Some(effect) = self.out.next_effect() {
            let name =
                |id: &ConnectionId| self.names.iter().find(|(_, other)| *other == id).map_or("?", |(name, _)| name);
            let _ = match &effect {
                Effect::Close { id, reason } => writeln!(output, "{} closes: {}", name(id), reason.text()),
                Effect::Warn { id, text } => writeln!(output, "{} warned of: {text}", name(id)),
                Effect::WakeReader { id } => writeln!(output, "{} is read again", name(id)),
                Effect::Request { service, subject, .. } => writeln!(output, "{service:?} {}", subject.escape_ascii()),
                Effect::CheckPassword { id, password, hash } => {
                    writeln!(output, "{} password {} against {hash}", name(id), password.escape_ascii())
                }
            };
        }
        output
    }

    fn store(&mut self) -> String {
        let Some(batch) = self.broker.take_batch(self.now, &self.out) else { return "nothing\n".into() };
        let mut output = String::new();
        for command in &batch.commands {
            let shown = |span: jetstream::command::Span| span.of(&batch.arena).escape_ascii().to_string();
            let _ = match command {
                StoreCommand::Append(append) => writeln!(
                    output,
                    "append stream={} subject={} reply={} headers={} payload={}",
                    append.stream.0,
                    shown(append.subject),
                    shown(append.reply),
                    shown(append.headers),
                    shown(append.payload)
                ),
                StoreCommand::Ack(ack) => writeln!(
                    output,
                    "ack consumer={} subject={} payload={} reply={}",
                    ack.consumer.0,
                    shown(ack.subject),
                    shown(ack.payload),
                    shown(ack.reply)
                ),
                other => writeln!(output, "{other:?}"),
            };
        }
        self.batches.push(batch);
        output
    }

    fn stored(&mut self, in_batch: bool) {
        let mut turn = Turn::default();
        for batch in self.batches.drain(..) {
            let outcomes = batch.commands.iter().map(|command| match command {
                StoreCommand::Append(_) if in_batch => {
                    let (sequence, batch) = (Sequence(9), "B".into());
                    let ack = BatchAnswer::Committed { sequence, duplicate: false, batch, count: 3 };
                    Outcome::Batch { stored: true, answers: vec![BatchAnswer::Staged, ack] }
                }
                StoreCommand::Append(_) => {
                    self.sequence += 1;
                    Outcome::Appended { sequence: Sequence(self.sequence), duplicate: false }
                }
                StoreCommand::Request(_) => {
                    Outcome::Answer(Box::new(Answer::StreamNames { names: vec!["S".into()], total: 1, offset: 0 }))
                }
                StoreCommand::Ack(_) => Outcome::Acknowledged { confirm: true },
                _ => Outcome::Done,
            });
            let outcomes = outcomes.collect();
            turn.done.push((batch, outcomes));
        }
        self.broker.committed(self.now, &mut turn, &mut self.out);
    }

    fn event(&mut self, event: Event) {
        let mut turn = Turn { events: vec![event], ..Turn::default() };
        self.broker.committed(self.now, &mut turn, &mut self.out);
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let name = context.prefix.clone().unwrap_or_default();
        let mut arguments = command.consume_args();
        let mut output = String::new();
        match command.name.as_str() {
            "settings" => *self = Runner::new(settings(&mut arguments)?),
            "reload" => self.broker.reload(settings(&mut arguments)?, &mut self.out),
            "open" => {
                let protocol = match arguments.next_pos() {
                    Some("mqtt") => Protocol::Mqtt,
                    Some("leaf") => Protocol::Leaf,
                    _ => Protocol::Nats,
                };
                output += &self.open(&name, protocol);
            }
            "connected" => {
                output += &self.open(&name, Protocol::Nats);
                output += &self.send(&name, format!("{CONNECT}\r\n").as_bytes(), false)?;
                self.drain();
            }
            "send" | "large" => {
                while let Some(bytes) = arguments.next_pos() {
                    output += &self.send(&name, bytes.as_bytes(), command.name == "large")?;
                }
            }
            "repeat" => {
                let count: usize = arguments.next_pos().ok_or("how often?")?.parse()?;
                let bytes = arguments.next_pos().ok_or("what?")?.repeat(count);
                output += &self.send(&name, bytes.as_bytes(), false)?;
            }
            "flood" => {
                let count: usize = arguments.next_pos().ok_or("how often?")?.parse()?;
                let bytes = arguments.next_pos().ok_or("what?")?.to_owned();
                for _ in 0..count {
                    self.send(&name, bytes.as_bytes(), false)?;
                    let shown = self.drain();
                    output.extend(shown.lines().filter(|line| !line.contains('←')).map(|line| format!("{line}\n")));
                }
            }
            "stuck" => self.stuck.push(name),
            "resume" => output += &self.send(&name, b"", false)?,
            "gone" => {
                let id = self.names.remove(&name).ok_or("no such connection")?;
                self.broker.closed(self.now, id, crate::CloseReason::ClientClosed, &mut self.out);
            }
            "password" => {
                let correct = arguments.next_pos() == Some("right");
                let id = *self.names.get(&name).ok_or("no such connection")?;
                self.broker.authenticated(self.now, id, correct, &mut self.out);
            }
            "after" => {
                let milliseconds: u64 = arguments.next_pos().ok_or("how long?")?.parse()?;
                self.now.micros += milliseconds * 1000;
                self.broker.tick(self.now, &mut self.out);
            }
            "store" => output += &self.store(),
            "stored" => self.stored(arguments.next_pos() == Some("batch")),
            "stream" => {
                let name = arguments.next_pos().ok_or("which?")?.into();
                let mut subjects = Vec::new();
                while let Some(subject) = arguments.next_pos() {
                    subjects.push(subject.into());
                }
                let stream = StreamId(16);
                let state = jetstream::store::StreamState::default();
                let no_ack = arguments.take_key("no_ack").is_some();
                self.event(Event::StreamUp { stream, name, subjects, allow_direct: false, no_ack, state });
            }
            "consumer" => {
                let stream = arguments.next_pos().ok_or("which stream?")?.into();
                let name = arguments.next_pos().ok_or("which?")?.into();
                self.event(Event::ConsumerUp {
                    consumer: ConsumerId(1),
                    stream,
                    name,
                    deliver_subject: None,
                    deliver_group: "".into(),
                    is_source: false,
                    is_acknowledged: true,
                });
            }
            "told" => {
                let consumer = ConsumerId(arguments.next_pos().map_or(Ok(1), str::parse)?);
                let (sequence, consumer_sequence, deliveries) = (Sequence(7), 9, 2);
                let what = DeliveryFact::Refused;
                self.event(Event::Advisory(Advisory::Consumer { consumer, action: Action::Create }));
                let told = Advisory::Delivery { consumer, what, sequence, consumer_sequence, deliveries };
                self.event(Event::Advisory(told));
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        arguments.reject_next()?;
        Ok(output + &self.drain())
    }
}

fn usual() -> Settings {
    let server =
        ServerIdentity { id: "ID".into(), name: "edge".into(), version: "2.15.1".into(), ..ServerIdentity::default() };
    Settings { server, ..Settings::default() }
}

fn settings(arguments: &mut goldenscript::ArgumentConsumer<'_>) -> Result<Settings, Box<dyn Error>> {
    let mut settings = usual();
    while let Some((key, value)) = arguments.next_key() {
        match key {
            "max_payload" => settings.max_payload = value.parse()?,
            "max_control_line" => settings.max_control_line = value.parse()?,
            "max_connections" => settings.max_connections = value.parse()?,
            "max_subscriptions" => settings.max_subscriptions = value.parse()?,
            "max_pending" => settings.max_pending = value.parse()?,
            "memory_budget" => settings.memory_budget = value.parse()?,
            "store_queue" => settings.store_queue = value.parse()?,
            "ping_interval_ms" => settings.ping_interval = Duration::from_millis(value.parse()?),
            "domain" => settings.jetstream = Some(crate::JetStreamSettings { domain: Some(value.into()) }),
            "token" => settings.authorization = Authorization::Token(Secret::new(value)),
            "user" => {
                let (name, secret) = value.split_once('/').ok_or("name/password")?;
                let user = User::new(name, Secret::new(secret));
                match &mut settings.authorization {
                    Authorization::Users { users, .. } => users.push(user),
                    other => *other = Authorization::Users { users: vec![user], no_auth_user: None },
                }
            }
            "no_auth_user" => {
                if let Authorization::Users { no_auth_user, .. } = &mut settings.authorization {
                    *no_auth_user = Some(value.parse()?);
                }
            }
            "publish" | "not_publish" | "subscribe" | "not_subscribe" | "answers" => {
                let Authorization::Users { users, .. } = &mut settings.authorization else {
                    return Err("whose?".into());
                };
                let user = users.last_mut().ok_or("whose?")?;
                let mut permissions = user.permissions.take().map(std::sync::Arc::unwrap_or_clone).unwrap_or_default();
                permit(&mut permissions, key, value)?;
                user.permissions = Some(permissions.into());
            }
            other => return Err(format!("unknown setting {other}").into()),
        }
    }
    Ok(settings)
}

/// One list of a user's permissions, comma between entries.
fn permit(permissions: &mut Permissions, key: &str, value: &str) -> Result<(), Box<dyn Error>> {
    let subject = |text: &str| Filter::parse(text);
    let subscribable = |text: &str| {
        let (subject, queue) = text.split_once(' ').map_or((text, None), |(subject, queue)| (subject, Some(queue)));
        Ok::<_, SubjectError>(Subscribable {
            subject: Filter::parse(subject)?,
            queue: queue.map(Filter::parse).transpose()?,
        })
    };
    match key {
        "publish" => permissions.publish.allow = Some(value.split(',').map(subject).collect::<Result<_, _>>()?),
        "not_publish" => permissions.publish.deny = value.split(',').map(subject).collect::<Result<_, _>>()?,
        "subscribe" => {
            permissions.subscribe.allow = Some(value.split(',').map(subscribable).collect::<Result<_, _>>()?)
        }
        "not_subscribe" => permissions.subscribe.deny = value.split(',').map(subscribable).collect::<Result<_, _>>()?,
        _ => {
            let (count, milliseconds) = value.split_once('/').ok_or("count/milliseconds")?;
            let max_messages = Some(count.parse()?);
            permissions.responses =
                Some(Responses { max_messages, expires: Duration::from_millis(milliseconds.parse()?) });
        }
    }
    Ok(())
}

#[test]
fn scripts() {
    let mut cases: Vec<_> = std::fs::read_dir("src/testscripts").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let mut runner = Runner::new(usual());
        goldenscript::run(&mut runner, &case).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    }
}
