//! Random clients sending random bytes in random pieces: no panic, nobody is left with memory, and an innocent client is always answered.
#![no_main]

use broker::{
    Broker, CloseReason, ConnectionId, Effect, NewConnection, Now, Outbox, Protocol, Settings, TlsFacts, Transport,
};
use libfuzzer_sys::fuzz_target;

const CLIENTS: usize = 3;

fn open(broker: &mut Broker, out: &mut Outbox) -> ConnectionId {
    let new = NewConnection {
        protocol: Protocol::Nats,
        transport: Transport::Tcp,
        peer: ([127, 0, 0, 1], 1).into(),
        tls: TlsFacts::default(),
    };
    broker.open(Now::default(), &new, out).expect("there is room")
}

fn drain(broker: &mut Broker, out: &mut Outbox, clients: &mut [ConnectionId]) {
    while let Some(effect) = out.next_effect() {
        if let Effect::Close { id, reason } = effect
            && let Some(place) = clients.iter().position(|other| *other == id)
        {
            broker.closed(Now::default(), id, reason, out);
            clients[place] = open(broker, out);
        }
    }
    for id in clients.iter() {
        out.sent(*id, out.pending_bytes(*id));
    }
    let mut dirty = Vec::new();
    out.take_dirty(&mut dirty);
    while out.take_full().is_some() {}
}

fuzz_target!(|data: &[u8]| {
    let settings = Settings { max_payload: 4096, max_control_line: 512, ..Settings::default() };
    let mut broker = Broker::new(settings, 1);
    let mut out = broker.outbox();
    let mut clients: Vec<ConnectionId> = (0..CLIENTS).map(|_| open(&mut broker, &mut out)).collect();
    let mut held: Vec<Vec<u8>> = vec![Vec::new(); CLIENTS];
    // The first byte of each piece says whose it is and how long.
    let mut rest = data;
    while let Some((head, more)) = rest.split_first() {
        let client = usize::from(head & 3) % CLIENTS;
        let (piece, later) = more.split_at(more.len().min(usize::from(head >> 2)));
        rest = later;
        let id = clients[client];
        held[client].extend_from_slice(piece);
        loop {
            let received = broker.received(Now::default(), id, &held[client], &mut out);
            assert!(received.used <= held[client].len());
            held[client].drain(..received.used);
            drain(&mut broker, &mut out, &mut clients);
            if clients[client] != id {
                held[client].clear();
            }
            if received.used == 0 || held[client].is_empty() {
                break;
            }
        }
    }
    let innocent = open(&mut broker, &mut out);
    out.sent(innocent, out.pending_bytes(innocent));
    broker.received(Now::default(), innocent, b"PING\r\n", &mut out);
    assert!(out.pending(innocent).flatten().copied().eq(*b"PONG\r\n"));
    clients.push(innocent);
    for id in clients {
        broker.closed(Now::default(), id, CloseReason::ClientClosed, &mut out);
    }
    assert_eq!((out.memory(), broker.subscription_count(), broker.connection_count()), (0, 0, 0));
});
