//! A cluster of three stock servers as hub, whose streams (three replicas) source and mirror the edge's: their leaders move, away from the node that
//! holds the link and back, by request and by `kill -9`; nothing is missing, nothing is there twice, and the order is kept.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, Server, StockHub, ports};
use serde_json::Value;

use crate::hub::ask;
use crate::load;
use crate::pull_flap::{count, create};

/// Elections and a new link; stock's own figures are about ten seconds.
const LIMIT: Duration = Duration::from_secs(90);
const STREAMS: [(&str, &str); 2] = [("AGG", "sources"), ("MIR", "mirror")];

struct Cluster {
    nodes: Vec<Server>,
    gateway: Server,
    published: u64,
}

impl Cluster {
    fn start() -> Result<Cluster> {
        let ports = [ports::free()?, ports::free()?, ports::free()?];
        let routes = ports.map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).join(", ");
        let mut nodes = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let plain = StockHub::PLAIN.replace("server_name: hub", &format!("server_name: hub{number}"));
            let cluster = format!("cluster {{ name: C, listen: \"127.0.0.1:{port}\", routes: [ {routes} ] }}\n");
            nodes.push(StockHub::start(&format!("{plain}{cluster}"))?);
        }
        let urls = nodes.iter().map(|node| format!("\"nats-leaf://{}\"", node.address("leaf")));
        let urls = urls.collect::<Vec<_>>().join(", ");
        let gateway = Gateway::start(&format!(
            "{}leafnodes {{ remotes: [ {{ urls: [ {urls} ], ignore_discovered_servers: true }} ] }}\n\
             uplink {{ ping_interval: \"300ms\", ping_max: 2, reconnect {{ min: \"50ms\", max: \"300ms\" }} }}\n\
             streams {{ EV {{ subjects: [\"ev.>\"] }} }}\n",
            Gateway::PLAIN
        ))?;
        Ok(Cluster { nodes, gateway, published: 0 })
    }

    fn wait<T>(&self, what: &str, answer: impl Fn() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match answer() {
                Ok(found) => return Ok(found),
                Err(error) if Instant::now() < deadline => drop(error),
                Err(error) => {
                    let logs: Vec<String> = self.nodes.iter().map(Server::log_tail).collect();
                    return Err(error.context(format!("{what}\n{}\n{}", self.gateway.log_tail(), logs.join("\n"))));
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first node that runs.
    fn node(&self) -> Result<&Server> {
        self.nodes.iter().find(|node| node.pid().is_some()).context("no node runs")
    }

    /// The number of the node that leads a stream.
    fn leader(&self, stream: &str) -> Result<usize> {
        let info = ask(self.node()?, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        let name = info["cluster"]["leader"].as_str().with_context(|| format!("no leader: {info}"))?;
        let number: usize = name.strip_prefix("hub").context("a name")?.parse()?;
        ensure!(self.nodes[number].pid().is_some(), "{name} does not run");
        Ok(number)
    }

    fn publish(&mut self, many: u64) -> Result<()> {
        let (told, acknowledged) = mpsc::channel();
        let numbers = self.published..self.published + many;
        self.published = numbers.end;
        load::publish_by_nats(self.gateway.address("nats"), "ev.a", numbers, 64, &told);
        drop(told);
        ensure!(acknowledged.iter().count() as u64 == many, "the edge did not take {many} messages");
        Ok(())
    }

    fn catches_up(&self, after: &str) -> Result<()> {
        let since = Instant::now();
        for (name, _) in STREAMS {
            self.wait(&format!("{after}: {name} has everything"), || {
                let there = count(self.node()?, name)?;
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
            let stored =
                self.wait("it can be read", || load::read_stream(self.node()?.address("nats"), "$JS.API", name))?;
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
    let mut cluster = Cluster::start()?;
    cluster.wait("the edge is reached through the cluster", || {
        let info: Value = ask(cluster.node()?, "$JS.edge.API.INFO", "")?;
        ensure!(info["domain"] == "edge", "{info}");
        Ok(())
    })?;
    for (name, kind) in STREAMS {
        cluster.wait("the cluster makes a stream", || create(cluster.node()?, name, kind, "EV", 3))?;
    }
    cluster.publish(300)?;
    cluster.catches_up("at first")?;

    for round in 0..3 {
        for (name, _) in STREAMS {
            let before = cluster.wait("there is a leader", || cluster.leader(name))?;
            ask(cluster.node()?, &format!("$JS.API.STREAM.LEADER.STEPDOWN.{name}"), "")?;
            cluster.publish(50)?;
            cluster.wait("another one leads", || {
                let now = cluster.leader(name)?;
                ensure!(now != before, "still hub{before}");
                Ok(())
            })?;
        }
        cluster.catches_up(&format!("after step-downs, round {round}"))?;
    }

    for (name, _) in STREAMS {
        let leader = cluster.wait("there is a leader", || cluster.leader(name))?;
        cluster.nodes[leader].kill9()?;
        cluster.publish(200)?;
        cluster.catches_up(&format!("after the leader of {name} was killed"))?;
        cluster.nodes[leader].restart()?;
    }
    cluster.publish(100)?;
    cluster.catches_up("with all nodes again")?;
    cluster.verify()
}
