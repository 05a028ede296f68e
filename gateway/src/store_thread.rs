//! The store thread: `committer` with a clock, a mailbox and SQLite around it.
//!
//! The store is opened, and what the configuration declares is brought about, before the thread runs. From then on a failed store is dropped, opened
//! anew and reported; the gateway lives on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use committer::Committer;
use forward::{Incarnation, IncarnationId, Incarnations, Record};
use jetstream::clock::AgeClock;
use jetstream::command::{Answer, Batch, Command, Event, Forwarded, Outcome, Request, Turn};
use jetstream::config::StreamConfig;
use jetstream::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use jetstream::store::{Store, StoreError, StreamState, record_space};
use jetstream::{JetStream, Limits};
use server::{Clock, StoreHandle, StoreMailbox, store_queue};
use sqlite_store::{Options, SqliteStore};

use crate::declared;
use crate::forwarder::record_key;
use crate::syncing::Syncing;

/// How long to wait before a store that failed is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// House-keeping happens at least so often while something of it waits.
const MAINTENANCE: Duration = Duration::from_millis(5);

/// Everything a start needs to know.
#[derive(Clone, Debug)]
pub(crate) struct StorePlan {
    pub(crate) folder: PathBuf,
    pub(crate) cache_kib: u32,
    pub(crate) limits: Limits,
    /// Streams and consumers of the configuration, in its order.
    pub(crate) declared: Vec<Declared>,
    /// Streams whose incarnations are written at each opening: those that are forwarded.
    pub(crate) forwarded: Vec<String>,
    /// Where gap records go, if something is forwarded.
    pub(crate) gaps: Option<StreamConfig>,
}

/// A declaration, and where it stands in the file.
pub(crate) type Declared = (String, declared::Declaration);

/// What the forwards need of an opened store.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardRows {
    /// By stream name: its instance, counters and incarnations, the present one last.
    pub(crate) streams: BTreeMap<String, (StreamId, StreamState, Option<Incarnations>)>,
    /// The forwards' own records, by key.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
    /// The age clock when the store was opened, and the monotonic milliseconds then.
    pub(crate) age: (AgeMillis, u64),
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct StoreThread {
    pub(crate) handle: StoreHandle,
    /// Replaced at each opening, before [`Event::Reopened`] is sent.
    pub(crate) rows: Arc<Mutex<ForwardRows>>,
    thread: JoinHandle<()>,
}

/// An opened store with what stands on it.
struct Opened {
    store: SqliteStore,
    jetstream: JetStream,
    age: AgeClock,
    events: Vec<Event>,
}

impl StoreThread {
    /// Opens the store and starts the thread.
    pub(crate) fn start(plan: StorePlan, clock: Clock) -> anyhow::Result<StoreThread> {
        let (handle, mailbox) = store_queue();
        let rows = Arc::new(Mutex::new(ForwardRows::default()));
        let worker = Worker { plan, clock, handle: handle.clone(), rows: Arc::clone(&rows), mailbox };
        // Opened on its own thread, which it never leaves; the start waits for what came of it.
        let (opened, outcome) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || worker.start(&opened))
            .context("starting the store thread")?;
        outcome.recv().context("the store thread ended while it opened the store")??;
        Ok(StoreThread { handle, rows, thread })
    }

    /// Commits what waits and ends.
    pub(crate) fn stop(self) {
        self.handle.close();
        if self.thread.join().is_err() {
            tracing::error!("the store thread had panicked");
        }
    }
}

struct Worker {
    plan: StorePlan,
    clock: Clock,
    handle: StoreHandle,
    rows: Arc<Mutex<ForwardRows>>,
    mailbox: StoreMailbox,
}

impl Worker {
    fn start(self, outcome: &mpsc::Sender<anyhow::Result<()>>) {
        // Nobody listens only when the start itself is gone.
        match open(&self.plan, self.clock, &self.handle, &self.rows) {
            Ok(opened) => {
                let _ = outcome.send(Ok(()));
                self.run(opened);
            }
            Err(error) => {
                let _ = outcome.send(Err(error));
            }
        }
    }

