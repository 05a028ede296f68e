//! Scripts of packets.
//!
//! `packet VERSION FIRST BODY` decodes a packet whose remaining length is filled in, `raw VERSION BYTES` bytes as they
//! are. VERSION is `new` before CONNECT, `3` or `5`; bytes are hex, `<text>` is a string with its length, `'text'` one
//! without. `from=server` decodes as a bridge does, `max=N` limits the packet. What is decoded is encoded again.

use std::error::Error;

use goldenscript::{Command, Context, Runner};

use crate::error::{DecodeError, Phase};
use crate::packet::{Packet, decode_from, frame_length, peek_version};
use crate::protocol::{Sender, Version};
use crate::wire::put_packet;

struct PacketRunner;

impl Runner for PacketRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let sender = if args.take_key("from") == Some("server") { Sender::Server } else { Sender::Client };
        let max = args.take_key("max").map_or(Ok(1 << 20), str::parse)?;
        let version = match args.next_pos() {
            Some("new") => None,
            Some("3") => Some(Version::V311),
            Some("5") => Some(Version::V5),
            other => return Err(format!("no version: {other:?}").into()),
        };
        let bytes = match command.name.as_str() {
            "packet" => {
                let first = parse_bytes(args.next_pos().ok_or("no first byte")?)?;
                let body = parse_bytes(args.next_pos().unwrap_or_default())?;
                let mut bytes = Vec::new();
                put_packet(&mut bytes, first[0], |out| out.extend_from_slice(&body));
                bytes
            }
            "raw" => parse_bytes(args.next_pos().unwrap_or_default())?,
            other => return Err(format!("no command: {other}").into()),
        };
        args.reject_next()?;
        Ok(describe(&bytes, version, sender, max))
    }
}

fn describe(bytes: &[u8], version: Option<Version>, sender: Sender, max: usize) -> String {
    match decode_from(sender, bytes, version, max) {
        Err(error) => describe_refusal(error, bytes, version),
        Ok(None) => format!("incomplete, size {:?}\n", frame_length(bytes, max).unwrap()),
        Ok(Some((packet, size))) => {
            let version = match packet {
                Packet::Connect(connect) => connect.version,
                _ => version.unwrap(),
            };
            let mut again = Vec::new();
            packet.encode(version, &mut again);
            let again = if again == bytes[..size] { "the same".to_owned() } else { hex(&again) };
            format!("{packet:?}\nsize {size} of {}, encoded: {again}\n", bytes.len())
        }
    }
}

fn describe_refusal(error: DecodeError, bytes: &[u8], version: Option<Version>) -> String {
    let phase = match version {
        Some(version) => Phase::Connected(version),
        None => Phase::Connecting(peek_version(bytes)),
    };
    let mut answer = Vec::new();
    error.encode_answer(phase, 16, &mut answer);
    let answer = if answer.is_empty() { "nothing".to_owned() } else { hex(&answer) };
    format!("{error}\n{:#04x}, answered: {answer}\n", error.reason_code().byte())
}

fn parse_bytes(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    for token in text.split_whitespace() {
        if let Some(text) = token.strip_prefix('<').and_then(|token| token.strip_suffix('>')) {
            bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        } else if let Some(text) = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\'')) {
            bytes.extend_from_slice(text.as_bytes());
        } else {
            for index in (0..token.len()).step_by(2) {
                bytes.push(u8::from_str_radix(token.get(index..index + 2).ok_or("half a byte")?, 16)?);
            }
        }
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn scripts() {
    super::run_scripts("packet", || PacketRunner);
}
