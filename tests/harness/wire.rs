//! A socket for scripted checks: bytes out, bytes in, every read with a deadline, nothing read is lost by a failed check.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a scripted check waits for an answer: the machine may be busy, a working server answers in microseconds.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection with what was received and not yet asked for.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    limit: Duration,
    ended: bool,
}

impl Wire {
    pub(crate) fn connect(address: SocketAddr) -> Result<Wire> {
        let stream =
            TcpStream::connect_timeout(&address, ANSWER_LIMIT).with_context(|| format!("dialling {address}"))?;
        Wire::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Wire { stream, received: Vec::new(), limit: ANSWER_LIMIT, ended: false })
    }

    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// What was received and not taken.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.received
    }

    /// The first `count` bytes, waiting for them.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        self.wait_for("bytes", |received| (received.len() >= count).then_some(count))
    }

    /// Takes as many bytes as `found` says, as soon as it says a number.
    pub(crate) fn wait_for(&mut self, what: &str, found: impl Fn(&[u8]) -> Option<usize>) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(count) = found(&self.received) {
                return Ok(self.received.drain(..count).collect());
            }
            if self.ended {
                bail!("the connection was closed while waiting for {what}; received: {}", printable(&self.received));
            }
            if !self.fill(deadline)? {
                bail!("no {what} within {:?}; received: {}", self.limit, printable(&self.received));
            }
        }
    }

    /// The same without waiting; `None` when it is not there yet: nothing is lost then.
    pub(crate) fn poll(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(count) = found(&self.received) {
                return Ok(Some(self.received.drain(..count).collect()));
            }
            if self.ended {
                bail!("the connection was closed; received: {}", printable(&self.received));
            }
            self.stream.set_nonblocking(true)?;
            let is_there = self.read_once();
            self.stream.set_nonblocking(false)?;
            if !is_there? {
                return Ok(None);
            }
        }
    }

    /// Waits for the peer to close, and hands back what it said before.
    pub(crate) fn wait_for_close(&mut self) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.limit;
        while !self.ended {
            if !self.fill(deadline)? {
                bail!("still open after {:?}; received: {}", self.limit, printable(&self.received));
            }
        }
        Ok(std::mem::take(&mut self.received))
    }

    /// Whether nothing (more) arrives for as long as `quiet`.
    pub(crate) fn is_silent(&mut self, quiet: Duration) -> Result<bool> {
        if self.ended || !self.received.is_empty() {
            return Ok(false);
        }
        Ok(!self.fill(Instant::now() + quiet)?)
    }

    /// One read; `false` when the deadline passed first. The end of the stream counts as something.
    fn fill(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.stream.set_read_timeout(Some(left))?;
        self.read_once()
    }

    fn read_once(&mut self) -> Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A peer that closes with our bytes unread resets the connection: closed all the same.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted) => {
                self.ended = true;
            }
            Err(error) => return Err(error).context("receiving"),
        }
        Ok(true)
    }
}

/// Bytes as a person can read them in an error.
pub(crate) fn printable(bytes: &[u8]) -> String {
    /// More than this says nothing more.
    const SHOWN: usize = 2_000;
    let shown = bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string();
    if bytes.is_empty() {
        "nothing".to_owned()
    } else if bytes.len() > SHOWN {
        format!("\"{shown}\"… ({} bytes)", bytes.len())
    } else {
        format!("\"{shown}\"")
    }
}
