//! Client operations: decoding at every cut, and what is refused.

use super::*;
use crate::encode;
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_control_line: 64, max_payload: 100, headers: true };

fn one(bytes: &[u8]) -> ClientOp<'_> {
    match decode(bytes, &LIMITS) {
        Ok(Decoded::Op(operation, used)) if used == bytes.len() => operation,
        other => panic!("{other:?}"),
    }
}

fn published(bytes: &[u8]) -> Publish<'_> {
    match one(bytes) {
        ClientOp::Pub(publish) => publish,
        other => panic!("{other:?}"),
    }
}

/// Every operation of a stream, as text, then the error that ended it, if any.
fn all(mut bytes: &[u8], limits: &Limits) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match decode(bytes, limits) {
            Ok(Decoded::Op(operation, used)) => {
                seen.push(format!("{operation:?}"));
                bytes = &bytes[used..];
            }
            Ok(Decoded::Incomplete { .. }) => return seen,
            Err(error) => {
                seen.push(format!("{error:?}"));
                return seen;
            }
        }
    }
}

#[test]
fn the_tail_is_what_a_message_ends_with() {
    let publish = published(b"PUB foo 5\r\nhello\r\n");
    assert_eq!((publish.subject, publish.reply, publish.message), (&b"foo"[..], None, &b"hello"[..]));
    assert_eq!(publish.tail, Some(&b"5\r\nhello\r\n"[..]));
    assert_eq!(published(b"pUb foo r.s 0\r\n\r\n").tail, Some(&b"r.s 0\r\n\r\n"[..]));
    assert_eq!(published(b"HPUB foo r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n").tail.map(<[u8]>::len), Some(25));
    for odd in [
        &b"PUB foo  5\r\nhello\r\n"[..],
        b"PUB  foo 5\r\nhello\r\n",
        b"PUB foo\t5\r\nhello\r\n",
        b"PUB foo 5 \r\nhello\r\n",
        b"PUB foo 05\r\nhello\r\n",
        b"PUB foo 5\nhello\r\n",
        b"HPUB foo 0 5\r\nhello\r\n",
    ] {
        let publish = published(odd);
        assert_eq!((publish.subject, publish.message, publish.tail), (&b"foo"[..], &b"hello"[..], None));
    }
}

#[test]
fn refused_before_the_payload_arrives() {
    let large = ProtocolError::PayloadTooLarge { size: 101, limit: 100 };
    assert_eq!(decode(b"PUB foo 101\r\n", &LIMITS), Err(large));
    assert_eq!(decode(b"HPUB foo 12 101\r\n", &LIMITS), Err(large));
    let huge = ProtocolError::PayloadTooLarge { size: 999_999_999_999_999_999, limit: usize::MAX >> 8 };
    let open = Limits { max_payload: usize::MAX >> 8, ..LIMITS };
    assert_eq!(decode(b"PUB foo 999999999999999999\r\n", &open), Err(huge));
    assert_eq!(decode(b"HPUB foo 12 10\r\n", &LIMITS), Err(ProtocolError::HeaderLength));
    let none = Limits { headers: false, ..LIMITS };
    assert_eq!(decode(b"HPUB foo 12 14\r\n", &none), Err(ProtocolError::HeadersNotSupported));
}

#[test]
fn control_lines_are_bounded_with_and_without_an_end() {
    let exact = format!("PUB {} 0\r\n\r\n", "s".repeat(61));
    assert!(matches!(decode(exact.as_bytes(), &LIMITS), Ok(Decoded::Op(..))));
    for verb in ["PUB", "SUB", "HPUB", "UNSUB", "CONNECT", "PING", "-ERR", "INFO"] {
        let line = format!("{verb} {} 0", "s".repeat(62));
        for text in [format!("{line}\r\n\r\n"), format!("{line}\n\n"), format!("{line}ss")] {
            assert_eq!(decode(text.as_bytes(), &LIMITS), Err(ProtocolError::ControlLineTooLong), "{text}");
        }
    }
    assert_eq!(decode(&[b' '; 100], &LIMITS), Err(ProtocolError::UnknownOperation));
}

