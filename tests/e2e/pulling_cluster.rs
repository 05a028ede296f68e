//! The edge's streams source and mirror a stream (three replicas) of a cluster of three stock servers through one link: its leader moves by request and
//! by `kill -9`, and so does the node that holds the link, while messages are published; here nothing is missing, nothing is there twice, and the order
//! is the hub's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};

use crate::cluster::{Cluster, Publisher, ask};
use crate::load;

/// Streams at the edge: one sources the hub's, one mirrors it, one sources its work queue.
const STREAMS: [(&str, &str); 3] = [("AGG", "EV"), ("MIR", "EV"), ("DONE", "JOBS")];
const BLOCKS: &str = r#"
streams {
  AGG { sources: [ { name: EV, domain: hub } ] }
  MIR { mirror { name: EV, domain: hub } }
  DONE { sources: [ { name: JOBS, domain: hub } ] }
}
"#;
/// Stock elects four to nine seconds after a kill, a queue's consumer as well; what was asked meanwhile is lost, and asked again after five. For a busy machine
/// twice that.
const GOES_ON_WITHIN: Duration = Duration::from_secs(30);

struct Run {
    cluster: Cluster,
    /// Publishers into both of the hub's streams.
    publishers: [Publisher; 2],
}

impl Run {
    fn start() -> Result<Run> {
        let streams = [("EV", "ev.>", "limits"), ("JOBS", "jobs.>", "workqueue")].map(|(name, subject, retention)| {
            let stream = format!(r#""name":"{name}","subjects":["{subject}"],"retention":"{retention}""#);
            (name, format!(r#"{{{stream},"storage":"file","num_replicas":3}}"#))
        });
        let cluster = Cluster::start(&streams, BLOCKS)?;
        let publishers = [Publisher::start(&cluster, "ev.a"), Publisher::start(&cluster, "jobs.a")];
        Ok(Run { cluster, publishers })
    }

    /// Last sequences: of a stream here, of a stream at the hub.
    fn here(&self, name: &str) -> Result<u64> {
        let info = ask(&self.cluster.gateway, &format!("$JS.API.STREAM.INFO.{name}"), "")?;
        info["state"]["last_seq"].as_u64().context("no state")
    }

    fn at_hub(&self, name: &str) -> Result<u64> {
        self.cluster.leader(name)?;
        let info = ask(self.cluster.node()?, &format!("$JS.API.STREAM.INFO.{name}"), "")?;
        info["state"]["last_seq"].as_u64().context("no state")
    }

    /// Waits until the edge has what the hub has taken since the event.
    fn goes_on(&self, after: &str) -> Result<()> {
        let since = Instant::now();
        for (name, origin) in STREAMS {
            let before = self.cluster.wait("the hub's stream has a leader", || self.at_hub(origin))?;
            let led = since.elapsed();
            self.cluster.wait(&format!("{after}: {name} goes on"), || {
                let now = self.here(name)?;
                ensure!(now > before, "{now}, behind {before}");
                Ok(())
            })?;
            println!("{after}: a leader after {led:.1?}, {name} is behind {before} after {:.1?}", since.elapsed());
        }
        let took = since.elapsed();
        ensure!(took < GOES_ON_WITHIN, "{after}: only after {took:?}");
        Ok(())
    }

    fn move_leader(&self, name: &str, to: usize) -> Result<()> {
        let body = format!(r#"{{"placement":{{"preferred":"hub{to}"}}}}"#);
        self.cluster.wait(&format!("hub{to} leads {name}"), || {
            if self.cluster.leader(name)? != to {
                ask(self.cluster.node()?, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{name}"), &body)?;
            }
            ensure!(self.cluster.leader(name)? == to, "not yet");
            Ok(())
        })
    }

    fn kill(&mut self, number: usize, after: &str) -> Result<()> {
        for name in ["EV", "JOBS"] {
            self.cluster.wait("every node has all", || self.cluster.is_whole(name))?;
        }
        self.cluster.nodes[number].kill9()?;
        self.goes_on(after)?;
        self.cluster.nodes[number].restart()
    }

    /// What the hub acknowledged is here, once and in the hub's order.
    fn verify(self) -> Result<()> {
        let Run { cluster, publishers: [events, jobs] } = self;
        let (events, jobs) = (events.stop()?, jobs.stop()?);
        // Whichever node is read from: one that was restarted just now may be behind.
        cluster.wait("every node has all", || cluster.is_whole("EV"))?;
        let read = |server: &harness::Server, name: &str| load::read_stream(server.address("nats"), "$JS.API", name);
        for (name, published) in [("AGG", events), ("MIR", events), ("DONE", jobs)] {
            cluster.wait(&format!("{name} has everything"), || {
                let info = ask(&cluster.gateway, &format!("$JS.API.STREAM.INFO.{name}"), "")?;
                let there = info["state"]["messages"].as_u64();
                ensure!(there >= Some(published), "{there:?} of {published}");
                Ok(())
            })?;
            let here = read(&cluster.gateway, name)?;
            if name != "DONE" {
                let hub = cluster.wait("the hub's can be read", || read(cluster.node()?, "EV"))?;
                load::same(&here, &hub).with_context(|| name.to_owned())?;
            }
            let mut numbers: Vec<u64> = here.iter().map(|one| load::number_of(&one.payload)).collect::<Result<_>>()?;
            numbers.sort_unstable();
            ensure!(numbers.iter().copied().eq(0..published), "{name}: {} of {published}", numbers.len());
        }
        cluster.wait("the hub's queue is empty", || {
            let info = ask(cluster.node()?, "$JS.API.STREAM.INFO.JOBS", "")?;
            ensure!(info["state"]["messages"] == 0, "{info}");
            Ok(())
        })
    }
}

#[test]
fn the_edge_sources_and_mirrors_a_cluster_whose_leaders_move() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut run = Run::start()?;
    run.goes_on("at first")?;
    let linked = run.cluster.wait("a node holds the link", || run.cluster.linked())?;
    let (second, third) = ((linked + 1) % 3, (linked + 2) % 3);
    for to in [second, linked, third] {
        for name in ["EV", "JOBS"] {
            run.move_leader(name, to)?;
        }
        run.goes_on(&format!("led by hub{to}, linked to hub{linked}"))?;
    }
    run.kill(third, "after the leader was killed")?;
    for name in ["EV", "JOBS"] {
        run.move_leader(name, second)?;
    }
    run.kill(linked, "after the node with the link was killed")?;
    let now = run.cluster.wait("a node holds the link", || run.cluster.linked())?;
    ensure!(now != linked, "the link is still with hub{now}");
    run.verify()
}
