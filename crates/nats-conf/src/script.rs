//! Runs the golden scripts, and the properties of the parser.
//!
//! `file NAME LINE…` makes a file for includes, `environment NAME=TEXT` sets a variable, `parse LINE…` prints the canonical JSON or
//! the error, `positions LINE…` every value's place, `read LINE…` reads the keys of a made-up program and prints its report.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use proptest::prelude::*;

use crate::print::print;
use crate::value::{Date, Kind, Value};
use crate::{Block, Entry, Included, Map, ParseError, Position, Report, Sources, canonical_json, parse};

#[derive(goldenscript::Command)]
enum Command {
    File(String, Vec<String>),
    Environment(BTreeMap<String, String>),
    Parse(Vec<String>),
    Positions(Vec<String>),
    Read(Vec<String>),
}

#[derive(Default)]
struct Script {
    files: RefCell<BTreeMap<String, String>>,
    environment: RefCell<BTreeMap<String, String>>,
}

impl Script {
    fn parse(&self, lines: &[String]) -> Result<Map, ParseError> {
        let environment = |name: &str| self.environment.borrow().get(name).cloned();
        let load = |path: &str, _including: &str| {
            let text = self.files.borrow().get(path).cloned();
            let text = text.ok_or_else(|| format!("open {path}: no such file or directory"))?;
            Ok(Included { file: path.to_owned(), text })
        };
        parse("F", &lines.join("\n"), Sources { environment: &environment, load: &load })
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut out = String::new();
        match command {
            Command::File(name, lines) => {
                self.files.borrow_mut().insert(name.clone(), lines.join("\n"));
            }
            Command::Environment(variables) => self.environment.borrow_mut().extend(variables.clone()),
            Command::Parse(lines) => match self.parse(lines) {
                Ok(map) => out = canonical_json(&map),
                Err(error) => writeln!(out, "{error}")?,
            },
            Command::Positions(lines) => write_positions(&mut out, &self.parse(lines)?)?,
            Command::Read(lines) => {
                let map = self.parse(lines)?;
                let report = read(&mut out, &map)?;
                let kinds = [("error", report.errors), ("warning", report.warnings), ("notice", report.notices)];
                for (kind, lines) in kinds {
                    lines.iter().try_for_each(|line| writeln!(out, "{kind}: {line}"))?;
                }
            }
        }
        Ok(out)
    }
}

