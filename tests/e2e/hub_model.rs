//! The golden scripts of `forward` run against a small model of a hub (`crates/forward/src/testing/hub.rs`). Here a stock server is asked the same, with the
//! codes and sequences that the model gives: where this fails, the model is wrong, and so may be the scripts.

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{RawNats, Server, StockHub};
use serde_json::Value;

use crate::hub::ask;

struct Hub {
    server: Server,
    client: RawNats,
}

impl Hub {
    fn start() -> Result<Hub> {
        let server = StockHub::start(StockHub::PLAIN)?;
        let (mut client, _) = RawNats::connect(server.address("nats"))?;
        client.send("SUB _INBOX.m.> 1\r\n")?;
        Ok(Hub { server, client })
    }

    fn api(&self, operation: &str, body: &str) -> Result<Value> {
        ask(&self.server, &format!("$JS.API.{operation}"), body)
    }

    fn create(&self, more: &str) -> Result<()> {
        let body = format!(r#"{{"name":"FLEET","subjects":["e.>"]{more}}}"#);
        let answer = self.api("STREAM.CREATE.FLEET", &body)?;
        ensure!(answer["error"].is_null(), "{answer}");
        Ok(())
    }

    fn send(&mut self, reply: &str, headers: &str, body: &[u8]) -> Result<()> {
        let block = format!("NATS/1.0\r\nNats-Expected-Stream: FLEET\r\n{headers}\r\n");
        let sizes = format!("{} {}", block.len(), block.len() + body.len());
        self.client.send(format!("HPUB e.p.s _INBOX.m.{reply} {sizes}\r\n{block}"))?;
        self.client.send(body)?;
        self.client.send("\r\n")
    }

    fn answer(&mut self) -> Result<Value> {
        let message = self.client.message()?;
        if message.payload.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&message.payload).with_context(|| format!("{message:?}"))
    }

    fn publish(&mut self, headers: &str, body: &[u8]) -> Result<Value> {
        self.send("one", headers, body)?;
        self.answer()
    }

    /// A frame of fast ingest.
    fn fast(&mut self, id: &str, number: u64, operation: u64, headers: &str, body: &[u8]) -> Result<()> {
        self.send(&format!("{id}.10.fail.{number}.{operation}.$FI"), headers, body)
    }
}

fn code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or(0)
}

const FENCE: &str = "Nats-Expected-Last-Subject-Sequence-Subject: e.p.>\r\nNats-Expected-Last-Subject-Sequence: ";

