//! What is encoded is decoded, and any bytes are a packet, incomplete or refused.

use proptest::prelude::*;

use crate::packet::{
    Acknowledgement, Auth, Codes, Connack, Connect, Delivery, Disconnect, Packet, Publish, Suback, Subscribe,
    SubscribeFilters, SubscriptionOptions, Unsuback, Unsubscribe, UnsubscribeFilters, Will, decode_from, frame_length,
};
use crate::property::{Properties, Property, PropertyBuf};
use crate::protocol::{PacketId, PacketType, Qos, Sender, Version};
use crate::reason::ReasonCode;

/// The material of a packet: which one, and values to fill it with.
#[derive(Debug, Clone)]
struct Seed {
    kind: u8,
    v5: bool,
    number: u32,
    flags: [bool; 5],
    texts: Vec<String>,
    payload: Vec<u8>,
}

fn seed() -> impl Strategy<Value = Seed> {
    let texts = proptest::collection::vec("[a-zäö/ .$]{1,9}", 3..5);
    let payload = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => proptest::collection::vec(any::<u8>(), 100..300),
        1 => proptest::collection::vec(any::<u8>(), 16_380..16_390),
    ];
    (1..=15u8, any::<bool>(), any::<u32>(), any::<[bool; 5]>(), texts, payload)
        .prop_map(|(kind, v5, number, flags, texts, payload)| Seed { kind, v5, number, flags, texts, payload })
}

impl Seed {
    fn version(&self) -> Version {
        if self.v5 { Version::V5 } else { Version::V311 }
    }

    fn id(&self) -> PacketId {
        PacketId::of_position(u64::from(self.number))
    }

    fn qos(&self) -> Qos {
        Qos::from_bits((self.number % 3) as u8).unwrap()
    }

    /// Properties that the packet may have, in some of the cases.
    fn properties(&self, special: &[Property<'_>]) -> PropertyBuf {
        let mut properties = PropertyBuf::new();
        if self.v5 && self.flags[0] {
            properties.push(Property::UserProperty(&self.texts[0], &self.texts[1]));
            special.iter().for_each(|&property| properties.push(property));
            properties.push(Property::UserProperty(&self.texts[0], &self.texts[1]));
        }
        properties
    }

    /// A reason the packet may carry; success in 3.1.1.
    fn reason(&self, packet: PacketType) -> ReasonCode {
        let wanted = ReasonCode::from_byte(self.number as u8).filter(|reason| reason.is_allowed_in(packet));
        wanted.filter(|_| self.v5).unwrap_or(ReasonCode::Success)
    }
}

/// Encodes the packet, and decodes it as the side that receives it.
fn check(packet: Packet<'_>, version: Version) {
    let mut bytes = vec![];
    packet.encode(version, &mut bytes);
    let length = bytes.len();
    bytes.extend_from_slice(b"next");
    let senders: &[Sender] = match (packet.packet_type().is_from_client(), packet.packet_type().is_from_server()) {
        (true, true) if packet.packet_type() == PacketType::Disconnect => &[Sender::Client],
        (true, true) => &[Sender::Client, Sender::Server],
        (true, false) => &[Sender::Client],
        _ => &[Sender::Server],
    };
    let known = if packet.packet_type() == PacketType::Connect { None } else { Some(version) };
    for &sender in senders {
        assert_eq!(decode_from(sender, &bytes, known, length), Ok(Some((packet, length))));
        assert!(decode_from(sender, &bytes, known, length - 1).is_err());
        for end in (0..length).rev().take(64).chain(0..length.min(64)) {
            assert_eq!(decode_from(sender, &bytes[..end], known, length), Ok(None), "{end} of {length}");
        }
    }
    assert_eq!(frame_length(&bytes, length), Ok(Some(length)));
}

fn check_seed(seed: &Seed) {
    let packet = PacketType::from_first_byte(seed.kind << 4).unwrap();
    match packet {
        PacketType::Connect => check_connect(seed),
        PacketType::Publish => check_publish(seed),
        PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
            check_acknowledgement(seed, packet);
        }
        PacketType::Subscribe | PacketType::Unsubscribe => check_filters(seed, packet),
        _ => check_other(seed, packet),
    }
}

fn check_connect(seed: &Seed) {
    let properties = seed.properties(&[Property::ReceiveMaximum(9), Property::SessionExpiryInterval(seed.number)]);
    let will_properties = seed.properties(&[Property::WillDelayInterval(seed.number)]);
    let will = Will {
        qos: seed.qos(),
        retain: seed.flags[2],
        topic: &seed.texts[2],
        properties: will_properties.as_properties(),
        payload: &seed.payload,
    };
    let connect = Connect {
        version: seed.version(),
        bridge: seed.flags[4] && !seed.v5,
        clean: seed.flags[3],
        keep_alive: seed.number as u16,
        properties: properties.as_properties(),
        client_id: &seed.texts[0],
        will: seed.flags[1].then_some(will),
        user_name: seed.flags[2].then_some(&seed.texts[1]),
        password: seed.flags[2].then_some(&seed.payload[..seed.payload.len().min(9)]),
    };
    check(Packet::Connect(connect), seed.version());
}

