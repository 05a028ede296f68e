//! WebSocket: NATS and MQTT paths, frames in and out, refusals, and peers that break the rules.

use std::net::SocketAddr;
use std::time::Duration;

use server::tls::{DialTls, ServerTls};
use server::{Handshakes, WebSocketOptions, accept_websocket};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::place::{Client, Place, on_core};
use crate::secure::{identity, listener_tls, secure};

fn serve(place: &Place, options: WebSocketOptions) -> SocketAddr {
    place.listen(accept_websocket(place.core.clone(), options, Handshakes::default()))
}

fn request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// A masked frame, as clients send them.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;

async fn upgraded<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>) -> Client<S> {
    client.send(request("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n")).await;
    let answer = client.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // RFC 6455 §1.3 has this key and its answer.
    assert!(answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(!answer.to_lowercase().contains("extensions"), "{answer}");
    client
}

#[test]
fn nats_takes_text_and_binary_and_answers_in_binary() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        let mut client = upgraded(Client::connect(address).await).await;
        client.until("\r\n").await;
        client.send(frame(BINARY, b"CONNECT {\"verbose\":false}\r\nPI")).await;
        client.send(frame(TEXT, b"NG\r\n")).await;
        client.until("PONG\r\n").await;
        client.send(frame(BINARY, b"SUB a 1\r\nPUB a 2\r\nhi\r\n")).await;
        client.send(frame(PING, b"ours")).await;
        client.until("MSG a 1 2\r\nhi\r\n").await;
        // The pong, behind its first byte.
        client.until("\u{4}ours").await;
        let payload = "x".repeat(200_000);
        client.send(frame(BINARY, format!("PUB b 200000\r\n{payload}\r\nPING\r\n").as_bytes())).await;
        client.until("PONG\r\n").await;
    });
}

#[test]
fn frames_behind_the_request_are_not_lost() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        let mut client = Client::connect(address).await;
        client.send([request("/any/path", "").into_bytes(), frame(BINARY, b"CONNECT {}\r\nPING\r\n")].concat()).await;
        client.until("PONG\r\n").await;
    });
}

#[test]
fn it_works_inside_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let tls = Some(ServerTls::load(&listener_tls(files.clone())).unwrap());
        let address = serve(&place, WebSocketOptions { tls, ..WebSocketOptions::default() });
        let dial = DialTls { ca_file: Some(files.cert_file.clone()), ..DialTls::default() };
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut client = upgraded(Client::over(secure(stream, &dial).await.unwrap())).await;
        client.send(frame(BINARY, b"CONNECT {}\r\nPING\r\n")).await;
        client.until("PONG\r\n").await;
    });
}

/// Sends a request and gives the status line of the answer, which must be the last word unless it is an upgrade.
async fn status(address: SocketAddr, request: String) -> String {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    let line = client.until("\r\n").await;
    if !line.contains(" 101 ") {
        client.rest().await;
    }
    line["HTTP/1.1 ".len()..].trim_end().to_owned()
}

#[test]
fn requests_that_are_no_upgrade_are_answered() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        assert_eq!(status(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".into()).await, "400 Bad Request");
        assert_eq!(status(address, "INFO {}\r\n\r\n".into()).await, "400 Bad Request");
        let post = request("/", "").replace("GET", "POST");
        assert_eq!(status(address, post).await, "405 Method Not Allowed");
        assert_eq!(status(address, request("/leafnode", "")).await, "404 Not Found");
        let large = request("/", &format!("X: {}\r\n", "x".repeat(20_000)));
        assert_eq!(status(address, large).await, "431 Request Header Fields Too Large");
    });
}

