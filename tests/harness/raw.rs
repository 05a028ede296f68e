//! The NATS protocol by hand: exact bytes to a server, exact lines back. It knows no more than where a line and a payload end,
//! so that it can also play a leaf node, a hub, or somebody who gets it wrong.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::program::POLL;
use crate::wire::{ANSWER_LIMIT, Wire};

/// Connections made so far.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A connection that speaks lines.
#[derive(Debug)]
pub struct RawNats {
    wire: Wire,
    /// Its number among those of the test: two that ask at once must not get each other's answers.
    number: u64,
    /// Requests made on it.
    requests: u64,
}

/// A `MSG`, `HMSG`, `LMSG`, … with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// The control line without its line end.
    pub line: String,
    /// Header and payload as sent.
    pub payload: Vec<u8>,
}

impl RawNats {
    /// Dials and says nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn dial(address: SocketAddr) -> Result<RawNats> {
        Ok(RawNats::speaking(Wire::connect(address)?))
    }

    /// Speaks over a connection that was made elsewhere.
    ///
    /// # Errors
    /// When the socket refuses its options.
    pub fn over(stream: TcpStream) -> Result<RawNats> {
        Ok(RawNats::speaking(Wire::over(stream)?))
    }

    /// Dials as an ordinary client: reads INFO, sends CONNECT and PING, reads up to PONG and the INFO that may follow it.
    /// Hands back the first INFO too.
    ///
    /// # Errors
    /// When the server says something else.
    pub fn connect(address: SocketAddr) -> Result<(RawNats, Value)> {
        RawNats::connect_with(
            address,
            r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}"#,
        )
    }

    /// The same with CONNECT options of one's own.
    ///
    /// # Errors
    /// When the server says something else.
    pub fn connect_with(address: SocketAddr, options: &str) -> Result<(RawNats, Value)> {
        let mut client = RawNats::dial(address)?;
        let info = client.info()?;
        client.send(format!("CONNECT {options}\r\nPING\r\n"))?;
        client.skip_to("PONG")?;
        // As with nats-server, a second INFO follows the first PONG, so it comes before the second one.
        client.flush()?;
        Ok((client, info))
    }

    /// How long every later wait may take; ten seconds unless told.
    pub fn set_limit(&mut self, limit: Duration) {
        self.wire.set_limit(limit);
    }

    /// The socket, for its options or to close one half.
    pub fn stream(&self) -> &TcpStream {
        self.wire.stream()
    }

    /// Sends the bytes as they are.
    ///
    /// # Errors
    /// When the peer has gone or takes nothing for ten seconds.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.wire.send(bytes.as_ref())
    }

    /// The next line without its line end.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn line(&mut self) -> Result<String> {
        let bytes =
            self.wire.wait_for("line", |received| received.iter().position(|byte| *byte == b'\n').map(|at| at + 1))?;
        let text = String::from_utf8(bytes).context("a control line is not UTF-8")?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next line must be exactly this.
    ///
    /// # Errors
    /// When another one comes, or none.
    pub fn expect(&mut self, expected: &str) -> Result<()> {
        let line = self.line().with_context(|| format!("expecting {expected:?}"))?;
        ensure!(line == expected, "expected {expected:?}, received {line:?}");
        Ok(())
    }

    /// Reads lines until one begins with `prefix`, and hands it back. Payloads are not recognised: for control traffic.
    ///
    /// # Errors
    /// When `-ERR` comes first, or none in time.
    pub fn skip_to(&mut self, prefix: &str) -> Result<String> {
        loop {
            let line = self.line().with_context(|| format!("expecting {prefix:?}"))?;
            if line.starts_with(prefix) {
                return Ok(line);
            }
            ensure!(!line.starts_with("-ERR"), "expected {prefix:?}, received {line:?}");
        }
    }

    /// The next line must be an INFO; its object.
    ///
    /// # Errors
    /// When it is something else.
    pub fn info(&mut self) -> Result<Value> {
        let line = self.line().context("expecting INFO")?;
        let Some(json) = line.strip_prefix("INFO ") else { bail!("expected INFO, received {line:?}") };
        serde_json::from_str(json).with_context(|| format!("INFO is not JSON: {json}"))
    }

    /// The next message; an INFO or PING before it is passed over, the PING answered.
    ///
    /// # Errors
    /// When something else comes, or nothing in time.
    pub fn message(&mut self) -> Result<RawMessage> {
        loop {
            let line = self.line().context("expecting a message")?;
            match line.split(' ').next().unwrap_or_default() {
                "PING" => self.send("PONG\r\n")?,
                "INFO" | "PONG" => {}
                "MSG" | "HMSG" | "RMSG" | "LMSG" => return self.payload_of(line),
                _ => bail!("expected a message, received {line:?}"),
            }
        }
    }

    /// The next message, an `-ERR` or a PONG, if it is there already. PINGs are answered, INFOs passed over.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn poll(&mut self) -> Result<Option<RawMessage>> {
        while let Some(bytes) = self.wire.poll(whole)? {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            let line = String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned();
            match line.split(' ').next().unwrap_or_default() {
                "PING" => self.send("PONG\r\n")?,
                "INFO" => {}
                _ => {
                    let payload = bytes.get(end + 1..).and_then(|rest| rest.strip_suffix(b"\r\n"));
                    return Ok(Some(RawMessage { line, payload: payload.unwrap_or_default().to_vec() }));
                }
            }
        }
        Ok(None)
    }

    /// Sends PING and waits for its PONG: everything sent before has been handled then.
    ///
    /// # Errors
    /// When something else than INFO or PING comes first.
    pub fn flush(&mut self) -> Result<()> {
        self.send("PING\r\n")?;
        loop {
            let line = self.line().context("expecting PONG")?;
            match line.split(' ').next().unwrap_or_default() {
                "PONG" => return Ok(()),
                "PING" => self.send("PONG\r\n")?,
                "INFO" => {}
                _ => bail!("expected PONG, received {line:?}"),
            }
        }
    }

    /// Waits until the peer has closed; what it still said.
    ///
    /// # Errors
    /// When it stays open.
    pub fn expect_close(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.wire.wait_for_close()?).into_owned())
    }

    /// Whether nothing arrives for that long.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn is_silent(&mut self, quiet: Duration) -> Result<bool> {
        self.wire.is_silent(quiet)
    }

    /// A request and its first reply, on an inbox of its own. `-ERR` and anything but the reply is an error.
    ///
    /// # Errors
    /// When no reply comes in time.
    pub fn request(&mut self, subject: &str, payload: &[u8]) -> Result<RawMessage> {
        // One inbox for all requests of a connection: they are made one after another. But a subscription of its own for each: nats-server ends one that has had its
        // last message only after it has sent that message. Who subscribes again under the same id in between gets the old one, which then goes: some
        // three answers in 45,000 never came (2.15.1 alone, without any link), and none of 88,000 with an id for each.
        self.requests += 1;
        let id = format!("request{}", self.requests);
        let (inbox, size) = (format!("_INBOX.raw.{}", self.number), payload.len());
        self.send(format!("SUB {inbox} {id}\r\nUNSUB {id} 1\r\nPUB {subject} {inbox} {size}\r\n"))?;
        self.send(payload)?;
        self.send("\r\n")?;
        self.message()
    }

    fn speaking(wire: Wire) -> RawNats {
        RawNats { wire, number: MADE.fetch_add(1, Ordering::Relaxed), requests: 0 }
    }

    fn payload_of(&mut self, line: String) -> Result<RawMessage> {
        let size = line.rsplit(' ').next().unwrap_or_default();
        let size: usize = size.parse().with_context(|| format!("no size in {line:?}"))?;
        let mut payload = self.wire.take(size + 2)?;
        ensure!(payload.ends_with(b"\r\n"), "the payload of {line:?} is not followed by a line end");
        payload.truncate(size);
        Ok(RawMessage { line, payload })
    }
}

/// How long the first line is together with the payload that it announces, once all of it is there.
fn whole(received: &[u8]) -> Option<usize> {
    let end = received.iter().position(|byte| *byte == b'\n')? + 1;
    let line = String::from_utf8_lossy(&received[..end]);
    let mut words = line.trim_end().split(' ');
    let announces = matches!(words.next(), Some("MSG" | "HMSG" | "RMSG" | "LMSG"));
    let size: usize = if announces { words.next_back()?.parse().ok()? } else { return Some(end) };
    (received.len() >= end + size + 2).then_some(end + size + 2)
}

/// Accepts connections as a scripted server: a hub that misbehaves, or a leaf's other end.
#[derive(Debug)]
pub struct RawListener {
    listener: TcpListener,
}

impl RawListener {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub fn bind() -> Result<RawListener> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        Ok(RawListener { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// The next connection.
    ///
    /// # Errors
    /// When none comes within ten seconds.
    pub fn accept(&self) -> Result<RawNats> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return RawNats::over(stream);
                }
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.into()),
                Err(_) if Instant::now() >= deadline => bail!("nobody connected within {ANSWER_LIMIT:?}"),
                Err(_) => thread::sleep(POLL),
            }
        }
    }
}