fn check_publish(seed: &Seed) {
    let properties = seed.properties(&[
        Property::MessageExpiryInterval(seed.number),
        Property::TopicAlias(3),
        Property::ResponseTopic(&seed.texts[1]),
    ]);
    let publish = Publish {
        delivery: Delivery::new(seed.qos(), seed.id(), seed.flags[1]),
        retain: seed.flags[2],
        topic: if properties.as_properties().is_empty() || seed.flags[3] { &seed.texts[0] } else { "" },
        properties: properties.as_properties(),
        payload: &seed.payload,
    };
    check(Packet::Publish(publish), seed.version());
    let mut bytes = Vec::new();
    publish.encode(seed.version(), &mut bytes);
    assert_eq!(publish.encoded_length(seed.version()), bytes.len());
}

fn check_acknowledgement(seed: &Seed, packet: PacketType) {
    let properties = seed.properties(&[Property::ReasonString(&seed.texts[2])]);
    let properties = properties.as_properties();
    let acknowledgement = Acknowledgement { id: seed.id(), reason: seed.reason(packet), properties };
    let packet = match packet {
        PacketType::Puback => Packet::Puback(acknowledgement),
        PacketType::Pubrec => Packet::Pubrec(acknowledgement),
        PacketType::Pubrel => Packet::Pubrel(acknowledgement),
        _ => Packet::Pubcomp(acknowledgement),
    };
    check(packet, seed.version());
}

fn check_filters(seed: &Seed, packet: PacketType) {
    let mut buffer = Vec::new();
    if packet == PacketType::Unsubscribe {
        let properties = seed.properties(&[]);
        let filters = UnsubscribeFilters::build(&seed.texts, &mut buffer);
        assert!(filters.iter().eq(seed.texts.iter().map(String::as_str)));
        let unsubscribe = Unsubscribe { id: seed.id(), properties: properties.as_properties(), filters };
        return check(Packet::Unsubscribe(unsubscribe), seed.version());
    }
    let properties = seed.properties(&[Property::SubscriptionIdentifier(seed.number % 1_000 + 1)]);
    let no_local = seed.v5 && seed.flags[1];
    let options = SubscriptionOptions { qos: seed.qos(), no_local, ..SubscriptionOptions::default() };
    let filters = SubscribeFilters::build(seed.texts.iter().map(|filter| (filter, options)), &mut buffer);
    assert!(filters.iter().eq(seed.texts.iter().map(|filter| (filter.as_str(), options))));
    let subscribe = Subscribe { id: seed.id(), properties: properties.as_properties(), filters };
    check(Packet::Subscribe(subscribe), seed.version());
}

fn check_other(seed: &Seed, packet: PacketType) {
    let reason = seed.reason(packet);
    let string = seed.properties(&[Property::ReasonString(&seed.texts[2])]);
    let properties: Properties<'_> = string.as_properties();
    let codes = [ReasonCode::Success, reason];
    let packet = match packet {
        PacketType::Connack if reason == ReasonCode::Success => {
            Packet::Connack(Connack::accepted(seed.flags[1], properties))
        }
        PacketType::Connack => Packet::Connack(Connack::refused(reason, properties)),
        PacketType::Suback => Packet::Suback(Suback { id: seed.id(), properties, codes: Codes::Built(&codes) }),
        PacketType::Unsuback => {
            let codes = Codes::Built(if seed.v5 { &codes } else { &[] });
            Packet::Unsuback(Unsuback { id: seed.id(), properties, codes })
        }
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Auth if seed.v5 => Packet::Auth(Auth { reason, properties }),
        _ => {
            let reason = seed.reason(PacketType::Disconnect);
            Packet::Disconnect(Disconnect { reason, properties })
        }
    };
    check(packet, seed.version());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn what_is_encoded_is_decoded(seed in seed()) {
        check_seed(&seed);
    }

    #[test]
    fn any_bytes_are_a_packet_incomplete_or_refused(
        first in any::<u8>(),
        body in proptest::collection::vec(prop_oneof![3 => 0..6u8, 1 => any::<u8>()], 0..40),
        v5 in any::<bool>(),
        server in any::<bool>(),
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let sender = if server { Sender::Server } else { Sender::Client };
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        if let Ok(Some((packet, size))) = decode_from(sender, &bytes, Some(version), 1_000) {
            prop_assert_eq!(size, bytes.len());
            let mut again = Vec::new();
            packet.encode(version, &mut again);
            let length = again.len();
            prop_assert_eq!(decode_from(sender, &again, Some(version), 1_000), Ok(Some((packet, length))));
        }
    }
}
