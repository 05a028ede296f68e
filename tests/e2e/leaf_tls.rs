//! TLS of the leaf link against a stock hub: who is believed, who is asked for a certificate, and what a person is told when it fails.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::Server;
use harness::peers::{self, Peer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::leaf::{LIMIT, edge, hub, links, works_both_ways};

/// A CA with certificates that it signed, as files: `ca.pem`, `cert.pem` and `key.pem` for these names, `client.pem` and `client-key.pem`.
pub(crate) fn identities(folder: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let sign = |names: Vec<String>, certificate: &str, key_file: &str| -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(folder.join(certificate), CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem())?;
        Ok(fs::write(folder.join(key_file), key.serialize_pem())?)
    };
    sign(names.iter().map(|name| (*name).to_owned()).collect(), "cert.pem", "key.pem")?;
    sign(vec!["edge".to_owned()], "client.pem", "client-key.pem")
}

/// The hub's block.
pub(crate) fn serving(folder: &Path, more: &str) -> String {
    let at = folder.display();
    format!(
        "tls {{ cert_file: \"{at}/cert.pem\", key_file: \"{at}/key.pem\", ca_file: \"{at}/ca.pem\", timeout: 5 {more} }}"
    )
}

fn remote(url: &str, hub: &Server, tls: &str) -> String {
    let port = hub.port("leaf");
    format!("{{ url: \"{url}:{port}\", ignore_discovered_servers: true, {tls} }}")
}

fn fails_with(remote: &str, text: &str) -> Result<()> {
    let mut gateway = edge(remote, "")?;
    gateway.wait_for_log(text, LIMIT)?;
    ensure!(links(&gateway)?.is_empty(), "linked all the same\n{}", gateway.log_tail());
    Ok(())
}

#[test]
fn a_hub_is_believed_when_its_ca_is_ours_and_its_name_fits() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    let (ours, others) = (files.path().join("ours"), files.path().join("others"));
    identities(&ours, &["localhost"])?;
    identities(&others, &["localhost"])?;
    let hub = hub(&serving(&ours, ""), "")?;
    let trusting = |folder: &Path| format!("tls {{ ca_file: \"{}/ca.pem\" }}", folder.display());

    let gateway = edge(&remote("tls://localhost", &hub, &trusting(&ours)), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);
    // Also when only the hub asks for TLS.
    let gateway = edge(&remote("nats-leaf://localhost", &hub, &trusting(&ours)), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);

    fails_with(&remote("tls://localhost", &hub, &trusting(&others)), "signed by nobody we trust: set \"ca_file\"")?;
    fails_with(&remote("tls://localhost", &hub, ""), "signed by nobody we trust: set \"ca_file\"")?;
    fails_with(&remote("tls://127.0.0.1", &hub, &trusting(&ours)), "the hub's certificate is for another name")
}

#[test]
fn a_hub_that_asks_for_a_certificate_gets_it() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    let (ours, others) = (files.path().join("ours"), files.path().join("others"));
    identities(&ours, &["localhost"])?;
    identities(&others, &["localhost"])?;
    let hub = hub(&serving(&ours, ", verify: true"), "")?;
    let showing = |folder: &Path| {
        let (ca, at) = (ours.display(), folder.display());
        format!("tls {{ ca_file: \"{ca}/ca.pem\", cert_file: \"{at}/client.pem\", key_file: \"{at}/client-key.pem\" }}")
    };
    let gateway = edge(&remote("tls://localhost", &hub, &showing(&ours)), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);

    let without = format!("tls {{ ca_file: \"{}/ca.pem\" }}", ours.display());
    fails_with(&remote("tls://localhost", &hub, &without), "\"cert_file\" and \"key_file\"")?;
    fails_with(&remote("tls://localhost", &hub, &showing(&others)), "the hub does not take our certificate")
}

#[test]
fn tls_before_info() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    identities(files.path(), &["localhost"])?;
    let hub = hub(&serving(files.path(), ", handshake_first: true"), "")?;
    let ca = format!("ca_file: \"{}/ca.pem\"", files.path().display());
    let gateway = edge(&remote("tls://localhost", &hub, &format!("tls {{ {ca}, handshake_first: true }}")), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);
    // The hub waits for our first byte, and we for its.
    let quick = "uplink { first_info_timeout: 500ms }";
    let mut gateway = edge(&remote("tls://localhost", &hub, &format!("tls {{ {ca} }}")), quick)?;
    gateway.wait_for_log("no INFO in time (is it a leafnode port, does it want TLS first?)", LIMIT)
}

#[test]
fn tls_to_a_hub_without_it_is_named() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let hub = hub("", "")?;
    fails_with(&remote("tls://localhost", &hub, ""), "does it have a tls block?")
}
