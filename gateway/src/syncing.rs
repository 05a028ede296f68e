//! What the store thread does while a commit is on its way to the disk.
//!
//! Usually nothing: SQLite syncs, and everybody waits. While somebody reads values by their subjects, commits are written by SQLite and synced on a thread of its
//! own, so that the store thread can answer meanwhile what is certain: a value that is committed, and that nothing on its way changes. Nothing else of
//! what arrives is looked at before the sync has succeeded, and what waits for it is released then, as always.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};

use jetstream::JetStream;
use jetstream::command::{Answer, Batch, Event, Turn};
use jetstream::store::{Store, StoreError, SyncJob};
use server::{Clock, StoreHandle, StoreMailbox};

/// Commits are synced apart until nobody has read for so long, microseconds.
const READ_LATELY: u64 = 100_000;

/// Commits, and answers what need not wait for them.
#[derive(Debug)]
pub(crate) struct Syncing {
    clock: Clock,
    handle: StoreHandle,
    /// The thread, once it was needed.
    thread: Option<SyncThread>,
    /// When a value was read last.
    read_at: Option<u64>,
    /// What arrived during the commit.
    arrived: Vec<Batch>,
}

#[derive(Debug)]
struct SyncThread {
    jobs: Sender<SyncJob>,
    results: Receiver<io::Result<()>>,
}

impl Syncing {
    pub(crate) fn new(clock: Clock, handle: StoreHandle) -> Syncing {
        Syncing { clock, handle, thread: None, read_at: None, arrived: Vec::new() }
    }

    /// To be called after each turn: decides how the next one is committed.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn prepare(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let now = self.clock.now().micros;
        let is_read = self.read_at.is_some_and(|at| now.saturating_sub(at) < READ_LATELY);
        if is_read && self.thread.is_none() {
            self.thread = SyncThread::start(self.handle.clone()).ok();
        }
        store.sync_apart(is_read && self.thread.is_some())
    }

    /// What arrived while the turn was committed.
    pub(crate) fn take_arrived(&mut self, into: &mut Vec<Batch>) {
        into.append(&mut self.arrived);
    }

    /// The commit of a turn; answers how long it took, in microseconds.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn commit(
        &mut self,
        mailbox: &StoreMailbox,
        store: &mut dyn Store,
        jetstream: &mut JetStream,
    ) -> Result<u64, StoreError> {
        let begin = self.clock.now().micros;
        self.release(mailbox, jetstream.take_early());
        if let Some(job) = store.begin_commit()? {
            let (outcome, answered) = self.sync(job, mailbox, store, jetstream);
            // First what became of the commit: a store that can't be read has it all the same.
            store.synced(outcome)?;
            answered?;
        }
        Ok(self.clock.now().micros - begin)
    }

    /// Runs the job on its thread, and answers what can be answered until it is done. The second: whether that could be read.
    fn sync(
        &mut self,
        job: SyncJob,
        mailbox: &StoreMailbox,
        store: &mut dyn Store,
        jetstream: &mut JetStream,
    ) -> (io::Result<()>, Result<(), StoreError>) {
        let Some(thread) = &self.thread else { return (job(), Ok(())) };
        if let Err(unsent) = thread.jobs.send(job) {
            return ((unsent.0)(), Ok(()));
        }
        let (mut seen, mut answered) = (0, Ok(()));
        loop {
            let is_done = mailbox.wait_until_finished(&mut self.arrived);
            let mut early = Vec::new();
            let mut answer = |batch| jetstream.answer_early(store, batch, &mut early);
            // Also a store that can't be read is not left before its sync has ended.
            answered = answered.and_then(|()| self.arrived[seen..].iter_mut().try_for_each(&mut answer));
            seen = self.arrived.len();
            self.release(mailbox, early);
            if is_done {
                break;
            }
        }
        // Taken in any case: the next commit must not find the outcome of this one.
        let outcome = self.thread.as_ref().and_then(|thread| thread.results.recv().ok());
        (outcome.unwrap_or_else(|| Err(io::Error::other("the thread that syncs is gone"))), answered)
    }

    /// What a turn came to, before it is released.
    pub(crate) fn note(&mut self, turn: &Turn) {
        if turn.events.iter().any(|event| matches!(event, Event::Early(_))) {
            self.read_at = Some(self.clock.now().micros);
        }
    }

    fn release(&mut self, mailbox: &StoreMailbox, early: Vec<(u64, Answer)>) {
        if !early.is_empty() {
            self.read_at = Some(self.clock.now().micros);
            mailbox.release(Turn { events: vec![Event::Early(early)], ..Turn::default() });
        }
    }
}

/// Wakes the store thread when it goes, however that comes.
struct Finished<'a>(&'a StoreHandle);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl SyncThread {
    fn start(waker: StoreHandle) -> io::Result<SyncThread> {
        let (jobs, to_do) = channel::<SyncJob>();
        let (done, results) = channel();
        // It ends when the store thread drops its end.
        std::thread::Builder::new().name("store-sync".into()).spawn(move || {
            while let Ok(job) = to_do.recv() {
                let _wakes = Finished(&waker);
                if done.send(job()).is_err() {
                    return;
                }
            }
        })?;
        Ok(SyncThread { jobs, results })
    }
}
