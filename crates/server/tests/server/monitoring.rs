//! Monitoring over HTTP: pages of a small running core, bad requests, and peers that waste its connections.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use broker::Protocol;
use jetstream::command::{AccountInfo, Answer, Command, Outcome, Request, Statistics, StreamInfo, Turn};
use jetstream::config::StreamConfig;
use jetstream::identity::{Sequence, StreamId, Timestamp};
use jetstream::store::{Space, StreamState};
use serde_json::Value;
use server::status::{
    ForwardStatus, JetStreamFacts, LedgerStatus, LinkStatus, Listener, Phase, Report, SharedStatus, Status,
};
use server::tls::{DialTls, ServerTls};
use server::{
    Handshakes, Monitor, StatusSocket, StoreMailbox, WebSocketOptions, accept_http, accept_http_with, accept_plain,
    accept_tls, accept_websocket, store_queue,
};
use tokio::io::AsyncWriteExt;

use crate::place::{Client, Place, on_core};
use crate::secure::{identity, listener_tls, secure};

fn serving() -> SharedStatus {
    let status = Status {
        phase: Phase::Serving,
        jetstream: Some(JetStreamFacts {
            store_dir: "/x".into(),
            domain: Some("d".into()),
            max_storage: -1,
            max_request_batch: 500,
            ..JetStreamFacts::default()
        }),
        ..Status::default()
    };
    Rc::new(RefCell::new(status))
}

fn monitor(place: &Place, status: &SharedStatus) -> Monitor {
    Monitor::new(place.core.clone(), Rc::clone(status), "")
}

/// Status line and body.
async fn fetch(address: SocketAddr, path: &str) -> (String, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await
}

async fn request(address: SocketAddr, request: &str) -> (String, String) {
    let mut client = Client::connect(address).await;
    client.send(request).await;
    split(&client.rest().await)
}

