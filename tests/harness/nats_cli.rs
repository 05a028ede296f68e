//! The real `nats` command line against one server, with a home folder of its own: no context of the user leaks in.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::peers;
use crate::program::{self, Finished};

/// Longest run of one command; the CLI's own request timeout is 5 s.
const LIMIT: Duration = Duration::from_secs(30);

/// The CLI with a server to talk to.
#[derive(Debug)]
pub struct NatsCli {
    url: String,
    home: TempDir,
}

impl NatsCli {
    /// For the server at `url`; user and password may be part of it.
    ///
    /// # Errors
    /// When there is no room for a home folder.
    pub fn new(url: &str) -> Result<NatsCli> {
        let home = tempfile::Builder::new().prefix("tributary-cli-").tempdir()?;
        Ok(NatsCli { url: url.to_owned(), home })
    }

    /// Runs `nats ARGUMENTS` and hands back status and output, whatever the status is.
    ///
    /// # Errors
    /// When the CLI is missing or does not end in 30 s.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        self.run_with_input(arguments, b"")
    }

    /// The same with something on standard input, for commands that read a message body or a configuration.
    ///
    /// # Errors
    /// As [`NatsCli::run`].
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Result<Finished> {
        program::run(&mut self.command(arguments), input, LIMIT)
    }

    /// Runs a command that must succeed, and reads its output as JSON.
    ///
    /// # Errors
    /// When it fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let text = self.run(arguments)?.success()?;
        serde_json::from_str(&text).with_context(|| format!("`nats {}` printed {text}", arguments.join(" ")))
    }

    /// The command as it would be run, for those who watch it while it runs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(peers::binaries().join("nats"));
        command.env("HOME", self.home.path()).env("XDG_CONFIG_HOME", self.home.path()).env("NO_COLOR", "1");
        for name in ["NATS_URL", "NATS_CONTEXT", "NATS_USER", "NATS_PASSWORD", "NATS_CREDS", "NATS_NKEY"] {
            command.env_remove(name);
        }
        command.args(["--server", &self.url]).args(arguments);
        command
    }
}
