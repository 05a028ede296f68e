//! Go's spellings of flags, rewritten to `--name=value`.

use super::{Exit, help, version_line};

/// How a flag is written canonically.
#[derive(Clone, Copy)]
enum Flag {
    /// Needs a value.
    Value(&'static str),
    /// Takes a value behind `=` only; alone it is `true`.
    Boolean(&'static str),
    /// Several booleans at once.
    Booleans(&'static [&'static str]),
    /// Prints and leaves.
    Help,
    TlsHelp,
    Version,
    /// Exists in stock and changes nothing here: there is no cluster yet.
    Harmless,
    HarmlessBoolean,
    /// Exists in stock, not here.
    Unsupported,
    UnsupportedBoolean,
}

/// Every name of nats-server 2.15.
const FLAGS: &[(&str, Flag)] = &[
    ("a", Flag::Value("addr")),
    ("addr", Flag::Value("addr")),
    ("net", Flag::Value("addr")),
    ("p", Flag::Value("port")),
    ("port", Flag::Value("port")),
    ("n", Flag::Value("name")),
    ("name", Flag::Value("name")),
    ("server_name", Flag::Value("name")),
    ("m", Flag::Value("http_port")),
    ("http_port", Flag::Value("http_port")),
    ("ms", Flag::Unsupported),
    ("https_port", Flag::Unsupported),
    ("client_advertise", Flag::Value("client_advertise")),
    ("c", Flag::Value("config")),
    ("config", Flag::Value("config")),
    ("t", Flag::Boolean("t")),
    ("P", Flag::Value("pid")),
    ("pid", Flag::Value("pid")),
    ("ports_file_dir", Flag::Value("ports_file_dir")),
    ("sl", Flag::Value("signal")),
    ("signal", Flag::Value("signal")),
    ("l", Flag::Value("log")),
    ("log", Flag::Value("log")),
    ("log_size_limit", Flag::Value("log_size_limit")),
    ("T", Flag::Boolean("logtime")),
    ("logtime", Flag::Boolean("logtime")),
    ("logtime_utc", Flag::Boolean("logtime_utc")),
    ("s", Flag::UnsupportedBoolean),
    ("syslog", Flag::UnsupportedBoolean),
    ("r", Flag::Unsupported),
    ("remote_syslog", Flag::Unsupported),
    ("D", Flag::Boolean("debug")),
    ("debug", Flag::Boolean("debug")),
    ("V", Flag::Boolean("trace")),
    ("trace", Flag::Boolean("trace")),
    ("VV", Flag::Boolean("trace")),
    ("DV", Flag::Booleans(&["debug", "trace"])),
    ("DVV", Flag::Booleans(&["debug", "trace"])),
    ("max_traced_msg_len", Flag::Value("max_traced_msg_len")),
    ("js", Flag::Boolean("jetstream")),
    ("jetstream", Flag::Boolean("jetstream")),
    ("sd", Flag::Value("store_dir")),
    ("store_dir", Flag::Value("store_dir")),
    ("user", Flag::Value("user")),
    ("pass", Flag::Value("pass")),
    ("auth", Flag::Value("auth")),
    ("tls", Flag::Boolean("tls")),
    ("tlscert", Flag::Value("tlscert")),
    ("tlskey", Flag::Value("tlskey")),
    ("tlsverify", Flag::Boolean("tlsverify")),
    ("tlscacert", Flag::Value("tlscacert")),
    ("cluster", Flag::Unsupported),
    ("cluster_listen", Flag::Unsupported),
    ("routes", Flag::Unsupported),
    ("profile", Flag::Unsupported),
    ("cluster_name", Flag::Harmless),
    ("cluster_advertise", Flag::Harmless),
    ("connect_retries", Flag::Harmless),
    ("no_advertise", Flag::HarmlessBoolean),
    ("v", Flag::Version),
    ("version", Flag::Version),
    ("h", Flag::Help),
    ("help", Flag::Help),
    ("help_tls", Flag::TlsHelp),
];

/// Our subcommands: what follows them is clap's alone.
const COMMANDS: &[&str] = &["status", "store", "forward", "version"];

/// What ends the reading of the command line.
pub(super) enum Wrong {
    Help,
    TlsHelp,
    Version,
    Unknown(String),
    Unsupported(String),
    NoValue(String),
    NotBoolean { flag: String, value: String },
    Command(String),
}

impl Wrong {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Help => Exit { code: 0, text: help() },
            Self::TlsHelp => Exit { code: 0, text: TLS_HELP.to_owned() },
            Self::Version => Exit { code: 0, text: version_line() },
            Self::Unknown(flag) => usage(&format!("flag provided but not defined: -{flag}")),
            Self::NoValue(flag) => usage(&format!("flag needs an argument: -{flag}")),
            Self::NotBoolean { flag, value } => usage(&format!("invalid boolean value {value:?} for -{flag}")),
            Self::Unsupported(flag) => Exit { code: 1, text: format!("nats-server: flag -{flag} is not supported") },
            Self::Command(word) => Exit { code: 1, text: format!("nats-server: unrecognized command: {word:?}") },
        }
    }
}

