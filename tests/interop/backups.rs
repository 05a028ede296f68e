//! `nats stream backup` and `restore` between the gateway and the stock server, in all four directions.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, NatsCli, RawNats, Server, StockHub};
use serde_json::Value;

const GATEWAY: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB }
"#;

const MESSAGES: u64 = 3000;
const GONE: [u64; 9] = [1, 2, 77, 300, 301, 302, 1500, 2998, 3000];

pub(crate) struct Side {
    pub(crate) server: Server,
    pub(crate) client: RawNats,
    pub(crate) cli: NatsCli,
}

impl Side {
    fn new(server: Server) -> Result<Side> {
        let (client, _) = RawNats::connect(server.address("nats"))?;
        let cli = NatsCli::new(&server.url())?;
        Ok(Side { server, client, cli })
    }

    pub(crate) fn api(&mut self, operation: &str, body: &str) -> Result<Value> {
        let subject = format!("$JS.API.{operation}");
        let message = self.client.request(&subject, body.as_bytes()).with_context(|| format!("{subject} {body}"))?;
        Ok(serde_json::from_slice(&message.payload)?)
    }

    pub(crate) fn done(&mut self, operation: &str, body: &str) -> Result<Value> {
        let answer = self.api(operation, body)?;
        ensure!(answer["error"].is_null(), "{operation} {body}: {answer}");
        Ok(answer)
    }

