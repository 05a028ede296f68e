//! How the golden scripts show outcomes and answers.

use std::error::Error;
use std::fmt::Write as _;

use crate::advisory::Advisory;
use crate::batching::BatchAnswer;
use crate::command::{Answer, ConsumerInfo, Outcome, StreamInfo};
use crate::direct_get::{DirectEnd, DirectPiece};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn write_outcome(out: &mut String, outcome: &Outcome) -> Result<()> {
    match outcome {
        Outcome::Done | Outcome::Acknowledged { confirm: false } => {}
        Outcome::Appended { sequence, duplicate: false } => writeln!(out, "stored {}", sequence.0)?,
        Outcome::Appended { sequence, duplicate: true } => writeln!(out, "duplicate of {}", sequence.0)?,
        Outcome::Counted { sequence, total } => writeln!(out, "stored {}, total {total}", sequence.0)?,
        Outcome::Refused(error) => {
            writeln!(out, "refused {} {}: {}", error.code, error.err_code, error.description)?;
        }
        Outcome::Batch { answers, stored } => {
            let answers: Vec<String> = answers.iter().map(batch_answer).collect();
            let nothing = if answers.is_empty() { "silent" } else { "" };
            writeln!(out, "{}{nothing}{}", answers.join("; "), if *stored { " (stored)" } else { "" })?;
        }
        Outcome::Acknowledged { confirm: true } => writeln!(out, "confirmed")?,
        Outcome::Attached { queued } => writeln!(out, "  attached: {queued} queued")?,
        Outcome::Answer(answer) => write_answer(out, answer)?,
        Outcome::Again => writeln!(out, "again")?,
    }
    Ok(())
}

fn batch_answer(answer: &BatchAnswer) -> String {
    match answer {
        BatchAnswer::Staged => "staged".into(),
        BatchAnswer::Flow { sequence, every } => format!("ack {sequence}, every {every}"),
        BatchAnswer::Gap { expected, current } => format!("gap {expected}..{current}"),
        BatchAnswer::Failed { sequence, error } => {
            format!("failed {sequence}: {} {}", error.err_code, error.description)
        }
        BatchAnswer::Committed { sequence, duplicate, batch, count } => {
            let again = if *duplicate { " duplicate" } else { "" };
            format!("committed {batch}: {count} up to {}{again}", sequence.0)
        }
        BatchAnswer::Refused(error) => format!("refused {} {}: {}", error.code, error.err_code, error.description),
    }
}

pub(crate) fn write_answer(out: &mut String, answer: &Answer) -> Result<()> {
    match answer {
        Answer::Error(error) => writeln!(out, "error {} {}: {}", error.code, error.err_code, error.description)?,
        Answer::Stream(info) => write_stream(out, info)?,
        Answer::StreamNames { names, total, .. } => writeln!(out, "{total} streams: {}", names.join(" "))?,
        Answer::Deleted => writeln!(out, "deleted")?,
        Answer::Done => writeln!(out, "done")?,
        Answer::Reset { info, sequence } => {
            write!(out, "reset to {}: ", sequence.0)?;
            write_consumer(out, info)?;
        }
        Answer::Paused { remaining_ns, .. } => writeln!(out, "paused for {} ms", remaining_ns / 1_000_000)?,
        Answer::Purged { count } => writeln!(out, "purged {count}")?,
        Answer::Later { number } => writeln!(out, "answered later: {number}")?,
        Answer::Message(buffer) => {
            for message in buffer.iter() {
                let text = |bytes| String::from_utf8_lossy(bytes).replace("\r\n", "|");
                let headers = text(message.headers);
                let headers = headers.strip_prefix("NATS/1.0|").unwrap_or(&headers).trim_end_matches('|');
                let space = if headers.is_empty() { "" } else { " " };
                let payload = String::from_utf8_lossy(message.payload);
                writeln!(out, "{} {} {payload:?}{space}{headers}", message.sequence.0, text(message.subject))?;
            }
        }
        Answer::Template(info) => {
            writeln!(out, "template {} for {}: {}", info.name, info.max_streams, info.streams.join(" "))?;
        }
        Answer::Direct(piece) => write_piece(out, piece)?,
        Answer::Consumer(info) => write_consumer(out, info)?,
        Answer::ConsumerNames { names, total, .. } => writeln!(out, "{total} consumers: {}", names.join(" "))?,
        Answer::Statistics(statistics) => {
            let (account, queued, dropped) = (statistics.account, statistics.queued, statistics.queue_dropped);
            let memory = if account.memory > 0 { format!(", {} in memory", account.memory) } else { String::new() };
            writeln!(
                out,
                "{} streams, {} consumers, {} bytes{memory}; {queued} queued, {dropped} dropped",
                account.streams, account.consumers, account.storage
            )?;
        }
        other => writeln!(out, "{other:?}")?,
    }
    Ok(())
}

