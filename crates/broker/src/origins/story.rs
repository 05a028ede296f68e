//! A broker with its store in one thread: streams that take from streams here, and from a hub spoken to in bytes.

use committer::Committer;
use jetstream::command::Turn;
use jetstream::identity::{AgeMillis, Now as StoreNow, Timestamp};
use jetstream::origin::Stage;
use jetstream::store::Store;
use jetstream::store::memory::MemoryStore;
use jetstream::{JetStream, Limits};

use crate::{
    Broker, CloseReason, ConnectionId, JetStreamSettings, LeafSettings, LinkFacts, NewConnection, Now, Outbox,
    Protocol, Settings, TlsFacts, Transport,
};

mod flow;

struct World {
    broker: Broker,
    out: Outbox,
    now: Now,
    store: MemoryStore,
    jetstream: JetStream,
    committer: Committer,
    client: ConnectionId,
}

impl World {
    fn new() -> World {
        World::with(Settings::default())
    }

    fn with(settings: Settings) -> World {
        let settings = Settings {
            jetstream: Some(JetStreamSettings { domain: Some("edge".into()) }),
            leafnodes: Some(LeafSettings { loop_token: "OWN".into(), ..LeafSettings::default() }),
            ..settings
        };
        let mut broker = Broker::new(settings, 7);
        let mut out = broker.outbox();
        let now = Now { micros: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
        let mut store = MemoryStore::default();
        let (jetstream, _) = JetStream::load(&mut store, StoreNow::default(), Limits::default()).unwrap();
        let client = open(&mut broker, now, Protocol::Nats, &mut out);
        let committer = Committer::default();
        let mut world = World { broker, out, now, store, jetstream, committer, client };
        world.send(client, "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB _INBOX.> 1\r\n");
        world.sent(client);
        world
    }

    fn send(&mut self, id: ConnectionId, text: &str) {
        let received = self.broker.received(self.now, id, text.as_bytes(), &mut self.out);
        assert_eq!(received.used, text.len(), "{text}");
    }

    /// What a connection was sent since it was last asked.
    fn sent(&mut self, id: ConnectionId) -> String {
        self.broker.flush_interest(&mut self.out);
        while self.out.take_full().is_some() {}
        let bytes: Vec<u8> = self.out.pending(id).flatten().copied().collect();
        self.out.sent(id, bytes.len());
        let mut dirty = Vec::new();
        self.out.take_dirty(&mut dirty);
        String::from_utf8(bytes).unwrap()
    }

    /// What is due now, and one turn of the store; `false`: there was nothing to do.
    fn turn(&mut self) -> bool {
        let due = self.broker.poll_timeout(&self.out).is_some_and(|at| at <= self.now.micros);
        if due {
            self.broker.tick(self.now, &mut self.out);
        }
        let batch = self.broker.take_batch(self.now, &self.out);
        if batch.is_none() && !due {
            return false;
        }
        let (mut turn, mut inbox) = (Turn::default(), Vec::from_iter(batch));
        let now = StoreNow { wall: Timestamp(self.now.wall_ns), age: AgeMillis(self.now.micros / 1000) };
        let mut commit = |store: &mut dyn Store, _: &mut JetStream| store.commit().map(|()| 1);
        self.committer.turn(now, &mut inbox, &mut turn, &mut self.jetstream, &mut self.store, &mut commit).unwrap();
        self.broker.committed(self.now, &mut turn, &mut self.out);
        true
    }

    /// Everything that is due now, and what comes of it.
    fn settle(&mut self) {
        assert!((0..100).any(|_| !self.turn()), "it does not come to rest");
    }

    fn pass(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds.div_ceil(50) {
            self.now.micros += 50_000;
            self.now.wall_ns += 50_000_000;
            self.settle();
        }
    }

    fn ask(&mut self, subject: &str, body: &str) -> String {
        self.sent(self.client);
        self.send(self.client, &format!("PUB {subject} _INBOX.1 {}\r\n{body}\r\n", body.len()));
        self.settle();
        self.sent(self.client)
    }

    fn create(&mut self, config: &str) -> String {
        let name = config.split('"').nth(3).unwrap().to_owned();
        self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), config)
    }

    fn info(&mut self, stream: &str) -> String {
        self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "")
    }

    fn publish(&mut self, subject: &str, body: &str) {
        self.send(self.client, &format!("PUB {subject} {}\r\n{body}\r\n", body.len()));
        self.settle();
    }

    fn link(&mut self) -> ConnectionId {
        self.link_to("hub")
    }

    fn link_to(&mut self, domain: &str) -> ConnectionId {
        let id = open(&mut self.broker, self.now, Protocol::Leaf, &mut self.out);
        let facts = LinkFacts { headers: true, max_payload: 1 << 20, domain: domain.into(), ..LinkFacts::default() };
        self.broker.leaf_established(id, facts, &mut self.out);
        self.send(id, &format!("LS+ $JS.{domain}.API.>\r\n"));
        id
    }

    /// The first half of a message of 300 kB, on its way over a link.
    fn begin_large(&mut self, link: ConnectionId, subject: &str) -> String {
        let large = format!("LMSG {subject} $JS.ACK.EV.C-1.1.1.1.5.0@ev.a 300000\r\n{}\r\n", "x".repeat(300_000));
        let received = self.broker.received(self.now, link, &large.as_bytes()[..100_000], &mut self.out);
        assert_eq!((received.used, received.need), (0, large.len()));
        large
    }

    /// More and more bytes of it come.
    fn dribble(&mut self, link: ConnectionId, seconds: usize) {
        for _ in 0..2 * seconds {
            self.pass(500);
            self.broker.received_part(self.now, link);
        }
    }
}

