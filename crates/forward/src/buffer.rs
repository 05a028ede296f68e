//! Messages on their way to the link, in one arena that the caller keeps and reuses.

/// One message's places in the arena.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    reply: u32,
    headers: u32,
    payload: u32,
    end: u32,
}

/// Where [`crate::Forward::poll_send`] puts what is to be sent.
#[derive(Debug, Default)]
pub struct SendBuffer {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    open: Option<Entry>,
}

/// A message for the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// Subject at the hub.
    pub subject: &'a [u8],
    /// Where the hub answers, on the forward's inbox; may be empty.
    pub reply: &'a [u8],
    /// Header block, may be empty.
    pub headers: &'a [u8],
    /// Body.
    pub payload: &'a [u8],
}

/// What a message costs on the wire beside its four parts: verb, blanks, sizes, line ends.
const FRAME: usize = 28;

impl SendBuffer {
    /// Forgets the messages, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.open = None;
    }

    /// Number of messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All messages in their order.
    pub fn iter(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.entries.iter().map(|entry| {
            let part = |from: u32, to: u32| &self.bytes[from as usize..to as usize];
            Outgoing {
                subject: part(entry.start, entry.reply),
                reply: part(entry.reply, entry.headers),
                headers: part(entry.headers, entry.payload),
                payload: part(entry.payload, entry.end),
            }
        })
    }

    /// Begins a message: the bytes that follow are its subject.
    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        let at = self.bytes.len() as u32;
        self.bytes.truncate(at as usize);
        self.open = Some(Entry { start: at, reply: at, headers: at, payload: at, end: at });
        &mut self.bytes
    }

    /// The subject is complete: what follows is the reply.
    pub(crate) fn reply(&mut self) -> &mut Vec<u8> {
        let at = self.bytes.len() as u32;
        self.mark(|entry| (entry.reply, entry.headers, entry.payload) = (at, at, at))
    }

    /// The reply is complete: what follows is the header block.
    pub(crate) fn headers(&mut self) -> &mut Vec<u8> {
        let at = self.bytes.len() as u32;
        self.mark(|entry| (entry.headers, entry.payload) = (at, at))
    }

    /// The header block is complete: what follows is the body.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        let at = self.bytes.len() as u32;
        self.mark(|entry| entry.payload = at)
    }

    /// Size of headers and body of the message being written.
    pub(crate) fn open_size(&self) -> usize {
        self.open.map_or(0, |entry| self.bytes.len() - entry.headers as usize)
    }

    /// The message is complete. Gives its bytes on the wire.
    pub(crate) fn finish(&mut self) -> u64 {
        let Some(mut entry) = self.open.take() else { return 0 };
        entry.end = self.bytes.len() as u32;
        self.entries.push(entry);
        (self.bytes.len() - entry.start as usize + FRAME) as u64
    }

    /// The message being written is not to be sent after all.
    pub(crate) fn abandon(&mut self) {
        if let Some(entry) = self.open.take() {
            self.bytes.truncate(entry.start as usize);
        }
    }

    fn mark(&mut self, set: impl FnOnce(&mut Entry)) -> &mut Vec<u8> {
        if let Some(entry) = &mut self.open {
            set(entry);
        }
        &mut self.bytes
    }
}