fn write_positions(out: &mut String, map: &Map) -> std::fmt::Result {
    for entry in map.entries() {
        writeln!(out, "{} at {}, {} at {}", entry.key, entry.position, entry.value.kind.name(), entry.value.position)?;
        match &entry.value.kind {
            Kind::Map(inner) => write_positions(out, inner)?,
            Kind::Array(values) => {
                values.iter().try_for_each(|value| writeln!(out, "  {} at {}", value.kind.name(), value.position))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A program with one key of each type.
fn read(out: &mut String, map: &Map) -> Result<Report, std::fmt::Error> {
    let mut report = Report::default();
    let start = Position::start_of("F");
    let mut block = Block::new(map, &start);
    let report_ref = &mut report;
    if let Some(value) = block.field(&["host", "net"]).and_then(|field| field.string(report_ref)) {
        writeln!(out, "host = {value}")?;
    }
    if let Some(value) = block.field(&["port"]).and_then(|field| field.integer::<i32>(-1..=65535, report_ref)) {
        writeln!(out, "port = {value}")?;
    }
    if let Some(value) = block.field(&["debug"]).and_then(|field| field.boolean(report_ref)) {
        writeln!(out, "debug = {value}")?;
    }
    if let Some(value) = block.field(&["jetstream"]).and_then(|field| field.switch(report_ref)) {
        writeln!(out, "jetstream = {value}")?;
    }
    if let Some(value) = block.field(&["max_payload"]).and_then(|field| field.size(0..=8 << 20, report_ref)) {
        writeln!(out, "max_payload = {value}")?;
    }
    if let Some(value) = block.field(&["max_file"]).and_then(|field| field.storage_size(report_ref)) {
        writeln!(out, "max_file = {value:?}")?;
    }
    if let Some(value) = block.field(&["ping_interval"]).and_then(|field| field.duration(report_ref)) {
        writeln!(out, "ping_interval = {value:?}")?;
    }
    if let Some(value) = block.field(&["timeout"]).and_then(|field| field.seconds(report_ref)) {
        writeln!(out, "timeout = {value:?}")?;
    }
    if let Some(value) = block.field(&["subjects"]).and_then(|field| field.strings(report_ref)) {
        writeln!(out, "subjects = {value:?}")?;
    }
    if let Some(value) =
        block.field(&["discard"]).and_then(|field| field.choice(&[("old", 'o'), ("new", 'n')], report_ref))
    {
        writeln!(out, "discard = {value}")?;
    }
    if let Some(mut inner) = block.field(&["tls"]).and_then(|field| field.block(report_ref)) {
        inner.refuse(&["ocsp"], report_ref);
        inner.without_effect(&["ciphers"], "rustls chooses them", report_ref);
        inner.finish(report_ref);
    }
    block.finish(&mut report);
    Ok(report)
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => { $(
        #[test]
        fn $name() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/testscripts/", stringify!($name));
            goldenscript::run(&mut Script::default(), path).unwrap();
        }
    )* };
}

cases![values, layout, variables, includes, errors, positions, reading];

fn any_kind() -> impl Strategy<Value = Kind> {
    let date = (0..9999_u16, 1..=12_u8, 1..=28_u8, 0..24_u8, 0..60_u8, 0..60_u8);
    let leaf = prop_oneof![
        any::<bool>().prop_map(Kind::Boolean),
        any::<i64>().prop_map(|number| Kind::Integer(number.into())),
        (-1e9..1e9_f64).prop_map(Kind::Float),
        date.prop_map(|(year, month, day, hour, minute, second)| Kind::Date(Date {
            year,
            month,
            day,
            hour,
            minute,
            second
        })),
        any::<String>().prop_map(Kind::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone().prop_map(placed), 0..4).prop_map(Kind::Array),
            proptest::collection::vec(("[^\"']{0,8}", inner), 0..4).prop_map(|pairs| Kind::Map(map_of(pairs))),
        ]
    })
}

fn placed(kind: Kind) -> Value {
    Value { kind, position: Position::start_of("F") }
}

fn map_of(pairs: Vec<(String, Kind)>) -> Map {
    let mut map = Map::default();
    for (key, kind) in pairs {
        map.insert(Entry { key, position: Position::start_of("F"), value: placed(kind), referenced: false });
    }
    map
}

/// Equality without positions, which the round trip changes.
fn same(left: &Kind, right: &Kind) -> bool {
    match (left, right) {
        (Kind::Array(left), Kind::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(&left.kind, &right.kind))
        }
        (Kind::Map(left), Kind::Map(right)) => {
            let (left, right) = (left.entries(), right.entries());
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.key == right.key && same(&left.value.kind, &right.value.kind))
        }
        _ => left == right,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_printed_reads_back(pairs in proptest::collection::vec(("[^\"']{0,8}", any_kind()), 0..6)) {
        let map = map_of(pairs);
        let text = print(&map);
        let read = parse("F", &text, Sources::none());
        prop_assert!(read.is_ok(), "{read:?} of {text}");
        prop_assert!(same(&Kind::Map(read.unwrap()), &Kind::Map(map)), "{text}");
    }

    #[test]
    fn any_text_ends_in_a_map_or_a_placed_error(text in "[a-c:={}\\[\\]()'\"\\\\$#/,; \n\t0-9.x-]{0,60}") {
        if let Err(error) = parse("F", &text, Sources::none()) {
            let lines = u32::try_from(text.lines().count()).unwrap() + 1;
            prop_assert!((1..=lines).contains(&error.position.line), "{error}");
        }
    }

    #[test]
    fn a_duration_reads_back(nanoseconds in 0..=i64::MAX.unsigned_abs()) {
        let duration = std::time::Duration::from_nanos(nanoseconds);
        prop_assert_eq!(crate::parse_duration(&crate::format_duration(duration)), Ok(duration));
    }
}

#[test]
fn hostile_sizes_end_at_the_limits() {
    let nested = format!("a: {}", "[".repeat(100_000));
    assert!(parse("F", &nested, Sources::none()).unwrap_err().to_string().contains("nesting"));
    let mut doubling = String::from("a0: [x, x]\n");
    for step in 1..60 {
        let _ = writeln!(doubling, "a{step}: [$a{}, $a{}]", step - 1, step - 1);
    }
    let error = parse("F", &doubling, Sources::none()).unwrap_err().to_string();
    assert!(error.contains("is more than the"), "{error}");
    let load = |_: &str, _: &str| Ok(Included { file: "F".to_owned(), text: "include F".to_owned() });
    let sources = Sources { environment: &|_| None, load: &load };
    let error = parse("F", "include F", sources).unwrap_err().to_string();
    assert!(error.contains("the nesting of includes is more than the 16 allowed"), "{error}");
}
