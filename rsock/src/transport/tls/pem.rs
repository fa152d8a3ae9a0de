//! Certificates and keys, as files have them.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};

use super::TlsError;

/// A file in the PEM format, or what would be in one.
#[derive(Clone)]
pub struct Pem(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Text(Arc<[u8]>),
}

impl Pem {
    /// The file of this name.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The text itself.
    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self(Source::Text(text.into().into()))
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            Source::Text(_) => None,
        }
    }

    pub(super) fn read(&self) -> Result<Read<'_>, TlsError> {
        let bytes = match &self.0 {
            Source::File(path) => fs::read(path)
                .map_err(|error| {
                    TlsError::new(path.display(), format_args!("it cannot be read: {error}"))
                })?
                .into(),
            Source::Text(text) => Arc::clone(text),
        };
        Ok(Read { pem: self, bytes })
    }
}

/// A file of this name.
impl From<PathBuf> for Pem {
    fn from(path: PathBuf) -> Self {
        Self::file(path)
    }
}

/// A file of this name.
impl From<&Path> for Pem {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

/// A file of this name.
impl From<&str> for Pem {
    fn from(path: &str) -> Self {
        Self::file(path)
    }
}

/// Names the file, and shows nothing of what is in it.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.to_string()).finish()
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => path.display().fmt(f),
            Source::Text(_) => f.write_str("the PEM text that was given"),
        }
    }
}

/// The content of a file, as it was at one time.
pub(super) struct Read<'a> {
    pem: &'a Pem,
    pub(super) bytes: Arc<[u8]>,
}

impl Read<'_> {
    fn wrong(&self, problem: impl fmt::Display) -> TlsError {
        TlsError::new(self.pem, problem)
    }

    fn all<T: PemObject>(&self, what: &str, begins: &str) -> Result<Vec<T>, TlsError> {
        let mut all = Vec::new();
        for one in T::pem_slice_iter(&self.bytes) {
            all.push(one.map_err(|error| self.wrong(format_args!("it is not PEM: {error}")))?);
        }
        if all.is_empty() {
            let problem =
                format!("it has no {what}: a line \"-----BEGIN {begins}-----\" is expected");
            return Err(self.wrong(problem));
        }
        Ok(all)
    }

    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.all("certificate", "CERTIFICATE")
    }

    pub(super) fn revocations(
        &self,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        self.all("list of revoked certificates", "X509 CRL")
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound if contains(&self.bytes, b"ENCRYPTED PRIVATE KEY") => self.wrong(
                "the key is encrypted, and there is nobody to ask for its password: decrypt it, as with \
                 openssl pkey -in FILE -out FILE",
            ),
            pem::Error::NoItemsFound => self.wrong(
                "it has no private key: a line \"-----BEGIN PRIVATE KEY-----\" is expected",
            ),
            error => self.wrong(format_args!("it is not PEM: {error}")),
        })
    }

    pub(super) fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|error| self.wrong(error))?;
        }
        Ok(roots)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A chain of certificates and the key of its first, which have to belong together.
pub(super) fn pair(
    chain: &Read<'_>,
    key: &Read<'_>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let certificates = chain.certificates()?;
    let private = key.key()?;
    CertifiedKey::from_der(certificates, private, provider).map_err(|error| {
        use tokio_rustls::rustls::{Error, InconsistentKeys::KeyMismatch};
        match error {
            Error::InconsistentKeys(KeyMismatch) => key.wrong(format_args!(
                "the key does not belong to the first certificate of {}; one of the two may be newer",
                chain.pem
            )),
            error => key.wrong(format_args!("it cannot be used with {}: {error}", chain.pem)),
        }
    })
}
