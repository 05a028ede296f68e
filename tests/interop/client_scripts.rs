//! Whole tours of nats-py and nats.js, step by step against the gateway and against stock nats-server: both serve every step.

use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, StockHub, node, python};

/// An interpreter takes a second to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

const CONFIGURATION: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 64MB }
"#;

/// Runs the script against both at once; each says the names of all steps.
fn serves(client: Peer, script: &str, steps: &str) -> Result<()> {
    if !peers::available(client) || !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let (gateway, stock) = (Gateway::start(CONFIGURATION)?, StockHub::start(CONFIGURATION)?);
    let tour = |url: String| match client {
        Peer::NatsJs => node::run(script, &[&url], LIMIT)?.success(),
        _ => python::run(script, &[&url], LIMIT)?.success(),
    };
    let (ours, stocks) = std::thread::scope(|scope| {
        let stocks = scope.spawn(|| tour(stock.url()));
        (tour(gateway.url()), stocks.join())
    });
    let stocks = stocks.map_err(|_| anyhow!("a thread panicked"))?;
    for (who, said) in [("ours", ours), ("stock", stocks)] {
        let said = said.map_err(|error| error.context(who))?.lines().collect::<Vec<_>>().join(" ");
        ensure!(said == steps, "{who}: {said}");
    }
    Ok(())
}

#[test]
fn streams_of_nats_py() -> Result<()> {
    let steps = "changes rollup full forms closed direct removed limits expected lives counters batches fast schedules \
                 levels moved";
    serves(Peer::NatsPy, "stream_kinds.py", steps)
}

#[test]
fn consumers_of_nats_py() -> Result<()> {
    let steps = "starts acknowledged requests forms paused idle updated pushed groups told";
    serves(Peer::NatsPy, "consumer_kinds.py", steps)
}

#[test]
fn buckets_of_nats_py() -> Result<()> {
    serves(Peer::NatsPy, "buckets_whole.py", "values watched lives told copies objects")
}

#[test]
fn services_of_nats_py() -> Result<()> {
    serves(Peer::NatsPy, "services.py", "requests errors discovery counted stopped")
}

#[test]
fn streams_of_nats_js() -> Result<()> {
    let steps = "retention limits rollup paths direct removed expected lives counters schedules account";
    serves(Peer::NatsJs, "stream_kinds.mjs", steps)
}

#[test]
fn batches_of_nats_js() -> Result<()> {
    serves(Peer::NatsJs, "edge_batches.mjs", "atomic fast refused")
}

#[test]
fn consumers_of_nats_js() -> Result<()> {
    let steps = "starts acknowledged requests forms paused updated pushed prioritized told";
    serves(Peer::NatsJs, "consumer_kinds.mjs", steps)
}

#[test]
fn buckets_of_nats_js() -> Result<()> {
    serves(Peer::NatsJs, "buckets_whole.mjs", "values watched lives told copies objects links")
}

#[test]
fn services_of_nats_js() -> Result<()> {
    serves(Peer::NatsJs, "services.mjs", "requests errors discovery counted stopped")
}
