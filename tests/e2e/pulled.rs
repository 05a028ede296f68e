//! A stock hub whose streams source and mirror the edge's through the link: whatever happens to the link and to either end, at the hub nothing
//! is missing, nothing is there twice, and the order is kept. Stock's own edge needs 30 to 40 seconds to go on after some of this.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Direction;
use harness::peers::{self, Peer};
use serde_json::Value;

use crate::forward::command;
use crate::hub::{Linked, ask};
use crate::load;

/// Far less than stock's, far more than a busy machine needs.
const GOES_ON_WITHIN: Duration = Duration::from_secs(20);
/// Streams at the hub: one sources the edge's, one mirrors it. Neither captures a subject.
const STREAMS: [(&str, &str); 2] = [("AGG", "sources"), ("MIR", "mirror")];

struct Run {
    linked: Linked,
    published: u64,
}

impl Run {
    fn start() -> Result<Run> {
        let linked = Linked::with(r#"streams { EV { subjects: ["ev.>"] } }"#)?;
        for (name, kind) in STREAMS {
            let origin = r#"{"name":"EV","external":{"api":"$JS.edge.API"}}"#;
            let origin = if kind == "sources" { format!("[{origin}]") } else { origin.to_owned() };
            let config = format!(r#"{{"name":"{name}","{kind}":{origin},"storage":"file"}}"#);
            let answer = ask(&linked.hub, &format!("$JS.API.STREAM.CREATE.{name}"), &config)?;
            ensure!(answer["error"].is_null(), "{answer}");
        }
        Ok(Run { linked, published: 0 })
    }

    /// So many messages more are stored at the edge.
    fn publish(&mut self, count: u64) -> Result<()> {
        let (told, acknowledged) = mpsc::channel();
        let numbers = self.published..self.published + count;
        self.published = numbers.end;
        load::publish_by_nats(self.linked.gateway.address("nats"), "ev.a", numbers, 64, &told);
        drop(told);
        ensure!(acknowledged.iter().count() as u64 == count, "the edge did not take {count} messages");
        Ok(())
    }

    /// Waits until the hub has as much as the edge.
    fn arrives(&self, after: &str) -> Result<()> {
        let since = Instant::now();
        for (name, _) in STREAMS {
            self.linked.wait(&format!("{after}: {name} has everything"), || {
                let info = ask(&self.linked.hub, &format!("$JS.API.STREAM.INFO.{name}"), "");
                Ok(info.is_ok_and(|info| info["state"]["messages"].as_u64() >= Some(self.published)))
            })?;
            println!("{after}: {name} caught up after {:.1?}", since.elapsed());
        }
        let took = since.elapsed();
        ensure!(took < GOES_ON_WITHIN, "{after}: only after {took:?}");
        Ok(())
    }

    /// Waits until the hub has everything, and checks it.
    fn catches_up(&self, after: &str) -> Result<()> {
        self.arrives(after)?;
        let edge = load::read_stream(self.linked.gateway.address("nats"), "$JS.API", "EV")?;
        for (name, kind) in STREAMS {
            let hub = load::read_stream(self.linked.hub.address("nats"), "$JS.API", name)?;
            load::same(&edge, &hub).with_context(|| format!("{after}: {kind}"))?;
        }
        Ok(())
    }

    /// Publishes while the link is down for so long.
    fn without_link(&mut self, pause: Duration) -> Result<()> {
        self.linked.link.cut();
        self.publish(200)?;
        thread::sleep(pause);
        self.linked.link.restore()
    }
}

#[test]
fn a_stock_hub_sources_and_mirrors_the_edge_through_everything() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run::start()?;
    run.publish(600)?;
    run.catches_up("at first")?;

    run.without_link(Duration::from_secs(1))?;
    run.catches_up("after a short cut")?;

    run.linked.link.cut_after(Direction::Up, 20_000);
    run.publish(200)?;
    run.linked.wait("enough has passed for the cut", || Ok(run.linked.link.is_cut()))?;
    run.linked.link.restore()?;
    run.catches_up("after a cut in the middle of messages")?;

    run.without_link(Duration::from_secs(13))?;
    run.catches_up("after a cut of 13 seconds")?;

    run.linked.hub.terminate()?;
    run.publish(200)?;
    run.linked.hub.restart()?;
    run.catches_up("after a restart of the hub")?;

    run.publish(200)?;
    run.linked.gateway.kill9()?;
    run.linked.gateway.restart()?;
    run.publish(200)?;
    run.catches_up("after the edge was killed")?;

    run.linked.gateway.terminate()?;
    run.linked.gateway.restart()?;
    run.publish(200)?;
    run.catches_up("after a restart of the edge")
}

/// A consumer of a hub is nobody's else business: it is not listed, and leaves the places for consumers to others. Who owns the box is told of it by
/// `status`, as of what streams here draw.
#[test]
fn consumers_of_hubs_are_not_listed_and_status_tells_of_both_directions() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run::start()?;
    let back = r#"{"name":"BACK","mirror":{"name":"AGG","external":{"api":"$JS.hub.API"}}}"#;
    let answer = ask(&run.linked.gateway, "$JS.API.STREAM.CREATE.BACK", back)?;
    ensure!(answer["error"].is_null(), "{answer}");
    run.publish(3)?;
    run.arrives("at first")?;
    let names = ask(&run.linked.gateway, "$JS.API.CONSUMER.NAMES.EV", "")?;
    let info = ask(&run.linked.gateway, "$JS.API.STREAM.INFO.EV", "")?;
    ensure!(names["total"] == 0 && info["state"]["consumer_count"] == 0, "{names} {info}");
    run.linked.wait("status tells of both directions", || {
        let status: Value = serde_json::from_str(&command(&run.linked.gateway, &["status", "--json"])?.success()?)?;
        let (origins, pulled) = (&status["origins"], &status["pulled"]);
        ensure!(origins.as_array().is_some_and(|all| all.len() == 1), "{origins}");
        let origin = &origins[0];
        ensure!(origin["stream"] == "BACK" && origin["origin"] == "AGG" && origin["mirror"] == true, "{origin}");
        ensure!(origin["api"] == "$JS.hub.API", "{origin}");
        let draws = |name: &str| {
            let done = |one: &Value| one["bound"] == true && one["delivered"] == 3 && one["pending"] == 0;
            let drawn = |one: &Value| one["stream"] == "EV" && one["to"] == name && done(one);
            pulled.as_array().is_some_and(|all| all.iter().any(drawn))
        };
        let has_come = origin["state"] == "receiving" && origin["sequence"] == 3 && origin["lag"] == 0;
        Ok(has_come && STREAMS.iter().all(|(name, _)| draws(name)))
    })
}
