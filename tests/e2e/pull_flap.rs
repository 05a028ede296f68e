//! The main promise the other way round: a stock hub's streams source and mirror the edge's, and whatever the link, the edge and the hub go through,
//! at the hub nothing acknowledged is missing, nothing is there twice, and the order is kept. A work queue gives nothing up that the hub has not got.
//!
//! `TRIBUTARY_FLAP=full` is the long form (100,000 messages, 40 faults), `TRIBUTARY_SEED` another order of events. The seed is printed, and how long it took
//! after each fault until the first new message was at the hub. A stock edge needs up to 40 seconds for that.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Direction, Server, StockHub, http};
use serde_json::Value;

use crate::hub::{Linked, ask};
use crate::load::{self, Dice, Pending, Stored};

/// Far less than stock's, far more than a busy machine needs.
const GOES_ON_WITHIN: Duration = Duration::from_secs(20);
/// A hub's requests get lost when the link is down for longer than its own patience, 10 seconds.
const LONG: Duration = Duration::from_millis(12_500);

/// What happens while a part of the messages is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    LongCut,
    Blackhole,
    /// In the middle of whatever passes.
    CutUp,
    CutDown,
    Flap,
    KillGateway,
    RestartGateway,
    RestartHub,
    KillHub,
}

const FAULTS: [Fault; 10] = [
    Fault::CutUp,
    Fault::Cut,
    Fault::KillGateway,
    Fault::Blackhole,
    Fault::RestartHub,
    Fault::LongCut,
    Fault::CutDown,
    Fault::Flap,
    Fault::RestartGateway,
    Fault::KillHub,
];
/// What the hub says it has stored, and has not given to its disk, a `kill -9` of it takes: of a work queue that is gone here as well.
const FAULTS_OF_QUEUE: [Fault; 9] = [
    Fault::CutUp,
    Fault::Cut,
    Fault::KillGateway,
    Fault::Blackhole,
    Fault::RestartHub,
    Fault::LongCut,
    Fault::CutDown,
    Fault::Flap,
    Fault::RestartGateway,
];

/// A stream of the edge, and those of the hub that draw from it: name and `sources` or `mirror`.
struct Setting {
    edge: &'static str,
    retention: &'static str,
    hub: &'static [(&'static str, &'static str)],
    faults: &'static [Fault],
}

const KEPT: Setting =
    Setting { edge: "EV", retention: "limits", hub: &[("AGG", "sources"), ("MIR", "mirror")], faults: &FAULTS };
const QUEUE: Setting =
    Setting { edge: "EV", retention: "workqueue", hub: &[("AGG", "sources")], faults: &FAULTS_OF_QUEUE };
const INTEREST: Setting = Setting { retention: "interest", ..QUEUE };

struct Run {
    setting: Setting,
    linked: Linked,
    dice: Dice,
    /// Messages acknowledged by the edge; all numbers below it.
    published: u64,
    /// After each fault: how long until the hub got something new.
    resumed: Vec<(Fault, Duration)>,
}

impl Run {
    fn start(setting: Setting, hub: Server, seed: u64) -> Result<Run> {
        let retention = setting.retention;
        let stream = format!("streams {{ EV {{ subjects: [\"ev.>\"], retention: {retention} }} }}");
        let linked = Linked::to(hub, &stream)?;
        for (name, kind) in setting.hub {
            create(&linked.hub, name, kind, setting.edge, 1)?;
        }
        let run = Run { setting, linked, dice: Dice::new(seed), published: 0, resumed: Vec::new() };
        // An interest stream keeps nothing before the hub is known.
        for (name, kind) in run.setting.hub {
            run.linked.wait("the hub draws", || {
                let info = info(&run.linked.hub, name)?;
                let origin = if *kind == "sources" { &info["sources"][0] } else { &info["mirror"] };
                Ok(origin["active"].as_i64().is_some_and(|active| active >= 0))
            })?;
        }
        Ok(run)
    }

    /// Publishes one part while something happens in its middle, and waits until the hub gets something new.
    fn part(&mut self, fault: Fault, count: u64) -> Result<()> {
        let dialled = self.linked.link.accepted();
        let mut pending = Pending::new(self.published..self.published + count);
        self.published += count;
        let mut happened = false;
        while !pending.is_done() {
            let address = self.linked.gateway.address("nats");
            let (told, acknowledged) = mpsc::channel();
            let publisher = thread::spawn(move || load::repeat_by_nats(address, "ev.a", pending, 64, &told));
            if !happened {
                for _ in 0..self.dice.below(count / 2) {
                    acknowledged.recv().context("the publisher gave up")?;
                }
                self.happen(fault)?;
                happened = true;
            }
            pending = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
        }
        self.recover(fault, dialled)
    }

