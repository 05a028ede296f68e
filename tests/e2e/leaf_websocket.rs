//! Leaf links over WebSocket, plain and TLS, to a stock hub's `websocket` listener.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{RawNats, Server, StockHub};

use crate::leaf::{LIMIT, edge, links, reaches, works_both_ways};
use crate::leaf_tls::{identities, serving};

/// A hub that takes leaf links on `<websocket>`. Compression is on by default: we must decline it here too, where it would wrap the frames.
fn hub(websocket: &str, leafnodes: &str) -> Result<Server> {
    StockHub::start(&format!(
        "server_name: hub\nlisten: \"127.0.0.1:<nats>\"\nhttp: \"127.0.0.1:<http>\"\n\
         leafnodes {{ listen: \"127.0.0.1:<leaf>\"\n {leafnodes} }}\n\
         websocket {{ listen: \"127.0.0.1:<websocket>\"\n {websocket} }}\n"
    ))
}

fn remote(url: &str, hub: &Server, path: &str, more: &str) -> String {
    format!("{{ url: \"{url}:{}{path}\" {more} }}", hub.port("websocket"))
}

#[test]
fn a_link_over_websocket() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut hub = hub("no_tls: true, compression: true", "")?;
    for (path, more) in [("", ""), ("/nats/edge", ""), ("", ", websocket_no_masking: true")] {
        let mut gateway = edge(&remote("ws://127.0.0.1", &hub, path, more), "")?;
        works_both_ways(&gateway, &hub)?;
        ensure!(links(&gateway)?[0]["name"] == "hub");
        ensure!(gateway.terminate()?.success());
    }
    // It comes back by itself.
    let gateway = edge(&remote("ws://127.0.0.1", &hub, "", ""), "")?;
    works_both_ways(&gateway, &hub)?;
    hub.kill9()?;
    hub.restart()?;
    works_both_ways(&gateway, &hub)
}

#[test]
fn a_link_over_websocket_and_tls() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    identities(&files.path().join("ours"), &["localhost"])?;
    identities(&files.path().join("others"), &["localhost"])?;
    let trusting = |who: &str| format!(", tls {{ ca_file: \"{}/{who}/ca.pem\" }}", files.path().display());
    let hub = hub(&serving(&files.path().join("ours"), ""), "authorization { user: leaf, password: s3cret }")?;
    let gateway = edge(&remote("wss://leaf:s3cret@localhost", &hub, "", &trusting("ours")), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);
    for (url, tls, said) in [
        ("wss://leaf:s3cret@localhost", trusting("others"), "signed by nobody we trust: set \"ca_file\""),
        ("wss://leaf:s3cret@127.0.0.1", trusting("ours"), "the hub's certificate is for another name"),
        ("wss://leaf:wrong@localhost", trusting("ours"), "the hub says: Authorization Violation"),
    ] {
        let mut gateway = edge(&remote(url, &hub, "", &tls), "")?;
        gateway.wait_for_log(said, LIMIT)?;
        ensure!(links(&gateway)?.is_empty());
    }
    Ok(())
}

/// A hub puts everything that waits into one frame, which is longer than any message.
#[test]
fn a_burst_from_the_hub_is_one_long_frame_and_arrives() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let hub = hub("no_tls: true", "")?;
    let gateway = edge(&remote("ws://127.0.0.1", &hub, "", ""), "")?;
    reaches(&hub, &gateway, "ready")?;
    let (mut subscriber, _) = RawNats::connect(gateway.address("nats"))?;
    subscriber.send("SUB burst 1\r\n")?;
    subscriber.flush()?;
    reaches(&gateway, &hub, "back")?;
    let (mut publisher, _) = RawNats::connect(hub.address("nats"))?;
    let payload = "x".repeat(900_000);
    for number in 0..30 {
        publisher.send(format!("PUB burst {}\r\n{number:04}{payload}\r\n", payload.len() + 4))?;
    }
    publisher.flush()?;
    for number in 0..30 {
        let message = subscriber.message()?;
        ensure!(message.payload.starts_with(format!("{number:04}").as_bytes()), "{}", message.line);
    }
    // And up, in frames of ours.
    let (mut listener, _) = RawNats::connect(hub.address("nats"))?;
    listener.send("SUB burst.up 1\r\n")?;
    listener.flush()?;
    reaches(&hub, &gateway, "ready.again")?;
    let mut text = String::new();
    for number in 0..10 {
        let _ = write!(text, "PUB burst.up {}\r\n{number:04}{payload}\r\n", payload.len() + 4);
    }
    subscriber.send(text)?;
    for number in 0..10 {
        let message = listener.message()?;
        ensure!(message.payload.starts_with(format!("{number:04}").as_bytes()), "{}", message.line);
    }
    Ok(())
}

#[test]
fn a_port_that_is_no_websocket_for_leafs_is_named() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let hub = hub("no_tls: true", "")?;
    let at = |name: &str| format!("{{ url: \"ws://127.0.0.1:{}\" }}", hub.port(name));
    let quick = "uplink { dial_timeout: 2s }";
    let mut gateway = edge(&at("http"), quick)?;
    gateway.wait_for_log("instead of upgrading to a WebSocket", LIMIT)?;
    let mut gateway = edge(&at("nats"), quick)?;
    gateway.wait_for_log("is it a WebSocket port?", LIMIT)
}
