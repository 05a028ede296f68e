//! The state machine of a forward.
//!
//! ```text
//!        link up              all known            a message, interest, rate
//!  Down ─────────► Asking ──────────────► Ready ◄──────────────────────────► Single │ Atomic │ FastIngest
//!   ▲                ▲ ▲                    │  PubAck of what was expected         │
//!   │ link down      │ │                    │ refused for good                      │
//!   └── (any)        │ │                    ▼        parked                         │
//!                    │ │                 Parking ─────────► Ready                   │
//!                    │ └── refused fence, gap, duplicate, 10208 ────────────────────┤
//!                    └── timer ─ Stopped{reason, until} ◄── no answer, unknown code ┘
//! ```
//!
//! The first message after `Asking` is always a plain one, which the fence holds for. Nothing is sent in `Asking`, `Parking` and `Stopped`.

use std::collections::VecDeque;

use jetstream::identity::Sequence;
use jetstream::store::MessageBuffer;
use subject::Filter;

use crate::answer::{HubStream, PublishAnswer};
use crate::asking::Step;
use crate::backlog::Backlog;
use crate::buffer::SendBuffer;
use crate::config::Config;
use crate::headers::{self, MAX_RESERVE, Stamp};
use crate::identity::{self, IdentityError, Incarnations};
use crate::pacing::{Pause, Rate, Window};
use crate::record::{Pair, Record};
use crate::sender::InFlight;
use crate::sender::atomic::Atomic;
use crate::sender::fast_ingest::FastIngest;
use crate::sender::single::Single;
use crate::way::{Version, Way};

/// Bytes of a read.
const READ_BYTES: u32 = 256 * 1024;
/// Most messages sent beyond the durable position: what a restart may have in doubt.
const MAX_UNRECORDED: u64 = 4_096;
/// Refused fences in a row after which a second writer is believed in.
const MAX_FENCE_REFUSALS: u32 = 8;
/// Cuts in a row right after the first message of a session that stop the forward for a while.
const MAX_CUTS: u32 = 3;
/// Questions without a PubAck between them after which it waits a little.
const MAX_FUTILE: u32 = 20;
/// Remarks kept.
const MAX_REMARKS: usize = 8;
/// `max_payload` of a hub that does not say.
const DEFAULT_MAX_PAYLOAD: u64 = 1024 * 1024;

/// What the link's INFO says of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// Its version text.
    pub version: String,
    /// Largest message it takes, headers included; 0: it does not say.
    pub max_payload: u64,
    /// Its JetStream domain.
    pub domain: Option<String>,
}

/// Counters of the local stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Sequence of the oldest message held.
    pub first: u64,
    /// Last sequence ever given.
    pub last: u64,
}

/// Why a forward can't be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// See there.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Names so long that the headers exceed the reserve.
    #[error("the forward's names take {0} bytes of headers; at most {MAX_RESERVE} are allowed")]
    Headers(usize),
}

/// What the caller is to do beside sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this request to the hub, without headers.
    Request {
        /// Subject.
        subject: String,
        /// Reply subject.
        reply: String,
        /// JSON or empty.
        payload: Vec<u8>,
    },
    /// Read the local stream and report [`Forward::handle_slice`].
    Read {
        /// From here on.
        from: Sequence,
        /// About so many bytes.
        max_bytes: u32,
    },
    /// Write the position record and report [`Forward::handle_persisted`] after the commit.
    Persist {
        /// Its value.
        value: Vec<u8>,
    },
    /// Append to the local `REJECTED` stream and write the position record, in one commit, then report [`Forward::handle_parked`].
    Park {
        /// Local sequence.
        sequence: Sequence,
        /// Local subject.
        subject: Vec<u8>,
        /// Its headers as stored.
        headers: Vec<u8>,
        /// Its body.
        payload: Vec<u8>,
        /// Why the hub does not take it.
        reason: String,
        /// The position record behind it.
        record: Vec<u8>,
    },
}

