//! API requests: one arm each, the work is in `stream_requests` and `consumer_requests`.

use crate::api_error::{self, ApiError};
use crate::command::{Answer, Batch, Command, MessageGet, Outcome, Request, Statistics};
use crate::config::Retention;
use crate::jetstream::{Context, JetStream};
use crate::store::{MessageBuffer, Store, StoreError, undamaged};
use crate::stream::requests::{Answered, describe};

/// Bytes of answers in one turn, about: a few thousand requests for large messages must not be in memory all at once.
const ANSWERS_PER_TURN: usize = 4 << 20;
/// A description with its configuration, about.
const INFO_BYTES: usize = 512;

impl JetStream {
    /// Answers a request. Only those that change something wait for the disk.
    pub(crate) fn request(&mut self, turn: &mut Context<'_>, request: &Request) -> Result<Outcome, StoreError> {
        if self.answered >= ANSWERS_PER_TURN && is_read(request) {
            return Ok(Outcome::Again);
        }
        if let Request::Newest { name, subject, number } = request
            && let Some(answer) = self.newest(turn.store, name, subject)?
        {
            self.answered += size_of(&answer);
            self.early.push((*number, answer));
            return Ok(Outcome::Answer(Box::new(Answer::Done)));
        }
        self.changes_all |= changes(request);
        self.sync |= changes(request) || (turn.store.is_dirty() && !matches!(request, Request::AnsweredEarly));
        let answer = match self.answer(turn, request)? {
            Ok(answer) => answer,
            Err(error) => {
                self.api_errors += u64::from(counts_as_error(request, &error));
                Answer::Error(error)
            }
        };
        // Behind the answer, which does not count itself.
        self.api_total += u64::from(is_of_api(request));
        self.answered += size_of(&answer);
        Ok(Outcome::Answer(Box::new(answer)))
    }

