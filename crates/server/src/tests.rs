//! The shell around a real broker: sockets on loopback, one thread, no sleeping.

use std::time::Duration;

use broker::{
    Authorization, Broker, CloseReason, NewConnection, Protocol, Secret, ServiceId, Settings, TlsFacts, User,
};
use jetstream::command::{Command, Event, Outcome, Turn};
use jetstream::identity::{Sequence, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Clock, CoreHandle, Shutdown, Transport, accept_plain, bind, listen, run, store_queue};

/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";

/// Runs a test against a listening core.
fn with_server<F: Future<Output = ()>>(
    settings: Settings,
    test: impl FnOnce(CoreHandle, std::net::SocketAddr, Shutdown) -> F,
) {
    run(async {
        let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let core = CoreHandle::new(Broker::new(settings, 1), Clock::start());
        let shutdown = Shutdown::new();
        let accept = accept_plain(core.clone(), Protocol::Nats);
        tokio::task::spawn_local(listen(listener, shutdown.accepting(), accept));
        tokio::time::timeout(PATIENCE, test(core, address, shutdown)).await.expect("the test hangs");
    })
    .unwrap();
}

/// Connects and waits for the PONG.
async fn connect(address: std::net::SocketAddr, more: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&[CONNECT, more, b"PING\r\n"].concat()).await.unwrap();
    read_until(&mut client, b"PONG\r\n").await;
    client
}

/// Reads until the bytes end with `end`, or the connection ends.
async fn read_until(client: &mut (impl AsyncReadExt + Unpin), end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    while !bytes.ends_with(end) {
        match client.read(&mut buffer).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    bytes
}

#[test]
fn messages_of_all_sizes_arrive_in_order() {
    with_server(Settings::default(), |core, address, _| async move {
        let mut one = connect(address, b"SUB x 1\r\n").await;
        let mut two = connect(address, b"SUB x 2\r\n").await;
        let mut publisher = connect(address, b"").await;
        let sizes = [0, 1, 65_000, 65_536, 70_000, 1_000_000, 3, 200_000, 1_048_576, 5];
        let mut sent = Vec::new();
        let mut expected = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let payload = vec![b'a' + number as u8; *size];
            sent.extend_from_slice(&[format!("PUB x {size}\r\n").as_bytes(), &payload, b"\r\n"].concat());
            expected.extend_from_slice(&[format!("MSG x SID {size}\r\n").as_bytes(), &payload, b"\r\n"].concat());
        }
        sent.extend_from_slice(b"PUB x 3\r\nend\r\n");
        let write = async { publisher.write_all(&sent).await.unwrap() };
        let (got_one, got_two, ()) =
            tokio::join!(read_until(&mut one, b"end\r\n"), read_until(&mut two, b"end\r\n"), write);
        for (sid, got) in [("1", got_one), ("2", got_two)] {
            let text = [expected.as_slice(), b"MSG x SID 3\r\nend\r\n"].concat();
            let text = String::from_utf8(text).unwrap().replace("SID", sid);
            // The second INFO is not asked for with protocol 0, so there is nothing else.
            assert!(got == text.as_bytes(), "sid {sid}: {} bytes of {}", got.len(), text.len());
        }
        assert_eq!(core.with(|core| core.out.memory()), 0, "idle connections hold nothing");
    });
}

#[test]
fn a_slow_subscriber_pauses_its_publisher_and_gets_everything() {
    with_server(Settings::default(), |core, address, _| async move {
        let mut subscriber = connect(address, b"SUB x 1\r\n").await;
        let mut publisher = connect(address, b"").await;
        let count = 100_000;
        let write = async {
            let batch =
                b"PUB x 100\r\n".iter().copied().chain([b'x'; 100]).chain(*b"\r\n").collect::<Vec<u8>>().repeat(100);
            for _ in 0..count / 100 {
                publisher.write_all(&batch).await.unwrap();
            }
            publisher.write_all(b"PUB x 3\r\nend\r\n").await.unwrap();
        };
        let ((), got) = tokio::join!(write, read_until(&mut subscriber, b"end\r\n"));
        assert_eq!(got.len(), count * (b"MSG x 1 100\r\n".len() + 102) + b"MSG x 1 3\r\nend\r\n".len());
        assert_eq!(core.with(|core| core.broker.counters().slow_consumers), 0);
    });
}

