//! `forward adopt`: goes on beside what a second box with our identity left at the hub.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use forward::Record;
use jetstream::store::Store;
use serde_json::json;
use sqlite_store::{Options, SqliteStore};

use super::{Place, Verdict, place};
use crate::forwarder::record_key;

pub(super) fn run(folder: &Path, stream: &str, json: bool, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let adopted = match place(folder)? {
        Place::Running(running) => running.post("/forward/adopt", &[("stream", stream)])?.starts_with("adopted"),
        Place::File(folder) => in_file(&folder, stream)?,
    };
    if json {
        writeln!(out, "{}", json!({ "stream": stream, "adopted": adopted }))?;
    } else if adopted {
        writeln!(out, "adopted: {stream} goes on beside what the other box left at the hub; stop that box for good")?;
    } else {
        writeln!(out, "nothing to adopt: no second box was seen for {stream}")?;
    }
    Ok(Verdict::Good)
}

fn in_file(folder: &Path, stream: &str) -> anyhow::Result<bool> {
    anyhow::ensure!(folder.join(sqlite_store::FILES[0]).exists(), "there is no store in {}", folder.display());
    let (mut store, _) = SqliteStore::open(folder, Options::default())?;
    let key = record_key(stream);
    let value = store.record(&key)?;
    let value = value.with_context(|| format!("the store in {} forwards no stream {stream:?}", folder.display()))?;
    let mut record = Record::decode(&value)?;
    if record.adopt().is_none() {
        return Ok(false);
    }
    store.put_record(&key, &record.encode())?;
    store.commit()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forward::IncarnationId;

    #[test]
    fn the_file_is_changed_when_nobody_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let adopt = || {
            let mut out = Vec::new();
            run(folder.path(), "S", false, &mut out).map(|_| String::from_utf8(out).unwrap())
        };
        assert!(adopt().unwrap_err().to_string().contains("there is no store"));
        let (mut store, _) = SqliteStore::open(folder.path(), Options::default()).unwrap();
        let record = Record { second_box: Some(IncarnationId(7)), ..Record::default() };
        store.put_record(&record_key("S"), &record.encode()).unwrap();
        store.commit().unwrap();
        assert!(adopt().unwrap_err().to_string().contains("in use"), "it is open here");
        drop(store);
        assert!(adopt().unwrap().starts_with("adopted: S goes on"));
        assert!(adopt().unwrap().starts_with("nothing to adopt"));
        let (mut store, _) = SqliteStore::open(folder.path(), Options::default()).unwrap();
        let value = store.record(&record_key("S")).unwrap().unwrap();
        assert_eq!(Record::decode(&value).unwrap().adopted, [IncarnationId(7)]);
    }
}
