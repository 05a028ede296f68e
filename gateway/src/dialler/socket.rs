//! A dialled connection until it belongs to the core: TCP, WebSocket, TLS, and the frames of the handshake, one by one.
//!
//! Not a byte behind a frame is taken from the stream, so what is handed over has no left-over: a plain socket is peeked at, TLS and WebSocket give
//! their bytes one at a time while a line is read. Every future of this file may be dropped and made again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nats_proto::client::Limits;
use nats_proto::leaf::{Decoded, decode};
use rustls::ClientConfig;
use server::{LeafWebSocket, Transport, Upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use uplink::Target;

use super::connect::connect;
use super::failure::explain;

/// Longest line of a handshake, bytes, and some for the verb: sixteen times a client's control line, as stock takes on leaf links.
const MAX_LINE: usize = 66 * 1024;
/// A peer that does not take a few hundred bytes in this time takes nothing.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// What is looked at of a plain socket at once.
const PEEK: usize = 4096;

type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// Where a connection is on its way to the core.
pub(super) enum Socket {
    Closed,
    Dialling(Pending<Stream>),
    Securing(Pending<Stream>),
    Open(Frames),
}

/// What happened.
pub(super) enum Progress {
    Connected,
    Secured,
    /// A complete frame.
    Frame(Vec<u8>),
    /// The dial failed, or the connection ended.
    Ended(String),
}

/// What to dial, and how.
pub(super) struct Dial {
    pub(super) target: Target,
    /// Give up after so long.
    pub(super) within: Duration,
    /// See [`connect`].
    pub(super) again: Duration,
    /// What is not acknowledged for so long ends the connection.
    pub(super) stall: Duration,
    /// TLS before the WebSocket's upgrade.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// WebSocket frames go unmasked where the hub agrees.
    pub(super) no_masking: bool,
}

/// A stream that can be handed over.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
    WebSocket(Box<LeafWebSocket<TcpStream>>),
    SecureWebSocket(Box<LeafWebSocket<TlsStream<TcpStream>>>),
}

/// Reads frames.
pub(super) struct Frames {
    pub(super) stream: Stream,
    partial: Vec<u8>,
    limits: Limits,
}

/// A second handle of the socket, through which it can be told how to close when it belongs to the core.
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// The close will be a reset: the kernel sends nothing of what it still holds.
    pub(super) fn close_by_reset(&self) {
        // A socket that is gone has nothing to send.
        let _ = socket2::SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

impl Dial {
    async fn run(self) -> io::Result<Stream> {
        let address = &self.target.address;
        let stream = connect(&address.host, address.port, self.again).await?;
        // A kernel repeats what was lost after pauses that double, and so would take up a link again as late as it was away. A system that can't
        // do this leaves it to the silence that `uplink` sees.
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.stall));
        if !address.scheme.is_websocket() {
            return Ok(Stream::Plain(stream));
        }
        let host = address.authority();
        let upgrade = Upgrade { host: &host, path: &address.path, no_masking: self.no_masking };
        match self.tls {
            None => Ok(Stream::WebSocket(Box::new(LeafWebSocket::upgrade(stream, &upgrade).await?))),
            Some(tls) => {
                let name = server::tls::server_name(&self.target.server_name).map_err(io::Error::other)?;
                let stream = TlsConnector::from(tls).connect(name, stream).await?;
                Ok(Stream::SecureWebSocket(Box::new(LeafWebSocket::upgrade(stream, &upgrade).await?)))
            }
        }
    }
}

impl Socket {
    /// Begins to dial.
    pub(super) fn dial(dial: Dial) -> Socket {
        let within = dial.within;
        Socket::Dialling(Box::pin(async move {
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
            tokio::time::timeout(within, dial.run()).await.map_err(late)?
        }))
    }

    /// Begins the TLS handshake; nothing, if there is no plain connection.
    pub(super) fn secure(&mut self, tls: Arc<ClientConfig>, name: &str) {
        let Socket::Open(frames) = std::mem::replace(self, Socket::Closed) else { return };
        let Stream::Plain(stream) = frames.stream else { return };
        let name = server::tls::server_name(name).map_err(io::Error::other);
        *self = Socket::Securing(Box::pin(async move {
            let stream = TlsConnector::from(tls).connect(name?, stream).await?;
            Ok(Stream::Secure(Box::new(stream)))
        }));
    }

