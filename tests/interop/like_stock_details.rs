//! Small things that clients see of streams and consumers, one by one: the same from the gateway and from the stock server.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::raw::RawMessage;
use serde_json::{Value, json};

use crate::like_stock::{Both, level};

/// Nothing more comes after so long without anything.
const SETTLED: Duration = Duration::from_millis(60);
/// How long the two may differ.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message: its ack subject without the time in it, and what it holds.
fn told(message: &RawMessage) -> String {
    let place = message.line.split(' ').nth(3).filter(|word| word.starts_with("$JS.ACK.")).unwrap_or("-");
    let place = place.split('.').filter(|token| token.len() < 15).collect::<Vec<_>>().join(".");
    format!("{place} {}", String::from_utf8_lossy(&message.payload))
}

impl Both {
    /// A request, and everything that comes of it: so many messages at least.
    fn compare_all(&mut self, subject: &str, body: &str, least: usize) -> Result<()> {
        let mut clients = [&mut self.ours, &mut self.stock];
        for client in &mut clients {
            client.send(format!("SUB _INBOX.all all\r\nPUB {subject} _INBOX.all {}\r\n{body}\r\n", body.len()))?;
        }
        let (mut heard, started, mut changed) = ([Vec::new(), Vec::new()], Instant::now(), Instant::now());
        while heard[0].len() < least || heard[0] != heard[1] || changed.elapsed() < SETTLED {
            for (client, lines) in clients.iter_mut().zip(&mut heard) {
                while let Some(message) = client.poll()? {
                    lines.push(told(&message));
                    changed = Instant::now();
                }
            }
            let [ours, stock] = &heard;
            ensure!(started.elapsed() < PATIENCE, "{subject} {body}\n ours:  {ours:#?}\n stock: {stock:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        // What comes too late is nobody's answer.
        for client in &mut clients {
            client.send("UNSUB all\r\nPING\r\n")?;
            while client.poll()?.is_none_or(|message| message.line != "PONG") {
                ensure!(started.elapsed() < 2 * PATIENCE, "no PONG");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Messages that are there.
    fn pull(&mut self, consumer: &str, body: &str) -> Result<()> {
        self.compare_all(&format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}"), body, 1)
    }

    /// A part of an answer.
    fn compare_part(&mut self, operation: &str, body: &str, part: &str) -> Result<()> {
        let [ours, stock] = [&mut self.ours, &mut self.stock].map(|client| {
            let message = client.request(&format!("$JS.API.{operation}"), body.as_bytes())?;
            let mut answer: Value = serde_json::from_slice(&message.payload)?;
            level(&mut answer);
            if let Some(position) = answer.pointer_mut(part).and_then(Value::as_object_mut) {
                position.remove("last_active");
            }
            anyhow::Ok(answer.pointer(part).cloned())
        });
        let (ours, stock) = (ours?, stock?);
        ensure!(ours == stock, "{operation} {body}: {part}\n ours:  {ours:?}\n stock: {stock:?}");
        Ok(())
    }

    fn stream(&mut self, fields: &Value) -> Result<()> {
        let mut config = json!({"name": "S", "subjects": ["s.>"], "allow_direct": true});
        fields.as_object().into_iter().flatten().for_each(|(key, value)| config[key] = value.clone());
        for client in [&mut self.ours, &mut self.stock] {
            client.request("$JS.API.STREAM.DELETE.S", b"")?;
        }
        self.api("STREAM.CREATE.S", &config.to_string()).map(drop)
    }

    fn consumer(&mut self, name: &str, fields: &Value) -> Result<()> {
        let mut config = json!({"durable_name": name, "ack_policy": "explicit"});
        fields.as_object().into_iter().flatten().for_each(|(key, value)| config[key] = value.clone());
        let body = json!({"stream_name": "S", "config": config}).to_string();
        self.api(&format!("CONSUMER.CREATE.S.{name}"), &body).map(drop)
    }

    fn publish(&mut self, subjects: &[&str]) -> Result<()> {
        subjects.iter().try_for_each(|subject| self.ask(subject, "0123456789").map(drop))
    }
}

#[test]
fn pages_of_subjects_and_what_a_server_chooses() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    both.publish(&["s.a", "s.b", "s.c"])?;
    for (filter, offset) in [(">", 0), (">", 2), (">", 3), (">", 100), ("s.a", 1), ("t.>", 0), ("t.>", 5), (">", -1)] {
        both.api("STREAM.INFO.S", &json!({"subjects_filter": filter, "offset": offset}).to_string())?;
    }
    both.compare_part("CONSUMER.CREATE.S", r#"{"stream_name":"S","config":{}}"#, "/config")?;
    for time in ["0001-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "2020-01-01T00:00:00Z"] {
        both.consumer("C", &json!({"pause_until": time}))?;
        both.api("CONSUMER.INFO.S.C", "")?;
        both.api("CONSUMER.PAUSE.S.C", &json!({"pause_until": time}).to_string())?;
        both.api("CONSUMER.INFO.S.C", "")?;
        both.api("CONSUMER.DELETE.S.C", "")?;
    }
    Ok(())
}

/// Which requests count, and which of them as failed.
#[test]
fn requests_are_counted() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    both.publish(&["s.a"])?;
    both.consumer("C", &json!({}))?;
    for (operation, body) in [
        ("STREAM.MSG.DELETE.S", r#"{"seq":9}"#),
        ("STREAM.MSG.DELETE.NONE", r#"{"seq":9}"#),
        ("STREAM.MSG.GET.S", r#"{"seq":9}"#),
        ("DIRECT.GET.S", r#"{"seq":9}"#),
        ("DIRECT.GET.S", "x"),
        ("CONSUMER.RESET.S.C", ""),
        ("CONSUMER.RESET.S.C", "x"),
        ("CONSUMER.UNPIN.S.C", "{} x"),
        ("STREAM.INFO.S", "[]"),
        ("CONSUMER.INFO.S.NONE", ""),
    ] {
        for client in [&mut both.ours, &mut both.stock] {
            client.request(&format!("$JS.API.{operation}"), body.as_bytes())?;
        }
        both.api("INFO", "")?;
    }
    Ok(())
}

#[test]
fn pulls_with_odd_numbers() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    both.consumer("C", &json!({"ack_policy": "none"}))?;
    both.consumer("H", &json!({"ack_policy": "none", "headers_only": true}))?;
    both.publish(&["s.a", "s.b", "s.c", "s.d", "s.e"])?;
    for body in [
        r#"{"batch":-1,"no_wait":true}"#,
        r#"{"batch":null,"no_wait":true}"#,
        r#"{"batch":2,"expires":50000000,"max_bytes":-1}"#,
        r#"{"batch":1099511627776,"expires":50000000}"#,
        r#"{"batch":1,"expires":50000000,"max_bytes":-3}"#,
    ] {
        both.pull("C", body)?;
    }
    // Subject, ack subject and the headers that are made of the size: not the payload.
    for bytes in [71, 72, 73, 74, 200] {
        both.pull("H", &json!({"batch": 1, "no_wait": true, "max_bytes": bytes}).to_string())?;
    }
    Ok(())
}

#[test]
fn acknowledgements_with_words_for_numbers() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    both.consumer("C", &json!({}))?;
    both.publish(&["s.a", "s.b", "s.c"])?;
    both.pull("C", r#"{"batch":1,"no_wait":true}"#)?;
    for place in ["x.2.2.1.0", "1.x.1.1.0", "1.2.x.1.0", "1.1.1.x.0", "1.2.2.1.x", "-1.2.2.1.1", "1.1.1.1"] {
        for body in ["-NAK", "+WPI", "+ACK", "+NXT", "+TERM"] {
            both.compare_all(&format!("$JS.ACK.S.C.{place}"), body, 0)?;
        }
    }
    both.compare_part("CONSUMER.INFO.S.C", "", "/delivered")
}

/// What leaves the stream does not move a consumer, apart from purges; what comes below where it begins is not for it.
#[test]
fn consumers_stand_in_the_same_places() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let age = json!({"max_age": 1_500_000_000, "duplicate_window": 1_500_000_000});
    for fields in [json!({"max_msgs": 2}), json!({"max_msgs_per_subject": 1}), json!({"max_bytes": 100}), age] {
        both.stream(&fields)?;
        both.publish(&["s.a"])?;
        both.consumer("C", &json!({"filter_subject": "s.*"}))?;
        both.pull("C", r#"{"batch":1,"no_wait":true}"#)?;
        both.publish(&["s.a", "s.a", "s.a", "s.a"])?;
        if fields["max_age"].is_number() {
            std::thread::sleep(Duration::from_millis(2000));
        }
        for part in ["/delivered", "/ack_floor"] {
            both.compare_part("CONSUMER.INFO.S.C", "", part)?;
        }
        both.api("STREAM.PURGE.S", "")?;
        for part in ["/delivered", "/ack_floor"] {
            both.compare_part("CONSUMER.INFO.S.C", "", part)?;
        }
    }
    both.stream(&json!({}))?;
    both.consumer("C", &json!({}))?;
    both.api("CONSUMER.RESET.S.C", r#"{"seq":4}"#)?;
    for _ in 0..5 {
        both.publish(&["s.a"])?;
        both.compare_part("CONSUMER.INFO.S.C", "", "/num_pending")?;
    }
    both.pull("C", r#"{"batch":9,"no_wait":true}"#)
}

/// What goes by the limits of the stream has gone before what a roll-up of a subject takes.
#[test]
fn a_roll_up_in_a_full_stream() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({"max_msgs": 3, "allow_rollup_hdrs": true}))?;
    both.publish(&["s.a", "s.b", "s.b"])?;
    for client in [&mut both.ours, &mut both.stock] {
        client.send("HPUB s.b 30 31\r\nNATS/1.0\r\nNats-Rollup: sub\r\n\r\nx\r\n")?;
        client.flush()?;
    }
    // It is stored by the time it is asked for.
    both.publish(&["s.c"])?;
    both.api("STREAM.INFO.S", r#"{"subjects_filter":">","deleted_details":true}"#).map(drop)
}

/// That a consumer would send into its own stream is said before most of what is wrong with it.
#[test]
fn the_first_of_two_mistakes() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    for fields in [
        json!({"max_waiting": 5}),
        json!({"idle_heartbeat": 1}),
        json!({"filter_subject": "a..b"}),
        json!({"opt_start_seq": 5}),
        json!({"deliver_policy": "last_per_subject"}),
        json!({"flow_control": true}),
        json!({"backoff": [1, 2], "max_deliver": 1}),
        json!({"sample_freq": "x"}),
        json!({"num_replicas": 3}),
        json!({"priority_groups": ["g"]}),
        json!({"ack_policy": "none", "max_ack_pending": 5}),
        json!({"deliver_group": "a b"}),
        json!({"description": "x".repeat(5000)}),
        json!({"filter_subjects": ["s.a", "s.>"]}),
        json!({"filter_subjects": ["s.a"], "filter_subject": "s.b"}),
        json!({"deliver_subject": "s.*"}),
    ] {
        let mut config = json!({"deliver_subject": "s.x"});
        fields.as_object().into_iter().flatten().for_each(|(key, value)| config[key] = value.clone());
        both.consumer("C", &config)?;
    }
    Ok(())
}

/// A stream on the subject is nobody who listens.
#[test]
fn nothing_is_pushed_to_a_stream() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.api("STREAM.CREATE.T", r#"{"name":"T","subjects":["to.>"]}"#)?;
    both.stream(&json!({}))?;
    both.consumer("P", &json!({"deliver_subject": "to.p"}))?;
    both.publish(&["s.a"])?;
    both.compare_part("CONSUMER.INFO.S.P", "", "/push_bound")?;
    both.compare_part("CONSUMER.INFO.S.P", "", "/num_pending")?;
    both.api("STREAM.INFO.T", "")?;
    for client in [&mut both.ours, &mut both.stock] {
        client.send("SUB to.p listening\r\n")?;
        let message = client.message()?;
        ensure!(message.payload == b"0123456789", "{}", message.line);
    }
    Ok(())
}

/// Who needs no answer names no reply subject, and what they ask for is done.
#[test]
fn requests_without_a_reply_subject() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    both.stream(&json!({}))?;
    both.publish(&["s.a", "s.b", "s.c"])?;
    let config = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    let (info, consumer) = ("STREAM.INFO.S", "CONSUMER.INFO.S.C");
    for (operation, body, (asked, part, becomes)) in [
        ("STREAM.MSG.DELETE.S", r#"{"seq":2}"#, (info, "/state/messages", json!(2))),
        ("CONSUMER.CREATE.S.C", config, (info, "/state/consumer_count", json!(1))),
        ("CONSUMER.PAUSE.S.C", r#"{"pause_until":"2090-01-01T00:00:00Z"}"#, (consumer, "/paused", json!(true))),
        ("CONSUMER.DELETE.S.C", "", (info, "/state/consumer_count", json!(0))),
        ("STREAM.UPDATE.S", r#"{"name":"S","subjects":["t"]}"#, (info, "/config/subjects", json!(["t"]))),
        ("STREAM.PURGE.S", "", (info, "/state/messages", json!(0))),
        ("STREAM.DELETE.S", "", ("STREAM.NAMES", "/total", json!(0))),
        ("STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#, ("STREAM.NAMES", "/streams", json!(["T"]))),
    ] {
        for (server, client) in [("ours", &mut both.ours), ("stock", &mut both.stock)] {
            client.send(format!("PUB $JS.API.{operation} {}\r\n{body}\r\n", body.len()))?;
            let started = Instant::now();
            loop {
                let message = client.request(&format!("$JS.API.{asked}"), b"")?;
                let answer: Value = serde_json::from_slice(&message.payload)?;
                if answer.pointer(part) == Some(&becomes) {
                    break;
                }
                ensure!(started.elapsed() < PATIENCE, "{server}: {operation} {body} was not done: {answer:#}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    Ok(())
}
