//! The command line: nats-server's flags in all their spellings, and subcommands of our own.
//!
//! Go's flags take one or two dashes for every name and `-name value` or `-name=value`; booleans take a value only behind `=`. clap
//! knows no long names behind one dash, so `spelling` rewrites the flags into one canonical form first, and clap does the rest.

mod spelling;

use std::fmt;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::version;

/// What was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// What to do.
    pub task: Task,
    /// The flags.
    pub options: Options,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Run, or test the configuration file ([`Options::check`]).
    Run,
    /// Signal another process, silently.
    Signal(Signal),
    /// The compatible version, and our own on the second line.
    Version,
    /// The state of a running gateway at a glance.
    Status {
        /// As JSON.
        json: bool,
        /// The store folder.
        store_dir: Option<String>,
    },
    /// Check the store.
    StoreCheck {
        /// As JSON.
        json: bool,
        /// The store folder.
        store_dir: Option<String>,
    },
    /// Write a stream's messages to a file or standard output, each as a line of JSON.
    StoreExport {
        /// The store folder.
        store_dir: Option<String>,
        /// The stream.
        stream: String,
        /// The file; standard output when absent.
        output: Option<String>,
        /// The first sequence.
        from: u64,
    },
    /// Go on beside what a second box with our identity left at the hub.
    ForwardAdopt {
        /// As JSON.
        json: bool,
        /// The store folder.
        store_dir: Option<String>,
        /// The forwarded stream.
        stream: String,
    },
}

impl fmt::Display for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Run => "run",
            Self::Signal(_) => "--signal",
            Self::Version => "version",
            Self::Status { .. } => "status",
            Self::StoreCheck { .. } => "store check",
            Self::StoreExport { .. } => "store export",
            Self::ForwardAdopt { .. } => "forward adopt",
        })
    }
}

/// `--signal NAME[=PID or PIDFILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Which.
    pub kind: SignalKind,
    /// A pid or the path of a pid file; absent: the only process of our name.
    pub target: Option<String>,
}

/// The signals stock knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// KILL
    Stop,
    /// INT
    Quit,
    /// TERM
    Term,
    /// HUP
    Reload,
    /// USR1
    Reopen,
    /// USR2
    LameDuck,
}

/// Leave at once with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0: to standard output; else to standard error.
    pub code: u8,
    /// Without a line end behind it.
    pub text: String,
}

