//! Damaged and hostile archives restored by raw requests and by `nats stream restore`: refused with stock's error, and nothing is left. (Stock keeps an
//! empty stream after some of these refusals; it is deleted between the cases.)

use std::fs;
use std::slice::from_ref;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::backups::{Side, sides};

/// What is damaged, and the damaged archive.
type Case = (String, Vec<u8>);

const MAGIC: &[u8] = b"NATSARC1";
const IDENTIFIER: &[u8] = b"\xff\x06\x00\x00S2sTwO";
const END: &[u8] = &[0; 5];
const STATE: &str = r#"{"first_seq":1,"last_seq":2,"msgs":2,"bytes":100,"consumer_count":0}"#;
const META: &[u8] = br#"{"name":"S","subjects":["s.>"],"retention":"limits","storage":"file","num_replicas":1,"created":"2024-01-01T00:00:00Z"}"#;
/// Where bits are flipped, and where archives are cut.
const PLACES: usize = 24;

/// A plain block with its checksum: CRC-32C, masked.
fn frame(kind: u8, content: &[u8], block: &[u8]) -> Vec<u8> {
    let checksum = crc32c::crc32c(block).rotate_right(15).wrapping_add(0xa282_ead8);
    let length = (content.len() + 4) as u32;
    [&[kind][..], &length.to_le_bytes()[..3], &checksum.to_le_bytes(), content].concat()
}

fn framed(plain: &[u8]) -> Vec<u8> {
    plain.chunks(60_000).fold(IDENTIFIER.to_vec(), |all, block| [all, frame(1, block, block)].concat())
}

