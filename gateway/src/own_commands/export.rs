//! `store export`: every message of a stream as a line of JSON, up to the newest one at the time of the command.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use jetstream::store::MessageBuffer;

use super::running::Running;
use super::{Place, Verdict, inspect, line, names, place};

pub(super) fn run(
    folder: &Path,
    stream: &str,
    from: u64,
    output: Option<&Path>,
    standard: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let place = place(folder)?;
    let Some(path) = output else {
        let mut out = BufWriter::new(standard);
        let verdict = write(&place, stream, from, &mut out)?;
        out.flush()?;
        return Ok(verdict);
    };
    let file = File::options().write(true).create_new(true).open(path);
    let mut out = BufWriter::new(file.with_context(|| format!("{} can't be made", path.display()))?);
    let verdict =
        write(&place, stream, from, &mut out).with_context(|| format!("{} is not complete", path.display()))?;
    out.into_inner()?.sync_all().with_context(|| format!("{} is not complete", path.display()))?;
    Ok(verdict)
}

fn write(place: &Place, stream: &str, from: u64, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    match place {
        Place::Running(running) => from_running(running, stream, from, out),
        Place::File(folder) => from_file(folder, stream, from, out),
    }
}

fn from_running(running: &Running, stream: &str, from: u64, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let streams = running.report.store.as_ref().context("the store did not answer in time")?;
    let found = streams.streams.iter().find(|known| known.name == stream);
    let last = found.with_context(|| format!("there is no stream {stream:?}"))?.last;
    let mut from = from.max(1);
    while from <= last {
        let (head, lines) = running.slice(stream, from, false)?;
        if head.next <= from {
            break;
        }
        out.write_all(lines.as_bytes())?;
        from = head.next;
    }
    Ok(Verdict::Good)
}

fn from_file(folder: &Path, stream: &str, from: u64, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let inspection = inspect(folder)?;
    let (_, id) = names(&inspection)?
        .into_iter()
        .find(|(name, _)| name == stream)
        .with_context(|| format!("there is no stream {stream:?}"))?;
    let (mut next, mut damaged, mut text) = (Some(from.max(1)), 0, String::new());
    let mut messages = MessageBuffer::default();
    while let Some(from) = next {
        messages.clear();
        text.clear();
        let slice = inspection.read(id, from, &mut messages)?;
        messages.iter().for_each(|message| line::write(&mut text, &message));
        out.write_all(text.as_bytes())?;
        damaged += slice.damaged;
        next = slice.next;
    }
    if damaged > 0 {
        // The lines go to standard output, perhaps into a program.
        eprintln!("nats-server: {damaged} messages are damaged and not among the lines");
        return Ok(Verdict::Bad);
    }
    Ok(Verdict::Good)
}
