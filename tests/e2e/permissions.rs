//! What users may: stock's words for NATS clients, MQTT's codes for MQTT clients, and what a reload changes.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Gateway, RawMqtt, RawNats, Server, mqtt_raw};

const LIMIT: Duration = Duration::from_secs(20);

const USERS: &str = r#"
authorization {
  default_permissions { publish: "open.>", subscribe: [ "open.>", "_INBOX.>" ] }
  users: [
    { user: plain, password: p }
    { user: sensor, password: p, allowed_connection_types: [ "MQTT" ],
      permissions { publish: { allow: "s.>", deny: "s.no" }, subscribe: [ "s.>", "s" ] } }
    { user: worker, password: p, permissions { subscribe: "work pool", allow_responses: { max: 1, expires: "1m" } } }
    { user: reader, password: p, permissions { publish: [ "$JS.API.>" ], subscribe: { deny: "s.secret" } } }
    { user: admin, password: p, permissions {} }
  ]
}
"#;

fn start() -> Result<Server> {
    Gateway::start(&format!("{}{USERS}", Gateway::PLAIN))
}

fn nats(gateway: &Server, user: &str) -> Result<RawNats> {
    let options = format!(r#"{{"verbose":false,"headers":true,"protocol":1,"user":"{user}","pass":"p"}}"#);
    Ok(RawNats::connect_with(gateway.address("nats"), &options)?.0)
}

fn mqtt(gateway: &Server, user: &str, will: Option<&str>) -> Result<(RawMqtt, u8)> {
    let text = |text: &str| [&[0, u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    let flags = if will.is_some() { 0xc6 } else { 0xc2 };
    let mut body = [b"\x00\x04MQTT\x04", &[flags, 0, 60][..], &text(user)].concat();
    if let Some(topic) = will {
        body.extend([text(topic), text("gone")].concat());
    }
    body.extend([text(user), text("p")].concat());
    let mut client = RawMqtt::dial(gateway.address("mqtt"))?;
    client.send(&mqtt_raw::frame(0x10, &body))?;
    let answer = client.packet()?;
    ensure!(answer.first == 0x20 && answer.body.len() == 2, "{answer:?}");
    Ok((client, answer.body[1]))
}

#[test]
fn nats_clients_do_what_they_may() -> Result<()> {
    let gateway = start()?;
    let mut plain = nats(&gateway, "plain")?;
    plain.send("PUB shut 1\r\nx\r\nSUB shut.a 1\r\nSUB > g 2\r\nSUB open.* 3\r\nPUB open.a 1\r\nx\r\n")?;
    plain.skip_to("-ERR 'Permissions Violation for Publish to \"shut\"'")?;
    plain.expect("-ERR 'Permissions Violation for Subscription to \"shut.a\"'")?;
    plain.expect("-ERR 'Permissions Violation for Subscription to \">\" using queue \"g\"'")?;
    ensure!(plain.message()?.line == "MSG open.a 3 1");

    // A worker answers once what it is asked, and nothing else.
    let mut worker = nats(&gateway, "worker")?;
    worker.send("SUB work pool 1\r\nPUB any 0\r\n\r\n")?;
    worker.skip_to("-ERR 'Permissions Violation for Publish to \"any\"'")?;
    let mut admin = nats(&gateway, "admin")?;
    admin.send("SUB answer.* 1\r\nPUB work answer.1 2\r\nhi\r\n")?;
    ensure!(worker.message()?.line == "MSG work 1 answer.1 2");
    worker.send("PUB answer.1 3\r\none\r\nPUB answer.1 3\r\ntwo\r\n")?;
    ensure!(admin.message()?.payload == b"one");
    worker.skip_to("-ERR 'Permissions Violation for Publish to \"answer.1\"'")?;

    // Wider than what is denied to it: it gets the rest.
    let mut reader = nats(&gateway, "reader")?;
    reader.send("SUB s.> 1\r\n")?;
    reader.flush()?;
    admin.send("PUB s.secret 1\r\n1\r\nPUB s.open 1\r\n2\r\n")?;
    ensure!(reader.message()?.line == "MSG s.open 1 1");
    // By TCP only as MQTT.
    ensure!(nats(&gateway, "sensor").is_err(), "a user for MQTT came by NATS");
    Ok(())
}

#[test]
fn mqtt_clients_do_what_they_may() -> Result<()> {
    let gateway = start()?;
    let mut admin = nats(&gateway, "admin")?;
    admin.send("SUB s.> 1\r\nSUB other.> 2\r\n")?;
    admin.flush()?;
    let (mut sensor, code) = mqtt(&gateway, "sensor", Some("other/will"))?;
    ensure!(code == 0);
    // [MQTT-3.9.3] 0x80 for what is refused, the others are granted.
    sensor.send(&mqtt_raw::subscribe_packet(1, "s/#", 1))?;
    sensor.expect(b"\x90\x03\x00\x01\x01")?;
    sensor.send(&mqtt_raw::subscribe_packet(2, "#", 0))?;
    sensor.expect(b"\x90\x03\x00\x02\x80")?;
    // [MQTT-3.3.5-2] what is not allowed is acknowledged and dropped.
    sensor.send(&mqtt_raw::publish_packet("other/a", Some(3), b"x"))?;
    sensor.expect(b"\x40\x02\x00\x03")?;
    sensor.send(&mqtt_raw::publish_packet("s/no", None, b"x"))?;
    sensor.send(&mqtt_raw::publish_packet("s/yes", None, b"y"))?;
    ensure!(admin.message()?.payload.ends_with(b"y"));
    // Its will was none of its business either: it closes without a word, and the next thing that comes is somebody else's.
    drop(sensor);
    let (mut other, _) = mqtt(&gateway, "sensor", Some("s/will"))?;
    other.send(&mqtt_raw::frame(0xf0, b""))?;
    other.expect_close()?;
    ensure!(admin.message()?.line.starts_with("MSG s.will 1 "), "the will of the second one");
    Ok(())
}

#[test]
fn a_reload_changes_what_is_allowed() -> Result<()> {
    let mut gateway = start()?;
    let mut plain = nats(&gateway, "plain")?;
    plain.send("SUB open.> 1\r\nSUB open.a q 2\r\n")?;
    plain.flush()?;
    let changed =
        USERS.replace(r#"publish: "open.>", subscribe: [ "open.>""#, r#"publish: "new.>", subscribe: [ "new.>""#);
    gateway.set_configuration(&format!("{}{changed}", Gateway::PLAIN))?;
    gateway.signal("HUP")?;
    gateway.wait_for_log("Reloaded server configuration", LIMIT)?;
    plain.skip_to("-ERR 'Permissions Violation for Subscription to \"open.>\" (sid \"1\")'")?;
    plain.expect("-ERR 'Permissions Violation for Subscription to \"open.a\" using queue \"q\" (sid \"2\")'")?;
    plain.send("PUB open.a 1\r\nx\r\nSUB new.a 3\r\nPUB new.a 1\r\nx\r\n")?;
    plain.expect("-ERR 'Permissions Violation for Publish to \"open.a\"'")?;
    ensure!(plain.message()?.line == "MSG new.a 3 1");
    Ok(())
}
