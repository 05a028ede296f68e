//! The edge's identity: a key made at the first start, in a file beside the store.
//!
//! It is no secret. Whoever copies the folder to a second box copies it too; that is found out at the hub, from incarnations that this box never had.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Name of the file in the store folder.
const FILE: &str = "edge-identity";
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Reads the identity, or makes one.
pub(crate) fn edge_identity(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let identity = text.trim().to_owned();
            forward::identity::check_edge(&identity).with_context(|| path.display().to_string())?;
            Ok(identity)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            make(folder, &path).with_context(|| format!("writing {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Durable before it is used: the hub will know us by it.
fn make(folder: &Path, path: &Path) -> anyhow::Result<String> {
    let mut bytes = [0; 26];
    getrandom::fill(&mut bytes)?;
    let identity: String = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    writeln!(file, "{identity}")?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = edge_identity(folder.path()).unwrap();
        assert_eq!((first.len(), edge_identity(folder.path()).unwrap()), (26, first));
        std::fs::write(folder.path().join(FILE), "not one token\n").unwrap();
        assert!(edge_identity(folder.path()).is_err());
    }
}
