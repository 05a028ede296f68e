//! `DIRECT.GET` of several messages (ADR-31): a stretch of a stream, or the newest message of each subject.
//!
//! A piece of them is answered in a turn, and what goes on is asked for again by whoever got it, so that a large batch stands in nobody's way.
//! Nothing is remembered here between two pieces: what was found out travels with the request. The newest messages are chosen once, at the
//! beginning; one that is gone when its turn comes is left out.

use std::collections::{BTreeMap, VecDeque};

use subject::Filter;

use crate::api_error;
use crate::command::Answer;
use crate::identity::{HIGHEST_SEQUENCE, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::store::{MessageBuffer, Store, StoreError, undamaged};
use crate::stream::requests::Answered;

/// Messages in a piece.
const PIECE_MESSAGES: usize = 128;
/// A piece ends with the message that reaches so many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Subjects whose newest message is given, as nats-server's.
const MOST_RESULTS: usize = 1024;
/// Filters in one request: more could not be answered either, if each has a message.
const MOST_FILTERS: usize = 1024;
/// Subjects of which an older message than the newest is looked for.
const MOST_LOOK_UPS: usize = 4096;

const NOT_FOUND: &str = "404 Message Not Found";
const NO_RESULTS: &str = "404 No Results";
const TOO_MANY: &str = "413 Too Many Results";

/// `DIRECT.GET` of several messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectGet {
    /// Which messages.
    pub wanted: DirectWanted,
    /// At most so many; `None`: all of them.
    pub batch: Option<u64>,
    /// None after the one that reaches so many bytes of subjects, headers and bodies. 0: the server chooses.
    pub max_bytes: u64,
    /// How far it has come; `None` at the beginning.
    pub progress: Option<DirectProgress>,
}

/// Which messages a [`DirectGet`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectWanted {
    /// One after the other, those that match if there is a filter.
    Following {
        /// From here on.
        from: DirectStart,
        /// Only these.
        filter: Option<Box<str>>,
    },
    /// The newest of each subject.
    Newest {
        /// Of the subjects that one of these matches.
        filters: Vec<Box<str>>,
        /// Not those before.
        from: Sequence,
        /// As the stream was then.
        up_to: DirectEdge,
    },
}

/// Where a stretch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectStart {
    /// At a sequence.
    Sequence(Sequence),
    /// At the first message stored at or after a time.
    Time(Timestamp),
}

/// Which state of the stream counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectEdge {
    /// Today's.
    Now,
    /// When this was the last message.
    Sequence(Sequence),
    /// Before this time.
    Time(Timestamp),
}

/// What a [`DirectGet`] has found out and sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectProgress {
    /// A stretch goes on here.
    next: Sequence,
    /// The newest messages that were not sent yet, in order.
    sequences: VecDeque<Sequence>,
    /// The message sent last; 0: none.
    last: Sequence,
    /// Messages that match and were not sent.
    pending: u64,
    /// What was known when they were counted: the stream's last sequence, or the one asked for.
    through: Sequence,
    /// Bytes sent.
    bytes: u64,
    /// Messages sent.
    sent: u64,
}

/// Messages of a [`DirectGet`], and what comes after them.
#[derive(Debug)]
pub struct DirectPiece {
    /// The messages.
    pub messages: MessageBuffer,
    /// For each of them, how many follow it.
    pub pending: Vec<u64>,
    /// The message sent before the first of them; 0: none.
    pub last: Sequence,
    /// What comes after them.
    pub end: DirectEnd,
}