/// A phase and its data.
#[derive(Debug)]
pub(crate) enum Session {
    Down,
    Asking { step: Step, token: String, deadline: u64 },
    Ready,
    Single(Single),
    FastIngest(FastIngest),
    Atomic(Atomic),
    Parking,
    Stopped { reason: String, until: Option<u64> },
}

/// A local stream on its way into a hub stream.
pub struct Forward {
    pub(crate) config: Config,
    pub(crate) filter: Filter,
    pub(crate) incarnations: Incarnations,
    pub(crate) stamp: Stamp,
    pub(crate) record: Record,
    /// The record changed since it was last handed out.
    pub(crate) dirty: bool,
    /// A message being set aside: its local sequence.
    parking: Option<u64>,
    /// Links that were cut right after the first message of a session: is it permitted at all?
    cuts: u32,
    /// A record is on its way to the disk: its confirmed position, and how many messages had been settled.
    persisting: Option<(u64, u64)>,
    /// Confirmed position on the disk; `None` until there is a record.
    durable: Option<u64>,
    /// Messages settled when that record was made.
    durable_settled: u64,
    pub(crate) now_ms: u64,
    pub(crate) hub: Option<Hub>,
    /// `max_payload` of the last hub.
    largest_at_hub: Option<u64>,
    pub(crate) wanted: bool,
    pub(crate) hub_stream: HubStream,
    pub(crate) local: Local,
    pub(crate) session: Session,
    pub(crate) way: Way,
    pub(crate) backlog: Backlog,
    pub(crate) in_flight: VecDeque<InFlight>,
    /// Highest local sequence that may have been sent without a confirmation.
    pub(crate) doubt_to: u64,
    /// L: hub sequence of the newest message under the filter.
    pub(crate) last_under_filter: u64,
    /// The plain message of this session was confirmed.
    opened: bool,
    /// Up to here one message at a time, because a batch with them was refused.
    pub(crate) single_until: u64,
    /// Most messages of an atomic batch.
    pub(crate) atomic_most: u64,
    fence_refusals: u32,
    pub(crate) fence_off: bool,
    /// Times the hub was asked since a PubAck.
    futile: u32,
    pub(crate) foreign_seen: bool,
    pub(crate) lost_tail: bool,
    pub(crate) purged: bool,
    pub(crate) silent_questions: u32,
    pub(crate) blind: bool,
    /// Hub sequence of the first PubAck for the present incarnation.
    pub(crate) present_first_hub: Option<u64>,
    pub(crate) rate: Rate,
    pub(crate) window: Window,
    retry: Pause,
    stopping: Pause,
    /// Something else goes first; no message or batch is begun.
    pub(crate) is_on_hold: bool,
    pub(crate) actions: VecDeque<Action>,
    ids: u64,
    pub(crate) remarks: VecDeque<String>,
    pub(crate) sent: u64,
    pub(crate) settled: u64,
    pub(crate) parked: u64,
    pub(crate) rejected: u64,
    pub(crate) dropped: u64,
}

