//! Golden scripts: who wants a subject, what overlaps a filter, and what a transform makes of a subject.

use crate::{Filter, Index, Transform};
use std::error::Error;

#[derive(goldenscript::Command)]
enum Command {
    Insert { filter: String, value: u32 },
    Remove { filter: String, value: u32 },
    Match { subject: String },
    Overlap { filter: String },
    Transform { source: String, destination: String, subjects: Vec<String> },
}

struct Runner {
    index: Index<u32>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        Ok(match command {
            Command::Insert { filter, value } => {
                self.index.insert(&Filter::parse(filter)?, *value);
                String::new()
            }
            Command::Remove { filter, value } => {
                let found = self.index.remove(&Filter::parse(filter)?, value);
                format!(
                    "{filter} {value}: {}, {} left\n",
                    if found { "removed" } else { "not there" },
                    self.index.len()
                )
            }
            Command::Match { subject } => {
                let mut found = Vec::new();
                self.index.for_each_match(subject.as_bytes(), |value| found.push(*value));
                found.sort_unstable();
                format!("{subject} -> {found:?}\n")
            }
            Command::Overlap { filter } => {
                let mut found = Vec::new();
                self.index.overlapping(&Filter::parse(filter)?, |text, value| found.push(format!("{text}={value}")));
                format!("{filter} ~ {}\n", found.join(" "))
            }
            Command::Transform { source, destination, subjects } => transform(source, destination, subjects),
        })
    }
}

fn transform(source: &str, destination: &str, subjects: &[String]) -> String {
    let transform = match Transform::parse(source, destination) {
        Ok(transform) => transform,
        Err(error) => return format!("{source} -> {destination}: {error}\n"),
    };
    let mut output = format!("results match {}\n", transform.destination_filter());
    for subject in subjects {
        let mut into = Vec::new();
        let result =
            if transform.apply(subject.as_bytes(), 1, &mut into) { String::from_utf8_lossy(&into) } else { "-".into() };
        output.push_str(&format!("{subject} -> {result}\n"));
    }
    output
}

#[test]
fn scripts() {
    for case in ["interest", "transforms"] {
        let mut runner = Runner { index: Index::new(1) };
        goldenscript::run(&mut runner, format!("src/testscripts/{case}"))
            .unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}
