//! The edge's store: JetStream's storage trait on SQLite.
//!
//! One file, `store.db`, in a folder of its own, in write-ahead mode with synced commits. One connection (*W*) writes, on the owner's thread;
//! another (*R*), on a thread of this crate, reads backlog and writes the log back.
//!
//! ```text
//!  append ──► ring (1 MiB, newest rows) ──flush──► m<id> ──► commit: synced     W
//!    │           ▲ read of the tail                  ▲
//!    │           │                                   │ slices, ≤ 64 KiB, one ahead
//!    └► open block ──1,024 messages──► b<id>         └──────────────── reader thread   R
//!         subjects, counters ──64 blocks──► checkpoint
//! ```
//!
//! **Format.** `schema` lists the tables, `row`, `block`, `subjects` and `removal` their blobs. Every blob carries a CRC32C.
//!
//! **Invariants.** A stream's messages up to `closed_through` are in summaries, those behind it (fewer than 1,024) in the open block. What a summary on
//! disk names and is gone is in the removal log and in memory. Every message from the first entry of a stream's
//! tail on is in the ring. A message is in the ring, or in its table, or both; the newest `pending` ones of a tail are in the ring only, and nothing
//! is committed while there are any.
//!
//! **Durable when.** Everything before [`commit`](jetstream::store::Store::commit) returned; nothing is before.
//!
//! **Recovery.** Opening reads checkpoint, at most 64 summaries, the removal log and fewer than 1,024 rows of each stream, never the backlog. If these
//! don't agree, that stream's state is built from its rows. If the file itself is damaged it is set aside as `store.damaged-<n>` and what is whole in it
//! carried over. After a failed commit the owner drops the store and opens it again; on the way the log is cut behind the last synced commit.
//!
//! **Not here.** Limits, consumers, duplicates: `jetstream`. Several processes: the folder is locked.

mod append;
mod block;
mod checkpoint;
mod clear;
mod database;
mod erase;
mod fetch;
mod forgetting;
mod history;
mod inspect;
mod load;
mod lock;
mod open;
mod pages;
mod reader;
mod records;
mod removal;
mod rescue;
mod ring;
mod row;
mod salvage;
mod schema;
mod search;
mod space;
mod store;
mod stream;
mod subjects;
mod varint;
mod wal;

pub use inspect::{Inspected, Inspection};
pub use open::{Damage, FILES, OpenError, OpenReport, Options};
pub use salvage::Salvaged;
pub use schema::Synchronous;
pub use space::{FreeSpace, free_space};
pub use store::SqliteStore;

/// The decoders of what lies in the file, for fuzzing. No promise of stability.
#[doc(hidden)]
pub mod decoders {
    pub use crate::block::{Block, decode_ids};
    pub use crate::checkpoint::Saved;
    pub use crate::removal::decode as decode_removals;
    pub use crate::row::{Row, decode_chunk};
    pub use crate::subjects::{decode_states, decode_texts};
}
