//! Request and reply: N requesters, each with one request in flight, one responder.

use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use crate::process::Server;
use crate::wire::Wire;
use crate::{Outcome, stopwatch};

/// Requests of all requesters together at scale 1.
const REQUESTS: f64 = 40_000.0;
const PAYLOAD: &[u8; 16] = b"0123456789abcdef";

/// Requests are the operations; the latency is a requester's.
pub(crate) fn run(server: &Server, requesters: usize, scale: f64) -> Result<Outcome> {
    let mut responder = Wire::connect(server)?;
    responder.send(b"SUB bench.service 1\r\n")?;
    responder.ping()?;
    std::thread::spawn(move || respond(&mut responder));
    let each = (REQUESTS * scale) as u64 / requesters as u64;
    let wires: Vec<Wire> = (0..requesters).map(|_| Wire::connect(server)).collect::<Result<_>>()?;
    let begin = stopwatch::now();
    let threads: Vec<JoinHandle<Result<Vec<f64>>>> = wires
        .into_iter()
        .enumerate()
        .map(|(number, wire)| std::thread::spawn(move || request(wire, number, each)))
        .collect();
    let mut latencies = Vec::new();
    for thread in threads {
        latencies.extend(thread.join().map_err(|_| anyhow!("a requester panicked"))??);
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let p50 = latencies.get(latencies.len() / 2).copied();
    Ok(Outcome { operations: each * requesters as u64, seconds, p50_micros: p50 })
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
        let mut at = 0;
        while let Some(line) = held[at..].windows(2).position(|window| window == b"\r\n") {
            let text = &held[at..at + line];
            let mut words = text.split(|byte| *byte == b' ');
            if words.next() != Some(b"MSG") {
                at += line + 2;
                continue;
            }
            let end = at + line + 2 + PAYLOAD.len() + 2;
            if end > held.len() {
                break;
            }
            let inbox = words.nth(2).ok_or_else(|| anyhow!("a request without reply subject"))?;
            replies.extend_from_slice(b"PUB ");
            replies.extend_from_slice(inbox);
            replies.extend_from_slice(format!(" {}\r\n", PAYLOAD.len()).as_bytes());
            replies.extend_from_slice(PAYLOAD);
            replies.extend_from_slice(b"\r\n");
            at = end;
        }
        held.drain(..at);
        if !replies.is_empty() {
            wire.send(&replies)?;
            replies.clear();
        }
    }
}
