//! What we accept from a client, another implementation parses equally.
//!
//! The other way round does not hold: rmqtt-codec lets pass much that the standard forbids.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtt_proto::Version;
use mqtt_proto::packet::{Packet, Publish, decode};
use mqtt_proto::property::{Properties, Property};
use mqtt_proto::topic::TopicFilter;
use rmqtt_codec::types::Publish as Theirs;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::Decoder;

const MAX_PACKET: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let version = [None, Some(Version::V311), Some(Version::V5)][usize::from(choice) % 3];
    let Ok(Some((packet, size))) = decode(bytes, version, MAX_PACKET) else { return };
    if !has_valid_filters(packet) {
        return; // refused in SUBACK by us, with the whole packet by them
    }
    let version = match packet {
        Packet::Connect(connect) if connect.bridge => return,
        // MQTT 5 lets a server choose the identifier of a kept session too; they refuse.
        Packet::Connect(connect) if connect.client_id.is_empty() => return,
        // An expiry interval of 0 is nowhere forbidden; they refuse it.
        Packet::Publish(publish) if expires_at_once(publish.properties) => return,
        Packet::Connect(connect) if connect.will.is_some_and(|will| expires_at_once(will.properties)) => return,
        Packet::Connect(connect) => connect.version,
        _ => version.expect("only CONNECT comes without"),
    };
    match version {
        Version::V311 => compare_311(packet, &bytes[..size]),
        Version::V5 => compare_5(packet, &bytes[..size]),
    }
});

fn expires_at_once(properties: Properties<'_>) -> bool {
    properties.iter().any(|property| property == Property::MessageExpiryInterval(0))
}

fn has_valid_filters(packet: Packet<'_>) -> bool {
    match packet {
        Packet::Subscribe(subscribe) => subscribe.filters.iter().all(|(filter, _)| TopicFilter::parse(filter).is_ok()),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().all(|filter| TopicFilter::parse(filter).is_ok()),
        _ => true,
    }
}

fn compare_311(ours: Packet<'_>, bytes: &[u8]) {
    let theirs = v3::Codec::new(0).decode(&mut BytesMut::from(bytes));
    let Ok(Some((theirs, _))) = theirs else { panic!("{ours:?} is {theirs:?}") };
    match (ours, theirs) {
        (Packet::Publish(ours), v3::Packet::Publish(theirs)) => compare_publish(ours, &theirs),
        (Packet::Connect(ours), v3::Packet::Connect(theirs)) => {
            assert_eq!(ours.client_id, &*theirs.client_id);
            assert_eq!((ours.keep_alive, ours.clean), (theirs.keep_alive, theirs.clean_session));
            assert_eq!(ours.will.map(|will| will.payload), theirs.last_will.as_ref().map(|will| &will.message[..]));
            assert_eq!(ours.user_name, theirs.username.as_deref());
            assert_eq!(ours.password, theirs.password.as_deref());
        }
        (Packet::Subscribe(ours), v3::Packet::Subscribe { packet_id, topic_filters }) => {
            assert_eq!(ours.id.value(), packet_id.get());
            assert!(
                ours.filters.iter().map(|(filter, _)| filter).eq(topic_filters.iter().map(|(filter, _)| &**filter))
            );
        }
        (Packet::Connect(_) | Packet::Publish(_) | Packet::Subscribe(_), theirs) => panic!("it is {theirs:?}"),
        _ => {}
    }
}

fn compare_5(ours: Packet<'_>, bytes: &[u8]) {
    let theirs = v5::Codec::new(0, 0).decode(&mut BytesMut::from(bytes));
    let Ok(Some((theirs, _))) = theirs else { panic!("{ours:?} is {theirs:?}") };
    match (ours, theirs) {
        (Packet::Publish(ours), v5::Packet::Publish(theirs)) => {
            compare_publish(ours, &theirs);
            let alias = theirs.properties.and_then(|properties| properties.topic_alias);
            assert_eq!(ours.topic_alias(), alias.map(|alias| alias.get()));
        }
        (Packet::Connect(ours), v5::Packet::Connect(theirs)) => {
            assert_eq!(ours.client_id, &*theirs.client_id);
            assert_eq!((ours.keep_alive, ours.clean), (theirs.keep_alive, theirs.clean_start));
            assert_eq!(ours.options().session_expiry_interval, theirs.session_expiry_interval_secs);
            assert_eq!(ours.will.map(|will| will.payload), theirs.last_will.as_ref().map(|will| &will.message[..]));
            assert_eq!(ours.user_name, theirs.username.as_deref());
            assert_eq!(ours.password, theirs.password.as_deref());
        }
        (Packet::Subscribe(ours), v5::Packet::Subscribe(theirs)) => {
            assert_eq!(ours.id.value(), theirs.packet_id.get());
            assert_eq!(ours.subscription_identifier(), theirs.id.map(|id| id.get()));
            let filters = theirs.topic_filters.iter().map(|(filter, _)| &**filter);
            assert!(ours.filters.iter().map(|(filter, _)| filter).eq(filters));
        }
        (Packet::Connect(_) | Packet::Publish(_) | Packet::Subscribe(_), theirs) => panic!("it is {theirs:?}"),
        _ => {}
    }
}

fn compare_publish(ours: Publish<'_>, theirs: &Theirs) {
    assert_eq!((ours.topic, ours.payload), (&*theirs.topic, &theirs.payload[..]));
    assert_eq!((ours.delivery.dup(), ours.retain), (theirs.dup, theirs.retain));
    assert_eq!(ours.delivery.qos().bits(), u8::from(theirs.qos));
    assert_eq!(ours.delivery.packet_id().map(|id| id.value()), theirs.packet_id.map(|id| id.get()));
}
