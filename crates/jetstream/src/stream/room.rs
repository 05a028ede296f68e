//! Room for a publish when the store has none: messages that a hub has confirmed go first, whatever stream they are of.
//!
//! A limit of one stream needs nothing of this: with `discard: old` its oldest message goes, and what is confirmed is always the oldest part. The limit of
//! all streams together (`max_file_store`) and the end of the disk refuse a publish; before they do, confirmed messages of forwarded streams are
//! removed: those first that everybody is done with ([`crate::forwarded::owed`]), then those that were confirmed longest ago (`hold`), and among the streams from the
//! one with the oldest message. Streams with `discard: new`,
//! sealed ones, and everything that is not confirmed stay as they are.

use crate::command::Forwarded;
use crate::forwarded::ledger::Cause;
use crate::identity::{AgeMillis, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{FrontLimits, Store, StoreError};
use crate::stream::{Among, Incoming, Removal};

/// Messages of one step: some more than one publish needs, so that not every publish of a full store pays for it.
const STEP: u64 = 64;
/// Most steps for one publish; one that needs more is refused, and finds more room when it comes again.
const MOST_STEPS: u32 = 256;
/// Freed in one go when the disk is full: whole pages become free only behind a stretch of messages.
const DISK_STEP: u64 = 256 * 1024;

/// What the engine is likely to need for a message, and some pages.
pub(crate) fn room_needed(message: &Incoming<'_>) -> u64 {
    message.size(StreamId::NONE) * 2 + DISK_STEP
}

impl JetStream {
    /// Removes confirmed messages until `needed` bytes of them are gone. `false`: there was none.
    pub(crate) fn make_room(&mut self, turn: &mut Context<'_>, needed: u64) -> Result<bool, StoreError> {
        let mut freed = self.release_held(turn, needed)?;
        for bound in [(|forwarded| forwarded.releasable) as fn(&Forwarded) -> Sequence, |forwarded| forwarded.confirmed]
        {
            for _ in 0..MOST_STEPS {
                if freed >= needed {
                    return Ok(true);
                }
                let Some((stream, up_to)) = self.oldest_confirmed(turn.store, bound)? else { break };
                let bytes = self.give_up(turn, stream, up_to)?;
                if bytes == 0 {
                    break;
                }
                freed += bytes;
            }
        }
        Ok(freed > 0)
    }

    /// The stream whose confirmed front is the oldest, and up to where it is confirmed.
    fn oldest_confirmed(
        &self,
        store: &mut dyn Store,
        bound: fn(&Forwarded) -> Sequence,
    ) -> Result<Option<(StreamId, Sequence)>, StoreError> {
        let mut oldest: Option<(AgeMillis, StreamId, Sequence)> = None;
        for id in self.stream_names.values() {
            let up_to = self.streams.get(id).and_then(|stream| stream.gives_up_to(bound));
            let Some(up_to) = up_to.filter(|up_to| store.state(*id).first <= *up_to) else { continue };
            let Some((first, stored)) = store.oldest(*id)? else { continue };
            if first <= up_to && oldest.is_none_or(|(age, ..)| stored.age < age) {
                oldest = Some((stored.age, *id, up_to));
            }
        }
        Ok(oldest.map(|(_, id, up_to)| (id, up_to)))
    }

    /// Removes one step of a stream's front, and accounts for it; how many bytes.
    fn give_up(&mut self, turn: &mut Context<'_>, id: StreamId, up_to: Sequence) -> Result<u64, StoreError> {
        let limits = FrontLimits {
            max_messages: u64::MAX,
            max_bytes: u64::MAX,
            stored_before: None,
            below: up_to.next(),
            limit: STEP,
        };
        let evicted = turn.store.evict(id, &limits)?;
        if evicted.messages == 0 {
            return Ok(0);
        }
        self.removed.push(Removal { evicted, among: Among::All, cause: Cause::Eviction });
        let bytes = turn.store.state(id).bytes;
        if let Some(stream) = self.streams.get_mut(&id) {
            self.stored_bytes = self.stored_bytes + bytes - stream.counted_bytes;
            stream.counted_bytes = bytes;
        }
        self.lazy_since.get_or_insert(turn.now.age);
        self.account_removed(turn, id)?;
        self.wake_consumers(turn, id);
        Ok(evicted.bytes)
    }
}
