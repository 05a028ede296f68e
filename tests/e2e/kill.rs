//! `kill -9` under full load, again and again: every acknowledged message is there, with its sequence and bytes.

use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

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

/// Messages of a round, of which so many are acknowledged with confirmation, and so many without.
const TASKS: u64 = 200;
const CONFIRMED: u64 = 60;
const UNCONFIRMED: u64 = 60;

/// An acknowledgement and what it removes are kept together or not at all: what a queue holds is what its consumer has not got acknowledged.
#[test]
fn a_work_queue_holds_after_kills_what_was_not_acknowledged() -> Result<()> {
    let queue = "streams { WORK { subjects: [work], retention: workqueue, consumers { c { ack_wait: \"1h\" } } } }\n";
    let mut gateway = Gateway::start(&format!("{}{queue}", Gateway::PLAIN))?;
    let (mut published, mut confirmed) = (0, 0);
    for round in 1..=4 {
        let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
        for _ in 0..TASKS {
            client.request("work", b"task")?;
        }
        published += TASKS;
        client.send(format!("SUB in 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.WORK.c in 13\r\n{{\"batch\":{TASKS}}}\r\n"))?;
        let mut acks = Vec::new();
        for _ in 0..TASKS {
            let line = client.message()?.line;
            acks.push(line.split(' ').nth(3).context("no ack subject")?.to_owned());
        }
        for ack in acks.drain(..usize::try_from(CONFIRMED)?) {
            client.request(&ack, b"")?;
        }
        confirmed += CONFIRMED;
        let unconfirmed = acks.iter().take(usize::try_from(UNCONFIRMED)?).map(|ack| format!("PUB {ack} 0\r\n\r\n"));
        client.send(unconfirmed.collect::<String>())?;
        gateway.kill9()?;
        gateway.restart()?;

        let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
        let mut ask =
            |subject: &str| -> Result<Value> { Ok(serde_json::from_slice(&client.request(subject, b"")?.payload)?) };
        let held = ask("$JS.API.STREAM.INFO.WORK")?["state"]["messages"].as_u64().context("no count")?;
        let consumer = ask("$JS.API.CONSUMER.INFO.WORK.c")?;
        let expected = consumer["num_pending"].as_u64().zip(consumer["num_ack_pending"].as_u64());
        assert_eq!(Some(held), expected.map(|(new, open)| new + open), "round {round}: {consumer}");
        let open = published - confirmed;
        ensure!((open - round * UNCONFIRMED..=open).contains(&held), "round {round}: {held} of {open} are there");
    }
    Ok(())
}
