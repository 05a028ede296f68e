//! Any bytes are MQTT packets, incomplete, or refused; what is accepted is encoded and decoded to the same.
//!
//! The first byte chooses version and side, the rest is what arrives. The input is also fed in two parts: an answer
//! about a part must hold for the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_proto::error::Phase;
use mqtt_proto::packet::{Packet, decode_from, frame_length, peek_version};
use mqtt_proto::topic::{TopicFilter, subject_to_topic, topic_to_subject};
use mqtt_proto::{DecodeError, Sender, Version};

const MAX_PACKET: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, mut bytes)) = data.split_first() else { return };
    let sender = if choice & 1 == 0 { Sender::Client } else { Sender::Server };
    let mut version = [None, Some(Version::V311), Some(Version::V5)][usize::from(choice >> 1) % 3];
    loop {
        check_parts(sender, bytes, version);
        match decode_from(sender, bytes, version, MAX_PACKET) {
            Ok(Some((packet, size))) => {
                assert_eq!(frame_length(bytes, MAX_PACKET), Ok(Some(size)));
                if let Packet::Connect(connect) = packet {
                    version = Some(connect.version);
                }
                check_packet(sender, packet, version.expect("set by CONNECT"));
                bytes = &bytes[size..];
            }
            Ok(None) => return,
            Err(error) => return check_refusal(error, bytes, version),
        }
    }
});

/// A part is incomplete, or it gets the answer that the whole gets.
fn check_parts(sender: Sender, bytes: &[u8], version: Option<Version>) {
    let whole = decode_from(sender, bytes, version, MAX_PACKET);
    for end in [1, 2, 3, 5, bytes.len() / 2] {
        let part = decode_from(sender, &bytes[..end.min(bytes.len())], version, MAX_PACKET);
        assert!(part == Ok(None) || part == whole, "{part:?} of {whole:?}");
    }
}

fn check_packet(sender: Sender, packet: Packet<'_>, version: Version) {
    let mut encoded = Vec::new();
    packet.encode(version, &mut encoded);
    let known = if matches!(packet, Packet::Connect(_)) { None } else { Some(version) };
    let again = decode_from(sender, &encoded, known, MAX_PACKET);
    assert_eq!(again, Ok(Some((packet, encoded.len()))));
    match packet {
        Packet::Publish(publish) if !publish.topic.is_empty() => check_topic(publish.topic),
        Packet::Subscribe(subscribe) => {
            for (filter, _) in subscribe.filters.iter() {
                let _ = TopicFilter::parse(filter).map(|parsed| parsed.to_subjects());
            }
        }
        _ => {}
    }
}

fn check_topic(topic: &str) {
    let (mut subject, mut back) = (String::new(), String::new());
    topic_to_subject(topic, &mut subject).expect("a decoded topic is valid");
    subject_to_topic(&subject, &mut back).expect("an image has a topic");
    assert_eq!(back, topic);
}

fn check_refusal(error: DecodeError, bytes: &[u8], version: Option<Version>) {
    let phase = version.map_or(Phase::Connecting(peek_version(bytes)), Phase::Connected);
    let mut answer = Vec::new();
    error.encode_answer(phase, 64, &mut answer);
    assert!(answer.len() <= 64);
}
