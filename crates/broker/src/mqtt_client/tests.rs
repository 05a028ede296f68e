//! Golden scripts of MQTT clients, packet by packet, against the real JetStream in memory.
//!
//! `NAME: open` connects; `NAME: connect ID [keep|clean] [user=… password=… keep_alive=… will=TOPIC=PAYLOAD bridge]`, `publish TOPIC PAYLOAD [id=N] [retain]`,
//! `subscribe N FILTER=QOS…`, `unsubscribe N FILTER…`, `puback N`, `pubrec N`, `pubrel N`, `pubcomp N`, `ping`, `disconnect` send a packet, `raw HEX…` bytes,
//! `client ID …` opens, connects and settles; `gone` closes. `take` shows what the broker has for the store, `commit` applies it and gives it back,
//! `store` does both until nothing is left. `refuse` makes the next appends fail. `stream SUBJECT…` makes one. `restart` forgets everything but
//! the store. `stuck` makes a socket take nothing. `NAME: nats TEXT` opens a NATS client, or sends a line. `link SUBJECT PAYLOAD` is a message over a leaf link. `after MS` moves the clock.
//! Everything that connections were sent is shown, and every effect.

mod queues;
mod store;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context};
use jetstream::command::{Event, Turn};
use mqtt_proto::packet::{
    Acknowledgement, Connect, Delivery, Disconnect, Packet, Publish, Subscribe, SubscribeFilters, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters, Will,
};
use mqtt_proto::property::Properties;
use mqtt_proto::{PacketId, Qos, Sender, Version};
use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

use crate::authorization::{Authorization, Secret, User};
use crate::routing::{Message, Origin};
use crate::{
    Broker, CloseReason, ConnectionId, Effect, JetStreamSettings, NewConnection, Now, Outbox, Protocol, Settings,
    TlsFacts, Transport,
};
use store::TestStore;

struct Runner {
    broker: Broker,
    out: Outbox,
    now: Now,
    settings: Settings,
    names: BTreeMap<String, (ConnectionId, Protocol)>,
    left: BTreeMap<String, Vec<u8>>,
    /// Sockets that take nothing.
    stuck: Vec<String>,
    /// Readers that were told to pause.
    paused: Vec<String>,
    store: TestStore,
}

fn usual() -> Settings {
    Settings { jetstream: Some(JetStreamSettings::default()), ..Settings::default() }
}

fn started(settings: &Settings) -> Broker {
    let mut broker = Broker::new(settings.clone(), 7);
    if settings.jetstream.is_some() {
        broker.load_mqtt_sessions();
    }
    broker
}

