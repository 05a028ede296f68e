//! What `pedantic` refuses and what is taken as it is: the same at the gateway and at the stock server.

use anyhow::Result;
use serde_json::{Value, json};

use crate::like_stock::Both;

fn stream(fields: &Value) -> String {
    let mut body = json!({"name": "S", "subjects": ["s.>"]});
    fields.as_object().into_iter().flatten().for_each(|(key, value)| body[key] = value.clone());
    body.to_string()
}

#[test]
fn pedantic_streams_and_placement() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.O", r#"{"name":"O","subjects":["o"],"allow_direct":true}"#)?;
    let second = 1_000_000_000_u64;
    let cases = [
        json!({"pedantic": true}),
        json!({"pedantic": true, "max_msgs": -2}),
        json!({"pedantic": true, "max_msgs": 0, "max_bytes": -1}),
        json!({"pedantic": true, "max_msgs_per_subject": -2, "max_consumers": -2}),
        json!({"pedantic": true, "max_bytes": -2}),
        json!({"pedantic": true, "max_msg_size": -2}),
        json!({"pedantic": true, "max_consumers": -2}),
        json!({"pedantic": true, "max_age": second}),
        json!({"pedantic": true, "max_age": second, "duplicate_window": second}),
        json!({"pedantic": true, "max_age": 120 * second}),
        json!({"pedantic": true, "subject_delete_marker_ttl": second}),
        json!({"pedantic": true, "subject_delete_marker_ttl": second, "allow_msg_ttl": true}),
        json!({"pedantic": true, "subject_delete_marker_ttl": second, "allow_msg_ttl": true, "allow_rollup_hdrs": true}),
        json!({"pedantic": true, "allow_msg_schedules": true}),
        json!({"pedantic": true, "republish": {"dest": "x.>"}}),
        json!({"pedantic": true, "republish": {"src": ">", "dest": ">"}, "subject_transform": {"src": "s.>", "dest": "t.>"}}),
        json!({"pedantic": true, "subjects": [], "mirror": {"name": "O"}}),
        json!({"pedantic": true, "subjects": [], "mirror": {"name": "O"}, "mirror_direct": true}),
        json!({"placement": {}}),
        json!({"placement": {"cluster": "c", "tags": ["a", "b"]}}),
        json!({"placement": {"tags": []}}),
        json!({"placement": {"preferred": "x"}}),
        json!({"placement": {"bogus": 1}}),
        json!({"num_replicas": 3}),
        json!({"allow_msg_counter": true, "subject_delete_marker_ttl": second}),
        json!({"allow_msg_counter": true, "allow_msg_ttl": true}),
    ];
    for case in &cases {
        both.api("STREAM.CREATE.S", &stream(case))?;
        both.api_in_a_moment("STREAM.INFO.S", "")?;
        both.api("STREAM.DELETE.S", "")?;
    }
    both.api("STREAM.CREATE.S", &stream(&json!({})))?;
    for case in &cases[..17] {
        both.api("STREAM.UPDATE.S", &stream(case))?;
    }
    Ok(())
}

#[test]
fn pedantic_consumers() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", &stream(&json!({})))?;
    let (second, flow) = (1_000_000_000_u64, json!({"ack_policy": "flow_control", "deliver_subject": "d"}));
    let mut cases = vec![
        json!({}),
        json!({"max_deliver": -1, "max_ack_pending": -1}),
        json!({"max_deliver": -2, "max_waiting": -2}),
        json!({"backoff": [second]}),
        json!({"backoff": [second], "ack_wait": second}),
        json!({"ack_wait": -1}),
        json!({"max_ack_pending": 3}),
        json!({"max_ack_pending": 3, "inactive_threshold": second}),
        json!({"ack_policy": "none", "max_deliver": -2}),
        json!({"max_deliver": -2, "num_replicas": 5}),
        json!({"num_replicas": 1}),
        json!({"num_replicas": -1}),
        flow,
    ];
    for (field, value) in
        [("flow_control", json!(true)), ("idle_heartbeat", json!(2 * second)), ("idle_heartbeat", json!(second))]
    {
        let mut case = cases[cases.len() - 1].clone();
        case[field] = value;
        cases.push(case);
    }
    let numbers = ["max_deliver", "max_waiting", "max_ack_pending", "max_batch", "max_expires", "max_bytes"];
    let others = ["idle_heartbeat", "inactive_threshold"];
    cases.extend(numbers.iter().chain(&others).map(|field| json!({ *field: -2 })));
    for (stream, pedantic) in [("S", true), ("S", false)] {
        for case in &cases {
            let mut config = json!({"name": "C", "ack_policy": "explicit"});
            case.as_object().into_iter().flatten().for_each(|(key, value)| config[key] = value.clone());
            let body = json!({"stream_name": stream, "config": config, "pedantic": pedantic});
            both.api(&format!("CONSUMER.CREATE.{stream}.C"), &body.to_string())?;
            both.api(&format!("CONSUMER.DELETE.{stream}.C"), "")?;
        }
    }
    Ok(())
}
