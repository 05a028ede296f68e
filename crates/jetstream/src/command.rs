//! What the broker asks of the store thread, and what comes back.
//!
//! A [`Batch`] goes to the store thread and comes back unchanged with one [`Outcome`] per command, so the broker finds reply subjects and
//! tickets in its own bytes and nothing is copied back. Everything that a message consists of lies in the batch's arena.

mod deliveries;

use crate::advisory::Advisory;
use crate::api_error::ApiError;
use crate::batching::BatchAnswer;
use crate::config::{ConsumerConfig, StreamConfig};
use crate::direct_get::{DirectGet, DirectPiece};
use crate::forwarded::ledger::Ledger;
use crate::identity::{AgeMillis, ConsumerId, ConsumerSequence, Sequence, SessionId, StreamId, Timestamp};
use crate::origin::{Begin, Origins, Take};
use crate::restore::{Restorable, RestoreStep};
use crate::snapshot::Snapshot;
use crate::store::{MessageBuffer, Space, StreamState};
use crate::templates::TemplateInfo;
pub use deliveries::{Deliveries, Delivery, QueuePlace};

pub use crate::account_limits::AccountInfo;
pub use crate::changes::{Change, subject_hash};
pub use crate::consumer::pull_request::{GroupState, Pull, PullGroup};

/// A piece of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length; 0 stands for "absent" where that has a meaning.
    pub len: u32,
}

impl Span {
    /// The bytes in `arena`.
    #[must_use]
    pub fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..(self.start + self.len) as usize]
    }

    /// Nothing there.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Whom an outcome is for. Opaque to JetStream: the broker reads it when the batch is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket(pub u64, pub u64);

/// Commands and the bytes they refer to.
#[derive(Debug, Default)]
pub struct Batch {
    /// Subjects, reply subjects, headers, payloads, names, inboxes.
    pub arena: Vec<u8>,
    /// In the order they are applied.
    pub commands: Vec<Command>,
    /// Who is to get an appended message in a session queue; [`Append::queues`] refers to it.
    pub queues: Vec<QueueFor>,
}

impl Batch {
    /// Copies bytes into the arena.
    pub fn add(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.commands.clear();
        self.queues.clear();
    }
}

/// A stored MQTT session that is to get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFor {
    /// The session.
    pub session: SessionId,
    /// min(publisher's QoS, granted QoS): 1 or 2.
    pub quality: u8,
}

/// A publish that a stream captures, or that MQTT session queues need, or both.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append {
    /// The stream, or [`StreamId::NONE`].
    pub stream: StreamId,
    /// Whom the outcome is for.
    pub ticket: Ticket,
    /// Literal subject.
    pub subject: Span,
    /// Where the PubAck goes; empty: nowhere. Not looked at by JetStream.
    pub reply: Span,
    /// Header block or empty; it may hold `Nats-Msg-Id`, `Nats-Expected-*` and so on.
    pub headers: Span,
    /// Body.
    pub payload: Span,
    /// Range in [`Batch::queues`].
    pub queues: (u32, u32),
}

