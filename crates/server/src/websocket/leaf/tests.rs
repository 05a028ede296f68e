//! A link against a hub that is played byte by byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;

const UPGRADE: Upgrade<'static> = Upgrade { host: "hub:443", path: "/nats/", no_masking: false };

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Reads the request; its text and its key.
async fn request(hub: &mut DuplexStream) -> (String, String) {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(hub.read_u8().await.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap().to_owned();
    (text, key)
}

fn answer(key: &str, more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{more}\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// A link, and its hub's end; what the hub says behind its answer comes in one piece with it.
async fn upgraded(upgrade: &Upgrade<'_>, more: &str, behind: &[u8]) -> (LeafWebSocket<DuplexStream>, DuplexStream) {
    let (ours, mut hub) = duplex(1 << 16);
    let hub = async {
        let (_, key) = request(&mut hub).await;
        hub.write_all(&[answer(&key, more).as_bytes(), behind].concat()).await.unwrap();
        hub
    };
    let (link, hub) = tokio::join!(LeafWebSocket::upgrade(ours, upgrade), hub);
    (link.unwrap(), hub)
}

/// A frame as a hub sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// What a link sent, unmasked: first byte, was it masked, payload.
async fn sent(hub: &mut DuplexStream) -> (u8, bool, Vec<u8>) {
    let (first, second) = (hub.read_u8().await.unwrap(), hub.read_u8().await.unwrap());
    let length = match second & 0x7f {
        126 => hub.read_u16().await.unwrap().into(),
        127 => hub.read_u64().await.unwrap(),
        length => length.into(),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        hub.read_exact(&mut mask).await.unwrap();
    }
    let mut payload = vec![0; length as usize];
    hub.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    (first, second & 0x80 != 0, payload)
}

#[test]
fn the_request_is_that_of_a_stock_leaf() {
    run(async {
        let (ours, mut hub) = duplex(4096);
        let dial = LeafWebSocket::upgrade(ours, &UPGRADE);
        let hub = async {
            let (text, key) = request(&mut hub).await;
            assert!(text.starts_with("GET /nats/leafnode HTTP/1.1\r\nHost: hub:443\r\n"), "{text}");
            assert!(!text.contains("Nats-No-Masking") && !text.contains("Extensions"), "{text}");
            hub.write_all(answer(&key, "").as_bytes()).await.unwrap();
        };
        assert!(tokio::join!(dial, hub).0.is_ok());
    });
}

#[test]
fn bytes_come_out_as_they_went_in_however_they_are_framed() {
    run(async {
        let text: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let mut wire = frame(0x02, &text[..10]); // fragmented
        wire.extend(frame(0x89, b"are you there?"));
        wire.extend(frame(0x80, &text[10..20]));
        wire.extend(frame(0x82, b""));
        wire.extend(frame(0x82, &text[20..300]));
        wire.extend(frame(0x82, &text[300..])); // larger than any buffer
        for chunk in [1usize, 7, 100_000] {
            let (mut link, mut hub) = upgraded(&UPGRADE, "", &wire[..30]).await;
            let writer = async {
                for piece in wire[30..].chunks(chunk) {
                    hub.write_all(piece).await.unwrap();
                }
                let answer = sent(&mut hub).await;
                assert_eq!(answer, (0x8a, true, b"are you there?".to_vec()));
                hub
            };
            let mut read = vec![0; text.len()];
            let (result, _hub) = tokio::join!(link.read_exact(&mut read), writer);
            result.unwrap();
            assert!(read == text, "in pieces of {chunk}");
        }
    });
}

#[test]
fn what_is_written_is_masked_unless_the_hub_agrees_not_to() {
    run(async {
        let asking = Upgrade { no_masking: true, ..UPGRADE };
        for (upgrade, more, masked) in [
            (&UPGRADE, "", true),
            // What was not asked for is not agreed on.
            (&UPGRADE, "Nats-No-Masking: true\r\n", true),
            (&asking, "", true),
            (&asking, "Nats-No-Masking: true\r\n", false),
        ] {
            let (mut link, mut hub) = upgraded(upgrade, more, b"").await;
            let long = vec![b'x'; MAX_SENT_FRAME + 1];
            let writer = async {
                link.write_all(b"PING\r\n").await.unwrap();
                link.write_all(&long).await.unwrap();
                link.flush().await.unwrap();
                link
            };
            let reader = async {
                assert_eq!(sent(&mut hub).await, (0x82, masked, b"PING\r\n".to_vec()));
                assert_eq!(sent(&mut hub).await.2.len(), MAX_SENT_FRAME);
                assert_eq!(sent(&mut hub).await.2.len(), 1);
            };
            tokio::join!(writer, reader);
        }
    });
}

#[test]
fn a_close_is_answered_and_says_why() {
    run(async {
        let (mut link, mut hub) = upgraded(&UPGRADE, "", &frame(0x88, b"\x03\xf0Authentication Failure")).await;
        let error = link.read_u8().await.unwrap_err().to_string();
        assert_eq!(error, "the hub closed the WebSocket: 1008 Authentication Failure");
        assert_eq!(sent(&mut hub).await, (0x88, true, b"\x03\xf0".to_vec()));
        for normal in [&b"\x03\xe9Server Shutdown"[..], b"\x03\xe8", b"", b"x"] {
            let (mut link, _hub) = upgraded(&UPGRADE, "", &frame(0x88, normal)).await;
            assert_eq!(link.read(&mut [0; 10]).await.unwrap(), 0, "{normal:?}");
        }
    });
}

#[test]
fn frames_that_break_the_rules_end_the_link() {
    run(async {
        for bad in [
            &b"\x82\x81abcdx"[..], // masked
            b"\xc2\x01x",          // compressed
            b"\x83\x01x",          // unknown
            b"\x89\x7e\x00\xff",   // a ping of 255 bytes
            b"\x09\x01x",          // a ping in parts
            b"GET / HTTP/1.1\r\n",
        ] {
            let (mut link, _hub) = upgraded(&UPGRADE, "", bad).await;
            assert!(link.read_u8().await.is_err(), "{bad:?}");
        }
        // A length that nothing can have allocates nothing, and is read until the hub tires of it.
        let (mut link, hub) = upgraded(&UPGRADE, "", b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffabc").await;
        let mut read = [0; 3];
        link.read_exact(&mut read).await.unwrap();
        drop(hub);
        assert!(&read == b"abc" && link.read(&mut read).await.unwrap() == 0);
        assert!(link.input.capacity() <= READ_BUFFER + MAX_ANSWER);
    });
}

#[test]
fn an_answer_that_is_no_upgrade_says_what_to_do() {
    let refusal = |answer: &'static [u8]| {
        run(async {
            let (ours, mut hub) = duplex(1 << 16);
            let hub = async {
                request(&mut hub).await;
                hub.write_all(answer).await.unwrap();
                drop(hub);
            };
            let (link, ()) = tokio::join!(LeafWebSocket::upgrade(ours, &UPGRADE), hub);
            link.err().unwrap().to_string()
        })
    };
    assert!(refusal(b"HTTP/1.1 404 Not Found\r\n\r\n").contains("\"404 Not Found\""));
    assert!(refusal(b"INFO {\"server_id\":\"x\"}\r\n").contains("is it a WebSocket port?"));
    assert!(refusal(b"").contains("closed the connection"));
    assert!(refusal(b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n").contains("no WebSocket upgrade"));
    assert!(refusal(&[b'x'; MAX_ANSWER * 2]).contains("is it a WebSocket port?"));
}
