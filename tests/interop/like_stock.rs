//! The same requests to the gateway and to the stock server: their answers are equal, apart from times and what names the server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, RawNats, Server, StockHub};
use serde_json::{Value, json};

/// JetStream without a domain, so that acknowledgements are the same too.
const GATEWAY: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB }
"#;
const HUB: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB }
"#;

/// How long a moment may be.
const MOMENT: Duration = Duration::from_secs(20);

/// A client of each.
pub(crate) struct Both {
    _servers: [Server; 2],
    pub(crate) ours: RawNats,
    pub(crate) stock: RawNats,
}

impl Both {
    pub(crate) fn start() -> Result<Option<Both>> {
        if !peers::available(Peer::NatsServer) {
            return Ok(None);
        }
        let servers = [Gateway::start(GATEWAY)?, StockHub::start(HUB)?];
        let [(ours, _), (stock, _)] =
            [RawNats::connect(servers[0].address("nats"))?, RawNats::connect(servers[1].address("nats"))?];
        Ok(Some(Both { _servers: servers, ours, stock }))
    }

    /// Asks both, and compares. What ours said.
    pub(crate) fn ask(&mut self, subject: &str, body: &str) -> Result<String> {
        let ours = answer(&mut self.ours, subject, body)?;
        let stock = answer(&mut self.stock, subject, body)?;
        ensure!(ours == stock, "{subject} {body}\n ours:  {ours}\n stock: {stock}");
        Ok(ours)
    }

    pub(crate) fn api(&mut self, operation: &str, body: &str) -> Result<String> {
        self.ask(&format!("$JS.API.{operation}"), body)
    }

    /// The same of what becomes equal in a moment: a mirror is shown as active when something was heard of its origin.
    pub(crate) fn api_in_a_moment(&mut self, operation: &str, body: &str) -> Result<String> {
        let since = Instant::now();
        loop {
            match self.api(operation, body) {
                Err(_) if since.elapsed() < MOMENT => std::thread::sleep(Duration::from_millis(20)),
                last => return last,
            }
        }
    }

    /// The same with a message whose headers differ in their last sixteen bytes.
    pub(crate) fn api_without_end_of_headers(&mut self, operation: &str, body: &str) -> Result<()> {
        let subject = format!("$JS.API.{operation}");
        let [ours, stock] = [&mut self.ours, &mut self.stock].map(|client| {
            let mut answer: Value = serde_json::from_str(&answer(client, &subject, body)?)?;
            if let Some(Value::String(headers)) = answer["message"].get_mut("hdrs") {
                headers.truncate(headers.len().saturating_sub(24));
            }
            anyhow::Ok(answer)
        });
        let (ours, stock) = (ours?, stock?);
        ensure!(ours == stock, "{subject} {body}\n ours:  {ours}\n stock: {stock}");
        Ok(())
    }

    /// All messages up to a status line.
    pub(crate) fn direct(&mut self, operation: &str, body: &str) -> Result<Vec<String>> {
        let subject = format!("$JS.API.DIRECT.GET.{operation}");
        let (ours, stock) = (messages(&mut self.ours, &subject, body)?, messages(&mut self.stock, &subject, body)?);
        ensure!(ours == stock, "{subject} {body}\n ours:  {ours:#?}\n stock: {stock:#?}");
        Ok(ours)
    }
}

fn answer(client: &mut RawNats, subject: &str, body: &str) -> Result<String> {
    let message = client.request(subject, body.as_bytes()).with_context(|| format!("{subject} {body}"))?;
    Ok(without_times(&String::from_utf8_lossy(&message.payload)))
}

pub(crate) fn messages(client: &mut RawNats, subject: &str, body: &str) -> Result<Vec<String>> {
    client.send(format!("SUB _INBOX.direct d\r\nPUB {subject} _INBOX.direct {}\r\n{body}\r\n", body.len()))?;
    let mut all = Vec::new();
    for _ in 0..2000 {
        let text = String::from_utf8_lossy(&client.message()?.payload).into_owned();
        // One message stands alone, several have a status line behind them.
        let is_last = text.starts_with("NATS/1.0 ") || !text.contains("Nats-Num-Pending");
        let is_time = |line: &str| line.starts_with("Nats-Time-Stamp") || line.starts_with("Nats-Schedule-Next: 2");
        let lines = text.split("\r\n").filter(|line| !is_time(line));
        all.push(lines.collect::<Vec<_>>().join("|"));
        if is_last {
            client.send("UNSUB d\r\n")?;
            client.flush()?;
            return Ok(all);
        }
    }
    bail!("no end of {subject} {body}")
}

