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
use crate::handshake::Handshakes;
use crate::tls::{HandshakeFirst, ServerTls};
use crate::transport::Transport;
use crate::upgrade::{Secured, Upgrade, begins_tls_within};

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

/// For listeners of NATS or MQTT with TLS. NATS clients are greeted in clear first, unless `handshake_first` says otherwise.
pub fn accept_tls(
    core: CoreHandle,
    protocol: Protocol,
    tls: ServerTls,
    handshakes: Handshakes,
) -> impl FnMut(TcpStream, SocketAddr) {
    move |stream, peer| {
        let (core, tls, handshakes) = (core.clone(), tls.clone(), handshakes.clone());
        let facts = TlsFacts { required: !tls.optional, verify: tls.verify, available: tls.optional };
        let new = NewConnection { protocol, transport: broker::Transport::Tcp, peer, tls: facts };
        let first = if protocol == Protocol::Nats { tls.first } else { HandshakeFirst::Always };
        if first == HandshakeFirst::Never {
            return attach(&core, Transport::session(Upgrade::greeting(stream, tls, handshakes)), &new);
        }
        tokio::task::spawn_local(async move {
            if let HandshakeFirst::Auto(patience) = first
                && !begins_tls_within(&stream, patience).await
            {
                return attach(&core, Transport::session(Upgrade::greeting(stream, tls, handshakes)), &new);
            }
            match Box::pin(handshakes.accept(&tls, stream)).await {
                Ok(stream) => attach(&core, Transport::session(Secured(stream)), &new),
                Err(error) => tracing::debug!(%peer, %error, "TLS handshake error"),
            }
        });
    }
}

fn attach(core: &CoreHandle, transport: Transport, new: &NewConnection) {
    if let Err(refusal) = core.attach(transport, new) {
        tracing::debug!(peer = %new.peer, %refusal, "connection refused");
    }
}

/// For listeners without TLS or WebSocket.
pub fn accept_plain(core: CoreHandle, protocol: Protocol) -> impl FnMut(TcpStream, SocketAddr) {
    move |stream, peer| {
        let new = NewConnection { protocol, transport: broker::Transport::Tcp, peer, tls: TlsFacts::default() };
        attach(&core, Transport::Tcp(stream), &new);
    }
}
