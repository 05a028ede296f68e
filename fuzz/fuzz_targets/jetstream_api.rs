//! API requests, a line of subject and the rest as body: no panic; a refusal is valid JSON.
#![no_main]

use jetstream_api::{Parsed, encode_error, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (subject, payload) = data.iter().position(|byte| *byte == b'\n').map_or((data, &b""[..]), |at| (&data[..at], &data[at + 1..]));
    if let Parsed::Refused(kind, error) = parse(subject, payload) {
        let mut into = Vec::new();
        encode_error(kind, &error, &mut into);
        assert!(std::str::from_utf8(&into).is_ok_and(|text| text.starts_with("{\"type\":") && text.ends_with('}')));
    }
});
