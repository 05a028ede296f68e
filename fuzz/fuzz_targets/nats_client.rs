//! Client input: no panic; what is said to be needed is true; a verbatim tail equals a built one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_proto::client::{ClientOp, Decoded, Limits, decode};
use nats_proto::encode;
use nats_proto::handshake::{ConnectOptions, Handshake};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_control_line: 256, max_payload: 1024, headers: true };
    let mut rest = data;
    loop {
        match decode(rest, &limits) {
            Ok(Decoded::Op(operation, used)) => {
                assert!(used > 0 && used <= rest.len());
                if used > 1 {
                    assert!(matches!(decode(&rest[..used - 1], &limits), Ok(Decoded::Incomplete { .. })));
                }
                match operation {
                    ClientOp::Connect(json) => {
                        let _ = ConnectOptions::from_json(json);
                    }
                    ClientOp::Pub(publish) => {
                        let mut built = Vec::new();
                        encode::message_tail(publish.reply, publish.header_len, publish.message, &mut built);
                        assert!(publish.tail.is_none_or(|tail| tail == built));
                    }
                    _ => {}
                }
                rest = &rest[used..];
            }
            Ok(Decoded::Incomplete { need }) => {
                assert!(need > rest.len());
                return;
            }
            Err(_) => return,
        }
    }
});
