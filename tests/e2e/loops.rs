//! A stream here and one at the hub that source each other. Neither server sees that, so a message goes round, as between two stock servers: within
//! the streams' limits, beside everything else, until somebody ends it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{RawNats, Server};
use serde_json::Value;

use crate::hub::{Linked, ask};

/// Round that often before it is ended.
const ROUNDS: u64 = 200;
const KEPT: u64 = 50;

fn last(server: &Server, stream: &str) -> Result<(u64, u64)> {
    let info = ask(server, &format!("$JS.API.STREAM.INFO.{stream}"), "")?;
    let number = |key: &str| info["state"][key].as_u64().with_context(|| info.to_string());
    Ok((number("last_seq")?, number("messages")?))
}

fn done(server: &Server, operation: &str, body: &str) -> Result<()> {
    let answer = ask(server, &format!("$JS.API.STREAM.{operation}"), body)?;
    ensure!(answer["error"].is_null(), "{operation}: {answer}");
    Ok(())
}

#[test]
fn a_ring_through_the_link_is_bounded_and_can_be_ended() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let linked = Linked::with(r#"streams { OTHER { subjects: ["other"] } }"#)?;
    let config = |more: &str| format!(r#"{{"name":"A","subjects":["a"],"max_msgs":{KEPT}{more}}}"#);
    let ring = config(r#","sources":[{"name":"B","external":{"api":"$JS.hub.API"}}]"#);
    done(&linked.gateway, "CREATE.A", &config(""))?;
    let far =
        format!(r#"{{"name":"B","max_msgs":{KEPT},"sources":[{{"name":"A","external":{{"api":"$JS.edge.API"}}}}]}}"#);
    done(&linked.hub, "CREATE.B", &far)?;
    done(&linked.gateway, "UPDATE.A", &ring)?;
    ask(&linked.gateway, "a", "round")?;
    linked.wait("it goes round", || Ok(last(&linked.gateway, "A")?.0 >= ROUNDS))?;

    // Beside it there is room for others.
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for number in 1..=200 {
        let since = Instant::now();
        let stored: Value = serde_json::from_slice(&client.request("other", b"x")?.payload)?;
        ensure!(stored["seq"] == number, "{stored}");
        ensure!(since.elapsed() < Duration::from_secs(10), "a publish waits for {:?}", since.elapsed());
    }
    for (server, stream) in [(&linked.gateway, "A"), (&linked.hub, "B")] {
        ensure!(last(server, stream)?.1 <= KEPT, "{stream} is beyond its limit");
    }

    done(&linked.gateway, "UPDATE.A", &config(""))?;
    let before = std::cell::Cell::new(last(&linked.gateway, "A")?.0);
    linked.wait("it has ended", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = last(&linked.gateway, "A")?.0;
        Ok(before.replace(now) == now)
    })
}
