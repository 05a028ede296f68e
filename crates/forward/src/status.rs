//! What `status`, `/healthz` and `/metrics` show of a forward.

use crate::session::{Forward, Session};
use crate::way::Way;

/// Why a forward can only promise "at least once" at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtLeastOnce {
    /// The hub is older than 2.11: it knows no fence over a filter.
    OldHub,
    /// Somebody else writes under this edge's filter.
    SecondWriter,
    /// The hub's stream removes what it gave away: it can't be asked what it had.
    Retention,
    /// Messages in doubt may have been purged at the hub.
    Purged,
    /// The hub's JetStream API is not answered on this link.
    Blind,
}

impl AtLeastOnce {
    /// A sentence for people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            AtLeastOnce::OldHub => "at least once beyond the duplicate window: the hub is older than 2.11",
            AtLeastOnce::SecondWriter => "at least once beyond the duplicate window: a second writer under the filter",
            AtLeastOnce::Retention => {
                "at least once beyond the duplicate window: the hub's stream removes what was consumed"
            }
            AtLeastOnce::Purged => "at least once beyond the duplicate window: the hub's stream was purged",
            AtLeastOnce::Blind => "at least once beyond the duplicate window: the hub's JetStream API can't be asked",
        }
    }
}

/// Where a forward stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No link.
    LinkDown,
    /// Finding out where to go on.
    Asking,
    /// Everything is confirmed.
    Idle,
    /// Sending.
    Sending,
    /// Setting a refused message aside.
    Parking,
    /// Something is wrong; the reason says what, and it is looked at again by itself.
    Stopped,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Why nothing flows, when nothing does.
    pub reason: Option<String>,
    /// When it is tried again, if stopped.
    pub retry_at_ms: Option<u64>,
    /// Everything up to this local sequence is at the hub (or parked).
    pub confirmed: u64,
    /// Sequence of the newest PubAck at the hub, S.
    pub hub_sequence: u64,
    /// Local sequences not confirmed; an upper bound of messages where some were removed.
    pub backlog: u64,
    /// Messages sent and not answered.
    pub in_doubt: u64,
    /// Messages sent since the start, resent ones again.
    pub sent: u64,
    /// Messages confirmed since the start.
    pub delivered: u64,
    /// Messages set aside since the start.
    pub parked: u64,
    /// Answers that refused something, since the start.
    pub rejected: u64,
    /// Messages that left the local stream before they were confirmed, since the start.
    pub dropped: u64,
    /// How messages are sent.
    pub way: Option<Way>,
    /// Limits of the promise, sorted.
    pub at_least_once: Vec<AtLeastOnce>,
    /// What happened at the hub or here that somebody should know: newest last, bounded.
    pub remarks: Vec<String>,
}

impl Forward {
    /// A snapshot.
    #[must_use]
    pub fn status(&self) -> Status {
        let confirmed = self.record.confirmed;
        let backlog = (self.local.last + 1).saturating_sub(self.local.first.max(confirmed + 1));
        let (state, reason, retry_at_ms) = match &self.session {
            Session::Down => (State::LinkDown, Some("no link to the hub".to_owned()), None),
            Session::Asking { .. } => (State::Asking, Some("asking the hub what it has".to_owned()), None),
            Session::Ready if backlog == 0 => (State::Idle, None, None),
            Session::Ready if !self.wanted => (State::Stopped, Some(self.no_interest()), None),
            Session::Ready if self.is_on_hold => {
                (State::Sending, Some("records of what was lost go first".to_owned()), None)
            }
            Session::Parking => (State::Parking, None, None),
            Session::Stopped { reason, until } => (State::Stopped, Some(reason.clone()), *until),
            _ => (State::Sending, None, None),
        };
        let mut at_least_once = Vec::new();
        let is_asked = self.hub.is_some() && !self.hub_stream.created.is_empty();
        let flags = [
            (self.hub.is_some() && !self.version().knows_fence(), AtLeastOnce::OldHub),
            (self.fence_off, AtLeastOnce::SecondWriter),
            (is_asked && !self.hub_stream.is_limits, AtLeastOnce::Retention),
            (self.purged, AtLeastOnce::Purged),
            (self.blind, AtLeastOnce::Blind),
        ];
        at_least_once.extend(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag));
        Status {
            state,
            reason,
            retry_at_ms,
            confirmed,
            hub_sequence: self.record.hub_sequence(),
            backlog,
            in_doubt: self.in_flight.len() as u64,
            sent: self.sent,
            delivered: self.settled,
            parked: self.parked,
            rejected: self.rejected,
            dropped: self.dropped,
            way: is_asked.then_some(self.way),
            at_least_once,
            remarks: self.remarks.iter().cloned().collect(),
        }
    }

    fn no_interest(&self) -> String {
        format!("the hub has no interest in {}: does stream {} capture it?", self.filter, self.config.to)
    }
}