/// Everything that can be asked of the store thread. Hot ones are small and `Copy`; the others are boxed.
#[derive(Debug)]
pub enum Command {
    /// Store a message. → [`Outcome::Appended`], [`Outcome::Refused`] or [`Outcome::Batch`].
    Append(Append),
    /// Store a message that was taken from a stream's origin. → [`Outcome::Appended`] or [`Outcome::Refused`].
    Take(Box<Take>),
    /// An origin has begun to deliver. → [`Outcome::Done`].
    Begin(Box<Begin>),
    /// An acknowledgement arrived on `$JS.ACK.…`. → [`Outcome::Acknowledged`].
    Ack(Ack),
    /// A pull request. → [`Outcome::Done`]; what it brings are deliveries and status messages to its inbox. [`Outcome::Refused`] when there
    /// is no such consumer: nobody would have heard the request.
    Pull(Box<Pull>),
    /// A delivery found nobody: the inbox of its pull has no interest any more. → [`Outcome::Done`].
    Unreachable {
        /// The consumer whose delivery found nobody.
        consumer: ConsumerId,
        /// The inbox.
        inbox: Span,
        /// The delivery's ack subject: the message goes to whoever asks next.
        reply: Span,
    },
    /// Somebody listens on a push consumer's deliver subject, or nobody does any more. → [`Outcome::Done`].
    Interest {
        /// The consumer.
        consumer: ConsumerId,
        /// Somebody does.
        is_there: bool,
    },
    /// A receiver answered a request for flow control, or a stalled consumer's heartbeat. → [`Outcome::Done`].
    FlowAnswer {
        /// The consumer whose subject it came on.
        consumer: ConsumerId,
        /// `$JS.FC.…`
        subject: Span,
        /// Header block or empty; says how far the receiver has come.
        headers: Span,
    },
    /// Bytes of a consumer's or session's deliveries left the process. → [`Outcome::Done`].
    Credit {
        /// Who may send more.
        to: Recipient,
        /// How many bytes.
        bytes: u32,
    },
    /// What a consumer sent over a link left at once, or took its time: it may have more on its way, or less. → [`Outcome::Done`].
    Pace {
        /// The consumer.
        consumer: ConsumerId,
        /// At once.
        is_quick: bool,
    },
    /// A session is connected: deliver its queue from the oldest entry. → [`Outcome::Attached`].
    QueueAttach {
        /// The session.
        session: SessionId,
        /// At most so many unacknowledged messages (`max_inflight`, the client's receive maximum).
        window: u16,
    },
    /// The session's connection is gone. → [`Outcome::Done`].
    QueueDetach {
        /// The session.
        session: SessionId,
    },
    /// The client acknowledged a queued message (PUBACK, PUBCOMP). → [`Outcome::Done`].
    QueueAck {
        /// The session.
        session: SessionId,
        /// The entry's position in its queue.
        position: u64,
    },
    /// Forget the queue: clean start, or the session expired. → [`Outcome::Done`].
    QueueDrop {
        /// The session.
        session: SessionId,
    },
    /// Write a record (empty value: delete it). → [`Outcome::Done`] after the commit.
    Record {
        /// Whom the outcome is for.
        ticket: Ticket,
        /// Its key, see [`crate::store::record_space`].
        key: Span,
        /// Its value; empty deletes.
        value: Span,
    },
    /// Read a stretch of a stream, for `forward`. → [`Event::Slice`], at once or after a fetch.
    Read {
        /// Whom the slice is for.
        ticket: Ticket,
        /// The stream.
        stream: StreamId,
        /// From here on.
        from: Sequence,
        /// At most so many bytes (and at least one message, if there is one).
        max_bytes: u32,
    },
    /// How far a stream is forwarded, and what its hub takes. Said again after each opening; durable is only what the stream's ledger holds of it
    /// ([`crate::forwarded::ledger`]). → [`Outcome::Done`].
    Forwarded(Forwarded),
    /// An API request. → [`Outcome::Answer`].
    Request(Box<Request>),
    /// A step of a restore. → [`Outcome::Done`] or [`Outcome::Refused`], see [`crate::restore`].
    Restore {
        /// Which; the asker's number.
        number: u32,
        /// What is to be done.
        step: Box<RestoreStep>,
    },
}

/// What the owner of a forward says of its stream. When the store has no room, messages that a hub has confirmed go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The stream.
    pub stream: StreamId,
    /// Confirmed for so long that not even a hub that loses its unsynced tail needs them: up to here. They go first.
    pub releasable: Sequence,
    /// Confirmed, up to here. They go next. What is removed above is lost: said together with the record of the position, in one batch.
    pub confirmed: Sequence,
    /// The message at this position, with its size, is one that the hub refuses and that was set aside: it counts as lost, not as delivered.
    pub rejected: Option<(Sequence, u64)>,
    /// There is a link: gap records are written where they are forwarded from.
    pub is_linked: bool,
    /// A publish with more bytes of headers and body is refused (10054): the hub would not take it.
    pub largest: Option<u64>,
}

