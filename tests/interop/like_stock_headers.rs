//! A table of headers: each alone, and with those of a schedule, in a plain publish, an atomic batch and a fast one. The gateway says what the stock server
//! says, and stores what it stores.

use anyhow::{Context, Result, ensure};
use harness::RawNats;
use serde_json::{Value, json};

use crate::like_stock::{Both, level};

/// `N` is a number of its own for each case, `LAST` the stream's last sequence before it.
const HEADERS: [&str; 38] = [
    "",
    "X-Other: 1",
    "Nats-Msg-Id: N",
    "Nats-Expected-Stream: S",
    "Nats-Expected-Stream: T",
    "Nats-Expected-Last-Sequence: LAST",
    "Nats-Expected-Last-Sequence: 0",
    "Nats-Expected-Last-Sequence: x",
    "Nats-Expected-Last-Subject-Sequence: 0",
    "Nats-Expected-Last-Subject-Sequence: 99999",
    "Nats-Expected-Last-Subject-Sequence-Subject: s.0",
    "Nats-Expected-Last-Msg-Id: other",
    "Nats-Rollup: sub",
    "Nats-Rollup: all",
    "Nats-Rollup: x",
    "Nats-TTL: 100s",
    "Nats-TTL: x",
    "Nats-TTL: never",
    "Nats-Incr: 5",
    "Nats-Incr: x",
    "Nats-Schedule: bad",
    "Nats-Schedule: @every 1h",
    "Nats-Schedule-Target: s.t",
    "Nats-Schedule-Source: s.0",
    "Nats-Schedule-TTL: 5s",
    "Nats-Schedule-TTL: x",
    "Nats-Schedule-Rollup: sub",
    "Nats-Schedule-Rollup: all",
    "Nats-Schedule-Time-Zone: UTC",
    "Nats-Schedule-Next: purge",
    "Nats-Schedule-Next: x",
    "Nats-Scheduler: s.plan",
    "Nats-Scheduler: s.0",
    "Nats-Stream-Source: x 1",
    "Nats-Required-Api-Level: 5",
    "Nats-Required-Api-Level: 6",
    "Nats-Counter-Sources: {}",
    "Nats-Marker-Reason: MaxAge",
];
/// Refused for this in the message that commits it, stock never ends a fast batch, and the stream's others are slow from then on.
const LEFT_OPEN: &str = "Nats-Expected-Last-Msg-Id";
/// What stands before each of them in turn.
const BEFORE: [&str; 3] =
    ["", "Nats-Schedule: @every 1h|Nats-Schedule-Target: s.t", "Nats-Schedule-Next: purge|Nats-Scheduler: s.plan"];

/// How a message is published.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Atomic,
    /// Behind another message of its batch.
    AtomicSecond,
    Fast,
    FastSecond,
    FastWithGaps,
}

impl Way {
    fn is_fast(self) -> bool {
        matches!(self, Way::Fast | Way::FastSecond | Way::FastWithGaps)
    }
}

const WAYS: [Way; 6] = [Way::Plain, Way::Atomic, Way::AtomicSecond, Way::Fast, Way::FastSecond, Way::FastWithGaps];

/// A case's messages: subject, reply subject, headers. Each has a batch of its own: stock says nothing more to one whose commit it refused late.
fn messages(way: Way, id: u32, headers: &str, first: &str) -> Vec<(&'static str, String, String)> {
    let batch = |place: &str, others: &str| format!("Nats-Batch-Id: {id}|Nats-Batch-Sequence: {place}|{others}");
    match way {
        Way::Plain => vec![("s.1", "plain".into(), headers.to_owned())],
        Way::Atomic => vec![("s.1", "atomic".into(), batch("1|Nats-Batch-Commit: 1", headers))],
        Way::AtomicSecond => {
            vec![
                ("s.0", "atomic".into(), batch("1", first)),
                ("s.1", "atomic".into(), batch("2|Nats-Batch-Commit: 1", headers)),
            ]
        }
        Way::Fast => vec![("s.1", format!("{id}.10.fail.1.2.$FI"), headers.to_owned())],
        Way::FastSecond => {
            vec![
                ("s.0", format!("{id}.10.fail.1.0.$FI"), first.to_owned()),
                ("s.1", format!("{id}.10.fail.2.2.$FI"), headers.to_owned()),
            ]
        }
        Way::FastWithGaps => vec![("s.1", format!("{id}.10.ok.1.2.$FI"), headers.to_owned())],
    }
}

