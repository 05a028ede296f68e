//! Batches as raw messages to the gateway and to the stock server: both say the same, on the same subjects, in the same order.

use anyhow::{Result, ensure};
use harness::RawNats;
use serde_json::Value;

use crate::like_stock::Both;

/// A message of a story: reply subject after `_INBOX.b.`, headers, payload.
type Message<'a> = (&'a str, &'a str, &'a str);

/// What is said to a message, up to the answer to one behind it that changes nothing.
fn said(client: &mut RawNats, subject: &str, (reply, headers, payload): Message<'_>) -> Result<Vec<String>> {
    let headers: String = headers.split_terminator('|').map(|line| format!("{line}\r\n")).collect();
    publish(client, subject, reply, &headers, payload)?;
    publish(client, subject, "end", "Nats-Expected-Stream: none\r\n", "")?;
    let mut all = Vec::new();
    loop {
        let message = client.message()?;
        let on = message.line.split(' ').nth(1).unwrap_or_default().trim_start_matches("_INBOX.b.").to_owned();
        if on == "end" {
            return Ok(all);
        }
        all.push(format!("{on}: {}", String::from_utf8_lossy(&message.payload)));
    }
}

fn publish(client: &mut RawNats, subject: &str, reply: &str, headers: &str, payload: &str) -> Result<()> {
    let block = format!("NATS/1.0\r\n{headers}\r\n");
    let (size, total) = (block.len(), block.len() + payload.len());
    client.send(format!("HPUB {subject} _INBOX.b.{reply} {size} {total}\r\n{block}{payload}\r\n"))
}

/// Tells the same story to both; `subject` is the stream's.
fn tell(both: &mut Both, subject: &str, story: &[Message<'_>]) -> Result<()> {
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB _INBOX.b.> 8\r\n")?;
        client.flush()?;
    }
    for message in story {
        let (ours, stock) = (said(&mut both.ours, subject, *message)?, said(&mut both.stock, subject, *message)?);
        ensure!(ours == stock, "{message:?}\n ours:  {ours:#?}\n stock: {stock:#?}");
    }
    for client in [&mut both.ours, &mut both.stock] {
        client.send("UNSUB 8\r\n")?;
        client.flush()?;
    }
    same_messages(both)
}

/// Everything that the stream holds, with its headers.
fn same_messages(both: &mut Both) -> Result<()> {
    let info: Value = serde_json::from_str(&both.api("STREAM.INFO.S", "")?)?;
    for sequence in 1..=info["state"]["last_seq"].as_u64().unwrap_or(0) {
        both.api("STREAM.MSG.GET.S", &format!(r#"{{"seq":{sequence}}}"#))?;
    }
    Ok(())
}

/// Headers of an atomic batch's message.
fn atomic(id: &str, sequence: &str, commit: &str, others: &str) -> String {
    let commit = if commit.is_empty() { String::new() } else { format!("Nats-Batch-Commit: {commit}|") };
    format!("Nats-Batch-Id: {id}|Nats-Batch-Sequence: {sequence}|{commit}{others}")
}

fn tell_atomic(both: &mut Both, story: &[(&str, &str, &str, &str)]) -> Result<()> {
    let headers: Vec<String> =
        story.iter().map(|(id, sequence, commit, others)| atomic(id, sequence, commit, others)).collect();
    let messages: Vec<Message<'_>> = headers.iter().map(|headers| ("a", headers.as_str(), "payload")).collect();
    tell(both, "s.1", &messages)
}

#[test]
fn atomic_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"allow_rollup_hdrs":true}"#)?;
    let long = "x".repeat(65);
    tell_atomic(
        &mut both,
        &[
            ("A", "1", "", ""),
            ("A", "2", "", ""),
            ("A", "3", "1", ""),
            ("A", "3", "1", ""),
            ("B", "1", "", ""),
            ("B", "2", "eob", ""),
            ("C", "1", "eob", ""),
            ("C", "1", "2", ""),
            ("C", "1", "1", ""),
            ("D", "1", "", ""),
            ("D", "3", "", ""),
            ("D", "2", "1", ""),
            ("D", "1001", "", ""),
            ("D", "1002", "eob", ""),
            ("D", "", "", ""),
            ("D", "x", "", ""),
            ("D", "0", "", ""),
            ("D", "0", "eob", ""),
            ("F", "1", "", ""),
            ("F", "0", "eob", ""),
            ("F", "2", "1", ""),
            (&long, "1", "", ""),
            ("E", "1", "1", "Nats-Required-Api-Level: 5|"),
            ("E", "1", "1", "Nats-Required-Api-Level: 6|"),
            ("E", "1", "1", "Nats-Required-Api-Level: x|"),
        ],
    )
}