    /// Answers those commands of a batch whose turn has not come that may be answered at any time; while a commit is on its way to the disk, say.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn answer_early(
        &mut self,
        store: &mut dyn Store,
        batch: &mut Batch,
        early: &mut Vec<(u64, Answer)>,
    ) -> Result<(), StoreError> {
        for command in &mut batch.commands {
            let Command::Request(request) = command else { continue };
            let Request::Newest { name, subject, number } = &**request else { continue };
            if self.answered >= ANSWERS_PER_TURN {
                break;
            }
            let found = self.in_layers(store, |jetstream, store| jetstream.newest(store, name, subject))?;
            if let Some(answer) = found {
                self.answered += size_of(&answer);
                early.push((*number, answer));
                **request = Request::AnsweredEarly;
            }
        }
        Ok(())
    }

    /// What was answered in this turn and need not wait for the commit.
    pub fn take_early(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.early)
    }

    /// The newest message of a subject, if it is certain that it will be after a crash, too.
    fn newest(&mut self, store: &mut dyn Store, name: &str, subject: &str) -> Result<Option<Answer>, StoreError> {
        let Some(id) = self.stream_names.get(name).copied().filter(|_| !self.changes_all) else { return Ok(None) };
        let Some(found) = store.subject_state(id, subject.as_bytes()) else { return Ok(None) };
        if !store.is_committed(id, found.last) {
            return Ok(None);
        }
        let mut buffer = Box::new(MessageBuffer::default());
        let is_there = undamaged(store, id, found.last, &mut buffer)?;
        Ok(is_there.then_some(Answer::Message(buffer)))
    }

    fn answer(&mut self, turn: &mut Context<'_>, request: &Request) -> Answered {
        match request {
            Request::AccountInfo => Ok(Ok(Answer::AccountInfo(self.account_info()))),
            Request::StreamCreate { config } => self.create_stream(turn, config),
            Request::StreamUpdate { config } => match self.may_update(&config.name) {
                Ok(()) => self.update_stream(turn, config),
                Err(error) => Ok(Err(error)),
            },
            Request::TemplateCreate { name, config, max_streams } => {
                self.create_template(turn, name, config, *max_streams)
            }
            Request::TemplateNames { offset } => Ok(Ok(self.template_names_page(*offset))),
            Request::TemplateInfo { name } => Ok(self.template_info(name)),
            Request::TemplateDelete { name } => self.delete_template(turn, name),
            Request::StreamInfo { name, subjects_filter, deleted_details, offset } => {
                self.stream_info(turn, name, subjects_filter.as_deref(), *deleted_details, *offset)
            }
            Request::StreamNames { subject, offset } => Ok(self.stream_names_page(subject.as_deref(), *offset)),
            Request::StreamList { subject, offset } => Ok(self.stream_list_page(turn, subject.as_deref(), *offset)),
            Request::StreamDelete { name } => self.delete_stream(turn, name),
            Request::StreamPurge { name, filter, below, keep } => {
                self.purge_stream(turn, name, filter.as_deref(), *below, *keep)
            }
            Request::StreamSnapshot { name, consumers } => self.snapshot(turn, name, *consumers),
            Request::StreamRestore { wanted } => self.may_restore(wanted),
            Request::MessageGet { name, get } | Request::DirectMessageGet { name, get } => {
                self.get_message(turn, name, get)
            }
            Request::Newest { name, subject, .. } => {
                self.get_message(turn, name, &MessageGet::LastBySubject(subject.clone()))
            }
            Request::AnsweredEarly => Ok(Ok(Answer::Done)),
            Request::DirectGet { name, get } => self.direct_get(turn, name, get),
            Request::MessageDelete { name, sequence, erase } => self.delete_message(turn, name, *sequence, *erase),
            Request::ConsumerCreate { stream, config, action } => self.create_consumer(turn, stream, config, *action),
            Request::SourceCreate { stream, config, action, identity } => {
                self.create_source(turn, stream, config, *action, identity.as_deref())
            }
            Request::Pedantic(request) => match self.adjustment(request) {
                Some(error) => Ok(Err(error)),
                None => self.answer(turn, request),
            },
            Request::Impossible { stream, error, unacknowledged, delivers_to } => {
                Ok(Err(match self.stream_named(stream) {
                    None => api_error::STREAM_NOT_FOUND,
                    Some(stream) if stream.captures(delivers_to) => api_error::CONSUMER_DELIVER_CYCLE,
                    Some(stream) if *unacknowledged && stream.config.retention == Retention::WorkQueue => {
                        api_error::CONSUMER_PULL_REQUIRES_ACK
                    }
                    Some(_) => error.clone(),
                }))
            }
            Request::ConsumerInfo { stream, name } => self.consumer_info(turn, stream, name),
            Request::ConsumerNames { stream, offset } => self.consumer_names_page(stream, *offset),
            Request::ConsumerList { stream, offset } => self.consumer_list_page(turn, stream, *offset),
            Request::ConsumerDelete { stream, name } => self.delete_consumer(turn, stream, name),
            Request::ConsumerPause { stream, name, until } => self.pause_consumer(turn, stream, name, *until),
            Request::ConsumerReset { stream, name, sequence, with_identity } => {
                self.reset_consumer(turn, stream, name, *sequence, *with_identity)
            }
            Request::ConsumerUnpin { stream, name, group } => self.unpin_consumer(turn, stream, name, group),
            Request::Refused => {
                self.api_errors += 1;
                Ok(Ok(Answer::Done))
            }
            Request::Records { prefix } => records(turn, prefix),
            Request::Statistics => self.statistics(turn),
        }
    }
}

impl JetStream {
    fn statistics(&mut self, turn: &mut Context<'_>) -> Answered {
        let mut streams = Vec::with_capacity(self.streams.len());
        for id in self.stream_names.values() {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            let mut consumers = Vec::with_capacity(stream.consumers.len());
            for id in stream.consumers.values().copied().collect::<Vec<_>>() {
                if let Some(consumer) = self.consumers.get_mut(&id) {
                    consumer.recount_now(turn.store, stream, turn.now)?;
                    consumers.push(consumer.describe(stream, turn.now));
                }
            }
            streams.push((describe(stream, turn.store, turn.now), consumers));
        }
        Ok(Ok(Answer::Statistics(Box::new(Statistics {
            account: self.account_info(),
            streams,
            space: turn.store.space(),
            commits: self.commits,
            commit_histogram: self.commit_histogram,
            queued: self.queues.queued,
            queue_dropped: self.queues.dropped,
        }))))
    }
}

/// May be answered in a later turn as well as in this one.
fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::MessageGet { .. }
            | Request::DirectMessageGet { .. }
            | Request::Newest { .. }
            | Request::DirectGet { .. }
            | Request::StreamInfo { .. }
            | Request::StreamNames { .. }
            | Request::StreamList { .. }
            | Request::ConsumerNames { .. }
            | Request::ConsumerList { .. }
            | Request::Impossible { .. }
    )
}

