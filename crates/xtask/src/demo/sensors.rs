//! Simulated sensors: each a connection and a thread, each counting what it publishes and what was acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::mqtt_raw::{RawMqtt, Session, publish_packet};

/// Messages a sensor has on the way before it waits for their acknowledgements.
const BURST: u16 = 8;
/// Between two bursts: some 300 messages a second and sensor.
const PAUSE: Duration = Duration::from_millis(25);
/// PUBACK.
const PUBACK: u8 = 4;

/// Sensors that run until they are stopped.
pub(crate) struct Sensors {
    stop: Arc<AtomicBool>,
    acknowledged: Vec<Arc<AtomicU64>>,
    threads: std::cell::RefCell<Vec<JoinHandle<Result<()>>>>,
}

impl Sensors {
    /// Connects and starts them.
    pub(crate) fn start(gateway: SocketAddr, count: usize) -> Result<Sensors> {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Vec<_> = (0..count).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut threads = Vec::new();
        for (number, counter) in acknowledged.iter().enumerate() {
            let (client, _) = RawMqtt::connect(gateway, &format!("sensor-{number}"), Session::Clean)
                .with_context(|| format!("connecting sensor {number}"))?;
            let (stop, counter) = (Arc::clone(&stop), Arc::clone(counter));
            threads.push(thread::spawn(move || publish(client, number, &stop, &counter)));
        }
        Ok(Sensors { stop, acknowledged, threads: threads.into() })
    }

    /// Lets them finish their burst and end; an error is what went wrong with the first that failed.
    pub(crate) fn stop(&self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.take() {
            thread.join().map_err(|_| anyhow!("a sensor panicked"))??;
        }
        Ok(())
    }

    /// How many messages were acknowledged to all of them.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    /// How many were acknowledged to each.
    pub(crate) fn each(&self) -> Vec<u64> {
        self.acknowledged.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }
}

/// The payload of a sensor's `number`-th message, from 1: known to the publisher and to the judge.
pub(crate) fn reading(sensor: usize, number: u64) -> String {
    let celsius = 20.0 + ((sensor as u64 * 31 + number * 7) % 100) as f64 / 10.0;
    format!(r#"{{"sensor":{sensor},"number":{number},"celsius":{celsius:.1}}}"#)
}

fn publish(mut client: RawMqtt, sensor: usize, stop: &AtomicBool, acknowledged: &AtomicU64) -> Result<()> {
    let topic = format!("sensors/{sensor}/temperature");
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for id in 1..=BURST {
            number += 1;
            client.send(&publish_packet(&topic, Some(id), reading(sensor, number).as_bytes()))?;
        }
        for id in 1..=BURST {
            let packet = client.packet().with_context(|| format!("sensor {sensor} waits for an acknowledgement"))?;
            if packet.kind() != PUBACK {
                bail!("sensor {sensor} got a packet of kind {} instead of PUBACK", packet.kind());
            }
            ensure!(packet.body == id.to_be_bytes(), "sensor {sensor}: acknowledgements out of order");
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
