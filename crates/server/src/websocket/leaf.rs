//! The WebSocket of a leaf link that we dial: its upgrade, and frames as a stream of bytes.
//!
//! Payloads are passed on while they come, so a frame may have any length: a hub puts everything that waits for us into one frame, and after a slow
//! minute that is more than we would keep for a frame as a whole. The codec of frame headers and of the upgrade is the library's.
//!
//! Our frames are masked, the hub's are not; with `no_masking` the hub is asked to take ours unmasked, and what it answers decides. Extensions are
//! not offered. Bounds: the answer to the upgrade in bytes (in time by the caller), a frame that we send, and what waits for the socket.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use broker::CloseReason;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::{Response, generate_key};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::{MAX_SENT_FRAME, close_code};
use crate::tls::TlsSession;
use crate::transport::{SessionStream, Transport};

/// Longest answer to the upgrade, bytes.
const MAX_ANSWER: usize = 8 * 1024;
/// Read at a time.
const READ_BUFFER: usize = 16 * 1024;
/// Longest payload of a ping or close, by RFC 6455.
const MAX_CONTROL: u64 = 125;
/// Answers to pings are left out while more than this waits for the socket.
const MAX_WAITING: usize = 2 * MAX_SENT_FRAME;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Upgrade<'a> {
    /// `host:port`, an IPv6 address in brackets.
    pub host: &'a str,
    /// Path of the URL; `/leafnode` is added to it, as stock does.
    pub path: &'a str,
    /// Ask the hub to take frames unmasked.
    pub no_masking: bool,
}

/// See the module.
pub struct LeafWebSocket<S> {
    stream: S,
    masked: bool,
    /// Received; before `read` it is handed out.
    input: Vec<u8>,
    read: usize,
    /// Bytes of the current frame's payload still to be handed out.
    remaining: u64,
    /// Whole frames, sent up to `sent`.
    output: Vec<u8>,
    sent: usize,
    unflushed: bool,
    ended: bool,
    said_close: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> LeafWebSocket<S> {
    /// Upgrades a connection.
    ///
    /// # Errors
    /// What the socket says, and an answer that is no upgrade, with what a person can do about it.
    pub async fn upgrade(mut stream: S, upgrade: &Upgrade<'_>) -> io::Result<LeafWebSocket<S>> {
        let key = generate_key();
        let path = format!("{}/leafnode", upgrade.path.trim_end_matches('/'));
        let masking = if upgrade.no_masking { "Nats-No-Masking: true\r\n" } else { "" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\n{masking}\r\n",
            upgrade.host
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut input = Vec::with_capacity(READ_BUFFER);
        let (used, response) = loop {
            match Response::try_parse(&input) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) if input.len() < MAX_ANSWER => {}
                _ => return Err(refused("the hub does not answer in HTTP: is it a WebSocket port?")),
            }
            let room = (MAX_ANSWER - input.len()) as u64;
            if (&mut stream).take(room).read_buf(&mut input).await? == 0 {
                return Err(refused("the hub closed the connection instead of upgrading it to a WebSocket"));
            }
        };
        check(&response, &key)?;
        let agreed = response.headers().get("Nats-No-Masking").is_some_and(|value| value.as_bytes() == b"true");
        Ok(LeafWebSocket {
            stream,
            masked: !(upgrade.no_masking && agreed),
            input,
            read: used,
            remaining: 0,
            output: Vec::new(),
            sent: 0,
            unflushed: false,
            ended: false,
            said_close: false,
        })
    }

    /// What lies below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// For [`crate::CoreHandle::attach`].
    #[must_use]
    pub fn into_transport(self) -> Transport
    where
        S: 'static,
    {
        Transport::session(self)
    }

