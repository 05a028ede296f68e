//! `cargo xtask`: set-up, tests, demo, benchmarks and tidiness of the workspace, one program instead of scripts.
//!
//! A module per verb; `shell` runs other programs for them. Exit status 0 means that everything asked for was done and good.
#![allow(
    clippy::disallowed_methods,
    reason = "measures how long real programs take; the product's clock is `server::clock`"
)]

mod bench;
mod demo;
mod deny;
mod fuzz;
mod metadata;
mod peers;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set-up, tests, demo, benchmarks and tidiness of the workspace")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything that must hold: format, lints, documentation, dependencies, tidiness, all tests
    #[command(alias = "ci")]
    Test(test::Options),
    /// An outage of the link, watched live: sensors, an edge gateway, a stock hub
    Demo(demo::Options),
    /// Ours beside the peers on the same machine and the same work, as ratios
    Bench(bench::Options),
    /// Feeds every decoder with random input, on stable Rust, for minutes
    Fuzz(fuzz::Options),
    /// Checks the architecture's invariants and prints the longest files and functions
    Tidy,
    /// Checks licences and duplicate versions of the dependencies against deny.toml
    Deny,
    /// Installs what the suites are tested against under target/peers
    Peers(peers::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Test(options) => test::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Tidy => tidy::run(),
        Verb::Deny => deny::run(),
        Verb::Peers(options) => peers::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
