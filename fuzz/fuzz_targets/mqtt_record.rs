//! Any bytes are a durable MQTT row or damaged; what is read is written and read to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt_proto::record::{RetainedRecord, SessionRecord};

fuzz_target!(|data: &[u8]| {
    if let Ok(session) = SessionRecord::decode(data) {
        let mut encoded = Vec::new();
        session.encode(&mut encoded);
        assert_eq!(SessionRecord::decode(&encoded).as_ref(), Ok(&session));
        if let Some(will) = &session.will {
            let _ = will.as_will().delay_interval();
        }
    }
    if let Ok(retained) = RetainedRecord::decode(data) {
        let mut encoded = Vec::new();
        retained.encode(&mut encoded);
        assert_eq!(RetainedRecord::decode(&encoded), Ok(retained));
    }
});