    /// A stream with subjects, headers, gaps at both ends and in between, and consumers that have begun.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let config = r#"{"name":"S","subjects":["s.>"],"description":"a <stream>","allow_direct":true,"compression":"s2","metadata":{"a":"b"}}"#;
        self.done("STREAM.CREATE.S", config)?;
        let mut frames = Vec::new();
        for number in 1..=MESSAGES {
            let body = format!("{number} ").repeat((number % 50) as usize);
            if number % 3 == 0 {
                let headers = format!("NATS/1.0\r\nNats-Msg-Id: id-{number}\r\nX: {number}\r\n\r\n");
                let (head, all) = (headers.len(), headers.len() + body.len());
                frames.extend_from_slice(
                    format!("HPUB s.{} {head} {all}\r\n{headers}{body}\r\n", number % 10).as_bytes(),
                );
            } else {
                frames.extend_from_slice(format!("PUB s.{} {}\r\n{body}\r\n", number % 10, body.len()).as_bytes());
            }
        }
        self.client.send(&frames)?;
        self.client.flush()?;
        while self.done("STREAM.INFO.S", "")?["state"]["last_seq"] != MESSAGES {}
        for gone in GONE {
            self.done("STREAM.MSG.DELETE.S", &format!(r#"{{"seq":{gone}}}"#))?;
        }
        self.consume("work", r#","filter_subjects":["s.1","s.4"]"#)?;
        self.consume("all", r#","max_deliver":7,"backoff":[100000000000,200000000000]"#)?;
        self.done(
            "CONSUMER.CREATE.S.new",
            r#"{"stream_name":"S","config":{"name":"new","durable_name":"new","ack_policy":"explicit","deliver_policy":"new"}}"#,
        )?;
        self.done(
            "CONSUMER.CREATE.S.pushed",
            r#"{"stream_name":"S","config":{"name":"pushed","durable_name":"pushed","ack_policy":"all","deliver_subject":"to.nobody","idle_heartbeat":1000000000,"flow_control":true}}"#,
        )?;
        Ok(())
    }

    /// A consumer that was sent ten messages, has acknowledged some, and been sent one of them again.
    fn consume(&mut self, name: &str, more: &str) -> Result<()> {
        let config = format!(r#""name":"{name}","durable_name":"{name}","ack_policy":"explicit"{more}"#);
        self.done(&format!("CONSUMER.CREATE.S.{name}"), &format!(r#"{{"stream_name":"S","config":{{{config}}}}}"#))?;
        self.client.send(format!(
            "SUB in.{name} {name}\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.{name} in.{name} 12\r\n{{\"batch\":10}}\r\n"
        ))?;
        let mut acks = Vec::new();
        for _ in 0..10 {
            acks.push(reply(&self.client.message()?.line));
        }
        self.client.request(&acks[4], b"-NAK")?;
        self.client.send(format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.{name} in.{name} 11\r\n{{\"batch\":1}}\r\n"))?;
        self.client.message()?;
        for ack in [&acks[0], &acks[1], &acks[6]] {
            self.client.request(ack, b"")?;
        }
        self.client.send(format!("UNSUB {name}\r\n"))?;
        self.client.flush()?;
        Ok(())
    }

    /// An archive of the stream S, which is one piece.
    pub(crate) fn small_archive(&mut self) -> Result<Vec<u8>> {
        let body = r#"{"deliver_subject":"archive"}"#;
        self.client.send("SUB archive 7\r\nSUB answer 8\r\n")?;
        self.client.flush()?;
        self.client.send(format!("PUB $JS.API.STREAM.SNAPSHOT.S answer {}\r\n{body}\r\n", body.len()))?;
        // The answer, which stock may send behind the first piece, the piece, and the end.
        let mut pieces = Vec::new();
        for _ in 0..3 {
            let message = self.client.message()?;
            ensure!(!message.line.starts_with("HMSG archive"), "{}", String::from_utf8_lossy(&message.payload));
            if message.line.starts_with("MSG archive") {
                pieces.push(message.payload);
            }
        }
        self.client.send("UNSUB 7\r\nUNSUB 8\r\n")?;
        self.client.flush()?;
        let [piece, end] = <[Vec<u8>; 2]>::try_from(pieces).map_err(|all| anyhow!("{} pieces", all.len()))?;
        ensure!(end.is_empty(), "more than one piece");
        Ok(piece)
    }

    /// Everything that is to be the same after a restore.
    fn everything(&mut self) -> Result<Vec<Value>> {
        let mut info = self.done("STREAM.INFO.S", r#"{"deleted_details":true,"subjects_filter":">"}"#)?;
        level(&mut info);
        let mut all = vec![info];
        for name in ["all", "new", "pushed", "work"] {
            let mut info = self.done(&format!("CONSUMER.INFO.S.{name}"), "")?;
            level(&mut info);
            all.push(info);
        }
        for sequence in 1..=MESSAGES {
            let answer = self.api("STREAM.MSG.GET.S", &format!(r#"{{"seq":{sequence}}}"#))?;
            all.push(if answer["error"].is_null() { answer["message"].clone() } else { Value::from(sequence) });
        }
        Ok(all)
    }
}

/// The subject that a delivery is acknowledged on.
fn reply(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    words.iter().find(|word| word.starts_with("$JS.ACK.")).copied().unwrap_or_default().to_owned()
}

/// Without what is another server's or another moment's.
fn level(info: &mut Value) {
    let Value::Object(object) = info else { return };
    for key in ["created", "ts", "cluster", "type", "push_bound", "total", "offset", "limit"] {
        object.remove(key);
    }
    // That of the last message, which is deleted: stock has it no more after a restore.
    if let Some(Value::Object(state)) = object.get_mut("state") {
        state.remove("last_ts");
    }
    if let Some(Value::Object(metadata)) = object.get_mut("config").and_then(|config| config.get_mut("metadata")) {
        metadata.retain(|key, _| !key.starts_with("_nats."));
    }
    for key in ["delivered", "ack_floor"] {
        if let Some(Value::Object(position)) = object.get_mut(key) {
            position.remove("last_active");
        }
    }
}

fn equal(one: &[Value], two: &[Value], which: &str) -> Result<()> {
    ensure!(one.len() == two.len(), "{which}: {} and {} values", one.len(), two.len());
    for (one, two) in one.iter().zip(two) {
        ensure!(one == two, "{which}\n before: {one}\n after:  {two}");
    }
    Ok(())
}

fn between(from: &mut Side, to: &mut Side, folder: &Path, which: &str) -> Result<()> {
    let path = folder.join(which.replace(' ', "-"));
    let path = path.to_str().context("a path")?;
    from.fill()?;
    from.cli.run(&["stream", "backup", "S", path, "--no-progress"])?.success().with_context(|| which.to_owned())?;
    let before = from.everything()?;
    from.done("STREAM.DELETE.S", "")?;
    to.cli.run(&["stream", "restore", path, "--no-progress"])?.success().with_context(|| which.to_owned())?;
    equal(&before, &to.everything()?, which)?;
    // It lives: the sequence goes on, and what was outstanding can still be acknowledged.
    let stored = to.client.request("s.1", b"more")?;
    let stored: Value = serde_json::from_slice(&stored.payload)?;
    ensure!(stored["seq"] == MESSAGES + 1, "{which}: {stored}");
    to.done("STREAM.DELETE.S", "")?;
    Ok(())
}

pub(crate) fn sides() -> Result<Option<(Side, Side)>> {
    if !peers::available(Peer::NatsCli) || !peers::available(Peer::NatsServer) {
        return Ok(None);
    }
    Ok(Some((Side::new(Gateway::start(GATEWAY)?)?, Side::new(StockHub::start(GATEWAY)?)?)))
}

#[test]
fn a_backup_moves_between_ours_and_stock_both_ways() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    let folder = ours.server.folder().to_owned();
    between(&mut ours, &mut stock, &folder, "ours to stock")?;
    between(&mut stock, &mut ours, &folder, "stock to ours")?;
    Ok(())
}

#[test]
fn a_backup_comes_back_to_where_it_was_made() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    for (side, which) in [(&mut ours, "ours to ours"), (&mut stock, "stock to stock")] {
        let path = side.server.folder().join("backup");
        let path = path.to_str().context("a path")?.to_owned();
        side.fill()?;
        side.cli.run(&["stream", "backup", "S", &path, "--no-progress"])?.success()?;
        let before = side.everything()?;
        side.done("STREAM.DELETE.S", "")?;
        side.cli.run(&["stream", "restore", &path, "--no-progress"])?.success()?;
        equal(&before, &side.everything()?, which)?;
    }
    Ok(())
}

/// What is said to others who want the name or the subjects of a stream whose restore has begun, and then to the restore. Here nothing is seen of it
/// before its end, with stock from its first piece on; so nothing is asked in between.
fn beside_a_restore(side: &mut Side) -> Result<Vec<String>> {
    side.done("STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#)?;
    for _ in 0..3 {
        side.client.request("s", b"x")?;
    }
    let archive = side.small_archive()?;
    let mut said = Vec::new();
    let mut hear = |answer: &Value| {
        let (messages, error) = (&answer["state"]["messages"], &answer["error"]);
        said.push(format!("{messages} {error} {}", answer["deliver_subject"].is_string()));
    };
    hear(&side.api("STREAM.RESTORE.S", r#"{"config":{"name":"S","subjects":["s"]},"state":{}}"#)?);
    // Each has a stream of its own: what stock deletes is in the way of the next of that name for a moment.
    for (number, other) in ["CREATE.S", "CREATE.T", "RESTORE.S", "INFO.S", "DELETE.S", "PURGE.S"].iter().enumerate() {
        let config = |letter: &str| format!(r#"{{"name":"{letter}{number}","subjects":["s{number}"]}}"#);
        let restore = format!(r#"{{"config":{},"state":{{}}}}"#, config("S"));
        let begun = side.done(&format!("STREAM.RESTORE.S{number}"), &restore)?;
        let subject = begun["deliver_subject"].as_str().context("a subject")?.to_owned();
        let body = match *other {
            "CREATE.S" => config("S"),
            "CREATE.T" => config("T"),
            "RESTORE.S" => restore,
            _ => String::new(),
        };
        hear(&side.api(&format!("STREAM.{other}{number}"), &body)?);
        side.client.request(&subject, &archive)?;
        hear(&serde_json::from_slice(&side.client.request(&subject, b"")?.payload)?);
        hear(&side.api(&format!("STREAM.INFO.S{number}"), "")?);
    }
    Ok(said)
}

#[test]
fn others_want_the_name_or_the_subjects_meanwhile() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    let (said, expected) = (beside_a_restore(&mut ours)?, beside_a_restore(&mut stock)?);
    ensure!(said == expected, "ours:  {said:#?}\nstock: {expected:#?}");
    Ok(())
}
