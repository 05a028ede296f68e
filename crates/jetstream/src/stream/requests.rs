//! The API's requests about streams and their messages.

use subject::{Filter, Index};

use crate::advisory::{Action, Advisory};
use crate::api_error::{self, ApiError};
use crate::command::{AccountInfo, Answer, Event, MessageGet, StreamInfo};
use crate::config::{Compression, Retention, Storage, StreamConfig};
use crate::consumer::Consumer;
use crate::forwarded::ledger::Cause;
use crate::identity::{HIGHEST_SEQUENCE, Now, Sequence, StreamId};
use crate::jetstream::{Context, JetStream, stream_up};
use crate::origin::has_origins;
use crate::store::{Evicted, MessageBuffer, Store, StoreError, message_size, undamaged};
use crate::stored_config;
use crate::stream::config_check;
use crate::stream::purging::Purging;
use crate::stream::subject_page::SubjectPage;
use crate::stream::{Among, Removal, Stream};

/// Streams' names in one answer, as nats-server's.
pub(crate) const NAMES_PER_PAGE: usize = 1024;
/// Descriptions in one answer, as nats-server's.
pub(crate) const INFOS_PER_PAGE: usize = 256;
/// Subjects in one answer, as nats-server's.
const SUBJECTS_PER_PAGE: usize = 100_000;
/// Deleted sequences in one answer.
const MOST_DELETED_LISTED: usize = 10_000;
/// Sequences looked at in one step on the way to the deleted ones.
const SEQUENCES_PER_LOOK: usize = 4096;

/// An answer or a refusal; errors of the store are neither.
pub(crate) type Answered = Result<Result<Answer, ApiError>, StoreError>;

impl JetStream {
    pub(crate) fn create_stream(&mut self, turn: &mut Context<'_>, config: &StreamConfig) -> Answered {
        let mut config = config.clone();
        self.shorten_window(&mut config);
        self.inherit_direct(&mut config);
        if config.sealed {
            let text = "stream configuration for create can not be sealed";
            return Ok(Err(api_error::stream_invalid_config(text)));
        }
        if let Err(error) = config_check::check(&config).and_then(|()| self.check_stream_limits(&config)) {
            return Ok(Err(error));
        }
        if let Some(stream) = self.stream_named(&config.name) {
            if config_check::same(&stream.config, &config) {
                return Ok(Ok(self.describe(turn, stream, false)));
            }
            return Ok(Err(api_error::STREAM_NAME_EXIST));
        }
        if let Err(error) = self.may_create(&config) {
            return Ok(Err(error));
        }
        let id = self.new_stream_id(turn.store, config.storage)?;
        let created = turn.now.wall;
        let first = Sequence(config.first_sequence.max(1));
        turn.store.create_stream(id, first, &stored_config::encode_stream(&config, created))?;
        turn.store.compress(id, config.compression == Compression::S2);
        let mut stream = Stream::new(id, config, created);
        stream.is_forwarded = self.is_expected_forward(&stream);
        stream.load_places(turn.store, self.key)?;
        turn.events.push(stream_up(&stream, turn.store));
        turn.events.push(Event::Advisory(Advisory::Stream { stream: id, action: Action::Create }));
        turn.events.extend(stream.origins(turn.store, self.key).map(|origins| Event::origins(id, origins)));
        let answer = self.describe(turn, &stream, true);
        self.stream_names.insert(stream.config.name.clone(), id);
        self.streams.insert(id, stream);
        self.batches_allowed(id);
        Ok(Ok(answer))
    }

    pub(crate) fn may_create(&self, config: &StreamConfig) -> Result<(), ApiError> {
        if self.streams.len() as u64 >= self.most_streams() {
            return Err(api_error::MAXIMUM_STREAMS_LIMIT);
        }
        self.check_reservation(config)?;
        self.no_overlap(config)?;
        self.fits_origins(config)?;
        self.no_republish_loop(config)
    }

