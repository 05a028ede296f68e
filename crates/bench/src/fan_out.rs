//! One publisher, N subscribers of the same subject.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};

use crate::outcome::{Meter, Outcome};
use crate::side::Side;
use crate::wire::{Wire, batch, publish_frame};

/// Deliveries at scale 1, for small messages.
const DELIVERIES: f64 = 6_000_000.0;
/// Bytes at scale 1, for large ones.
const BYTES: f64 = 4e9;
/// A publisher runs at most so many bytes ahead of the slowest subscriber: no server is to cut it for reading slowly.
const WINDOW: u64 = 4 * 1024 * 1024;
const SUBJECT: &str = "bench.subject";

/// Deliveries are the operations.
pub(crate) fn run(side: Side, subscribers: usize, size: usize, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    let deliveries = (DELIVERIES.min(BYTES / size as f64)) * scale;
    let (bytes, count) = batch(&publish_frame(SUBJECT, "", size));
    let batches = (deliveries / subscribers as f64 / count as f64).ceil() as u64;
    let delivery = format!("MSG {SUBJECT} 1 {size}\r\n").len() + size + 2;
    let expected = batches * count * delivery as u64;

    let progress: Vec<Arc<AtomicU64>> = (0..subscribers).map(|_| Arc::default()).collect();
    let mut readers = Vec::new();
    for seen in &progress {
        let mut wire = Wire::connect(server.address("nats"))?;
        wire.send(format!("SUB {SUBJECT} 1\r\n").as_bytes())?;
        wire.ping()?;
        let seen = Arc::clone(seen);
        readers.push(std::thread::spawn(move || read_all(&mut wire, &seen, expected)));
    }
    let mut publisher = Wire::connect(server.address("nats"))?;
    let meter = Meter::start(&server)?;
    for sent in 0..batches {
        publisher.send(&bytes)?;
        let ahead = (sent + 1) * count * delivery as u64;
        while progress.iter().any(|seen| ahead.saturating_sub(seen.load(Ordering::Relaxed)) > WINDOW) {
            std::thread::sleep(std::time::Duration::from_micros(50));
            if readers.iter().any(|reader| reader.is_finished()) && ahead < expected {
                break;
            }
        }
    }
    for reader in readers {
        reader.join().map_err(|_| anyhow!("a reader panicked"))??;
    }
    meter.stop(batches * count * subscribers as u64)
}

/// Counts bytes until all have come. A PING of the server's is six bytes that are not waited for.
fn read_all(wire: &mut Wire, seen: &AtomicU64, expected: u64) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    while total < expected {
        total += wire.read(&mut buffer)? as u64;
        seen.store(total, Ordering::Relaxed);
    }
    Ok(())
}
