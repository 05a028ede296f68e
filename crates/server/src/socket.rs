//! What the core keeps of a connection's socket, and the bytes of a frame that has not arrived completely.

use std::task::Waker;

use broker::{CloseReason, ConnectionId};

use crate::transport::Transport;

/// A connection's socket, in the slot that its [`ConnectionId`] names.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) id: ConnectionId,
    pub(crate) transport: Transport,
    /// Of its task.
    pub(crate) waker: Option<Waker>,
    /// Input that was not handled yet; an idle connection has none.
    pub(crate) input: Option<Box<Input>>,
    /// To be closed by its task, after one more write.
    pub(crate) closing: Option<CloseReason>,
    /// The socket refused bytes: its task waits until it takes some.
    pub(crate) blocked: bool,
    /// Not read at the moment.
    pub(crate) paused: bool,
    /// May be paused while a target of its messages is behind: not links.
    pub(crate) may_pause: bool,
}

impl Socket {
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// Bytes that arrived and wait.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(crate) bytes: Vec<u8>,
    /// The frame at the beginning has so many bytes; not more than are there when it waits for something else than bytes.
    pub(crate) need: usize,
    /// What was reserved of the memory budget for `bytes`.
    pub(crate) reserved: usize,
}
