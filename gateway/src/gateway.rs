//! The running gateway: start order, drain order.
//!
//! Start: log → folder and store (what is declared is brought about) → sockets bound → broker → links and forwards → listeners served → announced
//! ready. Stop: no new clients → interest withdrawn → connections closed after their last write → last commit → exit 0.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use broker::{Broker, CloseReason};
use jetstream::Limits;
use jetstream::command::Event;
use jetstream::forwarded::gaps::gap_stream;
use server::status::{JetStreamFacts, Phase, SharedStatus, Status};
use server::{Clock, CoreHandle, Log, LogOptions, Monitor, PortsFile, Shutdown, StatusSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::Options;
use crate::config::{self, Config};
use crate::dialler::{Links, spawn_remotes};
use crate::forwarder::{ForwardStart, Forwards, edge_identity, spawn_forwards};
use crate::listening::Sockets;
use crate::notices::Notices;
use crate::operations::StoreOperations;
use crate::queue_drops::QueueDrops;
use crate::reload;
use crate::settings::{Identity, request_limits, settings, store_limits};
use crate::slices::Slices;
use crate::store_thread::{StorePlan, StoreThread, prepare_folder};
use crate::{declared, memory, version};

/// How often the service manager's watchdog is fed.
const WATCHDOG: Duration = Duration::from_secs(5);
/// When what only the start needed is given back: by then all that is done once was done.
const STARTED: Duration = Duration::from_millis(500);
/// How long links may take to say farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// The store must have answered within this for the watchdog to be fed.
const STORE_PROBE: Duration = Duration::from_secs(20);

/// Runs until a signal ends it.
///
/// # Errors
/// What keeps it from starting.
pub fn run(config: Config, options: Options) -> anyhow::Result<()> {
    let log = install_log(&config)?;
    let result = server::run(start(Rc::new(config), options, log)).context("the runtime")?;
    if let Err(error) = &result {
        tracing::error!(fatal = true, "{error:#}");
    }
    result
}

fn install_log(config: &Config) -> anyhow::Result<Log> {
    let level = match (config.log.trace, config.log.debug) {
        (true, _) => tracing::Level::TRACE,
        (false, true) => tracing::Level::DEBUG,
        _ => tracing::Level::INFO,
    };
    let options = LogOptions { level, file: config.log.file.clone(), show_time: config.log.time, utc: config.log.utc };
    let file = config.log.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
    Log::install(options).with_context(|| format!("opening the log {file}"))
}

/// Everything that runs, in the order in which it ends.
struct Gateway {
    config: RefCell<Rc<Config>>,
    /// Flags override the file at a reload too.
    options: Options,
    identity: Identity,
    core: CoreHandle,
    status: SharedStatus,
    shutdown: Shutdown,
    log: Log,
    store: Option<StoreThread>,
    links: Links,
    ports_file: Option<PortsFile>,
}

async fn start(config: Rc<Config>, options: Options, log: Log) -> anyhow::Result<()> {
    let clock = Clock::start();
    let identity = Identity { server_id: new_server_id()?, loop_token: random_text(22)? };
    announce_start(&config, &identity);
    let store = config.jetstream.is_some().then(|| start_store(&config, clock)).transpose()?;
    let sockets = Sockets::bind(&config)?;
    let broker = Broker::new(settings(&config, &identity, sockets.client_port()), getrandom::u64()?);
    let core = CoreHandle::new(broker, clock);
    let status = first_status(&config, &clock, &sockets);
    let shutdown = Shutdown::new();
    let (links, hosted) = connect(&config, &core, &status, store.as_ref(), &shutdown)?;
    let base_path = config.monitoring.as_ref().map_or("", |monitoring| &monitoring.base_path);
    let monitor = Monitor::new(core.clone(), Rc::clone(&status), base_path);
    serve_status(&config, &monitor, &core, hosted, &shutdown);
    let urls = sockets.urls();
    sockets.serve(&config, &core, &monitor, &shutdown);
    status.borrow_mut().phase = Phase::Serving;
    let ports_file = announce_ready(&config, &urls)?;
    let config = RefCell::new(config);
    let gateway = Gateway { config, options, identity, core, status, shutdown, log, store, links, ports_file };
    gateway.until_stopped().await
}

fn announce_start(config: &Config, identity: &Identity) {
    tracing::info!("Starting nats-server");
    tracing::info!("  Version:  {}", version::COMPATIBLE);
    tracing::info!("  Software: {} v{}", version::NAME, version::OWN);
    tracing::info!("  Name:     {}", config.server_name.as_deref().unwrap_or(&identity.server_id));
    tracing::info!("  ID:       {}", identity.server_id);
    if let Some(file) = &config.config_file {
        tracing::info!("Using configuration file: {file} ({})", config.digest);
    }
    for (name, listen) in config.open_to_everybody() {
        tracing::warn!(
            "the {name} listener on {listen} is open to everybody who can reach it: set \"authorization\", or listen on 127.0.0.1"
        );
    }
}

fn start_store(config: &Config, clock: Clock) -> anyhow::Result<StoreThread> {
    let Some(jetstream) = &config.jetstream else { anyhow::bail!("JetStream is off") };
    prepare_folder(&jetstream.store_dir)?;
    tracing::info!("  Store Directory: \"{}\"", jetstream.store_dir.display());
    let plan = StorePlan {
        folder: jetstream.store_dir.clone(),
        cache_kib: u32::try_from(config.memory.store_cache / 1024).unwrap_or(u32::MAX),
        limits: Limits { seed: (getrandom::u64()?, getrandom::u64()?), ..store_limits(config, jetstream) },
        declared: declared::of(&config.streams),
        forwarded: config.all_forwards().map(|forward| forward.stream.clone()).collect(),
        gaps: config.gaps.as_ref().map(|gaps| gap_stream(&gaps.name, gaps.max_bytes)),
    };
    StoreThread::start(plan, clock).context("opening the store")
}

fn first_status(config: &Config, clock: &Clock, sockets: &Sockets) -> SharedStatus {
    let now = clock.now();
    let whole = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    Rc::new(RefCell::new(Status {
        phase: Phase::Recovering,
        started_micros: now.micros,
        started_wall_ns: now.wall_ns,
        config_loaded_wall_ns: now.wall_ns,
        config_digest: config.digest.clone(),
        tags: config.server_tags.clone(),
        listeners: sockets.describe(),
        jetstream: config.jetstream.as_ref().map(|jetstream| JetStreamFacts {
            store_dir: jetstream.store_dir.display().to_string(),
            domain: jetstream.domain.clone(),
            max_memory: whole(Some(jetstream.max_memory)),
            max_storage: whole(jetstream.max_file),
            max_request_batch: jetstream.limits.max_request_batch.unwrap_or(0),
            max_ack_pending: jetstream.limits.max_ack_pending.unwrap_or(0),
            max_duplicate_window_ns: request_limits(&jetstream.limits).duplicate_window_ns.unwrap_or(0),
        }),
        ..Status::default()
    }))
}

/// Forwards, the store, then links: nothing is awaited in between.
fn connect(
    config: &Config,
    core: &CoreHandle,
    status: &SharedStatus,
    store: Option<&StoreThread>,
    shutdown: &Shutdown,
) -> anyhow::Result<(Links, Option<(Forwards, Slices)>)> {
    let notices = Notices::start(core);
    let mut hosted = None;
    if let (Some(store), Some(jetstream)) = (store, &config.jetstream) {
        let identity = edge_identity(&jetstream.store_dir)?;
        let start = ForwardStart { identity, rows: Arc::clone(&store.rows) };
        let forwards = spawn_forwards(core, config, &start, status)?;
        notices.connect(&forwards);
        let slices = Slices::default();
        hosted = Some((forwards.clone(), slices.clone()));
        connect_store(core, status, store, forwards, slices);
    }
    Ok((spawn_remotes(core, config, status, &notices, &shutdown.stopping())?, hosted))
}

/// The store's turns go to the forwards and the status first, then to the broker.
fn connect_store(core: &CoreHandle, status: &SharedStatus, store: &StoreThread, forwards: Forwards, slices: Slices) {
    let status = Rc::clone(status);
    let mut drops = QueueDrops::default();
    core.connect_store(store.handle.clone(), move |core, turn| {
        slices.look(turn);
        forwards.look(turn);
        for event in &turn.events {
            match event {
                Event::Reopened { reason } => {
                    status.borrow_mut().store_trouble = Some(format!("failed and was opened anew: {reason}"));
                }
                Event::Full(full) => {
                    if *full {
                        tracing::warn!("the store is full: publishes into streams are refused until there is room");
                    } else {
                        tracing::info!("the store takes publishes again");
                    }
                    status.borrow_mut().store_full = *full;
                }
                Event::QueueDropped { session, messages } => drops.note(core, *session, *messages),
                _ => {}
            }
        }
    });
}

fn serve_status(
    config: &Config,
    monitor: &Monitor,
    core: &CoreHandle,
    hosted: Option<(Forwards, Slices)>,
    shutdown: &Shutdown,
) {
    let (Some(jetstream), Some((forwards, slices))) = (&config.jetstream, hosted) else { return };
    let operations = StoreOperations { core: core.clone(), forwards, slices };
    let monitor = monitor.with_operations(Rc::new(operations));
    match StatusSocket::bind(&jetstream.store_dir) {
        Ok(socket) => {
            tokio::task::spawn_local(socket.serve(monitor, shutdown.stopping()));
        }
        Err(error) => tracing::warn!(%error, "`edge-gateway status` will not reach this process: no socket"),
    }
}

/// Pid file, ports file, the last line that tools wait for, and the service manager.
fn announce_ready(config: &Config, urls: &[(&str, Vec<String>)]) -> anyhow::Result<Option<PortsFile>> {
    if let Some(path) = &config.pid_file {
        server::write_pid_file(path).map_err(|error| anyhow::anyhow!("Could not write pidfile: {error}"))?;
    }
    let program = std::env::args().next().unwrap_or_else(|| version::NAME.to_owned());
    let ports_file = config
        .ports_file_dir
        .as_ref()
        .map(|folder| PortsFile::write(folder, &program, urls).context("writing the ports file"))
        .transpose()?;
    tracing::info!("Server is ready");
    if config.from_nothing {
        say_how_to_try(urls);
    }
    // Outside a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    Ok(ports_file)
}

fn say_how_to_try(urls: &[(&str, Vec<String>)]) {
    let url = |name: &str| urls.iter().find(|(key, _)| *key == name).and_then(|(_, urls)| urls.first());
    if let Some(nats) = url("nats") {
        tracing::info!("no configuration: everything listens on loopback. To try: nats -s {nats} sub '>'");
    }
    if let Some(port) = url("mqtt").and_then(|url| url.rsplit(':').next()) {
        tracing::info!("          and: mosquitto_pub -p {port} -q 1 -t sensors/1/temperature -m 21.5");
    }
}

/// The signals that a server knows.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    reopen: Signal,
    lame_duck: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            lame_duck: signal(SignalKind::user_defined2())?,
        })
    }
}