#[test]
fn the_last_words_arrive_before_the_end() {
    with_server(Settings::default(), |core, address, _| async move {
        let mut client = connect(address, b"").await;
        client.write_all(&[b"BOGUS\r\n".as_slice(), &[b'x'; 100_000]].concat()).await.unwrap();
        assert_eq!(read_until(&mut client, b"never").await, b"-ERR 'Unknown Protocol Operation'\r\n");
        core.drained().await;
        assert_eq!(core.with(|core| core.broker.connection_count()), 0);
    });
}

#[test]
fn a_claim_takes_no_memory() {
    let settings = Settings { max_payload: 100_000_000, ..Settings::default() };
    with_server(settings, |core, address, _| async move {
        let mut client = connect(address, b"").await;
        client.write_all(b"PUB x 99999999\r\nfew").await.unwrap();
        let mut other = connect(address, b"").await;
        other.write_all(b"PING\r\n").await.unwrap();
        read_until(&mut other, b"PONG\r\n").await;
        assert!(core.with(|core| core.out.memory()) < 128 * 1024);
    });
}

#[test]
fn stopping_closes_everybody() {
    with_server(Settings::default(), |core, address, shutdown| async move {
        let mut client = connect(address, b"").await;
        shutdown.stop();
        shutdown.close_connections(&core).await;
        assert_eq!(core.with(|core| core.connections()), 0);
        assert_eq!(read_until(&mut client, b"never").await, b"");
    });
}

#[test]
fn a_boxed_stream_is_served_like_a_socket() {
    with_server(Settings::default(), |core, address, _| async move {
        let (mut client, server) = tokio::io::duplex(100);
        let new = NewConnection {
            protocol: Protocol::Nats,
            transport: broker::Transport::Internal,
            peer: address,
            tls: TlsFacts::default(),
        };
        core.attach(Transport::boxed(server), &new).unwrap();
        let (mut reader, mut writer) = tokio::io::split(client);
        let payload = vec![b'x'; 200_000];
        let sent = [CONNECT, b"SUB x 1\r\nPUB x 200000\r\n", &payload, b"\r\nPUB x 3\r\nend\r\n"].concat();
        let write = async { writer.write_all(&sent).await.unwrap() };
        let ((), got) = tokio::join!(write, read_until(&mut reader, b"end\r\n"));
        assert!(got.windows(16).any(|window| window == b"MSG x 1 200000\r\n"), "{} bytes", got.len());
        client = reader.unsplit(writer);
        drop(client);
        core.drained().await;
    });
}

#[test]
fn a_password_is_compared_elsewhere_and_what_follows_waits() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let users = vec![User::new("ann", Secret::new(&hash))];
    let settings =
        Settings { authorization: Authorization::Users { users, no_auth_user: None }, ..Settings::default() };
    with_server(settings, |core, address, _| async move {
        // The second time it is remembered.
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).await.unwrap();
            let sent =
                b"CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"secret\"}\r\nSUB x 1\r\nPUB x 2\r\nhi\r\n";
            client.write_all(sent).await.unwrap();
            assert!(read_until(&mut client, b"hi\r\n").await.ends_with(b"MSG x 1 2\r\nhi\r\n"));
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"CONNECT {\"user\":\"ann\",\"pass\":\"wrong\"}\r\nSUB x 1\r\n").await.unwrap();
        assert!(read_until(&mut client, b"never").await.ends_with(b"-ERR 'Authorization Violation'\r\n"));
        assert_eq!(core.with(|core| core.out.memory()), 0);
    });
}

#[test]
fn a_fleet_whose_passwords_wait_to_be_compared_is_not_told_no() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let users = vec![User { name: "ann".into(), secret: Secret::new(&hash), permissions: None, ways: Vec::new() }];
    let settings =
        Settings { authorization: Authorization::Users { users, no_auth_user: None }, ..Settings::default() };
    with_server(settings, |_, address, _| async move {
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        for client in &mut clients {
            client
                .write_all(b"CONNECT {\"verbose\":false,\"user\":\"ann\",\"pass\":\"secret\"}\r\nPING\r\n")
                .await
                .unwrap();
        }
        for client in &mut clients {
            let got = read_until(client, b"PONG\r\n").await;
            assert!(got.ends_with(b"PONG\r\n"), "{}", got.escape_ascii());
        }
    });
}