impl Runner {
    fn new(settings: Settings) -> Runner {
        let broker = started(&settings);
        let max_queued = settings.mqtt.max_queued as u64;
        let out = broker.outbox();
        let now = Now { micros: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
        let mut runner = Runner {
            broker,
            out,
            now,
            settings,
            names: BTreeMap::new(),
            left: BTreeMap::new(),
            stuck: Vec::new(),
            paused: Vec::new(),
            store: TestStore::new(max_queued),
        };
        runner.store_all();
        runner
    }

    fn open(&mut self, name: &str, protocol: Protocol) {
        let new = NewConnection {
            protocol,
            transport: Transport::Tcp,
            peer: ([127, 0, 0, 1], 40_000).into(),
            tls: TlsFacts::default(),
        };
        let id = self.broker.open(self.now, &new, &mut self.out).expect("room");
        self.left.remove(name);
        self.paused.retain(|paused| paused != name);
        self.names.insert(name.into(), (id, protocol));
    }

    fn send(&mut self, name: &str, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
        let (id, _) = *self.names.get(name).ok_or("no such connection")?;
        let mut input = self.left.remove(name).unwrap_or_default();
        input.extend_from_slice(bytes);
        let mut output = String::new();
        let mut used = 0;
        while used < input.len() && !self.paused.contains(&name.to_string()) {
            let received = self.broker.received(self.now, id, &input[used..], &mut self.out);
            used += received.used;
            if received.pause {
                self.paused.push(name.into());
            }
            if received.pause || received.used == 0 {
                // Else the reader would come again with the same bytes, for ever.
                assert!(received.pause || received.need > input.len() - used, "{name} waits for nothing");
                let waits = if received.pause { "pauses" } else { "waits" };
                writeln!(output, "{name} {waits} with {} bytes, needs {}", input.len() - used, received.need)?;
                break;
            }
        }
        self.left.insert(name.into(), input.split_off(used));
        Ok(output)
    }

    /// What everybody gets, and the effects. Who is read again sends what it has left.
    fn drain(&mut self) -> Result<String, Box<dyn Error>> {
        let mut output = String::new();
        loop {
            self.drain_bytes(&mut output);
            let Some(effect) = self.out.next_effect() else { return Ok(output) };
            let find = |id: &ConnectionId| {
                let found = self.names.iter().find(|(_, (other, _))| other == id);
                found.map_or_else(|| "?".to_string(), |(name, _)| name.clone())
            };
            match &effect {
                Effect::Close { id, reason } => {
                    let name = find(id);
                    writeln!(output, "{name} closes: {}", reason.text())?;
                    self.names.remove(&name);
                    self.broker.closed(self.now, *id, *reason, &mut self.out);
                }
                Effect::WakeReader { id } => {
                    let name = find(id);
                    self.paused.retain(|paused| *paused != name);
                    if self.names.contains_key(&name) {
                        output += &self.send(&name, b"")?;
                    }
                }
                Effect::CheckPassword { id, password, hash } => {
                    writeln!(output, "{} password {} against {hash}", find(id), password.escape_ascii())?;
                }
                Effect::Request { subject, .. } => writeln!(output, "request {}", subject.escape_ascii())?,
                Effect::Warn { id, text } => writeln!(output, "{} warned of: {text}", find(id))?,
            }
        }
    }

    fn drain_bytes(&mut self, output: &mut String) {
        let mut dirty = Vec::new();
        while self.out.take_full().is_some() {}
        self.out.take_dirty(&mut dirty);
        for (name, (id, protocol)) in &self.names {
            if !dirty.contains(id) || self.stuck.contains(name) {
                continue;
            }
            let pending: Vec<u8> = self.out.pending(*id).flatten().copied().collect();
            self.out.sent(*id, pending.len());
            if *protocol == Protocol::Mqtt {
                show_packets(name, &pending, output);
                continue;
            }
            for line in pending.split_inclusive(|byte| *byte == b'\n') {
                if !line.starts_with(b"INFO") {
                    let _ = writeln!(output, "{name} ← {}", line.escape_ascii());
                }
            }
        }
    }

    fn take(&mut self) -> String {
        let mut output = String::new();
        while let Some(batch) = self.broker.take_batch(self.now, &self.out) {
            output += &self.store.take(batch);
        }
        output
    }

    fn commit(&mut self) {
        let mut turn = self.store.commit(self.now.micros);
        self.broker.committed(self.now, &mut turn, &mut self.out);
    }

    fn store_all(&mut self) -> String {
        let mut output = String::new();
        loop {
            let taken = self.take();
            if taken.is_empty() {
                return output;
            }
            output += &taken;
            self.commit();
        }
    }

    fn events(&mut self, events: Vec<Event>) {
        let mut turn = Turn { events, ..Turn::default() };
        self.broker.committed(self.now, &mut turn, &mut self.out);
    }

    fn link(&mut self, subject: &str, payload: &str) {
        if !self.names.contains_key("link") {
            self.open("link", Protocol::Leaf);
        }
        let origin = Origin { connection: Some(self.names["link"].0), account: 0, skip_own: true, from_leaf: true };
        self.broker.publish(self.now, origin, &Message::new(subject.as_bytes(), payload.as_bytes()), &mut self.out);
    }

    fn run_command(&mut self, name: &str, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut output = String::new();
        match command.name.as_str() {
            "settings" => *self = Runner::new(settings(&mut args)?),
            "open" => self.open(name, Protocol::Mqtt),
            "client" => {
                self.open(name, Protocol::Mqtt);
                output += &self.send(name, &packet("connect", &mut args)?)?;
                self.drain()?;
                self.store_all();
            }
            "nats" => {
                if !self.names.contains_key(name) {
                    self.open(name, Protocol::Nats);
                    self.send(name, b"CONNECT {\"verbose\":false,\"headers\":true}\r\n")?;
                }
                let text = args.next_pos().ok_or("what?")?;
                let text = text.replace("\\r\\n", "\r\n");
                output += &self.send(name, format!("{text}\r\n").as_bytes())?;
            }
            "stuck" => self.stuck.push(name.into()),
            "raw" => output += &self.send(name, &hex(args.next_pos().ok_or("hex")?)?)?,
            "gone" => {
                let (id, _) = self.names.remove(name).ok_or("no such connection")?;
                self.left.remove(name);
                self.broker.closed(self.now, id, CloseReason::ClientClosed, &mut self.out);
            }
            "password" => {
                let correct = args.next_pos() == Some("right");
                let (id, _) = *self.names.get(name).ok_or("no such connection")?;
                self.broker.authenticated(self.now, id, correct, &mut self.out);
            }
            "after" => {
                let milliseconds: u64 = args.next_pos().ok_or("how long?")?.parse()?;
                self.now.micros += milliseconds * 1000;
                self.broker.tick(self.now, &mut self.out);
            }
            "take" => output += &self.take(),
            "commit" => self.commit(),
            "store" => output += &self.store_all(),
            "refuse" => self.store.refuse(),
            "reopened" => {
                let mut events = self.store.reopen();
                events.insert(0, Event::Reopened { reason: "test".into() });
                self.events(events);
            }
            "stream" => {
                let mut subjects = Vec::new();
                while let Some(subject) = args.next_pos() {
                    subjects.push(subject);
                }
                let events = self.store.create_stream(&subjects);
                self.events(events);
            }
            "restart" => {
                self.broker = started(&self.settings);
                self.out = self.broker.outbox();
                self.names.clear();
                self.left.clear();
                self.paused.clear();
                let events = self.store.reopen();
                self.events(events);
            }
            "link" => {
                let (subject, payload) = (args.next_pos().ok_or("subject")?, args.next_pos().ok_or("payload")?);
                self.link(subject, payload);
            }
            "counters" => writeln!(output, "{:?}", self.broker.counters().mqtt)?,
            _ => {
                let bytes = packet(&command.name, &mut args)?;
                output += &self.send(name, &bytes)?;
            }
        }
        args.reject_next()?;
        Ok(output + &self.drain()?)
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let name = context.prefix.clone().unwrap_or_default();
        self.run_command(&name, command)
    }
}

fn settings(args: &mut ArgumentConsumer<'_>) -> Result<Settings, Box<dyn Error>> {
    let mut settings = usual();
    while let Some((key, value)) = args.next_key() {
        match key {
            "max_payload" => settings.max_payload = value.parse()?,
            "max_inflight" => settings.mqtt.max_inflight = value.parse()?,
            "max_receive" => settings.mqtt.max_receive = value.parse()?,
            "max_filters" => settings.mqtt.max_filters = value.parse()?,
            "max_filter_bytes" => settings.mqtt.max_filter_bytes = value.parse()?,
            "max_sessions" => settings.mqtt.max_sessions = value.parse()?,
            "max_queued" => settings.mqtt.max_queued = value.parse()?,
            "max_waiting" => settings.mqtt.max_waiting = value.parse()?,
            "max_waiting_bytes" => settings.mqtt.max_waiting_bytes = value.parse()?,
            "max_unsent" => settings.mqtt.max_unsent = value.parse()?,
            "store_queue" => settings.store_queue = value.parse()?,
            "jetstream" if value == "off" => settings.jetstream = None,
            "user" => {
                let (name, secret) = value.split_once('/').ok_or("name/password")?;
                let users = vec![User::new(name, Secret::new(secret))];
                settings.authorization = Authorization::Users { users, no_auth_user: None };
            }
            "token" => settings.mqtt.authorization = Some(Authorization::Token(Secret::new(value))),
            other => return Err(format!("unknown setting {other}").into()),
        }
    }
    Ok(settings)
}

fn hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}

