//! Leaf operations: every form, and what is refused.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_control_line: 100, max_payload: 100, headers: true };

fn one(bytes: &[u8]) -> LeafOp<'_> {
    match decode(bytes, &LIMITS) {
        Ok(Decoded::Op(operation, used)) if used == bytes.len() => operation,
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// Subject, reply, queues, header length, message, has a tail.
type Seen = (String, Option<String>, Vec<String>, usize, String, bool);

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn check(bytes: &str, expected: (&str, Option<&str>, &[&str], usize, &str, bool)) {
    let LeafOp::Message(message) = one(bytes.as_bytes()) else { panic!("{bytes}") };
    let seen: Seen = (
        text(message.subject),
        message.reply.map(text),
        message.queues.map(text).collect(),
        message.header_len,
        text(message.message),
        message.tail.is_some(),
    );
    let (subject, reply, queues, header_len, body, tail) = expected;
    let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
    assert_eq!(seen, (subject.into(), reply.map(Into::into), queues, header_len, body.into(), tail), "{bytes}");
    if let Some(tail) = message.tail {
        let mut built = Vec::new();
        encode::message_tail(message.reply, message.header_len, message.message, &mut built);
        assert_eq!(text(tail), text(&built));
    }
}

#[test]
fn all_forms_of_messages() {
    check("LMSG a 2\r\nhi\r\n", ("a", None, &[], 0, "hi", true));
    check("LMSG a 0\r\n\r\n", ("a", None, &[], 0, "", true));
    check("LMSG a r.x 2\r\nhi\r\n", ("a", Some("r.x"), &[], 0, "hi", true));
    check("lmsg\ta  r.x 2\nhi\n", ("a", Some("r.x"), &[], 0, "hi", false));
    check("LMSG a r  2\r\nhi\r\n", ("a", Some("r"), &[], 0, "hi", false));
    check("LMSG a 2 \r\nhi\r\n", ("a", None, &[], 0, "hi", false));
    check("LMSG  a 2\r\nhi\r\n", ("a", None, &[], 0, "hi", true));
    check("LMSG a 02\r\nhi\r\n", ("a", None, &[], 0, "hi", false));
    check("LMSG a + 2\r\nhi\r\n", ("a", Some("+"), &[], 0, "hi", true));
    check("LMSG a | q1 2\r\nhi\r\n", ("a", None, &["q1"], 0, "hi", false));
    check("LMSG a | q1 q2 2\r\nhi\r\n", ("a", None, &["q1", "q2"], 0, "hi", false));
    check("LMSG a + r q1  q2 2\r\nhi\r\n", ("a", Some("r"), &["q1", "q2"], 0, "hi", false));
    check("HMSG a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", ("a", None, &[], 12, "NATS/1.0\r\n\r\nhi", true));
    check("HMSG a r 12 12\r\nNATS/1.0\r\n\r\n\r\n", ("a", Some("r"), &[], 12, "NATS/1.0\r\n\r\n", true));
    check("HMSG a | q 12 12\r\nNATS/1.0\r\n\r\n\r\n", ("a", None, &["q"], 12, "NATS/1.0\r\n\r\n", false));
    check("HMSG a + r q 12 12\r\nNATS/1.0\r\n\r\n\r\n", ("a", Some("r"), &["q"], 12, "NATS/1.0\r\n\r\n", false));
}

#[test]
fn interest_and_small_operations() {
    assert_eq!(one(b"LS+ a.>\r\n"), LeafOp::Subscribe { subject: b"a.>", queue: None });
    assert_eq!(one(b"ls+ a q 3\n"), LeafOp::Subscribe { subject: b"a", queue: Some((b"q", 3)) });
    assert_eq!(one(b"LS- a\r\n"), LeafOp::Unsubscribe { subject: b"a", queue: None });
    assert_eq!(one(b"LS-\ta  q\r\n"), LeafOp::Unsubscribe { subject: b"a", queue: Some(b"q") });
    assert_eq!(one(b"INFO {\"a\":1} \r\n"), LeafOp::Info(b"{\"a\":1}"));
    assert_eq!(one(b"CONNECT {}\r\n"), LeafOp::Connect(b"{}"));
    assert_eq!((one(b"ping\r\n"), one(b"PONG\n"), one(b"+OK\r\n")), (LeafOp::Ping, LeafOp::Pong, LeafOp::Ok));
    assert_eq!(one(b"-ERR 'Stale Connection'\r\n"), LeafOp::Err(b"Stale Connection"));
}

#[test]
fn refusals() {
    for (bytes, error) in [
        ("LS+ a q\r\n", ProtocolError::Arguments),
        ("LS+ a q 1 2\r\n", ProtocolError::Arguments),
        ("LS+ a q 99999999999\r\n", ProtocolError::Arguments),
        ("LS- a q 1\r\n", ProtocolError::Arguments),
        ("LS+ \r\n", ProtocolError::Arguments),
        ("LS+ a\rb\r\n", ProtocolError::Arguments),
        ("LMSG a\r\n", ProtocolError::Arguments),
        ("LMSG a x q1 2\r\n", ProtocolError::Arguments),
        ("LMSG a -1\r\n", ProtocolError::Arguments),
        ("HMSG a 5\r\n", ProtocolError::Arguments),
        ("HMSG a 5 4\r\n", ProtocolError::HeaderLength),
        ("LMSG a 101\r\n", ProtocolError::PayloadTooLarge { size: 101, limit: 100 }),
        ("LMSG a 2\r\nhix\r\n", ProtocolError::PayloadEnd),
        ("SUB a 1\r\n", ProtocolError::UnknownOperation),
        ("LS+\r\n", ProtocolError::UnknownOperation),
        ("LX", ProtocolError::UnknownOperation),
    ] {
        assert_eq!(decode(bytes.as_bytes(), &LIMITS), Err(error), "{bytes:?}");
    }
    let long = format!("LS+ {}\r\n", "s".repeat(100));
    assert_eq!(decode(long.as_bytes(), &LIMITS), Err(ProtocolError::ControlLineTooLong));
    let endless = format!("INFO {}", "s".repeat(102));
    assert_eq!(decode(endless.as_bytes(), &LIMITS), Err(ProtocolError::ControlLineTooLong));
}

#[test]
fn deliveries_carry_their_subject_behind_the_at() {
    let reply = b"$JS.ACK.EV.c1.1.4.1.17.0@ev.a@b";
    assert_eq!(split_delivery(reply), Some((&b"$JS.ACK.EV.c1.1.4.1.17.0"[..], &b"ev.a@b"[..])));
    assert_eq!(split_delivery(b"$JS.ACK.EV.c1.1.4.1.17.0"), None);
    assert_eq!(split_delivery(b"_INBOX.a@b"), None);
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z_$][a-zA-Z0-9.@]{0,6}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_sent_is_read_however_it_is_cut(
        subject in token(),
        reply in prop::option::of(token()),
        queues in prop::collection::vec(token(), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..20),
        header_len in 0..20usize,
    ) {
        let header_len = header_len.min(body.len());
        let list: Vec<&[u8]> = queues.iter().map(String::as_bytes).collect();
        let mut bytes = Vec::new();
        send(subject.as_bytes(), reply.as_ref().map(String::as_bytes), &list, header_len, &body, &mut bytes);
        let LeafOp::Message(message) = one(&bytes) else { return Err(TestCaseError::fail("no message")) };
        prop_assert_eq!(message.subject, subject.as_bytes());
        prop_assert_eq!(message.reply, reply.as_ref().map(String::as_bytes));
        prop_assert_eq!(message.queues.collect::<Vec<_>>(), list);
        prop_assert_eq!((message.header_len, message.message), (header_len, &body[..]));
        prop_assert_eq!(message.tail.is_some(), queues.is_empty());
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut], &LIMITS) {
                Ok(Decoded::Incomplete { need }) => prop_assert!(need > cut && need <= bytes.len()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn interest_is_read_as_announced(subject in token(), queue in token(), weight in 1..u32::MAX) {
        let mut bytes = Vec::new();
        subscribe_to(subject.as_bytes(), Some((queue.as_bytes(), weight)), &mut bytes);
        let queue_weight = Some((queue.as_bytes(), weight));
        prop_assert_eq!(one(&bytes), LeafOp::Subscribe { subject: subject.as_bytes(), queue: queue_weight });
        bytes.clear();
        unsubscribe_from(subject.as_bytes(), Some(queue.as_bytes()), &mut bytes);
        prop_assert_eq!(one(&bytes), LeafOp::Unsubscribe { subject: subject.as_bytes(), queue: Some(queue.as_bytes()) });
    }

    #[test]
    fn any_bytes_are_survived(bytes in "[ -~\t\r\n]{0,60}", verb in 0..5usize) {
        let input = format!("{}{bytes}", ["LMSG ", "HMSG ", "LS+ ", "LS- ", ""][verb]);
        let _ = decode(input.as_bytes(), &LIMITS);
    }
}
