//! The harness against stock nats-server: what the other suites rely on.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{Direction, Mosquitto, NatsCli, Proxy, RawMqtt, RawNats, Server, StockHub, http, mqtt_raw};

fn hub() -> Result<Option<Server>> {
    if !peers::available(Peer::NatsServer) {
        return Ok(None);
    }
    StockHub::start(StockHub::PLAIN).map(Some)
}

#[test]
fn a_stock_server_starts_and_passes_a_message_on() -> Result<()> {
    let Some(hub) = hub()? else { return Ok(()) };
    let (mut client, info) = RawNats::connect(hub.address("nats"))?;
    ensure!(info["version"] == "2.15.1", "the pinned peer has another version: {info}");
    client.send("SUB greet.* 1\r\nPUB greet.world 5\r\nhello\r\n")?;
    let message = client.message()?;
    assert_eq!(message.line, "MSG greet.world 1 5");
    assert_eq!(message.payload, b"hello");
    assert_eq!(http::get_json(hub.address("http"), "/varz")?["server_name"], "hub");
    Ok(())
}

#[test]
fn a_killed_server_comes_back_on_its_store_and_ports() -> Result<()> {
    let Some(mut hub) = hub()? else { return Ok(()) };
    let (mut client, _) = RawNats::connect(hub.address("nats"))?;
    let created = client.request("$JS.API.STREAM.CREATE.S", br#"{"name":"S","subjects":["s"],"storage":"file"}"#)?;
    ensure!(!String::from_utf8_lossy(&created.payload).contains("error"), "{created:?}");
    let stored = client.request("s", b"kept")?;
    ensure!(stored.payload.starts_with(br#"{"stream":"S""#), "{stored:?}");

    hub.terminate()?;
    ensure!(!hub.is_running());
    client.expect_close()?;
    hub.restart()?;
    hub.kill9()?;
    hub.restart()?;

    let (mut client, _) = RawNats::connect(hub.address("nats"))?;
    let info = client.request("$JS.API.STREAM.INFO.S", b"")?;
    let info: serde_json::Value = serde_json::from_slice(&info.payload)?;
    assert_eq!(info["state"]["messages"], 1);
    Ok(())
}

#[test]
fn a_bad_configuration_shows_the_end_of_the_log() {
    if peers::available(Peer::NatsServer) {
        let error = StockHub::start("listen: 127.0.0.1:<nats>\nbogus: 1\n").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("unknown field \"bogus\""), "{error}");
    }
}

#[test]
fn a_link_is_cut_restored_and_swallowed() -> Result<()> {
    let Some(hub) = hub()? else { return Ok(()) };
    let mut link = Proxy::start(hub.address("nats"))?;
    let (mut client, _) = RawNats::connect(link.address())?;
    link.cut();
    client.expect_close()?;
    ensure!(RawNats::dial(link.address()).is_err(), "a cut link was dialled");

    link.restore()?;
    let (mut client, _) = RawNats::connect(link.address())?;
    link.blackhole();
    client.send("PING\r\n")?;
    ensure!(client.is_silent(Duration::from_millis(50))?, "something came through");
    link.restore()?;
    client.skip_to("PONG")?;

    link.flap();
    client.expect_close()?;
    let (mut client, _) = RawNats::connect(link.address())?;
    client.flush()?;
    assert_eq!(link.accepted(), 3);
    Ok(())
}

#[test]
fn a_link_is_cut_in_the_middle_of_a_message() -> Result<()> {
    let Some(hub) = hub()? else { return Ok(()) };
    let mut link = Proxy::start(hub.address("nats"))?;
    let (mut watcher, _) = RawNats::connect(hub.address("nats"))?;
    watcher.send("SUB > 1\r\n")?;
    watcher.flush()?;
    let (mut client, _) = RawNats::connect(link.address())?;
    let before = link.passed(Direction::Up);
    // The first PUB is 14 bytes; the second stops in its payload.
    link.cut_after(Direction::Up, 25);
    client.send("PUB a 3\r\none\r\nPUB a 3\r\ntwo\r\n")?;
    client.expect_close()?;
    ensure!(link.is_cut());
    assert_eq!(link.passed(Direction::Up) - before, 25);
    assert_eq!(watcher.message()?.payload, b"one");
    // No second message comes before the PONG.
    watcher.flush()?;

    link.restore()?;
    RawNats::connect(link.address())?;
    Ok(())
}

#[test]
fn a_link_is_late() -> Result<()> {
    let Some(hub) = hub()? else { return Ok(()) };
    let link = Proxy::start(hub.address("nats"))?;
    let (mut client, _) = RawNats::connect(link.address())?;
    link.set_delay(Duration::from_millis(60));
    client.send("PING\r\n")?;
    ensure!(client.is_silent(Duration::from_millis(100))?, "a round trip of 120 ms took less");
    client.skip_to("PONG")?;
    Ok(())
}

#[test]
fn the_nats_command_line_speaks_to_a_server() -> Result<()> {
    let Some(hub) = hub()? else { return Ok(()) };
    if !peers::available(Peer::NatsCli) {
        return Ok(());
    }
    let cli = NatsCli::new(&hub.url())?;
    cli.run(&["stream", "add", "S", "--subjects", "s", "--defaults"])?.success()?;
    cli.run(&["pub", "s", "hello"])?.success()?;
    let info = cli.json(&["stream", "info", "S", "--json"])?;
    assert_eq!(info["state"]["messages"], 1);
    ensure!(!cli.run(&["stream", "info", "MISSING"])?.status.success(), "a missing stream was found");
    Ok(())
}

#[test]
fn mosquitto_starts_and_passes_a_packet_on() -> Result<()> {
    if !peers::available(Peer::Mosquitto) {
        return Ok(());
    }
    let broker = Mosquitto::start(Mosquitto::PERSISTENT)?;
    let (mut client, present) = RawMqtt::connect(broker.address("mqtt"), "one", mqtt_raw::Session::Clean)?;
    ensure!(!present, "a clean session was present");
    client.send(&mqtt_raw::subscribe_packet(1, "a/#", 0))?;
    client.expect(b"\x90\x03\x00\x01\x00")?;
    client.send(&mqtt_raw::publish_packet("a/b", Some(7), b"hello"))?;
    let mut packets = [client.packet()?, client.packet()?];
    packets.sort_by_key(|packet| packet.kind());
    assert_eq!(packets[0].body, b"\x00\x03a/bhello");
    assert_eq!(packets[1].body, [0, 7]);
    Ok(())
}
