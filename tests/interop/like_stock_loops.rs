//! Streams that source and mirror each other in a ring, asked of the gateway and of the stock server: refused alike, and what is not refused ends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::like_stock::Both;

/// For what pullers bring; stock waits for up to some seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// A ring would go round some hundred times in that.
const QUIET: Duration = Duration::from_millis(300);

/// Creates or updates the stream that the body names; both answer alike, ours in these words.
fn says(both: &mut Both, operation: &str, body: &str, expected: &str) -> Result<()> {
    let config: Value = serde_json::from_str(body)?;
    let name = config["name"].as_str().unwrap_or_default();
    let answer: Value = serde_json::from_str(&both.api(&format!("STREAM.{operation}.{name}"), body)?)?;
    let said = answer["error"]["description"].as_str().unwrap_or("taken");
    ensure!(said == expected, "{operation} {body}: {said}");
    Ok(())
}

/// Waits until each stream has so many messages on both.
fn reach(both: &mut Both, streams: &[(&str, u64)]) -> Result<()> {
    let since = Instant::now();
    for client in [&mut both.ours, &mut both.stock] {
        for (stream, expected) in streams {
            loop {
                let answer = client.request(&format!("$JS.API.STREAM.INFO.{stream}"), b"")?;
                let info: Value = serde_json::from_slice(&answer.payload)?;
                let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
                ensure!(last <= *expected, "{stream} goes on: {info}");
                if last == *expected {
                    break;
                }
                ensure!(since.elapsed() < LIMIT, "{stream} has not {expected}: {info}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    Ok(())
}

/// Waits until each stream has so many messages on both, and they stay as many; removes them.
fn hold(both: &mut Both, streams: &[(&str, u64)]) -> Result<()> {
    reach(both, streams)?;
    std::thread::sleep(QUIET);
    reach(both, streams)?;
    for (stream, _) in streams {
        both.api(&format!("STREAM.DELETE.{stream}"), "")?;
    }
    Ok(())
}

const CYCLE: &str = "detected cycle";

#[test]
fn a_stream_is_not_its_own_origin() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    for body in [
        r#"{"name":"A","sources":[{"name":"A"}]}"#,
        r#"{"name":"A","subjects":["a"],"sources":[{"name":"A"}]}"#,
        r#"{"name":"A","mirror":{"name":"A"}}"#,
        r#"{"name":"A","subjects":["a.>"],"sources":[{"name":"A","subject_transforms":[{"src":"a.x","dest":"b.x"}]}]}"#,
    ] {
        says(&mut both, "CREATE", body, CYCLE)?;
    }
    says(&mut both, "CREATE", r#"{"name":"A","subjects":["a"]}"#, "taken")?;
    says(&mut both, "UPDATE", r#"{"name":"A","subjects":["a"],"sources":[{"name":"A"}]}"#, CYCLE)?;
    both.ask("a", "1")?;
    hold(&mut both, &[("A", 1)])
}

#[test]
fn two_streams_are_not_each_others_origin() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    let a = r#"{"name":"A","subjects":["a"]}"#;
    for b in [
        r#"{"name":"B","sources":[{"name":"A"}]}"#,
        r#"{"name":"B","subjects":["b"],"sources":[{"name":"A"}]}"#,
        r#"{"name":"B","mirror":{"name":"A"}}"#,
        r#"{"name":"B","sources":[{"name":"A","subject_transforms":[{"src":"a","dest":"b"}]}]}"#,
    ] {
        says(&mut both, "CREATE", a, "taken")?;
        says(&mut both, "CREATE", b, "taken")?;
        says(&mut both, "UPDATE", r#"{"name":"A","subjects":["a"],"sources":[{"name":"B"}]}"#, CYCLE)?;
        both.ask("a", "1")?;
        hold(&mut both, &[("A", 1), ("B", 1)])?;
    }
    says(&mut both, "CREATE", r#"{"name":"A","mirror":{"name":"B"}}"#, "taken")?;
    says(&mut both, "CREATE", r#"{"name":"B","mirror":{"name":"A"}}"#, CYCLE)?;
    both.api("STREAM.DELETE.A", "")?;
    // A ring of three, before any of them is there.
    says(&mut both, "CREATE", r#"{"name":"A","subjects":["a"],"sources":[{"name":"C"}]}"#, "taken")?;
    says(&mut both, "CREATE", r#"{"name":"B","sources":[{"name":"A"}]}"#, "taken")?;
    says(&mut both, "CREATE", r#"{"name":"C","sources":[{"name":"B"}]}"#, CYCLE)?;
    both.ask("a", "1")?;
    hold(&mut both, &[("A", 1), ("B", 1)])
}

#[test]
fn what_does_not_come_round_is_taken() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    // Each has the other's, and nothing comes back.
    says(&mut both, "CREATE", r#"{"name":"A","subjects":["a.*"]}"#, "taken")?;
    let b = r#"{"name":"B","subjects":["b.*"],"sources":[{"name":"A","filter_subject":"a.*"}]}"#;
    says(&mut both, "CREATE", b, "taken")?;
    let a = r#"{"name":"A","subjects":["a.*"],"sources":[{"name":"B","filter_subject":"b.*"}]}"#;
    says(&mut both, "UPDATE", a, "taken")?;
    both.ask("a.1", "1")?;
    reach(&mut both, &[("B", 1)])?;
    both.ask("b.1", "1")?;
    hold(&mut both, &[("A", 2), ("B", 2)])?;
    // Through transforms there and back it would.
    says(&mut both, "CREATE", r#"{"name":"A","subjects":["a.*"]}"#, "taken")?;
    let b = r#"{"name":"B","subjects":["b.*"],"sources":[{"name":"A","subject_transforms":[{"src":"a.*","dest":"b.$1"}]}]}"#;
    says(&mut both, "CREATE", b, "taken")?;
    let a = r#"{"name":"A","subjects":["a.*"],"sources":[{"name":"B","subject_transforms":[{"src":"b.*","dest":"a.$1"}]}]}"#;
    says(&mut both, "UPDATE", a, CYCLE)?;
    both.ask("a.1", "1")?;
    hold(&mut both, &[("A", 1), ("B", 1)])
}