#[test]
fn the_mqtt_path_wants_its_sub_protocol() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        assert_eq!(status(address, request("/mqtt", "")).await, "400 Bad Request");
        let mut client = Client::connect(address).await;
        client.send(request("/mqtt", "Sec-WebSocket-Protocol: chat, mqttv3.1\r\n")).await;
        let answer = client.until("\r\n\r\n").await.to_lowercase();
        assert!(answer.contains("sec-websocket-protocol: mqttv3.1\r\n"), "{answer}");
        // [MQTT-6.0.0-1], with 1003
        client.send(frame(TEXT, b"\x10")).await;
        let rest = client.rest().await;
        assert_eq!(rest[..1], [0x88]);
        assert_eq!(rest[2..4], 1003u16.to_be_bytes());
        let address = serve(&place, WebSocketOptions { mqtt: false, ..WebSocketOptions::default() });
        let offered = request("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
        assert_eq!(status(address, offered).await, "404 Not Found");
    });
}

#[test]
fn pages_of_other_origins_are_kept_out() {
    on_core(async |place| {
        let from = |origin: &str| request("/", &format!("Origin: {origin}\r\n"));
        let same = serve(&place, WebSocketOptions { same_origin: true, ..WebSocketOptions::default() });
        assert_eq!(status(same, from("http://localhost:8080")).await, "101 Switching Protocols");
        assert_eq!(status(same, request("/", "")).await, "101 Switching Protocols");
        assert_eq!(status(same, from("http://localhost")).await, "403 Forbidden");
        assert_eq!(status(same, from("null")).await, "403 Forbidden");
        let allowed_origins = vec!["https://a.example".to_owned()];
        let some = serve(&place, WebSocketOptions { allowed_origins, ..WebSocketOptions::default() });
        assert_eq!(status(some, from("https://A.example:443")).await, "101 Switching Protocols");
        assert_eq!(status(some, from("http://a.example")).await, "403 Forbidden");
    });
}

#[test]
fn who_breaks_the_rules_is_closed_with_a_code() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        let code = async |bytes: &[u8]| {
            let mut client = upgraded(Client::connect(address).await).await;
            client.until("\r\n").await;
            client.send(bytes).await;
            let rest = client.rest().await;
            assert_eq!(rest[0], 0x88, "{rest:?}");
            u16::from_be_bytes([rest[2], rest[3]])
        };
        let huge = [vec![BINARY, 0x80 | 127], (1u64 << 40).to_be_bytes().to_vec(), vec![1, 2, 3, 4]].concat();
        assert_eq!(code(&huge).await, 1009);
        // Not masked.
        assert_eq!(code(&[BINARY, 1, b'x']).await, 1002);
        assert_eq!(code(&frame(0x88, &1000u16.to_be_bytes())).await, 1000);
    });
}

#[test]
fn who_does_not_finish_the_request_is_closed_in_time() {
    on_core(async |place| {
        let handshake_timeout = Duration::from_millis(50);
        let address = serve(&place, WebSocketOptions { handshake_timeout, ..WebSocketOptions::default() });
        let mut client = Client::connect(address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
        assert!(client.rest().await.is_empty());
        assert_eq!(place.core.with(|core| core.connections()), 0);
    });
}

#[test]
fn unfinished_frames_share_one_bounded_memory() {
    on_core(async |place| {
        let address = serve(&place, WebSocketOptions::default());
        let unfinished = [vec![BINARY, 0x80 | 127], 1_000_000u64.to_be_bytes().to_vec(), vec![0; 4 + 999_000]].concat();
        let mut all = Vec::new();
        for _ in 0..8 {
            let mut client = upgraded(Client::connect(address).await).await;
            client.until("\r\n").await;
            client.send(&unfinished).await;
            all.push(client);
        }
        let mut late = upgraded(Client::connect(address).await).await;
        late.until("\r\n").await;
        // It may be closed before it has sent everything.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut late.stream, &unfinished).await;
        late.rest().await;
        while place.core.with(|core| core.connections()) != 8 {
            tokio::task::yield_now().await;
        }
        drop(all);
        place.core.drained().await;
        let mut client = upgraded(Client::connect(address).await).await;
        client.until("\r\n").await;
        client
            .send(frame(
                BINARY,
                format!("CONNECT {{}}\r\nPUB a 500000\r\n{}\r\nPING\r\n", "x".repeat(500_000)).as_bytes(),
            ))
            .await;
        client.until("PONG\r\n").await;
    });
}
