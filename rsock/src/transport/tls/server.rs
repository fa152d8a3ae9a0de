//! The side that is dialled: its certificates, which of them a client sees, and how they are exchanged.

use std::{
    fmt, fs,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::CryptoProvider,
        server::{
            ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
            WebPkiClientVerifier,
        },
        sign::CertifiedKey,
    },
};

use super::{
    HTTP, MAX_ENCRYPTED_BYTES, Pem, TlsError, TlsInfo, TlsStream, TlsVersion,
    der::Fields,
    pem::{self, Read},
    provider, refused,
};
use crate::transport::socket::{Socket, linger};

/// The certificates that clients are asked for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// None.
    #[default]
    None,
    /// One may be shown, of an authority of this file; who shows none is let in without.
    Optional(Pem),
    /// One has to be shown, of an authority of this file.
    Required(Pem),
}

/// A server's TLS, for [`ServerBuilder::tls`](crate::ServerBuilder::tls), which `tls://` and `wss://` need.
///
/// ```
/// use rsock::{Server, tls::ServerTls};
///
/// let tls = ServerTls::new("cert.pem", "key.pem").also("other.pem", "other-key.pem");
/// let reloader = tls.reloader();
/// let builder = Server::builder().tls(tls);
/// # drop((builder, reloader));
/// ```
///
/// The files are read when the server is bound, and whenever its [`TlsReloader`] is told to.
#[must_use]
#[derive(Clone)]
pub struct ServerTls {
    settings: Settings,
    state: Arc<State>,
}

#[derive(Clone)]
struct Settings {
    /// The files of chains and their keys.
    pairs: Vec<(Pem, Pem)>,
    client_auth: ClientAuth,
    revoked: Option<Pem>,
    alpn: Option<Vec<String>>,
    min_version: TlsVersion,
    provider: Option<Arc<CryptoProvider>>,
}

/// The parts that a server and its reloaders share.
struct State {
    loaded: RwLock<Option<Arc<Loaded>>>,
    /// A digest of the files that were last tried, whether they were taken or not.
    tried: RwLock<Option<u64>>,
    digests: RandomState,
}

struct Loaded {
    raw: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
    /// A digest of what clients are verified by.
    clients: u64,
    certificates: Arc<[Certificate]>,
}

/// A certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    path: Option<PathBuf>,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// Its file, if it was read from one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The names and addresses that it is for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The end of its validity, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Seconds until it is not valid any more; below zero afterwards.
    pub fn seconds_left(&self) -> i64 {
        self.not_after - super::seconds(SystemTime::now())
    }

    fn is_valid(&self) -> bool {
        let now = super::seconds(SystemTime::now());
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// The certificates that a server shows from now on.
#[derive(Clone, Debug)]
pub struct Reloaded {
    certificates: Arc<[Certificate]>,
}

impl Reloaded {
    /// All of them; the first is for clients that ask for no name, or for one that none is for.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

impl ServerTls {
    /// Shows this certificate: the files of its chain, its own first, and of its key.
    pub fn new(chain: impl Into<Pem>, key: impl Into<Pem>) -> Self {
        Self {
            settings: Settings {
                pairs: vec![(chain.into(), key.into())],
                client_auth: ClientAuth::None,
                revoked: None,
                alpn: None,
                min_version: TlsVersion::default(),
                provider: None,
            },
            state: Arc::new(State {
                loaded: RwLock::new(None),
                tried: RwLock::new(None),
                digests: RandomState::new(),
            }),
        }
    }

    /// Shows this one to clients that ask for a name of it (SNI). Of several for a name, that one which
    /// the client can verify.
    pub fn also(mut self, chain: impl Into<Pem>, key: impl Into<Pem>) -> Self {
        self.settings.pairs.push((chain.into(), key.into()));
        self
    }

    /// Asks clients for certificates. By default they are not asked.
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.settings.client_auth = auth;
        self
    }

    /// Refuses clients whose certificates are in the lists of this file (CRL, as PEM).
    pub fn revoked(mut self, lists: impl Into<Pem>) -> Self {
        self.settings.revoked = Some(lists.into());
        self
    }

    /// Agrees upon one of these application protocols (ALPN) with clients of `tls://` that offer any;
    /// those that offer none are let in all the same, those that offer others are not. By default
    /// nothing is agreed upon there, and everyone is let in. With `wss://` it is always `http/1.1`.
    pub fn alpn(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.alpn = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Speaks no version of TLS before this one. Default 1.2.
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.settings.min_version = version;
        self
    }

    /// Uses this cryptography, in place of that of a feature.
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.settings.provider = Some(provider);
        self
    }

    /// The means of exchanging the certificates while the server runs, for these settings.
    pub fn reloader(&self) -> TlsReloader {
        TlsReloader(self.clone())
    }

    /// Reads all files, and shows what is in them from now on.
    ///
    /// # Errors
    /// If something of them cannot be used: then nothing changes.
    pub(crate) fn load(&self) -> Result<Reloaded, TlsError> {
        Ok(self.take(&self.settings.read()?)?.1)
    }

    fn take(&self, files: &Files<'_>) -> Result<(Arc<Loaded>, Reloaded), TlsError> {
        *self.state.tried.write().unwrap_or_else(PoisonError::into_inner) =
            Some(files.digest(&self.state.digests));
        let before = self.state.loaded();
        let loaded = self.settings.load(files, before.as_deref(), &self.state.digests)?;
        let loaded = Arc::new(loaded);
        *self.state.loaded.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::clone(&loaded));
        let certificates = Arc::clone(&loaded.certificates);
        Ok((loaded, Reloaded { certificates }))
    }

    pub(crate) fn acceptor(&self) -> Acceptor {
        Acceptor(Arc::clone(&self.state))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains: Vec<_> = self.settings.pairs.iter().map(|(chain, _)| chain).collect();
        f.debug_struct("ServerTls")
            .field("certificates", &chains)
            .field("client_auth", &self.settings.client_auth)
            .field("min_version", &self.settings.min_version)
            .finish_non_exhaustive()
    }
}

