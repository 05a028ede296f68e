//! Store and forward over a real link to a stock hub: cut, killed on either side, and everything arrives once and in order.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::{Gateway, RawNats, StockHub};

const LIMIT: Duration = Duration::from_secs(30);
const STREAM_INFO: &str = "$JS.API.STREAM.INFO.FLEET";

fn gateway(hub_port: u16) -> String {
    format!(
        r#"
server_name: edge
listen: "127.0.0.1:<nats>"
jetstream {{ store_dir: "<dir>/store", domain: edge }}
leafnodes {{ remotes [ {{ url: "nats-leaf://127.0.0.1:{hub_port}", ignore_discovered_servers: true }} ] }}
uplink {{ reconnect {{ min: 100ms, max: 500ms }} }}
streams {{ TELEMETRY {{ subjects: [ "sensors.>" ] }} }}
forward {{ TELEMETRY {{ to: FLEET, prefix: edge.one, create {{ subjects: [ "edge.>" ] }} }} }}
"#
    )
}

/// Stores messages at the edge, each acknowledged.
fn publish(edge: &mut RawNats, numbers: std::ops::Range<u64>) -> Result<()> {
    for number in numbers {
        let answer = edge.request("sensors.a", number.to_string().as_bytes())?;
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        ensure!(text.contains("\"seq\""), "message {number}: {text}");
    }
    Ok(())
}

/// Waits until the hub's stream holds `count` messages, all it ever had.
fn wait_for(hub: &mut RawNats, count: u64) -> Result<()> {
    let start = Instant::now();
    let wanted = (format!("\"messages\":{count},"), format!("\"last_seq\":{count},"));
    loop {
        let answer = hub.request(STREAM_INFO, b"")?;
        let text = String::from_utf8_lossy(&answer.payload).into_owned();
        if text.contains(&wanted.0) && text.contains(&wanted.1) {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            bail!("the hub does not have {count} messages: {text}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn everything_arrives_once_and_in_order_whoever_is_killed() -> Result<()> {
    let mut hub = StockHub::start(StockHub::PLAIN)?;
    let mut edge = Gateway::start(&gateway(hub.port("leaf")))?;
    publish(&mut RawNats::connect(edge.address("nats"))?.0, 0..50)?;
    wait_for(&mut RawNats::connect(hub.address("nats"))?.0, 50)?;

    hub.kill9()?;
    publish(&mut RawNats::connect(edge.address("nats"))?.0, 50..150)?;
    edge.kill9()?;
    edge.restart()?;
    publish(&mut RawNats::connect(edge.address("nats"))?.0, 150..200)?;
    hub.restart()?;
    let mut client = RawNats::connect(hub.address("nats"))?.0;
    wait_for(&mut client, 200)?;
    for sequence in 1..=200 {
        let asked = format!("{{\"seq\":{sequence}}}");
        let answer = client.request("$JS.API.STREAM.MSG.GET.FLEET", asked.as_bytes())?;
        let stored: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        let data = stored["message"]["data"].as_str().unwrap_or_default().to_owned();
        ensure!(stored["message"]["subject"] == "edge.one.sensors.a", "{stored}");
        ensure!(data == base64(&(sequence - 1).to_string()), "message {sequence} is {data}");
    }
    Ok(())
}

/// As JSON carries a payload.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let quad = |piece: &[u8]| {
        let bits = piece.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - piece.len()));
        (0..4)
            .map(|at| if at <= piece.len() { char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]) } else { '=' })
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(quad).collect()
}
