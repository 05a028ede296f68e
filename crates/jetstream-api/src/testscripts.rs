//! Golden scripts: a request's subject and body in, what becomes of it out.
//!
//! What needs no store is printed as the client gets it. Configurations are printed as a create answer would show them, on an empty stream at
//! time zero; that is what was compared with stock nats-server 2.15.1.

use crate::demands::{Demands, parse_demanding};
use crate::request::{Kind, Parsed, parse};
use crate::response::{Server, encode, encode_error};
use jetstream::command::{Answer, ConsumerInfo, Request, StreamInfo};
use jetstream::config::{
    AckPolicy, ConsumerConfig, ConsumerLimits, DeliverPolicy, Discard, Republish, StreamConfig, SubjectTransform,
};
use jetstream::identity::{ConsumerId, ConsumerSequence, Sequence, StreamId, Timestamp};
use jetstream::store::StreamState;
use proptest::prelude::*;
use std::error::Error;

#[derive(goldenscript::Command)]
enum Command {
    Api {
        subject: String,
        payload: Option<String>,
        #[arg(key)]
        level: Option<String>,
        #[arg(key)]
        identity: Option<String>,
    },
}

struct Runner;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let Command::Api { subject, payload, level, identity } = command;
        let mut into = Vec::new();
        let demands =
            Demands { level: level.as_deref().map(str::as_bytes), identity: identity.as_deref().map(str::as_bytes) };
        match parse_demanding(subject.as_bytes(), payload.as_deref().unwrap_or_default().as_bytes(), demands) {
            Parsed::Refused(kind, error) => encode_error(kind, &error, &mut into),
            Parsed::Request(kind, request) => request_text(kind, request, &mut into),
            other => return Ok(format!("{other:?}\n")),
        }
        into.push(b'\n');
        Ok(String::from_utf8(into)?)
    }
}

fn request_text(kind: Kind, request: Request, into: &mut Vec<u8>) {
    let server = Server { domain: None, name: "S2", version: "2.15.1", origins: None, push_bound: false };
    match request {
        Request::StreamCreate { config } | Request::StreamUpdate { config } => {
            encode(kind, &Answer::Stream(Box::new(empty_stream(*config))), &server, into);
        }
        Request::Pedantic(request) => {
            into.extend_from_slice(b"pedantic ");
            request_text(kind, *request, into);
        }
        Request::Impossible { error, .. } => encode_error(kind, &error, into),
        Request::ConsumerCreate { stream, mut config, action } => {
            // What the stream would fill in.
            if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
                config.max_ack_pending = ConsumerConfig::named("").max_ack_pending;
            }
            into.extend_from_slice(format!("{action:?} ").as_bytes());
            encode(kind, &Answer::Consumer(Box::new(new_consumer(&stream, *config))), &server, into);
        }
        Request::SourceCreate { stream, config, action, identity } => {
            into.extend_from_slice(format!("{action:?} of {} ", identity.as_deref().unwrap_or("any")).as_bytes());
            encode(kind, &Answer::Consumer(Box::new(new_consumer(&stream, *config))), &server, into);
        }
        other => into.extend_from_slice(format!("{kind:?} {other:?}").as_bytes()),
    }
}

pub(crate) fn empty_stream(config: StreamConfig) -> StreamInfo {
    StreamInfo {
        id: StreamId(16),
        config,
        created: Timestamp(0),
        state: StreamState { first: Sequence(1), ..StreamState::default() },
        consumers: 0,
        deleted: 0,
        deleted_list: None,
        subjects: None,
        matching_subjects: 0,
        now: Timestamp(0),
        did_create: true,
    }
}

pub(crate) fn new_consumer(stream: &str, config: ConsumerConfig) -> ConsumerInfo {
    ConsumerInfo {
        id: ConsumerId(1),
        stream: stream.into(),
        name: config.name.clone(),
        config,
        created: Timestamp(0),
        delivered: (ConsumerSequence(0), Sequence(0), None),
        ack_floor: (ConsumerSequence(0), Sequence(0), None),
        ack_pending: 0,
        redelivered: 0,
        waiting: 0,
        pending: 0,
        push_bound: false,
        group: None,
        now: Timestamp(0),
        stream_identity: None,
    }
}

