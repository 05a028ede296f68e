//! A store that is full or damaged: publishes are refused with stock's error and nothing else suffers; a damaged file is set aside.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

use crate::forward::publish;
use crate::load;

fn ask(client: &mut RawNats, subject: &str, body: &[u8]) -> Result<Value> {
    Ok(serde_json::from_slice(&client.request(subject, body)?.payload)?)
}

#[test]
fn a_full_store_refuses_publishes_and_nothing_else() -> Result<()> {
    let plain = Gateway::PLAIN.replace("256MB", "2MB");
    let gateway = Gateway::start(&format!("{plain}streams {{ FULL {{ subjects: [\"full.>\"] }} }}\n"))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let payload = [b'x'; 50_000];
    let mut stored = 0;
    let refused = loop {
        let answer = ask(&mut client, "full.a", &payload)?;
        if !answer["error"].is_null() {
            break answer;
        }
        stored += 1;
        ensure!(stored < 100, "5 MB fit into 2 MB");
    };
    ensure!(stored > 20, "only {stored} were taken: {refused}");
    assert_eq!(refused["error"]["err_code"], 10023, "{refused}");
    assert_eq!(refused["error"]["description"], "insufficient resources");
    // Reads and core traffic go on.
    let first = ask(&mut client, "$JS.API.STREAM.MSG.GET.FULL", br#"{"seq":1}"#)?;
    assert_eq!(first["message"]["subject"], "full.a");
    client.send("SUB core 1\r\nPUB core 4\r\nlive\r\n")?;
    assert_eq!(client.message()?.payload, b"live");
    // It recovers when space returns.
    assert_eq!(ask(&mut client, "$JS.API.STREAM.PURGE.FULL", b"")?["success"], true);
    let answer = ask(&mut client, "full.a", &payload)?;
    assert_eq!(answer["seq"], stored + 1, "{answer}");
    Ok(())
}

#[test]
fn a_stream_that_discards_new_refuses_until_it_is_purged() -> Result<()> {
    let stream = "streams { NEW { subjects: [\"new.>\"], max_msgs: 3, discard: new } }\n";
    let gateway = Gateway::start(&format!("{}{stream}", Gateway::PLAIN))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    for sequence in 1..=3 {
        assert_eq!(ask(&mut client, "new.a", b"x")?["seq"], sequence);
    }
    let refused = ask(&mut client, "new.a", b"x")?;
    assert_eq!(refused["error"]["err_code"], 10077, "{refused}");
    assert_eq!(refused["error"]["description"], "maximum messages exceeded");
    assert_eq!(ask(&mut client, "$JS.API.STREAM.PURGE.NEW", b"")?["purged"], 3);
    assert_eq!(ask(&mut client, "new.a", b"x")?["seq"], 4);
    Ok(())
}

#[test]
fn a_damaged_file_is_set_aside_and_the_gateway_starts() -> Result<()> {
    /// More than the write-ahead log keeps, so that the file itself has pages.
    const MESSAGES: u64 = 20_000;
    let stream = "streams { KEPT { subjects: [\"load.>\"] } }\n";
    let mut gateway = Gateway::start(&format!("{}{stream}", Gateway::PLAIN))?;
    let (told, acknowledged) = std::sync::mpsc::channel();
    load::publish_by_nats(gateway.address("nats"), "load.nats", 0..MESSAGES, 256, &told);
    drop(told);
    assert_eq!(acknowledged.iter().count() as u64, MESSAGES);
    ensure!(gateway.terminate()?.success());
    let file = find(&gateway.folder().join("store"), "store.db")?;
    let mut bytes = fs::read(&file)?;
    ensure!(bytes.len() > 100 * 4096, "the file has only {} bytes", bytes.len());
    // The head of every page: no tree can be walked.
    for page in bytes.chunks_mut(4096) {
        page[..64].iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    fs::write(&file, bytes)?;
    gateway.restart()?;
    gateway.wait_for_log("damage", Duration::from_secs(20))?;
    let folder = file.parent().unwrap_or(&file);
    let names: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(names.iter().any(|name| name.to_string_lossy().starts_with("store.damaged-")), "{names:?}");
    // The declared stream is there again and takes what comes.
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let answer = ask(&mut client, "load.new", b"x")?;
    ensure!(answer["seq"].as_u64() > Some(0), "{answer}");
    Ok(())
}

#[test]
fn a_declared_stream_that_another_is_in_the_way_of_keeps_nothing_from_starting() -> Result<()> {
    let declared = "streams { MINE { subjects: [\"mine.>\"] }, WANTED { subjects: [\"wanted.>\"] } }\n";
    let mut gateway = Gateway::start(&format!("{}{declared}", Gateway::PLAIN))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    ask(&mut client, "$JS.API.STREAM.DELETE.WANTED", b"")?;
    let other = ask(&mut client, "$JS.API.STREAM.CREATE.OTHER", br#"{"name":"OTHER","subjects":["wanted.a"]}"#)?;
    ensure!(other["error"].is_null(), "{other}");
    ensure!(gateway.terminate()?.success());
    gateway.restart()?;
    gateway.wait_for_log("stream \"WANTED\" is not as declared: subjects overlap", Duration::from_secs(20))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    for (subject, stream) in [("wanted.a", "OTHER"), ("mine.a", "MINE")] {
        let answer = ask(&mut client, subject, b"x")?;
        ensure!(answer["stream"] == stream, "{answer}");
    }
    Ok(())
}

/// What the file says of a stream is what its API says, and a start on what an earlier one made changes nothing.
#[test]
fn declared_streams_are_made_as_declared_and_stay() -> Result<()> {
    let declared = "streams {
        COUNTS { subjects: [\"count.>\"], allow_msg_counter: true, allow_direct: false, max_consumers: 3 }
        LATER { subjects: [\"later.>\"], allow_msg_schedules: true, subject_delete_marker_ttl: \"1h\", first_seq: 100 }
    }\n";
    let mut gateway = Gateway::start(&format!("{}{declared}", Gateway::PLAIN))?;
    for round in 1..=2 {
        let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
        let mut config = |stream: &str| -> Result<Value> {
            Ok(ask(&mut client, &format!("$JS.API.STREAM.INFO.{stream}"), b"")?["config"].clone())
        };
        let (counts, later) = (config("COUNTS")?, config("LATER")?);
        ensure!(counts["allow_msg_counter"] == true && counts["allow_direct"] != true, "{counts}");
        ensure!(counts["max_consumers"] == 3, "{counts}");
        ensure!(later["allow_msg_schedules"] == true && later["first_seq"] == 100, "{later}");
        ensure!(later["subject_delete_marker_ttl"] == 3_600_000_000_000_u64, "{later}");
        let counted = publish(&mut client, "count.a", "Nats-Incr: +2", b"")?;
        ensure!(counted["val"].as_str() == Some(&format!("{}", 2 * round)), "{counted}");
        let stored = publish(&mut client, "later.a", "", b"x")?;
        ensure!(stored["seq"] == 99 + round, "{stored}");
        ensure!(gateway.terminate()?.success());
        gateway.restart()?;
    }
    Ok(())
}

/// The file of that name in a folder or one below it.
pub(crate) fn find(folder: &std::path::Path, name: &str) -> Result<std::path::PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)?.flatten() {
            if entry.file_name() == name {
                return Ok(entry.path());
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    anyhow::bail!("no {name} in {}", folder.display())
}
