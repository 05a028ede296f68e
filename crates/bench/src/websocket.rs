//! A NATS connection in a WebSocket, as far as it takes to be greeted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

/// One text after the upgrade: greeted means that the PONG came.
const GREETING: &[u8] = b"CONNECT {\"verbose\":false}\r\nPING\r\n";

/// Connects, upgrades, says CONNECT and waits for the PONG.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // RFC 6455 §4.1; the key is the RFC's example.
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes())?;
    let answer = read_until(&mut stream, b"\r\n\r\n")?;
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", String::from_utf8_lossy(&answer));
    // RFC 6455 §5.2: final, binary; masked, with a mask of zeros that changes nothing.
    let mut frame = vec![0x82, 0x80 | u8::try_from(GREETING.len())?, 0, 0, 0, 0];
    frame.extend_from_slice(GREETING);
    stream.write_all(&frame)?;
    read_until(&mut stream, b"PONG\r\n")?;
    Ok(stream)
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Result<Vec<u8>> {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.windows(end.len()).any(|window| window == end) {
        match stream.read(&mut buffer)? {
            0 => bail!("the server closed the connection after {:?}", String::from_utf8_lossy(&seen)),
            read => seen.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(seen)
}