/// Who is credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    /// A consumer.
    Consumer(ConsumerId),
    /// A stored MQTT session.
    Session(SessionId),
}

/// An acknowledgement as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// The consumer whose ack subject matched.
    pub consumer: ConsumerId,
    /// The whole ack subject, `$JS.ACK.…`, version 1 or 2.
    pub subject: Span,
    /// `+ACK`, `-NAK {…}`, `+WPI`, `+NXT …`, `+TERM …` or empty.
    pub payload: Span,
    /// Where the confirmation (or, for `+NXT`, the next messages) goes; empty: nowhere.
    pub reply: Span,
}

/// API requests that are answered with [`Outcome::Answer`]. Names are as sent; JetStream checks that they exist.
#[derive(Debug)]
#[allow(missing_docs)] // the variants are the API's own operations; their fields the API's own fields
pub enum Request {
    AccountInfo,
    StreamCreate {
        config: Box<StreamConfig>,
    },
    StreamUpdate {
        config: Box<StreamConfig>,
    },
    StreamInfo {
        name: Box<str>,
        subjects_filter: Option<Box<str>>,
        deleted_details: bool,
        offset: u64,
    },
    StreamNames {
        subject: Option<Box<str>>,
        offset: u64,
    },
    StreamList {
        subject: Option<Box<str>>,
        offset: u64,
    },
    StreamDelete {
        name: Box<str>,
    },
    StreamPurge {
        name: Box<str>,
        filter: Option<Box<str>>,
        below: Option<Sequence>,
        keep: Option<u64>,
    },
    TemplateCreate {
        name: Box<str>,
        config: Box<StreamConfig>,
        max_streams: u32,
    },
    TemplateNames {
        offset: u64,
    },
    TemplateInfo {
        name: Box<str>,
    },
    TemplateDelete {
        name: Box<str>,
    },
    /// A stream and its consumers at one moment.
    StreamSnapshot {
        name: Box<str>,
        consumers: bool,
    },
    /// May a stream be restored so? What restores it is [`Command::Restore`].
    StreamRestore {
        wanted: Box<Restorable>,
    },
    MessageGet {
        name: Box<str>,
        get: MessageGet,
    },
    /// The same, asked for without the API.
    DirectMessageGet {
        name: Box<str>,
        get: MessageGet,
    },
    /// The newest message of one subject, asked for when nothing was on its way that could change it: what is committed answers it, at any time.
    Newest {
        name: Box<str>,
        subject: Box<str>,
        /// What [`Event::Early`] calls it.
        number: u64,
    },
    /// A [`Request::Newest`] that was answered before its turn came.
    AnsweredEarly,
    /// Several messages as they are: a piece of them now, see [`crate::direct_get::DirectEnd::More`].
    DirectGet {
        name: Box<str>,
        get: Box<DirectGet>,
    },
    MessageDelete {
        name: Box<str>,
        sequence: Sequence,
        erase: bool,
    },
    ConsumerCreate {
        stream: Box<str>,
        config: Box<ConsumerConfig>,
        action: ConsumerAction,
    },
    /// The same for a source or mirror of another server. `identity`: the stream's, as that server knows it.
    SourceCreate {
        stream: Box<str>,
        config: Box<ConsumerConfig>,
        action: ConsumerAction,
        identity: Option<Box<str>>,
    },
    /// A creation or update that is refused where the server, or a stream, would adjust it (10157).
    Pedantic(Box<Request>),
    /// Impossible, whatever is stored: said only if there is such a stream.
    Impossible {
        stream: Box<str>,
        error: ApiError,
        /// It would be a consumer that is pulled from and acknowledges nothing: of a work queue, that is said first.
        unacknowledged: bool,
        /// Where it would send, if a stream of that subject is said first; empty: nowhere.
        delivers_to: Box<str>,
    },
    ConsumerInfo {
        stream: Box<str>,
        name: Box<str>,
    },
    ConsumerNames {
        stream: Box<str>,
        offset: u64,
    },
    ConsumerList {
        stream: Box<str>,
        offset: u64,
    },
    ConsumerDelete {
        stream: Box<str>,
        name: Box<str>,
    },
    /// Nothing is delivered before that time; `None`: go on.
    ConsumerPause {
        stream: Box<str>,
        name: Box<str>,
        until: Option<Timestamp>,
    },
    /// It begins anew at this sequence; 0: behind what was acknowledged.
    ConsumerReset {
        stream: Box<str>,
        name: Box<str>,
        sequence: Sequence,
        /// Tell which instance of the stream it is.
        with_identity: bool,
    },
    /// The pinned client of a group loses its place.
    ConsumerUnpin {
        stream: Box<str>,
        name: Box<str>,
        group: Box<str>,
    },
    /// One that was refused before it came here: it is counted.
    Refused,
    /// Records with this prefix, for start-up.
    Records {
        prefix: Box<[u8]>,
    },
    /// Counters for monitoring.
    Statistics,
}

