//! `edge-gateway status`: asks the running gateway over the socket in its store folder, and prints what it says on one screen.
//!
//! Which folder: `--store-dir`, else the one of `-c FILE`, else the first of the package's (`/var/lib/edge-gateway`) and the platform's state folder that
//! has a socket. Reads nothing else: with no gateway running it says so, and what to do.

mod pulls;
mod summary;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::STATUS_SOCKET;
use server::status::Report;

use crate::arguments::Options;
use crate::config;

pub use summary::summary;

/// Where the packages put the store.
const PACKAGED: &str = "/var/lib/edge-gateway";
/// A gateway that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any answer: a thousand streams are some 200 KB, the largest message of a slice some 90 MB in base64.
const MAX_ANSWER: u64 = 128 * 1024 * 1024;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The configuration that was named can't be read.
    #[error("{0}")]
    Configuration(String),
    /// Nobody answers.
    #[error(
        "no gateway is running on the store in {folder}\nStart it (systemctl start edge-gateway, or edge-gateway -c FILE), \
         or say where its store is: edge-gateway status --store-dir DIR",
        folder = .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket is somebody else's.
    #[error("not allowed to ask the gateway in {folder}: run this as its user or as root", folder = .0.display())]
    NotAllowed(PathBuf),
    /// It answered something else, or nothing.
    #[error("the gateway in {folder} does not answer as it should: {reason}", folder = .0.display(), reason = .1)]
    Strange(PathBuf, String),
}

/// The text to print.
///
/// # Errors
/// When no gateway answers.
pub fn run(
    json: bool,
    store_dir: Option<&str>,
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, StatusError> {
    let folder = find_folder(store_dir, options, environment)?;
    let answer = ask(&folder)?;
    if json {
        return Ok(answer);
    }
    let report: Report =
        serde_json::from_str(&answer).map_err(|error| StatusError::Strange(folder, error.to_string()))?;
    Ok(summary(&report))
}

/// Where the store is that a command of ours is about: see the module.
pub(crate) fn find_folder(
    store_dir: Option<&str>,
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<PathBuf, StatusError> {
    if let Some(folder) = store_dir {
        return Ok(folder.into());
    }
    let loaded = config::load(options, environment).map_err(|error| StatusError::Configuration(error.to_string()))?;
    let configured = loaded.config.jetstream.map(|jetstream| jetstream.store_dir);
    match configured {
        Some(folder) if options.config.is_some() => Ok(folder),
        Some(folder) if folder.join(STATUS_SOCKET).exists() => Ok(folder),
        _ => Ok(PACKAGED.into()),
    }
}

/// The JSON of `GET /status`.
fn ask(folder: &Path) -> Result<String, StatusError> {
    match call(folder, "GET", "/status")? {
        (200, body) => Ok(body),
        (code, _) => Err(StatusError::Strange(folder.to_owned(), format!("status {code}"))),
    }
}

/// A request to the gateway that runs on the store: its status code and body.
pub(crate) fn call(folder: &Path, method: &str, target: &str) -> Result<(u16, String), StatusError> {
    let mut stream = UnixStream::connect(folder.join(STATUS_SOCKET)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => StatusError::NotAllowed(folder.to_owned()),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => StatusError::NotRunning(folder.to_owned()),
        _ => StatusError::Strange(folder.to_owned(), error.to_string()),
    })?;
    let strange = |reason: String| StatusError::Strange(folder.to_owned(), reason);
    let answer = exchange(&mut stream, method, target).map_err(|error| strange(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| strange("no HTTP".to_owned()))?;
    let line = head.lines().next().unwrap_or_default();
    let code = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    Ok((code.ok_or_else(|| strange(line.to_owned()))?, body.to_owned()))
}

fn exchange(stream: &mut UnixStream, method: &str, target: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_in(folder: &Path) -> Result<String, StatusError> {
        let none = |_: &str| None;
        run(false, Some(folder.to_str().unwrap()), &Options::default(), &none)
    }

    #[test]
    fn with_none_running_it_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let text = ask_in(folder.path()).unwrap_err().to_string();
        assert!(text.contains("no gateway is running") && text.contains("systemctl start"), "{text}");
        // A killed gateway leaves its socket.
        drop(std::os::unix::net::UnixListener::bind(folder.path().join(STATUS_SOCKET)).unwrap());
        assert!(matches!(ask_in(folder.path()), Err(StatusError::NotRunning(_))));
    }

    #[test]
    fn what_the_gateway_answers_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join(STATUS_SOCKET)).unwrap();
        let thread = std::thread::spawn(move || {
            let mut request = [0; 1024];
            for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut request).unwrap();
                let report = Report { server_name: "pump".into(), ..Report::default() };
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(serde_json::to_string(&report).unwrap().as_bytes()).unwrap();
            }
        });
        assert!(ask_in(folder.path()).unwrap().starts_with("pump"));
        assert!(ask_in(folder.path()).unwrap_err().to_string().contains("503"));
        thread.join().unwrap();
    }
}
