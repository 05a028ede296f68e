//! The files a configuration names: itself, its includes, certificates, credentials.

use std::io;
use std::path::{Path, PathBuf};

use nats_conf::{Field, Included, Report};

/// Reads a file whole; the error is stock's text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| open_error(path, &error))?.len();
    if size > nats_conf::limits::MAX_INPUT_BYTES as u64 {
        return Err(format!("read {}: {size} bytes are too many", path.display()));
    }
    std::fs::read_to_string(path).map_err(|error| open_error(path, &error))
}

fn open_error(path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

/// An included file: its path is relative to the file that includes it.
pub(super) fn include(path: &str, including: &str) -> Result<Included, String> {
    let folder = Path::new(including).parent().unwrap_or(Path::new(""));
    let path = folder.join(path);
    let text = read(&path)?;
    Ok(Included { file: path.display().to_string(), text })
}

/// A file that has to be there: certificates are relative to the working directory, `~` is the home folder.
pub(super) fn existing(field: &Field<'_>, report: &mut Report) -> Option<PathBuf> {
    let path = path(field, report)?;
    match std::fs::File::open(&path) {
        Ok(_) => Some(path),
        Err(error) => {
            report.error(field.position, format!("field {:?}: {}", field.name, open_error(&path, &error)));
            None
        }
    }
}

/// A path that need not exist yet.
pub(super) fn path(field: &Field<'_>, report: &mut Report) -> Option<PathBuf> {
    let text = field.string(report)?;
    if text.is_empty() {
        report.error(field.position, format!("field {:?}: expected a path, but it is empty", field.name));
        return None;
    }
    let home = text.strip_prefix("~/").and_then(|rest| Some(Path::new(&std::env::var_os("HOME")?).join(rest)));
    Some(home.unwrap_or_else(|| PathBuf::from(text)))
}
