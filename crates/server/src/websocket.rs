//! WebSocket: the upgrade request, and frames that become a stream of bytes.
//!
//! `/mqtt` speaks MQTT and wants the sub-protocol of that name (`[MQTT-6.0.0-3]`), `/leafnode` is refused, every other path is NATS, as in stock.
//! Binary frames go out, one for each write; text or binary ones come in (MQTT: binary only). Compression is declined. The broker sees plain bytes.
//!
//! Bounds: the request's header in bytes, in fields and in time, and the line of handshakes (`handshake`); a frame may be as large as a message with
//! its control line. A frame's claimed length reserves address space up to that, memory follows the bytes, and what unfinished frames of all
//! connections hold together is bounded (`frame_memory`).

mod leaf;
mod request;

pub use leaf::{LeafWebSocket, Upgrade};

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker::{CloseReason, NewConnection, Protocol, TlsFacts};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::{Request, write_response};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::core_loop::CoreHandle;
use crate::frame_memory::{Charge, Counted, FrameMemory};
use crate::handshake::Handshakes;
use crate::tls::{ServerTls, TlsSession};
use crate::transport::{SessionStream, Transport};

/// Largest header of an upgrade request, bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// Read at most of a refused request, bytes.
const MAX_LAST_READ: u64 = 64 * 1024;
/// Read at a time, and kept by each connection while it is open.
const READ_BUFFER: usize = 2 * 1024;
/// Largest frame that we send.
const MAX_SENT_FRAME: usize = 64 * 1024;
/// What may wait in the frame layer: a frame that the socket did not take, and answers to pings.
const MAX_WRITE_BUFFER: usize = 2 * MAX_SENT_FRAME;
/// A frame may be larger than `max_payload` by a control line and an MQTT header.
const FRAME_EXTRA: usize = 64 * 1024;

/// A listener's rules.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// TLS comes first; `None`: in clear.
    pub tls: Option<ServerTls>,
    /// From accept to the answer, TLS not counted.
    pub handshake_timeout: Duration,
    /// A page may connect only to the host that it comes from.
    pub same_origin: bool,
    /// Pages of these origins may connect; empty: of all.
    pub allowed_origins: Vec<String>,
    /// Fields added to the answer.
    pub headers: Vec<(String, String)>,
    /// Is MQTT served at `/mqtt`?
    pub mqtt: bool,
}

impl Default for WebSocketOptions {
    fn default() -> WebSocketOptions {
        WebSocketOptions {
            tls: None,
            handshake_timeout: Duration::from_secs(2),
            same_origin: false,
            allowed_origins: Vec::new(),
            headers: Vec::new(),
            mqtt: true,
        }
    }
}

/// For WebSocket listeners.
pub fn accept_websocket(
    core: CoreHandle,
    options: WebSocketOptions,
    handshakes: Handshakes,
) -> impl FnMut(TcpStream, SocketAddr) {
    let options = Rc::new(options);
    let memory = FrameMemory::default();
    move |stream, peer| {
        let (core, options, handshakes) = (core.clone(), Rc::clone(&options), handshakes.clone());
        let charge = memory.charge();
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(&core, &options, &handshakes, charge, stream, peer).await {
                tracing::debug!(%peer, %error, "WebSocket handshake error");
            }
        });
    }
}

async fn serve(
    core: &CoreHandle,
    options: &WebSocketOptions,
    handshakes: &Handshakes,
    charge: Charge,
    stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    let max_frame = core.with(|core| core.broker.settings().max_payload) + FRAME_EXTRA;
    match &options.tls {
        None => {
            let upgrade = handshakes.run(options.handshake_timeout, upgrade(stream, options, max_frame, charge));
            let (protocol, stream) = Box::pin(upgrade).await?;
            attach(core, protocol, Transport::session(stream), peer);
        }
        Some(tls) => {
            let stream = Box::pin(handshakes.accept(tls, stream)).await?;
            let session = TlsSession::of(stream.get_ref().1);
            let upgrade = handshakes.run(options.handshake_timeout, upgrade(stream, options, max_frame, charge));
            let (protocol, mut stream) = Box::pin(upgrade).await?;
            stream.tls = Some(session);
            attach(core, protocol, Transport::session(stream), peer);
        }
    }
    Ok(())
}

fn attach(core: &CoreHandle, protocol: Protocol, transport: Transport, peer: SocketAddr) {
    // What INFO says of TLS is about upgrading, which is not possible here.
    let new = NewConnection { protocol, transport: broker::Transport::WebSocket, peer, tls: TlsFacts::default() };
    if let Err(refusal) = core.attach(transport, &new) {
        tracing::debug!(%peer, %refusal, "connection refused");
    }
}

/// Reads the request and answers it.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    options: &WebSocketOptions,
    max_frame: usize,
    charge: Charge,
) -> io::Result<(Protocol, WebSocketBytes<S>)> {
    let mut buffer = Vec::with_capacity(1024);
    let (used, request) = loop {
        match Request::try_parse(&buffer) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if buffer.len() < MAX_REQUEST => {}
            Ok(None) => return refuse(&mut stream, "431 Request Header Fields Too Large", "request too large").await,
            Err(Error::Protocol(ProtocolError::WrongHttpMethod)) => {
                return refuse(&mut stream, "405 Method Not Allowed", "request method must be GET").await;
            }
            Err(_) => return refuse(&mut stream, "400 Bad Request", "not an HTTP request").await,
        }
        if (&mut stream).take(MAX_REQUEST as u64).read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let (protocol, response) = match request::judge(&request, options) {
        Ok(accepted) => accepted,
        Err((status, reason)) => return refuse(&mut stream, status, reason).await,
    };
    let mut answer = Vec::with_capacity(256);
    write_response(&mut answer, &response).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    buffer.drain(..used);
    let (stream, config) = (Counted::new(stream), config(max_frame));
    let frames = WebSocketStream::from_partially_read(stream, buffer, Role::Server, Some(config)).await;
    Ok((protocol, WebSocketBytes::new(frames, protocol, charge)))
}

