//! The core thread: one local runtime, one [`Core`], and the tasks around it.
//!
//! ```text
//!  connection task ─ poll: try_read ─► broker.received ─► Outbox ─ first dirty ─► flush task (stands behind the ready tasks) ─► writev
//!  timer task ─ broker.tick          store task ─ broker.committed          listener tasks ─ attach
//! ```
//!
//! The core lies in an `Rc<RefCell<_>>` that no task holds across an await. Wakers may be called while it is borrowed (they only queue).
//!
//! Why so (measured on two cores of x86-64, in a prototype):
//!
//! - One write per burst instead of one per message is worth a factor of 10, buffers from a pool instead of freed after each flush 2 in
//!   fan-out. Frames over 64 KiB are shared instead of copied: a third less work at that size, a fifth more at 20 kB.
//! - One read per poll: several gain nothing and starve the other connections.
//! - The flush task wakes itself to stand behind the ready tasks; `tokio::task::yield_now` waits for a turn of the driver, a system call each.
//! - A publisher is not read while a target has much unsent: backlog leaves the cache and makes everything slower.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use broker::{
    Broker, CHUNK, CloseReason, ConnectionId, Effect, NewConnection, Now, Outbox, Protocol, Refusal, ServiceId,
};
use jetstream::command::Turn;
use tokio::runtime::{Builder, LocalOptions};

use crate::clock::Clock;
use crate::connection;
use crate::monitor::Closed;
use crate::passwords::Passwords;
use crate::socket::Socket;
use crate::statistics;
use crate::store_queue::StoreHandle;
use crate::tls::TlsSession;
use crate::transport::Transport;

/// A publisher waits at most so long for a target that is behind, then it is read again: a slow subscriber may slow others down, not stop them.
const CONGESTION_MICROS: u64 = 5_000;

/// Closed clients that are remembered; some 300 bytes each.
const MAX_REMEMBERED: usize = 256;

/// All state of the core thread.
#[derive(Debug)]
pub struct Core {
    /// The broker.
    pub broker: Broker,
    /// Its output.
    pub out: Outbox,
    /// Time.
    pub clock: Clock,
    pub(crate) store: Option<StoreHandle>,
    pub(crate) sockets: Vec<Option<Socket>>,
    pub(crate) open: usize,
    /// Plain reads go here, behind the bytes of an unfinished frame.
    pub(crate) scratch: Box<[u8]>,
    pub(crate) congested: VecDeque<Congested>,
    dirty: Vec<ConnectionId>,
    flush: Task,
    timer: Task,
    /// When the timer task will wake by itself.
    timer_at: Option<u64>,
    /// Passwords to compare, taken by [`CoreHandle`] after each call.
    passwords: Vec<(ConnectionId, Box<[u8]>, Box<str>)>,
    /// Requests for the shell's services, taken by [`CoreHandle`] after each call.
    requests: Vec<Request>,
    closed: Option<Waker>,
    /// Clients that are gone, oldest first, for `/connz?state=closed`.
    pub(crate) closed_connections: VecDeque<Closed>,
    pub(crate) statistics: statistics::Waiting,
    /// The task that takes [`broker::Notice`]s.
    pub(crate) noticing: Task,
    /// Who waits until a connection has drained.
    pub(crate) draining: Vec<(ConnectionId, Waker)>,
}

/// A request for a service that the shell registered with [`Broker::serve`]; its answer is published with [`Broker::answer`].
#[derive(Clone, Debug)]
pub struct Request {
    /// Which service.
    pub service: ServiceId,
    /// What it was sent to.
    pub subject: Box<[u8]>,
    /// Where the answer goes; empty: nowhere.
    pub reply: Box<[u8]>,
    /// The request.
    pub payload: Box<[u8]>,
}

/// A publisher that waits for a target to drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Congested {
    pub(crate) deadline: u64,
    pub(crate) target: ConnectionId,
    pub(crate) reader: ConnectionId,
}

/// A task that is woken at most once until it runs.
#[derive(Debug, Default)]
pub(crate) struct Task {
    waker: Option<Waker>,
    scheduled: bool,
}

impl Task {
    pub(crate) fn wake(&mut self) {
        if !self.scheduled
            && let Some(waker) = &self.waker
        {
            self.scheduled = true;
            waker.wake_by_ref();
        }
    }

