//! JetStream without I/O: streams, consumers, delivery, and the storage trait they stand on.
