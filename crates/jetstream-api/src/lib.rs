//! The JSON of the JetStream API, and nothing else.
