//! The hub's answers, as far as a forward reads them: PubAcks, flow acks, stream info, one message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Longest answer looked at, bytes; a message comes with its body, base64-encoded.
const MAX_ANSWER: usize = 96 * 1024 * 1024;

/// `error` of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) err_code: u16,
    pub(crate) description: String,
}

/// Answer to a publish: a PubAck, or in fast ingest one of its flow messages (with a `type`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PublishAnswer {
    pub(crate) error: Option<Failure>,
    pub(crate) stream: String,
    pub(crate) domain: String,
    pub(crate) seq: u64,
    pub(crate) duplicate: bool,
    pub(crate) batch: String,
    pub(crate) count: Option<u64>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) msgs: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InfoAnswer {
    error: Option<Failure>,
    created: String,
    config: InfoConfig,
    state: InfoState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InfoConfig {
    subjects: Vec<String>,
    retention: String,
    sealed: bool,
    allow_atomic: bool,
    allow_batched: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct InfoState {
    first_seq: u64,
    last_seq: u64,
}

/// What a forward wants to know of the hub's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HubStream {
    pub(crate) created: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) is_limits: bool,
    pub(crate) sealed: bool,
    pub(crate) allow_atomic: bool,
    pub(crate) allow_batched: bool,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A message of the hub's stream: its sequence and header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HubMessage {
    pub(crate) sequence: u64,
    pub(crate) headers: Vec<u8>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MessageAnswer {
    error: Option<Failure>,
    message: Option<MessageBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MessageBody {
    seq: u64,
    hdrs: String,
}

/// Why an answer gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The hub says why.
    Failure(Failure),
    /// It can't be read.
    Unreadable,
}

impl PublishAnswer {
    pub(crate) fn decode(payload: &[u8]) -> Option<PublishAnswer> {
        if payload.len() > MAX_ANSWER { None } else { serde_json::from_slice(payload).ok() }
    }
}

fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, NoAnswer> {
    if payload.len() > MAX_ANSWER {
        return Err(NoAnswer::Unreadable);
    }
    serde_json::from_slice(payload).map_err(|_| NoAnswer::Unreadable)
}

/// Answer to `STREAM.INFO` and `STREAM.CREATE`.
pub(crate) fn stream(payload: &[u8]) -> Result<HubStream, NoAnswer> {
    let answer: InfoAnswer = decode(payload)?;
    if let Some(failure) = answer.error {
        return Err(NoAnswer::Failure(failure));
    }
    if answer.created.is_empty() {
        return Err(NoAnswer::Unreadable);
    }
    let mut created = answer.created;
    let mut end = created.len().min(crate::record::MAX_CREATED);
    while !created.is_char_boundary(end) {
        end -= 1;
    }
    created.truncate(end);
    Ok(HubStream {
        created,
        subjects: answer.config.subjects,
        is_limits: answer.config.retention.is_empty() || answer.config.retention == "limits",
        sealed: answer.config.sealed,
        allow_atomic: answer.config.allow_atomic,
        allow_batched: answer.config.allow_batched,
        first: answer.state.first_seq,
        last: answer.state.last_seq,
    })
}

/// The `config` of an answer to `STREAM.INFO` and `STREAM.CREATE`, all of it; null when there is none.
pub(crate) fn stream_config(payload: &[u8]) -> serde_json::Value {
    let answer: Result<serde_json::Value, _> = decode(payload);
    answer.map(|mut answer| answer["config"].take()).unwrap_or_default()
}

/// Answer to `STREAM.MSG.GET`; `None`: there is no such message (404).
pub(crate) fn message(payload: &[u8]) -> Result<Option<HubMessage>, NoAnswer> {
    let answer: MessageAnswer = decode(payload)?;
    match (answer.error, answer.message) {
        (Some(failure), _) if failure.code == 404 && failure.err_code == 10037 => Ok(None),
        (Some(failure), _) => Err(NoAnswer::Failure(failure)),
        (None, Some(body)) => {
            let headers = STANDARD.decode(body.hdrs).map_err(|_| NoAnswer::Unreadable)?;
            Ok(Some(HubMessage { sequence: body.seq, headers }))
        }
        (None, None) => Err(NoAnswer::Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_stock_hub() {
        let ack = PublishAnswer::decode(br#"{"stream":"F","seq":1,"duplicate": true}"#).unwrap();
        assert!(ack.duplicate && ack.error.is_none() && ack.seq == 1);
        let ack = PublishAnswer::decode(br#"{"type":"gap","last_seq":2,"seq":3}"#).unwrap();
        assert_eq!((ack.kind.as_str(), ack.seq), ("gap", 3));
        let none = br#"{"type":"x","error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert_eq!(message(none), Ok(None));
        let gone = br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0}"#;
        assert!(matches!(stream(gone), Err(NoAnswer::Failure(failure)) if failure.err_code == 10059));
        assert_eq!(stream(b"{}"), Err(NoAnswer::Unreadable));
        let got = message(br#"{"message":{"subject":"e.b","seq":19,"hdrs":"TkFUUy8xLjANCg0K","data":"eA=="}}"#);
        assert_eq!(got.unwrap().unwrap(), HubMessage { sequence: 19, headers: b"NATS/1.0\r\n\r\n".to_vec() });
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_or_refused(text in "[{}\\[\\]\":,a-z0-9]{0,80}") {
            let _ = (PublishAnswer::decode(text.as_bytes()), stream(text.as_bytes()), message(text.as_bytes()));
        }
    }
}
