//! A raw NATS connection: bytes out, bytes in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::Server;

/// Give up when a server says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection that has been greeted.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Connects, says CONNECT and waits for the PONG.
    pub(crate) fn connect(server: &Server) -> Result<Wire> {
        let stream = TcpStream::connect(server.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Wire { stream };
        wire.send(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n")?;
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
}

/// `PUB subject size` with a payload of that size.
pub(crate) fn publish_frame(subject: &str, size: usize) -> Vec<u8> {
    let mut frame = format!("PUB {subject} {size}\r\n").into_bytes();
    frame.resize(frame.len() + size, b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

/// As many frames as fit 64 KiB, at least one; and how many they are.
pub(crate) fn batch(frame: &[u8]) -> (Vec<u8>, u64) {
    let count = (64 * 1024 / frame.len()).max(1);
    (frame.repeat(count), count as u64)
}
