//! `cargo xtask demo`: an outage of the link, watched live.
//!
//! ```text
//! sensors ──MQTT──► edge-gateway ──leaf link──► Proxy ──► stock nats-server
//!                                               cut()
//! ```
//!
//! The hub and the link stand; the edge and the sensors come with the gateway, so the verb ends with an error that says so.

mod progress;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::peers::{self, Peer};
use harness::{Proxy, Server, StockHub};

use crate::shell;
use progress::{Display, LinkState, Snapshot};

/// What the sensors publish in all.
const PLANNED: u64 = 20_000;
const SENSORS: u64 = 4;

/// How long the demo lasts.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Ends after the verdict instead of staying up: status 0 when everything arrived once and in order, else 1
    #[arg(long)]
    pub(crate) exit: bool,
}

/// What runs beside the edge. Both end when it is dropped.
struct Scene {
    hub: Server,
    link: Proxy,
}

/// Shows the outage.
pub(crate) fn run(options: &Options) -> Result<()> {
    let scene = Scene::start()?;
    let mut display = Display::new();
    display.say(&format!(
        "hub: {} · its leafnode port through the link that will be cut: {}",
        scene.hub.url(),
        scene.link.address()
    ));
    let snapshot = Snapshot {
        elapsed: Duration::ZERO,
        link: if scene.link.is_cut() { LinkState::Cut } else { LinkState::Up },
        sensors: SENSORS,
        planned: PLANNED,
        published: 0,
        stored: 0,
        at_hub: 0,
    };
    display.show_now(&snapshot)?;
    display.show(&snapshot)?;
    let end = if options.exit { "ended with a verdict" } else { "stayed up to be tried by hand" };
    bail!("not yet: the edge-gateway does not run; with it this would have {end}")
}

impl Scene {
    fn start() -> Result<Scene> {
        shell::run(&mut shell::cargo(&["build", "--package", "edge-gateway", "--bins"]))?;
        // The demo needs nothing but the stock server; the other peers may wait.
        let without = Peer::ALL.into_iter().filter(|peer| *peer != Peer::NatsServer).collect();
        crate::peers::run(&crate::peers::Options { without }).context("the demo's hub is a stock nats-server")?;
        peers::require(Peer::NatsServer)?;
        let hub = StockHub::start(StockHub::PLAIN)?;
        let link = Proxy::start(hub.address("leaf"))?;
        Ok(Scene { hub, link })
    }
}
