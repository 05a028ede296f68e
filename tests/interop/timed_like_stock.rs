//! Counters, times to live with their markers, and schedules: what the gateway and the stock server make of the same publishes, and what official clients
//! make of the gateway.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, kv, stream};
use harness::{Gateway, RawNats};

use crate::like_stock::{Both, messages};

/// For what takes seconds of its own.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Publishes with headers; what is acknowledged.
fn publish(client: &mut RawNats, subject: &str, headers: &[&str], payload: &str) -> Result<String> {
    let block: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let block = format!("NATS/1.0\r\n{block}\r\n");
    let (length, total) = (block.len(), block.len() + payload.len());
    client.send(format!("SUB _INBOX.h h\r\nHPUB {subject} _INBOX.h {length} {total}\r\n{block}{payload}\r\n"))?;
    let answer = client.message().with_context(|| format!("{subject} {headers:?}"))?;
    client.send("UNSUB h\r\n")?;
    client.flush()?;
    Ok(String::from_utf8_lossy(&answer.payload).into_owned())
}

/// The same to both: they acknowledge it the same.
fn both_publish(both: &mut Both, subject: &str, headers: &[&str], payload: &str) -> Result<()> {
    let ours = publish(&mut both.ours, subject, headers, payload)?;
    let stock = publish(&mut both.stock, subject, headers, payload)?;
    ensure!(ours == stock, "{subject} {headers:?}\n ours:  {ours}\n stock: {stock}");
    Ok(())
}

/// The newest message of a subject, once it is as wanted.
fn newest(client: &mut RawNats, stream: &str, subject: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let (request, begin) = (format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Instant::now());
    loop {
        let found = messages(client, &request, "")?.join("\n");
        if wanted(&found) {
            return Ok(found);
        }
        ensure!(begin.elapsed() < LIMIT, "{subject} stays {found}");
        std::thread::sleep(PAUSE);
    }
}

fn both_newest(both: &mut Both, stream: &str, subject: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let ours = without_identity(&newest(&mut both.ours, stream, subject, &wanted)?);
    let stock = without_identity(&newest(&mut both.stock, stream, subject, &wanted)?);
    ensure!(ours == stock, "{subject}\n ours:  {ours}\n stock: {stock}");
    Ok(())
}

/// A source's last word is made up by its server.
fn without_identity(message: &str) -> String {
    let line = |line: &str| match line.strip_prefix("Nats-Stream-Source: ").and_then(|source| source.rsplit_once(' ')) {
        Some((source, _)) => source.to_owned(),
        None => line.to_owned(),
    };
    message.split('|').map(line).collect::<Vec<_>>().join("|")
}

