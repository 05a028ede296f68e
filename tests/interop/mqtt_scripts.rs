//! paho-mqtt, mqtt.js (TCP and WebSocket) and mosquitto's tools against the gateway: QoS 0 and 1, sessions over `kill -9`.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness::peers::{self, Peer};
use harness::program::{self, Finished};
use harness::{Gateway, RawNats, Server, node, python};

/// An interpreter takes a second to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const ROUND: &str = "level/a/b one 1\nroom/1/t zero 0\n";
const KEPT: &str = "0 1 2 3 4 5 6 7 8 9\n";

/// The session is made, the gateway killed, ten messages published, the gateway killed again: the session has them all in order.
fn a_session_outlives_kills(run: impl Fn(&Server, &str) -> Result<String>) -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    run(&gateway, "subscribe")?;
    gateway.kill9()?;
    gateway.restart()?;
    run(&gateway, "publish")?;
    gateway.kill9()?;
    gateway.restart()?;
    assert_eq!(run(&gateway, "collect")?, KEPT);
    Ok(())
}

fn paho(gateway: &Server, role: &str) -> Result<String> {
    python::run("edge_mqtt.py", &[&gateway.port("mqtt").to_string(), role], LIMIT)?.success()
}

fn mqtt_js(gateway: &Server, role: &str) -> Result<String> {
    let url = format!("mqtt://{}", gateway.address("mqtt"));
    node::run("edge_mqtt.mjs", &[&url, role], LIMIT)?.success()
}

fn mqtt_js_websocket(gateway: &Server, role: &str) -> Result<String> {
    let url = format!("ws://{}/mqtt", gateway.address("websocket"));
    node::run("edge_mqtt.mjs", &[&url, role], LIMIT)?.success()
}

#[test]
fn paho_with_qos_0_and_1() -> Result<()> {
    if peers::available(Peer::PahoMqtt) {
        assert_eq!(paho(&Gateway::start(Gateway::PLAIN)?, "round")?, ROUND);
    }
    Ok(())
}

#[test]
fn a_session_of_paho_outlives_kills() -> Result<()> {
    if peers::available(Peer::PahoMqtt) {
        a_session_outlives_kills(paho)?;
    }
    Ok(())
}

#[test]
fn mqtt_js_with_qos_0_and_1_by_tcp_and_websocket() -> Result<()> {
    if peers::available(Peer::MqttJs) {
        let gateway = Gateway::start(Gateway::PLAIN)?;
        assert_eq!(mqtt_js(&gateway, "round")?, ROUND);
        assert_eq!(mqtt_js_websocket(&gateway, "round")?, ROUND);
    }
    Ok(())
}

#[test]
fn a_session_of_mqtt_js_by_websocket_outlives_kills() -> Result<()> {
    if peers::available(Peer::MqttJs) {
        a_session_outlives_kills(mqtt_js_websocket)?;
    }
    Ok(())
}

/// `mosquitto_pub` or `mosquitto_sub` against the gateway's MQTT port.
fn mosquitto(gateway: &Server, tool: &str, arguments: &[&str]) -> Result<Finished> {
    let port = gateway.port("mqtt").to_string();
    let mut command = Command::new(peers::debian_program(tool));
    command.args(["-h", "127.0.0.1", "-p", &port]).args(arguments);
    program::run(&mut command, b"", LIMIT)
}

#[test]
fn mosquitto_tools_and_a_nats_client_hear_each_other() -> Result<()> {
    if !peers::available(Peer::Mosquitto) {
        return Ok(());
    }
    // What a NATS client publishes waits for sleeping sessions when a stream captures it.
    let gateway = Gateway::start(&format!("{}streams {{ DOWN {{ subjects: [\"down.>\"] }} }}\n", Gateway::PLAIN))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    client.send("SUB sensors.> 1\r\n")?;
    client.flush()?;
    for (qos, payload) in [("0", "zero"), ("1", "one")] {
        mosquitto(&gateway, "mosquitto_pub", &["-t", "sensors/a/temp", "-m", payload, "-q", qos])?.success()?;
        let message = client.message()?;
        let expected = format!("NATS/1.0\r\nNmqtt-Pub: {qos}\r\n\r\n{payload}");
        assert_eq!(String::from_utf8_lossy(&message.payload), expected);
    }
    // -E ends when the subscription is confirmed: the session is there, and nobody connected.
    let session = ["-i", "sleeper", "-c", "-q", "1", "-t", "down/#"];
    mosquitto(&gateway, "mosquitto_sub", &[&session[..], &["-E"]].concat())?.success()?;
    client.send("PUB down.now 5\r\nawake\r\n")?;
    client.flush()?;
    let heard = mosquitto(&gateway, "mosquitto_sub", &[&session[..], &["-C", "1", "-v"]].concat())?.success()?;
    assert_eq!(heard, "down/now awake\n");
    Ok(())
}

#[test]
fn a_session_of_mosquitto_outlives_kills() -> Result<()> {
    if !peers::available(Peer::Mosquitto) {
        return Ok(());
    }
    a_session_outlives_kills(|gateway, role| {
        let session = ["-i", "keeper", "-c", "-q", "1", "-t", "kept/#"];
        match role {
            "subscribe" => mosquitto(gateway, "mosquitto_sub", &[&session[..], &["-E"]].concat())?.success(),
            "publish" => {
                for number in 0..10 {
                    let message = ["-t", "kept/a", "-q", "1", "-m", &number.to_string()];
                    mosquitto(gateway, "mosquitto_pub", &message)?.success()?;
                }
                Ok(String::new())
            }
            _ => {
                let said = mosquitto(gateway, "mosquitto_sub", &[&session[..], &["-C", "10"]].concat())?.success()?;
                Ok(said.trim().replace('\n', " ") + "\n")
            }
        }
    })
}
