//! When a session ends after its connection, and when its will is due.

use crate::protocol::Version;

/// The session expiry interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionExpiry {
    /// With the connection: interval 0, and every clean session of 3.1.1.
    WithConnection,
    /// That many seconds after it, at least 1.
    After(u32),
    /// Never: interval `u32::MAX`, and every 3.1.1 session that is not clean.
    Never,
}

/// A DISCONNECT that gives a session that ends with its connection a life of its own: 0x82. `[MQTT-3.14.2.2.2]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("DISCONNECT extends a session that ends with its connection")]
pub struct ExpiryError;

impl SessionExpiry {
    /// From the interval on the wire, seconds.
    pub const fn from_interval(seconds: u32) -> Self {
        match seconds {
            0 => SessionExpiry::WithConnection,
            u32::MAX => SessionExpiry::Never,
            seconds => SessionExpiry::After(seconds),
        }
    }

    /// From a CONNECT: its interval, and in 3.1.1 its clean session flag alone.
    pub const fn of_connect(version: Version, clean: bool, interval_seconds: u32) -> Self {
        match (version, clean) {
            (Version::V311, true) => SessionExpiry::WithConnection,
            (Version::V311, false) => SessionExpiry::Never,
            (Version::V5, _) => Self::from_interval(interval_seconds),
        }
    }

    /// The interval on the wire, seconds.
    pub const fn interval(self) -> u32 {
        match self {
            SessionExpiry::WithConnection => 0,
            SessionExpiry::After(seconds) => seconds,
            SessionExpiry::Never => u32::MAX,
        }
    }

    /// No longer than `max_session_expiry` seconds; where that shortens it, CONNACK tells.
    pub fn capped(self, max_seconds: u32) -> Self {
        Self::from_interval(self.interval().min(max_seconds))
    }

    /// Whether the session is stored.
    pub const fn is_kept(self) -> bool {
        !matches!(self, SessionExpiry::WithConnection)
    }

    /// As a DISCONNECT changes it. `interval_seconds` is what the packet says, if it does.
    pub fn changed_by_disconnect(self, interval_seconds: Option<u32>, max_seconds: u32) -> Result<Self, ExpiryError> {
        match interval_seconds {
            None => Ok(self),
            Some(0) => Ok(SessionExpiry::WithConnection),
            Some(_) if self == SessionExpiry::WithConnection => Err(ExpiryError),
            Some(seconds) => Ok(Self::from_interval(seconds).capped(max_seconds)),
        }
    }

    /// When the session ends, given when its connection did; `None`: never. Milliseconds of the age clock.
    pub const fn ends_at_ms(self, disconnected_ms: u64) -> Option<u64> {
        match self {
            SessionExpiry::WithConnection => Some(disconnected_ms),
            SessionExpiry::After(seconds) => Some(disconnected_ms.saturating_add(seconds as u64 * 1_000)),
            SessionExpiry::Never => None,
        }
    }
}

/// When a will is to be published: after its delay, or with the end of its session if that comes first.
/// `[MQTT-3.1.2-8]`, `[MQTT-3.1.3-9]` Milliseconds of the age clock.
pub fn will_due(disconnected_ms: u64, delay_seconds: u32, expiry: SessionExpiry) -> u64 {
    let delayed = disconnected_ms.saturating_add(u64::from(delay_seconds) * 1_000);
    expiry.ends_at_ms(disconnected_ms).map_or(delayed, |end| end.min(delayed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_versions_say_it_differently() {
        assert_eq!(SessionExpiry::of_connect(Version::V311, false, 0), SessionExpiry::Never);
        assert_eq!(SessionExpiry::of_connect(Version::V311, true, u32::MAX), SessionExpiry::WithConnection);
        assert_eq!(SessionExpiry::of_connect(Version::V5, true, 7), SessionExpiry::After(7));
        assert_eq!(SessionExpiry::Never.capped(60), SessionExpiry::After(60));
        assert_eq!(SessionExpiry::Never.capped(u32::MAX), SessionExpiry::Never);
    }

    #[test]
    fn disconnect_shortens_but_does_not_revive() {
        assert_eq!(SessionExpiry::After(9).changed_by_disconnect(Some(3), 60), Ok(SessionExpiry::After(3)));
        assert_eq!(SessionExpiry::After(9).changed_by_disconnect(Some(0), 60), Ok(SessionExpiry::WithConnection));
        assert_eq!(SessionExpiry::After(9).changed_by_disconnect(Some(99), 60), Ok(SessionExpiry::After(60)));
        assert_eq!(SessionExpiry::WithConnection.changed_by_disconnect(Some(3), 60), Err(ExpiryError));
        assert_eq!(SessionExpiry::WithConnection.changed_by_disconnect(Some(0), 60), Ok(SessionExpiry::WithConnection));
        assert_eq!(SessionExpiry::WithConnection.changed_by_disconnect(None, 60), Ok(SessionExpiry::WithConnection));
    }

    #[test]
    fn a_will_waits_no_longer_than_its_session() {
        assert_eq!(will_due(1_000, 0, SessionExpiry::Never), 1_000);
        assert_eq!(will_due(1_000, 5, SessionExpiry::Never), 6_000);
        assert_eq!(will_due(1_000, 5, SessionExpiry::After(3)), 4_000);
        assert_eq!(will_due(1_000, 5, SessionExpiry::WithConnection), 1_000);
        assert_eq!(SessionExpiry::Never.ends_at_ms(1_000), None);
    }
}
