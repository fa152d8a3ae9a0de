//! A router whose requests are permitted, as `rsockd` does it: by grants that the connection's identity holds.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rsock::{Acceptor, AcceptorExt, Admission, Error, Identity, Request, Router};
use rsock_access::{Action, Actions, Grants, Kind, Pattern, Rule, Rules};

struct Session {
    state: RwLock<(Arc<str>, Arc<Grants>)>,
    /// Two bits a route: whether it was looked up, and whether it may be called.
    routes: AtomicU64,
}

/// A router behind rules that grant its routes to a role.
pub(crate) fn acceptor(router: Router<()>) -> impl Acceptor {
    let patterns = ["clock", "echo", "range", "service.*.echo", "user.{name}.>"];
    let rule = Rule {
        roles: vec!["chat".to_owned()],
        kind: Kind::Route,
        patterns: patterns
            .iter()
            .filter_map(|text| Pattern::parse(text, Kind::Route).ok())
            .collect(),
        actions: Actions::of(&[Action::Request]),
        is_denied: false,
    };
    let grants = Rules::new(vec![rule]).of_roles(["chat"]);
    let state = RwLock::new(("ann".into(), grants));
    let session = Arc::new(Session { state, routes: AtomicU64::new(0) });
    router.admit(|(), request| admit(request)).authorize_connections(move |_| {
        let session = Arc::clone(&session);
        async move { Ok(Identity::with_claims("ann", session)) }
    })
}

#[inline]
fn admit(request: &Request) -> Result<Admission, Error> {
    let session = request.identity().and_then(|own| own.claims::<Arc<Session>>());
    let may_call = |number: u32| {
        session.is_some_and(|session| {
            session.routes.load(Relaxed).checked_shr(2 * number).unwrap_or(0) & 3 == 3
        })
    };
    if request.route_number().is_some_and(may_call)
        && (request.is_identified() || matches!(request.authentication(), Ok(None)))
    {
        return Ok(Admission::Served);
    }
    look(request)
}

#[inline(never)]
fn look(request: &Request) -> Result<Admission, Error> {
    if !request.is_identified() && request.authentication()?.is_some() {
        return Err(Error::rejected("nobody here has credentials of their own"));
    }
    let route = request.route().unwrap_or_default();
    let session = request.identity().and_then(|own| own.claims::<Arc<Session>>());
    let may = session.is_some_and(|session| {
        let state = session.state.read().unwrap_or_else(PoisonError::into_inner);
        let may = state.1.permit(Kind::Route, route, Some(&state.0), Action::Request);
        if let Some(number) = request.route_number().filter(|number| may && *number < 32) {
            session.routes.fetch_or(3 << (2 * number), Relaxed);
        }
        may
    });
    if may { Ok(Admission::Served) } else { Err(Error::rejected("not permitted")) }
}
