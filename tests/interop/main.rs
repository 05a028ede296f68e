//! Official clients against the real binaries.

mod async_nats_client;
mod nats_command_line;
mod nats_scripts;
mod scripts;
