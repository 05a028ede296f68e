//! Where in a fast batch a message stands: its reply subject says it, `<prefix>.<id>.<flow>.<gap mode>.<number>.<operation>.$FI`.

use super::FAST_SUFFIX;

/// Messages between two acknowledgements for who names no number.
const USUAL_FLOW: u16 = 10;

/// What a message of a fast batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Its payload is to be stored.
    Store,
    /// The same, and it is the last.
    Commit,
    /// The one before was the last.
    End,
    /// The sender asks where it stands.
    Ping,
}

/// A reply subject, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) id: &'a [u8],
    /// Most messages between two acknowledgements.
    pub(crate) flow: u16,
    /// Messages may be missing.
    pub(crate) gap_ok: bool,
    pub(crate) sequence: u64,
    pub(crate) operation: Operation,
}

impl<'a> Place<'a> {
    /// Reads a reply subject that ends as those of fast batches do; `None`: the rest is not as theirs.
    pub(crate) fn parse(reply: &'a [u8]) -> Option<Place<'a>> {
        let mut tokens = reply.strip_suffix(FAST_SUFFIX)?.rsplitn(6, |byte| *byte == b'.');
        let operation = number(tokens.next()?)?;
        let sequence = number(tokens.next()?).filter(|sequence| *sequence > 0 && *sequence < u64::MAX)?;
        let gap_ok = match tokens.next()? {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let flow = match number(tokens.next()?) {
            None | Some(0) => USUAL_FLOW,
            Some(flow) => u16::try_from(flow).unwrap_or(u16::MAX),
        };
        let id = tokens.next()?;
        // A batch belongs to an inbox.
        tokens.next()?;
        let operation = match (operation, sequence) {
            (0, 1) | (1, 2..) => Operation::Store,
            (2, _) => Operation::Commit,
            (3, 2..) => Operation::End,
            (4, _) => Operation::Ping,
            _ => return None,
        };
        Some(Place { id, flow, gap_ok, sequence, operation })
    }
}

/// A decimal number; `None`: it is none, or does not fit.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Operation, Place};

    #[test]
    fn reply_subjects_are_read_from_their_end() {
        let place = Place::parse(b"_INBOX.a.b.ID.200.fail.7.1.$FI");
        let wanted = Place { id: b"ID", flow: 200, gap_ok: false, sequence: 7, operation: Operation::Store };
        assert_eq!(place, Some(wanted));
        let flow = |reply: &'static str| Place::parse(reply.as_bytes()).map(|place| place.flow);
        assert_eq!(flow("i.ID.0.ok.1.0.$FI"), Some(10));
        assert_eq!(flow("i.ID.x.ok.1.0.$FI"), Some(10));
        assert_eq!(flow("i.ID.70000.ok.1.0.$FI"), Some(u16::MAX));
    }

    #[test]
    fn what_is_not_as_theirs_is_none() {
        for reply in [
            ".$FI",
            "i.$FI",
            "i.ID.5.ok.1.5.$FI",
            "i.ID.5.ok.0.4.$FI",
            "i.ID.5.ok.2.0.$FI",
            "i.ID.5.ok.1.1.$FI",
            "i.ID.5.ok.1.3.$FI",
            "i.ID.5.maybe.1.0.$FI",
            "ID.5.ok.1.0.$FI",
            "i.ID.5.ok.18446744073709551615.1.$FI",
            "i.ID.5.ok.1.0",
        ] {
            assert_eq!(Place::parse(reply.as_bytes()), None, "{reply}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            let _ = Place::parse(&[&bytes[..], b".$FI"].concat());
        }
    }
}
