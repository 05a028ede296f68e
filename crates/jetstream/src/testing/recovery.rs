//! Tests: what loading does when descriptions were damaged.

use crate::command::{Answer, Batch, Command, ConsumerAction, Deliveries, Event, MessageGet, Outcome, Request};
use crate::config::{ConsumerConfig, StreamConfig};
use crate::identity::{AgeMillis, Now, Sequence, StreamId, Timestamp};
use crate::jetstream::IDS_KEY;
use crate::store::memory::MemoryStore;
use crate::store::{NewMessage, Store};
use crate::{JetStream, Limits, consumer};

const NOW: Now = Now { wall: Timestamp(7), age: AgeMillis(7) };

fn load(store: &mut MemoryStore) -> (JetStream, Vec<Event>) {
    JetStream::load(store, NOW, Limits::default()).expect("loads whatever is there")
}

fn ask(jetstream: &mut JetStream, store: &mut MemoryStore, request: Request) -> Answer {
    let batch = Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() };
    let (mut outcomes, mut events) = (Vec::new(), Vec::new());
    jetstream.apply(store, NOW, &batch, &mut outcomes, &mut Deliveries::default(), &mut events).expect("applies");
    match outcomes.pop() {
        Some(Outcome::Answer(answer)) => *answer,
        other => panic!("{other:?} to a request"),
    }
}

fn create_consumer(jetstream: &mut JetStream, store: &mut MemoryStore, name: &str) -> u32 {
    let config = Box::new(ConsumerConfig { durable: true, ..ConsumerConfig::named(name) });
    let request = Request::ConsumerCreate { stream: "S".into(), config, action: ConsumerAction::Create };
    match ask(jetstream, store, request) {
        Answer::Consumer(info) => info.id.0,
        other => panic!("{other:?}"),
    }
}

/// A store with the streams `S` (one message) and `EMPTY`, and the consumer `c` on `S`.
fn stored() -> MemoryStore {
    let mut store = MemoryStore::default();
    let (mut jetstream, _) = load(&mut store);
    for name in ["S", "EMPTY"] {
        let config = Box::new(StreamConfig::named(name));
        ask(&mut jetstream, &mut store, Request::StreamCreate { config });
    }
    let message =
        NewMessage { sequence: Sequence(1), now: NOW, subject: b"S", headers: b"", payload: b"kept", message_id: None };
    store.append(StreamId::FIRST, &message).expect("stores");
    create_consumer(&mut jetstream, &mut store, "c");
    store
}

#[test]
fn a_stream_without_description_is_recovered_under_a_name_of_its_own() {
    let mut store = stored();
    let (first, empty) = (StreamId::FIRST, StreamId(StreamId::FIRST.0 + 1));
    store.update_stream(first, b"damaged").expect("writes");
    store.update_stream(empty, b"").expect("writes");
    let (mut jetstream, events) = load(&mut store);
    let name: Box<str> = format!("RECOVERED_{}", first.0).into();
    let up = events.iter().find_map(|event| match event {
        Event::StreamUp { name, subjects, .. } => Some((name.clone(), subjects.len())),
        _ => None,
    });
    // It captures nothing: nobody knows what it was for.
    assert_eq!(up, Some((name.clone(), 0)));
    let get = MessageGet::Sequence(Sequence(1));
    let Answer::Message(found) = ask(&mut jetstream, &mut store, Request::MessageGet { name, get }) else {
        panic!("the message is not there")
    };
    assert_eq!(found.get(0).map(|message| message.payload.to_vec()), Some(b"kept".to_vec()));
    // Of the other nothing was left.
    assert!(store.streams().expect("reads").iter().all(|loaded| loaded.stream != empty));
    // Consumers that are whole stay with their stream, under its new name.
    assert!(events.iter().any(|event| matches!(event, Event::ConsumerUp { name, .. } if **name == *"c")));
}

#[test]
fn a_consumer_without_description_or_stream_is_dropped_with_its_records() {
    for damage in [true, false] {
        let mut store = stored();
        let mut keys = Vec::new();
        store
            .scan_records(&consumer::CONFIGS, &consumer::CONFIGS, &mut |key, _| {
                keys.push(key.to_vec());
                true
            })
            .expect("reads");
        assert_eq!(keys.len(), 1);
        if damage {
            store.put_record(&keys[0], b"damaged").expect("writes");
        } else {
            store.delete_stream(StreamId::FIRST).expect("deletes");
        }
        let (_, events) = load(&mut store);
        assert!(!events.iter().any(|event| matches!(event, Event::ConsumerUp { .. })));
        assert_eq!(store.record(&keys[0]).expect("reads"), None);
    }
}

/// The numbers given so far were lost with their record: those that are in use are not given again.
#[test]
fn lost_numbers_are_not_given_again() {
    let mut store = stored();
    store.delete_record(&IDS_KEY).expect("deletes");
    let (mut jetstream, events) = load(&mut store);
    let used = events.iter().find_map(|event| match event {
        Event::ConsumerUp { consumer, .. } => Some(consumer.0),
        _ => None,
    });
    assert!(create_consumer(&mut jetstream, &mut store, "other") > used.expect("one"));
    let config = Box::new(StreamConfig::named("NEW"));
    let Answer::Stream(info) = ask(&mut jetstream, &mut store, Request::StreamCreate { config }) else {
        panic!("not created")
    };
    assert_eq!(info.id.0, StreamId::FIRST.0 + 2);
}
