//! One forward with what it needs around it: its link, its stream, its rows in the store.

use std::collections::VecDeque;

use broker::ConnectionId;
use forward::{Action, Forward, Hub, Incarnation, IncarnationId, Incarnations, Local, Record, SendBuffer, Timings};
use jetstream::command::{Command, Forwarded, Span, Ticket};
use jetstream::forwarded::ledger::{Cause, Ledger};
use jetstream::identity::{Sequence, StreamId};
use jetstream::store::{StreamState, message_size, record_space};
use server::status::{ForwardStatus, LedgerStatus};
use server::{Core, CoreHandle};

use super::rejected::Refused;
use super::ticket::{Asked, ticket};
use crate::config;

/// Bytes that may wait at the link before more is sent: about what a slow one drains in a second.
const MAX_PENDING: usize = 256 * 1024;
/// Most samples of "this sequence was stored at this age".
const MAX_SAMPLES: usize = 1024;
/// They are that far apart, milliseconds.
const SAMPLE_MS: u64 = 1000;

/// A refused message that found no room is kept after so long, milliseconds.
const KEEP_AGAIN_MS: u64 = 2_000;

/// Where it stands.
pub(super) enum Phase {
    /// There is no such local stream.
    NoStream,
    /// The row of its incarnation is on its way to the disk: nothing may be sent before.
    Beginning(Incarnation),
    Running(Box<Forward>),
    /// It can't run; a sentence.
    Failed(String),
}

/// A refused message that is not kept yet.
struct Waiting {
    /// An [`Action::Park`].
    action: Action,
    /// When it is tried again: the store had no room.
    again_ms: Option<u64>,
}

/// See the module.
pub(super) struct Hosted {
    pub(super) config: config::Forward,
    edge: String,
    pub(super) number: u32,
    /// Its answers come to `<inbox>.>`.
    pub(super) inbox: String,
    pub(super) stream: Option<StreamId>,
    incarnations: Option<Incarnations>,
    pub(super) phase: Phase,
    /// Answers to what an earlier instance asked are not for this one.
    pub(super) epoch: u32,
    pub(super) local: Local,
    pub(super) link: Option<(ConnectionId, Hub)>,
    /// The link holds enough.
    pub(super) blocked: bool,
    /// A refused message on its way into the stream `REJECTED`.
    waiting: Option<Waiting>,
    /// What the store was last told.
    told: Option<Forwarded>,
    /// A refused message that was kept, while the record of the position behind it is on its way to the disk.
    kept: Option<Sequence>,
    /// What is counted of the stream, and its last sequence then.
    ledger: Option<(Ledger, Sequence)>,
    /// Since the link is up the store has written the gap records that it had.
    is_written: bool,
    /// Messages and bytes seen of the stream, for what a backlog weighs.
    seen: (u64, u64),
    ages: VecDeque<(u64, u64)>,
    buffer: SendBuffer,
}

impl Hosted {
    pub(super) fn new(config: config::Forward, edge: String, number: u32, inbox: String) -> Hosted {
        Hosted {
            config,
            edge,
            number,
            inbox,
            stream: None,
            incarnations: None,
            phase: Phase::NoStream,
            epoch: 0,
            local: Local::default(),
            link: None,
            blocked: false,
            waiting: None,
            told: None,
            kept: None,
            ledger: None,
            is_written: false,
            seen: (0, 0),
            ages: VecDeque::new(),
            buffer: SendBuffer::default(),
        }
    }

    /// At the start: the rows are there, the newest belongs to this opening of the store.
    pub(super) fn start(
        &mut self,
        stream: StreamId,
        state: &StreamState,
        incarnations: Incarnations,
        record: Option<&[u8]>,
        now_ms: u64,
    ) {
        self.adopt_stream(stream, state);
        self.incarnations = Some(incarnations);
        self.phase = match record.map(Record::decode).transpose() {
            Ok(record) => self.make(record, now_ms),
            Err(error) => Phase::Failed(format!("the position at the hub can't be read: {error}")),
        };
    }

