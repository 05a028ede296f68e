//! Our block `uplink`: deadlines of the links that we dial, generous because links are bad.

use std::time::Duration;

use nats_conf::{Field, Report};

use super::limits::{positive, set};

/// Deadlines of a leaf link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// `dial_timeout`: name resolution, TCP and the upgrade of a WebSocket. Default: 10 s.
    pub dial_timeout: Duration,
    /// `first_info_timeout`: from connected to the hub's first INFO. Default: 10 s.
    pub first_info_timeout: Duration,
    /// `tls_timeout`: the TLS handshake. Default: 15 s.
    pub tls_timeout: Duration,
    /// `connect_timeout`: from our CONNECT to the INFO that completes the handshake. Default: 10 s.
    pub connect_timeout: Duration,
    /// `ping_interval`: silence after which we ask. Default: 5 s.
    pub ping_interval: Duration,
    /// `ping_max`: a link is dead after so many further intervals without a byte. Default: 2.
    pub ping_max: u32,
    /// `stall_timeout`: what we sent and the other end's system does not acknowledge for so long after it was repeated ends the link. An idle link does
    /// not notice; a slow one that acknowledges goes on. Default: 4 s.
    pub stall_timeout: Duration,
    /// `reconnect { min }`: the first pause before a new dial; it doubles, with jitter. Default: 250 ms.
    pub reconnect_min: Duration,
    /// `reconnect { quick }`: the longest pause while the link was lost a short time ago. Default: 600 ms.
    pub reconnect_quick: Duration,
    /// `reconnect { quick_for }`: that short time. Default: 2 minutes.
    pub reconnect_quick_for: Duration,
    /// `reconnect { max }`: the longest pause afterwards. Default: 60 s.
    pub reconnect_max: Duration,
    /// `answer_lost_requests`: a hub that sources or mirrors a stream of ours, and asked for it while the link was down, is told to ask again.
    /// Default: true.
    pub answer_lost_requests: bool,
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(10),
            first_info_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
            ping_max: 2,
            stall_timeout: Duration::from_secs(4),
            reconnect_min: Duration::from_millis(250),
            reconnect_quick: Duration::from_millis(600),
            reconnect_quick_for: Duration::from_secs(120),
            reconnect_max: Duration::from_secs(60),
            answer_lost_requests: true,
        }
    }
}

impl Uplink {
    /// Silence after which the link is given up: 15 s by default.
    pub fn dead_after(&self) -> Duration {
        self.ping_interval.saturating_mul(self.ping_max.saturating_add(1))
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Uplink {
    let mut uplink = Uplink::default();
    let Some(mut block) = field.block(report) else { return uplink };
    for (name, place) in [
        ("dial_timeout", &mut uplink.dial_timeout),
        ("first_info_timeout", &mut uplink.first_info_timeout),
        ("tls_timeout", &mut uplink.tls_timeout),
        ("connect_timeout", &mut uplink.connect_timeout),
        ("ping_interval", &mut uplink.ping_interval),
        ("stall_timeout", &mut uplink.stall_timeout),
    ] {
        if let Some(field) = block.field(&[name]) {
            set(place, positive(&field, report));
        }
    }
    if let Some(field) = block.field(&["ping_max"]) {
        set(&mut uplink.ping_max, field.integer(1..=100, report));
    }
    if let Some(field) = block.field(&["answer_lost_requests"]) {
        set(&mut uplink.answer_lost_requests, field.boolean(report));
    }
    if let Some(field) = block.field(&["reconnect"])
        && let Some(mut reconnect) = field.block(report)
    {
        for (name, place) in [
            ("min", &mut uplink.reconnect_min),
            ("quick", &mut uplink.reconnect_quick),
            ("quick_for", &mut uplink.reconnect_quick_for),
            ("max", &mut uplink.reconnect_max),
        ] {
            if let Some(field) = reconnect.field(&[name]) {
                set(place, positive(&field, report));
            }
        }
        if uplink.reconnect_min > uplink.reconnect_max {
            report.error(field.position, "uplink: reconnect: \"min\" must not be longer than \"max\"");
        }
        reconnect.finish(report);
    }
    block.finish(report);
    uplink
}
