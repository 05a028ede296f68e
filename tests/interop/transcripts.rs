//! Transcripts of somebody at the `nats` command line, against the gateway and against stock nats-server: the same output, apart from moments and
//! addresses.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::peers::{self, Peer};
use harness::program::Finished;
use harness::{Gateway, NatsCli, RawNats, Server, StockHub};
use serde_json::Value;
use tempfile::TempDir;

const CONFIGURATION: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 64MB }
"#;

/// Keys whose values are moments, measurements or what names the server.
const NOT_COMPARED: [&str; 12] = [
    "created",
    "ts",
    "time",
    "last_ts",
    "first_ts",
    "last_active",
    "_nats.ver",
    "cluster",
    "pause_remaining",
    "age",
    "rtt",
    "perf_data",
];

/// How long the two may differ where they are given time.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the command line says when it gave up by itself.
const CANCELED: &str = "nats: error: context canceled";

pub(crate) struct Both {
    servers: [Server; 2],
    pub(crate) clis: [NatsCli; 2],
    /// Where commands of each leave files.
    pub(crate) folders: [TempDir; 2],
}

impl Both {
    pub(crate) fn start() -> Result<Option<Both>> {
        if !peers::available(Peer::NatsServer) || !peers::available(Peer::NatsCli) {
            return Ok(None);
        }
        let servers = [Gateway::start(CONFIGURATION)?, StockHub::start(CONFIGURATION)?];
        let clis = [NatsCli::new(&servers[0].url())?, NatsCli::new(&servers[1].url())?];
        Ok(Some(Both { servers, clis, folders: [tempfile::tempdir()?, tempfile::tempdir()?] }))
    }

    /// Types what a file of `tests/interop/transcripts` says; `#` starts a comment.
    fn play(&self, file: &str) -> Result<()> {
        let path = peers::workspace().join("tests/interop/transcripts").join(file);
        self.transcript(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)
    }

    /// Types the lines one after the other. `!`: it must fail. `~`: what it prints is not compared, only that both succeed. `=`: it is typed
    /// again until both print the same, as what a mirror or a source brings may take some seconds. FOLDER is a folder of each; what is in quotes is one word; what follows ` <<< ` is on standard input.
    pub(crate) fn transcript(&self, lines: &str) -> Result<()> {
        let mut differences = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let command = line.trim_start_matches(['!', '~', '=']);
            let since = Instant::now();
            let (ours, stock) = loop {
                let [ours, stock] = self.each(|side| self.type_line(side, command))?;
                let succeeds = !line.starts_with('!');
                if stock.status.success() != succeeds {
                    differences.push(format!("{line}: stock says {}{}", stock.stdout, stock.stderr));
                }
                let (ours, stock) = (self.normal(&ours, 0), self.normal(&stock, 1));
                if ours == stock || !line.starts_with('=') || since.elapsed() > PATIENCE {
                    break (ours, stock);
                }
                std::thread::sleep(Duration::from_millis(200));
            };
            let alike = if line.trim_start_matches('!').starts_with('~') { ours.0 == stock.0 } else { ours == stock };
            if !alike {
                differences.push(format!(
                    "nats {command}\n--- ours ({})\n{}\n--- stock ({})\n{}",
                    ours.0, ours.1, stock.0, stock.1
                ));
            }
        }
        ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
        Ok(())
    }

    /// Does the same with both at once.
    pub(crate) fn each<T: Send>(&self, act: impl Fn(usize) -> Result<T> + Sync) -> Result<[T; 2]> {
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| act(0));
            let stock = act(1)?;
            Ok([ours.join().map_err(|_| anyhow!("a thread panicked"))??, stock])
        })
    }

    fn type_line(&self, side: usize, line: &str) -> Result<Finished> {
        let line = line.replace("FOLDER", &self.folders[side].path().to_string_lossy());
        let (command, input) = line.split_once(" <<< ").unwrap_or((&line, ""));
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut finished = self.clis[side].run_with_input(&words, input.as_bytes())?;
        // Its client now and then ends the context of an object while it still reads the last piece, whatever the server.
        for _ in 0..2 {
            if finished.status.success() || !finished.stderr.contains(CANCELED) {
                break;
            }
            finished = self.clis[side].run_with_input(&words, input.as_bytes())?;
        }
        Ok(finished)
    }

    /// Exit status, and what was printed.
    fn normal(&self, finished: &Finished, side: usize) -> (bool, String) {
        let url = self.servers[side].url();
        let address = url.trim_start_matches("nats://");
        let text = format!("{}{}", finished.stdout, finished.stderr).replace(address, "ADDRESS");
        let text = text.replace(&*self.folders[side].path().to_string_lossy(), "FOLDER");
        let text = match serde_json::from_str::<Value>(&text) {
            Ok(mut value) => {
                level(&mut value);
                format!("{value:#}")
            }
            Err(_) => text.lines().map(line_without_moments).collect::<Vec<_>>().join("\n"),
        };
        (finished.status.success(), text)
    }
}

