//! The other side of a connection, as acceptors and handlers see it.

use std::{
    any::Any,
    fmt, io,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use rsock_proto::{
    CloseReason, Payload, frame,
    metadata::{Authentication, Extensions, Features, mime},
};

#[cfg(feature = "tls")]
use crate::transport::tls::TlsInfo;
#[cfg(unix)]
use crate::transport::unix::UnixUser;
use crate::{
    connection::{Mailbox, handle::Arrival},
    error::Error,
    memory::{BlockCharge, MemoryBudget},
    rate_limit::RateLimit,
    requester::Requester,
    settings::default_window,
    state::ConnectionState,
    transport::{
        Framing,
        socket::{Ends, Socket},
    },
};
#[cfg(feature = "websocket")]
use crate::{
    observe::{Observe, Observer},
    transport::websocket::HttpHead,
};

/// The address of a peer that is no other side of a connection.
const LOCAL: &str = "local";
/// Bytes of SETUP, or of an HTTP request's head, from which on they are counted; those of most are a few
/// words.
const COUNTED_BYTES: usize = 1 << 10;

/// The other side of a connection: where it is, what it said in SETUP, who it is once somebody has
/// found out, and a way to ask it. Cheap to clone.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    connection_id: u64,
    ends: Ends,
    setup: Setup,
    /// The type of metadata in SETUP is that of nearly everybody.
    is_composite: bool,
    features: Features,
    requester: Requester,
    identity: OnceLock<Identity>,
    /// Set by few, before it is served.
    request_limit: OnceLock<Arc<RateLimit>>,
    /// For what SETUP brought, if that is much: it is kept for as long as somebody has the peer.
    _charge: Option<Arc<BlockCharge>>,
    #[cfg(feature = "websocket")]
    http: Option<Arc<Http>>,
}

/// The request that opened a WebSocket, with its charge if it is large.
#[cfg(feature = "websocket")]
struct Http {
    head: HttpHead,
    charge: Option<Arc<BlockCharge>>,
}

impl Peer {
    pub(crate) fn new(arrival: Arrival) -> Self {
        Self::numbered(arrival, next_id())
    }

    /// The same, of a connection that has its number already.
    fn numbered(arrival: Arrival, connection_id: u64) -> Self {
        let Arrival { setup, ends, mailbox, window, fragments, memory, .. } = arrival;
        let bytes = kept_bytes(&setup);
        introduce(&mailbox, connection_id, &ends.peer, &setup.metadata_mime);
        let metadata = setup.payload.metadata.as_deref().unwrap_or_default();
        // Of what cannot be read nothing is heeded; who needs the metadata is told that it is malformed.
        let features = Features::find(metadata, &setup.metadata_mime).unwrap_or_default();
        if !features.is_empty() {
            mailbox.declared(features);
        }
        Self(Arc::new(Inner {
            connection_id,
            ends,
            is_composite: mime::is_composite(&setup.metadata_mime),
            features,
            setup: Setup(setup),
            requester: Requester::new(mailbox, window, fragments),
            identity: OnceLock::new(),
            request_limit: OnceLock::new(),
            _charge: (bytes >= COUNTED_BYTES).then(|| BlockCharge::new(bytes, &memory)),
            #[cfg(feature = "websocket")]
            http: arrival.http.map(|head| {
                let bytes = head.bytes();
                let charge = (bytes >= COUNTED_BYTES).then(|| BlockCharge::new(bytes, &memory));
                Arc::new(Http { head, charge })
            }),
        }))
    }

