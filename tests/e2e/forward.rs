//! What a forward does with messages that a stock hub does not take, with a full store, and for our own commands.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::program::{self, Finished};
use harness::{Gateway, Proxy, RawNats, Server, StockHub};
use serde_json::Value;

use crate::hub::{Linked, ask};

/// A hub that takes messages of at most 100 kB, and a gateway with these blocks that is linked to it.
fn linked(hub_streams: &[&str], max_file_store: &str, blocks: &str) -> Result<Linked> {
    let hub = StockHub::start(&format!("{}max_payload: 100000\n", StockHub::PLAIN))?;
    for stream in hub_streams {
        let name: Value = serde_json::from_str(stream)?;
        let name = name["name"].as_str().context("a name")?;
        let answer = ask(&hub, &format!("$JS.API.STREAM.CREATE.{name}"), stream)?;
        ensure!(answer["error"].is_null(), "{answer}");
    }
    let link = Proxy::start(hub.address("leaf"))?;
    let uplink = format!(
        "leafnodes {{ remotes: [ {{ url: \"nats-leaf://{}\", ignore_discovered_servers: true }} ] }}\n\
         uplink {{ ping_interval: \"300ms\", ping_max: 2, reconnect {{ min: \"50ms\", max: \"300ms\" }} }}\n",
        link.address()
    );
    let plain = Gateway::PLAIN.replace("256MB", max_file_store);
    let gateway = Gateway::start(&format!("{plain}{uplink}{blocks}"))?;
    Ok(Linked { gateway, link, hub })
}

/// Stores a message; the answer.
pub(crate) fn publish(client: &mut RawNats, subject: &str, headers: &str, body: &[u8]) -> Result<Value> {
    client.send("SUB _INBOX.pub 9\r\nUNSUB 9 1\r\n")?;
    if headers.is_empty() {
        client.send(format!("PUB {subject} _INBOX.pub {}\r\n", body.len()))?;
    } else {
        let block = format!("NATS/1.0\r\n{headers}\r\n\r\n");
        client.send(format!("HPUB {subject} _INBOX.pub {} {}\r\n{block}", block.len(), block.len() + body.len()))?;
    }
    client.send(body)?;
    client.send("\r\n")?;
    Ok(serde_json::from_slice(&client.message()?.payload)?)
}

pub(crate) fn forwards(gateway: &Server) -> Result<Vec<Value>> {
    let status: Value = serde_json::from_str(&command(gateway, &["status", "--json"])?.success()?)?;
    Ok(status["status"]["forwards"].as_array().context("no forwards")?.clone())
}

/// One of our own commands on the gateway's store.
pub(crate) fn command(gateway: &Server, words: &[&str]) -> Result<Finished> {
    let store = gateway.folder().join("store");
    let mut command = Command::new(Gateway::program()?);
    command.args(words).arg("--store-dir").arg(store.join("jetstream").parent().unwrap_or(&store));
    program::run(&mut command, b"", Duration::from_secs(30))
}