/// The words of a line; quotes hold words together and are left out.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

fn level(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !NOT_COMPARED.contains(&key.as_str()));
            object.values_mut().for_each(level);
        }
        Value::Array(values) => values.iter_mut().for_each(level),
        _ => {}
    }
}

/// Words that are moments or short durations, replaced; the width of a table's columns goes with them.
pub(crate) fn line_without_moments(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.chars().all(|letter| "─╭╮╰╯├┤┼┬┴│".contains(letter)));
    let mut kept: Vec<String> = Vec::new();
    for word in words {
        let bare = word.trim_matches(|letter: char| "()[],;".contains(letter));
        let is_date = bare.len() >= 8 && bare.starts_with("20") && bare.matches(['-', ':']).count() >= 2;
        let is_clock = bare.len() >= 8
            && bare.matches(':').count() == 2
            && bare.starts_with(|letter: char| letter.is_ascii_digit());
        if (bare == "ago" || bare == "remaining")
            && let Some(last) = kept.last_mut()
        {
            "WHEN".clone_into(last);
        }
        kept.push(if is_date || is_clock || is_short(bare) { "WHEN".to_owned() } else { word.to_owned() });
    }
    kept.join(" ")
}

/// Less than ten seconds, as Go prints it, possibly behind `key=`; or so many hundredths of a second as only a measurement has.
fn is_short(word: &str) -> bool {
    let word = word.rsplit('=').next().unwrap_or(word);
    let measured = word.contains('.') && !word.ends_with(".00s") && !word.ends_with(".0s");
    let number = ["ns", "µs", "ms", "s"].iter().find_map(|unit| word.strip_suffix(unit)?.parse::<f64>().ok());
    number.is_some_and(|number| {
        !word.ends_with('s')
            || word.ends_with("ms")
            || word.ends_with("ns")
            || word.ends_with("µs")
            || number < 10.0
            || measured
    })
}

