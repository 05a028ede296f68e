//! The real binaries, raw bytes on the socket.
