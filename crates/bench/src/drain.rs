//! A backlog that was stored while the hub was away, and how fast it goes up when the hub is back.
//!
//! Ours pushes it with `forward`; a stock edge has it pulled by a `source` of the hub's stream. The rate is the hub's: from
//! the time it gave its first message to that of its last, so that no dialling and no polling of ours is in it.
//!
//! The other two rows have both drained by the hub alike, by a source or a mirror. A mirror's messages keep their times, so what is
//! measured there is when the first of them was seen at the hub, and the last.

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
/// A stock hub asks a source again after up to 38 s of silence.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the hub is asked; seldom enough to cost it nothing.
const LOOK: Duration = Duration::from_millis(50);

/// Messages that arrive are the operations; CPU and memory are the edge's.
pub(crate) fn run(side: Side, scale: f64) -> Result<Outcome> {
    let backlog = ((BACKLOG * scale) as u64).max(2);
    let mut hub = StockHub::start(StockHub::PLAIN)?;
    create_hub_stream(&hub, side)?;
    let leaf = hub.address("leaf");
    hub.terminate()?;
    let edge = side.start_with(&configuration(side, &leaf.to_string()))?;
    if side != Side::Ours {
        jetstream::create_stream(&edge, &["bench.>"])?;
    }
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
    let mut hub = StockHub::start(StockHub::PLAIN)?;
    let origin = json!({ "name": jetstream::STREAM, "external": { "api": "$JS.bench.API", "deliver": "" } });
    let config = match draws {
        Draws::Source => json!({ "name": "FLEET", "storage": "file", "sources": [origin] }),
        Draws::Mirror => json!({ "name": "FLEET", "storage": "file", "mirror": origin }),
    };
    Wire::connect(hub.address("nats"))?.request("$JS.API.STREAM.CREATE.FLEET", &config.to_string())?;
    let leaf = hub.address("leaf");
    hub.terminate()?;
    let link = format!(
        "leafnodes {{ remotes: [ {{ url: \"nats-leaf://{leaf}\" }} ] }}\n{}",
        if side == Side::Ours { "uplink { reconnect { min: \"1s\", max: \"2s\" } }\n" } else { "" }
    );
    let edge = side.start_with(&link)?;
    jetstream::create_stream(&edge, &["bench.>"])?;
    jetstream::fill(&edge, backlog, SUBJECTS)?;
    let before = Usage::of(&edge)?;
    hub.restart()?;
    let rate = seen_at(&hub, backlog)?;
    let after = Usage::of(&edge)?;
    Ok(Outcome::from([
        (Figure::Cpu, (after.cpu - before.cpu) * 1e6 / backlog as f64),
        (Figure::Rate, rate),
        (Figure::Memory, after.rss as f64 / 1024.0),
    ]))
}

/// Messages a second, from those that were seen first to the last.
fn seen_at(hub: &Server, backlog: u64) -> Result<f64> {
    let mut wire = Wire::connect(hub.address("nats"))?;
    let begin = stopwatch::now();
    let mut first = None;
    loop {
        let state = wire.request("$JS.API.STREAM.INFO.FLEET", "")?["state"].clone();
        let there = state["messages"].as_u64().unwrap_or(0);
        ensure!(there <= backlog, "more arrived than {backlog}: {state}");
        if there > 0 {
            let (seen, since) = *first.get_or_insert_with(|| (there, stopwatch::now()));
            if there == backlog {
                return Ok((backlog - seen) as f64 / since.elapsed().as_secs_f64());
            }
        }
        if begin.elapsed() > PATIENCE {
            bail!("of {backlog} messages only {there} arrived in {PATIENCE:?}");
        }
        thread::sleep(LOOK);
    }
}

fn configuration(side: Side, leaf: &str) -> String {
    let link = format!("leafnodes {{ remotes: [ {{ url: \"nats-leaf://{leaf}\" }} ] }}\n");
    if side != Side::Ours {
        return link;
    }
    link + "streams { BENCH { subjects: [\"bench.>\"] } }\n\
            forward { BENCH { to: FLEET, prefix: edge, domain: hub } }\n\
            uplink { reconnect { min: \"1s\", max: \"2s\" } }\n"
}

fn create_hub_stream(hub: &Server, side: Side) -> Result<()> {
    let config = if side == Side::Ours {
        json!({ "name": "FLEET", "subjects": ["edge.>"], "storage": "file", "allow_atomic": true, "allow_batched": true })
    } else {
        json!({ "name": "FLEET", "storage": "file",
            "sources": [{ "name": jetstream::STREAM, "external": { "api": "$JS.bench.API", "deliver": "" } }] })
    };
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