    fn run(self, mut opened: Opened) {
        let mut committer = Committer::default();
        let mut syncing = Syncing::new(self.clock, self.handle.clone());
        let mut inbox = Vec::new();
        self.mailbox.release(Turn { events: std::mem::take(&mut opened.events), ..Turn::default() });
        let mut wake_at: Option<AgeMillis> = Some(AgeMillis(0));
        let mut busy = true;
        loop {
            let now = opened.now(self.clock);
            let mut patience = wake_at.map(|at| Duration::from_millis(at.0.saturating_sub(now.age.0)));
            if busy {
                patience = Some(patience.unwrap_or(MAINTENANCE).min(MAINTENANCE));
            }
            if inbox.is_empty() && !self.mailbox.wait(patience, &mut inbox) {
                return self.finish(&mut opened, &mut committer);
            }
            let mut turn = Turn::default();
            let mut commit =
                |store: &mut dyn Store, jetstream: &mut JetStream| syncing.commit(&self.mailbox, store, jetstream);
            let mut result = opened.turn_with(self.clock, &mut committer, &mut inbox, &mut turn, &mut commit);
            syncing.note(&turn);
            syncing.take_arrived(&mut inbox);
            wake_at = turn.wake_at;
            // House-keeping may take milliseconds: nobody's acknowledgement waits for it.
            self.mailbox.release(turn);
            // Before the house-keeping, which may leave a transaction open: how commits are synced can't be changed in one.
            result = result.and_then(|()| syncing.prepare(&mut opened.store));
            if result.is_ok() {
                result = opened.store.maintain().map(|more| busy = more);
            }
            if let Err(error) = result {
                match self.reopen(opened, &error, std::mem::take(&mut inbox)) {
                    Some(again) => opened = again,
                    None => return,
                }
                wake_at = Some(AgeMillis(0));
            }
        }
    }

    /// The last turn of an orderly stop: consumer positions that nobody waited for.
    fn finish(&self, opened: &mut Opened, committer: &mut Committer) {
        let mut turn = Turn::default();
        let stored = opened.turn(self.clock, committer, &mut Vec::new(), &mut turn).and_then(|()| {
            let now = opened.now(self.clock);
            opened.jetstream.before_commit(&mut opened.store, now)?;
            opened.store.commit()
        });
        if let Err(error) = stored {
            tracing::error!(%error, "the last commit failed; consumers may see some messages again");
        }
        self.mailbox.release(turn);
    }

    /// Nothing is retried in place: the store is dropped and opened anew. `None`: the gateway stops meanwhile.
    fn reopen(&self, failed: Opened, error: &StoreError, waiting: Vec<Batch>) -> Option<Opened> {
        tracing::error!(%error, "the store failed; it is opened anew, publishes are refused meanwhile");
        drop(failed);
        // Batches go back in the order in which they came.
        self.refuse(waiting);
        loop {
            match open(&self.plan, self.clock, &self.handle, &self.rows) {
                Ok(mut opened) => {
                    let mut events = vec![Event::Reopened { reason: error.to_string().into() }];
                    events.append(&mut opened.events);
                    self.mailbox.release(Turn { events, ..Turn::default() });
                    return Some(opened);
                }
                Err(error) => tracing::error!("the store can't be opened: {error:#}; trying again"),
            }
            let mut inbox = Vec::new();
            if !self.mailbox.wait(Some(REOPEN_PAUSE), &mut inbox) {
                return None;
            }
            self.refuse(inbox);
        }
    }

    /// What arrives while there is no store is refused at once.
    fn refuse(&self, inbox: Vec<Batch>) {
        if !inbox.is_empty() {
            let done = inbox.into_iter().map(|batch| {
                let outcomes = committer::refusals(&batch);
                (batch, outcomes)
            });
            self.mailbox.release(Turn { done: done.collect(), ..Turn::default() });
        }
    }
}

impl Opened {
    fn now(&mut self, clock: Clock) -> Now {
        let now = clock.now();
        self.age.now(Timestamp(now.wall_ns), now.micros / 1000)
    }

    fn turn(
        &mut self,
        clock: Clock,
        committer: &mut Committer,
        inbox: &mut Vec<Batch>,
        turn: &mut Turn,
    ) -> Result<(), StoreError> {
        let mut timed_commit = |store: &mut dyn Store, _: &mut JetStream| {
            let before = clock.now().micros;
            store.commit()?;
            Ok(clock.now().micros - before)
        };
        self.turn_with(clock, committer, inbox, turn, &mut timed_commit)
    }

    fn turn_with(
        &mut self,
        clock: Clock,
        committer: &mut Committer,
        inbox: &mut Vec<Batch>,
        turn: &mut Turn,
        commit: committer::Sync<'_>,
    ) -> Result<(), StoreError> {
        let now = self.now(clock);
        committer.turn(now, inbox, turn, &mut self.jetstream, &mut self.store, commit)
    }
}

