//! Forwarding what leaves by acknowledgement: nothing is removed from the edge before the hub has it, however quickly it is acknowledged here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{RawNats, Server};

use crate::forward::forwards;
use crate::hub::{Linked, ask};
use crate::load;
use crate::pull_flap::count;

const BLOCKS: &str = r#"
streams {
  JOBS { subjects: [jobs], retention: workqueue, consumers { c { ack_wait: "1h" } } }
  SEEN { subjects: ["seen.*"], retention: interest }
}
forward {
  JOBS { to: HUB_JOBS, prefix: one, hold: 1s, create { subjects: ["one.>"] } }
  SEEN { to: HUB_SEEN, prefix: two, hold: 1s, create { subjects: ["two.>"] } }
  TASKS { to: HUB_TASKS, prefix: three, hold: 1s, create { subjects: ["three.>"] } }
  MEMORY { to: HUB_MEMORY, prefix: four, create { subjects: ["four.>"] } }
}
"#;

fn publish(gateway: &Server, subject: &str, numbers: std::ops::Range<u64>) -> Result<()> {
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    for number in numbers {
        let answer = client.request(subject, &load::payload(number))?;
        ensure!(!answer.payload.windows(5).any(|part| part == b"error"), "{:?}", answer.line);
    }
    Ok(())
}

/// Takes so many from a consumer and acknowledges each, with confirmation.
fn take(gateway: &Server, stream: &str, consumer: &str, many: usize) -> Result<()> {
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let body = format!(r#"{{"batch":{many}}}"#);
    client.send(format!(
        "SUB in 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer} in {}\r\n{body}\r\n",
        body.len()
    ))?;
    let mut acks = Vec::new();
    for _ in 0..many {
        acks.push(client.message()?.line.split(' ').nth(3).context("no ack subject")?.to_owned());
    }
    for ack in acks {
        client.request(&ack, b"")?;
    }
    Ok(())
}

fn api(gateway: &Server, subject: &str, body: &str) -> Result<()> {
    let answer = ask(gateway, &format!("$JS.API.{subject}"), body)?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(())
}

#[test]
fn what_is_acknowledged_here_stays_until_the_hub_has_it() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = Linked::with(BLOCKS)?;
    linked.link.cut();
    let gateway = &linked.gateway;
    api(
        gateway,
        "STREAM.CREATE.TASKS",
        r#"{"name":"TASKS","subjects":["tasks"],"retention":"workqueue","storage":"file"}"#,
    )?;
    let consumer = r#"{"stream_name":"TASKS","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    api(gateway, "CONSUMER.CREATE.TASKS.c", consumer)?;
    for (subject, stream) in [("jobs", "JOBS"), ("tasks", "TASKS")] {
        publish(gateway, subject, 0..200)?;
        take(gateway, stream, "c", 200)?;
    }
    // Nobody is interested here, but the hub is.
    publish(gateway, "seen.a", 0..200)?;

    linked.gateway.kill9()?;
    linked.gateway.restart()?;
    for stream in ["JOBS", "TASKS", "SEEN"] {
        ensure!(count(&linked.gateway, stream)? == 200, "{stream}: {}", count(&linked.gateway, stream)?);
    }
    let consumer = ask(&linked.gateway, "$JS.API.CONSUMER.INFO.JOBS.c", "")?;
    ensure!(consumer["num_pending"] == 0 && consumer["num_ack_pending"] == 0, "{consumer}");
    publish(&linked.gateway, "jobs", 200..250)?;

    linked.link.restore()?;
    for (hub, expected) in [("HUB_JOBS", 250), ("HUB_TASKS", 200), ("HUB_SEEN", 200)] {
        linked.wait(&format!("{hub} has everything"), || Ok(count(&linked.hub, hub).unwrap_or(0) == expected))?;
        let stored = load::read_stream(linked.hub.address("nats"), "$JS.API", hub)?;
        let numbers = stored.iter().map(|message| load::number_of(&message.payload)).collect::<Result<Vec<u64>>>()?;
        ensure!(numbers.into_iter().eq(0..expected), "{hub}");
    }
    for (stream, left) in [("JOBS", 50), ("TASKS", 0), ("SEEN", 0)] {
        linked.wait(&format!("{stream} gives up what both have"), || Ok(count(&linked.gateway, stream)? == left))?;
    }
    take(&linked.gateway, "JOBS", "c", 50)?;
    linked.wait("so does the rest", || Ok(count(&linked.gateway, "JOBS")? == 0))?;
    for forward in forwards(&linked.gateway)? {
        let ledger = &forward["ledger"];
        let sum = ["delivered", "held"].map(|key| ledger[key].as_u64().unwrap_or(0)).iter().sum::<u64>();
        ensure!(ledger.is_null() || ledger["accepted"].as_u64() == Some(sum), "{forward}");
    }
    Ok(())
}

