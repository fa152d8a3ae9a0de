//! The side that dials.

use std::{fmt, io, ops::Deref, sync::Arc, time::Duration};

use bytes::Bytes;
use rsock_proto::{
    CloseReason, Payload, frame,
    metadata::{Authentication, Features, Notice},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

#[cfg(feature = "tls")]
use crate::transport::tls::{self, ClientTls};
#[cfg(feature = "websocket")]
use crate::transport::websocket::Headers;
use crate::{
    acceptor::{Acceptor, Always},
    connection::{
        Driver, Mailbox, Redialler,
        handle::{Accept, Arrival},
    },
    credentials,
    error::{ConnectError, Error},
    heed::{Heed, Heeding},
    lease::LeasePolicy,
    peer::{introduce, next_id},
    reconnect::Reconnect,
    requester::Requester,
    responder::{Rejecting, Responder},
    resume::Resume,
    settings::{Settings, shared_settings},
    setup::{AskCredentials, SetupTemplate, ask_with},
    transport::{
        address::Uri,
        dial::{Dial, DialAgain, OWN, dial_own, own_again},
        socket::Transport,
    },
};

/// A connection to a server, and the [`Requester`] to ask it. Cheap to clone.
///
/// When the last clone is dropped the connection closes, after the streams that are still open.
#[derive(Clone)]
pub struct Client {
    requester: Requester,
    /// Its sender goes when the connection's task has ended.
    ended: watch::Receiver<()>,
    _open: Arc<Open>,
}

/// Closes the connection with the last handle.
struct Open(Arc<Mailbox>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.end(false);
    }
}

impl Client {
    /// Connects with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    /// Why there is no connection to be had.
    pub async fn connect(uri: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(uri).await
    }

    /// Settings of a connection to be made.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Takes no new requests, lets open streams end, closes, and waits until all that was sent has
    /// left. How long the streams take is the server's to say, and how soon it takes what is left: it
    /// has ten seconds for a part of it. A session without a transport waits for the next while it has
    /// streams open, or fire-and-forgets of which it is not known that they arrived.
    /// [`abort`](Self::abort) ends this, too.
    pub async fn close(&self) -> CloseReason {
        self.requester.mailbox().end(false);
        self.ended().await
    }

    /// Closes now; what is pending ends with the reason, and a server that does not take what is left
    /// to write is not waited for: it is over within two seconds.
    pub async fn abort(&self) -> CloseReason {
        self.requester.mailbox().end(true);
        self.ended().await
    }

    /// Waits until the server has shown that it accepts the connection.
    async fn accepted(&self, limit: Duration, address: &str) -> Result<(), ConnectError> {
        // A server that accepts says nothing by itself (SETUP-31); a KEEPALIVE is answered.
        match tokio::time::timeout(limit, self.ping()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(Error::Unavailable { reason, .. })) => {
                self.abort().await;
                Err(refused(reason, address))
            }
            // It is the first: nothing but the end of the connection can be in its way.
            Ok(Err(_)) => Err(refused(self.closed().await, address)),
            Err(_) => {
                self.abort().await;
                Err(ConnectError::NotAccepted { after: limit })
            }
        }
    }

    /// The connection is over, and its last bytes have left.
    async fn ended(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
        self.requester.closed().await
    }
}

/// The server has ended the connection before it accepted it: by its TLS, which says of a client's
/// certificate what it thinks when the handshake is over, or otherwise.
fn refused(reason: CloseReason, address: &str) -> ConnectError {
    #[cfg(feature = "tls")]
    if let CloseReason::Io(error) = &reason
        && let Some(kind) = tls::kind_of(error.get())
    {
        return ConnectError::Tls { address: address.to_owned(), kind, error: error.clone() };
    }
    #[cfg(not(feature = "tls"))]
    let _ = address;
    ConnectError::Closed(reason)
}

impl Deref for Client {
    type Target = Requester;

