//! The NATS wire protocols: bytes to operations and back.
//!
//! [`client`] reads what clients send and [`encode`] writes what they get; [`leaf`] speaks both directions of a leaf link; [`header`] reads
//! and builds header blocks; [`handshake`] has the JSON of INFO and CONNECT; [`refusal`] has every `-ERR` text.
//!
//! Promises: bytes and protocol state only, no routing and no policy; no panic, no allocation and no recursion on anything a peer sends; a
//! frame that is too long is refused before its payload has arrived. An incomplete frame is not an error.

pub mod client;
pub mod encode;
pub mod handshake;
pub mod header;
pub mod leaf;
mod line;
pub mod refusal;

#[cfg(test)]
mod testscripts;
