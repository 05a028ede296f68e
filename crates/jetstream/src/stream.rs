//! A stream: what a publish has to pass to be stored, and what leaves by a limit.
//!
//! The order of the checks and their texts are nats-server's. They are made here and nowhere else: a command carries no verdict.
//!
//! Not here: consumers (they are told what was added and removed), and the API's requests ([`crate::stream::requests`]).

pub(crate) mod aging;
pub(crate) mod appending;
pub(crate) mod audience;
mod batched;
pub(crate) mod config_check;
pub(crate) mod counters;
pub(crate) mod duplicates;
pub(crate) mod mapping;
pub(crate) mod message_id;
pub(crate) mod message_ttl;
pub(crate) mod own_messages;
pub(crate) mod publish_header;
pub(crate) mod purging;
pub(crate) mod requests;
pub(crate) mod retention;
pub(crate) mod retention_check;
pub(crate) mod rewriting;
pub(crate) mod room;
pub(crate) mod subject_page;
pub(crate) mod sweep;
mod taken;
pub(crate) mod trimming;

#[cfg(test)]
mod model;
#[cfg(test)]
mod properties;

use std::collections::{BTreeMap, BTreeSet};

use subject::Filter;

use crate::api_error::{self, ApiError};
use crate::command::Forwarded;
use crate::config::{Discard, Retention, StreamConfig};
use crate::forwarded::ledger::{Book, Cause};
use crate::forwarded::owed::Owed;
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, StreamId, Timestamp};
use crate::origin::{Places, Taken};
use crate::schedule::scheduling::Planned;
use crate::store::{
    Evicted, FrontLimits, MessageBuffer, NewMessage, Store, StoreError, StoredMessage, StreamState, SubjectState,
    message_size_in, undamaged,
};
use crate::stream::aging::Aging;
use crate::stream::audience::Audience;
use crate::stream::duplicates::Duplicates;
use crate::stream::mapping::Mapping;
use crate::stream::message_id::IdKey;
use crate::stream::message_ttl::TimeToLive;
use crate::stream::publish_header::{PublishHeaders, sequence};
use crate::stream::room::room_needed;
use crate::stream::trimming::Excess;
pub(crate) use batched::{Fit, SoFar, Unfit};

/// Messages removed by one call of the store; a longer removal is done in steps.
pub(crate) const REMOVED_PER_STEP: u64 = 1024;
/// Steps per turn for limits; what is left goes in the next turn, so that other streams are not kept waiting.
const STEPS_PER_TURN: u32 = 16;
/// nats-server's limit of a header block.
const LONGEST_HEADERS: usize = u16::MAX as usize;

/// A publish as the stream sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// Where it was taken from, if it was not published here.
    pub(crate) taken: Option<Taken>,
}

impl Incoming<'_> {
    pub(crate) fn size(&self, stream: StreamId) -> u64 {
        message_size_in(stream, self.subject.len(), self.headers.len(), self.payload.len())
    }
}

/// What became of a publish.
#[derive(Debug)]
pub(crate) enum Verdict {
    Stored(Sequence),
    /// Stored, and this is the counter's total now.
    Counted(Sequence, Box<str>),
    /// Nobody has interest in it: it got a sequence, and nothing else is kept.
    Passed(Sequence),
    Duplicate(Sequence),
    Refused(ApiError),
}

impl Verdict {
    /// The counter's total, which leaves with the acknowledgement.
    pub(crate) fn take_total(&mut self) -> Option<Box<str>> {
        match self {
            Verdict::Counted(_, total) => Some(std::mem::take(total)),
            _ => None,
        }
    }
}

/// How a store hashes message ids, and how many of them a stream may remember.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    pub(crate) key: IdKey,
    pub(crate) most: usize,
}

/// A publish that nothing but the stream's limits may speak against any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) headers: &'a PublishHeaders<'a>,
    pub(crate) id_hash: Option<u128>,
    pub(crate) most_ids: usize,
    /// The stream before it.
    pub(crate) state: StreamState,
    /// The clocks as they are: what it is stored with may lie ahead of them.
    pub(crate) clock: Now,
}

/// Messages that left a stream: a stretch of its front, or all of one subject.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) evicted: Evicted,
    pub(crate) among: Among,
    pub(crate) cause: Cause,
}

