//! Tickets of the forwards: which of them asked the store, and what for.

use broker::SHELL_TICKET;
use jetstream::command::Ticket;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Messages from a sequence on.
    Read,
    /// The position record.
    Persist,
    /// A refused message, and the position record behind it.
    Park,
    /// The row of a new incarnation.
    Incarnation,
}

const ALL: [Asked; 4] = [Asked::Read, Asked::Persist, Asked::Park, Asked::Incarnation];

/// ```text
///  first half: a number of the asker's     second: SHELL_TICKET │ Asked (8) │ epoch (24) │ number of the forward (24)
/// ```
pub(super) fn ticket(asked: Asked, number: u32, epoch: u32, value: u64) -> Ticket {
    let low = |value: u32| u64::from(value & 0xff_ffff);
    let kind = ALL.iter().position(|one| *one == asked).unwrap_or_default() as u64;
    Ticket(value, SHELL_TICKET | kind << 48 | low(epoch) << 24 | low(number))
}

/// What was asked, by which forward, in which epoch of it, with which number. `None`: not by a forward.
pub(super) fn read(ticket: Ticket) -> Option<(Asked, u32, u32, u64)> {
    if ticket.1 & SHELL_TICKET == 0 {
        return None;
    }
    let asked = *ALL.get((ticket.1 >> 48 & 0xff) as usize)?;
    Some((asked, (ticket.1 & 0xff_ffff) as u32, (ticket.1 >> 24 & 0xff_ffff) as u32, ticket.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_come_back_as_they_went() {
        for asked in ALL {
            assert_eq!(read(ticket(asked, 7, 3, 1 << 40)), Some((asked, 7, 3, 1 << 40)));
        }
        assert_eq!(read(Ticket(5, 0x6d71_0001 << 16)), None, "an MQTT client's");
    }
}
