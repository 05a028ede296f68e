//! What is done to both servers, one step after the other. A step is complete in itself, so that steps can be left out of a failing story.

use std::fmt;

/// One thing that a client does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A publish with a reply subject, and what must have come there before the next step.
    Ask { subject: String, headers: String, body: String, expects: Expects },
    /// A publish that nobody answers.
    Tell { subject: String, headers: String, body: String },
    /// Answers one of the messages that were delivered with an ack subject, counted from the first; with a reply subject, or without.
    Acknowledge { which: usize, body: String, asks: bool },
    /// Subscribes to a deliver subject.
    Listen { subject: &'static str },
    /// Gives that subscription up.
    Leave { subject: &'static str },
    /// Lets time pass.
    Wait { millis: u64 },
    /// A publish into a fast batch; what follows `_INBOX.f.` in its reply subject says where in which batch.
    Fast { subject: String, headers: String, body: String, reply: String },
    /// A request whose answer tells of a moment, and is not compared.
    Quiet { subject: String, body: String },
    /// Lets at least so much time pass, and then as much as it takes both to tell the same of a stream, and go on to.
    Settle { stream: &'static str, millis: u64 },
    /// Backs a stream up and restores it with these subjects; under its own name when it has been deleted.
    Copy { from: &'static str, to: &'static str, subjects: String, consumers: bool },
    /// Lets time pass until a heartbeat must have come where one is to come.
    Heartbeats,
}

/// What comes to a reply subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    /// One answer.
    One,
    /// As many messages, or a status line before them.
    Messages(usize),
    /// Messages up to a status line, or one message that stands alone.
    Batch,
    /// Perhaps something, perhaps later.
    Open,
}

impl Expects {
    /// Is that all, of these messages?
    pub(super) fn are_met(self, entries: &[String]) -> bool {
        let has_status = entries.iter().any(|entry| entry.contains(" NATS/1.0 ") && !entry.contains(" NATS/1.0 100"));
        match self {
            Expects::One => !entries.is_empty(),
            Expects::Messages(count) => entries.len() >= count || has_status,
            Expects::Batch => has_status || entries.first().is_some_and(|entry| !entry.contains("Nats-Num-Pending")),
            Expects::Open => true,
        }
    }
}

impl Step {
    pub(super) fn ask(subject: impl Into<String>, body: impl Into<String>) -> Step {
        Step::Ask { subject: subject.into(), headers: String::new(), body: body.into(), expects: Expects::One }
    }

    /// Is it a request that changes nothing, so that it can be asked again when an answer may have come too early?
    pub(super) fn only_reads(&self) -> bool {
        const READS: [&str; 5] = [".INFO", ".LIST", ".NAMES", ".MSG.GET.", ".DIRECT.GET."];
        matches!(self, Step::Ask { subject, .. } if READS.iter().any(|read| subject.contains(read)))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Ask { subject, headers, body, expects } => {
                write!(out, "ask {subject} {}{body} ({expects:?})", headers.escape_debug())
            }
            Step::Tell { subject, headers, body } => write!(out, "tell {subject} {}{body}", headers.escape_debug()),
            Step::Acknowledge { which, body, asks } => {
                write!(out, "ack of delivery {which}: {body:?}{}", if *asks { " and asks" } else { "" })
            }
            Step::Listen { subject } => write!(out, "listen on {subject}"),
            Step::Leave { subject } => write!(out, "leave {subject}"),
            Step::Wait { millis } => write!(out, "wait {millis} ms"),
            Step::Fast { subject, headers, body, reply } => {
                write!(out, "fast {subject} {reply} {}{body}", headers.escape_debug())
            }
            Step::Quiet { subject, body } => write!(out, "ask {subject} {body}, whatever the answer"),
            Step::Settle { stream, millis } => write!(out, "wait {millis} ms, and until {stream} is settled"),
            Step::Copy { from, to, subjects, consumers } => {
                let with = if *consumers { "with" } else { "without" };
                write!(out, "back {from} up {with} consumers and restore {to} with {subjects}")
            }
            Step::Heartbeats => write!(out, "wait for heartbeats"),
        }
    }
}
