//! `kill -9` among atomic batches: each one is there whole or not at all, and there if it was acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

use crate::load::{self, Dice};

const ROUNDS: u64 = 6;
/// Messages of a batch: so many that a commit takes a while.
const SIZE: u64 = 100;
const BATCHES: u64 = 10_000;
/// The kill comes after up to so many acknowledged batches.
const MOST: u64 = 20;

/// Publishes batch after batch, two at a time, until the connection ends.
fn publish(address: SocketAddr, round: u64, acknowledged: &Sender<String>) -> Result<()> {
    let (mut client, _) = RawNats::connect(address)?;
    client.send("SUB _INBOX.batch 1\r\n")?;
    for number in 0..BATCHES {
        let id = format!("{round}-{number}");
        let mut bytes = String::new();
        for sequence in 1..=SIZE {
            let (commit, reply) =
                if sequence == SIZE { ("Nats-Batch-Commit: 1\r\n", "_INBOX.batch ") } else { ("", "") };
            let headers = format!("NATS/1.0\r\nNats-Batch-Id: {id}\r\nNats-Batch-Sequence: {sequence}\r\n{commit}\r\n");
            let payload = format!("{id} {sequence}");
            let (size, total) = (headers.len(), headers.len() + payload.len());
            bytes.push_str(&format!("HPUB load.{sequence} {reply}{size} {total}\r\n{headers}{payload}\r\n"));
        }
        client.send(bytes)?;
        if number > 0 {
            hear(&mut client, acknowledged)?;
        }
    }
    hear(&mut client, acknowledged)
}

fn hear(client: &mut RawNats, acknowledged: &Sender<String>) -> Result<()> {
    let answer: Value = serde_json::from_slice(&client.message()?.payload)?;
    if answer["count"] == SIZE {
        acknowledged.send(answer["batch"].as_str().context("no batch in the answer")?.to_owned())?;
    }
    Ok(())
}

#[test]
fn batches_are_whole_after_kills() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    client.request("$JS.API.STREAM.CREATE.S", br#"{"name":"S","subjects":["load.*"],"allow_atomic":true}"#)?;
    drop(client);
    let mut dice = Dice::new(11);
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let (told, acks) = channel();
        let address = gateway.address("nats");
        let publisher = thread::spawn(move || publish(address, round, &told));
        for _ in 0..=dice.below(MOST) {
            acknowledged.push(acks.recv().context("the publisher ended before the kill")?);
        }
        gateway.kill9()?;
        // Its connection was cut.
        let _ = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?;
        acknowledged.extend(acks.iter());
        gateway.restart()?;
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for stored in load::read_stream(gateway.address("nats"), "$JS.API", "S")? {
            let text = String::from_utf8(stored.payload)?;
            let (id, number) = text.split_once(' ').context("not a message of a batch")?;
            found.entry(id.to_owned()).or_default().push(number.parse()?);
        }
        let whole: Vec<u64> = (1..=SIZE).collect();
        for (id, numbers) in &found {
            ensure!(*numbers == whole, "of batch {id} {} messages are there", numbers.len());
        }
        let lost: Vec<&String> = acknowledged.iter().filter(|id| !found.contains_key(*id)).collect();
        ensure!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    }
    Ok(())
}

/// What a stream with `persist_mode: async` acknowledges may be lost by a kill, but not what stands before something that was synced, and never from its
/// middle.
#[test]
fn what_is_acknowledged_early_is_a_front_after_kills() -> Result<()> {
    let streams = "streams { LAZY { subjects: [lazy], persist_mode: async }, SYNCED { subjects: [synced] } }\n";
    let mut gateway = Gateway::start(&format!("{}{streams}", Gateway::PLAIN))?;
    let mut next: u64 = 0;
    for round in 0..4 {
        let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
        let mut publish = |subject: &str, payload: &str| -> Result<()> {
            let answer: Value = serde_json::from_slice(&client.request(subject, payload.as_bytes())?.payload)?;
            ensure!(answer["seq"].is_u64() && answer["error"].is_null(), "{answer}");
            Ok(())
        };
        for _ in 0..50 {
            publish("lazy", &next.to_string())?;
            next += 1;
        }
        let synced = next;
        publish("synced", "x")?;
        for _ in 0..50 {
            publish("lazy", &next.to_string())?;
            next += 1;
        }
        gateway.kill9()?;
        gateway.restart()?;
        let stored = load::read_stream(gateway.address("nats"), "$JS.API", "LAZY")?;
        let expected: Vec<Vec<u8>> = (0..stored.len()).map(|number| number.to_string().into_bytes()).collect();
        ensure!(stored.iter().map(|stored| &stored.payload).eq(&expected), "round {round}: not a front");
        let left = stored.len() as u64;
        ensure!((synced..=next).contains(&left), "round {round}: {left} are left, {synced} were synced");
        next = left;
    }
    Ok(())
}
