//! A backlog at an edge, and how fast it goes up.
//!
//! Ours pushes it with `forward` when a hub that was away is back; the rate is the hub's: from the time it gave its first message to that of its
//! last, so that no dialling is in it. A stock edge can't push: against it the hub draws.
//!
//! The other two rows have both drained by the hub alike, by a source or a mirror that is made when the link is up and the backlog there: a hub
//! that asks before the link is up asks again after 38 s, and later each time. The rate is that of what was seen at the hub from its first message on.
//! The hub's own CPU is told beside it: with two cores it is what the rate ends at.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::{Server, StockHub};
use serde_json::{Value, json};

use crate::outcome::{Figure, Outcome};
use crate::side::Side;
use crate::usage::Usage;
use crate::wire::Wire;
use crate::{jetstream, stopwatch};

/// Messages at scale 1.
const BACKLOG: f64 = 500_000.0;
const SUBJECTS: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the hub is asked; seldom enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(50);

/// Messages that arrive are the operations; CPU and memory are the edge's.
pub(crate) fn run(side: Side, scale: f64) -> Result<Outcome> {
    if side != Side::Ours {
        return pulled(side, Draws::Source, scale);
    }
    let backlog = ((BACKLOG * scale) as u64).max(2);
    let mut hub = StockHub::start(StockHub::PLAIN)?;
    create_hub_stream(&hub)?;
    let leaf = hub.address("leaf");
    hub.terminate()?;
    let edge = side.start_with(&configuration(&leaf.to_string()))?;
    jetstream::fill(&edge, backlog, SUBJECTS)?;
    let before = Usage::of(&edge)?;
    hub.restart()?;
    let seconds = wait_for(&hub, backlog)?;
    let after = Usage::of(&edge)?;
    Ok(Outcome::from([
        (Figure::Cpu, (after.cpu - before.cpu) * 1e6 / backlog as f64),
        (Figure::Rate, (backlog - 1) as f64 / seconds),
        (Figure::Memory, after.rss as f64 / 1024.0),
    ]))
}

/// How a hub draws.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draws {
    /// A stream that sources the edge's.
    Source,
    /// A stream that is a mirror of the edge's.
    Mirror,
}

/// The same, drawn by the hub whoever the edge is.
pub(crate) fn pulled(side: Side, draws: Draws, scale: f64) -> Result<Outcome> {
    let backlog = ((BACKLOG * scale) as u64).max(2);
    let hub = StockHub::start(StockHub::PLAIN)?;
    let edge =
        side.start_with(&format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://{}\" }} ] }}\n", hub.address("leaf")))?;
    jetstream::create_stream(&edge, &["bench.>"])?;
    jetstream::fill(&edge, backlog, SUBJECTS)?;
    let mut wire = Wire::connect(hub.address("nats"))?;
    let begin = stopwatch::now();
    while wire.request(&format!("$JS.bench.API.STREAM.INFO.{}", jetstream::STREAM), "").is_err() {
        ensure!(begin.elapsed() < PATIENCE, "the hub does not reach the edge");
        thread::sleep(LOOK);
        wire = Wire::connect(hub.address("nats"))?;
    }
    let before = Usage::of(&edge)?;
    wire.request("$JS.API.STREAM.CREATE.FLEET", &drawing(draws).to_string())?;
    let (rate, hub_cpu) = seen_at(&hub, backlog)?;
    let after = Usage::of(&edge)?;
    Ok(Outcome::from([
        (Figure::Cpu, (after.cpu - before.cpu) * 1e6 / backlog as f64),
        (Figure::HubCpu, hub_cpu),
        (Figure::Rate, rate),
        (Figure::Memory, after.rss as f64 / 1024.0),
    ]))
}

fn drawing(draws: Draws) -> Value {
    let origin = json!({ "name": jetstream::STREAM, "external": { "api": "$JS.bench.API", "deliver": "" } });
    match draws {
        Draws::Source => json!({ "name": "FLEET", "storage": "file", "sources": [origin] }),
        Draws::Mirror => json!({ "name": "FLEET", "storage": "file", "mirror": origin }),
    }
}

/// Messages a second, from those that were seen first to the last, and the hub's CPU for one of them, microseconds.
fn seen_at(hub: &Server, backlog: u64) -> Result<(f64, f64)> {
    let mut wire = Wire::connect(hub.address("nats"))?;
    let begin = stopwatch::now();
    let mut first = None;
    loop {
        let state = wire.request("$JS.API.STREAM.INFO.FLEET", "")?["state"].clone();
        let there = state["messages"].as_u64().unwrap_or(0);
        ensure!(there <= backlog, "more arrived than {backlog}: {state}");
        if there > 0 {
            if first.is_none() {
                first = Some((there, stopwatch::now(), Usage::of(hub)?.cpu));
            }
            if let Some((seen, since, cpu)) = first.filter(|_| there == backlog) {
                let drawn = (backlog - seen).max(1) as f64;
                return Ok((drawn / since.elapsed().as_secs_f64(), (Usage::of(hub)?.cpu - cpu) * 1e6 / drawn));
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("of {backlog} messages only {there} arrived in {PATIENCE:?}");
        }
        thread::sleep(LOOK);
    }
}

fn configuration(leaf: &str) -> String {
    format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://{leaf}\" }} ] }}\n")
        + "streams { BENCH { subjects: [\"bench.>\"] } }\n\
           forward { BENCH { to: FLEET, prefix: edge, domain: hub } }\n\
           uplink { reconnect { min: \"1s\", max: \"2s\" } }\n"
}

fn create_hub_stream(hub: &Server) -> Result<()> {
    let config = json!({ "name": "FLEET", "subjects": ["edge.>"], "storage": "file", "allow_atomic": true, "allow_batched": true });
    Wire::connect(hub.address("nats"))?.request("$JS.API.STREAM.CREATE.FLEET", &config.to_string())?;
    Ok(())
}

/// Seconds from the first message at the hub to the last.
fn wait_for(hub: &Server, backlog: u64) -> Result<f64> {
    let mut wire = Wire::connect(hub.address("nats"))?;
    let begin = stopwatch::now();
    loop {
        let state = wire.request("$JS.API.STREAM.INFO.FLEET", "")?["state"].clone();
        if state["messages"].as_u64() >= Some(backlog) {
            ensure!(state["messages"].as_u64() == Some(backlog), "more arrived than {backlog}: {state}");
            return Ok(seconds_of_day(&state["last_ts"])? - seconds_of_day(&state["first_ts"])?);
        }
        if begin.elapsed() > PATIENCE {
            bail!("of {backlog} messages only {} arrived in {PATIENCE:?}", state["messages"]);
        }
        thread::sleep(LOOK);
    }
}

/// `2026-11-21T13:42:35.123456789Z`; a run over midnight gives a difference that nobody would believe.
fn seconds_of_day(timestamp: &Value) -> Result<f64> {
    let text = timestamp.as_str().context("a time of the stream's state")?;
    let time = text.split('T').nth(1).context("a date without a time")?.trim_end_matches('Z');
    time.split(':').try_fold(0.0, |sum, part| Ok(sum * 60.0 + part.parse::<f64>()?))
}
