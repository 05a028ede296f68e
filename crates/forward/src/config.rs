//! What a forward is told at construction.

use jetstream::identity::StreamId;
use subject::Transform;

use crate::create::Create;

/// Where a batch ends at the latest, beside [`Timings::batch_ms`]: the position at the hub is known only behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Messages. Default and most 1,000: what a hub takes in an atomic batch.
    pub messages: u64,
    /// Bytes on the wire. Default and most 1 MiB: what is sent again after a cut.
    pub bytes: u64,
}

impl Batch {
    /// Most messages and bytes that may be asked for.
    pub const MOST: Batch = Batch { messages: 1_000, bytes: 1024 * 1024 };
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::MOST
    }
}

/// Deadlines and limits. The defaults are for bad links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long confirmed data is held in case the hub loses its tail, milliseconds. Default 3 min.
    pub hold_ms: u64,
    /// An answer is missing after so long without progress, milliseconds. Default 10 s.
    pub answer_ms: u64,
    /// A batch ends at the latest after so long, milliseconds. Default 5 s: atomic batches time out after 10 s.
    pub batch_ms: u64,
    /// First and longest pause after something that passes by itself, milliseconds. Default 1 s to 30 s.
    pub retry_ms: (u64, u64),
    /// First and longest pause after something that somebody has to change, milliseconds. Default 5 s to 5 min.
    pub stop_ms: (u64, u64),
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            hold_ms: 180_000,
            answer_ms: 10_000,
            batch_ms: 5_000,
            retry_ms: (1_000, 30_000),
            stop_ms: (5_000, 300_000),
        }
    }
}

/// One forward.
#[derive(Clone, Debug)]
pub struct Config {
    /// The edge's identity key, see [`crate::identity::check_edge`].
    pub edge: String,
    /// Instance of the local stream.
    pub instance: StreamId,
    /// Name of the hub's stream.
    pub to: String,
    /// Local subject → hub subject. Its destination filter must be this edge's alone.
    pub transform: Transform,
    /// Create the hub's stream if missing.
    pub create: Option<Create>,
    /// Bytes per second on the wire.
    pub rate: Option<u64>,
    /// Size of a batch.
    pub batch: Batch,
    /// Prefix of reply subjects: the caller is subscribed to `<inbox>.>`, announced it, and hands what follows the dot to
    /// [`crate::Forward::handle_reply`]. New at each process start.
    pub inbox: String,
    /// Deadlines.
    pub timings: Timings,
    /// For jitter.
    pub seed: u64,
}

/// Do the filters of two forwards of one edge overlap? Then they are a configuration error, if they have the same target: each
/// would break the other's fence.
#[must_use]
pub fn conflict(one: &Config, other: &Config) -> bool {
    one.to == other.to && one.transform.destination_filter().overlaps(&other.transform.destination_filter())
}
