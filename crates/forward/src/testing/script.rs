//! Golden scripts: each row of the table in `testing.rs` is a file whose first comment says why.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{Command, Context, Runner};

use super::edge::{Disk, Edge, Setup};
use super::hub::{Frame, Hub};
use crate::{Batch, Create};
use subject::Filter;

struct Script {
    hub: Hub,
    edge: Edge,
    image: Disk,
    late: Vec<Frame>,
    appended: u64,
    quiet: bool,
    box_id: u64,
}

impl Script {
    fn new() -> Script {
        Script {
            hub: Hub::new("2.15.1", Some("hub")),
            edge: Edge::new(Setup { edge: "PUMP".into(), ..Setup::default() }, 0),
            image: Disk::default(),
            late: Vec::new(),
            appended: 0,
            quiet: false,
            box_id: 1,
        }
    }

    fn set_hub(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        while let Some((key, value)) = args.next_key() {
            let hub = &mut self.hub;
            match key {
                "version" => hub.version = value.into(),
                "domain" => hub.domain = (value != "none").then(|| value.into()),
                "max_payload" => hub.max_payload = value.parse()?,
                "deny_api" => hub.api_denied = value == "1",
                "answers_as" => hub.answers_as = (value != "none").then(|| value.into()),
                "fail" => {
                    hub.fail = value.split_once('/').map(|(code, err)| (code.parse().unwrap(), err.parse().unwrap()));
                }
                "stream" => {
                    if value == "none" {
                        hub.stream = None;
                    } else {
                        hub.create(value);
                    }
                }
                _ => {
                    let stream = hub.stream.as_mut().ok_or("no stream")?;
                    match key {
                        "atomic" => stream.allow_atomic = value == "1",
                        "batched" => stream.allow_batched = value == "1",
                        "sealed" => stream.sealed = value == "1",
                        "retention" => stream.retention = value.into(),
                        "max_size" => stream.max_size = value.parse().ok(),
                        "per_subject" => stream.max_per_subject = value.parse().ok(),
                        "max_messages" => stream.max_messages = value.parse().ok(),
                        other => return Err(format!("unknown {other}").into()),
                    }
                }
            }
        }
        let hub = &self.hub;
        self.edge.interest(hub);
        Ok(())
    }

    fn append(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let size: usize = args.take_key("size").unwrap_or("0").parse()?;
        let subject = args.take_key("subject").unwrap_or("s").to_owned();
        let padding: usize = args.take_key("header_size").unwrap_or("0").parse()?;
        let header = args.take_key("header").map(|line| format!("NATS/1.0\r\n{line}{}\r\n\r\n", "x".repeat(padding)));
        let header = header.unwrap_or_default();
        let count: u64 = args.next_pos().unwrap_or("1").parse()?;
        for _ in 0..count {
            self.appended += 1;
            let mut body = format!("m{}", self.appended);
            while body.len() < size {
                body.push('.');
            }
            self.edge.append(&subject, header.as_bytes(), &body);
        }
        Ok(())
    }

    fn status(&self) -> String {
        let Some(forward) = &self.edge.forward else { return "not running".into() };
        let status = forward.status();
        let mut out = format!(
            "{:?} confirmed={} S={} backlog={} in_doubt={} parked={} releasable={} way={:?}",
            status.state,
            status.confirmed,
            status.hub_sequence,
            status.backlog,
            status.in_doubt,
            status.parked,
            forward.releasable().0,
            status.way
        );
        if let Some(reason) = status.reason {
            let _ = write!(out, "\nreason: {reason}");
        }
        for flag in status.at_least_once {
            let _ = write!(out, "\n{}", flag.reason());
        }
        for remark in status.remarks {
            let _ = write!(out, "\nremark: {remark}");
        }
        out
    }

    /// The account: everything appended is at the hub, held here, or parked; nothing twice; in order.
    fn account(&self) -> String {
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let number = |body: &str| body.trim_end_matches('.').strip_prefix('m').and_then(|n| n.parse::<u64>().ok());
        let mut in_order = true;
        let mut before = 0;
        for n in self.hub.history.iter().filter_map(|body| number(body)) {
            let times = seen.entry(n).or_default();
            *times += 1;
            if *times == 1 {
                in_order &= n > before;
                before = n;
            }
        }
        let missing: Vec<u64> = (1..=self.appended).filter(|n| !seen.contains_key(n)).collect();
        let twice: Vec<u64> = seen.iter().filter(|(_, times)| **times > 1).map(|(n, _)| *n).collect();
        let order = if in_order { "in order" } else { "OUT OF ORDER" };
        format!("stored={} missing={missing:?} twice={twice:?} {order}", self.hub.history.len())
    }

