//! The edge's store: JetStream's storage trait on SQLite.
