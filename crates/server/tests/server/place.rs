//! A running core, and clients of it that wait only so long.

use std::net::SocketAddr;
use std::time::Duration;

use broker::{Broker, ServerIdentity, Settings};
use server::{Clock, CoreHandle, Shutdown, bind, listen};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes; a failure then says what was waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on a core thread of its own.
pub(crate) fn on_core<F: Future>(test: impl FnOnce(Place) -> F) -> F::Output {
    on_core_with(Settings::default(), test)
}

pub(crate) fn on_core_with<F: Future>(settings: Settings, test: impl FnOnce(Place) -> F) -> F::Output {
    let server = ServerIdentity { id: "NTEST".into(), name: "test".into(), ..settings.server.clone() };
    let settings = Settings { server, ..settings };
    server::run(async move {
        let place =
            Place { core: CoreHandle::new(Broker::new(settings, 1), Clock::start()), shutdown: Shutdown::new() };
        test(place).await
    })
    .unwrap()
}

pub(crate) struct Place {
    pub(crate) core: CoreHandle,
    pub(crate) shutdown: Shutdown,
}

impl Place {
    /// Listens on any port.
    pub(crate) fn listen(&self, accept: impl FnMut(TcpStream, SocketAddr) + 'static) -> SocketAddr {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(listen(listener, self.shutdown.accepting(), accept));
        address
    }
}

/// A client over whatever carries its bytes.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    received: Vec<u8>,
}

impl Client<TcpStream> {
    pub(crate) async fn connect(address: SocketAddr) -> Client<TcpStream> {
        Client::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Client<S> {
        Client { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// What arrives, up to and with `end`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let end = end.as_bytes();
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let rest = self.received.split_off(at + end.len());
                let taken = std::mem::replace(&mut self.received, rest);
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            let read = read.unwrap_or_else(|_| panic!("no {:?}, only {:?}", text(end), text(&self.received)));
            assert!(read.unwrap() > 0, "closed before {:?}, after {:?}", text(end), text(&self.received));
        }
    }

    /// Everything until the other side closes, a reset included.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await {
                Ok(Ok(0) | Err(_)) => return std::mem::take(&mut self.received),
                Ok(Ok(_)) => {}
                Err(_) => panic!("not closed, received {:?}", text(&self.received)),
            }
        }
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
