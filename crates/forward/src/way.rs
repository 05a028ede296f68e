//! How to send, by what the hub is and what its stream allows. Batches are those of ADR-50.

/// A version as INFO says it, compared number by number; what follows the numbers is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u16, pub u16, pub u16);

impl Version {
    /// Reads `2.14.0-preview`; what can't be read is 0.
    #[must_use]
    pub fn parse(text: &str) -> Version {
        let mut parts = text.trim_start_matches('v').splitn(3, '.').map(|part| {
            let digits = part.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().unwrap_or(0)
        });
        let mut next = || parts.next().unwrap_or(0);
        Version(next(), next(), next())
    }

    /// From here on a fence over a filter is understood; older ones compare with the message's own subject.
    #[must_use]
    pub fn knows_fence(self) -> bool {
        self >= Version(2, 11, 0)
    }

    /// Atomic batches whose messages may carry ids: 2.12.0 itself refuses them (10177).
    #[must_use]
    pub fn knows_atomic(self) -> bool {
        self > Version(2, 12, 0)
    }

    /// The stream field `allow_atomic`.
    #[must_use]
    pub fn has_atomic_field(self) -> bool {
        self >= Version(2, 12, 0)
    }

    /// The stream field `compression`.
    #[must_use]
    pub fn knows_compression(self) -> bool {
        self >= Version(2, 10, 0)
    }

    /// Fast ingest, and the stream field `allow_batched`.
    #[must_use]
    pub fn knows_fast_ingest(self) -> bool {
        self >= Version(2, 14, 0)
    }
}

/// The way of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A stream of numbered messages; a gap or a refusal ends it.
    FastIngest,
    /// All of a batch or none.
    Atomic,
    /// One message, its answer, the next.
    Single,
}

/// The best way the hub knows and its stream allows.
#[must_use]
pub fn choose(version: Version, allow_batched: bool, allow_atomic: bool) -> Way {
    if allow_batched && version.knows_fast_ingest() {
        Way::FastIngest
    } else if allow_atomic && version.knows_atomic() {
        Way::Atomic
    } else {
        Way::Single
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_by_version() {
        let way = |version: &str| choose(Version::parse(version), true, true);
        assert_eq!(way("2.15.1"), Way::FastIngest);
        assert_eq!(way("2.14.0-RC.1"), Way::FastIngest);
        assert_eq!(way("2.12.1"), Way::Atomic);
        assert_eq!(way("2.12.0"), Way::Single);
        assert_eq!(way("2.11.9"), Way::Single);
        assert_eq!(choose(Version(2, 15, 0), false, true), Way::Atomic);
        assert_eq!(choose(Version(2, 15, 0), false, false), Way::Single);
        assert!(Version(2, 11, 0).knows_fence() && !Version(2, 10, 29).knows_fence());
        assert_eq!(Version::parse("nonsense"), Version(0, 0, 0));
        assert_eq!(Version::parse("v3"), Version(3, 0, 0));
    }
}
