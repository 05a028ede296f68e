//! TLS on every listener: the `nats` command line with a client's certificate, nats.js by `tls` and `wss`, mqtt.js by `mqtts` and `wss`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, NatsCli, node};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A CA, and an identity that it signed; as files in the folder.
fn identities(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut own = CertificateParams::new(names)?;
    // Another name than the authority's, or OpenSSL takes it for signed by itself.
    own.distinguished_name.push(DnType::CommonName, "gateway");
    fs::write(folder.join("cert.pem"), own.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

#[test]
fn a_client_certificate_is_verified() -> Result<()> {
    if !peers::available(Peer::NatsCli) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    identities(files.path())?;
    let at = |name: &str| files.path().join(name).display().to_string();
    let (ca, cert, key) = (at("ca.pem"), at("cert.pem"), at("key.pem"));
    let tls = format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: true }}\n");
    let gateway = Gateway::start(&format!("{}{tls}", Gateway::PLAIN))?;
    let cli = NatsCli::new(&format!("tls://{}", gateway.address("nats")))?;
    cli.run(&["--tlsca", &ca, "--tlscert", &cert, "--tlskey", &key, "pub", "a", "hello"])?.success()?;
    let without = cli.run(&["--tlsca", &ca, "pub", "a", "hello"])?;
    ensure!(!without.status.success(), "served without a certificate: {without:?}");
    let unknown = cli.run(&["pub", "a", "hello"])?;
    ensure!(!unknown.status.success(), "the client took a certificate of nobody: {unknown:?}");
    Ok(())
}

/// An interpreter takes a second to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn javascript_clients_over_tls_on_every_listener() -> Result<()> {
    if !peers::available(Peer::NatsJs) || !peers::available(Peer::MqttJs) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    identities(files.path())?;
    let at = |name: &str| files.path().join(name).display().to_string();
    let tls = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", at("cert.pem"), at("key.pem"));
    let secured = Gateway::PLAIN
        .replace("\"127.0.0.1:<mqtt>\" }", &format!("\"127.0.0.1:<mqtt>\", {tls} }}"))
        .replace("no_tls: true }", &format!("{tls} }}"));
    let gateway = Gateway::start(&format!("{secured}{tls}\n"))?;
    let ca = files.path().join("ca.pem");
    let websocket = format!("wss://{}", gateway.address("websocket"));
    let urls = [format!("tls://{}", gateway.address("nats")), websocket.clone()];
    let said = node::run_trusting(Some(&ca), "edge_nats.mjs", &[&urls[0], &urls[1]], LIMIT)?.success()?;
    assert_eq!(said, "core\nstream\nconsumer\nremoved\n".repeat(2));
    for url in [format!("mqtts://{}", gateway.address("mqtt")), format!("{websocket}/mqtt")] {
        let said = node::run_trusting(Some(&ca), "edge_mqtt.mjs", &[&url, "round"], LIMIT)?.success()?;
        assert_eq!(said, "level/a/b one 1\nroom/1/t zero 0\n", "{url}");
    }
    let unknown = node::run("edge_mqtt.mjs", &[&format!("mqtts://{}", gateway.address("mqtt")), "round"], LIMIT)?;
    ensure!(!unknown.status.success(), "the client took a certificate of nobody: {unknown:?}");
    Ok(())
}