/// Which message is asked for (`STREAM.MSG.GET`, `DIRECT.GET`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageGet {
    /// By sequence.
    Sequence(Sequence),
    /// The newest that matches a filter.
    LastBySubject(Box<str>),
    /// The first at or after a sequence that matches a filter.
    NextBySubject(Sequence, Box<str>),
    /// The first stored at or after a time, that matches a filter if there is one.
    FromTime(Timestamp, Option<Box<str>>),
}

/// What a consumer create request insists on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumerAction {
    /// Create it, or accept (or update) the one that is there.
    #[default]
    CreateOrUpdate,
    /// It must not be there yet (or be equal).
    Create,
    /// It must be there.
    Update,
}

/// What became of a command; the n-th outcome belongs to the n-th command of the batch.
#[derive(Debug)]
pub enum Outcome {
    /// Committed; nothing more to say.
    Done,
    /// Stored (or known already) and synced.
    Appended {
        /// Sequence in the stream; 0 when no stream was asked for.
        sequence: Sequence,
        /// A message with this id was there already, at `sequence`.
        duplicate: bool,
    },
    /// Stored and synced, in a stream of counters.
    Counted {
        /// Sequence in the stream.
        sequence: Sequence,
        /// The counter's total now.
        total: Box<str>,
    },
    /// Not stored.
    Refused(ApiError),
    /// A message of a batch: what is to be said on its reply subject, which may be nothing.
    Batch {
        /// The message itself is in the stream now.
        stored: bool,
        /// In this order.
        answers: Vec<BatchAnswer>,
    },
    /// The acknowledgement is durable: confirm it on its reply subject, if it has one.
    Acknowledged {
        /// False for acknowledgements that are not confirmed (`+NXT`, unknown).
        confirm: bool,
    },
    /// The answer to a request.
    Answer(Box<Answer>),
    /// A session's queue is attached.
    Attached {
        /// Messages in it.
        queued: u64,
    },
    /// A request that only reads was not looked at: the answers of this turn are as large as they may be together. To be asked again.
    Again,
}

/// Answers to [`Request`]s.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Answer {
    Error(ApiError),
    AccountInfo(AccountInfo),
    /// Create, update, info.
    Stream(Box<StreamInfo>),
    StreamNames {
        names: Vec<Box<str>>,
        total: u64,
        offset: u64,
    },
    StreamList {
        streams: Vec<StreamInfo>,
        total: u64,
        offset: u64,
    },
    Deleted,
    /// Nothing more to say.
    Done,
    Purged {
        count: u64,
    },
    /// Paused until then, and for so many nanoseconds; 0 when that is over.
    Paused {
        until: Option<Timestamp>,
        remaining_ns: u64,
    },
    /// It takes a while: the answer comes with [`Event::Answered`] of that number. After [`Event::Reopened`] it doesn't come any more.
    Later {
        number: u64,
    },
    /// One message in the buffer.
    Message(Box<MessageBuffer>),
    /// A piece of what [`Request::DirectGet`] asks for.
    Direct(Box<DirectPiece>),
    Consumer(Box<ConsumerInfo>),
    Reset {
        info: Box<ConsumerInfo>,
        sequence: Sequence,
    },
    ConsumerNames {
        names: Vec<Box<str>>,
        total: u64,
        offset: u64,
    },
    ConsumerList {
        consumers: Vec<ConsumerInfo>,
        total: u64,
        offset: u64,
    },
    Snapshot(Box<Snapshot>),
    Template(Box<TemplateInfo>),
    /// A stream may be restored so.
    Restorable(Box<Restorable>),
    Records(Vec<(Vec<u8>, Vec<u8>)>),
    Statistics(Box<Statistics>),
}

