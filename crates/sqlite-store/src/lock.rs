//! One process per store folder. A locked file that names its holder: what SQLite would say is only "database is locked". The same file tells an
//! unclean end: it still names its process then.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::open::OpenError;

const FILE: &str = "store.lock";
/// Bytes of the text in it.
const LENGTH: usize = 24;

/// Held as long as the store is open.
#[derive(Debug)]
pub(crate) struct FolderLock {
    file: File,
    /// The last holder did not close the store.
    pub(crate) unclean: bool,
}

impl FolderLock {
    pub(crate) fn take(folder: &Path) -> Result<FolderLock, OpenError> {
        let path = folder.join(FILE);
        let unwritable = |source| OpenError::Unwritable { path: path.clone(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(unwritable)?;
        let mut holder = String::new();
        let locked = file.try_lock();
        // What another process wrote there need not be text.
        let _ = (&file).take(64).read_to_string(&mut holder);
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::InUse { folder: folder.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let mut lock = FolderLock { file, unclean: !holder.trim().is_empty() };
        match lock.write(&format!("process {}", std::process::id())) {
            // It is locked all the same, and a full disk keeps nobody from starting.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            written => written.map_err(unwritable)?,
        }
        Ok(lock)
    }

    /// Always over what stands there: a block that was given back may be somebody else's when it is needed again.
    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(format!("{text:LENGTH$}\n").as_bytes())
    }

    /// The store was closed in order.
    pub(crate) fn leave_clean(&mut self) {
        // If it fails, the next opening looks through the rows for nothing.
        let _ = self.write("");
    }
}
