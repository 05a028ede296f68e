//! What a started server leaves for its starters: the pid file and the ports file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes the digits of our process id, without a line end. The file stays after the exit, as nats-server's does.
///
/// # Errors
/// When it can't be written.
pub fn write_pid_file(path: &Path) -> io::Result<()> {
    fs::write(path, std::process::id().to_string())
}

/// The ports file: one line of JSON that appears when all listeners are up. It stays after KILL and goes at an orderly stop.
#[derive(Debug)]
pub struct PortsFile(PathBuf);

impl PortsFile {
    /// Writes `FOLDER/<base of argv[0]>_<pid>.ports`. `listeners` are the keys (`nats`, `monitoring`, `websocket`, `mqtt`) with their URLs; those
    /// without URLs are left out.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn write(folder: &Path, program: &str, listeners: &[(&str, Vec<String>)]) -> io::Result<PortsFile> {
        let content: serde_json::Map<String, serde_json::Value> = listeners
            .iter()
            .filter(|(_, urls)| !urls.is_empty())
            .map(|(key, urls)| ((*key).to_owned(), urls.clone().into()))
            .collect();
        let base =
            Path::new(program).file_name().map_or_else(|| "server".into(), |name| name.to_string_lossy().into_owned());
        let path = folder.join(format!("{base}_{}.ports", std::process::id()));
        let unfinished = path.with_extension("ports.new");
        fs::write(&unfinished, serde_json::to_string(&content)? + "\n")?;
        // By rename: who waits for the file never reads half of it.
        fs::rename(&unfinished, &path)?;
        Ok(PortsFile(path))
    }

    /// Removes it, at an orderly stop.
    pub fn remove(&self) {
        // Whoever removed it before us wanted the same.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_listed_under_the_name_we_were_called_by() {
        let folder = tempfile::tempdir().unwrap();
        let listeners = [("nats", vec!["nats://127.0.0.1:4222".to_owned()]), ("websocket", vec![])];
        let file = PortsFile::write(folder.path(), "/usr/bin/nats-server", &listeners).unwrap();
        let path = folder.path().join(format!("nats-server_{}.ports", std::process::id()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"nats\":[\"nats://127.0.0.1:4222\"]}\n");
        file.remove();
        assert!(!path.exists());
    }
}
