//! nats-py and nats.js (TCP and WebSocket) against the gateway: core messages, streams, consumers, buckets.

use std::time::Duration;

use anyhow::Result;
use harness::peers::{self, Peer};
use harness::{Gateway, node, python};

/// An interpreter takes a second to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn nats_py() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = python::run("edge_nats.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "core\nstream\nconsumer\nremoved\n");
    Ok(())
}

#[test]
fn nats_py_works_off_queues() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = python::run("edge_queues.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "work queue\ninterest\nmemory\n");
    Ok(())
}

#[test]
fn nats_py_mirrors_and_sources() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = python::run("edge_origins.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "mirror\nsources\nbucket\n");
    Ok(())
}

#[test]
fn nats_js_by_tcp_and_websocket() -> Result<()> {
    if !peers::available(Peer::NatsJs) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let websocket = format!("ws://{}", gateway.address("websocket"));
    let said = node::run("edge_nats.mjs", &[&gateway.url(), &websocket], LIMIT)?.success()?;
    assert_eq!(said, "core\nstream\nconsumer\nremoved\n".repeat(2));
    Ok(())
}

#[test]
fn buckets_of_nats_py() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = python::run("edge_buckets.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "values\nwatch\nrepublished\nobjects\n");
    Ok(())
}

#[test]
fn push_consumers_of_nats_py() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = python::run("edge_push.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "plain\ndurable\ngroup\nflow\nordered\n");
    Ok(())
}

#[test]
fn push_consumers_and_buckets_of_nats_js() -> Result<()> {
    if !peers::available(Peer::NatsJs) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = node::run("edge_buckets.mjs", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "push\nordered\nvalues\nwatch\n");
    Ok(())
}

#[test]
fn nats_py_is_told_what_it_may_not() -> Result<()> {
    if !peers::available(Peer::NatsPy) {
        return Ok(());
    }
    let users = "authorization { users: [ { user: u, password: p, permissions { publish: \"open.>\", subscribe: \"open.>\" } } ] }\n";
    let gateway = Gateway::start(&format!("{}{users}", Gateway::PLAIN))?;
    let said = python::run("edge_permissions.py", &[&gateway.url()], LIMIT)?.success()?;
    assert_eq!(said, "refused and still there\n");
    Ok(())
}