impl State {
    fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Exchanges a server's certificates while it runs: connections there are stay as they are. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct TlsReloader(ServerTls);

impl TlsReloader {
    /// Reads all files anew, and shows what is in them to whoever connects from now on. Files are read,
    /// so that it may block for a moment.
    ///
    /// # Errors
    /// If something of them cannot be used, a key does not belong to its certificate, or one is not valid
    /// now while the one before is: then nothing changes.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        self.0.load()
    }

    /// The same if the files are others than those that were last tried; `None` if they are not.
    ///
    /// # Errors
    /// As of [`reload`](Self::reload), once for the same files.
    pub fn reload_if_changed(&self) -> Result<Option<Reloaded>, TlsError> {
        let files = self.0.settings.read()?;
        let digest = files.digest(&self.0.state.digests);
        let tried = *self.0.state.tried.read().unwrap_or_else(PoisonError::into_inner);
        if tried == Some(digest) { Ok(None) } else { Ok(Some(self.0.take(&files)?.1)) }
    }

    /// The certificates that are shown now; none before the server is bound.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0.state.loaded().map_or_else(Vec::new, |loaded| loaded.certificates.to_vec())
    }

    /// The files of keys that others than their owner and group may read; empty where the system does not
    /// tell.
    pub fn exposed_keys(&self) -> Vec<PathBuf> {
        let keys = self.0.settings.pairs.iter().filter_map(|(_, key)| key.path());
        keys.filter(|path| is_exposed(path)).map(Path::to_owned).collect()
    }
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}

/// All files of a server's TLS, as they were at one time.
struct Files<'a> {
    pairs: Vec<(Read<'a>, Read<'a>)>,
    authorities: Option<Read<'a>>,
    revoked: Option<Read<'a>>,
}

impl Files<'_> {
    fn digest(&self, digests: &RandomState) -> u64 {
        let mut digest = digests.build_hasher();
        for (chain, key) in &self.pairs {
            for file in [chain, key] {
                digest.write_usize(file.bytes.len());
                digest.write(&file.bytes);
            }
        }
        digest.write_u64(self.digest_of_clients(digests));
        digest.finish()
    }

    fn digest_of_clients(&self, digests: &RandomState) -> u64 {
        let mut digest = digests.build_hasher();
        for file in [&self.authorities, &self.revoked] {
            let bytes = file.as_ref().map_or(&[][..], |file| &file.bytes);
            digest.write_usize(bytes.len());
            digest.write(bytes);
        }
        digest.finish()
    }
}

