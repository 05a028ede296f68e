//! `edge-gateway store check`, `store export` and `forward adopt`.
//!
//! With a gateway running on the store they ask it, over the socket in the store folder; with none they open the file themselves, under the store's own
//! lock. `check` and `export` never change anything. How the folder is found: as for `status`.

mod adopt;
mod check;
mod export;
pub(crate) mod line;
mod running;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlite_store::Inspection;

use crate::arguments::{Options, Task};
use crate::status::find_folder;

pub(crate) use running::Running;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, or all is well.
    Good,
    /// It worked, and what it found is not well.
    Bad,
}

/// Runs one of the commands; its output goes to `out`, or where the command says.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn run(
    task: &Task,
    options: &Options,
    environment: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> anyhow::Result<Verdict> {
    let folder = |store_dir: &Option<String>| find_folder(store_dir.as_deref(), options, environment);
    match task {
        Task::StoreCheck { json, store_dir } => check::run(&folder(store_dir)?, *json, out),
        Task::StoreExport { store_dir, stream, output, from } => {
            let folder = folder(store_dir)?;
            export::run(&folder, stream, *from, output.as_deref().map(Path::new), out)
        }
        Task::ForwardAdopt { json, store_dir, stream } => adopt::run(&folder(store_dir)?, stream, *json, out),
        other => anyhow::bail!("{other} is no command on a store"),
    }
}

/// Where the store is read.
enum Place {
    /// A gateway has it.
    Running(Box<Running>),
    /// Nobody has it.
    File(PathBuf),
}

/// A running gateway, if there is one on this store.
fn place(folder: &Path) -> anyhow::Result<Place> {
    Ok(match Running::find(folder)? {
        Some(running) => Place::Running(Box::new(running)),
        None => Place::File(folder.to_owned()),
    })
}

/// The file, for reading only.
fn inspect(folder: &Path) -> anyhow::Result<Inspection> {
    Inspection::open(folder).with_context(|| format!("the store in {} can't be read", folder.display()))
}

/// The names of the streams in a file, with their numbers. One whose description is lost has the name that an opening would give it.
fn names(inspection: &Inspection) -> anyhow::Result<Vec<(String, u32)>> {
    let named = |(id, description): (u32, Vec<u8>)| {
        let name = jetstream::stream_name(&description);
        (name.map_or_else(|| format!("RECOVERED_{id}"), String::from), id)
    };
    Ok(inspection
        .streams()?
        .into_iter()
        .filter(|(id, _)| *id >= jetstream::identity::StreamId::FIRST.0)
        .map(named)
        .collect())
}
