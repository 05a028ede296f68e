//! Hundreds of consumers of one stream that never acknowledge: everything comes to them again and again, no more than they may have is outstanding, and
//! publishers are answered meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Gateway, RawNats};
use serde_json::{Value, json};

const CONSUMERS: usize = 300;
/// What one of them may have outstanding, of twice as many.
const OUTSTANDING: usize = 10;

#[test]
fn consumers_that_never_acknowledge_get_everything_again_and_hold_nobody_up() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut api, _) = RawNats::connect(gateway.address("nats"))?;
    api.request("$JS.API.STREAM.CREATE.S", br#"{"name":"S","subjects":["crowd.>"]}"#)?;
    api.request("$JS.API.STREAM.CREATE.P", br#"{"name":"P","subjects":["other"]}"#)?;
    let (mut listener, _) = RawNats::connect(gateway.address("nats"))?;
    listener.send("SUB to.* 1\r\n")?;
    listener.flush()?;
    for number in 0..CONSUMERS {
        // Two of three want one half of the messages, each in another way.
        let both = json!({ "filter_subjects": ["crowd.a", "crowd.c"] });
        let filter = [json!({}), json!({ "filter_subject": "crowd.a" }), both];
        let mut config = json!({
            "name": format!("c{number}"), "deliver_subject": format!("to.{number}"), "ack_policy": "explicit",
            "ack_wait": 500_000_000, "max_ack_pending": OUTSTANDING,
        });
        let config_filter = filter[number % 3].as_object().context("an object")?.clone();
        config.as_object_mut().context("an object")?.extend(config_filter);
        let body = json!({ "stream_name": "S", "config": config }).to_string();
        api.request(&format!("$JS.API.CONSUMER.CREATE.S.c{number}"), body.as_bytes())?;
    }
    let over = Arc::new(AtomicBool::new(false));
    let (watching, address) = (Arc::clone(&over), gateway.address("nats"));
    let publisher = thread::spawn(move || -> Result<u64> {
        let (mut client, _) = RawNats::connect(address)?;
        // Not the inbox that all requests share.
        client.send("SUB _INBOX.other 1\r\n")?;
        let mut acknowledged = 0;
        while !watching.load(Ordering::Relaxed) {
            acknowledged += 1;
            client.send("PUB other _INBOX.other 1\r\nx\r\n")?;
            let answer: Value = serde_json::from_slice(&client.message()?.payload)?;
            ensure!(answer["seq"] == acknowledged, "{answer}");
        }
        Ok(acknowledged)
    });
    for number in 0..4 * OUTSTANDING {
        let subject = ["crowd.a", "crowd.b"][number % 2];
        api.request(subject, b"m")?;
    }
    hear_all_twice(&mut listener)?;
    over.store(true, Ordering::Relaxed);
    let acknowledged = publisher.join().map_err(|_| anyhow!("the publisher panicked"))??;
    ensure!(acknowledged > 10, "{acknowledged} publishes were acknowledged meanwhile");
    for number in 0..3 {
        let answer = api.request(&format!("$JS.API.CONSUMER.INFO.S.c{number}"), b"")?;
        let info: Value = serde_json::from_slice(&answer.payload)?;
        let left = if number == 0 { 3 * OUTSTANDING } else { OUTSTANDING };
        let counts = [&info["num_ack_pending"], &info["num_redelivered"], &info["num_pending"]];
        ensure!(
            counts.map(|count| count.as_u64()) == [OUTSTANDING, OUTSTANDING, left].map(|count| Some(count as u64)),
            "{info}"
        );
    }
    Ok(())
}

/// Until each consumer has had each of its messages at least twice.
fn hear_all_twice(listener: &mut RawNats) -> Result<()> {
    let mut times: BTreeMap<(String, u64), u32> = BTreeMap::new();
    let mut missing = CONSUMERS * OUTSTANDING;
    while missing > 0 {
        let delivery = listener.message()?;
        // `$JS.ACK.S.<consumer>.<deliveries>.<sequence>.…`
        let mut tokens = delivery.line.split(' ').nth(3).context("no acknowledgement subject")?.split('.').skip(3);
        let consumer = tokens.next().context("no consumer")?.to_owned();
        let sequence: u64 = tokens.nth(1).context("no sequence")?.parse()?;
        let is_first_half = consumer.trim_start_matches('c').parse::<usize>()? % 3 == 0;
        let last = if is_first_half { OUTSTANDING } else { 2 * OUTSTANDING };
        ensure!(sequence <= last as u64, "more than may be outstanding: {}", delivery.line);
        let count = times.entry((consumer, sequence)).or_default();
        *count += 1;
        missing -= usize::from(*count == 2);
    }
    Ok(())
}
