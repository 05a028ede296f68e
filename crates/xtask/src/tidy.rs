//! `cargo xtask tidy`: the architecture's invariants as a test, and the longest files and functions, so that growth is seen.
//!
//! It reads manifests through cargo and sources as text: comments and literals are blanked, then words are looked for. That
//! is no compiler; it finds the honest slip, which is what it is for.

mod boundaries;
mod lengths;
mod source;
mod unused;
mod words;

use anyhow::{Result, bail};

use crate::metadata::Metadata;

/// Crates without I/O: no sockets, files, threads, clock or randomness; time and seeds are arguments.
const PURE: [&str; 11] = [
    "archive",
    "broker",
    "committer",
    "forward",
    "jetstream",
    "jetstream-api",
    "mqtt-proto",
    "nats-conf",
    "nats-proto",
    "subject",
    "uplink",
];

/// Checks everything and fails if anything is wrong, after all of it was printed.
pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::read(&[])?;
    let sources = source::read_all()?;
    let mut findings = boundaries::check(&metadata);
    findings.extend(unused::check(&metadata, &sources));
    findings.extend(words::check(&sources));
    findings.extend(lengths::check(&sources));
    lengths::print(&sources);
    if findings.is_empty() {
        println!("tidy: {} files keep to the invariants", sources.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings", findings.len())
}
