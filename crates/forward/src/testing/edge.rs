//! An edge around a forward: the local stream, the disk, and the two directions of a link that can be cut between any two frames.

use std::collections::{BTreeMap, VecDeque};

use jetstream::identity::{AgeMillis, Sequence, StreamId, Timestamp};
use jetstream::store::{MessageBuffer, StoredMessage};
use subject::{Filter, Transform};

use super::hub::{Frame, Hub};
use crate::{
    Action, Batch, Config, Create, Forward, Incarnation, IncarnationId, Incarnations, Local, Record, SendBuffer,
    Timings,
};

/// What survives a power cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) messages: BTreeMap<u64, (String, Vec<u8>, Vec<u8>)>,
    pub(super) last: u64,
    pub(super) record: Option<Vec<u8>>,
    pub(super) incarnations: Vec<Incarnation>,
    pub(super) parked: Vec<(u64, String)>,
}

/// What differs from script to script.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) edge: String,
    pub(super) create: Option<Create>,
    pub(super) rate: Option<u64>,
    pub(super) batch: Option<Batch>,
    pub(super) hold_ms: Option<u64>,
}

/// The edge and its link.
pub(super) struct Edge {
    pub(super) setup: Setup,
    pub(super) disk: Disk,
    pub(super) forward: Option<Forward>,
    pub(super) up: VecDeque<Frame>,
    pub(super) down: VecDeque<(String, String)>,
    pub(super) store: VecDeque<Action>,
    pub(super) is_up: bool,
    pub(super) now: u64,
    pub(super) log: Vec<String>,
    buffer: SendBuffer,
    starts: u64,
}

pub(super) const INBOX: &str = "_INBOX.edge";

impl Edge {
    pub(super) fn new(setup: Setup, now: u64) -> Edge {
        Edge {
            setup,
            disk: Disk::default(),
            forward: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            store: VecDeque::new(),
            is_up: false,
            now,
            log: Vec::new(),
            buffer: SendBuffer::default(),
            starts: 0,
        }
    }

    fn local(&self) -> Local {
        let first = self.disk.messages.keys().next().copied().unwrap_or(self.disk.last + 1);
        Local { first, last: self.disk.last }
    }

    /// Opens the store: a new incarnation begins. `id` makes boxes differ.
    pub(super) fn start(&mut self, id: u64) {
        self.starts += 1;
        let row = Incarnation { id: IncarnationId(id * 0x100 + self.starts), first: Sequence(self.disk.last + 1) };
        self.disk.incarnations.push(row);
        let timings = Timings { hold_ms: self.setup.hold_ms.unwrap_or(180_000), ..Timings::default() };
        let config = Config {
            edge: self.setup.edge.clone(),
            instance: StreamId(16),
            to: "FLEET".into(),
            transform: Transform::prefix("e.p").unwrap(),
            create: self.setup.create.clone(),
            rate: self.setup.rate,
            batch: self.setup.batch.unwrap_or_default(),
            inbox: INBOX.into(),
            timings,
            seed: 1,
        };
        let rows = Incarnations::new(self.disk.incarnations.clone()).unwrap();
        let record = self.disk.record.as_ref().map(|bytes| Record::decode(bytes).unwrap());
        self.forward = Some(Forward::new(config, rows, record, self.local(), self.now).unwrap());
        self.drain();
    }

    /// kill -9: what was asked of the store and not done is gone, and the link with it.
    pub(super) fn crash(&mut self) {
        self.forward = None;
        self.store.clear();
        self.cut();
    }

    pub(super) fn append(&mut self, subject: &str, headers: &[u8], body: &str) {
        self.disk.last += 1;
        self.disk.messages.insert(self.disk.last, (subject.into(), headers.to_vec(), body.as_bytes().to_vec()));
        let local = self.local();
        let now = self.now;
        if let Some(forward) = &mut self.forward {
            forward.handle_local(now, local);
        }
        self.drain();
    }

    pub(super) fn link_up(&mut self, hub: &Hub) {
        self.cut();
        self.is_up = true;
        let now = self.now;
        let info =
            crate::Hub { version: hub.version.clone(), max_payload: hub.max_payload, domain: hub.domain.clone() };
        if let Some(forward) = &mut self.forward {
            forward.handle_link_up(now, info);
        }
        self.interest(hub);
    }

    /// The hub announces what its stream captures.
    pub(super) fn interest(&mut self, hub: &Hub) {
        let now = self.now;
        if let Some(forward) = self.forward.as_mut().filter(|_| self.is_up) {
            let wanted = hub.stream.as_ref().is_some_and(|stream| {
                stream.subjects.iter().any(|text| Filter::parse(text).unwrap().overlaps(forward.filter()))
            });
            forward.handle_interest(now, wanted);
        }
        self.drain();
    }

    /// The link is cut; what is under way in both directions is lost.
    pub(super) fn cut(&mut self) {
        self.up.clear();
        self.down.clear();
        if std::mem::take(&mut self.is_up)
            && let Some(forward) = &mut self.forward
        {
            forward.handle_link_down(self.now);
        }
        self.drain();
    }

    /// Takes everything that the forward wants done.
    pub(super) fn drain(&mut self) {
        let Some(forward) = &mut self.forward else { return };
        self.buffer.clear();
        forward.poll_send(self.now, &mut self.buffer);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for message in self.buffer.iter() {
            let frame = Frame {
                subject: text(message.subject),
                reply: text(message.reply),
                headers: message.headers.to_vec(),
                payload: message.payload.to_vec(),
            };
            assert!((message.headers.len() + message.payload.len()) as u64 <= 1 << 20, "this closes the link");
            self.up.push_back(frame);
        }
        while let Some(action) = forward.poll_action() {
            match action {
                Action::Request { subject, reply, payload } => {
                    self.up.push_back(Frame { subject, reply, headers: Vec::new(), payload });
                }
                other => self.store.push_back(other),
            }
        }
    }