/// The whole command line, flags in their canonical spelling.
#[derive(Debug, Parser)]
#[command(name = "edge-gateway", args_override_self = true, disable_version_flag = true, disable_help_flag = true)]
#[command(about = "Edge gateway: NATS, MQTT and WebSocket clients, a local JetStream, store and forward")]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// nats-server's flags, as far as they mean something here. They override the file.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Options {
    /// Host to listen on for clients (also -a, -net)
    #[arg(long, value_name = "HOST")]
    pub addr: Option<String>,
    /// Port for clients; -1: any free, 0: 4222 (also -p)
    #[arg(long, value_name = "PORT", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1..=65535))]
    pub port: Option<i32>,
    /// Name of this server (also -n, -server_name)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Port for monitoring (also -m)
    #[arg(long = "http_port", value_name = "PORT", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1..=65535))]
    pub http_port: Option<i32>,
    /// Address that is told to clients, host:port
    #[arg(long = "client_advertise", value_name = "ADDRESS")]
    pub client_advertise: Option<String>,
    /// Configuration file; also behind a subcommand
    #[arg(short = 'c', long, value_name = "FILE", global = true)]
    pub config: Option<String>,
    /// Test the configuration and exit (-t)
    #[arg(long = "t", value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    pub check: bool,
    /// Write the process id to a file (also -P)
    #[arg(long, value_name = "FILE")]
    pub pid: Option<String>,
    /// Write the ports to a file in this folder
    #[arg(long = "ports_file_dir", value_name = "DIR")]
    pub ports_file_dir: Option<String>,
    /// Send a signal to a running process: ldm, stop, quit, term, reopen, reload (also -sl)
    #[arg(long, value_name = "NAME[=PID]")]
    pub signal: Option<String>,
    /// Log to a file (also -l)
    #[arg(long, value_name = "FILE")]
    pub log: Option<String>,
    /// Begin a new log file after so many bytes
    #[arg(long = "log_size_limit", value_name = "BYTES")]
    pub log_size_limit: Option<u64>,
    /// Time stamps in the log, default true (also -T)
    #[arg(long, value_name = "BOOL")]
    pub logtime: Option<bool>,
    /// Time stamps in UTC
    #[arg(long = "logtime_utc", value_name = "BOOL")]
    pub logtime_utc: Option<bool>,
    /// Debug messages (also -D, -DV, -DVV)
    #[arg(long, value_name = "BOOL")]
    pub debug: Option<bool>,
    /// Protocol traces (also -V, -VV, -DV, -DVV)
    #[arg(long, value_name = "BOOL")]
    pub trace: Option<bool>,
    /// Longest payload in a trace; 0: whole
    #[arg(long = "max_traced_msg_len", value_name = "BYTES")]
    pub max_traced_msg_len: Option<u64>,
    /// Turn JetStream on (also -js)
    #[arg(long, value_name = "BOOL")]
    pub jetstream: Option<bool>,
    /// Folder of the store (also -sd)
    #[arg(long = "store_dir", value_name = "DIR")]
    pub store_dir: Option<String>,
    /// User that clients must give
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Password that clients must give
    #[arg(long, value_name = "PASSWORD")]
    pub pass: Option<String>,
    /// Token that clients must give
    #[arg(long, value_name = "TOKEN")]
    pub auth: Option<String>,
    /// TLS for clients
    #[arg(long, value_name = "BOOL")]
    pub tls: Option<bool>,
    /// Certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<String>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<String>,
    /// Ask clients for certificates
    #[arg(long, value_name = "BOOL")]
    pub tlsverify: Option<bool>,
    /// Authorities of client certificates (PEM)
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<String>,
}

