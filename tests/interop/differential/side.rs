//! One of the two servers, and the client that does the steps there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use harness::RawNats;
use harness::raw::RawMessage;
use serde_json::Value;

use super::bodies::CONSUMERS;
use super::normal;
use super::step::Step;

/// A client, and what came to it since it was last compared.
pub(super) struct Side {
    address: SocketAddr,
    client: RawNats,
    /// Entries by subscription.
    pub(super) log: BTreeMap<String, Vec<String>>,
    /// Names that the server chose, and the words for them.
    names: Vec<(String, String)>,
    /// The last heartbeat of each subscription.
    pub(super) heartbeats: BTreeMap<String, Vec<String>>,
    /// Ack subjects of deliveries; as they are compared, and as they are.
    acks: BTreeMap<String, String>,
    /// Requests of which nothing is compared: each has a subscription of its own, see [`RawNats::request`].
    asked: usize,
}

impl Side {
    pub(super) fn new(address: SocketAddr) -> Result<Side> {
        let (client, _) = RawNats::connect(address)?;
        let (log, heartbeats, acks) = Default::default();
        Ok(Side { address, client, log, names: Vec::new(), heartbeats, acks, asked: 0 })
    }

    /// Removes all streams, and begins with a new connection.
    pub(super) fn begin(&mut self) -> Result<()> {
        *self = Side::new(self.address)?;
        let names = self.client.request("$JS.API.STREAM.NAMES", b"")?;
        let names: Value = serde_json::from_slice(&names.payload)?;
        for name in names["streams"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.client.request(&format!("$JS.API.STREAM.DELETE.{name}"), b"")?;
        }
        *self = Side::new(self.address)?;
        self.client.send(format!("SUB {}> fast\r\n", normal::FAST))
    }

    /// Does a step. What comes to its reply subject is found in the log under `reply`.
    pub(super) fn perform(&mut self, reply: &str, step: &Step) -> Result<()> {
        let bytes = match step {
            Step::Ask { subject, headers, body, .. } => self.publish(subject, Some(reply), headers, body),
            Step::Tell { subject, headers, body } => self.publish(subject, None, headers, body),
            Step::Acknowledge { which, body, asks } => {
                let subject = self.acks.values().nth(which % self.acks.len().max(1)).cloned();
                let reply = asks.then_some(reply);
                subject.map_or_else(String::new, |subject| self.publish(&subject, reply, "", body))
            }
            Step::Listen { subject } => format!("SUB {subject} {subject}\r\n"),
            Step::Leave { subject } => format!("UNSUB {subject}\r\n"),
            Step::Fast { subject, headers, body, reply } => {
                self.frame(subject, &format!(" {}{reply}", normal::FAST), headers, body)
            }
            Step::Quiet { subject, body } => {
                let listen = format!("SUB _INBOX.{reply} quiet{reply}\r\nUNSUB quiet{reply} 1\r\n");
                self.client.send(listen + &self.frame(subject, &format!(" _INBOX.{reply}"), "", body))?;
                return self.until(&format!("quiet{reply}")).map(|_| ());
            }
            Step::Copy { from, to, subjects, consumers } => {
                return self.copy(reply, (from, to), subjects, *consumers);
            }
            Step::Wait { .. } | Step::Settle { .. } | Step::Heartbeats => String::new(),
        };
        self.client.send(bytes)
    }

    fn publish(&self, subject: &str, reply: Option<&str>, headers: &str, body: &str) -> String {
        let subject = self.names.iter().fold(subject.to_owned(), |text, (name, word)| text.replace(word, name));
        let body = self.names.iter().fold(body.to_owned(), |text, (name, word)| text.replace(word, name));
        let listen = reply.map_or_else(String::new, |reply| format!("SUB _INBOX.{reply} {reply}\r\n"));
        let reply = reply.map_or_else(String::new, |reply| format!(" _INBOX.{reply}"));
        listen + &self.frame(&subject, &reply, headers, &body)
    }

    fn frame(&self, subject: &str, reply: &str, headers: &str, body: &str) -> String {
        let total = headers.len() + body.len();
        if headers.is_empty() {
            format!("PUB {subject}{reply} {total}\r\n{body}\r\n")
        } else {
            format!("HPUB {subject}{reply} {} {total}\r\n{headers}{body}\r\n", headers.len())
        }
    }

    /// The next message of a subscription; what comes for others meanwhile is noted.
    fn until(&mut self, subscription: &str) -> Result<RawMessage> {
        loop {
            let message = self.client.message()?;
            if message.line.split(' ').nth(2) == Some(subscription) {
                return Ok(message);
            }
            self.note(&message);
        }
    }