/// A stream as info requests show it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its instance.
    pub id: StreamId,
    /// Its configuration, complete.
    pub config: StreamConfig,
    /// When it was created.
    pub created: Timestamp,
    /// Its counters.
    pub state: StreamState,
    /// Consumers on it.
    pub consumers: u64,
    /// Sequences between first and last that are not there.
    pub deleted: u64,
    /// Some of them, when asked for (bounded).
    pub deleted_list: Option<Vec<Sequence>>,
    /// Subjects with their counts, when asked for (a page).
    pub subjects: Option<Vec<(Box<str>, u64)>>,
    /// How many subjects there are of those that were asked for, on this page or not.
    pub matching_subjects: u64,
    /// Now, for the answer's `ts`.
    pub now: Timestamp,
    /// True when this request made it.
    pub did_create: bool,
}

/// A consumer as info requests show it.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Its instance.
    pub id: ConsumerId,
    /// Its stream's name.
    pub stream: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its configuration, complete.
    pub config: ConsumerConfig,
    /// When it was created.
    pub created: Timestamp,
    /// Last delivered: consumer and stream sequence, and when.
    pub delivered: (ConsumerSequence, Sequence, Option<Timestamp>),
    /// Everything up to here is acknowledged.
    pub ack_floor: (ConsumerSequence, Sequence, Option<Timestamp>),
    /// Delivered and not acknowledged.
    pub ack_pending: u64,
    /// Of those, delivered more than once.
    pub redelivered: u64,
    /// Pull requests waiting.
    pub waiting: u64,
    /// Messages that match and were never delivered.
    pub pending: u64,
    /// It pushes, and somebody listens.
    pub push_bound: bool,
    /// Its first priority group.
    pub group: Option<GroupState>,
    /// Now.
    pub now: Timestamp,
    /// What tells the stream from one made again under its name; only in answers to [`Request::SourceCreate`] and [`Request::ConsumerReset`].
    pub stream_identity: Option<Box<str>>,
}

impl ConsumerInfo {
    /// How long it will deliver nothing, nanoseconds; 0: it is not paused.
    #[must_use]
    pub fn pause_remaining_ns(&self) -> u64 {
        self.config.pause_until.map_or(0, |until| until.0.saturating_sub(self.now.0).max(0).unsigned_abs())
    }
}

/// Counters for `/jsz`, `/metrics` and `status`.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Account-wide counters.
    pub account: AccountInfo,
    /// Every stream with its consumers.
    pub streams: Vec<(StreamInfo, Vec<ConsumerInfo>)>,
    /// Disk.
    pub space: Space,
    /// Commits so far.
    pub commits: u64,
    /// Commit latency, microseconds: of all commits, a power-of-two histogram (index = log2).
    pub commit_histogram: [u64; 24],
    /// Entries in MQTT session queues.
    pub queued: u64,
    /// Entries dropped from MQTT session queues.
    pub queue_dropped: u64,
}