/// Opens the file, loads what stands on it, brings about what is declared, and begins a new incarnation of what is forwarded.
fn open(plan: &StorePlan, clock: Clock, handle: &StoreHandle, rows: &Mutex<ForwardRows>) -> anyhow::Result<Opened> {
    let waker = handle.clone();
    let options =
        Options { cache_kib: plan.cache_kib, wake: Some(Box::new(move || waker.nudge())), ..Options::default() };
    let (mut store, report) = SqliteStore::open(&plan.folder, options)?;
    for damage in &report.damage {
        tracing::error!("the store was damaged: {damage}");
    }
    if report.unclean {
        tracing::warn!("the store was not closed in order: what was acknowledged is there");
    }
    let now = clock.now();
    let mut age = AgeClock::open(&mut store, Timestamp(now.wall_ns), now.micros / 1000)?;
    let now = age.now(Timestamp(now.wall_ns), now.micros / 1000);
    let (jetstream, events) = JetStream::load(&mut store, now, plan.limits)?;
    let mut opened = Opened { store, jetstream, age, events };
    opened.open_ledgers(plan, clock)?;
    opened.declare(plan, clock)?;
    let fresh = opened.forward_rows(plan, clock)?;
    *rows.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    Ok(opened)
}

impl Opened {
    /// Positions of forwards, before anything can be removed: what is above them and goes is lost.
    fn open_ledgers(&mut self, plan: &StorePlan, clock: Clock) -> anyhow::Result<()> {
        let is_forwarded = |name: &str| plan.forwarded.iter().any(|known| known == name);
        self.jetstream.keep_gaps(&mut self.store, plan.gaps.clone(), &is_forwarded)?;
        self.jetstream.expect_forwards(plan.forwarded.iter().map(|name| name.as_str().into()));
        let mut batch = Batch::default();
        for event in &self.events {
            let Event::StreamUp { stream, name, .. } = event else { continue };
            let Some(record) = self.store.record(&record_key(name))?.filter(|_| is_forwarded(name)) else { continue };
            // One that can't be read stops its forward, which says so.
            let Ok(record) = Record::decode(&record) else { continue };
            let told = Forwarded { stream: *stream, confirmed: Sequence(record.confirmed), ..Forwarded::default() };
            batch.commands.push(Command::Forwarded(told));
        }
        let mut turn = Turn::default();
        self.turn(clock, &mut Committer::default(), &mut vec![batch], &mut turn)?;
        self.events.append(&mut turn.events);
        Ok(())
    }

    /// Streams and consumers of the configuration: created, or brought to what it says. What can't be is told and left as it is: a box whose streams
    /// were changed over the API still serves, after a restart as well.
    fn declare(&mut self, plan: &StorePlan, clock: Clock) -> anyhow::Result<()> {
        declared::bring_about(&plan.declared, &mut |request| self.ask(clock, request), &mut |what, why| {
            tracing::error!("{what} is not as declared: {why}; change the file, or what is in its way");
        })
    }

    /// One request, answered at once.
    fn ask(&mut self, clock: Clock, request: Request) -> anyhow::Result<Answer> {
        let batch = Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() };
        let mut turn = Turn::default();
        self.turn(clock, &mut Committer::default(), &mut vec![batch], &mut turn)?;
        self.events.append(&mut turn.events);
        let outcome = turn.done.into_iter().flat_map(|(_, outcomes)| outcomes).next();
        match outcome {
            Some(Outcome::Answer(answer)) => Ok(*answer),
            other => anyhow::bail!("the store answered {other:?} to a request"),
        }
    }

    /// An incarnation begins at every opening of the store, and is durable before anything is forwarded.
    fn forward_rows(&mut self, plan: &StorePlan, clock: Clock) -> anyhow::Result<ForwardRows> {
        let mut rows = ForwardRows::default();
        for event in &self.events {
            if let Event::StreamUp { stream, name, .. } = event {
                rows.streams.insert(name.to_string(), (*stream, self.store.state(*stream), None));
            }
        }
        for name in &plan.forwarded {
            let Some((stream, state, incarnations)) = rows.streams.get_mut(name) else { continue };
            *incarnations = Some(self.begin_incarnation(*stream, state.last)?);
        }
        self.store.scan_records(&[record_space::FORWARD], &[], &mut |key, value| {
            rows.records.push((key.to_vec(), value.to_vec()));
            true
        })?;
        // With what the first turns removed, so that it is accounted for in the same commit.
        let now = self.now(clock);
        self.jetstream.before_commit(&mut self.store, now)?;
        self.store.commit()?;
        rows.age = (self.now(clock).age, clock.now().micros / 1000);
        Ok(rows)
    }

    fn begin_incarnation(&mut self, stream: StreamId, last: Sequence) -> anyhow::Result<Incarnations> {
        let prefix = Incarnation::key(stream, 0);
        let mut known = Vec::new();
        let mut damaged = 0;
        self.store.scan_records(&prefix[..5], &[], &mut |_, value| {
            match Incarnation::decode(value) {
                Ok(row) => known.push(row),
                Err(_) => damaged += 1,
            }
            true
        })?;
        if damaged > 0 {
            tracing::error!(damaged, "rows of incarnations can't be read; messages of theirs may be sent twice");
        }
        let fresh = Incarnation { id: IncarnationId(getrandom::u64().context("random numbers")?), first: last.next() };
        let ordinal = u32::try_from(known.len() + damaged).unwrap_or(u32::MAX);
        self.store.put_record(&Incarnation::key(stream, ordinal), &fresh.encode())?;
        known.push(fresh);
        Incarnations::new(known).context("incarnations")
    }
}

