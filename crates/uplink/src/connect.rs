//! Our CONNECT: what we are, and the proof of who we are.

use nats_proto::handshake::{Handshake as _, LeafConnect, LeafInfo, Secret};

use crate::address::Address;
use crate::config::Config;
use crate::credentials::CredentialsError;

/// The whole line, `CONNECT {…}\r\n`.
pub(crate) fn line(config: &Config, address: &Address, info: &LeafInfo) -> Result<Vec<u8>, CredentialsError> {
    // A bare discovered address uses the credentials of the configured URL, as in nats-server.
    let owner = if address.user.is_some() { address } else { config.addresses.first().unwrap_or(address) };
    let proof = config.credentials.prove(&info.nonce, owner.user.as_deref(), owner.password.as_deref())?;
    let local = &config.local;
    let secret = |text: Option<String>| Secret(text.unwrap_or_default());
    let connect = LeafConnect {
        version: local.version.clone(),
        nkey: proof.nkey.unwrap_or_default(),
        jwt: secret(proof.jwt),
        sig: secret(proof.sig),
        user: proof.user,
        pass: proof.pass.map(Secret),
        auth_token: secret(proof.auth_token),
        server_id: local.server_id.clone(),
        domain: local.domain.clone().unwrap_or_default(),
        name: local.name.clone(),
        cluster: local.name.clone(),
        headers: info.headers,
        jetstream: local.jetstream,
        deny_pub: local.deny_imports.clone(),
        isolate: local.isolate,
        compress_mode: "off".into(),
        remote_account: local.account.clone(),
        protocol: 1, // message tracing is not implemented
        ..LeafConnect::default()
    };
    let mut out = b"CONNECT ".to_vec();
    out.extend_from_slice(&connect.to_json());
    out.extend_from_slice(b"\r\n");
    Ok(out)
}
