//! Generated stories played to the gateway and to stock nats-server: the same answers, deliveries and status lines, field by field.
//!
//! A story is drawn from a seed and knows nothing of the answers. When the two differ, the story is played again (a difference that does not come
//! twice was one of moments), made as short as it can be, and shown with both sides. `TRIBUTARY_DIFFERENTIAL` is the number of steps of a longer run,
//! `TRIBUTARY_SEED` another beginning. What is not compared is in `known`, with its reasons.

mod behaviour;
mod bodies;
mod known;
mod moment;
mod normal;
mod random;
mod side;
mod step;
mod story;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, Server, StockHub};

use side::Side;
use step::{Expects, Step};

const CONFIGURATION: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 256MB }
"#;
/// How often a request that changes nothing is asked until both answer the same.
const READS: usize = 10;
/// Steps of a run, unless told: about a minute, most of it waiting for what comes by itself.
const STEPS: usize = 1200;
/// Steps of a story: enough for something to come of it, few enough to be played again and again.
const STORY: usize = 60;
/// A run ends with so many differences.
const MOST_DIFFERENCES: u64 = 6;
/// Nothing from either side for so long is an answer too.
const SILENCE: Duration = Duration::from_millis(150);
/// How long one side may be behind the other.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long two streams that take from others may tell different things.
const SETTLING: Duration = Duration::from_secs(5);
/// How long a stream may take until it first hears of its origin.
const FIRST_TAKE: Duration = Duration::from_millis(1500);
/// In the info of one that has not.
const NOT_YET_TAKING: &str = "\"active\":false";
/// Between two looks at them.
const BETWEEN_LOOKS: Duration = Duration::from_millis(60);
/// Within this a heartbeat of every tenth of a second comes, also from a machine with much to do.
const HEARTBEATS: Duration = Duration::from_millis(350);
/// Playing a story again to shorten it ends after this.
const SHORTENING: Duration = Duration::from_secs(40);

/// What stock says when a stream is made again while what it was is still being removed.
const NO_STORE: &str = "error creating store for stream";

type Log = BTreeMap<String, Vec<String>>;

/// A step after which the two are not alike.
struct Difference {
    at: usize,
    ours: Log,
    stock: Log,
}

struct Pair {
    ours: Side,
    stock: Side,
    /// Counts stories played, so that no inbox comes twice.
    played: usize,
    /// What both said last was that a stream does not take from its origin yet.
    waits: bool,
    _servers: [Server; 2],
}

impl Pair {
    fn start() -> Result<Pair> {
        let servers = [Gateway::start(CONFIGURATION)?, StockHub::start(CONFIGURATION)?];
        let (ours, stock) = (Side::new(servers[0].address("nats"))?, Side::new(servers[1].address("nats"))?);
        Ok(Pair { ours, stock, played: 0, waits: false, _servers: servers })
    }

    fn play(&mut self, steps: &[Step]) -> Result<Option<Difference>> {
        self.ours.begin()?;
        self.stock.begin()?;
        self.played += 1;
        for (at, step) in steps.iter().enumerate() {
            let tries = if step.only_reads() { READS } else { 3 };
            for attempt in 1..=tries {
                let reply = format!("{}.{at}.{attempt}", self.played);
                let difference = match step {
                    Step::Settle { stream, millis } => self.settle(&reply, stream, Duration::from_millis(*millis))?,
                    _ => self.take(&reply, &moment::of_now(step))?,
                };
                let Some((ours, stock)) = difference else { break };
                if attempt == tries
                    || !(step.only_reads() || stock.values().flatten().any(|entry| entry.contains(NO_STORE)))
                {
                    return Ok(Some(Difference { at, ours, stock }));
                }
                // What the one does at once and the other within a second or so is told by one of the last.
                std::thread::sleep(Duration::from_millis(if attempt < READS / 2 { 30 } else { 300 }));
            }
        }
        Ok(None)
    }

