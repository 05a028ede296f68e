//! What a stream's consumers hear of it: that there is something new, and what is gone. Few are told one by one; of many only those that it
//! concerns ([`crate::stream::audience`]).

use crate::command::Event;
use crate::config::Retention;
use crate::consumer::{Consumer, PASSED_UNSAVED};
use crate::forwarded::ledger::Cause;
use crate::identity::{AgeMillis, ConsumerId, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError, StreamState};
use crate::stream::audience::Fresh;
use crate::stream::{Among, Removal, Stream};

impl JetStream {
    /// Its consumers have something to look at: new messages, or a beginning that has moved.
    pub(crate) fn wake_consumers(&mut self, turn: &Context<'_>, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (shrunk, purged) = (std::mem::take(&mut stream.shrunk), std::mem::take(&mut stream.purged));
        let state = turn.store.state(id);
        let end = Some((stream.appended, state.last));
        let is_longer = std::mem::replace(&mut stream.woken_at, end) != end;
        if !is_longer && !shrunk {
            // Only asked about: there may be thousands of consumers, and nothing for any of them.
            return;
        }
        if stream.audience.is_crowd() {
            if is_longer {
                self.wake_concerned(id, state.last);
            }
            return;
        }
        self.wake_all(id, state.last, shrunk.then_some((state.first, purged)));
    }

    /// `shrunk`: messages left it; where it begins now, and was that a purge?
    fn wake_all(&mut self, id: StreamId, last: Sequence, shrunk: Option<(Sequence, bool)>) {
        let Some(stream) = self.streams.get(&id) else { return };
        for id in stream.consumers.values() {
            let Some(consumer) = self.consumers.get_mut(id) else { continue };
            if let Some((first, is_purged)) = shrunk {
                consumer.move_to_first(first, is_purged);
                if consumer.dirty && consumer.is_stored() && !consumer.delivering.listed {
                    consumer.delivering.listed = true;
                    self.dirty.push(*id);
                }
            }
            if !consumer.delivering.ready
                && !consumer.delivering.waiting.is_empty()
                && !consumer.passes_to(stream, last)
            {
                consumer.delivering.ready = true;
                self.ready.push(*id);
            }
        }
    }

