//! The scripts' interpreters and packages, against the peers themselves: a suite that fails later fails because of us.

use std::time::Duration;

use anyhow::Result;
use harness::peers::{self, Peer};
use harness::{Mosquitto, StockHub, node, python};

/// An interpreter takes a second to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const HUB: &str = r#"
listen: "127.0.0.1:<nats>"
websocket { listen: "127.0.0.1:<websocket>", no_tls: true }
"#;

fn all(peers: &[Peer]) -> bool {
    peers.iter().all(|peer| peers::available(*peer))
}

#[test]
fn nats_py_against_the_stock_server() -> Result<()> {
    if !all(&[Peer::NatsServer, Peer::NatsPy]) {
        return Ok(());
    }
    let hub = StockHub::start(HUB)?;
    let said = python::run("peer_nats.py", &[&hub.url()], LIMIT)?.success()?;
    assert_eq!(said, "hello\n");
    Ok(())
}

#[test]
fn nats_js_against_the_stock_server_by_tcp_and_websocket() -> Result<()> {
    if !all(&[Peer::NatsServer, Peer::NatsJs]) {
        return Ok(());
    }
    let hub = StockHub::start(HUB)?;
    let websocket = format!("ws://{}", hub.address("websocket"));
    let said = node::run("peer_nats.mjs", &[&hub.url(), &websocket], LIMIT)?.success()?;
    assert_eq!(said, "hello\nhello\n");
    Ok(())
}

#[test]
fn paho_against_mosquitto() -> Result<()> {
    if !all(&[Peer::Mosquitto, Peer::PahoMqtt]) {
        return Ok(());
    }
    let broker = Mosquitto::start(Mosquitto::PERSISTENT)?;
    let said = python::run("peer_mqtt.py", &[&broker.port("mqtt").to_string()], LIMIT)?.success()?;
    assert_eq!(said, "hello\n");
    Ok(())
}

#[test]
fn mqtt_js_against_mosquitto() -> Result<()> {
    if !all(&[Peer::Mosquitto, Peer::MqttJs]) {
        return Ok(());
    }
    let broker = Mosquitto::start(Mosquitto::PERSISTENT)?;
    let said = node::run("peer_mqtt.mjs", &[&broker.port("mqtt").to_string()], LIMIT)?.success()?;
    assert_eq!(said, "hello\n");
    Ok(())
}