fn publish(client: &mut RawNats, subject: &str, reply: &str, headers: &str, payload: &str) -> Result<()> {
    let lines: String = headers.split('|').filter(|line| !line.is_empty()).map(|line| format!("{line}\r\n")).collect();
    let block = format!("NATS/1.0\r\n{lines}\r\n");
    let (size, total) = (block.len(), block.len() + payload.len());
    client.send(format!("HPUB {subject} _INBOX.h.{reply} {size} {total}\r\n{block}{payload}\r\n"))
}

/// What is said to a case's messages, up to the answer to one behind them that changes nothing; and what is stored then.
fn tell(client: &mut RawNats, messages: &[(&str, String, String)], payload: &str) -> Result<Vec<String>> {
    for (subject, reply, headers) in messages {
        publish(client, subject, reply, headers, payload)?;
    }
    publish(client, "s.1", "end", "Nats-Expected-Stream: none", "")?;
    let mut said = Vec::new();
    loop {
        let message = client.message()?;
        let on = message.line.split(' ').nth(1).unwrap_or_default().trim_start_matches("_INBOX.h.").to_owned();
        if on == "end" {
            break;
        }
        said.push(format!("{on}: {}", String::from_utf8_lossy(&message.payload)));
    }
    said.push(asked(client, "STREAM.MSG.GET.S", r#"{"last_by_subj":"s.1"}"#)?.to_string());
    said.push(asked(client, "STREAM.INFO.S", "")?["state"].to_string());
    Ok(said)
}

fn asked(client: &mut RawNats, operation: &str, body: &str) -> Result<Value> {
    let message = client.request(&format!("$JS.API.{operation}"), body.as_bytes())?;
    let mut answer = serde_json::from_slice(&message.payload).context("an answer of the API")?;
    level(&mut answer);
    Ok(answer)
}

fn compare(config: &Value, payload: &str, first: &str) -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let mut body = json!({"name": "S", "subjects": ["s.>"], "allow_atomic": true, "allow_batched": true});
    config.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
    both.api("STREAM.CREATE.S", &body.to_string())?;
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB _INBOX.h.> 8\r\n")?;
        client.flush()?;
    }
    let (mut differences, mut number) = (Vec::new(), 0);
    let plan = if config["allow_msg_schedules"] == true { BEFORE[1] } else { first };
    for before in BEFORE {
        for header in HEADERS {
            for way in WAYS {
                number += 1;
                if header.starts_with(LEFT_OPEN) && way.is_fast() {
                    continue;
                }
                // Behind an atomic batch whose second message it refused, stock's last sequence is one too high until something is stored.
                let plan = [("s.plan", "plan".to_owned(), plan.to_owned())];
                tell(&mut both.ours, &plan, payload)?;
                tell(&mut both.stock, &plan, payload)?;
                let last = asked(&mut both.ours, "STREAM.INFO.S", "")?["state"]["last_seq"].to_string();
                let headers =
                    format!("{before}|{header}").replace("LAST", &last).replace(": N", &format!(": {number}"));
                let messages = messages(way, number, &headers, first);
                let (ours, stock) =
                    (tell(&mut both.ours, &messages, payload)?, tell(&mut both.stock, &messages, payload)?);
                if ours != stock {
                    differences.push(format!("{way:?} {headers}\n   ours:  {ours:?}\n   stock: {stock:?}"));
                }
            }
        }
    }
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

#[test]
fn where_everything_is_allowed() -> Result<()> {
    let config = json!({"allow_msg_ttl": true, "allow_msg_schedules": true, "allow_rollup_hdrs": true});
    compare(&config, "payload", "")
}

#[test]
fn where_nothing_is_allowed() -> Result<()> {
    compare(&json!({}), "payload", "")
}

#[test]
fn in_a_counter_stream() -> Result<()> {
    compare(&json!({"allow_msg_counter": true}), "", "Nats-Incr: 1")
}