    fn adopt_stream(&mut self, stream: StreamId, state: &StreamState) {
        self.stream = Some(stream);
        self.epoch += 1;
        self.waiting = None;
        self.told = None;
        self.kept = None;
        self.local = Local { first: state.first.0, last: state.last.0 };
        self.seen = (state.messages, state.bytes);
    }

    fn make(&self, record: Option<Record>, now_ms: u64) -> Phase {
        let made = self.forward_config().and_then(|config| {
            let incarnations = self.incarnations.clone().ok_or("no incarnation of the store is known")?;
            Forward::new(config, incarnations, record, self.local, now_ms).map_err(|error| error.to_string())
        });
        match made {
            Ok(forward) => Phase::Running(Box::new(forward)),
            Err(reason) => Phase::Failed(reason),
        }
    }

    fn forward_config(&self) -> Result<forward::Config, String> {
        let config = &self.config;
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(forward::Config {
            edge: self.edge.clone(),
            instance: self.stream.unwrap_or_default(),
            to: config.to.clone(),
            transform: config.destination.transform().map_err(|error| error.to_string())?,
            create: config.create.clone(),
            rate: config.rate,
            batch: config.batch,
            inbox: self.inbox.clone(),
            timings: Timings {
                hold_ms: millis(config.hold),
                batch_ms: millis(config.batch_time).max(1),
                ..Timings::default()
            },
            seed: getrandom::u64().map_err(|error| error.to_string())?,
        })
    }

    /// The stream appeared while we run: its first incarnation begins, and the row is written before anything is sent.
    pub(super) fn begin(&mut self, core: &CoreHandle, stream: StreamId, state: &StreamState) {
        self.adopt_stream(stream, state);
        self.incarnations = None;
        self.ages.clear();
        if stream.is_volatile() {
            let name = &self.config.stream;
            self.phase = Phase::Failed(format!(
                "the local stream {name} is in memory, where a restart loses what is not forwarded yet: make it anew with storage \"file\""
            ));
            return;
        }
        let Ok(id) = getrandom::u64() else {
            self.phase = Phase::Failed("the system has no random numbers".to_owned());
            return;
        };
        let row = Incarnation { id: IncarnationId(id), first: state.last.next() };
        let ticket = ticket(Asked::Incarnation, self.number, self.epoch, id);
        let old_position = self.record_key();
        core.with(|core| {
            // The position was one of another instance.
            core.broker.command(|batch| {
                let key = batch.add(&old_position);
                Command::Record { ticket: nobodys(), key, value: Span::default() }
            });
            core.broker.command(|batch| {
                let key = batch.add(&Incarnation::key(stream, 0));
                Command::Record { ticket, key, value: batch.add(&row.encode()) }
            });
        });
        self.phase = Phase::Beginning(row);
    }

    /// The row is on the disk.
    pub(super) fn begun(&mut self, now_ms: u64, id: u64) {
        match &self.phase {
            Phase::Beginning(row) if row.id.0 == id => self.incarnations = Incarnations::new(vec![*row]).ok(),
            _ => return,
        }
        self.phase = self.make(None, now_ms);
        if let (Phase::Running(forward), Some((_, hub))) = (&mut self.phase, &self.link) {
            forward.handle_link_up(now_ms, hub.clone());
        }
    }

    /// The store was opened anew, and whoever opened it began an incarnation.
    pub(super) fn reopened(&mut self, state: &StreamState, incarnations: Incarnations, now_ms: u64) {
        let Some(stream) = self.stream else { return };
        self.adopt_stream(stream, state);
        let local = self.local;
        self.incarnations = Some(incarnations.clone());
        match &mut self.phase {
            Phase::Running(forward) => forward.handle_reopened(now_ms, incarnations, local),
            // The row that it waited for may be lost; the one that was written by the opening is as good.
            Phase::Beginning(_) => self.phase = self.make(None, now_ms),
            Phase::NoStream | Phase::Failed(_) => {}
        }
    }

    /// The stream is gone.
    pub(super) fn stream_down(&mut self) {
        self.stream = None;
        self.epoch += 1;
        self.waiting = None;
        self.phase = Phase::NoStream;
    }

    /// It, while it runs.
    pub(super) fn running(&mut self) -> Option<&mut Forward> {
        match &mut self.phase {
            Phase::Running(forward) => Some(forward),
            _ => None,
        }
    }

