//! Publishers that count what was acknowledged, and a reader that checks what a stream holds.
//!
//! Every message says its publisher's number and carries bytes that follow from it, so that a stored one can be checked alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};
use harness::mqtt_raw::{self, Session};
use harness::{RawMqtt, RawNats};
use serde_json::Value;

/// An acknowledgement as its publisher got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) number: u64,
    /// MQTT tells none.
    pub(crate) sequence: Option<u64>,
}

/// A message as a stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
}

/// What the publisher with this number sends: the number, a blank, and bytes of every value.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut bytes = format!("{number} ").into_bytes();
    bytes.extend((0..number * 37 % 700).map(|index| u8::try_from((number * 31 + index) % 256).unwrap_or(0)));
    bytes
}

/// The number of a payload, if all its bytes are right.
pub(crate) fn number_of(bytes: &[u8]) -> Result<u64> {
    let digits = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let number: u64 = std::str::from_utf8(digits)?.parse().with_context(|| format!("no number in {bytes:?}"))?;
    ensure!(bytes == payload(number), "the bytes of message {number} have changed");
    Ok(number)
}

/// Publishes into a stream with `window` unacknowledged at most, until all are acknowledged or the connection ends; the first number
/// that was not sent.
pub(crate) fn publish_by_nats(
    address: SocketAddr,
    subject: &str,
    numbers: std::ops::Range<u64>,
    window: u64,
    acknowledged: &Sender<Acknowledged>,
) -> u64 {
    let mut next = numbers.start;
    let publish = || -> Result<()> {
        let (mut client, _) = RawNats::connect(address)?;
        client.send("SUB _INBOX.load.* 1\r\n")?;
        let mut open = 0;
        while open > 0 || next < numbers.end {
            let mut bytes = Vec::new();
            while open < window && next < numbers.end {
                let payload = payload(next);
                bytes.extend(format!("PUB {subject} _INBOX.load.{next} {}\r\n", payload.len()).bytes());
                bytes.extend(payload);
                bytes.extend(b"\r\n");
                next += 1;
                open += 1;
            }
            client.send(bytes)?;
            let answer = client.message()?;
            let number = answer.line.split(' ').nth(1).and_then(|reply| reply.rsplit('.').next());
            let answer: Value = serde_json::from_slice(&answer.payload)?;
            // A refusal is no acknowledgement: a store that is being closed may say so.
            if let (Some(number), Some(sequence)) = (number, answer["seq"].as_u64().filter(|sequence| *sequence > 0)) {
                acknowledged.send(Acknowledged { number: number.parse()?, sequence: Some(sequence) })?;
            }
            open -= 1;
        }
        Ok(())
    };
    // The end of the connection is what these tests are about.
    let _ = { publish }();
    next
}

/// The same by MQTT at QoS 1. What was sent and not acknowledged is not sent again: so nothing may be stored twice.
pub(crate) fn publish_by_mqtt(
    address: SocketAddr,
    topic: &str,
    numbers: std::ops::Range<u64>,
    window: u64,
    acknowledged: &Sender<Acknowledged>,
) -> u64 {
    let mut next = numbers.start;
    let publish = || -> Result<()> {
        let (mut client, _) = RawMqtt::connect(address, "load", Session::Clean)?;
        let mut open: BTreeMap<u16, u64> = BTreeMap::new();
        while !open.is_empty() || next < numbers.end {
            let mut bytes = Vec::new();
            while (open.len() as u64) < window && next < numbers.end {
                let id = u16::try_from(next % 60_000)? + 1;
                open.insert(id, next);
                bytes.extend(mqtt_raw::publish_packet(topic, Some(id), &payload(next)));
                next += 1;
            }
            client.send(&bytes)?;
            let packet = client.packet()?;
            ensure!(packet.first == 0x40 && packet.body.len() == 2, "no PUBACK: {packet:?}");
            let id = u16::from_be_bytes([packet.body[0], packet.body[1]]);
            let number = open.remove(&id).with_context(|| format!("PUBACK of {id}, which is not open"))?;
            acknowledged.send(Acknowledged { number, sequence: None })?;
        }
        Ok(())
    };
    let _ = { publish }();
    next
}

/// Numbers that a publisher has still to get acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Sent and not acknowledged.
    open: BTreeSet<u64>,
    /// Not sent yet.
    unsent: std::ops::Range<u64>,
}