/// What comes after a [`DirectPiece`].
#[derive(Debug)]
pub enum DirectEnd {
    /// More, when it is asked for by this.
    More(DirectGet),
    /// Nothing: the end of the batch.
    Done {
        /// Messages that match and were not sent.
        pending: u64,
        /// The message sent last; 0: none.
        last: Sequence,
        /// The state of the stream that was looked at, where the newest were asked for.
        up_to: Option<Sequence>,
    },
    /// This status line, which begins with its code.
    Status(&'static str),
}

/// What was found out at the beginning, or the status that is the whole answer.
type Begun = Result<DirectProgress, &'static str>;

impl JetStream {
    pub(crate) fn direct_get(&mut self, turn: &mut Context<'_>, name: &str, get: &DirectGet) -> Answered {
        let Some(id) = self.stream_names.get(name).copied() else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let begun = match &get.progress {
            Some(progress) => Ok(progress.clone()),
            None => begin(turn.store, id, &get.wanted)?,
        };
        let piece = match begun {
            Ok(progress) => Walk::new(id, get, progress).piece(turn.store)?,
            Err(status) => DirectPiece {
                messages: MessageBuffer::default(),
                pending: Vec::new(),
                last: Sequence(0),
                end: DirectEnd::Status(status),
            },
        };
        Ok(Ok(Answer::Direct(Box::new(piece))))
    }
}

fn begin(store: &mut dyn Store, id: StreamId, wanted: &DirectWanted) -> Result<Begun, StoreError> {
    match wanted {
        DirectWanted::Following { from, filter } => begin_stretch(store, id, *from, filter.as_deref()),
        DirectWanted::Newest { filters, from, up_to } => choose_newest(store, id, filters, *from, *up_to),
    }
}

fn begin_stretch(
    store: &mut dyn Store,
    id: StreamId,
    from: DirectStart,
    filter: Option<&str>,
) -> Result<Begun, StoreError> {
    let Some(filters) = filters_of(filter) else { return Ok(Err(NOT_FOUND)) };
    let next = match from {
        DirectStart::Sequence(sequence) => Sequence(sequence.0.clamp(1, HIGHEST_SEQUENCE.0)),
        DirectStart::Time(time) => store.first_at(id, time)?,
    };
    let pending = store.count_matching(id, next, &filters)?;
    Ok(Ok(DirectProgress { next, pending, through: store.state(id).last, ..DirectProgress::default() }))
}

/// `None`: not a filter, so that nothing matches it.
fn filters_of(filter: Option<&str>) -> Option<Vec<Filter>> {
    filter.map_or(Some(Vec::new()), |filter| Filter::parse(filter).ok().map(|filter| vec![filter]))
}

fn choose_newest(
    store: &mut dyn Store,
    id: StreamId,
    filters: &[Box<str>],
    from: Sequence,
    up_to: DirectEdge,
) -> Result<Begun, StoreError> {
    let state = store.state(id);
    let through = match up_to {
        DirectEdge::Now => state.last,
        // There was no such state yet; stock finds nothing in it.
        DirectEdge::Sequence(sequence) if sequence > state.last => return Ok(Err(NO_RESULTS)),
        DirectEdge::Sequence(sequence) => sequence,
        DirectEdge::Time(time) => match store.first_at(id, time)? {
            first if first <= state.first => return Ok(Err(NO_RESULTS)),
            first => Sequence(first.0 - 1),
        },
    };
    let sequences = match newest(store, id, filters, through)? {
        Some(sequences) if sequences.is_empty() => return Ok(Err(NO_RESULTS)),
        Some(sequences) => sequences,
        None => return Ok(Err(TOO_MANY)),
    };
    let sequences: VecDeque<Sequence> = sequences.into_iter().filter(|sequence| *sequence >= from).collect();
    let pending = sequences.len() as u64;
    Ok(Ok(DirectProgress { sequences, pending, through, ..DirectProgress::default() }))
}

/// The newest message at or below `through` of each subject, in order; `None`: there are too many.
fn newest(
    store: &mut dyn Store,
    id: StreamId,
    filters: &[Box<str>],
    through: Sequence,
) -> Result<Option<Vec<Sequence>>, StoreError> {
    if filters.len() > MOST_FILTERS {
        return Ok(None);
    }
    // Subjects whose newest message is not the one that is asked for.
    let mut later: BTreeMap<Box<[u8]>, Sequence> = BTreeMap::new();
    let mut found: Vec<Sequence> = Vec::new();
    for filter in filters.iter().filter_map(|filter| Filter::parse(filter).ok()) {
        store.for_each_subject(id, &filter, &mut |subject, state| {
            if state.last <= through && found.len() <= 2 * MOST_RESULTS {
                found.push(state.last);
            } else if state.last > through && later.len() <= MOST_LOOK_UPS {
                later.insert(subject.into(), state.last);
            }
        });
        // Filters may overlap, and each subject counts once.
        found.sort_unstable();
        found.dedup();
        if found.len() > MOST_RESULTS || later.len() > MOST_LOOK_UPS {
            return Ok(None);
        }
    }
    for (subject, last) in later {
        let Ok(filter) = Filter::from_bytes(&subject) else { continue };
        let before = Sequence(last.0 - 1).min(through);
        found.extend(store.last_matching(id, &filter, before)?);
        if found.len() > MOST_RESULTS {
            return Ok(None);
        }
    }
    found.sort_unstable();
    Ok(Some(found))
}

/// A request on its way through the stream.
struct Walk<'a> {
    id: StreamId,
    get: &'a DirectGet,
    progress: DirectProgress,
    messages: MessageBuffer,
    pending: Vec<u64>,
}

