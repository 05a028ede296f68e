//! Time zones by name, out of a database that is part of the program: what a schedule means does not depend on what is installed on a box.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    /// The one that nobody has to look up.
    Utc,
    /// Of the database.
    Named(TimeZone),
}

impl Zone {
    /// The zone of that name, written as the database writes it. There is no `Local`: a box has none that its messages could know.
    pub(crate) fn named(name: &str) -> Option<Zone> {
        if name == "UTC" {
            return Some(Zone::Utc);
        }
        let zone = TimeZone::get(name).ok()?;
        (zone.iana_name() == Some(name)).then_some(Zone::Named(zone))
    }

    /// How far its clock is ahead of UTC, seconds.
    pub(crate) fn offset_at(&self, unix: i64) -> i64 {
        match (self, Timestamp::from_second(unix)) {
            (Zone::Named(zone), Ok(at)) => i64::from(zone.to_offset(at).seconds()),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Zone;

    #[test]
    fn zones_are_known_by_their_exact_names() {
        for name in ["UTC", "Etc/UTC", "Europe/Berlin", "America/New_York"] {
            assert!(Zone::named(name).is_some(), "{name}");
        }
        for name in ["", "Local", "europe/berlin", "../etc/passwd", "Nowhere", "+01:00"] {
            assert!(Zone::named(name).is_none(), "{name}");
        }
    }
}
