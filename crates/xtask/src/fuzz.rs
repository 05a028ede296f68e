//! `cargo xtask fuzz`: every decoder fed with what nobody would send.
//!
//! libFuzzer on the stable toolchain: its counters are LLVM's, switched on by compiler flags, and without a sanitizer (the product has no
//! `unsafe` worth one) nothing of it needs nightly. The flags go with a target triple, so that build scripts are spared. What was found
//! interesting stays under `target/fuzz/corpus`; inputs that failed under `target/fuzz/artifacts`. The seeds in `fuzz/seeds` are small and ours.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use harness::peers::workspace;

use crate::shell;

/// Coverage as libFuzzer wants it.
const FLAGS: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// An input that takes longer is a finding, seconds. On a machine with other work.
const SLOWEST: &str = "-timeout=20";
/// One that needs more memory too, megabytes.
const MOST_MEMORY: &str = "-rss_limit_mb=1024";
/// Targets side by side.
const AT_ONCE: usize = 2;
/// The target that needs another implementation, and the feature that brings it.
const DIFFERENTIAL: &str = "differential";

/// What to fuzz, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub(crate) seconds: u32,
    /// The same inputs again: where the search begins; another each time when none is given
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u32>,
    /// Also beside other implementations (more to build)
    #[arg(long)]
    pub(crate) differential: bool,
    /// Only these targets; all of them when none is named
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
}

/// Builds the targets and runs them; fails when one of them found something.
pub(crate) fn run(options: &Options) -> Result<()> {
    let host = host()?;
    let known = targets(options.differential)?;
    let wanted = if options.targets.is_empty() { known.clone() } else { options.targets.clone() };
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("no fuzz target {unknown:?}; there are: {}", known.join(", "));
    }
    build(&host, &wanted, options.differential)?;
    let programs = folder().join(&host).join("debug");
    fs::create_dir_all(folder().join("artifacts")).context("a folder for what is found")?;
    let waiting: Mutex<VecDeque<&String>> = Mutex::new(wanted.iter().collect());
    let failed: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = next(&waiting) {
                    match fuzz(&programs, name, options) {
                        Ok(line) => println!("{name:18} {line}"),
                        Err(error) => {
                            eprintln!("{name:18} {error:#}");
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failed.is_empty(), "fuzzing found something in: {}", failed.join(", "));
    Ok(())
}

fn next<'a>(waiting: &Mutex<VecDeque<&'a String>>) -> Option<&'a String> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

/// Everything that is built and found, out of the way of the other builds.
fn folder() -> PathBuf {
    workspace().join("target/fuzz")
}

/// The names of the targets: the files of their folder.
fn targets(differential: bool) -> Result<Vec<String>> {
    let files = fs::read_dir(workspace().join("fuzz/fuzz_targets")).context("the fuzz targets")?;
    let names = files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let names = names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| differential || !name.ends_with(DIFFERENTIAL)).collect();
    names.sort();
    Ok(names)
}

/// The triple of this machine.
fn host() -> Result<String> {
    let told = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

fn build(host: &str, wanted: &[String], differential: bool) -> Result<()> {
    take_versions().context("taking over Cargo.lock")?;
    let mut build = shell::cargo(&["build", "--quiet", "--target", host]);
    build.current_dir(workspace().join("fuzz"));
    for name in wanted {
        build.args(["--bin", name]);
    }
    if differential {
        build.args(["--features", DIFFERENTIAL]);
    }
    build.env("CARGO_TARGET_DIR", folder()).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    shell::run(&mut build).context("libFuzzer needs a C++ compiler (Debian: g++)")
}

/// The versions that the product is built with; cargo adds what only fuzzing needs.
fn take_versions() -> Result<()> {
    let (ours, theirs) = (workspace().join("Cargo.lock"), workspace().join("fuzz/Cargo.lock"));
    let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    if changed(&theirs).is_none_or(|theirs| changed(&ours).is_some_and(|ours| ours > theirs)) {
        fs::copy(ours, theirs)?;
    }
    Ok(())
}

/// Runs one target; its last line of figures.
fn fuzz(programs: &Path, name: &str, options: &Options) -> Result<String> {
    let corpus = folder().join("corpus").join(name);
    fs::create_dir_all(&corpus).context("a folder for the corpus")?;
    let artifacts = folder().join("artifacts");
    let mut command = Command::new(programs.join(name));
    command.args([SLOWEST, MOST_MEMORY]).arg(format!("-max_total_time={}", options.seconds));
    command.arg(format!("-seed={}", options.seed.unwrap_or(0)));
    command.arg(format!("-artifact_prefix={}/{name}-", artifacts.display())).arg(&corpus);
    let seeds = workspace().join("fuzz/seeds").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let output = command.output().with_context(|| format!("starting the fuzz target {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        bail!("{}", failure(&output, &said));
    }
    let figures = said.lines().rev().find(|line| line.contains("cov: ")).unwrap_or_default();
    let runs = said.lines().rev().find(|line| line.starts_with("Done ")).unwrap_or_default();
    Ok(format!("{}; {runs}", figures.trim_start_matches('#').trim()))
}

/// What a person needs to see of a finding: the panic, and where the input is.
fn failure(output: &Output, said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let panicked = lines.iter().position(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
    let panicked =
        panicked.map_or(&lines[lines.len().saturating_sub(20)..], |from| &lines[from..lines.len().min(from + 6)]);
    let kept = lines.iter().filter(|line| line.contains("Test unit written to") || line.starts_with("Base64: "));
    let kept: Vec<&str> = kept.copied().collect();
    format!("{}\n{}\n{}", output.status, panicked.join("\n"), kept.join("\n"))
}
