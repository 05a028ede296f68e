//! Keyed records: opaque values of others, in the same transactions as the messages. Each carries a checksum; one that isn't whole counts as absent.

use jetstream::store::StoreError;

use crate::database::{Database, out_of_order};

/// A record's blob.
pub(crate) fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(value.len() + 4);
    blob.extend_from_slice(value);
    blob.extend_from_slice(&checksum(key, value).to_le_bytes());
    blob
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

/// The value in a record's blob, `None` when it isn't what was written under that key.
pub(crate) fn opened<'a>(key: &[u8], blob: &'a [u8]) -> Option<&'a [u8]> {
    let (value, crc) = blob.split_last_chunk::<4>()?;
    (checksum(key, value) == u32::from_le_bytes(*crc)).then_some(value)
}

pub(crate) fn put(db: &mut Database, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    db.begin()?;
    db.run("INSERT OR REPLACE INTO record VALUES (?, ?)", (key, sealed(key, value)))?;
    Ok(())
}

pub(crate) fn delete(db: &mut Database, key: &[u8]) -> Result<(), StoreError> {
    db.begin()?;
    db.run("DELETE FROM record WHERE key = ?", [key])?;
    Ok(())
}

pub(crate) fn get(db: &Database, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut found = None;
    db.query("SELECT value FROM record WHERE key = ?", [key], |row| {
        found = opened(key, row.get_ref(0)?.as_blob()?).map(<[u8]>::to_vec);
        if found.is_none() {
            db.health.damaged.set(db.health.damaged.get() + 1);
        }
        Ok(false)
    })?;
    Ok(found)
}

pub(crate) fn scan(
    db: &Database,
    prefix: &[u8],
    from: &[u8],
    visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), StoreError> {
    let mut before = Vec::new();
    db.query("SELECT key, value FROM record WHERE key >= ? ORDER BY key", [prefix.max(from)], |row| {
        let key = row.get_ref(0)?.as_blob()?;
        if !key.starts_with(prefix) {
            return Ok(false);
        }
        if key <= before.as_slice() && !before.is_empty() {
            return Err(out_of_order());
        }
        key.clone_into(&mut before);
        match opened(key, row.get_ref(1)?.as_blob()?) {
            Some(value) => Ok(visit(key, value)),
            None => {
                db.health.damaged.set(db.health.damaged.get() + 1);
                Ok(true)
            }
        }
    })
}
