//! The JSON of the JetStream API, and nothing else: requests to [`jetstream::command`]s, answers to bytes.
//!
//! Texts, numbers and the order of keys are those of nats-server 2.15, because clients compare the numbers and some of them the texts. Only here
//! is this JSON known: the types of `jetstream` are not serializable. No state, no clock: what needs the streams is judged in `apply`.
//!
//! Requests are strict as stock's are: an unknown field is refused by name. Fields that stock knows and this version does not build are accepted
//! with their default value and refused with a text that names them otherwise: silence would promise what is not kept.

mod advisory;
mod batch_answer;
mod consumer_config;
mod demands;
mod direct_get;
mod json;
mod moment;
mod origin;
mod publish_ack;
mod pull;
mod request;
mod response;
mod snapshot;
mod stream_check;
mod stream_config;
mod templates;
mod wire;

pub use advisory::{
    AUDIT_SUBJECT, Audit, Client, Place, Stamp, Transfer, advisory_subject, encode_advisory, encode_audit,
    encode_transfer, transfer_subject,
};
pub use batch_answer::batch_answer;
pub use demands::{Demands, parse_demanding};
pub use direct_get::{DirectRequest, direct_end, direct_message};
pub use moment::parse_time;
pub use origin::{OriginInfo, OriginInfos, decode_origin_answer, encode_origin_request};
pub use publish_ack::{counter_ack, publish_ack, publish_refused};
pub use request::{Kind, Parsed, parse};
pub use response::{Server, encode, encode_error};
pub use snapshot::{
    ArchiveState, SnapshotRequest, archive_consumer, archive_state, read_archive_consumer, read_archive_state,
    read_older_consumer, read_older_stream, restore_begins,
};

pub use jetstream::api_level::API_LEVEL;

#[cfg(test)]
mod testscripts;
