//! The real binaries, raw bytes on the socket.
#![allow(
    clippy::disallowed_methods,
    reason = "the suite waits for real processes; the product's clock is `server::clock`"
)]

mod authorization;
mod backups;
mod bad_input;
mod batches;
mod cluster;
mod crowd;
mod domains;
mod forward;
mod forward_retention;
mod full_disk;
mod gaps;
mod harness_itself;
mod hub;
mod hub_model;
mod interrupted;
mod kill;
mod kill_timed;
mod leaf;
mod leaf_auth;
mod leaf_link;
mod leaf_tls;
mod leaf_websocket;
mod limits;
mod link_flap;
mod load;
mod loops;
mod mqtt_sessions;
mod operations;
mod permissions;
mod pull_cluster;
mod pull_flap;
mod pull_limits;
mod pulled;
mod pulling;
mod pulling_cluster;
mod reading;
mod signals;
mod status;
mod store;
mod templates;
mod uplink;
