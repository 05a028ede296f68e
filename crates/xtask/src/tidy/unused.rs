//! Dependencies that no source names: they cost everybody's build, and somebody's trust.

use crate::metadata::{Metadata, Package};
use harness::peers::workspace;

use super::source::Source;
use super::words::places;

/// What is needed without being named, as crate and dependency. The library of `power-cut` is preloaded.
const UNNAMED: [(&str, &str); 2] = [("sqlite-store", "power-cut"), ("tests", "power-cut")];

/// Every dependency of ours that nothing uses, a line each.
pub(super) fn check(metadata: &Metadata, sources: &[Source]) -> Vec<String> {
    metadata.members().flat_map(|member| check_member(member, sources)).collect()
}

fn check_member(member: &Package, sources: &[Source]) -> Vec<String> {
    let folder = member.folder.strip_prefix(workspace()).unwrap_or(&member.folder).to_string_lossy();
    let own: Vec<&Source> = sources.iter().filter(|source| source.package() == folder).collect();
    let wanted = member.dependencies.iter().filter(|on| !UNNAMED.contains(&(member.name.as_str(), on.name.as_str())));
    let unused = wanted.filter(|on| !own.iter().any(|source| places(&source.code, &on.word).next().is_some()));
    unused.map(|on| format!("{}: depends on {}, which no source of it names", member.name, on.name)).collect()
}