impl<'a> Walk<'a> {
    fn new(id: StreamId, get: &'a DirectGet, progress: DirectProgress) -> Walk<'a> {
        Walk { id, get, progress, messages: MessageBuffer::default(), pending: Vec::new() }
    }

    fn piece(mut self, store: &mut dyn Store) -> Result<DirectPiece, StoreError> {
        let before = self.progress.last;
        let filters = match &self.get.wanted {
            DirectWanted::Following { filter, .. } => Some(filters_of(filter.as_deref()).unwrap_or_default()),
            DirectWanted::Newest { .. } => None,
        };
        for _ in 0..PIECE_MESSAGES {
            if self.is_done() {
                return self.done(store, filters.as_deref(), before);
            }
            if self.messages.bytes() >= PIECE_BYTES {
                break;
            }
            let sequence = match &filters {
                Some(filters) => store.next_matching(self.id, self.progress.next, filters)?,
                None => self.progress.sequences.pop_front(),
            };
            let Some(sequence) = sequence else {
                return self.done(store, filters.as_deref(), before);
            };
            self.take(store, sequence)?;
        }
        let DirectGet { wanted, batch, max_bytes, .. } = self.get;
        let more =
            DirectGet { wanted: wanted.clone(), batch: *batch, max_bytes: *max_bytes, progress: Some(self.progress) };
        Ok(DirectPiece { messages: self.messages, pending: self.pending, last: before, end: DirectEnd::More(more) })
    }

    fn is_done(&self) -> bool {
        let progress = &self.progress;
        let enough_bytes = progress.sent > 0 && self.get.max_bytes > 0 && progress.bytes >= self.get.max_bytes;
        enough_bytes || self.get.batch.is_some_and(|batch| progress.sent >= batch)
    }

    fn take(&mut self, store: &mut dyn Store, sequence: Sequence) -> Result<(), StoreError> {
        let progress = &mut self.progress;
        progress.next = sequence.next();
        progress.pending = progress.pending.saturating_sub(1);
        let bytes = self.messages.bytes();
        if undamaged(store, self.id, sequence, &mut self.messages)? {
            self.pending.push(progress.pending);
            progress.last = sequence;
            progress.sent += 1;
            progress.bytes += (self.messages.bytes() - bytes) as u64;
        }
        Ok(())
    }

    /// The last piece. `filters`: of a stretch.
    fn done(
        self,
        store: &mut dyn Store,
        filters: Option<&[Filter]>,
        before: Sequence,
    ) -> Result<DirectPiece, StoreError> {
        let Walk { id, get, progress, messages, pending } = self;
        let nothing = progress.sent == 0 && get.batch != Some(0);
        let end = match filters {
            Some(_) if nothing => DirectEnd::Status(NOT_FOUND),
            Some(filters) => {
                let more = store.state(id).last > progress.through;
                let left = if more { store.count_matching(id, progress.next, filters)? } else { progress.pending };
                DirectEnd::Done { pending: left, last: progress.last, up_to: None }
            }
            None => DirectEnd::Done { pending: progress.pending, last: progress.last, up_to: Some(progress.through) },
        };
        Ok(DirectPiece { messages, pending, last: before, end })
    }
}
