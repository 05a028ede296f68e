//! A store with a million messages over many subjects: memory with it, and how long a start on it takes.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use harness::Server;

use crate::outcome::{Figure, Outcome};
use crate::side::Side;
use crate::usage::Usage;
use crate::wire::Wire;
use crate::{jetstream, stopwatch};

/// Messages and subjects at scale 1.
const MESSAGES: f64 = 1_000_000.0;
const SUBJECTS: f64 = 100_000.0;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a server may still do after the load before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// How the server ended before the start that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By TERM.
    Terminated,
    /// By `kill -9`.
    Killed,
}

/// Memory after the load, in the process that stored the messages.
pub(crate) fn memory(side: Side, scale: f64) -> Result<Outcome> {
    let server = filled(side, scale)?.0;
    thread::sleep(SETTLE);
    Ok(Outcome::from([(Figure::Memory, Usage::of(&server)?.rss as f64 / 1024.0)]))
}

/// From the start of the process to the first PONG and to the first answer about the stream; memory then.
pub(crate) fn start_up(side: Side, end: End, scale: f64) -> Result<Outcome> {
    let (mut server, messages) = filled(side, scale)?;
    match end {
        End::Terminated => drop(server.terminate()?),
        End::Killed => server.kill9()?,
    }
    let address = server.address("nats");
    let begin = stopwatch::now();
    let watcher = thread::spawn(move || watch(address, begin, messages));
    server.restart()?;
    let (pong, info) = watcher.join().map_err(|_| anyhow!("the watcher panicked"))??;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Outcome::from([
        (Figure::Pong, milliseconds(pong)),
        (Figure::StreamInfo, milliseconds(info)),
        (Figure::Memory, Usage::of(&server)?.rss as f64 / 1024.0),
    ]))
}

fn filled(side: Side, scale: f64) -> Result<(Server, u64)> {
    let server = side.start()?;
    jetstream::create_stream(&server, &["bench.>"])?;
    let messages = ((MESSAGES * scale) as u64).max(1);
    jetstream::fill(&server, messages, ((SUBJECTS * scale) as usize).max(1))?;
    Ok((server, messages))
}

/// Knocks until somebody answers, then asks for the stream until it is there.
fn watch(address: SocketAddr, begin: Instant, messages: u64) -> Result<(Duration, Duration)> {
    let mut wire = loop {
        match Wire::connect(address) {
            Ok(wire) => break wire,
            Err(error) => ensure!(begin.elapsed() < PATIENCE, "no PONG: {error:#}"),
        }
        thread::sleep(Duration::from_micros(200));
    };
    let pong = begin.elapsed();
    let subject = format!("$JS.API.STREAM.INFO.{}", jetstream::STREAM);
    loop {
        match wire.request(&subject, "") {
            Ok(info) if info["state"]["messages"].as_u64() == Some(messages) => return Ok((pong, begin.elapsed())),
            Ok(info) => ensure!(begin.elapsed() < PATIENCE, "of {messages} messages are there {}", info["state"]),
            Err(error) => ensure!(begin.elapsed() < PATIENCE, "no stream: {error:#}"),
        }
        thread::sleep(Duration::from_micros(500));
    }
}
