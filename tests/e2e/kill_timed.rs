//! `kill -9` of a gateway with counters and schedules: totals go on from where they were, and what was scheduled is sent, once.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

/// For what takes seconds of its own.
const TRIES: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);
const ROUNDS: u64 = 4;
const INCREMENTS: u64 = 50;

/// Publishes with one header; what is acknowledged.
fn publish(client: &mut RawNats, subject: &str, headers: &[&str]) -> Result<Value> {
    let block: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = block.len() + "NATS/1.0\r\n\r\n".len();
    client.send(format!(
        "SUB _INBOX.h h\r\nUNSUB h 1\r\nHPUB {subject} _INBOX.h {length} {length}\r\nNATS/1.0\r\n{block}\r\n\r\n"
    ))?;
    let ack: Value = serde_json::from_slice(&client.message()?.payload)?;
    ensure!(ack.get("error").is_none(), "{subject} {headers:?}: {ack}");
    Ok(ack)
}

fn api(client: &mut RawNats, operation: &str, body: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&client.request(&format!("$JS.API.{operation}"), body.as_bytes())?.payload)?)
}

/// Messages on a subject of the stream.
fn held(client: &mut RawNats, subject: &str) -> Result<u64> {
    let info = api(client, "STREAM.INFO.S", &format!(r#"{{"subjects_filter":"{subject}"}}"#))?;
    Ok(info["state"]["subjects"][subject].as_u64().unwrap_or(0))
}

#[test]
fn totals_and_schedules_survive_kills() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    api(&mut client, "STREAM.CREATE.C", r#"{"name":"C","subjects":["c"],"allow_msg_counter":true}"#)?;
    api(&mut client, "STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_msg_schedules":true}"#)?;
    for round in 1..=ROUNDS {
        for number in 1..=INCREMENTS {
            let ack = publish(&mut client, "c", &["Nats-Incr: 1"])?;
            let wanted = (round - 1) * INCREMENTS + number;
            assert_eq!(ack["val"].as_str(), Some(&*wanted.to_string()));
        }
        let target = format!("Nats-Schedule-Target: s.once.{round}");
        publish(&mut client, &format!("s.plan.{round}"), &["Nats-Schedule: @at 2020-01-01T00:00:00Z", &target])?;
        if round == 1 {
            publish(&mut client, "s.plan", &["Nats-Schedule: @every 1s", "Nats-Schedule-Target: s.again"])?;
        }
        gateway.kill9()?;
        gateway.restart()?;
        (client, _) = RawNats::connect(gateway.address("nats"))?;
        let before = held(&mut client, "s.again")?;
        let mut tries = 0;
        while held(&mut client, "s.again")? == before {
            ensure!(tries < TRIES, "the interval ended in round {round}");
            tries += 1;
            std::thread::sleep(PAUSE);
        }
    }
    for round in 1..=ROUNDS {
        let plan = held(&mut client, &format!("s.plan.{round}"))?;
        let sent = held(&mut client, &format!("s.once.{round}"))?;
        assert_eq!((plan, sent), (0, 1), "of round {round}");
    }
    Ok(())
}