    /// A message was stored in the local stream.
    pub(super) fn appended(&mut self, now_ms: u64, sequence: u64, bytes: u64) {
        self.local.last = self.local.last.max(sequence);
        self.seen = (self.seen.0 + 1, self.seen.1 + bytes);
        if self.ages.back().is_none_or(|(_, age)| now_ms >= age + SAMPLE_MS) {
            self.ages.push_back((sequence, now_ms));
            if self.ages.len() > MAX_SAMPLES {
                // Half as fine.
                let mut odd = false;
                self.ages.retain(|_| {
                    odd = !odd;
                    odd
                });
            }
        }
    }

    /// The age of a message that was read.
    pub(super) fn note_age(&mut self, sequence: u64, age_ms: u64) {
        if self.ages.front().is_none_or(|(first, _)| sequence < *first) {
            self.ages.push_front((sequence, age_ms));
        }
    }

    /// After every input: sends what may be sent, and does what it asks for.
    pub(super) fn drain(&mut self, core: &CoreHandle, now_ms: u64, rejected: Option<StreamId>) {
        let Phase::Running(forward) = &mut self.phase else { return };
        let place = Place {
            name: &self.config.stream,
            stream: self.stream.unwrap_or_default(),
            number: self.number,
            epoch: self.epoch,
            link: self.link.as_ref().map(|(id, _)| *id),
            rejected,
        };
        loop {
            let pending = place.link.map(|id| core.with(|core| core.out.pending_bytes(id)));
            self.blocked = pending.is_some_and(|pending| pending >= MAX_PENDING);
            self.buffer.clear();
            let sent = if self.blocked { 0 } else { forward.poll_send(now_ms, &mut self.buffer) };
            let actions: Vec<Action> = std::iter::from_fn(|| forward.poll_action()).collect();
            let largest = forward.largest_local().filter(|_| self.config.reject_oversize);
            let news = Forwarded {
                stream: place.stream,
                releasable: forward.releasable(),
                confirmed: forward.confirmed().max(self.kept.unwrap_or_default()),
                rejected: None,
                is_linked: place.link.is_some(),
                largest,
            };
            let is_news = self.told.replace(news) != Some(news);
            if sent == 0 && actions.is_empty() && !is_news {
                return;
            }
            core.with(|core| {
                if let Some(id) = place.link {
                    for message in self.buffer.iter() {
                        let outgoing = (message.subject, message.reply, message.headers, message.payload);
                        let (subject, reply, headers, payload) = outgoing;
                        core.broker.leaf_send(id, subject, reply, headers, payload, &mut core.out);
                    }
                }
                for action in actions {
                    if let Some(action) = place.perform(core, action) {
                        self.waiting = Some(Waiting { action, again_ms: None });
                    }
                }
                if is_news {
                    core.broker.command(|_| Command::Forwarded(news));
                }
            });
        }
    }

    /// The refused message that waits is set aside, now that it can be: the stream `REJECTED` is there, or it is time to try again.
    pub(super) fn keep_waiting(&mut self, core: &CoreHandle, rejected: StreamId) {
        let place = Place {
            name: &self.config.stream,
            stream: self.stream.unwrap_or_default(),
            number: self.number,
            epoch: self.epoch,
            link: None,
            rejected: Some(rejected),
        };
        if let Some(waiting) = &mut self.waiting {
            waiting.again_ms = None;
            core.with(|core| place.keep(core, &waiting.action));
        }
    }

    /// The refused message is kept, or can't ever be: the position moves behind it.
    pub(super) fn kept(&mut self, core: &CoreHandle, kept: u64) {
        let Some(Waiting { action, .. }) = &self.waiting else { return };
        let Action::Park { sequence, subject, headers, payload, record, .. } = action else { return };
        if sequence.0 != kept {
            return;
        }
        let ticket = ticket(Asked::Park, self.number, self.epoch, kept);
        let mut news = self.told.unwrap_or_default();
        (news.stream, news.confirmed) = (self.stream.unwrap_or_default(), *sequence);
        let size = message_size(subject.len(), headers.len(), payload.len());
        core.with(|core| {
            write_record(core, ticket, &self.config.stream, record);
            // In one commit with the position behind it.
            core.broker.command(|_| Command::Forwarded(Forwarded { rejected: Some((*sequence, size)), ..news }));
        });
        self.told = Some(news);
        self.kept = Some(*sequence);
        self.waiting = None;
    }

