//! The `nats` command line over TLS: the listener asks for a client's certificate and verifies it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, NatsCli};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A CA, and an identity that it signed; as files in the folder.
fn identities(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), authority.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    fs::write(folder.join("cert.pem"), CertificateParams::new(names)?.signed_by(&key, &issuer)?.pem())?;
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
