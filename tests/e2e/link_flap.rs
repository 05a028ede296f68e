//! The main promise: whatever the link, the gateway and the hub go through, at the hub nothing acknowledged is missing, nothing is
//! there twice, and the order is kept: the hub's stream is the edge's, message by message.
//!
//! Publishers repeat what was not acknowledged when the gateway was killed: by NATS with a message id, which the edge recognises; by MQTT at QoS 1, where a
//! message that was stored and not acknowledged is stored again. That is the protocol's, and what the edge acknowledged twice is twice at the hub.
//!
//! `TRIBUTARY_FLAP=full` is the long form (200,000 messages, 50 faults), `TRIBUTARY_SEED` another order of events. The seed and what happened are printed.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::Direction;
use harness::peers::{self, Peer};

use crate::hub::{Linked, ask};
use crate::load::{self, Acknowledged, Dice, Pending, Stored};

/// What happens while a part of the messages is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    Blackhole,
    /// In the middle of whatever passes.
    CutUp,
    CutDown,
    Flap,
    KillGateway,
    RestartHub,
    KillHub,
    PurgeHead,
}

/// Once each, and the first is no purge: nothing would be there.
const FAULTS: [Fault; 9] = [
    Fault::CutUp,
    Fault::Cut,
    Fault::KillGateway,
    Fault::Blackhole,
    Fault::PurgeHead,
    Fault::CutDown,
    Fault::RestartHub,
    Fault::Flap,
    Fault::KillHub,
];

/// The same, as often as each is to be drawn beyond that; purges happen once.
const MORE: [Fault; 10] = [
    Fault::CutUp,
    Fault::CutUp,
    Fault::CutDown,
    Fault::CutDown,
    Fault::Cut,
    Fault::Flap,
    Fault::Blackhole,
    Fault::KillGateway,
    Fault::RestartHub,
    Fault::KillHub,
];

struct Run {
    linked: Linked,
    dice: Dice,
    /// Of both publishers, by NATS and by MQTT.
    acknowledged: [Vec<Acknowledged>; 2],
    /// Numbers that were sent again.
    resent: [BTreeSet<u64>; 2],
    next: u64,
    /// What stood at the hub in front of the purge.
    purged: Vec<Stored>,
    /// Faults that had to end a connection of the link, and did.
    cuts: u64,
}

impl Run {
    /// Publishes one part while something happens in its middle.
    fn part(&mut self, fault: Fault, each: u64) -> Result<()> {
        let dialled = self.linked.link.accepted();
        let numbers = self.next..self.next + each;
        self.next = numbers.end;
        let mut pending = [Pending::new(numbers.clone()), Pending::new(numbers)];
        let mut happened = false;
        while pending.iter().any(|pending| !pending.is_done()) {
            for (resent, pending) in self.resent.iter_mut().zip(&pending) {
                resent.extend(pending.open());
            }
            let (nats, mqtt) = (self.linked.gateway.address("nats"), self.linked.gateway.address("mqtt"));
            let channels: [(Sender<Acknowledged>, Receiver<Acknowledged>); 2] = [mpsc::channel(), mpsc::channel()];
            let [(nats_told, nats_acks), (mqtt_told, mqtt_acks)] = channels;
            let [by_nats, by_mqtt] = pending;
            let publishers = [
                thread::spawn(move || load::repeat_by_nats(nats, "load.nats", by_nats, 64, &nats_told)),
                thread::spawn(move || load::repeat_by_mqtt(mqtt, "load/mqtt", by_mqtt, 64, &mqtt_told)),
            ];
            if !happened {
                for _ in 0..self.dice.below(each / 2) {
                    self.acknowledged[0].push(nats_acks.recv().context("the NATS publisher gave up")?);
                }
                self.happen(fault)?;
                happened = true;
            }
            let [by_nats, by_mqtt] = publishers.map(|publisher| {
                publisher.join().map_err(|_| anyhow::anyhow!("a publisher panicked")).and_then(|pending| pending)
            });
            pending = [by_nats?, by_mqtt?];
            self.acknowledged[0].extend(nats_acks.iter());
            self.acknowledged[1].extend(mqtt_acks.iter());
        }
        self.recover(fault, dialled)
    }

