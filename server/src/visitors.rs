//! Visitors: clients without an RSocket connection, on whose behalf the routes of the service are called.

mod tickets;

use std::sync::Arc;

use rsock::{Caller, Error, Identity, Payload, Peer, Request, Router, metadata::Authentication};
use rsock_access::Action;
use rsock_topics::{Permit, TopicName};

use self::tickets::Tickets;
use crate::{
    access::Access,
    app::App,
    doors::{OfUser, Rates},
};

/// Lets visitors in, as the door of connections does. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Visitors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router<App>,
    access: Option<Access>,
    rates: Arc<Rates>,
    tickets: Tickets,
}

/// A client that was let in, for as long as it asks for something.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Calls the routes of the service on its behalf.
    pub(crate) caller: Caller<Router<App>>,
    /// Counts among the connections of the user for as long.
    _of_user: Option<OfUser>,
}

/// The reasons why a visitor does not come in.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Nobody knows who it is.
    Unknown(Error),
    /// The ticket was used, or is too old.
    Ticket,
    /// There are enough of them.
    Full(Error),
}

impl Visitors {
    pub(crate) fn new(router: Router<App>, access: Option<Access>, rates: Arc<Rates>) -> Self {
        let tickets = Tickets::default();
        Self(Arc::new(Inner { router, access, rates, tickets }))
    }

    /// The judge of who comes in, if anybody is asked.
    pub(crate) fn access(&self) -> Option<&Access> {
        self.0.access.as_ref()
    }

    /// Lets in whoever sent an HTTP request, by its certificate, its header `Authorization` or its cookie.
    pub(crate) async fn let_in(&self, peer: Peer) -> Result<Visitor, Refused> {
        match &self.0.access {
            None => self.enter(peer, None).await,
            Some(access) => {
                let found = access.identify_visitor(&peer, None).await;
                self.enter(peer, Some(found.map_err(Refused::Unknown)?)).await
            }
        }
    }

    /// The same by credentials that came otherwise. Where nobody is asked, they are not looked at.
    pub(crate) async fn with_credentials(
        &self,
        peer: Peer,
        own: &Authentication,
    ) -> Result<Visitor, Refused> {
        match &self.0.access {
            None => self.enter(peer, None).await,
            Some(access) => {
                let found = access.identify_visitor(&peer, Some(own)).await;
                self.enter(peer, Some(found.map_err(Refused::Unknown)?)).await
            }
        }
    }

    /// The same by a ticket, which counts once.
    pub(crate) async fn with_ticket(&self, peer: Peer, ticket: &str) -> Result<Visitor, Refused> {
        let identity = self.0.tickets.redeem(ticket).ok_or(Refused::Ticket)?;
        if let (Some(access), Some(identity)) = (&self.0.access, &identity)
            && !access.counts(identity)
        {
            return Err(Refused::Ticket);
        }
        self.enter(peer, identity).await
    }

    /// A ticket with which the same comes in once, within [`Tickets::LASTS`]. Whoever has it may hold it in an address.
    ///
    /// # Errors
    /// The system has no random numbers, or it is asked too often.
    pub(crate) fn ticket(&self, visitor: &Visitor) -> Result<String, Error> {
        visitor.caller.count_request()?;
        let identity = visitor.caller.peer().identity().cloned();
        self.0.tickets.issue(identity).map_err(Error::application)
    }

    /// Looks whether a visitor may publish anything to a topic of this name.
    ///
    /// # Errors
    /// It may not, or there are none of this name.
    pub(crate) fn check_publish(&self, visitor: &Visitor, name: &str) -> Result<(), Error> {
        let name = TopicName::of_client(name)?;
        let Some(access) = &self.0.access else { return Ok(()) };
        let request = Request::new(Payload::default(), visitor.caller.peer().clone());
        if access.permits(&request, Action::Signal, &name).is_ok() {
            return Ok(());
        }
        access.permits(&request, Action::Publish, &name).map_err(|refusal| {
            access.refused(&request, Action::Publish, &name);
            Error::from(refusal)
        })
    }

    /// Whether what a visitor came in with counts still.
    pub(crate) fn counts(&self, visitor: &Visitor) -> bool {
        let identity = visitor.caller.peer().identity();
        self.0.access.as_ref().zip(identity).is_none_or(|(access, who)| access.counts(who))
    }

    async fn enter(&self, peer: Peer, identity: Option<Identity>) -> Result<Visitor, Refused> {
        let subject = identity.as_ref().and_then(Access::subject);
        let of_user = self.0.rates.enter_over_http(&peer, subject).map_err(Refused::Full)?;
        if let Some(identity) = identity {
            // Nobody has said it before.
            let _ = peer.identify(identity);
        }
        // The router takes everybody whom the door has let in.
        let caller = Caller::accept(&self.0.router, peer).await.map_err(Refused::Unknown)?;
        Ok(Visitor { caller, _of_user: of_user })
    }
}

/// Seconds for which a ticket counts.
pub(crate) const TICKET_SECONDS: u64 = Tickets::LASTS.as_secs();
