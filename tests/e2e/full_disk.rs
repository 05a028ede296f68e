//! A disk that is full, and one that fails: publishes are refused, everything else goes on, and the gateway lives on without a restart.
//!
//! The faults come from the library of `crates/power-cut`, preloaded into the gateway: no privilege, no file system of its own. Where the kernel lets
//! everybody have a mount namespace, the same is done with a real file system that is really full.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::mqtt_raw::{self, Session};
use harness::{Gateway, RawMqtt, RawNats, Server};
use serde_json::Value;

use crate::backups;
use crate::load::{self, Acknowledged};

const STREAM: &str = "streams { DISK { subjects: [\"disk.>\"] } }\n";
/// How long a store may take to notice that there is room again, or to be opened anew: much, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The preloaded library; Cargo puts it beside the tests.
fn library() -> Result<PathBuf> {
    let library = std::env::current_exe()?.with_file_name("libpower_cut.so");
    ensure!(library.exists(), "{} is not built", library.display());
    Ok(library)
}

/// A gateway that obeys [`order`].
fn faulty() -> Result<Server> {
    let preload = format!("LD_PRELOAD={}", library()?.display());
    let wrapper = ["/usr/bin/env", &preload, "POWER_CUT_FAULT=<dir>/fault"];
    Gateway::start_through(&wrapper, &format!("{}{STREAM}", Gateway::PLAIN))
}

fn order(gateway: &Server, order: &str) -> Result<()> {
    // In one step, so that the gateway never reads half an order.
    let fresh = gateway.folder().join("fault.new");
    fs::write(&fresh, order)?;
    Ok(fs::rename(fresh, gateway.folder().join("fault"))?)
}

fn ask(client: &mut RawNats, subject: &str, body: &[u8]) -> Result<Value> {
    Ok(serde_json::from_slice(&client.request(subject, body)?.payload)?)
}

/// Publishes with numbers, and remembers what was acknowledged.
struct Publisher {
    client: RawNats,
    next: u64,
    acknowledged: Vec<Acknowledged>,
}

impl Publisher {
    fn new(gateway: &Server) -> Result<Publisher> {
        let (client, _) = RawNats::connect(gateway.address("nats"))?;
        Ok(Publisher { client, next: 0, acknowledged: Vec::new() })
    }

    /// The error, if it was refused.
    fn publish(&mut self) -> Result<Option<Value>> {
        let number = self.next;
        self.next += 1;
        let answer = ask(&mut self.client, "disk.nats", &load::payload(number))?;
        match answer["seq"].as_u64().filter(|sequence| *sequence > 0) {
            Some(sequence) => self.acknowledged.push(Acknowledged { number, sequence: Some(sequence) }),
            None => return Ok(Some(answer["error"].clone())),
        }
        Ok(None)
    }

