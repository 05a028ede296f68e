//! `--signal` in its spellings: a second process that signals the first, by pid and by pid file.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::program::{self, Finished};
use harness::{Gateway, RawNats, Server};

const LIMIT: Duration = Duration::from_secs(20);

fn run(arguments: &[&str]) -> Result<Finished> {
    program::run(Command::new(Gateway::program()?).args(arguments), b"", LIMIT)
}

fn start() -> Result<Server> {
    Gateway::start(&format!("{}pid_file: \"<dir>/pid\"\nlame_duck_grace_period: \"1s\"\n", Gateway::PLAIN))
}

/// `flag` ends in `=` where the order is part of the same word. What the gateway then says, if it says something, and its exit code, if it ends.
fn check(flag: &str, name: &str, says: Option<&str>, ends: Option<Option<i32>>) -> Result<()> {
    for by_file in [false, true] {
        let mut gateway = start()?;
        let pid = gateway.pid().context("a pid")?.to_string();
        let target = if by_file { gateway.folder().join("pid").display().to_string() } else { pid };
        let order = format!("{name}={target}");
        let joined = format!("{flag}{order}");
        let arguments = if flag.ends_with('=') { vec![joined.as_str()] } else { vec![flag, &order] };
        let said = run(&arguments)?;
        ensure!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{arguments:?}: {said:?}");
        if let Some(text) = says {
            gateway.wait_for_log(text, LIMIT)?;
        }
        match ends {
            Some(code) => ensure!(gateway.wait_for_exit(LIMIT)?.code() == code, "{arguments:?}"),
            None => RawNats::connect(gateway.address("nats")).map(|_| ()).context("it should live on")?,
        }
    }
    Ok(())
}

#[test]
fn reload_by_pid_and_file() -> Result<()> {
    check("--signal", "reload", Some("Reloaded server configuration"), None)
}

#[test]
fn reopen_in_a_word() -> Result<()> {
    // Without a log file there is nothing to open: said, and harmless.
    check("-sl=", "reopen", None, None)
}

#[test]
fn quit_and_term_end_it_in_order() -> Result<()> {
    check("-signal", "quit", Some("Server Exiting.."), Some(Some(0)))?;
    check("-sl", "term", Some("Server Exiting.."), Some(Some(0)))
}

#[test]
fn stop_ends_it_at_once() -> Result<()> {
    // KILL leaves no exit code.
    check("--sl", "stop", None, Some(None))
}

#[test]
fn a_lame_duck_leaves_in_its_time() -> Result<()> {
    check("--signal=", "ldm", Some("Entering lame duck mode"), Some(Some(0)))
}

#[test]
fn what_cannot_be_signalled_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let nowhere = folder.path().join("nothing").display().to_string();
    for (order, text) in [
        (format!("reload={nowhere}"), "reading the pid file"),
        ("reload=0".to_owned(), "invalid pid"),
        ("bogus=1".to_owned(), "unknown signal \"bogus\""),
    ] {
        let said = run(&["--signal", &order])?;
        ensure!(said.status.code() == Some(1) && said.stderr.contains(text), "{order}: {said:?}");
    }
    Ok(())
}
