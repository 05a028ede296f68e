//! The real binaries, raw bytes on the socket.
#![allow(
    clippy::disallowed_methods,
    reason = "the suite waits for real processes; the product's clock is `server::clock`"
)]

mod bad_input;
mod harness_itself;
mod kill;
mod load;
mod operations;