#[test]
fn expectations_in_atomic_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"allow_rollup_hdrs":true}"#)?;
    both.ask("s.0", "first")?;
    tell_atomic(
        &mut both,
        &[
            ("A", "1", "", "Nats-Expected-Last-Sequence: 1|"),
            ("A", "2", "1", ""),
            ("A", "1", "", "Nats-Expected-Last-Sequence: 1|"),
            ("A", "2", "1", ""),
            ("A", "1", "", ""),
            ("A", "2", "1", "Nats-Expected-Last-Sequence: 4|"),
            ("A", "1", "", ""),
            ("A", "2", "1", "Nats-Expected-Last-Sequence: 3|"),
            ("B", "1", "1", "Nats-Expected-Last-Subject-Sequence: 3|"),
            ("B", "1", "1", "Nats-Expected-Last-Subject-Sequence: 3|"),
            ("B", "1", "", ""),
            ("B", "2", "1", "Nats-Expected-Last-Subject-Sequence: 4|"),
            ("B", "1", "1", "Nats-Expected-Last-Subject-Sequence-Subject: s.0|"),
            ("B", "1", "", "Nats-Expected-Stream: S|"),
            ("B", "2", "1", "Nats-Expected-Stream: T|"),
            ("B", "1", "1", "Nats-Expected-Last-Msg-Id: x|"),
            ("C", "1", "", "Nats-Msg-Id: one|"),
            ("C", "2", "1", "Nats-Msg-Id: two|"),
            ("C", "1", "1", "Nats-Msg-Id: two|"),
            ("C", "1", "", "Nats-Msg-Id: three|"),
            ("C", "2", "1", "Nats-Msg-Id: three|"),
            ("D", "1", "1", "Nats-TTL: 5|"),
            ("D", "1", "1", "Nats-TTL: soon|"),
            ("D", "1", "1", "Nats-Incr: 1|"),
            ("D", "1", "1", "Nats-Stream-Source: x 1|"),
            ("E", "1", "", "Nats-Rollup: sub|"),
            ("E", "2", "1", "Nats-Rollup: sub|"),
            ("E", "1", "1", "Nats-Rollup: some|"),
            ("E", "1", "", "Nats-Rollup: all|"),
            ("E", "2", "1", "Nats-Rollup: all|"),
            ("E", "1", "", "Nats-Rollup: sub|"),
            ("E", "2", "1", ""),
            ("E", "1", "", "Nats-Rollup: all|"),
            ("E", "2", "1", ""),
        ],
    )?;
    both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"allow_rollup_hdrs":true}"#)?;
    tell_atomic(&mut both, &[("F", "1", "1", "")])
}

#[test]
fn limits_of_atomic_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"max_msgs":2,"discard":"new"}"#)?;
    tell_atomic(&mut both, &[("A", "1", "", ""), ("A", "2", "", ""), ("A", "3", "1", "")])?;
    tell_atomic(&mut both, &[("A", "1", "", ""), ("A", "2", "1", ""), ("A", "1", "1", "")])?;
    both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"max_msg_size":60}"#)?;
    let long = format!("Other: {}|", "x".repeat(100));
    tell_atomic(&mut both, &[("B", "1", "1", ""), ("B", "1", "1", &long)])?;
    both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true}"#)?;
    let ids: Vec<String> = (0..51).map(|number| format!("I{number}")).collect();
    let story: Vec<_> = ids.iter().map(|id| (id.as_str(), "1", "", "")).collect();
    tell_atomic(&mut both, &story)
}

