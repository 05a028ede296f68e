//! The hub's INFO, as far as the dialling side needs it (leafnode §4).

use serde::{Deserialize, Deserializer};

/// Most discovered addresses kept from an INFO.
pub const MAX_DISCOVERED: usize = 64;
/// Longest INFO looked at, bytes: the control line limit of a leaf link (leafnode §2).
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

/// Permissions that the hub's user has: what the link may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// Allowed filters; empty: all.
    #[serde(deserialize_with = "null_is_default")]
    pub allow: Vec<String>,
    /// Denied filters.
    #[serde(deserialize_with = "null_is_default")]
    pub deny: Vec<String>,
}

/// INFO of a leaf listener. Unknown keys are ignored, `null` is "absent".
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys of leafnode §4, under their own names
pub struct LeafInfo {
    #[serde(deserialize_with = "null_is_default")]
    pub server_id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub server_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    #[serde(deserialize_with = "null_is_default")]
    pub headers: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub tls_required: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub max_payload: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub jetstream: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub client_id: u64,
    #[serde(deserialize_with = "null_is_default")]
    pub nonce: String,
    #[serde(deserialize_with = "null_is_default")]
    pub cluster: String,
    pub domain: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub connect_info: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub remote_account: String,
    pub import: Option<Permissions>,
    pub export: Option<Permissions>,
    #[serde(deserialize_with = "null_is_default")]
    pub info_on_connect: bool,
    pub leafnode_urls: Option<Vec<String>>,
    pub ws_connect_urls: Option<Vec<String>>,
    pub client_ip: Option<String>,
    pub lnoc: Option<bool>,
    pub gateway_url: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub api_lvl: u64,
}

impl LeafInfo {
    /// Reads the JSON of an INFO.
    ///
    /// # Errors
    /// Too long, or not an object with these types.
    pub fn decode(json: &[u8]) -> Result<LeafInfo, InfoError> {
        if json.len() > MAX_INFO_LENGTH {
            return Err(InfoError::TooLong);
        }
        serde_json::from_slice(json).map_err(|error| InfoError::Json(error.to_string()))
    }
}

/// The "wrong port" test of the first INFO, tolerant of hubs with `no_advertise` (leafnode §3.5).
///
/// # Errors
/// [`InfoError::WrongPort`] with what it looks like.
pub fn check_port(info: &LeafInfo) -> Result<(), InfoError> {
    if info.gateway_url.is_some() {
        return Err(InfoError::WrongPort(": it is a gateway port"));
    }
    if info.lnoc.is_some() {
        return Err(InfoError::WrongPort(": it is a cluster route port"));
    }
    if info.client_id == 0 || (info.leafnode_urls.is_none() && !info.info_on_connect) {
        let looks_like =
            if info.client_ip.is_some() { ": it is a client port; leafnodes usually listen on 7422" } else { "" };
        return Err(InfoError::WrongPort(looks_like));
    }
    Ok(())
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_apart() {
        let check =
            |json: &str| check_port(&LeafInfo::decode(json.as_bytes()).unwrap()).map_err(|error| error.to_string());
        assert_eq!(check(r#"{"client_id":7,"info_on_connect":true}"#), Ok(()));
        assert_eq!(check(r#"{"client_id":7,"leafnode_urls":[]}"#), Ok(()));
        assert_eq!(check(r#"{"client_id":7}"#), Err("this is not a leafnode port".into()));
        assert!(check(r#"{"client_id":7,"proto":1,"client_ip":"::1"}"#).unwrap_err().contains("client port"));
        assert!(check(r#"{"lnoc":true,"client_id":1,"leafnode_urls":[]}"#).unwrap_err().contains("route"));
        assert!(check(r#"{"gateway_url":"x"}"#).unwrap_err().contains("gateway"));
    }

    #[test]
    fn null_and_unknown_keys_are_no_matter() {
        let info =
            LeafInfo::decode(br#"{"server_name":null,"bogus":[1],"max_payload":5,"import":{"allow":null}}"#).unwrap();
        assert_eq!((info.server_name.as_str(), info.max_payload), ("", 5));
        assert!(LeafInfo::decode(b"[]x").is_err());
    }
}
