//! The dialler against a scripted hub on loopback.
#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is wrong")]

use std::time::Duration;

use broker::{Broker, LeafSettings, Settings};
use edge_gateway::arguments::Options;
use edge_gateway::config::{self, Config};
use edge_gateway::dialler::spawn_remotes;
use edge_gateway::notices::Notices;
use server::status::SharedStatus;
use server::{Clock, CoreHandle};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_INFO: &str = r#"INFO {"server_id":"H","server_name":"hub","version":"2.15.1","headers":true,"max_payload":1000,"client_id":5,"nonce":"n","info_on_connect":true,"leafnode_urls":[]} "#;
const CONNECT_INFO: &str = r#"INFO {"server_id":"H","server_name":"hub","version":"2.15.1","headers":true,"max_payload":1000,"domain":"hub","connect_info":true,"remote_account":"A","info_on_connect":true} "#;

/// Runs `hub` against a gateway's dialler, with more lines for its configuration.
fn with_dialler<F: Future<Output = ()>>(more: &str, hub: impl FnOnce(TcpListener, CoreHandle, SharedStatus) -> F) {
    server::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config =
            configuration(&format!("leafnodes {{ remotes [ {{ url: \"nats://127.0.0.1:{port}\" }} ] }}\n{more}"));
        let leafnodes = Some(LeafSettings { loop_token: "token".into(), ..LeafSettings::default() });
        let settings = Settings { leafnodes, ..Settings::default() };
        let core = CoreHandle::new(Broker::new(settings, 1), Clock::start());
        let (status, stop) = (SharedStatus::default(), CancellationToken::new());
        let notices = Notices::start(&core);
        let links = spawn_remotes(&core, &config, &status, &notices, &stop).unwrap();
        tokio::time::timeout(PATIENCE, hub(listener, core, status)).await.expect("the test hangs");
        stop.cancel();
        links.ended().await;
    })
    .unwrap();
}

fn configuration(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.conf");
    std::fs::write(&file, text).unwrap();
    let options = Options { config: Some(file.to_str().unwrap().to_owned()), ..Options::default() };
    config::load(&options, &|_| None).unwrap().config
}

async fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    BufReader::new(listener.accept().await.unwrap().0)
}

/// The next line that is no PING: those come with the time.
async fn line(link: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        // A reset is an end like any other.
        let _ = link.read_line(&mut line).await;
        if line != "PING\r\n" {
            return line;
        }
    }
}

async fn say(link: &mut BufReader<TcpStream>, text: &str) {
    link.write_all(text.as_bytes()).await.unwrap();
}

/// Greets, hears CONNECT, and completes the handshake.
async fn shake_hands(listener: &TcpListener) -> BufReader<TcpStream> {
    let mut link = accept(listener).await;
    say(&mut link, &format!("{FIRST_INFO}\r\n")).await;
    assert!(line(&mut link).await.starts_with("CONNECT {"));
    say(&mut link, &format!("{CONNECT_INFO}\r\n")).await;
    assert_eq!(line(&mut link).await, "LS+ $LDS.token\r\n");
    link
}

#[test]
fn what_comes_before_the_handshake_is_complete_is_not_lost() {
    with_dialler("", |listener, core, status| async move {
        core.with(|core| core.broker.subscribe_internally(subject::Filter::parse("down.>").unwrap(), 7));
        let mut link = accept(&listener).await;
        for piece in FIRST_INFO.as_bytes().chunks(40) {
            link.write_all(piece).await.unwrap();
            link.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        say(&mut link, "\r\n").await;
        assert!(line(&mut link).await.starts_with("CONNECT {"));
        let early = "LS+ up.>\r\nPING\r\nLMSG down.x 4\r\na\r\nb\r\n";
        say(&mut link, &format!("{early}{CONNECT_INFO}\r\nLS+ later\r\nPING\r\n")).await;
        assert_eq!(line(&mut link).await, "PONG\r\n", "answered before the link is up");
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.push(line(&mut link).await);
        }
        heard.sort();
        assert_eq!(heard, ["LS+ $LDS.token\r\n", "LS+ down.>\r\n", "PONG\r\n"]);
        let id = core.with(|core| {
            let id = core.broker.leaf_links()[0];
            assert!(core.broker.leaf_wants(id, b"up.a") && core.broker.leaf_wants(id, b"later"));
            let (facts, _) = core.broker.leaf_state(id).unwrap();
            assert_eq!((facts.max_payload, &*facts.domain), (1000, "hub"));
            assert!(core.broker.leaf_send(id, b"up.a", b"", b"", b"x", &mut core.out));
            id
        });
        assert_eq!(line(&mut link).await, "LMSG up.a 1\r\n");
        let link_status = status.borrow().links[0].clone();
        assert!(link_status.up && link_status.sessions == 1, "{link_status:?}");
        assert_eq!((link_status.connection, link_status.peer_domain.as_deref()), (Some(id), Some("hub")));
    });
}

#[test]
fn interest_that_changes_is_told_at_once() {
    with_dialler("", |listener, core, _| async move {
        let mut link = shake_hands(&listener).await;
        let id = core.with(|core| core.broker.subscribe_internally(subject::Filter::parse("a.*").unwrap(), 1));
        assert_eq!(line(&mut link).await, "LS+ a.*\r\n");
        core.with(|core| core.broker.unsubscribe_internally(id));
        assert_eq!(line(&mut link).await, "LS- a.*\r\n");
    });
}

#[test]
fn a_refusal_is_shown_and_the_dial_repeated() {
    with_dialler("uplink { reconnect { min: 50ms, max: 100ms } }", |listener, _, status| async move {
        let mut link = accept(&listener).await;
        say(&mut link, &format!("{FIRST_INFO}\r\n")).await;
        line(&mut link).await;
        say(&mut link, "-ERR 'Authorization Violation'\r\n").await;
        drop(link);
        let _again = shake_hands(&listener).await;
        let error = status.borrow().links[0].last_error.clone();
        assert_eq!(error.as_deref(), Some("the hub says: Authorization Violation"));
    });
}

#[test]
fn a_silent_hub_is_given_up_with_a_reset() {
    let quick = "uplink { ping_interval: 100ms, ping_max: 1, reconnect { min: 50ms, max: 100ms } }";
    with_dialler(quick, |listener, core, _| async move {
        let mut link = shake_hands(&listener).await;
        // More than the sockets hold, of which nothing is read before the link is given up.
        let sent = core.with(|core| {
            let id = core.broker.leaf_links()[0];
            (0..16_000).filter(|_| core.broker.leaf_send(id, b"up", b"", b"", &[b'x'; 1000], &mut core.out)).count()
        });
        assert_eq!(sent, 16_000);
        let _again = shake_hands(&listener).await;
        let mut rest = Vec::new();
        let end = link.read_to_end(&mut rest).await;
        assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
        assert!(rest.len() < sent * 1000, "what the kernel still held is not delivered: {}", rest.len());
        assert_eq!(core.with(|core| core.broker.leaf_links().len()), 1, "the old link is forgotten");
    });
}

#[test]
fn garbage_costs_the_hub_its_link_and_nothing_else() {
    with_dialler("uplink { reconnect { min: 50ms, max: 100ms } }", |listener, _, status| async move {
        let mut link = accept(&listener).await;
        say(&mut link, "HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert_eq!(line(&mut link).await, "", "closed");
        let mut link = shake_hands(&listener).await;
        say(&mut link, "BOGUS\r\n").await;
        while !line(&mut link).await.is_empty() {}
        let _again = shake_hands(&listener).await;
        assert_eq!(status.borrow().links[0].sessions, 2);
    });
}