fn split(answer: &[u8]) -> (String, String) {
    let answer = String::from_utf8(answer.to_vec()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let line = head.lines().next().unwrap();
    (line["HTTP/1.1 ".len()..].to_owned(), body.to_owned())
}

async fn json(address: SocketAddr, path: &str) -> Value {
    let (line, body) = fetch(address, path).await;
    assert_eq!(line, "200 OK", "{body}");
    serde_json::from_str(&body).unwrap()
}

/// A store thread that knows one stream.
fn answer_statistics(mailbox: &StoreMailbox) {
    let mut batches = Vec::new();
    while mailbox.wait(None, &mut batches) {
        for batch in batches.drain(..) {
            let answer = |command: &Command| match command {
                Command::Request(request) if matches!(**request, Request::Statistics) => {
                    Outcome::Answer(Box::new(Answer::Statistics(Box::new(statistics()))))
                }
                _ => Outcome::Done,
            };
            let outcomes = batch.commands.iter().map(answer).collect();
            mailbox.release(Turn { done: vec![(batch, outcomes)], ..Turn::default() });
        }
    }
}

fn statistics() -> Statistics {
    let state =
        StreamState { messages: 7, bytes: 700, first: Sequence(2), last: Sequence(8), ..StreamState::default() };
    let info = StreamInfo {
        id: StreamId::FIRST,
        config: StreamConfig::named("TELEMETRY"),
        created: Timestamp(1_767_366_245_000_000_000),
        state,
        consumers: 0,
        deleted: 0,
        deleted_list: None,
        subjects: None,
        matching_subjects: 0,
        now: Timestamp(0),
        did_create: false,
    };
    let mut commit_histogram = [0; 24];
    commit_histogram[7] = 5;
    Statistics {
        account: AccountInfo { storage: 700, streams: 1, api_total: 3, ..AccountInfo::default() },
        streams: vec![(info, Vec::new())],
        space: Space { used: 4096, available: 1_000_000 },
        commits: 5,
        commit_histogram,
        ..Statistics::default()
    }
}

/// With a store thread beside it, which ends with the test.
async fn with_store(place: &Place, test: impl AsyncFnOnce()) {
    let (store, mailbox) = store_queue();
    let thread = std::thread::spawn(move || answer_statistics(&mailbox));
    place.core.connect_store(store.clone(), |_, _| {});
    test().await;
    store.close();
    thread.join().unwrap();
}

#[test]
fn varz_tells_the_server_and_its_totals() {
    on_core(async |place| {
        let status = serving();
        status.borrow_mut().listeners.mqtt = Some(Listener { host: "::".into(), port: 1883, ..Listener::default() });
        let http = place.listen(accept_http(monitor(&place, &status)));
        let nats = place.listen(accept_plain(place.core.clone(), Protocol::Nats));
        let mut client = Client::connect(nats).await;
        client.send("CONNECT {\"verbose\":false,\"name\":\"n\"}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n").await;
        client.until("PONG\r\n").await;
        with_store(&place, async || {
            let page = json(http, "/varz").await;
            for (pointer, value) in [
                ("/server_id", "NTEST".into()),
                ("/version", "2.15.1".into()),
                ("/connections", 1.into()),
                ("/subscriptions", 1.into()),
                ("/in_msgs", 1.into()),
                ("/out_bytes", 2.into()),
                ("/ping_interval", 120_000_000_000u64.into()),
                ("/mqtt/port", 1883.into()),
                ("/websocket", serde_json::json!({})),
                ("/jetstream/config/domain", "d".into()),
                ("/jetstream/stats/storage", 700.into()),
                ("/http_req_stats/~1varz", 1.into()),
            ] {
                assert_eq!(page.pointer(pointer), Some(&value), "{pointer}");
            }
        })
        .await;
    });
}

#[test]
fn connz_shows_pages_and_sorts() {
    let folder = tempfile::tempdir().unwrap();
    let files = identity(folder.path(), "server");
    on_core(async |place| {
        let http = place.listen(accept_http(monitor(&place, &serving())));
        let nats = place.listen(accept_plain(place.core.clone(), Protocol::Nats));
        let tls = ServerTls::load(&listener_tls(files.clone())).unwrap();
        let secured = place.listen(accept_tls(place.core.clone(), Protocol::Nats, tls, Handshakes::default()));
        let mut first = Client::connect(nats).await;
        first.send("CONNECT {\"verbose\":false,\"name\":\"first\"}\r\nSUB a q 1\r\nSUB b 2\r\nPING\r\n").await;
        first.until("PONG\r\n").await;
        let mut second = Client::connect(secured).await;
        second.until("\r\n").await;
        let dial = DialTls { insecure: true, ..DialTls::default() };
        let mut second = Client::over(secure(second.stream, &dial).await.unwrap());
        second.send("CONNECT {\"verbose\":false,\"name\":\"second\"}\r\nPUB c 3\r\nabc\r\nPING\r\n").await;
        second.until("PONG\r\n").await;

        let names = |page: &Value| -> Vec<String> {
            let list = page["connections"].as_array().unwrap();
            list.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
        };
        let page = json(http, "/connz?subs=detail&auth=1").await;
        assert_eq!(names(&page), ["first", "second"]);
        assert_eq!(page["connections"][0]["subscriptions_list_detail"][0]["qgroup"], "q");
        assert_eq!(page["connections"][0]["account"], "$G");
        assert_eq!(page["connections"][1]["tls_version"], "1.3");
        assert!(page["connections"][1]["tls_cipher_suite"].as_str().unwrap().starts_with("TLS_"));
        assert_eq!(names(&json(http, "/connz?sort=msgs_from").await), ["second", "first"]);
        let page = json(http, "/connz?offset=1&limit=1&subs=1").await;
        assert_eq!(
            (&page["total"], &page["num_connections"], names(&page)),
            (&2.into(), &1.into(), vec!["second".into()])
        );
        assert_eq!(names(&json(http, "/connz?filter_subject=a").await), ["first"]);
        assert_eq!(names(&json(http, "/connz?cid=2").await), ["second"]);

        first.stream.shutdown().await.unwrap();
        first.rest().await;
        let page = json(http, "/connz?state=closed").await;
        assert_eq!((names(&page), &page["connections"][0]["reason"]), (vec!["first".into()], &"Client Closed".into()));
        assert_eq!(names(&json(http, "/connz?state=all&sort=stop").await), ["second", "first"]);
    });
}

#[test]
fn bad_requests_get_stocks_answers() {
    on_core(async |place| {
        let http = place.listen(accept_http(monitor(&place, &serving())));
        let answer = async |path: &str| fetch(http, path).await;
        let bad = |text: &str| ("400 Bad Request".to_owned(), text.to_owned());
        assert_eq!(answer("/connz?sort=x").await, bad("invalid sorting option: x"));
        assert_eq!(answer("/connz?state=x").await, bad("Error decoding state for x"));
        let number = "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax";
        assert_eq!(answer("/connz?limit=x").await, bad(number));
        assert_eq!(answer("/nope").await, ("404 Not Found".to_owned(), "404 page not found\n".to_owned()));
        assert_eq!(answer("/status").await.0, "404 Not Found");
        assert_eq!(answer("/raftz").await, ("404 Not Found".to_owned(), "No Raft nodes registered".to_owned()));
        assert_eq!(answer("/").await.0, "200 OK");
        let post = request(http, "POST /varz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(post.0, "405 Method Not Allowed");
        let large = format!("GET /varz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        assert_eq!(request(http, &large).await.0, "431 Request Header Fields Too Large");
    });
}

#[test]
fn health_is_not_ok_before_recovery_is_done_nor_in_trouble() {
    on_core(async |place| {
        let status = serving();
        status.borrow_mut().phase = Phase::Recovering;
        let http = place.listen(accept_http(monitor(&place, &status)));
        let (line, body) = fetch(http, "/healthz").await;
        assert_eq!(line, "503 Service Unavailable");
        assert_eq!(body, "{\"status\":\"unavailable\",\"error\":\"the store is being recovered\"}");
        status.borrow_mut().phase = Phase::Serving;
        assert_eq!(fetch(http, "/healthz").await, ("200 OK".to_owned(), "{\"status\":\"ok\"}".to_owned()));
        status.borrow_mut().store_trouble = Some("disk on fire".to_owned());
        let (line, body) = fetch(http, "/healthz?details=1").await;
        assert_eq!(line, "503 Service Unavailable");
        assert!(body.contains("disk on fire"), "{body}");
        status.borrow_mut().store_trouble = None;
        with_store(&place, async || {
            assert_eq!(fetch(http, "/healthz?account=$G&stream=TELEMETRY").await.0, "200 OK");
            assert_eq!(fetch(http, "/healthz?account=%24G&stream=OTHER").await.0, "404 Not Found");
            assert_eq!(fetch(http, "/healthz?stream=OTHER").await.0, "400 Bad Request");
        })
        .await;
    });
}

#[test]
fn jsz_goes_down_to_streams() {
    on_core(async |place| {
        let http = place.listen(accept_http(monitor(&place, &serving())));
        with_store(&place, async || {
            let page = json(http, "/jsz?streams=1&config=1").await;
            assert_eq!((&page["streams"], &page["messages"], &page["bytes"]), (&1.into(), &7.into(), &700.into()));
            let stream = &page["account_details"][0]["stream_detail"][0];
            assert_eq!((&stream["name"], &stream["state"]["last_seq"]), (&"TELEMETRY".into(), &8.into()));
            assert_eq!(stream["config"]["storage"], "file");
            assert_eq!(stream["created"], "2026-01-02T15:04:05Z");
            assert_eq!(json(http, "/jsz").await.get("account_details"), None);
        })
        .await;
    });
}

#[test]
fn metrics_have_the_exporters_names_and_ours() {
    on_core(async |place| {
        let status = serving();
        let link = LinkStatus { address: "tls://hub:7422".into(), up: true, ..LinkStatus::default() };
        let forward = ForwardStatus {
            stream: "TELEMETRY".into(),
            to: "FLEET \"a\"".into(),
            backlog_messages: 12,
            ledger: Some(LedgerStatus { accepted: 9, delivered: 4, held: 2, dropped: [("age".to_owned(), 3)].into() }),
            ..ForwardStatus::default()
        };
        status.borrow_mut().links.push(link);
        status.borrow_mut().forwards.push(forward);
        let http = place.listen(accept_http(monitor(&place, &status)));
        with_store(&place, async || {
            let (_, body) = fetch(http, "/metrics").await;
            for line in [
                "nats_varz_connections{server_id=\"NTEST\"} 0\n",
                "nats_varz_jetstream_stats_storage{server_id=\"NTEST\"} 700\n",
                "nats_varz_version{server_id=\"NTEST\",value=\"2.15.1\"} 1\n",
                "nats_healthz_status{server_id=\"NTEST\"} 0\n",
                "# TYPE tributary_link_up gauge\ntributary_link_up{server_id=\"NTEST\",address=\"tls://hub:7422\"} 1\n",
                "stream=\"TELEMETRY\",to=\"FLEET \\\"a\\\"\"} 12\n",
                "tributary_forward_accepted_messages{server_id=\"NTEST\",stream=\"TELEMETRY\",to=\"FLEET \\\"a\\\"\"} 9\n",
                "to=\"FLEET \\\"a\\\"\",reason=\"age\"} 3\n",
                "tributary_store_commit_seconds_bucket{server_id=\"NTEST\",le=\"0.000256\"} 5\n",
                "tributary_store_commit_seconds_bucket{server_id=\"NTEST\",le=\"0.000128\"} 0\n",
            ] {
                assert!(body.contains(line), "{line}\n{body}");
            }
            let total =
                "nats_stream_total_messages{server_id=\"NTEST\",server_name=\"test\",cluster=\"\",domain=\"d\",";
            assert!(body.contains(total), "{body}");
            // Every line is a comment or a sample.
            assert!(body.lines().all(|line| line.starts_with("# ") || line.rsplit_once("} ").is_some()), "{body}");
        })
        .await;
    });
}

#[test]
fn who_is_slow_or_too_many_is_closed() {
    on_core(async |place| {
        let patience = Duration::from_millis(50);
        let http = place.listen(accept_http_with(monitor(&place, &serving()), patience));
        let mut slow = Client::connect(http).await;
        slow.send("GET /varz HTTP/1.1\r\nHo").await;
        slow.rest().await;
        let http = place.listen(accept_http(monitor(&place, &serving())));
        let mut all = Vec::new();
        for _ in 0..32 {
            let mut client = Client::connect(http).await;
            client.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
            client.until("{\"status\":\"ok\"}").await;
            all.push(client);
        }
        assert_eq!(fetch(http, "/healthz").await.0, "503 Service Unavailable");
        all.pop();
        // Its task ends when it sees the close.
        while fetch(http, "/healthz").await.0 != "200 OK" {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn the_stores_folder_has_a_socket_for_our_own_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(server::STATUS_SOCKET);
    std::fs::write(&path, "left behind").unwrap();
    on_core(async |place| {
        let status = serving();
        status.borrow_mut().links.push(LinkStatus { phase: "dialling".into(), ..LinkStatus::default() });
        let websocket = accept_websocket(place.core.clone(), WebSocketOptions::default(), Handshakes::default());
        place.listen(websocket);
        let socket = StatusSocket::bind(folder.path()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let stop = place.shutdown.stopping();
        let served = tokio::task::spawn_local(socket.serve(monitor(&place, &status), stop));
        let mut client = Client::over(tokio::net::UnixStream::connect(&path).await.unwrap());
        client.send("GET /status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let (line, body) = split(&client.rest().await);
        assert_eq!(line, "200 OK");
        let report: Report = serde_json::from_str(&body).unwrap();
        assert_eq!((&*report.server_name, &*report.status.links[0].phase), ("test", "dialling"));
        assert_eq!((report.pid, report.store), (std::process::id(), None));
        place.shutdown.stop();
        served.await.unwrap();
        assert!(!path.exists());
    });
}
