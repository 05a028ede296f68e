//! `/metrics` for Prometheus.
//!
//! Under `nats_` the names and labels of prometheus-nats-exporter, so that dashboards made for it work with that prefix: every number of `/varz` and
//! `/subsz`, the sums of `/connz`, `/leafz`, `/healthz`, and JetStream's `nats_server_…`, `nats_stream_…`, `nats_consumer_…`. Under `tributary_` what only
//! we have: links, forwards with their backlog, commits, memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jetstream::command::{ConsumerInfo, Statistics, StreamInfo};
use serde_json::Value;

use super::query::Query;
use super::{Monitor, connz, healthz, leafz, pulls, report, subsz, varz};
use crate::core_loop::Core;
use crate::status::{ForwardStatus, LedgerStatus, LinkStatus, OriginStatus, PulledStatus, Status};

/// Samples by the name of their metric: a metric's lines must follow each other.
struct Metrics {
    families: BTreeMap<String, Family>,
    server: String,
}

#[derive(Default)]
struct Family {
    kind: &'static str,
    samples: String,
}

pub(super) fn page(monitor: &Monitor, statistics: Option<&Statistics>) -> String {
    let varz = varz::page(monitor, statistics);
    monitor.view(|core, status| {
        let server = core.broker.settings().server.clone();
        let mut metrics = Metrics { families: BTreeMap::new(), server: escaped(&server.id) };
        metrics.numbers("nats_varz", &varz);
        for (name, value) in [("server_id", &server.id), ("server_name", &server.name), ("version", &server.version)] {
            metrics.line(&format!("nats_varz_{name}"), &[("value", value)], 1.0);
        }
        metrics.connections(core);
        if let Ok(page) = subsz::page(core, &Query::default()) {
            metrics.numbers("nats_subsz", &page);
        }
        metrics.leafs(&leafz::page(core, status));
        metrics.health(status);
        metrics.jetstream(status, &server.name, statistics);
        metrics.ours(core, status, statistics);
        metrics.text()
    })
}

impl Metrics {
    fn text(self) -> String {
        let families = self.families.iter();
        families.map(|(name, family)| format!("# TYPE {name} {}\n{}", family.kind, family.samples)).collect()
    }

