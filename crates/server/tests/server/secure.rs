//! TLS: INFO in clear and then the handshake, the handshake first, client certificates, and peers that do something else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use broker::Protocol;
use server::tls::{DialTls, HandshakeFirst, IdentityFiles, ListenerTls, ServerTls, client_config, server_name};
use server::{Handshakes, accept_tls};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::place::{Client, Place, on_core};

/// A self-signed certificate for localhost, as files.
pub(crate) fn identity(folder: &Path, name: &str) -> IdentityFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |end: &str, content: String| -> PathBuf {
        let path = folder.join(format!("{name}.{end}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    IdentityFiles {
        cert_file: file("cert.pem", made.cert.pem()),
        key_file: file("key.pem", made.signing_key.serialize_pem()),
    }
}

pub(crate) fn listener_tls(identity: IdentityFiles) -> ListenerTls {
    ListenerTls {
        identity,
        ca_file: None,
        verify: false,
        only_13: false,
        timeout: Duration::from_secs(5),
        first: HandshakeFirst::Never,
        optional: false,
    }
}

/// The client's side of the handshake on a socket that is at the right place for it.
pub(crate) async fn secure(stream: TcpStream, dial: &DialTls) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::clone(&client_config(dial).unwrap()));
    connector.connect(server_name("localhost").unwrap(), stream).await
}

fn serve(place: &Place, tls: &ListenerTls) -> SocketAddr {
    let tls = ServerTls::load(tls).unwrap();
    place.listen(accept_tls(place.core.clone(), Protocol::Nats, tls, Handshakes::default()))
}

const CONNECT: &str = "CONNECT {\"verbose\":false}\r\nPING\r\n";

#[test]
fn info_goes_first_in_clear_and_the_rest_is_secured() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let address = serve(&place, &listener_tls(files.clone()));
        let mut clear = Client::connect(address).await;
        let info = clear.until("\r\n").await;
        assert!(info.contains("\"tls_required\":true"), "{info}");
        let dial = DialTls { ca_file: Some(files.cert_file.clone()), ..DialTls::default() };
        let mut client = Client::over(secure(clear.stream, &dial).await.unwrap());
        client.send(CONNECT).await;
        client.until("PONG\r\n").await;
        client.send(format!("SUB a 1\r\nPUB a 100000\r\n{}\r\n", "x".repeat(100_000))).await;
        client.until(&format!("MSG a 1 100000\r\n{}\r\n", "x".repeat(100_000))).await;
    });
}

#[test]
fn who_does_not_know_the_authority_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let address = serve(&place, &listener_tls(files));
        let mut clear = Client::connect(address).await;
        clear.until("\r\n").await;
        assert!(secure(clear.stream, &DialTls::default()).await.is_err());
        let mut clear = Client::connect(address).await;
        clear.until("\r\n").await;
        let believing = DialTls { insecure: true, ..DialTls::default() };
        let mut client = Client::over(secure(clear.stream, &believing).await.unwrap());
        client.send(CONNECT).await;
        client.until("PONG\r\n").await;
    });
}

#[test]
fn who_stays_in_clear_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let address = serve(&place, &listener_tls(files));
        let mut client = Client::connect(address).await;
        client.until("\r\n").await;
        client.send(CONNECT).await;
        let rest = client.rest().await;
        assert!(!rest.windows(4).any(|window| window == b"PONG"), "{rest:?}");
    });
}

#[test]
fn who_says_nothing_is_closed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let tls = ListenerTls { timeout: Duration::from_millis(50), ..listener_tls(files) };
        let address = serve(&place, &tls);
        let mut client = Client::connect(address).await;
        client.until("\r\n").await;
        client.rest().await;
        place.core.drained().await;
    });
}

#[test]
fn clear_is_served_where_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let address = serve(&place, &ListenerTls { optional: true, ..listener_tls(files.clone()) });
        let mut client = Client::connect(address).await;
        let info = client.until("\r\n").await;
        assert!(info.contains("\"tls_available\":true") && !info.contains("tls_required"), "{info}");
        client.send(CONNECT).await;
        client.until("PONG\r\n").await;
        let mut other = Client::connect(address).await;
        other.until("\r\n").await;
        let dial = DialTls { ca_file: Some(files.cert_file.clone()), ..DialTls::default() };
        let mut other = Client::over(secure(other.stream, &dial).await.unwrap());
        other.send(CONNECT).await;
        other.until("PONG\r\n").await;
    });
}

#[test]
fn the_handshake_may_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let dial = DialTls { ca_file: Some(files.cert_file.clone()), ..DialTls::default() };
        for first in [HandshakeFirst::Always, HandshakeFirst::Auto(Duration::from_secs(5))] {
            let address = serve(&place, &ListenerTls { first, ..listener_tls(files.clone()) });
            let stream = TcpStream::connect(address).await.unwrap();
            let mut client = Client::over(secure(stream, &dial).await.unwrap());
            assert!(client.until("\r\n").await.starts_with("INFO "));
            client.send(CONNECT).await;
            client.until("PONG\r\n").await;
        }
        let auto = HandshakeFirst::Auto(Duration::from_millis(10));
        let address = serve(&place, &ListenerTls { first: auto, ..listener_tls(files.clone()) });
        let mut client = Client::connect(address).await;
        client.until("\r\n").await;
        let mut client = Client::over(secure(client.stream, &dial).await.unwrap());
        client.send(CONNECT).await;
        client.until("PONG\r\n").await;
    });
}

#[test]
fn clients_must_show_a_certificate_where_it_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (identity(folder.path(), "server"), identity(folder.path(), "client"));
    on_core(async |place| {
        let ca_file = Some(theirs.cert_file.clone());
        let address = serve(&place, &ListenerTls { verify: true, ca_file, ..listener_tls(ours.clone()) });
        let known = DialTls { ca_file: Some(ours.cert_file.clone()), ..DialTls::default() };
        let mut client = Client::connect(address).await;
        assert!(client.until("\r\n").await.contains("\"tls_verify\":true"));
        // With TLS 1.3 the refusal comes after the client's side is done.
        if let Ok(stream) = secure(client.stream, &known).await {
            let mut client = Client::over(stream);
            let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, CONNECT.as_bytes()).await;
            assert!(client.rest().await.is_empty());
        }
        let shows = DialTls { identity: Some(theirs.clone()), ..known };
        let mut client = Client::connect(address).await;
        client.until("\r\n").await;
        let mut client = Client::over(secure(client.stream, &shows).await.unwrap());
        client.send(CONNECT).await;
        client.until("PONG\r\n").await;
    });
}

#[test]
fn unusable_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = identity(folder.path(), "server");
    files.cert_file = folder.path().join("absent.pem");
    let error = ServerTls::load(&listener_tls(files.clone())).unwrap_err().to_string();
    assert!(error.contains("absent.pem"), "{error}");
    files.cert_file.clone_from(&files.key_file);
    let error = ServerTls::load(&listener_tls(files)).unwrap_err().to_string();
    assert!(error.contains("no certificate"), "{error}");
}
