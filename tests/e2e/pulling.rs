//! The edge's streams source and mirror a stock hub's through the link: whatever happens to the link and to either end, here nothing is missing, nothing
//! is there twice, and the order is kept.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::Direction;
use harness::peers::{self, Peer};
use serde_json::Value;

use crate::hub::{Linked, ask};
use crate::load;

/// Far more than a busy machine needs; stock waits 30 seconds and more after some of this.
const GOES_ON_WITHIN: Duration = Duration::from_secs(20);
/// Streams at the edge: one sources the hub's, one mirrors it, one mirrors that mirror.
const STREAMS: [&str; 3] = ["AGG", "MIR", "COPY"];
const BLOCKS: &str = r#"
streams {
  AGG { sources: [ { name: EV, domain: hub } ] }
  MIR { mirror { name: EV, domain: hub } }
  COPY { mirror { name: MIR } }
}
"#;

struct Run {
    linked: Linked,
    published: u64,
}

impl Run {
    fn start(config: &str) -> Result<Run> {
        let linked = Linked::with(BLOCKS)?;
        let run = Run { linked, published: 0 };
        run.make(config)?;
        Ok(run)
    }

    fn make(&self, config: &str) -> Result<()> {
        let answer = ask(&self.linked.hub, "$JS.API.STREAM.CREATE.EV", config)?;
        ensure!(answer["error"].is_null(), "{answer}");
        Ok(())
    }

    /// So many messages more are stored at the hub.
    fn publish(&mut self, count: u64) -> Result<()> {
        let (told, acknowledged) = mpsc::channel();
        let numbers = self.published..self.published + count;
        self.published = numbers.end;
        load::publish_by_nats(self.linked.hub.address("nats"), "ev.a", numbers, 64, &told);
        drop(told);
        ensure!(acknowledged.iter().count() as u64 == count, "the hub did not take {count} messages");
        Ok(())
    }

    fn info(&self, name: &str) -> Result<Value> {
        ask(&self.linked.gateway, &format!("$JS.API.STREAM.INFO.{name}"), "")
    }

    /// Waits until the edge has as much as the hub.
    fn arrives(&self, after: &str) -> Result<()> {
        let since = Instant::now();
        for name in STREAMS {
            self.linked.wait(&format!("{after}: {name} has everything"), || {
                Ok(self.info(name).is_ok_and(|info| info["state"]["messages"].as_u64() >= Some(self.published)))
            })?;
            println!("{after}: {name} caught up after {:.1?}", since.elapsed());
        }
        let took = since.elapsed();
        ensure!(took < GOES_ON_WITHIN, "{after}: only after {took:?}");
        Ok(())
    }

