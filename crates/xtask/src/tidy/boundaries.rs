//! Which crate may name which: dependencies point one way, and pure crates have no I/O in their manifests.

use crate::metadata::{Dependency, Kind, Metadata, Package};

use super::PURE;

/// A crate of ours and what of ours it may depend on, tests included. `mqtt-proto` and `nats-proto` never meet.
const DIRECTION: [(&str, &[&str]); 19] = [
    ("subject", &[]),
    ("archive", &[]),
    ("nats-conf", &[]),
    ("nats-proto", &["subject"]),
    ("mqtt-proto", &["subject"]),
    ("jetstream", &["subject"]),
    ("jetstream-api", &["jetstream", "subject"]),
    ("committer", &["jetstream", "subject"]),
    ("power-cut", &[]),
    ("sqlite-store", &["jetstream", "power-cut", "subject"]),
    ("uplink", &["nats-proto", "subject"]),
    // It reads slices of streams as the store hands them out.
    ("forward", &["jetstream", "nats-proto", "subject"]),
    // `committer` is for tests: the broker is tried with a real one behind it.
    ("broker", &["archive", "committer", "jetstream", "jetstream-api", "mqtt-proto", "nats-proto", "subject"]),
    (
        "server",
        &["broker", "committer", "jetstream", "jetstream-api", "mqtt-proto", "nats-conf", "nats-proto", "subject"],
    ),
    (
        "edge-gateway",
        &[
            "broker",
            "committer",
            "forward",
            "jetstream",
            "jetstream-api",
            "mqtt-proto",
            "nats-conf",
            "nats-proto",
            "server",
            "sqlite-store",
            "subject",
            "uplink",
        ],
    ),
    ("simulator", &PURE),
    // The suites speak to the binaries through sockets, as a user does; `power-cut` is preloaded into one that faults strike.
    ("tests", &["power-cut"]),
    ("bench", &["nats-proto", "mqtt-proto", "tests"]),
    ("xtask", &["tests"]),
];

/// Crates of others that a pure crate may use, as the group `pure` of the root manifest lists them.
const PURE_DEPENDENCIES: [&str; 15] = [
    "base64",
    "crc32c",
    "foldhash",
    "highway",
    "itoa",
    "jiff",
    "memchr",
    "minlz",
    "nkeys",
    "serde",
    "serde_json",
    "sha2",
    "smallvec",
    "thiserror",
    "time",
];

/// Crates that no pure crate may be built from, however far down.
const IO_CRATES: [&str; 10] = [
    "async-std",
    "hyper",
    "libsqlite3-sys",
    "mio",
    "polling",
    "rusqlite",
    "rustls",
    "socket2",
    "tokio",
    "tracing-subscriber",
];

/// Every breach, a line each.
pub(super) fn check(metadata: &Metadata) -> Vec<String> {
    let members: Vec<&str> = metadata.members().map(|member| member.name.as_str()).collect();
    let mut findings = Vec::new();
    for member in metadata.members() {
        findings.extend(check_direction(member, &members));
        if PURE.contains(&member.name.as_str()) {
            findings.extend(member.dependencies.iter().filter_map(|on| check_pure(member, on, &members)));
            let built_from = metadata.built_from(&member.name);
            let leaks = IO_CRATES.iter().filter(|name| built_from.contains(**name));
            findings.extend(leaks.map(|name| format!("{}: a pure crate is built from {name}", member.name)));
        }
    }
    findings
}

fn check_direction(member: &Package, members: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = DIRECTION.iter().find(|(name, _)| *name == member.name) else {
        return vec![format!("{}: a crate that tidy does not know: say in `DIRECTION` what it may name", member.name)];
    };
    let named = member.dependencies.iter().map(|on| on.name.as_str());
    let wrong = named.filter(|name| members.contains(name) && !allowed.contains(name));
    wrong.map(|name| format!("{}: depends on {name}, which `DIRECTION` does not let it name", member.name)).collect()
}

fn check_pure(member: &Package, on: &Dependency, members: &[&str]) -> Option<String> {
    let name = on.name.as_str();
    let fine = on.kind == Kind::Development || members.contains(&name) || PURE_DEPENDENCIES.contains(&name);
    (!fine).then(|| {
        format!("{}: a pure crate depends on {name}; if it does no I/O, list it in `PURE_DEPENDENCIES`", member.name)
    })
}
