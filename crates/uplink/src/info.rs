//! The hub's INFO, as far as the dialling side needs it.

use nats_proto::handshake::{Handshake as _, LeafInfo};

/// Most discovered addresses kept from an INFO.
pub const MAX_DISCOVERED: usize = 64;
/// Longest INFO looked at, bytes: the control line limit of a leaf link.
const MAX_INFO_LENGTH: usize = 65_536;

/// Why an INFO is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InfoError {
    /// Larger than a control line may be.
    #[error("INFO longer than {MAX_INFO_LENGTH} bytes")]
    TooLong,
    /// Not JSON, or of other types.
    #[error("INFO is not understood: {0}")]
    Json(String),
    /// Not a leafnode port.
    #[error("this is not a leafnode port{0}")]
    WrongPort(&'static str),
}

/// Reads the JSON of an INFO.
///
/// # Errors
/// Too long, or not an object with the right types.
pub(crate) fn decode(json: &[u8]) -> Result<LeafInfo, InfoError> {
    if json.len() > MAX_INFO_LENGTH {
        return Err(InfoError::TooLong);
    }
    LeafInfo::from_json(json).map_err(|error| InfoError::Json(error.to_string()))
}

/// The "wrong port" test of the first INFO, tolerant of hubs with `no_advertise`, which send no `leafnode_urls`.
///
/// # Errors
/// [`InfoError::WrongPort`] with what it looks like.
pub fn check_port(info: &LeafInfo) -> Result<(), InfoError> {
    if info.client_id == 0 || (info.leafnode_urls.is_none() && !info.info_on_connect) {
        let looks_like =
            if !info.client_ip.is_empty() { ": it is a client port; leafnodes usually listen on 7422" } else { "" };
        return Err(InfoError::WrongPort(looks_like));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart() {
        let check = |json: &str| check_port(&decode(json.as_bytes()).unwrap()).map_err(|error| error.to_string());
        assert_eq!(check(r#"{"client_id":7,"info_on_connect":true}"#), Ok(()));
        assert_eq!(check(r#"{"client_id":7,"leafnode_urls":[]}"#), Ok(()));
        assert_eq!(check(r#"{"client_id":7}"#), Err("this is not a leafnode port".into()));
        assert!(check(r#"{"client_id":7,"proto":1,"client_ip":"::1"}"#).unwrap_err().contains("client port"));
        // a route port, a gateway port
        assert!(check(r#"{"lnoc":true,"client_id":1}"#).is_err());
        assert!(check(r#"{"gateway_url":"x"}"#).is_err());
    }

    #[test]
    fn null_and_unknown_keys_are_no_matter() {
        let info = decode(br#"{"server_name":null,"bogus":[1],"max_payload":5,"import":{"allow":null}}"#).unwrap();
        assert_eq!((info.server_name.as_str(), info.max_payload), ("", 5));
        assert!(decode(b"[]x").is_err());
        assert_eq!(decode(&[b' '; 70_000]), Err(InfoError::TooLong));
    }
}
