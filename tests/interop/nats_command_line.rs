//! The real `nats` command line against the gateway, as an operator types it.

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, NatsCli, RawNats, Server};

fn start() -> Result<Option<(Server, NatsCli)>> {
    if !peers::available(Peer::NatsCli) {
        return Ok(None);
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let cli = NatsCli::new(&gateway.url())?;
    Ok(Some((gateway, cli)))
}

/// Whether somebody listened: an answer without responders comes before the PONG.
fn told(client: &mut RawNats) -> Result<bool> {
    client.send("SUB nobody 9\r\nPUB told nobody 4\r\nnews\r\nUNSUB 9\r\nPING\r\n")?;
    let mut listened = true;
    loop {
        let line = client.line()?;
        listened &= !line.starts_with("HMSG nobody 9");
        if line == "PONG" {
            return Ok(listened);
        }
    }
}

#[test]
fn pub_sub_and_request() -> Result<()> {
    let Some((gateway, cli)) = start()? else { return Ok(()) };
    let (mut service, _) = RawNats::connect(gateway.address("nats"))?;
    service.send("SUB ask 1\r\nSUB said.> 2\r\n")?;
    service.flush()?;
    cli.run(&["pub", "said.by.cli", "hello", "--header", "Unit:C"])?.success()?;
    let message = service.message()?;
    ensure!(message.line.starts_with("HMSG said.by.cli 2 "), "{message:?}");
    ensure!(message.payload.ends_with(b"hello"), "{message:?}");

    let asking = {
        let mut command = cli.command(&["request", "ask", "question", "--raw"]);
        std::thread::spawn(move || command.output())
    };
    let question = service.message()?;
    let reply = question.line.split(' ').nth(3).unwrap_or_default();
    service.send(format!("PUB {reply} 6\r\nanswer\r\n"))?;
    let output = asking.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))??;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "answer");

    let listening = {
        let mut command = cli.command(&["subscribe", "told", "--count", "1", "--raw"]);
        std::thread::spawn(move || command.output())
    };
    while !told(&mut service)? {}
    let output = listening.join().map_err(|_| anyhow::anyhow!("the listening thread panicked"))??;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "news");

    let said = cli.run(&["rtt", "3"])?.success()?;
    ensure!(said.contains(&gateway.url()), "{said}");
    Ok(())
}

/// Clients write the filter behind the consumer's name in the request's subject, wildcards and all.
#[test]
fn a_consumer_with_a_wildcard_in_its_filter() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["stream", "add", "SENSORS", "--subjects", "sensors.>", "--defaults"])?.success()?;
    cli.run(&["consumer", "add", "SENSORS", "heat", "--filter", "sensors.*.heat", "--pull", "--defaults"])?
        .success()?;
    for subject in ["sensors.a.cold", "sensors.a.heat"] {
        cli.run(&["pub", "--jetstream", subject, subject])?.success()?;
    }
    let got = cli.run(&["consumer", "next", "SENSORS", "heat", "--ack"])?.success()?;
    ensure!(got.contains("sensors.a.heat") && !got.contains("sensors.a.cold"), "{got}");
    Ok(())
}

#[test]
fn a_stream_from_add_to_remove() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults"])?.success()?;
    for number in 1..=5 {
        cli.run(&["pub", "--jetstream", "orders.new", &format!("order {number}")])?.success()?;
    }
    let names = cli.run(&["stream", "ls", "--names"])?.success()?;
    assert_eq!(names.trim(), "ORDERS");
    let info = cli.json(&["stream", "info", "ORDERS", "--json"])?;
    assert_eq!(info["state"]["messages"], 5);
    assert_eq!(info["config"]["subjects"][0], "orders.>");
    let got = cli.run(&["stream", "get", "ORDERS", "3"])?.success()?;
    ensure!(got.contains("order 3"), "{got}");
    let last = cli.run(&["stream", "get", "ORDERS", "--last-for", "orders.new"])?.success()?;
    ensure!(last.contains("order 5"), "{last}");
    cli.run(&["stream", "rmm", "ORDERS", "2", "--force"])?.success()?;
    cli.run(&["stream", "edit", "ORDERS", "--max-msgs", "100", "--force"])?.success()?;
    let info = cli.json(&["stream", "info", "ORDERS", "--json"])?;
    assert_eq!((&info["state"]["messages"], &info["config"]["max_msgs"]), (&4.into(), &100.into()));
    cli.run(&["stream", "purge", "ORDERS", "--force"])?.success()?;
    assert_eq!(cli.json(&["stream", "info", "ORDERS", "--json"])?["state"]["messages"], 0);
    cli.run(&["stream", "rm", "ORDERS", "--force"])?.success()?;
    ensure!(!cli.run(&["stream", "info", "ORDERS"])?.status.success(), "a removed stream was found");
    Ok(())
}

