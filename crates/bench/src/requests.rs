//! Request and reply: N requesters, each with one request in flight, one responder.

use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use crate::outcome::{Figure, Meter, Outcome, median};
use crate::side::Side;
use crate::stopwatch;
use crate::wire::{Wire, messages};

/// Requests of all requesters together at scale 1.
const REQUESTS: f64 = 40_000.0;
const PAYLOAD: &[u8; 16] = b"0123456789abcdef";

/// Requests are the operations; the latency is a requester's.
pub(crate) fn run(side: Side, requesters: usize, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let address = server.address("nats");
    let mut responder = Wire::connect(address)?;
    responder.send(b"SUB bench.service 1\r\n")?;
    responder.ping()?;
    std::thread::spawn(move || respond(&mut responder));
    let each = (REQUESTS * scale) as u64 / requesters as u64;
    let wires: Vec<Wire> = (0..requesters).map(|_| Wire::connect(address)).collect::<Result<_>>()?;
    let meter = Meter::start(&server)?;
    let threads: Vec<JoinHandle<Result<Vec<f64>>>> = wires
        .into_iter()
        .enumerate()
        .map(|(number, wire)| std::thread::spawn(move || request(wire, number, each)))
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        latencies.extend(thread.join().map_err(|_| anyhow!("a requester panicked"))??);
    }
    let mut outcome = meter.stop(each * requesters as u64)?;
    outcome.extend(median(latencies).map(|p50| (Figure::Median, p50)));
    Ok(outcome)
}

fn request(mut wire: Wire, number: usize, count: u64) -> Result<Vec<f64>> {
    let inbox = format!("_INBOX.bench.{number}");
    wire.send(format!("SUB {inbox} 1\r\n").as_bytes())?;
    wire.ping()?;
    let mut frame = format!("PUB bench.service {inbox} {}\r\n", PAYLOAD.len()).into_bytes();
    frame.extend_from_slice(PAYLOAD);
    frame.extend_from_slice(b"\r\n");
    let reply = format!("MSG {inbox} 1 {}\r\n", PAYLOAD.len()).len() + PAYLOAD.len() + 2;
    let mut buffer = [0; 4096];
    let mut latencies = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let begin = stopwatch::now();
        wire.send(&frame)?;
        let mut seen = 0;
        while seen < reply {
            let read = wire.read(&mut buffer)?;
            // A PING of the server may stand between two replies.
            seen += if buffer[..read].starts_with(b"PING") { read - 6 } else { read };
        }
        latencies.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

/// Answers until its connection ends.
fn respond(wire: &mut Wire) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut held = Vec::new();
    let mut replies = Vec::new();
    loop {
        let read = wire.read(&mut buffer)?;
        held.extend_from_slice(&buffer[..read]);
        let taken = messages(&held, |message| {
            replies.extend_from_slice(b"PUB ");
            replies.extend_from_slice(message.reply);
            replies.extend_from_slice(format!(" {}\r\n", PAYLOAD.len()).as_bytes());
            replies.extend_from_slice(PAYLOAD);
            replies.extend_from_slice(b"\r\n");
        })?;
        held.drain(..taken);
        if !replies.is_empty() {
            wire.send(&replies)?;
            replies.clear();
        }
    }
}