    /// Does one step on both sides; what came there when it is not the same.
    fn take(&mut self, reply: &str, step: &Step) -> Result<Option<(Log, Log)>> {
        self.ours.perform(reply, step).with_context(|| format!("ours: {step}"))?;
        self.stock.perform(reply, step).with_context(|| format!("stock: {step}"))?;
        let expects = match step {
            Step::Ask { expects, .. } => *expects,
            Step::Acknowledge { asks: true, .. } => Expects::One,
            _ => Expects::Open,
        };
        match step {
            Step::Wait { millis } => std::thread::sleep(Duration::from_millis(*millis)),
            Step::Heartbeats => self.hear_heartbeats()?,
            _ => {}
        }
        let settled = Duration::from_millis(if expects == Expects::Open { 4 } else { 1 });
        let started = Instant::now();
        loop {
            self.ours.read()?;
            self.stock.read()?;
            let (ours, stock, passed) = (&self.ours.log, &self.stock.log, started.elapsed());
            let met = |log: &Log| expects.are_met(log.get(reply).map_or(&[], |entries| &entries[..]));
            let is_over = if ours == stock {
                (met(ours) && met(stock) && passed > settled) || passed > SILENCE
            } else {
                passed > PATIENCE || contradict(ours, stock)
            };
            if is_over {
                let (ours, stock) = (std::mem::take(&mut self.ours.log), std::mem::take(&mut self.stock.log));
                self.waits = ours.values().flatten().any(|entry| entry.contains(NOT_YET_TAKING));
                return Ok((ours != stock).then_some((ours, stock)));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until both tell the same of a stream for some time; what they tell when they do not.
    fn settle(&mut self, reply: &str, stream: &str, least: Duration) -> Result<Option<(Log, Log)>> {
        std::thread::sleep(least);
        let (started, mut alike) = (Instant::now(), 0);
        for attempt in 0.. {
            let step = Step::ask(format!("$JS.API.STREAM.INFO.{stream}"), "");
            match self.take(&format!("{reply}.{attempt}"), &step)? {
                // An origin that is not there is never taken from.
                None if self.waits && started.elapsed() < FIRST_TAKE => alike = 0,
                None if alike >= 2 => break,
                None => alike += 1,
                Some(difference) if started.elapsed() > SETTLING => return Ok(Some(difference)),
                Some(_) => alike = 0,
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(None)
    }

    /// Takes the heartbeats of some time into what is compared: the last of each subscription.
    fn hear_heartbeats(&mut self) -> Result<()> {
        for side in [&mut self.ours, &mut self.stock] {
            side.read()?;
            side.heartbeats.clear();
        }
        std::thread::sleep(HEARTBEATS);
        for side in [&mut self.ours, &mut self.stock] {
            side.read()?;
            let heard = std::mem::take(&mut side.heartbeats);
            side.log.extend(heard.into_iter().map(|(key, entries)| (format!("heartbeat {key}"), entries)));
        }
        Ok(())
    }

    /// Leaves out what the difference does not need.
    fn shorten(&mut self, mut steps: Vec<Step>, mut difference: Difference) -> Result<(Vec<Step>, Difference)> {
        let started = Instant::now();
        steps.truncate(difference.at + 1);
        let mut part = steps.len() / 2;
        while part > 0 && started.elapsed() < SHORTENING {
            let mut at = 0;
            // The last one is where it shows.
            while at + part < steps.len() && started.elapsed() < SHORTENING {
                let mut fewer = steps.clone();
                fewer.drain(at..at + part);
                // What one of them does not answer in time is no shorter story, and neither is a difference of moments.
                let found = self.play(&fewer).unwrap_or_default();
                let found = found.and_then(|_| self.play(&fewer).unwrap_or_default());
                match found {
                    Some(found) => {
                        fewer.truncate(found.at + 1);
                        (steps, difference) = (fewer, found);
                    }
                    None => at += part,
                }
            }
            part /= 2;
        }
        Ok((steps, difference))
    }
}

/// Can it not become the same by waiting any more?
fn contradict(ours: &Log, stock: &Log) -> bool {
    let differs = |(key, entries): (&String, &Vec<String>)| {
        let others = stock.get(key).map_or(&[][..], |others| &others[..]);
        entries.iter().zip(others).any(|(one, other)| one != other)
    };
    ours.iter().any(differs)
}

fn show(seed: u64, steps: &[Step], difference: &Difference) -> String {
    let mut text = format!("\nTRIBUTARY_SEED={seed}, {} steps:\n", steps.len());
    for step in steps {
        let _ = writeln!(text, "  {step}");
    }
    for (name, log, other) in
        [("ours", &difference.ours, &difference.stock), ("stock", &difference.stock, &difference.ours)]
    {
        for (key, entries) in log.iter().filter(|(key, entries)| other.get(*key) != Some(*entries)) {
            for entry in entries {
                let _ = writeln!(text, "{name:5} {key}: {entry}");
            }
        }
        if log.is_empty() {
            let _ = writeln!(text, "{name:5} nothing");
        }
    }
    text
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn stories_end_the_same() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let (seed, steps) = (number("TRIBUTARY_SEED", 1), number("TRIBUTARY_DIFFERENTIAL", STEPS as u64) as usize);
    let mut pair = Pair::start()?;
    let (mut found, mut done, mut moments) = (Vec::new(), 0, 0);
    for story in seed.. {
        if done >= steps || found.len() >= number("TRIBUTARY_DIFFERENCES", MOST_DIFFERENCES) as usize {
            break;
        }
        let steps = story::story(story, STORY);
        done += steps.len();
        let seed = || format!("TRIBUTARY_SEED={story}");
        if pair.play(&steps).with_context(seed)?.is_none() {
            continue;
        }
        match pair.play(&steps).with_context(seed)? {
            Some(again) => {
                let (steps, difference) = pair.shorten(steps, again)?;
                let text = show(story, &steps, &difference);
                println!("{text}");
                found.push(text);
            }
            None => moments += 1,
        }
    }
    println!("{done} steps from TRIBUTARY_SEED={seed} on; {moments} stories differed once and not again");
    ensure!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    Ok(())
}