impl Forward {
    /// `record` is what was last persisted, `None` at the first start. `local` are the stream's counters now.
    ///
    /// # Errors
    /// When identity or names can't work.
    pub fn new(
        config: Config,
        incarnations: Incarnations,
        record: Option<Record>,
        local: Local,
        now_ms: u64,
    ) -> Result<Forward, ForwardError> {
        identity::check_edge(&config.edge)?;
        let filter = config.transform.destination_filter();
        let stamp = Stamp::new(&config.edge, config.instance, &config.to, filter.as_str());
        if stamp.reserve() > MAX_RESERVE {
            return Err(ForwardError::Headers(stamp.reserve()));
        }
        let is_new = record.is_none();
        let mut record = record.unwrap_or_default();
        if record.pairs.is_empty() {
            record.pairs.push_back(Pair { local: record.confirmed, hub: 0, age_ms: now_ms });
        }
        let mut forward = Forward {
            filter,
            incarnations,
            stamp,
            dirty: is_new,
            parking: None,
            cuts: 0,
            persisting: None,
            durable: (!is_new).then_some(record.confirmed),
            durable_settled: 0,
            now_ms,
            hub: None,
            largest_at_hub: None,
            wanted: false,
            hub_stream: HubStream::default(),
            local,
            session: Session::Down,
            way: Way::Single,
            backlog: Backlog::default(),
            in_flight: VecDeque::new(),
            // After a restart anything not confirmed may have been sent. At the first start nothing was.
            doubt_to: if is_new { 0 } else { local.last },
            last_under_filter: 0,
            opened: false,
            single_until: 0,
            atomic_most: u64::MAX,
            fence_refusals: 0,
            fence_off: false,
            futile: 0,
            foreign_seen: false,
            lost_tail: false,
            purged: false,
            silent_questions: 0,
            blind: false,
            present_first_hub: None,
            rate: Rate::new(config.rate, now_ms),
            window: Window::new(),
            retry: Pause::new(config.timings.retry_ms.0, config.timings.retry_ms.1, config.seed),
            stopping: Pause::new(config.timings.stop_ms.0, config.timings.stop_ms.1, config.seed),
            is_on_hold: false,
            actions: VecDeque::new(),
            ids: 0,
            remarks: VecDeque::new(),
            sent: 0,
            settled: 0,
            parked: 0,
            rejected: 0,
            dropped: 0,
            record,
            config,
        };
        forward.drive();
        Ok(forward)
    }

    // ---- inputs ------------------------------------------------------------------------------------------------------------------

    /// The link is up.
    pub fn handle_link_up(&mut self, now_ms: u64, hub: Hub) {
        self.tick(now_ms);
        self.hub = Some(hub);
        self.largest_at_hub = Some(self.max_payload());
        self.window = Window::new();
        // Who wrote beside us, or denied us, may be gone.
        (self.blind, self.fence_off) = (false, false);
        self.silent_questions = 0;
        if self.cuts >= MAX_CUTS {
            // A hub closes the link for a publish that is not permitted, without a second chance.
            let filter = &self.filter;
            self.stop(format!(
                "the link was cut {MAX_CUTS} times right after a message under {filter}: is it permitted?"
            ));
        } else {
            self.ask_again();
        }
        self.drive();
    }

    /// The link is down, or given up. Interest is gone with it.
    pub fn handle_link_down(&mut self, now_ms: u64) {
        self.tick(now_ms);
        if let Session::Single(_) = self.session
            && !self.opened
        {
            self.cuts += 1;
        }
        self.break_off();
        self.hub = None;
        self.wanted = false;
        self.session = Session::Down;
        self.drive();
    }

    /// Whether the hub has interest in [`Forward::filter`]: without it nothing is answered on a leaf link.
    pub fn handle_interest(&mut self, now_ms: u64, wanted: bool) {
        self.tick(now_ms);
        // After cuts right behind our messages the interest of a fresh link proves nothing.
        let is_news = wanted && !self.wanted && self.cuts < MAX_CUTS;
        self.wanted = wanted;
        if is_news && matches!(self.session, Session::Stopped { until: Some(_), .. }) {
            self.ask_again();
        }
        self.drive();
    }

    /// The counters of the local stream now.
    pub fn handle_local(&mut self, now_ms: u64, local: Local) {
        self.tick(now_ms);
        self.local = local;
        self.drive();
    }

    /// Messages left the local stream by a limit, a purge or a delete.
    pub fn handle_removed(&mut self, now_ms: u64, first: Sequence, last: Sequence, messages: u64) {
        self.tick(now_ms);
        let unconfirmed = last.0.saturating_sub(self.record.confirmed.max(first.0.saturating_sub(1)));
        self.dropped += messages.min(unconfirmed);
        self.drive();
    }

    /// What an [`Action::Read`] asked for: the messages from `from` on, and where the next read begins.
    pub fn handle_slice(&mut self, now_ms: u64, from: Sequence, messages: Box<MessageBuffer>, next: Sequence) {
        self.tick(now_ms);
        self.backlog.accept(from, messages, next, self.local.last);
        self.drive();
    }