#[test]
fn single_messages_are_answered_as_in_the_model() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut hub = Hub::start()?;
    ensure!(code(&hub.api("STREAM.INFO.FLEET", "")?) == 10059);
    hub.create(r#","max_msg_size":70000,"max_msgs":4,"discard":"new""#)?;
    ensure!(code(&hub.api("STREAM.MSG.GET.FLEET", r#"{"last_by_subj":"e.p.>"}"#)?) == 10037);
    ensure!(hub.publish(&format!("Nats-Msg-Id: 1\r\n{FENCE}0\r\n"), b"x")?["seq"] == 1);
    // The fence comes before the duplicate.
    let stale = hub.publish(&format!("Nats-Msg-Id: 1\r\n{FENCE}0\r\n"), b"x")?;
    ensure!(code(&stale) == 10071 && stale["error"]["description"] == "wrong last sequence: 1", "{stale}");
    let known = hub.publish(&format!("Nats-Msg-Id: 1\r\n{FENCE}1\r\n"), b"x")?;
    ensure!(known["seq"] == 1 && known["duplicate"] == true, "{known}");
    ensure!(code(&hub.publish("", &[b'x'; 70_000])?) == 10054);
    ensure!(code(&hub.publish(&format!("unit: {}\r\n", "x".repeat(65_600)), b"")?) == 10097);
    ensure!(code(&hub.publish("Nats-Expected-Stream: OTHER\r\n", b"x")?) == 0, "the first header counts");
    for sequence in 3..=4 {
        ensure!(hub.publish("", b"x")?["seq"] == sequence);
    }
    let full = hub.publish("", b"x")?;
    ensure!(code(&full) == 10077 && full["error"]["description"] == "maximum messages exceeded", "{full}");
    // Purged, the fence over the filter is 0.
    ensure!(hub.api("STREAM.PURGE.FLEET", "")?["success"] == true);
    ensure!(code(&hub.publish(&format!("{FENCE}4\r\n"), b"x")?) == 10071);
    ensure!(hub.publish(&format!("{FENCE}0\r\n"), b"x")?["seq"] == 5);
    let sealed =
        r#"{"name":"FLEET","subjects":["e.>"],"max_msg_size":70000,"max_msgs":4,"discard":"new","sealed":true}"#;
    let answer = hub.api("STREAM.UPDATE.FLEET", sealed)?;
    ensure!(answer["config"]["sealed"] == true, "{answer}");
    let refused = hub.publish("", b"x")?;
    ensure!(code(&refused) == 10109, "{refused}");
    // Deleted, and made again: `created` tells.
    let created = hub.api("STREAM.INFO.FLEET", "")?["created"].clone();
    ensure!(hub.api("STREAM.DELETE.FLEET", "")?["success"] == true);
    hub.create("")?;
    let again = hub.api("STREAM.INFO.FLEET", "")?;
    ensure!(again["created"] != created && again["state"]["last_seq"] == 0, "{again}");
    Ok(())
}

#[test]
fn batches_are_answered_as_in_the_model() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut hub = Hub::start()?;
    hub.create(r#","max_msg_size":1000,"allow_atomic":true,"allow_batched":true"#)?;
    ensure!(hub.publish("Nats-Msg-Id: 1\r\n", b"x")?["seq"] == 1);

    // Refused at its start for what it is: no batch begins.
    hub.fast("A", 1, 0, &format!("{FENCE}1\r\n"), &[b'x'; 2_000])?;
    hub.fast("A", 2, 1, "", b"x")?;
    let (refused, behind) = (hub.answer()?, hub.answer()?);
    ensure!(code(&refused) == 10054 && code(&behind) == 10208, "{refused} {behind}");

    // By a stale fence: announced all the same, then refused; what follows is of an unknown batch.
    hub.fast("S", 1, 0, &format!("{FENCE}0\r\n"), b"x")?;
    hub.fast("S", 2, 1, "", b"x")?;
    let answers: Vec<Value> = (0..3).map(|_| hub.answer()).collect::<Result<_>>()?;
    ensure!(answers[0]["type"] == "ack" && answers[0]["seq"] == 0, "{answers:?}");
    ensure!(answers[1..].iter().map(code).eq([10071, 10208]), "{answers:?}");

    // Refused in its middle: the refusal, then the gap, the PubAck of what was stored, and nothing of what follows.
    for (number, size) in [(1, 10), (2, 10), (3, 2_000), (4, 10), (5, 10)] {
        hub.fast("B", number, u64::from(number > 1), "", &vec![b'x'; size])?;
    }
    let answers: Vec<Value> = (0..5).map(|_| hub.answer()).collect::<Result<_>>()?;
    ensure!(answers[0]["type"] == "ack" && answers[0]["seq"] == 0, "{answers:?}");
    ensure!(code(&answers[1]) == 10054, "{answers:?}");
    ensure!(answers[2]["type"] == "gap", "{answers:?}");
    ensure!(answers[3]["count"] == 2 && answers[3]["seq"] == 3 && answers[3]["batch"] == "B", "{answers:?}");
    ensure!(code(&answers[4]) == 10208, "{answers:?}");

    // A duplicate is skipped and counted; of nothing else the PubAck names no sequence.
    hub.fast("C", 1, 0, "Nats-Msg-Id: 1\r\n", b"x")?;
    hub.fast("C", 2, 3, "", b"")?;
    let (_, end) = (hub.answer()?, hub.answer()?);
    ensure!(end["count"] == 1 && end["seq"].as_u64().unwrap_or(0) == 0, "{end}");

    // Atomic: one duplicate refuses all, one that is too large as well.
    for (id, second, size, expected) in [("t1", "Nats-Msg-Id: 1\r\n", 10, 10201), ("t2", "", 2_000, 10054)] {
        let batch = |number: u64| format!("Nats-Batch-Id: {id}\r\nNats-Batch-Sequence: {number}\r\n");
        hub.send("t", &batch(1), b"x")?;
        hub.send("t", &format!("{}{second}Nats-Batch-Commit: 1\r\n", batch(2)), &vec![b'x'; size])?;
        let (begun, end) = (hub.answer()?, hub.answer()?);
        ensure!(begun.is_null() && code(&end) == expected, "{id}: {begun} {end}");
    }
    ensure!(hub.api("STREAM.INFO.FLEET", "")?["state"]["last_seq"] == 3, "nothing of the refused was stored");
    Ok(())
}