#[test]
fn streams() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript(
        "
        stream ls
        !stream info NONE
        stream add ORDERS --subjects orders.> --defaults
        stream add ORDERS --subjects orders.> --defaults
        !stream add ORDERS --subjects orders.* --defaults
        !stream add OTHER --subjects orders.new --defaults
        !stream add bad.name --subjects x.> --defaults
        pub orders.new one --jetstream
        pub orders.new two --jetstream -H Nats-Msg-Id:1
        pub orders.new again --jetstream -H Nats-Msg-Id:1
        pub orders.old three --jetstream -H Unit:C
        pub orders.eu.1 four --jetstream
        stream ls
        stream ls --names
        stream ls --json
        stream ls --subject orders.new
        stream info ORDERS
        stream info ORDERS --json
        stream state ORDERS
        stream subjects ORDERS orders.new
        stream subjects ORDERS --json
        stream subjects ORDERS orders.eu.*
        stream get ORDERS 2
        stream get ORDERS 3 --json
        stream get ORDERS --last-for orders.new
        !stream get ORDERS 99
        stream edit ORDERS --max-msgs 100 --max-age 1h --force
        stream edit ORDERS --description orders --max-msgs-per-subject 2 --force
        !stream edit ORDERS --retention work --force
        stream info ORDERS --json
        stream copy ORDERS COPY --subjects copy.>
        stream info COPY --json
        stream rmm ORDERS 2 --force
        !stream rmm ORDERS 2 --force
        stream info ORDERS --json
        stream purge ORDERS --subject orders.old --force
        stream purge ORDERS --keep 1 --force
        stream purge ORDERS --seq 4 --force
        stream info ORDERS --json
        stream report --raw
        stream find --subject orders.new
        stream find --empty
        stream seal COPY --force
        !pub copy.x no --jetstream
        stream edit COPY --max-msgs 5 --force
        stream rm COPY --force
        stream purge ORDERS --force
        stream rm ORDERS --force
        !stream rm ORDERS --force
        stream ls
        ",
    )
}

#[test]
fn streams_of_all_kinds() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript(
        "
        stream add S1 --subjects s1.> --storage memory --retention interest --defaults
        stream add S2 --subjects s2.> --retention work --max-msgs 10 --discard new --defaults
        stream add S3 --subjects s3.> --max-bytes 1MB --max-msg-size 1KB --max-age 1d --dupe-window 1m --defaults
        stream add S4 --subjects s4.> --max-msgs-per-subject 3 --allow-rollup --deny-delete --allow-direct --defaults
        !stream add S5 --subjects s5.> --deny-purge --allow-rollup --defaults
        stream add S6 --subjects s6.> --republish-source s6.> --republish-destination again.> --defaults
        stream add S7 --subjects s7.> --transform-source s7.> --transform-destination t7.> --defaults
        stream add S8 --subjects s8.> --description eight --metadata k:v --allow-msg-ttl --defaults
        stream add S9 --subjects s9.> --discard-per-subject --discard new --max-msgs-per-subject 1 --defaults
        stream ls
        stream ls --json
        stream report --raw
        pub s3.x x --jetstream
        stream info S3
        stream info S4
        stream info S6
        stream info S7
        stream info S8
        ~account info
        ",
    )
}

#[test]
fn consumers() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript(
        "
        stream add ORDERS --subjects orders.> --defaults
        pub orders.1 one --jetstream
        pub orders.2 two --jetstream
        pub orders.1 three --jetstream
        consumer ls ORDERS
        consumer add ORDERS work --pull --ack explicit --deliver all --defaults
        consumer add ORDERS last --pull --ack none --deliver last --defaults
        consumer add ORDERS some --pull --ack all --deliver 2 --filter orders.1 --max-deliver 5 --max-pending 10 --wait 1m --defaults
        consumer add ORDERS two --pull --filter orders.1 --filter orders.2 --deliver subject --defaults
        consumer add ORDERS slow --pull --backoff linear --backoff-steps 3 --backoff-min 1m --backoff-max 3m --max-deliver 5 --defaults
        consumer add ORDERS push --target to.push --ack explicit --deliver all --heartbeat 30s --flow-control --replay instant --defaults
        !consumer add ORDERS bad.name --pull --defaults
        consumer ls ORDERS
        consumer ls ORDERS --names
        consumer ls ORDERS --json
        consumer info ORDERS work
        consumer info ORDERS some
        consumer info ORDERS slow
        consumer info ORDERS push --json
        !consumer info ORDERS none
        consumer next ORDERS work --ack
        consumer next ORDERS work --no-ack
        consumer next ORDERS some --raw
        consumer next ORDERS two --count 2
        consumer next ORDERS last
        consumer info ORDERS work
        consumer info ORDERS work --json
        consumer info ORDERS some --json
        consumer info ORDERS two --json
        consumer edit ORDERS work --max-deliver 7 --description edited --force
        !consumer edit ORDERS work --ack none --force
        consumer info ORDERS work --json
        consumer copy ORDERS work again --max-pending 3
        consumer info ORDERS again --json
        consumer report ORDERS
        ~consumer pause ORDERS work 1h --force
        consumer resume ORDERS work --force
        consumer info ORDERS work --json
        consumer rm ORDERS push --force
        consumer rm ORDERS work --force
        !consumer rm ORDERS work --force
        consumer find ORDERS --pull
        consumer ls ORDERS
        ",
    )
}