#[test]
fn configurations() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    // Not compared: counters with markers, which stock lets pass and which then break at the first marker.
    let fields = [
        r#""allow_msg_counter":true"#,
        r#""allow_msg_counter":true,"discard":"new""#,
        r#""allow_msg_counter":true,"allow_msg_ttl":true"#,
        r#""allow_msg_counter":true,"allow_msg_schedules":true"#,
        r#""allow_msg_counter":true,"retention":"interest""#,
        r#""subject_delete_marker_ttl":1000000000"#,
        r#""subject_delete_marker_ttl":999999999"#,
        r#""subject_delete_marker_ttl":-1"#,
        r#""subject_delete_marker_ttl":60000000000,"deny_purge":true,"allow_msg_ttl":true"#,
        r#""allow_msg_schedules":true"#,
        r#""allow_msg_schedules":true,"allow_msg_ttl":true,"deny_purge":true"#,
        r#""allow_msg_schedules":true,"discard":"new""#,
        r#""allow_msg_schedules":"yes""#,
        r#""deny_purge":true,"allow_rollup_hdrs":true,"discard_new_per_subject":true"#,
    ];
    for fields in fields {
        both.api("STREAM.CREATE.S", &format!(r#"{{"name":"S","subjects":["s.>"],{fields}}}"#))?;
        both.api("STREAM.INFO.S", "")?;
        both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"]}"#)?;
        both.api(
            "STREAM.UPDATE.S",
            r#"{"name":"S","subjects":["s.>"],"allow_msg_ttl":true,"allow_msg_counter":true}"#,
        )?;
        both.api("STREAM.UPDATE.S", &format!(r#"{{"name":"S","subjects":["s.>"],"sealed":true,{fields}}}"#))?;
        both.api("STREAM.DELETE.S", "")?;
    }
    Ok(())
}

#[test]
fn counters() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.C", r#"{"name":"C","subjects":["c.>"],"allow_msg_counter":true,"allow_direct":true}"#)?;
    both.api("STREAM.CREATE.P", r#"{"name":"P","subjects":["p"],"allow_rollup_hdrs":true}"#)?;
    let large = format!("Nats-Incr: {}", "9".repeat(200));
    let publishes: [(&str, &[&str], &str); 19] = [
        ("c.a", &["Nats-Incr: 5"], ""),
        ("c.a", &["Nats-Incr:+3"], ""),
        ("c.a", &["Nats-Incr: -10", "X: y"], ""),
        ("c.b", &["Nats-Incr: -0"], ""),
        ("c.b", &["Nats-Incr: 007"], ""),
        ("c.big", &[&large], ""),
        ("c.big", &[&large], ""),
        ("c.a", &["X: y"], ""),
        ("c.a", &["Nats-Incr:"], ""),
        ("c.a", &["Nats-Incr: 1.5"], ""),
        ("c.a", &["Nats-Incr: 1"], "body"),
        ("c.a", &["Nats-Incr: 1", "Nats-Rollup: sub"], ""),
        ("c.a", &["Nats-Incr: 1", "Nats-Expected-Stream: C"], ""),
        ("c.a", &["Nats-Incr: 1", "Nats-Expected-Last-Sequence: 1"], ""),
        ("c.a", &["Nats-Incr: 1", "Nats-TTL: 5"], ""),
        ("c.a", &["Nats-Incr: 1", "Nats-Msg-Id: once"], ""),
        ("c.a", &["Nats-Incr: 1", "Nats-Msg-Id: once"], ""),
        ("p", &["Nats-Incr: 1"], ""),
        ("p", &["Nats-Incr: x"], ""),
    ];
    for (subject, headers, payload) in publishes {
        both_publish(&mut both, subject, headers, payload)?;
    }
    for body in [r#"{"multi_last":["c.>"]}"#, r#"{"seq":1,"batch":20}"#] {
        both.direct("C", body)?;
    }
    both.api("STREAM.MSG.GET.C", r#"{"last_by_subj":"c.a"}"#)?;
    both.api("STREAM.PURGE.C", r#"{"filter":"c.a"}"#)?;
    both_publish(&mut both, "c.a", &["Nats-Incr: 1"], "")?;
    both.api("STREAM.INFO.C", r#"{"subjects_filter":">"}"#)?;
    Ok(())
}

/// Totals that come from another stream are taken in by their difference, and increments of a batch follow from each other.
#[test]
fn counters_from_a_source_and_in_batches() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.EAST", r#"{"name":"EAST","subjects":["east.>"],"allow_msg_counter":true}"#)?;
    let source = r#"{"name":"EAST","subject_transforms":[{"src":"east.>","dest":"all.>"}]}"#;
    let fields = format!(r#""allow_msg_counter":true,"allow_atomic":true,"allow_direct":true,"sources":[{source}]"#);
    for client in [&mut both.ours, &mut both.stock] {
        // Its answer tells when it was last heard of the source.
        let body = format!(r#"{{"name":"ALL","subjects":["all.>"],{fields}}}"#);
        client.request("$JS.API.STREAM.CREATE.ALL", body.as_bytes())?;
    }
    both_publish(&mut both, "all.a", &["Nats-Incr: 5"], "")?;
    for increment in ["Nats-Incr: 3", "Nats-Incr: 4"] {
        both_publish(&mut both, "east.a", &[increment], "")?;
    }
    both_newest(&mut both, "ALL", "all.a", |text| text.contains(r#"{"val":"12"}"#))?;
    both_publish(&mut both, "all.a", &["Nats-Incr: 1"], "")?;
    both_newest(&mut both, "ALL", "all.a", |text| text.contains(r#"{"val":"13"}"#))?;
    let batch: [&[&str]; 3] = [
        &["Nats-Incr: 1", "Nats-Batch-Id: b", "Nats-Batch-Sequence: 1"],
        &["Nats-Incr: 2", "Nats-Batch-Id: b", "Nats-Batch-Sequence: 2"],
        &["Nats-Incr: 3", "Nats-Batch-Id: b", "Nats-Batch-Sequence: 3", "Nats-Batch-Commit: 1"],
    ];
    for headers in batch {
        both_publish(&mut both, "all.b", headers, "")?;
    }
    both_newest(&mut both, "ALL", "all.b", |text| text.contains(r#"{"val":"6"}"#))?;
    for headers in [
        &["Nats-Batch-Id: c", "Nats-Batch-Sequence: 1", "Nats-Batch-Commit: 1"][..],
        &["Nats-Incr: x", "Nats-Batch-Id: d", "Nats-Batch-Sequence: 1", "Nats-Batch-Commit: 1"][..],
    ] {
        both_publish(&mut both, "all.b", headers, "")?;
    }
    Ok(())
}

#[test]
fn markers_and_times_to_live() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let config = r#"{"name":"M","subjects":["m.>"],"subject_delete_marker_ttl":2000000000,"max_age":3000000000,"duplicate_window":1000000000,"allow_direct":true}"#;
    both.api("STREAM.CREATE.M", config)?;
    let publishes: [(&str, &[&str], &str); 7] = [
        ("m.never", &["Nats-TTL: never"], "stays"),
        ("m.short", &["Nats-TTL: 1", "X: y"], "ends"),
        ("m.aged", &["X: y"], "ends"),
        ("m.purged", &["KV-Operation: PURGE", "Nats-Rollup: sub", "Nats-TTL: 2s"], ""),
        ("m.twice", &["Nats-TTL: 2"], "one"),
        ("m.twice", &["Nats-TTL: 1h"], "two"),
        ("m.bad", &["Nats-TTL: 0.5s"], ""),
    ];
    for (subject, headers, payload) in publishes {
        both_publish(&mut both, subject, headers, payload)?;
    }
    both.direct("M.m.short", "")?;
    let is_marker = |text: &str| text.contains("Nats-Marker-Reason: MaxAge");
    let without_sequence = |text: String| {
        // Which of two subjects that end in the same second is first is chance.
        text.split('|').filter(|line| !line.starts_with("Nats-Sequence")).collect::<Vec<_>>().join("|")
    };
    for subject in ["m.short", "m.aged", "m.twice"] {
        let ours = without_sequence(newest(&mut both.ours, "M", subject, is_marker)?);
        let stock = without_sequence(newest(&mut both.stock, "M", subject, is_marker)?);
        ensure!(ours == stock, "{subject}\n ours:  {ours}\n stock: {stock}");
    }
    // Markers end without a trace, and what never ends is still there.
    for subject in ["m.short", "m.aged", "m.twice", "m.purged"] {
        both_newest(&mut both, "M", subject, |text| text.contains("404"))?;
    }
    both_newest(&mut both, "M", "m.never", |text| text.contains("stays"))
}

#[test]
fn schedules() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let config =
        r#"{"name":"S","subjects":["s.>"],"allow_msg_schedules":true,"allow_msg_ttl":true,"allow_direct":true}"#;
    both.api("STREAM.CREATE.S", config)?;
    both.api("STREAM.CREATE.P", r#"{"name":"P","subjects":["p.>"]}"#)?;
    let (target, daily) = ("Nats-Schedule-Target: s.to", "Nats-Schedule: @daily");
    let refused: [(&str, &[&str]); 26] = [
        ("s.p", &["Nats-Schedule: soon", target]),
        ("s.p", &["Nats-Schedule: @every 1s", "Nats-Schedule-Time-Zone: UTC", target]),
        ("s.p", &[daily, "Nats-Schedule-Time-Zone: Nowhere/Else", target]),
        ("s.p", &["Nats-Schedule-Time-Zone: Nowhere/Else"]),
        ("s.p", &[daily, "Nats-Schedule-Time-Zone:", target]),
        ("s.p", &[daily, "Nats-Schedule-TTL: x", target]),
        ("s.p", &[daily, "Nats-Schedule-Rollup: all", target]),
        ("s.p", &[daily]),
        ("s.p", &[daily, "Nats-Schedule-Target: s.p"]),
        ("s.p", &[daily, "Nats-Schedule-Target: s.*"]),
        ("s.p", &[daily, "Nats-Schedule-Target: elsewhere"]),
        ("s.p", &[daily, target, "Nats-Schedule-Source: s.to"]),
        ("s.p", &[daily, target, "Nats-Schedule-Source: elsewhere"]),
        ("s.p", &[daily, target, "Nats-Rollup: all"]),
        ("s.p", &["Nats-Schedule-Next: 2026-01-01T00:00:00Z", "Nats-Scheduler: s.x"]),
        ("s.p", &["Nats-Schedule-Next: purge"]),
        ("s.p", &["Nats-Schedule-Next: purge", "Nats-Scheduler: s.p"]),
        ("s.p", &["Nats-Scheduler: s.x"]),
        ("s.p", &["Nats-Stream-Source: x"]),
        ("s.p", &["Nats-Schedule: 0 0 0 30 2 *", target]),
        ("s.p", &["Nats-Schedule: 60 * * * * *", target]),
        ("s.p", &["Nats-Schedule: @every 0.9s", target]),
        ("p.p", &[daily, "Nats-Schedule-Target: p.to"]),
        ("p.p", &["Nats-Schedule: soon"]),
        ("p.p", &["Nats-Schedule-Target: p.to"]),
        ("p.p", &["Nats-Schedule-Next: purge", "Nats-Scheduler: q"]),
    ];
    for (subject, headers) in refused {
        both_publish(&mut both, subject, headers, "x")?;
    }
    // One after the other: what is stored when both are due at once is chance.
    let at = "Nats-Schedule: @at 2020-01-01T00:00:00Z";
    both_publish(&mut both, "s.at", &[at, target, "Nats-Schedule-TTL: 5m", "X: y", "Nats-Msg-Id: 1"], "once")?;
    both_newest(&mut both, "S", "s.to", |text| text.contains("once"))?;
    both_newest(&mut both, "S", "s.at", |text| text.contains("404"))?;
    both_publish(&mut both, "s.src", &["Y: z"], "the source's")?;
    let every = ["Nats-Schedule: @every 1s", target, "Nats-Schedule-Source: s.src", "Nats-Schedule-Rollup: sub"];
    both_publish(&mut both, "s.every", &every, "own")?;
    both.direct("S.s.every", "")?;
    let ours = newest(&mut both.ours, "S", "s.to", |text| text.contains("source's"))?;
    let stock = newest(&mut both.stock, "S", "s.to", |text| text.contains("source's"))?;
    let without_sequence =
        |text: &str| text.split('|').filter(|line| !line.starts_with("Nats-Sequence")).collect::<Vec<_>>().join("|");
    assert_eq!(without_sequence(&ours), without_sequence(&stock));
    for client in [&mut both.ours, &mut both.stock] {
        let ended = publish(client, "s.end", &["Nats-Schedule-Next: purge", "Nats-Scheduler: s.every"], "")?;
        ensure!(ended.contains("\"seq\""), "{ended}");
    }
    both_newest(&mut both, "S", "s.every", |text| text.contains("404"))
}

#[tokio::test]
async fn the_rust_client_counts_and_sees_limit_markers() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let client = async_nats::connect(gateway.url()).await?;
    let jetstream = jetstream::new(client.clone());
    let config = stream::Config {
        name: "C".into(),
        subjects: vec!["c.>".into()],
        allow_message_counter: true,
        ..Default::default()
    };
    jetstream.create_stream(config).await?;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Incr", "21");
    for total in ["21", "42"] {
        let ack = jetstream.publish_with_headers("c.a", headers.clone(), "".into()).await?.await?;
        assert_eq!(ack.value.as_deref(), Some(total));
    }
    let bucket = kv::Config {
        bucket: "B".into(),
        history: 5,
        limit_markers: Some(Duration::from_secs(2)),
        ..Default::default()
    };
    let bucket = jetstream.create_key_value(bucket).await?;
    let mut watch = bucket.watch("key").await?;
    bucket.create_with_ttl("key", "value".into(), Duration::from_secs(2)).await?;
    for operation in [kv::Operation::Put, kv::Operation::Purge] {
        let entry = tokio::time::timeout(LIMIT, futures_util::StreamExt::next(&mut watch)).await?;
        assert_eq!(entry.context("the watch ended")??.operation, operation);
    }
    assert_eq!(bucket.get("key").await?, None);
    Ok(())
}
