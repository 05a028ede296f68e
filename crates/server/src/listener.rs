//! Accepting connections.
//!
//! A listener is a bound socket and a closure that is given each accepted stream: plain NATS and MQTT attach it at once
//! ([`accept_plain`]); TLS and WebSocket spawn a handshake task that attaches what comes out of it. Running out of file descriptors slows the
//! loop down and ends nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use broker::{NewConnection, Protocol, TlsFacts};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::core_loop::CoreHandle;
use crate::transport::Transport;

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Shortest and longest wait after `accept` failed (descriptors, memory).
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Binds a listening socket. Port 0 is any free one.
///
/// # Errors
/// When the address can't be used.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart must get its port back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the token is cancelled, then closes the socket.
pub async fn listen(listener: TcpListener, stop: CancellationToken, mut accept: impl FnMut(TcpStream, SocketAddr)) {
    let mut back_off = BACK_OFF.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off = BACK_OFF.0;
                // Bursts are gathered by us; what is written is complete.
                let _ = stream.set_nodelay(true);
                accept(stream, peer);
            }
            // The peer was gone before we came.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed, waiting");
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// For listeners without TLS or WebSocket.
pub fn accept_plain(core: CoreHandle, protocol: Protocol) -> impl FnMut(TcpStream, SocketAddr) {
    move |stream, peer| {
        let new = NewConnection { protocol, transport: broker::Transport::Tcp, peer, tls: TlsFacts::default() };
        if let Err(refusal) = core.attach(Transport::Tcp(stream), &new) {
            tracing::debug!(%peer, %refusal, "connection refused");
        }
    }
}
