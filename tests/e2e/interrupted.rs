//! Snapshots and restores that are cut short: by a link, a kill, a client that goes away, is silent or sends half of it. Nothing is left of them, and
//! the next one works.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::raw::RawMessage;
use harness::{Direction, Gateway, RawNats, Server, StockHub};
use serde_json::Value;

use crate::backups::{back_up, begin_snapshot, call};
use crate::hub::Linked;

/// Messages, and what each holds: some megabytes that don't become less when compressed.
const MESSAGES: u64 = 1500;
const BODY: usize = 2500;
/// As many as may be under way at a time: if one of them were left, the next would be refused.
const AT_A_TIME: usize = 4;
/// Who is silent is given up after 5 s, there as here; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
const CREATE: &[u8] = br#"{"name":"S","subjects":["s"]}"#;
const CONFIG: &[u8] = br#"{"config":{"name":"S","subjects":["s"]},"state":{}}"#;
const ENDS: &str = "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S";

fn connect(server: &Server) -> Result<RawNats> {
    let (mut client, _) = RawNats::connect(server.address("nats"))?;
    client.set_limit(PATIENCE);
    Ok(client)
}

fn fill(client: &mut RawNats) -> Result<()> {
    let created = call(client, "$JS.API.STREAM.CREATE.S", CREATE)?;
    ensure!(created["error"].is_null(), "{created}");
    let mut noise = 1u64;
    for _ in 0..MESSAGES {
        let mut frame = format!("PUB s {BODY}\r\n").into_bytes();
        frame.extend((0..BODY).map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 56) as u8
        }));
        frame.extend_from_slice(b"\r\n");
        client.send(frame)?;
    }
    while call(client, "$JS.API.STREAM.INFO.S", b"")?["state"]["messages"] != MESSAGES {}
    Ok(())
}

/// A snapshot of which so many pieces are read; what is asked for beside that.
fn begin(client: &mut RawNats, api: &str, more: &str, pieces: usize) -> Result<Vec<RawMessage>> {
    let (answer, early) = begin_snapshot(client, api, "S", more)?;
    ensure!(answer["error"].is_null() && answer["state"]["messages"] == MESSAGES, "{answer}");
    let mut all = Vec::from(early);
    while all.len() < pieces {
        all.push(client.message()?);
    }
    Ok(all)
}

/// A listener of how snapshots end.
fn listen(server: &Server) -> Result<RawNats> {
    let mut client = connect(server)?;
    client.send(format!("SUB {ENDS} 1\r\n"))?;
    client.flush()?;
    Ok(client)
}

/// The errors with which so many snapshots ended, as the advisories have them.
fn ends(listener: &mut RawNats, many: usize) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while all.len() < many {
        let told: Value = serde_json::from_slice(&listener.message()?.payload)?;
        all.push(told["error"].as_str().unwrap_or_default().to_owned());
    }
    Ok(all)
}

/// Bytes that are resident now.
fn memory(server: &Server) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().context("not running")?))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
}

/// As many snapshots as may be at a time are taken at the same time, and are whole.
fn all_places_are_free(server: &Server) -> Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(|| back_up(&mut connect(server)?, "S"))).collect();
        for archive in all {
            let archive = archive.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            ensure!(archive.len() as u64 > MESSAGES * BODY as u64, "{} bytes", archive.len());
        }
        Ok(())
    })
}

fn servers() -> Result<Vec<Server>> {
    let mut servers = vec![Gateway::start(Gateway::PLAIN)?];
    if peers::available(Peer::NatsServer) {
        servers.push(StockHub::start(StockHub::PLAIN)?);
    }
    Ok(servers)
}

