//! The demo's picture: how far every message has come, drawn over itself on a terminal, a line a second elsewhere.
//!
//! ```text
//! 00:12  link CUT   2 sensors
//! published   ████████████████████░░░░   8,300
//! stored      ████████████████████░░░░   8,300
//! at the hub  ██████████░░░░░░░░░░░░░░   4,100   4,200 behind
//! ```

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Cells of a bar.
const BAR: u64 = 32;
/// How often the picture changes on a terminal: smooth to the eye, cheap beside what it shows.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is printed where nothing can be drawn over: readable as a log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The link as the demo treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    Up,
    Cut,
}

/// Where all messages are at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) elapsed: Duration,
    pub(super) link: LinkState,
    pub(super) sensors: u64,
    /// Messages that the whole demo will publish: the length of a full bar.
    pub(super) planned: u64,
    /// Sent by the sensors.
    pub(super) published: u64,
    /// Acknowledged by the edge: in its store.
    pub(super) stored: u64,
    /// Counted at the hub.
    pub(super) at_hub: u64,
}

/// Where pictures go.
pub(super) struct Display {
    terminal: bool,
    /// Lines of the picture on the screen, to draw over.
    drawn: usize,
    last: Option<Instant>,
}

impl Display {
    /// Standard output, drawn over when it is a terminal.
    pub(super) fn new() -> Display {
        Display { terminal: std::io::stdout().is_terminal(), drawn: 0, last: None }
    }

    /// Shows the picture, unless the last one is too young.
    pub(super) fn show(&mut self, snapshot: &Snapshot) -> Result<()> {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { LOG_INTERVAL };
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            return Ok(());
        }
        self.show_now(snapshot)
    }

    /// Shows the picture in any case: the first, the last, and where something happens.
    pub(super) fn show_now(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.last = Some(Instant::now());
        let mut out = std::io::stdout().lock();
        if !self.terminal {
            writeln!(out, "{}", line(snapshot))?;
            return Ok(());
        }
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        let picture = picture(snapshot);
        for line in picture.lines() {
            writeln!(out, "\x1b[2K{line}")?;
        }
        self.drawn = picture.lines().count();
        out.flush()?;
        Ok(())
    }

    /// Prints something that stays, above the next picture.
    pub(super) fn say(&mut self, text: &str) {
        println!("{text}");
        self.drawn = 0;
    }
}

fn picture(snapshot: &Snapshot) -> String {
    let Snapshot { published, stored, at_hub, planned, sensors, .. } = *snapshot;
    let mut rows = vec![format!("{}  link {}   {sensors} sensors", clock(snapshot.elapsed), link(snapshot.link))];
    for (label, count) in [("published", published), ("stored", stored), ("at the hub", at_hub)] {
        rows.push(format!("{label:11} {} {:>10}", bar(count, planned), grouped(count)));
    }
    let behind = stored.saturating_sub(at_hub);
    if behind > 0 {
        rows.push(format!("{:11} {} {:>10}", "backlog", bar(behind, planned), grouped(behind)));
    } else {
        rows.push(format!("{:11} none", "backlog"));
    }
    rows.join("\n")
}

fn line(snapshot: &Snapshot) -> String {
    format!(
        "{}  link {}  published {}  stored {}  at the hub {}  backlog {}",
        clock(snapshot.elapsed),
        link(snapshot.link),
        grouped(snapshot.published),
        grouped(snapshot.stored),
        grouped(snapshot.at_hub),
        grouped(snapshot.stored.saturating_sub(snapshot.at_hub))
    )
}

fn link(state: LinkState) -> &'static str {
    match state {
        LinkState::Up => "up ",
        LinkState::Cut => "CUT",
    }
}

fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// A bar that is full at `whole` and shows something from the first message on.
fn bar(count: u64, whole: u64) -> String {
    let share = count.saturating_mul(BAR).checked_div(whole).unwrap_or(0);
    let filled = share.max(u64::from(count > 0)).min(BAR);
    (0..BAR).map(|cell| if cell < filled { '█' } else { '░' }).collect()
}

/// `12345` → `12,345`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(published: u64, stored: u64, at_hub: u64) -> Snapshot {
        let elapsed = Duration::from_secs(72);
        Snapshot { elapsed, link: LinkState::Cut, sensors: 2, planned: 10_000, published, stored, at_hub }
    }

    #[test]
    fn numbers_are_grouped() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        let filled = |count, whole| bar(count, whole).chars().filter(|cell| *cell == '█').count();
        assert_eq!([filled(0, 10), filled(1, 1_000), filled(5, 10), filled(10, 10)], [0, 1, 16, 32]);
        assert_eq!([filled(20, 10), filled(1, 0)], [32, 1]);
    }

    #[test]
    fn what_is_not_at_the_hub_is_backlog() {
        assert_eq!(
            line(&snapshot(8_301, 8_300, 4_100)),
            "01:12  link CUT  published 8,301  stored 8,300  at the hub 4,100  backlog 4,200"
        );
        let picture = picture(&snapshot(8_300, 8_300, 8_300));
        assert!(picture.ends_with("backlog     none"), "{picture}");
        assert_eq!(picture.lines().count(), 5);
    }
}