fn usage(text: &str) -> Exit {
    Exit { code: 2, text: format!("{text}\n{}", help()) }
}

const TLS_HELP: &str = "TLS needs a certificate and its key, both PEM: -tlscert FILE -tlskey FILE.
-tlsverify asks clients for a certificate, which an authority in -tlscacert FILE must have signed.
In the configuration file: tls { cert_file: \"cert.pem\", key_file: \"key.pem\", ca_file: \"ca.pem\", verify: true }";

/// Rewrites flags up to the first word that is none.
pub(super) fn rewrite(words: impl IntoIterator<Item = String>) -> Result<Vec<String>, Wrong> {
    let mut words = words.into_iter();
    let mut canonical = Vec::new();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|flag| !flag.is_empty())
        else {
            canonical.extend(command(word)?);
            canonical.extend(words);
            return Ok(canonical);
        };
        let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value.to_owned())));
        rewrite_flag(name, value, &mut words, &mut canonical)?;
    }
    Ok(canonical)
}

fn rewrite_flag(
    name: &str,
    value: Option<String>,
    words: &mut impl Iterator<Item = String>,
    canonical: &mut Vec<String>,
) -> Result<(), Wrong> {
    let flag = FLAGS.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
    let flag = flag.ok_or_else(|| Wrong::Unknown(name.to_owned()))?;
    match flag {
        Flag::Value(long) => {
            let value = value.or_else(|| words.next()).ok_or_else(|| Wrong::NoValue(name.to_owned()))?;
            canonical.push(format!("--{long}={value}"));
        }
        Flag::Boolean(long) => canonical.push(format!("--{long}={}", boolean(name, value.as_deref())?)),
        Flag::Booleans(longs) => {
            let value = boolean(name, value.as_deref())?;
            canonical.extend(longs.iter().map(|long| format!("--{long}={value}")));
        }
        Flag::Harmless => {
            value.or_else(|| words.next()).ok_or_else(|| Wrong::NoValue(name.to_owned()))?;
        }
        Flag::HarmlessBoolean => {
            boolean(name, value.as_deref())?;
        }
        Flag::Help => return Err(Wrong::Help),
        Flag::TlsHelp => return Err(Wrong::TlsHelp),
        Flag::Version => return Err(Wrong::Version),
        // Switched off, it asks for nothing that we lack.
        Flag::UnsupportedBoolean if !boolean(name, value.as_deref())? => {}
        Flag::Unsupported | Flag::UnsupportedBoolean => return Err(Wrong::Unsupported(name.to_owned())),
    }
    Ok(())
}

/// The words of Go's `strconv.ParseBool`.
fn boolean(flag: &str, value: Option<&str>) -> Result<bool, Wrong> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(Wrong::NotBoolean { flag: flag.to_owned(), value: value.to_owned() }),
    }
}

fn command(word: String) -> Result<Option<String>, Wrong> {
    match word.as_str() {
        "help" => Err(Wrong::Help),
        // Two dashes alone end the flags; stock accepts them with nothing behind.
        "--" => Ok(None),
        _ if COMMANDS.contains(&word.as_str()) => Ok(Some(word)),
        _ => Err(Wrong::Command(word)),
    }
}
