//! Medians of the rounds, and how many times better ours is.

use crate::Outcome;
use crate::process::Usage;

/// One run of a workload against one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Operations per second.
    rate: f64,
    /// Server CPU per operation, microseconds.
    cpu_micros: f64,
    /// Median latency, microseconds.
    p50: Option<f64>,
    /// Resident memory at the end, and per operation (of connections) what was added, KiB.
    rss: f64,
    rss_each: f64,
}

impl Sample {
    /// From what the workload and the process say.
    pub(crate) fn new(outcome: &Outcome, before: &Usage, after: &Usage) -> Sample {
        let operations = outcome.operations.max(1) as f64;
        Sample {
            rate: operations / outcome.seconds,
            cpu_micros: (after.cpu - before.cpu) * 1e6 / operations,
            p50: outcome.p50_micros,
            rss: after.rss as f64,
            rss_each: after.rss.saturating_sub(before.rss) as f64 / operations,
        }
    }
}

/// All rounds of a workload.
pub(crate) struct Report {
    name: &'static str,
    ours: Vec<Sample>,
    peer: Vec<Sample>,
}

impl Report {
    /// Empty.
    pub(crate) fn new(name: &'static str) -> Report {
        Report { name, ours: Vec::new(), peer: Vec::new() }
    }

    /// A round of ours.
    pub(crate) fn add_ours(&mut self, sample: Sample) {
        self.ours.push(sample);
    }

    /// A round of the peer.
    pub(crate) fn add_peer(&mut self, sample: Sample) {
        self.peer.push(sample);
    }

    /// One line a figure.
    pub(crate) fn print(&self) {
        println!("{}", self.name);
        self.line("CPU µs/op", |sample| Some(sample.cpu_micros), false);
        self.line("ops/s", |sample| Some(sample.rate), true);
        self.line("p50 µs", |sample| sample.p50, false);
        self.line("RSS MB", |sample| Some(sample.rss / 1024.0), false);
        if self.name.contains("connections") {
            self.line("RSS KB each", |sample| Some(sample.rss_each), false);
        }
    }

    fn line(&self, figure: &str, value: impl Fn(&Sample) -> Option<f64>, more_is_better: bool) {
        let Some(ours) = median(&self.ours, &value) else { return };
        let Some(peer) = median(&self.peer, &value) else {
            return println!("  {figure:12} ours {ours:12.3}");
        };
        let ratio = if more_is_better { ours / peer } else { peer / ours };
        println!("  {figure:12} ours {ours:12.3}  peer {peer:12.3}  better by {ratio:6.2}");
    }
}

fn median(samples: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
