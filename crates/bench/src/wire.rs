//! A raw NATS connection: bytes out, bytes in, and just enough reading to take messages apart.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Give up when a server says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const REPLY: &str = "_INBOX.bench.reply";

/// A connection that has been greeted.
pub(crate) struct Wire {
    stream: TcpStream,
}

/// One message that was delivered.
pub(crate) struct Delivered<'a> {
    /// Where an answer goes; empty without.
    pub(crate) reply: &'a [u8],
    /// Headers, if any, and payload.
    pub(crate) body: &'a [u8],
}

impl Wire {
    /// Connects, says CONNECT and waits for the PONG.
    pub(crate) fn connect(address: SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Wire { stream };
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n")?;
        wire.ping()?;
        Ok(wire)
    }

    /// Writes all.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads what is there, at least one byte.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.stream.read(buffer)? {
            0 => bail!("the server closed the connection"),
            read => Ok(read),
        }
    }

    /// PING, and everything up to the PONG.
    pub(crate) fn ping(&mut self) -> Result<()> {
        self.send(b"PING\r\n")?;
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(6).any(|window| window == b"PONG\r\n") {
            let read = self.read(&mut buffer)?;
            seen.drain(..seen.len().saturating_sub(6));
            seen.extend_from_slice(&buffer[..read]);
        }
        Ok(())
    }

    /// A request whose answer is JSON without an `error`. Only for connections without other subscriptions.
    pub(crate) fn request(&mut self, subject: &str, payload: &str) -> Result<Value> {
        let length = payload.len();
        self.send(
            format!("SUB {REPLY} 99\r\nUNSUB 99 1\r\nPUB {subject} {REPLY} {length}\r\n{payload}\r\n").as_bytes(),
        )?;
        let mut held = Vec::new();
        let mut buffer = [0; 4096];
        let mut answer = None;
        while answer.is_none() {
            let read = self.read(&mut buffer)?;
            held.extend_from_slice(&buffer[..read]);
            let taken = messages(&held, |message| answer = Some(message.body.to_vec()))?;
            held.drain(..taken);
        }
        let answer = answer.unwrap_or_default();
        let text = String::from_utf8_lossy(&answer);
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{subject} answered {text:?}"))?;
        if let Some(error) = value.get("error") {
            bail!("{subject} was refused: {error}");
        }
        Ok(value)
    }
}

/// Calls `each` for the whole messages in `held` and says how many bytes they were.
pub(crate) fn messages(held: &[u8], mut each: impl FnMut(&Delivered<'_>)) -> Result<usize> {
    let mut at = 0;
    while let Some(line) = memchr::memchr(b'\n', &held[at..]) {
        let text = held[at..at + line].trim_ascii_end();
        let body = at + line + 1;
        if !text.starts_with(b"MSG ") && !text.starts_with(b"HMSG ") {
            if text.starts_with(b"-ERR") {
                bail!("the server said {}", String::from_utf8_lossy(text));
            }
            at = body;
            continue;
        }
        // MSG subject sid [reply] size; HMSG subject sid [reply] header-size size.
        let fixed = if text[0] == b'H' { 5 } else { 4 };
        let mut words = text.split(|byte| *byte == b' ');
        let count = words.clone().count();
        let reply = if count > fixed { words.nth(3).unwrap_or_default() } else { b"" };
        let size = text.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
        let size: usize = std::str::from_utf8(size)?.parse().context("the size of a message")?;
        if held.len() < body + size + 2 {
            break;
        }
        each(&Delivered { reply, body: &held[body..body + size] });
        at = body + size + 2;
    }
    Ok(at)
}

/// `PUB subject [reply] size` with a payload of that size.
pub(crate) fn publish_frame(subject: &str, reply: &str, size: usize) -> Vec<u8> {
    let space = if reply.is_empty() { "" } else { " " };
    let mut frame = format!("PUB {subject} {reply}{space}{size}\r\n").into_bytes();
    frame.resize(frame.len() + size, b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

/// As many frames as fit 64 KiB, at least one; and how many they are.
pub(crate) fn batch(frame: &[u8]) -> (Vec<u8>, u64) {
    let count = (64 * 1024 / frame.len()).max(1);
    (frame.repeat(count), count as u64)
}
