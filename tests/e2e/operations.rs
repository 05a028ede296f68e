//! What service managers and operators rely on: command line, exit codes and texts, files, signals. All as with nats-server 2.15.1.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::program::{self, Finished};
use harness::{Gateway, RawMqtt, RawNats, http, mqtt_raw};

const LIMIT: Duration = Duration::from_secs(20);

fn run(arguments: &[&str]) -> Result<Finished> {
    program::run(Command::new(Gateway::program()?).args(arguments), b"", LIMIT)
}

#[test]
fn version_is_the_one_that_tools_know() -> Result<()> {
    for spelling in ["--version", "-v", "version"] {
        let said = run(&[spelling])?.success()?;
        assert_eq!(said.lines().next(), Some("nats-server: v2.15.1"), "{spelling}");
    }
    Ok(())
}

#[test]
fn a_configuration_is_tested_and_told() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("a.conf");
    let name = file.to_str().context("a name")?;
    fs::write(&file, "listen: \"127.0.0.1:-1\"\n")?;
    let good = run(&["-t", "-c", name])?;
    ensure!(good.status.code() == Some(0), "{good:?}");
    ensure!(good.stderr.starts_with(&format!("nats-server: configuration file {name} is valid (sha256:")), "{good:?}");

    fs::write(&file, "listen: \"127.0.0.1:-1\"\nbogus: 1\n")?;
    let bad = run(&["-t", "-c", name])?;
    ensure!(bad.status.code() == Some(1), "{bad:?}");
    ensure!(bad.stderr.contains(&format!("{name}:2:1: unknown field \"bogus\"")), "{bad:?}");

    // What only the store can judge is judged as well: a start would refuse it.
    let streams = "A { subjects: [\"a.>\"], max_age: \"10ms\" }\n  B { subjects: [\"b.>\"], consumers { c { deliver_subject: \"b.c\" } } }";
    fs::write(
        &file,
        format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{name}.store\" }}\nstreams {{\n  {streams}\n}}\n"),
    )?;
    let refused = run(&["-t", "-c", name])?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(
        refused.stderr.contains(&format!("{name}:4:3: stream \"A\": max age needs to be >= 100ms (10052)")),
        "{refused:?}"
    );
    ensure!(
        refused.stderr.contains("consumer \"c\" of stream \"B\": consumer deliver subject forms a cycle (10081)"),
        "{refused:?}"
    );
    ensure!(!folder.path().join("a.conf.store").exists(), "a test of the file must leave nothing");

    fs::write(&file, "listen: {\n")?;
    let torn = run(&["-c", name])?;
    ensure!(torn.status.code() == Some(1) && torn.stderr.contains("arse error"), "{torn:?}");

    let without = run(&["-t"])?;
    ensure!(without.status.code() == Some(1), "{without:?}");
    ensure!(
        without.stderr.contains("must specify [-c, --config] option to check configuration file syntax"),
        "{without:?}"
    );
    Ok(())
}

