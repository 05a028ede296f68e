//! Says in the log that session queues drop messages: the first at once, what follows in one line each [`QUIET`]. The counter is in `/metrics`.

use std::time::Duration;

use jetstream::identity::SessionId;
use server::CoreHandle;

/// No second line within this.
const QUIET: Duration = Duration::from_secs(10);

/// What was dropped and not said yet.
#[derive(Debug, Default)]
pub(crate) struct QueueDrops {
    /// Messages since the last line.
    messages: u64,
    /// Monotonic microseconds of the next line at the earliest.
    quiet_until: u64,
}

impl QueueDrops {
    /// A session's queue dropped messages.
    pub(crate) fn note(&mut self, core: &CoreHandle, session: SessionId, messages: u64) {
        let (now, client) = core.with(|core| {
            let client = core.broker.mqtt_client_of(session).unwrap_or_default().to_owned();
            (core.clock.now().micros, client)
        });
        if let Some(messages) = self.due(now, messages) {
            tracing::warn!(
                client,
                messages,
                "the queue of an MQTT session is full (mqtt_limits: max_queued_messages, max_queued_bytes) or its stream forgets: \
                 its oldest messages are dropped"
            );
        }
    }

    /// How many to tell of, if a line is due.
    fn due(&mut self, now: u64, messages: u64) -> Option<u64> {
        self.messages += messages;
        if now < self.quiet_until {
            return None;
        }
        self.quiet_until = now + QUIET.as_micros() as u64;
        Some(std::mem::take(&mut self.messages))
    }
}

#[cfg(test)]
mod tests {
    use super::QueueDrops;

    #[test]
    fn a_flood_of_drops_is_a_line_each_ten_seconds() {
        let mut drops = QueueDrops::default();
        assert_eq!(drops.due(1, 2), Some(2));
        assert_eq!(drops.due(5_000_000, 3), None);
        assert_eq!(drops.due(10_000_000, 4), None);
        assert_eq!(drops.due(10_000_001, 1), Some(8));
    }
}
