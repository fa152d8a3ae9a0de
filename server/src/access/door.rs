//! The door: each connection is asked who it is, before anything serves it.

use std::sync::Arc;

use rsock::{Acceptor, Error, Peer, Request, Router};

use super::{
    Access, FAILED, Inner, certificate, cookie,
    cookie::OfHandshake,
    identity,
    login::{Found, Origin},
    session::Connection,
    unix_now,
};
use crate::{app::App, doors::Rates};

/// A router behind a door. Without access to ask for, the door is open.
pub(crate) struct Door {
    pub(crate) router: Router<App>,
    pub(crate) access: Option<Access>,
    /// Bounds those who come in.
    pub(crate) rates: Arc<Rates>,
}

impl Acceptor for Door {
    type Responder = Router<App>;

    fn accept(
        &self,
        peer: Peer,
    ) -> impl Future<Output = Result<Router<App>, Error>> + Send + 'static {
        let router = self.router.clone();
        let inner = self.access.as_ref().map(|access| Arc::clone(&access.0));
        let rates = Arc::clone(&self.rates);
        async move {
            match inner {
                Some(inner) => inner.let_in(&peer, &rates).await?,
                // Nobody has a name.
                None => drop(rates.enter(&peer, None)?),
            }
            Ok(router)
        }
    }
}

/// The one whom the transport of a connection says that it is of.
pub(super) enum OfTransport {
    Certificate(Found),
    Handshake(OfHandshake),
}

impl Inner {
    /// Finds out who comes: by the credentials of SETUP, else the certificate, else the credentials of the handshake, else by none.
    async fn let_in(self: &Arc<Self>, peer: &Peer, rates: &Arc<Rates>) -> Result<(), Error> {
        let setup = Request::new(peer.setup().payload.clone(), peer.clone());
        let origin = Origin::of(peer);
        let own = match setup.authentication() {
            Ok(own) => own,
            Err(error) => {
                self.failed(&origin, None, None, &error.to_string());
                return Err(Error::rejected(FAILED));
            }
        };
        let found = match own {
            Some(own) => self.look_up(&origin, &own).await?,
            None => match self.of_transport(peer)? {
                Some(OfTransport::Certificate(found)) => {
                    self.accepted(&origin, &found.principal);
                    found
                }
                Some(OfTransport::Handshake(OfHandshake::Header(own))) => {
                    self.look_up(&origin, &own).await?
                }
                Some(OfTransport::Handshake(OfHandshake::Cookie(token))) => {
                    self.look_up_cookie(&origin, &token).await?
                }
                None => self.anonymous(&origin)?,
            },
        };
        let of_user = rates.enter(peer, found.principal.subject.as_deref())?;
        let session = self.enter(found, Some(Connection::of(peer, of_user)));
        if session.is_over() {
            return Err(Error::rejected(FAILED));
        }
        // Nobody has said it before: this is where a connection comes in.
        let _ = peer.identify(identity(session));
        Ok(())
    }

    pub(super) fn of_transport(&self, peer: &Peer) -> Result<Option<OfTransport>, Error> {
        let policy = self.policy();
        let certificate = policy.auth.mtls.as_ref();
        let certificate = certificate.and_then(|mtls| certificate::principal_of(peer, mtls));
        if let Some(mut principal) = certificate {
            principal.issued = Some(unix_now());
            return Ok(Some(OfTransport::Certificate(Found { principal, policy })));
        }
        Ok(self.of_handshake(peer)?.map(OfTransport::Handshake))
    }

    fn of_handshake(&self, peer: &Peer) -> Result<Option<OfHandshake>, Error> {
        let Some(head) = peer.http() else { return Ok(None) };
        let is_encrypted = matches!(peer.scheme(), "wss" | "https");
        cookie::credentials(head, self.policy().cookie.as_ref(), is_encrypted).map_err(|reason| {
            self.failed(&Origin::of(peer), None, None, reason);
            Error::rejected(FAILED)
        })
    }
}