/// About how many bytes an answer takes.
fn size_of(answer: &Answer) -> usize {
    match answer {
        Answer::Message(message) => message.bytes(),
        Answer::Direct(piece) => piece.messages.bytes(),
        Answer::Stream(info) => {
            let subjects = info.subjects.iter().flatten().map(|(subject, _)| subject.len() + INFO_BYTES / 8);
            INFO_BYTES + subjects.sum::<usize>() + info.deleted_list.as_ref().map_or(0, |list| list.len() * 8)
        }
        Answer::StreamList { streams, .. } => streams.len() * INFO_BYTES,
        Answer::ConsumerList { consumers, .. } => consumers.len() * INFO_BYTES,
        Answer::StreamNames { names, .. } | Answer::ConsumerNames { names, .. } => names.len() * INFO_BYTES / 8,
        _ => INFO_BYTES,
    }
}

fn changes(request: &Request) -> bool {
    matches!(
        request,
        Request::Pedantic(_)
            | Request::StreamCreate { .. }
            | Request::StreamUpdate { .. }
            | Request::TemplateCreate { .. }
            | Request::TemplateDelete { .. }
            | Request::StreamDelete { .. }
            | Request::StreamPurge { .. }
            | Request::MessageDelete { .. }
            | Request::ConsumerCreate { .. }
            | Request::SourceCreate { .. }
            | Request::ConsumerDelete { .. }
            | Request::ConsumerPause { .. }
            | Request::ConsumerReset { .. }
    )
}

/// Counts as a request of the API. In nats-server a consumer itself takes its resets, and streams take direct gets.
fn is_of_api(request: &Request) -> bool {
    use Request::{AnsweredEarly, ConsumerReset, DirectGet, DirectMessageGet, Newest, Records, Statistics};
    let is_direct = matches!(request, DirectGet { .. } | DirectMessageGet { .. } | Newest { .. } | AnsweredEarly);
    !is_direct && !matches!(request, Records { .. } | Statistics | ConsumerReset { .. })
}

/// Counts as one that failed. That a message is not there to be deleted is an answer like others.
fn counts_as_error(request: &Request, error: &ApiError) -> bool {
    let forbidden = [
        api_error::STREAM_NOT_FOUND,
        api_error::STREAM_SEALED,
        api_error::stream_msg_delete_failed("message delete not permitted"),
    ];
    let is_absent = !forbidden.contains(error);
    is_of_api(request) && !(matches!(request, Request::MessageDelete { .. }) && is_absent)
}

/// Records for their owners at start-up. Their number is bounded by whoever writes them.
fn records(turn: &mut Context<'_>, prefix: &[u8]) -> Answered {
    let mut records = Vec::new();
    turn.store.scan_records(prefix, prefix, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(Ok(Answer::Records(records)))
}

#[cfg(test)]
mod tests {
    use super::{ANSWERS_PER_TURN, Answer, Batch, Command, JetStream, MessageGet, Outcome, Request};
    use crate::Limits;
    use crate::command::{Append, Deliveries};
    use crate::config::StreamConfig;
    use crate::identity::{Now, Sequence, StreamId};
    use crate::store::memory::MemoryStore;

    const LARGE: usize = 1 << 20;

    fn turn(jetstream: &mut JetStream, store: &mut MemoryStore, batch: &Batch) -> Vec<Outcome> {
        let (now, mut outcomes, mut deliveries) = (Now::default(), Vec::new(), Deliveries::default());
        let mut events = Vec::new();
        jetstream.apply(store, now, batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
        jetstream.tick(store, now, &mut deliveries, &mut events).expect("ticks");
        outcomes
    }

    #[test]
    fn answers_of_a_turn_are_bounded_however_many_ask_for_a_large_message() {
        let mut store = MemoryStore::default();
        let (mut jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let request = |request: Request| Command::Request(Box::new(request));
        let mut batch = Batch::default();
        batch.commands.push(request(Request::StreamCreate { config: Box::new(StreamConfig::named("S")) }));
        let (subject, payload) = (batch.add(b"S"), batch.add(&vec![b'x'; LARGE]));
        batch.commands.push(Command::Append(Append { stream: StreamId::FIRST, subject, payload, ..Append::default() }));
        turn(&mut jetstream, &mut store, &batch);

        let get = |_| request(Request::MessageGet { name: "S".into(), get: MessageGet::Sequence(Sequence(1)) });
        let batch = Batch { commands: (0..1000).map(get).collect(), ..Batch::default() };
        for _ in 0..2 {
            let outcomes = turn(&mut jetstream, &mut store, &batch);
            let held = outcomes.iter().map(|outcome| match outcome {
                Outcome::Answer(answer) if matches!(**answer, Answer::Message(_)) => LARGE,
                _ => 0,
            });
            let held: usize = held.sum();
            assert!((ANSWERS_PER_TURN..=ANSWERS_PER_TURN + LARGE).contains(&held), "{held} bytes");
            assert!(matches!(outcomes.last(), Some(Outcome::Again)), "the others are to be asked again");
        }
    }
}
