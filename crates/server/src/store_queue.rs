//! The hand-over between the core thread and the store thread: one mailbox each way, and nobody waits on the core's side.
//!
//! ```text
//!  core: submit(Batch) ──► mutex + condvar ──► store thread: wait(until) → batches
//!  core: woken task    ◄── mutex + waker   ◄── store thread: release(Turn)
//! ```
//!
//! The bound in bytes is kept by the broker, which counts what it submitted until it comes back; here one lock a turn is all there is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jetstream::command::{Batch, Turn};

/// The core's end.
#[derive(Clone, Debug)]
pub struct StoreHandle(Arc<Shared>);

/// The store thread's end.
#[derive(Debug)]
pub struct StoreMailbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    outbox: Mutex<Released>,
}

#[derive(Debug, Default)]
struct Inbox {
    batches: Vec<Batch>,
    closed: bool,
    /// Somebody asks for a turn although no batch is there.
    nudged: bool,
    /// What the store thread had done elsewhere is done.
    finished: bool,
}

#[derive(Debug, Default)]
struct Released {
    turns: Vec<Turn>,
    waker: Option<Waker>,
    /// The store thread has ended.
    closed: bool,
}

/// A pair of connected ends.
#[must_use]
pub fn store_queue() -> (StoreHandle, StoreMailbox) {
    let shared = Arc::new(Shared::default());
    (StoreHandle(Arc::clone(&shared)), StoreMailbox(shared))
}

impl StoreHandle {
    /// Hands a batch over and wakes the store thread.
    pub fn submit(&self, batch: Batch) {
        lock(&self.0.inbox).batches.push(batch);
        self.0.arrived.notify_one();
    }

    /// A finished turn, if there is one; else the task is woken by the next. `Ready(None)`: the store thread has ended.
    pub fn poll_turn(&self, context: &mut Context<'_>) -> Poll<Option<Turn>> {
        let mut released = lock(&self.0.outbox);
        if !released.turns.is_empty() {
            return Poll::Ready(Some(released.turns.remove(0)));
        }
        if released.closed {
            return Poll::Ready(None);
        }
        released.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Asks for a turn: what was fetched for the store thread is there.
    pub fn nudge(&self) {
        lock(&self.0.inbox).nudged = true;
        self.0.arrived.notify_one();
    }

    /// What the store thread had done elsewhere is done: ends [`StoreMailbox::wait_until_finished`].
    pub fn finish(&self) {
        lock(&self.0.inbox).finished = true;
        self.0.arrived.notify_one();
    }

    /// No more batches will come: the store thread finishes what waits and ends.
    pub fn close(&self) {
        lock(&self.0.inbox).closed = true;
        self.0.arrived.notify_one();
    }
}

impl StoreMailbox {
    /// Waits until a batch is there, or for `patience`, and moves all that wait into `into`. `false`: nothing waits and none will come.
    pub fn wait(&self, patience: Option<Duration>, into: &mut Vec<Batch>) -> bool {
        let mut inbox = lock(&self.0.inbox);
        if inbox.batches.is_empty() && !inbox.closed && !inbox.nudged {
            inbox = match patience {
                Some(patience) => {
                    self.0.arrived.wait_timeout(inbox, patience).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        inbox.nudged = false;
        into.append(&mut inbox.batches);
        !(inbox.closed && into.is_empty())
    }

    /// Waits until batches are there, and moves them into `into`, or until [`StoreHandle::finish`] was called: `true`.
    pub fn wait_until_finished(&self, into: &mut Vec<Batch>) -> bool {
        let mut inbox = lock(&self.0.inbox);
        while inbox.batches.is_empty() && !inbox.finished {
            inbox = self.0.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        into.append(&mut inbox.batches);
        std::mem::take(&mut inbox.finished)
    }

    /// Gives a finished turn to the core.
    pub fn release(&self, turn: Turn) {
        let mut released = lock(&self.0.outbox);
        released.turns.push(turn);
        if let Some(waker) = released.waker.take() {
            drop(released);
            waker.wake();
        }
    }
}

impl Drop for StoreMailbox {
    fn drop(&mut self) {
        let mut released = lock(&self.0.outbox);
        released.closed = true;
        if let Some(waker) = released.waker.take() {
            drop(released);
            waker.wake();
        }
    }
}

// A thread that panicked while it held one of these left a list of batches, which is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
