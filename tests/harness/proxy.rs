//! A TCP link that can be cut: stands between a gateway and its hub and does to their bytes what networks do.
//!
//! - [`Proxy::cut`] closes every connection and the listener: dialling is refused, as when a host is gone.
//! - [`Proxy::blackhole`] keeps everything open and forwards nothing, as when a cable is pulled; bytes that were under way
//!   arrive after [`Proxy::restore`].
//! - [`Proxy::cut_after`] cuts once a number of bytes has passed in one direction, in the middle of whatever that is.
//! - [`Proxy::set_delay`] makes every byte late by the same time without making the link narrower.
//! - [`Proxy::set_rate`] makes it narrow in each direction, with little room for what waits.
//!
//! Two threads per direction and connection: one reads and stamps, one waits for the stamp and writes. The queue between
//! them is bounded, so a side that does not read slows the other as it would without a proxy.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

use crate::ports;
use crate::program::POLL;

/// Bytes of one read.
const CHUNK: usize = 16 * 1024;
/// The same on a narrow link: 64 KiB in all are under way.
const NARROW_CHUNK: usize = 1024;
const NARROW_BUFFER: usize = 64 * 1024;
const NARROW_SEGMENT: u32 = 1400;
/// Chunks that may be under way in one direction of one connection: 1 MiB, which at 100 ms delay is still 10 MB/s.
const QUEUE: usize = 64;
/// How long the port is tried again after a cut: another socket may still be in its way for a moment.
const REBIND_LIMIT: Duration = Duration::from_secs(5);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who dialled: the gateway's side of a leaf link.
    Up,
    /// Towards who dialled.
    Down,
}

/// The link. Dropping it cuts it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Link {
    upstream: SocketAddr,
    state: Mutex<State>,
    /// Told of every change of `state.mode`.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    delay: Duration,
    /// Bytes a second in each direction.
    rate: Option<u64>,
    /// Both ends of every connection that is open.
    open: Vec<[TcpStream; 2]>,
    /// Connections that were made since the start.
    accepted: u64,
    up: Counter,
    down: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    passed: u64,
    /// Bytes that may still pass before the link is cut.
    left: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    Blackhole,
    Cut,
}

impl Proxy {
    /// A link to `upstream`, whole at first.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(upstream: SocketAddr) -> Result<Proxy> {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let state = State {
            mode: Mode::Cut,
            delay: Duration::ZERO,
            rate: None,
            open: Vec::new(),
            accepted: 0,
            up: Counter::default(),
            down: Counter::default(),
        };
        let link = Arc::new(Link { upstream, state: Mutex::new(state), changed: Condvar::new() });
        let mut proxy = Proxy { address, link, acceptor: None };
        proxy.restore()?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`Proxy::address`].
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes all connections and refuses new ones.
    pub fn cut(&mut self) {
        self.link.cut();
        self.join();
        self.wait_until_refused();
    }

    /// Makes the link whole again, after a cut or a blackhole.
    ///
    /// # Errors
    /// When the port cannot be taken again.
    pub fn restore(&mut self) -> Result<()> {
        if self.link.lock().mode == Mode::Cut {
            // After `cut_after` the acceptor is on its way out and still holds the port.
            self.join();
            let listener = self.listen()?;
            self.link.set_mode(Mode::Forward);
            let link = Arc::clone(&self.link);
            self.acceptor = Some(thread::spawn(move || accept(&listener, &link)));
        }
        self.link.set_mode(Mode::Forward);
        Ok(())
    }

    /// Stops forwarding; nothing is closed or refused.
    pub fn blackhole(&self) {
        self.link.set_mode(Mode::Blackhole);
    }

    /// Closes all connections; new ones are welcome at once.
    pub fn flap(&self) {
        self.link.lock().close_all();
    }

    /// Cuts the link when `count` more bytes have passed in that direction; the last of them still arrive.
    pub fn cut_after(&self, direction: Direction, count: u64) {
        self.link.lock().counter(direction).left = Some(count);
    }

    /// Makes everything late by `delay` in each direction.
    pub fn set_delay(&self, delay: Duration) {
        self.link.lock().delay = delay;
    }

    /// Lets so many bytes a second pass in each direction. While it is cut, so that the kernel's room becomes small too.
    pub fn set_rate(&self, rate: Option<u64>) {
        self.link.lock().rate = rate;
    }

    /// Whether the link is cut, by hand or by [`Proxy::cut_after`].
    pub fn is_cut(&self) -> bool {
        self.link.lock().mode == Mode::Cut
    }

    /// Bytes that have passed in that direction.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.link.lock().counter(direction).passed
    }

    /// Connections that were accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.link.lock().accepted
    }

    fn listen(&self) -> Result<TcpListener> {
        let deadline = Instant::now() + REBIND_LIMIT;
        loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    if self.link.lock().rate.is_some() {
                        // Connections have what the listener has: else the kernel takes megabytes for the narrow link.
                        let socket = SockRef::from(&listener);
                        socket.set_recv_buffer_size(NARROW_BUFFER)?;
                        socket.set_tcp_mss(NARROW_SEGMENT)?;
                    }
                    return Ok(listener);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("taking {} again", self.address));
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// A process that is being started by another thread holds a copy of the listener until it becomes another program; until
    /// then the port still takes connections that nobody will serve.
    fn wait_until_refused(&self) {
        let deadline = Instant::now() + REBIND_LIMIT;
        while Instant::now() < deadline && TcpStream::connect(self.address).is_ok() {
            thread::sleep(POLL);
        }
    }

    fn join(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            // Its panic has been printed; the link is down either way.
            let _ = acceptor.join();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_mode(&self, mode: Mode) {
        self.lock().mode = mode;
        self.changed.notify_all();
    }

    fn cut(&self) {
        let mut state = self.lock();
        state.mode = Mode::Cut;
        state.up.left = None;
        state.down.left = None;
        state.close_all();
        drop(state);
        self.changed.notify_all();
    }

    /// Waits while the link swallows; `false` when it was cut.
    fn wait_until_open(&self) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_while(state, |state| state.mode == Mode::Blackhole);
        waited.unwrap_or_else(PoisonError::into_inner).mode == Mode::Forward
    }

    /// How many of `count` bytes may pass now; the rest is lost in the cut that follows.
    fn admit(&self, direction: Direction, count: usize) -> usize {
        let mut state = self.lock();
        let counter = state.counter(direction);
        let admitted = counter.left.map_or(count, |left| usize::try_from(left).map_or(count, |left| left.min(count)));
        counter.passed += admitted as u64;
        counter.left = counter.left.map(|left| left - admitted as u64);
        admitted
    }

    fn is_spent(&self, direction: Direction) -> bool {
        self.lock().counter(direction).left == Some(0)
    }
}

