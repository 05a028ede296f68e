//! The real JetStream over a store in memory.

use std::fmt::Write as _;

use committer::Committer;
use jetstream::JetStream;
use jetstream::Limits;
use jetstream::command::{Batch, Command, Event, Request, Span, Turn};
use jetstream::config::StreamConfig;
use jetstream::identity::{AgeMillis, Now, Timestamp};
use jetstream::store::memory::MemoryStore;
use mqtt_proto::record::SessionRecord;
use subject::Filter;

pub(super) struct TestStore {
    store: MemoryStore,
    jetstream: JetStream,
    committer: Committer,
    taken: Vec<Batch>,
    limits: Limits,
}

impl TestStore {
    pub(super) fn new(max_queued_messages: u64) -> TestStore {
        let mut store = MemoryStore::with_crashes();
        let limits = Limits { max_queued_messages, ..Limits::default() };
        let (jetstream, _) = JetStream::load(&mut store, Now::default(), limits).expect("an empty store");
        TestStore { store, jetstream, committer: Committer::default(), taken: Vec::new(), limits }
    }

    /// Takes a batch, and says what is in it.
    pub(super) fn take(&mut self, batch: Batch) -> String {
        let mut output = String::new();
        for command in &batch.commands {
            describe(&batch, command, &mut output);
        }
        self.taken.push(batch);
        output
    }

    /// Applies what was taken, and gives it back with what the queues have to send.
    pub(super) fn commit(&mut self, micros: u64) -> Turn {
        let mut turn = Turn::default();
        self.turn(micros, &mut turn);
        turn
    }

    fn turn(&mut self, micros: u64, turn: &mut Turn) {
        let now = Now { wall: Timestamp(micros as i64 * 1000), age: AgeMillis(micros / 1000) };
        let mut sync = |store: &mut dyn jetstream::store::Store, _: &mut JetStream| store.commit().map(|()| 1);
        self.committer
            .turn(now, &mut self.taken, turn, &mut self.jetstream, &mut self.store, &mut sync)
            .expect("the store works");
    }

    /// A power cut, and everything is read again.
    pub(super) fn reopen(&mut self) -> Vec<Event> {
        self.taken.clear();
        self.store.crash();
        let (jetstream, events) =
            JetStream::load(&mut self.store, Now::default(), self.limits).expect("what was committed");
        self.jetstream = jetstream;
        events
    }

    /// Appends are refused from now on.
    pub(super) fn refuse(&mut self) {
        self.store.set_capacity(Some(0));
    }

    pub(super) fn create_stream(&mut self, subjects: &[&str]) -> Vec<Event> {
        let subjects = subjects.iter().map(|subject| Filter::parse(subject).expect("a filter")).collect();
        let config = Box::new(StreamConfig { subjects, ..StreamConfig::named("S") });
        let mut batch = Batch::default();
        batch.commands.push(Command::Request(Box::new(Request::StreamCreate { config })));
        let waiting = std::mem::replace(&mut self.taken, vec![batch]);
        let mut turn = Turn::default();
        self.turn(0, &mut turn);
        self.taken = waiting;
        turn.events
    }
}

fn describe(batch: &Batch, command: &Command, output: &mut String) {
    let shown = |span: Span| span.of(&batch.arena).escape_ascii().to_string();
    let _ = match command {
        Command::Append(append) => {
            let queues = &batch.queues[append.queues.0 as usize..append.queues.1 as usize];
            let queues: Vec<_> = queues.iter().map(|queue| (queue.session.0, queue.quality)).collect();
            let (subject, headers, payload) = (shown(append.subject), shown(append.headers), shown(append.payload));
            let stream = append.stream.0;
            writeln!(output, "append stream={stream} {subject} [{headers}] {payload} queues={queues:?}")
        }
        Command::Record { key, value, .. } if value.is_empty() => writeln!(output, "forget {}", shown(*key)),
        Command::Record { key, value, .. } => {
            let row = SessionRecord::decode(value.of(&batch.arena)).expect("a row");
            let filters = row.subscriptions.iter().map(|(text, grant)| (text.to_string(), grant.options.qos.bits()));
            let filters: Vec<_> = filters.collect();
            let will = if row.will.is_some() { " will" } else { "" };
            writeln!(output, "row {} {} {filters:?}{will}", shown(*key), row.client_id)
        }
        Command::Credit { .. } => Ok(()),
        other => writeln!(output, "{other:?}"),
    };
}