    /// The same for whoever serves it, as long as the connection lasts: without the payload and the token
    /// of SETUP, and without the headers of HTTP, if these are large. A stranger decides how large they
    /// are.
    pub(crate) fn for_service(self) -> Self {
        #[cfg(feature = "websocket")]
        let has_large_head = self.0.http.as_ref().is_some_and(|http| http.charge.is_some());
        #[cfg(not(feature = "websocket"))]
        let has_large_head = false;
        if self.0._charge.is_none() && !has_large_head {
            return self;
        }
        let mut setup = self.0.setup.clone();
        if self.0._charge.is_some() {
            setup.0.payload = Payload::default();
            setup.0.resume_token = None;
            // They may lie in the same block.
            for mime in [&mut setup.0.metadata_mime, &mut setup.0.data_mime] {
                *mime = Bytes::copy_from_slice(mime);
            }
        }
        Self(Arc::new(Inner {
            connection_id: self.0.connection_id,
            ends: self.0.ends.clone(),
            setup,
            is_composite: self.0.is_composite,
            features: self.0.features,
            requester: self.0.requester.clone(),
            identity: self.0.identity.clone(),
            request_limit: OnceLock::new(),
            _charge: None,
            #[cfg(feature = "websocket")]
            http: self.0.http.as_ref().map(|http| match http.charge {
                None => Arc::clone(http),
                Some(_) => {
                    Arc::new(Http { head: http.head.shortened(COUNTED_BYTES), charge: None })
                }
            }),
        }))
    }

    /// A peer that is in this process: for calling a responder without a connection. Its metadata are
    /// composite, its data bytes, and whatever is asked of it fails with [`Error::Closed`].
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use rsock::*;
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let app = Router::new(()).route("hello", request_response(async |_, ()| "hello"));
    /// let request = Request::new(Payload::default().route("hello")?, Peer::local());
    /// let answer = Responder::request_response(Arc::new(app), request).await?;
    /// assert_eq!(answer.data, "hello");
    /// # Ok::<(), Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local() -> Self {
        let ends = Socket::None.ends(&Framing::LengthPrefixed, LOCAL.into());
        let mailbox = without_connection("there is no connection to a local peer");
        Self::new(without_setup(ends, mailbox, MemoryBudget::of_process()))
    }

    /// A client of plain HTTP: it can ask, and cannot be asked.
    #[cfg(feature = "websocket")]
    pub(crate) fn of_http(
        head: HttpHead,
        ends: Ends,
        connection_id: u64,
        observe: Option<&Arc<dyn Observe>>,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        let mailbox = without_connection("clients of HTTP cannot be asked");
        if let Some(observe) = observe {
            mailbox.observe(Observer::new(Arc::clone(observe)));
        }
        let arrival = Arrival { http: Some(head), ..without_setup(ends, mailbox, memory) };
        Self::numbered(arrival, connection_id)
    }

    /// A number that no other connection of this process has or had.
    pub fn connection_id(&self) -> u64 {
        self.0.connection_id
    }

    /// The other end's address, as the transport names it: `address:port`, `unix:uid=1000`, and on a
    /// client the URI it connected to. Of a session, here and below, it is that of the transport it began
    /// with.
    pub fn address(&self) -> &str {
        &self.0.ends.peer
    }

    /// The kind of transport: `tcp`, `ws`, `tls`, `wss`, `unix`, `http` or `https` of a client without an RSocket
    /// connection, or `own` for a byte stream of the caller's own.
    pub fn scheme(&self) -> &str {
        self.0.ends.scheme
    }

    /// Our own address, of a transport over TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.ends.local
    }

    /// The user at the other end of a Unix socket.
    #[cfg(unix)]
    pub fn unix_user(&self) -> Option<UnixUser> {
        self.0.ends.user
    }

    /// The protection of the connection, if it came by `tls://` or `wss://`: the names that were asked for,
    /// and the certificate of the other side.
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.0.ends.tls.as_deref()
    }

    /// The SETUP of the client; on a client, its own. Above 1 KiB, its payload and token are for the
    /// acceptor alone: what serves the connection sees it without them.
    pub fn setup(&self) -> &Setup {
        &self.0.setup
    }

    /// The features that the client has declared in SETUP; on a client, its own.
    pub fn features(&self) -> Features {
        self.0.features
    }

    /// Whether the metadata of its requests are composite.
    #[inline]
    pub(crate) fn is_composite(&self) -> bool {
        self.0.is_composite
    }

    /// The HTTP request that opened the WebSocket, of a client that came by one, or that itself asks: its path, query, headers
    /// and `Origin`. Above 1 KiB, its headers are for the acceptor alone, but for `Origin`: what serves the
    /// connection sees it without them, and without path and query where these alone are as long.
    #[cfg(feature = "websocket")]
    pub fn http(&self) -> Option<&HttpHead> {
        self.0.http.as_ref().map(|http| &http.head)
    }

    /// A handle for asking it.
    pub fn requester(&self) -> &Requester {
        &self.0.requester
    }

    /// The identity of the peer, if somebody has said so with [`identify`](Self::identify).
    pub fn identity(&self) -> Option<&Identity> {
        self.0.identity.get()
    }

    /// Says who it is, for whoever serves it from here on: for example in an acceptor that has checked
    /// the credentials of SETUP.
    ///
    /// # Errors
    /// Gives the identity back if it has one already: that stays.
    pub fn identify(&self, identity: Identity) -> Result<(), Identity> {
        let name = Arc::clone(&identity.name);
        self.0.identity.set(identity)?;
        self.0.requester.mailbox().identify(name);
        Ok(())
    }

    /// Bounds how often it may ask: its requests, and metadata that it pushes, are refused beyond that before
    /// anything sees them; of a fire-and-forget nobody is told. Counts where an acceptor says so; what several
    /// peers are given the same of, they share.
    ///
    /// # Errors
    /// Gives it back if there is a limit already: that stays.
    pub fn limit_requests(&self, limit: Arc<RateLimit>) -> Result<(), Arc<RateLimit>> {
        self.0.request_limit.set(limit)
    }

    pub(crate) fn request_limit(&self) -> Option<Arc<RateLimit>> {
        self.0.request_limit.get().cloned()
    }
}