    /// One frame to the hub.
    pub(super) fn step_up(&mut self, hub: &mut Hub) -> bool {
        let Some(frame) = self.up.pop_front() else { return false };
        self.log.push(format!("→ {}", describe(&frame)));
        let had_stream = hub.stream.is_some();
        for (reply, body) in hub.take(&frame) {
            self.down.push_back((reply, body));
        }
        if had_stream != hub.stream.is_some() {
            self.interest(hub);
        }
        true
    }

    /// One answer to the edge.
    pub(super) fn step_down(&mut self) -> bool {
        let Some((reply, body)) = self.down.pop_front() else { return false };
        self.log.push(format!("← {}", shorten(&body)));
        let token = reply.strip_prefix(INBOX).unwrap().strip_prefix('.').unwrap();
        if let Some(forward) = &mut self.forward {
            forward.handle_reply(self.now, token.as_bytes(), b"", body.as_bytes());
        }
        self.drain();
        true
    }

    /// One thing that the store was asked for.
    pub(super) fn step_store(&mut self) -> bool {
        let Some(action) = self.store.pop_front() else { return false };
        let now = self.now;
        let Some(forward) = &mut self.forward else { return true };
        match action {
            Action::Read { from, max_bytes } => {
                let mut messages = Box::<MessageBuffer>::default();
                let mut next = from;
                for (sequence, (subject, headers, payload)) in self.disk.messages.range(from.0..) {
                    messages.push(&StoredMessage {
                        sequence: Sequence(*sequence),
                        time: Timestamp(1_000),
                        age: AgeMillis(0),
                        subject: subject.as_bytes(),
                        headers,
                        payload,
                    });
                    next = Sequence(sequence + 1);
                    if messages.bytes() >= max_bytes as usize || messages.len() >= 600 {
                        break;
                    }
                }
                forward.handle_slice(now, from, messages, next);
            }
            Action::Persist { value } => {
                self.disk.record = Some(value);
                forward.handle_persisted(now);
            }
            Action::Park { sequence, reason, record, .. } => {
                self.log.push(format!("parked {}: {reason}", sequence.0));
                self.disk.parked.push((sequence.0, reason));
                self.disk.record = Some(record);
                forward.handle_parked(now, sequence);
            }
            Action::Request { .. } => unreachable!("goes over the link"),
        }
        self.drain();
        true
    }

    /// Until nothing moves without the clock.
    pub(super) fn settle(&mut self, hub: &mut Hub) {
        for _ in 0..50_000 {
            if !(self.step_store() || self.step_up(hub) || self.step_down()) {
                return;
            }
        }
        panic!("it never rests:\n{}", self.log[self.log.len() - 40..].join("\n"));
    }

    /// Until nothing moves, with the clock, for at most so long.
    pub(super) fn run(&mut self, hub: &mut Hub, for_ms: u64) {
        let end = self.now + for_ms;
        for turn in 0.. {
            assert!(turn < 20_000, "a deadline that does not move: {:?}", self.forward.as_ref().map(Forward::status));
            self.settle(hub);
            let due = self.forward.as_ref().and_then(Forward::poll_timeout).filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            if let Some(forward) = &mut self.forward {
                forward.handle_timeout(self.now);
            }
            self.drain();
        }
        self.now = end;
        if let Some(forward) = &mut self.forward {
            forward.handle_timeout(self.now);
        }
        self.drain();
        self.settle(hub);
    }
}

fn describe(frame: &Frame) -> String {
    let text = |name: &str| {
        crate::headers::find(&frame.headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    };
    if let Some(api) = frame.subject.find("API.") {
        return format!("{} {}", &frame.subject[api + 4..], String::from_utf8_lossy(&frame.payload)).trim_end().into();
    }
    let fence = text("Nats-Expected-Last-Subject-Sequence").map_or(String::new(), |fence| format!(" fence={fence}"));
    let sequence = text(crate::headers::SEQUENCE).unwrap_or_default();
    let tokens: Vec<&str> = frame.reply.split('.').collect();
    if let [.., number, operation, "$FI"] = tokens[..] {
        let word = ["start", "append", "", "end"][operation.parse::<usize>().unwrap()];
        return format!("{word} n={number} {sequence}{fence}").replace("  ", " ").trim_end().into();
    }
    if let Some(number) = text("Nats-Batch-Sequence") {
        let commit = if text("Nats-Batch-Commit").is_some() { " commit" } else { "" };
        return format!("atomic n={number} {sequence}{fence}{commit}");
    }
    format!("plain {sequence}{fence}")
}

fn shorten(body: &str) -> String {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(body) else { return format!("{body:?}") };
    if let Some(error) = value.get("error") {
        return format!("error {} {}", error["err_code"], error["description"].as_str().unwrap_or(""));
    }
    if let Some(message) = value.get("message") {
        return format!("message {}", message["seq"]);
    }
    if let Some(state) = value.get("state") {
        return format!(
            "stream created {} last {}",
            value["created"].as_str().unwrap_or("")[17..19].to_owned(),
            state["last_seq"]
        );
    }
    if let Some(kind) = value.get("type") {
        return format!("{} {}", kind.as_str().unwrap_or(""), value["seq"]);
    }
    let count = value.get("count").map_or(String::new(), |count| format!(" count={count}"));
    let duplicate = if value["duplicate"] == true { " duplicate" } else { "" };
    format!("stored {}{count}{duplicate}", value["seq"])
}
