//! Medians of the rounds as Markdown: two tables, one of work and one of memory and start-up.
//!
//! A cell is `ours : theirs = ratio`; a ratio above 1 always means that ours is better.

use std::collections::BTreeMap;

use crate::outcome::{Figure, Outcome, median};
use crate::side::Side;

/// Which of the two tables a workload belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Messages go through.
    Work,
    /// One figure after the other.
    Single,
}

/// All rounds of a workload.
pub(crate) struct Report {
    name: &'static str,
    table: Table,
    samples: BTreeMap<Side, Vec<Outcome>>,
}

impl Report {
    /// Empty.
    pub(crate) fn new(name: &'static str, table: Table) -> Report {
        Report { name, table, samples: BTreeMap::new() }
    }

    /// One round of one side.
    pub(crate) fn add(&mut self, side: Side, outcome: Outcome) {
        self.samples.entry(side).or_default().push(outcome);
    }

    /// The median of a side's rounds.
    fn value(&self, side: Side, figure: Figure) -> Option<f64> {
        median(self.samples.get(&side)?.iter().filter_map(|outcome| outcome.get(&figure).copied()).collect())
    }

    /// Everybody but ours.
    fn peers(&self) -> impl Iterator<Item = Side> + '_ {
        self.samples.keys().copied().filter(|side| *side != Side::Ours)
    }

    /// Ours, theirs and the ratio; empty where it was not measured.
    fn cell(&self, peer: Side, figure: Figure) -> String {
        let (ours, theirs) = (self.value(Side::Ours, figure), self.value(peer, figure));
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => {
                let ratio = if figure == Figure::Rate { ours / theirs } else { theirs / ours };
                format!("{} : {} = **{}**", short(ours), short(theirs), short(ratio))
            }
            (Some(ours), None) => short(ours),
            (None, Some(theirs)) => format!("– : {}", short(theirs)),
            (None, None) => String::new(),
        }
    }
}

/// Both tables.
pub(crate) fn markdown(reports: &[Report]) -> String {
    let of = |table| reports.iter().filter(move |report| report.table == table).collect::<Vec<_>>();
    [work(&of(Table::Work)), single(&of(Table::Single))].concat()
}

fn work(reports: &[&Report]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let mut text =
        "| work, ours : theirs = better by | against | CPU, µs per message | messages/s | p50, µs | RSS after, MB |\n\
                    |---|---|---:|---:|---:|---:|\n"
            .to_owned();
    for report in reports {
        for peer in report.peers() {
            let cells =
                [Figure::Cpu, Figure::Rate, Figure::Median, Figure::Memory].map(|figure| report.cell(peer, figure));
            text += &format!("| {} | {peer} | {} |\n", report.name, cells.join(" | "));
        }
    }
    text + "\n"
}

fn single(reports: &[&Report]) -> String {
    if reports.is_empty() {
        return String::new();
    }
    let mut text = "| memory and start | ours | against | theirs | better by |\n|---|---:|---|---:|---:|\n".to_owned();
    for report in reports {
        for peer in report.peers() {
            for (figure, label) in SINGLE {
                let (Some(ours), Some(theirs)) = (report.value(Side::Ours, figure), report.value(peer, figure)) else {
                    continue;
                };
                let (name, ratio) = (report.name, short(theirs / ours));
                text += &format!("| {name}: {label} | {} | {peer} | {} | **{ratio}** |\n", short(ours), short(theirs));
            }
        }
    }
    text + "\n"
}

const SINGLE: [(Figure, &str); 9] = [
    (Figure::Memory, "RSS, MB"),
    (Figure::MemoryEach, "RSS each, KB"),
    (Figure::Cpu, "CPU to open one, µs"),
    (Figure::Pong, "first PONG, ms"),
    (Figure::Connack, "first CONNACK, ms"),
    (Figure::StreamInfo, "first stream info, ms"),
    (Figure::Stall, "longest wait of a publish beside it, ms"),
    (Figure::Took, "it took, ms"),
    (Figure::Idle, "CPU while idle, % of a core"),
];

/// Two significant digits below ten, three below a thousand, then k and M.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let mut report = Report::new("work", Table::Work);
        for ours in [0.5, 9.0, 0.4] {
            report.add(Side::Ours, Outcome::from([(Figure::Cpu, ours), (Figure::Rate, 2e6)]));
        }
        report.add(Side::Stock, Outcome::from([(Figure::Cpu, 1.0), (Figure::Rate, 5e5)]));
        assert_eq!(report.cell(Side::Stock, Figure::Cpu), "0.50 : 1.00 = **2.00**");
        assert_eq!(report.cell(Side::Stock, Figure::Rate), "2.0 M : 500 k = **4.00**");
        assert_eq!(report.cell(Side::Stock, Figure::Median), "");
    }
}