/// What is ours.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Command {
    /// The state at a glance, with the reason when nothing flows
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Folder of the store
        #[arg(long = "store-dir", alias = "store_dir", value_name = "DIR")]
        store_dir: Option<String>,
    },
    /// Look into the store
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Forwards to the hub
    Forward {
        #[command(subcommand)]
        command: ForwardCommand,
    },
    /// The version of nats-server that this is compatible with, and its own
    Version,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum StoreCommand {
    /// Check the database and every message; changes nothing
    #[command(after_help = CHECK_HELP)]
    Check {
        /// As JSON: store_dir, running, ok, problems, and each stream with messages, bytes, first, last, damaged
        #[arg(long)]
        json: bool,
        /// Folder of the store; default: as for `status`
        #[arg(long = "store-dir", alias = "store_dir", value_name = "DIR")]
        store_dir: Option<String>,
    },
    /// Write a stream's messages, each as a line of JSON; changes nothing
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// Lines of JSON: what it writes anyway
        #[arg(long)]
        json: bool,
        /// Folder of the store; default: as for `status`
        #[arg(long = "store-dir", alias = "store_dir", value_name = "DIR")]
        store_dir: Option<String>,
        /// The first sequence to write
        #[arg(long, value_name = "SEQUENCE", default_value_t = 1)]
        from: u64,
        /// The stream
        stream: String,
        /// The file, which must not exist yet; standard output when absent
        output: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum ForwardCommand {
    /// Go on after a second box with this one's identity was seen at the hub
    #[command(after_help = ADOPT_HELP)]
    Adopt {
        /// As JSON: stream, adopted
        #[arg(long)]
        json: bool,
        /// Folder of the store; default: as for `status`
        #[arg(long = "store-dir", alias = "store_dir", value_name = "DIR")]
        store_dir: Option<String>,
        /// The forwarded stream
        stream: String,
    },
}

const CHECK_HELP: &str = "\
While a gateway runs on the store, every message is read through it and counted against what it says that it holds. With none running, the file itself is
read: first the database's structure, then the checksum of every message. It can take minutes for gigabytes.

Exit status: 0 all is well, 1 something is damaged, or the store can't be read.

  edge-gateway store check
  edge-gateway store check --store-dir /mnt/card/var/lib/edge-gateway --json";

const EXPORT_HELP: &str = "\
Each line has the names of STREAM.MSG.GET: seq, time, subject, data (base64 of the body), and hdrs (base64 of the header block) if there are headers. It ends
with the newest message at the time of the command. Works with a running gateway, and with the file of one that is stopped.

Exit status: 0 everything was written, 1 something is damaged and was left out, or the store can't be read.

  edge-gateway store export SENSORS sensors.jsonl
  edge-gateway store export SENSORS --from 1000 | jq -r '.data | @base64d'";

const ADOPT_HELP: &str = "\
Two boxes that were made from one image have one identity, and the hub can't tell their messages apart. The one that notices stops forwarding, keeps what comes, and
says so in `status`. Stop the other box, or give it an identity of its own (remove the file edge-identity from its store folder while it is stopped); then this
command lets this box go on. What the other one left at the hub stays there.

Works with a running gateway, and with the file of one that is stopped. Exit status: 0 adopted, or there was nothing to adopt; 1 it can't be done.

  edge-gateway forward adopt SENSORS";

impl Invocation {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A text to leave with: help and version (code 0), a wrong command line (1 or 2).
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Exit> {
        let words = spelling::rewrite(words).map_err(|wrong| wrong.exit())?;
        let argv = std::iter::once("edge-gateway".to_owned()).chain(words);
        let CommandLine { options, command } = CommandLine::try_parse_from(argv).map_err(|error| exit(&error))?;
        let task = match command {
            Some(command) => command.into(),
            None => match &options.signal {
                Some(text) => Task::Signal(signal(text)?),
                None => Task::Run,
            },
        };
        Ok(Self { task, options })
    }
}

impl From<Command> for Task {
    fn from(command: Command) -> Self {
        match command {
            Command::Status { json, store_dir } => Self::Status { json, store_dir },
            Command::Store { command: StoreCommand::Check { json, store_dir } } => Self::StoreCheck { json, store_dir },
            Command::Store { command: StoreCommand::Export { json: _, store_dir, from, stream, output } } => {
                Self::StoreExport { store_dir, stream, output, from }
            }
            Command::Forward { command: ForwardCommand::Adopt { json, store_dir, stream } } => {
                Self::ForwardAdopt { json, store_dir, stream }
            }
            Command::Version => Self::Version,
        }
    }
}

fn exit(error: &clap::Error) -> Exit {
    let code = if error.use_stderr() { 2 } else { 0 };
    Exit { code, text: error.render().to_string().trim_end().to_owned() }
}

pub(crate) fn help() -> String {
    CommandLine::command().render_help().to_string().trim_end().to_owned()
}

fn signal(text: &str) -> Result<Signal, Exit> {
    let (name, target) = text.split_once('=').map_or((text, None), |(name, target)| (name, Some(target.to_owned())));
    let kind = match name {
        "stop" => SignalKind::Stop,
        "quit" => SignalKind::Quit,
        "term" => SignalKind::Term,
        "reload" => SignalKind::Reload,
        "reopen" => SignalKind::Reopen,
        "ldm" => SignalKind::LameDuck,
        _ => return Err(Exit { code: 1, text: format!("nats-server: unknown signal {name:?}") }),
    };
    Ok(Signal { kind, target })
}

/// What `--version` prints: exactly this line.
pub(crate) fn version_line() -> String {
    format!("nats-server: v{}", version::COMPATIBLE)
}

#[cfg(test)]
mod tests;