/// Which messages between the first and the last removed were meant.
#[derive(Debug)]
pub(crate) enum Among {
    /// All: a stretch of the stream's front.
    All,
    /// Those of one subject.
    Subject(Box<[u8]>),
    /// Those that a filter chose.
    Some,
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) config: StreamConfig,
    /// The transforms of the configuration.
    pub(crate) mapping: Mapping,
    pub(crate) created: Timestamp,
    /// All consumers on it, by name.
    pub(crate) consumers: BTreeMap<Box<str>, ConsumerId>,
    /// Those of them that hubs made for sources and mirrors of theirs.
    pub(crate) hubs: BTreeSet<ConsumerId>,
    /// Messages left it in this turn: consumers may stand below its beginning.
    pub(crate) shrunk: bool,
    /// Some of them by a purge.
    pub(crate) purged: bool,
    /// Purges since it was loaded; a step counts as one.
    pub(crate) purges: u64,
    /// Its end when its consumers were told of something new.
    pub(crate) woken_at: Option<(u64, Sequence)>,
    /// Messages stored since it was loaded; what an unfiltered consumer counts by.
    pub(crate) appended: u64,
    /// What that was when its limits were last looked at, and the bytes stored since then.
    limited_at: u64,
    bytes_since: u64,
    /// The same for each filtered consumer; and, where there are many, whom what concerns.
    pub(crate) audience: Audience,
    /// Its bytes as counted in the account's total.
    pub(crate) counted_bytes: u64,
    /// It is in the list of streams touched in this turn.
    pub(crate) touched: bool,
    /// The one entry it has in the timers.
    pub(crate) scheduled: Option<AgeMillis>,
    /// When the first message ends that has a time to live.
    pub(crate) next_end: Option<AgeMillis>,
    /// How far it has aged, where messages age one by one.
    pub(crate) aging: Aging,
    /// When it has to send messages.
    pub(crate) planned: Planned,
    /// What a roll-up has left for the turns to come.
    pub(crate) unfinished: Vec<Excess>,
    /// Its subjects are being brought within a lowered limit, in steps.
    pub(crate) is_trimmed: bool,
    /// How far it is forwarded.
    pub(crate) forwarded: Forwarded,
    /// What consumers are done with leaves only when a hub has confirmed it.
    pub(crate) is_forwarded: bool,
    /// What waits for that.
    pub(crate) owed: Owed,
    /// What became of its messages, if it is forwarded.
    pub(crate) book: Option<Box<Book>>,
    /// How far it has come with its origins.
    pub(crate) places: Places,
    duplicates: Duplicates,
    /// Id of the last message; `None`: not known since loading, ask the store.
    last_id: Option<Vec<u8>>,
}

impl Stream {
    /// A new stream, or one read from the store.
    pub(crate) fn new(id: StreamId, config: StreamConfig, created: Timestamp) -> Stream {
        Stream {
            id,
            mapping: Mapping::new(&config),
            config,
            created,
            consumers: BTreeMap::new(),
            hubs: BTreeSet::new(),
            shrunk: false,
            purged: false,
            purges: 0,
            woken_at: None,
            appended: 0,
            limited_at: 0,
            bytes_since: 0,
            audience: Audience::default(),
            counted_bytes: 0,
            touched: false,
            scheduled: None,
            next_end: None,
            aging: Aging::default(),
            planned: Planned::default(),
            unfinished: Vec::new(),
            is_trimmed: false,
            forwarded: Forwarded::default(),
            is_forwarded: false,
            owed: Owed::default(),
            book: None,
            places: Places::default(),
            duplicates: Duplicates::default(),
            last_id: None,
        }
    }

    /// Messages leave it, or would have, by a purge.
    pub(crate) fn note_purge(&mut self) {
        self.purged = true;
        self.purges += 1;
    }

    /// Would it store what is sent there?
    pub(crate) fn captures(&self, subject: &str) -> bool {
        !subject.is_empty() && self.config.subjects.iter().any(|filter| filter.matches(subject.as_bytes()))
    }

    /// Takes another configuration.
    pub(crate) fn configure(&mut self, config: StreamConfig) {
        self.mapping = Mapping::new(&config);
        self.config = config;
        self.aging.next = None;
    }