#[test]
fn a_full_store_holds_its_publisher_back_and_refuses_in_the_end() {
    let settings = Settings { store_queue: 200, store_patience: Duration::from_millis(20), ..Settings::default() };
    with_server(settings, |core, address, _| async move {
        let (handle, mailbox) = store_queue();
        core.connect_store(handle, |_, _| {});
        let state = jetstream::store::StreamState::default();
        let event = Event::StreamUp {
            stream: StreamId(16),
            name: "S".into(),
            subjects: vec!["s".into()],
            allow_direct: false,
            no_ack: false,
            state,
        };
        mailbox.release(Turn { events: vec![event], ..Turn::default() });
        let mut client = connect(address, b"SUB r 1\r\n").await;
        while core.with(|core| core.broker.stream_count()) == 0 {
            tokio::task::yield_now().await;
        }
        client
            .write_all(
                &b"PUB s r 100\r\n".iter().copied().chain([b'x'; 100]).chain(*b"\r\n").collect::<Vec<u8>>().repeat(3),
            )
            .await
            .unwrap();
        let got = read_until(&mut client, b"\"stream\":\"S\",\"seq\":0}\r\n").await;
        assert!(got.windows(5).any(|window| window == b"10167"), "{}", got.escape_ascii());
    });
}

#[test]
fn a_request_is_answered_by_the_shell() {
    with_server(Settings::default(), |core, address, _| async move {
        let filter = subject::Filter::parse("$SYS.REQ.SERVER.PING").unwrap();
        core.with(|core| core.broker.serve(&filter, ServiceId(1)));
        core.on_request(|core, request| {
            core.with(|core| {
                let now = core.clock.now();
                core.broker.answer(now, &request.reply, b"", b"{}", &mut core.out);
            });
        });
        let mut client = connect(address, b"SUB r 1\r\n").await;
        client.write_all(b"PUB $SYS.REQ.SERVER.PING r 0\r\n\r\n").await.unwrap();
        assert_eq!(read_until(&mut client, b"{}\r\n").await, b"MSG r 1 2\r\n{}\r\n");
    });
}

#[test]
fn a_publish_into_a_stream_is_acknowledged_by_the_store_thread() {
    with_server(Settings::default(), |core, address, _| async move {
        let (handle, mailbox) = store_queue();
        core.connect_store(handle.clone(), |_, _| {});
        let thread = std::thread::spawn(move || {
            let state = jetstream::store::StreamState::default();
            let event = Event::StreamUp {
                stream: StreamId(16),
                name: "S".into(),
                subjects: vec!["s.>".into()],
                allow_direct: false,
                no_ack: false,
                state,
            };
            mailbox.release(Turn { events: vec![event], ..Turn::default() });
            let mut batches = Vec::new();
            let mut sequence = 0;
            while mailbox.wait(None, &mut batches) {
                let mut turn = Turn::default();
                for batch in batches.drain(..) {
                    let outcomes = batch.commands.iter().map(|command| match command {
                        Command::Append(_) => {
                            sequence += 1;
                            Outcome::Appended { sequence: Sequence(sequence), duplicate: false }
                        }
                        _ => Outcome::Done,
                    });
                    let outcomes = outcomes.collect();
                    turn.done.push((batch, outcomes));
                }
                mailbox.release(turn);
            }
            sequence
        });
        let mut client = connect(address, b"SUB r.* 1\r\n").await;
        // The stream's event may still be on its way: its first publish must find it.
        while core.with(|core| core.broker.stream_count()) == 0 {
            tokio::task::yield_now().await;
        }
        client.write_all(b"PUB s.1 r.1 1\r\na\r\nPUB s.2 r.2 1\r\nb\r\n").await.unwrap();
        let got = read_until(&mut client, b"\"seq\":2}\r\n").await;
        assert!(
            got.starts_with(b"MSG r.1 1 22\r\n{\"stream\":\"S\",\"seq\":1}\r\nMSG r.2 1"),
            "{}",
            got.escape_ascii()
        );
        handle.close();
        assert_eq!(thread.join().unwrap(), 2);
        core.with(|core| core.close_all(CloseReason::ServerShutdown));
        core.drained().await;
    });
}
