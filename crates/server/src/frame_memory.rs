//! The share of the memory budget that unfinished WebSocket frames may take.
//!
//! The frame layer hands a frame over when all of it is there, and does not say how much it holds meanwhile: so the bytes that went into it are
//! counted on their way, and charged to one account for all WebSockets of a listener. Beyond [`LIMIT`] the connection that wants more is closed.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// For all connections together, bytes: eight frames of the default `max_payload`.
const LIMIT: usize = 8 * 1024 * 1024;
/// What a connection may hold without being charged: its read buffer, which it keeps anyway.
const FREE: usize = 4 * 1024;

/// The account.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameMemory(Rc<Cell<usize>>);

impl FrameMemory {
    /// Nothing is charged yet.
    pub(crate) fn charge(&self) -> Charge {
        Charge { account: self.clone(), bytes: 0 }
    }
}

/// What one connection is charged; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: FrameMemory,
    bytes: usize,
}

impl Charge {
    /// Changes what this connection holds. `false`: there is no room for more, nothing was changed.
    pub(crate) fn set(&mut self, held: usize) -> bool {
        let bytes = if held > FREE { held } else { 0 };
        let others = self.account.0.get() - self.bytes;
        if bytes > self.bytes && others + bytes > LIMIT {
            return false;
        }
        self.account.0.set(others + bytes);
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.0.set(self.account.0.get() - self.bytes);
    }
}

/// A stream that counts what is read from it.
pub(crate) struct Counted<S> {
    stream: S,
    received: Cell<usize>,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S) -> Counted<S> {
        Counted { stream, received: Cell::new(0) }
    }

    /// Bytes since the last [`Counted::reset`].
    pub(crate) fn received(&self) -> usize {
        self.received.get()
    }

    pub(crate) fn reset(&self) {
        self.received.set(0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.received.set(this.received.get() + buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_share_one_limit_and_give_back() {
        let memory = FrameMemory::default();
        let (mut one, mut other) = (memory.charge(), memory.charge());
        assert!(one.set(FREE) && memory.0.get() == 0);
        assert!(one.set(LIMIT - 10_000));
        assert!(!other.set(10_001));
        assert!(other.set(10_000));
        assert!(one.set(5_000));
        assert!(other.set(20_000));
        drop(one);
        assert_eq!(memory.0.get(), 20_000);
        assert!(other.set(0));
        assert_eq!(memory.0.get(), 0);
    }
}
