//! Sockets, TLS, WebSocket and HTTP around the broker: the I/O shell.