#[test]
fn says_how_long_the_frame_is() {
    let need = |bytes: &[u8]| match decode(bytes, &LIMITS) {
        Ok(Decoded::Incomplete { need }) => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(need(b""), 1);
    assert_eq!(need(b"P"), 2);
    assert_eq!(need(b"PUB foo 5\r"), 11);
    assert_eq!(need(b"PUB foo 5\r\n"), 18);
    assert_eq!(need(b"PUB foo 5\r\nhello\r"), 18);
    assert_eq!(need(b"PUB foo 5\nhell"), 16);
    assert_eq!(need(b"PUB foo 5\nhello\r"), 17);
}

#[test]
fn what_is_no_operation_is_refused_at_its_first_bytes() {
    for bytes in ["GET / HTTP/1.1\r\n", "MSG a 1 0\r\n", "\r\n", "PX", "SX", "\u{b}OK\r\n", "PUBX a 0", "UNSUB\r\n"] {
        assert_eq!(decode(bytes.as_bytes(), &LIMITS), Err(ProtocolError::UnknownOperation), "{bytes:?}");
    }
    for bytes in [
        "PUB \r\n",
        "PUB a\r\n",
        "PUB a b c 0\r\n",
        "PUB a -1\r\n",
        "PUB a 1x\r\n",
        "PUB a\rb 0\r\n",
        "SUB a\r\n",
        "SUB a b c d\r\n",
        "UNSUB \r\n",
        "UNSUB 1 x\r\n",
        "UNSUB 1 2 3\r\n",
        "HPUB a 1\r\n",
        "HPUB a b c 1 1\r\n",
        "PUB a 9999999999999999999999\r\n",
    ] {
        assert_eq!(decode(bytes.as_bytes(), &LIMITS), Err(ProtocolError::Arguments), "{bytes:?}");
    }
    assert_eq!(decode(b"PUB a 2\r\nabc\r\n", &LIMITS), Err(ProtocolError::PayloadEnd));
    assert_eq!(decode(b"PUB a 2\r\na\r\nx", &LIMITS), Err(ProtocolError::PayloadEnd));
}

#[test]
fn small_operations() {
    assert_eq!(one(b"CONNECT {\"verbose\":false}\r\n"), ClientOp::Connect(b"{\"verbose\":false}"));
    assert_eq!(one(b"connect\t{} \n"), ClientOp::Connect(b"{}"));
    assert_eq!(one(b"ping\n"), ClientOp::Ping);
    assert_eq!(one(b"PONG  \r\n"), ClientOp::Pong);
    assert_eq!(one(b"+ok\r\n"), ClientOp::Ok);
    assert_eq!(one(b"INFO {}\r\n"), ClientOp::Info);
    assert_eq!(one(b"-ERR 'Stale'\r\n"), ClientOp::Err(b"Stale"));
    assert_eq!(one(b"sub a.*\t 7\r\n"), ClientOp::Sub { subject: b"a.*", queue: None, sid: b"7" });
    assert_eq!(one(b"SUB a q 7\r\n"), ClientOp::Sub { subject: b"a", queue: Some(b"q"), sid: b"7" });
    assert_eq!(one(b"UNSUB 7\r\n"), ClientOp::Unsub { sid: b"7", max: None });
    assert_eq!(one(b"UNSUB 7 5\n"), ClientOp::Unsub { sid: b"7", max: Some(5) });
}

#[test]
fn no_responders_is_complete() {
    let mut into = Vec::new();
    encode::no_responders(b"_INBOX.1", b"3", b"foo", &mut into);
    assert_eq!(into, b"HMSG _INBOX.1 3 35 35\r\nNATS/1.0 503\r\nNats-Subject: foo\r\n\r\n\r\n");
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let token = "[a-zA-Z0-9.*>_$]{1,8}";
    let blank = prop_oneof![6 => Just(" "), 1 => Just("\t"), 1 => Just("  ")];
    let end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    let body = prop::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        Just(b"PING\r\n".to_vec()),
        Just(b"CONNECT {\"a\":1}\r\n".to_vec()),
        (token, token, end.clone()).prop_map(|(subject, sid, end)| format!("SUB {subject} {sid}{end}").into_bytes()),
        (token, 0..100u64).prop_map(|(sid, max)| format!("UNSUB {sid} {max}\r\n").into_bytes()),
        (token, prop::option::of(token), blank, end, body, any::<bool>()).prop_map(
            |(subject, reply, blank, end, body, headers)| {
                let reply = reply.map_or(String::new(), |reply| format!("{blank}{reply}"));
                let (verb, sizes) = if headers {
                    ("HPUB", format!("{} {}", body.len() / 2, body.len()))
                } else {
                    ("PUB", body.len().to_string())
                };
                let mut bytes = format!("{verb}{blank}{subject}{reply} {sizes}{end}").into_bytes();
                bytes.extend_from_slice(&body);
                bytes.extend_from_slice(end.as_bytes());
                bytes
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_frame_means_the_same_however_it_is_cut(frames in prop::collection::vec(frame(), 1..4)) {
        let stream = frames.concat();
        prop_assert_eq!(all(&stream, &LIMITS).len(), frames.len());
        for frame in &frames {
            for cut in 0..frame.len() {
                // Each shorter piece is incomplete, and what it says it needs is not more than there is.
                match decode(&frame[..cut], &LIMITS) {
                    Ok(Decoded::Incomplete { need }) => prop_assert!(need > cut && need <= frame.len()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }

    #[test]
    fn a_canonical_tail_equals_a_built_one(frame in frame(), sid in "[a-z0-9]{1,4}") {
        if let ClientOp::Pub(publish) = one(&frame)
            && let Some(tail) = publish.tail
        {
            let mut verbatim = Vec::new();
            encode::message_prefix(publish.subject, sid.as_bytes(), &mut verbatim);
            verbatim.extend_from_slice(tail);
            let mut built = Vec::new();
            encode::message(publish.subject, sid.as_bytes(), publish.reply, publish.header_len, publish.message, &mut built);
            let start = usize::from(publish.header_len == 0);
            prop_assert_eq!(&verbatim[start..], &built[..]);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80), verb in 0..6usize) {
        let mut input = [&b"PUB "[..], b"HPUB ", b"SUB ", b"UNSUB ", b"CONNECT ", b""][verb].to_vec();
        input.extend_from_slice(&bytes);
        all(&input, &LIMITS);
    }
}