    pub(crate) fn runs(&mut self, context: &Context<'_>) {
        self.scheduled = false;
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }
}

/// Runs `main` on a local runtime on this thread, which becomes the core thread.
///
/// # Errors
/// When the runtime can't be made.
pub fn run<T>(main: impl Future<Output = T>) -> io::Result<T> {
    // 8 instead of 61: with publishers at full speed the sockets must be polled more often.
    // Beside three of them a request took 3.6 ms (p50) at 61 and 0.9 ms at 8, at the same cost.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(8)
        .max_blocking_threads(2)
        .build_local(LocalOptions::default())?;
    Ok(runtime.block_on(main))
}

/// What tasks on the core thread hold.
#[derive(Clone)]
pub struct CoreHandle(Rc<Shared>);

struct Shared {
    core: RefCell<Core>,
    passwords: Rc<Passwords>,
    /// Answers requests for the shell's services.
    answer: RefCell<Option<Answerer>>,
}

type Answerer = Box<dyn FnMut(&CoreHandle, Request)>;

impl std::fmt::Debug for CoreHandle {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.core.fmt(out)
    }
}

impl CoreHandle {
    /// Wraps a broker and starts the flush and timer tasks. To be called on the core thread, inside [`run`].
    #[must_use]
    pub fn new(broker: Broker, clock: Clock) -> CoreHandle {
        let core = Core {
            out: broker.outbox(),
            broker,
            clock,
            store: None,
            sockets: Vec::new(),
            open: 0,
            scratch: vec![0; CHUNK].into_boxed_slice(),
            congested: VecDeque::new(),
            dirty: Vec::new(),
            flush: Task::default(),
            timer: Task::default(),
            timer_at: None,
            passwords: Vec::new(),
            requests: Vec::new(),
            closed: None,
            closed_connections: VecDeque::new(),
            statistics: statistics::Waiting::default(),
            noticing: Task::default(),
            draining: Vec::new(),
        };
        let shared = Shared { core: RefCell::new(core), passwords: Rc::default(), answer: RefCell::default() };
        let handle = CoreHandle(Rc::new(shared));
        tokio::task::spawn_local(flush_task(handle.clone()));
        tokio::task::spawn_local(timer_task(handle.clone()));
        handle
    }

    /// Calls into the core and sees to what comes of it. Never await inside, nor call `with` again.
    pub fn with<T>(&self, call: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.0.core.borrow_mut();
        let result = call(&mut core);
        core.settle();
        if core.passwords.is_empty() && core.requests.is_empty() {
            return result;
        }
        let passwords = std::mem::take(&mut core.passwords);
        let requests = std::mem::take(&mut core.requests);
        drop(core);
        for (id, password, hash) in passwords {
            self.0.passwords.check(self, id, &password, hash);
        }
        self.answer_all(requests);
        result
    }

    /// Who answers requests for the services registered with [`Broker::serve`]. It is called outside of the core, and may call
    /// [`CoreHandle::with`].
    pub fn on_request(&self, answer: impl FnMut(&CoreHandle, Request) + 'static) {
        *self.0.answer.borrow_mut() = Some(Box::new(answer));
    }

    fn answer_all(&self, requests: Vec<Request>) {
        // An answer that is itself a request of this kind finds nobody: no service of ours asks another one.
        let Some(mut answer) = self.0.answer.borrow_mut().take() else { return };
        for request in requests {
            answer(self, request);
        }
        self.0.answer.borrow_mut().get_or_insert(answer);
    }

    /// Takes a connection over: greets it and spawns its task. Handshakes (TLS, WebSocket) are done before.
    ///
    /// # Errors
    /// When the broker refuses it; the peer was told.
    pub fn attach(&self, mut transport: Transport, new: &NewConnection) -> Result<ConnectionId, Refusal> {
        let opened = self.with(|core| {
            let now = core.clock.now();
            match core.broker.open(now, new, &mut core.out) {
                Ok(id) => {
                    core.insert(id, transport, new.protocol);
                    Ok(id)
                }
                Err(refusal) => {
                    let farewell = core.broker.farewell(new);
                    let mut context = Context::from_waker(Waker::noop());
                    let _ = transport.poll_write(&mut context, &[io::IoSlice::new(&farewell)]);
                    Err(refusal)
                }
            }
        });
        let id = opened?;
        tokio::task::spawn_local(connection::task(self.clone(), id));
        Ok(id)
    }

