//! Golden scripts of leaf links: the exact bytes of a hub in, the exact bytes to hubs and clients out.
//!
//! `settings KEY=VALUE…` comes first (`domain`, `loop_token`, `forwarded`, `max_payload`, `max_control_line`). `NAME: client` is a NATS client that has
//! said CONNECT; `NAME: link KEY=VALUE…` a link whose handshake is done, with what the hub said (`domain`, `headers`, `max_payload`, `import_allow` and so
//! on); `NAME: refreshed KEY=VALUE…` an INFO that changes that. `NAME: send BYTES…` are bytes of the peer. `NAME: ping`, `check`, `withdraw`, `gone` and
//! `state` do what they say, `NAME: store` shows what the store is told; `NAME: wants SUBJECT` asks what the hub wants, `NAME: engine SUBJECT REPLY HEADERS PAYLOAD` sends as forwards do.
//! `stream`, `no-stream`, `consumer`, `source` (a hub's consumer) are events of the store; `deliver INBOX REPLY SUBJECT PAYLOAD` is a consumer's delivery,
//! `sources INBOX [REPLY PAYLOAD]…` a turn of the store with several of a hub's consumer, and what the store is told then. `after DURATION_MS` moves the clock. After each
//! command come everything that was sent, what became of connections, and what the gateway is told.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context};
use jetstream::command::{Batch, Deliveries, Delivery, Event, Recipient, Span, Turn};
use jetstream::identity::{ConsumerId, StreamId};
use subject::Filter;

use super::{LinkFacts, LinkPermissions};
use crate::routing::{Message, Origin};
use crate::{
    Broker, ConnectionId, Effect, JetStreamSettings, LeafSettings, NewConnection, Notice, Now, Outbox, Protocol,
    Settings, TlsFacts, Transport,
};

struct Runner {
    broker: Broker,
    out: Outbox,
    now: Now,
    names: BTreeMap<String, ConnectionId>,
    left: BTreeMap<String, Vec<u8>>,
    streams: BTreeMap<String, StreamId>,
}