fn id(args: &mut ArgumentConsumer<'_>) -> Result<PacketId, Box<dyn Error>> {
    PacketId::new(args.next_pos().ok_or("identifier?")?.parse()?).ok_or("identifier 0".into())
}

/// The bytes of a packet that a client sends.
fn packet(name: &str, args: &mut ArgumentConsumer<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut buffer = Vec::new();
    let packet = match name {
        "connect" => return connect(args),
        "publish" => return publish(args),
        "subscribe" => {
            let id = id(args)?;
            let mut filters = Vec::new();
            while let Some((filter, qos)) =
                args.next_pos().and_then(|word| word.rsplit_once('=').or(word.rsplit_once(':')))
            {
                let qos = Qos::from_bits(qos.parse()?).ok_or("qos")?;
                filters.push((filter, SubscriptionOptions { qos, ..SubscriptionOptions::default() }));
            }
            let filters = SubscribeFilters::build(filters, &mut buffer);
            Packet::Subscribe(Subscribe { id, properties: Properties::EMPTY, filters })
        }
        "unsubscribe" => {
            let id = id(args)?;
            let mut filters = Vec::new();
            while let Some(filter) = args.next_pos() {
                filters.push(filter);
            }
            let filters = UnsubscribeFilters::build(filters, &mut buffer);
            Packet::Unsubscribe(Unsubscribe { id, properties: Properties::EMPTY, filters })
        }
        "puback" => Packet::Puback(Acknowledgement::success(id(args)?)),
        "pubrec" => Packet::Pubrec(Acknowledgement::success(id(args)?)),
        "pubrel" => Packet::Pubrel(Acknowledgement::success(id(args)?)),
        "pubcomp" => Packet::Pubcomp(Acknowledgement::success(id(args)?)),
        "ping" => Packet::Pingreq,
        "disconnect" => Packet::Disconnect(Disconnect::with_reason(mqtt_proto::ReasonCode::Success)),
        other => return Err(format!("unknown command {other}").into()),
    };
    packet.encode(Version::V311, &mut bytes);
    Ok(bytes)
}

