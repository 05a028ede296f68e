//! Random operations give the same answers as on the memory store, and as many after every reopening.

use std::sync::mpsc;

use jetstream::identity::{AgeMillis, Sequence, StreamId, Timestamp};
use jetstream::store::memory::MemoryStore;
use jetstream::store::{FrontLimits, MessageBuffer, NewMessage, Store};
use proptest::prelude::*;
use sqlite_store::{Options, SqliteStore};
use subject::Filter;

use crate::{now, options, payload, read_all};

#[derive(Clone, Debug)]
enum Step {
    Append { stream: u8, subject: u8, size: u16, gap: u8, id: bool },
    Burst { stream: u8, count: u16, subjects: u8 },
    Remove { stream: u8, at: u16, erase: bool },
    RemoveRun { stream: u8, at: u16, count: u16 },
    Evict { stream: u8, keep: u16, limit: u16 },
    Purge { stream: u8, filter: u8, below: Option<u16>, keep: u8, limit: u16 },
    Trim { stream: u8, subject: u8, keep: u8 },
    TrimAll { stream: u8, keep: u8, limit: u8 },
    Clear { stream: u8 },
    Maintain,
    Skip { stream: u8, by: u8 },
    Record { key: u8, value: Option<u8> },
    Recreate { stream: u8 },
    Commit,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8, 0..8u8, 0..300u16, 0..40u8, any::<bool>())
            .prop_map(|(stream, subject, size, gap, id)| Step::Append { stream, subject, size, gap: gap.saturating_sub(36), id }),
        1 => (0..3u8, 0..8u8).prop_map(|(stream, subject)| Step::Append { stream, subject, size: 65_535, gap: 0, id: false }),
        2 => (0..3u8, 1..700u16, 1..60u8).prop_map(|(stream, count, subjects)| Step::Burst { stream, count, subjects }),
        5 => (0..3u8, any::<u16>(), any::<bool>()).prop_map(|(stream, at, erase)| Step::Remove { stream, at, erase }),
        3 => (0..3u8, any::<u16>(), 0..300u16).prop_map(|(stream, at, count)| Step::RemoveRun { stream, at, count }),
        2 => (0..3u8, 0..900u16, 1..600u16).prop_map(|(stream, keep, limit)| Step::Evict { stream, keep, limit }),
        2 => (0..3u8, 0..4u8, prop::option::of(any::<u16>()), 0..9u8, 1..300u16)
            .prop_map(|(stream, filter, below, keep, limit)| Step::Purge { stream, filter, below, keep, limit }),
        4 => (0..3u8, 0..60u8, 0..5u8).prop_map(|(stream, subject, keep)| Step::Trim { stream, subject, keep }),
        3 => (0..3u8, 0..5u8, 1..60u8).prop_map(|(stream, keep, limit)| Step::TrimAll { stream, keep, limit }),
        2 => (0..3u8).prop_map(|stream| Step::Clear { stream }),
        2 => Just(Step::Maintain),
        1 => (0..3u8, 1..200u8).prop_map(|(stream, by)| Step::Skip { stream, by }),
        2 => (0..6u8, prop::option::of(any::<u8>())).prop_map(|(key, value)| Step::Record { key, value }),
        1 => (0..3u8).prop_map(|stream| Step::Recreate { stream }),
        4 => Just(Step::Commit),
        2 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

fn filter(number: u8) -> Filter {
    Filter::parse(["s.3", "s.*", ">", "*.5"][usize::from(number) % 4]).unwrap()
}

/// Both stores, driven alike.
struct Pair {
    folder: tempfile::TempDir,
    ours: Option<SqliteStore>,
    model: MemoryStore,
    ids: [u32; 3],
    next_id: u32,
    tick: u64,
    threaded: bool,
    woken: mpsc::Receiver<()>,
    committed_ids: ([u32; 3], u32),
}

