//! Archives of streams, as `nats stream backup` keeps them and nats-server 2.15 writes and reads them: bytes, no meaning.
//!
//! ```text
//!  S2 stream (frames of compressed blocks, each with a checksum)
//!    "NATSARC1" entry entry … end
//!  entry = uvarint(name length) varint(time) uvarint(sequence) uvarint(header length) uvarint(body length) name headers body
//!  end   = an entry without name, time, sequence and content
//! ```
//!
//! The first entry is `state.json`, then come `consumers/<name>`, then the messages, whose name is their subject.
//!
//! Both directions are pushed: [`Writer`] takes entries and gives bytes, [`Reader`] takes bytes as they arrive and gives entries. Promises: nothing
//! is believed of an input, what is kept of it is bounded, and a frame is decompressed only when all before it was taken: an archive that
//! is small and unpacks to terabytes costs its reader one block at a time.
//!
//! [`OlderReader`] goes on where a [`Reader`] has found an archive of a server before 2.15, a tar of its files.
//!
//! Not here: what the entries mean.

mod entry;
mod frame;
mod older;
mod position;
mod reader;
mod tar;
mod writer;

pub use entry::Entry;
pub use older::{OlderEntry, OlderReader};
pub use position::OlderPosition;
pub use reader::Reader;
pub use writer::Writer;

/// What an archive begins with.
const MAGIC: &[u8; 8] = b"NATSARC1";
/// Longest name of an entry: far above any subject that could be published on.
pub const LONGEST_NAME: usize = 64 * 1024;

/// Why something is no archive; the texts are those of the stock server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A frame is not what the format allows.
    #[error("s2: corrupt input")]
    Corrupt,
    /// A block is not what its checksum says.
    #[error("s2: corrupt input, crc mismatch")]
    Checksum,
    /// A frame of a kind that must be understood.
    #[error("s2: unsupported input")]
    Unsupported,
    /// The frames are fine; what they hold is not.
    #[error("archive: invalid archive stream")]
    Invalid,
    /// What follows the head of a message is damaged, or not there.
    #[error("failed to read message sequence {sequence}: archive: invalid archive stream")]
    Content {
        /// The message's sequence.
        sequence: u64,
    },
    /// If it is an archive at all, it is one of a server before 2.15: [`OlderReader`] goes on.
    #[error("archive: invalid archive stream")]
    Older,
    /// In an older archive: no head of a file.
    #[error("archive/tar: invalid tar header")]
    Tar,
    /// In an older archive: something else than a file.
    #[error("unexpected content (account=$G)")]
    Unexpected,
    /// In an older archive: a record is not what its hash says, or reaches beyond its file.
    #[error("invalid checksum")]
    Record,
    /// An entry is larger than its reader takes.
    #[error("entry {sequence} exceeds maximum size")]
    TooLarge {
        /// The entry's sequence; 0 when it is no message.
        sequence: u64,
    },
}
