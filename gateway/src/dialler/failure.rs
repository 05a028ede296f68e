//! Why a dial or its TLS failed, in words that a person can act on.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// One sentence.
pub(super) fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => format!("TLS: {}", of_tls(tls)),
        None => error.to_string(),
    }
}

fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(certificate) => of_certificate(certificate),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the hub asks for a certificate of ours: set \"cert_file\" and \"key_file\" in the remote's tls block"
                .to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied),
        ) => format!(
            "the hub does not take our certificate, or misses one ({alert:?}): are \"cert_file\" and \"key_file\" of the remote's tls block those of \
             a certificate that the hub's CA signed and that is still valid?"
        ),
        Error::InvalidMessage(_) => format!("the hub answers no TLS ({error}): does it have a tls block?"),
        other => other.to_string(),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        // Another CA of the same name, too.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the hub's certificate is signed by nobody we trust: set \"ca_file\" in the remote's tls block to the CA that signed it".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the hub's certificate is for another name ({error}): use one of its names in the remote's URL")
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("the hub's certificate is not valid at this time ({error}): is the clock of this box right?")
        }
        other => format!("the hub's certificate is not accepted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_names_what_to_do() {
        let said = |error: Error| explain(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(said(Error::InvalidCertificate(CertificateError::UnknownIssuer)).contains("ca_file"));
        assert!(said(Error::InvalidCertificate(CertificateError::NotValidForName)).contains("URL"));
        assert!(said(Error::InvalidCertificate(CertificateError::Expired)).contains("clock"));
        assert!(said(Error::AlertReceived(AlertDescription::CertificateRequired)).contains("cert_file"));
        // What hubs of some years ago say when there is none.
        assert!(said(Error::AlertReceived(AlertDescription::BadCertificate)).contains("cert_file"));
        assert!(said(Error::AlertReceived(AlertDescription::UnknownCA)).contains("does not take our certificate"));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(explain(&refused), "connection refused");
    }
}
