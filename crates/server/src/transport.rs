//! What carries a connection's bytes: a plain TCP socket, or anything else that is a stream of bytes.
//!
//! The plain socket is the fast path: readiness, one `recv` into the thread's scratch, `writev` of what is pending. TLS, WebSocket and
//! whatever else comes (a [`ByteStream`]) is boxed and goes through `poll_read` and `poll_write`; above this file nobody knows the difference.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use broker::CloseReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::TlsSession;

/// A stream of bytes that is no plain socket. A WebSocket presents the payloads of its frames.
pub trait ByteStream: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> ByteStream for T {}

/// A stream with a protocol of its own below the bytes: TLS, WebSocket.
pub(crate) trait SessionStream: ByteStream {
    /// Says farewell in that protocol, as far as the socket takes it at once.
    fn end(self: Pin<&mut Self>, context: &mut Context<'_>, reason: CloseReason);

    /// What TLS agreed on, if it is there.
    fn tls(&self) -> Option<TlsSession>;
}

/// See the module.
pub enum Transport {
    /// A plain socket.
    Tcp(TcpStream),
    /// Something in front of a socket.
    Boxed(Pin<Box<dyn ByteStream>>),
    /// The same, with a protocol that is to be ended properly.
    Session(Session),
}

/// TLS or WebSocket, as the listeners make them.
pub struct Session(Pin<Box<dyn SessionStream>>);

impl std::fmt::Debug for Transport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Transport::Tcp(stream) => out.debug_tuple("Tcp").field(stream).finish(),
            Transport::Boxed(_) => out.write_str("Boxed"),
            Transport::Session(_) => out.write_str("Session"),
        }
    }
}

impl Transport {
    /// Boxes a stream.
    pub fn boxed(stream: impl ByteStream + 'static) -> Transport {
        Transport::Boxed(Box::pin(stream))
    }

    pub(crate) fn session(stream: impl SessionStream + 'static) -> Transport {
        Transport::Session(Session(Box::pin(stream)))
    }

    /// What is not a plain socket.
    fn stream(&mut self) -> Option<Pin<&mut dyn ByteStream>> {
        match self {
            Transport::Tcp(_) => None,
            Transport::Boxed(stream) => Some(stream.as_mut()),
            Transport::Session(Session(stream)) => Some(stream.as_mut()),
        }
    }

    /// What TLS agreed on, on connections that we accepted.
    #[must_use]
    pub fn tls(&self) -> Option<TlsSession> {
        match self {
            Transport::Session(Session(stream)) => stream.tls(),
            _ => None,
        }
    }

    /// Ends the protocol below the bytes, without waiting for the peer.
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if let Transport::Session(Session(stream)) = self {
            stream.as_mut().end(&mut Context::from_waker(std::task::Waker::noop()), reason);
        }
    }

    /// Reads what is there into `buffer`; 0 is the end. `Pending` has registered the task.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(stream) => loop {
                std::task::ready!(stream.poll_read_ready(context))?;
                match stream.try_read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            other => {
                let Some(stream) = other.stream() else { return Poll::Pending };
                let mut buffer = ReadBuf::new(buffer);
                std::task::ready!(stream.poll_read(context, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    }

    /// Appends at most `room` bytes to `buffer`, which has the capacity. A boxed stream reads through `scratch`.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_read_append(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        room: usize,
        scratch: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(stream) => loop {
                std::task::ready!(stream.poll_read_ready(context))?;
                match stream.try_read_buf(&mut bytes::BufMut::limit(&mut *buffer, room)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            },
            Transport::Boxed(_) | Transport::Session(_) => {
                let room = room.min(scratch.len());
                let read = std::task::ready!(self.poll_read(context, &mut scratch[..room]))?;
                buffer.extend_from_slice(&scratch[..read]);
                Poll::Ready(Ok(read))
            }
        }
    }

    /// A short read of a plain socket emptied it: forget that it was readable, which saves the call that would say `EAGAIN`.
    pub fn read_was_short(&self) {
        if let Transport::Tcp(stream) = self {
            // Safe against losing data: the driver runs on this thread, so what arrives later is a later edge.
            let _ = stream.try_io(tokio::io::Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Writes some of the pieces. `Pending` has registered the task.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_write(&mut self, context: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Tcp(stream) => loop {
                // Tried before readiness is asked for: that would count against the budget of the task that flushes for many.
                let written = match pieces {
                    [piece] => stream.try_write(piece),
                    pieces => stream.try_write_vectored(pieces),
                };
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::task::ready!(stream.poll_write_ready(context))?;
                    }
                    result => return Poll::Ready(result),
                }
            },
            other => other.stream().map_or(Poll::Pending, |stream| stream.poll_write_vectored(context, pieces)),
        }
    }

    /// Pushes what a boxed stream holds back towards its socket.
    ///
    /// # Errors
    /// What the socket says.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().map_or(Poll::Ready(Ok(())), |stream| stream.poll_flush(context))
    }
}
