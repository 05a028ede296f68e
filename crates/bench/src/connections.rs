//! Connections that do nothing: what each costs in memory, and what opening it costs in CPU.

use std::any::Any;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use harness::Server;

use crate::mqtt::Mqtt;
use crate::outcome::{Figure, Meter, Outcome};
use crate::side::Side;
use crate::tls::Authority;
use crate::usage::Usage;
use crate::wire::Wire;
use crate::{tls, websocket};

/// Connections at scale 1; both processes need that many descriptors.
const CONNECTIONS: f64 = 2_000.0;
/// TLS handshakes cost the most time.
const TLS_CONNECTIONS: f64 = 500.0;

/// What a server may still do after its start before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Nats,
    Mqtt,
    /// With a stored session and one filter of its own.
    MqttSession,
    WebSocket,
    Tls,
}

/// Connections are the operations; the first one is not counted, so that what is made once does not count either.
pub(crate) fn run(side: Side, speaks: Speaks, scale: f64) -> Result<Outcome> {
    let authority = Authority::new()?;
    let server = if speaks == Speaks::Tls { side.start_with(&authority.configuration()?)? } else { side.start()? };
    let most = if speaks == Speaks::Tls { TLS_CONNECTIONS } else { CONNECTIONS };
    let count = (most * scale).max(1.0) as u64;
    thread::sleep(SETTLE);
    let mut open = vec![connect(&server, speaks, &authority, 0)?];
    let before = Usage::of(&server)?;
    let meter = Meter::start(&server)?;
    for number in 1..=count {
        open.push(connect(&server, speaks, &authority, number)?);
    }
    let mut outcome = meter.stop(count)?;
    let after = Usage::of(&server)?;
    outcome.insert(Figure::MemoryEach, after.rss.saturating_sub(before.rss) as f64 / count as f64);
    drop(open);
    Ok(outcome)
}

fn connect(server: &Server, speaks: Speaks, authority: &Authority, number: u64) -> Result<Box<dyn Any>> {
    Ok(match speaks {
        Speaks::Nats => Box::new(Wire::connect(server.address("nats"))?),
        Speaks::Mqtt => Box::new(Mqtt::connect(server.address("mqtt"), &format!("idle-{number}"), true)?),
        Speaks::MqttSession => {
            let mut session = Mqtt::connect(server.address("mqtt"), &format!("stored-{number}"), false)?;
            session.subscribe(&format!("device/{number}/command"), 1)?;
            Box::new(session)
        }
        Speaks::WebSocket => Box::new(websocket::connect(server.address("websocket"))?),
        Speaks::Tls => Box::new(tls::connect(server.address("nats"), authority)?),
    })
}

/// Every listener on, the store open, nobody connected.
pub(crate) fn nobody(side: Side) -> Result<Outcome> {
    let server = side.start()?;
    thread::sleep(SETTLE);
    Ok(Outcome::from([(Figure::Memory, Usage::of(&server)?.rss as f64 / 1024.0)]))
}
