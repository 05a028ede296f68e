//! What consumers tell of single messages: refused, terminated, given up, and a sample of the acknowledged ones.

use crate::advisory::{Advisory, DeliveryFact};
use crate::api_error::{self, ApiError};
use crate::command::Event;
use crate::config::AckPolicy;
use crate::consumer::Consumer;
use crate::consumer::ack_subject::AckPlace;
use crate::forwarded::ledger::Cause;
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence};
use crate::jetstream::{Context, JetStream};
use crate::store::{Evicted, MessageBuffer, Store, StoreError, undamaged};
use crate::stream::{Among, Removal};

/// Why an outstanding message is over that left its stream: stock's words.
const REMOVED: &str = "Unacknowledged message was deleted";
/// Outstanding messages of one removal that are told.
const MOST_TOLD: usize = 1024;
/// Outstanding messages of one removal that are looked for.
const MOST_LOOKED_FOR: usize = 1024;

impl JetStream {
    /// Hands out what a consumer has to tell.
    pub(crate) fn announce(&mut self, turn: &mut Context<'_>, id: ConsumerId) {
        if let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| !consumer.news.is_empty()) {
            turn.events.extend(consumer.news.drain(..).map(Event::Advisory));
        }
    }
}

impl Consumer {
    fn tell(&mut self, what: DeliveryFact, sequence: Sequence, consumer_sequence: u64, deliveries: u64) {
        self.news.push(Advisory::Delivery { consumer: self.id, what, sequence, consumer_sequence, deliveries });
    }

    /// The client said that it does not want it now.
    pub(crate) fn tell_refused(&mut self, place: &AckPlace) {
        self.tell(DeliveryFact::Refused, place.sequence, place.consumer_sequence, place.deliveries);
    }

    /// The client said that nobody is to get it any more.
    pub(crate) fn tell_terminated(&mut self, place: &AckPlace, reason: &[u8]) {
        let reason = String::from_utf8_lossy(reason.trim_ascii()).into();
        self.tell(DeliveryFact::Terminated { reason }, place.sequence, place.consumer_sequence, place.deliveries);
    }

    /// It was delivered as often as may be.
    pub(crate) fn tell_exceeded(&mut self, sequence: Sequence, deliveries: u32) {
        self.tell(DeliveryFact::Exceeded, sequence, 0, u64::from(deliveries));
    }

    /// Messages left the stream: those that were outstanding are as good as terminated, unless somebody purged them.
    pub(crate) fn tell_removed(&mut self, removal: &Removal) {
        let Evicted { first, last, .. } = removal.evicted;
        if self.pending.len() == 0
            || removal.cause == Cause::Purge
            || (first != last && !matches!(removal.among, Among::All))
        {
            return;
        }
        let mut outstanding = Vec::new();
        self.pending.between(first, last, MOST_TOLD, &mut outstanding);
        for sequence in outstanding {
            let Some(entry) = self.pending.get(sequence) else { continue };
            let what = DeliveryFact::Terminated { reason: REMOVED.into() };
            self.tell(what, sequence, entry.first_delivery, u64::from(entry.received()));
        }
    }

    /// Messages that a filter chose left the stream. What is outstanding of them can't be sent again: their places are free for others.
    pub(crate) fn forget_removed(&mut self, store: &mut dyn Store, removal: &Removal) -> Result<(), StoreError> {
        let Evicted { first, last, .. } = removal.evicted;
        if self.pending.len() == 0 || first == last || matches!(removal.among, Among::All) {
            return Ok(());
        }
        // Where there are more, they are found to be gone when their turn comes.
        let (mut outstanding, mut buffer) = (Vec::new(), MessageBuffer::default());
        self.pending.between(first, last, MOST_LOOKED_FOR, &mut outstanding);
        for sequence in outstanding {
            buffer.clear();
            if !undamaged(store, self.stream, sequence, &mut buffer)? {
                self.pending.remove(sequence);
                self.held.remove(sequence);
                self.dirty = true;
            }
        }
        Ok(())
    }

    /// An acknowledgement, before it is applied: one of the share that was asked for is told.
    pub(crate) fn sample(&mut self, place: &AckPlace, now: Now) {
        let Some(entry) = self.pending.get(place.sequence).filter(|_| self.config.ack_policy == AckPolicy::Explicit)
        else {
            return;
        };
        // Spread evenly over the deliveries, and the same each time.
        let drawn = (place.consumer_sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100;
        if drawn >= u64::from(self.sampled) {
            return;
        }
        let wait = self.wait(entry.deliveries).unwrap_or(0);
        let delivered = if entry.due == AgeMillis(u64::MAX) { now.age.0 } else { entry.due.0.saturating_sub(wait) };
        let after_ns = now.age.0.saturating_sub(delivered).saturating_mul(1_000_000);
        let what = DeliveryFact::Acknowledged { after_ns };
        self.tell(what, place.sequence, place.consumer_sequence, place.deliveries);
    }
}

/// Per cent of acknowledgements that are told; the text was checked.
pub(crate) fn sampled(text: &str) -> u8 {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<u64>().unwrap_or(0);
    percent.min(100) as u8
}

/// Checks the share of acknowledgements that are told. Errors are those of Go's `Atoi`.
pub(crate) fn check_sampling(text: &str) -> Result<(), ApiError> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let refused = |why: &str| {
        let text = format_args!("strconv.Atoi: parsing {number:?}: {why}");
        Err(api_error::consumer_invalid_sampling(text))
    };
    if text.is_empty() {
        return Ok(());
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("invalid syntax");
    }
    match number.parse::<i64>() {
        Err(_) => refused("value out of range"),
        // Stock has no error to show here.
        Ok(..0) => Err(api_error::consumer_invalid_sampling("<nil>")),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_sampling, sampled};

    #[test]
    fn shares_are_read_and_checked_as_stock_does() {
        assert_eq!(["", "7", "50%", "100", "250%", "+3"].map(sampled), [0, 7, 50, 100, 100, 3]);
        let refused = |text| check_sampling(text).err().map(|error| error.description.into_owned()).unwrap_or_default();
        let begin = "failed to parse consumer sampling configuration: ";
        for good in ["", "0", "100", "250", "33%", "+3"] {
            assert_eq!(refused(good), "", "{good}");
        }
        assert_eq!(refused("x%"), format!("{begin}strconv.Atoi: parsing \"x\": invalid syntax"));
        assert_eq!(refused("%"), format!("{begin}strconv.Atoi: parsing \"\": invalid syntax"));
        assert_eq!(
            refused("99999999999999999999"),
            format!("{begin}strconv.Atoi: parsing \"99999999999999999999\": value out of range")
        );
        assert_eq!(refused("-1"), format!("{begin}<nil>"));
    }
}