    fn happen(&mut self, fault: Fault) -> Result<()> {
        let Linked { gateway, link, hub } = &mut self.linked;
        match fault {
            Fault::Cut | Fault::LongCut => link.cut(),
            Fault::Blackhole => link.blackhole(),
            Fault::CutUp => link.cut_after(Direction::Up, 1 + self.dice.below(60_000)),
            Fault::CutDown => link.cut_after(Direction::Down, 1 + self.dice.below(200)),
            Fault::Flap => link.flap(),
            Fault::KillGateway => {
                gateway.kill9()?;
                gateway.restart()?;
            }
            Fault::RestartGateway => {
                gateway.terminate()?;
                gateway.restart()?;
            }
            Fault::RestartHub => {
                hub.terminate()?;
                hub.restart()?;
            }
            Fault::KillHub => {
                hub.kill9()?;
                hub.restart()?;
            }
        }
        Ok(())
    }

    /// Proves that the fault happened, makes the link whole, waits until it was dialled again, and measures.
    fn recover(&mut self, fault: Fault, dialled: u64) -> Result<()> {
        let linked = &mut self.linked;
        if matches!(fault, Fault::CutUp | Fault::CutDown) {
            linked.wait("enough has passed for the cut", || Ok(linked.link.is_cut()))?;
        }
        if fault == Fault::Blackhole {
            linked.wait("the gateway gives the silent link up", || Ok(linked.link.accepted() > dialled))?;
        }
        thread::sleep(if fault == Fault::LongCut { LONG } else { Duration::from_millis(self.dice.below(400)) });
        let before: Vec<u64> = self.setting.hub.iter().map(|(name, _)| count(&linked.hub, name).unwrap_or(0)).collect();
        linked.link.restore()?;
        linked.wait("the link is dialled again", || Ok(linked.link.accepted() > dialled))?;
        let since = Instant::now();
        for ((name, _), before) in self.setting.hub.iter().zip(before) {
            let most = self.published;
            self.linked.wait("the hub gets something new", || {
                let now = count(&self.linked.hub, name).unwrap_or(0);
                Ok(now > before || now >= most)
            })?;
            let took = since.elapsed();
            ensure!(took < GOES_ON_WITHIN, "{fault:?}: {name} went on only after {took:?}");
            self.resumed.push((fault, took));
        }
        self.given_up_only_what_the_hub_has()
    }

    /// Asked first what is gone here, then what is there.
    fn given_up_only_what_the_hub_has(&self) -> Result<()> {
        let first =
            info(&self.linked.gateway, self.setting.edge)?["state"]["first_seq"].as_u64().context("no state")?;
        let there = count(&self.linked.hub, "AGG")?;
        ensure!(there + 1 >= first, "gone here up to {first}, there are {there} at the hub");
        Ok(())
    }

    /// Everything that the edge acknowledged is at the hub, in its order, and nothing else.
    fn verify(&mut self) -> Result<()> {
        let published = self.published;
        for (name, kind) in self.setting.hub {
            let linked = &self.linked;
            linked.wait("everything is at the hub", || Ok(count(&linked.hub, name).unwrap_or(0) >= published))?;
            let stored = load::read_stream(self.linked.hub.address("nats"), "$JS.API", name)?;
            self.check(&stored).with_context(|| format!("{name} ({kind})"))?;
        }
        if self.setting.retention != "limits" {
            let gone =
                self.linked.wait("what the hub has is gone here", || Ok(count(&self.linked.gateway, "EV")? == 0));
            gone.with_context(|| {
                let shown = http::get_json(self.linked.gateway.address("http"), "/jsz?consumers=true&config=true");
                format!("{:?}", shown.map(|shown| shown["account_details"].to_string()))
            })?;
        }
        let of = |fault: Fault| {
            let all = self.resumed.iter().filter(|(other, _)| *other == fault).map(|(_, took)| took.as_millis());
            all.max().map(|longest| format!("{fault:?} {longest} ms"))
        };
        let longest: Vec<String> = FAULTS.into_iter().filter_map(of).collect();
        println!(
            "{published} messages, {}; went on at the latest after: {}",
            self.setting.retention,
            longest.join(", ")
        );
        Ok(())
    }

