//! The command line in all its spellings.

use super::*;

fn parse(line: &str) -> Result<Invocation, Exit> {
    Invocation::parse(line.split_whitespace().map(str::to_owned))
}

fn options(line: &str) -> Options {
    parse(line).unwrap().options
}

#[test]
fn every_spelling_of_go_is_one_flag() {
    for line in ["-p 4333", "--p 4333", "-port=4333", "--port 4333", "-p=4333"] {
        assert_eq!(options(line).port, Some(4333), "{line}");
    }
    assert_eq!(options("-p -1 -a 127.0.0.1").port, Some(-1));
    let all = options("-DV -js -sd /tmp/x -T=false -m 8222 -c f.conf -P pid -n S1 -tlsverify");
    assert_eq!((all.debug, all.trace, all.jetstream, all.logtime), (Some(true), Some(true), Some(true), Some(false)));
    assert_eq!((all.store_dir.as_deref(), all.config.as_deref()), (Some("/tmp/x"), Some("f.conf")));
    assert_eq!((all.name.as_deref(), all.pid.as_deref(), all.tlsverify), (Some("S1"), Some("pid"), Some(true)));
    assert!(options("-t -c x").check);
    assert!(!options("-t=false").check);
}

#[test]
fn the_file_may_be_named_on_either_side_of_a_subcommand() {
    for line in
        ["-c f.conf store check", "store check -c f.conf", "store check --config=f.conf", "store -c f.conf check"]
    {
        assert_eq!(options(line).config.as_deref(), Some("f.conf"), "{line}");
        assert_eq!(parse(line).unwrap().task, Task::StoreCheck { json: false, store_dir: None }, "{line}");
    }
}

#[test]
fn version_is_exactly_the_compatible_one() {
    for line in ["-v", "--version", "-version", "-p 1 -v"] {
        assert_eq!(parse(line), Err(Exit { code: 0, text: "nats-server: v2.15.1".to_owned() }), "{line}");
    }
    assert_eq!(parse("version").unwrap().task, Task::Version);
}

fn check_exit(line: &str, code: u8, text: &str) {
    let exit = parse(line).unwrap_err();
    assert_eq!(exit.code, code, "{line}: {}", exit.text);
    assert!(exit.text.starts_with(text), "{line}: {}", exit.text);
}

#[test]
fn wrong_lines_say_so() {
    check_exit("-bogus", 2, "flag provided but not defined: -bogus");
    check_exit("-p", 2, "flag needs an argument: -p");
    check_exit("-p x", 2, "error: invalid value 'x' for '--port");
    check_exit("-js=maybe", 2, "invalid boolean value \"maybe\" for -js");
    check_exit("-js true", 1, "nats-server: unrecognized command: \"true\"");
    check_exit("extra", 1, "nats-server: unrecognized command: \"extra\"");
    check_exit("-cluster nats://h:6222", 1, "nats-server: flag -cluster is not supported");
    check_exit("-sl odd", 1, "nats-server: unknown signal \"odd\"");
    check_exit("status --bogus", 2, "error: unexpected argument '--bogus'");
}

#[test]
fn help_goes_out_with_zero() {
    for line in ["-h", "--help", "help"] {
        let exit = parse(line).unwrap_err();
        assert_eq!(exit.code, 0);
        assert!(exit.text.contains("--store_dir") && exit.text.contains("status"), "{}", exit.text);
    }
    assert!(parse("-help_tls").unwrap_err().text.contains("tlscert"));
}

#[test]
fn our_own_commands() {
    let status = Task::Status { json: true, store_dir: Some("/d".to_owned()) };
    assert_eq!(parse("status --json --store-dir /d").unwrap().task, status);
    assert_eq!(parse("store check").unwrap().task, Task::StoreCheck { json: false, store_dir: None });
    let export = Task::StoreExport { store_dir: None, stream: "S".to_owned(), output: Some("f".to_owned()), from: 1 };
    assert_eq!(parse("store export S f").unwrap().task, export);
    let export = Task::StoreExport { store_dir: None, stream: "S".to_owned(), output: None, from: 9 };
    assert_eq!(parse("store export --json --from 9 S").unwrap().task, export);
    let adopt = Task::ForwardAdopt { json: false, store_dir: None, stream: "S".to_owned() };
    assert_eq!(parse("forward adopt S").unwrap().task, adopt);
    let signal = Signal { kind: SignalKind::LameDuck, target: Some("12".to_owned()) };
    assert_eq!(parse("--signal ldm=12").unwrap().task, Task::Signal(signal));
}

#[test]
fn cluster_flags_without_meaning_here_are_taken() {
    assert_eq!(options("-cluster_name X -no_advertise -connect_retries 3 -p 1").port, Some(1));
}
