//! A forward's position record: any bytes are refused, or read and written back as they were.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = forward::Record::decode(bytes) {
        assert_eq!(record.encode(), bytes);
    }
    let _ = forward::Identity::find(bytes);
});
