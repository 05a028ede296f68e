//! How many handshakes may go on at a time, and how long one may take.
//!
//! A TLS handshake costs milliseconds of a small core and some 30 KB while it lasts. A fleet that reconnects after an outage must neither stop the
//! traffic of those who are in nor take the memory: [`AT_A_TIME`] go on, [`MAX_WAITING`] wait for their turn, the rest is closed at once and comes
//! back by its own back-off. WebSocket upgrades wait in the same line.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::ServerTls;

/// Handshakes under way.
const AT_A_TIME: usize = 64;
/// Connections that wait for theirs.
const MAX_WAITING: usize = 1024;

/// The line in which handshakes wait; one for all listeners of a core.
#[derive(Clone, Debug)]
pub struct Handshakes(Rc<Line>);

#[derive(Debug)]
struct Line {
    running: Semaphore,
    waiting: Cell<usize>,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes(Rc::new(Line { running: Semaphore::new(AT_A_TIME), waiting: Cell::new(0) }))
    }
}

/// Counts a waiting one for as long as it waits, even if it is dropped.
struct Waits<'a>(&'a Cell<usize>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Handshakes {
    /// Runs a handshake when it is its turn. `patience` holds for the handshake itself, not for the wait before it.
    ///
    /// # Errors
    /// What the handshake says; `TimedOut`; `ConnectionRefused` when too many wait.
    pub(crate) async fn run<T>(
        &self,
        patience: Duration,
        handshake: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let _turn = self.turn().await?;
        tokio::time::timeout(patience, handshake).await.map_err(|_| too_slow())?
    }

    async fn turn(&self) -> io::Result<SemaphorePermit<'_>> {
        if self.0.waiting.get() >= MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "too many handshakes wait"));
        }
        self.0.waiting.set(self.0.waiting.get() + 1);
        let _waits = Waits(&self.0.waiting);
        self.0.running.acquire().await.map_err(io::Error::other)
    }

    /// The server's side of a TLS handshake.
    pub(crate) async fn accept(&self, tls: &ServerTls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(std::sync::Arc::clone(&tls.config));
        self.run(tls.timeout, async { acceptor.accept(stream).await }).await
    }
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "handshake timeout")
}
