//! Words that must not be in a source: I/O in pure crates, unfinished code, ignored tests; and what each file must have.

use super::PURE;
use super::source::{Source, is_word};

/// In no file of ours, test or product.
const NOWHERE: [(&str, &str); 4] = [
    ("#[ignore", "no test is ignored: make it pass, or take it away"),
    ("todo!", "unfinished code is not committed"),
    ("unimplemented!", "unfinished code is not committed"),
    ("dbg!", "left from debugging"),
];

/// Paths of the standard library that a pure crate must not name outside its tests.
const IMPURE: [(&str, &str); 7] = [
    ("std::net", "no sockets in a pure crate; for addresses as values there is core::net"),
    ("std::fs", "no files in a pure crate"),
    ("std::thread", "no threads in a pure crate"),
    ("std::process", "no processes in a pure crate"),
    ("std::env", "a pure crate takes its settings as arguments"),
    ("std::time::Instant", "time is an argument of a pure crate"),
    ("std::time::SystemTime", "time is an argument of a pure crate"),
];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 10] =
    ["common", "core", "handler", "handlers", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Every finding, a line each.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    if !source.text.trim_start().starts_with("//!") {
        findings.push(format!("{}: no module doc: `//!` says what it is, promises, and does not do", source.path));
    }
    let stem = source.path.trim_end_matches(".rs").rsplit('/').find(|part| *part != "mod").unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        findings.push(format!("{}: the name `{stem}` says nothing; modules are nouns of the domain", source.path));
    }
    for (word, why) in NOWHERE {
        findings.extend(places(&source.code, word).map(|at| finding(source, at, word, why)));
    }
    let package = source.package().trim_start_matches("crates/");
    if PURE.contains(&package) {
        for (path, why) in IMPURE {
            findings.extend(impure_places(&source.product, path).into_iter().map(|at| finding(source, at, path, why)));
        }
    }
    findings
}

fn finding(source: &Source, at: usize, word: &str, why: &str) -> String {
    let line = source.code[..at].matches('\n').count() + 1;
    format!("{}:{line}: {word}: {why}", source.path)
}

/// Where `word` stands by itself.
pub(super) fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = code.as_bytes();
    let ends_open = word.bytes().last().is_some_and(is_word);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = *at == 0 || !is_word(bytes[at - 1]);
        let behind = !ends_open || bytes.get(at + word.len()).is_none_or(|byte| !is_word(*byte));
        before && behind
    })
}

/// Where a path of the standard library is named, directly or inside the braces of a `use`.
fn impure_places(code: &str, path: &str) -> Vec<usize> {
    let mut found: Vec<usize> = places(code, path).collect();
    for at in places(code, "use") {
        let statement = &code[at + 3..];
        let tree = statement[..statement.find(';').unwrap_or(0)].trim();
        if tree.contains('{') && expand(tree).iter().any(|full| full == path || full.starts_with(&format!("{path}::")))
        {
            found.push(at);
        }
    }
    found
}

/// The full paths of a `use` tree with braces: `std::{fs, time::{self, Instant}}`.
fn expand(tree: &str) -> Vec<String> {
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut current = String::new();
    let mut paths = Vec::new();
    for letter in tree.chars().filter(|letter| !letter.is_whitespace()) {
        match letter {
            '{' => {
                let prefix = format!("{}{current}", prefixes.last().map_or("", String::as_str));
                prefixes.push(prefix);
                current.clear();
            }
            ',' | '}' => {
                if !current.is_empty() {
                    let path = format!("{}{current}", prefixes.last().map_or("", String::as_str));
                    paths.push(path.trim_end_matches("::self").to_owned());
                    current.clear();
                }
                if letter == '}' && prefixes.len() > 1 {
                    prefixes.pop();
                }
            }
            _ => current.push(letter),
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_trees_are_expanded() {
        let paths = expand("std::{fs, net::{self, IpAddr}, time::{Duration, Instant}, fmt}");
        let expected =
            ["std::fs", "std::net", "std::net::IpAddr", "std::time::Duration", "std::time::Instant", "std::fmt"];
        assert_eq!(paths, expected);
    }

    #[test]
    fn impure_paths_are_found() {
        fn check(code: &str, path: &str, expected: usize) {
            assert_eq!(impure_places(code, path).len(), expected, "{code}");
        }
        check("use std::fs;", "std::fs", 1);
        check("use std::{\n    fs,\n    io,\n};", "std::fs", 1);
        check("use std::time::{Duration, Instant};", "std::time::Instant", 1);
        check("let a = std::time::Instant::now();", "std::time::Instant", 1);
        check("use std::time::Duration; use crate::Instant;", "std::time::Instant", 0);
        check("use std::{fmt, io}; mystd::fs; std::fsync()", "std::fs", 0);
    }
}
