//! A [`Report`] for people: one screen, the worst said plainly.

use std::fmt::Write as _;

use server::status::{ForwardStatus, LedgerStatus, LinkStatus, Listener, Phase, Report};

/// Streams that are listed; a box with more has `--json`.
const MAX_STREAMS: usize = 8;
/// Remarks of a forward that are shown, the newest.
const MAX_REMARKS: usize = 2;

/// The screen.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    let status = &report.status;
    let up = duration(report.now_micros.saturating_sub(status.started_micros));
    let phase = match status.phase {
        Phase::Recovering => ", RECOVERING the store",
        Phase::Serving => "",
        Phase::LameDuck => ", lame duck: takes no new clients",
        Phase::Stopping => ", stopping",
    };
    line(&mut text, &format!("{} · {} · process {} · up {up}{phase}", report.server_name, report.software, report.pid));
    listeners(&mut text, report);
    for link in &status.links {
        row(&mut text, "link", &describe_link(link, report.now_micros));
        if let Some(withheld) = &link.withheld {
            row(&mut text, "", withheld);
        }
    }
    if status.links.is_empty() {
        row(&mut text, "link", "none configured: nothing leaves this box");
    }
    store(&mut text, report);
    for forward in &status.forwards {
        describe_forward(&mut text, forward, report.now_micros);
    }
    if let Some(gaps) = status.gaps.as_ref().filter(|gaps| gaps.last > 0) {
        describe_gaps(&mut text, gaps);
    }
    super::pulls::describe(&mut text, report);
    text
}

fn line(text: &mut String, content: &str) {
    // What a hub or a name says must not end the line or move the cursor.
    text.extend(content.chars().filter(|character| !character.is_control()));
    text.push('\n');
}

pub(super) fn row(text: &mut String, title: &str, content: &str) {
    line(text, &format!("{title:<9}{content}"));
}

fn listeners(text: &mut String, report: &Report) {
    let counts = &report.connections;
    let (nats, mqtt, websocket) = (counts.nats, counts.mqtt, counts.websocket);
    row(
        text,
        "clients",
        &format!("{nats} NATS, {mqtt} MQTT, {websocket} WebSocket ({} since the start)", counts.total),
    );
    let all = &report.status.listeners;
    let named = [("nats", &all.client), ("mqtt", &all.mqtt), ("websocket", &all.websocket), ("monitoring", &all.http)];
    let shown: Vec<String> =
        named.iter().filter_map(|(name, listener)| listener.as_ref().map(|listener| place(name, listener))).collect();
    if !shown.is_empty() {
        row(text, "listens", &shown.join(", "));
    }
}

fn place(name: &str, listener: &Listener) -> String {
    let host = if listener.host.contains(':') { format!("[{}]", listener.host) } else { listener.host.clone() };
    let tls = if listener.tls { " (TLS)" } else { "" };
    format!("{name} {host}:{}{tls}", listener.port)
}

fn describe_link(link: &LinkStatus, now: u64) -> String {
    let since = duration(now.saturating_sub(link.since_micros));
    let mut text = link.address.clone();
    if link.up {
        let _ = write!(text, "  up for {since}");
        if let Some(name) = &link.peer_name {
            let _ = write!(text, ", hub {name} {}", link.peer_version.as_deref().unwrap_or(""));
        }
        if let Some(rtt) = link.rtt_micros {
            let _ = write!(text, ", round trip {}.{} ms", rtt / 1000, rtt / 100 % 10);
        }
        return text;
    }
    let _ = write!(text, "  DOWN, {} for {since}", link.phase);
    if let Some(error) = &link.last_error {
        let _ = write!(text, ": {error}");
    }
    if let Some(at) = link.next_dial_micros {
        let _ = write!(text, "; next try in {}", duration(at.saturating_sub(now)));
    }
    let _ = write!(text, " ({} tried since it was last up)", link.attempts);
    text
}

