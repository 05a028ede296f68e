//! Header blocks: no panic; a valid block survives the builder; no `Nats-` name survives the renaming.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_proto::header::{HeaderBuilder, Headers, check};

fuzz_target!(|data: &[u8]| {
    let headers = Headers::new(data);
    let _ = (headers.status(), headers.iter().count(), headers.get(b"Nats-Msg-Id"));
    if check(data).is_err() {
        return;
    }
    let mut builder = HeaderBuilder::from_block(data).expect("it is valid");
    assert_eq!(builder.clone().finish(), data);
    builder.rename_prefix(b"Nats-", b"Tributary-Origin-").expect("a valid name");
    let renamed = builder.finish();
    assert_eq!(check(&renamed), Ok(()));
    assert!(Headers::new(&renamed).iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with(b"nats-")));
});
