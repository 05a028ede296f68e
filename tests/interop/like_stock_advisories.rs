//! What `$JS.EVENT.>` tells of the same story at the gateway and at the stock server: the same subjects, schemas, fields, and values that are no times,
//! identities or sizes of files.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::RawNats;
use serde_json::{Map, Value};

use crate::backups::{Side, sides};

/// Values that say what happened; of others only the kind is compared.
const SAYS: [&str; 12] = [
    "type",
    "action",
    "stream",
    "consumer",
    "domain",
    "reason",
    "error",
    "subject",
    "deliveries",
    "stream_seq",
    "consumer_seq",
    "paused",
];

fn shape(key: &str, value: &Value) -> Value {
    match value {
        // The round trip is told only when it has been measured.
        Value::Object(object) => {
            let told = object.iter().filter(|(key, _)| *key != "rtt");
            Value::Object(told.map(|(key, value)| (key.clone(), shape(key, value))).collect::<Map<_, _>>())
        }
        Value::Array(all) => all.iter().map(|one| shape(key, one)).collect(),
        value if SAYS.contains(&key) => value.clone(),
        Value::String(_) => "text".into(),
        Value::Number(_) => "number".into(),
        other => other.clone(),
    }
}

/// A restore of what a snapshot gave.
fn move_by_snapshot(side: &mut Side) -> Result<()> {
    let piece = side.small_archive()?;
    side.done("STREAM.DELETE.S", "")?;
    let begun = side.done("STREAM.RESTORE.S", r#"{"config":{"name":"S","subjects":["s"]},"state":{}}"#)?;
    let subject = begun["deliver_subject"].as_str().context("a subject")?.to_owned();
    side.client.request(&subject, &piece)?;
    let done: Value = serde_json::from_slice(&side.client.request(&subject, b"")?.payload)?;
    ensure!(done["state"]["messages"] == 3, "{done}");
    Ok(())
}

fn story(side: &mut Side) -> Result<()> {
    side.done("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#)?;
    for _ in 0..3 {
        side.client.request("s", b"x")?;
    }
    side.done("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s"],"description":"changed"}"#)?;
    let consumer = |more: &str| {
        format!(
            r#"{{"stream_name":"S","config":{{"name":"c","durable_name":"c","ack_policy":"explicit","sample_freq":"100"{more}}}}}"#
        )
    };
    side.done("CONSUMER.CREATE.S.c", &consumer(r#","max_deliver":1,"ack_wait":500000000"#))?;
    let mut acks = Vec::new();
    for _ in 0..3 {
        let message = side.client.request("$JS.API.CONSUMER.MSG.NEXT.S.c", br#"{"batch":1,"expires":5000000000}"#)?;
        let ack =
            message.line.split(' ').find(|word| word.starts_with("$JS.ACK.")).context("no ack subject")?.to_owned();
        // The third is left until it is given up.
        match acks.len() {
            0 => side.client.request(&ack, b"+ACK").map(drop)?,
            1 => side.client.request(&ack, b"+TERM of no use").map(drop)?,
            _ => {}
        }
        acks.push(ack);
    }
    // Longer than `ack_wait`: nothing comes any more.
    let end = side.client.request("$JS.API.CONSUMER.MSG.NEXT.S.c", br#"{"batch":1,"expires":1000000000}"#)?;
    ensure!(end.payload.starts_with(b"NATS/1.0 408"), "{end:?}");
    side.done("CONSUMER.PAUSE.S.c", r#"{"pause_until":"2100-01-01T00:00:00Z"}"#)?;
    side.done("CONSUMER.PAUSE.S.c", "")?;
    side.done("CONSUMER.DELETE.S.c", "")?;
    side.api("STREAM.INFO.NONE", "")?;
    move_by_snapshot(side)?;
    side.done("STREAM.DELETE.S", "")?;
    Ok(())
}

/// How often each was told, by subject and shape, until the stream was deleted for the second time and its message given up.
fn told(side: &mut Side) -> Result<BTreeMap<String, u64>> {
    let (mut listener, _) = RawNats::connect(side.server.address("nats"))?;
    listener.send("SUB $JS.EVENT.> e\r\n")?;
    listener.flush()?;
    story(side).context("the story")?;
    let mut all = BTreeMap::new();
    let (mut deleted, mut given_up, mut audited) = (0, 0, 0);
    while deleted < 2 || given_up < 1 || audited < 2 {
        let message = listener.message().with_context(|| format!("told so far: {all:#?}"))?;
        let subject = message.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let event: Value = serde_json::from_slice(&message.payload)?;
        deleted += u64::from(event["action"] == "delete" && event["consumer"].is_null());
        given_up += u64::from(subject.contains("MAX_DELIVERIES"));
        audited += u64::from(event["subject"] == "$JS.API.STREAM.DELETE.S");
        *all.entry(format!("{subject} {}", shape("", &event))).or_default() += 1;
    }
    Ok(all)
}

#[test]
fn advisories_are_told_in_the_same_words() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    let (said, expected) = (told(&mut ours)?, told(&mut stock)?);
    let only = |one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>| {
        one.iter()
            .filter(|(key, count)| other.get(*key) != Some(count))
            .map(|(key, count)| format!("{count} {key}"))
            .collect::<Vec<_>>()
    };
    let (more, less) = (only(&said, &expected), only(&expected, &said));
    ensure!(more.is_empty() && less.is_empty(), "only ours:\n{}\nonly stock:\n{}", more.join("\n"), less.join("\n"));
    for part in [
        "MAX_DELIVERIES",
        "MSG_TERMINATED",
        "METRIC.CONSUMER.ACK",
        "PAUSE",
        "SNAPSHOT_CREATE",
        "SNAPSHOT_COMPLETE",
        "RESTORE_CREATE",
        "RESTORE_COMPLETE",
        "ADVISORY.API",
    ] {
        ensure!(said.keys().any(|key| key.contains(part)), "nothing was told of {part}: {:#?}", said.keys());
    }
    Ok(())
}