#[test]
fn queues_and_interest() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    let add = |name: &str, more: &[&str]| {
        let subjects = format!("{name}.>");
        cli.run(&[&["stream", "add", name, "--subjects", &subjects, "--defaults"], more].concat())?.success()
    };
    let messages = |name: &str| -> Result<u64> {
        Ok(cli.json(&["stream", "info", name, "--json"])?["state"]["messages"].as_u64().unwrap_or(u64::MAX))
    };
    add("jobs", &["--retention", "work"])?;
    add("news", &["--retention", "interest", "--storage", "memory"])?;
    cli.run(&["consumer", "add", "jobs", "worker", "--pull", "--ack", "explicit", "--defaults"])?.success()?;
    for subject in ["jobs.a", "jobs.b", "news.a"] {
        cli.run(&["pub", "--jetstream", subject, subject])?.success()?;
    }
    assert_eq!((messages("jobs")?, messages("news")?), (2, 0), "nobody has interest in news");
    cli.run(&["consumer", "next", "jobs", "worker", "--ack"])?.success()?;
    assert_eq!(messages("jobs")?, 1);
    let second = cli.run(&["consumer", "add", "jobs", "second", "--pull", "--ack", "explicit", "--defaults"])?;
    let said = second.stdout + &second.stderr;
    ensure!(said.contains("multiple non-filtered consumers"), "{said}");
    let info = cli.json(&["stream", "info", "news", "--json"])?;
    assert_eq!((&info["config"]["retention"], &info["config"]["storage"]), (&"interest".into(), &"memory".into()));
    Ok(())
}

#[test]
fn a_mirror_and_a_source() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults"])?.success()?;
    // With `--mirror` and `--source` it asks questions on a terminal.
    let folder = tempfile::tempdir()?;
    for (name, origin) in [("COPY", r#""mirror":{"name":"ORDERS"}"#), ("ALL", r#""sources":[{"name":"ORDERS"}]"#)] {
        let file = folder.path().join(name);
        std::fs::write(
            &file,
            format!(r#"{{"name":"{name}",{origin},"retention":"limits","storage":"file","num_replicas":1}}"#),
        )?;
        cli.run(&["stream", "add", name, "--config", &file.display().to_string()])?.success()?;
    }
    cli.run(&["pub", "--jetstream", "orders.new", "order"])?.success()?;
    for (name, key) in [("COPY", "mirror"), ("ALL", "sources")] {
        let state = || cli.json(&["stream", "info", name, "--json"]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while state()?["state"]["messages"] != 1 {
            ensure!(std::time::Instant::now() < deadline, "{}", state()?);
        }
        let info = state()?;
        let origin = if key == "mirror" { &info[key] } else { &info[key][0] };
        ensure!(origin["name"] == "ORDERS" && origin["lag"] == 0, "{info}");
        let said = cli.run(&["stream", "info", name])?.success()?;
        ensure!(said.contains("ORDERS"), "{said}");
    }
    Ok(())
}

#[test]
fn a_consumer_from_add_to_remove() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults"])?.success()?;
    cli.run(&["pub", "--jetstream", "orders.new", "first order"])?.success()?;
    cli.run(&["pub", "--jetstream", "orders.new", "second order"])?.success()?;
    cli.run(&["consumer", "add", "ORDERS", "work", "--pull", "--ack", "explicit", "--defaults"])?.success()?;
    let next = cli.run(&["consumer", "next", "ORDERS", "work", "--ack", "--raw"])?.success()?;
    ensure!(next.contains("first order"), "{next}");
    let info = cli.json(&["consumer", "info", "ORDERS", "work", "--json"])?;
    assert_eq!((&info["num_pending"], &info["delivered"]["stream_seq"]), (&1.into(), &1.into()));
    let names = cli.run(&["consumer", "ls", "ORDERS", "--names"])?.success()?;
    assert_eq!(names.trim(), "work");
    cli.run(&["consumer", "rm", "ORDERS", "work", "--force"])?.success()?;
    ensure!(!cli.run(&["consumer", "info", "ORDERS", "work"])?.status.success(), "a removed consumer was found");
    let account = cli.run(&["account", "info"])?.success()?;
    ensure!(account.contains("JetStream"), "{account}");
    Ok(())
}

#[test]
fn a_bucket_of_values() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["kv", "add", "B", "--history", "3", "--ttl", "1h", "--max-bucket-size", "1MB"])?.success()?;
    for value in ["one", "two"] {
        cli.run(&["kv", "put", "B", "key", value])?.success()?;
    }
    ensure!(!cli.run(&["kv", "create", "B", "key", "x"])?.status.success(), "a key was created twice");
    cli.run(&["kv", "create", "B", "other", "x"])?.success()?;
    cli.run(&["kv", "update", "B", "key", "three", "2"])?.success()?;
    ensure!(!cli.run(&["kv", "update", "B", "key", "x", "2"])?.status.success(), "another revision was overwritten");
    assert_eq!(cli.run(&["kv", "get", "B", "key", "--raw"])?.success()?.trim(), "three");
    assert_eq!(cli.run(&["kv", "get", "B", "key", "--raw", "--revision", "1"])?.success()?.trim(), "one");
    let history = cli.run(&["kv", "history", "B", "key"])?.success()?;
    ensure!(["one", "two", "three"].iter().all(|value| history.contains(value)), "{history}");
    cli.run(&["kv", "del", "B", "other", "--force"])?.success()?;
    let keys = cli.run(&["kv", "ls", "B"])?.success()?;
    ensure!(keys.contains("key") && !keys.contains("other"), "{keys}");
    cli.run(&["kv", "purge", "B", "key", "--force"])?.success()?;
    cli.run(&["kv", "compact", "B", "--force"])?.success()?;
    let status = cli.run(&["kv", "status", "B"])?.success()?;
    ensure!(status.contains("History") && status.contains('3'), "{status}");
    ensure!(cli.run(&["kv", "ls"])?.success()?.contains('B'), "the bucket is not listed");
    cli.run(&["kv", "rm", "B", "--force"])?.success()?;
    ensure!(!cli.run(&["kv", "status", "B"])?.status.success(), "a removed bucket was found");
    Ok(())
}

