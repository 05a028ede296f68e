//! A gateway behind a link that can be cut, a stock hub at its other end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Gateway, Proxy, RawNats, Server, StockHub, http};
use serde_json::Value;

/// For what the link brings about; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Linked {
    pub(crate) gateway: Server,
    pub(crate) link: Proxy,
    pub(crate) hub: Server,
}

impl Linked {
    /// A gateway that forwards its stream TELEMETRY (`load.>`) to FLEET at the hub, as `edge1.load.>`.
    pub(crate) fn start() -> Result<Linked> {
        Linked::with(
            r#"
streams { TELEMETRY { subjects: ["load.>"] } }
forward { TELEMETRY { to: FLEET, prefix: edge1, create { subjects: ["edge1.>"] } } }
"#,
        )
    }

    /// A gateway with these blocks beside what the link needs.
    pub(crate) fn with(blocks: &str) -> Result<Linked> {
        Linked::to(StockHub::start(StockHub::PLAIN)?, blocks)
    }

    /// The same before a hub that runs already.
    pub(crate) fn to(hub: Server, blocks: &str) -> Result<Linked> {
        let link = Proxy::start(hub.address("leaf"))?;
        let link_blocks = format!(
            r#"
leafnodes {{ remotes: [ {{ url: "nats-leaf://{}", ignore_discovered_servers: true }} ] }}
uplink {{ ping_interval: "300ms", ping_max: 2, reconnect {{ min: "50ms", max: "300ms" }} }}
"#,
            link.address()
        );
        let gateway = Gateway::start(&format!("{}{link_blocks}{blocks}", Gateway::PLAIN))?;
        let linked = Linked { gateway, link, hub };
        linked
            .wait("the link is up", || Ok(http::get_json(linked.hub.address("http"), "/leafz")?["leafnodes"] == 1))?;
        // The hub counts a link before either side has told its interest.
        linked.wait("each side reaches the other's JetStream", || {
            let answers = |server, domain: &str| {
                ask(server, &format!("$JS.{domain}.API.INFO"), "").is_ok_and(|info| info["domain"] == domain)
            };
            Ok(answers(&linked.hub, "edge") && answers(&linked.gateway, "hub"))
        })?;
        Ok(linked)
    }

    /// Asks until the answer is yes.
    pub(crate) fn wait(&self, what: &str, answer: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !answer()? {
            ensure!(
                Instant::now() < deadline,
                "not within {LIMIT:?}: {what}\n{}\n{}",
                self.gateway.log_tail(),
                self.hub.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// What a server says to an API request.
pub(crate) fn ask(server: &Server, subject: &str, body: &str) -> Result<Value> {
    let (mut client, _) = RawNats::connect(server.address("nats"))?;
    Ok(serde_json::from_slice(&client.request(subject, body.as_bytes())?.payload)?)
}