impl State {
    fn counter(&mut self, direction: Direction) -> &mut Counter {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn close_all(&mut self) {
        for stream in self.open.drain(..).flatten() {
            // One that is closed already is what we want.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts until the link is cut, then gives the port back.
fn accept(listener: &TcpListener, link: &Arc<Link>) {
    while link.lock().mode != Mode::Cut {
        match listener.accept() {
            Ok((client, _)) => {
                link.lock().accepted += 1;
                let link = Arc::clone(link);
                thread::spawn(move || connect(client, &link));
            }
            // Nobody there, or somebody who left at once.
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Dials the other end and starts forwarding; a client whose upstream refuses is closed, as a refused dial would be.
fn connect(client: TcpStream, link: &Arc<Link>) {
    if !link.wait_until_open() {
        return;
    }
    // An error here closes both ends by dropping them: all that the dialling side can see of it.
    if let Ok(server) = TcpStream::connect(link.upstream) {
        let _ = forward(client, server, link);
    }
}

fn forward(client: TcpStream, server: TcpStream, link: &Arc<Link>) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    {
        let mut state = link.lock();
        if state.mode == Mode::Cut {
            return Ok(());
        }
        // What both pumps have left is closed; it need not be closed again.
        state.open.retain(|[client, _]| client.peer_addr().is_ok());
        state.open.push(ends);
    }
    pump(client.try_clone()?, server.try_clone()?, link, Direction::Up);
    pump(server, client, link, Direction::Down);
    Ok(())
}

fn pump(from: TcpStream, to: TcpStream, link: &Arc<Link>, direction: Direction) {
    let (sender, receiver) = sync_channel(QUEUE);
    let reading = Arc::clone(link);
    thread::spawn(move || read(from, &reading, &sender));
    let writing = Arc::clone(link);
    thread::spawn(move || write(to, &writing, direction, &receiver));
}

fn read(mut from: TcpStream, link: &Link, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let room = if link.lock().rate.is_some() { NARROW_CHUNK } else { CHUNK };
        let Ok(count) = from.read(&mut chunk[..room]) else { break };
        let due = Instant::now() + link.lock().delay;
        if count == 0 || sender.send((due, chunk[..count].to_vec())).is_err() {
            break;
        }
    }
}

fn write(mut to: TcpStream, link: &Link, direction: Direction, receiver: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, bytes)) = receiver.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if !link.wait_until_open() {
            return;
        }
        if let Some(rate) = link.lock().rate.filter(|rate| *rate > 0) {
            thread::sleep(Duration::from_secs_f64(bytes.len() as f64 / rate as f64));
        }
        let admitted = link.admit(direction, bytes.len());
        if to.write_all(&bytes[..admitted]).is_err() {
            break;
        }
        if link.is_spent(direction) {
            link.cut();
            return;
        }
    }
    // The other side said that it has finished: so does this one, in this direction.
    let _ = to.shutdown(Shutdown::Write);
}
