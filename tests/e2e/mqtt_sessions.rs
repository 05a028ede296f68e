//! Stored MQTT sessions under load: nothing below the limits is lost, the order is kept, whatever happens to connections and the process.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::mqtt_raw::{self, Session};
use harness::{Gateway, RawMqtt};

use crate::load;

/// A session that waits for everything on `t`.
fn subscribed(address: SocketAddr, client_id: &str) -> Result<RawMqtt> {
    let (mut client, _) = RawMqtt::connect(address, client_id, Session::Persistent)?;
    client.send(&mqtt_raw::subscribe_packet(1, "t", 1))?;
    client.expect(b"\x90\x03\x00\x01\x01")?;
    Ok(client)
}

/// The next message of quality 1: its number, its packet id, and whether it is marked as sent before.
fn message(client: &mut RawMqtt) -> Result<(u64, u16, bool)> {
    let packet = client.packet()?;
    ensure!(packet.first & 0xf7 == 0x32 && packet.body.len() > 5, "no PUBLISH: {packet:?}");
    let id = u16::from_be_bytes([packet.body[3], packet.body[4]]);
    Ok((load::number_of(&packet.body[5..])?, id, packet.first & 8 != 0))
}

/// A subscriber that keeps up is never left behind, however long it stays connected: what it was sent comes back as credit to the last byte.
#[test]
fn a_session_gets_a_long_stream_of_messages_on_one_connection() -> Result<()> {
    const MESSAGES: u64 = 30_000;
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let address = gateway.address("mqtt");
    let mut device = subscribed(address, "device")?;
    // Not further ahead than a queue holds.
    let (come, seen) = mpsc::sync_channel(0);
    let publisher = thread::spawn(move || -> Result<()> {
        for first in (0..MESSAGES).step_by(500) {
            let (told, acknowledged) = mpsc::channel();
            let next = load::publish_by_mqtt(address, "t", first..first + 500, 100, &told);
            ensure!(next == first + 500 && acknowledged.iter().take(500).count() == 500, "publishing ended at {next}");
            seen.recv().context("the subscriber ended")?;
        }
        Ok(())
    });
    for expected in 0..MESSAGES {
        let (number, id, resent) = message(&mut device).with_context(|| format!("waiting for message {expected}"))?;
        ensure!(number == expected && !resent, "message {number} came in place of {expected}");
        device.send(&mqtt_raw::puback_packet(id))?;
        if expected % 500 == 499 {
            come.send(())?;
        }
    }
    publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?
}