#[test]
fn who_goes_away_in_the_middle_of_a_snapshot_ends_it_at_once() -> Result<()> {
    for (at, server) in servers()?.into_iter().enumerate() {
        let mut client = connect(&server)?;
        fill(&mut client)?;
        let mut listener = listen(&server)?;
        all_places_are_free(&server)?;
        ensure!(ends(&mut listener, AT_A_TIME)?.iter().all(String::is_empty), "whole ones end without an error");
        let before = memory(&server)?;
        for by_unsubscribing in [false, true] {
            let mut gone = Vec::new();
            for _ in 0..AT_A_TIME {
                let mut client = connect(&server)?;
                begin(&mut client, "$JS.API", r#","chunk_size":65536,"window_size":131072"#, 1)?;
                gone.push(client);
            }
            if by_unsubscribing {
                for client in &mut gone {
                    client.send("UNSUB 7\r\n")?;
                }
            } else {
                gone.clear();
            }
            // Of those that are only taken to be silent it would say so.
            assert_eq!(ends(&mut listener, AT_A_TIME)?, ["no interest"; AT_A_TIME]);
        }
        all_places_are_free(&server)?;
        let after = memory(&server)?;
        // Stock gives memory back when it likes.
        ensure!(at > 0 || after < before + (8 << 20), "{before} bytes before, {after} after");
    }
    Ok(())
}

#[test]
fn who_does_not_acknowledge_gets_one_window_and_is_given_up() -> Result<()> {
    let told = std::thread::scope(|scope| {
        let each =
            servers()?.into_iter().map(|server| scope.spawn(move || unacknowledged(&server))).collect::<Vec<_>>();
        each.into_iter()
            .map(|one| one.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    ensure!(told.windows(2).all(|pair| pair[0] == pair[1]), "ours and stock: {told:#?}");
    ensure!(told[0].contains(&"NATS/1.0 408 No Flow Response\r\n\r\n".to_owned()), "{:#?}", told[0]);
    Ok(())
}

/// What silent clients are sent, and how it ends.
fn unacknowledged(server: &Server) -> Result<Vec<String>> {
    let mut client = connect(server)?;
    fill(&mut client)?;
    let mut listener = listen(server)?;
    let mut silent = Vec::new();
    for (chunk, window) in [(65_536, 262_144), (1_000_000, 10), (0, 300_000), (1024, 20_000)] {
        let mut client = connect(server)?;
        let early = begin(&mut client, "$JS.API", &format!(r#","chunk_size":{chunk},"window_size":{window}"#), 1)?;
        silent.push((client, early));
    }
    let mut all = ends(&mut listener, AT_A_TIME)?;
    for (mut client, early) in silent {
        let mut early = early.into_iter();
        loop {
            let piece = early.next().map_or_else(|| client.message(), Ok)?;
            let is_end = piece.line.starts_with("HMSG");
            all.push(if is_end {
                String::from_utf8_lossy(&piece.payload).into_owned()
            } else {
                format!("{} bytes", piece.payload.len())
            });
            if is_end {
                break;
            }
        }
    }
    all.sort();
    all_places_are_free(server)?;
    Ok(all)
}

#[test]
fn a_kill_in_the_middle_of_a_snapshot_does_no_harm() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    fill(&mut connect(&gateway)?)?;
    let whole = back_up(&mut connect(&gateway)?, "S")?;
    let mut client = connect(&gateway)?;
    begin(&mut client, "$JS.API", r#","chunk_size":65536"#, 1)?;
    gateway.kill9()?;
    client.expect_close()?;
    gateway.restart()?;
    let mut client = connect(&gateway)?;
    let again = back_up(&mut client, "S")?;
    ensure!(again.len().abs_diff(whole.len()) < 1000, "{} and {} bytes", whole.len(), again.len());
    call(&mut client, "$JS.API.STREAM.DELETE.S", b"")?;
    assert_eq!(upload(&mut client, "$JS.API", &again, 1)?["state"]["messages"], MESSAGES);
    Ok(())
}

#[test]
fn a_cut_link_ends_snapshots_and_restores_through_it() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = Linked::with("")?;
    let mut here = connect(&linked.gateway)?;
    fill(&mut here)?;
    let archive = back_up(&mut here, "S")?;
    let mut listener = listen(&linked.gateway)?;
    let mut far = Vec::new();
    for _ in 0..AT_A_TIME {
        let mut client = connect(&linked.hub)?;
        let window = begin(&mut client, "$JS.edge.API", r#","chunk_size":65536,"window_size":131072"#, 2)?;
        far.push((client, window));
    }
    // In the middle of one of the pieces that acknowledgements ask for.
    linked.link.cut_after(Direction::Up, 100_000);
    for (client, window) in &mut far {
        for piece in window {
            let reply = piece.line.split(' ').find(|word| word.starts_with("$JS.SNAPSHOT.ACK.")).context("no reply")?;
            client.send(format!("PUB {reply} 0\r\n\r\n"))?;
        }
    }
    linked.wait("the link is cut", || Ok(linked.link.is_cut()))?;
    ensure!(ends(&mut listener, AT_A_TIME)?.iter().all(|error| error == "no interest"), "they did not end by the cut");
    all_places_are_free(&linked.gateway)?;
    linked.link.restore()?;
    linked.wait("the link is back", || {
        let (mut client, _) = RawNats::connect(linked.hub.address("nats"))?;
        Ok(call(&mut client, "$JS.edge.API.INFO", b"").is_ok_and(|info| info["domain"] == "edge"))
    })?;

    // And the other way: half of an archive comes.
    call(&mut here, "$JS.API.STREAM.DELETE.S", b"")?;
    let mut client = connect(&linked.hub)?;
    let subject = restore_begins(&mut client, "$JS.edge.API")?;
    for piece in archive[..archive.len() / 2].chunks(100_000) {
        ensure!(client.request(&subject, piece)?.payload.is_empty(), "a piece is not acknowledged");
    }
    linked.link.cut();
    nothing_is_left(&mut here)?;
    linked.link.restore()?;
    linked.wait("the link is back", || {
        let (mut client, _) = RawNats::connect(linked.hub.address("nats"))?;
        Ok(call(&mut client, "$JS.edge.API.INFO", b"").is_ok_and(|info| info["domain"] == "edge"))
    })?;
    let mut client = connect(&linked.hub)?;
    assert_eq!(upload(&mut client, "$JS.edge.API", &archive, 1)?["state"]["messages"], MESSAGES);
    assert_eq!(back_up(&mut here, "S")?.len().abs_diff(archive.len()) / 1000, 0);
    Ok(())
}

fn restore_begins(client: &mut RawNats, api: &str) -> Result<String> {
    let answer = call(client, &format!("{api}.STREAM.RESTORE.S"), CONFIG)?;
    Ok(answer["deliver_subject"].as_str().with_context(|| answer.to_string())?.to_owned())
}

/// Sends one part of so many of an archive, and its end; the answer to that.
fn upload(client: &mut RawNats, api: &str, archive: &[u8], part: usize) -> Result<Value> {
    let subject = restore_begins(client, api)?;
    for piece in archive[..archive.len() / part].chunks(100_000) {
        ensure!(client.request(&subject, piece)?.payload.is_empty(), "a piece is not acknowledged");
    }
    call(client, &subject, b"")
}

/// Waits until the account has no stream and holds no bytes.
fn nothing_is_left(client: &mut RawNats) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = call(client, "$JS.API.INFO", b"")?;
        let names = call(client, "$JS.API.STREAM.NAMES", b"")?;
        let is_clean = ["streams", "storage", "memory", "consumers"].iter().all(|key| info[key] == 0);
        if is_clean && names["total"] == 0 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{info} {names}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn half_an_archive_leaves_nothing() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let mut client = connect(&gateway)?;
    fill(&mut client)?;
    let archive = back_up(&mut client, "S")?;
    call(&mut client, "$JS.API.STREAM.DELETE.S", b"")?;
    nothing_is_left(&mut client)?;

    // The end comes after a half.
    let refused = upload(&mut client, "$JS.API", &archive, 2)?;
    assert_eq!(refused["error"]["err_code"], 10062, "{refused}");
    nothing_is_left(&mut client)?;
    // Nothing comes after a half, from as many as may be at a time, whose connections stay or go.
    let before = memory(&gateway)?;
    let mut silent = Vec::new();
    for number in 0..AT_A_TIME {
        let mut half = connect(&gateway)?;
        let config = format!(r#"{{"config":{{"name":"S{number}","subjects":["s{number}"]}},"state":{{}}}}"#);
        let answer = call(&mut half, &format!("$JS.API.STREAM.RESTORE.S{number}"), config.as_bytes())?;
        let subject = answer["deliver_subject"].as_str().with_context(|| answer.to_string())?.to_owned();
        for piece in archive[..archive.len() / 2].chunks(100_000) {
            ensure!(half.request(&subject, piece)?.payload.is_empty(), "a piece is not acknowledged");
        }
        if number % 2 == 0 {
            silent.push((half, subject));
        }
    }
    nothing_is_left(&mut client)?;
    for (mut half, subject) in silent {
        let late = half.request(&subject, b"late")?;
        ensure!(late.line.starts_with("HMSG") && late.payload.starts_with(b"NATS/1.0 503"), "{late:?}");
    }
    let after = memory(&gateway)?;
    ensure!(after < before + (8 << 20), "{before} bytes before, {after} after");
    let whole = upload(&mut client, "$JS.API", &archive, 1)?;
    assert_eq!(whole["state"]["messages"], MESSAGES, "{whole}");
    all_places_are_free(&gateway)
}

#[test]
fn a_restore_for_which_there_is_no_room_leaves_nothing() -> Result<()> {
    let small = |text: &str| format!("{text}\n").replace("max_file_store: 256MB", "max_file_store: 1MB");
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let mut client = connect(&gateway)?;
    fill(&mut client)?;
    let archive = back_up(&mut client, "S")?;
    let mut servers = vec![Gateway::start(&small(Gateway::PLAIN))?];
    if peers::available(Peer::NatsServer) {
        servers.push(StockHub::start(&StockHub::PLAIN.replace("domain: hub", "domain: hub, max_file_store: 1MB"))?);
    }
    for (at, server) in servers.iter().enumerate() {
        let mut client = connect(server)?;
        let refused = upload(&mut client, "$JS.API", &archive, 1)?;
        assert_eq!(refused["error"]["err_code"], 10047, "{refused}");
        // Stock keeps a part of the stream.
        if at == 0 {
            nothing_is_left(&mut client)?;
            call(&mut client, "$JS.API.STREAM.CREATE.S", CREATE)?;
            assert_eq!(call(&mut client, "s", b"there is room")?["seq"], 1);
        }
    }
    Ok(())
}
