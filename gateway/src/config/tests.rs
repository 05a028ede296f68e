//! Configuration files: what they become, and what is wrong with them where.

use std::path::Path;
use std::time::Duration;

use ::jetstream::config::{ExternalStream, Source};
use tempfile::TempDir;

use super::*;
use crate::arguments::Invocation;

/// Reads a configuration from a file called `F`; `$STATE_DIRECTORY` is `/state`.
fn load_text(text: &str) -> Result<Loaded, String> {
    load_with(text, "")
}

fn load_with(text: &str, flags: &str) -> Result<Loaded, String> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("F");
    std::fs::write(&file, text).unwrap();
    let words = ["-c".to_owned(), file.display().to_string()].into_iter();
    let options = Invocation::parse(words.chain(flags.split_whitespace().map(str::to_owned))).unwrap().options;
    let prefix = format!("{}/", folder.path().display());
    load(&options, &environment).map_err(|error| error.to_string().replace(&prefix, ""))
}

fn environment(name: &str) -> Option<String> {
    (name == "STATE_DIRECTORY").then(|| "/state:/other".to_owned())
}

fn config(text: &str) -> Config {
    load_text(text).unwrap().config
}

/// The configuration is refused with these lines.
fn check_refused(text: &str, expected: &str) {
    let error = load_text(text).map(|loaded| loaded.config).unwrap_err();
    assert_eq!(error, expected, "for {text}");
}

#[test]
fn the_sample_file_is_valid_and_says_the_defaults() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/edge-gateway.conf");
    let loaded = load_text(&std::fs::read_to_string(sample).unwrap()).unwrap();
    assert!(loaded.report.warnings.is_empty() && loaded.report.notices.is_empty(), "{:?}", loaded.report);
    let config = loaded.config;
    assert_eq!(config.uplink, Uplink::default());
    assert_eq!(config.memory, MemoryLimits::default());
    assert_eq!(config.mqtt_limits, MqttLimits::default());
    assert_eq!(config.jetstream.unwrap().domain.as_deref(), Some("edge-1"));
    let forward = &config.forwards[0];
    assert_eq!(
        (forward.stream.as_str(), forward.to.as_str(), forward.filter.as_str()),
        ("SENSORS", "FLEET", "edge-1.>")
    );
    assert_eq!(forward.hold, Duration::from_secs(180));
    assert_eq!((forward.batch, forward.reject_oversize), (::forward::Batch::default(), false));
    assert_eq!(config.streams[0].consumers[0].filter_subjects, ["sensors.*.temperature"]);
}

#[test]
fn without_configuration_everything_is_on_loopback() {
    let loaded = load(&Invocation::parse([]).unwrap().options, &environment).unwrap();
    let config = loaded.config;
    let listeners = [
        config.client.listen,
        config.mqtt.unwrap().listen,
        config.websocket.unwrap().listen,
        config.monitoring.unwrap().listen,
    ];
    assert_eq!(
        listeners.map(|listen| listen.to_string()),
        ["127.0.0.1:4222", "127.0.0.1:1883", "127.0.0.1:8080", "127.0.0.1:8222"]
    );
    assert_eq!(config.jetstream.unwrap().store_dir, Path::new("/state"));
    assert!(config.from_nothing);
}

#[test]
fn flags_alone_mean_what_they_mean_to_stock() {
    let options = Invocation::parse(["-p", "-1", "-js", "-sd", "/tmp/x"].map(str::to_owned)).unwrap().options;
    let config = load(&options, &environment).unwrap().config;
    assert_eq!(config.client.listen, Listen::new("0.0.0.0", 0));
    assert!(config.mqtt.is_none() && config.websocket.is_none() && config.monitoring.is_none());
    assert_eq!(config.jetstream.unwrap().store_dir, Path::new("/tmp/x"));
}