impl Gateway {
    async fn until_stopped(self) -> anyhow::Result<()> {
        let mut signals = Signals::listen().context("listening for signals")?;
        tokio::task::spawn_local(feed_watchdog(self.core.clone(), self.store.is_some()));
        tokio::task::spawn_local(async {
            tokio::time::sleep(STARTED).await;
            memory::give_back();
        });
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break,
                _ = signals.terminate.recv() => break,
                _ = signals.hangup.recv() => self.reload(),
                _ = signals.reopen.recv() => self.reopen_log(),
                _ = signals.lame_duck.recv() => {
                    self.lame_duck(&mut signals).await;
                    break;
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    fn reopen_log(&self) {
        match self.log.reopen() {
            Ok(()) => tracing::info!("File log re-opened"),
            Err(error) => tracing::error!(%error, "the log can't be opened anew; the old file goes on"),
        }
    }

    /// All or nothing: what can't be changed while running refuses the whole.
    fn reload(&self) {
        match self.try_reload() {
            Ok(digest) => tracing::info!("Reloaded server configuration ({digest})"),
            Err(reason) => tracing::error!("Failed to reload server configuration: {reason}"),
        }
    }

    fn try_reload(&self) -> Result<String, String> {
        let old = Rc::clone(&self.config.borrow());
        if old.config_file.is_none() {
            return Err("can only reload config when a file is provided using -c or --config".to_owned());
        }
        let environment = |name: &str| std::env::var(name).ok();
        let new = config::load(&self.options, &environment).map_err(|error| error.to_string())?.config;
        for change in reload::compare(&old, &new)? {
            tracing::info!("Reloaded: {change}");
        }
        let mut status = self.status.borrow_mut();
        status.config_digest.clone_from(&new.digest);
        status.tags.clone_from(&new.server_tags);
        status.config_loaded_wall_ns = self.core.with(|core| {
            let settings = settings(&new, &self.identity, core.broker.settings().server.port);
            core.broker.reload(settings, &mut core.out);
            core.clock.now().wall_ns
        });
        let digest = new.digest.clone();
        *self.config.borrow_mut() = Rc::new(new);
        Ok(digest)
    }

    /// No new clients; those that are there are told, and after the grace period closed over the rest of the duration.
    async fn lame_duck(&self, signals: &mut Signals) {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        self.status.borrow_mut().phase = Phase::LameDuck;
        self.shutdown.become_lame_duck();
        self.core.with(|core| core.broker.become_lame_duck(&mut core.out));
        let lame_duck = self.config.borrow().lame_duck.clone();
        let closing = async {
            tokio::select! {
                () = tokio::time::sleep(lame_duck.grace) => {}
                () = self.core.drained() => return,
            }
            self.close_one_by_one(lame_duck.duration.saturating_sub(lame_duck.grace)).await;
        };
        tokio::select! {
            () = closing => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.terminate.recv() => {}
        }
    }

    async fn close_one_by_one(&self, over: Duration) {
        let ids: Vec<_> = self.core.with(|core| {
            let connections = core.broker.connections(&core.out);
            connections.map(|connection| connection.id).collect()
        });
        let pause = over.checked_div(u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1)).unwrap_or_default();
        for id in ids {
            self.core.with(|core| core.broker.close(id, CloseReason::ServerShutdown, &mut core.out));
            tokio::time::sleep(pause).await;
        }
    }

    async fn stop(self) {
        tracing::info!("Initiating Shutdown...");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.status.borrow_mut().phase = Phase::Stopping;
        self.shutdown.stop();
        // A hub that takes no farewell holds nobody up.
        let _ = tokio::time::timeout(FAREWELL, self.links.ended()).await;
        self.shutdown.close_connections(&self.core).await;
        if let Some(store) = self.store {
            // On a blocking thread, so that turns that are still on their way are taken.
            let _ = tokio::task::spawn_blocking(move || store.stop()).await;
        }
        if let Some(file) = &self.ports_file {
            file.remove();
        }
        tracing::info!("Server Exiting..");
    }
}

/// Fed by the core loop, and only while the store answers.
async fn feed_watchdog(core: CoreHandle, has_store: bool) {
    loop {
        tokio::time::sleep(WATCHDOG).await;
        let alive =
            !has_store || tokio::time::timeout(STORE_PROBE, core.statistics()).await.is_ok_and(|it| it.is_some());
        if alive {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        } else {
            tracing::error!("the store does not answer: the watchdog is not fed");
        }
    }
}

/// A server key as stock's ids are.
fn new_server_id() -> anyhow::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::Server, seed).context("a server id")?.public_key())
}

fn random_text(length: usize) -> anyhow::Result<String> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect())
}
