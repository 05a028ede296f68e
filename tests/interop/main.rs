//! Official clients against the real binaries.
#![allow(
    clippy::disallowed_methods,
    reason = "the suite waits for real processes; the product's clock is `server::clock`"
)]

mod async_nats_buckets;
mod async_nats_client;
mod backups;
mod client_scripts;
mod consumers;
mod differential;
mod like_stock;
mod like_stock_batches;
mod like_stock_origins;
mod mqtt_scripts;
mod nats_command_line;
mod nats_scripts;
mod rumqttc_client;
mod scripts;
mod timed_like_stock;
mod tls;
mod transcripts;