    fn no_overlap(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let others = self.stream_names.values().filter_map(|id| self.streams.get(id));
        let mut taken =
            others.filter(|other| other.config.name != config.name).flat_map(|other| &other.config.subjects);
        // An index, as streams may have a thousand subjects each, and a gateway a thousand streams.
        let mut ours = Index::new(self.key.0);
        for subject in &config.subjects {
            ours.insert(subject, ());
        }
        let overlaps = |theirs: &Filter| {
            let mut found = false;
            ours.overlapping(theirs, |_, ()| found = true);
            found
        };
        if taken.any(overlaps) { Err(api_error::STREAM_SUBJECT_OVERLAP) } else { Ok(()) }
    }

    /// Do the consumers that are there fit into limits that are new?
    fn limits_hold(&self, stream: &Stream, config: &StreamConfig) -> Result<(), ApiError> {
        let (old, new) = (stream.config.consumer_limits, config.consumer_limits);
        let violates = |consumer: &&Consumer| {
            let (config, inactive, pending) = (&consumer.config, new.inactive_threshold_ns, new.max_ack_pending);
            (inactive > 0 && config.inactive_threshold_ns > inactive)
                || (pending > 0 && config.max_ack_pending > pending)
        };
        let all = stream.consumers.values().filter_map(|id| self.consumers.get(id));
        let names: Vec<&str> = all.filter(violates).map(|consumer| &*consumer.config.name).collect();
        if old == new || names.is_empty() {
            return Ok(());
        }
        let text = format!("change to limits violates consumers: {}", names.join(", "));
        Err(api_error::stream_update(text))
    }

    pub(crate) fn update_stream(&mut self, turn: &mut Context<'_>, config: &StreamConfig) -> Answered {
        let mut config = config.clone();
        self.shorten_window(&mut config);
        config_check::seal(&mut config);
        let Some(stream) = self.stream_named(&config.name) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let id = stream.id;
        self.inherit_direct(&mut config);
        let checked = config_check::check_update(&stream.config, &config)
            .and_then(|()| self.check_stream_limits(&config))
            .and_then(|()| self.check_reservation(&config))
            .and_then(|()| self.limits_hold(stream, &config))
            .and_then(|()| self.no_overlap(&config))
            .and_then(|()| self.fits_origins(&config))
            .and_then(|()| self.no_republish_loop(&config));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let fewer_per_subject = config.max_messages_per_subject > 0
            && (stream.config.max_messages_per_subject < 0
                || config.max_messages_per_subject < stream.config.max_messages_per_subject);
        turn.store.update_stream(id, &stored_config::encode_stream(&config, stream.created))?;
        turn.store.compress(id, config.compression == Compression::S2);
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let other_retention = stream.config.retention != config.retention;
        let had_origins = has_origins(&stream.config);
        stream.configure(config);
        stream.scheduled = None;
        turn.events.push(stream_up(stream, turn.store));
        turn.events.push(Event::Advisory(Advisory::Stream { stream: id, action: Action::Modify }));
        if had_origins || has_origins(&stream.config) {
            stream.load_places(turn.store, self.key)?;
            turn.events.push(Event::origins(id, stream.all_origins(turn.store, self.key)));
        }
        if fewer_per_subject {
            self.trim_all_subjects(turn, id)?;
        }
        self.batches_allowed(id);
        if other_retention {
            self.retention_changed(turn, id)?;
        }
        self.settle(turn, id)?;
        Ok(self.streams.get(&id).map(|stream| self.describe(turn, stream, false)).ok_or(api_error::STREAM_NOT_FOUND))
    }

    pub(crate) fn stream_info(
        &mut self,
        turn: &mut Context<'_>,
        name: &str,
        subjects_filter: Option<&str>,
        deleted_details: bool,
        offset: u64,
    ) -> Answered {
        let Some(id) = self.stream_names.get(name).copied() else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        self.settle(turn, id)?;
        let Some(stream) = self.streams.get(&id) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let mut info = describe(stream, turn.store, turn.now);
        if let Some(filter) = subjects_filter {
            // What is no subject matches nothing.
            if let Ok(filter) = Filter::parse(filter) {
                let (page, matching) = subjects_page(turn.store, id, &filter, offset);
                (info.subjects, info.matching_subjects) = (Some(page), matching);
            }
        }
        if deleted_details {
            info.deleted_list = Some(deleted_list(turn.store, &info)?);
        }
        Ok(Ok(Answer::Stream(Box::new(info))))
    }