fn store(text: &mut String, report: &Report) {
    let status = &report.status;
    match (&report.store, &status.jetstream) {
        (_, None) => row(text, "store", "JetStream is off: nothing is stored"),
        (None, Some(facts)) => row(text, "store", &format!("{}  DOES NOT ANSWER", facts.store_dir)),
        (Some(store), Some(facts)) => {
            let messages: u64 = store.streams.iter().map(|stream| stream.messages).sum();
            let (used, free) = (bytes(store.used_bytes), bytes(store.available_bytes));
            let count = store.streams.len();
            let streams = if count == 1 { "stream" } else { "streams" };
            let dir = &facts.store_dir;
            row(text, "store", &format!("{dir}  {used} used, {free} left, {messages} messages in {count} {streams}"));
            if status.store_full {
                row(text, "", "FULL: publishes into streams are refused until something is removed or sent");
            }
            for stream in store.streams.iter().take(MAX_STREAMS) {
                let (messages, size) = (stream.messages, bytes(stream.bytes));
                let (first, last) = (stream.first, stream.last);
                row(text, "", &format!("{}  {messages} messages, {size}, {first} to {last}", stream.name));
            }
            if count > MAX_STREAMS {
                row(text, "", &format!("and {} more (--json has all)", count - MAX_STREAMS));
            }
            if store.queued > 0 || store.queue_dropped > 0 {
                let (queued, dropped) = (store.queued, store.queue_dropped);
                row(text, "", &format!("{queued} messages wait for sleeping MQTT clients, {dropped} were dropped"));
            }
        }
    }
    if let Some(trouble) = &status.store_trouble {
        row(text, "", &format!("TROUBLE: {trouble}"));
    }
}

fn describe_forward(text: &mut String, forward: &ForwardStatus, now: u64) {
    let ForwardStatus { stream, to, state, backlog_messages, confirmed, .. } = forward;
    let state = if forward.stopped { state.to_uppercase() } else { state.clone() };
    let mut content = format!("{stream} → {to}  {state}");
    if *backlog_messages == 0 {
        let _ = write!(content, ", everything up to {confirmed} is at the hub");
    } else {
        let _ = write!(content, ", {backlog_messages} messages behind ({}", bytes(forward.backlog_bytes));
        if let Some(age) = forward.oldest_age_ms {
            let _ = write!(content, ", the oldest {} old", duration(age.saturating_mul(1000)));
        }
        let _ = write!(content, "), confirmed up to {confirmed}");
    }
    row(text, "forward", &content);
    if let Some(reason) = &forward.reason {
        let again = forward.retry_micros.map(|at| format!("; looked at again in {}", duration(at.saturating_sub(now))));
        row(text, "", &format!("because {reason}{}", again.unwrap_or_default()));
    }
    if let Some(ledger) = &forward.ledger {
        describe_ledger(text, ledger);
    }
    for sentence in &forward.at_least_once {
        row(text, "", sentence);
    }
    let skipped = forward.remarks.len().saturating_sub(MAX_REMARKS);
    for remark in &forward.remarks[skipped..] {
        row(text, "", remark);
    }
}

/// Said when something was lost: all sides of the equation, so that nobody has to count.
fn describe_ledger(text: &mut String, ledger: &LedgerStatus) {
    let lost: Vec<String> = ledger
        .dropped
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if lost.is_empty() {
        return;
    }
    let LedgerStatus { accepted, delivered, held, dropped } = ledger;
    let all: u64 = dropped.values().sum();
    let lost = lost.join(", ");
    row(text, "", &format!("{accepted} accepted = {delivered} delivered + {held} held + {all} LOST ({lost})"));
}

fn describe_gaps(text: &mut String, gaps: &ForwardStatus) {
    let ForwardStatus { stream, to, state, last, backlog_messages, .. } = gaps;
    let state = if gaps.stopped { state.to_uppercase() } else { state.clone() };
    row(text, "losses", &format!("{stream} → {to}  {state}, {last} records, {backlog_messages} not at the hub yet"));
    if let Some(reason) = gaps.reason.as_ref().filter(|_| *backlog_messages > 0) {
        row(text, "", &format!("because {reason}"));
    }
}

/// `3d4h`, `5m10s`, `0s`: the two largest units.
pub(super) fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes}m"),
        (days, hours, _, _) => format!("{days}d{hours}h"),
    }
}

