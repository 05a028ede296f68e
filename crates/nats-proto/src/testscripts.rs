//! Golden scripts: raw bytes in, operations and refusals out.
//!
//! `client BYTES` and `leaf BYTES` decode as much as they can; `max_payload=` and `max_control_line=` set limits.

use crate::client::{self, ClientOp, Limits, Publish};
use crate::leaf::{self, LeafMessage, LeafOp};
use crate::refusal::ProtocolError;
use std::error::Error;
use std::fmt::Write as _;

#[derive(goldenscript::Command)]
enum Command {
    Client {
        bytes: String,
        #[arg(key, optional)]
        max_payload: Option<usize>,
        #[arg(key, optional)]
        max_control_line: Option<usize>,
        #[arg(key, optional)]
        no_headers: bool,
    },
    Leaf {
        bytes: String,
        #[arg(key, optional)]
        max_payload: Option<usize>,
    },
}

struct Runner;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        Ok(match command {
            Command::Client { bytes, max_payload, max_control_line, no_headers } => {
                let usual = Limits::default();
                let limits = Limits {
                    max_control_line: max_control_line.unwrap_or(usual.max_control_line),
                    max_payload: max_payload.unwrap_or(usual.max_payload),
                    headers: !no_headers,
                };
                decode_all(bytes.as_bytes(), |rest| client_line(rest, &limits))
            }
            Command::Leaf { bytes, max_payload } => {
                let limits = Limits::leaf(max_payload.unwrap_or(1 << 20));
                decode_all(bytes.as_bytes(), |rest| leaf_line(rest, &limits))
            }
        })
    }
}

/// What one operation looks like, and its length; no length: stop.
type Shown = (String, Option<usize>);

fn decode_all(mut rest: &[u8], decode: impl Fn(&[u8]) -> Result<Shown, ProtocolError>) -> String {
    let mut output = String::new();
    while !rest.is_empty() {
        let (line, used) = decode(rest).unwrap_or_else(|error| {
            let mut text = Vec::new();
            error.refusal().encode(&mut text);
            (format!("{error}: {}", text.escape_ascii()), None)
        });
        writeln!(output, "{line}").unwrap();
        let Some(used) = used else { break };
        rest = &rest[used..];
    }
    output
}

fn client_line(bytes: &[u8], limits: &Limits) -> Result<Shown, ProtocolError> {
    Ok(match client::decode(bytes, limits)? {
        client::Decoded::Op(operation, used) => (show_client(operation), Some(used)),
        client::Decoded::Incomplete { need } => (format!("incomplete: has {}, needs {need}", bytes.len()), None),
    })
}

fn leaf_line(bytes: &[u8], limits: &Limits) -> Result<Shown, ProtocolError> {
    Ok(match leaf::decode(bytes, limits)? {
        leaf::Decoded::Op(operation, used) => (show_leaf(operation), Some(used)),
        leaf::Decoded::Incomplete { need } => (format!("incomplete: has {}, needs {need}", bytes.len()), None),
    })
}

fn show(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn show_option(bytes: Option<&[u8]>) -> String {
    bytes.map_or("-".to_owned(), show)
}

fn show_client(operation: ClientOp<'_>) -> String {
    match operation {
        ClientOp::Connect(json) => format!("connect {}", show(json)),
        ClientOp::Err(text) => format!("err {}", show(text)),
        ClientOp::Sub { subject, queue, sid } => {
            format!("sub subject={} queue={} sid={}", show(subject), show_option(queue), show(sid))
        }
        ClientOp::Unsub { sid, max } => format!("unsub sid={} max={max:?}", show(sid)),
        ClientOp::Pub(Publish { subject, reply, header_len, message, tail }) => format!(
            "pub subject={} reply={} header_len={header_len} message={} tail={}",
            show(subject),
            show_option(reply),
            show(message),
            show_option(tail)
        ),
        ClientOp::Info | ClientOp::Ping | ClientOp::Pong | ClientOp::Ok => format!("{operation:?}").to_lowercase(),
    }
}

fn show_leaf(operation: LeafOp<'_>) -> String {
    match operation {
        LeafOp::Info(json) => format!("info {}", show(json)),
        LeafOp::Connect(json) => format!("connect {}", show(json)),
        LeafOp::Err(text) => format!("err {}", show(text)),
        LeafOp::Subscribe { subject, queue } => {
            let queue = queue.map_or("-".to_owned(), |(queue, weight)| format!("{} weight={weight}", show(queue)));
            format!("subscribe subject={} queue={queue}", show(subject))
        }
        LeafOp::Unsubscribe { subject, queue } => {
            format!("unsubscribe subject={} queue={}", show(subject), show_option(queue))
        }
        LeafOp::Message(LeafMessage { subject, reply, queues, header_len, message, tail }) => format!(
            "message subject={} reply={} queues=[{}] header_len={header_len} message={} tail={}",
            show(subject),
            show_option(reply),
            queues.map(show).collect::<Vec<_>>().join(", "),
            show(message),
            show_option(tail)
        ),
        LeafOp::Ping | LeafOp::Pong | LeafOp::Ok => format!("{operation:?}").to_lowercase(),
    }
}

#[test]
fn scripts() {
    for case in ["client_operations", "client_refusals", "client_pieces", "leaf_operations", "leaf_refusals"] {
        goldenscript::run(&mut Runner, format!("src/testscripts/{case}"))
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}