    /// The record of the last [`Action::Persist`] is committed.
    pub fn handle_persisted(&mut self, now_ms: u64) {
        self.tick(now_ms);
        if let Some((confirmed, settled)) = self.persisting.take() {
            self.durable = Some(confirmed);
            self.durable_settled = settled;
        }
        self.drive();
    }

    /// The message of the last [`Action::Park`] and its record are committed.
    pub fn handle_parked(&mut self, now_ms: u64, sequence: Sequence) {
        self.tick(now_ms);
        if self.parking == Some(sequence.0) {
            self.parking = None;
            self.parked += 1;
            self.record.confirmed = self.record.confirmed.max(sequence.0);
            self.durable = self.durable.max(Some(sequence.0));
            if let Session::Parking = self.session {
                self.backlog.advance();
                self.session = Session::Ready;
            }
        }
        self.drive();
    }

    /// Something arrived on `<inbox>.<token>`.
    pub fn handle_reply(&mut self, now_ms: u64, token: &[u8], headers: &[u8], payload: &[u8]) {
        self.tick(now_ms);
        let first = token.split(|byte| *byte == b'.').next().unwrap_or_default();
        let is_ours = match &self.session {
            Session::Asking { token, .. } => token.as_bytes() == first,
            Session::Single(single) => single.token.as_bytes() == first,
            Session::Atomic(batch) => batch.id.as_bytes() == first,
            Session::FastIngest(batch) => batch.id.as_bytes() == first,
            _ => false,
        };
        if !is_ours {
            return; // late, of something given up
        }
        if payload.is_empty() && headers::status(headers).is_some() {
            self.pause("no server of the hub answers for the stream (503)".into());
        } else {
            match &self.session {
                Session::Asking { .. } => self.question_answered(payload),
                Session::Single(_) => self.single_answered(payload),
                Session::Atomic(_) => self.atomic_answered(payload),
                _ => self.fast_ingest_answered(payload),
            }
        }
        self.drive();
    }

