//! Mirrors and sources on the screen of `status`: what streams here take, and who takes from them.

use std::fmt::Write as _;

use server::status::{OriginStatus, PulledStatus, Report};

use super::summary::{duration, row};

/// Rows of either kind that are shown; a box with more has `--json`.
const MAX_ROWS: usize = 8;

pub(super) fn describe(text: &mut String, report: &Report) {
    for origin in report.origins.iter().take(MAX_ROWS) {
        describe_origin(text, origin, report.now_micros);
    }
    more(text, report.origins.len());
    for pulled in report.pulled.iter().take(MAX_ROWS) {
        describe_pulled(text, pulled);
    }
    more(text, report.pulled.len());
}

fn more(text: &mut String, count: usize) {
    if count > MAX_ROWS {
        row(text, "", &format!("and {} more (--json has all)", count - MAX_ROWS));
    }
}

fn describe_origin(text: &mut String, origin: &OriginStatus, now: u64) {
    let OriginStatus { stream, origin: name, lag, sequence, .. } = origin;
    let place = origin.api.as_ref().map(|api| format!(" at {api}")).unwrap_or_default();
    let since = duration(now.saturating_sub(origin.since_micros));
    let is_up = origin.state == "receiving";
    let state = if is_up { origin.state.clone() } else { format!("NOTHING COMES, {}", origin.state) };
    let title = if origin.mirror { "mirror" } else { "source" };
    row(
        text,
        title,
        &format!("{stream} ← {name}{place}  {state} for {since}, up to {sequence}, {lag} messages behind"),
    );
    if let Some(error) = origin.last_error.as_ref().filter(|_| !is_up) {
        row(text, "", &format!("because {error}"));
    }
}

fn describe_pulled(text: &mut String, pulled: &PulledStatus) {
    let mut content = format!("{} → {}", pulled.stream, pulled.to.as_deref().unwrap_or("a hub's stream"));
    if let Some(domain) = &pulled.domain {
        let _ = write!(content, " of {domain}");
    }
    let state = if pulled.bound { "drawing" } else { "NOBODY DRAWS" };
    let _ = write!(content, "  {state}, sent up to {}, {} messages behind", pulled.delivered, pulled.pending);
    if let Some(confirmed) = pulled.confirmed {
        let _ = write!(content, ", confirmed up to {confirmed}");
    }
    row(text, "pulled", &content);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_said() {
        let origin = OriginStatus {
            stream: "AGG".into(),
            origin: "EV".into(),
            api: Some("$JS.hub.API".into()),
            state: "receiving".into(),
            since_micros: 1_000_000,
            lag: 3,
            sequence: 97,
            last_error: Some("stream not found".into()),
            ..OriginStatus::default()
        };
        let unheard = OriginStatus { mirror: true, api: None, state: "nobody answers".into(), ..origin.clone() };
        let pulled = PulledStatus { stream: "T".into(), delivered: 9, pending: 1, ..PulledStatus::default() };
        let named = PulledStatus {
            to: Some("FLEET".into()),
            domain: Some("hub".into()),
            bound: true,
            confirmed: Some(8),
            ..pulled.clone()
        };
        let (origins, pulled) = (vec![origin, unheard], vec![pulled, named]);
        let report = Report { now_micros: 62_000_000, origins, pulled, ..Report::default() };
        let mut text = String::new();
        describe(&mut text, &report);
        let wanted = "\
source   AGG ← EV at $JS.hub.API  receiving for 1m1s, up to 97, 3 messages behind
mirror   AGG ← EV  NOTHING COMES, nobody answers for 1m1s, up to 97, 3 messages behind
         because stream not found
pulled   T → a hub's stream  NOBODY DRAWS, sent up to 9, 1 messages behind
pulled   T → FLEET of hub  drawing, sent up to 9, 1 messages behind, confirmed up to 8
";
        assert_eq!(text, wanted);
    }
}