    fn step(&mut self, command: &Command) -> Result<Option<String>, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut number = |default: u64| args.next_pos().map_or(Ok(default), str::parse::<u64>);
        match command.name.as_str() {
            "up" => self.edge.link_up(&self.hub),
            "cut" => self.edge.cut(),
            "to-hub" => (0..number(1)?).for_each(|_| {
                while self.edge.step_store() {}
                self.edge.step_up(&mut self.hub);
            }),
            "to-edge" => (0..number(1)?).for_each(|_| {
                self.edge.step_down();
            }),
            "store" => (0..number(1)?).for_each(|_| {
                self.edge.step_store();
            }),
            "settle" => self.edge.settle(&mut self.hub),
            "run" => self.edge.run(&mut self.hub, number(0)?),
            "quiet-run" => {
                self.edge.run(&mut self.hub, number(0)?);
                self.quiet = true;
            }
            "crash" => self.edge.crash(),
            "start" => self.edge.start(self.box_id),
            "box" => self.box_id = number(1)?,
            "clock" => self.edge.now = number(0)?,
            "reflash" => self.edge.disk = Disk::default(),
            "image-save" => self.image = self.edge.disk.clone(),
            "image-restore" => self.edge.disk = self.image.clone(),
            "evict" => {
                let up_to = number(0)?;
                let gone = self.edge.disk.messages.split_off(&(up_to + 1));
                let removed = std::mem::replace(&mut self.edge.disk.messages, gone).len() as u64;
                let now = self.edge.now;
                if let Some(forward) = &mut self.edge.forward {
                    let at = jetstream::identity::Sequence;
                    forward.handle_removed(now, at(1), at(up_to), removed);
                }
            }
            "adopt" => {
                let now = self.edge.now;
                self.edge.forward.as_mut().ok_or("not running")?.handle_adopt(now);
                self.edge.drain();
            }
            "hold" | "release" => {
                let now = self.edge.now;
                self.edge.forward.as_mut().ok_or("not running")?.handle_hold(now, command.name == "hold");
                self.edge.drain();
            }
            "hub-restart" => self.hub.restart(),
            "hub-lose" => self.hub.lose_tail(number(1)?),
            "hub-purge" => {
                let up_to = number(u64::MAX)?;
                self.hub.stream.as_mut().ok_or("no stream")?.messages.retain(|at, _| *at > up_to);
            }
            "hub-write" => {
                let subject = args.next_pos().unwrap_or("e.p.other").to_owned();
                let payload = b"foreign".to_vec();
                self.hub.store(&Frame { subject, reply: String::new(), headers: Vec::new(), payload });
            }
            "cut-late" => {
                self.late = self.edge.up.iter().cloned().collect();
                self.edge.cut();
            }
            "late" => {
                // The last frames of a dead link reach the hub now; nobody hears the answer.
                for frame in std::mem::take(&mut self.late) {
                    self.hub.take(&frame);
                }
            }
            "hub-clone" => {
                // A message of another box that was made from our image.
                let headers = b"NATS/1.0\r\nTributary-Edge: PUMP\r\nTributary-Incarnation: 00000000000beef0\r\nTributary-Stream: 16\r\nTributary-Sequence: 9\r\n\r\n";
                let (subject, payload) = ("e.p.s".to_owned(), b"clone".to_vec());
                self.hub.store(&Frame { subject, reply: String::new(), headers: headers.to_vec(), payload });
            }
            "releasable" => {
                let forward = self.edge.forward.as_ref().ok_or("not running")?;
                return Ok(Some(format!("releasable={}", forward.releasable().0)));
            }
            "status" => return Ok(Some(self.status())),
            "account" => return Ok(Some(self.account())),
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(None)
    }
}

/// Runs of appended messages of one batch are shown as one line.
fn compact(log: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in log {
        let is_same_kind = |word: &str| line.starts_with(word) && out.last().is_some_and(|last| last.starts_with(word));
        if is_same_kind("→ append") || is_same_kind("→ atomic") && !line.contains("fence") || is_same_kind("← ack")
        {
            let last = out.last_mut().expect("there is one");
            let head = last.split(" … ").next().unwrap_or("").to_owned();
            *last = format!("{head} … {}", line.trim_start_matches("→ ").trim_start_matches("← "));
        } else {
            out.push(line.clone());
        }
    }
    out
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        self.edge.log.clear();
        self.quiet = false;
        match command.name.as_str() {
            "hub" => self.set_hub(command)?,
            "append" => self.append(command)?,
            "setup" => {
                let mut args = command.consume_args();
                let setup = &mut self.edge.setup;
                setup.create = args.take_key("create").map(|_| Create {
                    max_bytes: args.take_key("max_bytes").and_then(|most| most.parse().ok()),
                    ..Create::with_subjects(vec![Filter::parse("e.>").unwrap()])
                });
                if let Some(sizes) = args.take_key("batch") {
                    let (messages, bytes) = sizes.split_once('/').ok_or("batch=messages/bytes")?;
                    setup.batch = Some(Batch { messages: messages.parse()?, bytes: bytes.parse()? });
                }
                setup.rate = args.take_key("rate").map(str::parse).transpose()?;
                setup.hold_ms = args.take_key("hold").map(str::parse).transpose()?;
                if let Some(edge) = args.take_key("edge") {
                    setup.edge = edge.into();
                }
                args.reject_next()?;
            }
            _ => {
                if let Some(text) = self.step(command)? {
                    return Ok(text);
                }
            }
        }
        let lines = compact(&self.edge.log);
        Ok(if self.quiet {
            format!("({} lines) {}", lines.len(), lines.last().cloned().unwrap_or_default())
        } else {
            lines.join("\n")
        })
    }
}

fn check(case: &str) {
    let path = format!("{}/src/testscripts/{case}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Script::new(), path).unwrap();
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

cases![
    another_stream_answers,
    api_denied,
    batch_sizes,
    atomic,
    clock_jump,
    create,
    cut_after_the_ack,
    cut_after_the_hub_stores,
    cut_before_the_hub_stores,
    entry_in_doubt_commits_late,
    evicted_before_sent,
    fast_ingest,
    gap_record_first,
    headers_of_a_sensor,
    hub_limited,
    hub_lost_its_tail,
    hub_not_ready,
    hub_purged,
    hub_restart,
    hub_sealed,
    hub_stream_deleted,
    hub_stream_recreated,
    kill_of_the_edge,
    late_bytes_of_a_dead_link,
    low_rate,
    no_interest,
    per_subject_limited,
    permission_withdrawn,
    reflash,
    refused_header,
    refusal_in_a_batch,
    restored_image,
    second_box,
    second_writer,
    second_writer_all_the_time,
    single_and_old_hub,
    too_large_for_the_hub,
    work_queue
];