    fn check(&self, stored: &[Stored]) -> Result<()> {
        for (index, message) in stored.iter().enumerate() {
            let number = load::number_of(&message.payload)?;
            ensure!(number == index as u64, "at {} is {number}, not {index}", message.sequence);
            ensure!(message.sequence == index as u64 + 1 && message.subject == "ev.a", "{index}: {message:?}");
        }
        ensure!(stored.len() as u64 == self.published, "{} of {}", stored.len(), self.published);
        Ok(())
    }
}

/// A stream at the hub that sources or mirrors one of the edge's.
pub(crate) fn create(hub: &Server, name: &str, kind: &str, origin: &str, replicas: u32) -> Result<()> {
    let origin = format!(r#"{{"name":"{origin}","external":{{"api":"$JS.edge.API"}}}}"#);
    let origin = if kind == "sources" { format!("[{origin}]") } else { origin };
    let config = format!(r#"{{"name":"{name}","{kind}":{origin},"storage":"file","num_replicas":{replicas}}}"#);
    let answer = ask(hub, &format!("$JS.API.STREAM.CREATE.{name}"), &config)?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(())
}

pub(crate) fn info(server: &Server, stream: &str) -> Result<Value> {
    let info = ask(server, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
    ensure!(info["error"].is_null(), "{info}");
    Ok(info)
}

/// Messages in a stream.
pub(crate) fn count(server: &Server, stream: &str) -> Result<u64> {
    info(server, stream)?["state"]["messages"].as_u64().context("no count")
}

/// Each fault once in CI; many, drawn at random, in the long form.
fn run(setting: Setting, hub: Server) -> Result<()> {
    let full = std::env::var("TRIBUTARY_FLAP").is_ok_and(|size| size == "full");
    let seed = std::env::var("TRIBUTARY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("TRIBUTARY_SEED={seed}");
    let (messages, parts) = if full { (100_000, 40) } else { (6_000, setting.faults.len()) };
    let mut plan = setting.faults.to_vec();
    let mut run = Run::start(setting, hub, seed)?;
    while plan.len() < parts {
        plan.push(plan[usize::try_from(run.dice.below(plan.len() as u64))?]);
    }
    for at in (1..plan.len()).rev() {
        plan.swap(at, usize::try_from(run.dice.below(at as u64 + 1))?);
    }
    for (part, fault) in plan.iter().enumerate() {
        run.part(*fault, messages / parts as u64)
            .with_context(|| format!("seed {seed}, part {part}, {fault:?}\n{}", run.linked.hub.log_tail()))?;
    }
    run.verify().with_context(|| format!("seed {seed}"))
}

#[test]
fn a_hub_that_sources_and_mirrors_has_everything_once_and_in_order() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    run(KEPT, StockHub::start(StockHub::PLAIN)?)
}

#[test]
fn a_hub_that_sources_a_work_queue_has_everything_before_it_is_gone_here() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    run(QUEUE, StockHub::start(StockHub::PLAIN)?)
}

#[test]
fn a_hub_that_sources_an_interest_stream_has_everything_before_it_is_gone_here() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    run(INTEREST, StockHub::start(StockHub::PLAIN)?)
}

/// Levels of 2.9: consumers without a name, no identity, nothing acknowledged but by empty answers to flow control.
#[test]
fn a_hub_of_debian_that_sources_and_mirrors_has_everything_once_and_in_order() -> Result<()> {
    if !peers::available(Peer::DebianNatsServer) {
        return Ok(());
    }
    run(KEPT, StockHub::start_debian(StockHub::PLAIN)?)
}

/// Whatever acknowledgement policy it asks for: 2.9 asks for none.
#[test]
fn a_hub_of_debian_that_sources_a_work_queue_has_everything_before_it_is_gone_here() -> Result<()> {
    if !peers::available(Peer::DebianNatsServer) {
        return Ok(());
    }
    run(QUEUE, StockHub::start_debian(StockHub::PLAIN)?)
}

#[test]
fn a_hub_of_debian_that_sources_an_interest_stream_has_everything_before_it_is_gone_here() -> Result<()> {
    if !peers::available(Peer::DebianNatsServer) {
        return Ok(());
    }
    run(INTEREST, StockHub::start_debian(StockHub::PLAIN)?)
}
