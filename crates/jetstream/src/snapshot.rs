//! What a snapshot holds of a stream at one moment, apart from its messages: configuration, counters, and where its consumers stand.
//!
//! The messages are read afterwards, in slices, up to the last sequence of that moment. What is removed meanwhile may be missing, and what comes
//! meanwhile is not part of it.

use crate::api_error;
use crate::command::{Answer, StreamInfo};
use crate::config::{ConsumerConfig, DeliverPolicy};
use crate::consumer::{Consumer, before};
use crate::identity::{AgeMillis, Now, Sequence, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::stream::requests::{Answered, describe};

/// Outstanding messages of all consumers in a snapshot: some megabytes of JSON. A consumer that has more goes back to its ack floor: what may not have been
/// acknowledged is delivered again.
const MOST_OUTSTANDING: usize = 1 << 15;

/// A stream at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its configuration and counters.
    pub info: StreamInfo,
    /// Its consumers, if they were asked for.
    pub consumers: Vec<ConsumerSnapshot>,
}

/// A consumer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSnapshot {
    /// Its configuration, complete.
    pub config: ConsumerConfig,
    /// Where it stands.
    pub position: ConsumerPosition,
}

/// Where a consumer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerPosition {
    /// The last delivery: consumer and stream sequence.
    pub delivered: (u64, Sequence),
    /// Everything up to here is acknowledged.
    pub ack_floor: (u64, Sequence),
    /// Delivered and not acknowledged, in order.
    pub outstanding: Vec<OutstandingMessage>,
}

/// A message that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutstandingMessage {
    /// Which.
    pub sequence: Sequence,
    /// Consumer sequence of its delivery.
    pub delivery: u64,
    /// When it was delivered last.
    pub time: Timestamp,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl JetStream {
    pub(crate) fn snapshot(&mut self, turn: &mut Context<'_>, name: &str, with_consumers: bool) -> Answered {
        let Some(id) = self.stream_names.get(name).copied() else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        self.settle(turn, id)?;
        let Some(stream) = self.streams.get(&id) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let info = describe(stream, turn.store, turn.now);
        let mut room = MOST_OUTSTANDING;
        let listed = stream.listed().filter(|_| with_consumers).filter_map(|(_, id)| self.consumers.get(&id));
        let consumers = listed
            .map(|consumer| ConsumerSnapshot {
                config: consumer.config.clone(),
                position: consumer.position(info.state.last, turn.now, &mut room),
            })
            .collect();
        Ok(Ok(Answer::Snapshot(Box::new(Snapshot { info, consumers }))))
    }
}

impl Consumer {
    /// Where it stands in a stream that ends there; `room`: how many more outstanding messages there is memory for.
    fn position(&self, last: Sequence, now: Now, room: &mut usize) -> ConsumerPosition {
        let (floor_delivery, floor) = self.ack_floor();
        let ack_floor = (floor_delivery.0, floor.min(last));
        if self.pending.len() > *room as u64 {
            return ConsumerPosition { delivered: ack_floor, ack_floor, outstanding: Vec::new() };
        }
        *room -= self.pending.len() as usize;
        let outstanding = self.pending.iter().map(|(sequence, entry)| OutstandingMessage {
            sequence,
            delivery: entry.first_delivery,
            time: self.delivery_time(entry.due, entry.deliveries, now),
            deliveries: u64::from(entry.deliveries),
        });
        // What the selection left out is not to be sent after it.
        let is_behind_selection =
            self.config.deliver_policy == DeliverPolicy::LastPerSubject && self.selection.is_none();
        let delivered = if is_behind_selection { before(self.next) } else { self.reached }.min(last);
        ConsumerPosition { delivered: (self.delivered, delivered), ack_floor, outstanding: outstanding.collect() }
    }

    /// When a message was delivered last that is due again then.
    fn delivery_time(&self, due: AgeMillis, deliveries: u32, now: Now) -> Timestamp {
        let Some(wait) = self.wait(deliveries) else { return now.wall };
        let left = due.0.saturating_sub(now.age.0).min(wait);
        let since = i64::try_from(wait - left).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        Timestamp(now.wall.0.saturating_sub(since))
    }
}
