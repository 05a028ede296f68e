//! The configuration language of nats-server: text to values that know their file and line.