    fn deref(&self) -> &Requester {
        &self.requester
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// A client's SETUP and its limits, to be set before it connects.
#[must_use]
pub struct ClientBuilder {
    keepalive_interval: Duration,
    max_lifetime: Duration,
    metadata_mime: Bytes,
    data_mime: Bytes,
    setup_payload: Payload,
    credentials: Option<Authentication>,
    ask_credentials: Option<AskCredentials>,
    settings: Settings,
    connect_timeout: Duration,
    acceptor: Option<Arc<dyn Accept>>,
    lease: Option<Box<dyn LeasePolicy>>,
    resume: Option<Resume>,
    reconnect: Option<Reconnect>,
    heed: Option<Heed>,
    wait_until_accepted: bool,
    #[cfg(any(feature = "tls", feature = "websocket"))]
    dial: DialSettings,
}

/// The words with which a transport is opened.
#[cfg(any(feature = "tls", feature = "websocket"))]
#[derive(Clone, Default)]
struct DialSettings {
    #[cfg(feature = "websocket")]
    headers: Vec<(String, String)>,
    #[cfg(feature = "tls")]
    tls: ClientTls,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            keepalive_interval: Duration::from_secs(20),
            max_lifetime: Duration::from_secs(90),
            metadata_mime: Bytes::from_static(
                rsock_proto::metadata::mime::COMPOSITE_METADATA.as_bytes(),
            ),
            data_mime: Bytes::from_static(rsock_proto::metadata::mime::OCTET_STREAM.as_bytes()),
            setup_payload: Payload::default(),
            credentials: None,
            ask_credentials: None,
            settings: Settings::default(),
            connect_timeout: Duration::from_secs(10),
            acceptor: None,
            lease: None,
            resume: None,
            reconnect: None,
            heed: None,
            wait_until_accepted: false,
            #[cfg(any(feature = "tls", feature = "websocket"))]
            dial: DialSettings::default(),
        }
    }
}

shared_settings!(ClientBuilder);

impl ClientBuilder {
    /// How often KEEPALIVE is sent, and after how long without a sign of life the server counts as
    /// gone. Default 20 s and 90 s; both from 1 ms to 2^31−1 ms.
    pub fn keepalive(mut self, interval: Duration, max_lifetime: Duration) -> Self {
        self.keepalive_interval = interval;
        self.max_lifetime = max_lifetime;
        self
    }

    /// The MIME type of metadata; default composite metadata. Printable ASCII (SETUP-14),
    /// at most 255 bytes; some peers take 127.
    pub fn metadata_mime(mut self, mime: impl Into<Bytes>) -> Self {
        self.metadata_mime = mime.into();
        self
    }

    /// The MIME type of data; default `application/octet-stream`. Printable ASCII
    /// (SETUP-14), at most 255 bytes; some peers take 127.
    pub fn data_mime(mut self, mime: impl Into<Bytes>) -> Self {
        self.data_mime = mime.into();
        self
    }

    /// Sets the payload of SETUP, for the server's acceptor.
    pub fn setup(mut self, payload: impl Into<Payload>) -> Self {
        self.setup_payload = payload.into();
        self
    }

    /// Says who this is: an entry in SETUP's metadata, behind what [`setup`](Self::setup) puts
    /// there, for as long as the connection lasts. Credentials travel in clear: over a transport
    /// that is not confidential, everyone on the way reads them (AUTH-10).
    pub fn authentication(mut self, credentials: Authentication) -> Self {
        self.credentials = Some(credentials);
        self.ask_credentials = None;
        self
    }

    /// Asks who this is before each SETUP, the first included, in place of
    /// [`authentication`](Self::authentication): a token may have run out when a connection
    /// [follows](Self::reconnect) one that was lost. What is not given, within
    /// [`connect_timeout`](Self::connect_timeout), fails connecting, or the attempt.
    ///
    /// ```
    /// use rsock::{Client, Reconnect, metadata::Authentication};
    ///
    /// async fn token() -> std::io::Result<Authentication> {
    ///     let token = "as the issuer gives it";
    ///     Ok(Authentication::bearer(token))
    /// }
    ///
    /// let builder = Client::builder().authentication_with(token).reconnect(Reconnect::new());
    /// # drop(builder);
    /// ```
    pub fn authentication_with<F, E>(mut self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Authentication, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.ask_credentials = Some(ask_with(ask));
        self.credentials = None;
        self
    }

    /// Sets what answers the server's requests; by default they are rejected.
    pub fn responder(mut self, responder: impl Responder) -> Self {
        self.acceptor = Some(Arc::new(Always(Arc::new(responder))));
        self
    }

    /// Sets what answers the server's requests, where it needs to know the SETUP sent or to ask
    /// back.
    pub fn acceptor(mut self, acceptor: impl Acceptor) -> Self {
        self.acceptor = Some(Arc::new(acceptor));
        self
    }

    /// Asks for leases (LEASE-03): requests wait until the server allows them, and the server waits
    /// for what this policy gives it. [`SharedLease`](crate::SharedLease) is one. A client without a
    /// responder has nothing to give, and sends no LEASE.
    pub fn lease(mut self, policy: impl LeasePolicy) -> Self {
        self.lease = Some(Box::new(policy));
        self
    }

