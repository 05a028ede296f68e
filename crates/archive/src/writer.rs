//! Entries to bytes.

use crate::entry::{self, Entry};
use crate::{MAGIC, frame};

/// Bytes that are compressed at a time: enough to compress well, and some tenths of a millisecond of work.
const BLOCK: usize = 128 * 1024;

/// Makes an archive. Take what is ready with [`Writer::take`] as it grows; nothing else bounds it.
#[derive(Debug)]
pub struct Writer {
    /// Not compressed yet.
    plain: Vec<u8>,
    ready: Vec<u8>,
    taken: usize,
}

impl Default for Writer {
    fn default() -> Writer {
        let mut ready = Vec::new();
        frame::begin(&mut ready);
        Writer { plain: MAGIC.to_vec(), ready, taken: 0 }
    }
}

impl Writer {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry<'_>) {
        entry::write(entry, &mut self.plain);
        let mut done = 0;
        while self.plain.len() - done >= BLOCK {
            frame::write(&self.plain[done..done + BLOCK], &mut self.ready);
            done += BLOCK;
        }
        self.plain.drain(..done);
    }

    /// Adds the end, and makes everything ready.
    pub fn finish(&mut self) {
        self.add(&Entry::END);
        frame::write(&std::mem::take(&mut self.plain), &mut self.ready);
    }

    /// Bytes that are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len() - self.taken
    }

    /// Takes the next bytes, as many as are ready, at most so many.
    pub fn take(&mut self, most: usize) -> &[u8] {
        if self.taken >= BLOCK {
            self.ready.drain(..std::mem::take(&mut self.taken));
        }
        let start = self.taken;
        self.taken += self.ready().min(most);
        &self.ready[start..self.taken]
    }
}
