//! A NATS client's TLS: INFO in clear, then the handshake, then everything else inside it.
//!
//! ```text
//!  Greeting ─ INFO's line written ─► Handshake ─► Secure
//!                                        └─ first byte is no ClientHello, and clear is allowed ─► Clear
//! ```
//!
//! To the broker this is a connection like any other: its first line goes out as it is, what it writes then waits for the handshake.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use broker::CloseReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::handshake::Handshakes;
use crate::tls::{ServerTls, TlsSession};
use crate::transport::SessionStream;

/// What begins a TLS record of the handshake.
const CLIENT_HELLO: u8 = 0x16;

/// See the module.
pub(crate) struct Upgrade {
    phase: Phase,
    tls: ServerTls,
    handshakes: Handshakes,
}

enum Phase {
    Greeting(TcpStream),
    Handshake(Pin<Box<dyn Future<Output = io::Result<Agreed>>>>),
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
    Failed,
}

enum Agreed {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Upgrade {
    /// INFO has not been sent.
    pub(crate) fn greeting(stream: TcpStream, tls: ServerTls, handshakes: Handshakes) -> Upgrade {
        Upgrade { phase: Phase::Greeting(stream), tls, handshakes }
    }

    fn begin(&mut self, stream: TcpStream) {
        let (tls, handshakes) = (self.tls.clone(), self.handshakes.clone());
        self.phase = Phase::Handshake(Box::pin(async move {
            // Who stays in clear is not hurried: that is the broker's to decide.
            if tls.optional && !begins_tls(&stream).await? {
                return Ok(Agreed::Clear(stream));
            }
            Ok(Agreed::Secure(Box::new(handshakes.accept(&tls, stream).await?)))
        }));
    }

    /// Goes on with the handshake, if there is one.
    fn poll_agreed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Phase::Handshake(handshake) = &mut self.phase else { return Poll::Ready(Ok(())) };
        match ready!(handshake.as_mut().poll(context)) {
            Ok(Agreed::Clear(stream)) => self.phase = Phase::Clear(stream),
            Ok(Agreed::Secure(stream)) => self.phase = Phase::Secure(stream),
            Err(error) => {
                tracing::debug!(%error, "TLS handshake error");
                self.phase = Phase::Failed;
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes of the first line what the socket takes. `Ok(None)`: it was written before.
    fn poll_greet(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<Option<usize>>> {
        let Phase::Greeting(stream) = &mut self.phase else { return Poll::Ready(Ok(None)) };
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes, |end| &bytes[..=end]);
        let written = ready!(Pin::new(stream).poll_write(context, line))?;
        if line.ends_with(b"\n")
            && written == line.len()
            && let Phase::Greeting(stream) = std::mem::replace(&mut self.phase, Phase::Failed)
        {
            self.begin(stream);
        }
        Poll::Ready(Ok(Some(written)))
    }
}

/// Waits for the first byte and leaves it there.
async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == CLIENT_HELLO)
}

/// Does the client begin TLS before it is greeted?
pub(crate) async fn begins_tls_within(stream: &TcpStream, patience: std::time::Duration) -> bool {
    matches!(tokio::time::timeout(patience, begins_tls(stream)).await, Ok(Ok(true)))
}

impl AsyncRead for Upgrade {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_agreed(context))?;
        match &mut this.phase {
            Phase::Clear(stream) => Pin::new(stream).poll_read(context, buffer),
            Phase::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
            // The first write begins the handshake and wakes the task.
            Phase::Greeting(_) | Phase::Handshake(_) => Poll::Pending,
            Phase::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Upgrade {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(written) = ready!(this.poll_greet(context, bytes))? {
            // The task waits for nothing yet: its next poll registers with the handshake.
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(written));
        }
        ready!(this.poll_agreed(context))?;
        match &mut this.phase {
            Phase::Clear(stream) => Pin::new(stream).poll_write(context, bytes),
            Phase::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
            Phase::Greeting(_) | Phase::Handshake(_) => Poll::Pending,
            Phase::Failed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().phase {
            Phase::Secure(stream) => Pin::new(stream).poll_flush(context),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().phase {
            Phase::Secure(stream) => Pin::new(stream).poll_shutdown(context),
            Phase::Clear(stream) | Phase::Greeting(stream) => Pin::new(stream).poll_shutdown(context),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl SessionStream for Upgrade {
    fn end(self: Pin<&mut Self>, context: &mut Context<'_>, _: CloseReason) {
        let _ = self.poll_shutdown(context);
    }

    fn tls(&self) -> Option<TlsSession> {
        match &self.phase {
            Phase::Secure(stream) => Some(TlsSession::of(stream.get_ref().1)),
            _ => None,
        }
    }
}

/// A stream that was secured before the broker heard of it.
pub(crate) struct Secured(pub(crate) TlsStream<TcpStream>);

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

impl SessionStream for Secured {
    fn end(self: Pin<&mut Self>, context: &mut Context<'_>, _: CloseReason) {
        let _ = self.poll_shutdown(context);
    }

    fn tls(&self) -> Option<TlsSession> {
        Some(TlsSession::of(self.0.get_ref().1))
    }
}