/// JSON as it stands, with the values that differ from server to server made equal.
fn without_times(text: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(text) else { return text.to_owned() };
    object.values_mut().for_each(level);
    for key in ["created", "ts", "time", "last_ts", "first_ts", "_nats.ver", "cluster"] {
        object.remove(key);
    }
    Value::Object(object).to_string()
}

pub(crate) fn level(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in ["created", "ts", "time", "last_ts", "first_ts", "_nats.ver", "cluster"] {
                object.remove(key);
            }
            if let Some(active) = object.get_mut("active") {
                *active = active.as_i64().is_some_and(|active| active >= 0).into();
            }
            object.values_mut().for_each(level);
        }
        Value::Array(values) => values.iter_mut().for_each(level),
        _ => {}
    }
}

#[test]
fn stream_configurations() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let bodies = [
        r#"{"name":"S","subjects":["s.>"],"republish":{"src":"s.>","dest":"again.>"}}"#,
        r#"{"name":"S","subjects":["s.>"],"republish":{"dest":"again.>","headers_only":true}}"#,
        r#"{"name":"S","subjects":["s.>"],"republish":{"dest":"s.again.>"}}"#,
        r#"{"name":"S","subjects":["s.>"],"republish":{"src":"s.*","dest":"again.>"}}"#,
        r#"{"name":"S","subjects":["s.>"],"republish":{"src":"s.>","dest":"again.>","bogus":1}}"#,
        r#"{"name":"S","subjects":["s.>"],"subject_transform":{"src":"s.*","dest":"t.{{wildcard(1)}}"}}"#,
        r#"{"name":"S","subjects":["s.>"],"subject_transform":{"src":"s..","dest":"t"}}"#,
        r#"{"name":"S","subjects":["s.>"],"subject_transform":{"src":"","dest":"t.>"}}"#,
        r#"{"name":"S","subjects":["s.>"],"subject_transform":{"src":"s.>","dest":"t.>"},"republish":{"src":">","dest":">"}}"#,
        r#"{"name":"S","subjects":["s.>"],"consumer_limits":{"inactive_threshold":60000000000,"max_ack_pending":10}}"#,
        r#"{"name":"S","subjects":["s.>"],"first_seq":100,"allow_direct":true,"allow_rollup_hdrs":true}"#,
        r#"{"name":"S","subjects":["s.>"],"sealed":true}"#,
        r#"{"name":"S","subjects":["s.>"],"compression":"none","mirror_direct":false,"allow_msg_ttl":true}"#,
        r#"{"name":"S","subjects":["s.>"],"max_msgs_per_subject":2,"discard":"new","discard_new_per_subject":true,"metadata":{"a":"b"}}"#,
        r#"{"name":"S","subjects":["s.>"],"discard":"new","discard_new_per_subject":true}"#,
    ];
    for body in bodies {
        both.api("STREAM.CREATE.S", body)?;
        both.api("STREAM.INFO.S", "")?;
        both.api("STREAM.DELETE.S", "")?;
    }
    Ok(())
}