    fn catches_up(&self, after: &str) -> Result<()> {
        self.arrives(after)?;
        let hub = load::read_stream(self.linked.hub.address("nats"), "$JS.API", "EV")?;
        for name in STREAMS {
            let edge = load::read_stream(self.linked.gateway.address("nats"), "$JS.API", name)?;
            load::same(&edge, &hub).with_context(|| format!("{after}: {name}"))?;
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
fn the_edge_sources_and_mirrors_a_stock_hub_through_everything() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run::start(r#"{"name":"EV","subjects":["ev.>"],"storage":"file"}"#)?;
    run.publish(600)?;
    run.catches_up("at first")?;
    let info = run.info("MIR")?;
    let mirror = &info["mirror"];
    ensure!(mirror["name"] == "EV" && mirror["external"]["api"] == "$JS.hub.API" && mirror["lag"] == 0, "{info}");

    run.without_link(Duration::from_secs(1))?;
    run.catches_up("after a short cut")?;

    run.linked.link.cut_after(Direction::Down, 20_000);
    run.publish(400)?;
    run.linked.wait("enough has passed for the cut", || Ok(run.linked.link.is_cut()))?;
    run.linked.link.restore()?;
    run.catches_up("after a cut in the middle of messages")?;

    run.without_link(Duration::from_secs(13))?;
    run.catches_up("after a cut of 13 seconds")?;

    run.linked.hub.terminate()?;
    run.linked.hub.restart()?;
    run.publish(200)?;
    run.catches_up("after a restart of the hub")?;

    run.publish(200)?;
    run.linked.gateway.kill9()?;
    run.publish(200)?;
    run.linked.gateway.restart()?;
    run.catches_up("after the edge was killed")?;

    run.linked.gateway.terminate()?;
    run.publish(200)?;
    run.linked.gateway.restart()?;
    run.publish(200)?;
    run.catches_up("after a restart of the edge")
}

/// What was not committed here must still be at the hub: its queue removes what was confirmed, and nothing else.
#[test]
fn a_work_queue_of_a_stock_hub_loses_nothing() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let linked = Linked::with("streams { AGG { sources: [ { name: EV, domain: hub } ] } }")?;
    let mut run = Run { linked, published: 0 };
    run.make(r#"{"name":"EV","subjects":["ev.>"],"storage":"file","retention":"workqueue"}"#)?;
    let holds = |run: &Run, after: &str| -> Result<()> {
        run.linked.wait(&format!("{after}: everything is here"), || {
            Ok(run.info("AGG").is_ok_and(|info| info["state"]["messages"].as_u64() >= Some(run.published)))
        })?;
        let stored = load::read_stream(run.linked.gateway.address("nats"), "$JS.API", "AGG")?;
        let numbers: Vec<u64> = stored.iter().map(|one| load::number_of(&one.payload)).collect::<Result<_>>()?;
        ensure!(numbers == (0..run.published).collect::<Vec<_>>(), "{after}: {numbers:?}");
        Ok(())
    };
    run.publish(300)?;
    holds(&run, "at first")?;
    run.linked.link.cut_after(Direction::Down, 20_000);
    run.publish(300)?;
    run.linked.wait("enough has passed for the cut", || Ok(run.linked.link.is_cut()))?;
    run.linked.link.restore()?;
    holds(&run, "after a cut in the middle of messages")?;
    run.publish(100)?;
    run.linked.gateway.kill9()?;
    run.publish(100)?;
    run.linked.gateway.restart()?;
    holds(&run, "after the edge was killed")?;
    run.linked.wait("the hub's queue is empty", || {
        Ok(ask(&run.linked.hub, "$JS.API.STREAM.INFO.EV", "")?["state"]["messages"] == 0)
    })
}

/// A consumer that was made at the hub beforehand: it is begun again behind what it has confirmed, after each cut, and loses nothing.
#[test]
fn a_consumer_made_at_the_hub_is_used() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run { linked: Linked::with("")?, published: 0 };
    run.make(r#"{"name":"EV","subjects":["ev.>"],"storage":"file"}"#)?;
    let consumer = r#"{"stream_name":"EV","config":{"durable_name":"EDGE","deliver_subject":"to.edge","ack_policy":"flow_control",
        "flow_control":true,"idle_heartbeat":1000000000,"max_ack_pending":1000}}"#;
    let answer = ask(&run.linked.hub, "$JS.API.CONSUMER.DURABLE.CREATE.EV.EDGE", consumer)?;
    ensure!(answer["error"].is_null(), "{answer}");
    let source = r#"{"name":"EV","external":{"api":"$JS.hub.API","deliver":""},"consumer":{"name":"EDGE","deliver_subject":"to.edge"}}"#;
    let config = format!(r#"{{"name":"AGG","sources":[{source}]}}"#);
    let answer = ask(&run.linked.gateway, "$JS.API.STREAM.CREATE.AGG", &config)?;
    ensure!(answer["error"].is_null(), "{answer}");
    for after in ["at first", "after a cut"] {
        run.publish(300)?;
        run.linked.wait(&format!("{after}: everything is here"), || {
            Ok(run.info("AGG")?["state"]["messages"].as_u64() >= Some(run.published))
        })?;
        run.linked.link.cut();
        run.publish(100)?;
        run.linked.link.restore()?;
    }
    run.linked.wait("everything is here at last", || {
        Ok(run.info("AGG")?["state"]["messages"].as_u64() >= Some(run.published))
    })?;
    let stored = load::read_stream(run.linked.gateway.address("nats"), "$JS.API", "AGG")?;
    let numbers: Vec<u64> = stored.iter().map(|one| load::number_of(&one.payload)).collect::<Result<_>>()?;
    ensure!(numbers == (0..run.published).collect::<Vec<_>>(), "{numbers:?}");
    Ok(())
}
