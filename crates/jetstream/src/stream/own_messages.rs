//! Messages that the server itself stores in a user's stream: markers ([`crate::stream::aging`]) and what was scheduled ([`crate::schedule::scheduling`]). They have passed
//! what a publish has to pass; the stream's limits hold for them as for others.

use crate::api_error;
use crate::command::Event;
use crate::config::Storage;
use crate::identity::StreamId;
use crate::jetstream::{Context, JetStream};
use crate::store::StoreError;
use crate::stream::publish_header::PublishHeaders;
use crate::stream::{Incoming, Judged, Verdict};

impl JetStream {
    /// Stores a message. What it removes is in `removed`, and the stream's bytes are counted by whoever settles it.
    pub(crate) fn append_own(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        message: &Incoming<'_>,
    ) -> Result<Verdict, StoreError> {
        self.release_for(turn, id, (1, message.size(id)))?;
        let lacking = self.lacking(turn, id, message);
        if lacking > 0 && !id.is_volatile() {
            self.make_room(turn, lacking)?;
        }
        if lacking > 0 && self.lacking(turn, id, message) > 0 {
            return Ok(Verdict::Refused(api_error::STORAGE_RESOURCES_EXCEEDED));
        }
        let before = self.before_republish(turn, id, message.subject);
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(Verdict::Refused(api_error::STREAM_NOT_FOUND));
        };
        let headers = PublishHeaders::scan(message.headers);
        let state = turn.store.state(id);
        let judged = Judged { headers: &headers, id_hash: None, most_ids: 0, state, clock: turn.now };
        let verdict = stream.keep(turn.store, turn.now, message, &judged, &mut self.removed)?;
        if let Verdict::Stored(sequence) = verdict {
            self.sync |= !id.is_volatile();
            if let Some(before) = before {
                self.republish(turn, id, message, sequence, before);
            }
        }
        self.lazy_since.get_or_insert(turn.now.age);
        turn.events.push(Event::Stored { stream: id, last: turn.store.state(id).last });
        Ok(verdict)
    }

    /// By how much it would exceed what all streams together may hold.
    fn lacking(&self, turn: &Context<'_>, id: StreamId, message: &Incoming<'_>) -> u64 {
        let (held, storage) =
            if id.is_volatile() { (self.memory_bytes, Storage::Memory) } else { (self.stored_bytes, Storage::File) };
        // Counted when the stream is settled: what this turn has added to it is not in the total yet.
        let counted = self.streams.get(&id).map_or(0, |stream| stream.counted_bytes);
        let held = held + turn.store.state(id).bytes - counted;
        self.most_bytes(storage).map_or(0, |max| (held + message.size(id)).saturating_sub(max))
    }
}