/// All of `0..expected` is at the hub, once and in order.
fn arrives(linked: &Linked, expected: u64) -> Result<()> {
    for hub in ["HUB_JOBS", "HUB_TASKS", "HUB_SEEN"] {
        linked.wait(&format!("{hub} has everything"), || Ok(count(&linked.hub, hub).unwrap_or(0) == expected))?;
        let stored = load::read_stream(linked.hub.address("nats"), "$JS.API", hub)?;
        let numbers = stored.iter().map(|message| load::number_of(&message.payload)).collect::<Result<Vec<u64>>>()?;
        ensure!(numbers.into_iter().eq(0..expected), "{hub}: something is missing, twice or out of order");
    }
    Ok(())
}

/// Publishes to each stream, and is done here with all of it.
fn work_off(gateway: &Server, numbers: std::ops::Range<u64>) -> Result<()> {
    publish(gateway, "seen.a", numbers.clone())?;
    for (subject, stream) in [("jobs", "JOBS"), ("tasks", "TASKS")] {
        publish(gateway, subject, numbers.clone())?;
        take(gateway, stream, "c", (numbers.end - numbers.start) as usize)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(status.success(), "copying {}", from.display());
    Ok(())
}

/// A hub that did not sync comes back, after a power cut, with less than it had confirmed: here with its files of an earlier moment.
#[test]
fn a_hub_that_loses_its_tail_gets_it_again_although_all_was_done_here() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = Linked::with(&BLOCKS.replace("hold: 1s", "hold: 20s"))?;
    let gateway = &linked.gateway;
    api(gateway, "STREAM.CREATE.TASKS", r#"{"name":"TASKS","subjects":["tasks"],"retention":"workqueue"}"#)?;
    let consumer = r#"{"stream_name":"TASKS","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    api(gateway, "CONSUMER.CREATE.TASKS.c", consumer)?;
    work_off(gateway, 0..100)?;
    arrives(&linked, 100)?;
    let (store, earlier) = (linked.hub.folder().join("store"), linked.hub.folder().join("earlier"));
    linked.hub.terminate()?;
    copy(&store, &earlier)?;
    linked.hub.restart()?;
    work_off(&linked.gateway, 100..200)?;
    arrives(&linked, 200)?;

    linked.hub.kill9()?;
    fs::remove_dir_all(&store)?;
    fs::rename(&earlier, &store)?;
    linked.gateway.kill9()?;
    linked.gateway.restart()?;
    for stream in ["JOBS", "TASKS", "SEEN"] {
        let held = count(&linked.gateway, stream)?;
        ensure!(held >= 100, "{stream} has only {held}: what the hub has lost is gone here as well");
    }
    linked.hub.restart()?;
    arrives(&linked, 200)?;
    for stream in ["JOBS", "TASKS", "SEEN"] {
        linked.wait(&format!("{stream} gives it up in time"), || Ok(count(&linked.gateway, stream)? == 0))?;
    }
    work_off(&linked.gateway, 200..210)?;
    arrives(&linked, 210)
}

#[test]
fn a_stream_in_memory_is_not_forwarded_and_status_says_so() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let linked = Linked::with(BLOCKS)?;
    let config = r#"{"name":"MEMORY","subjects":["memory"],"storage":"memory"}"#;
    api(&linked.gateway, "STREAM.CREATE.MEMORY", config)?;
    let is_said = || -> Result<bool> {
        let all = forwards(&linked.gateway)?;
        let memory = all.iter().find(|forward| forward["stream"] == "MEMORY").context("no such forward")?;
        let reason = memory["reason"].as_str().unwrap_or_default();
        Ok(memory["stopped"] == true && reason.contains("is in memory"))
    };
    linked.wait("status says why", is_said)?;
    // Made anew on disk, it is forwarded.
    api(&linked.gateway, "STREAM.DELETE.MEMORY", "")?;
    api(&linked.gateway, "STREAM.CREATE.MEMORY", &config.replace("\"storage\":\"memory\"", "\"storage\":\"file\""))?;
    publish(&linked.gateway, "memory", 0..3)?;
    linked.wait("it arrives", || Ok(count(&linked.hub, "HUB_MEMORY").unwrap_or(0) == 3))
}
