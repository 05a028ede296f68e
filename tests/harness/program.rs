//! Runs a program to its end, with a deadline and with its output kept.

use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often a waiting harness looks again: short against what it waits for, long against the cost of looking.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a program that succeeded.
    ///
    /// # Errors
    /// With both outputs, when the status is not 0.
    pub fn success(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "the program ended with {}\n--- standard output\n{}\n--- standard error\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// Runs `command` with `input` on its standard input, for at most `limit`.
///
/// # Errors
/// When it cannot be started, or was still running at the limit: it is killed then, and the error shows its output.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input may close the pipe first; its status says whether that was right.
        let _ = pipe.write_all(input);
    }
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            break None;
        }
        thread::sleep(POLL);
    };
    let (stdout, stderr) = (finish(stdout), finish(stderr));
    match status {
        Some(status) => Ok(Finished { status, stdout, stderr }),
        None => bail!(
            "{name} was still running after {limit:?}\n--- standard output\n{stdout}\n--- standard error\n{stderr}"
        ),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<String>> {
    pipe.map(|mut pipe| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A broken pipe ends the output; what came before it is what there is.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    })
}

fn finish(reader: Option<JoinHandle<String>>) -> String {
    reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
}
