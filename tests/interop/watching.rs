//! Commands of the `nats` tool that stay: watches, events, a served service. What they print of what happens meanwhile is the same against the
//! gateway and against stock nats-server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::NatsCli;

use crate::transcripts::{Both, line_without_moments};

/// For the line that is waited for; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two attempts to make something happen.
const PAUSE: Duration = Duration::from_millis(100);

/// A command that goes on until it is dropped.
struct Staying(Child);

impl Staying {
    fn start(cli: &NatsCli, words: &[&str]) -> Result<Staying> {
        let mut command = cli.command(words);
        Ok(Staying(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Types `then` until the staying command prints a line with `marker`, and gives that line.
fn seen(cli: &NatsCli, stays: &[&str], marker: &str, then: &[&str]) -> Result<String> {
    let mut staying = Staying::start(cli, stays)?;
    let output = BufReader::new(staying.0.stdout.take().context("no output")?);
    let (sender, lines) = mpsc::channel();
    let reading =
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let deadline = Instant::now() + LIMIT;
    let found = 'found: loop {
        cli.run(then)?.success()?;
        let again = Instant::now() + PAUSE;
        while let Ok(line) = lines.recv_timeout(again.saturating_duration_since(Instant::now())) {
            if line.contains(marker) {
                break 'found line;
            }
        }
        ensure!(Instant::now() < deadline, "nats {}: no {marker:?} in time", stays.join(" "));
    };
    drop(staying);
    drop(lines);
    // It ends with the process, because it can't be told to anyone any more or because there is no more.
    let _ = reading.join();
    Ok(line_without_moments(&found))
}

/// Both print the same line.
fn same(both: &Both, stays: &str, marker: &str, then: &str) -> Result<()> {
    let [stays, then] = [stays, then].map(|line| line.split(' ').collect::<Vec<_>>());
    let [ours, stock] = both.each(|side| seen(&both.clis[side], &stays, marker, &then))?;
    ensure!(ours == stock, "nats {}\nours:  {ours}\nstock: {stock}", stays.join(" "));
    Ok(())
}

#[test]
fn watches() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript("kv add B --history 5\nkv put B first 1\nobject add O\nstream add S --subjects s.> --defaults\nconsumer add S push --target to.s --ack explicit --deliver all --defaults")?;
    same(&both, "kv watch B", "> first", "kv ls B")?;
    same(&both, "kv watch B --updates", "> later", "kv put B later value")?;
    same(&both, "kv watch B key.> --history", "> key.gone", "kv del B key.gone --force")?;
    for folder in &both.folders {
        std::fs::write(folder.path().join("file"), "content")?;
    }
    let file = both.folders[0].path().join("file").display().to_string();
    same(&both, "object watch O", "PUT O >", &format!("object put O {file} --name named --force --no-progress"))?;
    same(&both, "object watch O", "DEL", "object del O named --force")?;
    Ok(())
}

#[test]
fn events() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript("stream add S --subjects s.> --defaults")?;
    let listens = "events --js-advisory --short --no-srv-advisory";
    same(&both, listens, "STREAM.PURGE.S", "stream purge S --force")?;
    same(&both, listens, "STREAM.INFO.S", "stream info S --json")
}

#[test]
fn a_served_service() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    let serving = both.each(|side| {
        let cli = &both.clis[side];
        let staying = Staying::start(cli, &["service", "serve", "adder"])?;
        let deadline = Instant::now() + LIMIT;
        while !cli.run(&["service", "ls"])?.status.success() {
            ensure!(Instant::now() < deadline, "the service does not come up");
        }
        Ok(staying)
    })?;
    both.transcript(
        "
        request adder.echo hello --raw
        ~service ls
        ~service ls --json
        ~service info adder
        ~service stats adder
        ~service stats adder --json
        !service info other
        server check request --subject adder.echo --payload hello --match-payload hello --format json
        ~request other.echo hello
        ",
    )?;
    let pings = both.each(|side| seen(&both.clis[side], &["service", "ping"], "rtt=", &["service", "ls"]))?;
    ensure!(pings.iter().all(|line| line.starts_with("adder ")), "{pings:?}");
    drop(serving);
    both.transcript("!service ls\n~request adder.echo hello")
}
