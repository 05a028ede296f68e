//! The leaf link's phases: dial, back-off, handshake, deadlines.
