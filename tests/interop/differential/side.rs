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
    /// Ack subjects of deliveries; as they are compared, and as they are.
    acks: BTreeMap<String, String>,
}

impl Side {
    pub(super) fn new(address: SocketAddr) -> Result<Side> {
        let (client, _) = RawNats::connect(address)?;
        Ok(Side { address, client, log: BTreeMap::new(), names: Vec::new(), acks: BTreeMap::new() })
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
        Ok(())
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
            Step::Wait { .. } => String::new(),
        };
        self.client.send(bytes)
    }

    fn publish(&self, subject: &str, reply: Option<&str>, headers: &str, body: &str) -> String {
        let subject = self.names.iter().fold(subject.to_owned(), |text, (name, word)| text.replace(word, name));
        let listen = reply.map_or_else(String::new, |reply| format!("SUB _INBOX.{reply} {reply}\r\n"));
        let reply = reply.map_or_else(String::new, |reply| format!(" _INBOX.{reply}"));
        let total = headers.len() + body.len();
        if headers.is_empty() {
            format!("{listen}PUB {subject}{reply} {total}\r\n{body}\r\n")
        } else {
            format!("{listen}HPUB {subject}{reply} {} {total}\r\n{headers}{body}\r\n", headers.len())
        }
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
        self.log.entry(words[2].to_owned()).or_default().push(normal::entry(message, &self.names));
    }

    /// The name of a consumer that was made without one.
    fn learn(&mut self, payload: &[u8]) {
        if !payload.starts_with(b"{\"type\":\"io.nats.jetstream.api.v1.consumer_create_response\"") {
            return;
        }
        let value: Value = serde_json::from_slice(payload).unwrap_or_default();
        let Some(name) = value["name"].as_str() else { return };
        let is_known = CONSUMERS.contains(&name) || self.names.iter().any(|(known, _)| known == name);
        // What a server chooses is longer than what a story says.
        if !is_known && name.len() >= 8 {
            self.names.push((name.to_owned(), format!("EPHEMERAL{}", self.names.len() + 1)));
        }
    }
}
