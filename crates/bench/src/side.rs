//! The servers that are compared, and the one configuration that ours and stock share.

use std::fmt;

use anyhow::Result;
use harness::{Gateway, Mosquitto, Server, StockHub};

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Our gateway.
    Ours,
    /// nats-server as it comes: files are synced every two minutes.
    Stock,
    /// nats-server with `sync_interval: always`, the only mode in which it promises what ours does.
    StockAlways,
    /// mosquitto with persistence, which it writes every half hour and at its end.
    Mosquitto,
}

/// Every listener, and an open store. MQTT's window is set so that all brokers have the same.
const CONFIGURATION: &str = r#"
server_name: bench
listen: "127.0.0.1:<nats>"
http: "127.0.0.1:<http>"
mqtt { listen: "127.0.0.1:<mqtt>", max_ack_pending: 100 }
websocket { listen: "127.0.0.1:<websocket>", no_tls: true }
jetstream { store_dir: "<dir>/store", domain: bench, SYNC }
"#;

const MOSQUITTO: &str = "
listener <mqtt> 127.0.0.1
allow_anonymous true
persistence true
persistence_location <dir>/
max_queued_messages 0
max_inflight_messages 100
";

impl Side {
    /// Starts it with every listener on and an empty store.
    pub(crate) fn start(self) -> Result<Server> {
        self.start_with("")
    }

    /// The same, with further lines of configuration.
    pub(crate) fn start_with(self, more: &str) -> Result<Server> {
        let configuration = |sync| format!("{}{more}", CONFIGURATION.replace(", SYNC", sync));
        match self {
            Side::Ours => Gateway::start(&configuration("")),
            Side::Stock => StockHub::start(&configuration("")),
            Side::StockAlways => StockHub::start(&configuration(", sync_interval: always")),
            Side::Mosquitto => Mosquitto::start_quiet(MOSQUITTO),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Side::Ours => "edge-gateway",
            Side::Stock => "nats-server",
            Side::StockAlways => "nats-server, `sync_interval: always`",
            Side::Mosquitto => "mosquitto",
        })
    }
}
