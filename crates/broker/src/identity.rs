//! Who a connection is, and what time it is: the small values every call carries.

/// A connection for as long as it lives; never equal to that of a later one (until 2³² later ones took the same place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Core (high 8 bits) and place in that core's tables (low 24).
    place: u32,
    generation: u32,
}

impl ConnectionId {
    /// Most connections a core can name.
    pub const MAX_SLOTS: usize = 1 << 24;

    /// The id of the `generation`-th user of a slot.
    #[must_use]
    pub fn new(core: u8, slot: u32, generation: u32) -> ConnectionId {
        ConnectionId { place: (u32::from(core) << 24) | (slot & 0x00ff_ffff), generation }
    }

    /// The core that owns it.
    #[must_use]
    pub fn core(self) -> u8 {
        (self.place >> 24) as u8
    }

    /// Index into the core's tables: the same in the broker, the [`crate::Outbox`] and the shell's sockets.
    #[must_use]
    pub fn slot(self) -> usize {
        (self.place & 0x00ff_ffff) as usize
    }

    /// Tells users of the same slot apart.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// As one number, for tickets and task tables.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        (u64::from(self.place) << 32) | u64::from(self.generation)
    }

    /// The reverse of [`ConnectionId::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> ConnectionId {
        ConnectionId { place: (bits >> 32) as u32, generation: bits as u32 }
    }
}

/// Both clocks, read by the shell once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time in microseconds; all deadlines are in it.
    pub micros: u64,
    /// Wall clock, nanoseconds since 1970; shown to people, never computed with.
    pub wall_ns: i64,
}

impl Now {
    /// The monotonic time `duration` from here, in microseconds.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> u64 {
        self.micros.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}
