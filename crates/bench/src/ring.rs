//! Ready-made frames of equal length, sent round and round, and the window that keeps a number of them unacknowledged.

use std::time::Duration;

use anyhow::Result;

use crate::outcome::Meter;

/// Frames, one behind the other.
pub(crate) struct Ring {
    bytes: Vec<u8>,
    frame: usize,
    next: usize,
}

/// What the window needs of a connection.
pub(crate) trait Acknowledged {
    /// Writes all.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Waits for acknowledgements, and says how many came.
    fn acknowledgements(&mut self) -> Result<u64>;
}

/// When a publisher stops: at so many messages or after so much time.
#[derive(Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) messages: u64,
    pub(crate) time: Duration,
}

impl Limit {
    /// At most so many messages and seconds, both times the scale.
    pub(crate) fn new(messages: f64, seconds: f64, scale: f64) -> Limit {
        Limit { messages: ((messages * scale) as u64).max(1), time: Duration::from_secs_f64(seconds * scale) }
    }

    /// Whether it has been reached.
    pub(crate) fn reached(&self, messages: u64, meter: &Meter<'_>) -> bool {
        messages >= self.messages || meter.elapsed() >= self.time
    }
}

impl Ring {
    /// `count` frames; all must be as long as the first.
    pub(crate) fn new(count: usize, mut frame: impl FnMut(usize) -> Vec<u8>) -> Ring {
        let length = frame(0).len();
        let mut bytes = Vec::with_capacity(count * length);
        for number in 0..count {
            bytes.extend_from_slice(&frame(number));
        }
        assert_eq!(bytes.len(), count * length, "frames of one length");
        Ring { bytes, frame: length, next: 0 }
    }

    /// At most `count` frames that lie together, and how many they are.
    pub(crate) fn take(&mut self, count: u64) -> (&[u8], u64) {
        let all = self.bytes.len() / self.frame;
        let first = self.next % all;
        let taken = (all - first).min(usize::try_from(count).unwrap_or(usize::MAX));
        self.next = first + taken;
        (&self.bytes[first * self.frame..(first + taken) * self.frame], taken as u64)
    }

    /// Keeps `in_flight` frames unacknowledged until the limit; returns when all that was sent is acknowledged.
    pub(crate) fn pump(
        &mut self,
        connection: &mut impl Acknowledged,
        in_flight: u64,
        limit: Limit,
        meter: &Meter<'_>,
    ) -> Result<u64> {
        let (mut sent, mut acknowledged) = (0, 0);
        loop {
            let more = !limit.reached(sent, meter);
            while more && sent - acknowledged < in_flight && sent < limit.messages {
                let (bytes, count) = self.take((in_flight - (sent - acknowledged)).min(limit.messages - sent));
                connection.write(bytes)?;
                sent += count;
            }
            if !more && sent == acknowledged {
                return Ok(sent);
            }
            acknowledged += connection.acknowledgements()?;
        }
    }
}