/// A number that no other connection of this process has or had.
pub(crate) fn next_id() -> u64 {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    CONNECTIONS.fetch_add(1, Relaxed)
}

/// Gives a connection its number, and tells whoever observes it of whom it is to.
pub(crate) fn introduce(mailbox: &Mailbox, id: u64, address: &Arc<str>, metadata_mime: &[u8]) {
    mailbox.number(id);
    if let Some(observer) = mailbox.observer() {
        observer.introduce(id, Arc::clone(address), Bytes::copy_from_slice(metadata_mime));
    }
}

/// The mailbox of a peer behind which there is no connection: whatever is asked of it fails, and whoever
/// waits in a [`WakeGroup`](crate::WakeGroup) of it is woken by a waker.
fn without_connection(why: &'static str) -> Arc<Mailbox> {
    let mailbox = Mailbox::new(1, ConnectionState::Established);
    let closed = io::Error::new(io::ErrorKind::NotConnected, why);
    mailbox.close(&CloseReason::Io(closed.into()));
    mailbox
}

/// A peer that has sent no SETUP: its metadata are composite, its data bytes.
fn without_setup(ends: Ends, mailbox: Arc<Mailbox>, memory: Arc<MemoryBudget>) -> Arrival {
    let setup = frame::Setup {
        version: frame::VERSION,
        keepalive_interval_ms: 20_000,
        max_lifetime_ms: 90_000,
        resume_token: None,
        lease: false,
        metadata_mime: Bytes::from_static(mime::COMPOSITE_METADATA.as_bytes()),
        data_mime: Bytes::from_static(mime::OCTET_STREAM.as_bytes()),
        payload: Payload::default(),
    };
    Arrival {
        setup,
        ends,
        mailbox,
        window: default_window(),
        fragments: true,
        memory,
        #[cfg(feature = "websocket")]
        http: None,
    }
}

/// Bytes of SETUP that live as long as the peer.
fn kept_bytes(setup: &frame::Setup) -> usize {
    let token = setup.resume_token.as_ref().map_or(0, Bytes::len);
    token + setup.metadata_mime.len() + setup.data_mime.len() + setup.payload.size()
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("connection_id", &self.connection_id())
            .field("address", &self.address())
            .field("identity", &self.identity())
            .finish_non_exhaustive()
    }
}

/// Somebody whose credentials were checked: a name, and what else the one who checked them knows.
#[derive(Clone)]
pub struct Identity {
    name: Arc<str>,
    claims: Option<Arc<dyn Any + Send + Sync>>,
}

