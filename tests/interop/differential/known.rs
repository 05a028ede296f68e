//! Everything that is not compared, each with its reason. What is not in here is a fault.
//!
//! Stories do without some requests, for which the two have different answers that matter to nobody:
//! - ack subjects with words where numbers belong: stock serves a `+NXT` on them, this version hears none of them;
//! - an offset beyond the last subject of a stream: stock says how many there are, this version that there are none;
//! - the same key twice in different case: another text of refusal;
//! - a negative `batch` of a direct get together with a subject that is none;
//! - deliver subjects that another stream captures: a message that is delivered is stored there by this version, and by stock is not;
//! - batches of direct gets from a start time on: what stock says is pending includes what lies before it;
//! - a limit of bytes in pulls from consumers that get only headers, where it decides (stock counts the payloads that it does not send): seed 1060 has one;
//! - pulls from an overflow group that don't wait, where as much as may be outstanding is: stock leaves them waiting once they got something;
//! - a stream of interest retention that sources, without consumers: stock does not show how far it has come;
//! - the last message id in fast batches: one that is wrong in a committing message never ends the batch in stock, and the stream's others are slow then;
//! - a consumer that is changed after its stream was restored under its own name: stock now and then answers with what it was;
//! - two mistakes in a consumer one of which only its stream makes one (a deliver subject within it): which is said first.

use serde_json::Value;

/// What this version refuses with "not supported by this server" (a placement), or has and stock has not (a template's streams).
const LEFT_OUT: [&str; 2] = ["placement", "template_owner"];

/// `pedantic` asks stock to refuse what it would else adjust; this version adjusts it, and says so in the answer.
const ADJUSTED: &str = "pedantic";

/// Is it something that stories do without?
pub(super) fn is_left_out(feature: &str) -> bool {
    LEFT_OUT.contains(&feature) || feature == ADJUSTED
}

/// Makes equal what is known to differ, in an answer of either server.
pub(super) fn level(value: &mut Value) {
    match value {
        Value::Object(object) => {
            // What is refused before it comes to the store is not counted here; the account's limits here are the store's own.
            if object.contains_key("api") && object.contains_key("limits") {
                object.remove("api");
                object.remove("limits");
            }
            // When an origin was last heard of.
            if object.contains_key("lag") {
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

/// Configurations of consumers: a name that the server chose stands in the configuration too, and the
/// number of replicas, which can only be the stream's, is not kept.
fn level_config(value: &mut Value) {
    let Value::Object(config) = value else { return };
    if !config.contains_key("deliver_policy") {
        return;
    }
    config.remove("num_replicas");
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
    // No time at all is not shown here.
    if config.get("pause_until").and_then(Value::as_str) == Some("0001-01-01T00:00:00Z") {
        config.remove("pause_until");
    }
    if config
        .get("name")
        .and_then(Value::as_str)
        .is_some_and(|name| !config.contains_key("durable_name") && name.len() >= 8)
    {
        config.remove("name");
    }
}

/// The floor of a consumer moves here past what its filters leave out and what was given up, at once; in stock with the next acknowledgement. What was
/// given up is not counted as redelivered any more. Before the first delivery the positions follow here what leaves the stream.
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