impl Pair {
    fn new(threaded: bool) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let (ours, woken) = Pair::open(folder.path(), threaded);
        let mut pair = Pair {
            folder,
            ours: Some(ours),
            model: MemoryStore::with_crashes(),
            ids: [16, 17, 18],
            next_id: 19,
            tick: 1,
            threaded,
            woken,
            committed_ids: ([16, 17, 18], 19),
        };
        for id in pair.ids {
            pair.both(|store| store.create_stream(StreamId(id), Sequence(1), b"description").unwrap());
        }
        pair.both(|store| store.commit().unwrap());
        pair
    }

    fn open(folder: &std::path::Path, threaded: bool) -> (SqliteStore, mpsc::Receiver<()>) {
        let (wake, woken) = mpsc::channel();
        let wake: Option<Box<dyn Fn() + Send>> =
            if threaded { Some(Box::new(move || _ = wake.send(()))) } else { None };
        let (store, report) = SqliteStore::open(folder, Options { wake, ..options() }).unwrap();
        assert_eq!(report.damage, []);
        (store, woken)
    }

    fn both<T: PartialEq + std::fmt::Debug>(&mut self, act: impl Fn(&mut dyn Store) -> T) -> T {
        let ours = act(self.ours.as_mut().unwrap());
        assert_eq!(ours, act(&mut self.model));
        ours
    }

    fn append(&mut self, stream: StreamId, subject: &str, size: usize, gap: u64, id: bool) {
        self.tick += 1;
        let sequence = Sequence(self.model.state(stream).last.0 + 1 + gap);
        let payload = payload(sequence.0, size);
        let headers: &[u8] = if size.is_multiple_of(3) { b"NATS/1.0\r\nA: b\r\n\r\n" } else { b"" };
        let message = NewMessage {
            sequence,
            now: now(self.tick),
            subject: subject.as_bytes(),
            headers,
            payload: &payload,
            message_id: id.then_some(u128::from(sequence.0) << 64 | 7),
        };
        self.both(|store| store.append(stream, &message).is_ok());
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { stream, subject, size, gap, id } => {
                let size = if size == 65_535 { 150_000 } else { usize::from(size) };
                self.append(StreamId(self.ids[usize::from(stream)]), &format!("s.{subject}"), size, u64::from(gap), id);
            }
            Step::Burst { stream, count, subjects } => {
                for number in 0..count {
                    let subject = format!("t{}.{}", number % 3, number % u16::from(subjects));
                    self.append(StreamId(self.ids[usize::from(stream)]), &subject, 20, 0, number % 50 == 0);
                }
            }
            Step::Remove { stream, at, erase } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                let state = self.model.state(stream);
                let sequence = Sequence(state.first.0 + u64::from(at) % (state.last.0 + 2 - state.first.0));
                self.both(|store| store.remove(stream, sequence, erase).unwrap());
            }
            Step::RemoveRun { stream, at, count } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                let state = self.model.state(stream);
                let first = Sequence(state.first.0 + u64::from(at) % (state.last.0 + 2 - state.first.0));
                let last = Sequence(first.0 + u64::from(count));
                self.both(|store| store.remove_run(stream, first, last).unwrap());
            }
            Step::Evict { stream, keep, limit } => {
                let limits = FrontLimits {
                    max_messages: u64::from(keep),
                    max_bytes: u64::from(keep) * 60,
                    stored_before: Some(AgeMillis(self.tick.saturating_sub(u64::from(keep) * 3))),
                    below: Sequence(0),
                    limit: u64::from(limit),
                };
                let stream = StreamId(self.ids[usize::from(stream)]);
                self.both(|store| store.evict(stream, &limits).unwrap());
            }
            Step::Purge { stream, filter: number, below, keep, limit } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                let last = self.model.state(stream).last.0;
                let below = below.map(|below| Sequence(u64::from(below) % (last + 2)));
                self.both(|store| {
                    store.purge(stream, &filter(number), below, u64::from(keep), u64::from(limit)).unwrap()
                });
            }
            Step::Trim { stream, subject, keep } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                let subject = format!("t{}.{subject}", subject % 3);
                self.both(|store| store.trim_subject(stream, subject.as_bytes(), u64::from(keep), 3).unwrap());
            }
            // Steps may end in different places: what is compared is what remains of all of them.
            Step::TrimAll { stream, keep, limit } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                self.both(|store| {
                    let (mut next, mut gone) = (Some(Sequence(0)), 0);
                    while let Some(from) = next {
                        let (evicted, more) = store.trim_subjects(stream, from, keep.into(), limit.into()).unwrap();
                        assert!(evicted.messages <= limit.into() && more.is_none_or(|more| more > from));
                        gone += evicted.messages;
                        next = more;
                    }
                    gone
                });
            }
            Step::Clear { stream } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                self.both(|store| store.clear(stream).unwrap());
            }
            // Erases, and may commit what was erased with all that is open.
            Step::Maintain => {
                self.apply(&Step::Commit);
                while self.ours.as_mut().unwrap().maintain().unwrap() {}
            }
            Step::Skip { stream, by } => {
                let stream = StreamId(self.ids[usize::from(stream)]);
                let last = Sequence(self.model.state(stream).last.0 + u64::from(by));
                let now = now(self.tick);
                self.both(|store| store.skip_to(stream, last, now).unwrap());
            }
            Step::Record { key, value } => {
                let key = [b'c', key / 3, key];
                self.both(|store| match value {
                    Some(value) => store.put_record(&key, &[value; 9]).unwrap(),
                    None => store.delete_record(&key).unwrap(),
                });
            }
            Step::Recreate { stream } => {
                let old = StreamId(self.ids[usize::from(stream)]);
                let new = StreamId(self.next_id);
                self.ids[usize::from(stream)] = self.next_id;
                self.next_id += 1;
                self.both(|store| store.delete_stream(old).unwrap());
                self.both(|store| store.create_stream(new, Sequence(5), b"again").unwrap());
            }
            Step::Commit => {
                self.both(|store| store.commit().unwrap());
                let ours = self.ours.as_mut().unwrap();
                ours.maintain().unwrap();
                ours.commit().unwrap();
                self.committed_ids = (self.ids, self.next_id);
            }
            Step::Reopen => {
                self.apply(&Step::Commit);
                self.reopen();
            }
            Step::Crash => {
                self.model.crash();
                (self.ids, self.next_id) = self.committed_ids;
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        self.ours = None;
        let (ours, woken) = Pair::open(self.folder.path(), self.threaded);
        self.ours = Some(ours);
        self.woken = woken;
    }

    fn compare(&mut self) {
        let streams = |store: &mut dyn Store| -> Vec<(StreamId, Vec<u8>)> {
            store.streams().unwrap().into_iter().map(|loaded| (loaded.stream, loaded.description)).collect()
        };
        self.both(streams);
        let mut records = Vec::new();
        self.both(|store| {
            let mut found = Vec::new();
            store
                .scan_records(b"c", b"c\x01", &mut |key, value| {
                    found.push((key.to_vec(), value.to_vec()));
                    true
                })
                .unwrap();
            found
        })
        .clone_into(&mut records);
        for id in self.ids {
            self.compare_stream(StreamId(id));
        }
    }

    fn compare_stream(&mut self, stream: StreamId) {
        let state = self.both(|store| store.state(stream));
        self.both(|store| store.oldest(stream).unwrap());
        for tick in [0, self.tick / 3, self.tick / 2, self.tick] {
            self.both(|store| store.first_at(stream, Timestamp(tick as i64 * 1_000)).unwrap());
        }
        let span = state.last.0 + 2 - state.first.0;
        for number in 0..4 {
            let filter = filter(number);
            let mut subjects: Vec<_> = Vec::new();
            self.both(|store| {
                let mut found = Vec::new();
                store.for_each_subject(stream, &filter, &mut |subject, state| found.push((subject.to_vec(), state)));
                found.sort_by(|one, other| one.0.cmp(&other.0));
                found
            })
            .clone_into(&mut subjects);
            for part in 0..4u64 {
                let at = Sequence(state.first.0.saturating_sub(1) + span * part / 3);
                let two = [filter.clone(), Filter::parse("t1.*").unwrap()];
                self.both(|store| store.last_matching(stream, &filter, at).unwrap());
                self.both(|store| store.next_matching(stream, at, &two).unwrap());
                self.both(|store| {
                    let mut sequences = Vec::new();
                    store.sequences(stream, at, 3, &mut sequences).unwrap();
                    store.sequences(stream, at, 5000, &mut sequences).unwrap();
                    sequences
                });
                self.both(|store| store.count_matching(stream, at, &two).unwrap());
                self.both(|store| store.count_matching(stream, at, std::slice::from_ref(&filter)).unwrap());
                self.both(|store| {
                    let mut found = MessageBuffer::default();
                    (store.message(stream, at, &mut found).unwrap(), list(&found))
                });
            }
            for filters in [vec![], vec![filter.clone()], vec![filter, Filter::parse("t2.>").unwrap()]] {
                let woken = &self.woken;
                let ours = read_all(self.ours.as_mut().unwrap(), stream, &filters, 300, &|| woken.recv().unwrap());
                let model = read_all(&mut self.model, stream, &filters, 300, &|| ());
                assert_eq!(list(&ours), list(&model), "{filters:?}");
            }
        }
        // Ids of removed messages may be remembered longer: they only help.
        let since = AgeMillis(self.tick / 2);
        let ours = self.ours.as_mut().unwrap().recent_ids(stream, since, 10_000).unwrap();
        let model = self.model.recent_ids(stream, since, 10_000).unwrap();
        assert!(model.iter().all(|id| ours.contains(id)), "{model:?} in {ours:?}");
        assert!(ours.is_sorted_by_key(|id| id.sequence));
    }
}

type Listed = (u64, i64, u64, Vec<u8>, Vec<u8>, Vec<u8>);

fn list(buffer: &MessageBuffer) -> Vec<Listed> {
    buffer
        .iter()
        .map(|m| (m.sequence.0, m.time.0, m.age.0, m.subject.to_vec(), m.headers.to_vec(), m.payload.to_vec()))
        .collect()
}

fn run(steps: &[Step], threaded: bool) {
    let mut pair = Pair::new(threaded);
    for (number, step) in steps.iter().enumerate() {
        pair.apply(step);
        if number % 6 == 5 || matches!(step, Step::Reopen | Step::Crash) {
            pair.compare();
        }
    }
    pair.apply(&Step::Reopen);
    pair.compare();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]
    #[test]
    fn like_the_memory_store(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps, false);
    }

    #[test]
    fn like_the_memory_store_with_the_reader_thread(steps in prop::collection::vec(step(), 1..40)) {
        run(&steps, true);
    }
}
