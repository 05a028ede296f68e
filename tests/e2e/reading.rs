//! Values that are read while others are on their way to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

const KEYS: usize = 40;
const READS: usize = 4_000;
/// Puts unanswered at a time.
const IN_FLIGHT: usize = 16;

/// Reads are answered while commits are synced; what was acknowledged before somebody asks is what he gets, or what came behind it, also after a kill.
#[test]
fn who_reads_beside_puts_gets_what_was_acknowledged() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut reader, _) = RawNats::connect(gateway.address("nats"))?;
    let config =
        br#"{"name":"KV_B","subjects":["$KV.B.>"],"max_msgs_per_subject":3,"allow_direct":true,"discard":"new"}"#;
    reader.request("$JS.API.STREAM.CREATE.KV_B", config)?;
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let over = Arc::new(AtomicBool::new(false));
    let (watching, known, address) = (Arc::clone(&over), Arc::clone(&acknowledged), gateway.address("nats"));
    let putting = thread::spawn(move || -> Result<()> {
        let (mut client, _) = RawNats::connect(address)?;
        client.send("SUB _INBOX.put.> 1\r\n")?;
        let (mut next, mut open) = (1, 0);
        while !watching.load(Ordering::Relaxed) || open > 0 {
            let mut bytes = String::new();
            while open < IN_FLIGHT && !watching.load(Ordering::Relaxed) {
                let (key, value) = (next % KEYS, format!("{next}"));
                bytes += &format!("PUB $KV.B.{key} _INBOX.put.{next} {}\r\n{value}\r\n", value.len());
                (next, open) = (next + 1, open + 1);
            }
            client.send(bytes)?;
            if open > 0 {
                let answer = client.message()?;
                let parsed: Value = serde_json::from_slice(&answer.payload)?;
                ensure!(parsed["seq"].is_u64(), "{parsed}");
                let number = answer.line.split(' ').nth(1).and_then(|inbox| inbox.rsplit('.').next());
                let number: usize = number.context("no number")?.parse()?;
                known[number % KEYS].store(number as u64, Ordering::Release);
                open -= 1;
            }
        }
        Ok(())
    });
    while acknowledged.iter().any(|number| number.load(Ordering::Acquire) == 0) {
        ensure!(!putting.is_finished(), "the publisher gave up");
        thread::sleep(Duration::from_millis(1));
    }
    reader.send("SUB _INBOX.get 1\r\n")?;
    for read in 0..READS {
        check(&mut reader, read * 7 % KEYS, &acknowledged)?;
    }
    ensure!(
        has_thread(gateway.pid().context("it runs")?, "store-sync")?,
        "no commit was synced on a thread of its own"
    );
    over.store(true, Ordering::Relaxed);
    putting.join().map_err(|_| anyhow!("the publisher panicked"))??;
    gateway.kill9()?;
    gateway.restart()?;
    let (mut reader, _) = RawNats::connect(gateway.address("nats"))?;
    reader.send("SUB _INBOX.get 1\r\n")?;
    (0..KEYS).try_for_each(|key| check(&mut reader, key, &acknowledged))
}

/// Has the process such a thread?
fn has_thread(process: u32, name: &str) -> Result<bool> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))?;
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    Ok(names.into_iter().any(|found| found.trim_end() == name))
}

/// Reads a value.
fn check(reader: &mut RawNats, key: usize, acknowledged: &[AtomicU64]) -> Result<()> {
    let before = acknowledged[key].load(Ordering::Acquire);
    reader.send(format!("PUB $JS.API.DIRECT.GET.KV_B.$KV.B.{key} _INBOX.get 0\r\n\r\n"))?;
    let answer = reader.message()?;
    let text = String::from_utf8(answer.payload)?;
    let (_, value) = text.rsplit_once("\r\n\r\n").context("no headers")?;
    let value: u64 = value.parse().with_context(|| format!("no value: {text}"))?;
    ensure!(value >= before, "{key}: {value} was read when {before} was acknowledged");
    ensure!(value as usize % KEYS == key, "{key}: {value}");
    Ok(())
}
