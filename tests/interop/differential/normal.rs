//! Answers and deliveries as they are compared: without times, and with a word for each name that a server chose itself.

use harness::raw::RawMessage;
use serde_json::Value;

use super::known;

/// Keys whose values are moments: only whether there is one is compared.
const MOMENTS: [&str; 10] = [
    "created",
    "ts",
    "time",
    "last_ts",
    "first_ts",
    "last_active",
    "pause_remaining",
    "timestamp",
    "expires",
    "pinned_ts",
];
/// Keys that name the server, or count what only it has seen.
const OF_THE_SERVER: [&str; 4] = ["cluster", "server_id", "_nats.ver", "id"];
/// What the names of consumers begin with that a mirror or a source has made.
const PULLERS: [&str; 2] = ["JS_MIRROR_", "JS_SRC_"];
/// Where the answers to fast batches go; their subjects say to which message.
pub(super) const FAST: &str = "_INBOX.f.";
/// Go's zero time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A message as one line: subject, ack subject, headers, body.
pub(super) fn entry(message: &RawMessage, names: &[(String, String)]) -> String {
    let words: Vec<&str> = message.line.split(' ').collect();
    let sizes = if words[0] == "HMSG" { 2 } else { 1 };
    let header = if sizes == 2 { words[words.len() - 2].parse().unwrap_or(0) } else { 0 };
    let (header, body) = message.payload.split_at(usize::min(header, message.payload.len()));
    let has_reply = words.len() == 4 + sizes && !words[3].is_empty();
    // Answers come to an inbox of their own.
    let subject = match words.get(1) {
        Some(subject) if subject.starts_with(FAST) => subject,
        Some(subject) if subject.starts_with("_INBOX.") => "_",
        _ => words[1],
    };
    let reply = if has_reply { ack(words[3]) } else { "-".to_owned() };
    let body = self::body(named(String::from_utf8_lossy(body).into_owned(), names));
    named(format!("{subject} {reply} {} {body}", self::headers(header)), names)
}

/// An ack subject without the time in it.
pub(super) fn ack(subject: &str) -> String {
    let long = |token: &str| token.len() > 15 && token.bytes().all(|byte| byte.is_ascii_digit());
    let tokens = subject.split('.').map(|token| if long(token) { "T" } else { token });
    let text = tokens.collect::<Vec<_>>().join(".");
    // Its last token is random.
    if text.starts_with("$JS.FC.") {
        text.rsplit_once('.').map_or(text.clone(), |(text, _)| text.to_owned())
    } else {
        text
    }
}

/// Names that a server chose, replaced.
pub(super) fn named(text: String, names: &[(String, String)]) -> String {
    names.iter().fold(text, |text, (name, word)| text.replace(name, word))
}

fn headers(block: &[u8]) -> String {
    let text = String::from_utf8_lossy(block);
    let lines = text.trim_end().split("\r\n");
    let masked = lines.map(|line| match line.split_once(": ") {
        Some(("Nats-Time-Stamp", _)) => "Nats-Time-Stamp: T".to_owned(),
        // It ends with the identity of the stream.
        Some(("Nats-Stream-Source", source)) => {
            format!("Nats-Stream-Source: {}", ack(source.rsplit_once(' ').map_or(source, |(source, _)| source)))
        }
        Some(("Nats-Subject", subject)) => format!("Nats-Subject: {}", ack(subject)),
        _ => line.to_owned(),
    });
    masked.collect::<Vec<_>>().join("|")
}

fn body(text: String) -> String {
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => {
            let mut value = Value::Object(object);
            level(&mut value);
            known::level(&mut value);
            value.to_string()
        }
        _ => text,
    }
}

fn level(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in OF_THE_SERVER {
                object.remove(key);
            }
            for (key, value) in object.iter_mut() {
                if MOMENTS.contains(&key.as_str()) && value.as_str() != Some(NEVER) && !value.is_object() {
                    *value = Value::from("T");
                } else {
                    level(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(level),
        Value::String(text) => {
            for prefix in PULLERS {
                if text.starts_with(prefix) {
                    *text = prefix.to_owned();
                }
            }
        }
        _ => {}
    }
    // In the order of names that the server chose.
    if let Some(Value::Array(consumers)) = value.get_mut("consumers") {
        consumers.sort_by_key(|consumer| consumer["name"].as_str().map_or_else(|| consumer.to_string(), str::to_owned));
    }
}