/// A compressed block of a few bytes that unpacks to these bytes and then so many zeros (65,545 at least): a literal, a copy of its last byte, and one
/// long repetition of that.
fn zeros(prefix: &[u8], count: u32) -> Vec<u8> {
    let literal = [prefix, &[0]].concat();
    let mut content = varint(prefix.len() as u64 + u64::from(count));
    content.extend([60 << 2, (literal.len() - 1) as u8]);
    content.extend(literal);
    content.extend([0b01, 1, 0b01 | 7 << 2, 0]);
    content.extend(&(count - 1 - 4 - 4 - 65_536).to_le_bytes()[..3]);
    frame(0, &content, &[prefix, &vec![0; count as usize]].concat())
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// An entry that says of its name, headers and body what is not so.
fn lying(name: &str, sequence: u64, body: &[u8], sizes: [u64; 3]) -> Vec<u8> {
    let [names, headers, bodies] = sizes.map(varint);
    [names, vec![2], varint(sequence), headers, bodies, name.as_bytes().to_vec(), body.to_vec()].concat()
}

fn entry(name: &str, sequence: u64, body: &str) -> Vec<u8> {
    lying(name, sequence, body.as_bytes(), [name.len() as u64, 0, body.len() as u64])
}

fn archive(state: &str, entries: &[Vec<u8>]) -> Vec<u8> {
    framed(&[MAGIC.to_vec(), entry("state.json", 0, state), entries.concat(), END.to_vec()].concat())
}

/// A file in a tar: its head, and its content filled up to blocks.
fn file(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut head = [0; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000600");
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[136..147].copy_from_slice(b"00000000000");
    head[156] = kind;
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&head[..], content, &vec![0; content.len().next_multiple_of(512) - content.len()]].concat()
}

/// Cut and flipped at places from a seed.
fn struck(whole: &[u8], seed: u64) -> Vec<Case> {
    let mut random = seed;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut cases = Vec::new();
    for at in [1, 4, 10, 11, 14, whole.len() - 1].into_iter().chain((0..PLACES).map(|_| next(whole.len()))) {
        cases.push((format!("cut at {at}"), whole[..at].to_vec()));
    }
    for at in (0..30).chain((0..PLACES).map(|_| next(whole.len())).collect::<Vec<_>>()) {
        let (mut flipped, bit) = (whole.to_vec(), next(8));
        flipped[at] ^= 1 << bit;
        cases.push((format!("bit {bit} of byte {at}"), flipped));
    }
    cases
}

/// Some kilobytes that unpack to 360 MB of messages, more than there is room for.
fn bomb() -> Vec<u8> {
    let begin = [MAGIC, &entry("state.json", 0, STATE)].concat();
    let mut bomb = [IDENTIFIER, &frame(1, &begin, &begin)].concat();
    for sequence in 1..=400 {
        bomb.extend(zeros(&lying("s.1", sequence, b"", [3, 0, 900_000]), 900_000));
    }
    assert!(bomb.len() < 20_000, "{} bytes are no bomb", bomb.len());
    bomb
}

/// Both refuse, in the same words.
fn refused_alike() -> Vec<Case> {
    let (one, two) = (entry("s.1", 1, "one"), entry("s.2", 2, "two"));
    let with = |entries: &[Vec<u8>]| archive(STATE, entries);
    let consumers = |entry: Vec<u8>| {
        archive(&STATE.replace(r#""consumer_count":0"#, r#""consumer_count":1"#), &[entry, one.clone()])
    };
    let parts = |parts: &[&[u8]]| [IDENTIFIER, &parts.concat()].concat();
    let (large, huge) = (2_000_000, 1 << 40);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no archive", b"not an archive".repeat(10)),
        ("text in frames", framed(&b"hello world ".repeat(100))),
        ("another version", framed(&[b"NATSARC2", &entry("state.json", 0, STATE)[..], END].concat())),
        ("a wrong checksum", parts(&[&frame(1, MAGIC, b"something else")])),
        ("a frame that is not known", parts(&[b"\x02\x01\x00\x00a"])),
        ("a frame longer than any", parts(&[b"\x00\xff\xff\xff", &[b'x'; 100]])),
        ("4 GB in 9 bytes", parts(&[b"\x00\x09\x00\x00abcd\xff\xff\xff\xff\x0f"])),
        ("no end", framed(&[MAGIC.to_vec(), entry("state.json", 0, STATE), one.clone(), two.clone()].concat())),
        ("no state", framed(&[MAGIC, &one, &two, END].concat())),
        ("more bytes than there is room for", archive(&STATE.replace("100", "900000000000"), from_ref(&one))),
        ("fewer consumers than said", consumers(two.clone())),
        ("something else than a consumer", consumers(entry("x", 0, "{}"))),
        ("a consumer without anything", consumers(entry("consumers/c", 0, "{}"))),
        (
            "a consumer outside of the folder",
            consumers(entry("consumers/../../x", 0, r#"{"config":{"name":"../../x","ack_policy":"explicit"}}"#)),
        ),
        ("no sequence", with(&[entry("s.1", 0, "one")])),
        ("sequences that go back", with(&[two.clone(), one.clone()])),
        ("a sequence twice", with(&[one.clone(), one.clone()])),
        ("before the first", archive(&STATE.replace(r#""first_seq":1"#, r#""first_seq":2"#), &[one.clone(), two])),
        ("a name longer than what follows", with(&[lying("s.1", 1, b"one", [5000, 0, 3])])),
        ("a name of a terabyte", with(&[lying("s.1", 1, b"one", [huge, 0, 3])])),
        ("a body of a terabyte", with(&[lying("s.1", 1, b"one", [3, 0, huge])])),
        ("a body longer than any number", with(&[lying("s.1", 1, b"one", [3, 0, u64::MAX])])),
        ("headers of a terabyte", with(&[lying("s.1", 1, b"one", [3, huge, 3])])),
        ("a body above the largest message", with(&[entry("s.1", 1, &"y".repeat(large))])),
        ("a number without an end", with(&[vec![0xff; 20]])),
        ("tar: out of the folder", framed(&file("../../../../tmp/evil", b'0', b"x"))),
        (
            "tar: out of it by a detour",
            framed(&[file("meta.inf", b'0', META), file("obs/../../evil", b'0', b"x")].concat()),
        ),
        ("tar: a link", framed(&file("meta.inf", b'2', b""))),
    ];
    cases.into_iter().map(|(what, archive)| (what.to_owned(), archive)).collect()
}

/// Both refuse, each in its own words: those of a JSON reader, and names of temporary files.
fn refused_with_the_same_code() -> Vec<Case> {
    let one = entry("s.1", 1, "one");
    let consumer =
        archive(&STATE.replace(r#""consumer_count":0"#, r#""consumer_count":1"#), &[entry("consumers/c", 0, "{{")]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a state that is no JSON", archive("{{{", from_ref(&one))),
        ("an empty state", archive("", from_ref(&one))),
        ("a state of other types", archive(r#"{"first_seq":"x"}"#, from_ref(&one))),
        ("a negative sequence", archive(&STATE.replace(":1,", ":-1,"), from_ref(&one))),
        ("a state of 100 MB", {
            let begin = [MAGIC, &lying("state.json", 0, b"", [10, 0, 100_000_000])].concat();
            let rest: Vec<u8> = (0..25).flat_map(|at| zeros(if at == 0 { &begin } else { b"" }, 4_000_000)).collect();
            [IDENTIFIER, &rest].concat()
        }),
        ("a consumer that is no JSON", consumer),
        ("a body longer than what follows", archive(STATE, &[lying("s.1", 1, b"one", [3, 0, 5000])])),
        ("tar: empty", framed(&[0; 1024])),
        ("tar: an absolute name", framed(&file("/tmp/evil", b'0', b"x"))),
    ];
    cases.into_iter().map(|(what, archive)| (what.to_owned(), archive)).collect()
}

/// Stock takes these; here every message has a subject that could be published on, and headers that are some, and a block that is none is damaged.
fn refused_here_only() -> Vec<Case> {
    let named = |name: &str| archive(STATE, &[entry(name, 1, "one"), entry("s.2", 2, "two")]);
    let headed = lying("s.1", 1, b"nonsenseone", [3, 8, 3]);
    let block = [file("meta.inf", b'0', META), file("msgs/1.blk", b'0', &[0; 500])];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a wildcard", named("s.*")),
        ("an empty word", named("s..1")),
        ("a line end", named("s. 1\r\n")),
        ("a path", named("../../../etc/x")),
        ("no subject", named("")),
        ("a long subject", named(&format!("s.{}", "x".repeat(70_000)))),
        ("headers that are none", archive(STATE, &[headed])),
        ("tar: a block of nothing", framed(&[block.concat(), vec![0; 1024]].concat())),
    ];
    cases.into_iter().map(|(what, archive)| (what.to_owned(), archive)).collect()
}

/// What is said to the end of an archive, restored under that name.
fn restore(side: &mut Side, name: &str, archive: &[u8]) -> Result<Value> {
    let body = format!(r#"{{"config":{{"name":"{name}","subjects":["{name}.>"]}},"state":{{}}}}"#);
    let begun = side.api(&format!("STREAM.RESTORE.{name}"), &body)?;
    let subject = begun["deliver_subject"].as_str().with_context(|| begun.to_string())?.to_owned();
    for piece in archive.chunks(65_536) {
        let answer = side.client.request(&subject, piece)?;
        if !answer.payload.is_empty() {
            return Ok(serde_json::from_slice(&answer.payload)?);
        }
    }
    Ok(serde_json::from_slice(&side.client.request(&subject, b"")?.payload)?)
}

fn nothing_is_left(ours: &mut Side, what: &str) -> Result<()> {
    let info = ours.api("INFO", "")?;
    let is_clean = ["streams", "consumers", "storage", "memory"].iter().all(|key| info[key] == 0);
    ensure!(is_clean && ours.api("STREAM.NAMES", "")?["total"] == 0, "{what}: {info}");
    Ok(())
}

/// What both say; `number` makes the stream another one.
fn both_say(ours: &mut Side, stock: &mut Side, number: usize, (what, archive): &Case) -> Result<[Value; 2]> {
    // A tar has the name within.
    let fixed = what.starts_with("tar");
    let name = |attempt: usize| if fixed { "S".to_owned() } else { format!("S{number}-{attempt}") };
    let mut said = restore(ours, &name(0), archive).with_context(|| what.clone())?;
    ensure!(said["error"]["err_code"].as_u64() > Some(10_000), "{what}: taken: {said}");
    nothing_is_left(ours, what)?;
    for attempt in 0..10 {
        // What stock has left of a stream is in the way of the next one for a moment, after it was deleted too.
        let mut expected = restore(stock, &name(attempt), archive).with_context(|| what.clone())?;
        stock.api(&format!("STREAM.DELETE.{}", name(attempt)), "")?;
        let text = expected["error"]["description"].as_str().unwrap_or_default();
        // A piece that comes in the moment in which stock gives up is answered so, whatever was wrong.
        if !text.contains("closed pipe") {
            return Ok([said["error"].take(), expected["error"].take()]);
        }
    }
    bail!("{what}: stock does not say what is wrong")
}

/// Highest resident memory so far, bytes.
fn peak_memory(side: &Side) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", side.server.pid().context("not running")?))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
}

#[test]
fn archives_that_were_struck_are_refused_as_stock_does() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    for (which, seed) in [(0, 1), (1, 2)] {
        let side = if which == 0 { &mut ours } else { &mut stock };
        side.fill()?;
        let folder = side.server.folder().join("backup");
        side.cli.run(&["stream", "backup", "S", folder.to_str().context("a path")?, "--no-progress"])?.success()?;
        side.done("STREAM.DELETE.S", "")?;
        let whole = fs::read(folder.join("stream.tar.s2"))?;
        for (number, case) in struck(&whole, seed).iter().enumerate() {
            let [said, expected] = both_say(&mut ours, &mut stock, which * 1000 + number, case)?;
            ensure!(said == expected, "{} of {which}\n ours:  {said}\n stock: {expected}", case.0);
        }
        for side in [&mut ours, &mut stock] {
            let whole = restore(side, "WHOLE", &whole)?;
            ensure!(whole["state"]["last_seq"] == 3000, "{whole}");
            side.done("STREAM.DELETE.WHOLE", "")?;
        }
    }
    Ok(())
}

#[test]
fn hostile_archives_are_refused_as_stock_does() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    let sound = archive(STATE, &[entry("s.1", 1, "one"), entry("s.2", 2, "two")]);
    for side in [&mut ours, &mut stock] {
        let taken = restore(side, "SOUND", &sound)?;
        ensure!(taken["state"]["messages"] == 2, "what the others are made from: {taken}");
        side.done("STREAM.DELETE.SOUND", "")?;
    }
    let before = peak_memory(&ours)?;
    for (number, case) in refused_alike().iter().enumerate() {
        let [said, expected] = both_say(&mut ours, &mut stock, number, case)?;
        ensure!(said == expected, "{}\n ours:  {said}\n stock: {expected}", case.0);
    }
    for (number, case) in refused_with_the_same_code().iter().enumerate() {
        let [said, expected] = both_say(&mut ours, &mut stock, 100 + number, case)?;
        let [said, expected] = [said, expected].map(|error| error["err_code"].clone());
        ensure!(said == expected, "{}\n ours:  {said}\n stock: {expected}", case.0);
    }
    for (number, case) in refused_here_only().iter().enumerate() {
        let [said, _] = both_say(&mut ours, &mut stock, 200 + number, case)?;
        ensure!(said["err_code"] == 10062, "{}: {said}", case.0);
    }
    // Stock unpacks it as far as there is room, and keeps that.
    let said = restore(&mut ours, "BOMB", &bomb())?;
    assert_eq!(said["error"]["err_code"], 10047, "{said}");
    nothing_is_left(&mut ours, "a bomb")?;
    let grown = peak_memory(&ours)?.saturating_sub(before);
    ensure!(grown < 24 << 20, "{grown} bytes more for archives that unpack to hundreds of megabytes");
    Ok(())
}

#[test]
fn the_command_line_is_told_of_damage() -> Result<()> {
    let Some((mut ours, mut stock)) = sides()? else { return Ok(()) };
    ours.fill()?;
    let folder = ours.server.folder().join("backup");
    let path = folder.to_str().context("a path")?;
    ours.cli.run(&["stream", "backup", "S", path, "--no-progress"])?.success()?;
    ours.done("STREAM.DELETE.S", "")?;
    let file = folder.join("stream.tar.s2");
    let whole = fs::read(&file)?;
    let mut flipped = whole.clone();
    flipped[1000] ^= 4;
    for damaged in [&whole[..1000], &flipped, &whole[..10], b"", b"something else"] {
        fs::write(&file, damaged)?;
        let mut told = Vec::new();
        for side in [&mut ours, &mut stock] {
            let end = side.cli.run(&["stream", "restore", path, "--no-progress"])?;
            ensure!(!end.status.success(), "taken: {}", end.stdout);
            let error = end.stderr.lines().find(|line| line.starts_with("nats: error"));
            told.push(error.with_context(|| end.stderr.clone())?.to_owned());
        }
        ensure!(told[0] == told[1], "ours and stock: {told:#?}");
        nothing_is_left(&mut ours, &told[0])?;
        stock.api("STREAM.DELETE.S", "")?;
    }
    fs::write(&file, &whole)?;
    for side in [&mut ours, &mut stock] {
        side.cli.run(&["stream", "restore", path, "--no-progress"])?.success()?;
        ensure!(side.done("STREAM.INFO.S", "")?["state"]["last_seq"] == 3000, "not whole");
    }
    Ok(())
}