    /// Connects the store thread's queue. `look` sees each turn before the broker does: the gateway takes from its events what is not the
    /// broker's (slices for `forward`, removals, reports). The first thing the store is asked for are the MQTT sessions.
    pub fn connect_store(&self, store: StoreHandle, look: impl FnMut(&CoreHandle, &mut Turn) + 'static) {
        self.with(|core| {
            core.store = Some(store.clone());
            core.broker.load_mqtt_sessions();
        });
        tokio::task::spawn_local(store_task(self.clone(), store, look));
    }

    /// Returns when no connection is open any more.
    pub async fn drained(&self) {
        poll_fn(|context| {
            self.with(|core| {
                core.closed = Some(context.waker().clone());
                if core.open == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
        })
        .await;
    }
}

impl Core {
    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.open
    }

    /// Closes all connections.
    pub fn close_all(&mut self, reason: CloseReason) {
        let ids: Vec<ConnectionId> = self.sockets.iter().flatten().map(|socket| socket.id).collect();
        for id in ids {
            self.broker.close(id, reason, &mut self.out);
        }
    }

    fn insert(&mut self, id: ConnectionId, transport: Transport, protocol: Protocol) {
        if self.sockets.len() <= id.slot() {
            self.sockets.resize_with(id.slot() + 1, || None);
        }
        let may_pause = protocol != Protocol::Leaf;
        let socket =
            Socket { id, transport, waker: None, input: None, closing: None, blocked: false, paused: false, may_pause };
        self.sockets[id.slot()] = Some(socket);
        self.open += 1;
    }

    pub(crate) fn socket(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.slot())?.as_mut().filter(|socket| socket.id == id)
    }

    /// After every call into the broker: effects, then the tasks that have something to do.
    pub(crate) fn settle(&mut self) {
        if self.broker.has_interest_changes() {
            self.broker.flush_interest(&mut self.out);
        }
        if self.broker.has_notices() {
            self.noticing.wake();
        }
        self.perform_effects();
        if self.out.has_dirty() || self.broker.has_batch(&self.out) {
            self.flush.wake();
        }
        let wanted = self.next_deadline();
        if let Some(wanted) = wanted
            && self.timer_at.is_none_or(|at| wanted < at)
        {
            self.timer_at = Some(wanted);
            self.timer.wake();
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let congestion = self.congested.front().map(|entry| entry.deadline);
        [self.broker.poll_timeout(&self.out), congestion].into_iter().flatten().min()
    }

    fn warn(&self, id: ConnectionId, text: &str) {
        let Some(about) = self.broker.connection(id, &self.out) else { return };
        let user = about.user.as_deref().unwrap_or("-");
        tracing::warn!(peer = %about.peer, cid = about.number, user, "{text}");
    }

    pub(crate) fn perform_effects(&mut self) {
        while let Some(effect) = self.out.next_effect() {
            match effect {
                Effect::Close { id, reason } => {
                    if let Some(socket) = self.socket(id) {
                        socket.closing.get_or_insert(reason);
                        socket.wake();
                    }
                }
                Effect::WakeReader { id } => self.resume(id),
                Effect::Warn { id, text } => self.warn(id, text),
                Effect::Request { service, subject, reply, payload } => {
                    self.requests.push(Request { service, subject, reply, payload });
                }
                Effect::CheckPassword { id, password, hash } => self.passwords.push((id, password, hash)),
            }
        }
    }

    /// Reads again from a paused connection.
    pub(crate) fn resume(&mut self, id: ConnectionId) {
        if let Some(socket) = self.socket(id) {
            socket.paused = false;
            socket.wake();
        }
    }

    /// Forgets a connection whose task ends.
    pub(crate) fn remove(&mut self, now: Now, id: ConnectionId, reason: CloseReason) {
        let Some(place) =
            self.sockets.get_mut(id.slot()).filter(|place| place.as_ref().is_some_and(|socket| socket.id == id))
        else {
            return;
        };
        let socket = place.take();
        let tls = socket.as_ref().and_then(|socket| socket.transport.tls());
        if let Some(input) = socket.and_then(|socket| socket.input) {
            self.out.release(input.reserved);
        }
        self.open -= 1;
        self.remember(now, id, reason, tls);
        self.broker.closed(now, id, reason, &mut self.out);
        self.wake_congested(id);
        if self.open == 0
            && let Some(waker) = self.closed.take()
        {
            waker.wake();
        }
    }

    /// Keeps what `/connz` shows of a client that is gone.
    fn remember(&mut self, stopped: Now, id: ConnectionId, reason: CloseReason, tls: Option<TlsSession>) {
        let Some(info) = self.broker.connection(id, &self.out).filter(|info| info.protocol != Protocol::Leaf) else {
            return;
        };
        if self.closed_connections.len() >= MAX_REMEMBERED {
            self.closed_connections.pop_front();
        }
        self.closed_connections.push_back(Closed { info, tls, reason, stopped });
    }

    /// What TLS agreed on with a client.
    pub(crate) fn tls_of(&self, id: ConnectionId) -> Option<TlsSession> {
        self.sockets.get(id.slot())?.as_ref().filter(|socket| socket.id == id)?.transport.tls()
    }

    /// Flushes what is to be flushed before more input is handled.
    pub(crate) fn flush_eagerly(&mut self, now: Now) {
        while let Some(id) = self.out.take_full() {
            self.write(now, id);
        }
        if self.out.wants_flush() {
            self.flush_dirty(now);
        }
    }

    fn flush_dirty(&mut self, now: Now) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.out.take_dirty(&mut dirty);
        for id in dirty.drain(..) {
            self.write(now, id);
        }
        self.dirty = dirty;
    }

