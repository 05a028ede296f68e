//! A cluster of three stock servers as hub, whose streams (three replicas) source and mirror the edge's: their leaders move, away from the node that
//! holds the link and back, by request and by `kill -9`; nothing is missing, nothing is there twice, and the order is kept.

use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};

use crate::cluster::{Cluster, ask};
use crate::load;
use crate::pull_flap::{count, create};

const STREAMS: [(&str, &str); 2] = [("AGG", "sources"), ("MIR", "mirror")];

struct Run {
    cluster: Cluster,
    published: u64,
}

impl Run {
    fn publish(&mut self, many: u64) -> Result<()> {
        let (told, acknowledged) = mpsc::channel();
        let numbers = self.published..self.published + many;
        self.published = numbers.end;
        load::publish_by_nats(self.cluster.gateway.address("nats"), "ev.a", numbers, 64, &told);
        drop(told);
        ensure!(acknowledged.iter().count() as u64 == many, "the edge did not take {many} messages");
        Ok(())
    }

    fn catches_up(&self, after: &str) -> Result<()> {
        let since = Instant::now();
        for (name, _) in STREAMS {
            self.cluster.wait(&format!("{after}: {name} has everything"), || {
                let there = count(self.cluster.node()?, name)?;
                ensure!(there >= self.published, "{there} of {}", self.published);
                Ok(())
            })?;
            println!("{after}: {name} caught up after {:.1?}", since.elapsed());
        }
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        for (name, kind) in STREAMS {
            // The node that answers may not be the leader for a moment.
            let stored = self
                .cluster
                .wait("it can be read", || load::read_stream(self.cluster.node()?.address("nats"), "$JS.API", name))?;
            for (index, message) in stored.iter().enumerate() {
                let number = load::number_of(&message.payload)?;
                ensure!(number == index as u64, "{name} ({kind}): {number} at {}", message.sequence);
            }
            ensure!(stored.len() as u64 == self.published, "{name} ({kind}): {} of {}", stored.len(), self.published);
        }
        Ok(())
    }
}

#[test]
fn leaders_of_a_cluster_that_sources_and_mirrors_move() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run { cluster: Cluster::start(&[], "streams { EV { subjects: [\"ev.>\"] } }\n")?, published: 0 };
    for (name, kind) in STREAMS {
        run.cluster.wait("the cluster makes a stream", || create(run.cluster.node()?, name, kind, "EV", 3))?;
    }
    run.publish(300)?;
    run.catches_up("at first")?;

    for round in 0..3 {
        for (name, _) in STREAMS {
            let before = run.cluster.wait("there is a leader", || run.cluster.leader(name))?;
            ask(run.cluster.node()?, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{name}"), "")?;
            run.publish(50)?;
            run.cluster.wait("another one leads", || {
                let now = run.cluster.leader(name)?;
                ensure!(now != before, "still hub{before}");
                Ok(())
            })?;
        }
        run.catches_up(&format!("after step-downs, round {round}"))?;
    }

    for (name, _) in STREAMS {
        let leader = run.cluster.wait("there is a leader", || run.cluster.leader(name))?;
        run.cluster.nodes[leader].kill9()?;
        run.publish(200)?;
        run.catches_up(&format!("after the leader of {name} was killed"))?;
        run.cluster.nodes[leader].restart()?;
    }
    run.publish(100)?;
    run.catches_up("with all nodes again")?;
    run.verify()
}
