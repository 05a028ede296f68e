//! Everything that is not compared, each with its reason. What is not in here is a fault.
//!
//! Stories do without some requests, for which the two have different answers that matter to nobody:
//! - the same key twice in different case: another text of refusal;
//! - a negative `batch` of a direct get together with a subject that is none: stock says 204, this version 404;
//! - pulls that don't wait, where as much as may be outstanding is: here they end, in stock they wait for their end, or for ever without one;
//! - when what a source or mirror has taken leaves its origin: within a second or so in both. Stories look again, but for backups;
//! - a stream of interest retention that sources, without consumers: stock does not show how far it has come;
//! - the last message id in fast batches: one that is wrong in a committing message never ends the batch in stock, and the stream's others are slow then;
//! - a consumer that is changed after its stream was restored under its own name: stock now and then answers with what it was;
//! - messages delivered to a subject that a stream captures too: stored there under it, in stock under their own subject;
//! - a purge of exactly what a consumer's only filter takes: stock moves the consumer to the next message for it, this version to the stream's first;
//! - a stream that gets interest retention while a mirror takes from it: here what the mirror has goes, in stock it stays;
//! - the consumer of a source that was deleted: stock keeps it for some seconds, and counts it in the account;
//! - the lag of a source or mirror that begins behind its origin's end: stock sometimes counts what comes before that;
//! - 1970-01-01T00:00:00Z as the end of a pause, which is shown as year 1.

use serde_json::Value;

/// What this version has and stock has not (a template's streams).
const LEFT_OUT: [&str; 1] = ["template_owner"];

/// Is it something that stories do without?
pub(super) fn is_left_out(feature: &str) -> bool {
    LEFT_OUT.contains(&feature)
}

/// Makes equal what is known to differ, in an answer of either server.
pub(super) fn level(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // Sources and mirrors ask the API too, and how often they do so in vain depends on moments. `like_stock_details` compares what is counted.
            if let Some(Value::Object(api)) = object.get_mut("api") {
                api.remove("total");
                api.remove("errors");
            }
            // When an origin was last heard of.
            if object.contains_key("lag") {
                // Why nothing can be taken from it, which stock keeps to itself.
                object.remove("error");
                let is_active = object.get("active").and_then(Value::as_i64).is_some_and(|active| active >= 0);
                object.insert("active".to_owned(), Value::from(is_active));
            }
            level_config(value);
            level_positions(value);
            level_state(value);
            let Value::Object(object) = value else { return };
            object.values_mut().for_each(level);
        }
        Value::Array(values) => values.iter_mut().for_each(level),
        _ => {}
    }
}

/// Configurations of consumers.
fn level_config(value: &mut Value) {
    let Value::Object(config) = value else { return };
    if !config.contains_key("deliver_policy") {
        return;
    }
    // A consumer that becomes durable keeps the end of one that is not; stock's disk, and so its backups, know nothing of that.
    if config.contains_key("durable_name") && config.get("inactive_threshold") == Some(&Value::from(5_000_000_000_u64))
    {
        config.remove("inactive_threshold");
    }
    // Where a mirror or a stream that sources is delivered to is drawn by lot.
    if let Some(Value::String(subject)) = config.get_mut("deliver_subject")
        && subject.starts_with("$JS.")
    {
        subject.truncate("$JS.M.".len());
    }
}

/// Before the first delivery the positions follow what leaves the stream in stock, or don't, as requests for messages came in between. The floor of a
/// consumer moves here past what its filters leave out and what was given up, at once; in stock with the next acknowledgement. What was
/// given up is not counted as redelivered any more.
fn level_positions(value: &mut Value) {
    let Value::Object(consumer) = value else { return };
    if consumer.get("delivered").is_some_and(|delivered| delivered["consumer_seq"] == 0) {
        consumer.remove("delivered");
        consumer.remove("ack_floor");
    }
    // Stock takes what left the stream for acknowledged just then.
    if let Some(Value::Object(floor)) = consumer.get_mut("ack_floor") {
        floor.remove("last_active");
        // Of nothing acknowledged stock tells the position of what left the stream.
        if floor.get("stream_seq") == Some(&Value::from(0)) {
            floor.insert("consumer_seq".to_owned(), Value::from(0));
        }
    }
    let Some(config) = consumer.get("config") else { return };
    let skips = config.get("filter_subject").is_some() || config.get("filter_subjects").is_some();
    let gives_up = config["max_deliver"].as_i64().is_some_and(|most| most > 0);
    if gives_up {
        consumer.remove("num_redelivered");
    }
    if skips || gives_up {
        consumer.remove("ack_floor");
    }
}

/// An empty stream on disk that was just made says in stock that its sequence 0 is deleted, and whether it was purged shows in its first sequence.
fn level_state(value: &mut Value) {
    let Some(Value::Object(state)) = value.get_mut("state") else { return };
    if state.get("last_seq") == Some(&Value::from(0)) {
        state.remove("first_seq");
        state.remove("deleted");
        state.remove("num_deleted");
    }
}
