//! Mirrors and sources asked of the gateway and of the stock server: equal configurations, equal refusals, equal contents.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::like_stock::Both;

/// For what pullers bring; stock waits for up to some seconds.
const LIMIT: Duration = Duration::from_secs(30);

/// What both say is compared; all differences are told together.
fn compare(both: &mut Both, asked: &[(&str, &str)]) -> Result<()> {
    let mut differences = Vec::new();
    for (operation, body) in asked {
        if let Err(difference) = both.api(operation, body) {
            differences.push(format!("{difference:#}"));
        }
    }
    ensure!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
    Ok(())
}

/// Both have so many messages in a stream, and say the same of it.
fn filled(both: &mut Both, name: &str, messages: u64) -> Result<()> {
    let (info, since) = (format!("STREAM.INFO.{name}"), Instant::now());
    let filled = format!(r#""messages":{messages},"#);
    // Differences last only until both have everything.
    while !both.api(&info, "").is_ok_and(|info| info.contains(&filled)) {
        if since.elapsed() > LIMIT {
            both.api(&info, "")?;
        }
        ensure!(since.elapsed() < LIMIT, "{name} is not filled");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn origins(both: &mut Both) -> Result<()> {
    both.api("STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"allow_direct":true,"max_msg_size":1000}"#)?;
    both.api("STREAM.CREATE.T", r#"{"name":"T","subjects":["t.>"]}"#)?;
    for number in 0..20 {
        both.ask(&format!("s.{}", number % 4), "body")?;
        both.ask("t.a", "body")?;
    }
    Ok(())
}

#[test]
fn refusals_of_origins() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    origins(&mut both)?;
    let bodies = [
        r#"{"name":"M","subjects":["m"],"mirror":{"name":"S"}}"#,
        r#"{"name":"M","first_seq":5,"mirror":{"name":"S"}}"#,
        r#"{"name":"M","mirror":{"name":"S"},"sources":[{"name":"T"}]}"#,
        r#"{"name":"M","mirror":{"name":"S","filter_subject":"a","subject_transforms":[{"src":"a","dest":"b"}]}}"#,
        r#"{"name":"M","mirror":{"name":"S","subject_transforms":[{"src":"a.*","dest":"b"},{"src":"a.b","dest":"b"}]}}"#,
        r#"{"name":"M","mirror":{"name":"S","subject_transforms":[{"src":"a..","dest":"b"}]}}"#,
        r#"{"name":"M","mirror":{"name":"a.b"}}"#,
        r#"{"name":"M","mirror":{"name":""}}"#,
        r#"{"name":"M","mirror":{"name":"S","consumer":{"name":"C"}}}"#,
        r#"{"name":"M","mirror":{"name":"S","consumer":{"name":"C","deliver_subject":"d","x":1}}}"#,
        r#"{"name":"M","mirror":{"name":"S","filter_subject":"a..b"}}"#,
        r#"{"name":"M","mirror":{"name":"M"}}"#,
        r#"{"name":"M","mirror":{"name":"S"},"max_msg_size":10}"#,
        r#"{"name":"M","mirror":{"name":"S"},"deny_purge":true,"allow_rollup_hdrs":true}"#,
        r#"{"name":"M","mirror":{"name":"S","external":{"api":"$JS.API","deliver":""}}}"#,
        r#"{"name":"M","mirror":{"name":"S","external":{"api":"$JS.*.API","deliver":""}}}"#,
        r#"{"name":"M","mirror":{"name":"S","external":{"api":"$JS.x.API","deliver":"a.*"}}}"#,
        r#"{"name":"A","sources":[{"name":""}]}"#,
        r#"{"name":"A","sources":[{"name":"S"},{"name":"S"}]}"#,
        r#"{"name":"A","sources":[{"name":"S","filter_subject":">"},{"name":"S"}]}"#,
        r#"{"name":"A","sources":[{"name":"S","subject_transforms":[{"src":"a.*","dest":""},{"src":"a.b","dest":""}]}]}"#,
        r#"{"name":"A","sources":[{"name":"S","filter_subject":"a","subject_transforms":[{"src":"a","dest":"b"}]}]}"#,
        r#"{"name":"A","sources":[{"name":"S","subject_transforms":[{"src":"a..","dest":"b"}]}]}"#,
        r#"{"name":"A","sources":[{"name":"S","filter_subject":"a..b"}]}"#,
        r#"{"name":"A","sources":[{"name":"S"}],"max_msg_size":10}"#,
        r#"{"name":"A","sources":[{"name":"A"}]}"#,
        r#"{"name":"A","subjects":["a"],"sources":[{"name":"A","filter_subject":"a"}]}"#,
        r#"{"name":"A","sources":[{"name":"S","external":{"api":"$JS.API","deliver":""}}]}"#,
        r#"{"name":"A","sources":[{"name":"S","consumer":{"name":"C","deliver_subject":"d"},"opt_start_seq":5}]}"#,
        r#"{"name":"A","sources":{"name":"S"}}"#,
        r#"{"name":"A","sources":["S"]}"#,
        r#"{"name":"A","sources":[{"name":"S","bogus":1}]}"#,
        r#"{"name":"A","mirror":{"name":5}}"#,
        r#"{"name":"A","mirror":{"name":"S","opt_start_seq":-1}}"#,
        r#"{"name":"A","mirror":{"name":"S","external":"x"}}"#,
        r#"{"name":"A","mirror":["S"]}"#,
    ];
    let asked: Vec<(String, &str)> =
        bodies.iter().map(|body| (format!("STREAM.CREATE.{}", &body[9..10]), *body)).collect();
    let asked: Vec<(&str, &str)> = asked.iter().map(|(operation, body)| (operation.as_str(), *body)).collect();
    compare(&mut both, &asked)
}

#[test]
fn configurations_and_updates_of_origins() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    origins(&mut both)?;
    compare(
        &mut both,
        &[
            ("STREAM.CREATE.M", r#"{"name":"M","mirror":{"name":"S"}}"#),
            ("STREAM.CREATE.M", r#"{"name":"M","mirror":{"name":"S"}}"#),
            ("STREAM.CREATE.M", r#"{"name":"M","mirror":{"name":"T"}}"#),
            ("STREAM.UPDATE.M", r#"{"name":"M","mirror":{"name":"T"}}"#),
            ("STREAM.UPDATE.T", r#"{"name":"T","subjects":["t.>"],"mirror":{"name":"S"}}"#),
            ("STREAM.UPDATE.T", r#"{"name":"T","mirror":{"name":"S"}}"#),
            (
                "STREAM.CREATE.A",
                r#"{"name":"A","subjects":["a"],"sources":[{"name":"S","opt_start_seq":5,"filter_subject":"s.1"}]}"#,
            ),
        ],
    )?;
    filled(&mut both, "A", 4)?;
    compare(
        &mut both,
        &[
            ("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"sources":[{"name":"A"}]}"#),
            ("STREAM.UPDATE.A", r#"{"name":"A","subjects":["a"]}"#),
            ("STREAM.UPDATE.A", r#"{"name":"A","subjects":[]}"#),
            // From here on messages go round.
            ("STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"max_msg_size":1000,"sources":[{"name":"M"}]}"#),
        ],
    )
}

#[test]
fn contents_of_mirrors_and_sources() -> Result<()> {
    let Some(mut both) = Both::start()? else { return Ok(()) };
    origins(&mut both)?;
    both.api("STREAM.MSG.DELETE.S", r#"{"seq":3}"#)?;
    both.api("STREAM.PURGE.S", r#"{"seq":2}"#)?;
    let streams = [
        ("M", r#"{"name":"M","mirror":{"name":"S"}}"#, 18),
        ("F", r#"{"name":"F","mirror":{"name":"S","filter_subject":"s.1"}}"#, 5),
        (
            "P",
            r#"{"name":"P","mirror":{"name":"S","opt_start_seq":11,"subject_transforms":[{"src":"s.*","dest":"p.$1"}]}}"#,
            10,
        ),
        ("A", r#"{"name":"A","subjects":["a"],"sources":[{"name":"S","opt_start_seq":5,"filter_subject":"s.1"}]}"#, 4),
        (
            "B",
            r#"{"name":"B","sources":[{"name":"S","subject_transforms":[{"src":"s.1","dest":"b.1"},{"src":"s.2","dest":""}]}]}"#,
            9,
        ),
    ];
    for (name, config, messages) in streams {
        both.api(&format!("STREAM.CREATE.{name}"), config).ok();
        filled(&mut both, name, messages)?;
        // What is shown of a mirror's filter before it was first asked for differs; nothing else does.
        for sequence in 1..=20 {
            // A source's header ends with the identity of the stream, which is another one.
            let last = format!(r#"{{"seq":{sequence}}}"#);
            both.api_without_end_of_headers(&format!("STREAM.MSG.GET.{name}"), &last)?;
        }
    }
    // A mirror becomes a stream of its own, with what it holds, and stays one.
    both.api("STREAM.UPDATE.M", r#"{"name":"M","subjects":["m"]}"#)?;
    both.ask("m", "published")?;
    both.ask("s.1", "not mirrored")?;
    both.api("STREAM.INFO.M", "")?;
    both.api("STREAM.UPDATE.F", r#"{"name":"F"}"#)?;
    both.ask("F", "published")?;
    both.api("STREAM.UPDATE.F", r#"{"name":"F","mirror":{"name":"S","filter_subject":"s.1"}}"#)?;
    Ok(())
}
