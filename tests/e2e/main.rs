//! The real binaries, raw bytes on the socket.

mod harness_itself;
