//! The main promise: whatever the link, the gateway and the hub go through, at the hub nothing acknowledged is missing, nothing is
//! there twice, and each publisher's order is kept. `TRIBUTARY_FLAP=full` is the long form.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::Direction;
use harness::peers::{self, Peer};

use crate::hub::{Linked, ask};
use crate::load::{self, Acknowledged, Dice, Stored};

/// What happens while a part of the messages is published.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Blackhole,
    /// In the middle of whatever passes.
    CutUp,
    CutDown,
    Flap,
    KillGateway,
    RestartHub,
    PurgeHead,
}

const FAULTS: [Fault; 11] = [
    Fault::Cut,
    Fault::CutUp,
    Fault::PurgeHead,
    Fault::Blackhole,
    Fault::CutDown,
    Fault::KillGateway,
    Fault::Flap,
    Fault::CutUp,
    Fault::RestartHub,
    Fault::CutDown,
    Fault::Cut,
];

struct Run {
    linked: Linked,
    dice: Dice,
    /// Of both publishers, by NATS and by MQTT.
    acknowledged: [Vec<Acknowledged>; 2],
    next: u64,
    /// What stood at the hub in front of the purge.
    purged: Vec<Stored>,
}

impl Run {
    /// Publishes one part while something happens in its middle.
    fn part(&mut self, fault: Fault, each: u64) -> Result<()> {
        let numbers = self.next..self.next + each;
        self.next = numbers.end;
        let mut starts = [numbers.start; 2];
        let mut happened = false;
        while starts.iter().any(|start| *start < numbers.end) {
            let (nats, mqtt) = (self.linked.gateway.address("nats"), self.linked.gateway.address("mqtt"));
            let channels: [(Sender<Acknowledged>, Receiver<Acknowledged>); 2] = [mpsc::channel(), mpsc::channel()];
            let [(nats_told, nats_acks), (mqtt_told, mqtt_acks)] = channels;
            let (by_nats, by_mqtt) = (starts[0]..numbers.end, starts[1]..numbers.end);
            let publishers = [
                thread::spawn(move || load::publish_by_nats(nats, "load.nats", by_nats, 64, &nats_told)),
                thread::spawn(move || load::publish_by_mqtt(mqtt, "load/mqtt", by_mqtt, 64, &mqtt_told)),
            ];
            if !happened {
                for _ in 0..self.dice.below(each / 2) {
                    self.acknowledged[0].push(nats_acks.recv().context("the NATS publisher gave up")?);
                }
                self.happen(fault).with_context(|| format!("{fault:?}"))?;
                happened = true;
            }
            for (start, publisher) in starts.iter_mut().zip(publishers) {
                *start = publisher.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
            }
            self.acknowledged[0].extend(nats_acks.iter());
            self.acknowledged[1].extend(mqtt_acks.iter());
        }
        thread::sleep(Duration::from_millis(self.dice.below(400)));
        self.linked.link.restore()
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
            Fault::PurgeHead => self.purge_head()?,
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
        Ok(())
    }

    /// Everything that the edge holds is at the hub, and nothing else.
    fn verify(self) -> Result<()> {
        let Linked { gateway, hub, .. } = &self.linked;
        let held = ask(gateway, "$JS.API.STREAM.INFO.TELEMETRY", "")?["state"]["messages"].clone();
        let held = held.as_u64().context("no count")?;
        let purged = self.purged.len() as u64;
        self.linked.wait("everything is at the hub", || {
            let info = ask(hub, "$JS.API.STREAM.INFO.FLEET", "")?;
            Ok(info["state"]["messages"].as_u64().unwrap_or(0) + purged >= held)
        })?;
        let mut stored = self.purged;
        stored.extend(load::read_stream(hub.address("nats"), "$JS.API", "FLEET")?);
        for (subject, acknowledged) in ["edge1.load.nats", "edge1.load.mqtt"].into_iter().zip(&self.acknowledged) {
            // The hub numbers on its own.
            let told: Vec<_> = acknowledged.iter().map(|each| Acknowledged { sequence: None, ..*each }).collect();
            load::check(&stored, subject, &told)?;
        }
        assert_eq!(stored.len() as u64, held);
        Ok(())
    }
}

#[test]
fn everything_is_at_the_hub_once_and_in_order() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let full = std::env::var("TRIBUTARY_FLAP").is_ok_and(|size| size == "full");
    let (messages, parts) = if full { (200_000, 50) } else { (6_000, FAULTS.len()) };
    let linked = Linked::start()?;
    linked.wait("the hub's stream is made", || {
        Ok(ask(&linked.hub, "$JS.API.STREAM.INFO.FLEET", "")?["error"].is_null())
    })?;
    let mut run = Run { linked, dice: Dice::new(3), acknowledged: Default::default(), next: 0, purged: Vec::new() };
    for part in 0..parts {
        // The purge happens once.
        let fault = match FAULTS[part % FAULTS.len()] {
            Fault::PurgeHead if part >= FAULTS.len() => Fault::Cut,
            fault => fault,
        };
        run.part(fault, messages / parts as u64 / 2).with_context(|| format!("part {part}, {fault:?}"))?;
    }
    run.verify()
}
