//! From the Debian archive: mosquitto and its clients, by apt where that is allowed, else unpacked beside the other peers; and the NATS server that
//! Debian ships, always unpacked: installed it would start, and be in the way of the newer one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use harness::peers::{self, Peer};

use crate::shell;

const PACKAGES: [&str; 2] = ["mosquitto", "mosquitto-clients"];
const NATS_SERVER: &str = "nats-server";
const PROGRAMS: [&str; 3] = ["mosquitto", "mosquitto_pub", "mosquitto_sub"];

/// Installs or unpacks the packages of those that are missing.
pub(super) fn install(missing: &[Peer]) -> Result<()> {
    ensure!(shell::exists("apt-get"), "no apt-get here: install mosquitto and its clients with the system's own tools");
    if missing.contains(&Peer::Mosquitto) {
        install_mosquitto()?;
    }
    if missing.contains(&Peer::DebianNatsServer) {
        unpack(&[NATS_SERVER.to_owned()]).context("apt knows no nats-server: run `apt-get update` as root")?;
    }
    Ok(())
}

fn install_mosquitto() -> Result<()> {
    match privilege() {
        Some(prefix) => install_by_apt(&prefix),
        None => {
            let folder = peers::debian();
            unpack(&needed()?)?;
            let libraries = library_path(&folder)?;
            PROGRAMS.iter().try_for_each(|program| wrap(&folder, program, &libraries))
        }
    }
}

/// What to put before a command that needs root: nothing as root, sudo where it asks for no password.
fn privilege() -> Option<Vec<&'static str>> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let sudo = || {
        Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    match root {
        true => Some(vec![]),
        false => sudo().then(|| vec!["sudo", "-n"]),
    }
}

fn install_by_apt(prefix: &[&str]) -> Result<()> {
    // A stale list only matters if the download fails then, which says so.
    if let Err(error) = shell::run(&mut privileged(prefix, &["apt-get", "-q", "update"])) {
        println!("{error:#}; going on with the package lists that are there");
    }
    let mut words =
        vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", "--no-install-recommends", "install"];
    words.extend(PACKAGES);
    shell::run_patiently(&mut privileged(prefix, &words))?;
    // The package starts a broker on 1883, which nobody asked for and which the demo would collide with.
    if Path::new("/run/systemd/system").exists() {
        shell::run(&mut privileged(prefix, &["systemctl", "disable", "--now", "mosquitto"]))?;
    }
    Ok(())
}

fn privileged(prefix: &[&str], words: &[&str]) -> Command {
    let words: Vec<&str> = prefix.iter().chain(words).copied().collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Downloads packages, and unpacks them without installing.
fn unpack(names: &[String]) -> Result<()> {
    let folder = peers::debian();
    fs::create_dir_all(&folder)?;
    println!("unpacking {} under {}", names.join(", "), folder.display());
    shell::run_patiently(Command::new("apt-get").current_dir(&folder).args(["-q", "download"]).args(names))?;
    for entry in fs::read_dir(&folder)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|end| end == "deb") {
            shell::run(Command::new("dpkg").arg("-x").arg(&archive).arg(&folder))?;
        }
    }
    Ok(())
}

/// The packages that apt would install for mosquitto and its clients.
fn needed() -> Result<Vec<String>> {
    let mut simulate = Command::new("apt-get");
    simulate.args(["--simulate", "--no-install-recommends", "install"]).args(PACKAGES);
    let plan = shell::output(&mut simulate)
        .context("apt knows no mosquitto: run `apt-get update` as root, or install mosquitto and mosquitto-clients")?;
    let names = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next().map(str::to_owned));
    let mut names: Vec<String> = names.collect();
    for package in PACKAGES {
        if !names.iter().any(|name| name == package) {
            names.push(package.to_owned());
        }
    }
    Ok(names)
}

fn library_path(folder: &Path) -> Result<PathBuf> {
    let triplet = shell::output(Command::new("dpkg-architecture").arg("-qDEB_HOST_MULTIARCH"))
        .map(|triplet| triplet.trim().to_owned())
        .unwrap_or_else(|_| format!("{}-linux-gnu", std::env::consts::ARCH));
    let path = folder.join("usr/lib").join(triplet);
    match path.is_dir() {
        true => Ok(path),
        false => bail!("the packages have no {}", path.display()),
    }
}

/// A script under the program's name that finds the unpacked libraries, and becomes the program: its process id stays.
fn wrap(folder: &Path, program: &str, libraries: &Path) -> Result<()> {
    let places = [folder.join("usr/bin").join(program), folder.join("usr/sbin").join(program)];
    let real = places.iter().find(|path| path.exists()).with_context(|| format!("the packages have no {program}"))?;
    fs::create_dir_all(peers::binaries())?;
    let script = peers::binaries().join(program);
    let text = format!("#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n", libraries.display(), real.display());
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
