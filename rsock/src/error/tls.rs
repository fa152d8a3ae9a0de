//! Failures of TLS, in words that say what to do.

use std::{error, fmt};

use rsock_proto::Printable;

/// The reason for which a TLS handshake failed, or a connection that TLS protects has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The server's certificate is not of an authority that is trusted.
    UnknownIssuer,
    /// The server's certificate is for other names.
    NameMismatch {
        /// The name that was asked for.
        name: String,
        /// The names that it is for, as far as they are known.
        names: Vec<String>,
    },
    /// A certificate is not valid any more.
    Expired,
    /// A certificate is not valid yet.
    NotYetValid,
    /// A certificate has been revoked.
    Revoked,
    /// A certificate cannot be accepted for another reason.
    BadCertificate,
    /// The server asks for a certificate of the client's, and was given none.
    ClientCertificateRequired,
    /// The server was given one that it does not accept.
    ClientCertificateRefused,
    /// The two sides have no application protocol (ALPN) in common.
    Alpn,
    /// They have no version of TLS, or no way to encrypt, in common.
    Version,
    /// The other side does not speak TLS.
    NotTls,
    /// The other side closed the connection during the handshake.
    Closed,
    /// Anything else.
    Other,
}

impl TlsErrorKind {
    /// Whether it is the certificate of the other side that was not accepted, and not the handshake that
    /// failed.
    pub fn is_certificate(&self) -> bool {
        matches!(
            self,
            Self::UnknownIssuer
                | Self::NameMismatch { .. }
                | Self::Expired
                | Self::NotYetValid
                | Self::Revoked
                | Self::BadCertificate
        )
    }

    /// Whether trying again, without a change of ours, may succeed.
    pub(super) fn is_retryable(&self) -> bool {
        // A certificate may be renewed meanwhile, but not within the time for which one tries again; that
        // a server is about to start, or behind a proxy that is, ends the handshake.
        matches!(self, Self::Closed)
    }
}

/// Says what is to be done about it.
impl fmt::Display for TlsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str(
                "the server's certificate is not of an authority that is trusted here; if it is your \
                 own authority's, name that (Roots::Pem, rsock --ca FILE)",
            ),
            Self::NameMismatch { name, names } => {
                write!(f, "the server's certificate is not for {}", Printable(name))?;
                let Some(first) = names.first() else { return Ok(()) };
                let shown = names.iter().take(8).map(String::as_str).collect::<Vec<_>>();
                let shown = shown.join(", ");
                let first = Printable(first);
                write!(f, " but for {}; if that is the server you mean, ask for ", Printable(&shown))?;
                write!(f, "that name (ClientTls::server_name, rsock --sni {first})")
            }
            Self::Expired => f.write_str(
                "the certificate is not valid any more: it has to be renewed by whoever runs the other \
                 side, unless the clock here is wrong",
            ),
            Self::NotYetValid => f.write_str(
                "the certificate is not valid yet: one of the two clocks is wrong, or it was installed \
                 too early",
            ),
            Self::Revoked => f.write_str("the certificate has been revoked by its authority"),
            Self::BadCertificate => f.write_str("the certificate cannot be accepted"),
            Self::ClientCertificateRequired => f.write_str(
                "the server asks for a certificate of the client's, and there is none; give one \
                 (ClientTls::certificate, rsock --cert FILE --cert-key FILE)",
            ),
            Self::ClientCertificateRefused => f.write_str(
                "the server does not accept the client's certificate: it may be of an authority that \
                 the server does not trust, expired or revoked, or not be for clients",
            ),
            Self::Alpn => f.write_str(
                "the two sides have no application protocol (ALPN) in common; offer none, or the one \
                 that the server has (ClientTls::alpn, rsock --alpn NAME)",
            ),
            Self::Version => f.write_str(
                "the two sides have no version of TLS in common, or no cipher; one of them is too old, \
                 or set too strictly (rsock --tls-min, rsockd --tls-min)",
            ),
            Self::NotTls => f.write_str(
                "the other side does not speak TLS on this port; connect with tcp:// or ws://, or to its \
                 port with TLS",
            ),
            Self::Closed => f.write_str(
                "the other side closed the connection during the TLS handshake; its log may say why",
            ),
            Self::Other => f.write_str("the TLS handshake failed"),
        }
    }
}

/// Settings of TLS that cannot be used: a file that cannot be read, or what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    place: String,
    problem: String,
}

impl TlsError {
    #[cfg(feature = "tls")]
    pub(crate) fn new(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self { place: place.to_string(), problem: problem.to_string() }
    }

    /// The file, or the setting.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The problem with it, and what is expected.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Printable(&self.place), self.problem)
    }
}

impl error::Error for TlsError {}