    pub(crate) fn stream_names_page(&self, subject: Option<&str>, offset: u64) -> Result<Answer, ApiError> {
        let all = self.streams_on(subject);
        let names = all.iter().skip(offset as usize).take(NAMES_PER_PAGE).map(|stream| stream.config.name.clone());
        Ok(Answer::StreamNames { names: names.collect(), total: all.len() as u64, offset })
    }

    pub(crate) fn stream_list_page(
        &self,
        turn: &Context<'_>,
        subject: Option<&str>,
        offset: u64,
    ) -> Result<Answer, ApiError> {
        let all = self.streams_on(subject);
        let page = all.iter().skip(offset as usize).take(INFOS_PER_PAGE);
        let streams = page.map(|stream| describe(stream, turn.store, turn.now)).collect();
        Ok(Answer::StreamList { streams, total: all.len() as u64, offset })
    }

    /// Streams by name, those that may hold a subject only.
    fn streams_on(&self, subject: Option<&str>) -> Vec<&Stream> {
        let filter = subject.filter(|subject| !subject.is_empty()).map(Filter::parse).transpose();
        // What is no subject is in no stream.
        let Ok(filter) = filter else { return Vec::new() };
        let holds = |stream: &&Stream| {
            filter.as_ref().is_none_or(|filter| stream.config.subjects.iter().any(|subject| subject.overlaps(filter)))
        };
        self.stream_names.values().filter_map(|id| self.streams.get(id)).filter(holds).collect()
    }

    pub(crate) fn delete_stream(&mut self, turn: &mut Context<'_>, name: &str) -> Answered {
        let Some(id) = self.stream_names.remove(name) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let consumers = self.streams.get(&id).map(|stream| stream.consumers.values().copied().collect::<Vec<_>>());
        for consumer in consumers.unwrap_or_default() {
            self.remove_consumer(turn, consumer)?;
        }
        self.close_book(turn, id)?;
        turn.store.delete_stream(id)?;
        self.delete_owed(turn.store, id)?;
        self.end_sweep(turn.store, id)?;
        self.forget_places(turn.store, id)?;
        if let Some(stream) = self.streams.remove(&id) {
            let total = if id.is_volatile() { &mut self.memory_bytes } else { &mut self.stored_bytes };
            *total -= stream.counted_bytes;
            if stream.next_end.is_some() || stream.aging.never || stream.has_plans() {
                self.forgotten.push(id);
            }
        }
        turn.events.push(Event::Advisory(Advisory::Stream { stream: id, action: Action::Delete }));
        self.batches_allowed(id);
        turn.events.push(Event::StreamDown { stream: id });
        Ok(Ok(Answer::Deleted))
    }

    pub(crate) fn purge_stream(
        &mut self,
        turn: &mut Context<'_>,
        name: &str,
        filter: Option<&str>,
        below: Option<Sequence>,
        keep: Option<u64>,
    ) -> Answered {
        let below = below.filter(|below| below.0 > 0);
        let keep = keep.filter(|keep| *keep > 0);
        let Some(id) = self.stream_names.get(name) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let Some(stream) = self.streams.get_mut(id) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        if stream.config.sealed {
            return Ok(Err(api_error::STREAM_SEALED));
        }
        if stream.config.deny_purge {
            return Ok(Err(api_error::stream_purge_failed("stream purge not permitted")));
        }
        let filter = Filter::parse(filter.filter(|filter| !filter.is_empty()).unwrap_or(">"));
        if below.is_some_and(|below| below > HIGHEST_SEQUENCE) || (below.is_some() && keep.is_some()) {
            return Ok(Err(api_error::BAD_REQUEST));
        }
        // What is no subject matches nothing.
        let Ok(filter) = filter else { return Ok(Ok(Answer::Purged { count: 0 })) };
        let id = *id;
        let last = turn.store.state(id).last;
        // What is stored from now on is not meant.
        let end = below.map_or(last.next(), |below| below.min(last.next()));
        if filter.as_str() != ">" || end <= last || keep.is_some() {
            let most = match keep {
                Some(keep) => {
                    turn.store.count_matching(id, Sequence(0), std::slice::from_ref(&filter))?.saturating_sub(keep)
                }
                None => u64::MAX,
            };
            return self.begin_purge(turn, Purging::new(id, filter, end, most));
        }
        let count = stream.clear(turn.store, &mut self.removed)?;
        // Also where nothing was left.
        stream.note_purge();
        if let Some(below) = below.filter(|below| *below > last.next()) {
            turn.store.skip_to(id, Sequence(below.0 - 1), turn.now)?;
            if let Some(book) = &mut stream.book {
                book.skipped(last, Sequence(below.0 - 1));
                self.list_book(id);
            }
        }
        self.account_removed(turn, id)?;
        self.settle(turn, id)?;
        Ok(Ok(Answer::Purged { count }))
    }