fn write_piece(out: &mut String, piece: &DirectPiece) -> Result<()> {
    let mut last = piece.last;
    for (message, pending) in piece.messages.iter().zip(&piece.pending) {
        let (sequence, subject) = (message.sequence.0, String::from_utf8_lossy(message.subject));
        let payload = short(&String::from_utf8_lossy(message.payload));
        writeln!(out, "{sequence} {subject} {payload:?}, after {}, {pending} to come", last.0)?;
        last = message.sequence;
    }
    match &piece.end {
        DirectEnd::More(_) => writeln!(out, "…")?,
        DirectEnd::Done { pending, last, up_to } => {
            let up_to = up_to.map_or_else(String::new, |up_to| format!(", up to {}", up_to.0));
            writeln!(out, "end after {}, {pending} to come{up_to}", last.0)?;
        }
        DirectEnd::Status(line) => writeln!(out, "{line}")?,
    }
    Ok(())
}

fn write_stream(out: &mut String, info: &StreamInfo) -> Result<()> {
    let state = info.state;
    let created = if info.did_create { "created" } else { "stream" };
    writeln!(
        out,
        "{created} {}: {} messages, {} bytes, {}..{}, {} subjects, {} consumers",
        info.config.name, state.messages, state.bytes, state.first.0, state.last.0, state.subjects, info.consumers
    )?;
    if let Some(subjects) = &info.subjects {
        writeln!(out, "  subjects {subjects:?}")?;
    }
    if let Some(deleted) = &info.deleted_list {
        let deleted: Vec<u64> = deleted.iter().map(|sequence| sequence.0).collect();
        writeln!(out, "  {} deleted {deleted:?}", info.deleted)?;
    }
    Ok(())
}

fn write_consumer(out: &mut String, info: &ConsumerInfo) -> Result<()> {
    writeln!(
        out,
        "consumer {}: delivered {}/{}, floor {}/{}, {} unacknowledged ({} redelivered), {} left, {} waiting",
        info.name,
        info.delivered.0.0,
        info.delivered.1.0,
        info.ack_floor.0.0,
        info.ack_floor.1.0,
        info.ack_pending,
        info.redelivered,
        info.pending,
        info.waiting
    )?;
    if let Some(state) = &info.group {
        let pin = state.pin.as_ref().map_or("nobody", |(pin, _)| pin);
        writeln!(out, "  group {}: {pin}", state.group)?;
    }
    if let Some(identity) = &info.stream_identity {
        writeln!(out, "  of stream {identity}")?;
    }
    Ok(())
}

/// What is told of single messages, groups and pauses; the rest as it is.
pub(crate) fn advisory_text(advisory: &Advisory) -> String {
    match advisory {
        Advisory::Delivery { what, sequence, consumer_sequence, deliveries, .. } => {
            format!("{what:?} {}/{} after {deliveries}", consumer_sequence, sequence.0)
        }
        Advisory::Pinned { group, pin, .. } => format!("pinned {group} {pin}"),
        Advisory::Unpinned { group, reason, .. } => format!("unpinned {group} {reason:?}"),
        Advisory::Paused { is_paused, .. } => format!("paused: {is_paused}"),
        Advisory::Consumer { action, .. } => format!("consumer {action:?}"),
        Advisory::Stream { action, .. } => format!("stream {action:?}"),
        Advisory::BatchAbandoned { batch, reason, .. } => format!("batch {batch} {reason:?}"),
    }
}

/// Long payloads tell nothing.
pub(crate) fn short(text: &str) -> String {
    if text.len() < 150 { text.to_owned() } else { format!("{}… ({} bytes)", &text[..20], text.len()) }
}
