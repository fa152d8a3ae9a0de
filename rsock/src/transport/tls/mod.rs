//! TLS, over whatever socket there is, on both sides: its settings, the handshake, and what came of it.
//!
//! ```text
//! ClientTls ──▶ Connector ──┐                                  ┌──▶ TlsStream, a socket like others
//! ServerTls ──▶ Acceptor ───┴── one handshake on a socket ─────┴──▶ TlsInfo: version, names, certificate
//!     └──▶ TlsReloader: other certificates for the handshakes that come after
//! ```
//!
//! The cryptography is always the one that was chosen: nothing here depends on a default of the process, nor
//! sets one.

mod client;
mod der;
mod failure;
mod info;
mod pem;
mod server;
mod stream;

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The crate that does the work, for [`ClientTls::config`] and for providers of one's own.
pub use tokio_rustls::rustls;

use rustls::{SupportedProtocolVersion, crypto::CryptoProvider, version};

pub use crate::error::{TlsError, TlsErrorKind};
pub use client::{ClientTls, Roots};
pub use info::{PeerCertificate, TlsInfo};
pub use pem::Pem;
pub use server::{Certificate, ClientAuth, Reloaded, ServerTls, TlsReloader};

pub(crate) use client::Connector;
pub(crate) use failure::{failed, kind_of};
pub(crate) use stream::TlsStream;

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// 1.2, the oldest that is spoken.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

impl TlsVersion {
    /// The versions from this one on.
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match self {
            Self::Tls12 => &ALL,
            Self::Tls13 => &ALL[..1],
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

impl std::str::FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err("a version of TLS is 1.2 or 1.3".to_owned()),
        }
    }
}

/// Bytes that may wait encrypted for a socket that takes none: what waits there can no longer be overtaken.
const MAX_ENCRYPTED_BYTES: usize = 32 << 10;

/// The protocol beside which WebSockets begin.
const HTTP: &str = "http/1.1";

/// The provider that was given, or that of a feature.
fn provider(given: Option<&Arc<CryptoProvider>>) -> Result<Arc<CryptoProvider>, TlsError> {
    if let Some(given) = given {
        return Ok(Arc::clone(given));
    }
    #[cfg(feature = "tls-aws-lc-rs")]
    let ours = Some(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
    let ours = Some(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    let ours: Option<CryptoProvider> = None;
    let missing = "there is none: build with the feature tls-aws-lc-rs or tls-ring, or give one";
    ours.map(Arc::new).ok_or_else(|| TlsError::new("the cryptography of TLS", missing))
}

/// A setting that the library of TLS refuses.
fn refused(error: rustls::Error) -> TlsError {
    TlsError::new("the settings of TLS", error)
}

/// Since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
