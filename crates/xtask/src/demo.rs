//! `cargo xtask demo`: an outage of the link, watched live.
//!
//! ```text
//!  8 sensors ─ MQTT QoS 1 ─► edge-gateway (stream TELEMETRY) ─ leaf link through a proxy that is cut ─► stock nats-server (stream FLEET)
//! ```
//!
//! The sensors publish on while the link is down and expect every acknowledgement. Afterwards every message is read back from the hub and
//! compared with what was acknowledged: all there, each once, in each sensor's order, with its bytes.

mod progress;
mod sensors;
mod verdict;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::peers::Peer;
use harness::{Gateway, Proxy, RawNats, Server, StockHub};
use serde_json::Value;

use crate::{peers, shell};
use progress::{Display, LinkState, Snapshot};
use sensors::Sensors;

/// Sensors that publish at the same time.
const SENSORS: usize = 8;
/// The phases: time before the cut, without the link, and again with it.
const BEFORE: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(3);
/// How long the backlog may take to reach the hub once the sensors are silent.
const DRAIN: Duration = Duration::from_secs(60);
const FRAME: Duration = Duration::from_millis(100);
/// About what the sensors publish in all: the length of a full bar.
const PLANNED: u64 = 25_000;

const HUB: &str = r#"
server_name: hub
listen: "127.0.0.1:<nats>"
http: "127.0.0.1:<http>"
leafnodes { listen: "127.0.0.1:<leaf>" }
jetstream { store_dir: "<dir>/store", domain: hub }
"#;

const EDGE: &str = r#"
server_name: pump-station-7
listen: "127.0.0.1:<nats>"
http: "127.0.0.1:<http>"
mqtt { listen: "127.0.0.1:<mqtt>" }
websocket { listen: "127.0.0.1:<websocket>", no_tls: true }
jetstream { store_dir: "<dir>/store", domain: pump-station-7 }
leafnodes { remotes [ { urls: ["nats-leaf://127.0.0.1:LINK"], ignore_discovered_servers: true } ] }
streams {
  TELEMETRY { subjects: [ "sensors.>" ], max_bytes: 2GB, discard: old }
}
forward {
  TELEMETRY { to: FLEET, prefix: edge.pump-station-7, create { subjects: [ "edge.>" ] } }
}
"#;

/// How the demo ends.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ends after the verdict instead of staying up: status 0 when everything arrived once and in order, else 1
    #[arg(long)]
    pub(crate) exit: bool,
}

/// Everything that runs.
struct Stage {
    hub: Server,
    edge: Server,
    proxy: Proxy,
}

/// Builds, starts, publishes through the outage, judges.
pub(crate) fn run(options: &Options) -> Result<()> {
    println!("Building the gateway and fetching what the demo talks to (some minutes the first time).");
    shell::run(&mut shell::cargo(&["build", "--package", "edge-gateway"]))?;
    peers::ensure(&[Peer::NatsServer])?;
    if !options.exit {
        // For the lines to try by hand; the demo itself does without them.
        for peer in [Peer::NatsCli, Peer::Mosquitto] {
            if let Err(error) = peers::ensure(&[peer]) {
                println!("{peer} could not be had ({error:#}); the demo goes on without it.");
            }
        }
    }
    let mut stage = Stage::start()?;
    println!(
        "\nA stock nats-server as hub, an edge gateway, and a link between them that can be cut. {SENSORS} sensors publish by MQTT, QoS 1.\n"
    );
    let sensors = stage.play()?;
    let found = verdict::judge(&stage.hub, &sensors)?;
    print!("\n{found}");
    if options.exit {
        return if found.is_good() { Ok(()) } else { bail!("the hub does not hold what the sensors were promised") };
    }
    stage.stay()
}

impl Stage {
    fn start() -> Result<Stage> {
        let hub = StockHub::start(HUB).context("starting the hub")?;
        let proxy = Proxy::start(hub.address("leaf")).context("starting the link")?;
        let configuration = EDGE.replace("LINK", &proxy.port().to_string());
        let edge = Gateway::start(&configuration).context("starting the edge gateway")?;
        Ok(Stage { hub, edge, proxy })
    }