    /// The record behind the refused message is on the disk.
    pub(super) fn parked(&mut self, now_ms: u64, sequence: u64) {
        self.kept = None;
        if let Some(forward) = self.running() {
            forward.handle_parked(now_ms, Sequence(sequence));
        }
    }

    /// What the store counts of the stream.
    pub(super) fn counted(&mut self, ledger: Ledger, last: Sequence, is_written: bool) {
        self.ledger = Some((ledger, last));
        self.is_written |= is_written && self.link.is_some();
    }

    /// Another link, or none: gap records go first, so the store is to write them now.
    pub(super) fn take_link(&mut self, link: Option<(ConnectionId, Hub)>) {
        self.link = link;
        self.is_written = false;
        self.told = None;
    }

    /// It has gap records to send, and as far as is known it can.
    pub(super) fn is_busy(&self) -> bool {
        matches!(&self.phase, Phase::Running(forward) if forward.is_busy())
    }

    /// Its messages wait for gap records: until the store has written them, and then until those are at the hub. Does that change anything?
    pub(super) fn wait_for_gaps(&mut self, now_ms: u64, are_on_the_way: bool) -> bool {
        let hold = self.link.is_some() && (are_on_the_way || !self.is_written);
        self.running().is_some_and(|forward| forward.handle_hold(now_ms, hold))
    }

    /// There was no room for the refused message.
    pub(super) fn not_kept(&mut self, now_ms: u64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.again_ms = Some(now_ms + KEEP_AGAIN_MS);
        }
    }

    /// When [`Hosted::keep_waiting`] is due.
    pub(super) fn keep_again_at(&self) -> Option<u64> {
        self.waiting.as_ref().and_then(|waiting| waiting.again_ms)
    }

    fn record_key(&self) -> Vec<u8> {
        record_key(&self.config.stream)
    }

    /// What `status` shows. `link_trouble`: why there is no link.
    pub(super) fn status(&mut self, now_ms: u64, micros: u64, link_trouble: Option<&str>) -> ForwardStatus {
        let mut shown = ForwardStatus {
            stream: self.config.stream.clone(),
            to: self.config.to.clone(),
            last: self.local.last,
            ..ForwardStatus::default()
        };
        shown.ledger = self.ledger.as_ref().map(|(ledger, last)| ledger_status(ledger, *last, self.local));
        let forward = match &self.phase {
            Phase::Running(forward) => forward,
            other => {
                let (state, stopped, reason) = match other {
                    Phase::Failed(reason) => ("stopped", true, reason.clone()),
                    Phase::Beginning(_) => ("starting", false, "a new incarnation is being recorded".to_owned()),
                    _ => ("stopped", true, format!("there is no local stream {}", self.config.stream)),
                };
                (shown.state, shown.stopped, shown.reason) = (state.to_owned(), stopped, Some(reason));
                return shown;
            }
        };
        let status = forward.status();
        shown.state = state_name(status.state).to_owned();
        shown.stopped = status.state == forward::State::Stopped;
        shown.reason = match (&status.state, link_trouble) {
            (forward::State::LinkDown, Some(trouble)) => Some(format!("no link to the hub: {trouble}")),
            (forward::State::Parking, _) if self.waiting.as_ref().is_some_and(|waiting| waiting.again_ms.is_some()) => {
                Some("a message that the hub refuses waits for room in the local stream REJECTED".to_owned())
            }
            _ => status.reason,
        };
        shown.retry_micros = status.retry_at_ms.map(|at| micros.saturating_add(at.saturating_sub(now_ms) * 1000));
        shown.confirmed = status.confirmed;
        shown.hub_sequence = status.hub_sequence;
        shown.backlog_messages = status.backlog;
        let weight = self.seen.1.checked_div(self.seen.0).unwrap_or(0);
        shown.backlog_bytes = status.backlog.saturating_mul(weight);
        let waits = status.confirmed + 1;
        while self.ages.len() > 1 && self.ages[1].0 <= waits {
            self.ages.pop_front();
        }
        let oldest = self.ages.front().filter(|_| status.backlog > 0);
        shown.oldest_age_ms = oldest.map(|(_, age)| now_ms.saturating_sub(*age));
        shown.in_doubt = status.in_doubt;
        shown.sent = status.sent;
        shown.delivered = status.delivered;
        shown.parked = status.parked;
        shown.rejected = status.rejected;
        shown.dropped = status.dropped;
        shown.at_least_once = status.at_least_once.iter().map(|why| why.reason().to_owned()).collect();
        shown.remarks = status.remarks;
        shown
    }
}

