//! TLS configurations: of our listeners, and of the links that we dial.
//!
//! rustls with ring. Files are PEM and read once, before any port is bound. What is agreed on with a peer is in [`TlsSession`], for `/connz`.
//! Not here: the handshakes (`handshake`), and INFO in clear before one (`upgrade`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Fragments of output: small, so that an idle connection's buffers are.
const MAX_FRAGMENT: usize = 4096 + 32;

/// What is wrong with the configured files; the operator must act.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or holds no PEM of that kind.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key don't fit, or the certificate is one that can't be used.
    #[error("TLS configuration: {0}")]
    Unusable(String),
}

#[allow(clippy::needless_pass_by_value)] // the shape of `map_err`
impl TlsError {
    fn file(path: &Path, reason: impl ToString) -> TlsError {
        TlsError::File { path: path.to_owned(), reason: reason.to_string() }
    }

    fn unusable(reason: impl ToString) -> TlsError {
        TlsError::Unusable(reason.to_string())
    }
}

/// A certificate chain and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// PEM with the chain, our own certificate first.
    pub cert_file: PathBuf,
    /// PEM with the key.
    pub key_file: PathBuf,
}

/// TLS of a listener, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// Who we are.
    pub identity: IdentityFiles,
    /// Who may sign clients' certificates; `None`: the well-known authorities.
    pub ca_file: Option<PathBuf>,
    /// Clients must show a certificate.
    pub verify: bool,
    /// TLS 1.2 is refused.
    pub only_13: bool,
    /// A handshake that takes longer is ended.
    pub timeout: Duration,
    /// For NATS clients: does the handshake precede INFO?
    pub first: HandshakeFirst,
    /// For NATS clients: may they stay in clear (`allow_non_tls`)?
    pub optional: bool,
}

/// Does the TLS handshake precede INFO?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFirst {
    /// INFO first.
    Never,
    /// TLS first.
    Always,
    /// TLS if the client begins it within this time, else INFO.
    Auto(Duration),
}

/// TLS of a listener, ready for use; cheap to clone.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verify: bool,
    pub(crate) timeout: Duration,
    pub(crate) first: HandshakeFirst,
    pub(crate) optional: bool,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ServerTls")
            .field("verify", &self.verify)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them can't be used.
    pub fn load(listener: &ListenerTls) -> Result<ServerTls, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(listener.only_13))
            .map_err(TlsError::unusable)?;
        let builder = if listener.verify {
            let roots = Arc::new(roots(listener.ca_file.as_deref())?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(TlsError::unusable)?)
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = identity(&listener.identity)?;
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::unusable)?;
        config.max_fragment_size = Some(MAX_FRAGMENT);
        // Tickets are stateless: resumed sessions need no memory of ours.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::unusable)?;
        config.send_tls13_tickets = 1;
        Ok(ServerTls {
            config: Arc::new(config),
            verify: listener.verify,
            timeout: listener.timeout,
            first: listener.first,
            optional: listener.optional,
        })
    }
}

/// TLS of a link that we dial, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialTls {
    /// Our certificate, when the hub asks for one.
    pub identity: Option<IdentityFiles>,
    /// Who may have signed the hub's certificate; `None`: the well-known authorities.
    pub ca_file: Option<PathBuf>,
    /// Any certificate is believed.
    pub insecure: bool,
    /// TLS 1.2 is refused.
    pub only_13: bool,
}

/// The rustls configuration of a link that we dial; wrap it in a `tokio_rustls::TlsConnector`.
///
/// # Errors
/// When one of the files can't be used.
pub fn client_config(dial: &DialTls) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions(dial.only_13))
        .map_err(TlsError::unusable)?;
    let builder = if dial.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Believe(provider)))
    } else {
        builder.with_root_certificates(roots(dial.ca_file.as_deref())?)
    };
    let mut config = match &dial.identity {
        Some(files) => {
            let (chain, key) = identity(files)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::unusable)?
        }
        None => builder.with_no_client_auth(),
    };
    config.max_fragment_size = Some(MAX_FRAGMENT);
    Ok(Arc::new(config))
}

/// The name that the peer's certificate must have: a host name, or an IP address without brackets.
///
/// # Errors
/// When it is neither.
pub fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|error| TlsError::unusable(format!("{host}: {error}")))
}

/// What was agreed on, in the words of nats-server's `/connz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// `TLS_AES_128_GCM_SHA256` and so on.
    pub cipher_suite: &'static str,
}

impl TlsSession {
    pub(crate) fn of(connection: &rustls::ServerConnection) -> TlsSession {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "1.2",
        };
        let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        // rustls marks the suites of TLS 1.3 in its own names; Go and the registry don't.
        let cipher_suite = match suite.unwrap_or("") {
            "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
            "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
            "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
            other => other,
        };
        TlsSession { version, cipher_suite }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn versions(only_13: bool) -> &'static [&'static SupportedProtocolVersion] {
    const ONLY_13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
    if only_13 { ONLY_13 } else { rustls::ALL_VERSIONS }
}

fn identity(files: &IdentityFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&files.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file).map_err(|error| TlsError::file(&files.key_file, error))?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::file(path, "no certificate in PEM form")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(TlsError::file(path, error)),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match ca_file {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| TlsError::file(path, error))?;
            }
        }
    }
    Ok(store)
}

/// `insecure`: any certificate is believed, but whoever shows it must have its key.
#[derive(Debug)]
struct Believe(Arc<CryptoProvider>);

impl ServerCertVerifier for Believe {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
