//! A whole valid request of every kind, with something wrong in each field in turn: the gateway refuses what the stock server refuses, with its code,
//! and takes what it takes.

use anyhow::{Result, ensure};
use harness::RawNats;
use serde_json::{Value, json};

use crate::like_stock::{Both, level};

/// What is put in place of a field's value.
fn wrong_values() -> Vec<Value> {
    // Too large for any of Go's integers.
    let huge: Value = serde_json::from_str("18446744073709551616").unwrap_or_default();
    vec![
        json!("x"),
        json!(""),
        json!(1),
        json!(-1),
        json!(-2),
        json!(1.5),
        json!(1_099_511_627_776_u64),
        huge,
        json!(true),
        json!(null),
        json!([]),
        json!([1]),
        json!(["x"]),
        json!([null]),
        json!({}),
        json!({"x":1}),
    ]
}

fn stream() -> Value {
    json!({
        "name": "S", "description": "d", "subjects": ["s.>"], "retention": "limits", "max_consumers": 5, "max_msgs": 100, "max_bytes": 100_000,
        "discard": "old", "max_age": 600_000_000_000_u64, "max_msgs_per_subject": 10, "max_msg_size": 1000, "storage": "file", "num_replicas": 1,
        "no_ack": false, "duplicate_window": 60_000_000_000_u64, "placement": {"cluster": "c", "tags": ["t"]},
        "sources": [
            {"name": "O", "opt_start_seq": 1, "filter_subject": "o.a", "external": {"api": "$JS.x.API", "deliver": "d.x"}},
            {"name": "O", "opt_start_time": "2026-01-01T00:00:00Z", "subject_transforms": [{"src": "o.b", "dest": "p.b"}]}
        ],
        "sealed": false, "deny_delete": false, "deny_purge": false, "allow_rollup_hdrs": true, "compression": "none", "first_seq": 1,
        "subject_transform": {"src": "s.>", "dest": "t.>"}, "republish": {"src": "t.>", "dest": "r.>", "headers_only": true},
        "allow_direct": true, "mirror_direct": false, "discard_new_per_subject": false,
        "consumer_limits": {"inactive_threshold": 60_000_000_000_u64, "max_ack_pending": 100}, "metadata": {"a": "b"}, "allow_msg_ttl": true,
        "subject_delete_marker_ttl": 1_000_000_000, "allow_msg_counter": false, "allow_atomic": false, "allow_msg_schedules": false,
        "persist_mode": "default", "allow_batched": false, "pedantic": false
    })
}