    /// Its consumers as the API lists them: without those of hubs.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (&str, ConsumerId)> {
        let consumers = self.consumers.iter().map(|(name, id)| (&**name, *id));
        consumers.filter(|(_, id)| !self.hubs.contains(id))
    }

    /// How many those are.
    pub(crate) fn listed_count(&self) -> u64 {
        (self.consumers.len() - self.hubs.len()) as u64
    }

    /// Reads the ids of the duplicate window.
    pub(crate) fn load(&mut self, store: &mut dyn Store, now: Now, most_ids: usize) -> Result<(), StoreError> {
        let ids = store.recent_ids(self.id, self.window_start(now), most_ids)?;
        self.duplicates = Duplicates::load(&ids);
        self.counted_bytes = store.state(self.id).bytes;
        self.load_plans(store)?;
        self.load_ends(store)
    }

    /// Judges and stores a publish. What a per-subject limit or a roll-up removes is added to `removed`.
    pub(crate) fn append(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        ids: &Ids,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        if let Some(taken) = &message.taken {
            return self.append_taken(store, now, (message, taken), ids, removed);
        }
        if self.config.sealed {
            return Ok(Verdict::Refused(api_error::STREAM_SEALED));
        }
        let state = store.state(self.id);
        let mut id_hash = None;
        let mut headers = PublishHeaders::default();
        if !message.headers.is_empty() {
            // Whatever the headers ask for; without any it is looked at later.
            if let Some(refusal) = self.size_refusal(message) {
                return Ok(Verdict::Refused(refusal));
            }
            headers = PublishHeaders::scan(message.headers);
            if let Some(refusal) = self.expectations(store, message, &headers, &state)? {
                return Ok(Verdict::Refused(refusal));
            }
            let window = self.config.duplicate_window_ns > 0;
            id_hash = headers.message_id.filter(|_| window).map(|id| ids.key.hash(id));
            if let Some(known) = id_hash.and_then(|hash| self.duplicates.find(hash, self.window_start(now))) {
                return Ok(Verdict::Duplicate(known));
            }
            if let Some(refusal) = self.last_id_and_rollup(store, &headers)? {
                return Ok(Verdict::Refused(refusal));
            }
        }
        let judged = Judged { headers: &headers, id_hash, most_ids: ids.most, state, clock: now };
        if self.rewrites() {
            return self.append_rewritten(store, now, message, &judged, removed);
        }
        self.keep(store, now, message, &judged, removed)
    }

    /// Stores what is [`Judged`], if the limits let it.
    pub(crate) fn keep(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        judged: &Judged<'_>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let Judged { headers, state, .. } = *judged;
        if let Some(refusal) = self.size_refusal(message) {
            return Ok(Verdict::Refused(refusal));
        }
        if self.has_no_interest(message.subject) {
            return self.pass(store, now, message, judged, removed);
        }
        if let Some(refusal) = headers.time_to_live.and_then(|value| self.refused_time_to_live(value)) {
            return Ok(Verdict::Refused(refusal));
        }
        let on_subject = self.limited_subject(store, message.subject);
        if let Some(refusal) = self.limit_refusal(store, message, headers, &state, on_subject)? {
            return Ok(Verdict::Refused(refusal));
        }
        self.put(store, now, message, judged, on_subject, removed)
    }

    /// Stores what the limits let.
    fn put(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        judged: &Judged<'_>,
        on_subject: Option<SubjectState>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let state = &judged.state;
        let place = (state.last.next(), Now { wall: now.wall.max(state.last_time), age: now.age });
        self.put_at(store, place, message, judged, on_subject, removed)
    }

    /// The same under a given sequence, and as if it had been stored at that time.
    fn put_at(
        &mut self,
        store: &mut dyn Store,
        (sequence, now): (Sequence, Now),
        message: &Incoming<'_>,
        judged: &Judged<'_>,
        on_subject: Option<SubjectState>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let Judged { headers, id_hash, most_ids, .. } = *judged;
        let is_cleared = match self.clear_for(store, message, headers, removed)? {
            Ok(is_cleared) => is_cleared,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let new = NewMessage {
            sequence,
            now,
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            message_id: id_hash,
        };
        match store.append(self.id, &new) {
            Ok(()) => {}
            // With the store opened anew what was cleared is there again.
            Err(StoreError::Full) if !is_cleared => {
                return Ok(Verdict::Refused(api_error::STORAGE_RESOURCES_EXCEEDED));
            }
            Err(error) => return Err(error),
        }
        self.count(&new);
        if self.is_forwarded {
            self.owe_unwanted(message.subject, new.sequence);
        }
        self.remember(id_hash, headers, new.sequence, now.age, most_ids);
        if let Some(value) = headers.time_to_live {
            self.lives(store, now, new.sequence, value)?;
        }
        self.trim_subject(store, message, on_subject, removed)?;
        if let Some(rollup) = headers.rollup {
            // What goes first decides what is left. More of it than goes at once is for the turns to come.
            let _ = self.enforce_limits(store, now, removed)?;
            self.roll_up(store, rollup, message.subject, new.sequence, 1, removed)?;
        }
        if headers.is_scheduling {
            self.note_schedule(store, judged.clock, message, Some(new.sequence), removed)?;
        }
        Ok(Verdict::Stored(new.sequence))
    }

    /// Gives a message that nobody has interest in its sequence. Its id is remembered, and what it rolls up goes.
    fn pass(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        message: &Incoming<'_>,
        judged: &Judged<'_>,
        removed: &mut Vec<Removal>,
    ) -> Result<Verdict, StoreError> {
        let Judged { headers, id_hash, most_ids, state, .. } = *judged;
        let sequence = state.last.next();
        store.skip_to(self.id, sequence, Now { wall: now.wall.max(state.last_time), age: now.age })?;
        self.remember(id_hash, headers, sequence, now.age, most_ids);
        if let Some(rollup) = headers.rollup {
            self.roll_up(store, rollup, message.subject, sequence, 0, removed)?;
        }
        if headers.is_scheduling {
            self.note_schedule(store, now, message, None, removed)?;
        }
        Ok(Verdict::Passed(sequence))
    }

    /// What the limits of number, bytes and age remove. `true` when more waits for the next turn.
    pub(crate) fn enforce_limits(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        removed: &mut Vec<Removal>,
    ) -> Result<bool, StoreError> {
        if self.config.sealed {
            return Ok(false);
        }
        // What refuses the new one never gives up an old one for it, as in nats-server; age is no matter of that choice.
        let discards_old = self.config.discard == Discard::Old;
        let limits = FrontLimits {
            max_messages: if discards_old { limit(self.config.max_messages) } else { u64::MAX },
            max_bytes: if discards_old { limit(self.config.max_bytes) } else { u64::MAX },
            stored_before: self.max_age().and_then(|max| (now.age.0 + 1).checked_sub(max)).map(AgeMillis),
            below: Sequence(0),
            limit: REMOVED_PER_STEP,
        };
        // As much as came since the last time goes at once, so that what is stored stays about what it was; of more, as after a lowered limit, a step a turn.
        let came = self.appended - std::mem::replace(&mut self.limited_at, self.appended);
        let grown = std::mem::take(&mut self.bytes_since);
        let (mut gone, mut freed) = (0, 0);
        for step in 0..STEPS_PER_TURN {
            let state = store.state(self.id);
            let too_many = state.messages > limits.max_messages || state.bytes > limits.max_bytes;
            if !too_many && !self.oldest_expired(store, now)? {
                return Ok(false);
            }
            // One after the other, so that it is known why a message went.
            let (limits, cause) = if too_many {
                (FrontLimits { stored_before: None, ..limits }, Cause::Limit)
            } else {
                (limits, Cause::Age)
            };
            if step > 0 && gone > 2 * came && freed > grown.saturating_mul(2) {
                return Ok(true);
            }
            let evicted = store.evict(self.id, &limits)?;
            if evicted.messages == 0 {
                return Ok(false);
            }
            gone += evicted.messages;
            freed += evicted.bytes;
            removed.push(Removal { evicted, among: Among::All, cause });
            if evicted.messages < REMOVED_PER_STEP && !too_many {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to where it may be shortened for others, if it may. `discard: new` never gives up what was accepted, and what leaves by acknowledgement is
    /// somebody's.
    pub(crate) fn gives_up_to(&self, bound: fn(&Forwarded) -> Sequence) -> Option<Sequence> {
        let may =
            !self.config.sealed && self.config.discard == Discard::Old && self.config.retention == Retention::Limits;
        may.then(|| bound(&self.forwarded)).filter(|bound| bound.0 > 0)
    }

    /// When its oldest message expires.
    pub(crate) fn next_expiry(&self, store: &mut dyn Store) -> Result<Option<AgeMillis>, StoreError> {
        let Some(max_age) = self.max_age().filter(|_| !self.config.sealed) else { return Ok(None) };
        if self.ages_singly() {
            return Ok(self.aging.next);
        }
        Ok(store.oldest(self.id)?.map(|(_, stored)| AgeMillis(stored.age.0 + max_age)))
    }

    fn oldest_expired(&self, store: &mut dyn Store, now: Now) -> Result<bool, StoreError> {
        Ok(!self.ages_singly() && self.next_expiry(store)?.is_some_and(|expiry| expiry <= now.age))
    }

    /// Age limit in milliseconds.
    pub(crate) fn max_age(&self) -> Option<u64> {
        (self.config.max_age_ns > 0).then(|| self.config.max_age_ns.div_ceil(1_000_000))
    }

    fn window_start(&self, now: Now) -> AgeMillis {
        AgeMillis(now.age.0.saturating_sub(self.config.duplicate_window_ns.div_ceil(1_000_000)))
    }

    /// The checks that come before the duplicate's.
    fn expectations(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        state: &StreamState,
    ) -> Result<Option<ApiError>, StoreError> {
        if headers.batch_id.is_some() {
            return Ok(Some(api_error::ATOMIC_PUBLISH_DISABLED));
        }
        if let Some(refusal) = self.increment_refusal(message, headers) {
            return Ok(Some(refusal));
        }
        if headers.expected_stream.is_some_and(|wanted| wanted != self.config.name.as_bytes()) {
            return Ok(Some(api_error::STREAM_NOT_MATCH));
        }
        let lives = headers.time_to_live.and_then(|value| TimeToLive::parse(value).ok());
        if !self.config.allow_message_ttl && lives.is_some_and(|lives| lives != TimeToLive::Unlimited) {
            return Ok(Some(api_error::MESSAGE_TTL_DISABLED));
        }
        match (headers.expected_subject_sequence, headers.expected_subject) {
            (Some(wanted), among) => {
                let last = self.last_of(store, among.unwrap_or(message.subject), state)?;
                if sequence(wanted) != last {
                    return Ok(Some(api_error::stream_wrong_last_sequence(last)));
                }
            }
            (None, Some(_)) => return Ok(Some(api_error::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID)),
            (None, None) => {}
        }
        if headers.expected_last_sequence.is_some_and(|wanted| sequence(wanted) != state.last.0) {
            return Ok(Some(api_error::stream_wrong_last_sequence(state.last.0)));
        }
        if headers.is_scheduling || headers.source.is_some() {
            return self.schedule_refusal(store, message, headers, &SoFar::default());
        }
        Ok(None)
    }

    fn refused_time_to_live(&self, value: &[u8]) -> Option<ApiError> {
        match TimeToLive::parse(value) {
            Ok(TimeToLive::Unlimited) => None,
            Ok(_) if !self.config.allow_message_ttl => Some(api_error::MESSAGE_TTL_DISABLED),
            Ok(_) => None,
            Err(error) => Some(error),
        }
    }

    /// The last sequence on a subject or filter; 0 when there is none.
    fn last_of(&self, store: &mut dyn Store, among: &[u8], state: &StreamState) -> Result<u64, StoreError> {
        let Ok(filter) = Filter::from_bytes(among) else { return Ok(0) };
        if filter.is_literal() {
            return Ok(store.subject_state(self.id, among).map_or(0, |found| found.last.0));
        }
        Ok(store.last_matching(self.id, &filter, state.last)?.map_or(0, |found| found.0))
    }

    /// The checks that come after the duplicate's.
    fn last_id_and_rollup(
        &mut self,
        store: &mut dyn Store,
        headers: &PublishHeaders<'_>,
    ) -> Result<Option<ApiError>, StoreError> {
        if let Some(refusal) = self.refused_message_id(store, headers)? {
            return Ok(Some(refusal));
        }
        let Some(rollup) = headers.rollup else { return Ok(None) };
        if !self.config.allow_rollup || self.config.deny_purge {
            return Ok(Some(api_error::stream_rollup_failed("rollup not permitted")));
        }
        if !(rollup.eq_ignore_ascii_case(b"sub") || rollup.eq_ignore_ascii_case(b"all")) {
            let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(rollup));
            return Ok(Some(api_error::stream_rollup_failed(text)));
        }
        Ok(None)
    }

    /// The id of the last message is expected to be another one.
    pub(crate) fn refused_message_id(
        &mut self,
        store: &mut dyn Store,
        headers: &PublishHeaders<'_>,
    ) -> Result<Option<ApiError>, StoreError> {
        let Some(wanted) = headers.expected_message_id else { return Ok(None) };
        let state = store.state(self.id);
        let last = self.last_message_id(store, &state)?;
        let wrong = || api_error::stream_wrong_last_msg_id(String::from_utf8_lossy(last));
        Ok((last != wanted).then(wrong))
    }

    fn last_message_id(&mut self, store: &mut dyn Store, state: &StreamState) -> Result<&[u8], StoreError> {
        if self.last_id.is_none() {
            let mut buffer = MessageBuffer::default();
            undamaged(store, self.id, state.last, &mut buffer)?;
            let message = buffer.get(0);
            let id = message.and_then(|message| PublishHeaders::scan(message.headers).message_id);
            self.last_id = Some(id.unwrap_or_default().to_vec());
        }
        Ok(self.last_id.as_deref().unwrap_or_default())
    }

    /// State of the message's subject, where a per-subject limit makes it matter.
    fn limited_subject(&self, store: &dyn Store, subject: &[u8]) -> Option<SubjectState> {
        if self.config.max_messages_per_subject <= 0 {
            return None;
        }
        store.subject_state(self.id, subject)
    }

    pub(crate) fn size_refusal(&self, message: &Incoming<'_>) -> Option<ApiError> {
        let size = (message.headers.len() + message.payload.len()) as u64;
        let exceeds_hubs = self.forwarded.largest.is_some_and(|max| size > max);
        if exceeds_hubs || u64::try_from(self.config.max_message_size).is_ok_and(|max| size > max) {
            return Some(api_error::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        (message.headers.len() > LONGEST_HEADERS).then_some(api_error::STREAM_HEADER_EXCEEDS_MAXIMUM)
    }

    fn limit_refusal(
        &self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        state: &StreamState,
        on_subject: Option<SubjectState>,
    ) -> Result<Option<ApiError>, StoreError> {
        if self.config.discard == Discard::Old {
            // Stock stores it and evicts it at once; an acknowledged message that is gone helps nobody.
            let never_fits = message.size(self.id) > limit(self.config.max_bytes);
            return Ok(never_fits.then(|| api_error::stream_store_failed("maximum bytes exceeded")));
        }
        let per_subject = limit(self.config.max_messages_per_subject);
        let replaces = on_subject.is_some_and(|found| found.messages >= per_subject);
        if replaces && self.config.discard_new_per_subject && headers.rollup.is_none() {
            return Ok(Some(api_error::stream_store_failed("maximum messages per subject exceeded")));
        }
        if state.messages >= limit(self.config.max_messages) && !replaces {
            return Ok(Some(api_error::stream_store_failed("maximum messages exceeded")));
        }
        if state.bytes + message.size(self.id) > limit(self.config.max_bytes) {
            let given_up = on_subject.filter(|_| replaces).map(|found| self.oldest_size(store, message.subject, found));
            if given_up.transpose()?.is_none_or(|size| size < message.size(self.id)) {
                return Ok(Some(api_error::stream_store_failed("maximum bytes exceeded")));
            }
        }
        Ok(None)
    }

    /// Size of the oldest message of a subject: what a per-subject limit gives up for a new one.
    fn oldest_size(&self, store: &mut dyn Store, subject: &[u8], found: SubjectState) -> Result<u64, StoreError> {
        let oldest = match Filter::from_bytes(subject) {
            Ok(filter) if found.messages > 1 => store.next_matching(self.id, Sequence(1), &[filter])?,
            _ => Some(found.last),
        };
        let mut buffer = MessageBuffer::default();
        if let Some(oldest) = oldest {
            undamaged(store, self.id, oldest, &mut buffer)?;
        }
        let size = |message: StoredMessage<'_>| {
            message_size_in(self.id, message.subject.len(), message.headers.len(), message.payload.len())
        };
        Ok(buffer.get(0).map_or(0, size))
    }

    fn count(&mut self, new: &NewMessage<'_>) {
        self.appended += 1;
        self.bytes_since += message_size_in(self.id, new.subject.len(), new.headers.len(), new.payload.len());
        self.audience.count(new.sequence, new.subject);
    }

    fn remember(
        &mut self,
        id_hash: Option<u128>,
        headers: &PublishHeaders<'_>,
        sequence: Sequence,
        age: AgeMillis,
        most_ids: usize,
    ) {
        if let Some(hash) = id_hash {
            self.duplicates.insert(hash, sequence, age, most_ids);
        }
        if let Some(last_id) = &mut self.last_id {
            last_id.clear();
            last_id.extend_from_slice(headers.message_id.unwrap_or_default());
        } else if let Some(id) = headers.message_id {
            // Its message may be one that is not kept, and can't be looked up later.
            self.last_id = Some(id.to_vec());
        }
    }

    /// Removes what the new message pushes out of its subject.
    fn trim_subject(
        &mut self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        before: Option<SubjectState>,
        removed: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        let keep = limit(self.config.max_messages_per_subject);
        let Some(before) = before.filter(|before| before.messages >= keep) else { return Ok(()) };
        if self.is_trimmed && before.messages > keep {
            // Its oldest messages are somewhere in the stream, and the steps come to them.
            return Ok(());
        }
        let evicted = store.trim_subject(self.id, message.subject, keep, REMOVED_PER_STEP)?;
        if evicted.messages > 0 {
            // Only consumers ask whose messages went; without any nothing is allocated for each message.
            let nobody_asks = self.consumers.is_empty();
            let among = if nobody_asks { Among::Some } else { Among::Subject(message.subject.into()) };
            removed.push(Removal { evicted, among, cause: Cause::Limit });
        }
        Ok(())
    }

    fn roll_up(
        &mut self,
        store: &mut dyn Store,
        rollup: &[u8],
        subject: &[u8],
        new: Sequence,
        keep: u64,
        removed: &mut Vec<Removal>,
    ) -> Result<(), StoreError> {
        let all = rollup.eq_ignore_ascii_case(b"all");
        if all && keep == 0 && store.state(self.id).messages > trimming::STEP {
            return self.clear(store, removed).map(drop);
        }
        let subject = if all { b">" } else { subject };
        let mut excess = Excess::RolledUp { subject: subject.into(), below: new };
        if !excess.step(store, self.id, keep, removed)? {
            excess.save(store, self.id)?;
            self.unfinished.push(excess);
        }
        Ok(())
    }

    /// A roll-up of everything takes much out before the new message is stored, all at once: `true`, when it did so.
    fn clear_for(
        &mut self,
        store: &mut dyn Store,
        message: &Incoming<'_>,
        headers: &PublishHeaders<'_>,
        removed: &mut Vec<Removal>,
    ) -> Result<Result<bool, ApiError>, StoreError> {
        let all = headers.rollup.is_some_and(|rollup| rollup.eq_ignore_ascii_case(b"all"));
        if !all || store.state(self.id).messages <= trimming::STEP {
            return Ok(Ok(false));
        }
        if !self.id.is_volatile() && !store.has_room(room_needed(message))? {
            return Ok(Err(api_error::STORAGE_RESOURCES_EXCEEDED));
        }
        self.clear(store, removed)?;
        Ok(Ok(true))
    }

    /// Removes everything, at once however much it is; answers how many that were.
    pub(crate) fn clear(&mut self, store: &mut dyn Store, removed: &mut Vec<Removal>) -> Result<u64, StoreError> {
        let evicted = store.clear(self.id)?;
        if evicted.messages > 0 {
            removed.push(Removal { evicted, among: Among::All, cause: Cause::Purge });
        }
        Ok(evicted.messages)
    }
}

/// A limit of the API, where -1 (and 0) means none.
pub(crate) fn limit(configured: i64) -> u64 {
    if configured <= 0 { u64::MAX } else { configured as u64 }
}