fn config(max_frame: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(max_frame))
        .max_frame_size(Some(max_frame))
}

async fn refuse<T>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    status: &str,
    reason: &'static str,
) -> io::Result<T> {
    let length = reason.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{reason}\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What is unread would make the close a reset, which may overtake the answer.
    let _ = tokio::io::copy(&mut stream.take(MAX_LAST_READ), &mut tokio::io::sink()).await;
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// A WebSocket as a stream of bytes.
pub struct WebSocketBytes<S> {
    frames: WebSocketStream<Counted<S>>,
    /// Memory of the unfinished frame, or of the one being read.
    charge: Charge,
    /// Of a received frame, not read yet.
    rest: Bytes,
    protocol: Protocol,
    /// Something may lie in the frame layer that the socket did not take.
    unflushed: bool,
    tls: Option<TlsSession>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketBytes<S> {
    fn new(frames: WebSocketStream<Counted<S>>, protocol: Protocol, charge: Charge) -> WebSocketBytes<S> {
        WebSocketBytes { frames, charge, rest: Bytes::new(), protocol, unflushed: false, tls: None }
    }

    fn poll_unflushed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.frames).poll_flush(context)).map_err(to_io)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Closes with a code, as far as the socket takes it at once.
    fn close(&mut self, context: &mut Context<'_>, code: CloseCode, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        if Pin::new(&mut self.frames).poll_ready(context).is_ready() {
            let _ = Pin::new(&mut self.frames).start_send(Message::Close(Some(frame)));
            let _ = Pin::new(&mut self.frames).poll_flush(context);
        }
    }

    /// The next frame with something in it; `Ok(false)` is the end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let Some(received) = ready!(Pin::new(&mut self.frames).poll_next(context)) else {
                return Poll::Ready(Ok(false));
            };
            self.frames.get_ref().reset();
            match received {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                Ok(Message::Text(_)) if self.protocol == Protocol::Mqtt => {
                    // [MQTT-6.0.0-1]
                    self.close(context, CloseCode::Unsupported, "MQTT needs binary frames");
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "text frame")));
                }
                Ok(Message::Text(text)) => self.rest = text.into(),
                // Pings are answered by the frame layer, with its next read or write.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => self.unflushed = true,
                Ok(Message::Close(_)) => {
                    let _ = Pin::new(&mut self.frames).poll_flush(context);
                    return Poll::Ready(Ok(false));
                }
                Err(error) => return Poll::Ready(self.fail(context, error)),
            }
            if !self.rest.is_empty() {
                return Poll::Ready(Ok(true));
            }
        }
    }

    fn poll_charged_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let polled = self.poll_frame(context);
        if polled.is_ready() {
            // It is there already, and was charged while it came.
            self.charge.set(self.rest.len());
        } else if !self.charge.set(self.frames.get_ref().received()) {
            self.close(context, CloseCode::Again, "out of memory");
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        polled
    }

    fn fail(&mut self, context: &mut Context<'_>, error: Error) -> io::Result<bool> {
        match &error {
            Error::ConnectionClosed | Error::AlreadyClosed => return Ok(false),
            Error::Capacity(_) => self.close(context, CloseCode::Size, "frame too large"),
            Error::Protocol(_) => self.close(context, CloseCode::Protocol, "protocol error"),
            Error::Utf8(_) => self.close(context, CloseCode::Invalid, "no UTF-8"),
            _ => {}
        }
        Err(to_io(error))
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketBytes<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The task that waits for a full socket comes here too.
        if let Poll::Ready(Err(error)) = this.poll_unflushed(context) {
            return Poll::Ready(Err(error));
        }
        if this.rest.is_empty() && !ready!(this.poll_charged_frame(context))? {
            return Poll::Ready(Ok(()));
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        if this.rest.is_empty() {
            // An idle connection keeps no frame.
            this.rest = Bytes::new();
            this.charge.set(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketBytes<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.frames).poll_ready(context)).map_err(to_io)?;
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut payload = Vec::with_capacity(wanted.min(MAX_SENT_FRAME));
        for piece in pieces {
            let room = MAX_SENT_FRAME - payload.len();
            payload.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let count = payload.len();
        this.unflushed = true;
        Pin::new(&mut this.frames).start_send(Message::Binary(payload.into())).map_err(to_io)?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unflushed(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().frames).poll_close(context).map_err(to_io)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SessionStream for WebSocketBytes<S> {
    fn end(self: Pin<&mut Self>, context: &mut Context<'_>, reason: CloseReason) {
        let code = close_code(reason);
        self.get_mut().close(context, code, reason.text());
    }

    fn tls(&self) -> Option<TlsSession> {
        self.tls
    }
}

/// How a WebSocket says why it ends.
fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        CloseReason::ClientClosed | CloseReason::Kicked => CloseCode::Normal,
        CloseReason::ServerShutdown => CloseCode::Away,
        CloseReason::ProtocolViolation | CloseReason::MaxControlLineExceeded => CloseCode::Protocol,
        CloseReason::MaxPayloadExceeded => CloseCode::Size,
        CloseReason::ReadError | CloseReason::WriteError | CloseReason::TlsHandshakeError => CloseCode::Away,
        _ => CloseCode::Policy,
    }
}
