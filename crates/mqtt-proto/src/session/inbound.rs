//! Messages of QoS 1 and 2 on their way from the client.
//!
//! Counts what is unacknowledged against the Receive Maximum we advertised `[MQTT-3.3.4-7]`, and keeps the identifiers
//! of QoS 2 until they are released, so that a message repeated has no second effect. `[MQTT-4.3.3-2]`
//!
//! ```text
//!  QoS 1   PUBLISH ──▶ (counted) ── effects committed, PUBACK sent ──▶ gone
//!  QoS 2   PUBLISH ──▶ Storing ── committed, PUBREC sent ──▶ Received ── PUBREL ──▶ Releasing ── committed, PUBCOMP sent ──▶ gone
//! ```

use smallvec::SmallVec;

use crate::protocol::{PacketId, Qos};

/// How far a QoS 2 message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its effects are being committed.
    Storing,
    /// They are, and PUBREC was sent.
    Received,
    /// PUBREL has come, the removal of the identifier is being committed.
    Releasing,
}

/// A QoS 2 message that is not released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    id: PacketId,
    stage: Stage,
    /// Published on this connection. A client's quota begins anew with each, so older ones do not count.
    counted: bool,
}

/// The incoming half of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// QoS 1 messages of this connection that are not acknowledged.
    unacknowledged: u16,
    /// QoS 2 messages by identifier, ascending; at most twice the receive maximum.
    exactly_once: SmallVec<[Open; 2]>,
    /// What we advertised; 3.1.1 clients, which can't be told, get a generous one.
    receive_maximum: u16,
}

/// What a PUBLISH of QoS 1 or 2 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// A new message: commit its effects (QoS 2: with its identifier), then acknowledge.
    New,
    /// QoS 2, whose effects are committed: answer PUBREC again, no effect.
    Repeat,
    /// QoS 2, whose effects are still being committed: the PUBREC comes with them, nothing to do now.
    Pending,
    /// The identifier belongs to another exchange: 5 answers 0x91 and drops, 3.1.1 closes.
    InUse,
}

/// More unacknowledged messages than we advertised: DISCONNECT 0x93. `[MQTT-4.13.1-1]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more unacknowledged messages than the receive maximum of {0}")]
pub struct ReceiveMaximumExceeded(
    /// The advertised Receive Maximum.
    pub u16,
);

/// What a PUBREL means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PubrelOutcome {
    /// Commit the removal of the identifier, then send PUBCOMP. Sent before, a crash would make a message that uses
    /// the identifier anew look like a repeat.
    Release,
    /// The removal is being committed; the PUBCOMP comes with it.
    Pending,
    /// PUBREL before PUBREC: a protocol error (0x82).
    Premature,
    /// No message has this identifier: PUBCOMP, in 5 with 0x92.
    Unknown,
}

impl Inbound {
    /// Nothing unacknowledged.
    pub fn new() -> Self {
        Self { unacknowledged: 0, exactly_once: SmallVec::new(), receive_maximum: 0 }
    }

    /// Enters a QoS 2 identifier that the store holds; before any connection.
    pub fn restore(&mut self, id: PacketId) {
        if let Err(index) = self.find(id) {
            self.exactly_once.insert(index, Open { id, stage: Stage::Received, counted: false });
        }
    }

    /// A connection begins.
    pub fn attach(&mut self, receive_maximum: u16) {
        self.receive_maximum = receive_maximum.max(1);
        self.unacknowledged = 0;
        for open in &mut self.exactly_once {
            open.counted = false;
        }
    }

    /// The connection ended: QoS 1 is forgotten, the client repeats it. QoS 2 stays.
    pub const fn detach(&mut self) {
        self.unacknowledged = 0;
    }

    /// A PUBLISH came. QoS 0 is always [`Arrival::New`] and never counted. `[MQTT-4.9.0-3]`
    pub fn handle_publish(&mut self, qos: Qos, id: Option<PacketId>) -> Result<Arrival, ReceiveMaximumExceeded> {
        let (Some(id), true) = (id, qos != Qos::AtMostOnce) else { return Ok(Arrival::New) };
        match self.find(id) {
            Ok(index) => Ok(self.exactly_once[index].handle_again(qos)),
            Err(_) if self.is_full() => Err(ReceiveMaximumExceeded(self.receive_maximum)),
            Err(index) => {
                if qos == Qos::ExactlyOnce {
                    self.exactly_once.insert(index, Open { id, stage: Stage::Storing, counted: true });
                } else {
                    self.unacknowledged += 1;
                }
                Ok(Arrival::New)
            }
        }
    }

    /// A PUBACK leaves, or a QoS 1 message is dropped without one.
    pub const fn acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// The effects of a QoS 2 message are committed; returns whether PUBREC is due: not after a clean start.
    pub fn received(&mut self, id: PacketId) -> bool {
        match self.find(id) {
            Ok(index) if self.exactly_once[index].stage == Stage::Storing => {
                self.exactly_once[index].stage = Stage::Received;
                true
            }
            _ => false,
        }
    }

    /// A QoS 2 message was refused (PUBREC with an error in 5, a close in 3.1.1): its identifier is free again.
    pub fn refused(&mut self, id: PacketId) {
        if let Ok(index) = self.find(id)
            && self.exactly_once[index].stage == Stage::Storing
        {
            self.exactly_once.remove(index);
        }
    }

    /// A PUBREL came.
    pub fn handle_pubrel(&mut self, id: PacketId) -> PubrelOutcome {
        let Ok(index) = self.find(id) else { return PubrelOutcome::Unknown };
        let stage = &mut self.exactly_once[index].stage;
        match *stage {
            Stage::Storing => PubrelOutcome::Premature,
            Stage::Releasing => PubrelOutcome::Pending,
            Stage::Received => {
                *stage = Stage::Releasing;
                PubrelOutcome::Release
            }
        }
    }

    /// The removal of an identifier is committed; returns whether PUBCOMP is due.
    pub fn released(&mut self, id: PacketId) -> bool {
        match self.find(id) {
            Ok(index) if self.exactly_once[index].stage == Stage::Releasing => {
                self.exactly_once.remove(index);
                true
            }
            _ => false,
        }
    }

    /// What counts against the Receive Maximum.
    pub fn open_count(&self) -> usize {
        usize::from(self.unacknowledged) + self.exactly_once.iter().filter(|open| open.counted).count()
    }

    /// Whether one more is too many, for the client's quota or, over many connections, for our memory.
    fn is_full(&self) -> bool {
        let maximum = usize::from(self.receive_maximum);
        self.exactly_once.len() >= 2 * maximum || self.open_count() >= maximum
    }

    fn find(&self, id: PacketId) -> Result<usize, usize> {
        self.exactly_once.binary_search_by_key(&id, |open| open.id)
    }
}

impl Open {
    /// A PUBLISH that carries the identifier of this one.
    fn handle_again(&mut self, qos: Qos) -> Arrival {
        match (qos, self.stage) {
            (Qos::ExactlyOnce, Stage::Storing | Stage::Received) => {
                self.counted = true;
                if self.stage == Stage::Storing { Arrival::Pending } else { Arrival::Repeat }
            }
            _ => Arrival::InUse,
        }
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Self::new()
    }
}
