//! The hash that stands for a `Nats-Msg-Id` in memory and in the store: SipHash-2-4 with 128 bits of output.
//!
//! It is stored with the message and compared after a restart, so it must be the same in every build, and a client must not be able to make
//! two ids collide: hence a keyed hash with a published definition, and a key drawn once for each store.

/// Key of a store's id hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdKey(pub(crate) u64, pub(crate) u64);

impl IdKey {
    /// The hash of an id.
    pub(crate) fn hash(self, id: &[u8]) -> u128 {
        let mut sip = Sip {
            v0: self.0 ^ 0x736f_6d65_7073_6575,
            v1: self.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            v2: self.0 ^ 0x6c79_6765_6e65_7261,
            v3: self.1 ^ 0x7465_6462_7974_6573,
        };
        let (words, rest) = id.as_chunks::<8>();
        for word in words {
            sip.take(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = id.len() as u8;
        sip.take(u64::from_le_bytes(last));
        sip.v2 ^= 0xee;
        let low = sip.finish();
        sip.v1 ^= 0xdd;
        let high = sip.finish();
        u128::from(high) << 64 | u128::from(low)
    }
}

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    fn take(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    fn finish(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

#[cfg(test)]
mod tests {
    use super::IdKey;

    /// The published test vectors: key 00..0f, input 00..(n-1).
    #[test]
    fn equals_the_published_vectors() {
        let key = IdKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let input: Vec<u8> = (0..64).collect();
        let hash = |len: usize| key.hash(&input[..len]).to_le_bytes();
        assert_eq!(
            hash(0),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
        assert_eq!(
            hash(1),
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45]
        );
        assert_ne!(hash(8), hash(9));
    }
}
