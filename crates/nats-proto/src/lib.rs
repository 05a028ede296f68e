//! The NATS wire protocols: bytes to operations and back.
