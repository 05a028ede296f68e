//! API requests: one arm each, the work is in `stream_requests` and `consumer_requests`.

use crate::command::{Answer, Outcome, Request, Statistics};
use crate::jetstream::{Context, JetStream};
use crate::store::StoreError;
use crate::stream_requests::{Answered, describe};

impl JetStream {
    /// Answers a request. Only those that change something wait for the disk.
    pub(crate) fn request(&mut self, turn: &mut Context<'_>, request: &Request) -> Result<Outcome, StoreError> {
        self.api_total += 1;
        self.sync |= changes(request) || turn.store.is_dirty();
        let answer = match self.answer(turn, request)? {
            Ok(answer) => answer,
            Err(error) => {
                self.api_errors += 1;
                Answer::Error(error)
            }
        };
        Ok(Outcome::Answer(Box::new(answer)))
    }

    fn answer(&mut self, turn: &mut Context<'_>, request: &Request) -> Answered {
        match request {
            Request::AccountInfo => Ok(Ok(Answer::AccountInfo(self.account_info()))),
            Request::StreamCreate { config } => self.create_stream(turn, config),
            Request::StreamUpdate { config } => self.update_stream(turn, config),
            Request::StreamInfo { name, subjects_filter, deleted_details, offset } => {
                self.stream_info(turn, name, subjects_filter.as_deref(), *deleted_details, *offset)
            }
            Request::StreamNames { subject, offset } => Ok(self.stream_names_page(subject.as_deref(), *offset)),
            Request::StreamList { subject, offset } => Ok(self.stream_list_page(turn, subject.as_deref(), *offset)),
            Request::StreamDelete { name } => self.delete_stream(turn, name),
            Request::StreamPurge { name, filter, below, keep } => {
                self.purge_stream(turn, name, filter.as_deref(), *below, *keep)
            }
            Request::MessageGet { name, get } => self.get_message(turn, name, get),
            Request::MessageDelete { name, sequence, erase } => self.delete_message(turn, name, *sequence, *erase),
            Request::ConsumerCreate { stream, config, action } => self.create_consumer(turn, stream, config, *action),
            Request::ConsumerInfo { stream, name } => self.consumer_info(turn, stream, name),
            Request::ConsumerNames { stream, offset } => self.consumer_names_page(stream, *offset),
            Request::ConsumerList { stream, offset } => self.consumer_list_page(turn, stream, *offset),
            Request::ConsumerDelete { stream, name } => self.delete_consumer(turn, stream, name),
            Request::ConsumerPause { stream, name, until } => self.pause_consumer(turn, stream, name, *until),
            Request::Records { prefix } => records(turn, prefix),
            Request::Statistics => self.statistics(turn),
        }
    }
}

impl JetStream {
    fn statistics(&mut self, turn: &mut Context<'_>) -> Answered {
        let mut streams = Vec::with_capacity(self.streams.len());
        for stream in self.stream_names.values().filter_map(|id| self.streams.get(id)) {
            let mut consumers = Vec::with_capacity(stream.consumers.len());
            for id in stream.consumers.values() {
                if let Some(consumer) = self.consumers.get_mut(id) {
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

fn changes(request: &Request) -> bool {
    matches!(
        request,
        Request::StreamCreate { .. }
            | Request::StreamUpdate { .. }
            | Request::StreamDelete { .. }
            | Request::StreamPurge { .. }
            | Request::MessageDelete { .. }
            | Request::ConsumerCreate { .. }
            | Request::ConsumerDelete { .. }
            | Request::ConsumerPause { .. }
    )
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
