//! Malformed, oversized, slow and hostile input on every listener: it costs its sender the connection, with the text that the
//! standard has for it, and nobody else anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::mqtt_raw::{self, Session};
use harness::{Gateway, RawMqtt, RawNats, Server, http};

/// Short deadlines, so that the slow cases are quick.
const STRICT: &str = "authorization { timeout: 1 }\nmax_control_line: 1024\nmqtt_limits { connect_timeout: \"1s\" }\n";

const CONNECT: &str = "CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1}\r\n";

fn start() -> Result<(Server, Witness)> {
    let gateway = Gateway::start(&format!("{}{STRICT}", Gateway::PLAIN))?;
    let witness = Witness::of(&gateway)?;
    Ok((gateway, witness))
}

/// Clients that do nothing wrong, on connections that stay open all the time.
struct Witness {
    nats: RawNats,
    mqtt: RawMqtt,
}

impl Witness {
    fn of(gateway: &Server) -> Result<Witness> {
        let (mut nats, _) = RawNats::connect(gateway.address("nats"))?;
        nats.send("SUB good.> 1\r\n")?;
        nats.flush()?;
        let (mut mqtt, _) = RawMqtt::connect(gateway.address("mqtt"), "witness", Session::Clean)?;
        mqtt.send(&mqtt_raw::subscribe_packet(1, "good/#", 0))?;
        mqtt.expect(b"\x90\x03\x00\x01\x00")?;
        Ok(Witness { nats, mqtt })
    }

    /// A message still reaches both.
    fn goes_on(&mut self) -> Result<()> {
        self.nats.send("PUB good.one 2\r\nok\r\n")?;
        ensure!(self.nats.message()?.payload == b"ok");
        ensure!(self.mqtt.packet()?.body == b"\x00\x08good/oneok");
        Ok(())
    }
}

#[test]
fn nats_clients_that_break_the_protocol() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let garbage: Vec<u8> = (0..4096_u32).map(|index| u8::try_from(index * 197 % 251).unwrap_or(0) | 0x80).collect();
    let long_line = format!("SUB {} 1\r\n", "a".repeat(4000));
    let rows: [(&str, &[u8], &str); 10] = [
        ("an unknown verb", b"HELLO\r\n", "-ERR 'Unknown Protocol Operation'"),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "-ERR 'Unknown Protocol Operation'"),
        ("a server's verb", b"MSG a 1 2\r\nok\r\n", "-ERR 'Unknown Protocol Operation'"),
        ("a payload longer than said", b"PUB a 2\r\nlonger\r\n", "-ERR 'Unknown Protocol Operation'"),
        ("a claim of 200 MB", b"PUB a 200000000\r\n", "-ERR 'Maximum Payload Violation'"),
        ("a claim beyond 64 bits", b"PUB a 99999999999999999999999\r\n", "-ERR"),
        ("a negative claim", b"PUB a -1\r\n", "-ERR"),
        ("a header larger than the whole", b"HPUB a 20 10\r\n", "-ERR"),
        ("a long control line", long_line.as_bytes(), "-ERR 'maximum control line exceeded'"),
        ("binary garbage", &garbage, "-ERR"),
    ];
    for (what, bytes, expected) in rows {
        let mut bad = RawNats::dial(gateway.address("nats"))?;
        bad.info()?;
        bad.send(CONNECT)?;
        // The peer may close before it has read all.
        let _ = bad.send(bytes);
        let said = bad.expect_close().with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what}: {said:?}");
        witness.goes_on().with_context(|| what.to_owned())?;
    }
    Ok(())
}