#[test]
fn limits_of_consumers_and_sealing() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let limits = r#""consumer_limits":{"inactive_threshold":60000000000,"max_ack_pending":10}"#;
    both.api("STREAM.CREATE.S", &format!(r#"{{"name":"S","subjects":["s.>"],{limits}}}"#))?;
    let consumer = |fields: &str| format!(r#"{{"stream_name":"S","config":{{"ack_policy":"explicit"{fields}}}}}"#);
    for (name, fields) in [("a", ""), ("b", r#","max_ack_pending":11"#), ("c", r#","inactive_threshold":61000000000"#)]
    {
        both.api(&format!("CONSUMER.CREATE.S.{name}"), &consumer(fields))?;
    }
    let lower = limits.replace(":10}", ":9}");
    both.api("STREAM.UPDATE.S", &format!(r#"{{"name":"S","subjects":["s.>"],{lower}}}"#))?;
    both.api(
        "STREAM.UPDATE.S",
        r#"{"name":"S","subjects":["s.>"],"sealed":true,"max_age":1000000000,"allow_rollup_hdrs":true}"#,
    )?;
    both.ask("s.a", "no")?;
    both.api("STREAM.PURGE.S", "")?;
    both.api("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"]}"#)?;
    Ok(())
}

#[test]
fn direct_gets() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_direct":true}"#)?;
    for (subject, payload) in [("s.a", "1"), ("s.b", "two"), ("s.a", "3"), ("s.c", "4"), ("s.b", "5"), ("s.d.e", "6")] {
        both.ask(subject, payload)?;
    }
    both.api("STREAM.MSG.DELETE.S", r#"{"seq":3}"#)?;
    both.direct("S.s.b", "")?;
    both.direct("S.s.x", "")?;
    let bodies = [
        r#"{"seq":1}"#,
        r#"{"seq":3}"#,
        r#"{"seq":3,"batch":1}"#,
        r#"{"seq":1,"batch":3}"#,
        r#"{"seq":1,"batch":100}"#,
        r#"{"seq":1,"batch":100,"max_bytes":1}"#,
        r#"{"seq":1,"batch":100,"max_bytes":12}"#,
        r#"{"seq":9,"batch":2}"#,
        r#"{"seq":1,"batch":2,"next_by_subj":"s.b"}"#,
        r#"{"batch":2,"next_by_subj":"s.*"}"#,
        r#"{"next_by_subj":"s.*"}"#,
        r#"{"seq":6,"next_by_subj":"s.*"}"#,
        r#"{"seq":1,"batch":2,"next_by_subj":"s.x"}"#,
        r#"{"start_time":"2020-01-01T00:00:00Z"}"#,
        r#"{"start_time":"2020-01-01T00:00:00Z","batch":2}"#,
        r#"{"start_time":"2020-01-01T00:00:00Z","batch":2,"next_by_subj":"s.b"}"#,
        r#"{"start_time":"2200-01-01T00:00:00Z","batch":2}"#,
        r#"{"start_time":"yesterday"}"#,
        r#"{"start_time":"2020-01-01T00:00:00Z","seq":1}"#,
        r#"{"last_by_subj":"s.a"}"#,
        r#"{"last_by_subj":"s.>"}"#,
        r#"{"last_by_subj":"s.a","batch":1}"#,
        r#"{"last_by_subj":"s.a","next_by_subj":"s.a"}"#,
        r#"{"last_by_subj":"s.a","multi_last":["s.a"]}"#,
        r#"{"next_by_subj":"s.a","multi_last":["s.a"]}"#,
        r#"{"multi_last":["s.>"]}"#,
        r#"{"multi_last":["s.a","s.*"]}"#,
        r#"{"multi_last":["s.>"],"batch":2}"#,
        r#"{"multi_last":["s.>"],"max_bytes":1}"#,
        r#"{"multi_last":["s.>"],"seq":4}"#,
        r#"{"multi_last":["s.>"],"seq":7}"#,
        r#"{"multi_last":["s.>"],"up_to_seq":4}"#,
        r#"{"multi_last":["s.b"],"up_to_seq":4}"#,
        r#"{"multi_last":["s.>"],"up_to_seq":99}"#,
        r#"{"multi_last":["s.>"],"up_to_time":"2200-01-01T00:00:00Z"}"#,
        r#"{"multi_last":["s.>"],"up_to_time":"2020-01-01T00:00:00Z"}"#,
        r#"{"multi_last":["s.>"],"up_to_time":"2020-01-01T00:00:00Z","up_to_seq":1}"#,
        r#"{"multi_last":["s.x"]}"#,
        r#"{"multi_last":"s.x"}"#,
        r#"{"batch":2}"#,
        r#"{"up_to_seq":2}"#,
        "{}",
        "x",
    ];
    for body in bodies {
        both.direct("S", body)?;
    }
    let bodies = [r#"{"start_time":"2020-01-01T00:00:00Z"}"#, r#"{"seq":1,"batch":1}"#, r#"{"multi_last":["s.a"]}"#];
    for body in bodies {
        both.api("STREAM.MSG.GET.S", body)?;
    }
    Ok(())
}

#[test]
fn too_many_subjects_are_refused_and_large_batches_come_whole() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"],"allow_direct":true}"#)?;
    let publishes: String = (0..1025).map(|number| format!("PUB s.{number} 1\r\nx\r\n")).collect();
    for client in [&mut both.ours, &mut both.stock] {
        client.send(&publishes)?;
        client.flush()?;
    }
    both.ask("s.1", "a second time")?;
    assert_eq!(both.direct("S", r#"{"multi_last":["s.*"]}"#)?, ["NATS/1.0 413 Too Many Results||"]);
    assert_eq!(both.direct("S", r#"{"multi_last":["s.*"],"up_to_seq":1024}"#)?.len(), 1025);
    assert_eq!(both.direct("S", r#"{"seq":1,"batch":1000}"#)?.len(), 1001);
    Ok(())
}

/// What a subscriber gets of a stream that publishes again, and under which subject it was stored.
#[test]
fn messages_are_renamed_and_published_again() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let config = r#"{"name":"S","subjects":["s.>"],"subject_transform":{"src":"s.*.in","dest":"s.out.$1"},"republish":{"src":"s.out.*","dest":"again.$1"}}"#;
    both.api("STREAM.CREATE.S", config)?;
    let mut heard: Vec<Vec<String>> = Vec::new();
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB again.> 9\r\nHPUB s.a.in 18 21\r\nNATS/1.0\r\nA: b\r\n\r\none\r\nPUB s.a.in 3\r\ntwo\r\nPUB s.b 3\r\nnot\r\n")?;
        let mut lines = Vec::new();
        for _ in 0..2 {
            let message = client.message()?;
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            let kept = text.split("\r\n").filter(|line| !line.starts_with("Nats-Time-Stamp")).collect::<Vec<_>>();
            lines.push(format!("{} {}", message.line.split(' ').take(3).collect::<Vec<_>>().join(" "), kept.join("|")));
        }
        client.send("UNSUB 9\r\n")?;
        client.flush()?;
        heard.push(lines);
    }
    assert_eq!(heard[0], heard[1]);
    both.api("STREAM.INFO.S", r#"{"subjects_filter":">"}"#)?;
    both.api("STREAM.MSG.GET.S", r#"{"seq":1}"#)?;
    Ok(())
}

/// What is wrong with a transform, in a stream, in a source and in a mirror.
#[test]
fn impossible_transforms_are_refused_in_the_same_words() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.O", r#"{"name":"O","subjects":["o.>"]}"#)?;
    let mut differences = Vec::new();
    for (source, destination) in [
        ("s.*", "t.{{wildcard(2)}}"),
        ("s.*", "t.$2"),
        ("s.*", "t.$1.$3"),
        ("s.*", "t.{{wildcard()}}"),
        ("s.*", "t.{{wildcard(x)}}"),
        ("s.*", "t.{{wildcard(1,1)}}"),
        ("s.*", "t.{{ Wildcard( 3 ) }}"),
        ("s.*", "t.{{partition()}}"),
        ("s.*", "t.{{partition(x)}}"),
        ("s.*", "t.{{partition(3,x)}}"),
        ("s.*", "t.{{partition(3,2)}}"),
        ("s.*", "t.{{partition(99999999999,1)}}"),
        ("s.*", "t.{{rot13(1)}}"),
        ("s.*", "t.{{WILDCARD(1)}}"),
        ("s.*", "t.{{wildcard}}"),
        ("s.*", "t.*"),
        ("s.*", "t.>"),
        ("s.*", "t..u"),
        ("s.*", "t."),
        ("s.>", "t"),
        ("s.>", "t.>.u"),
        ("s.>", "t.$1.>"),
        ("s.1", "t.$1"),
        ("s.1", "t.{{wildcard(1)}}"),
        ("s.1", "t u"),
        ("s.*", "t.{{rot13(1)}}.*"),
        ("s..1", "t"),
        ("", "t.$1.>"),
        ("s.*", "t.{{left(1)}}"),
        ("s.*", "t.{{left(1,2,3)}}"),
        ("s.*", "t.{{right(x,2)}}"),
        ("s.*", "t.{{splitFromLeft(1,x)}}"),
        ("s.*", "t.{{split(1,a b)}}"),
        ("s.*", "t.{{sliceFromRight(2,2)}}"),
        ("s.1", "t.{{left(1,1)}}"),
        ("s.1", "t.{{wildcard(0)}}"),
        ("s.*", "t.{{random()}}"),
        ("s.*", "t.{{random(x)}}"),
        ("s.*", "t.{{random(1,2)}}"),
        ("s.*", "t.{{random(2147483648)}}"),
        ("s.>", "t.{{partition(0,1)}}.>"),
    ] {
        let transform = json!({"src": source, "dest": destination});
        for body in [
            json!({"name": "S", "subjects": ["s.>"], "subject_transform": transform}),
            json!({"name": "S", "subjects": ["s.>"], "sources": [{"name": "O", "subject_transforms": [transform]}]}),
            json!({"name": "S", "mirror": {"name": "O", "subject_transforms": [transform]}}),
        ] {
            match both.api("STREAM.CREATE.S", &body.to_string()) {
                Ok(said) => ensure!(said.contains("\"error\""), "{body}: {said}"),
                Err(difference) => differences.push(difference.to_string()),
            }
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// What is drawn lies below the same number; stock's own generator is not compared.
#[test]
fn random_tokens_lie_below_the_same_number() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.O", r#"{"name":"O","subjects":["o.>"]}"#)?;
    let of = |source: &str| json!({"src": source, "dest": "t.{{random(3)}}.{{random(-2)}}"});
    let republish = json!({"src": "t.*.*", "dest": "again.{{random(4)}}"});
    let bodies = [
        json!({"name": "R", "subjects": ["again.*"]}),
        json!({"name": "S", "subjects": ["s.*"], "subject_transform": of("s.*"), "republish": republish}),
        json!({"name": "M", "mirror": {"name": "O", "subject_transforms": [of("o.*")]}}),
        json!({"name": "G", "sources": [{"name": "O", "subject_transforms": [of("o.*")]}]}),
    ];
    for body in &bodies {
        both.api(&format!("STREAM.CREATE.{}", body["name"].as_str().unwrap_or_default()), &body.to_string())?;
    }
    for client in [&mut both.ours, &mut both.stock] {
        for _ in 0..60 {
            client.request("s.x", b"1")?;
            client.request("o.x", b"1")?;
        }
    }
    for client in [&mut both.ours, &mut both.stock] {
        for (stream, possible) in [("S", 6), ("M", 6), ("G", 6), ("R", 4)] {
            let subjects = all_subjects(client, stream, 60)?;
            // One of them is missing after sixty messages in one of ten thousand runs, two of them never.
            let are_many = subjects.len() + 1 >= possible;
            ensure!(are_many && subjects.iter().all(|subject| is_drawn(subject)), "{stream}: {subjects:?}");
        }
    }
    Ok(())
}

fn is_drawn(subject: &str) -> bool {
    match subject.split('.').collect::<Vec<_>>()[..] {
        ["t", one, two] => ["0", "1", "2"].contains(&one) && ["0", "1"].contains(&two),
        ["again", one] => ["0", "1", "2", "3"].contains(&one),
        _ => false,
    }
}

/// The subjects of a stream once it has so many messages.
fn all_subjects(client: &mut RawNats, stream: &str, messages: u64) -> Result<Vec<String>> {
    let started = std::time::Instant::now();
    loop {
        let message = client.request(&format!("$JS.API.STREAM.INFO.{stream}"), br#"{"subjects_filter":">"}"#)?;
        let info: Value = serde_json::from_slice(&message.payload)?;
        if info["state"]["messages"] == messages {
            let subjects = info["state"]["subjects"].as_object().context("subjects")?;
            return Ok(subjects.keys().cloned().collect());
        }
        ensure!(started.elapsed().as_secs() < 10, "{stream} has not got everything: {info}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Transforms that cut tokens: where each message is stored.
#[test]
fn tokens_are_cut_in_the_same_places() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    for function in [
        "left(1,3)",
        "Right(1, 3)",
        "left(1,0)",
        "right(1,-1)",
        "splitFromLeft(1,2)",
        "SplitFromRight(1,2)",
        "splitfromright(1,9)",
        "sliceFromLeft(1,2)",
        "SliceFromRight(1,2)",
        "slicefromleft(1,3)",
        "split(1,-)",
        "Split(1, --)",
        "split(1,)",
        "split(1,*)",
        "split(0,-)",
        "left(-1,1)",
        "wildcard(0)",
        "wildcard(-1)",
        "partition(0,1)",
        "partition(0)",
        "partition(-5,1)",
        "partition(5,0)",
        "partition(5)",
        "random(0)",
        "random(1)",
        "Random( -1 )",
    ] {
        let transform = json!({"src": "s.*.>", "dest": format!("t.{{{{{function}}}}}.>")});
        let config = json!({"name": "S", "subjects": ["s.>"], "subject_transform": transform});
        both.api("STREAM.CREATE.S", &config.to_string()).context(function)?;
        for token in ["abcdefg", "abcdef", "abc", "ab", "a", "a-b--c", "-ab-", "ab"] {
            both.ask(&format!("s.{token}.x"), "")?;
        }
        let said = both.api("STREAM.INFO.S", r#"{"subjects_filter":">"}"#).context(function)?;
        ensure!(said.contains("t."), "{function}: {said}");
        both.api("STREAM.DELETE.S", "")?;
    }
    Ok(())
}
