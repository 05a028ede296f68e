//! A NATS connection in TLS, and the certificate that the servers under test show.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A certificate that signs itself, for localhost.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
    client: Arc<ClientConfig>,
}

impl Authority {
    /// Makes it, and writes certificate and key into a temporary folder.
    pub(crate) fn new() -> Result<Authority> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Authority { folder, client: Arc::new(client) })
    }

    /// The block `tls` of a server.
    pub(crate) fn configuration(&self) -> Result<String> {
        let folder = self.folder.path().to_str().context("the temporary folder has a name in UTF-8")?;
        Ok(format!("tls {{ cert_file: \"{folder}/cert.pem\", key_file: \"{folder}/key.pem\" }}\n"))
    }
}

/// Connects, reads INFO in clear, makes the handshake, says CONNECT and waits for the PONG.
pub(crate) fn connect(address: SocketAddr, authority: &Authority) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
    }
    let connection = ClientConnection::new(Arc::clone(&authority.client), ServerName::try_from("localhost")?)?;
    let mut secured = StreamOwned::new(connection, stream);
    secured.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")?;
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(6).any(|window| window == b"PONG\r\n") {
        match secured.read(&mut buffer)? {
            0 => bail!("the server closed the connection"),
            read => seen.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(secured)
}
