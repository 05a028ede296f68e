//! Tells when the network changed for the better: an address or a route appeared.
//!
//! The kernel says so over a netlink socket, so that a cable that is plugged in, or a modem that has found its network, is used at once and not with the
//! next dial. Where such a socket can't be had (a sandbox, another system) nothing is ever told, and links come back with their pauses.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Addresses and routes, of both versions of IP: `RTMGRP_…` of `rtnetlink(7)`.
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
/// `RTM_NEWADDR`.
const NEW_ADDRESS: u16 = 20;
/// `RTM_NEWROUTE`.
const NEW_ROUTE: u16 = 24;
/// Length of a message's header: length, type, flags, sequence, sender.
const HEADER: usize = 16;
/// What the kernel sends at once at most.
const BUFFER: usize = 16 * 1024;

/// See the module.
pub(super) struct NetworkWatch(Option<AsyncFd<OwnedFd>>);

impl NetworkWatch {
    /// Begins to listen. On a runtime with I/O.
    pub(super) fn start() -> NetworkWatch {
        let watch = open().inspect_err(|error| tracing::debug!(%error, "changes of the network are not watched"));
        NetworkWatch(watch.ok())
    }

    /// Returns when the network changed.
    pub(super) async fn changed(&mut self) {
        let mut buffer = vec![0; BUFFER];
        while let Some(socket) = &self.0 {
            let received = socket
                .async_io(Interest::READABLE, |socket| {
                    Ok(recv(socket, &mut buffer[..], RecvFlags::DONTWAIT).map(|(length, _)| length)?)
                })
                .await;
            match received {
                Ok(length) if is_better(&buffer[..length]) => return,
                Ok(_) => {}
                // More happened than the kernel kept.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => return,
                Err(error) => {
                    tracing::debug!(%error, "changes of the network are no longer watched");
                    self.0 = None;
                }
            }
        }
        std::future::pending().await
    }
}

fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 of this family is `NETLINK_ROUTE`.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    #[allow(
        deprecated,
        reason = "sound here: an `OwnedFd` never changes its descriptor; what replaces it is unsafe code"
    )]
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Is one of these messages about something new?
fn is_better(mut messages: &[u8]) -> bool {
    while let Some((header, _)) = messages.split_first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if matches!(kind, NEW_ADDRESS | NEW_ROUTE) {
            return true;
        }
        // Messages begin at multiples of four.
        match messages.get(length.max(HEADER).next_multiple_of(4)..) {
            Some(rest) => messages = rest,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: usize) -> Vec<u8> {
        let mut bytes = ((HEADER + body) as u32).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.resize((HEADER + body).next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn only_what_appears_counts_and_nonsense_does_not() {
        let (gone, new) = (message(21, 5), message(NEW_ROUTE, 40));
        assert!(is_better(&new) && is_better(&message(NEW_ADDRESS, 0)));
        assert!(is_better(&[gone.clone(), new].concat()));
        assert!(!is_better(&gone) && !is_better(&[]) && !is_better(&[0xff; 40]) && !is_better(&[0; 100]));
    }
}