/// All that stock knows of limits is taken; what concerns a cluster has no effect, and that is said.
#[test]
fn limits_of_requests_and_batches() {
    let text = "jetstream { store_dir: \"/s\", limits {
        max_ack_pending: 9, max_request_batch: 7, duplicate_window: \"60s\", max_ha_assets: 5
        batch { max_inflight_per_stream: 3, max_inflight_total: 4, max_msgs: 5, timeout: \"2s\" } } }";
    let loaded = load_text(text).unwrap();
    let limits = loaded.config.jetstream.unwrap().limits;
    assert_eq!((limits.max_ack_pending, limits.max_request_batch), (Some(9), Some(7)));
    let batches = limits.batches;
    assert_eq!((batches.of_stream, batches.total, batches.messages), (Some(3), Some(4), Some(5)));
    assert_eq!(batches.timeout, Some(Duration::from_secs(2)));
    assert_eq!(loaded.report.notices.len(), 1, "there is no cluster here, and that is said");
    assert!(load_text("jetstream { store_dir: \"/s\", limits { batch { max_msgs: many } } }").is_err());
    let none = load_text("jetstream { store_dir: \"/s\", limits { batch { max_msgs: -1 } } }").unwrap();
    assert_eq!(none.config.jetstream.unwrap().limits.batches.messages, None);
}

#[test]
fn flags_override_the_file() {
    let flags = "-p -1 -n S2 -m 9000 --user a --pass b -DV -sd /other -js";
    let config =
        load_with("listen: h:4222, server_name: S1, debug: false, authorization { token: t }", flags).unwrap().config;
    assert_eq!(config.client.listen, Listen::new("h", 0));
    assert_eq!(config.monitoring.unwrap().listen, Listen::new("h", 9000));
    assert_eq!(config.server_name.as_deref(), Some("S2"));
    assert!(config.log.debug && config.log.trace);
    assert!(matches!(&config.authorization.credentials, Credentials::Users(users) if users[0].name == "a"));
    assert_eq!(config.jetstream.unwrap().store_dir, Path::new("/other"));
}

#[test]
fn what_tools_put_into_every_file_is_taken() {
    let text = "port: -1, http: 127.0.0.1:-1, server_tags: [\"a \", b], ports_file_dir: \"/tmp\"
        leafnodes { port: -1 }, websocket { port: -1, no_tls: true }, server_name: x";
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.config.server_tags, ["a", "b"]);
    assert_eq!(loaded.config.websocket.unwrap().listen.port, 0);
    assert_eq!(loaded.config.monitoring.unwrap().listen, Listen::new("127.0.0.1", 0));
    assert_eq!(loaded.report.notices.len(), 1, "the leafnode port is not opened, and that is said");
}

#[test]
fn unknown_keys_and_those_we_lack_are_told_apart() {
    check_refused(
        "port: 1\nbogus: 1\ncluster { port: 6222 }\njetstream { key: x, odd: 2 }\naccounts { A {} }\nmqtt { what: 1 }",
        "F:2:1: unknown field \"bogus\"\nF:3:1: field \"cluster\" is not supported\n\
         F:4:13: field \"key\" is not supported\nF:4:21: unknown field \"odd\"\nF:5:1: field \"accounts\" is not supported\n\
         F:6:8: unknown field \"what\"",
    );
    check_refused("leafnodes { port: 7422 }", "F:1:1: leafnodes: accepting leaf links (listen, port) is not supported");
    check_refused(
        "https: h:1\nsyslog: true",
        "F:1:1: field \"https\" is not supported\nF:2:1: field \"syslog\" is not supported",
    );
    assert!(load_text("syslog: false").is_ok());
}

#[test]
fn parse_errors_keep_the_words_tools_look_for() {
    check_refused(
        "a: {\n  b: 1\n  c: 2 p: 3\n}",
        "F:3:8: Parse error on line 3: 'Expected a map value terminator \",\" or a map terminator \"}\", but got 'p' instead.'",
    );
    let missing = Options { config: Some("/no/such/file".to_owned()), ..Options::default() };
    let error = load(&missing, &environment).unwrap_err().to_string();
    assert_eq!(error, "open /no/such/file: no such file or directory");
    check_refused(
        "include x.conf",
        "F:1:9: error parsing include file 'x.conf', open x.conf: no such file or directory",
    );
}

/// Measured with nats-server 2.15.1 `-t`: the same file, the same digest.
#[test]
fn the_digest_is_stocks() {
    let text = r#"# stock and ours
server_name: "S<1>&\x41\xc3\xa9" , port: -1; PORTV: 1k
http: "127.0.0.1:-1"
max_payload 2MB
max_pending = 64mib
server_tags: [ 'a:b'
  c, "d" ]
jetstream { max_file: $PORTV, domain: x }
authorization { user: u, pass: $2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG, timeout: 1.5 }
"#;
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.config.digest, "sha256:33bcf684a4e7381b6d448990429132e90528871824f80c37e678442d1e78cfa1");
    let empty = load_text("# nothing").unwrap();
    assert_eq!(empty.report.warnings[0].text, "config has no values or is empty");
}