    /// The clock moved.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.tick(now_ms);
        let now_ms = self.now_ms;
        match &self.session {
            Session::Asking { deadline, .. } if now_ms >= *deadline => self.question_unanswered(),
            Session::Single(Single { deadline, .. }) | Session::Atomic(Atomic { deadline, .. })
                if now_ms >= *deadline =>
            {
                self.pause("the hub did not acknowledge in time".into());
            }
            Session::FastIngest(batch) if now_ms >= batch.deadline => {
                self.pause("the hub did not acknowledge in time".into());
            }
            Session::Stopped { until: Some(until), .. } if now_ms >= *until => self.ask_again(),
            _ => {}
        }
        if self.is_on_terms() {
            self.record.prune(self.now_ms, self.config.timings.hold_ms);
        }
        self.drive();
    }

    /// Something else goes first (`true`): what was begun is ended, and nothing is begun. Afterwards the hub is asked again, as what went may stand under
    /// this forward's filter. Does it change anything?
    pub fn handle_hold(&mut self, now_ms: u64, hold: bool) -> bool {
        self.tick(now_ms);
        if self.is_on_hold == hold {
            return false;
        }
        self.is_on_hold = hold;
        if !hold && matches!(self.session, Session::Ready) {
            // Nothing was refused.
            self.futile = self.futile.saturating_sub(1);
            self.ask_again();
        }
        self.drive();
        true
    }

    /// The store was opened anew under a running process: what was asked of it is gone, and a new incarnation began.
    pub fn handle_reopened(&mut self, now_ms: u64, incarnations: Incarnations, local: Local) {
        self.tick(now_ms);
        self.incarnations = incarnations;
        self.present_first_hub = None;
        self.local = local;
        self.persisting = None;
        self.parking = None;
        self.dirty = true;
        self.break_off();
        if self.hub.is_some() {
            self.ask_again();
        }
        self.drive();
    }

    /// `edge-gateway forward adopt`: the second box is known and gone; go on beside what it left. `false`: none was seen.
    pub fn handle_adopt(&mut self, now_ms: u64) -> bool {
        self.tick(now_ms);
        let adopted = self.record.adopt().is_some();
        if adopted {
            self.dirty = true;
            if self.hub.is_some() {
                self.ask_again();
            }
        }
        self.drive();
        adopted
    }

    // ---- outputs -----------------------------------------------------------------------------------------------------------------

    /// Appends what is to be sent now; gives the number of messages. Drain [`Forward::poll_action`] afterwards.
    pub fn poll_send(&mut self, now_ms: u64, buffer: &mut SendBuffer) -> usize {
        self.tick(now_ms);
        let before = buffer.len();
        if let Session::Ready = self.session {
            self.start(buffer);
        }
        if let Session::FastIngest(_) = self.session {
            self.feed(buffer);
        }
        self.drive();
        buffer.len() - before
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Forward::handle_timeout`] and then [`Forward::poll_send`] are due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let hold = self.record.next_prune(self.config.timings.hold_ms).filter(|_| self.is_on_terms());
        self.session_timeout().into_iter().chain(hold).min()
    }

    fn session_timeout(&self) -> Option<u64> {
        let waits_for_rate = self.backlog.peek().is_some() && self.wanted;
        let rate = self.rate.opens_at().filter(|at| waits_for_rate && *at > self.now_ms);
        match &self.session {
            Session::Asking { deadline, .. } => Some(*deadline),
            Session::Single(single) => Some(single.deadline),
            Session::Atomic(batch) => Some(batch.deadline),
            Session::FastIngest(batch) if batch.ended => Some(batch.deadline),
            Session::FastIngest(batch) => {
                let end = (batch.started + self.config.timings.batch_ms).min(batch.deadline);
                Some(rate.map_or(end, |rate| rate.min(end)))
            }
            Session::Ready => rate,
            Session::Stopped { until, .. } => *until,
            Session::Down | Session::Parking => None,
        }
    }

    /// The filter at the hub that is this edge's alone.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// The largest message (headers and body) that a local publish should be allowed with `reject_oversize`: what the hub of the present
    /// or the last link takes, less what the forward's own headers may need. `None`: no hub has said yet.
    #[must_use]
    pub fn largest_local(&self) -> Option<u64> {
        self.largest_at_hub.map(|most| most.saturating_sub(self.stamp.reserve() as u64))
    }

    /// Everything up to this local sequence may be given up without loss, even if the hub loses what it did not sync for `hold`.
    #[must_use]
    pub fn releasable(&self) -> Sequence {
        let held_from = self.record.pairs.front().map_or(0, |pair| pair.local);
        Sequence(held_from.min(self.durable.unwrap_or(0)))
    }

    /// Everything up to this local sequence is confirmed, by a record that is durable or was handed out: what is said to the store of it behind the record
    /// is as durable as the record. Eviction prefers it, and what is removed above it counts as lost.
    #[must_use]
    pub fn confirmed(&self) -> Sequence {
        let handed_out = self.persisting.map(|(confirmed, _)| confirmed).or(self.durable);
        Sequence(handed_out.unwrap_or(0).min(self.record.confirmed))
    }

    /// There is something to send, and as far as is known it can be sent.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let can = self.wanted && !matches!(self.session, Session::Down | Session::Stopped { .. });
        can && self.local.last > self.record.confirmed && self.local.first <= self.local.last
    }

    // ---- inside ------------------------------------------------------------------------------------------------------------------

    /// The hub was asked, and has what it confirmed. Only then `hold` is judged: of one that is away nobody knows what it will come back with.
    fn is_on_terms(&self) -> bool {
        !matches!(self.session, Session::Down | Session::Asking { .. } | Session::Stopped { .. })
    }

    /// The age clock never goes back; a caller's that does is not believed.
    fn tick(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// After every input: reads and records that are due.
    fn drive(&mut self) {
        if self.dirty && self.persisting.is_none() && self.parking.is_none() {
            self.dirty = false;
            self.persisting = Some((self.record.confirmed, self.settled));
            self.actions.push_back(Action::Persist { value: self.record.encode() });
        }
        let is_reading = !matches!(self.session, Session::Down | Session::Asking { .. } | Session::Stopped { .. });
        if is_reading && let Some(from) = self.backlog.wanted_read(self.local.last) {
            self.actions.push_back(Action::Read { from: Sequence(from), max_bytes: READ_BYTES });
        }
    }

    /// Sends the first of the next message or batch, if it may.
    fn start(&mut self, buffer: &mut SendBuffer) {
        let Some(sequence) = self.backlog.peek().map(|message| message.sequence.0) else { return };
        if self.is_on_hold || !self.may_send() {
            return;
        }
        let is_alone = !self.backlog.has_more_than_one() || sequence <= self.single_until;
        if !self.opened || self.blind || is_alone || self.way == Way::Single {
            self.send_single(buffer);
        } else if self.way == Way::FastIngest {
            self.begin_fast_ingest();
        } else {
            match self.atomic_size() {
                0 | 1 => self.send_single(buffer),
                count => self.send_atomic(count, buffer),
            };
        }
    }

    /// Interest, rate, window, and a position on the disk that is not too far behind.
    pub(crate) fn may_send(&mut self) -> bool {
        let is_recorded = self.durable.is_some()
            && self.settled + self.in_flight.len() as u64 - self.durable_settled < MAX_UNRECORDED;
        let has_room = self.window.outstanding() == 0 || self.window.room() > 0;
        self.wanted && is_recorded && has_room && self.rate.is_open(self.now_ms)
    }

    pub(crate) fn note_sent(&mut self, local: u64, bytes: u64) {
        self.in_flight.push_back(InFlight { local, bytes, sent_ms: self.now_ms });
        self.doubt_to = self.doubt_to.max(local);
        self.window.sent(bytes);
        self.rate.spend(bytes);
        self.sent += 1;
    }

    /// The first `count` messages in flight are stored. Gives the last one's local sequence. The answer's delay counts from `asked_ms`, when
    /// what brought it was sent: by default the last of the messages; those before it waited for it, not for the link.
    pub(crate) fn settle(&mut self, count: u64, asked_ms: Option<u64>) -> Option<u64> {
        let (mut last, mut bytes) = (None, 0);
        for _ in 0..count {
            let Some(message) = self.in_flight.pop_front() else { break };
            bytes += message.bytes;
            self.settled += 1;
            last = Some(message);
        }
        let last = last?;
        self.window.answered(bytes, asked_ms.unwrap_or(last.sent_ms), self.now_ms);
        Some(last.local)
    }

    /// Everything up to `local` is at the hub; `hub` is the sequence there of `local` itself.
    pub(crate) fn confirm(&mut self, local: u64, hub: Option<u64>) {
        if local <= self.record.confirmed {
            return;
        }
        self.record.confirmed = local;
        if let Some(hub) = hub {
            self.record.push(Pair { local, hub, age_ms: self.now_ms }, self.config.timings.hold_ms);
            if local >= self.incarnations.present().first.0 && self.present_first_hub.is_none() {
                self.present_first_hub = Some(hub);
            }
        }
        if local >= self.doubt_to {
            self.lost_tail = false;
        }
        self.dirty = true;
    }

    /// A PubAck came: what went wrong before is over.
    pub(crate) fn succeeded(&mut self) {
        self.opened = true;
        self.cuts = 0;
        self.futile = 0;
        self.fence_refusals = 0;
        self.retry.reset();
        self.stopping.reset();
    }

    /// Does the PubAck come from the stream we mean? Another may capture the same subject.
    pub(crate) fn is_expected(&mut self, answer: &PublishAnswer) -> bool {
        let domain = self.hub.as_ref().and_then(|hub| hub.domain.as_deref()).unwrap_or("");
        let is_it = answer.stream == self.config.to && answer.domain == domain;
        if !is_it {
            let reason = format!(
                "stream {:?} of domain {:?} answers for {}, expected {:?} of {domain:?}",
                answer.stream, answer.domain, self.filter, self.config.to
            );
            self.stop(reason);
        }
        is_it
    }

    /// The fence for the next start: the hub sequence of the newest message under the filter.
    pub(crate) fn fence(&self) -> Option<u64> {
        let is_usable = self.version().knows_fence() && !self.fence_off && !self.blind;
        is_usable.then_some(self.last_under_filter)
    }

    pub(crate) fn version(&self) -> Version {
        self.hub.as_ref().map_or(Version(0, 0, 0), |hub| Version::parse(&hub.version))
    }

    pub(crate) fn max_payload(&self) -> u64 {
        match self.hub.as_ref().map_or(0, |hub| hub.max_payload) {
            0 => DEFAULT_MAX_PAYLOAD,
            limit => limit,
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Notes something that somebody should know. What is said again moves to the end.
    pub(crate) fn remark(&mut self, text: String) {
        self.remarks.retain(|known| *known != text);
        if self.remarks.len() >= MAX_REMARKS {
            self.remarks.pop_front();
        }
        self.remarks.push_back(text);
    }

    /// Nothing is on the way any more; what was is in doubt.
    pub(crate) fn break_off(&mut self) {
        self.in_flight.clear();
        self.window.clear();
        self.opened = false;
        self.backlog.seek(self.record.confirmed + 1);
    }

    /// Find out what the hub has, then go on.
    pub(crate) fn ask_again(&mut self) {
        self.break_off();
        self.futile += 1;
        if self.futile > MAX_FUTILE {
            self.futile = 0;
            return self.pause("asked and refused again and again".into());
        }
        if let Some(id) = self.record.second_box {
            let reason = format!(
                "another box sends with our identity (incarnation {:016x}): `edge-gateway forward adopt` goes on here",
                id.0
            );
            self.session = Session::Stopped { reason, until: None };
        } else if self.blind {
            self.session = Session::Ready;
        } else {
            self.foreign_seen = false;
            self.ask(Step::Info);
        }
    }

    /// 10071, 10201, 10208: ask; after too many refused fences there is a second writer, or something we don't understand.
    pub(crate) fn fence_refused(&mut self, err_code: u16) {
        if err_code == 10071 {
            self.fence_refusals += 1;
        }
        if self.fence_refusals >= MAX_FENCE_REFUSALS {
            self.fence_refusals = 0;
            if !self.foreign_seen {
                return self.pause("the hub refuses every fence although nobody else writes".into());
            }
            self.fence_off = true;
            self.remark(format!("a second writer in {}: going on without a fence", self.filter));
        }
        self.ask_again();
    }

    /// Something that passes by itself.
    pub(crate) fn pause(&mut self, reason: String) {
        let until = self.now_ms + self.retry.next_pause();
        self.break_off();
        self.session = Session::Stopped { reason, until: Some(until) };
    }

    /// Something that somebody has to change.
    pub(crate) fn stop(&mut self, reason: String) {
        let until = self.now_ms + self.stopping.next_pause();
        self.break_off();
        self.session = Session::Stopped { reason, until: Some(until) };
    }

    /// Sets the next message aside, together with the position behind it.
    pub(crate) fn park(&mut self, reason: String) {
        let Some(message) = self.backlog.peek() else { return self.ask_again() };
        let local = message.sequence.0;
        let mut record = self.record.clone();
        record.confirmed = record.confirmed.max(local);
        self.actions.push_back(Action::Park {
            sequence: message.sequence,
            subject: message.subject.to_vec(),
            headers: message.headers.to_vec(),
            payload: message.payload.to_vec(),
            reason,
            record: record.encode(),
        });
        self.parking = Some(local);
        self.session = Session::Parking;
    }
}