    /// Those of many for which something came.
    fn wake_concerned(&mut self, id: StreamId, last: Sequence) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let (concerned, is_for_all) = stream.audience.take_concerned();
        for (id, fresh) in concerned {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            match fresh {
                Some(fresh) => consumer.passes_before(fresh),
                None => consumer.delivering.at_end = false,
            }
            self.serve_soon(id);
        }
        if is_for_all {
            self.wake_all(id, last, None);
        }
    }

    /// Tells the owner, the stream's ledger and its consumers what is gone.
    pub(crate) fn account_removed(&mut self, turn: &mut Context<'_>, id: StreamId) -> Result<(), StoreError> {
        self.account_lost(turn, id)?;
        let state = turn.store.state(id);
        let mut is_crowd = false;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.shrunk = true;
            if self.removed.iter().any(|removal| removal.cause == Cause::Purge) {
                stream.note_purge();
            }
            is_crowd = stream.audience.is_crowd();
        }
        for removal in std::mem::take(&mut self.removed) {
            if is_crowd {
                self.tell_concerned(turn, id, &removal, &state)?;
            } else {
                self.tell_all(turn, id, &removal)?;
            }
            let gone = removal.evicted;
            match turn.events.last_mut() {
                Some(Event::Removed { stream, last, messages, oldest, .. })
                    if *stream == id && last.next() == gone.first =>
                {
                    *last = gone.last;
                    *messages += gone.messages;
                    *oldest = state.first;
                }
                _ => turn.events.push(Event::Removed {
                    stream: id,
                    first: gone.first,
                    last: gone.last,
                    messages: gone.messages,
                    oldest: state.first,
                }),
            }
        }
        Ok(())
    }

    fn tell_all(&mut self, turn: &mut Context<'_>, id: StreamId, removal: &Removal) -> Result<(), StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        for consumer in stream.consumers.values() {
            if let Some(consumer) = self.consumers.get_mut(consumer) {
                consumer.account_removed(removal);
                consumer.forget_removed(turn.store, removal)?;
                turn.events.extend(consumer.news.drain(..).map(Event::Advisory));
            }
        }
        Ok(())
    }

    /// Tells those of many that have anything to do with what is gone.
    fn tell_concerned(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        removal: &Removal,
        state: &StreamState,
    ) -> Result<(), StoreError> {
        let mut concerned = std::mem::take(&mut self.concerned);
        let last = removal.evicted.last;
        // The beginning may have moved past what went earlier.
        let below = last.max(Sequence(state.first.0.saturating_sub(1)));
        if let Some(stream) = self.streams.get(&id) {
            stream.audience.concerned_by(below, &mut concerned);
        }
        for (_, id) in concerned.drain(..) {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            let Some(stream) = self.streams.get_mut(&consumer.stream) else { continue };
            if !consumer.delivering.waiting.is_empty() {
                consumer.passes_to(stream, state.last);
            }
            consumer.account_removed(removal);
            stream.audience.counted_off(id, last);
            consumer.forget_removed(turn.store, removal)?;
            consumer.move_to_first(state.first, removal.cause == Cause::Purge);
            turn.events.extend(consumer.news.drain(..).map(Event::Advisory));
            if consumer.may_be_parked(stream, removal) {
                consumer.recount = Some(AgeMillis(0));
                consumer.parked_at = stream.purges;
                stream.audience.park(id);
            } else if consumer.lowest() > last {
                stream.audience.place(id, consumer.lowest());
            }
            // There may be room for another message now.
            self.serve_soon(id);
            self.list_dirty(id, turn.now);
        }
        self.concerned = concerned;
        Ok(())
    }

    /// Messages that nobody needs any more left the stream. Somebody may have them outstanding all the same, who has had other filters: of them he is told
    /// what lies below the beginning.
    pub(crate) fn begins_later(&mut self, turn: &mut Context<'_>, id: StreamId) {
        let first = turn.store.state(id).first;
        let is_interest = |stream: &&mut Stream| stream.config.retention == Retention::Interest;
        let Some(stream) = self.streams.get_mut(&id).filter(is_interest) else { return };
        if !stream.audience.is_crowd() {
            stream.shrunk = true;
            return self.touch(id);
        }
        let mut concerned = std::mem::take(&mut self.concerned);
        stream.audience.concerned_by(Sequence(first.0.saturating_sub(1)), &mut concerned);
        for (_, id) in concerned.drain(..) {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            let Some(stream) = self.streams.get_mut(&consumer.stream) else { continue };
            consumer.move_to_first(first, false);
            stream.audience.place(id, consumer.lowest());
            self.serve_soon(id);
            self.list_dirty(id, turn.now);
        }
        self.concerned = concerned;
    }

    /// Who waits at it now, or did until now, has let go by what did not match: it stands behind that, also if it was not woken for it.
    pub(crate) fn pass_unmatched(&mut self, store: &dyn Store, id: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| !consumer.delivering.waiting.is_empty())
            && let Some(stream) = self.streams.get(&consumer.stream)
        {
            consumer.passes_to(stream, store.state(stream.id).last);
        }
    }
}

impl Consumer {
    /// It has sent everything, and who waits is for what comes next.
    pub(crate) fn note_end(&mut self, stream: &mut Stream) {
        // One with filters is woken by what matches them.
        if !self.delivering.at_end && !self.delivering.waiting.is_empty() && self.config.filters.is_empty() {
            self.delivering.at_end = stream.audience.note_end(self.id);
        }
    }

    /// The lowest message that it has still to do with, or where it goes on.
    pub(crate) fn lowest(&self) -> Sequence {
        let outstanding = [&self.pending, &self.held].map(|outstanding| outstanding.first().map(|(first, _)| first));
        let selected = self.selection.as_ref().and_then(|(sequences, _)| sequences.front().copied());
        outstanding.into_iter().chain([selected]).flatten().fold(self.next, Sequence::min)
    }

    /// It has nothing outstanding and nobody waits: what it is told would only change what is left for it, and that is counted when somebody asks.
    fn may_be_parked(&self, stream: &Stream, removal: &Removal) -> bool {
        let is_idle = self.delivering.waiting.is_empty() && self.selection.is_none();
        let is_counted_anew =
            self.config.filters.is_empty() || matches!(removal.among, Among::All) || self.left(stream) == 0;
        is_idle && is_counted_anew && self.pending.len() == 0 && self.held.len() == 0
    }

    /// Messages for it came, and it may be certain that there was nothing for it before them.
    fn passes_before(&mut self, fresh: Fresh) {
        // One that nobody waits at stays where it is: with other filters it may still want what it has not looked at.
        let is_used = !self.delivering.waiting.is_empty();
        let is_certain = is_used && self.recount.is_none() && self.selection.is_none() && self.redeliver.is_empty();
        let is_all_taken = fresh.before.is_some_and(|before| before.wrapping_sub(self.counted) as i64 <= 0);
        if is_certain && is_all_taken && self.next < fresh.first {
            self.dirty |= self.next.0 / PASSED_UNSAVED < fresh.first.0 / PASSED_UNSAVED;
            self.next = fresh.first;
        }
    }
}
