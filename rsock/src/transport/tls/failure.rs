//! From what the library of TLS says to what is to be done.

use std::io;

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, pki_types::ServerName,
};

use super::TlsErrorKind;
use crate::error::ConnectError;

/// A handshake with `address` has failed, or a connection to it that TLS protects has.
pub(crate) fn failed(address: impl Into<String>, error: io::Error) -> ConnectError {
    let kind = kind_of(&error).unwrap_or_else(|| match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => TlsErrorKind::Closed,
        _ => TlsErrorKind::Other,
    });
    ConnectError::Tls { address: address.into(), kind, error: error.into() }
}

/// The kind of an error that TLS has brought about; none for those of the socket below.
pub(crate) fn kind_of(error: &io::Error) -> Option<TlsErrorKind> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(alert) => said(*alert),
        Error::NoApplicationProtocol => TlsErrorKind::Alpn,
        Error::PeerIncompatible(_) => TlsErrorKind::Version,
        Error::NoCertificatesPresented => TlsErrorKind::ClientCertificateRequired,
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => TlsErrorKind::NotTls,
        _ => TlsErrorKind::Other,
    })
}

fn certificate(error: &CertificateError) -> TlsErrorKind {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, Revoked, UnknownIssuer,
    };
    match error {
        Expired | ExpiredContext { .. } => TlsErrorKind::Expired,
        NotValidYet | NotValidYetContext { .. } => TlsErrorKind::NotYetValid,
        Revoked => TlsErrorKind::Revoked,
        // Of an authority of the same name, but with another key, as when it was made anew.
        UnknownIssuer | BadSignature => TlsErrorKind::UnknownIssuer,
        NotValidForNameContext { expected, presented } => TlsErrorKind::NameMismatch {
            name: match expected {
                ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
                name => name.to_str().into_owned(),
            },
            names: presented.iter().map(|name| bare(name)).collect(),
        },
        NotValidForName => {
            TlsErrorKind::NameMismatch { name: "that name".to_owned(), names: Vec::new() }
        }
        _ => TlsErrorKind::BadCertificate,
    }
}

/// A name without what says of which kind it is, as in `DnsName("a.example")`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"').to_owned()
}

/// The other side has told what it does not like. About a certificate, a server says so of ours.
fn said(alert: AlertDescription) -> TlsErrorKind {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => TlsErrorKind::ClientCertificateRequired,
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::DecryptError
        | Alert::AccessDenied => TlsErrorKind::ClientCertificateRefused,
        Alert::NoApplicationProtocol => TlsErrorKind::Alpn,
        Alert::ProtocolVersion | Alert::InsufficientSecurity => TlsErrorKind::Version,
        _ => TlsErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_bare() {
        for (name, expected) in [
            ("DnsName(\"a.example\")", "a.example"),
            ("IpAddress(127.0.0.1)", "127.0.0.1"),
            ("a.example", "a.example"),
        ] {
            assert_eq!(bare(name), expected);
        }
    }

    #[test]
    fn alerts_are_told_by_what_is_to_be_done() {
        let of = |error: Error| kind_of(&io::Error::new(io::ErrorKind::InvalidData, error));
        for (alert, expected) in [
            (AlertDescription::CertificateRequired, TlsErrorKind::ClientCertificateRequired),
            (AlertDescription::UnknownCA, TlsErrorKind::ClientCertificateRefused),
            (AlertDescription::ProtocolVersion, TlsErrorKind::Version),
            (AlertDescription::NoApplicationProtocol, TlsErrorKind::Alpn),
            (AlertDescription::InternalError, TlsErrorKind::Other),
        ] {
            assert_eq!(of(Error::AlertReceived(alert)), Some(expected), "{alert:?}");
        }
        assert_eq!(kind_of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
        assert_eq!(
            of(Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            Some(TlsErrorKind::NotTls)
        );
    }
}
