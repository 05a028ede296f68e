//! What the tests of the leaf link share: a gateway without a store, a stock hub, and whether a message gets from one to the other.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::{Gateway, RawNats, Server, StockHub, http};
use serde_json::Value;

/// For what a link brings about; a busy machine needs a part of it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(20);

/// CONNECT of somebody whom nobody asks who he is.
pub(crate) const ANYBODY: &str =
    r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}"#;

/// A stock hub with these lines in its `leafnodes` block, and others beside it.
pub(crate) fn hub(leafnodes: &str, more: &str) -> Result<Server> {
    StockHub::start(&format!(
        "server_name: hub\nlisten: \"127.0.0.1:<nats>\"\nhttp: \"127.0.0.1:<http>\"\n\
         leafnodes {{ listen: \"127.0.0.1:<leaf>\"\n {leafnodes} }}\n{more}\n"
    ))
}

/// A gateway with these remotes, and other lines. It finds out soon what is wrong.
pub(crate) fn edge(remotes: &str, more: &str) -> Result<Server> {
    Gateway::start(&format!(
        "server_name: edge\nlisten: \"127.0.0.1:<nats>\"\nhttp: \"127.0.0.1:<http>\"\nleafnodes {{ remotes: [ {remotes} ] }}\n{more}\n"
    ))
}

/// A remote at this address.
pub(crate) fn remote(scheme: &str, address: SocketAddr) -> String {
    format!("{{ url: \"{scheme}://{address}\", ignore_discovered_servers: true }}")
}

/// Asks until the answer is yes.
pub(crate) fn wait(what: &str, server: &Server, answer: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !answer()? {
        ensure!(Instant::now() < deadline, "not within {LIMIT:?}: {what}\n{}", server.log_tail());
        std::thread::sleep(AGAIN);
    }
    Ok(())
}

/// The links that a server has.
pub(crate) fn links(server: &Server) -> Result<Vec<Value>> {
    let page = http::get_json(server.address("http"), "/leafz")?;
    Ok(page["leafs"].as_array().cloned().unwrap_or_default())
}

/// Waits until a server has so many links.
pub(crate) fn wait_for_links(server: &Server, count: usize) -> Result<()> {
    wait(&format!("{count} links"), server, || Ok(links(server)?.len() == count))
}

/// A message from a client of one server reaches a client of the other: published until the interest has got across.
pub(crate) fn reaches(from: &Server, to: &Server, subject: &str) -> Result<()> {
    reaches_as((from, ANYBODY), (to, ANYBODY), subject)
}

/// The same with what each client says in its CONNECT.
pub(crate) fn reaches_as(from: (&Server, &str), to: (&Server, &str), subject: &str) -> Result<()> {
    let (mut subscriber, _) = RawNats::connect_with(to.0.address("nats"), to.1)?;
    subscriber.send(format!("SUB {subject} 1\r\n"))?;
    subscriber.flush()?;
    subscriber.set_limit(AGAIN * 10);
    let (mut publisher, _) = RawNats::connect_with(from.0.address("nats"), from.1)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        publisher.send(format!("PUB {subject} 2\r\nhi\r\n"))?;
        publisher.flush()?;
        // What comes may be a PING.
        if !subscriber.is_silent(AGAIN)?
            && let Ok(message) = subscriber.message()
        {
            ensure!(message.payload == b"hi", "{message:?}");
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("nothing on {subject} within {LIMIT:?}\n{}\n{}", from.0.log_tail(), to.0.log_tail());
        }
    }
}

/// Messages in both directions.
pub(crate) fn works_both_ways(edge: &Server, hub: &Server) -> Result<()> {
    reaches(edge, hub, "up.a")?;
    reaches(hub, edge, "down.a")
}