    fn submit_batch(&mut self, now: Now) {
        if let Some(batch) = self.broker.take_batch(now, &self.out)
            && let Some(store) = &self.store
        {
            store.submit(batch);
        }
    }

    /// Wakes the publishers that wait for a target.
    pub(crate) fn wake_congested(&mut self, target: ConnectionId) {
        self.wake_draining(target);
        if self.congested.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.congested);
        waiting.retain(|entry| {
            if entry.target == target {
                self.resume(entry.reader);
            }
            entry.target != target
        });
        self.congested = waiting;
    }

    fn tick(&mut self, now: Now) {
        while let Some(entry) = self.congested.front().copied().filter(|entry| entry.deadline <= now.micros) {
            self.congested.pop_front();
            self.resume(entry.reader);
        }
        self.broker.tick(now, &mut self.out);
    }

    /// Pauses a reader whose last messages went to a target that is far behind.
    pub(crate) fn pause_for_congestion(&mut self, now: Now, reader: ConnectionId) {
        let Some(target) = self.out.take_congested() else { return };
        if self.out.pending_bytes(target) <= broker::CONGESTED {
            return;
        }
        if let Some(socket) = self.socket(reader).filter(|socket| socket.may_pause && !socket.paused) {
            socket.paused = true;
            self.congested.push_back(Congested { deadline: now.micros + CONGESTION_MICROS, target, reader });
        }
    }
}

/// Writes what is dirty, then hands the store its batch: one lock a turn.
async fn flush_task(core: CoreHandle) {
    poll_fn(|context| {
        core.with(|core| {
            core.flush.runs(context);
            let now = core.clock.now();
            core.flush_dirty(now);
            core.submit_batch(now);
        });
        Poll::<()>::Pending
    })
    .await;
}

async fn timer_task(core: CoreHandle) {
    let mut sleep = pin!(tokio::time::sleep(std::time::Duration::ZERO));
    poll_fn(|context| {
        core.with(|core| {
            core.timer.runs(context);
            let now = core.clock.now();
            core.tick(now);
            core.perform_effects();
            core.timer_at = core.next_deadline();
            if let Some(at) = core.timer_at {
                sleep.as_mut().reset(core.clock.instant(at).into());
            }
        });
        // Registers the waker; if the time has passed already, comes back at once.
        if core.with(|core| core.timer_at.is_some()) && sleep.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::<()>::Pending
    })
    .await;
}

async fn store_task(core: CoreHandle, store: StoreHandle, mut look: impl FnMut(&CoreHandle, &mut Turn)) {
    while let Some(mut turn) = poll_fn(|context| store.poll_turn(context)).await {
        look(&core, &mut turn);
        core.with(|core| {
            core.take_statistics(&mut turn);
            let now = core.clock.now();
            core.broker.committed(now, &mut turn, &mut core.out);
        });
    }
}