fn connect(args: &mut ArgumentConsumer<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
    let client_id = args.next_pos().ok_or("client id?")?;
    let will = args.take_key("will");
    let retained = args.take_key("retained_will");
    let will_text = will.or(retained);
    let will = will_text.map(|text| {
        let (topic, payload) = text.split_once('=').unwrap_or((text, ""));
        let payload = payload.as_bytes();
        Will { qos: Qos::AtLeastOnce, retain: retained.is_some(), topic, properties: Properties::EMPTY, payload }
    });
    let mut connect = Connect {
        version: if args.take_key("level") == Some("5") { Version::V5 } else { Version::V311 },
        bridge: false,
        clean: true,
        keep_alive: args.take_key("keep_alive").unwrap_or("0").parse()?,
        properties: Properties::EMPTY,
        client_id,
        will,
        user_name: args.take_key("user"),
        password: args.take_key("password").map(str::as_bytes),
    };
    while let Some(word) = args.next_pos() {
        match word {
            "keep" => connect.clean = false,
            "bridge" => connect.bridge = true,
            other => return Err(format!("unknown word {other}").into()),
        }
    }
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    Ok(bytes)
}

fn publish(args: &mut ArgumentConsumer<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
    let (topic, payload) = (args.next_pos().ok_or("topic?")?, args.next_pos().ok_or("payload?")?);
    let id = args.take_key("id").map(str::parse).transpose()?.and_then(PacketId::new);
    let qos = Qos::from_bits(args.take_key("qos").unwrap_or(if id.is_some() { "1" } else { "0" }).parse()?);
    let flags: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
    let delivery =
        id.map_or(Delivery::AtMostOnce, |id| Delivery::new(qos.unwrap_or_default(), id, flags.contains(&"dup")));
    let retain = flags.contains(&"retain");
    let mut bytes = Vec::new();
    let payload = payload.as_bytes();
    Publish { delivery, retain, topic, properties: Properties::EMPTY, payload }.encode(Version::V311, &mut bytes);
    Ok(bytes)
}

