//! Stored MQTT sessions under load: nothing below the limits is lost, the order is kept, whatever happens to connections and the process.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::mqtt_raw::{self, Session};
use harness::{Gateway, RawMqtt, http};

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

/// Publishes numbers to `t`, each acknowledged before this returns.
fn publish(address: SocketAddr, numbers: std::ops::Range<u64>) -> Result<()> {
    let (told, acknowledged) = mpsc::channel();
    load::publish_by_mqtt(address, "t", numbers.clone(), 100, &told);
    drop(told);
    ensure!(
        acknowledged.iter().count() as u64 == numbers.end - numbers.start,
        "not all of {numbers:?} was acknowledged"
    );
    Ok(())
}

/// Everything expected comes, in order, and is acknowledged.
fn collect(client: &mut RawMqtt, numbers: std::ops::Range<u64>, resent: impl Fn(u64) -> bool) -> Result<()> {
    for expected in numbers {
        let (number, id, dup) = message(client).with_context(|| format!("waiting for message {expected}"))?;
        ensure!(number == expected, "message {number} came in place of {expected}");
        ensure!(dup == resent(number), "message {number} says DUP {dup}");
        client.send(&mqtt_raw::puback_packet(id))?;
    }
    Ok(())
}

/// [MQTT-3.1.4-2], [MQTT-4.4.0-1]
#[test]
fn a_session_that_is_taken_over_moves_whole() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let address = gateway.address("mqtt");
    let mut first = subscribed(address, "device")?;
    publish(address, 0..30)?;
    let mut ids = Vec::new();
    for expected in 0..20 {
        let (number, id, _) = message(&mut first)?;
        ensure!(number == expected, "message {number} came in place of {expected}");
        ids.push(id);
    }
    let (mut second, present) = RawMqtt::connect(address, "device", Session::Persistent)?;
    ensure!(present, "the session is not there for who takes it over");
    ensure!(first.expect_close()?.is_empty(), "the old connection was sent more than it may have open");
    for (expected, id) in ids.iter().enumerate() {
        let (number, again, dup) = message(&mut second)?;
        ensure!(
            (number, again, dup) == (expected as u64, *id, true),
            "{number} id {again} dup {dup} for {expected}, {id}"
        );
        second.send(&mqtt_raw::puback_packet(again))?;
    }
    collect(&mut second, 20..30, |_| false)?;
    publish(address, 30..40)?;
    collect(&mut second, 30..40, |_| false)
}

/// A thousand devices lose their gateway and come back all at once: each has its session, and what was published meanwhile.
#[test]
fn a_thousand_sessions_come_back_at_once_after_a_kill() -> Result<()> {
    const DEVICES: usize = 1_000;
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let address = gateway.address("mqtt");
    let dial_all = || -> Result<Vec<RawMqtt>> {
        let dial = |number| {
            let mut client = RawMqtt::dial(address)?;
            client.send(&mqtt_raw::connect_packet(&format!("device-{number}"), Session::Persistent, 60))?;
            Ok(client)
        };
        (0..DEVICES).map(dial).collect()
    };
    let mut devices = dial_all()?;
    for device in &mut devices {
        device.expect(b"\x20\x02\x00\x00")?;
        device.send(&mqtt_raw::subscribe_packet(1, "t", 1))?;
    }
    for device in &mut devices {
        device.expect(b"\x90\x03\x00\x01\x01")?;
    }
    publish(address, 0..3)?;
    gateway.kill9()?;
    drop(devices);
    gateway.restart()?;
    let mut devices = dial_all()?;
    publish(address, 3..5)?;
    for (number, device) in devices.iter_mut().enumerate() {
        device.expect(b"\x20\x02\x01\x00").with_context(|| format!("the session of device {number}"))?;
        for expected in 0..5 {
            let (came, id, _) = message(device).with_context(|| format!("device {number}, message {expected}"))?;
            ensure!(came == expected, "device {number}: message {came} in place of {expected}");
            device.send(&mqtt_raw::puback_packet(id))?;
        }
    }
    Ok(())
}

/// A queue keeps the newest, and the operator learns of the rest: a line of log that names the client, and a counter.
#[test]
fn a_full_queue_drops_its_oldest_and_says_so() -> Result<()> {
    let limited = format!("{}mqtt_limits {{ max_queued_messages: 10 }}\n", Gateway::PLAIN);
    let gateway = Gateway::start(&limited)?;
    let address = gateway.address("mqtt");
    let mut sleeper = subscribed(address, "sleeper")?;
    sleeper.send(b"\xe0\x00")?;
    sleeper.expect_close()?;
    publish(address, 0..25)?;
    let (mut awake, present) = RawMqtt::connect(address, "sleeper", Session::Persistent)?;
    ensure!(present, "the session is gone");
    collect(&mut awake, 15..25, |_| false)?;
    let (_, metrics) = http::get(gateway.address("http"), "/metrics")?;
    let counter = metrics.lines().find(|line| line.starts_with("tributary_mqtt_queue_dropped_total{"));
    ensure!(counter.is_some_and(|line| line.ends_with(" 15")), "{counter:?}");
    let log = gateway.log_tail();
    ensure!(log.contains("its oldest messages are dropped") && log.contains("sleeper"), "{log}");
    Ok(())
}
