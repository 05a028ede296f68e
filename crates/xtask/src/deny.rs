//! `cargo xtask deny`: licences, duplicate versions and banned crates, as `deny.toml` says.
//!
//! The file stays valid for the real cargo-deny; this reads the keys that matter here, so that a fresh machine need not build
//! it first: `graph.targets`, `bans.multiple-versions`, `bans.deny`, `bans.skip`, `licenses.allow`. What cargo-deny also
//! knows (advisories, sources) is not checked.

mod licence;
mod policy;

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use harness::peers::workspace;

use crate::metadata::Metadata;
use policy::Policy;

/// Checks and prints every breach, then fails if there was one.
pub(crate) fn run() -> Result<()> {
    let path = workspace().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let policy = Policy::parse(&text).context("deny.toml")?;
    let metadata = Metadata::read(&policy.targets)?;
    let mut findings = check_licences(&metadata, &policy);
    findings.extend(check_bans(&metadata, &policy));
    findings.extend(check_duplicates(&metadata, &policy));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("deny: {} packages keep to deny.toml", metadata.packages.len()),
        count => bail!("deny: {count} findings"),
    }
    Ok(())
}

fn check_licences(metadata: &Metadata, policy: &Policy) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata.packages.values() {
        let Some(expression) = &package.licence else {
            findings.push(format!("{} {}: no licence expression", package.name, package.version));
            continue;
        };
        match licence::is_allowed(expression, &policy.licences) {
            Ok(true) => {}
            Ok(false) => findings.push(format!("{} {}: licence {expression}", package.name, package.version)),
            Err(error) => {
                findings.push(format!("{} {}: licence {expression:?}: {error}", package.name, package.version))
            }
        }
    }
    findings
}

fn check_bans(metadata: &Metadata, policy: &Policy) -> Vec<String> {
    let banned = |name: &str| policy.banned.iter().find(|ban| ban.name == name);
    let packages = metadata.packages.values();
    packages
        .filter_map(|package| banned(&package.name).map(|ban| (package, ban)))
        .map(|(package, ban)| format!("{} {}: banned: {}", package.name, package.version, ban.reason))
        .collect()
}

/// A crate may be there once, besides the versions that are skipped with a reason; a skip that is not needed must go.
fn check_duplicates(metadata: &Metadata, policy: &Policy) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in metadata.packages.values() {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let mut findings = Vec::new();
    for (name, versions) in &versions {
        let skipped = |version: &str| policy.skipped.iter().any(|skip| skip.covers(name, version));
        let left: Vec<&str> = versions.iter().copied().filter(|version| !skipped(version)).collect();
        if left.len() > 1 {
            findings.push(format!("{name}: {} versions: {}", left.len(), left.join(", ")));
        }
    }
    for skip in &policy.skipped {
        let present = versions.get(skip.name.as_str()).map_or(&[][..], Vec::as_slice);
        if present.len() < 2 || !present.iter().any(|version| skip.covers(&skip.name, version)) {
            findings.push(format!("deny.toml: {} is skipped and need not be", skip.spelled()));
        }
        if skip.reason.is_empty() {
            findings.push(format!("deny.toml: {} is skipped without a reason", skip.spelled()));
        }
    }
    findings
}
