//! Backups and restores: through a link, and cut short by a kill.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::raw::RawMessage;
use harness::{Gateway, NatsCli, RawNats};
use serde_json::Value;

use crate::hub::{Linked, ask};

pub(crate) fn call(client: &mut RawNats, subject: &str, body: &[u8]) -> Result<Value> {
    Ok(serde_json::from_slice(&client.request(subject, body)?.payload)?)
}

/// A subject for the pieces of this client's archive.
pub(crate) fn inbox(client: &RawNats) -> Result<String> {
    Ok(format!("archive.{}", client.stream().local_addr()?.port()))
}

/// Begins a snapshot whose pieces come to [`inbox`] as subscription 7: the answer, and the pieces that came before it, as stock may send them.
pub(crate) fn begin_snapshot(
    client: &mut RawNats,
    api: &str,
    stream: &str,
    more: &str,
) -> Result<(Value, VecDeque<RawMessage>)> {
    let inbox = inbox(client)?;
    client.send(format!("SUB {inbox} 7\r\nSUB {inbox}.answer 8\r\n"))?;
    client.flush()?;
    let body = format!(r#"{{"deliver_subject":"{inbox}"{more}}}"#);
    client.send(format!("PUB {api}.STREAM.SNAPSHOT.{stream} {inbox}.answer {}\r\n{body}\r\n", body.len()))?;
    let mut early = VecDeque::new();
    loop {
        let message = client.message()?;
        if message.line.split(' ').nth(1) == Some(&format!("{inbox}.answer")) {
            return Ok((serde_json::from_slice(&message.payload)?, early));
        }
        early.push_back(message);
    }
}

/// The archive of a stream.
pub(crate) fn back_up(client: &mut RawNats, stream: &str) -> Result<Vec<u8>> {
    let (_, mut early) = begin_snapshot(client, "$JS.API", stream, "")?;
    let mut archive = Vec::new();
    loop {
        let piece = early.pop_front().map_or_else(|| client.message(), Ok)?;
        if piece.payload.is_empty() || piece.line.starts_with("HMSG") {
            client.send("UNSUB 7\r\nUNSUB 8\r\n")?;
            client.flush()?;
            return Ok(archive);
        }
        archive.extend_from_slice(&piece.payload);
        let words: Vec<&str> = piece.line.split(' ').collect();
        if let Some(reply) = words.iter().find(|word| word.starts_with("$JS.SNAPSHOT.ACK.")) {
            client.send(format!("PUB {reply} 0\r\n\r\n"))?;
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_a_restore_leaves_nothing() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    call(&mut client, "$JS.API.STREAM.CREATE.S", br#"{"name":"S","subjects":["s"]}"#)?;
    let mut noise = 1u64;
    for _ in 0..2000 {
        let body: String = (0..60)
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                format!("{:x}", noise >> 32)
            })
            .collect();
        client.send(format!("PUB s {}\r\n{body}\r\n", body.len()))?;
    }
    while call(&mut client, "$JS.API.STREAM.INFO.S", b"")?["state"]["messages"] != 2000 {}
    let archive = back_up(&mut client, "S")?;
    ensure!(archive.len() > 400_000, "{} bytes", archive.len());
    call(&mut client, "$JS.API.STREAM.DELETE.S", b"")?;

    let config = br#"{"config":{"name":"S","subjects":["s"]},"state":{}}"#;
    let begin = |client: &mut RawNats| -> Result<String> {
        let answer = call(client, "$JS.API.STREAM.RESTORE.S", config)?;
        Ok(answer["deliver_subject"].as_str().with_context(|| answer.to_string())?.to_owned())
    };
    let subject = begin(&mut client)?;
    for piece in archive[..archive.len() * 3 / 4].chunks(50_000) {
        ensure!(client.request(&subject, piece)?.payload.is_empty(), "a piece is not acknowledged");
    }
    gateway.kill9()?;
    gateway.restart()?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let info = call(&mut client, "$JS.API.INFO", b"")?;
    assert_eq!((&info["streams"], &info["storage"]), (&0.into(), &0.into()), "{info}");

    let subject = begin(&mut client)?;
    for piece in archive.chunks(50_000) {
        client.request(&subject, piece)?;
    }
    let answer = call(&mut client, &subject, b"")?;
    assert_eq!(answer["state"]["messages"], 2000, "{answer}");
    ensure!(back_up(&mut client, "S")?.len() > 400_000, "it is not whole");
    Ok(())
}

#[test]
fn a_backup_is_taken_and_restored_through_the_link() -> Result<()> {
    if !peers::available(Peer::NatsServer) || !peers::available(Peer::NatsCli) {
        return Ok(());
    }
    let linked = Linked::start()?;
    ask(&linked.gateway, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#)?;
    for number in 0..100 {
        ask(&linked.gateway, "s", &format!("message {number}"))?;
    }
    let cli = NatsCli::new(&linked.hub.url())?;
    let folder = linked.hub.folder().join("backup");
    let folder = folder.to_str().context("a path")?;
    cli.run(&["--js-domain", "edge", "stream", "backup", "S", folder, "--no-progress"])?.success()?;
    ask(&linked.gateway, "$JS.API.STREAM.DELETE.S", "")?;
    cli.run(&["--js-domain", "edge", "stream", "restore", folder, "--no-progress"])?.success()?;
    let info = ask(&linked.gateway, "$JS.API.STREAM.INFO.S", "")?;
    assert_eq!(info["state"]["messages"], 100, "{info}");
    Ok(())
}