    fn happen(&mut self, fault: Fault) -> Result<()> {
        let Linked { gateway, link, hub } = &mut self.linked;
        match fault {
            Fault::Cut => link.cut(),
            Fault::Blackhole => link.blackhole(),
            Fault::CutUp => link.cut_after(Direction::Up, 1 + self.dice.below(60_000)),
            Fault::CutDown => link.cut_after(Direction::Down, 1 + self.dice.below(400)),
            Fault::Flap => link.flap(),
            Fault::KillGateway => {
                gateway.kill9()?;
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
            Fault::PurgeHead => self.purge_head()?,
        }
        Ok(())
    }

    /// Proves that the fault happened, makes the link whole, and waits until it was dialled again.
    fn recover(&mut self, fault: Fault, dialled: u64) -> Result<()> {
        if matches!(fault, Fault::CutUp | Fault::CutDown) {
            self.linked.wait("enough has passed for the cut", || Ok(self.linked.link.is_cut()))?;
        }
        if fault == Fault::Blackhole {
            // The gateway finds out by silence; what it dials next is swallowed too.
            self.linked.wait("the gateway gives the silent link up", || Ok(self.linked.link.accepted() > dialled))?;
        }
        thread::sleep(Duration::from_millis(self.dice.below(400)));
        self.linked.link.restore()?;
        if fault != Fault::PurgeHead {
            self.linked.wait("the link is dialled again", || Ok(self.linked.link.accepted() > dialled))?;
            self.cuts += 1;
        }
        Ok(())
    }

    fn purge_head(&mut self) -> Result<()> {
        let hub = &self.linked.hub;
        let stored = load::read_stream(hub.address("nats"), "$JS.API", "FLEET")?;
        let below = stored.get(stored.len() / 2).context("nothing is at the hub yet")?.sequence;
        let answer = ask(hub, "$JS.API.STREAM.PURGE.FLEET", &format!(r#"{{"seq":{below}}}"#))?;
        ensure!(answer["success"] == true, "{answer}");
        self.purged.extend(stored.into_iter().filter(|message| message.sequence < below));
        ensure!(!self.purged.is_empty(), "nothing was purged");
        Ok(())
    }

    /// Everything that the edge holds is at the hub, in its order, and nothing else.
    fn verify(self) -> Result<()> {
        let Linked { gateway, hub, .. } = &self.linked;
        let held = ask(gateway, "$JS.API.STREAM.INFO.TELEMETRY", "")?["state"]["messages"].clone();
        let held = held.as_u64().context("no count")?;
        let purged = self.purged.len() as u64;
        self.linked.wait("everything is at the hub", || {
            let info = ask(hub, "$JS.API.STREAM.INFO.FLEET", "")?;
            Ok(info["state"]["messages"].as_u64().unwrap_or(0) + purged >= held)
        })?;
        let edge = load::read_stream(gateway.address("nats"), "$JS.API", "TELEMETRY")?;
        let mut stored = self.purged;
        stored.extend(load::read_stream(hub.address("nats"), "$JS.API", "FLEET")?);
        for (index, (ours, theirs)) in edge.iter().zip(&stored).enumerate() {
            let is_same = theirs.subject == format!("edge1.{}", ours.subject) && theirs.payload == ours.payload;
            ensure!(is_same, "message {index} is {} here and {} at the hub", ours.sequence, theirs.sequence);
        }
        ensure!(edge.len() == stored.len(), "{} here, {} at the hub", edge.len(), stored.len());
        for (number, subject) in ["load.nats", "load.mqtt"].into_iter().enumerate() {
            let acknowledged = &self.acknowledged[number];
            ensure!(acknowledged.len() as u64 >= self.next, "{subject}: {} acknowledged", acknowledged.len());
            let once = load::without_repeats(&edge, subject, &self.resent[number])?;
            ensure!(once.len() as u64 == self.next, "{subject}: {} of {}", once.len(), self.next);
            ensure!(number == 1 || once.len() == edge.iter().filter(|message| message.subject == subject).count());
            load::check(&once, subject, acknowledged)?;
        }
        println!(
            "{} messages at the hub, each once and in order; {} cuts, {} dials, {} purged, {} + {} sent again, {} of them stored twice by MQTT",
            stored.len(),
            self.cuts,
            self.linked.link.accepted(),
            purged,
            self.resent[0].len(),
            self.resent[1].len(),
            edge.len() as u64 - 2 * self.next,
        );
        Ok(())
    }
}

/// Each fault once, then others at random.
fn plan(parts: usize, dice: &mut Dice) -> Vec<Fault> {
    let mut drawn = |faults: &[Fault]| faults[usize::try_from(dice.below(faults.len() as u64)).unwrap_or(0)];
    let mut plan = FAULTS.to_vec();
    while plan.len() < parts {
        plan.push(drawn(&MORE));
    }
    // All but the first in another order.
    for at in (2..plan.len()).rev() {
        let other = 1 + usize::try_from(dice.below(at as u64)).unwrap_or(0);
        plan.swap(at, other);
    }
    plan
}

#[test]
fn everything_is_at_the_hub_once_and_in_order() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let full = std::env::var("TRIBUTARY_FLAP").is_ok_and(|size| size == "full");
    let seed = std::env::var("TRIBUTARY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(3);
    let (messages, parts): (u64, usize) = if full { (200_000, 51) } else { (6_000, FAULTS.len() + 2) };
    let mut dice = Dice::new(seed);
    let plan = plan(parts, &mut dice);
    println!("TRIBUTARY_SEED={seed}, {messages} messages, {plan:?}");
    let linked = Linked::start()?;
    linked.wait("the hub's stream is made", || {
        Ok(ask(&linked.hub, "$JS.API.STREAM.INFO.FLEET", "")?["error"].is_null())
    })?;
    let mut run = Run {
        linked,
        dice,
        acknowledged: Default::default(),
        resent: Default::default(),
        next: 0,
        purged: Vec::new(),
        cuts: 0,
    };
    for (part, fault) in plan.iter().enumerate() {
        run.part(*fault, messages.div_ceil(2 * parts as u64))
            .with_context(|| format!("seed {seed}, part {part}, {fault:?}"))?;
    }
    ensure!(run.cuts == parts as u64 - 1, "only {} of {parts} faults cut the link", run.cuts);
    run.verify().with_context(|| format!("seed {seed}"))
}