    /// What happens next; never, on a closed one.
    pub(super) async fn progress(&mut self, limits: Limits) -> Progress {
        let result = match self {
            Socket::Closed => std::future::pending().await,
            Socket::Dialling(dial) => dial.await.map(|stream| (stream, Progress::Connected)),
            Socket::Securing(handshake) => handshake.await.map(|stream| (stream, Progress::Secured)),
            Socket::Open(frames) => {
                return match frames.next().await {
                    Ok(frame) => Progress::Frame(frame),
                    Err(error) => Progress::Ended(explain(&error)),
                };
            }
        };
        match result {
            Ok((stream, progress)) => {
                *self = Socket::Open(Frames { stream, partial: Vec::new(), limits });
                progress
            }
            Err(error) => {
                *self = Socket::Closed;
                Progress::Ended(explain(&error))
            }
        }
    }

    /// Writes a few bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Socket::Open(frames) = self else { return Err(io::ErrorKind::NotConnected.into()) };
        let write = async {
            match &mut frames.stream {
                Stream::Plain(stream) => stream.write_all(bytes).await,
                Stream::Secure(stream) => all_of(stream, bytes).await,
                Stream::WebSocket(stream) => all_of(stream, bytes).await,
                Stream::SecureWebSocket(stream) => all_of(stream, bytes).await,
            }
        };
        tokio::time::timeout(WRITE_PATIENCE, write).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// A second handle of its socket.
    pub(super) fn wire(&self) -> Option<Wire> {
        let Socket::Open(frames) = self else { return None };
        frames.stream.tcp().as_fd().try_clone_to_owned().ok().map(Wire)
    }
}

async fn all_of(stream: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

impl Stream {
    /// The socket below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Secure(stream) => stream.get_ref().0,
            Stream::WebSocket(stream) => stream.get_ref(),
            Stream::SecureWebSocket(stream) => stream.get_ref().get_ref().0,
        }
    }

    /// For the core, and what `/connz` calls it.
    pub(super) fn into_transport(self) -> (Transport, broker::Transport) {
        match self {
            Stream::Plain(stream) => (Transport::Tcp(stream), broker::Transport::Tcp),
            Stream::Secure(stream) => (Transport::boxed(stream), broker::Transport::Tcp),
            Stream::WebSocket(stream) => (stream.into_transport(), broker::Transport::WebSocket),
            Stream::SecureWebSocket(stream) => (stream.into_transport(), broker::Transport::WebSocket),
        }
    }
}

impl Frames {
    /// The next complete frame.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let missing = if self.partial.last() == Some(&b'\n') || self.partial.len() > MAX_LINE {
                match decode(&self.partial, &self.limits) {
                    Ok(Decoded::Op(..)) => return Ok(std::mem::take(&mut self.partial)),
                    Ok(Decoded::Incomplete { need }) => need.saturating_sub(self.partial.len()).max(1),
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
                }
            } else {
                1
            };
            self.read(missing).await?;
        }
    }

    /// Reads at most `missing` bytes of a body, or to the end of a line when it is not known how many there are.
    async fn read(&mut self, missing: usize) -> io::Result<()> {
        let mut buffer = [0; PEEK];
        let wanted = missing.min(PEEK);
        let read = match &mut self.stream {
            Stream::Plain(stream) => {
                let there = stream.peek(&mut buffer).await?;
                let line = buffer[..there].iter().position(|byte| *byte == b'\n').map_or(there, |end| end + 1);
                let wanted = if missing > 1 { missing.min(there) } else { line };
                // They are there: this does not wait.
                stream.read(&mut buffer[..wanted]).await?
            }
            Stream::Secure(stream) => stream.read(&mut buffer[..wanted]).await?,
            Stream::WebSocket(stream) => stream.read(&mut buffer[..wanted]).await?,
            Stream::SecureWebSocket(stream) => stream.read(&mut buffer[..wanted]).await?,
        };
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the hub closed the connection"));
        }
        self.partial.extend_from_slice(&buffer[..read]);
        Ok(())
    }
}