#[test]
fn scripts() {
    for case in [
        "stream_create",
        "origins",
        "stream_batches",
        "stream_requests",
        "consumer_create",
        "consumer_requests",
        "pull_and_direct_get",
        "demands",
        "snapshots",
    ] {
        goldenscript::run(&mut Runner, format!("src/testscripts/{case}"))
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

#[test]
fn any_request_is_survived() {
    let operation = "(STREAM|CONSUMER|DIRECT|INFO|MSG|CREATE|UPDATE|NEXT|GET|DURABLE|PURGE|NAMES|S|C|a\\.b)";
    let subject = proptest::string::string_regex(&format!("{operation}(\\.{operation}){{0,5}}")).unwrap();
    let text = "[{}\\[\\]\",:a-z0-9.\\\\ -]{0,40}";
    let config = ProptestConfig::with_cases(300);
    proptest!(config, |(subject in subject, payload in text)| {
        if let Parsed::Refused(kind, error) = parse(subject.as_bytes(), payload.as_bytes()) {
            let mut into = Vec::new();
            encode_error(kind, &error, &mut into);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&into).is_ok());
        }
    });
}

fn printed(kind: Kind, answer: &Answer) -> String {
    let server = Server { domain: None, name: "S", version: "2.15.1", origins: None, push_bound: false };
    let mut into = Vec::new();
    encode(kind, answer, &server, &mut into);
    let value: serde_json::Value = serde_json::from_slice(&into).unwrap();
    value["config"].to_string()
}

