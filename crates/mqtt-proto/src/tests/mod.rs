//! The golden scripts under `src/testscripts`, and the properties that span modules.
//!
//! `UPDATE_GOLDENFILES=1 cargo test -p mqtt-proto` writes the scripts anew; read the diff.

mod packet_properties;
mod packet_script;
mod session_properties;
mod session_script;
mod topic_properties;
mod topic_script;

/// Runs every script of a folder, each with a runner of its own.
fn run_scripts<R: goldenscript::Runner>(folder: &str, runner: impl Fn() -> R) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testscripts").join(folder);
    let mut scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        goldenscript::run(&mut runner(), &script).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    }
}