#[test]
fn includes_are_relative_to_their_file() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    std::fs::write(folder.path().join("F"), "include 'conf.d/a.conf'\nport: 2").unwrap();
    std::fs::write(folder.path().join("conf.d/a.conf"), "include b.conf").unwrap();
    std::fs::write(folder.path().join("conf.d/b.conf"), "server_name: deep").unwrap();
    let file = Some(folder.path().join("F").display().to_string());
    let loaded = load(&Options { config: file, ..Options::default() }, &environment).unwrap();
    assert_eq!(loaded.config.server_name.as_deref(), Some("deep"));
}

#[test]
fn conflicts_between_options_have_stocks_texts() {
    check_refused("no_auth_user: x", "no_auth_user: \"x\" present, but users/nkeys are not defined");
    check_refused("websocket { port: -1 }", "websocket requires TLS configuration");
    check_refused(
        "max_payload: 2MB, max_pending: 1MB",
        "max_payload (2097152) cannot be higher than max_pending (1048576)",
    );
    check_refused("jetstream: false, mqtt {}", "mqtt requires JetStream to be enabled");
    check_refused(
        "lame_duck_grace_period: \"3m\"",
        "lame duck grace period (3m0s) should be strictly lower than lame duck duration (2m0s)",
    );
    check_refused("lame_duck_duration: \"20s\"", "F:1:1: invalid lame_duck_duration of 20s, minimum is 30 seconds");
    check_refused("port: 1883, mqtt {}", "client and mqtt cannot both listen on 0.0.0.0:1883");
    check_refused(
        "leafnodes { remotes [ { url: h:7422, account: A } ] }",
        "F:1:38: cannot find local account \"A\" specified in leafnode remote",
    );
}

