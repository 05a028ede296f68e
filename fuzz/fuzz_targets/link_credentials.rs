//! What the far end of a link and its credentials file say: any text is refused, or read into something that holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nats_proto::handshake::{Handshake, LeafInfo};
use uplink::{Address, Credentials, check_port};

fuzz_target!(|data: &[u8]| {
    if let Ok(info) = LeafInfo::from_json(data) {
        let _ = check_port(&info);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(credentials) = Credentials::from_creds_text(text) {
        assert!(credentials.check().is_ok());
    }
    if let Ok(address) = Address::parse(text) {
        assert!(address.is_same_place(&address));
    }
});