/// `12 bytes`, `1.2 MB`: decimal units.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1000 {
        return format!("{count} bytes");
    }
    let mut tenths = count / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use server::status::{ConnectionCounts, JetStreamFacts, Listeners, Status, StoreReport, StreamReport};

    use super::*;

    fn report() -> Report {
        let listener = |port| Some(Listener { host: "0.0.0.0".into(), port, ..Listener::default() });
        let link = LinkStatus {
            address: "tls://hub.example.com:7422".into(),
            phase: "waiting to dial".into(),
            since_micros: 1_000_000,
            next_dial_micros: Some(69_000_000),
            attempts: 4,
            last_error: Some("connection refused\u{1b}[2J".into()),
            ..LinkStatus::default()
        };
        let forward = ForwardStatus {
            stream: "TELEMETRY".into(),
            to: "FLEET".into(),
            state: "link down".into(),
            reason: Some("the link is down".into()),
            confirmed: 100,
            backlog_messages: 20,
            backlog_bytes: 2_345,
            oldest_age_ms: Some(61_000),
            ledger: Some(LedgerStatus {
                accepted: 124,
                delivered: 100,
                held: 20,
                dropped: [("age".to_owned(), 1), ("delete".to_owned(), 0), ("limit".to_owned(), 3)].into(),
            }),
            at_least_once: vec!["at least once: the hub is old".into()],
            ..ForwardStatus::default()
        };
        let gaps = ForwardStatus {
            stream: "GAPS".into(),
            to: "FLEET".into(),
            state: "link down".into(),
            reason: Some("the link is down".into()),
            last: 2,
            backlog_messages: 1,
            ..ForwardStatus::default()
        };
        let stream =
            StreamReport { name: "TELEMETRY".into(), messages: 120, bytes: 12_000, first: 1, last: 120, consumers: 0 };
        Report {
            server_name: "pump-station-7".into(),
            software: "edge-gateway 0.1.0".into(),
            pid: 42,
            now_micros: 61_000_000,
            status: Status {
                phase: Phase::Serving,
                listeners: Listeners { client: listener(4222), mqtt: listener(1883), ..Listeners::default() },
                jetstream: Some(JetStreamFacts {
                    store_dir: "/var/lib/edge-gateway".into(),
                    ..JetStreamFacts::default()
                }),
                links: vec![link],
                forwards: vec![forward],
                gaps: Some(gaps),
                ..Status::default()
            },
            connections: ConnectionCounts { nats: 2, mqtt: 3, total: 9, ..ConnectionCounts::default() },
            store: Some(StoreReport {
                used_bytes: 4_096,
                available_bytes: 3_000_000_000,
                streams: vec![stream],
                ..StoreReport::default()
            }),
            ..Report::default()
        }
    }

    #[test]
    fn one_screen_says_why_nothing_flows() {
        let wanted = "\
pump-station-7 · edge-gateway 0.1.0 · process 42 · up 1m1s
clients  2 NATS, 3 MQTT, 0 WebSocket (9 since the start)
listens  nats 0.0.0.0:4222, mqtt 0.0.0.0:1883
link     tls://hub.example.com:7422  DOWN, waiting to dial for 1m0s: connection refused[2J; next try in 8s (4 tried since it was last up)
store    /var/lib/edge-gateway  4.0 kB used, 3.0 GB left, 120 messages in 1 stream
         TELEMETRY  120 messages, 12.0 kB, 1 to 120
forward  TELEMETRY → FLEET  link down, 20 messages behind (2.3 kB, the oldest 1m1s old), confirmed up to 100
         because the link is down
         124 accepted = 100 delivered + 20 held + 4 LOST (1 age, 3 limit)
         at least once: the hub is old
losses   GAPS → FLEET  link down, 2 records, 1 not at the hub yet
         because the link is down
";
        assert_eq!(summary(&report()), wanted);
    }

    #[test]
    fn trouble_is_said_plainly() {
        let mut report = report();
        report.store = None;
        report.status.store_trouble = Some("disk on fire".into());
        report.status.phase = Phase::Recovering;
        report.status.links.clear();
        report.status.forwards[0].stopped = true;
        let text = summary(&report);
        for words in ["RECOVERING", "DOES NOT ANSWER", "TROUBLE: disk on fire", "none configured", "LINK DOWN"] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn quantities_are_short() {
        assert_eq!(
            [0, 999, 1_000, 1_250_000, 999_999].map(bytes),
            ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "999.9 kB"]
        );
        assert_eq!([0, 3_600_000_000, 180_000_000_000].map(duration), ["0s", "1h0m", "2d2h"]);
    }
}