/// What an action needs to know.
struct Place<'a> {
    name: &'a str,
    stream: StreamId,
    number: u32,
    epoch: u32,
    link: Option<ConnectionId>,
    rejected: Option<StreamId>,
}

impl Place<'_> {
    /// Does it; gives it back when more has to be done after what was begun is committed.
    fn perform(&self, core: &mut Core, action: Action) -> Option<Action> {
        let ticket = |asked, value| ticket(asked, self.number, self.epoch, value);
        match action {
            Action::Request { subject, reply, payload } => {
                if let Some(id) = self.link {
                    let (subject, reply) = (subject.as_bytes(), reply.as_bytes());
                    core.broker.leaf_send(id, subject, reply, b"", &payload, &mut core.out);
                }
            }
            Action::Read { from, max_bytes } => core.broker.command(|_| Command::Read {
                ticket: ticket(Asked::Read, from.0),
                stream: self.stream,
                from,
                max_bytes,
            }),
            Action::Persist { value } => write_record(core, ticket(Asked::Persist, 0), self.name, &value),
            Action::Park { sequence, ref reason, .. } => {
                let (stream, sequence) = (self.name, sequence.0);
                tracing::warn!(stream, sequence, "the hub refuses a message for good: {reason}");
                self.keep(core, &action);
                return Some(action);
            }
        }
        None
    }

    /// Appends a refused message to `REJECTED`, if that is there. The position follows when it is committed.
    fn keep(&self, core: &mut Core, action: &Action) {
        let (Some(rejected), Action::Park { sequence, subject, headers, payload, reason, .. }) =
            (self.rejected, action)
        else {
            return;
        };
        let ticket = ticket(Asked::Park, self.number, self.epoch, sequence.0);
        let (stream, instance, sequence) = (self.name, self.stream, *sequence);
        let refused = Refused { stream, instance, sequence, subject, headers, payload, reason };
        core.broker.command(|batch| refused.append(rejected, ticket, batch));
    }
}

/// Writes the position of a stream's forward.
fn write_record(core: &mut Core, ticket: Ticket, stream: &str, value: &[u8]) {
    core.broker.command(|batch| {
        let key = batch.add(&record_key(stream));
        Command::Record { ticket, key, value: batch.add(value) }
    });
}

/// What was counted when the stream's end was at `last`, with what was accepted since.
fn ledger_status(ledger: &Ledger, last: Sequence, local: Local) -> LedgerStatus {
    let last = last.max(Sequence(local.last));
    let dropped = Cause::ALL.into_iter().map(|cause| (cause.name().to_owned(), ledger.dropped(cause)));
    LedgerStatus {
        accepted: ledger.accepted(last),
        delivered: ledger.delivered(),
        held: ledger.held(last),
        dropped: dropped.collect(),
    }
}

/// The outcome is nobody's.
fn nobodys() -> Ticket {
    ticket(Asked::Persist, u32::MAX, 0, 0)
}

/// Where the position of a stream's forward is kept.
pub(crate) fn record_key(stream: &str) -> Vec<u8> {
    [&[record_space::FORWARD], stream.as_bytes()].concat()
}

fn state_name(state: forward::State) -> &'static str {
    match state {
        forward::State::LinkDown => "link down",
        forward::State::Asking => "asking",
        forward::State::Idle => "idle",
        forward::State::Sending => "sending",
        forward::State::Parking => "parking",
        forward::State::Stopped => "stopped",
    }
}