    pub(crate) fn get_message(&mut self, turn: &mut Context<'_>, name: &str, get: &MessageGet) -> Answered {
        let Some(id) = self.stream_names.get(name).copied() else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let sequence = match get {
            MessageGet::Sequence(sequence) => Some(*sequence),
            MessageGet::LastBySubject(filter) => {
                let Ok(filter) = Filter::parse(filter) else { return Ok(Err(api_error::NO_MESSAGE_FOUND)) };
                if filter.is_literal() && self.to_watch.last() != Some(&id) && self.may_be_remembered(id) {
                    self.to_watch.push(id);
                }
                last_by_subject(turn.store, id, &filter)?
            }
            MessageGet::NextBySubject(from, filter) => {
                let Ok(filter) = Filter::parse(filter) else { return Ok(Err(api_error::NO_MESSAGE_FOUND)) };
                turn.store.next_matching(id, (*from).min(HIGHEST_SEQUENCE), &[filter])?
            }
            MessageGet::FromTime(time, filter) => {
                let first = turn.store.first_at(id, *time)?;
                match filter.as_deref().map(Filter::parse) {
                    None => Some(first),
                    Some(Ok(filter)) => turn.store.next_matching(id, first, &[filter])?,
                    Some(Err(_)) => None,
                }
            }
        };
        let mut buffer = Box::new(MessageBuffer::default());
        let found = match sequence {
            Some(sequence) => undamaged(turn.store, id, sequence.min(HIGHEST_SEQUENCE), &mut buffer)?,
            None => false,
        };
        Ok(if found { Ok(Answer::Message(buffer)) } else { Err(api_error::NO_MESSAGE_FOUND) })
    }

    /// Are messages found under the subject they were published on, until a limit or a request removes them?
    pub(crate) fn may_be_remembered(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_some_and(|stream| {
            stream.config.retention == Retention::Limits && stream.config.subject_transform.is_none()
        })
    }

    pub(crate) fn delete_message(
        &mut self,
        turn: &mut Context<'_>,
        name: &str,
        sequence: Sequence,
        erase: bool,
    ) -> Answered {
        let Some(stream) = self.stream_named(name) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let id = stream.id;
        if stream.config.sealed {
            return Ok(Err(api_error::STREAM_SEALED));
        }
        if stream.config.deny_delete {
            return Ok(Err(api_error::stream_msg_delete_failed("message delete not permitted")));
        }
        let state = turn.store.state(id);
        if id.is_volatile() && !(state.first..=state.last).contains(&sequence) {
            return Ok(Err(api_error::sequence_not_found(sequence.0)));
        }
        if sequence > state.last {
            return Ok(Err(api_error::stream_msg_delete_failed("stream store EOF")));
        }
        if sequence < state.first {
            return Ok(Err(api_error::stream_msg_delete_failed("no message found")));
        }
        let mut buffer = MessageBuffer::default();
        let found = undamaged(turn.store, id, sequence, &mut buffer)?;
        let Some(message) = buffer.get(0).filter(|_| found) else {
            return Ok(Err(api_error::sequence_not_found(sequence.0)));
        };
        turn.store.remove(id, sequence, erase)?;
        let bytes = message_size(message.subject.len(), message.headers.len(), message.payload.len());
        let evicted = Evicted { messages: 1, bytes, first: sequence, last: sequence };
        let among = Among::Subject(message.subject.into());
        self.removed.push(Removal { evicted, among, cause: Cause::Delete });
        self.account_removed(turn, id)?;
        self.touch(id);
        Ok(Ok(Answer::Deleted))
    }

