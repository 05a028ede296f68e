//! `cargo xtask test`: everything that must hold, in the order in which a mistake is found soonest.
//!
//! Every step runs even when an earlier one failed, so that one run tells all; the exit status is that of the worst. The tests
//! come last, so that cargo's own summary ends the output.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::peers::{Peer, WITHOUT, workspace};

use crate::{deny, fuzz, peers, shell, tidy};

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leaves a peer and its tests out; may be repeated
    #[arg(long, value_name = "PEER", value_parser = peers::parse_peer)]
    without: Vec<Peer>,
    /// Only what needs no peer: no suites that start servers
    #[arg(long)]
    quick: bool,
}

struct Step {
    name: &'static str,
    run: fn(&Options) -> Result<()>,
    /// Whether `--quick` does it too.
    quick: bool,
}

/// How long each fuzz target runs here; `cargo xtask fuzz` does it for minutes.
const FUZZ_SECONDS: u32 = 4;
/// Where its search begins here: always at the same place, so that what fails is of the change and fails again. `cargo xtask fuzz` looks elsewhere.
const FUZZ_SEED: u32 = 1;

const STEPS: [Step; 9] = [
    Step { name: "format", run: format, quick: true },
    Step { name: "tidy", run: |_| tidy::run(), quick: true },
    Step { name: "lints", run: lints, quick: true },
    Step { name: "documentation", run: documentation, quick: false },
    Step { name: "dependencies", run: |_| deny::run(), quick: true },
    Step { name: "fuzz", run: fuzz_all, quick: false },
    Step { name: "peers", run: install_peers, quick: false },
    Step { name: "binaries", run: binaries, quick: false },
    Step { name: "tests", run: tests, quick: true },
];

/// Runs all steps.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut failed = Vec::new();
    let mut times = Vec::new();
    for step in STEPS.iter().filter(|step| step.quick || !options.quick) {
        if step.name == "tests" {
            summarise(&times, options);
        }
        println!("\n── {} ──", step.name);
        let started = Instant::now();
        let result = (step.run)(options);
        times.push((step.name, started.elapsed(), result.is_ok()));
        if let Err(error) = result {
            eprintln!("{}: {error:#}", step.name);
            failed.push(step.name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("failed: {}", failed.join(", "))
}

/// What was done before the tests, in how long, and what they will leave out.
fn summarise(times: &[(&str, Duration, bool)], options: &Options) {
    println!("\n── so far ──");
    for (name, elapsed, good) in times {
        let verdict = if *good { "ok" } else { "FAILED" };
        println!("{name:14} {:7.1} s  {verdict}", elapsed.as_secs_f64());
    }
    if options.quick {
        println!("left out: the suites that start servers (--quick)");
    } else if !options.without.is_empty() {
        println!("left out: {} and the tests that need them (--without)", names(&options.without).join(", "));
    }
}

fn format(_: &Options) -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
}

fn lints(_: &Options) -> Result<()> {
    shell::run(&mut shell::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn documentation(_: &Options) -> Result<()> {
    let mut doc = shell::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    shell::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn fuzz_all(_: &Options) -> Result<()> {
    let seed = Some(FUZZ_SEED);
    fuzz::run(&fuzz::Options { seconds: FUZZ_SECONDS, seed, differential: false, targets: Vec::new() })
}

fn install_peers(options: &Options) -> Result<()> {
    peers::run(&peers::Options { without: options.without.clone() })
}

/// What the suites start, and the suites. All targets at once: else the binaries would be built with other features of their
/// dependencies than the tests, and everything twice.
fn binaries(_: &Options) -> Result<()> {
    shell::run(&mut shell::cargo(&["build", "--locked", "--workspace", "--all-targets"]))
}

fn tests(options: &Options) -> Result<()> {
    let mut test = shell::cargo(&["test", "--locked", "--no-fail-fast"]);
    test.current_dir(workspace());
    if !options.quick {
        test.arg("--workspace").env(WITHOUT, names(&options.without).join(","));
    }
    shell::run(&mut test)
}

fn names(peers: &[Peer]) -> Vec<&'static str> {
    peers.iter().map(|peer| peer.name()).collect::<BTreeSet<_>>().into_iter().collect()
}