fn open(broker: &mut Broker, now: Now, protocol: Protocol, out: &mut Outbox) -> ConnectionId {
    let peer = ([127, 0, 0, 1], 1).into();
    let new = NewConnection { protocol, transport: Transport::Tcp, peer, tls: TlsFacts::default() };
    broker.open(now, &new, out).unwrap()
}

/// The word behind a prefix.
fn word<'a>(text: &'a str, prefix: &str) -> &'a str {
    let at = text.find(prefix).unwrap_or_else(|| panic!("no {prefix:?} in {text}"));
    text[at..].split([' ', '\r', '"']).next().unwrap()
}

/// The request for a consumer, and the hub's answer to it; the subject it is to deliver to.
fn answer(world: &mut World, hub: ConnectionId, consumer: &str, identity: &str) -> (String, String) {
    let asked = world.sent(hub);
    answer_to(world, hub, &asked, consumer, identity)
}

fn answer_to(world: &mut World, hub: ConnectionId, asked: &str, consumer: &str, identity: &str) -> (String, String) {
    let request = asked.split("HMSG ").nth(1).unwrap_or_else(|| panic!("no request: {asked}")).to_owned();
    let (reply, deliver) = (word(&request, "$JSC.R."), word(&request, "$JS.S.").to_owned());
    assert!(asked.contains(&format!("LS+ {reply}\r\n")), "the hub knows where the answer goes: {asked}");
    let json = format!(r#"{{"name":"{consumer}","config":{{"deliver_subject":"{deliver}"}}}}"#);
    let headers = format!("NATS/1.0\r\nNats-Stream-Identity: {identity}\r\n\r\n");
    let (header_len, len) = (headers.len(), headers.len() + json.len());
    world.send(hub, &format!("HMSG {reply} {header_len} {len}\r\n{headers}{json}\r\n"));
    world.settle();
    (request, deliver)
}

#[test]
fn a_stream_here_is_mirrored_and_sourced() {
    let mut world = World::new();
    assert!(world.create(r#"{"name":"EV","subjects":["ev.>"]}"#).contains("did_create"));
    for number in 0..5 {
        world.publish("ev.a", &format!("{number}"));
    }
    let made = world.create(r#"{"name":"MIR","mirror":{"name":"EV"}}"#);
    assert!(made.contains(r#""mirror":{"name":"EV","lag":0,"active":-1}"#), "{made}");
    assert!(!made.contains(r#""duplicate_window""#), "{made}");
    world.create(r#"{"name":"AGG","sources":[{"name":"EV","subject_transforms":[{"src":"ev.*","dest":"agg.$1"}]}]}"#);
    world.pass(500);
    world.publish("ev.b", "last");
    for stream in ["MIR", "AGG"] {
        let info = world.info(stream);
        assert!(info.contains(r#""messages":6"#) && info.contains(r#""lag":0"#), "{info}");
        assert!(!info.contains(r#""active":-1"#), "{info}");
    }
    let got = world.ask("$JS.API.STREAM.MSG.GET.AGG", r#"{"last_by_subj":"agg.b"}"#);
    let headers = "TkFUUy8xLjANCk5hdHMtU3RyZWFtLVNvdXJjZTogRVYgNiBldi4qIGFnZy4kMSBldi5i";
    assert!(got.contains(headers), "NATS/1.0, Nats-Stream-Source: EV 6 ev.* agg.$1 ev.b …: {got}");

    // What is removed at the origin stays in the copies, and what comes after it comes.
    world.ask("$JS.API.STREAM.PURGE.EV", "");
    world.publish("ev.a", "after");
    assert!(world.info("MIR").contains(r#""messages":7"#));
    // A mirror that becomes a stream of its own takes nothing more.
    let promoted = world.ask("$JS.API.STREAM.UPDATE.MIR", r#"{"name":"MIR","subjects":["mir"]}"#);
    assert!(promoted.contains(r#""subjects":["mir"]"#), "{promoted}");
    world.publish("ev.a", "more");
    assert!(world.info("MIR").contains(r#""messages":7"#) && world.info("AGG").contains(r#""messages":8"#));
    assert!(world.info("EV").contains(r#""consumer_count":0"#));
}

#[test]
fn a_work_queue_keeps_what_is_not_stored_here_yet() {
    let mut world = World::new();
    world.create(r#"{"name":"WQ","subjects":["wq.>"],"retention":"workqueue"}"#);
    for number in 0..5 {
        world.publish("wq.a", &format!("{number}"));
    }
    world.create(r#"{"name":"AGG","sources":[{"name":"WQ"}]}"#);
    world.pass(3000);
    assert!(world.info("AGG").contains(r#""messages":5"#));
    let queue = world.info("WQ");
    assert!(queue.contains(r#""messages":0"#), "what is confirmed is gone: {queue}");
}

#[test]
fn an_origin_that_comes_later_is_taken_at_once() {
    let mut world = World::new();
    world.create(r#"{"name":"MIR","mirror":{"name":"LATER"}}"#);
    world.pass(1000);
    let info = world.info("MIR");
    assert!(info.contains(r#""err_code":10059"#), "{info}");
    world.pass(30_000);
    world.create(r#"{"name":"LATER","subjects":["l"]}"#);
    world.publish("l", "x");
    world.pass(2500);
    let info = world.info("MIR");
    assert!(info.contains(r#""messages":1"#), "{info}");
}

#[test]
fn a_hub_is_asked_when_its_link_is_up_and_again_after_each_cut() {
    let mut world = World::new();
    world.create(r#"{"name":"AGG","sources":[{"name":"EV","external":{"api":"$JS.hub.API","deliver":""}}]}"#);
    world.pass(1000);
    assert!(world.info("AGG").contains("nobody hears requests"), "{}", world.info("AGG"));
    let state = world.broker.origin_rows().next().expect("a row").state;
    assert!(state.stage == Stage::Unheard && state.since == 1_000_000 && state.last_error.is_some(), "{state:?}");

    let hub = world.link();
    world.pass(200);
    let (request, deliver) = answer(&mut world, hub, "C-1", "one");
    let head = "$JS.hub.API.CONSUMER.CREATE.EV ";
    assert!(request.starts_with(head) && request.contains("Nats-Required-Api-Level: 5\r\nNats-Stream-Identity: \r\n"));
    assert!(request.contains(r#""deliver_policy":"all""#) && request.contains(r#""_nats.src.domain":"edge""#));
    assert!(request.contains(r#""sourcing":true"#) && request.contains(r#""stream_name":"EV""#), "{request}");
    assert!(world.sent(hub).contains(&format!("LS+ {deliver}\r\n")));
    let row = world.broker.origin_rows().next().expect("a row");
    assert_eq!((row.stream, &*row.source.name, row.state.stage), ("AGG", "EV", Stage::Receiving));
    assert!(row.state.since > 1_000_000 && row.state.error.is_none() && row.state.last_error.is_some(), "{row:?}");

    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-1.1.1.1.5.1@ev.a 1\r\n1\r\n"));
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-1.1.4.2.5.0@ev.b 1\r\n4\r\n"));
    let flow = "NATS/1.0 100 FlowControl Request\r\n\r\n";
    world.send(
        hub,
        &format!("LS+ $JS.FC.EV.C-1.*\r\nHMSG {deliver} $JS.FC.EV.C-1.abcd {0} {0}\r\n{flow}\r\n", flow.len()),
    );
    assert!(!world.sent(hub).contains("Nats-Last"), "nothing is stored yet");
    world.settle();
    let answered = world.sent(hub);
    assert!(
        answered.contains(
            "HMSG $JS.FC.EV.C-1.abcd 56 56\r\nNATS/1.0\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 4\r\n\r\n"
        ),
        "{answered}"
    );

    world.broker.closed(world.now, hub, CloseReason::ClientClosed, &mut world.out);
    world.pass(5000);
    let hub = world.link();
    world.pass(200);
    let (request, deliver) = answer(&mut world, hub, "C-2", "one");
    assert!(request.contains(r#""deliver_policy":"by_start_sequence","opt_start_seq":5"#), "{request}");
    assert!(request.contains("Nats-Stream-Identity: one\r\n"), "{request}");

    // One is lost: it is asked for again, not before two seconds after the last request.
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-2.1.6.2.5.0@ev.b 1\r\n6\r\n"));
    world.pass(500);
    assert!(!world.sent(hub).contains("CONSUMER.CREATE"));
    world.pass(2000);
    let (request, deliver) = answer(&mut world, hub, "C-3", "one");
    assert!(request.contains(r#""opt_start_seq":5"#), "{request}");
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-2.1.5.1.5.0@ev.b 1\r\nx\r\n"));
    world.settle();
    let info = world.info("AGG");
    assert!(info.contains(r#""messages":2"#), "what an earlier consumer sent is not taken: {info}");
    // The source is removed: its consumer is not wanted any more.
    world.ask("$JS.API.STREAM.DELETE.AGG", "");
    assert!(world.sent(hub).contains("LMSG $JS.hub.API.CONSUMER.DELETE.EV.JS_SRC_"));
}

#[test]
fn an_older_hub_is_asked_in_its_own_way() {
    let mut world = World::new();
    world.create(r#"{"name":"MIR","mirror":{"name":"EV","filter_subject":"ev.a","external":{"api":"$JS.hub.API"}}}"#);
    let hub = world.link();
    world.pass(300);
    let asked = world.sent(hub);
    assert!(asked.contains("$JS.hub.API.CONSUMER.CREATE.EV.JS_MIRROR_") && asked.contains(".ev.a "), "{asked}");
    assert!(asked.contains("Nats-Required-Api-Level: 4\r\n") && !asked.contains("Identity"), "{asked}");
    let refused = r#"{"error":{"code":400,"err_code":10025,"description":"invalid JSON"}}"#;
    let reply = word(&asked[asked.find("HMSG").unwrap()..], "$JSC.R.").to_owned();
    world.send(hub, &format!("LMSG {reply} {}\r\n{refused}\r\n", refused.len()));
    world.settle();
    let asked = world.sent(hub);
    assert!(asked.contains("LMSG $JS.hub.API.CONSUMER.CREATE.EV.JS_MIRROR_") && !asked.contains("sourcing"), "{asked}");
}

#[test]
fn a_mirror_answers_direct_gets_for_an_origin_elsewhere() {
    let mut world = World::new();
    world.create(r#"{"name":"MIR","mirror":{"name":"FAR","external":{"api":"$JS.hub.API"}},"mirror_direct":true}"#);
    let hub = world.link();
    world.pass(300);
    let asked = world.sent(hub);
    let request = asked.split("HMSG ").nth(1).unwrap();
    let (reply, deliver) = (word(request, "$JSC.R."), word(request, "$JS.M."));
    let json = format!(r#"{{"name":"C","config":{{"deliver_subject":"{deliver}"}},"delivered":{{"stream_seq":6}}}}"#);
    world.send(hub, &format!("LMSG {reply} {}\r\n{json}\r\n", json.len()));
    world.settle();
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.FAR.C.1.7.1.1600000000000000000.0@far.a 4\r\nbody\r\n"));
    world.settle();
    let got = world.ask("$JS.API.DIRECT.GET.FAR.far.a", "");
    assert!(got.contains("Nats-Sequence: 7\r\nNats-Time-Stamp: 2020-09-13T12:26:40Z") && got.contains("body"), "{got}");
    let info = world.info("MIR");
    assert!(info.contains(r#""first_seq":7"#) && info.contains(r#""mirror_direct":true"#), "{info}");
}

const FAR: &str = r#"{"name":"AGG","sources":[{"name":"EV","external":{"api":"$JS.hub.API","deliver":""}}]}"#;

#[test]
fn a_message_that_takes_its_time_on_a_slow_link_is_no_silence() {
    let mut world = World::new();
    world.create(FAR);
    let hub = world.link();
    world.pass(200);
    let (_, deliver) = answer(&mut world, hub, "C-1", "one");
    let large = world.begin_large(hub, &deliver);
    world.dribble(hub, 30);
    assert_eq!(world.broker.last_activity(hub), Some(world.now.micros), "the link is alive");
    assert!(!world.sent(hub).contains("CONSUMER.CREATE"), "half a minute for one message");
    world.send(hub, &large);
    world.settle();
    assert!(world.info("AGG").contains(r#""messages":1"#));
    world.pass(9000);
    assert!(!world.sent(hub).contains("CONSUMER.CREATE"));
    // Bytes of small messages to others are no life.
    for _ in 0..8 {
        world.pass(500);
        world.send(hub, "LMSG other 1\r\n1\r\n");
    }
    assert!(world.sent(hub).contains(r#""opt_start_seq":2"#), "the consumer is silent");
}

#[test]
fn a_message_that_never_ends_excuses_silence_for_two_minutes() {
    let mut world = World::new();
    world.create(FAR);
    let hub = world.link();
    world.pass(200);
    let (_, deliver) = answer(&mut world, hub, "C-1", "one");
    world.begin_large(hub, &deliver);
    world.dribble(hub, 120);
    assert!(!world.sent(hub).contains("CONSUMER.CREATE"), "two minutes");
    world.dribble(hub, 15);
    assert!(world.sent(hub).contains("CONSUMER.CREATE"), "and ten seconds of silence");
}

#[test]
fn what_happens_to_one_link_is_nothing_to_those_behind_another() {
    let mut world = World::new();
    world.create(FAR);
    let (hub, other) = (world.link(), world.link_to("other"));
    world.pass(200);
    let (_, deliver) = answer(&mut world, hub, "C-1", "one");
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-1.1.1.1.5.1@ev.a 1\r\n1\r\n"));
    world.settle();
    world.broker.closed(world.now, other, CloseReason::ClientClosed, &mut world.out);
    world.pass(500);
    assert!(!world.sent(hub).contains("CONSUMER.CREATE"), "its own link is up");
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-1.1.2.2.5.0@ev.a 1\r\n2\r\n"));
    world.settle();
    assert!(world.info("AGG").contains(r#""messages":2"#), "it goes on");

    // A message that is long on its way over the other one does not hold up heartbeats here.
    let other = world.link_to("other");
    world.begin_large(other, "elsewhere");
    world.dribble(other, 14);
    assert!(world.sent(hub).contains(r#""opt_start_seq":3"#), "the consumer is silent");
    let asked = world.broker.origin_rows().next().expect("a row").state.stage;
    assert_eq!(asked, Stage::Asking);
    // Nobody knows over which link an answer would have come.
    world.broker.closed(world.now, other, CloseReason::ClientClosed, &mut world.out);
    world.pass(200);
    let (_, deliver) = answer(&mut world, hub, "C-2", "one");
    world.send(hub, &format!("LMSG {deliver} $JS.ACK.EV.C-2.1.3.1.5.0@ev.a 1\r\n3\r\n"));
    world.settle();
    world.broker.closed(world.now, hub, CloseReason::ClientClosed, &mut world.out);
    world.pass(200);
    let hub = world.link();
    world.pass(200);
    assert!(world.sent(hub).contains(r#""opt_start_seq":4"#), "its own link was gone");
}

#[test]
fn what_waits_for_the_store_shares_the_budget_and_the_rest_is_asked_for_again() {
    const BUDGET: usize = 4 << 20;
    let mut world = World::with(Settings { memory_budget: BUDGET, ..Settings::default() });
    world.create(FAR);
    let hub = world.link();
    world.pass(200);
    let (_, mut deliver) = answer(&mut world, hub, "C-1", "one");
    let mut stored = 0u64;
    for round in 1..=4 {
        for number in stored + 1..=8 {
            let place = format!("$JS.ACK.EV.C-{round}.1.{number}.{}.5.0", number - stored);
            world.send(hub, &format!("LMSG {deliver} {place}@ev.a 900000\r\n{}\r\n", "x".repeat(900_000)));
            assert!(world.out.memory() <= BUDGET / 2, "{}", world.out.memory());
        }
        world.settle();
        assert!(world.out.memory() < 1 << 17, "nothing waits for the store");
        let info = world.info("AGG");
        let now = info.split("\"messages\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap();
        assert!(now > stored, "each round takes something: {now}");
        stored = now;
        if stored == 8 {
            assert!(round > 1, "not all of it had room");
            return;
        }
        world.pass(5000);
        let request;
        (request, deliver) = answer(&mut world, hub, &format!("C-{}", round + 1), "one");
        assert!(request.contains(&format!("\"opt_start_seq\":{}", stored + 1)), "{request}");
    }
    panic!("{stored} of 8");
}

#[test]
fn however_much_a_hub_wants_in_a_burst_who_waits_for_somebody_asks_once() {
    let mut world = World::new();
    world.create(r#"{"name":"AGG","sources":[{"name":"EV","external":{"api":"$JS.other.API","deliver":""}}]}"#);
    let hub = world.link();
    world.pass(1000);
    assert!(world.info("AGG").contains("nobody hears requests"));
    let burst: String = (0..500).map(|number| format!("LS+ a.{number}\r\n")).collect();
    world.send(hub, &burst);
    world.send(hub, "LS+ $JS.other.API.>\r\n");
    assert_eq!(world.sent(hub).matches("CONSUMER.CREATE").count(), 0);
    world.pass(200);
    assert_eq!(world.sent(hub).matches("CONSUMER.CREATE").count(), 1);
}
