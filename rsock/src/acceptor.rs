//! Who decides whether a connection is taken, and what serves it.

use std::{fmt, future::Future, ops::Deref, sync::Arc};

use rsock_proto::{
    frame,
    metadata::{Authentication, Extensions},
};

use crate::{
    error::Error,
    requester::Requester,
    responder::{BoxFuture, Handle, Responder},
};

/// What a client said in SETUP, and where it called from.
#[derive(Clone, Debug)]
pub struct Setup {
    frame: frame::Setup,
    peer: Arc<str>,
}

impl Setup {
    pub(crate) fn new(frame: frame::Setup, peer: Arc<str>) -> Self {
        Self { frame, peer }
    }

    /// What the extensions say in its metadata.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the metadata is malformed (CMETA-11).
    pub fn extensions(&self) -> Result<Extensions, Error> {
        let Some(metadata) = &self.frame.payload.metadata else {
            return Ok(Extensions::default());
        };
        Extensions::read(metadata, &self.frame.metadata_mime).map_err(|error| {
            Error::invalid(format_args!("the metadata of SETUP is malformed: {error}"))
        })
    }

    /// The client's credentials, of several the first (AUTH-11). They are no one's until they are
    /// checked; an acceptor that fails refuses the connection with REJECTED_SETUP (AUTH-08).
    ///
    /// ```
    /// # use rsock::*;
    /// let app = Router::new(());
    /// let acceptor = move |setup: Setup, peer: Requester| {
    ///     let app = app.clone();
    ///     async move {
    ///         match setup.authentication()? {
    ///             Some(credentials) if credentials.is_bearer("s3cr3t") => app.accept(setup, peer).await,
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

    /// The other end's address, as the transport names it.
    pub fn peer(&self) -> &str {
        &self.peer
    }
}

impl Deref for Setup {
    type Target = frame::Setup;

    fn deref(&self) -> &frame::Setup {
        &self.frame
    }
}

/// Takes connections: from SETUP and a requester for calling back to a responder, or a refusal.
///
/// Every `Fn(Setup, Requester) -> impl Future<Output = Result<R, Error>>` is one, and so is
/// [`Router`](crate::Router). An error refuses the connection with REJECTED_SETUP and its text
/// (SETUP-16); INVALID_SETUP or UNSUPPORTED_SETUP if that is its code.
pub trait Acceptor: Send + Sync + 'static {
    /// What serves a connection taken.
    type Responder: Responder;

    /// Decides about a connection. Requests the client sent behind SETUP wait meanwhile (SETUP-20).
    fn accept(
        &self,
        setup: Setup,
        peer: Requester,
    ) -> impl Future<Output = Result<Self::Responder, Error>> + Send + 'static;
}

impl<F, Fut, R> Acceptor for F
where
    F: Fn(Setup, Requester) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: Responder,
{
    type Responder = R;

    fn accept(
        &self,
        setup: Setup,
        peer: Requester,
    ) -> impl Future<Output = Result<R, Error>> + Send + 'static {
        self(setup, peer)
    }
}

/// An acceptor as a server holds it.
pub(crate) trait Accept: Send + Sync {
    fn accept(&self, setup: Setup, peer: Requester) -> BoxFuture<Result<Arc<dyn Handle>, Error>>;
}

impl<A: Acceptor> Accept for A {
    fn accept(&self, setup: Setup, peer: Requester) -> BoxFuture<Result<Arc<dyn Handle>, Error>> {
        let accepted = Acceptor::accept(self, setup, peer);
        Box::pin(async move {
            let responder: Arc<dyn Handle> = Arc::new(accepted.await?);
            Ok(responder)
        })
    }
}

impl fmt::Debug for dyn Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accept")
    }
}
