//! Who we are for the hub: user and password, token, nkey seed, or a `.creds` file.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;

/// Largest `.creds` text accepted, bytes.
const MAX_CREDENTIALS_LENGTH: usize = 64 * 1024;

/// Why credentials are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No block that begins with `-----BEGIN NATS USER JWT-----`.
    #[error("no user JWT in the credentials")]
    NoJwt,
    /// No block that begins with `-----BEGIN USER NKEY SEED-----`.
    #[error("no nkey seed in the credentials")]
    NoSeed,
    /// The seed is not a seed.
    #[error("the nkey seed is not valid: it should be 58 characters that begin with SU")]
    BadSeed,
    /// More than 64 KiB.
    #[error("credentials larger than {MAX_CREDENTIALS_LENGTH} bytes")]
    TooLarge,
    /// The hub's INFO has no nonce to sign.
    #[error("the hub sent no nonce, so the key cannot be proven")]
    NoNonce,
}

/// What is presented in CONNECT.
#[derive(Clone, Default)]
pub enum Credentials {
    /// What the URL says, or nothing (certificates, open hubs).
    #[default]
    None,
    /// `user` and `pass`.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// `auth_token`.
    Token(String),
    /// An nkey: the public key and a signature are sent, never the seed.
    Seed(String),
    /// A user JWT and the seed of its key.
    Jwt {
        /// The JWT, as in the file.
        jwt: String,
        /// The seed.
        seed: String,
    },
}

/// The fields of CONNECT that authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) user: Option<String>,
    pub(crate) pass: Option<String>,
    pub(crate) auth_token: Option<String>,
    pub(crate) nkey: Option<String>,
    pub(crate) jwt: Option<String>,
    pub(crate) sig: Option<String>,
}

impl Credentials {
    /// Reads the text of a `.creds` file.
    ///
    /// # Errors
    /// When a block is missing or the seed is damaged.
    pub fn from_creds_text(text: &str) -> Result<Credentials, CredentialsError> {
        if text.len() > MAX_CREDENTIALS_LENGTH {
            return Err(CredentialsError::TooLarge);
        }
        let jwt = block(text, "NATS USER JWT").ok_or(CredentialsError::NoJwt)?.to_owned();
        let seed = block(text, "USER NKEY SEED").ok_or(CredentialsError::NoSeed)?.to_owned();
        let credentials = Credentials::Jwt { jwt, seed };
        credentials.check()?;
        Ok(credentials)
    }

    /// Is the seed, if there is one, usable?
    ///
    /// # Errors
    /// [`CredentialsError::BadSeed`].
    pub fn check(&self) -> Result<(), CredentialsError> {
        match self {
            Credentials::Seed(seed) | Credentials::Jwt { seed, .. } => key_pair(seed).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// What CONNECT says, given the hub's nonce and the user part of the URL.
    pub(crate) fn prove(
        &self,
        nonce: &str,
        url_user: Option<&str>,
        url_password: Option<&str>,
    ) -> Result<Proof, CredentialsError> {
        Ok(match self {
            Credentials::None => match (url_user, url_password) {
                (Some(user), Some(password)) => {
                    Proof { user: Some(user.into()), pass: Some(password.into()), ..Proof::default() }
                }
                // A URL with only a user part means a token; stock sends it in both fields.
                (Some(user), None) => {
                    Proof { user: Some(user.into()), auth_token: Some(user.into()), ..Proof::default() }
                }
                _ => Proof::default(),
            },
            Credentials::Password { user, password } => {
                Proof { user: Some(user.clone()), pass: Some(password.clone()), ..Proof::default() }
            }
            Credentials::Token(token) => Proof { auth_token: Some(token.clone()), ..Proof::default() },
            Credentials::Seed(seed) => {
                let pair = key_pair(seed)?;
                Proof { nkey: Some(pair.public_key()), sig: Some(signature(&pair, nonce)?), ..Proof::default() }
            }
            Credentials::Jwt { jwt, seed } => {
                let pair = key_pair(seed)?;
                Proof { jwt: Some(jwt.clone()), sig: Some(signature(&pair, nonce)?), ..Proof::default() }
            }
        })
    }
}

impl fmt::Debug for Credentials {
    /// Never shows a secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Credentials::None => "None",
            Credentials::Password { .. } => "Password",
            Credentials::Token(_) => "Token",
            Credentials::Seed(_) => "Seed",
            Credentials::Jwt { .. } => "Jwt",
        })
    }
}

fn key_pair(seed: &str) -> Result<KeyPair, CredentialsError> {
    KeyPair::from_seed(seed.trim()).map_err(|_| CredentialsError::BadSeed)
}

/// Signs the characters of the nonce, not the bytes they encode: so stock checks it.
fn signature(pair: &KeyPair, nonce: &str) -> Result<String, CredentialsError> {
    if nonce.is_empty() {
        return Err(CredentialsError::NoNonce);
    }
    let signed = pair.sign(nonce.as_bytes()).map_err(|_| CredentialsError::BadSeed)?;
    Ok(URL_SAFE_NO_PAD.encode(signed))
}

/// The first non-empty line after `-----BEGIN <name>-----`.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        let inner = line.trim_matches('-');
        inner.len() < line.len() && inner.strip_prefix("BEGIN ").is_some_and(|title| title == name)
    })?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creds_file_signs_the_nonce_text() {
        let pair = KeyPair::new_from_raw(nkeys::KeyPairType::User, [7; 32]).unwrap();
        let seed = pair.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ.a.b\r\n------END NATS USER JWT------\r\n\r\n*** IMPORTANT ***\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let credentials = Credentials::from_creds_text(&text).unwrap();
        let proof = credentials.prove("abcdefghijk", None, None).unwrap();
        assert_eq!((proof.jwt.as_deref(), proof.nkey), (Some("eyJ.a.b"), None));
        let signed = URL_SAFE_NO_PAD.decode(proof.sig.unwrap()).unwrap();
        pair.verify(b"abcdefghijk", &signed).unwrap();
        assert_eq!(credentials.prove("", None, None), Err(CredentialsError::NoNonce));
        assert_eq!(format!("{credentials:?}"), "Jwt");
        let proof = Credentials::Seed(seed).prove("n", None, None).unwrap();
        assert_eq!(proof.nkey, Some(pair.public_key()));
    }

    #[test]
    fn damaged_credentials_are_refused_before_a_dial() {
        assert_eq!(Credentials::from_creds_text("hello").unwrap_err(), CredentialsError::NoJwt);
        let text = "-----BEGIN NATS USER JWT-----\nx\n---\n-----BEGIN USER NKEY SEED-----\nSUNO\n";
        assert_eq!(Credentials::from_creds_text(text).unwrap_err(), CredentialsError::BadSeed);
        assert_eq!(Credentials::from_creds_text(&text[..45]).unwrap_err(), CredentialsError::NoSeed);
    }

    #[test]
    fn a_lone_user_is_a_token_too() {
        let proof = Credentials::None.prove("n", Some("secret"), None).unwrap();
        assert_eq!((proof.user.as_deref(), proof.auth_token.as_deref()), (Some("secret"), Some("secret")));
    }
}
