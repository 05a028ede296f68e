//! `kill -9` under full load, again and again: every acknowledged message is there, with its sequence and bytes.

use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use harness::Gateway;

use crate::load::{self, Acknowledged, Dice};

const ROUNDS: u64 = 8;
/// Numbers of one round and publisher; more than are acknowledged before the kill.
const NUMBERS: u64 = 100_000;
/// The kill comes after up to so many acknowledgements.
const MOST: u64 = 2_500;

#[test]
fn no_acknowledged_message_is_lost_by_kills() -> Result<()> {
    let streams = "streams { NATS { subjects: [\"load.nats\"] }, MQTT { subjects: [\"load.mqtt\"] } }\n";
    let mut gateway = Gateway::start(&format!("{}{streams}", Gateway::PLAIN))?;
    let mut dice = Dice::new(7);
    let (mut by_nats, mut by_mqtt): (Vec<Acknowledged>, Vec<Acknowledged>) = Default::default();
    for round in 0..ROUNDS {
        let numbers = round * NUMBERS..(round + 1) * NUMBERS;
        let (nats, mqtt) = (gateway.address("nats"), gateway.address("mqtt"));
        let (nats_told, nats_acks) = mpsc::channel();
        let (mqtt_told, mqtt_acks) = mpsc::channel();
        let publishers = [
            thread::spawn({
                let numbers = numbers.clone();
                move || load::publish_by_nats(nats, "load.nats", numbers, 256, &nats_told)
            }),
            thread::spawn(move || load::publish_by_mqtt(mqtt, "load/mqtt", numbers, 256, &mqtt_told)),
        ];
        for _ in 0..=dice.below(MOST) {
            by_nats.push(nats_acks.recv().context("the NATS publisher ended before the kill")?);
        }
        by_mqtt.push(mqtt_acks.recv().context("the MQTT publisher ended before the kill")?);
        gateway.kill9()?;
        for publisher in publishers {
            publisher.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
        }
        by_nats.extend(nats_acks.iter());
        by_mqtt.extend(mqtt_acks.iter());
        gateway.restart()?;
        let address = gateway.address("nats");
        let what = || format!("round {round}, {} + {} acknowledged", by_nats.len(), by_mqtt.len());
        load::check(&load::read_stream(address, "$JS.API", "NATS")?, "load.nats", &by_nats).with_context(what)?;
        load::check(&load::read_stream(address, "$JS.API", "MQTT")?, "load.mqtt", &by_mqtt).with_context(what)?;
    }
    Ok(())
}
