//! MQTT sessions that sleep: what each costs in memory, and how long a start takes until a client is told that its session is there.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use harness::Server;

use crate::mqtt::Mqtt;
use crate::outcome::{Figure, Outcome};
use crate::side::Side;
use crate::stopwatch;
use crate::usage::Usage;

/// Sessions at scale 1, as many as ours takes by default, each with one filter of quality 1. nats-server refuses subscriptions before that.
const SESSIONS: f64 = 10_000.0;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a server may still do after the load before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// Memory with all of them, and from the start of the process to the first CONNACK.
pub(crate) fn sleeping(side: Side, scale: f64) -> Result<Outcome> {
    let mut server = side.start()?;
    leave(&server, 0)?;
    let before = Usage::of(&server)?;
    let last = (SESSIONS * scale).max(2.0) as u64 - 1;
    for number in 1..=last {
        leave(&server, number)?;
    }
    thread::sleep(SETTLE);
    let each = Usage::of(&server)?.rss.saturating_sub(before.rss) as f64 / last as f64;
    server.terminate()?;
    let (address, begin) = (server.address("mqtt"), stopwatch::now());
    let watcher = thread::spawn(move || come_back(address, last, begin));
    server.restart()?;
    let came = watcher.join().map_err(|_| anyhow!("the watcher panicked"))??;
    thread::sleep(SETTLE);
    Ok(Outcome::from([
        (Figure::MemoryEach, each),
        (Figure::Connack, came.as_secs_f64() * 1e3),
        (Figure::Memory, Usage::of(&server)?.rss as f64 / 1024.0),
    ]))
}

fn name(number: u64) -> String {
    format!("sleeper-{number}")
}

/// Makes a session and goes.
fn leave(server: &Server, number: u64) -> Result<()> {
    let mut client = Mqtt::connect(server.address("mqtt"), &name(number), false)?;
    client.subscribe(&format!("device/{number}/command"), 1)?;
    client.disconnect()
}

/// Knocks until the last one's session is there.
fn come_back(address: SocketAddr, number: u64, begin: Instant) -> Result<Duration> {
    loop {
        match Mqtt::connect(address, &name(number), false) {
            Ok(client) => {
                ensure!(client.session_present, "the session is forgotten");
                return Ok(begin.elapsed());
            }
            Err(error) => ensure!(begin.elapsed() < PATIENCE, "no CONNACK: {error:#}"),
        }
        thread::sleep(Duration::from_micros(200));
    }
}