/// What the store thread sends by itself, beside the outcomes.
#[derive(Debug)]
pub enum Event {
    /// A stream exists: its subjects are captured from now on (also after an update, and for each stream at start).
    StreamUp {
        /// Its instance.
        stream: StreamId,
        /// Its name.
        name: Box<str>,
        /// The subjects it captures.
        subjects: Vec<Box<str>>,
        /// Is `DIRECT.GET` allowed?
        allow_direct: bool,
        /// Publishers get no acknowledgement.
        no_ack: bool,
        /// Its counters now.
        state: StreamState,
    },
    /// Where a stream takes messages from; follows its [`Event::StreamUp`] if it does, or did.
    Origins {
        /// Its instance.
        stream: StreamId,
        /// All of its origins.
        origins: Box<Origins>,
    },
    /// A stream is gone.
    StreamDown {
        /// Its instance.
        stream: StreamId,
    },
    /// A template exists: what is published on its subjects, and captured by no stream, is to be appended with this id.
    TemplateUp {
        /// What it is known by.
        id: StreamId,
        /// The subjects that it makes streams for.
        subjects: Vec<Box<str>>,
    },
    /// A template is gone.
    TemplateDown {
        /// What it was known by.
        id: StreamId,
    },
    /// A consumer exists: its ack subjects are answered from now on.
    ConsumerUp {
        /// Its instance.
        consumer: ConsumerId,
        /// Names of stream and consumer, as they stand in the ack subject.
        stream: Box<str>,
        /// See `stream`.
        name: Box<str>,
        /// The subject it pushes to: the broker tells when somebody listens there ([`Command::Interest`]).
        deliver_subject: Option<Box<str>>,
        /// Whom it waits for there: members of this queue group. Empty: anybody.
        deliver_group: Box<str>,
        /// A hub's, for a source or mirror of its own.
        is_source: bool,
        /// It takes acknowledgements.
        is_acknowledged: bool,
    },
    /// A consumer is gone.
    ConsumerDown {
        /// Its instance.
        consumer: ConsumerId,
    },
    /// What a [`Command::Read`] asked for.
    Slice {
        /// Whom it is for.
        ticket: Ticket,
        /// The messages.
        messages: Box<MessageBuffer>,
        /// Where to go on.
        next: Sequence,
    },
    /// Messages left a stream by a limit, a purge or a delete (not by acknowledgement): `forward` accounts for what it had not sent.
    Removed {
        /// The stream.
        stream: StreamId,
        /// First and last sequence concerned.
        first: Sequence,
        /// See `first`.
        last: Sequence,
        /// How many.
        messages: u64,
        /// The oldest that is left, or behind the last.
        oldest: Sequence,
    },
    /// What is counted of a forwarded stream has changed, apart from what was accepted; also the answer to each [`Command::Forwarded`].
    Ledger {
        /// The stream.
        stream: StreamId,
        /// The counters.
        ledger: Ledger,
        /// Its last sequence.
        last: Sequence,
        /// There is a link, and the gap records that were open when it came were written (or found no room).
        is_written: bool,
    },
    /// The store thread itself stored messages in a stream (gap records).
    Stored {
        /// The stream.
        stream: StreamId,
        /// Its last sequence now.
        last: Sequence,
    },
    /// What changed in streams that are read by subject, in order. It holds from the end of the turn on, whose answers may be older.
    Changed(Vec<(StreamId, Change)>),
    /// Answers to [`Request::Newest`] by their numbers. What their commands come to in the end is [`Answer::Done`].
    Early(Vec<(u64, Answer)>),
    /// The answer to a request that was answered with [`Answer::Later`].
    Answered {
        /// The number that [`Answer::Later`] gave.
        number: u64,
        /// The answer.
        answer: Box<Answer>,
    },
    /// The store failed and was opened anew: all volatile state of the store thread is gone (waiting pulls, attached queues).
    Reopened {
        /// What happened.
        reason: Box<str>,
    },
    /// Something that whoever listens on `$JS.EVENT.>` is told.
    Advisory(Advisory),
    /// The store refuses publishes (`true`: reserve reached) or takes them again.
    Full(bool),
    /// Messages were dropped from a session's queue: it was full, or they have left their stream.
    QueueDropped {
        /// Whose.
        session: SessionId,
        /// How many in this turn.
        messages: u64,
    },
}

/// Everything that a turn of the committer gives back.
#[derive(Debug, Default)]
pub struct Turn {
    /// The batches, with the outcome of each command.
    pub done: Vec<(Batch, Vec<Outcome>)>,
    /// Messages for subscribers.
    pub deliveries: Deliveries,
    /// What else happened.
    pub events: Vec<Event>,
    /// When the store thread wants a turn even if nothing comes.
    pub wake_at: Option<AgeMillis>,
}