    /// An answer to a request that is not compared as it is.
    fn answer(&mut self, subject: &str, body: &[u8]) -> Result<RawMessage> {
        self.asked += 1;
        let id = format!("copy{}", self.asked);
        self.client
            .send(format!("SUB _INBOX.copy {id}\r\nUNSUB {id} 1\r\nPUB {subject} _INBOX.copy {}\r\n", body.len()))?;
        self.client.send(body)?;
        self.client.send("\r\n")?;
        self.until(&id)
    }

    fn copy(&mut self, reply: &str, (from, to): (&str, &str), subjects: &str, consumers: bool) -> Result<()> {
        self.client.send("SUB _INBOX.pieces pieces\r\n")?;
        let body = format!(r#"{{"deliver_subject":"_INBOX.pieces","no_consumers":{}}}"#, !consumers);
        let answer = self.answer(&format!("$JS.API.STREAM.SNAPSHOT.{from}"), body.as_bytes())?;
        self.say(reply, &answer);
        let snapshot: Value = serde_json::from_slice(&answer.payload)?;
        if snapshot.get("error").is_some() {
            return self.client.send("UNSUB pieces\r\n");
        }
        let mut pieces = Vec::new();
        loop {
            let piece = self.until("pieces")?;
            let words: Vec<&str> = piece.line.split(' ').collect();
            if words[0] == "HMSG" || piece.payload.is_empty() {
                break;
            }
            if words.len() == 5 {
                self.client.send(format!("PUB {} 0\r\n\r\n", words[3]))?;
            }
            pieces.push(piece.payload);
        }
        self.client.send("UNSUB pieces\r\n")?;
        if from == to {
            self.answer(&format!("$JS.API.STREAM.DELETE.{from}"), b"")?;
        }
        let mut config = snapshot["config"].clone();
        config["name"] = Value::from(to);
        config["subjects"] = serde_json::from_str(subjects)?;
        let body = serde_json::json!({ "config": config, "state": snapshot["state"] }).to_string();
        let answer = self.answer(&format!("$JS.API.STREAM.RESTORE.{to}"), body.as_bytes())?;
        let value: Value = serde_json::from_slice(&answer.payload)?;
        let Some(place) = value["deliver_subject"].as_str() else {
            self.say(reply, &answer);
            return Ok(());
        };
        for piece in pieces {
            self.answer(place, &piece)?;
        }
        let answer = self.answer(place, b"")?;
        self.say(reply, &answer);
        Ok(())
    }

    fn say(&mut self, reply: &str, answer: &RawMessage) {
        self.log.entry(reply.to_owned()).or_default().push(normal::entry(answer, &self.names));
    }

    /// Takes what is there.
    pub(super) fn read(&mut self) -> Result<()> {
        while let Some(message) = self.client.poll()? {
            self.note(&message);
        }
        Ok(())
    }

    fn note(&mut self, message: &RawMessage) {
        let words: Vec<&str> = message.line.split(' ').collect();
        if !matches!(words[0], "MSG" | "HMSG") {
            return self.log.entry("server".to_owned()).or_default().push(message.line.clone());
        }
        self.learn(&message.payload);
        if let Some(ack) = words.get(3).filter(|word| word.starts_with("$JS.ACK.")) {
            self.acks.insert(normal::named(normal::ack(ack), &self.names), (*ack).to_owned());
        }
        let entry = normal::entry(message, &self.names);
        if entry.contains(" NATS/1.0 100 Idle Heartbeat") {
            self.heartbeats.insert(words[2].to_owned(), vec![entry]);
        } else {
            self.log.entry(words[2].to_owned()).or_default().push(entry);
        }
    }

    /// The name of a consumer that was made without one.
    fn learn(&mut self, payload: &[u8]) {
        let text = String::from_utf8_lossy(payload);
        if let Some((pin, _)) = text.split_once("Nats-Pin-Id: ").and_then(|(_, rest)| rest.split_once("\r\n")) {
            return self.call(pin);
        }
        if !payload.starts_with(b"{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\"") {
            return;
        }
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        let Some(name) = value["name"].as_str() else { return };
        // What a server chooses is longer than what a story says.
        if !CONSUMERS.contains(&name) && name.len() >= 8 {
            self.call(name);
        }
    }

    /// A name that only this server knows.
    fn call(&mut self, name: &str) {
        if self.names.iter().all(|(known, _)| known != name) {
            self.names.push((name.to_owned(), format!("EPHEMERAL{}", self.names.len() + 1)));
        }
    }
}
