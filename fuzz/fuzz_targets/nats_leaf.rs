//! Leaf input: no panic; what is read and sent again is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_proto::client::Limits;
use nats_proto::handshake::{Handshake, LeafConnect, LeafInfo};
use nats_proto::leaf::{Decoded, LeafOp, decode, send, split_delivery};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_control_line: 256, max_payload: 1024, headers: true };
    let mut rest = data;
    while let Ok(Decoded::Op(operation, used)) = decode(rest, &limits) {
        assert!(used > 0 && used <= rest.len());
        match operation {
            LeafOp::Info(json) => {
                let _ = LeafInfo::from_json(json);
            }
            LeafOp::Connect(json) => {
                let _ = LeafConnect::from_json(json);
            }
            LeafOp::Message(message) => {
                let _ = message.reply.and_then(split_delivery);
                let queues: Vec<&[u8]> = message.queues.collect();
                let mut again = Vec::new();
                send(message.subject, message.reply, &queues, message.header_len, message.message, &mut again);
                let wide = Limits { max_control_line: 1024, ..limits };
                let Ok(Decoded::Op(LeafOp::Message(second), _)) = decode(&again, &wide) else {
                    panic!("not read again")
                };
                assert_eq!(
                    (second.subject, second.reply, second.message),
                    (message.subject, message.reply, message.message)
                );
                assert!(second.queues.eq(queues));
            }
            _ => {}
        }
        rest = &rest[used..];
    }
});