/// A configuration of [`stream`] with other fields.
fn stream_with(other: &Value) -> Value {
    let mut body = stream();
    for (key, value) in other.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn consumer() -> Value {
    json!({
        "stream_name": "T", "action": "create", "pedantic": false,
        "config": {
            "durable_name": "C", "name": "C", "description": "d", "deliver_policy": "by_start_sequence", "opt_start_seq": 1, "opt_start_time": null,
            "ack_policy": "explicit", "ack_wait": 1_000_000_000, "max_deliver": 5, "backoff": [1_000_000_000, 2_000_000_000_u64],
            "filter_subjects": ["t.a", "t.b"], "filter_subject": "", "replay_policy": "instant", "rate_limit_bps": 0, "sample_freq": "50%",
            "max_waiting": 5, "max_ack_pending": 6, "flow_control": false, "headers_only": true, "max_batch": 7, "max_expires": 1_000_000_000,
            "max_bytes": 1000, "deliver_subject": "", "deliver_group": "", "idle_heartbeat": 0, "inactive_threshold": 1_000_000_000,
            "num_replicas": 1, "mem_storage": true, "direct": false, "sourcing": false, "metadata": {"a": "b"},
            "pause_until": "2026-01-01T00:00:00Z", "priority_groups": ["g"], "priority_policy": "overflow", "priority_timeout": 0
        }
    })
}

fn push_consumer() -> Value {
    json!({
        "stream_name": "T", "action": "", "pedantic": false,
        "config": {
            "name": "C", "deliver_policy": "by_start_time", "opt_start_time": "2026-01-01T00:00:00Z", "ack_policy": "none",
            "deliver_subject": "ds", "deliver_group": "g", "rate_limit_bps": 1000, "flow_control": true, "idle_heartbeat": 1_000_000_000,
            "replay_policy": "original"
        }
    })
}

/// A step into a body.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// Every place in a body, itself first.
fn places(body: &Value, here: &[Step], into: &mut Vec<Vec<Step>>) {
    into.push(here.to_vec());
    let mut enter = |step: Step, inside: &Value| places(inside, &[here, &[step]].concat(), into);
    match body {
        Value::Object(fields) => fields.iter().for_each(|(key, inside)| enter(Step::Key(key.clone()), inside)),
        Value::Array(values) => values.iter().enumerate().for_each(|(index, inside)| enter(Step::Index(index), inside)),
        _ => {}
    }
}

fn replaced(body: &Value, place: &[Step], value: &Value) -> Value {
    let mut body = body.clone();
    let mut here = &mut body;
    for step in place {
        here = match step {
            Step::Key(key) => &mut here[key],
            Step::Index(index) => &mut here[index],
        };
    }
    *here = value.clone();
    body
}

/// Fields of an accepted request that stock keeps though they mean nothing: ours shows none.
/// A `deliver_group` of a consumer that is pulled from, and an inactive threshold below zero as a limit.
fn without_effect(config: &mut Value) {
    if config["deliver_subject"].is_null()
        && let Some(config) = config.as_object_mut()
    {
        config.remove("deliver_group");
    }
    if config["consumer_limits"]["inactive_threshold"].as_i64().is_some_and(|threshold| threshold < 0)
        && let Some(limits) = config["consumer_limits"].as_object_mut()
    {
        limits.remove("inactive_threshold");
    }
}

/// What is compared of an answer: the refusal, or the configuration that was taken.
fn told(client: &mut RawNats, operation: &str, body: &str) -> Result<Value> {
    let message = client.request(&format!("$JS.API.{operation}"), body.as_bytes())?;
    let text = String::from_utf8_lossy(&message.payload).into_owned();
    // The answer about a source's consumer has headers.
    let text = text.split_once("\r\n\r\n").map_or(text.as_str(), |(_, body)| body).to_owned();
    let mut answer: Value = serde_json::from_str(&text)?;
    let error = answer["error"].take();
    // Ours bounds how many are under way at a time, and nothing ends them here.
    let is_taken = error["description"].as_str().is_some_and(|text| text.contains("at the same time"));
    if !error.is_null() && !is_taken {
        return Ok(error);
    }
    if operation.starts_with("STREAM.RESTORE") || operation.starts_with("STREAM.SNAPSHOT") {
        return Ok(json!("taken"));
    }
    let mut config = answer["config"].take();
    without_effect(&mut config);
    level(&mut config);
    Ok(json!({ "config": config, "total": answer["total"], "offset": answer["offset"], "purged": answer["purged"] }))
}

/// A refusal's code alone: the texts of Go's decoder are what the golden scripts of `jetstream-api` compare.
fn code_of(mut told: Value) -> Value {
    if told.get("err_code").is_some() {
        told["description"].take();
    }
    told
}

/// The streams that requests are about: `T` with two messages and a consumer, and `O`.
fn begin(both: &mut Both) -> Result<()> {
    both.api("STREAM.CREATE.T", r#"{"name":"T","subjects":["t.*"],"allow_msg_ttl":true,"allow_rollup_hdrs":true}"#)?;
    both.api("CONSUMER.CREATE.T.D", r#"{"stream_name":"T","config":{"durable_name":"D","ack_policy":"explicit"}}"#)?;
    both.ask("t.a", "1")?;
    both.ask("t.b", "2").map(drop)
}

/// Everything as before, once something was taken.
fn begin_again(both: &mut Both, operation: &str, value: &Value) -> Result<()> {
    let all: &[&str] = match operation {
        _ if operation.starts_with("STREAM.CREATE") => &["STREAM.DELETE.S"],
        _ if operation.starts_with("CONSUMER.CREATE") || operation.starts_with("CONSUMER.DURABLE") => {
            &["CONSUMER.DELETE.T.C"]
        }
        // What can't be taken back is among what is switched on.
        _ if operation.starts_with("STREAM.UPDATE") && value == true => &["STREAM.DELETE.T"],
        _ => &[],
    };
    for delete in all {
        for client in [&mut both.ours, &mut both.stock] {
            client.request(&format!("$JS.API.{delete}"), b"")?;
        }
    }
    if all.contains(&"STREAM.DELETE.T") { begin(both) } else { Ok(()) }
}

/// Puts every wrong value in every place of a request.
fn compare(both: &mut Both, operation: &str, body: &Value) -> Result<()> {
    let mut all = Vec::new();
    places(body, &[], &mut all);
    let mut differences = Vec::new();
    for place in &all {
        for value in wrong_values() {
            let request = replaced(body, place, &value).to_string();
            let ours = told(&mut both.ours, operation, &request)?;
            let stock = told(&mut both.stock, operation, &request)?;
            let is_refused = ours.get("err_code").is_some() && stock.get("err_code").is_some();
            if code_of(ours.clone()) != code_of(stock.clone()) {
                differences.push(format!("{operation} {place:?} = {value}\n   ours:  {ours}\n   stock: {stock}"));
            }
            if !is_refused {
                begin_again(both, operation, &value)?;
            }
        }
    }
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

#[test]
fn wrong_types_in_streams() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.O", r#"{"name":"O","subjects":["o.>"]}"#)?;
    begin(&mut both)?;
    compare(&mut both, "STREAM.CREATE.S", &stream())?;
    let mirror = json!({"name": "S", "mirror": {"name": "O", "opt_start_seq": 1, "opt_start_time": null, "filter_subject": "o.a",
        "subject_transforms": [], "consumer": null}, "mirror_direct": true});
    compare(&mut both, "STREAM.CREATE.S", &mirror)?;
    let changed = json!({"name": "T", "subjects": ["t.*"], "sources": [], "subject_transform": null, "republish": {"src": "t.>", "dest": "r.>"}});
    compare(&mut both, "STREAM.UPDATE.T", &stream_with(&changed))?;
    let state = json!({"messages": 1, "bytes": 1, "first_seq": 1, "first_ts": "2026-01-01T00:00:00Z", "last_seq": 1,
        "last_ts": "2026-01-01T00:00:00Z", "num_subjects": 1, "num_deleted": 0, "deleted": [2], "consumer_count": 0});
    let mut config = stream_with(&json!({"sources": []}));
    config.as_object_mut().map(|config| config.remove("pedantic"));
    compare(&mut both, "STREAM.RESTORE.S", &json!({"config": config, "state": state}))
}

#[test]
fn wrong_types_in_other_requests() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    begin(&mut both)?;
    for operation in ["CONSUMER.CREATE.T.C", "CONSUMER.DURABLE.CREATE.T.C"] {
        compare(&mut both, operation, &consumer())?;
    }
    compare(&mut both, "CONSUMER.CREATE.T.C", &push_consumer())?;
    let peer = json!({"placement": {"cluster": "c", "tags": ["a"], "preferred": "x"}});
    let all = [
        ("STREAM.INFO.T", json!({"subjects_filter": "t.>", "deleted_details": true, "offset": 0})),
        ("STREAM.NAMES", json!({"subject": "t.>", "offset": 0})),
        ("STREAM.LIST", json!({"subject": "t.>", "offset": 0})),
        ("STREAM.PURGE.T", json!({"filter": "t.x", "seq": 1})),
        ("STREAM.PURGE.T", json!({"filter": "t.x", "keep": 1})),
        (
            "STREAM.MSG.GET.T",
            json!({"seq": 1, "next_by_subj": "t.a", "start_time": null, "no_hdr": true, "batch": 0, "max_bytes": 0,
            "multi_last": [], "up_to_seq": 0, "up_to_time": null}),
        ),
        ("STREAM.MSG.GET.T", json!({"last_by_subj": "t.a"})),
        ("STREAM.MSG.DELETE.T", json!({"seq": 9, "no_erase": true})),
        ("CONSUMER.NAMES.T", json!({"offset": 0})),
        ("CONSUMER.LIST.T", json!({"offset": 0})),
        ("CONSUMER.PAUSE.T.D", json!({"pause_until": "2026-01-01T00:00:00Z"})),
        ("CONSUMER.RESET.T.D", json!({"seq": 1})),
        ("CONSUMER.UNPIN.T.D", json!({"group": "g"})),
        (
            "STREAM.SNAPSHOT.T",
            json!({"deliver_subject": "snap", "no_consumers": true, "chunk_size": 1024, "window_size": 1024, "jsck": false}),
        ),
        ("STREAM.DELETE.NONE", json!({})),
        ("CONSUMER.INFO.T.D", json!({})),
        ("CONSUMER.DELETE.T.NONE", json!({})),
        ("STREAM.LEADER.STEPDOWN.T", peer.clone()),
        ("CONSUMER.LEADER.STEPDOWN.T.D", peer),
        ("STREAM.PEER.REMOVE.T", json!({"peer": "x"})),
    ];
    for (operation, body) in &all {
        compare(&mut both, operation, body)?;
    }
    Ok(())
}