impl Runner {
    fn new(mut settings: Settings) -> Runner {
        settings.leafnodes.get_or_insert_with(|| LeafSettings { loop_token: "OWN".into(), ..LeafSettings::default() });
        let broker = Broker::new(settings, 7);
        let out = broker.outbox();
        let now = Now { micros: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
        Runner { broker, out, now, names: BTreeMap::new(), left: BTreeMap::new(), streams: BTreeMap::new() }
    }

    fn open(&mut self, name: &str, protocol: Protocol) -> Result<ConnectionId, Box<dyn Error>> {
        let peer = ([127, 0, 0, 1], 40_000).into();
        let new = NewConnection { protocol, transport: Transport::Tcp, peer, tls: TlsFacts::default() };
        let id = self.broker.open(self.now, &new, &mut self.out)?;
        self.names.insert(name.into(), id);
        Ok(id)
    }

    fn id(&self, name: &str) -> Result<ConnectionId, Box<dyn Error>> {
        Ok(*self.names.get(name).ok_or("no such connection")?)
    }

    fn send(&mut self, name: &str, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
        let id = self.id(name)?;
        let mut input = self.left.remove(name).unwrap_or_default();
        input.extend_from_slice(bytes);
        let mut used = 0;
        let mut output = String::new();
        while used < input.len() {
            let received = self.broker.received(self.now, id, &input[used..], &mut self.out);
            used += received.used;
            if received.need > 0 {
                writeln!(output, "{name} has {} of {} bytes", input.len() - used, received.need)?;
                break;
            }
        }
        self.left.insert(name.into(), input.split_off(used));
        Ok(output)
    }

    fn event(&mut self, event: Event) {
        let mut turn = Turn { events: vec![event], ..Turn::default() };
        self.broker.committed(self.now, &mut turn, &mut self.out);
    }

    fn drain(&mut self) -> String {
        self.broker.flush_interest(&mut self.out);
        let mut output = String::new();
        let name = |id: &ConnectionId| {
            self.names.iter().find(|(_, other)| *other == id).map_or("?", |(name, _)| name.as_str())
        };
        let mut dirty = Vec::new();
        while self.out.take_full().is_some() {}
        self.out.take_dirty(&mut dirty);
        for (name, id) in self.names.iter().filter(|(_, id)| dirty.contains(id)) {
            let pending: Vec<u8> = self.out.pending(*id).flatten().copied().collect();
            self.out.sent(*id, pending.len());
            for line in pending.split_inclusive(|byte| *byte == b'\n') {
                let _ = writeln!(output, "{name} ← {}", line.escape_ascii());
            }
        }
        while let Some(effect) = self.out.next_effect() {
            if let Effect::Close { id, reason } = &effect {
                let _ = writeln!(output, "{} closes: {}", name(id), reason.text());
            }
        }
        while let Some(notice) = self.broker.next_notice() {
            let _ = match notice {
                Notice::LeafClosed { id, reason } => writeln!(output, "told: {} is gone: {}", name(&id), reason.text()),
                Notice::LeafInfo { id, json } => writeln!(output, "told: {} INFO {}", name(&id), json.escape_ascii()),
                Notice::LeafError { id, text } => writeln!(output, "told: {} -ERR {text}", name(&id)),
                Notice::LeafPong { id, round_trip_micros } => {
                    writeln!(output, "told: {} answered after {round_trip_micros} µs", name(&id))
                }
                Notice::TooLarge { id, ack_subject, size, largest } => {
                    let subject = ack_subject.escape_ascii();
                    writeln!(output, "told: {} takes {largest} bytes, {subject} has {size}", name(&id))
                }
                Notice::HubInterest { .. } | Notice::Message { .. } => Ok(()),
            };
        }
        output
    }

    fn state(&self, id: ConnectionId) -> Result<String, Box<dyn Error>> {
        let (facts, counters) = self.broker.leaf_state(id).ok_or("no link")?;
        Ok(format!(
            "domain={:?} max_payload={} interest={} too_large={} denied={} refused={}\n",
            facts.domain,
            facts.max_payload,
            counters.hub_interest,
            counters.too_large,
            counters.denied,
            counters.interest_refused
        ))
    }

    /// Commands about one connection.
    fn of_connection(
        &mut self,
        name: &str,
        command: &str,
        arguments: &mut ArgumentConsumer<'_>,
    ) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        match command {
            "client" => {
                self.open(name, Protocol::Nats)?;
                let said = r#"CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}"#;
                output += &self.send(name, format!("{said}\r\n").as_bytes())?;
                self.drain();
            }
            "link" => {
                let id = self.open(name, Protocol::Leaf)?;
                self.broker.leaf_established(id, facts(arguments)?, &mut self.out);
            }
            "refreshed" => {
                let id = self.id(name)?;
                self.broker.leaf_refreshed(id, facts(arguments)?, &mut self.out);
            }
            "send" => {
                while let Some(bytes) = arguments.next_pos() {
                    output += &self.send(name, bytes.as_bytes())?;
                }
            }
            "wants" => {
                let subject = arguments.next_pos().ok_or("what?")?;
                writeln!(output, "{}", self.broker.leaf_wants(self.id(name)?, subject.as_bytes()))?;
            }
            "engine" => {
                let id = self.id(name)?;
                let mut next = || arguments.next_pos().map(|text| text.as_bytes().to_vec()).ok_or("four arguments");
                let (subject, reply, headers, payload) = (next()?, next()?, next()?, next()?);
                let sent = self.broker.leaf_send(id, &subject, &reply, &headers, &payload, &mut self.out);
                writeln!(output, "sent: {sent}")?;
            }
            "ping" => self.broker.leaf_ping(self.now, self.id(name)?, &mut self.out),
            "check" => self.broker.leaf_check_loop(self.now, self.id(name)?, &mut self.out),
            "withdraw" => self.broker.leaf_withdraw(self.id(name)?, &mut self.out),
            "gone" => {
                let id = self.id(name)?;
                self.broker.closed(self.now, id, crate::CloseReason::ClientClosed, &mut self.out);
                output += &self.drain();
                self.names.remove(name);
            }
            "state" => output += &self.state(self.id(name)?)?,
            "store" => {
                let batch = self.broker.take_batch(self.now, &self.out).unwrap_or_default();
                for command in &batch.commands {
                    writeln!(output, "{}", told(command, &batch))?;
                }
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(output)
    }

    fn of_store(&mut self, command: &str, arguments: &mut ArgumentConsumer<'_>) -> Result<(), Box<dyn Error>> {
        let mut next = || arguments.next_pos().map(str::to_owned).ok_or("too few arguments");
        match command {
            "stream" => {
                let name = next()?;
                let subjects = std::iter::from_fn(|| next().ok()).map(Into::into).collect();
                let number = self.streams.len() as u32 + 16;
                let stream = *self.streams.entry(name.clone()).or_insert(StreamId(number));
                let state = jetstream::store::StreamState::default();
                self.event(Event::StreamUp {
                    stream,
                    name: name.into(),
                    subjects,
                    allow_direct: false,
                    no_ack: false,
                    state,
                });
            }
            "no-stream" => {
                let stream = self.streams.remove(&next()?).ok_or("no such stream")?;
                self.event(Event::StreamDown { stream });
            }
            "consumer" => {
                let (stream, name) = (next()?.into(), next()?.into());
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
            "source" => {
                let (stream, name, subject) = (next()?.into(), next()?.into(), next()?.into());
                self.event(Event::ConsumerUp {
                    consumer: ConsumerId(2),
                    stream,
                    name,
                    deliver_subject: Some(subject),
                    deliver_group: "".into(),
                    is_source: true,
                    is_acknowledged: true,
                });
            }
            "deliver" => {
                let (inbox, reply, shown, payload) = (next()?, next()?, next()?, next()?);
                let message = Message {
                    shown: Some(shown.as_bytes()),
                    reply: reply.as_bytes(),
                    ..Message::new(inbox.as_bytes(), payload.as_bytes())
                };
                self.broker.publish(self.now, Origin::server(crate::account::GLOBAL), &message, &mut self.out);
            }
            "sources" => {
                let (inbox, mut deliveries) = (next()?, Deliveries::default());
                while let Ok(reply) = next() {
                    add_delivery(&mut deliveries, &inbox, &reply, &next()?);
                }
                let mut turn = Turn { deliveries, ..Turn::default() };
                self.broker.committed(self.now, &mut turn, &mut self.out);
            }
            "after" => {
                self.now.micros += next()?.parse::<u64>()? * 1000;
                self.broker.tick(self.now, &mut self.out);
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(())
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let mut arguments = command.consume_args();
        let mut output = String::new();
        match (command.name.as_str(), &context.prefix) {
            ("settings", None) => *self = Runner::new(settings(&mut arguments)?),
            (name, None) => self.of_store(name, &mut arguments)?,
            (name, Some(connection)) => output = self.of_connection(connection, name, &mut arguments)?,
        }
        arguments.reject_next()?;
        Ok(output + &self.drain())
    }
}

/// A command for the store, as far as scripts ask.
fn told(command: &jetstream::command::Command, batch: &Batch) -> String {
    use jetstream::command::Command as Told;
    match command {
        Told::Unreachable { reply, .. } => format!("unreachable: {}", reply.of(&batch.arena).escape_ascii()),
        Told::Credit { bytes, .. } => format!("credit: {bytes}"),
        Told::Pace { is_quick, .. } => format!("left at once: {is_quick}"),
        Told::Interest { is_there, .. } => format!("interest: {is_there}"),
        _ => "another command".to_owned(),
    }
}

/// A message that the store sends to a hub's consumer, number 2.
fn add_delivery(deliveries: &mut Deliveries, inbox: &str, reply: &str, payload: &str) {
    let mut put = |text: &str| {
        let start = deliveries.arena.len() as u32;
        deliveries.arena.extend_from_slice(text.as_bytes());
        Span { start, len: text.len() as u32 }
    };
    let (to, subject, reply) = (put(inbox), put("subject"), put(reply));
    put(&format!(" {}\r\n", payload.len()));
    let payload = put(payload);
    let end = put("\r\n");
    let tail = Span { start: reply.start, len: end.start + end.len - reply.start };
    let from = Some(Recipient::Consumer(ConsumerId(2)));
    deliveries.entries.push(Delivery {
        from,
        to,
        subject,
        tail,
        reply,
        headers: Span::default(),
        payload,
        queue: None,
    });
}

fn settings(arguments: &mut ArgumentConsumer<'_>) -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings::default();
    let mut leafnodes = LeafSettings { loop_token: "OWN".into(), ..LeafSettings::default() };
    while let Some((key, value)) = arguments.next_key() {
        match key {
            "domain" => settings.jetstream = Some(JetStreamSettings { domain: Some(value.into()) }),
            "loop_token" => leafnodes.loop_token = value.into(),
            "answer_lost_requests" => leafnodes.answer_lost_requests = value.parse()?,
            "forwarded" => leafnodes.forwarded = value.split(',').map(Into::into).collect(),
            "max_payload" => settings.max_payload = value.parse()?,
            "max_control_line" => settings.max_control_line = value.parse()?,
            other => return Err(format!("unknown setting {other}").into()),
        }
    }
    settings.leafnodes = Some(leafnodes);
    Ok(settings)
}

fn facts(arguments: &mut ArgumentConsumer<'_>) -> Result<LinkFacts, Box<dyn Error>> {
    let mut permissions = LinkPermissions::default();
    let mut facts = LinkFacts { headers: true, max_payload: 1024 * 1024, ..LinkFacts::default() };
    while let Some((key, value)) = arguments.next_key() {
        let list = || value.split(',').map(Filter::parse).collect::<Result<Vec<Filter>, _>>();
        match key {
            "domain" => facts.domain = value.into(),
            "headers" => facts.headers = value.parse()?,
            "max_payload" => facts.max_payload = value.parse()?,
            "import_allow" => permissions.import_allow = list()?,
            "import_deny" => permissions.import_deny = list()?,
            "export_allow" => permissions.export_allow = list()?,
            "export_deny" => permissions.export_deny = list()?,
            other => return Err(format!("unknown fact {other}").into()),
        }
    }
    facts.permissions = permissions;
    Ok(facts)
}

#[test]
fn scripts() {
    let mut cases: Vec<_> =
        std::fs::read_dir("src/leaf/testscripts").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let mut runner = Runner::new(Settings::default());
        goldenscript::run(&mut runner, &case).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    }
}