impl Settings {
    fn read(&self) -> Result<Files<'_>, TlsError> {
        let mut pairs = Vec::with_capacity(self.pairs.len());
        for (chain, key) in &self.pairs {
            pairs.push((chain.read()?, key.read()?));
        }
        let authorities = match &self.client_auth {
            ClientAuth::None => None,
            ClientAuth::Optional(file) | ClientAuth::Required(file) => Some(file.read()?),
        };
        let revoked = self.revoked.as_ref().map(Pem::read).transpose()?;
        Ok(Files { pairs, authorities, revoked })
    }

    fn load(
        &self,
        files: &Files<'_>,
        before: Option<&Loaded>,
        digests: &RandomState,
    ) -> Result<Loaded, TlsError> {
        let provider = provider(self.provider.as_ref())?;
        let (mut choices, mut certificates) = (Vec::new(), Vec::new());
        for ((chain, key), (file, _)) in files.pairs.iter().zip(&self.pairs) {
            let pair = pem::pair(chain, key, &provider)?;
            let fields = pair.cert.first().and_then(|certificate| Fields::read(certificate));
            let fields = fields.ok_or_else(|| {
                TlsError::new(file, "the fields of its first certificate cannot be read")
            })?;
            let certificate = Certificate {
                path: file.path().map(Path::to_owned),
                names: fields
                    .dns
                    .iter()
                    .map(ToString::to_string)
                    .chain(fields.addresses.iter().map(ToString::to_string))
                    .collect(),
                not_before: fields.not_before,
                not_after: fields.not_after,
            };
            if !certificate.is_valid() && before.is_some_and(Loaded::is_valid) {
                let when = if certificate.seconds_left() < 0 { "any more" } else { "yet" };
                return Err(TlsError::new(file, format_args!("it is not valid {when}")));
            }
            let dns = fields.dns.iter().map(|name| name.to_ascii_lowercase()).collect();
            choices.push(Choice { names: dns, pair: Arc::new(pair) });
            certificates.push(certificate);
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.and_later())
            .map_err(refused)?;
        let builder = match &files.authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => {
                let roots = Arc::new(authorities.roots()?);
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                if let Some(revoked) = &files.revoked {
                    verifier = verifier
                        .with_crls(revoked.revocations()?)
                        .allow_unknown_revocation_status();
                }
                if matches!(self.client_auth, ClientAuth::Optional(_)) {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier
                    .build()
                    .map_err(|error| TlsError::new("the certificates of clients", error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(Choices(choices)));
        let clients = files.digest_of_clients(digests);
        // Whoever has been here before need not begin anew because a certificate was renewed; but his
        // own is not looked at again, so that he does if those that are accepted have changed.
        let kept = before.filter(|before| before.clients == clients);
        let ticketer = match kept {
            Some(kept) => kept.ticketer.clone(),
            None => new_ticketer(self.provider.is_some())?,
        };
        if let Some(ticketer) = &ticketer {
            config.ticketer = Arc::clone(ticketer);
            // The clients keep what there is to keep.
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        let mut web = config.clone();
        web.alpn_protocols = vec![HTTP.as_bytes().to_vec()];
        let alpn = self.alpn.iter().flatten();
        config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).collect();
        Ok(Loaded {
            raw: Arc::new(config),
            web: Arc::new(web),
            ticketer,
            clients,
            certificates: certificates.into(),
        })
    }
}

impl Loaded {
    fn is_valid(&self) -> bool {
        self.certificates.iter().all(Certificate::is_valid)
    }
}

/// Encrypts the state of sessions for clients to keep. There is none for somebody else's cryptography: the
/// library keeps a few sessions itself then.
fn new_ticketer(has_own: bool) -> Result<Option<Arc<dyn ProducesTickets>>, TlsError> {
    if has_own {
        return Ok(None);
    }
    #[cfg(feature = "tls-aws-lc-rs")]
    let ticketer = Some(tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer::new().map_err(refused)?);
    #[cfg(all(feature = "tls-ring", not(feature = "tls-aws-lc-rs")))]
    let ticketer = Some(tokio_rustls::rustls::crypto::ring::Ticketer::new().map_err(refused)?);
    #[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")))]
    let ticketer = None;
    Ok(ticketer)
}

/// The certificates of a server, by the names that they are for.
#[derive(Debug)]
struct Choices(Vec<Choice>);

#[derive(Debug)]
struct Choice {
    /// In lower case; one may begin with `*.`.
    names: Vec<String>,
    pair: Arc<CertifiedKey>,
}

impl Choice {
    fn is_for(&self, asked: &str) -> bool {
        let parent = asked.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            None => name == asked,
            Some(below) => parent == Some(below),
        })
    }
}

impl ResolvesServerCert for Choices {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().map(str::to_ascii_lowercase);
        let is_asked_for =
            |choice: &&Choice| asked.as_deref().is_some_and(|asked| choice.is_for(asked));
        let can_be_verified =
            |choice: &&Choice| choice.pair.key.choose_scheme(hello.signature_schemes()).is_some();
        // Who asks for nothing that there is sees the first, and decides himself.
        let choice = self
            .0
            .iter()
            .filter(is_asked_for)
            .find(can_be_verified)
            .or_else(|| self.0.iter().find(is_asked_for))
            .or_else(|| self.0.iter().find(can_be_verified))
            .or_else(|| self.0.first())?;
        Some(Arc::clone(&choice.pair))
    }
}

/// Shakes hands with clients, by the certificates there are at the time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acceptor(Arc<State>);

impl Acceptor {
    /// Shakes hands over a socket. A client that is refused hears why.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub(crate) async fn accept(&self, socket: Socket, is_web: bool) -> io::Result<Socket> {
        let Some(loaded) = self.0.loaded() else {
            return Err(io::Error::other("the certificates have not been loaded"));
        };
        let config = Arc::clone(if is_web { &loaded.web } else { &loaded.raw });
        drop(loaded);
        let accepting = TlsAcceptor::from(config).accept_with(socket, |session| {
            session.set_buffer_limit(Some(MAX_ENCRYPTED_BYTES));
        });
        let stream = match accepting.into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut socket)) => {
                if super::kind_of(&error).is_some() {
                    linger(&mut socket).await;
                }
                return Err(error);
            }
        };
        let state = stream.get_ref().1;
        let info = TlsInfo::of(state, state.server_name());
        let expired =
            |certificate: &super::PeerCertificate| certificate.has_expired(SystemTime::now());
        // A session that is taken up again brings the certificate that it began with.
        if info.certificate().is_some_and(expired) {
            return Err(io::Error::other("the client's certificate has expired meanwhile"));
        }
        Ok(Socket::Tls(Box::new(TlsStream::new(stream.into(), info))))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