#[test]
fn nats_connects_that_are_no_connects() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let deep = format!("CONNECT {}\r\n", "[".repeat(900));
    let rows: [(&str, &[u8], &str); 4] = [
        ("no JSON", b"CONNECT {\"verbose\":\r\n", "-ERR"),
        ("deep JSON", deep.as_bytes(), "-ERR"),
        ("a protocol of later days", b"CONNECT {\"protocol\":7}\r\n", "-ERR 'invalid client protocol'"),
        (
            "no_responders without headers",
            b"CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
            "-ERR 'no responders requires headers support'",
        ),
    ];
    for (what, bytes, expected) in rows {
        let mut bad = RawNats::dial(gateway.address("nats"))?;
        bad.info()?;
        bad.send(bytes)?;
        let said = bad.expect_close().with_context(|| what.to_owned())?;
        ensure!(said.contains(expected), "{what}: {said:?}");
        witness.goes_on()?;
    }
    Ok(())
}

#[test]
fn mqtt_clients_that_break_the_standard() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let connect = mqtt_raw::connect_packet("bad", Session::Clean, 60);
    // A packet that says 256 MB, of which little comes.
    let huge = [&connect[..], b"\x30\xff\xff\xff\x7f\x00\x01a"].concat();
    let rows: [(&str, Vec<u8>); 10] = [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("no CONNECT first", mqtt_raw::publish_packet("a", None, b"x")),
        ("another protocol name", mqtt_raw::frame(0x10, b"\x00\x04XXXX\x04\x02\x00\x3c\x00\x01a")),
        ("a reserved flag", mqtt_raw::frame(0x10, b"\x00\x04MQTT\x04\x03\x00\x3c\x00\x01a")),
        ("a second CONNECT", [&connect[..], &connect[..]].concat()),
        ("a remaining length of five bytes", [&connect[..], b"\x30\xff\xff\xff\xff\x01"].concat()),
        ("a claim of 256 MB", huge),
        ("QoS 3", [&connect[..], b"\x36\x05\x00\x01a\x00\x01"].concat()),
        ("a topic with a wildcard", [&connect[..], &mqtt_raw::publish_packet("a/#", None, b"x")[..]].concat()),
        ("a topic that is not UTF-8", [&connect[..], b"\x30\x04\x00\x02\xff\xfe"].concat()),
    ];
    for (what, bytes) in rows {
        let mut bad = RawMqtt::dial(gateway.address("mqtt"))?;
        let _ = bad.send(&bytes);
        bad.expect_close().with_context(|| what.to_owned())?;
        witness.goes_on().with_context(|| what.to_owned())?;
    }
    // [MQTT-3.1.2-2] an unknown level is told before the close.
    let mut old = RawMqtt::dial(gateway.address("mqtt"))?;
    old.send(&mqtt_raw::frame(0x10, b"\x00\x04MQTT\x09\x02\x00\x3c\x00\x01a"))?;
    let said = old.expect_close()?;
    ensure!(said.starts_with(b"\x20") && said.get(3) == Some(&0x84), "{said:?}");
    Ok(())
}

#[test]
fn a_byte_at_a_time_is_slow_but_right() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let mut nats = RawNats::dial(gateway.address("nats"))?;
    nats.info()?;
    for byte in format!("{CONNECT}SUB drip 1\r\nPUB drip 5\r\nhello\r\nPING\r\n").as_bytes() {
        nats.send([*byte])?;
    }
    ensure!(nats.message()?.payload == b"hello");
    let mut mqtt = RawMqtt::dial(gateway.address("mqtt"))?;
    let packets = [
        mqtt_raw::connect_packet("drip", Session::Clean, 60),
        mqtt_raw::subscribe_packet(1, "drip", 1),
        mqtt_raw::publish_packet("drip", Some(1), &[b'x'; 300]),
    ];
    for byte in packets.concat() {
        mqtt.send(&[byte])?;
        // The stream's end of an unfinished packet is not the end of the others.
        if byte == b'd' {
            witness.goes_on()?;
        }
    }
    let kinds = [mqtt.packet()?.kind(), mqtt.packet()?.kind(), mqtt.packet()?.kind(), mqtt.packet()?.kind()];
    ensure!(kinds[..2] == [2, 9] && kinds.contains(&3) && kinds.contains(&4), "{kinds:?}");
    Ok(())
}

