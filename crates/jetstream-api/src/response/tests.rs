//! Answers against what stock nats-server 2.15.1 sent in the same situation, byte by byte.

use super::*;
use crate::testscripts::{empty_stream, new_consumer};
use jetstream::config::{AckPolicy, ConsumerConfig, StreamConfig};
use jetstream::identity::AgeMillis;
use jetstream::store::StoredMessage;
use subject::Filter;

const SERVER: Server<'static> =
    Server { domain: None, name: "S2", version: "2.15.1", origins: None, push_bound: false };
const FIRST: Timestamp = Timestamp(1_795_264_293_228_177_541);
const LAST: Timestamp = Timestamp(1_795_264_293_228_408_762);

fn check(kind: Kind, answer: &Answer, expected: &str) {
    check_from(&SERVER, kind, answer, expected);
}

fn check_from(server: &Server<'_>, kind: Kind, answer: &Answer, expected: &str) {
    let mut into = b"kept".to_vec();
    encode(kind, answer, server, &mut into);
    let text = String::from_utf8(into[4..].to_vec()).unwrap();
    assert_eq!(text, expected.replace("TYPE", "io.nats.jetstream.api.v1"));
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap().is_object());
}

fn stream_s() -> StreamInfo {
    let mut info = empty_stream(StreamConfig::named("S"));
    info.config.subjects = vec![Filter::parse("s.>").unwrap()];
    info.config.description = "new".into();
    info.created = FIRST;
    info.now = LAST;
    info
}

const CONFIG_S: &str = r#""config":{"name":"S","description":"new","subjects":["s.\u003e"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1,"duplicate_window":120000000000,"compression":"none","allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false,"metadata":{"_nats.level":"5","_nats.req.level":"0","_nats.ver":"2.15.1"}},"created":"2026-11-21T12:31:33.228177541Z""#;

