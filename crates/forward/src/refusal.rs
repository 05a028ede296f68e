//! What to do about an answer that is no success. A code that is not listed stops the flow and is reported.

/// The remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The hub can't at the moment: again, with back-off.
    Retry,
    /// What we believed of the hub is not so: ask it.
    AskAgain,
    /// Another way of sending, or a smaller batch.
    OtherWay,
    /// The message itself can't be delivered: set it aside.
    Park,
    /// Somebody has to change something: stop, report, look again from time to time.
    Stop,
}

/// The table. `code` is the HTTP-like class, `err_code` the number clients compare. Every number not listed stops and is reported.
#[must_use]
pub fn remedy(code: u16, err_code: u16) -> Remedy {
    match (code, err_code) {
        (_, 10071 | 10201 | 10208) => Remedy::AskAgain,
        (_, 10177 | 10199) => Remedy::OtherWay,
        // too large, headers over 64 KiB, rollup, ttl, schedules: what this message is, whatever the hub's state
        (_, 10054 | 10097 | 10111 | 10166 | 10188) => Remedy::Park,
        (503, _) | (_, 10008 | 10167) => Remedy::Retry,
        _ => Remedy::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        assert_eq!(remedy(503, 10076), Remedy::Retry);
        assert_eq!(remedy(400, 10167), Remedy::Retry);
        assert_eq!(remedy(400, 10071), Remedy::AskAgain);
        assert_eq!(remedy(400, 10199), Remedy::OtherWay);
        assert_eq!(remedy(400, 10054), Remedy::Park);
        assert_eq!(remedy(400, 10097), Remedy::Park);
        assert_eq!(remedy(400, 10109), Remedy::Stop);
        assert_eq!(remedy(400, 10060), Remedy::Stop);
        assert_eq!(remedy(400, 0), Remedy::Stop);
    }
}