    fn publish_all(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let refused = self.publish()?;
            ensure!(refused.is_none(), "refused: {refused:?}");
        }
        Ok(())
    }

    /// Until one is refused; the error.
    fn publish_until_refused(&mut self) -> Result<Value> {
        for _ in 0..5_000 {
            if let Some(error) = self.publish()? {
                return Ok(error);
            }
        }
        anyhow::bail!("nothing was refused")
    }

    /// Until one is taken again.
    fn publish_until_taken(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(error) = self.publish()? {
            ensure!(Instant::now() < deadline, "still refused: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn check(&self, gateway: &Server) -> Result<()> {
        load::check(&load::read_stream(gateway.address("nats"), "$JS.API", "DISK")?, "disk.nats", &self.acknowledged)
    }
}

/// What must work while there is no room: reads, core traffic, deliveries and their acknowledgements; and MQTT gets no PUBACK.
fn everything_but_publishing_works(gateway: &Server) -> Result<()> {
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let first = ask(&mut client, "$JS.API.STREAM.MSG.GET.DISK", br#"{"seq":1}"#)?;
    assert_eq!(first["message"]["subject"], "disk.nats");
    client.send("SUB core 9\r\nPUB core 4\r\nlive\r\n")?;
    assert_eq!(client.message()?.payload, b"live");
    for _ in 0..20 {
        let delivered =
            client.request("$JS.API.CONSUMER.MSG.NEXT.DISK.worker", br#"{"batch":1,"expires":5000000000}"#)?;
        let reply = delivered.line.split(' ').nth(3).context("no ack subject")?.to_owned();
        // Confirmed, so committed.
        client.request(&reply, b"+ACK")?;
    }
    let info = ask(&mut client, "$JS.API.CONSUMER.INFO.DISK.worker", b"")?;
    assert_eq!((&info["ack_floor"]["stream_seq"], &info["num_ack_pending"]), (&Value::from(20), &Value::from(0)));
    let (mut device, _) = RawMqtt::connect(gateway.address("mqtt"), "device", Session::Clean)?;
    device.set_limit(PATIENCE);
    device.send(&mqtt_raw::publish_packet("disk/mqtt", Some(1), b"unstored"))?;
    ensure!(device.expect_close()?.is_empty(), "a PUBACK for what was not stored");
    Ok(())
}

fn fills_up_and_recovers(gateway: &Server, fill: impl Fn() -> Result<()>, free: impl Fn() -> Result<()>) -> Result<()> {
    let mut publisher = Publisher::new(gateway)?;
    publisher.publish_all(300)?;
    let consumer = br#"{"stream_name":"DISK","config":{"durable_name":"worker","ack_policy":"explicit"}}"#;
    let created = ask(&mut publisher.client, "$JS.API.CONSUMER.DURABLE.CREATE.DISK.worker", consumer)?;
    ensure!(created["error"].is_null(), "{created}");
    fill()?;
    let error = publisher.publish_until_refused()?;
    assert_eq!((&error["err_code"], &error["code"]), (&Value::from(10047), &Value::from(500)), "{error}");
    assert_eq!(error["description"], "insufficient storage resources available");
    everything_but_publishing_works(gateway)?;
    free()?;
    publisher.publish_until_taken()?;
    publisher.publish_all(50)?;
    publisher.check(gateway)
}

#[test]
fn a_full_disk_refuses_publishes_and_nothing_else() -> Result<()> {
    let gateway = faulty()?;
    // The file can't grow either: what is written in spite of it all has to fit into what the store has.
    let full = || order(&gateway, "room 0\nspace store.ballast\n");
    fills_up_and_recovers(&gateway, full, || order(&gateway, "nothing\n"))
}

#[test]
fn a_really_full_file_system_refuses_publishes_and_nothing_else() -> Result<()> {
    if !Command::new("unshare").args(["-Urm", "true"]).status().is_ok_and(|status| status.success()) {
        // The same steps with injected faults are in the test above, which runs everywhere.
        eprintln!("this kernel lets nobody mount: only the injected full disk was tested");
        return Ok(());
    }
    let mount = "mkdir -p \"$0\" && mount -t tmpfs -o size=96m none \"$0\" && exec \"$@\"";
    let wrapper = ["unshare", "-Urm", "sh", "-c", mount, "<dir>/store"];
    let gateway = Gateway::start_through(&wrapper, &format!("{}{STREAM}", Gateway::PLAIN))?;
    let inside =
        format!("/proc/{}/root{}", gateway.pid().context("it runs")?, gateway.folder().join("store").display());
    let filler = Path::new(&inside).join("filler");
    let fill = || {
        use std::io::Write as _;
        let mut file = fs::File::create(&filler)?;
        // To the last byte: the floor is gone, too.
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        Ok(())
    };
    fills_up_and_recovers(&gateway, fill, || Ok(fs::remove_file(&filler)?))
}

/// A sync that fails ends that instance of the store; the next one has exactly what was acknowledged, and serves on.
#[test]
fn a_failed_sync_reopens_the_store_and_loses_nothing_acknowledged() -> Result<()> {
    let mut gateway = faulty()?;
    let mut publisher = Publisher::new(&gateway)?;
    for fault in ["sync store.db-wal\n", "space store.db-wal\n"] {
        publisher.publish_all(200)?;
        order(&gateway, fault)?;
        let error = publisher.publish_until_refused()?;
        assert_eq!(error["code"], 503, "{error}");
        // Refused at once while there is no store, and the rest goes on.
        let (mut other, _) = RawNats::connect(gateway.address("nats"))?;
        other.send("SUB core 9\r\nPUB core 4\r\nlive\r\n")?;
        assert_eq!(other.message()?.payload, b"live");
        order(&gateway, "nothing\n")?;
        publisher.publish_until_taken()?;
        gateway.wait_for_log("it is opened anew", PATIENCE)?;
        publisher.check(&gateway)?;
    }
    ensure!(gateway.terminate()?.success());
    gateway.restart()?;
    publisher.check(&gateway)
}

/// What is restored when the disk becomes full is refused, nothing is left of it, and it can be restored when there is room.
#[test]
fn a_restore_that_meets_a_full_disk_leaves_nothing() -> Result<()> {
    let gateway = faulty()?;
    Publisher::new(&gateway)?.publish_all(2000)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let archive = backups::back_up(&mut client, "DISK")?;
    let config = br#"{"config":{"name":"AGAIN","subjects":["again"]},"state":{}}"#;
    let mut restore = |fail: bool| -> Result<Value> {
        let begun = ask(&mut client, "$JS.API.STREAM.RESTORE.AGAIN", config)?;
        let subject = begun["deliver_subject"].as_str().with_context(|| begun.to_string())?.to_owned();
        let pieces = archive.chunks(archive.len() / 10 + 1);
        for (at, piece) in pieces.enumerate() {
            if fail && at == 3 {
                order(&gateway, "room 0\nspace store.ballast\n")?;
                // Whoever publishes notices it first.
                Publisher::new(&gateway)?.publish_until_refused()?;
            }
            ensure!(client.request(&subject, piece)?.payload.is_empty(), "a piece is not acknowledged");
        }
        ask(&mut client, &subject, b"")
    };
    let refused = restore(true)?;
    assert_eq!(refused["error"]["code"], 500, "{refused}");
    order(&gateway, "nothing\n")?;
    Publisher::new(&gateway)?.publish_until_taken()?;
    let (mut other, _) = RawNats::connect(gateway.address("nats"))?;
    assert_eq!(ask(&mut other, "$JS.API.STREAM.INFO.AGAIN", b"")?["error"]["err_code"], 10059);
    let whole = restore(false)?;
    assert_eq!(whole["state"]["messages"], 2000, "{whole}");
    Ok(())
}

/// A store on a disk that is full to the last byte can still be opened.
#[test]
fn a_gateway_starts_on_a_full_disk() -> Result<()> {
    let mut gateway = faulty()?;
    let mut publisher = Publisher::new(&gateway)?;
    publisher.publish_all(300)?;
    gateway.kill9()?;
    order(&gateway, "room 0\nspace store.lock\n")?;
    gateway.restart()?;
    publisher.client = RawNats::connect(gateway.address("nats"))?.0;
    publisher.publish_until_refused()?;
    publisher.check(&gateway)?;
    order(&gateway, "nothing\n")?;
    publisher.publish_until_taken()?;
    publisher.check(&gateway)
}
