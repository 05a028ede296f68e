//! A consumer begins anew: at its ack floor, or where it is told to. What was outstanding is forgotten, and deliveries count from 1 again.

use crate::api_error;
use crate::command::Answer;
use crate::config::{DeliverPolicy, Retention};
use crate::consumer::Consumer;
use crate::identity::{HIGHEST_SEQUENCE, Sequence, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError};
use crate::stream::requests::Answered;
use crate::stream::sweep::Sweep;

impl JetStream {
    /// Resets a consumer. `sequence`: where it begins; 0: behind what was acknowledged.
    pub(crate) fn reset_consumer(
        &mut self,
        turn: &mut Context<'_>,
        stream: &str,
        name: &str,
        sequence: Sequence,
        with_identity: bool,
    ) -> Answered {
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let identity = with_identity.then(|| self.stream_identity(stream.id, stream.created));
        let (id, stream) = (stream.consumers.get(name).copied(), stream.id);
        self.settle(turn, stream)?;
        let consumer = id.and_then(|id| self.consumers.get_mut(&id));
        let (Some(id), Some(consumer), Some(described)) = (id, consumer, self.streams.get_mut(&stream)) else {
            return Ok(Err(api_error::CONSUMER_NOT_FOUND));
        };
        let begin = match consumer.begins_at(turn.store, sequence)? {
            Ok(begin) => begin,
            Err(text) => return Ok(Err(api_error::consumer_invalid_reset(text))),
        };
        let from = consumer.ack_floor().1.next();
        let from = consumer.held.first().map_or(from, |(held, _)| held.min(from));
        consumer.begin_at(turn.store, begin);
        consumer.recount_now(turn.store, described, turn.now)?;
        let mut info = consumer.describe(described, turn.now);
        info.stream_identity = identity;
        if consumer.retention == Retention::Interest && begin > from {
            // What it was to get and does not any more may be nobody's.
            let last = Sequence(begin.0.saturating_sub(1));
            self.sweep_later(turn.store, stream, Sweep { next: from, last, only_matched: true })?;
        }
        self.list_dirty(id, turn.now);
        self.serve_soon(id);
        self.schedule(id);
        Ok(Ok(Answer::Reset { info: Box::new(info), sequence: begin }))
    }
}

impl Consumer {
    /// Where a reset begins; a text when it may not.
    fn begins_at(&self, store: &mut dyn Store, wanted: Sequence) -> Result<Result<Sequence, &'static str>, StoreError> {
        if wanted.0 == 0 {
            return Ok(Ok(self.ack_floor().1.next().max(Sequence(1))));
        }
        let wanted = wanted.min(HIGHEST_SEQUENCE);
        Ok(match self.config.deliver_policy {
            DeliverPolicy::All => Ok(wanted),
            DeliverPolicy::FromSequence(start) if wanted < start => Err("below start seq"),
            DeliverPolicy::FromSequence(_) => Ok(wanted),
            DeliverPolicy::FromTime(time) if wanted < store.first_at(self.stream, time)? => Err("below start time"),
            DeliverPolicy::FromTime(_) => Ok(wanted),
            DeliverPolicy::Last | DeliverPolicy::New | DeliverPolicy::LastPerSubject => Err("not allowed"),
        })
    }

    fn begin_at(&mut self, store: &mut dyn Store, begin: Sequence) {
        self.pending.remove_up_to(Sequence(u64::MAX));
        self.held.remove_up_to(Sequence(u64::MAX));
        self.redeliver.clear();
        self.stand_before(begin);
        if let Some((_, end)) = self.selection.take() {
            self.select_last_per_subject(store, end);
        }
        self.delivered = 0;
        (self.last_delivery, self.last_ack) = (Timestamp(0), Timestamp(0));
        self.dirty = true;
        self.recount_soon();
    }
}
