//! Who may link: user and password, token, nkey, and `.creds` of an operator, each right and wrong, against a stock hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Server, program};

use crate::leaf::{ANYBODY, LIMIT, edge, hub, links, reaches_as, wait_for_links, works_both_ways};

/// A remote that says who it is.
fn remote(user_info: &str, hub: &Server, more: &str) -> String {
    format!(
        "{{ url: \"nats-leaf://{user_info}127.0.0.1:{}\", ignore_discovered_servers: true {more} }}",
        hub.port("leaf")
    )
}

/// The hub refuses, the gateway says so, and does not come back in a tight circle.
fn is_refused(remote: &str, hub: &Server) -> Result<()> {
    let dials = || hub.log().matches("Leafnode connection created").count();
    let before = dials();
    let mut gateway = edge(remote, "")?;
    gateway.wait_for_log("the hub says: Authorization Violation", LIMIT)?;
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    ensure!(dials() - before <= 4, "{} dials\n{}", dials() - before, hub.log_tail());
    ensure!(links(&gateway)?.is_empty());
    ensure!(!gateway.log().contains("secret"), "{}", gateway.log_tail());
    Ok(())
}

#[test]
fn user_and_password() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let hub = hub("authorization { user: leaf, password: s3cret }", "")?;
    let gateway = edge(&remote("leaf:s3cret@", &hub, ""), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);
    is_refused(&remote("leaf:wrong-secret@", &hub, ""), &hub)?;
    is_refused(&remote("", &hub, ""), &hub)
}

#[test]
fn a_token_is_the_user_of_the_url() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    // Stock takes tokens on leaf links only by way of its clients' authorization.
    let hub = hub("", "authorization { token: t0ken }")?;
    let gateway = edge(&remote("t0ken@", &hub, ""), "")?;
    let client = r#"{"verbose":false,"auth_token":"t0ken"}"#;
    reaches_as((&gateway, ANYBODY), (&hub, client), "up.a")?;
    drop(gateway);
    is_refused(&remote("wrong-secret@", &hub, ""), &hub)
}

#[test]
fn a_key_proves_itself() -> Result<()> {
    if !peers::available(Peer::NatsServer) || !peers::available(Peer::Nsc) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    let pair = |name: &str| -> Result<(String, PathBuf)> {
        let text = nsc(files.path(), &["generate", "nkey", "--user"])?;
        let line = |start: &str| text.lines().map(str::trim).find(|line| line.starts_with(start)).map(str::to_owned);
        let file = files.path().join(name);
        fs::write(&file, format!("# made by nsc\n{}\n", line("SU").context("no seed")?))?;
        Ok((line("U").context("no key")?, file))
    };
    let (public, seed) = pair("right.nk")?;
    let hub = hub(&format!("authorization {{ nkey: {public} }}"), "")?;
    let gateway = edge(&remote("", &hub, &format!(", nkey: \"{}\"", seed.display())), "")?;
    works_both_ways(&gateway, &hub)?;
    drop(gateway);
    let (_, other) = pair("other.nk")?;
    is_refused(&remote("", &hub, &format!(", nkey: \"{}\"", other.display())), &hub)
}

#[test]
fn credentials_of_an_operator() -> Result<()> {
    if !peers::available(Peer::NatsServer) || !peers::available(Peer::Nsc) {
        return Ok(());
    }
    let files = tempfile::tempdir()?;
    let (configuration, account, creds) = operator(&files.path().join("one"))?;
    let hub = hub("", &configuration)?;
    let gateway = edge(&remote("", &hub, &format!(", credentials: \"{}\"", creds.display())), "")?;
    wait_for_links(&gateway, 1)?;
    let link = links(&hub)?.pop().context("no link at the hub")?;
    ensure!(link["account"] == account && link["name"] == "edge", "{link}");
    // A message over it and back: a client of the hub with the same credentials answers one of the gateway.
    let (mut asker, _) = harness::RawNats::connect(gateway.address("nats"))?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(peers::binaries().join("nats"));
        command.env("HOME", files.path()).env("XDG_CONFIG_HOME", files.path());
        command.args(["--server", &hub.url(), "--creds", &creds.display().to_string()]).args(arguments);
        command
    };
    if peers::available(Peer::NatsCli) {
        let mut responder = command(&["reply", "question", "the answer", "--count", "1"]).spawn()?;
        let deadline = std::time::Instant::now() + LIMIT;
        loop {
            let answer = asker.request("question", b"?")?;
            if answer.payload == b"the answer" {
                break;
            }
            ensure!(std::time::Instant::now() < deadline, "no answer: {answer:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        responder.wait()?;
    }
    drop(gateway);
    let (_, _, of_nobody) = operator(&files.path().join("two"))?;
    is_refused(&remote("", &hub, &format!(", credentials: \"{}\"", of_nobody.display())), &hub)
}

/// An operator with an account and a user: the hub's configuration, the account's key, the user's credentials.
fn operator(folder: &Path) -> Result<(String, String, PathBuf)> {
    fs::create_dir_all(folder)?;
    let (resolver, creds) = (folder.join("resolver.conf"), folder.join("edge.creds"));
    let (resolver_path, creds_path) = (resolver.display().to_string(), creds.display().to_string());
    nsc(folder, &["add", "operator", "-n", "OP"])?;
    nsc(folder, &["add", "account", "-n", "EDGES"])?;
    nsc(folder, &["add", "user", "-a", "EDGES", "-n", "edge"])?;
    nsc(folder, &["generate", "config", "--mem-resolver", "--config-file", &resolver_path])?;
    nsc(folder, &["generate", "creds", "-a", "EDGES", "-n", "edge", "-o", &creds_path])?;
    let configuration = fs::read_to_string(&resolver)?;
    let key = |line: &str| Some(line.trim().split_once(": eyJ")?.0.to_owned()).filter(|key| key.starts_with('A'));
    let account = configuration.lines().find_map(key).context("no account in the configuration")?;
    Ok((configuration, account, creds))
}

fn nsc(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(peers::binaries().join("nsc"));
    let home = folder.display().to_string();
    command.env("HOME", &home).args(["--all-dirs", &format!("{home}/nsc")]).args(arguments);
    let finished = program::run(&mut command, b"", LIMIT)?;
    // It tells people some things on one stream and some on the other.
    let said = finished.stderr.clone();
    Ok(finished.success()? + &said)
}
