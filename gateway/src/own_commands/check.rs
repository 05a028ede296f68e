//! `store check`: is every message what was written?
//!
//! With no gateway running: the database's own structure, then the checksum of every message. With one: every message is read through it, and counted
//! against what it says that it holds.

use std::io::Write;
use std::path::Path;

use jetstream::store::MessageBuffer;
use serde::Serialize;
use server::status::{Report, StreamReport};

use super::running::Running;
use super::{Place, Verdict, inspect, names, place};

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    store_dir: String,
    /// A gateway runs on it.
    running: bool,
    ok: bool,
    /// What is wrong with the file as a whole, sentences.
    problems: Vec<String>,
    streams: Vec<StreamFindings>,
}

#[derive(Debug, Default, Serialize)]
struct StreamFindings {
    name: String,
    messages: u64,
    bytes: u64,
    first: u64,
    last: u64,
    /// Messages that are not what was written; `None`: it changed too much while it was read.
    damaged: Option<u64>,
}

pub(super) fn run(folder: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let mut findings = match place(folder)? {
        Place::Running(running) => in_running(&running)?,
        Place::File(folder) => in_file(&folder)?,
    };
    findings.store_dir = folder.display().to_string();
    let damaged = findings.streams.iter().any(|stream| stream.damaged.is_some_and(|damaged| damaged > 0));
    findings.ok = findings.problems.is_empty() && !damaged;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        write!(out, "{}", text(&findings))?;
    }
    Ok(if findings.ok { Verdict::Good } else { Verdict::Bad })
}

fn in_file(folder: &Path) -> anyhow::Result<Findings> {
    let inspection = inspect(folder)?;
    let mut findings = Findings { problems: inspection.problems()?, ..Findings::default() };
    let mut messages = MessageBuffer::default();
    for (name, id) in names(&inspection)? {
        let mut stream = StreamFindings { name, damaged: Some(0), ..StreamFindings::default() };
        let mut next = Some(0);
        while let Some(from) = next {
            messages.clear();
            let slice = match inspection.read(id, from, &mut messages) {
                Ok(slice) => slice,
                Err(error) => {
                    findings.problems.push(format!("stream {}: from sequence {from} on: {error}", stream.name));
                    break;
                }
            };
            for message in messages.iter() {
                stream.messages += 1;
                stream.bytes +=
                    jetstream::store::message_size(message.subject.len(), message.headers.len(), message.payload.len());
                stream.last = message.sequence.0;
                stream.first = if stream.first == 0 { stream.last } else { stream.first };
            }
            stream.damaged = stream.damaged.map(|damaged| damaged + slice.damaged);
            next = slice.next;
        }
        findings.streams.push(stream);
    }
    Ok(findings)
}

fn in_running(running: &Running) -> anyhow::Result<Findings> {
    let mut findings = Findings { running: true, ..Findings::default() };
    findings.problems.extend(running.report.status.store_trouble.clone());
    let Some(store) = &running.report.store else {
        findings.problems.push("the store did not answer in time".to_owned());
        return Ok(findings);
    };
    for before in &store.streams {
        let mut read = 0;
        let mut from = before.first.max(1);
        while from <= before.last {
            let (head, _) = running.slice(&before.name, from, true)?;
            if head.next <= from {
                break;
            }
            read += head.messages;
            from = head.next;
        }
        let after = find(&running.report_again()?, &before.name);
        findings.streams.push(StreamFindings {
            name: before.name.clone(),
            messages: read,
            bytes: before.bytes,
            first: before.first,
            last: before.last,
            damaged: after.and_then(|after| lacking(before, &after, read)),
        });
    }
    Ok(findings)
}

fn find(report: &Report, name: &str) -> Option<StreamReport> {
    report.store.as_ref()?.streams.iter().find(|stream| stream.name == name).cloned()
}

/// Messages that should have been read and were not, when nothing but appends happened in between: what was read beyond `before.last` is no matter.
fn lacking(before: &StreamReport, after: &StreamReport, read: u64) -> Option<u64> {
    let added = after.last.checked_sub(before.last)?;
    let only_appends = after.first == before.first && after.messages == before.messages + added;
    only_appends.then(|| before.messages.saturating_sub(read))
}

fn text(findings: &Findings) -> String {
    let how = if findings.running { "read through the running gateway" } else { "read from the file" };
    let mut text = format!("{}, {how}\n", findings.store_dir);
    for stream in &findings.streams {
        let damaged = match stream.damaged {
            Some(0) => "whole".to_owned(),
            Some(damaged) => format!("{damaged} DAMAGED"),
            None => "changed while it was read".to_owned(),
        };
        let StreamFindings { name, messages, bytes, first, last, .. } = stream;
        text.push_str(&format!("  {name}: {messages} messages, {bytes} bytes, {first}..{last}: {damaged}\n"));
    }
    for problem in &findings.problems {
        text.push_str(&format!("  PROBLEM: {problem}\n"));
    }
    let advice = "the next start sets the damaged part aside and keeps what is whole; export what you need first";
    text.push_str(&if findings.ok { "ok\n".to_owned() } else { format!("NOT OK: {advice}\n") });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_appends_between_two_looks_tell_what_is_lacking() {
        let look = |first, last, messages| StreamReport { first, last, messages, ..StreamReport::default() };
        assert_eq!(lacking(&look(1, 10, 9), &look(1, 15, 14), 9), Some(0));
        assert_eq!(lacking(&look(1, 10, 9), &look(1, 15, 14), 7), Some(2));
        assert_eq!(lacking(&look(1, 10, 9), &look(3, 10, 7), 9), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut findings = Findings { store_dir: "/s".into(), ok: true, ..Findings::default() };
        assert_eq!(text(&findings), "/s, read from the file\nok\n");
        findings.streams.push(StreamFindings {
            name: "S".into(),
            messages: 2,
            damaged: Some(1),
            ..StreamFindings::default()
        });
        findings.problems.push("row missing".into());
        findings.ok = false;
        let text = text(&findings);
        assert!(text.contains("S: 2 messages, 0 bytes, 0..0: 1 DAMAGED\n  PROBLEM: row missing\nNOT OK"), "{text}");
    }
}
