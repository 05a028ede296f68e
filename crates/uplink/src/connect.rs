//! Our CONNECT (leafnode §5).

use serde::Serialize;

use crate::address::Address;
use crate::config::Config;
use crate::credentials::CredentialsError;
use crate::info::LeafInfo;

/// The keys in the order stock writes them.
#[derive(Serialize)]
struct Connect<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    server_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    name: &'a str,
    cluster: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    jetstream: bool,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    deny_pub: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    isolate: bool,
    compress_mode: &'a str,
    remote_account: &'a str,
    /// 1: message tracing is not implemented.
    protocol: u8,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(value: &bool) -> bool {
    !value
}

/// The whole line, `CONNECT {…}\r\n`.
pub(crate) fn line(config: &Config, address: &Address, info: &LeafInfo) -> Result<Vec<u8>, CredentialsError> {
    // A bare discovered address uses the credentials of the configured URL (leafnode §10).
    let owner = if address.user.is_some() { address } else { config.addresses.first().unwrap_or(address) };
    let proof = config.credentials.prove(&info.nonce, owner.user.as_deref(), owner.password.as_deref())?;
    let local = &config.local;
    let connect = Connect {
        version: &local.version,
        nkey: proof.nkey,
        jwt: proof.jwt,
        sig: proof.sig,
        user: proof.user,
        pass: proof.pass,
        auth_token: proof.auth_token,
        server_id: &local.server_id,
        domain: local.domain.as_deref(),
        name: &local.name,
        cluster: &local.name,
        headers: info.headers,
        jetstream: local.jetstream,
        deny_pub: &local.deny_imports,
        isolate: local.isolate,
        compress_mode: "off",
        remote_account: &local.account,
        protocol: 1,
    };
    let mut out = b"CONNECT ".to_vec();
    serde_json::to_writer(&mut out, &connect).expect("strings and bools always become JSON");
    out.extend_from_slice(b"\r\n");
    Ok(out)
}
