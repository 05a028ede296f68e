//! MQTT clients and a NATS client whose user may not do everything, sending anything in any pieces: no panic, no memory left behind, and what
//! the permissions hide is never delivered.
#![no_main]

use std::sync::Arc;

use broker::{
    Authorization, Broker, CloseReason, ConnectionId, Effect, NewConnection, Now, Outbox, Permissions, Protocol, Rule,
    Secret, Settings, Subscribable, TlsFacts, Transport, User,
};
use libfuzzer_sys::fuzz_target;
use subject::Filter;

const KINDS: [Protocol; 3] = [Protocol::Mqtt, Protocol::Mqtt, Protocol::Nats];

fn open(broker: &mut Broker, out: &mut Outbox, protocol: Protocol) -> ConnectionId {
    let peer = ([127, 0, 0, 1], 1).into();
    let new = NewConnection { protocol, transport: Transport::Tcp, peer, tls: TlsFacts::default() };
    broker.open(Now::default(), &new, out).expect("there is room")
}

fn drain(broker: &mut Broker, out: &mut Outbox, clients: &mut [ConnectionId]) {
    while let Some(effect) = out.next_effect() {
        if let Effect::Close { id, reason } = effect
            && let Some(place) = clients.iter().position(|other| *other == id)
        {
            broker.closed(Now::default(), id, reason, out);
            clients[place] = open(broker, out, KINDS[place]);
        }
    }
    for id in clients.iter() {
        let sent: Vec<u8> = out.pending(*id).flatten().copied().collect();
        for line in sent.split(|byte| *byte == b'\n') {
            assert!(!line.starts_with(b"MSG s.") && !line.starts_with(b"HMSG s."), "a denied message");
        }
        out.sent(*id, sent.len());
    }
    let mut dirty = Vec::new();
    out.take_dirty(&mut dirty);
    while out.take_full().is_some() {}
}

fuzz_target!(|data: &[u8]| {
    let denied = Subscribable { subject: Filter::parse("s.>").expect("a filter"), queue: None };
    let permissions = Permissions {
        publish: Rule { allow: None, deny: vec![Filter::parse("p.>").expect("a filter")] },
        subscribe: Rule { allow: None, deny: vec![denied] },
        responses: None,
    };
    let user = User { permissions: Some(Arc::new(permissions)), ..User::new("u", Secret::new("")) };
    let authorization = Authorization::Users { users: vec![user], no_auth_user: Some(0) };
    let settings = Settings { authorization, max_payload: 4096, max_control_line: 512, ..Settings::default() };
    let mut broker = Broker::new(settings, 1);
    let mut out = broker.outbox();
    let mut clients: Vec<ConnectionId> = KINDS.iter().map(|kind| open(&mut broker, &mut out, *kind)).collect();
    let mut held: Vec<Vec<u8>> = vec![Vec::new(); KINDS.len()];
    // The first byte of each piece says whose it is and how long.
    let mut rest = data;
    while let Some((head, more)) = rest.split_first() {
        let client = usize::from(head & 3) % KINDS.len();
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
    for id in clients {
        broker.closed(Now::default(), id, CloseReason::ClientClosed, &mut out);
    }
    while out.next_effect().is_some() {}
    assert_eq!((out.memory(), broker.subscription_count(), broker.connection_count()), (0, 0, 0));
});