#[test]
fn a_bucket_of_objects() -> Result<()> {
    let Some((gateway, cli)) = start()? else { return Ok(()) };
    let file = gateway.folder().join("object");
    let content = "a line of the object\n".repeat(30_000);
    std::fs::write(&file, &content)?;
    let (path, back) = (file.display().to_string(), gateway.folder().join("back"));
    cli.run(&["object", "add", "O", "--max-bucket-size", "10MB"])?.success()?;
    cli.run(&["object", "put", "O", &path, "--name", "text", "--no-progress", "--force"])?.success()?;
    let list = cli.run(&["object", "ls", "O"])?.success()?;
    ensure!(list.contains("text"), "{list}");
    let info = cli.run(&["object", "info", "O", "text"])?.success()?;
    ensure!(info.contains("SHA-256"), "{info}");
    let target = back.display().to_string();
    cli.run(&["object", "get", "O", "text", "--output", &target, "--no-progress", "--force"])?.success()?;
    ensure!(std::fs::read_to_string(&back)? == content, "the object came back changed");
    cli.run(&["object", "rm", "O", "text", "--force"])?.success()?;
    cli.run(&["object", "seal", "O", "--force"])?.success()?;
    let more = cli.run(&["object", "put", "O", &path, "--name", "more", "--no-progress", "--force"])?;
    ensure!(!more.status.success(), "a sealed bucket took more");
    cli.run(&["object", "rm", "O", "--force"])?.success()?;
    Ok(())
}

#[test]
fn a_push_consumer_is_listened_to() -> Result<()> {
    let Some((_gateway, cli)) = start()? else { return Ok(()) };
    cli.run(&["stream", "add", "ORDERS", "--subjects", "orders.>", "--defaults"])?.success()?;
    for number in 1..=5 {
        cli.run(&["pub", "--jetstream", "orders.new", &format!("order {number}")])?.success()?;
    }
    let add = ["consumer", "add", "ORDERS", "told", "--target", "to.told", "--ack", "explicit", "--heartbeat", "1s"];
    cli.run(&[&add[..], &["--flow-control", "--deliver", "all", "--defaults"]].concat())?.success()?;
    let heard = cli.run(&["subscribe", "to.told", "--count", "5", "--raw"])?.success()?;
    ensure!((1..=5).all(|number| heard.contains(&format!("order {number}"))), "{heard}");
    let info = cli.json(&["consumer", "info", "ORDERS", "told", "--json"])?;
    assert_eq!((&info["delivered"]["stream_seq"], &info["num_ack_pending"]), (&5.into(), &5.into()));
    Ok(())
}