#[test]
fn counters_and_schedules_in_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let config = r#"{"name":"S","subjects":["s.>"],"allow_msg_counter":true,"allow_atomic":true,"allow_batched":true}"#;
    both.api("STREAM.CREATE.S", config)?;
    let headers = [
        atomic("A", "1", "", "Nats-Incr: 5|"),
        atomic("A", "2", "1", "Nats-Incr: -7|"),
        atomic("A", "1", "", "Nats-Incr: 1|"),
        atomic("A", "2", "1", ""),
        atomic("A", "1", "1", "Nats-Incr: x|"),
        atomic("A", "1", "1", "Nats-Incr: 1|Nats-Expected-Stream: S|"),
        atomic("A", "1", "", "Nats-Incr: 1|"),
        atomic("A", "2", "", "Nats-Incr: 1|"),
        atomic("A", "3", "eob", ""),
    ];
    let mut story: Vec<Message<'_>> = headers.iter().map(|headers| ("a", headers.as_str(), "")).collect();
    story.push(("a", "Nats-Incr: 1|", ""));
    story.push(("F.1.fail.1.0.$FI", "Nats-Incr: 1|", ""));
    story.push(("F.1.fail.2.1.$FI", "Nats-Incr: 1|", "payload"));
    story.push(("G.1.fail.1.2.$FI", "Nats-Incr: 2|", ""));
    tell(&mut both, "s.1", &story)?;
    both.api("STREAM.DELETE.S", "")?;
    let config =
        r#"{"name":"S","subjects":["s.>"],"allow_msg_schedules":true,"allow_atomic":true,"allow_rollup_hdrs":true}"#;
    both.api("STREAM.CREATE.S", config)?;
    let at = "Nats-Schedule: @at 2200-01-01T00:00:00Z|Nats-Schedule-Target: s.t|";
    tell_atomic(
        &mut both,
        &[
            ("A", "1", "", at),
            ("A", "2", "1", ""),
            ("A", "1", "", ""),
            ("A", "2", "1", at),
            ("A", "1", "1", at),
            ("A", "1", "1", "Nats-Schedule: soon|Nats-Schedule-Target: s.t|"),
        ],
    )
}

/// What is told of batches that were given up.
#[test]
fn advisories_of_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_atomic":true}"#)?;
    let mut heard = Vec::new();
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB $JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.> 8\r\n")?;
        for headers in [
            atomic("A", "1", "", ""),
            atomic("A", "3", "", ""),
            atomic("B", "1", "eob", ""),
            atomic("C", "1", "", "Nats-Required-Api-Level: 9|"),
            atomic("D", "7", "", ""),
            atomic("E", "1", "2", ""),
            atomic("F", "1", "", ""),
            atomic("F", "2", "1", "Nats-Expected-Last-Sequence: 9|"),
            atomic("G", "2000", "", ""),
            atomic("H", "1", "eob", ""),
        ] {
            let headers: String = headers.split_terminator('|').map(|line| format!("{line}\r\n")).collect();
            publish(client, "s.1", "none", &headers, "x")?;
        }
        let mut all = Vec::new();
        for _ in 0..4 {
            let message = client.message()?;
            let mut told: Value = serde_json::from_slice(&message.payload)?;
            ensure!(told["id"].is_string() && told["timestamp"].is_string(), "{told}");
            let subject = message.line.split(' ').nth(1).unwrap_or_default().to_owned();
            told["id"] = Value::Null;
            told["timestamp"] = Value::Null;
            all.push(format!("{subject} {told}"));
        }
        client.send("UNSUB 8\r\n")?;
        client.flush()?;
        heard.push(all);
    }
    ensure!(heard[0] == heard[1], "ours:  {:#?}\nstock: {:#?}", heard[0], heard[1]);
    Ok(())
}