/// Each is compared with each on the thread that all clients wait for: a request of 200 KB could hold it for minutes.
#[test]
fn more_subjects_than_are_compared_are_refused_at_once() {
    let texts = |count: usize| (0..count).map(|number| format!("\"s.{number}\"")).collect::<Vec<_>>().join(",");
    let stream =
        |count| parse(b"STREAM.CREATE.S", format!(r#"{{"name":"S","subjects":[{}]}}"#, texts(count)).as_bytes());
    let consumer = |count| {
        let config = format!(r#"{{"name":"c","ack_policy":"none","filter_subjects":[{}]}}"#, texts(count));
        parse(b"CONSUMER.CREATE.S.c", format!(r#"{{"stream_name":"S","config":{config}}}"#).as_bytes())
    };
    let refusal = |asked| match asked {
        Parsed::Refused(_, error) | Parsed::Request(_, Request::Impossible { error, .. }) => Some(error),
        _ => None,
    };
    assert_eq!((refusal(stream(1024)), refusal(consumer(1024))), (None, None));
    for (asked, text) in [(stream(1025), "stream has too many subjects"), (consumer(1025), "too many subject filters")]
    {
        let error = refusal(asked).unwrap();
        assert!(error.err_code == 10052 && error.description.contains(text), "{error:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Tools read a configuration, change a field and send the rest back: what is printed must be accepted and mean the same.
    #[test]
    fn a_printed_stream_configuration_means_itself(
        subjects in prop::collection::btree_set("[a-c]{2}(\\.\\*)?", 1..3),
        limits in prop::array::uniform4(prop_oneof![Just(-1i64), 1..i64::MAX]),
        age in prop_oneof![Just(0), 120_000_000_000..u64::MAX / 4],
        flags in any::<[bool; 4]>(),
        description in "[ -~é<>&]{0,10}",
        metadata in prop::collection::btree_map("[a-z]{1,3}", "[ -~]{0,5}", 0..3),
        first_sequence in any::<u64>(),
        mappings in prop::array::uniform4("[a-z.*>$1]{1,9}"),
        mapped in any::<[bool; 4]>(),
        consumer_limits in (0..u64::MAX / 4, 0..i64::MAX),
    ) {
        let mut config = StreamConfig::named("S");
        let firsts: std::collections::BTreeSet<&str> = subjects.iter().map(|text| &text[..2]).collect();
        prop_assume!(firsts.len() == subjects.len());
        config.subjects = subjects.iter().map(|text| subject::Filter::parse(text).unwrap()).collect();
        [config.max_messages, config.max_bytes, config.max_messages_per_subject, config.max_consumers] = limits;
        config.max_age_ns = age;
        [config.deny_delete, config.allow_direct, config.allow_rollup, config.discard_new_per_subject] = flags;
        config.discard_new_per_subject &= config.max_messages_per_subject > 0;
        config.discard = if config.discard_new_per_subject { Discard::New } else { Discard::Old };
        (config.description, config.metadata, config.first_sequence) = (description.into(), metadata, first_sequence);
        let [source, destination, from, to] = mappings.map(Box::from);
        config.subject_transform = mapped[0].then_some(SubjectTransform { source, destination });
        let subjects = SubjectTransform { source: from, destination: to };
        config.republish = mapped[1].then_some(Republish { subjects, headers_only: mapped[2] });
        let (inactive_threshold_ns, max_ack_pending) = consumer_limits;
        config.consumer_limits = ConsumerLimits { inactive_threshold_ns, max_ack_pending };
        config.allow_message_ttl = mapped[3];
        let json = printed(Kind::StreamUpdate, &Answer::Stream(Box::new(empty_stream(config.clone()))));
        match parse(b"STREAM.UPDATE.S", json.as_bytes()) {
            Parsed::Request(_, Request::StreamUpdate { config: read }) => prop_assert_eq!(*read, config),
            other => prop_assert!(false, "{:?}: {}", other, json),
        }
    }

    #[test]
    fn a_printed_consumer_configuration_means_itself(
        name in "[a-z]{1,8}",
        durable in any::<bool>(),
        policy in 0..6usize,
        start in 1..i64::MAX,
        ack in 0..3usize,
        waits in prop::collection::vec(1..u64::MAX / 4, 0..4),
        limits in prop::array::uniform3(prop_oneof![Just(-1i64), 1..i64::MAX]),
        requests in prop::array::uniform2(0..i64::MAX),
        filters in prop::collection::btree_set("[a-c]", 0..3),
        flags in any::<[bool; 2]>(),
    ) {
        let mut config = ConsumerConfig::named(&name);
        config.durable = durable;
        config.filters = filters.iter().map(|text| subject::Filter::parse(text).unwrap()).collect();
        config.deliver_policy = match policy {
            0 => DeliverPolicy::All,
            1 => DeliverPolicy::Last,
            2 => DeliverPolicy::New,
            3 => DeliverPolicy::FromSequence(Sequence(start as u64)),
            4 => DeliverPolicy::FromTime(Timestamp(start)),
            _ if config.filters.is_empty() => DeliverPolicy::All,
            _ => DeliverPolicy::LastPerSubject,
        };
        config.ack_policy = [AckPolicy::None, AckPolicy::All, AckPolicy::Explicit][ack];
        config.ack_wait_ns = waits.first().copied().unwrap_or(if ack == 0 { 0 } else { 30_000_000_000 });
        config.max_deliver = if limits[0] < 4 { -1 } else { limits[0] };
        config.max_ack_pending = limits[1];
        config.max_waiting = limits[2].max(1);
        config.backoff_ns = waits;
        [config.max_request_batch, config.max_request_max_bytes] = requests;
        config.max_request_expires_ns = 1_000_000;
        config.inactive_threshold_ns = 7;
        [config.headers_only, config.memory_storage] = flags;
        let json = printed(Kind::ConsumerInfo, &Answer::Consumer(Box::new(new_consumer("S", config.clone()))));
        let body = format!(r#"{{"stream_name":"S","config":{json}}}"#);
        match parse(format!("CONSUMER.CREATE.S.{name}").as_bytes(), body.as_bytes()) {
            Parsed::Request(_, Request::ConsumerCreate { config: read, .. }) => prop_assert_eq!(*read, config),
            other => prop_assert!(false, "{:?}: {}", other, body),
        }
    }
}
