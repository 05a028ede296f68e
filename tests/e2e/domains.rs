//! JetStream domains over the link, in both directions, and the way down to a sleeping MQTT device.

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{NatsCli, RawMqtt, RawNats, mqtt_raw};

use crate::hub::{Linked, ask};

#[test]
fn each_side_reaches_the_other_s_jetstream() -> Result<()> {
    if !peers::available(Peer::NatsServer) || !peers::available(Peer::NatsCli) {
        return Ok(());
    }
    let linked = Linked::start()?;
    let cli = NatsCli::new(&linked.hub.url())?;
    let info = cli.json(&["--js-domain", "edge", "stream", "info", "TELEMETRY", "--json"])?;
    assert_eq!(info["config"]["subjects"][0], "load.>");
    let names = cli.run(&["--js-domain", "edge", "stream", "ls", "--names"])?.success()?;
    ensure!(names.lines().any(|name| name == "TELEMETRY"), "{names}");

    let hub = ask(&linked.gateway, "$JS.hub.API.INFO", "")?;
    assert_eq!(hub["domain"], "hub");
    // Without a domain each one answers for itself.
    assert_eq!(ask(&linked.gateway, "$JS.API.INFO", "")?["domain"], "edge");
    assert_eq!(ask(&linked.hub, "$JS.API.INFO", "")?["domain"], "hub");
    Ok(())
}

#[test]
fn a_publish_at_the_hub_reaches_a_sleeping_device() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = Linked::start()?;
    let mqtt = linked.gateway.address("mqtt");
    let (mut device, _) = RawMqtt::connect(mqtt, "device", mqtt_raw::Session::Persistent)?;
    device.send(&mqtt_raw::subscribe_packet(1, "down/#", 1))?;
    device.expect(b"\x90\x03\x00\x01\x01")?;
    device.send(b"\xe0\x00")?;
    device.expect_close()?;

    let hub = linked.hub.address("nats");
    linked.wait("the hub knows the device's interest", || told(hub))?;
    // Asked through the link: what went before has arrived.
    ask(&linked.hub, "$JS.edge.API.INFO", "")?;
    linked.gateway.kill9()?;
    linked.gateway.restart()?;
    let (mut device, present) = RawMqtt::connect(mqtt, "device", mqtt_raw::Session::Persistent)?;
    ensure!(present, "the session was forgotten");
    let message = device.packet()?;
    ensure!(message.first & 0xf6 == 0x32 && message.body.ends_with(b"wake up"), "{message:?}");
    Ok(())
}

/// Publishes, and whether somebody listened: an answer without responders comes before the PONG.
fn told(address: std::net::SocketAddr) -> Result<bool> {
    let (mut client, _) = RawNats::connect(address)?;
    client.send("SUB nobody 9\r\nPUB down.now nobody 7\r\nwake up\r\nPING\r\n")?;
    let mut listened = true;
    loop {
        let line = client.line()?;
        listened &= !line.starts_with("HMSG nobody 9");
        if line == "PONG" {
            return Ok(listened);
        }
    }
}