pub(crate) fn messages(server: &Server, stream: &str) -> Result<u64> {
    let info = ask(server, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
    info["state"]["messages"].as_u64().with_context(|| format!("{info}"))
}

pub(crate) fn message(server: &Server, stream: &str, sequence: u64) -> Result<Value> {
    let answer = ask(server, &format!("$JS.API.STREAM.MSG.GET.{stream}"), &format!(r#"{{"seq":{sequence}}}"#))?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(answer["message"].clone())
}

#[test]
fn what_a_stock_hub_refuses_is_set_aside_before_anything_behind_it_goes() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    // The three ways of sending.
    let ways = [("F1", ""), ("F2", r#","allow_atomic":true"#), ("F3", r#","allow_batched":true"#)];
    let streams: Vec<String> = ways
        .iter()
        .map(|(name, allowed)| {
            format!(r#"{{"name":"{name}","subjects":["up.{name}.>"],"max_msg_size":70000{allowed}}}"#)
        })
        .collect();
    let mut streams: Vec<&str> = streams.iter().map(String::as_str).collect();
    // Of each of them a gap record says that it was not delivered.
    streams.push(r#"{"name":"LOSSES","subjects":["losses.>"]}"#);
    let (mut local, mut forward) = (String::new(), String::new());
    for (name, _) in ways {
        local += &format!("{name} {{ subjects: [\"{name}.>\"] }}\n");
        forward += &format!("{name} {{ prefix: up.{name} }}\n");
    }
    let losses = "gaps { to: LOSSES, subject: losses }\n";
    let mut linked = linked(&streams, "256MB", &format!("streams {{ {local} }}\nforward {{ {forward} }}\n{losses}"))?;
    linked.link.cut();
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    let long_header = format!("unit: {}", "x".repeat(65_400));
    for (name, _) in ways {
        let subject = format!("{name}.a");
        for (headers, body) in [
            ("", vec![b'1'; 100]),
            ("", vec![b'2'; 100]),
            ("", vec![b'3'; 80_000]), // over the stream's max_msg_size: 10054
            ("", vec![b'4'; 100]),
            ("", vec![b'5'; 150_000]), // over the hub's max_payload: would close the link
            ("Tributary-Edge: somebody else's", vec![b'6'; 100]),
            (&*long_header, vec![b'7'; 100]), // over 64 KiB with ours: 10097
            ("", vec![b'8'; 100]),
        ] {
            let answer = publish(&mut client, &subject, headers, &body)?;
            ensure!(answer["seq"].as_u64() > Some(0), "{answer}");
        }
    }
    linked.link.restore()?;
    linked.wait("everything else is at the hub", || {
        Ok(ways.iter().all(|(name, _)| messages(&linked.hub, name).is_ok_and(|count| count >= 5)))
    })?;
    linked.wait("it is counted", || Ok(forwards(&linked.gateway)?.iter().all(|forward| forward["state"] == "idle")))?;
    for forward in forwards(&linked.gateway)? {
        ensure!(forward["parked"] == 3 && forward["dropped"] == 0 && forward["backlog_messages"] == 0, "{forward}");
    }
    ensure!(messages(&linked.gateway, "REJECTED")? == 9);
    linked.wait("all losses are told", || {
        let told = (1..=messages(&linked.hub, "LOSSES")?).map(|sequence| message(&linked.hub, "LOSSES", sequence));
        let told = told.map(|told| -> Result<Value> { Ok(serde_json::from_str(&decoded(&told?["data"])?)?) });
        let told = told.collect::<Result<Vec<Value>>>()?;
        ensure!(told.iter().all(|record| record["reason"] == "rejected"), "{told:?}");
        Ok(told.iter().filter_map(|record| record["count"].as_u64()).sum::<u64>() == 9)
    })?;
    let refused: Vec<Value> =
        (1..=9).map(|sequence| message(&linked.gateway, "REJECTED", sequence)).collect::<Result<_>>()?;
    for (name, _) in ways {
        ensure!(messages(&linked.hub, name)? == 5, "{name}");
        let mine: Vec<&Value> = refused
            .iter()
            .filter(|message| message["subject"] == format!("$TRIBUTARY.REJECTED.{name}.{name}.a"))
            .collect();
        let expected = [
            "message size exceeds maximum allowed (10054)",
            "larger than the hub's max_payload of 100000 bytes",
            "(10097)",
        ];
        for ((message, reason), before) in mine.iter().zip(expected).zip([3, 4, 5]) {
            let headers = decoded(&message["hdrs"])?;
            ensure!(
                headers.contains(reason) && headers.contains(&format!("Tributary-Rejected-Stream: {name}\r\n")),
                "{headers}"
            );
            // What stands behind it at the hub came later than its commit here; one clock.
            let behind = self::message(&linked.hub, name, before)?;
            let times = (message["time"].as_str().unwrap_or(""), behind["time"].as_str().unwrap_or(""));
            ensure!(padded(times.0) < padded(times.1), "{name}: {reason}: {times:?}");
        }
        let bodies: Vec<u8> = (1..=5)
            .map(|sequence| Ok(decoded(&self::message(&linked.hub, name, sequence)?["data"])?.as_bytes()[0]))
            .collect::<Result<_>>()?;
        ensure!(bodies == b"12468", "{name}: {bodies:?}");
    }
    Ok(())
}

/// Times of both servers with all nine digits, so that texts compare.
fn padded(time: &str) -> String {
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time.trim_end_matches('Z'), ""));
    format!("{seconds}.{fraction:0<9}")
}

pub(crate) fn decoded(base64: &Value) -> Result<String> {
    let text = base64.as_str().context("no text")?;
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => u32::from(letter - b'A'),
        b'a'..=b'z' => u32::from(letter - b'a') + 26,
        b'0'..=b'9' => u32::from(letter - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for quad in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = quad.iter().fold(0, |bits, letter| bits << 6 | digit(*letter)) << (6 * (4 - quad.len()));
        bytes.extend(bits.to_be_bytes()[1..quad.len()].iter());
    }
    Ok(String::from_utf8(bytes)?)
}

#[test]
fn oversize_is_refused_at_the_publish_where_that_is_asked_for() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let stream = r#"{"name":"BIG","subjects":["up.big.>"]}"#;
    let blocks = "streams { BIG { subjects: [\"big.>\"] } }\nforward { BIG { prefix: up, reject_oversize: true } }\n";
    let linked = linked(&[stream], "256MB", blocks)?;
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    // What the hub takes is known from the first link on.
    linked.wait("the first link", || Ok(forwards(&linked.gateway)?[0]["state"] == "idle"))?;
    let mut refused = Value::Null;
    linked.wait("the store is told", || Ok(publish_once(&linked, &[b'x'; 100_000])?["error"]["err_code"] == 10054))?;
    for (size, is_taken) in [(98_000, true), (99_900, false), (100, true)] {
        let answer = publish(&mut client, "big.a", "", &vec![b'x'; size])?;
        ensure!(answer["seq"].as_u64().is_some_and(|sequence| sequence > 0) == is_taken, "{size}: {answer}");
        if !is_taken {
            refused = answer;
        }
    }
    ensure!(refused["error"]["description"] == "message size exceeds maximum allowed", "{refused}");
    let held = messages(&linked.gateway, "BIG")?;
    linked.wait("the rest is at the hub", || {
        let forward = &forwards(&linked.gateway)?[0];
        Ok(forward["backlog_messages"] == 0
            && messages(&linked.hub, "BIG")? + forward["parked"].as_u64().unwrap_or(0) == held)
    })
}

fn publish_once(linked: &Linked, body: &[u8]) -> Result<Value> {
    publish(&mut RawNats::connect(linked.gateway.address("nats"))?.0, "big.a", "", body)
}

#[test]
fn what_is_confirmed_makes_room_when_the_store_is_full() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let stream = r#"{"name":"ROOM","subjects":["up.>"]}"#;
    let blocks = "streams { ROOM { subjects: [\"room.>\"] }, OTHER { subjects: [\"other.>\"] } }\nforward { ROOM { prefix: up } }\n";
    let mut linked = linked(&[stream], "2MB", blocks)?;
    linked.link.cut();
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    ensure!(publish(&mut client, "other.a", "", b"kept")?["seq"] == 1);
    let body = [b'x'; 5_000];
    let mut stored = 0;
    loop {
        let answer = publish(&mut client, "room.a", "", &body)?;
        if !answer["error"].is_null() {
            // Nothing of it is confirmed: nothing may go.
            ensure!(answer["error"]["err_code"] == 10023, "{answer}");
            break;
        }
        stored += 1;
        ensure!(stored < 1_000, "5 MB fit into 2 MB");
    }
    ensure!(messages(&linked.gateway, "ROOM")? == stored && stored > 350, "{stored}");
    linked.link.restore()?;
    linked.wait("all of it is confirmed", || Ok(forwards(&linked.gateway)?[0]["confirmed"] == stored))?;
    linked.wait("there is room again", || {
        Ok(publish(&mut RawNats::connect(linked.gateway.address("nats"))?.0, "room.a", "", &body)?["error"].is_null())
    })?;
    stored += 1;
    for _ in 0..300 {
        let answer = publish(&mut client, "room.a", "", &body)?;
        ensure!(answer["error"].is_null(), "confirmed messages were there to go: {answer}");
        stored += 1;
    }
    linked.wait("everything is at the hub", || Ok(messages(&linked.hub, "ROOM")? == stored))?;
    ensure!(messages(&linked.gateway, "OTHER")? == 1, "what is not forwarded stays");
    let forward = &forwards(&linked.gateway)?[0];
    ensure!(forward["dropped"] == 0, "{forward}");
    ensure!(messages(&linked.gateway, "ROOM")? < stored);
    Ok(())
}

#[test]
fn our_own_commands_work_with_a_running_gateway_and_without() -> Result<()> {
    let streams = "streams { KEPT { subjects: [\"kept.>\"] }, EMPTY { subjects: [\"empty.>\"] } }\n";
    let mut gateway = Gateway::start(&format!("{}{streams}", Gateway::PLAIN))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    // More than the write-ahead log keeps, so that the file itself has them.
    for numbers in (0..20_000).collect::<Vec<u32>>().chunks(1_000) {
        let mut bytes = Vec::new();
        for number in numbers {
            let (block, body) = ("NATS/1.0\r\nunit: C\r\n\r\n", format!("{:<400}", format!("{number} °C")));
            let head = match number % 3 {
                0 => format!("HPUB kept.a {} {}\r\n{block}", block.len(), block.len() + body.len()),
                _ => format!("PUB kept.a {}\r\n", body.len()),
            };
            bytes.extend(format!("{head}{body}\r\n").bytes());
        }
        client.send(bytes)?;
        client.flush()?;
    }
    publish(&mut client, "empty.a", "", b"")?;
    ask(&gateway, "$JS.API.STREAM.PURGE.EMPTY", "")?;
    let look = |gateway: &Server, running: bool| -> Result<String> {
        let checked: Value = serde_json::from_str(&command(gateway, &["store", "check", "--json"])?.success()?)?;
        ensure!(checked["ok"] == true && checked["running"] == running, "{checked}");
        let kept = checked["streams"].as_array().context("no streams")?.iter().find(|stream| stream["name"] == "KEPT");
        let kept = kept.context("no KEPT")?;
        ensure!(kept["messages"] == 20_000 && kept["damaged"] == 0 && kept["last"] == 20_000, "{kept}");
        let text = command(gateway, &["store", "check"])?.success()?;
        ensure!(text.contains("KEPT: 20000 messages") && text.ends_with("ok\n"), "{text}");
        let unknown = command(gateway, &["store", "export", "NONE"])?;
        ensure!(
            unknown.status.code() == Some(1) && unknown.stderr.contains("there is no stream \"NONE\""),
            "{unknown:?}"
        );
        ensure!(command(gateway, &["store", "export", "EMPTY"])?.success()?.is_empty());
        let tail = command(gateway, &["store", "export", "KEPT", "--from", "19999"])?.success()?;
        ensure!(tail.lines().count() == 2, "{tail}");
        let file = gateway.folder().join(format!("kept-{running}.jsonl"));
        let name = file.to_str().context("a name")?;
        command(gateway, &["store", "export", "KEPT", name])?.success()?;
        let again = command(gateway, &["store", "export", "KEPT", name])?;
        ensure!(again.status.code() == Some(1) && again.stderr.contains("can't be made"), "{again:?}");
        let adopt = command(gateway, &["forward", "adopt", "KEPT"])?;
        ensure!(adopt.status.code() == Some(1) && adopt.stderr.contains("KEPT"), "{adopt:?}");
        Ok(std::fs::read_to_string(file)?)
    };
    let running = look(&gateway, true)?;
    ensure!(gateway.terminate()?.success());
    let stopped = look(&gateway, false)?;
    ensure!(running == stopped, "the same lines");
    let lines: Vec<Value> = stopped.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == 20_000 && lines[3]["seq"] == 4 && lines[3]["subject"] == "kept.a", "{:?}", lines.get(3));
    ensure!(
        decoded(&lines[3]["data"])?.trim_end() == "3 °C"
            && decoded(&lines[3]["hdrs"])? == "NATS/1.0\r\nunit: C\r\n\r\n"
    );
    // A damaged message is found, and the check repairs nothing.
    damage(&gateway.folder().join("store"))?;
    for _ in 0..2 {
        let found = command(&gateway, &["store", "check"])?;
        ensure!(found.status.code() == Some(1) && found.stdout.contains("NOT OK"), "{found:?}");
    }
    Ok(())
}

/// Changes one byte in the body of a stored message in the database file.
fn damage(folder: &Path) -> Result<()> {
    let file = crate::store::find(folder, "store.db")?;
    let mut bytes = std::fs::read(&file)?;
    let sought = "a1501 °".as_bytes();
    let place =
        bytes.windows(sought.len()).position(|piece| piece == sought).context("the message is not in the file")?;
    bytes[place + 1] ^= 1;
    Ok(std::fs::write(&file, bytes)?)
}

#[test]
fn nothing_is_adopted_where_no_second_box_was_seen() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = Linked::start()?;
    // Only the socket in the store folder does something; the monitoring port shows.
    let mut stream = std::net::TcpStream::connect(linked.gateway.address("http"))?;
    let request = "POST /forward/adopt?stream=TELEMETRY HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes())?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let adopt = |gateway: &Server| -> Result<Value> {
        Ok(serde_json::from_str(&command(gateway, &["forward", "adopt", "TELEMETRY", "--json"])?.success()?)?)
    };
    ensure!(adopt(&linked.gateway)?["adopted"] == false);
    ensure!(linked.gateway.terminate()?.success());
    ensure!(adopt(&linked.gateway)?["adopted"] == false);
    Ok(())
}
