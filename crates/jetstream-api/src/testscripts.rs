//! Golden scripts: a request's subject and body in, what becomes of it out.
//!
//! What needs no store is printed as the client gets it. Configurations are printed as a create answer would show them, on an empty stream at
//! time zero; that is what was compared with stock nats-server 2.15.1.

use crate::request::{Kind, Parsed, parse};
use crate::response::{Server, encode, encode_error};
use jetstream::command::{Answer, ConsumerInfo, Request, StreamInfo};
use jetstream::config::{ConsumerConfig, StreamConfig};
use jetstream::identity::{ConsumerId, ConsumerSequence, Sequence, StreamId, Timestamp};
use jetstream::store::StreamState;
use std::error::Error;

#[derive(goldenscript::Command)]
enum Command {
    Api { subject: String, payload: Option<String> },
}

struct Runner;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let Command::Api { subject, payload } = command;
        let mut into = Vec::new();
        match parse(subject.as_bytes(), payload.as_deref().unwrap_or_default().as_bytes()) {
            Parsed::Refused(kind, error) => encode_error(kind, &error, &mut into),
            Parsed::Request(kind, request) => request_text(kind, request, &mut into),
            other => return Ok(format!("{other:?}\n")),
        }
        into.push(b'\n');
        Ok(String::from_utf8(into)?)
    }
}

fn request_text(kind: Kind, request: Request, into: &mut Vec<u8>) {
    let server = Server { domain: None, name: "S2", version: "2.15.1" };
    match request {
        Request::StreamCreate { config } | Request::StreamUpdate { config } => {
            encode(kind, &Answer::Stream(Box::new(empty_stream(*config))), &server, into);
        }
        Request::ConsumerCreate { stream, config, action } => {
            into.extend_from_slice(format!("{action:?} ").as_bytes());
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
        now: Timestamp(0),
    }
}

#[test]
fn scripts() {
    for case in ["stream_create", "stream_requests", "consumer_create", "consumer_requests", "pull_and_direct_get"] {
        goldenscript::run(&mut Runner, format!("src/testscripts/{case}"))
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}
