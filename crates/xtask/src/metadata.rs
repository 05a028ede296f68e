//! What cargo knows about the workspace and everything it depends on, as far as `tidy` and `deny` ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// All packages that the given targets need.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// By cargo's id.
    pub(crate) packages: BTreeMap<String, Package>,
    /// Who uses whom in a build that is no test: id → ids.
    normal: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The folder of its manifest.
    pub(crate) folder: PathBuf,
    pub(crate) version: String,
    /// The licence expression, when the manifest has one.
    pub(crate) licence: Option<String>,
    /// Whether it is ours.
    pub(crate) is_member: bool,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// What sources call it.
    pub(crate) word: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Development,
    Build,
}

impl Metadata {
    /// Asks cargo; without targets, for all platforms there are.
    pub(crate) fn read(targets: &[String]) -> Result<Metadata> {
        let mut command = shell::cargo(&["metadata", "--format-version", "1", "--locked"]);
        for target in targets {
            command.args(["--filter-platform", target]);
        }
        let text = shell::output(&mut command)?;
        Metadata::parse(&serde_json::from_str(&text).context("cargo metadata printed something else than JSON")?)
    }

    fn parse(value: &Value) -> Result<Metadata> {
        let members: BTreeSet<&str> = array(value, "workspace_members").filter_map(Value::as_str).collect();
        let nodes = value.get("resolve").context("cargo metadata has no resolve")?;
        let normal: BTreeMap<String, Vec<String>> =
            array(nodes, "nodes").map(|node| (text(node, "id"), normal_edges(node))).collect();
        let packages = array(value, "packages").filter(|package| normal.contains_key(&text(package, "id")));
        let packages = packages.map(|package| {
            let id = text(package, "id");
            let read = Package {
                name: text(package, "name"),
                folder: Path::new(&text(package, "manifest_path")).parent().map(Path::to_owned).unwrap_or_default(),
                version: text(package, "version"),
                licence: package.get("license").and_then(Value::as_str).map(str::to_owned),
                is_member: members.contains(id.as_str()),
                dependencies: array(package, "dependencies").map(dependency).collect(),
            };
            (id, read)
        });
        Ok(Metadata { packages: packages.collect(), normal })
    }

    /// Ours, by name.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.is_member)
    }

    /// Names of all packages that one of ours is built from, itself included, tests and build scripts not.
    pub(crate) fn built_from(&self, member: &str) -> BTreeSet<&str> {
        let start = self.packages.iter().find(|(_, package)| package.is_member && package.name == member);
        let mut queue: VecDeque<&str> = start.map(|(id, _)| id.as_str()).into_iter().collect();
        let mut seen: BTreeSet<&str> = queue.iter().copied().collect();
        while let Some(id) = queue.pop_front() {
            for next in self.normal.get(id).into_iter().flatten() {
                if seen.insert(next) {
                    queue.push_back(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).map(|package| package.name.as_str()).collect()
    }
}

fn normal_edges(node: &Value) -> Vec<String> {
    let is_normal = |edge: &&Value| array(edge, "dep_kinds").any(|kind| kind.get("kind").is_none_or(Value::is_null));
    array(node, "deps").filter(is_normal).map(|edge| text(edge, "pkg")).collect()
}

fn dependency(value: &Value) -> Dependency {
    let kind = match value.get("kind").and_then(Value::as_str) {
        Some("dev") => Kind::Development,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    };
    let name = text(value, "name");
    let word = value.get("rename").and_then(Value::as_str).unwrap_or(&name).replace('-', "_");
    Dependency { name, word, kind }
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
