//! A client that backs up and restores, with the real JetStream over a store in memory behind the broker.

use archive::{Entry, Reader, Writer};
use committer::Committer;
use jetstream::command::Turn;
use jetstream::identity::{AgeMillis, StreamId, Timestamp};
use jetstream::store::memory::MemoryStore;
use jetstream::store::{Store, StoreError};
use jetstream::{JetStream, Limits};

use crate::{Broker, ConnectionId, NewConnection, Now, Outbox, Protocol, Settings, TlsFacts, Transport};

const CONFIG: &str = r#"{"name":"S","subjects":["s.>"],"max_msgs":5000}"#;

struct World {
    broker: Broker,
    out: Outbox,
    client: ConnectionId,
    store: MemoryStore,
    jetstream: JetStream,
    limits: Limits,
    micros: u64,
    /// Advisories, without what differs from run to run.
    events: Vec<String>,
}

#[derive(Debug)]
struct Got {
    subject: String,
    reply: String,
    headers: String,
    payload: Vec<u8>,
}

impl World {
    fn new(limits: Limits) -> World {
        let settings = Settings { jetstream: Some(crate::JetStreamSettings { domain: None }), ..Settings::default() };
        let mut broker = Broker::new(settings, 7);
        let mut out = broker.outbox();
        let new = NewConnection {
            protocol: Protocol::Nats,
            transport: Transport::Tcp,
            peer: ([127, 0, 0, 1], 1).into(),
            tls: TlsFacts::default(),
        };
        let client = broker.open(Now::default(), &new, &mut out).expect("room");
        let mut store = MemoryStore::with_crashes();
        let (jetstream, _) = JetStream::load(&mut store, jetstream::identity::Now::default(), limits).expect("empty");
        let mut world = World { broker, out, client, store, jetstream, limits, micros: 1_000_000, events: Vec::new() };
        world.send(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB r 1\r\n");
        world.got();
        world
    }

    fn now(&self) -> Now {
        Now { micros: self.micros, wall_ns: 1_700_000_000_000_000_000 + self.micros as i64 * 1000 }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut used = 0;
        while used < bytes.len() {
            let received = self.broker.received(self.now(), self.client, &bytes[used..], &mut self.out);
            assert!(received.used > 0, "nothing was taken");
            used += received.used;
        }
        self.settle();
    }

    /// Until the store has nothing more to do.
    fn settle(&mut self) {
        let now = self.now();
        let at = jetstream::identity::Now {
            wall: Timestamp(now.wall_ns),
            age: AgeMillis(1_000_000_000 + self.micros / 1000),
        };
        let mut sync =
            |store: &mut dyn Store, _: &mut JetStream| -> Result<u64, StoreError> { store.commit().map(|()| 1) };
        loop {
            // A restore that has paused goes on at once.
            if self.broker.snapshots.poll_timeout() == Some(0) {
                self.broker.tick(now, &mut self.out);
            }
            let Some(batch) = self.broker.take_batch(self.now(), &self.out) else {
                if self.broker.snapshots.poll_timeout() == Some(0) {
                    continue;
                }
                break;
            };
            let mut turn = Turn::default();
            Committer::default()
                .turn(at, &mut vec![batch], &mut turn, &mut self.jetstream, &mut self.store, &mut sync)
                .expect("the store works");
            self.broker.committed(now, &mut turn, &mut self.out);
        }
    }

    fn after(&mut self, micros: u64) {
        self.micros += micros;
        self.broker.tick(self.now(), &mut self.out);
        self.settle();
    }

    fn got(&mut self) -> Vec<Got> {
        let bytes: Vec<u8> = self.out.pending(self.client).flatten().copied().collect();
        self.out.sent(self.client, bytes.len());
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 2..];
            let words: Vec<&str> = line.split(' ').collect();
            let (with_headers, sizes) = match words[0] {
                "MSG" => (false, 1),
                "HMSG" => (true, 2),
                _ => continue,
            };
            let size: usize = words[words.len() - 1].parse().expect("a size");
            let head: usize = if with_headers { words[words.len() - 2].parse().expect("a size") } else { 0 };
            let reply = if words.len() > 3 + sizes { words[3].to_owned() } else { String::new() };
            let (headers, payload) = rest[..size].split_at(head);
            all.push(Got {
                subject: words[1].to_owned(),
                reply,
                headers: String::from_utf8_lossy(headers).into_owned(),
                payload: payload.to_vec(),
            });
            rest = &rest[size + 2..];
        }
        let events = all.extract_if(.., |got: &mut Got| got.subject.starts_with("$JS.EVENT."));
        self.events.extend(events.map(|got| format!("{} {}", got.subject, String::from_utf8_lossy(&got.payload))));
        all
    }

    fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        let mut frame = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        frame.extend_from_slice(payload);
        frame.extend_from_slice(b"\r\n");
        self.send(&frame);
    }

    fn ask(&mut self, operation: &str, body: &str) -> String {
        self.publish(&format!("$JS.API.{operation}"), "r", body.as_bytes());
        let mut got = self.got();
        assert_eq!(got.len(), 1, "{got:?}");
        String::from_utf8(got.remove(0).payload).expect("text")
    }

    /// A stream with gaps, headers, and a consumer in the middle of its work.
    fn fill(&mut self) {
        self.ask("STREAM.CREATE.S", CONFIG);
        for number in 1..=600 {
            let (subject, body) = (format!("s.{}", number % 7), noise(number));
            if number % 5 == 0 {
                let headers = format!("NATS/1.0\r\nNats-Msg-Id: {number}\r\n\r\n");
                let (head, all) = (headers.len(), headers.len() + body.len());
                self.send(&[format!("HPUB {subject} {head} {all}\r\n{headers}").as_bytes(), &body, b"\r\n"].concat());
            } else {
                self.publish(&subject, "", &body);
            }
        }
        for gone in [1, 2, 77, 300, 301, 600] {
            self.ask("STREAM.MSG.DELETE.S", &format!(r#"{{"seq":{gone}}}"#));
        }
        self.ask(
            "CONSUMER.CREATE.S.c",
            r#"{"stream_name":"S","config":{"durable_name":"c","name":"c","ack_policy":"explicit","filter_subjects":["s.1","s.2"]}}"#,
        );
        self.publish("$JS.API.CONSUMER.MSG.NEXT.S.c", "r", br#"{"batch":5}"#);
        let acks: Vec<String> = self.got().into_iter().map(|got| got.reply).collect();
        for ack in [&acks[0], &acks[1], &acks[3]] {
            self.publish(ack, "", b"");
        }
        self.got();
    }

    /// The archive, its last message, and how many pieces it came in.
    fn back_up(&mut self, more: &str) -> (Vec<u8>, String, usize) {
        self.send(b"SUB d 2\r\n");
        self.publish("$JS.API.STREAM.SNAPSHOT.S", "r", format!(r#"{{"deliver_subject":"d"{more}}}"#).as_bytes());
        let (mut archive, mut pieces) = (Vec::new(), 0);
        loop {
            let got = self.got();
            assert!(!got.is_empty(), "it does not go on");
            for one in got {
                match &*one.subject {
                    "r" => assert!(String::from_utf8_lossy(&one.payload).contains(r#""num_deleted""#), "{one:?}"),
                    _ if one.payload.is_empty() => {
                        self.send(b"UNSUB 2\r\n");
                        assert_eq!(self.broker.snapshots.sending.len(), 0);
                        return (archive, one.headers, pieces);
                    }
                    _ => {
                        pieces += 1;
                        archive.extend_from_slice(&one.payload);
                        if !one.reply.is_empty() {
                            self.publish(&one.reply, "", b"");
                        }
                    }
                }
            }
        }
    }

    fn begin_restore(&mut self, config: &str) -> String {
        let answer = self.ask("STREAM.RESTORE.S", &format!(r#"{{"config":{config},"state":{{"messages":1}}}}"#));
        let subject = answer.split('"').find(|word| word.starts_with("$JS.SNAPSHOT.RESTORE.S."));
        subject.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Sends an archive; what came of it.
    fn restore(&mut self, config: &str, archive: &[u8], size: usize) -> String {
        let subject = self.begin_restore(config);
        for piece in archive.chunks(size) {
            self.publish(&subject, "r", piece);
            assert!(matches!(&self.got()[..], [ack] if ack.payload.is_empty()), "each piece is acknowledged once");
        }
        self.publish(&subject, "r", b"");
        let mut got = self.got();
        assert_eq!((got.len(), self.broker.snapshots.receiving.len()), (1, 0));
        String::from_utf8(got.remove(0).payload).expect("text")
    }

    /// Nothing of a restore is left: no stream, no table, no bytes.
    fn assert_empty(&mut self) {
        let tables = self.store.streams().expect("readable").into_iter().filter(|one| one.stream >= StreamId::FIRST);
        assert_eq!(tables.count(), 0);
        let info = self.ask("INFO", "");
        assert!(info.contains(r#""storage":0"#) && info.contains(r#""streams":0"#), "{info}");
        assert_eq!(self.broker.stream_count(), 0);
    }
}

/// What can't be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Name, time, sequence, headers, body.
type Owned = (String, i64, u64, Vec<u8>, Vec<u8>);

fn entries(archive: &[u8]) -> Vec<Owned> {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    reader.push(archive);
    while let Some(entry) = reader.next(1 << 20).expect("sound") {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        all.push((name, entry.time, entry.sequence, entry.headers.to_vec(), entry.body.to_vec()));
    }
    all
}

fn archive_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = Writer::default();
    entries.iter().for_each(|entry| writer.add(entry));
    writer.finish();
    let size = writer.ready();
    writer.take(size).to_vec()
}

fn state(json: &str) -> Entry<'_> {
    Entry { name: b"state.json", time: 1, sequence: 0, headers: b"", body: json.as_bytes() }
}

fn message(sequence: u64, body: &[u8]) -> Entry<'_> {
    Entry { name: b"s.a", time: 1_600_000_000_000_000_000, sequence, headers: b"", body }
}

fn filled() -> (World, Vec<u8>) {
    let mut world = World::new(Limits::default());
    world.fill();
    let (archive, end, _) = world.back_up("");
    assert_eq!(end, "NATS/1.0 204\r\n\r\n");
    (world, archive)
}

#[test]
fn a_restored_stream_is_backed_up_as_the_one_it_was_made_of() {
    let (_, archive) = filled();
    let mut other = World::new(Limits::default());
    let answer = other.restore(CONFIG, &archive, 10_000);
    assert!(answer.contains("stream_create_response") && answer.contains(r#""messages":594"#), "{answer}");
    let (again, ..) = other.back_up(r#","chunk_size":1024,"window_size":2000"#);
    assert_eq!(entries(&again), entries(&archive));
    let info = other.ask("CONSUMER.INFO.S.c", "");
    assert!(info.contains(r#""num_ack_pending":2"#) && info.contains(r#""consumer_seq":5"#), "{info}");
    // Its subjects are captured, ids are known, and the sequences go on.
    other.send(b"HPUB s.1 r 28 29\r\nNATS/1.0\r\nNats-Msg-Id: 9\r\n\r\nx\r\n");
    assert!(String::from_utf8_lossy(&other.got()[0].payload).contains(r#""seq":601"#));
    let id = "NATS/1.0\r\nNats-Msg-Id: 595\r\n\r\n";
    other.send(format!("HPUB s.1 r {} {}\r\n{id}x\r\n", id.len(), id.len() + 1).as_bytes());
    assert!(String::from_utf8_lossy(&other.got()[0].payload).contains(r#""seq":595,"duplicate": true"#));
}

#[test]
fn a_snapshot_without_consumers_and_one_of_nothing() {
    let (mut world, archive) = filled();
    assert_eq!(entries(&archive)[1].0, "consumers/c");
    let (without, ..) = world.back_up(r#","no_consumers":true"#);
    assert_eq!(entries(&without)[1].0, "s.3");
    world.ask("STREAM.PURGE.S", "");
    world.send(b"SUB d 2\r\n");
    world.publish("$JS.API.STREAM.SNAPSHOT.S", "r", br#"{"deliver_subject":"d"}"#);
    let got = world.got();
    // Less than a piece: no reply to answer, and no status.
    assert_eq!((&*got[1].reply, &*got[2].headers, got[2].payload.len()), ("", "", 0));
    let mut other = World::new(Limits::default());
    let answer = other.restore(CONFIG, &got[1].payload, 1000);
    assert!(answer.contains(r#""first_seq":601"#) && answer.contains(r#""last_seq":600"#), "{answer}");
}

#[test]
fn who_does_not_acknowledge_or_listen_ends_a_snapshot() {
    let (mut world, _) = filled();
    world.send(b"SUB d 2\r\n");
    let small = br#"{"deliver_subject":"d","chunk_size":1024,"window_size":4096}"#;
    world.publish("$JS.API.STREAM.SNAPSHOT.S", "r", small);
    assert_eq!(world.got().len(), 1 + 4, "the answer, and as much as the window holds");
    world.after(4_999_999);
    assert_eq!(world.got().len(), 0);
    world.after(1);
    assert_eq!(world.got()[0].headers, "NATS/1.0 408 No Flow Response\r\n\r\n");
    world.send(b"UNSUB 2\r\n");
    world.publish("$JS.API.STREAM.SNAPSHOT.S", "r", small);
    world.after(250_000);
    world.after(1_749_999);
    assert_eq!(world.broker.snapshots.sending.len(), 1);
    world.after(1);
    assert_eq!((world.got().len(), world.broker.snapshots.sending.len()), (1, 0));
}

#[test]
fn who_listens_to_all_inboxes_is_given_time_to_listen_to_the_one() {
    let (mut world, _) = filled();
    world.send(b"SUB in.* 2\r\n");
    let request = br#"{"deliver_subject":"in.d","chunk_size":1024,"window_size":1024}"#;
    world.publish("$JS.API.STREAM.SNAPSHOT.S", "r", request);
    assert_eq!(world.got().len(), 1);
    world.send(b"SUB in.d 3\r\n");
    world.after(0);
    assert_eq!(world.got().len(), 2, "the first piece, for both");
    world.send(b"UNSUB 3\r\n");
    world.publish("$JS.API.STREAM.SNAPSHOT.S", "r", request);
    world.after(249_999);
    assert_eq!(world.got().len(), 1);
    world.after(1);
    assert_eq!(world.got().len(), 1, "it may mean it");
}

#[test]
fn snapshots_and_restores_tell_of_themselves() {
    let (mut world, archive) = filled();
    world.send(b"SUB $JS.EVENT.ADVISORY.STREAM.*.S 9\r\n");
    world.back_up("");
    world.ask("STREAM.DELETE.S", "");
    world.restore(CONFIG, &archive, 10_000);
    let told = |kind: &str| -> Vec<&String> {
        let subject = format!("$JS.EVENT.ADVISORY.STREAM.{kind}.S ");
        world.events.iter().filter(|event| event.starts_with(&subject)).collect()
    };
    assert_eq!((told("SNAPSHOT_CREATE").len(), told("RESTORE_CREATE").len()), (1, 1), "{:?}", world.events);
    assert!(told("SNAPSHOT_CREATE")[0].contains(r#""messages":594"#) && told("SNAPSHOT_COMPLETE").len() == 1);
    let bytes = format!(r#""bytes":{}"#, archive.len());
    assert!(told("RESTORE_COMPLETE")[0].contains(&bytes), "{:?}", told("RESTORE_COMPLETE"));
}

#[test]
fn requests_are_refused_as_stock_does() {
    let (mut world, _) = filled();
    for (operation, body, wanted) in [
        ("STREAM.SNAPSHOT.S", "", "10003"),
        ("STREAM.SNAPSHOT.T", "x", "10059"),
        ("STREAM.SNAPSHOT.S", "x", "10025"),
        ("STREAM.SNAPSHOT.S", r#"{"deliver_subject":"a.*"}"#, "10015"),
        ("STREAM.SNAPSHOT.S", r#"{"no_consumers":true}"#, "10015"),
        ("STREAM.RESTORE.S", "", "10003"),
        ("STREAM.RESTORE.S", r#"{"config":{"name":"T"}}"#, "10056"),
        ("STREAM.RESTORE.S", r#"{"config":{"name":"S"}}"#, "10130"),
        ("STREAM.RESTORE.T", r#"{"config":{"subjects":["s.1"]}}"#, "10065"),
    ] {
        let answer = world.ask(operation, body);
        assert!(answer.contains(&format!(r#""err_code":{wanted},"#)), "{operation} {body}: {answer}");
    }
}

#[test]
fn what_is_cut_off_or_damaged_is_refused_and_leaves_nothing() {
    let (_, archive) = filled();
    let mut world = World::new(Limits::default());
    for part in 0..20 {
        let answer = world.restore(CONFIG, &archive[..archive.len() * part / 20], 3000);
        assert!(answer.contains(r#""err_code":10062"#), "{answer}");
        world.assert_empty();
    }
    for place in (0..archive.len()).step_by(archive.len() / 30) {
        let mut damaged = archive.clone();
        damaged[place] ^= 0x55;
        let answer = world.restore(CONFIG, &damaged, 50_000);
        assert!(answer.contains(r#""err_code":10062"#), "byte {place}: {answer}");
        world.assert_empty();
    }
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let mut world = World::new(Limits { max_file_store: Some(1 << 20), ..Limits::default() });
    let (plain, large) = (r#"{"first_seq":1,"last_seq":9}"#, vec![0; 1 << 20]);
    let bad_subject = Entry { name: b"s.*", ..message(1, b"") };
    let bad_headers = Entry { headers: b"NATS/1.0\r\n", ..message(1, b"") };
    let consumer = |body: &'static str| Entry { name: b"consumers/c", ..state(body) };
    let one = r#"{"consumer_count":1}"#;
    for (entries, wanted) in [
        (vec![message(1, b"")], "expected state.json first"),
        (vec![state("x")], "error in state.json"),
        (vec![state(r#"{"bytes":99999999}"#)], "insufficient storage resources available"),
        (vec![state(r#"{"first_seq":9223372036854775808}"#)], "out of range"),
        (vec![state(r#"{"last_seq":9223372036854775808}"#)], "out of range"),
        (vec![state(one)], "expected consumer, found \\\"\\\""),
        (vec![state(one), message(1, b"")], "expected consumer"),
        (vec![state(one), consumer("{}")], "missing config"),
        (vec![state(one), consumer(r#"{"config":{"ack_policy":"explicit"}}"#)], "missing state"),
        (vec![state(one), consumer(r#"{"config":{"ack_policy":1},"state":{}}"#)], "failed to decode consumer"),
        (vec![state(one), consumer(r#"{"config":{"bogus":1},"state":{}}"#)], "unknown field"),
        (vec![state(plain), message(2, b""), message(2, b"")], "sequence 2 out of order"),
        (vec![state(r#"{"first_seq":5}"#), message(4, b"")], "sequence 4 out of order"),
        (vec![state(plain), message(u64::MAX, b"")], "out of order"),
        (vec![state(plain), bad_subject], "no valid subject"),
        (vec![state(plain), bad_headers], "invalid headers"),
        (vec![state(plain), message(1, &[0; 2 << 20])], "sequence 1 exceeds maximum payload size"),
        (vec![state(plain), Entry { time: 1, ..message(0, b"") }], "expected message sequence"),
        (vec![state(plain), message(1, &large[..900_000]), message(2, &large[..200_000])], "insufficient storage"),
    ] {
        let answer = world.restore(CONFIG, &archive_of(&entries), 40_000);
        assert!(answer.contains(r#""error""#) && answer.contains(wanted), "{wanted}: {answer}");
        world.assert_empty();
    }
    let small = CONFIG.replace('}', r#","max_msg_size":3}"#);
    let answer = world.restore(&small, &archive_of(&[state(plain), message(1, b"four")]), 9999);
    assert!(answer.contains("message sequence 1 exceeds maximum message size"), "{answer}");
    world.assert_empty();
}

#[test]
fn a_restore_is_invisible_and_a_crash_or_silence_leaves_nothing_of_it() {
    let (_, archive) = filled();
    let mut world = World::new(Limits::default());
    let subject = world.begin_restore(CONFIG);
    for piece in archive[..archive.len() - 10].chunks(5000) {
        world.publish(&subject, "r", piece);
        world.got();
    }
    assert!(world.ask("STREAM.NAMES", "").contains(r#""streams":null"#));
    assert!(world.ask("INFO", "").contains(r#""streams":0"#));
    let answer = world.ask("STREAM.RESTORE.S", &format!(r#"{{"config":{CONFIG}}}"#));
    assert!(answer.contains("10130"), "{answer}");
    world.store.crash();
    assert_eq!(world.store.streams().expect("readable").len(), 2, "it is in the store, for nobody");
    let now = jetstream::identity::Now::default();
    let (jetstream, events) = JetStream::load(&mut world.store, now, world.limits).expect("loads");
    assert_eq!(events.len(), 0);
    world.jetstream = jetstream;
    world.publish(&subject, "r", &archive[archive.len() - 10..]);
    world.got();
    world.publish(&subject, "r", b"");
    let got = world.got();
    assert!(String::from_utf8_lossy(&got[0].payload).contains("error"), "{got:?}");
    world.assert_empty();

    let subject = world.begin_restore(CONFIG);
    world.publish(&subject, "r", &archive[..archive.len() / 2]);
    world.got();
    world.after(5_000_000);
    assert_eq!(world.got().len(), 0, "nobody is there to be told");
    world.assert_empty();
    world.publish(&subject, "r", b"x");
    assert!(world.got()[0].headers.contains("503"), "nobody listens there any more");
}

/// The archives of older servers are `archive`'s samples: nine messages, of which three were deleted, and a consumer.
#[test]
fn archives_of_older_servers_are_restored() {
    for sample in [
        &include_bytes!("../../../archive/src/samples/2.9.s2")[..],
        include_bytes!("../../../archive/src/samples/2.14.s2"),
    ] {
        for size in [7, 500, 1 << 20] {
            let mut world = World::new(Limits::default());
            let state = r#""state":{"first_seq":2,"last_seq":9,"bytes":384}"#;
            let answer = world.ask("STREAM.RESTORE.S", &format!(r#"{{"config":{CONFIG},{state}}}"#));
            let subject =
                answer.split('"').find(|word| word.starts_with("$JS.SNAPSHOT.RESTORE.S.")).expect("a subject");
            for piece in sample.chunks(size) {
                world.publish(subject, "r", piece);
                assert_eq!(world.got().len(), 1);
            }
            world.publish(subject, "r", b"");
            let answer = String::from_utf8(world.got().remove(0).payload).expect("text");
            assert!(answer.contains(r#""messages":6"#) && answer.contains(r#""bytes":384"#), "{answer}");
            assert!(answer.contains(r#""first_seq":2"#) && answer.contains(r#""last_seq":9"#), "{answer}");
            let consumer = world.ask("CONSUMER.INFO.S.c", "");
            assert!(consumer.contains(r#""delivered":{"consumer_seq":4,"stream_seq":6"#), "{consumer}");
            assert!(
                consumer.contains(r#""num_ack_pending":3"#) && consumer.contains(r#""num_pending":2"#),
                "{consumer}"
            );
            let message = world.ask("STREAM.MSG.GET.S", r#"{"seq":4}"#);
            assert!(message.contains(r#""subject":"s.1""#) && message.contains("bWVzc2FnZSA0"), "{message}");
            assert!(world.ask("STREAM.MSG.GET.S", r#"{"seq":3}"#).contains("10037"));
            let cut = world.ask("STREAM.DELETE.S", "");
            assert!(cut.contains("true"));
            let answer = world.restore(CONFIG, &sample[..sample.len() - 40], size);
            assert!(answer.contains(r#""err_code":10062"#), "{answer}");
            world.assert_empty();
        }
    }
}

#[test]
fn a_consumer_that_the_stream_does_not_take_refuses_the_whole() {
    let consumer =
        r#"{"config":{"name":"c","durable_name":"c","ack_policy":"none"},"state":{"delivered":{},"ack_floor":{}}}"#;
    let entries = [
        state(r#"{"last_seq":1,"consumer_count":1}"#),
        Entry { name: b"consumers/c", ..state(consumer) },
        message(1, b"x"),
    ];
    let mut world = World::new(Limits::default());
    let queue = CONFIG.replace('}', r#","retention":"workqueue"}"#);
    let answer = world.restore(&queue, &archive_of(&entries), 9999);
    assert!(answer.contains("failed to add consumer"), "{answer}");
    world.assert_empty();
    let answer = world.restore(CONFIG, &archive_of(&entries), 9999);
    assert!(answer.contains(r#""consumer_count":1"#), "{answer}");
}

/// What a stream does in time it goes on doing: schedules are sent, messages end, and some never do.
#[test]
fn schedules_and_times_to_live_go_on_in_a_restored_stream() {
    const TIMED: &str = r#"{"name":"S","subjects":["s.>"],"allow_msg_schedules":true,"allow_msg_ttl":true,"allow_rollup_hdrs":true,"max_age":5000000000,"duplicate_window":1000000000}"#;
    let mut world = World::new(Limits::default());
    world.ask("STREAM.CREATE.S", TIMED);
    let messages = [
        ("s.never", "Nats-TTL: never"),
        ("s.gone", "X: y"),
        ("s.short", "Nats-TTL: 2"),
        ("s.aged", "X: y"),
        ("s.plan", "Nats-Schedule: @every 3s\r\nNats-Schedule-Target: s.sent\r\nNats-TTL: never"),
    ];
    for (subject, lines) in messages {
        let block = format!("NATS/1.0\r\n{lines}\r\n\r\n");
        world.send(format!("HPUB {subject} {0} {0}\r\n{block}\r\n", block.len()).as_bytes());
    }
    world.ask("STREAM.MSG.DELETE.S", r#"{"seq":2}"#);
    let (archive, ..) = world.back_up("");
    world.ask("STREAM.DELETE.S", "");
    assert!(world.restore(TIMED, &archive, 4096).contains(r#""messages":4"#));
    world.after(2_000_000);
    let info = world.ask("STREAM.INFO.S", r#"{"subjects_filter":">"}"#);
    assert!(info.contains(r#""subjects":{"s.aged":1,"s.never":1,"s.plan":1}"#), "{info}");
    world.after(4_000_000);
    let info = world.ask("STREAM.INFO.S", r#"{"subjects_filter":">"}"#);
    assert!(info.contains(r#""subjects":{"s.never":1,"s.plan":1,"s.sent":1}"#), "{info}");
}