#[test]
fn fast_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_batched":true}"#)?;
    let long = format!("{}.2.fail.1.0.$FI", "x".repeat(65));
    let story = [
        ("A.2.fail.1.0.$FI", "", "a"),
        ("A.2.fail.2.1.$FI", "", "b"),
        ("A.2.fail.3.1.$FI", "", "c"),
        ("A.2.fail.4.1.$FI", "", "d"),
        ("A.2.fail.5.2.$FI", "", "e"),
        ("A.2.fail.6.3.$FI", "", ""),
        ("B.10.fail.1.0.$FI", "", "a"),
        ("B.10.fail.2.3.$FI", "", ""),
        ("C.10.fail.1.2.$FI", "", "a"),
        ("D.10.fail.1.0.$FI", "", "a"),
        ("D.10.fail.3.1.$FI", "", "c"),
        ("D.10.fail.4.1.$FI", "", "d"),
        ("E.2.ok.1.0.$FI", "", "a"),
        ("E.2.ok.3.1.$FI", "", "c"),
        ("E.2.ok.4.1.$FI", "", "d"),
        ("E.2.ok.7.2.$FI", "", "g"),
        ("E.2.ok.1.0.$FI", "", "a"),
        ("E.2.ok.1.0.$FI", "", "a"),
        ("F.2.fail.1.0.$FI", "", "a"),
        ("F.2.fail.1.4.$FI", "", ""),
        ("F.2.fail.2.1.$FI", "", "b"),
        ("F.2.fail.2.4.$FI", "", ""),
        ("F.2.fail.4.4.$FI", "", ""),
        ("F.2.fail.4.4.$FI", "", ""),
        ("G.2.ok.1.0.$FI", "", "a"),
        ("G.2.ok.4.4.$FI", "", ""),
        ("G.2.ok.5.2.$FI", "", "e"),
        ("H.2.fail.1.0.$FI", "Nats-Expected-Stream: T|", "a"),
        ("H.2.fail.2.1.$FI", "", "b"),
        ("I.2.fail.1.0.$FI", "", "a"),
        ("I.2.fail.2.1.$FI", "Nats-Expected-Stream: T|", "b"),
        ("I.2.fail.3.1.$FI", "", "c"),
        ("J.2.ok.1.0.$FI", "Nats-Expected-Stream: T|", "a"),
        ("J.2.ok.2.1.$FI", "Nats-Expected-Last-Sequence: 1|", "b"),
        ("J.2.ok.3.1.$FI", "", "c"),
        ("J.2.ok.4.2.$FI", "Nats-Expected-Stream: T|", "d"),
        ("K.2.fail.1.0.$FI", "Nats-Msg-Id: one|", "a"),
        ("K.2.fail.2.1.$FI", "Nats-Msg-Id: two|", "b"),
        ("K.2.fail.3.3.$FI", "", ""),
        ("L.2.fail.1.0.$FI", "Nats-Msg-Id: one|", "a"),
        ("M.2.fail.1.0.$FI", "Nats-Msg-Id: three|", "c"),
        ("M.2.fail.2.1.$FI", "Nats-Msg-Id: two|", "b"),
        ("M.2.fail.3.2.$FI", "Nats-Msg-Id: two|", "b"),
        ("N.2.ok.1.0.$FI", "Nats-Msg-Id: one|", "a"),
        ("N.2.ok.2.1.$FI", "Nats-Msg-Id: two|", "b"),
        ("N.2.ok.3.3.$FI", "", ""),
        ("R.2.maybe.1.0.$FI", "", "a"),
        ("R.2.fail.1.1.$FI", "", "a"),
        ("R.2.fail.0.0.$FI", "", "a"),
        ("R.2.fail.1.7.$FI", "", "a"),
        (&long, "", "a"),
        ("R.2.fail.1.0.$FI", "Nats-Required-Api-Level: 6|", "a"),
        ("R.2.fail.1.0.$FI", "Nats-Required-Api-Level: 4|", "a"),
        ("R.2.fail.2.3.$FI", "", ""),
        ("O.1000.fail.1.0.$FI", "", "a"),
        ("P.1000.fail.1.0.$FI", "", "a"),
        ("P.1000.fail.2.1.$FI", "", "a"),
        ("P.1000.fail.3.1.$FI", "", "a"),
        ("P.1000.fail.4.1.$FI", "", "a"),
        ("P.1000.fail.5.1.$FI", "", "a"),
        ("P.1000.fail.6.1.$FI", "", "a"),
        ("P.1000.fail.7.1.$FI", "", "a"),
    ];
    tell(&mut both, "s.1", &story)?;
    both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"]}"#)?;
    tell(&mut both, "s.1", &[("A.2.fail.1.0.$FI", "", "a")])
}

/// What `forward` sends to a hub that takes fast batches, and what it must be told.
#[test]
fn identified_messages_in_fast_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_batched":true}"#)?;
    let story = [
        (
            "A.2.fail.1.0.$FI",
            "Nats-Msg-Id: e:1|Nats-Expected-Last-Subject-Sequence: 0|Nats-Expected-Last-Subject-Sequence-Subject: s.1|",
            "a",
        ),
        ("A.2.fail.2.1.$FI", "Nats-Msg-Id: e:2|", "b"),
        ("A.2.fail.3.1.$FI", "Nats-Msg-Id: e:3|", "c"),
        ("A.2.fail.4.3.$FI", "", ""),
        (
            "B.2.fail.1.0.$FI",
            "Nats-Msg-Id: e:3|Nats-Expected-Last-Subject-Sequence: 2|Nats-Expected-Last-Subject-Sequence-Subject: s.>|",
            "c",
        ),
        (
            "B.2.fail.1.0.$FI",
            "Nats-Msg-Id: e:4|Nats-Expected-Last-Subject-Sequence: 2|Nats-Expected-Last-Subject-Sequence-Subject: s.>|",
            "d",
        ),
        (
            "C.2.fail.1.0.$FI",
            "Nats-Msg-Id: e:4|Nats-Expected-Last-Subject-Sequence: 3|Nats-Expected-Last-Subject-Sequence-Subject: s.>|",
            "d",
        ),
        ("C.2.fail.2.1.$FI", "Nats-Msg-Id: e:5|", "e"),
        ("C.2.fail.3.3.$FI", "", ""),
    ];
    tell(&mut both, "s.1", &story)
}