#[test]
fn who_never_finishes_connect_is_closed() -> Result<()> {
    let users = "authorization { user: a, password: b, timeout: 1 }\n";
    let gateway = Gateway::start(&format!("{}{users}mqtt_limits {{ connect_timeout: \"1s\" }}\n", Gateway::PLAIN))?;
    let mut silent = RawNats::dial(gateway.address("nats"))?;
    silent.info()?;
    let mut half = RawMqtt::dial(gateway.address("mqtt"))?;
    half.send(&mqtt_raw::connect_packet("half", Session::Clean, 60)[..6])?;
    let mut mute = RawNats::dial(gateway.address("websocket"))?;
    mute.send("GET / HTTP/1.1\r\nHost: x\r\n")?;
    let said = silent.expect_close()?;
    ensure!(said.contains("-ERR 'Authentication Timeout'"), "{said:?}");
    half.expect_close()?;
    mute.expect_close()?;
    Ok(())
}

/// Sends bytes as they are and hands back what comes until the close.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => Ok(said),
        // Closed with our bytes unread.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(said),
        Err(error) => Err(error).context("still open"),
    }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn websocket_peers_that_break_the_standard() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let upgraded = |frames: &[u8]| [UPGRADE.as_bytes(), b"\r\n", frames].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X-Filler: 0123456789\r\n".repeat(2000));
    let rows: [(&str, Vec<u8>, &str); 8] = [
        ("no upgrade", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "HTTP/1.1 4"),
        ("POST", b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "HTTP/1.1 405"),
        ("NATS without upgrade", b"CONNECT {}\r\nPING\r\n\r\n".to_vec(), "HTTP/1.1 4"),
        ("a header of 40 KB", many.into_bytes(), "HTTP/1.1 4"),
        ("/mqtt without its sub-protocol", UPGRADE.replacen("/ ", "/mqtt ", 1).into_bytes(), "HTTP/1.1 400"),
        ("a frame that is not masked", upgraded(b"\x82\x04PING"), "HTTP/1.1 101"),
        (
            "a frame of 2^62 bytes",
            upgraded(b"\x82\xff\x3f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"),
            "HTTP/1.1 101",
        ),
        ("a reserved opcode", upgraded(b"\x87\x80\x00\x00\x00\x00"), "HTTP/1.1 101"),
    ];
    for (what, mut bytes, expected) in rows {
        if what.starts_with("/mqtt") {
            bytes.extend(b"\r\n");
        }
        let said = exchange(gateway.address("websocket"), &bytes).with_context(|| what.to_owned())?;
        ensure!(String::from_utf8_lossy(&said).starts_with(expected), "{what}: {}", String::from_utf8_lossy(&said));
        witness.goes_on().with_context(|| what.to_owned())?;
    }
    Ok(())
}

#[test]
fn http_peers_that_break_the_standard() -> Result<()> {
    let (gateway, mut witness) = start()?;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let rows: [(&str, &[u8]); 4] = [
        ("NATS", b"CONNECT {}\r\nPING\r\n\r\n"),
        ("garbage", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("a long path", long.as_bytes()),
        (
            "a claim of a body",
            b"POST /varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n",
        ),
    ];
    for (what, bytes) in rows {
        let said = exchange(gateway.address("http"), bytes).with_context(|| what.to_owned())?;
        ensure!(
            !String::from_utf8_lossy(&said).starts_with("HTTP/1.1 2"),
            "{what}: {}",
            String::from_utf8_lossy(&said)
        );
        witness.goes_on().with_context(|| what.to_owned())?;
    }
    assert_eq!(http::get(gateway.address("http"), "/nowhere")?.0, 404);
    assert_eq!(http::get(gateway.address("http"), "/connz?sort=bogus")?.0, 400);
    assert_eq!(http::get_json(gateway.address("http"), "/healthz")?["status"], "ok");
    for path in ["/varz", "/connz", "/leafz", "/jsz", "/subsz"] {
        http::get_json(gateway.address("http"), path)?;
    }
    ensure!(http::get(gateway.address("http"), "/metrics")?.1.contains("\nnats_"), "no metrics");
    Ok(())
}