/// Is this folder's store in use, or unusable? For messages before the thread starts.
pub(crate) fn prepare_folder(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() && !folder.is_dir() {
        anyhow::bail!("storage directory is not a directory");
    }
    std::fs::create_dir_all(folder).with_context(|| format!("could not create storage directory {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::Thread;

    use jetstream::command::{Append, Ticket};

    use super::*;

    /// Wakes a thread that waits for turns.
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }

    fn next_turn(handle: &StoreHandle) -> Turn {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        loop {
            match handle.poll_turn(&mut Context::from_waker(&waker)) {
                Poll::Ready(turn) => return turn.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Appends with tickets from `first` on. What has no subject is more than a store can take.
    fn appends(first: u64, count: u64, subject: &[u8]) -> Batch {
        let mut batch = Batch::default();
        let subject = batch.add(subject);
        for number in first..first + count {
            let append = Append { stream: StreamId::FIRST, ticket: Ticket(number, 0), subject, ..Append::default() };
            batch.commands.push(Command::Append(append));
        }
        batch
    }

    /// Which appends came back, in order, and whether each was stored.
    fn came_back(turn: Turn) -> Vec<(u64, bool)> {
        let each = |(batch, outcomes): (Batch, Vec<Outcome>)| {
            let ticket = |command: &Command| match command {
                Command::Append(append) => append.ticket.0,
                _ => 0,
            };
            let stored = outcomes.iter().map(|outcome| matches!(outcome, Outcome::Appended { .. }));
            batch.commands.iter().map(ticket).zip(stored).collect::<Vec<_>>()
        };
        turn.done.into_iter().flat_map(each).collect()
    }

    #[test]
    fn batches_come_back_in_their_order_when_the_store_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (handle, mailbox) = store_queue();
        let plan = StorePlan {
            folder: folder.path().to_owned(),
            cache_kib: 256,
            limits: Limits::default(),
            declared: Vec::new(),
            forwarded: Vec::new(),
            gaps: None,
        };
        let (clock, rows) = (Clock::start(), Arc::default());
        let worker = Worker { plan, clock, handle: handle.clone(), rows, mailbox };
        // A store never leaves its thread.
        let thread = std::thread::spawn(move || {
            let mut opened = open(&worker.plan, clock, &worker.handle, &worker.rows).unwrap();
            opened.ask(clock, Request::StreamCreate { config: Box::new(StreamConfig::named("S")) }).unwrap();
            // The first turn takes two batches and fails; three are left then.
            worker.handle.submit(appends(0, 100, b"S"));
            worker.handle.submit(appends(100, 3_000, b""));
            (0..3).for_each(|batch| worker.handle.submit(appends(3_100 + batch * 1_000, 1_000, b"S")));
            worker.run(opened);
        });
        let mut refused = Vec::new();
        loop {
            let turn = next_turn(&handle);
            let is_opened = turn.events.iter().any(|event| matches!(event, Event::Reopened { .. }));
            refused.extend(came_back(turn));
            if is_opened {
                break;
            }
        }
        assert_eq!(refused, (0..6_100).map(|ticket| (ticket, false)).collect::<Vec<_>>());
        handle.submit(appends(6_100, 1, b"S"));
        while came_back(next_turn(&handle)) != [(6_100, true)] {}
        handle.close();
        thread.join().unwrap();
    }
}
