//! Official clients against the real binaries.

mod async_nats_buckets;
mod async_nats_client;
mod differential;
mod like_stock;
mod mqtt_scripts;
mod nats_command_line;
mod nats_scripts;
mod rumqttc_client;
mod scripts;
mod tls;
mod transcripts;