    pub(crate) fn account_info(&self) -> AccountInfo {
        let limits = &self.limits.account;
        let whole = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        AccountInfo {
            memory: self.memory_bytes,
            storage: self.stored_bytes,
            streams: self.streams.len() as u64,
            consumers: self.consumers.len() as u64,
            api_total: self.api_total,
            api_errors: self.api_errors,
            reserved_memory: self.reserved(Storage::Memory, ""),
            reserved_storage: self.reserved(Storage::File, ""),
            max_memory: whole(limits.max_memory),
            max_storage: whole(limits.max_storage),
            max_streams: whole(limits.max_streams),
            max_consumers: whole(limits.max_consumers),
            max_ack_pending: whole(limits.max_ack_pending),
            max_memory_stream: whole(limits.max_memory_stream),
            max_storage_stream: whole(limits.max_storage_stream),
            max_bytes_required: limits.max_bytes_required,
        }
    }

    pub(crate) fn stream_named(&self, name: &str) -> Option<&Stream> {
        self.stream_names.get(name).and_then(|id| self.streams.get(id))
    }

    fn describe(&self, turn: &Context<'_>, stream: &Stream, did_create: bool) -> Answer {
        Answer::Stream(Box::new(StreamInfo { did_create, ..describe(stream, turn.store, turn.now) }))
    }
}

/// A stream as info requests show it, without the parts that have to be asked for.
pub(crate) fn describe(stream: &Stream, store: &dyn Store, now: Now) -> StreamInfo {
    let state = store.state(stream.id);
    let span = if state.messages == 0 { 0 } else { state.last.0 - state.first.0 + 1 };
    StreamInfo {
        id: stream.id,
        config: stream.config.clone(),
        created: stream.created,
        state,
        consumers: stream.listed_count(),
        deleted: span.saturating_sub(state.messages),
        deleted_list: None,
        subjects: None,
        matching_subjects: 0,
        now: now.wall,
        did_create: false,
    }
}

/// Sequence of the newest message under a filter.
fn last_by_subject(store: &mut dyn Store, id: StreamId, filter: &Filter) -> Result<Option<Sequence>, StoreError> {
    if filter.is_literal() {
        return Ok(store.subject_state(id, filter.as_str().as_bytes()).map(|state| state.last));
    }
    let last = store.state(id).last;
    store.last_matching(id, filter, last)
}

/// Subjects in order of their names, and how many there are in all.
fn subjects_page(store: &dyn Store, id: StreamId, filter: &Filter, offset: u64) -> (Vec<(Box<str>, u64)>, u64) {
    let (mut page, mut matching) = (SubjectPage::new(offset, SUBJECTS_PER_PAGE), 0);
    store.for_each_subject(id, filter, &mut |subject, state| {
        matching += 1;
        page.add(subject, state.messages);
    });
    (page.finish(), matching)
}

/// Sequences between first and last that are not there, the lowest first.
fn deleted_list(store: &mut dyn Store, info: &StreamInfo) -> Result<Vec<Sequence>, StoreError> {
    let (mut list, mut there) = (Vec::new(), Vec::new());
    let mut from = info.state.first;
    while (list.len() as u64) < info.deleted.min(MOST_DELETED_LISTED as u64) {
        there.clear();
        store.sequences(info.id, from, SEQUENCES_PER_LOOK, &mut there)?;
        if there.is_empty() {
            let behind_all = (from.0..=info.state.last.0).map(Sequence);
            list.extend(behind_all.take(MOST_DELETED_LISTED - list.len()));
            break;
        }
        for sequence in &there {
            let missing = (from.0..sequence.0).map(Sequence);
            list.extend(missing.take(MOST_DELETED_LISTED - list.len()));
            from = sequence.next();
        }
    }
    Ok(list)
}
