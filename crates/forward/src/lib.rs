//! A local stream into a hub stream, once and in order.