impl Identity {
    /// Somebody of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), claims: None }
    }

    /// Somebody of this name, of whom something is known: roles, or the claims of a token.
    pub fn with_claims<T: Any + Send + Sync>(name: impl Into<Arc<str>>, claims: T) -> Self {
        Self { name: name.into(), claims: Some(Arc::new(claims)) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The claims that are known of them, if they are of this type.
    pub fn claims<T: Any>(&self) -> Option<&T> {
        self.claims.as_deref()?.downcast_ref()
    }
}

/// Shows the name alone.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}

/// The SETUP of a client.
#[derive(Clone, Debug)]
pub struct Setup(frame::Setup);

impl Setup {
    /// The extensions in its metadata.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the metadata is malformed (CMETA-11).
    pub fn extensions(&self) -> Result<Extensions, Error> {
        let Some(metadata) = &self.0.payload.metadata else {
            return Ok(Extensions::default());
        };
        Extensions::read(metadata, &self.0.metadata_mime).map_err(|error| {
            Error::invalid(format_args!("the metadata of SETUP is malformed: {error}"))
        })
    }

    /// The client's credentials, of several the first (AUTH-11). They are no one's until they are
    /// checked; an acceptor that fails refuses the connection with REJECTED_SETUP (AUTH-08).
    ///
    /// ```
    /// # use rsock::*;
    /// let app = Router::new(());
    /// let acceptor = move |peer: Peer| {
    ///     let app = app.clone();
    ///     async move {
    ///         match peer.setup().authentication()? {
    ///             Some(credentials) if credentials.is_bearer("s3cr3t") => app.accept(peer).await,
    ///             _ => Err(Error::rejected("the token is missing or wrong")),
    ///         }
    ///     }
    /// };
    /// # fn is_acceptor(_: impl Acceptor) {}
    /// # is_acceptor(acceptor);
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] if they cannot be read, which is a failed authentication (AUTH-05), and
    /// [`Error::Invalid`] if the metadata as a whole cannot be; either refuses the connection.
    pub fn authentication(&self) -> Result<Option<Authentication>, Error> {
        self.extensions()?.authentication().map_err(|error| {
            Error::rejected(format_args!("the credentials are malformed: {error}"))
        })
    }
}

impl Deref for Setup {
    type Target = frame::Setup;

    fn deref(&self) -> &frame::Setup {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_setup_is_the_acceptors_alone() {
        let budget = MemoryBudget::new(1 << 20);
        let local = Peer::local();
        let of = |bytes: usize| {
            let mut setup = local.setup().0.clone();
            setup.payload = vec![b'x'; bytes].into();
            Peer::new(Arrival {
                setup,
                ends: local.0.ends.clone(),
                mailbox: Arc::clone(local.requester().mailbox()),
                window: default_window(),
                fragments: true,
                memory: Arc::clone(&budget),
                #[cfg(feature = "websocket")]
                http: None,
            })
        };
        let small = of(100).for_service();
        assert_eq!((small.setup().payload.data.len(), budget.used()), (100, 0));
        let large = of(100_000);
        large.identify(Identity::new("alice")).expect("nobody was before");
        assert!(budget.used() >= 100_000, "{budget:?}");
        let id = large.connection_id();
        let serving = large.for_service();
        assert_eq!((serving.setup().payload.data.len(), budget.used()), (0, 0));
        assert_eq!((serving.connection_id(), serving.setup().data_mime.len()), (id, 24));
        assert_eq!(serving.identity().expect("it was said").name(), "alice");
    }

    #[test]
    fn who_somebody_is_is_said_once() {
        let peer = Peer::local();
        assert!(peer.identity().is_none());
        let admin = Identity::with_claims("alice", vec!["admin"]);
        assert!(peer.identify(admin).is_ok());
        assert!(peer.clone().identify(Identity::new("mallory")).is_err());
        let identity = peer.identity().expect("it was said");
        assert_eq!(identity.name(), "alice");
        assert_eq!(identity.claims::<Vec<&str>>(), Some(&vec!["admin"]));
        assert_eq!(identity.claims::<String>(), None);
        assert_ne!(peer.connection_id(), Peer::local().connection_id());
    }

    #[tokio::test]
    async fn nothing_can_be_asked_of_a_local_peer() {
        let peer = Peer::local();
        let error = peer.requester().request_response("x").await.expect_err("there is nobody");
        assert!(error.to_string().contains("no connection to a local peer"), "{error}");
    }
}
