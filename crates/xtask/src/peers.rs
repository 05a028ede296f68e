//! `cargo xtask peers`: installs what the suites run against, under `target/peers` or `$TRIBUTARY_PEERS`.
//!
//! Four sources, a module each; versions are pinned by the files of `tests/peers`. Each installed peer leaves a stamp with the
//! text that pinned it, so a second run does nothing and a changed pin installs again. Which peers there are, and the files
//! that they consist of, is said by the harness (`harness::peers`), which looks them up.

mod debian;
mod go;
mod node;
mod python;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use harness::peers::{self, Peer};

/// What to install.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves a peer out; may be repeated
    #[arg(long, value_name = "PEER", value_parser = parse_peer)]
    pub(crate) without: Vec<Peer>,
}

/// Where a peer comes from; everything of one source is installed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Python,
    Node,
    Go,
    Debian,
}

const SOURCES: [Source; 4] = [Source::Python, Source::Node, Source::Go, Source::Debian];

fn source(peer: Peer) -> Source {
    match peer {
        Peer::NatsServer | Peer::NatsPy | Peer::PahoMqtt => Source::Python,
        Peer::NatsJs | Peer::MqttJs => Source::Node,
        Peer::NatsCli | Peer::Nsc => Source::Go,
        Peer::Mosquitto | Peer::DebianNatsServer => Source::Debian,
    }
}

/// Installs what is missing. Tries every source, then fails if one failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted: Vec<Peer> = Peer::ALL.into_iter().filter(|peer| !options.without.contains(peer)).collect();
    ensure(&wanted)?;
    for peer in wanted {
        println!("{:18} {}", peer.name(), peer.files()[0].display());
    }
    Ok(())
}

/// Installs those of `wanted` that are missing.
pub(crate) fn ensure(wanted: &[Peer]) -> Result<()> {
    fs::create_dir_all(peers::location().join("stamps"))?;
    let mut failures = Vec::new();
    for from in SOURCES {
        let missing = wanted.iter().copied().filter(|peer| source(*peer) == from).collect::<Vec<_>>();
        let missing = missing.into_iter().filter(|peer| !is_current(*peer)).collect::<Vec<_>>();
        if missing.is_empty() {
            continue;
        }
        let names = missing.iter().map(|peer| peer.name()).collect::<Vec<_>>().join(", ");
        println!("installing {names}");
        let started = Instant::now();
        match install(from, &missing) {
            Ok(()) => println!("installed {names} in {:.1} s", started.elapsed().as_secs_f64()),
            Err(error) => {
                eprintln!("{names}: {error:#}");
                failures.push(names);
            }
        }
    }
    if !failures.is_empty() {
        bail!("not installed: {}; with `--without PEER` the tests go on without one", failures.join(", "));
    }
    Ok(())
}

/// Parses the name of a peer.
pub(crate) fn parse_peer(name: &str) -> Result<Peer, String> {
    let names = Peer::ALL.map(Peer::name).join(", ");
    Peer::from_name(name).ok_or_else(|| format!("there is no such peer; there are {names}"))
}

fn install(from: Source, missing: &[Peer]) -> Result<()> {
    match from {
        Source::Python => python::install(missing)?,
        Source::Node => node::install()?,
        Source::Go => go::install()?,
        Source::Debian => debian::install(missing)?,
    }
    for peer in missing {
        fs::write(peer.stamp(), pin(*peer)?)?;
        peers::require(*peer)?;
    }
    Ok(())
}

fn is_current(peer: Peer) -> bool {
    let stamped = source(peer) == Source::Debian
        || pin(peer).is_ok_and(|pin| fs::read_to_string(peer.stamp()).is_ok_and(|stamp| stamp == pin));
    stamped && peers::require(peer).is_ok()
}

/// The text that pins a peer's version.
fn pin(peer: Peer) -> Result<String> {
    match source(peer) {
        Source::Python => python::requirement(peer),
        Source::Node => read("package.json"),
        Source::Go => read("go.mod"),
        Source::Debian => Ok(String::new()),
    }
}

/// A file of `tests/peers`.
fn pinned(name: &str) -> PathBuf {
    peers::workspace().join("tests/peers").join(name)
}

fn read(name: &str) -> Result<String> {
    let path = pinned(name);
    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