    /// The three phases and the drain, with a line of progress. Hands back what the sensors were promised.
    fn play(&mut self) -> Result<Sensors> {
        let sensors = Sensors::start(self.edge.address("mqtt"), SENSORS)?;
        let mut watch = Watch::new(self)?;
        watch.until(&sensors, LinkState::Up, BEFORE)?;
        watch.display.say("the link is cut; the sensors go on");
        self.proxy.cut();
        watch.until(&sensors, LinkState::Cut, OUTAGE)?;
        watch.display.say("the link is back");
        self.proxy.restore()?;
        watch.until(&sensors, LinkState::Up, AFTER)?;
        sensors.stop()?;
        watch.drain(&sensors)?;
        Ok(sensors)
    }

    /// Keeps everything running until the user ends it.
    fn stay(self) -> Result<()> {
        let (mqtt, edge, hub) = (self.edge.port("mqtt"), self.edge.url(), self.hub.url());
        let nats = harness::peers::binaries().join("nats");
        let nats = nats.display();
        println!("\nEverything stays up. To try, in another terminal:\n");
        println!("  mosquitto_pub -p {mqtt} -q 1 -t sensors/me/temperature -m 21.5");
        println!("  {nats} -s {hub} stream get FLEET --last-for 'edge.pump-station-7.sensors.me.temperature'");
        println!(
            "  {nats} -s {hub} --js-domain pump-station-7 stream info TELEMETRY      # the edge's stream, seen from the hub"
        );
        println!("  {nats} -s {edge} sub 'sensors.>'                                       # live at the edge");
        println!("  {} status --store-dir {}/store", Gateway::program()?.display(), self.edge.folder().display());
        println!("  curl http://127.0.0.1:{}/metrics", self.edge.port("http"));
        println!("\nPress Enter to cut or restore the link, Ctrl-C to end.");
        self.toggle_link()
    }

    fn toggle_link(mut self) -> Result<()> {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line)? > 0 {
            if self.proxy.is_cut() {
                self.proxy.restore()?;
                println!("the link is back");
            } else {
                self.proxy.cut();
                println!("the link is cut");
            }
        }
        // No terminal to read from: stay until the process is ended.
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

/// Looks at both ends and shows how far everything is.
struct Watch {
    edge: RawNats,
    hub: RawNats,
    started: Instant,
    display: Display,
}

impl Watch {
    fn new(stage: &Stage) -> Result<Watch> {
        let (edge, _) = RawNats::connect(stage.edge.address("nats")).context("looking into the edge")?;
        let (hub, _) = RawNats::connect(stage.hub.address("nats")).context("looking into the hub")?;
        Ok(Watch { edge, hub, started: Instant::now(), display: Display::new() })
    }

    fn until(&mut self, sensors: &Sensors, link: LinkState, lasting: Duration) -> Result<()> {
        let end = Instant::now() + lasting;
        while Instant::now() < end {
            self.look(sensors, link)?;
            thread::sleep(FRAME);
        }
        Ok(())
    }

    /// Waits until the hub holds as many messages as were acknowledged.
    fn drain(&mut self, sensors: &Sensors) -> Result<()> {
        let end = Instant::now() + DRAIN;
        while self.look(sensors, LinkState::Up)? < sensors.acknowledged() {
            if Instant::now() > end {
                self.display.say(&format!("the backlog did not reach the hub within {} s", DRAIN.as_secs()));
                return Ok(());
            }
            thread::sleep(FRAME);
        }
        Ok(())
    }

    /// Shows the picture; how many messages are at the hub.
    fn look(&mut self, sensors: &Sensors, link: LinkState) -> Result<u64> {
        let stored = messages_of(&mut self.edge, "TELEMETRY")?;
        let at_hub = messages_of(&mut self.hub, "FLEET")?;
        let snapshot = Snapshot {
            elapsed: self.started.elapsed(),
            link,
            sensors: SENSORS as u64,
            planned: PLANNED,
            published: sensors.acknowledged(),
            stored,
            at_hub,
        };
        self.display.show(&snapshot)?;
        Ok(at_hub)
    }
}

/// Messages in a stream; 0 while it is not there yet.
fn messages_of(client: &mut RawNats, stream: &str) -> Result<u64> {
    let answer = client.request(&format!("$JS.API.STREAM.INFO.{stream}"), b"")?;
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    Ok(answer["state"]["messages"].as_u64().unwrap_or(0))
}
