//! A cluster of three stock servers as hub, a gateway linked to any one of them, and a publisher that goes on while leaders move and nodes die.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::{Gateway, RawNats, Server, StockHub, http, ports};
use serde_json::Value;

use crate::load;

/// Elections and a new link; stock's own figures are about ten seconds.
const LIMIT: Duration = Duration::from_secs(90);
/// While there is no leader nobody answers.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
    pub(crate) gateway: Server,
}

impl Cluster {
    /// Three nodes, and a gateway with these blocks beside what the link needs. `streams`: names and configurations of the hub's, which are there first.
    pub(crate) fn start(streams: &[(&str, String)], blocks: &str) -> Result<Cluster> {
        let ports = [ports::free()?, ports::free()?, ports::free()?];
        let routes = ports.map(|port| format!("\"nats-route://127.0.0.1:{port}\"")).join(", ");
        let mut nodes = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let plain = StockHub::PLAIN.replace("server_name: hub", &format!("server_name: hub{number}"));
            let cluster = format!("cluster {{ name: C, listen: \"127.0.0.1:{port}\", routes: [ {routes} ] }}\n");
            nodes.push(StockHub::start(&format!("{plain}{cluster}"))?);
        }
        for (name, config) in streams {
            wait(String::new, &format!("the cluster makes {name}"), || make(&nodes[0], name, config))?;
        }
        let urls = nodes.iter().map(|node| format!("\"nats-leaf://{}\"", node.address("leaf")));
        let urls = urls.collect::<Vec<_>>().join(", ");
        let gateway = Gateway::start(&format!(
            "{}leafnodes {{ remotes: [ {{ urls: [ {urls} ], ignore_discovered_servers: true }} ] }}\n\
             uplink {{ ping_interval: \"300ms\", ping_max: 2, reconnect {{ min: \"50ms\", max: \"300ms\" }} }}\n{blocks}",
            Gateway::PLAIN
        ))?;
        let cluster = Cluster { nodes, gateway };
        cluster.wait("each side reaches the other's JetStream", || {
            for (server, domain) in [(cluster.node()?, "edge"), (&cluster.gateway, "hub")] {
                let info = ask(server, &format!("$JS.{domain}.API.INFO"), "")?;
                ensure!(info["domain"] == domain, "{info}");
            }
            Ok(())
        })?;
        Ok(cluster)
    }

    /// Asks until there is an answer.
    pub(crate) fn wait<T>(&self, what: &str, answer: impl Fn() -> Result<T>) -> Result<T> {
        let logs = || {
            let logs: Vec<String> = self.nodes.iter().map(Server::log_tail).collect();
            format!("{}\n{}", self.gateway.log_tail(), logs.join("\n"))
        };
        wait(logs, what, answer)
    }

    /// The first node that runs.
    pub(crate) fn node(&self) -> Result<&Server> {
        self.nodes.iter().find(|node| node.pid().is_some()).context("no node runs")
    }

    /// The number of the node that holds the link.
    pub(crate) fn linked(&self) -> Result<usize> {
        for (number, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.pid().is_some()) {
            if http::get_json(node.address("http"), "/leafz")?["leafnodes"] == 1 {
                return Ok(number);
            }
        }
        Err(anyhow!("no node holds the link"))
    }

    /// The number of the node that leads a stream.
    pub(crate) fn leader(&self, stream: &str) -> Result<usize> {
        let info = ask(self.node()?, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        let name = info["cluster"]["leader"].as_str().with_context(|| format!("no leader: {info}"))?;
        let number: usize = name.strip_prefix("hub").context("a name")?.parse()?;
        ensure!(self.nodes[number].pid().is_some(), "{name} does not run");
        Ok(number)
    }

    /// Every node has all of a stream, so that any one may die.
    pub(crate) fn is_whole(&self, stream: &str) -> Result<()> {
        let info = ask(self.node()?, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        let replicas = info["cluster"]["replicas"].as_array().context("no replicas")?;
        ensure!(replicas.len() == 2 && replicas.iter().all(|one| one["current"] == true), "{info}");
        Ok(())
    }
}

fn wait<T>(logs: impl Fn() -> String, what: &str, answer: impl Fn() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match answer() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() < deadline => drop(error),
            Err(error) => return Err(error.context(format!("{what}\n{}", logs()))),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn make(node: &Server, name: &str, config: &str) -> Result<()> {
    let answer = ask(node, &format!("$JS.API.STREAM.CREATE.{name}"), config)?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(())
}

/// What a server says to an API request.
pub(crate) fn ask(server: &Server, subject: &str, body: &str) -> Result<Value> {
    let (mut client, _) = RawNats::connect(server.address("nats"))?;
    client.set_limit(ANSWER_LIMIT);
    Ok(serde_json::from_slice(&client.request(subject, body.as_bytes())?.payload)?)
}

/// Publishes to a cluster until it is stopped, by whatever node answers; what is not acknowledged is sent again with the same message id.
pub(crate) struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Publisher {
    pub(crate) fn start(cluster: &Cluster, subject: &'static str) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.address("nats")).collect();
        let told = Arc::clone(&stop);
        Publisher { stop, thread: thread::spawn(move || publish_until(&told, &addresses, subject)) }
    }

    /// How many messages were acknowledged: their numbers are all those below.
    pub(crate) fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the publisher panicked"))?
    }
}

/// Messages of one publisher on their way at a time, and its pause behind them.
const WINDOW: u64 = 16;
const PAUSE: Duration = Duration::from_millis(25);
/// Connections that fail before it gives up.
const ATTEMPTS: usize = 1_500;

fn publish_until(stop: &AtomicBool, addresses: &[SocketAddr], subject: &str) -> Result<u64> {
    let mut open: Vec<u64> = Vec::new();
    let mut next = 0;
    // A node that ends, an answer that is lost and a refusal while nobody leads are what these tests are about.
    for address in addresses.iter().cycle().take(ATTEMPTS) {
        let mut publish = || -> Result<()> {
            let (mut client, _) = RawNats::connect(*address)?;
            client.set_limit(ANSWER_LIMIT);
            client.send(format!("SUB _INBOX.{subject}.* 1\r\n"))?;
            while !open.is_empty() || !stop.load(Ordering::Relaxed) {
                if open.is_empty() {
                    open.extend(next..next + WINDOW);
                    next += WINDOW;
                }
                publish_all(&mut client, subject, &mut open)?;
                thread::sleep(PAUSE);
            }
            Ok(())
        };
        if publish().is_ok() {
            return Ok(next);
        }
        thread::sleep(PAUSE);
    }
    Err(anyhow!("no node takes {open:?}"))
}

/// Leaves in `open` what was not acknowledged.
fn publish_all(client: &mut RawNats, subject: &str, open: &mut Vec<u64>) -> Result<()> {
    let mut bytes = Vec::new();
    for number in open.iter() {
        let (payload, headers) = (load::payload(*number), format!("NATS/1.0\r\nNats-Msg-Id: load-{number}\r\n\r\n"));
        let sizes = format!("{} {}", headers.len(), headers.len() + payload.len());
        bytes.extend(format!("HPUB {subject} _INBOX.{subject}.{number} {sizes}\r\n{headers}").bytes());
        bytes.extend(payload);
        bytes.extend(b"\r\n");
    }
    client.send(bytes)?;
    for _ in 0..open.len() {
        let answer = client.message()?;
        let number = answer.line.split(' ').nth(1).and_then(|reply| reply.rsplit('.').next());
        let number: u64 = number.context("an answer without a number")?.parse()?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        ensure!(answer["seq"].as_u64() > Some(0), "{number} is refused: {answer}");
        open.retain(|each| *each != number);
    }
    Ok(())
}