/// Packets of the server: their bytes, and what they are.
fn show_packets(name: &str, mut bytes: &[u8], output: &mut String) {
    while !bytes.is_empty() {
        let decoded = mqtt_proto::decode_from(Sender::Server, bytes, Some(Version::V311), usize::MAX)
            .or_else(|_| mqtt_proto::decode_from(Sender::Server, bytes, Some(Version::V5), usize::MAX));
        let Ok(Some((packet, length))) = decoded else {
            let _ = writeln!(output, "{name} ← not a packet: {bytes:02x?}");
            return;
        };
        let raw: String = bytes[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        let text = match &packet {
            Packet::Publish(publish) => {
                let id = publish.delivery.packet_id().map_or(0, PacketId::value);
                let dup = if publish.delivery.dup() { " dup" } else { "" };
                let retain = if publish.retain { " retain" } else { "" };
                let payload = publish.payload.escape_ascii();
                format!(
                    "PUBLISH {} {payload} qos={} id={id}{dup}{retain}",
                    publish.topic,
                    publish.delivery.qos().bits()
                )
            }
            Packet::Suback(suback) => {
                format!(
                    "SUBACK {} {:?}",
                    suback.id.value(),
                    suback.codes.iter().map(|code| code.byte()).collect::<Vec<_>>()
                )
            }
            Packet::Connack(connack) => format!("CONNACK {:?}", connack.outcome),
            other => format!("{:?}", other.packet_type()).to_uppercase(),
        };
        let _ = writeln!(output, "{name} ← {raw}  {text}");
        bytes = &bytes[length..];
    }
}

#[test]
fn scripts() {
    let mut cases: Vec<_> =
        std::fs::read_dir("src/mqtt_client/testscripts").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    for case in cases {
        let mut runner = Runner::new(usual());
        goldenscript::run(&mut runner, &case).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    }
}

/// What one client is sent when its bytes come in these pieces.
fn run_in_pieces(bytes: &[u8], cuts: &[usize]) -> String {
    let mut runner = Runner::new(usual());
    runner.open("a", Protocol::Mqtt);
    let mut output = String::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    for piece in cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]) {
        if !runner.names.contains_key("a") {
            break;
        }
        runner.send("a", piece).unwrap();
        let mut sent = runner.drain().unwrap();
        while !sent.is_empty() || !runner.store_all().is_empty() {
            output += &sent;
            sent = runner.drain().unwrap();
        }
    }
    // How often it had to wait does depend on the pieces.
    output.lines().filter(|line| !line.contains(" bytes, needs ")).map(|line| format!("{line}\n")).collect()
}

fn a_conversation() -> Vec<u8> {
    let commands = [
        r#"connect device keep will="w=x" keep_alive=9"#,
        r##"subscribe 1 "a/#:1" "b:0""##,
        r#"publish "a/1" one id=1"#,
        r#"publish b zero retain"#,
        "ping",
        "puback 2",
        r#"unsubscribe 3 b"#,
        r#"publish b nobody id=2"#,
        "disconnect",
    ];
    let mut bytes = Vec::new();
    for text in commands {
        let script = format!("{text}\n---\n");
        let mut recorder = Recorder { bytes: Vec::new() };
        goldenscript::generate(&mut recorder, &script).unwrap();
        bytes.extend(recorder.bytes);
    }
    bytes
}

/// Encodes commands.
struct Recorder {
    bytes: Vec<u8>,
}

impl goldenscript::Runner for Recorder {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        self.bytes.extend(packet(&command.name, &mut command.consume_args())?);
        Ok(String::new())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn where_the_bytes_are_cut_makes_no_difference(cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let bytes = a_conversation();
        // Cut between its packets only: each answer is there before the next piece comes, as in the test.
        let whole = run_in_pieces(&bytes, &(0..bytes.len()).collect::<Vec<_>>());
        let sorted = |text: &str| { let mut lines: Vec<_> = text.lines().map(str::to_owned).collect(); lines.sort(); lines };
        prop_assert_eq!(sorted(&run_in_pieces(&bytes, &cuts)), sorted(&whole));
    }

    #[test]
    fn any_bytes_are_served_or_refused(
        connects in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in proptest::collection::vec(any::<usize>(), 0..4),
    ) {
        let mut input = if connects { a_conversation()[..24].to_vec() } else { Vec::new() };
        input.extend(bytes);
        run_in_pieces(&input, &cuts);
    }
}