    /// One sample, with the server's id as its first label.
    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.ours_line("gauge", name, labels, value);
    }

    /// The same, of another kind.
    fn ours_line(&mut self, kind: &'static str, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(kind, name, "", labels, value);
    }

    fn sample(&mut self, kind: &'static str, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let family = self.families.entry(name.to_owned()).or_default();
        family.kind = kind;
        let text = &mut family.samples;
        let _ = write!(text, "{name}{suffix}{{server_id=\"{}\"", self.server);
        for (label, value) in labels {
            let _ = write!(text, ",{label}=\"{}\"", escaped(value));
        }
        let _ = writeln!(text, "}} {value}");
    }

    /// Every number of an object, those of inner ones under joined names.
    fn numbers(&mut self, prefix: &str, value: &Value) {
        let Value::Object(fields) = value else { return };
        for (key, value) in fields {
            match value {
                Value::Number(number) => self.line(&format!("{prefix}_{key}"), &[], number.as_f64().unwrap_or(0.0)),
                // Its keys are paths.
                Value::Object(_) if key != "http_req_stats" => self.numbers(&format!("{prefix}_{key}"), value),
                _ => {}
            }
        }
    }

    fn connections(&mut self, core: &mut Core) {
        let Ok(page) = connz::page(core, &Query::default()) else { return };
        for name in ["num_connections", "total", "offset", "limit"] {
            self.line(&format!("nats_connz_{name}"), &[], page[name].as_f64().unwrap_or(0.0));
        }
        for name in ["pending_bytes", "subscriptions", "in_bytes", "out_bytes", "in_msgs", "out_msgs"] {
            let entries = page["connections"].as_array().map_or(&[][..], Vec::as_slice);
            let sum = entries.iter().filter_map(|entry| entry[name].as_f64()).fold(0.0, |sum, value| sum + value);
            self.line(&format!("nats_connz_{name}"), &[], sum);
        }
    }

    fn leafs(&mut self, page: &Value) {
        self.line("nats_leafz_conn_nodes_total", &[], page["leafnodes"].as_f64().unwrap_or(0.0));
        for leaf in page["leafs"].as_array().map_or(&[][..], Vec::as_slice) {
            let text = |name: &str| leaf[name].as_str().unwrap_or("").to_owned();
            let (account, ip, port, name) = (text("account"), text("ip"), leaf["port"].to_string(), text("name"));
            let labels =
                [("account", &*account), ("account_id", &*account), ("ip", &*ip), ("port", &*port), ("name", &*name)];
            self.line("nats_leafz_info", &labels, 1.0);
            for (metric, field) in [
                ("in_msgs", "in_msgs"),
                ("out_msgs", "out_msgs"),
                ("in_bytes", "in_bytes"),
                ("out_bytes", "out_bytes"),
                ("subscriptions_total", "subscriptions"),
            ] {
                self.line(&format!("nats_leafz_conn_{metric}"), &labels, leaf[field].as_f64().unwrap_or(0.0));
            }
        }
    }

    /// 0 is healthy, as the exporter has it.
    fn health(&mut self, status: &Status) {
        let healthy = healthz::page(status, &Query::default(), None).is_ok_and(|page| page.status == 200);
        self.line("nats_healthz_status", &[], if healthy { 0.0 } else { 1.0 });
    }

    fn jetstream(&mut self, status: &Status, name: &str, statistics: Option<&Statistics>) {
        let domain = status.jetstream.as_ref().and_then(|facts| facts.domain.as_deref()).unwrap_or("");
        let labels = [
            ("server_name", name),
            ("cluster", ""),
            ("domain", domain),
            ("meta_leader", ""),
            ("is_meta_leader", "true"),
        ];
        let disabled = status.jetstream.is_none();
        self.line("nats_server_jetstream_disabled", &labels, f64::from(u8::from(disabled)));
        let Some((facts, statistics)) = status.jetstream.as_ref().zip(statistics) else { return };
        let streams = &statistics.streams;
        let consumers: usize = streams.iter().map(|(_, consumers)| consumers.len()).sum();
        let sum = |value: fn(&StreamInfo) -> u64| streams.iter().map(|(info, _)| value(info)).sum::<u64>() as f64;
        self.line("nats_server_max_memory", &labels, facts.max_memory as f64);
        self.line("nats_server_max_storage", &labels, facts.max_storage as f64);
        self.line("nats_server_total_streams", &labels, streams.len() as f64);
        self.line("nats_server_total_consumers", &labels, consumers as f64);
        self.line("nats_server_total_messages", &labels, sum(|info| info.state.messages));
        self.line("nats_server_total_message_bytes", &labels, sum(|info| info.state.bytes));
        for (info, consumers) in streams {
            let mine = [
                &labels[..],
                &[("account", "$G"), ("account_id", "$G"), ("stream_name", &*info.config.name)],
                &[("stream_leader", name), ("is_stream_leader", "true")],
            ];
            let mine = mine.concat();
            self.stream(info, consumers.len(), &mine);
            for consumer in consumers {
                self.consumer(consumer, name, &mine);
            }
        }
    }

    fn stream(&mut self, info: &StreamInfo, consumers: usize, labels: &[(&str, &str)]) {
        self.line("nats_stream_total_messages", labels, info.state.messages as f64);
        self.line("nats_stream_total_bytes", labels, info.state.bytes as f64);
        self.line("nats_stream_first_seq", labels, info.state.first.0 as f64);
        self.line("nats_stream_last_seq", labels, info.state.last.0 as f64);
        self.line("nats_stream_consumer_count", labels, consumers as f64);
    }

    fn consumer(&mut self, info: &ConsumerInfo, server: &str, labels: &[(&str, &str)]) {
        let created = super::text::timestamp(info.created.0 / 1_000_000_000 * 1_000_000_000);
        let mine = [
            labels,
            &[("consumer_name", &*info.name), ("consumer_leader", server), ("is_consumer_leader", "true")],
            &[("consumer_desc", &*info.config.description), ("consumer_created", &*created)],
        ];
        let mine = mine.concat();
        for (name, value) in [
            ("delivered_consumer_seq", info.delivered.0.0),
            ("delivered_stream_seq", info.delivered.1.0),
            ("num_ack_pending", info.ack_pending),
            ("num_redelivered", info.redelivered),
            ("num_waiting", info.waiting),
            ("num_pending", info.pending),
            ("ack_floor_stream_seq", info.ack_floor.1.0),
            ("ack_floor_consumer_seq", info.ack_floor.0.0),
        ] {
            self.line(&format!("nats_consumer_{name}"), &mine, value as f64);
        }
    }

    fn ours(&mut self, core: &Core, status: &Status, statistics: Option<&Statistics>) {
        let software = core.broker.settings().server.software.to_string();
        self.ours_line("gauge", "tributary_build_info", &[("software", &software)], 1.0);
        let counts = report::counts(core);
        let protocols =
            [("nats", counts.nats), ("mqtt", counts.mqtt), ("websocket", counts.websocket), ("leaf", counts.leaf)];
        for (protocol, count) in protocols {
            self.ours_line("gauge", "tributary_connections", &[("protocol", protocol)], count as f64);
        }
        self.ours_line("gauge", "tributary_connection_memory_bytes", &[], core.out.memory() as f64);
        let now = core.clock.now().micros;
        for link in &status.links {
            self.link(link, now);
        }
        for forward in status.forwards.iter().chain(&status.gaps) {
            self.forward(forward);
        }
        for origin in pulls::origins(core) {
            self.origin(&origin, now);
        }
        if let Some(statistics) = statistics {
            self.store(status, statistics);
            for pulled in pulls::pulled(statistics) {
                self.pulled(&pulled);
            }
        }
    }

    fn origin(&mut self, origin: &OriginStatus, now: u64) {
        let api = origin.api.as_deref().unwrap_or("$JS.API");
        let labels = [("stream", &*origin.stream), ("origin", &*origin.origin), ("api", api)];
        let is_up = origin.state == "receiving";
        let seconds = now.saturating_sub(origin.since_micros) as f64 / 1e6;
        self.ours_line("gauge", "tributary_origin_up", &labels, f64::from(u8::from(is_up)));
        self.ours_line("gauge", "tributary_origin_state_seconds", &labels, seconds);
        self.ours_line("gauge", "tributary_origin_lag_messages", &labels, origin.lag as f64);
        self.ours_line("gauge", "tributary_origin_sequence", &labels, origin.sequence as f64);
    }

    fn pulled(&mut self, pulled: &PulledStatus) {
        let (to, domain) = (pulled.to.as_deref().unwrap_or(""), pulled.domain.as_deref().unwrap_or(""));
        let labels = [("stream", &*pulled.stream), ("consumer", &*pulled.consumer), ("to", to), ("domain", domain)];
        self.ours_line("gauge", "tributary_pulled_up", &labels, f64::from(u8::from(pulled.bound)));
        self.ours_line("gauge", "tributary_pulled_pending_messages", &labels, pulled.pending as f64);
        self.ours_line("gauge", "tributary_pulled_sent_sequence", &labels, pulled.delivered as f64);
        if let Some(confirmed) = pulled.confirmed {
            self.ours_line("gauge", "tributary_pulled_confirmed_sequence", &labels, confirmed as f64);
        }
    }

    fn link(&mut self, link: &LinkStatus, now: u64) {
        let labels = [("address", &*link.address)];
        let seconds = now.saturating_sub(link.since_micros) as f64 / 1e6;
        self.ours_line("gauge", "tributary_link_up", &labels, f64::from(u8::from(link.up)));
        self.ours_line("gauge", "tributary_link_state_seconds", &labels, seconds);
        self.ours_line("gauge", "tributary_link_attempts", &labels, link.attempts as f64);
        self.ours_line("counter", "tributary_link_sessions_total", &labels, link.sessions as f64);
        if let Some(rtt) = link.rtt_micros {
            self.ours_line("gauge", "tributary_link_rtt_seconds", &labels, rtt as f64 / 1e6);
        }
    }

    fn forward(&mut self, forward: &ForwardStatus) {
        let labels = [("stream", &*forward.stream), ("to", &*forward.to)];
        let age = forward.oldest_age_ms.unwrap_or(0) as f64 / 1e3;
        self.ours_line("gauge", "tributary_forward_stopped", &labels, f64::from(u8::from(forward.stopped)));
        self.ours_line("gauge", "tributary_forward_backlog_messages", &labels, forward.backlog_messages as f64);
        self.ours_line("gauge", "tributary_forward_backlog_bytes", &labels, forward.backlog_bytes as f64);
        self.ours_line("gauge", "tributary_forward_oldest_seconds", &labels, age);
        self.ours_line("gauge", "tributary_forward_confirmed_sequence", &labels, forward.confirmed as f64);
        self.ours_line("gauge", "tributary_forward_last_sequence", &labels, forward.last as f64);
        self.ours_line("gauge", "tributary_forward_in_doubt_messages", &labels, forward.in_doubt as f64);
        for (name, value) in [
            ("sent", forward.sent),
            ("delivered", forward.delivered),
            ("parked", forward.parked),
            ("rejected", forward.rejected),
            ("dropped", forward.dropped),
        ] {
            self.ours_line("counter", &format!("tributary_forward_{name}_total"), &labels, value as f64);
        }
        if let Some(ledger) = &forward.ledger {
            self.ledger(ledger, &labels);
        }
    }

    /// The four sides of the equation, over restarts. Delivered is no counter: a hub that loses its tail gives back.
    fn ledger(&mut self, ledger: &LedgerStatus, labels: &[(&str, &str)]) {
        let sides = [("accepted", ledger.accepted), ("delivered", ledger.delivered), ("held", ledger.held)];
        for (name, value) in sides {
            self.ours_line("gauge", &format!("tributary_forward_{name}_messages"), labels, value as f64);
        }
        for (reason, count) in &ledger.dropped {
            let labels = [labels, &[("reason", reason.as_str())]].concat();
            self.ours_line("gauge", "tributary_forward_dropped_messages", &labels, *count as f64);
        }
    }

    fn store(&mut self, status: &Status, statistics: &Statistics) {
        self.ours_line("gauge", "tributary_store_bytes", &[], statistics.space.used as f64);
        self.ours_line("gauge", "tributary_store_available_bytes", &[], statistics.space.available as f64);
        self.ours_line("gauge", "tributary_store_full", &[], f64::from(u8::from(status.store_full)));
        self.ours_line("gauge", "tributary_mqtt_queued_messages", &[], statistics.queued as f64);
        self.ours_line("counter", "tributary_mqtt_queue_dropped_total", &[], statistics.queue_dropped as f64);
        self.ours_line("counter", "tributary_store_commits_total", &[], statistics.commits as f64);
        self.commit_times(statistics);
    }

    /// Without a sum, which is not known: quantiles need none.
    fn commit_times(&mut self, statistics: &Statistics) {
        const NAME: &str = "tributary_store_commit_seconds";
        let mut count = 0;
        for (power, commits) in statistics.commit_histogram.iter().enumerate() {
            count += commits;
            let limit = ((2u64 << power) as f64 / 1e6).to_string();
            self.sample("histogram", NAME, "_bucket", &[("le", &limit)], count as f64);
        }
        self.sample("histogram", NAME, "_bucket", &[("le", "+Inf")], count as f64);
        self.sample("histogram", NAME, "_count", &[], count as f64);
    }
}

/// A label's value: backslash, quote and line end are escaped, other control characters left out.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            character if character.is_control() => {}
            character => text.push(character),
        }
    }
    text
}
