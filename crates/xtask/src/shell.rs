//! Runs other programs with their output where the person sees it, and says which one failed.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::peers::workspace;

/// Pauses before a download is tried again.
const PAUSES_S: [u64; 3] = [2, 5, 15];

/// `cargo` of the toolchain that runs us, in the workspace's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    command
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a program that downloads something: networks fail for a moment, so it has four attempts.
pub(crate) fn run_patiently(command: &mut Command) -> Result<()> {
    for pause_s in PAUSES_S {
        match run(command) {
            Ok(()) => return Ok(()),
            Err(error) => println!("{error:#}; again in {pause_s} s"),
        }
        thread::sleep(Duration::from_secs(pause_s));
    }
    run(command)
}

/// Standard output of a program that must succeed; its standard error is shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something else than text", shown(command)))
}

/// Whether a program of that name can be started.
pub(crate) fn exists(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$0\" >/dev/null", program])
        .status()
        .is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