    /// Appends a frame to the output.
    fn frame(&mut self, opcode: OpCode, pieces: &[io::IoSlice<'_>], length: usize) -> io::Result<()> {
        let mask = if self.masked { Some(getrandom::u32().map_err(io::Error::other)?.to_ne_bytes()) } else { None };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        header.format(length as u64, &mut self.output).map_err(io::Error::other)?;
        let start = self.output.len();
        let mut room = length;
        for piece in pieces {
            let part = &piece[..piece.len().min(room)];
            self.output.extend_from_slice(part);
            room -= part.len();
        }
        if let Some(mask) = mask {
            for (byte, key) in self.output[start..].iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
        }
        self.unflushed = true;
        Ok(())
    }

    fn say_close(&mut self, code: CloseCode, reason: &str) {
        if self.said_close {
            return;
        }
        self.said_close = true;
        let payload = [&u16::from(code).to_be_bytes(), reason.as_bytes()].concat();
        // Without random numbers it is closed all the same.
        let _ = self.frame(OpCode::Control(Control::Close), &[io::IoSlice::new(&payload)], payload.len());
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.output[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        self.output.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_unflushed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(self.poll_drain(context))?;
            ready!(Pin::new(&mut self.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more; `Ok(false)` is the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.input.drain(..self.read);
        self.read = 0;
        let held = self.input.len();
        self.input.resize(READ_BUFFER.max(held + MAX_CONTROL as usize), 0);
        let mut buffer = ReadBuf::new(&mut self.input[held..]);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        let more = buffer.filled().len();
        self.input.truncate(held + more);
        ready!(polled)?;
        Poll::Ready(Ok(more > 0))
    }

    /// Takes frame headers and control frames off the input until payload follows. `Ok(false)`: more must be read.
    fn take_header(&mut self) -> io::Result<bool> {
        while self.remaining == 0 && !self.ended {
            let mut cursor = Cursor::new(&self.input[self.read..]);
            let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(protocol_error)? else {
                return Ok(false);
            };
            let start = self.read + cursor.position() as usize;
            if header.rsv1 || header.rsv2 || header.rsv3 || header.mask.is_some() {
                return Err(refused("the hub sends WebSocket frames that were not agreed on"));
            }
            match header.opcode {
                OpCode::Data(Data::Binary | Data::Text | Data::Continue) => {
                    self.read = start;
                    self.remaining = length;
                }
                OpCode::Control(control) if length <= MAX_CONTROL && header.is_final => {
                    let end = start + length as usize;
                    if end > self.input.len() {
                        return Ok(false);
                    }
                    self.read = end;
                    self.control(control, start..end)?;
                }
                _ => return Err(refused("the hub sends WebSocket frames of an unknown kind")),
            }
        }
        Ok(true)
    }

    fn control(&mut self, control: Control, payload: std::ops::Range<usize>) -> io::Result<()> {
        match control {
            Control::Ping if self.output.len() <= MAX_WAITING => {
                let payload = self.input[payload].to_vec();
                self.frame(OpCode::Control(Control::Pong), &[io::IoSlice::new(&payload)], payload.len())
            }
            Control::Close => {
                self.ended = true;
                let (code, reason) = match &self.input[payload] {
                    [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
                    _ => (u16::from(CloseCode::Normal), &[][..]),
                };
                let reason = String::from_utf8_lossy(reason).into_owned();
                self.say_close(CloseCode::from(code), "");
                if code == u16::from(CloseCode::Normal) || code == u16::from(CloseCode::Away) {
                    return Ok(());
                }
                Err(refused(&format!("the hub closed the WebSocket: {code} {reason}")))
            }
            _ => Ok(()),
        }
    }
}

/// Is it an upgrade, and to what we asked for?
fn check(response: &Response, key: &str) -> io::Result<()> {
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(&format!(
            "the hub answers \"{status}\" instead of upgrading to a WebSocket: are the URL's port and path those of its websocket listener?"
        )));
    }
    let header = |name: &str| response.headers().get(name).map(|value| value.as_bytes());
    let upgraded = header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    if !upgraded || header("Sec-WebSocket-Accept") != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(refused("the hub's answer is no WebSocket upgrade"));
    }
    if header("Sec-WebSocket-Extensions").is_some() || header("Sec-WebSocket-Protocol").is_some() {
        return Err(refused("the hub's WebSocket upgrade grants what was not asked for"));
    }
    Ok(())
}

fn refused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn protocol_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for LeafWebSocket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The task that waits for a full socket comes here too.
        if let Poll::Ready(Err(error)) = this.poll_unflushed(context) {
            return Poll::Ready(Err(error));
        }
        loop {
            let taken = this.take_header();
            if this.unflushed {
                // An answer to a ping or a close, as far as the socket takes it.
                let _ = this.poll_unflushed(context)?;
            }
            let complete = taken?;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if complete && this.read < this.input.len() {
                let there = &this.input[this.read..];
                let left = usize::try_from(this.remaining).unwrap_or(usize::MAX);
                let count = there.len().min(left).min(buffer.remaining());
                buffer.put_slice(&there[..count]);
                this.read += count;
                this.remaining -= count as u64;
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.poll_more(context))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LeafWebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(context))?;
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        let count = wanted.min(MAX_SENT_FRAME);
        if count == 0 {
            return Poll::Ready(Ok(0));
        }
        this.frame(OpCode::Data(Data::Binary), pieces, count)?;
        if let Poll::Ready(Err(error)) = this.poll_drain(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unflushed(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.say_close(CloseCode::Normal, "");
        ready!(this.poll_unflushed(context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SessionStream for LeafWebSocket<S> {
    fn end(self: Pin<&mut Self>, context: &mut Context<'_>, reason: CloseReason) {
        let this = self.get_mut();
        this.say_close(close_code(reason), reason.text());
        // As far as the socket takes it at once.
        let _ = this.poll_unflushed(context);
    }

    fn tls(&self) -> Option<TlsSession> {
        None
    }
}

#[cfg(test)]
mod tests;
