//! `edge-gateway status`: the same for people and for programs, and what it says when nothing answers or nothing flows.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::program::{self, Finished};
use harness::{Gateway, RawNats, Server};

const LIMIT: Duration = Duration::from_secs(20);

fn status(gateway: &Server, more: &[&str]) -> Result<Finished> {
    let store = gateway.folder().join("store");
    let mut command = Command::new(Gateway::program()?);
    command.arg("status").arg("--store-dir").arg(store).args(more);
    program::run(&mut command, b"", LIMIT)
}

fn json(gateway: &Server) -> Result<serde_json::Value> {
    let said = status(gateway, &["--json"])?.success()?;
    serde_json::from_str(&said).with_context(|| said.clone())
}

#[test]
fn a_gateway_that_runs_and_one_that_does_not() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    client.flush()?;
    let text = status(&gateway, &[])?.success()?;
    ensure!(text.starts_with("edge"), "{text}");
    ensure!(json(&gateway)?["server_name"] == "edge", "{}", json(&gateway)?);
    gateway.kill9()?;
    for more in [&[][..], &["--json"]] {
        let said = status(&gateway, more)?;
        ensure!(said.status.code() == Some(1) && said.stdout.is_empty(), "{said:?}");
        ensure!(said.stderr.contains("no gateway is running on the store in"), "{said:?}");
    }
    Ok(())
}

#[test]
fn a_link_that_is_down_says_why() -> Result<()> {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let link = format!("leafnodes {{ remotes [ {{ urls: [ \"nats-leaf://{nobody}\" ] }} ] }}\n");
    let streams = "streams { T { subjects: [ \"t.>\" ] } }\nforward { T { to: HUB, prefix: up } }\n";
    let gateway = Gateway::start(&format!("{}{link}{streams}", Gateway::PLAIN))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    ensure!(client.request("t.a", b"hello")?.payload.starts_with(b"{\"stream\":\"T\""));
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let text = status(&gateway, &[])?.success()?;
        if text.contains("refused") {
            ensure!(text.contains('T'), "{text}");
            break;
        }
        ensure!(std::time::Instant::now() < deadline, "no reason: {text}");
    }
    ensure!(json(&gateway)?.to_string().contains("refused"));
    Ok(())
}
