//! Keep alive: a client that sends nothing for one and a half times what it promised is gone. `[MQTT-3.1.2-24]`
//! (3.1.1), `[MQTT-3.1.2-22]` (5)

/// The keep alive of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    seconds: u16,
    imposed: bool,
}

impl KeepAlive {
    /// From the CONNECT's keep alive; `max_seconds`, if not 0, is the longest a MQTT 5 client may choose, and what
    /// one that chose none gets. For 3.1.1, which can't be told, pass 0.
    pub const fn new(seconds: u16, max_seconds: u16) -> Self {
        if max_seconds != 0 && (seconds == 0 || seconds > max_seconds) {
            Self { seconds: max_seconds, imposed: true }
        } else {
            Self { seconds, imposed: false }
        }
    }

    /// The Server Keep Alive to tell in CONNACK, seconds. `[MQTT-3.2.2-21]`
    pub const fn server_keep_alive(&self) -> Option<u16> {
        if self.imposed { Some(self.seconds) } else { None }
    }

    /// When the connection is to be closed, given when its last whole packet arrived; `None`: never. Milliseconds of
    /// the caller's monotonic clock.
    pub const fn deadline_ms(&self, last_packet_ms: u64) -> Option<u64> {
        if self.seconds == 0 {
            return None;
        }
        Some(last_packet_ms.saturating_add(self.seconds as u64 * 1_500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_a_half_times() {
        assert_eq!(KeepAlive::new(1, 0).deadline_ms(10_000), Some(11_500));
        assert_eq!(KeepAlive::new(u16::MAX, 0).deadline_ms(0), Some(98_302_500));
        assert_eq!(KeepAlive::new(0, 0).deadline_ms(10_000), None);
        assert_eq!(KeepAlive::new(1, 0).deadline_ms(u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn a_maximum_is_imposed_and_told() {
        assert_eq!(KeepAlive::new(600, 60).server_keep_alive(), Some(60));
        assert_eq!(KeepAlive::new(600, 60).deadline_ms(0), Some(90_000));
        assert_eq!(KeepAlive::new(0, 60).server_keep_alive(), Some(60));
        assert_eq!(KeepAlive::new(60, 60).server_keep_alive(), None);
    }
}