#[test]
fn configurations_of_batches_and_acknowledgements() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let bodies = [
        r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"allow_batched":true}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"async"}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"default"}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"lazy"}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"async","storage":"memory"}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"async","allow_atomic":true}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"async","allow_batched":true,"allow_msg_ttl":true}"#,
        r#"{"name":"S","subjects":["s.>"],"no_ack":true}"#,
        r#"{"name":"S","subjects":["$JS.API.X"],"no_ack":true}"#,
        r#"{"name":"S","subjects":["$JS.API.X"]}"#,
        r#"{"name":"S","subjects":["$SYS.X"],"no_ack":true}"#,
        r#"{"name":"S","subjects":[">"]}"#,
    ];
    let updates = [
        r#"{"name":"S","subjects":["s.>"]}"#,
        r#"{"name":"S","subjects":["s.>"],"persist_mode":"async"}"#,
        r#"{"name":"S","subjects":["s.>"],"allow_atomic":true,"no_ack":true}"#,
    ];
    for body in bodies {
        both.api("STREAM.CREATE.S", body)?;
        both.api("STREAM.INFO.S", "")?;
        for update in updates {
            both.api("STREAM.UPDATE.S", update)?;
        }
        both.api("STREAM.DELETE.S", "")?;
    }
    let consumer = |fields: &str| format!(r#"{{"stream_name":"S","config":{{"ack_policy":"explicit"{fields}}}}}"#);
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#)?;
    both.api("CONSUMER.CREATE.S.plain", &consumer(""))?;
    both.api("CONSUMER.CREATE.S.paused", &consumer(r#","pause_until":"2020-01-01T00:00:00Z""#))?;
    Ok(())
}

#[test]
fn nothing_is_acknowledged_where_nobody_wants_it() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let config = r#"{"name":"S","subjects":["s.>"],"no_ack":true,"allow_atomic":true,"allow_batched":true}"#;
    both.api("STREAM.CREATE.S", config)?;
    let of_batch = |sequence: &str, commit: &str| atomic("A", sequence, commit, "");
    let story = [
        ("plain".to_owned(), String::new()),
        ("refused".into(), "Nats-Expected-Stream: T|".into()),
        ("atomic".into(), of_batch("1", "")),
        ("atomic".into(), of_batch("2", "1")),
        ("atomic".into(), of_batch("2", "1")),
        ("F.1.fail.1.0.$FI".into(), String::new()),
        ("F.1.fail.2.1.$FI".into(), String::new()),
        ("F.1.fail.3.2.$FI".into(), String::new()),
        ("F.1.fail.3.2.$FI".into(), String::new()),
    ];
    let mut heard = Vec::new();
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB _INBOX.b.> 8\r\n")?;
        for (reply, headers) in &story {
            let headers: String = headers.split_terminator('|').map(|line| format!("{line}\r\n")).collect();
            publish(client, "s.1", reply, &headers, "x")?;
        }
        // Asked for until the stream has taken all of it: the last answer may be none.
        let mut all = Vec::new();
        for number in 0.. {
            client.send(format!("PUB $JS.API.STREAM.INFO.S _INBOX.b.end.{number} 0\r\n\r\n"))?;
            let mut message = client.message()?;
            while !message.line.contains("_INBOX.b.end") {
                all.push(format!("{} {}", message.line, String::from_utf8_lossy(&message.payload)));
                message = client.message()?;
            }
            let info: Value = serde_json::from_slice(&message.payload)?;
            if info["state"]["messages"] == 6 {
                break;
            }
            ensure!(number < 500, "not everything was stored: {info}");
        }
        client.send("UNSUB 8\r\n")?;
        client.flush()?;
        heard.push(all);
    }
    ensure!(heard[0] == heard[1], "ours:  {:#?}\nstock: {:#?}", heard[0], heard[1]);
    same_messages(&mut both)
}