impl Pending {
    pub(crate) fn new(numbers: std::ops::Range<u64>) -> Pending {
        Pending { open: BTreeSet::new(), unsent: numbers }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.open.is_empty() && self.unsent.is_empty()
    }

    /// What is sent again first.
    pub(crate) fn open(&self) -> impl Iterator<Item = u64> {
        self.open.iter().copied()
    }

    /// What to send now, with `in_flight` on this connection: what is sent again, then new ones.
    fn take(&mut self, again: &mut Vec<u64>, in_flight: u64, window: u64) -> Vec<u64> {
        let room = usize::try_from(window.saturating_sub(in_flight)).unwrap_or(0);
        let mut now: Vec<u64> = again.drain(..again.len().min(room)).collect();
        let fresh: Vec<u64> = self.unsent.by_ref().take(room - now.len()).collect();
        self.open.extend(&fresh);
        now.extend(fresh);
        now
    }
}

/// Publishes until all is acknowledged or the connection ends; gives back what is left. What was sent on an earlier connection and not
/// acknowledged is sent again first, with the same message id.
///
/// # Errors
/// When the gateway refuses a message.
pub(crate) fn repeat_by_nats(
    address: SocketAddr,
    subject: &str,
    mut pending: Pending,
    window: u64,
    acknowledged: &Sender<Acknowledged>,
) -> Result<Pending> {
    let Ok((mut client, _)) = RawNats::connect(address) else { return Ok(pending) };
    let mut again: Vec<u64> = pending.open().collect();
    let mut in_flight = 0;
    if client.send("SUB _INBOX.load.* 1\r\n").is_err() {
        return Ok(pending);
    }
    while !pending.is_done() {
        let mut bytes = Vec::new();
        for number in pending.take(&mut again, in_flight, window) {
            let (payload, headers) = (payload(number), format!("NATS/1.0\r\nNats-Msg-Id: load-{number}\r\n\r\n"));
            let sizes = format!("{} {}", headers.len(), headers.len() + payload.len());
            bytes.extend(format!("HPUB {subject} _INBOX.load.{number} {sizes}\r\n{headers}").bytes());
            bytes.extend(payload);
            bytes.extend(b"\r\n");
            in_flight += 1;
        }
        // The end of the connection is what these tests are about.
        if !bytes.is_empty() && client.send(bytes).is_err() {
            break;
        }
        let Ok(answer) = client.message() else { break };
        let number = answer.line.split(' ').nth(1).and_then(|reply| reply.rsplit('.').next());
        let number: u64 = number.context("an answer without a number")?.parse()?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        let sequence = answer["seq"].as_u64().filter(|sequence| *sequence > 0);
        ensure!(sequence.is_some(), "message {number} is refused: {answer}");
        ensure!(pending.open.remove(&number), "message {number} is acknowledged twice");
        acknowledged.send(Acknowledged { number, sequence })?;
        in_flight -= 1;
    }
    Ok(pending)
}

/// The same by MQTT at QoS 1, with the DUP flag on what is sent again.
///
/// # Errors
/// When the gateway answers something else than PUBACK.
pub(crate) fn repeat_by_mqtt(
    address: SocketAddr,
    topic: &str,
    mut pending: Pending,
    window: u64,
    acknowledged: &Sender<Acknowledged>,
) -> Result<Pending> {
    let Ok((mut client, _)) = RawMqtt::connect(address, "load", Session::Persistent) else { return Ok(pending) };
    let mut again: Vec<u64> = pending.open().collect();
    let resent: BTreeSet<u64> = pending.open().collect();
    let mut in_flight: BTreeMap<u16, u64> = BTreeMap::new();
    while !pending.is_done() {
        let mut bytes = Vec::new();
        for number in pending.take(&mut again, in_flight.len() as u64, window) {
            let id = u16::try_from(number % 60_000)? + 1;
            in_flight.insert(id, number);
            let mut packet = mqtt_raw::publish_packet(topic, Some(id), &payload(number));
            if resent.contains(&number) {
                packet[0] |= 0x08; // [MQTT-3.3.1-1]
            }
            bytes.extend(packet);
        }
        if !bytes.is_empty() && client.send(&bytes).is_err() {
            break;
        }
        let Ok(packet) = client.packet() else { break };
        ensure!(packet.first == 0x40 && packet.body.len() == 2, "no PUBACK: {packet:?}");
        let id = u16::from_be_bytes([packet.body[0], packet.body[1]]);
        let number = in_flight.remove(&id).with_context(|| format!("PUBACK of {id}, which is not open"))?;
        pending.open.remove(&number);
        acknowledged.send(Acknowledged { number, sequence: None })?;
    }
    Ok(pending)
}