#[test]
fn an_empty_stream() {
    let state = r#""state":{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}"#;
    let ts = r#""ts":"2026-11-21T12:31:33.228408762Z""#;
    let answer = Answer::Stream(Box::new(stream_s()));
    let created = format!(r#"{{"type":"TYPE.stream_create_response",{CONFIG_S},{state},{ts},"did_create":true}}"#);
    check(Kind::StreamCreate, &answer, &created);
    check(Kind::StreamUpdate, &answer, &format!(r#"{{"type":"TYPE.stream_update_response",{CONFIG_S},{state},{ts}}}"#));
    let page = r#""total":0,"offset":0,"limit":0"#;
    let cluster = r#""cluster":{"leader":"S2"}"#;
    check(
        Kind::StreamInfo { offset: 0 },
        &answer,
        &format!(r#"{{"type":"TYPE.stream_info_response",{page},{CONFIG_S},{state},{cluster},{ts}}}"#),
    );
    let listed = CONFIG_S.replace(r#""_nats.level":"5","#, "").replace(r#","_nats.ver":"2.15.1""#, "");
    let list = format!(
        r#"{{"type":"TYPE.stream_list_response","total":1,"offset":0,"limit":256,"streams":[{{{listed},{state},{ts}}}]}}"#
    );
    check(Kind::StreamList, &Answer::StreamList { streams: vec![stream_s()], total: 1, offset: 0 }, &list);
}

#[test]
fn a_stream_with_messages_and_details() {
    let mut info = stream_s();
    info.state = StreamState {
        messages: 2,
        bytes: 72,
        first: Sequence(1),
        first_time: FIRST,
        last: Sequence(3),
        last_time: LAST,
        subjects: 2,
    };
    info.deleted = 1;
    info.deleted_list = Some(vec![Sequence(2)]);
    info.subjects = Some(vec![("s.a".into(), 1), ("s.b".into(), 1)]);
    info.matching_subjects = 2;
    let expected = format!(
        r#"{{"type":"TYPE.stream_info_response","total":2,"offset":0,"limit":100000,{CONFIG_S},"state":{{"messages":2,"bytes":72,"first_seq":1,"first_ts":"2026-11-21T12:31:33.228177541Z","last_seq":3,"last_ts":"2026-11-21T12:31:33.228408762Z","num_subjects":2,"subjects":{{"s.a":1,"s.b":1}},"num_deleted":1,"deleted":[2],"consumer_count":0}},"cluster":{{"leader":"S2"}},"ts":"2026-11-21T12:31:33.228408762Z"}}"#
    );
    check(Kind::StreamInfo { offset: 0 }, &Answer::Stream(Box::new(info)), &expected);
}

/// After a purge stock shows the next sequence as first, and no first time.
#[test]
fn a_purged_stream() {
    let mut info = stream_s();
    info.state = StreamState { first: Sequence(4), last: Sequence(3), last_time: LAST, ..StreamState::default() };
    let wire = WireState::new(&info);
    assert_eq!((wire.first_seq, wire.first_ts, wire.last_seq), (4, Time(Timestamp(0)), 3));
}

#[test]
fn names_and_pages() {
    let names = |names: &[&str], total, offset| Answer::StreamNames {
        names: names.iter().map(|name| Box::from(*name)).collect(),
        total,
        offset,
    };
    let begin = r#"{"type":"TYPE.stream_names_response""#;
    check(
        Kind::StreamNames,
        &names(&["X3", "X4"], 4, 2),
        &format!(r#"{begin},"total":4,"offset":2,"limit":1024,"streams":["X3","X4"]}}"#),
    );
    check(
        Kind::StreamNames,
        &names(&[], 6, 200),
        &format!(r#"{begin},"total":6,"offset":6,"limit":1024,"streams":null}}"#),
    );
    check(
        Kind::ConsumerNames,
        &Answer::ConsumerNames { names: Vec::new(), total: 25, offset: 100 },
        r#"{"type":"TYPE.consumer_names_response","total":25,"offset":25,"limit":1024,"consumers":[]}"#,
    );
    check(
        Kind::ConsumerList,
        &Answer::ConsumerList { consumers: Vec::new(), total: 25, offset: 100 },
        r#"{"type":"TYPE.consumer_list_response","total":25,"offset":25,"limit":256,"consumers":[]}"#,
    );
}

#[test]
fn messages() {
    let mut buffer = MessageBuffer::default();
    buffer.push(&StoredMessage {
        sequence: Sequence(3),
        time: FIRST,
        age: AgeMillis(0),
        subject: b"s.h",
        headers: b"NATS/1.0\r\nFoo: bar\r\n\r\n",
        payload: b"hey",
    });
    let answer = Answer::Message(Box::new(buffer));
    check(
        Kind::MessageGet { headers: true },
        &answer,
        r#"{"type":"TYPE.stream_msg_get_response","message":{"subject":"s.h","seq":3,"hdrs":"TkFUUy8xLjANCkZvbzogYmFyDQoNCg==","data":"aGV5","time":"2026-11-21T12:31:33.228177541Z"}}"#,
    );
    check(
        Kind::MessageGet { headers: false },
        &answer,
        r#"{"type":"TYPE.stream_msg_get_response","message":{"subject":"s.h","seq":3,"data":"aGV5","time":"2026-11-21T12:31:33.228177541Z"}}"#,
    );
    check(
        Kind::MessageGet { headers: true },
        &Answer::Message(Box::default()),
        r#"{"type":"TYPE.stream_msg_get_response","error":{"code":404,"err_code":10037,"description":"no message found"}}"#,
    );
}

#[test]
fn a_consumer_at_work() {
    let mut config = ConsumerConfig::named("C");
    config.ack_policy = AckPolicy::Explicit;
    let mut info = new_consumer("S", config);
    info.created = FIRST;
    info.now = LAST;
    info.delivered = (ConsumerSequence(1), Sequence(1), Some(LAST));
    info.ack_pending = 1;
    info.pending = 1;
    check(
        Kind::ConsumerInfo,
        &Answer::Consumer(Box::new(info)),
        r#"{"type":"TYPE.consumer_info_response","stream_name":"S","name":"C","created":"2026-11-21T12:31:33.228177541Z","config":{"durable_name":"C","name":"C","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"num_replicas":0,"metadata":{"_nats.level":"5","_nats.req.level":"0","_nats.ver":"2.15.1"}},"delivered":{"consumer_seq":1,"stream_seq":1,"last_active":"2026-11-21T12:31:33.228408762Z"},"ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":1,"num_redelivered":0,"num_waiting":0,"num_pending":1,"ts":"2026-11-21T12:31:33.228408762Z"}"#,
    );
}

#[test]
fn account_and_small_answers() {
    let info = AccountInfo {
        storage: 38,
        streams: 1,
        api_total: 3,
        max_memory: -1,
        max_storage: -1,
        max_streams: -1,
        max_consumers: -1,
        max_ack_pending: -1,
        max_memory_stream: -1,
        max_storage_stream: -1,
        ..AccountInfo::default()
    };
    check_from(
        &Server { domain: Some("edge"), ..SERVER },
        Kind::AccountInfo,
        &Answer::AccountInfo(info),
        r#"{"type":"TYPE.account_info_response","memory":0,"storage":38,"reserved_memory":0,"reserved_storage":0,"streams":1,"consumers":0,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,"max_bytes_required":false},"domain":"edge","api":{"level":5,"total":3,"errors":0}}"#,
    );
    check(Kind::StreamDelete, &Answer::Deleted, r#"{"type":"TYPE.stream_delete_response","success":true}"#);
    check(Kind::MessageDelete, &Answer::Deleted, r#"{"type":"TYPE.stream_msg_delete_response","success":true}"#);
    check(
        Kind::StreamPurge,
        &Answer::Purged { count: 1 },
        r#"{"type":"TYPE.stream_purge_response","success":true,"purged":1}"#,
    );
    check(
        Kind::StreamPurge,
        &Answer::Error(api_error::STREAM_NOT_FOUND),
        r#"{"type":"TYPE.stream_purge_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"purged":0}"#,
    );
    check(
        Kind::StreamInfo { offset: 7 },
        &Answer::Error(api_error::STREAM_NOT_FOUND),
        r#"{"type":"TYPE.stream_info_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0}"#,
    );
}
