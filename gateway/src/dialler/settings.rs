//! What a remote of the configuration means to `uplink` and to TLS.

use std::time::Duration;

use anyhow::Context;
use server::tls::{DialTls, IdentityFiles};
use uplink::{Address, Credentials, LocalServer, Timings};

use crate::config::{Config, Remote};

/// Everything that a remote's task is told.
pub(super) fn uplink_config(config: &Config, remote: &Remote, local: LocalServer) -> anyhow::Result<uplink::Config> {
    let addresses: Result<Vec<Address>, _> = remote.urls.iter().map(|url| Address::parse(url.reveal())).collect();
    // The text of a URL may hold a password: it is not repeated.
    let addresses = addresses.context("leafnodes: a remote's URL")?;
    Ok(uplink::Config {
        addresses,
        no_randomize: remote.no_randomize,
        use_discovered: !remote.ignore_discovered,
        credentials: credentials(remote)?,
        tls: remote.tls.is_some(),
        handshake_first: remote.tls.as_ref().is_some_and(|tls| tls.handshake_first),
        local: LocalServer { deny_imports: remote.deny_imports.clone(), isolate: remote.request_isolation, ..local },
        timings: timings(config, remote),
    })
}

fn credentials(remote: &Remote) -> anyhow::Result<Credentials> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).with_context(|| format!("leafnodes: reading {}", path.display()))
    };
    if let Some(path) = &remote.credentials {
        return Credentials::from_creds_text(&read(path)?).with_context(|| path.display().to_string());
    }
    match &remote.nkey {
        Some(path) => {
            let text = read(path)?;
            let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
            let seed = seed.with_context(|| format!("{}: no user seed (SU…) in it", path.display()))?;
            Ok(Credentials::Seed(seed.to_owned()))
        }
        None => Ok(Credentials::None),
    }
}

fn timings(config: &Config, remote: &Remote) -> Timings {
    let uplink = &config.uplink;
    let tls = remote.tls.as_ref().and_then(|tls| tls.timeout).unwrap_or(uplink.tls_timeout);
    let reconnect = config.leafnodes.reconnect.unwrap_or(uplink.reconnect_min);
    Timings {
        dial_ms: millis(remote.dial_timeout.unwrap_or(uplink.dial_timeout)),
        first_info_ms: millis(remote.first_info_timeout.unwrap_or(uplink.first_info_timeout)),
        tls_ms: millis(tls),
        connect_info_ms: millis(uplink.connect_timeout),
        ping_interval_ms: millis(uplink.ping_interval),
        dead_after_ms: millis(uplink.dead_after()),
        reconnect_ms: millis(reconnect),
        quick_max_ms: millis(uplink.reconnect_quick.max(reconnect)),
        quick_for_ms: millis(uplink.reconnect_quick_for),
        reconnect_max_ms: millis(uplink.reconnect_max.max(reconnect)),
        ..Timings::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// TLS of a remote; without a block of its own, what a URL or the hub may still ask for.
pub(super) fn dial_tls(remote: &Remote) -> DialTls {
    let Some(tls) = &remote.tls else { return DialTls::default() };
    let identity = tls.identity.clone();
    DialTls {
        identity: identity.map(|(cert_file, key_file)| IdentityFiles { cert_file, key_file }),
        ca_file: tls.ca_file.clone(),
        insecure: tls.insecure,
        only_13: tls.only_13,
    }
}