#[test]
fn what_keeps_it_from_starting_is_said() -> Result<()> {
    let missing = run(&["-c", "/nowhere/x.conf"])?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    ensure!(missing.stderr.contains("open /nowhere/x.conf: no such file or directory"), "{missing:?}");

    let unknown = run(&["--bogus"])?;
    ensure!(unknown.status.code() == Some(2), "{unknown:?}");
    ensure!(unknown.stderr.contains("flag provided but not defined: -bogus"), "{unknown:?}");

    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let refused = run(&["-a", "127.0.0.1", "-p", &port])?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(refused.stderr.contains("[FTL] Error listening on port: 127.0.0.1:"), "{refused:?}");
    ensure!(refused.stderr.contains("bind: address already in use"), "{refused:?}");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    fs::write(&file, "")?;
    let store = file.to_str().context("a name")?;
    let refused = run(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", store])?;
    ensure!(
        refused.status.code() == Some(1) && refused.stderr.contains("storage directory is not a directory"),
        "{refused:?}"
    );
    Ok(())
}

#[test]
fn term_ends_it_in_order_whatever_clients_do() -> Result<()> {
    let mut gateway = Gateway::start(&format!("{}pid_file: \"<dir>/pid\"\n", Gateway::PLAIN))?;
    let pid = gateway.pid().context("a pid")?.to_string();
    assert_eq!(fs::read_to_string(gateway.folder().join("pid"))?, pid);
    let ports = fs::read_dir(gateway.folder())?.flatten().map(|entry| entry.path());
    let ports: Vec<_> = ports.filter(|path| path.extension().is_some_and(|end| end == "ports")).collect();
    ensure!(ports.len() == 1 && ports[0].to_string_lossy().ends_with(&format!("_{pid}.ports")), "{ports:?}");
    let told: serde_json::Value = serde_json::from_str(&fs::read_to_string(&ports[0])?)?;
    assert_eq!(told["nats"][0], gateway.url());
    assert_eq!(told["websocket"][0], format!("ws://{}", gateway.address("websocket")));
    assert_eq!(told["monitoring"][0], format!("http://{}", gateway.address("http")));

    // One who does not read what comes, one who is silent, one in MQTT.
    let (mut deaf, _) = RawNats::connect(gateway.address("nats"))?;
    deaf.send("SUB flood 1\r\n")?;
    deaf.flush()?;
    let (mut loud, _) = RawNats::connect(gateway.address("nats"))?;
    loud.send(format!("PUB flood 100000\r\n{}\r\n", "x".repeat(100_000)).repeat(40))?;
    loud.flush()?;
    let (mut device, _) = RawMqtt::connect(gateway.address("mqtt"), "device", mqtt_raw::Session::Clean)?;
    let begin = Instant::now();
    let status = gateway.terminate()?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    device.expect_close()?;
    loud.expect_close()?;
    ensure!(!ports[0].exists(), "the ports file is still there");
    let log = gateway.log();
    let at = |text: &str| log.find(text).with_context(|| format!("{text:?} is not in the log"));
    ensure!(at("Server is ready")? < at("Initiating Shutdown...")?);
    ensure!(at("Initiating Shutdown...")? < at("Server Exiting..")?);
    Ok(())
}

#[test]
fn hup_reloads_all_or_nothing() -> Result<()> {
    let mut gateway = Gateway::start(&format!("{}max_payload: 1000\n", Gateway::PLAIN))?;
    let (mut client, info) = RawNats::connect(gateway.address("nats"))?;
    assert_eq!(info["max_payload"], 1000);
    gateway.set_configuration(&format!("{}max_payload: 2000\n", Gateway::PLAIN))?;
    gateway.signal("HUP")?;
    gateway.wait_for_log("Reloaded server configuration", LIMIT)?;
    ensure!(gateway.log().contains("Reloaded: max_payload = 2000"), "{}", gateway.log_tail());
    // From the next message on, on connections that are open too.
    client.send(format!("PUB a 1500\r\n{}\r\n", "x".repeat(1500)))?;
    client.flush()?;

    gateway.set_configuration(&format!("{}max_payload: 3000\nbogus: 1\n", Gateway::PLAIN))?;
    gateway.signal("HUP")?;
    gateway.wait_for_log("Failed to reload server configuration", LIMIT)?;
    client.send("PUB a 2500\r\n")?;
    client.skip_to("-ERR 'Maximum Payload Violation'")?;
    client.expect_close()?;
    Ok(())
}

#[test]
fn usr1_opens_the_log_again() -> Result<()> {
    let mut gateway = Gateway::start(&format!("{}log_file: \"<dir>/gateway.log\"\n", Gateway::PLAIN))?;
    let (file, moved) = (gateway.folder().join("gateway.log"), gateway.folder().join("gateway.log.1"));
    ensure!(fs::read_to_string(&file)?.contains("Server is ready"));
    fs::rename(&file, &moved)?;
    gateway.signal("USR1")?;
    let deadline = Instant::now() + LIMIT;
    while !fs::read_to_string(&file).unwrap_or_default().contains("File log re-opened") {
        ensure!(Instant::now() < deadline, "no new log\n{}", gateway.log_tail());
        // A round trip instead of a pause.
        http::get_json(gateway.address("http"), "/varz")?;
    }
    ensure!(gateway.terminate()?.success());
    ensure!(fs::read_to_string(&file)?.contains("Server Exiting.."));
    Ok(())
}

#[test]
fn usr2_is_a_lame_duck() -> Result<()> {
    let configuration = format!("{}lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n", Gateway::PLAIN);
    let mut gateway = Gateway::start(&configuration)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    gateway.signal("USR2")?;
    assert_eq!(client.info()?["ldm"], true);
    gateway.wait_for_log("Entering lame duck mode, stop accepting new clients", LIMIT)?;
    ensure!(
        RawNats::dial(gateway.address("nats")).and_then(|mut late| late.info()).is_err(),
        "a new client was served"
    );
    client.flush()?;
    // Nobody is left: it does not wait for the rest of the time.
    drop(client);
    ensure!(gateway.wait_for_exit(LIMIT)?.success());
    Ok(())
}
