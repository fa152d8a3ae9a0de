//! The outcome of a handshake, as it is told.

use std::{fmt, net::IpAddr, time::SystemTime};

use tokio_rustls::rustls::{CommonState, ProtocolVersion, pki_types::CertificateDer};

use super::{TlsVersion, der::Fields};

/// The protection of a connection: what its two sides have agreed upon, and the certificate of the other
/// one.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    version: TlsVersion,
    cipher_suite: &'static str,
    alpn: Option<Box<str>>,
    server_name: Option<Box<str>>,
    certificate: Option<PeerCertificate>,
}

impl TlsInfo {
    pub(super) fn of(state: &CommonState, server_name: Option<&str>) -> Self {
        let certificate = state.peer_certificates().and_then(<[_]>::first);
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            },
            cipher_suite: state
                .negotiated_cipher_suite()
                .and_then(|suite| suite.suite().as_str())
                .unwrap_or("unknown"),
            alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into()),
            server_name: server_name.map(Into::into),
            certificate: certificate.and_then(PeerCertificate::read),
        }
    }

    /// The version of TLS.
    pub fn version(&self) -> TlsVersion {
        self.version
    }

    /// The cipher suite, by its name in IANA's registry.
    pub fn cipher_suite(&self) -> &str {
        self.cipher_suite
    }

    /// The application protocol that was agreed upon (ALPN), if any was.
    pub fn alpn(&self) -> Option<&str> {
        self.alpn.as_deref()
    }

    /// The name that the client asked for (SNI); none of one that asked for an address.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The certificate of the other side, which has been verified: of a client, if it gave one.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }
}

/// The certificate of the other side of a connection: who it says that it is.
#[derive(Clone)]
pub struct PeerCertificate(Fields);

impl PeerCertificate {
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        Fields::read(certificate).map(Self)
    }

    /// The URIs among its alternative names, as `spiffe://example.org/orders`.
    pub fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.uris.iter().map(|name| &**name)
    }

    /// The DNS names among them.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.0.dns.iter().map(|name| &**name)
    }

    /// The addresses among them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.addresses.iter().copied()
    }

    /// The common name of its subject, if it has exactly one.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_name.as_deref()
    }

    /// The SHA-256 of its public key (SubjectPublicKeyInfo): the same for all certificates of one key, and
    /// for no others.
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.0.key
    }

    /// The end of its validity, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.0.not_after
    }

    pub(super) fn has_expired(&self, now: SystemTime) -> bool {
        self.0.not_after < super::seconds(now)
    }
}

/// Shows whom it is for.
impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("uris", &self.0.uris)
            .field("dns_names", &self.0.dns)
            .field("common_name", &self.0.common_name)
            .finish_non_exhaustive()
    }
}