#[test]
fn buckets() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript(
        "
        kv ls
        kv add B --history 3 --ttl 1h --max-value-size 1KB --description bucket
        kv add M --storage memory
        kv ls
        kv ls --names
        kv info B
        kv status B
        kv put B key one
        kv put B key two
        kv create B other x
        !kv create B other y
        kv update B key three 2
        !kv update B key four 2
        kv get B key
        kv get B key --raw
        kv get B key --revision 1
        !kv get B none
        kv history B key
        kv ls B
        kv ls B --verbose
        kv del B other --force
        !kv get B other
        kv history B other
        kv create B other again
        kv purge B other --force
        kv history B other
        kv revert B key 1 --force
        kv compact B --force
        kv ls B
        kv status B
        stream info KV_B --json
        !kv add bad.name
        kv edit B --description changed --history 4
        kv info B
        kv rm B --force
        !kv info B
        kv ls
        ",
    )
}

#[test]
fn objects() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("object");
    std::fs::write(&file, "a line of the object\n".repeat(20_000))?;
    let lines = "
        object ls
        object add O --ttl 1h --description objects
        ~object put O FILE --name text --no-progress --force
        ~object put O FILE --name other --no-progress --force -H A:b
        object ls O
        object ls
        ~object info O
        ~object info O text
        ~object get O text --output FOLDER/back --no-progress --force
        !object info O none
        object rm O other --force
        object ls O
        ~stream info OBJ_O --json
        object seal O --force
        !object put O FILE --name more --no-progress --force
        object rm O --force
        object ls
        ";
    both.transcript(&lines.replace("FILE", &file.display().to_string()))?;
    for folder in &both.folders {
        ensure!(std::fs::read(&file)? == std::fs::read(folder.path().join("back"))?, "the object came back changed");
    }
    Ok(())
}

#[test]
fn checks_and_a_small_benchmark() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.transcript(
        "
        stream add ORDERS --subjects orders.> --defaults
        consumer add ORDERS work --pull --ack explicit --deliver all --defaults
        pub orders.1 one --jetstream
        ~server check connection
        server check jetstream --format json
        !server check stream --stream ORDERS --msgs-warn 1 --msgs-critical 0 --format json
        server check stream --stream ORDERS --msgs-warn 0 --msgs-critical 0 --format json
        !server check stream --stream ORDERS --msgs-warn 5 --msgs-critical 3 --format json
        !server check stream --stream NONE --format json
        server check consumer --stream ORDERS --consumer work --format json
        !server check consumer --stream ORDERS --consumer work --unprocessed-critical 1 --format json
        kv add B
        kv put B key value
        server check kv --bucket B --key key --format json
        !server check kv --bucket B --key none --format json
        server check message --stream ORDERS --subject orders.1 --format json
        ~bench js pub bench.x --create --maxbytes 10MB --msgs 20 --batch 1 --no-progress
        ~bench js pub bench.x --msgs 200 --batch 50 --no-progress
        ~rtt 2
        ",
    )
}

#[test]
fn stream_verbs() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.play("stream_verbs")
}

#[test]
fn stream_flags() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.play("stream_flags")
}

#[test]
fn consumer_verbs() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.play("consumer_verbs")
}