    /// Asks for a session that outlives its transport (RESUME-02). Needs a URI to dial again, or
    /// [`connect_with`](Self::connect_with).
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = Some(resume);
        self
    }

    /// Connects anew when the connection is lost. Off by default. Needs a URI to dial again, or
    /// [`connect_with`](Self::connect_with).
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = Some(reconnect);
        self
    }

    /// Declares in SETUP what this client heeds of a server's news, and has it told: that the server stops and
    /// the connection is to go elsewhere, or that its credentials expire. Other servers than rsock's take no
    /// notice of it. Needs composite metadata; notices do not come to the [responder](Self::responder).
    ///
    /// It is told by the connection's task, and is not to take long: sending to a channel is enough. Who heeds
    /// [`Notice::Drain`] connects elsewhere, asks there what is asked from then on, and closes this client,
    /// which lets its open streams end.
    ///
    /// ```
    /// use rsock::{Client, metadata::{Features, Notice}};
    ///
    /// let (tell, told) = std::sync::mpsc::channel::<Notice>();
    /// let builder = Client::builder().heed(Features::DRAIN, move |notice| {
    ///     // Whoever listened may have gone.
    ///     let _ = tell.send(notice);
    /// });
    /// # drop((builder, told));
    /// ```
    pub fn heed(
        mut self,
        features: Features,
        told: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Self {
        self.heed = Some(Heed { features, told: Arc::new(told) });
        self
    }

    /// Whether connecting waits for a sign that the server accepts SETUP, which takes a way there
    /// and back, or fails with its refusal. Default false: requests learn of a refusal (SETUP-24).
    pub fn wait_until_accepted(mut self, wait: bool) -> Self {
        self.wait_until_accepted = wait;
        self
    }

    /// How long connecting may take, the handshakes of TLS and WebSocket included. Default 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// A header of the WebSocket handshake. `Host` replaces ours, which is the URI's; the values of
    /// `Sec-WebSocket-Protocol` are the subprotocols that are offered, of which none is by default;
    /// `Authorization` goes before the credentials of the URI. Others that belong to the handshake
    /// itself are refused by [`connect`](Self::connect).
    #[cfg(feature = "websocket")]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.dial.headers.push((name.into(), value.into()));
        self
    }

    /// Sets whom `tls://` and `wss://` trust, and what they show: by default, whom the system trusts, and
    /// nothing. Files are read when it [connects](Self::connect).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.dial.tls = tls;
        self
    }

    /// Connects to `tcp://host:port`, `ws://host:port/path`, `unix:/path`, or `unix:@name` for a name
    /// without a file (Linux); with the feature `tls`, to `tls://host:port` (also `tcp+tls://`, `tcps://`)
    /// and `wss://host:port/path` (also `ws+tls://`).
    ///
    /// SETUP is sent at once. Whether the server accepts it is known with its first frame: requests
    /// need not wait for that, and fail with its words if it refuses (SETUP-19, SETUP-24).
    ///
    /// # Errors
    /// Why there is no connection to be had.
    pub async fn connect(self, uri: &str) -> Result<Client, ConnectError> {
        let uri = Uri::parse(uri)?;
        let dial = Dial {
            #[cfg(feature = "tls")]
            tls: self.dial.tls.connector_to(&uri).map_err(ConnectError::TlsSettings)?,
            uri,
            limit: self.connect_timeout,
            max_frame_bytes: self.settings.config.max_frame_bytes,
            #[cfg(feature = "websocket")]
            headers: Headers::new(&self.dial.headers)?,
        };
        let transport = dial.open().await?;
        self.start(transport, Some(dial.again())).await
    }

    /// Connects over byte streams that the caller opens, with a u24 length before each frame: one
    /// now, and, for a session that is to be [resumed](Self::resume) and a client that
    /// [reconnects](Self::reconnect), another each time it has lost its own.
    ///
    /// # Errors
    /// A setting is out of its range, or no byte stream is to be had.
    pub async fn connect_with<IO, F, D>(self, dial: F) -> Result<Client, ConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn() -> D + Send + Sync + 'static,
        D: Future<Output = io::Result<IO>> + Send + 'static,
    {
        let (dial, limit) = (Arc::new(dial), self.connect_timeout);
        let transport = dial_own(dial(), limit).await?;
        self.start(transport, Some(own_again(dial, limit))).await
    }

    /// Connects over a byte stream of the caller's, such as [`memory`](crate::memory), with a u24
    /// length before each frame.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub async fn connect_over<IO>(self, io: IO) -> Result<Client, ConnectError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.resume.is_some() || self.reconnect.is_some() {
            let problem = "to resume or to reconnect, there must be a URI to dial again, or \
                           something that dials";
            return Err(ConnectError::Setting(problem));
        }
        self.start(Transport::from_caller(io, OWN), None).await
    }

    async fn start(
        self,
        transport: Transport,
        dial: Option<DialAgain>,
    ) -> Result<Client, ConnectError> {
        let is_session = self.resume.is_some();
        let template = Arc::new(SetupTemplate {
            frame: self.setup_frame()?,
            credentials: self.ask_credentials,
            limit: self.connect_timeout,
        });
        let setup = template.make(is_session).await?;
        let mut settings = self.settings;
        if let Some(resume) = &self.resume {
            Arc::make_mut(&mut settings.config).resume = Some(resume.limits);
        }
        let redialler = match dial {
            Some(dial) if is_session || self.reconnect.is_some() => {
                Some(Box::new(Redialler::new(dial, template, self.resume, self.reconnect)))
            }
            _ => None,
        };
        let peer = Arc::clone(&transport.peer);
        let mailbox = settings.mailbox();
        let fragments = settings.config.fragment_bytes.is_some();
        let requester = Requester::new(Arc::clone(&mailbox), settings.window, fragments);
        let has_responder = self.acceptor.is_some();
        let acceptor = match &self.heed {
            // Notices come as other pushes do, to whoever serves them.
            Some(_) => self.acceptor.or_else(|| Some(Arc::new(Always(Arc::new(Rejecting))))),
            None => self.acceptor,
        };
        let responder = match acceptor {
            Some(acceptor) => {
                let arrival = Arrival {
                    setup: setup.clone(),
                    ends: transport.ends(),
                    mailbox: Arc::clone(&mailbox),
                    window: settings.window,
                    fragments,
                    memory: settings.budget(),
                    #[cfg(feature = "websocket")]
                    http: None,
                };
                let accepted = acceptor.accept(arrival).await;
                let responder =
                    accepted.map_err(|error| ConnectError::Acceptor(Box::new(error)))?;
                Some(match self.heed {
                    Some(heed) => Arc::new(Heeding { responder, heed }),
                    None => responder,
                })
            }
            None => {
                introduce(&mailbox, next_id(), &peer, &setup.metadata_mime);
                None
            }
        };
        // Some servers end the connection over a LEASE they did not expect.
        let lease = self.lease.filter(|_| has_responder);
        let (config, address) = (Arc::clone(&settings.config), Arc::clone(&peer));
        let options = settings.driver_options(config, peer, lease, None);
        let mailbox_of_client = Arc::clone(&mailbox);
        let driver = Driver::client(transport, setup, redialler, responder, mailbox, options);
        let (alive, ended) = watch::channel(());
        // In a task it would lie twice: as it was given, and as it is awaited.
        let driver = Box::pin(driver);
        // The task ends with the connection; nobody joins it.
        drop(tokio::spawn(async move {
            driver.await;
            drop(alive);
        }));
        let open = Arc::new(Open(mailbox_of_client));
        let client = Client { requester, ended, _open: open };
        if self.wait_until_accepted {
            client.accepted(self.connect_timeout, &address).await?;
        }
        Ok(client)
    }

    fn setup_frame(&self) -> Result<frame::Setup, ConnectError> {
        let millis = |duration: Duration| {
            u32::try_from(duration.as_millis())
                .ok()
                .filter(|millis| (1..=frame::MAX_U31).contains(millis))
                .ok_or(ConnectError::Setting(
                    "keepalive interval and max lifetime must be between 1 ms and 2147483647 ms",
                ))
        };
        if self.metadata_mime.len() > 255 || self.data_mime.len() > 255 {
            return Err(ConnectError::Setting("a MIME type has at most 255 bytes"));
        }
        // SETUP-14: what others refuse, or cut, is not sent.
        let is_text = |mime: &[u8]| mime.iter().all(|byte| (0x20..0x7f).contains(byte));
        if !is_text(&self.metadata_mime) || !is_text(&self.data_mime) {
            return Err(ConnectError::Setting("a MIME type is printable ASCII"));
        }
        let payload = match &self.credentials {
            Some(credentials) => {
                credentials::in_setup(&self.setup_payload, credentials, &self.metadata_mime)?
            }
            None => self.setup_payload.clone(),
        };
        let payload = match &self.heed {
            Some(heed) => heed.in_setup(&payload, &self.metadata_mime)?,
            None => payload,
        };
        Ok(frame::Setup {
            version: frame::VERSION,
            keepalive_interval_ms: millis(self.keepalive_interval)?,
            max_lifetime_ms: millis(self.max_lifetime)?,
            resume_token: None,
            lease: self.lease.is_some(),
            metadata_mime: self.metadata_mime.clone(),
            data_mime: self.data_mime.clone(),
            payload,
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}
