//! What the gateway's own engines wait for: notices of the broker, and room on a link.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use broker::{ConnectionId, Notice};

use crate::core_loop::{Core, CoreHandle};

/// A connection has drained when no more than this is pending for it: half of what makes a publisher wait.
pub(crate) const DRAINED: usize = broker::CONGESTED / 2;

impl CoreHandle {
    /// The next thing that the gateway's own engines must know. One task takes them all.
    pub async fn next_notice(&self) -> Notice {
        poll_fn(|context| {
            self.with(|core| {
                core.noticing.runs(context);
                core.broker.next_notice().map_or(Poll::Pending, Poll::Ready)
            })
        })
        .await
    }

    /// Returns when little is pending for a connection, or it is gone.
    pub async fn drained_below_half(&self, id: ConnectionId) {
        poll_fn(|context| self.with(|core| core.poll_drained(id, context))).await;
    }
}

impl Core {
    fn poll_drained(&mut self, id: ConnectionId, context: &Context<'_>) -> Poll<()> {
        if self.socket(id).is_none() || self.out.pending_bytes(id) <= DRAINED {
            return Poll::Ready(());
        }
        let known = |(waiting, waker): &(ConnectionId, Waker)| *waiting == id && waker.will_wake(context.waker());
        if !self.draining.iter().any(known) {
            self.draining.push((id, context.waker().clone()));
        }
        Poll::Pending
    }

    /// A connection has drained or is gone.
    pub(crate) fn wake_draining(&mut self, target: ConnectionId) {
        self.draining.retain(|(id, waker)| {
            if *id == target {
                waker.wake_by_ref();
            }
            *id != target
        });
    }
}