#[test]
fn authorization_in_its_forms() {
    let bcrypt = "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG";
    let text = format!(
        "authorization {{ timeout: 0.5, default_permissions {{ sub: x }}
            users: [ {{ user: a, pass: {bcrypt} }}
                     {{ username: b, password: \"p\", permissions {{ publish: {{ deny: [\"z.>\"] }}, subscribe: \"s q\", allow_responses: true }} }} ] }}
         no_auth_user: a"
    );
    let loaded = load_text(&text).unwrap();
    let Credentials::Users(users) = &loaded.config.authorization.credentials else { panic!("users expected") };
    assert!(matches!(users[0].password, Password::Bcrypt(_)) && matches!(users[1].password, Password::Plain(_)));
    assert_eq!(users[0].permissions.as_ref().unwrap().subscribe.allow, Some(vec!["x".to_owned()]));
    assert_eq!(users[1].permissions.as_ref().unwrap().publish.deny, ["z.>"]);
    assert_eq!(users[1].permissions.as_ref().unwrap().allow_responses.as_ref().unwrap().max_messages, Some(1));
    assert_eq!(loaded.config.authorization.timeout(), Duration::from_millis(500));
    assert!(loaded.report.notices.is_empty(), "{:?}", loaded.report.notices);
    let nothing = load_text("authorization { users: [ { user: a, permissions { publish: [] } } ] }").unwrap();
    assert!(nothing.report.notices[0].text.contains("an empty list allows nothing"));
    assert!(!format!("{:?}", loaded.config).contains("W2zko"), "secrets are not shown");
    check_refused("authorization { users: [ {user: a}, {user: a} ] }", "F:1:37: Duplicate user \"a\" detected");
    check_refused("authorization { users: [ { nkey: U } ] }", "F:1:28: field \"nkey\" is not supported");
    check_refused(
        "authorization { user: a, password: 1 }",
        "F:1:26: field \"password\": expected a string (put it in double quotes), but got 1",
    );
    check_refused("authorization { user: a, pass: b, token: c }", "F:1:1: Cannot have a user/pass and token");
}

#[test]
fn streams_take_messages_from_others() {
    let text = "streams { M { mirror { name: A, domain: hub } }
        S { subjects: s, sources: [ { name: A, filter_subject: a.*, opt_start_seq: 5 }, { name: B, external { api: x.API, deliver: d } } ] } }";
    let streams = config(text).streams;
    let external = |api: &str, deliver: &str| Some(ExternalStream { api: api.into(), deliver: deliver.into() });
    let mirror = Source { name: "A".into(), external: external("$JS.hub.API", ""), ..Source::default() };
    assert_eq!(streams[0].origins.mirror, Some(mirror));
    assert!(streams[0].subjects.is_empty() && streams[0].duplicate_window.is_zero());
    let filtered = Source { name: "A".into(), filter: "a.*".into(), start_sequence: 5, ..Source::default() };
    let elsewhere = Source { name: "B".into(), external: external("x.API", "d"), ..Source::default() };
    assert_eq!(streams[1].origins.sources, [filtered, elsewhere]);
    assert_eq!(streams[1].subjects, ["s"]);
}

#[test]
fn what_is_open_to_everybody_is_known() {
    let names = |text: &str| -> Vec<&str> { config(text).open_to_everybody().iter().map(|(name, _)| *name).collect() };
    assert_eq!(names("mqtt { host: \"::1\" }, websocket { no_tls: true }"), ["client", "websocket"]);
    assert_eq!(names("host: localhost, mqtt { authorization { token: t } }"), [""; 0]);
    assert_eq!(names("authorization { token: t }, mqtt {}"), [""; 0]);
}

#[test]
fn files_are_looked_for_when_the_configuration_is_read() {
    check_refused(
        "tls { cert_file: /no/cert, key_file: /no/key }",
        "F:1:7: field \"cert_file\": open /no/cert: no such file or directory\n\
         F:1:28: field \"key_file\": open /no/key: no such file or directory",
    );
    check_refused(
        "tls { verify: true }",
        "F:1:1: missing 'cert_file' in TLS configuration\nF:1:1: missing 'key_file' in TLS configuration",
    );
    check_refused(
        "leafnodes { remotes [ { url: h:7422, creds: /no/creds } ] }",
        "F:1:38: field \"creds\": open /no/creds: no such file or directory",
    );
}

#[test]
fn remotes() {
    let text = "leafnodes { reconnect: 3, dial_timeout: \"4s\", remotes = [
        { urls: [\"tls://u:p@a:7422\", \"nats-leaf://b\"], deny_imports: \"x.>\", no_randomize: true, compression: s2_auto,
          tls { insecure: true, handshake_first: true } }
        { url: \"wss://c/leafnode\", disabled: true } ] }";
    let loaded = load_text(text).unwrap();
    let leafnodes = loaded.config.leafnodes;
    assert_eq!(leafnodes.remotes.len(), 1);
    assert_eq!(leafnodes.reconnect, Some(Duration::from_secs(3)));
    let remote = &leafnodes.remotes[0];
    assert_eq!(remote.urls[0].reveal(), "tls://u:p@a:7422");
    assert_eq!((remote.dial_timeout, remote.no_randomize), (Some(Duration::from_secs(4)), true));
    assert!(remote.tls.as_ref().unwrap().handshake_first && remote.tls.as_ref().unwrap().insecure);
    assert_eq!(loaded.report.notices.len(), 2, "compression is declined, the certificate is not checked");
    check_refused(
        "leafnodes { remotes [ { url: \"http://a\" }, { urls: [] }, { urls: [\"ws://a\", \"tls://b\"] }, { hub: true, url: a } ] }",
        "F:1:25: leafnode remote: unknown scheme \"http\", expected one of nats-leaf, nats, tls, ws, wss\n\
         F:1:46: a leafnode remote needs at least one URL\n\
         F:1:60: remote leaf node configuration cannot have a mix of websocket and non-websocket urls\n\
         F:1:93: field \"hub\" is not supported: a gateway is never the hub of a link that it dials",
    );
    check_refused(
        "leafnodes { remotes [ { url: \"a:1\" }, { url: \"a:1\" } ] }",
        "F:1:39: leafnode remote: another remote goes to the same hub as the same user",
    );
}

#[test]
fn streams_and_consumers() {
    let text = "streams { S { retention: interest, storage: memory, max_msgs: 10, max_age: \"1m\", discard: new, metadata { owner: me }
        consumers { C { ack_policy: all, backoff: [\"1s\", \"5s\"], max_deliver: 3, deliver_policy: by_start_sequence, opt_start_seq: 5 } } } }";
    let config = config(text);
    let stream = &config.streams[0];
    assert_eq!((stream.subjects.as_slice(), stream.discard), (["S".to_owned()].as_slice(), Discard::New));
    assert_eq!((stream.retention, stream.storage), (Retention::Interest, Storage::Memory));
    assert_eq!(stream.duplicate_window, Duration::from_secs(60), "never longer than the messages live");
    assert_eq!(stream.consumers[0].deliver_policy, DeliverPolicy::FromSequence(5));
    assert!(config.jetstream.is_some(), "a declared stream needs JetStream, and nobody said no");
    let text = "streams { S { subjects: s.*, allow_msg_ttl: true, subject_transform { src: s.*, dest: \"t.$1\" }, republish { dest: u.>, headers_only: true } } }";
    let stream = &self::config(text).streams[0];
    let mapping = |source: &str, destination: &str, headers_only| {
        Some(Mapping { source: source.into(), destination: destination.into(), headers_only })
    };
    assert_eq!(stream.subject_transform, mapping("s.*", "t.$1", false));
    assert_eq!((&stream.republish, stream.allow_message_ttl), (&mapping(">", "u.>", true), true));
    let text = "streams { S { allow_atomic: true, no_ack: true, allow_batched: true }, T { persist_mode: async } }";
    let streams = self::config(text).streams;
    assert!(streams[0].allow_atomic && streams[0].allow_batched && streams[0].no_ack && !streams[0].persist_async);
    assert!(streams[1].persist_async && !streams[1].no_ack && streams[1].allow_direct);
    let text = "streams { S { allow_direct: false, allow_msg_counter: true, max_consumers: 3, first_seq: 100 },
        T { allow_msg_schedules: true, allow_msg_ttl: true, subject_delete_marker_ttl: \"1h\" } }";
    let streams = self::config(text).streams;
    let stream = &streams[0];
    assert!(!stream.allow_direct && stream.allow_counter && !stream.allow_schedules && streams[1].allow_schedules);
    assert_eq!((stream.max_consumers, stream.first_sequence), (Some(3), 100));
    assert_eq!(streams[1].delete_marker, Some(Duration::from_secs(3600)));
    let text = "streams { S { consumer_limits { inactive_threshold: \"1h\", max_ack_pending: 20 }, placement { cluster: c, tags: [t] }, sealed: true
        consumers { A { inactive_threshold: \"5m\" }, B { max_ack_pending: 7 } } }, T { placement {}, consumer_limits {} } }";
    let streams = self::config(text).streams;
    let whole = format!(
        "jetstream {{ store_dir: \"/nowhere\" }}\n{}",
        text.replace("T { p", "T { subjects: [\"t\"], p").replace("S { c", "S { subjects: [\"s\"], c")
    );
    let problems = crate::rehearsal::problems(&self::config(&whole)).expect("the store in memory works");
    assert_eq!(problems, Vec::<String>::new(), "what is sealed is there already");
    let (limits, consumers) = (streams[0].consumer_limits, &streams[0].consumers);
    assert_eq!((limits.inactive_threshold, limits.max_ack_pending), (Some(Duration::from_secs(3600)), Some(20)));
    assert_eq!((consumers[0].max_ack_pending, consumers[1].max_ack_pending), (Some(20), Some(7)));
    let placement = ::forward::Placement { cluster: "c".into(), tags: vec!["t".into()] };
    assert!(streams[0].placement == Some(placement) && streams[0].sealed && streams[1].placement.is_none());
    assert_eq!((streams[1].consumer_limits, streams[1].sealed), (ConsumerLimits::default(), false));
    check_refused(
        "streams { S { consumer_limits { max_ack_pending: 5, inactive_threshold: \"1m\" }
        consumers { A { max_ack_pending: 6, inactive_threshold: \"1h\" } } } }",
        "F:2:21: \"max_ack_pending\" is above the stream's consumer_limits: 5\n\
         F:2:21: \"inactive_threshold\" is above the stream's consumer_limits: 60s",
    );
    check_refused(
        "streams { S { first_seq: 0 } }",
        "F:1:15: field \"first_seq\": expected an integer not below 1, but got 0",
    );
    check_refused(
        "streams { S { republish { src: a.*, dest: \"b.$2\" } } }",
        "F:1:15: invalid mapping destination: wildcard index out of range in $2: [2]",
    );
    check_refused(
        "streams { S { retention: odd } }",
        "F:1:15: field \"retention\": expected limits or interest or workqueue, but got the string \"odd\"",
    );
    check_refused(
        "streams { Q { retention: workqueue }, S { storage: memory } }
        leafnodes { remotes [ { url: \"hub:7422\" } ] }
        forward { Q { to: U, prefix: q }, S { to: T, prefix: p } }",
        "F:3:43: forward: stream \"S\": a stream that is forwarded is kept on disk: \"storage: file\"",
    );
    check_refused("streams { S { mirror { domain: hub } } }", "F:1:15: expected the \"name\" of a stream");
    check_refused(
        "streams { S { subjects: s, mirror { name: T } } }",
        "F:1:28: stream mirrors can not contain subjects",
    );
    check_refused(
        "streams { S { subjects: a.> }\nT { subjects: a.b } }",
        "F:2:1: stream \"T\": subjects overlap with an existing stream, \"S\"",
    );
    check_refused("streams { S { subjects: \"a..b\" } }", "F:1:15: subject \"a..b\" is not valid: empty token");
    check_refused(
        "streams { \"a.b\" {} }",
        "F:1:11: stream name \"a.b\" is not valid: expected up to 255 characters without blanks, . * > / or \\",
    );
    check_refused("streams { S { consumers { C { direct: true } } } }", "F:1:31: field \"direct\" is not supported");
}

#[test]
fn consumers_that_push_and_groups() {
    let consumers =
        |text: &str| config(&format!("streams {{ S {{ consumers {{ {text} }} }} }}")).streams.remove(0).consumers;
    let push = consumers(
        "C { deliver_subject: a.b, deliver_group: g, idle_heartbeat: \"1s\", flow_control: true, sample_freq: \"50%\" }",
    );
    let found = push[0].push.as_ref().unwrap();
    assert_eq!((found.subject.as_str(), found.group.as_deref(), found.flow_control), ("a.b", Some("g"), true));
    assert_eq!((found.heartbeat, push[0].sample_frequency.as_deref()), (Some(Duration::from_secs(1)), Some("50%")));
    let groups = consumers("C { priority_policy: pinned_client, priority_groups: [g], priority_timeout: \"30s\" }");
    let found = groups[0].priority.as_ref().unwrap();
    assert_eq!((found.policy, found.timeout), (PriorityPolicy::PinnedClient, Some(Duration::from_secs(30))));
    let refused = |consumer: &str, expected: &str| {
        check_refused(&format!("streams {{ S {{ consumers {{ C {{\n{consumer} }} }} }} }}"), expected);
    };
    refused("deliver_group: g", "F:2:1: field \"deliver_group\" needs \"deliver_subject\"");
    refused("deliver_subject: \"a.*\"", "F:2:1: deliver subject \"a.*\" is not a subject without wildcards");
    refused("deliver_subject: a, max_waiting: 5", "F:2:21: consumer in push mode can not set max waiting");
    refused("deliver_subject: a\nflow_control: true", "F:2:1: consumer with flow control also needs heartbeats");
    refused("deliver_subject: a\nidle_heartbeat: \"50ms\"", "F:3:1: consumer idle heartbeat needs to be >= 100ms");
}

#[test]
fn limits_of_the_account() {
    let text = "jetstream { account { max_mem: 1MB, store: -1, streams: 5, max_bytes_required: true, disk_max_stream_bytes: 2MB } }";
    let limits = config(text).jetstream.unwrap().account;
    let found = (limits.max_memory, limits.max_store, limits.max_streams, limits.max_disk_stream);
    assert_eq!(found, (Some(1 << 20), None, Some(5), Some(2 << 20)));
    assert!(limits.max_bytes_required);
    check_refused("jetstream { account { odd: 1 } }", "F:1:23: unknown field \"odd\"");
}

const LINK: &str =
    "leafnodes { remotes [ { url: h:7422 } ] }\nstreams { S { subjects: [\"a.*\"] }, T { subjects: [b, c] } }\n";

#[test]
fn forwards() {
    let config = config(&format!(
        "{LINK}forward {{ S {{ subject: \"up.{{{{wildcard(1)}}}}\", rate: 64k }}, T {{ prefix: site, to: H, domain: hub }} }}"
    ));
    let filters: Vec<_> =
        config.forwards.iter().map(|forward| (forward.to.as_str(), forward.filter.as_str())).collect();
    assert_eq!(filters, [("S", "up.*"), ("H", "site.>")]);
    assert_eq!(config.forwards[0].rate, Some(64_000));
    let refused = |forward: &str, expected: &str| check_refused(&format!("{LINK}forward {{\n{forward}\n}}"), expected);
    refused("S { prefix: p }\nT { prefix: p }", "F:5:1: forwards \"S\" and \"T\" overlap at the hub: p.> and p.>");
    let name = "stream name \"X Y\" is not valid: expected up to 255 characters without blanks, . * > / or \\";
    refused("S { prefix: p, to: \"X Y\" }", &format!("F:4:16: {name}"));
    refused("S { prefix: p }\n}\ngaps { to: \"X Y\"", &format!("F:6:8: {name}"));
    refused("S { }", "F:4:1: a forward needs \"prefix\" or \"subject\": where its messages go");
    refused("T { subject: x }", "F:4:5: field \"subject\" needs \"source\" unless the stream has one subject");
    refused(
        "S { prefix: p, create { subjects: q } }",
        "F:4:16: create: none of its subjects covers \"p.a.*\", which this forward sends",
    );
    refused(
        "S { subject: \"up.{{split(1,-)}}\" }",
        "F:4:1: forward \"S\": split and slice functions give several tokens, and which of them are at the hub could not be asked for",
    );
    check_refused(
        "streams { S {} }, forward { S { prefix: p } }",
        "F:1:29: a forward needs a link: expected \"leafnodes { remotes: [ { url: … } ] }\"",
    );
}

#[test]
fn gap_records() {
    let read = |text: &str| config(&format!("{LINK}{text}"));
    assert_eq!(read("").gaps, None);
    let plain = read("forward { S { prefix: edge.p7, create {} }, T { prefix: site } }");
    let gaps = plain.gaps.clone().unwrap();
    let forward = gaps.forward.clone().unwrap();
    assert_eq!((&*gaps.name, gaps.max_bytes), ("GAPS", 16 << 20));
    assert_eq!((&*forward.stream, &*forward.to, &*forward.filter), ("GAPS", "S", "edge.p7.$gap.*"));
    assert_eq!(forward.create, plain.forwards[0].create);
    let mut subject = Vec::new();
    assert!(forward.destination.transform().unwrap().apply(b"$TRIBUTARY.GAPS.S", 0, &mut subject));
    assert_eq!(subject, b"edge.p7.$gap.S");
    assert_eq!(plain.all_forwards().count(), 3);

    let set = "forward { S { prefix: p, create {} } }\ngaps { name: LOST, max_bytes: 1MB, subject: \"lost.p7\" }";
    let set = read(set);
    let gaps = set.gaps.clone().unwrap();
    assert_eq!((&*gaps.name, gaps.max_bytes), ("LOST", 1 << 20));
    let subjects: Vec<_> = set.forwards[0].create.iter().flat_map(|create| &create.subjects).cloned().collect();
    let subjects: Vec<_> = subjects.iter().map(subject::Filter::as_str).collect();
    assert_eq!(subjects, ["p.>", "lost.p7.*"], "what `create` makes takes them too");
    let fleet = read("forward { S { prefix: edge-1, create { subjects: \"*.a.*\" } } }");
    let made = &fleet.forwards[0].create.as_ref().unwrap().subjects;
    assert_eq!(made.last().map(subject::Filter::as_str), Some("*.$gap.*"), "for every edge");
    let elsewhere = read("forward { S { prefix: p, create {} } }\ngaps { to: LOSSES, subject: lost }");
    let elsewhere = elsewhere.gaps.and_then(|gaps| gaps.forward).unwrap();
    assert_eq!((&*elsewhere.to, elsewhere.create), ("LOSSES", None));

    let transform = "forward { S { subject: \"up.{{wildcard(1)}}\" } }";
    assert_eq!(read(transform).gaps.unwrap().forward, None, "there is no place for them under up.*");
    let refused = |text: &str, expected: &str| check_refused(&format!("{LINK}{text}"), expected);
    refused(
        "forward { S { prefix: p } }\ngaps { subject: \"a.*\" }",
        "F:4:8: field \"subject\": expected a subject without wildcards",
    );
    refused(
        "forward { S { prefix: p } }\ngaps { name: S }",
        "F:2:11: stream \"S\" is where gap records are kept: expected another name, here or in \"gaps\"",
    );
    refused("forward { S { prefix: p } }\ngaps { max_age: 1h }", "F:4:8: unknown field \"max_age\"");
}

#[test]
fn the_stream_that_a_forward_creates() {
    let create = |text: &str| {
        let config = config(&format!("{LINK}forward {{ S {{ prefix: p, create {{ {text} }} }} }}"));
        config.forwards[0].create.clone().unwrap()
    };
    let plain = ::forward::Create::with_subjects(vec![subject::Filter::parse("p.>").unwrap()]);
    assert_eq!(create(""), plain);
    let full = create(
        "subjects: [\"p.>\", q], description: d, storage: memory, retention: interest, num_replicas: 3, max_msgs: 5, max_bytes: 1GB,
         max_age: \"1h\", max_msgs_per_subject: 6, max_msg_size: 7, discard: new, duplicate_window: \"10m\", compression: s2,
         placement { cluster: east, tags: [ssd, eu] }",
    );
    let expected = ::forward::Create {
        subjects: vec![subject::Filter::parse("p.>").unwrap(), subject::Filter::parse("q").unwrap()],
        description: "d".into(),
        storage: ::forward::Storage::Memory,
        retention: ::forward::Retention::Interest,
        replicas: 3,
        max_messages: Some(5),
        max_bytes: Some(1 << 30),
        max_age_ns: Some(3_600_000_000_000),
        max_messages_per_subject: Some(6),
        max_message_size: Some(7),
        discard: ::jetstream::config::Discard::New,
        duplicate_window_ns: 600_000_000_000,
        compressed: true,
        placement: Some(::forward::Placement { cluster: "east".into(), tags: vec!["ssd".into(), "eu".into()] }),
    };
    assert_eq!(full, expected);
    assert_eq!(create("max_age: \"30s\"").duplicate_window_ns, 30_000_000_000, "never longer than the messages live");
    let refused = |text: &str, expected: &str| {
        check_refused(&format!("{LINK}forward {{\nS {{ prefix: p, create {{ {text} }} }}\n}}"), expected);
    };
    refused(
        "duplicate_window: \"1m\"",
        "F:4:25: field \"duplicate_window\": expected at least 2m: a resent message must be recognised at the hub",
    );
    refused("num_replicas: 7", "F:4:25: field \"num_replicas\": expected an integer from 1 to 5, but got 7");
    refused("sources: []", "F:4:25: field \"sources\" is not supported");
    refused(
        "retention: odd",
        "F:4:25: field \"retention\": expected limits or interest or workqueue, but got the string \"odd\"",
    );
}

#[test]
fn batches_of_a_forward_and_what_is_too_large() {
    let forward = |text: &str| config(&format!("{LINK}forward {{ S {{ prefix: p, {text} }} }}")).forwards[0].clone();
    let plain = forward("");
    assert_eq!((plain.batch, plain.reject_oversize), (::forward::Batch::MOST, false));
    let set = forward("reject_oversize: true, batch { max_msgs: 10, max_bytes: 64KB, max_time: \"1s\" }");
    assert_eq!((set.batch, set.reject_oversize), (::forward::Batch { messages: 10, bytes: 65_536 }, true));
    assert_eq!(set.batch_time, Duration::from_secs(1));
    let refused = |text: &str, expected: &str| {
        check_refused(&format!("{LINK}forward {{\nS {{ prefix: p, batch {{ {text} }} }}\n}}"), expected);
    };
    refused("max_msgs: 1001", "F:4:24: field \"max_msgs\": expected an integer from 1 to 1000, but got 1001");
    refused("max_time: \"6s\"", "F:4:24: field \"max_time\": expected at most 5s, or the hub gives the batch up");
}

#[test]
fn old_habits_are_warned_of_and_work() {
    let loaded = load_text("ping_interval: 20").unwrap();
    assert_eq!(loaded.config.limits.ping_interval, Duration::from_secs(20));
    let warning = loaded.report.warnings[0].text.as_str();
    assert_eq!(warning, "invalid use of field \"ping_interval\": ping_interval should be converted to a duration");
}

#[test]
fn stocks_mqtt_keys_are_all_taken() {
    let text = "mqtt { port: -1, ack_wait: \"1m\", max_ack_pending: 100, js_domain: x, js_api_timeout: \"1s\", stream_replicas: 1,
        consumer_replicas: 1, consumer_memory_storage: true, consumer_inactive_threshold: \"5m\", reject_qos2_publish: true,
        downgrade_qos2_subscribe: true }";
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.config.mqtt_limits.max_inflight, 100);
    assert_eq!(loaded.report.notices.len(), 7);
}