#[test]
fn bucket_verbs() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.play("bucket_verbs")
}

#[test]
fn object_verbs() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    for folder in &both.folders {
        std::fs::write(folder.path().join("file"), "a line of the object\n".repeat(20_000))?;
        std::fs::write(folder.path().join("small"), "small")?;
    }
    both.play("object_verbs")?;
    for folder in &both.folders {
        for (one, other) in [("file", "back"), ("small", "back.small")] {
            let (one, other) = (folder.path().join(one), folder.path().join(other));
            ensure!(std::fs::read(&one)? == std::fs::read(other)?, "{} came back changed", one.display());
        }
    }
    Ok(())
}

#[test]
fn accounts_and_benchmarks() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    both.play("accounts_and_benchmarks")
}

/// What a listening command prints, when something is published once it listens.
fn heard(cli: &NatsCli, server: &Server, listens: &[&str], subject: &str, then: &[&str]) -> Result<(String, String)> {
    let mut command = cli.command(listens);
    let listening = std::thread::spawn(move || command.output());
    let (mut client, _) = RawNats::connect(server.address("nats"))?;
    loop {
        // Nobody hears: the answer says so. Once somebody does, there is none.
        client.send(format!("SUB nobody 9\r\nPUB {subject} nobody 0\r\n\r\nUNSUB 9\r\nPING\r\n"))?;
        let mut listened = true;
        loop {
            let line = client.line()?;
            listened &= !line.starts_with("HMSG nobody 9");
            if line == "PONG" {
                break;
            }
        }
        if listened {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let said = cli.run(then)?.success()?;
    let output = listening.join().map_err(|_| anyhow!("the listening thread panicked"))?.context("listening")?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

#[test]
fn publishing_listening_asking() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    let cases: [(&[&str], &str, &[&str]); 4] = [
        (&["sub", "told.>", "--count", "3"], "told.x", &["pub", "told.y", "news", "--count", "2", "-H", "A:b"]),
        (
            &["sub", "told", "--queue", "q", "--count", "2", "--raw"],
            "told",
            &["pub", "told", "{{Count}}", "--count", "1"],
        ),
        (&["reply", "help", "at your service", "--count", "2"], "help", &["request", "help", "me", "--raw"]),
        (&["reply", "echo", "--echo", "--count", "2"], "echo", &["request", "echo", "me", "--raw"]),
    ];
    for (listens, subject, then) in cases {
        let mut results = Vec::new();
        for (cli, server) in both.clis.iter().zip(&both.servers) {
            let (listened, said) = heard(cli, server, listens, subject, then)?;
            let inbox = |text: String| text.lines().map(without_inbox).collect::<Vec<_>>().join("\n");
            results.push((inbox(listened), inbox(said)));
        }
        ensure!(results[0] == results[1], "nats {}\n{results:#?}", listens.join(" "));
    }
    Ok(())
}

fn without_inbox(line: &str) -> String {
    let words = line.split(' ').map(|word| if word.contains("_INBOX.") { "INBOX" } else { word });
    line_without_moments(&words.collect::<Vec<_>>().join(" "))
}

/// The command line has no verb for these, and its `add` no flag; its plain ones do.
#[test]
fn fast_batches_by_hand() -> Result<()> {
    let Some(both) = Both::start()? else { return Ok(()) };
    let config = r#"{"name":"FAST","subjects":["fast"],"allow_batched":true}"#;
    both.each(|side| both.clis[side].run(&["request", "$JS.API.STREAM.CREATE.FAST", config, "--raw"])?.success())?;
    both.transcript(
        "
        pub fast one --reply in.A.10.fail.1.0.$FI
        pub fast two --reply in.A.10.fail.2.1.$FI
        pub fast three --reply in.A.10.fail.3.2.$FI
        pub fast lost --reply in.A.10.fail.4.1.$FI
        request fast none --raw
        stream get FAST 3
        stream info FAST
        ",
    )
}