/// The messages of a subject without those that are there again because their publisher sent them again: only `resent` may be.
pub(crate) fn without_repeats(stored: &[Stored], subject: &str, resent: &BTreeSet<u64>) -> Result<Vec<Stored>> {
    let mut seen = BTreeSet::new();
    let mut once = Vec::new();
    for message in stored.iter().filter(|message| message.subject == subject) {
        let number = number_of(&message.payload)?;
        if seen.insert(number) {
            once.push(message.clone());
        } else {
            ensure!(resent.contains(&number), "{subject}: {number} is there twice, at last at {}", message.sequence);
        }
    }
    Ok(once)
}

/// Everything that a stream holds, read through a pull consumer. `api` is `$JS.API` or that of a domain.
pub(crate) fn read_stream(address: SocketAddr, api: &str, stream: &str) -> Result<Vec<Stored>> {
    let (mut client, _) = RawNats::connect(address)?;
    let config = format!(r#"{{"stream_name":"{stream}","config":{{"ack_policy":"none","deliver_policy":"all"}}}}"#);
    let created = client.request(&format!("{api}.CONSUMER.CREATE.{stream}"), config.as_bytes())?;
    let created: Value = serde_json::from_slice(&created.payload)?;
    let consumer = created["name"].as_str().with_context(|| format!("no consumer: {created}"))?.to_owned();
    let body = r#"{"batch":500,"no_wait":true}"#;
    client.send("SUB _INBOX.read 2\r\n")?;
    let mut all = Vec::new();
    loop {
        let before = all.len();
        let size = body.len();
        client.send(format!("PUB {api}.CONSUMER.MSG.NEXT.{stream}.{consumer} _INBOX.read {size}\r\n{body}\r\n"))?;
        while all.len() - before < 500 {
            let message = client.message()?;
            let words: Vec<&str> = message.line.split(' ').collect();
            let header = if words[0] == "HMSG" { words[words.len() - 2].parse()? } else { 0 };
            if words[1] == "_INBOX.read" {
                let status = String::from_utf8_lossy(&message.payload).into_owned();
                ensure!(status.contains(" 404") || status.contains(" 408"), "the pull ended with {status}");
                if all.len() == before {
                    return Ok(all);
                }
                break;
            }
            all.push(Stored {
                sequence: sequence_of(words[3])?,
                subject: words[1].to_owned(),
                payload: message.payload[header..].to_vec(),
            });
        }
    }
}

/// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>…`, or the longer form with domain and account.
fn sequence_of(reply: &str) -> Result<u64> {
    let tokens: Vec<&str> = reply.split('.').collect();
    let at = if tokens.len() == 9 { 5 } else { 7 };
    let sequence = tokens.get(at).with_context(|| format!("no sequence in {reply}"))?;
    Ok(sequence.parse()?)
}

/// Nothing acknowledged is missing, nothing is there twice, the order of each subject is kept.
pub(crate) fn check(stored: &[Stored], subject: &str, acknowledged: &[Acknowledged]) -> Result<()> {
    let mut found = BTreeMap::new();
    let mut last = None;
    for message in stored.iter().filter(|message| message.subject == subject) {
        let number = number_of(&message.payload)?;
        ensure!(Some(number) > last, "{subject}: {number} stands behind {last:?} at {}", message.sequence);
        last = Some(number);
        found.insert(number, message.sequence);
    }
    for each in acknowledged {
        let sequence = found.get(&each.number);
        let sequence = sequence.with_context(|| format!("{subject}: {each:?} is missing among {}", found.len()))?;
        ensure!(each.sequence.is_none_or(|told| told == *sequence), "{subject}: {each:?} is stored at {sequence}");
    }
    Ok(())
}

/// Small numbers that differ from run to run only when the seed does.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// The same messages in the same order, here and at the hub.
pub(crate) fn same(edge: &[Stored], hub: &[Stored]) -> Result<()> {
    for (ours, theirs) in edge.iter().zip(hub) {
        ensure!(ours == theirs, "{} here is {} at the hub", ours.sequence, theirs.sequence);
    }
    ensure!(edge.len() == hub.len(), "{} here, {} at the hub", edge.len(), hub.len());
    Ok(())
}
