//! API requests: no panic; a refusal is whole. The first byte chooses the operation, as a fuzzer would guess for days.
#![no_main]

use jetstream_api::{Parsed, encode_error, parse};
use libfuzzer_sys::fuzz_target;

const SUBJECTS: [&str; 17] = [
    "STREAM.CREATE.S",
    "STREAM.UPDATE.S",
    "STREAM.INFO.S",
    "STREAM.NAMES",
    "STREAM.PURGE.S",
    "STREAM.MSG.GET.S",
    "STREAM.MSG.DELETE.S",
    "CONSUMER.CREATE.S",
    "CONSUMER.CREATE.S.C.s.a",
    "CONSUMER.DURABLE.CREATE.S.C",
    "CONSUMER.LIST.S",
    "CONSUMER.MSG.NEXT.S.C",
    "DIRECT.GET.S",
    "DIRECT.GET.S.s.a",
    "STREAM.SNAPSHOT.S",
    "STREAM.RESTORE.S",
    "STREAM.TEMPLATE.CREATE.T",
];

fuzz_target!(|data: &[u8]| {
    let Some((first, payload)) = data.split_first() else { return };
    let (subject, payload) = match SUBJECTS.get(usize::from(*first)) {
        Some(subject) => (subject.as_bytes(), payload),
        None => (data, &b""[..]),
    };
    if let Parsed::Refused(kind, error) = parse(subject, payload) {
        let mut into = Vec::new();
        encode_error(kind, &error, &mut into);
        assert!(std::str::from_utf8(&into).is_ok_and(|text| text.starts_with("{\"type\":") && text.ends_with('}')));
    }
});
