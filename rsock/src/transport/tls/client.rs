//! The side that dials: whom it trusts, and what it shows of itself.

use std::{fmt, sync::Arc};

use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, KeyLogFile, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
        sign::SingleCertAndKey,
    },
};

use super::{
    MAX_ENCRYPTED_BYTES, Pem, TlsError, TlsInfo, TlsStream, TlsVersion, pem, provider, refused,
};
use crate::{
    error::ConnectError,
    transport::{
        address::{Address, HostPort, Layout, Security, Uri},
        socket::Socket,
    },
};

/// The certificate authorities that a client trusts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Roots {
    /// Those that the system trusts. The variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
    #[default]
    Platform,
    /// Those of a file, and no others.
    Pem(Pem),
    /// Anyone: the connection is encrypted, and nobody knows to whom. Each connection is warned about.
    Insecure,
}

/// A client's TLS, for [`ClientBuilder::tls`](crate::ClientBuilder::tls): without it, `tls://` and
/// `wss://` trust whom the system trusts, and show no certificate.
///
/// ```
/// use rsock::{Client, tls::{ClientTls, Roots}};
///
/// let builder = Client::builder().tls(ClientTls::new().roots(Roots::Pem("ca.pem".into())));
/// # drop(builder);
/// ```
#[must_use]
#[derive(Clone, Default)]
pub struct ClientTls {
    roots: Roots,
    certificate: Option<(Pem, Pem)>,
    server_name: Option<String>,
    alpn: Option<Vec<String>>,
    min_version: TlsVersion,
    provider: Option<Arc<CryptoProvider>>,
    config: Option<Arc<ClientConfig>>,
    logs_keys: bool,
}

impl ClientTls {
    /// Trusts whom the system trusts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who is trusted.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// Shows this certificate to servers that ask for one: the files of its chain and of its key.
    pub fn certificate(mut self, chain: impl Into<Pem>, key: impl Into<Pem>) -> Self {
        self.certificate = Some((chain.into(), key.into()));
        self
    }

    /// Asks for this name, and takes a certificate for it alone, in place of the host of the URI.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Offers these application protocols (ALPN). By default `http/1.1` for `wss://`, and none for
    /// `tls://`.
    pub fn alpn(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.alpn = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Speaks no version of TLS before this one. Default 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Uses this cryptography, in place of that of a feature.
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Appends the keys of each connection to the file that the variable `SSLKEYLOGFILE` names, if it
    /// does: whoever reads it can read the connections, as Wireshark does.
    pub fn log_keys(mut self, log: bool) -> Self {
        self.logs_keys = log;
        self
    }

    /// Uses these settings of the library, in place of all above but the name.
    pub fn config(mut self, config: Arc<ClientConfig>) -> Self {
        self.config = Some(config);
        self
    }

    /// The settings of the library that these are, for connections that are none of RSocket's. They offer no
    /// application protocol, unless some are named.
    ///
    /// # Errors
    /// What is wrong with a file, or that the system trusts nobody.
    pub fn to_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        match &self.config {
            Some(config) => Ok(Arc::clone(config)),
            None => self.build(&Layout::Prefixed).map(Arc::new),
        }
    }

    /// The means to shake hands with the host of a URI, as often as it is dialled; none if it asks for no TLS.
    pub(crate) fn connector_to(&self, uri: &Uri) -> Result<Option<Connector>, TlsError> {
        match (&uri.address, uri.security) {
            (Address::Tcp(target), Security::Tls) => self.connector(target, &uri.layout).map(Some),
            _ => Ok(None),
        }
    }

    fn connector(&self, target: &HostPort, layout: &Layout) -> Result<Connector, TlsError> {
        let host = target.host.split('%').next().unwrap_or_default();
        let asked = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| {
            TlsError::new("the name of the server", format_args!("{asked:?} cannot be asked for"))
        })?;
        let config = match &self.config {
            Some(config) => Arc::clone(config),
            None => Arc::new(self.build(layout)?),
        };
        let is_insecure = self.config.is_none() && matches!(self.roots, Roots::Insecure);
        Ok(Connector { config, name, is_insecure })
    }

    fn build(&self, layout: &Layout) -> Result<ClientConfig, TlsError> {
        let provider = provider(self.provider.as_ref())?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.and_later())
            .map_err(refused)?;
        let builder = match &self.roots {
            Roots::Platform => builder.with_root_certificates(platform_roots()?),
            Roots::Pem(file) => builder.with_root_certificates(file.read()?.roots()?),
            Roots::Insecure => {
                let anyone = Anyone(Arc::clone(&provider));
                builder.dangerous().with_custom_certificate_verifier(Arc::new(anyone))
            }
        };
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let pair = pem::pair(&chain.read()?, &key.read()?, &provider)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
        };
        let alpn = self.alpn.clone().unwrap_or_else(|| match layout {
            Layout::Prefixed => Vec::new(),
            #[cfg(feature = "websocket")]
            Layout::WebSocket { .. } => vec![super::HTTP.to_owned()],
        });
        config.alpn_protocols = alpn.into_iter().map(String::into_bytes).collect();
        if self.logs_keys {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(config)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("roots", &self.roots)
            .field("certificate", &self.certificate.as_ref().map(|(chain, _)| chain))
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn)
            .field("min_version", &self.min_version)
            .finish_non_exhaustive()
    }
}

fn platform_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // There are some on most systems that are no good any more.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
        let problem = format!(
            "there are none{why}; install the package ca-certificates, or name the authority \
             (Roots::Pem, rsock --ca FILE)"
        );
        return Err(TlsError::new("the authorities that the system trusts", problem));
    }
    Ok(roots)
}

/// The way to one server, over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    is_insecure: bool,
}

impl Connector {
    /// Shakes hands over a socket to `address`.
    pub(crate) async fn connect(
        &self,
        socket: Socket,
        address: &str,
    ) -> Result<Socket, ConnectError> {
        if self.is_insecure {
            log_insecure(address);
        }
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let connecting = connector.connect_with(self.name.clone(), socket, |session| {
            session.set_buffer_limit(Some(MAX_ENCRYPTED_BYTES));
        });
        let stream = connecting.await.map_err(|error| super::failed(address, error))?;
        let name = match &self.name {
            ServerName::DnsName(name) => Some(name.as_ref()),
            _ => None,
        };
        let info = TlsInfo::of(stream.get_ref().1, name);
        Ok(Socket::Tls(Box::new(TlsStream::new(stream.into(), info))))
    }
}

#[cfg(feature = "tracing")]
fn log_insecure(address: &str) {
    tracing::warn!(
        address,
        "connecting without looking at the server's certificate: anyone may answer"
    );
}

#[cfg(not(feature = "tracing"))]
fn log_insecure(_: &str) {}

/// Takes whatever certificate the server has a key for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
