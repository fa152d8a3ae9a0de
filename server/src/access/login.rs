//! Credentials on their way to somebody.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    sync::atomic::Ordering::{Relaxed, Release},
    time::Duration,
};

use rsock::{Admission, Error, HttpRequest, Identity, Peer, Request, metadata::Authentication};
use rsock_access::{Action, Method, Principal, Sealed};

use super::{
    Access, Event, FAILED, Inner, NOBODY,
    cookie::OfHandshake,
    door::OfTransport,
    hashing::Busy,
    identity, lock,
    policy::Policy,
    remote,
    session::{Connection, Session},
    unix_now,
};

/// The text where too many passwords wait.
const BUSY: &str = "busy, retry";

/// Credentials that were right, by their keyed hash: themselves they are not kept.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: HashMap<Sealed, Known>,
}

#[derive(Debug)]
struct Known {
    identity: Identity,
    until: Duration,
    /// The second since 1970 from which on they are not right any more.
    expires: Option<u64>,
}

impl Cache {
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    fn get(&mut self, sealed: &Sealed, now: Duration) -> Option<Identity> {
        let known = self.known.get(sealed)?;
        if known.until <= now || known.expires.is_some_and(|expires| expires <= unix_now()) {
            self.known.remove(sealed);
            return None;
        }
        Some(known.identity.clone())
    }

    fn put(&mut self, sealed: Sealed, known: Known, max: usize, now: Duration) {
        if self.known.len() >= max {
            self.known.retain(|_, known| known.until > now);
        }
        if self.known.len() >= max {
            self.known.clear();
        }
        if max > 0 {
            self.known.insert(sealed, known);
        }
    }
}

/// Somebody who has shown who they are, and the policy by which that was looked at.
pub(super) struct Found {
    pub(super) principal: Principal,
    pub(super) policy: Arc<Policy>,
}

/// The reason why somebody is not let in: what they are told, and what the audit log is told.
pub(super) struct Failure {
    told: &'static str,
    reason: String,
    subject: Option<String>,
    method: Method,
}

impl Failure {
    fn new(method: Method, subject: Option<&str>, reason: impl Into<String>) -> Self {
        let subject = subject.map(str::to_owned);
        Self { told: FAILED, reason: reason.into(), subject, method }
    }
}

impl Access {
    /// The one who comes with these credentials, if they were right of late.
    pub(super) fn known(&self, own: &Authentication) -> Option<Identity> {
        self.kept(&self.0.seal_of(own)?)
    }

    fn kept(&self, sealed: &Sealed) -> Option<Identity> {
        let known = lock(&self.0.cache).get(sealed, self.0.now())?;
        // One that has ended meanwhile is looked up again.
        let session = known.claims::<Arc<Session>>();
        session.is_some_and(|session| !session.is_over()).then_some(known)
    }

    /// Finds out who sent a request.
    pub(super) fn ask(&self, request: &Request, own: Authentication) -> Admission {
        let (access, peer) = (self.clone(), request.peer().clone());
        Admission::Ask(Box::pin(async move { access.identify(&Origin::of(&peer), &own).await }))
    }

    /// The one who comes with these credentials, not to be looked up again for a while.
    async fn identify(&self, origin: &Origin, own: &Authentication) -> Result<Identity, Error> {
        let found = self.0.look_up(origin, own).await?;
        self.keep(self.0.seal_of(own), found)
    }

    /// Somebody who was found by credentials with this seal, not to be looked up again for a while.
    fn keep(&self, sealed: Option<Sealed>, found: Found) -> Result<Identity, Error> {
        let inner = &self.0;
        let auth = &found.policy.auth;
        let kept = match found.principal.method {
            Method::Password => auth.password_cache,
            _ => auth.token_cache,
        };
        let (expires, max) = (found.principal.expires, auth.credentials_kept);
        let session = inner.enter(found, None);
        if session.is_over() {
            return Err(Error::rejected(FAILED));
        }
        let identity = identity(session);
        let now = inner.now();
        if let Some(sealed) = sealed {
            let known = Known { identity: identity.clone(), until: now + kept, expires };
            lock(&inner.cache).put(sealed, known, max, now);
        }
        Ok(identity)
    }

    /// The visitor of whom a request of HTTP comes: by credentials that came otherwise, or else by the certificate,
    /// the header `Authorization` or the cookie, as a connection with that handshake.
    ///
    /// # Errors
    /// [`Error::Rejected`] where nobody is found.
    pub(crate) async fn identify_visitor(
        &self,
        peer: &Peer,
        own: Option<&Authentication>,
    ) -> Result<Identity, Error> {
        let (inner, origin) = (&self.0, Origin::of(peer));
        let of_transport = match own {
            Some(own) => Some(OfTransport::Handshake(OfHandshake::Header(own.clone()))),
            None => inner.of_transport(peer)?,
        };
        let found = match of_transport {
            Some(OfTransport::Handshake(OfHandshake::Header(own))) => {
                return match self.known(&own) {
                    Some(known) => Ok(known),
                    None => self.identify(&origin, &own).await,
                };
            }
            Some(OfTransport::Handshake(OfHandshake::Cookie(token))) => {
                let sealed = inner.seal.of(&[b"cookie", token.as_bytes()]);
                if let Some(known) = self.kept(&sealed) {
                    return Ok(known);
                }
                let found = inner.look_up_cookie(&origin, &token).await?;
                return self.keep(Some(sealed), found);
            }
            Some(OfTransport::Certificate(found)) => {
                inner.accepted(&origin, &found.principal);
                found
            }
            None => inner.anonymous(&origin)?,
        };
        let session = inner.enter(found, None);
        if session.is_over() {
            return Err(Error::rejected(FAILED));
        }
        Ok(identity(session))
    }

    /// Whether the handshake of somebody says who they are, rightly or not.
    pub(crate) fn says_who(&self, peer: &Peer) -> bool {
        !matches!(self.0.of_transport(peer), Ok(None))
    }

    /// Whether what somebody came in with counts still.
    pub(crate) fn counts(&self, identity: &Identity) -> bool {
        let Some(session) = identity.claims::<Arc<Session>>() else { return false };
        // One that has expired may not have been ended yet.
        let is_late = self.0.ends(session.expires()).is_some_and(|ends| ends <= unix_now());
        !session.is_over() && !is_late
    }

    /// The name of somebody, if it is known.
    pub(crate) fn subject(identity: &Identity) -> Option<&str> {
        Some(identity.name()).filter(|name| *name != NOBODY)
    }

    /// Whether somebody may do this to the service as a whole. Nobody administers it who has not said who they
    /// are: whether they are on this machine, or come by a proxy that is, nothing tells.
    pub(crate) fn may(&self, principal: &Principal, action: Action) -> bool {
        (principal.method != Method::Anonymous || action != Action::Admin)
            && Inner::grants_of(&self.0.policy(), principal).service().has(action)
    }

    /// The sender of an HTTP request, if they may do this to the service as a whole.
    ///
    /// # Errors
    /// The status to answer with.
    pub(crate) async fn may_over_http(
        &self,
        request: &HttpRequest,
        action: Action,
    ) -> Result<Principal, u16> {
        let says_nothing =
            ["authorization", "cookie"].iter().all(|it| request.header(it).is_none())
                && request.tls().is_none_or(|tls| tls.certificate().is_none());
        // It is no attempt to come in.
        if says_nothing && (action == Action::Admin || !self.lets_in_anybody()) {
            return Err(401);
        }
        let identity =
            self.identify_visitor(&request.to_peer(), None).await.map_err(|_| 401_u16)?;
        // Identities are of sessions here.
        let session = identity.claims::<Arc<Session>>().ok_or(401_u16)?;
        let principal = session.principal();
        if self.may(&principal, action) {
            return Ok(principal);
        }
        let origin = Origin { connection: None, address: request.address().into() };
        self.0.denied_over_http(&origin, &principal, action);
        Err(403)
    }

    /// Says anew who is at the other end of a connection: the same, with another token.
    ///
    /// # Errors
    /// [`Error::Rejected`] where that is not so.
    pub(crate) async fn refresh(&self, request: &Request) -> Result<(String, Option<u64>), Error> {
        let peer = request.peer();
        let session = peer.identity().and_then(|own| own.claims::<Arc<Session>>()).cloned();
        let (Some(session), Some(own)) = (session, request.authentication()?) else {
            return Err(Error::rejected("the request has no credentials: they are what it is for"));
        };
        let origin = Origin::of(peer);
        let found = self.0.look_up(&origin, &own).await?;
        let (fresh, before) = (&found.principal, session.principal());
        if before.subject.is_none() || fresh.subject != before.subject {
            self.0.failed(&origin, fresh.subject.as_deref(), Some(fresh.method), "another subject");
            return Err(Error::rejected("the credentials are another's: for that, connect again"));
        }
        let subject = fresh.subject.as_deref().unwrap_or_default().to_owned();
        let expires = fresh.expires;
        let grants = Inner::grants_of(&found.policy, fresh);
        let is_other = session.renew(found.principal, grants);
        let ends = self.0.ends(expires);
        lock(&self.0.sessions).expiry.set(session.id(), expires, ends);
        self.0.catch_up(&found.policy, &session);
        if session.is_over() {
            return Err(Error::rejected(FAILED));
        }
        if is_other {
            // It may be less than before.
            self.0.version.fetch_add(1, Release);
        }
        self.0.tell_of("auth.refreshed", &session, None);
        Ok((subject, expires.map(|expires| expires.saturating_sub(unix_now()))))
    }
}

impl Inner {
    /// The one who comes with these credentials, told of in the audit log.
    ///
    /// # Errors
    /// One text for all who are not let in, and another where there is no time to look.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        peer: &Origin,
        own: &Authentication,
    ) -> Result<Found, Error> {
        let found = match own {
            Authentication::Simple { username, password } => {
                self.by_password(peer, username, password).await
            }
            Authentication::Bearer { token } => self.by_token(token, Method::Token).await,
            _ => Err(Failure::new(Method::Token, None, "credentials of a type that is not known")),
        };
        self.outcome(peer, found)
    }

    /// The same of a token in a cookie.
    pub(super) async fn look_up_cookie(&self, peer: &Origin, token: &str) -> Result<Found, Error> {
        self.outcome(peer, self.by_token(token.as_bytes(), Method::Cookie).await)
    }

    fn outcome(&self, peer: &Origin, found: Result<Found, Failure>) -> Result<Found, Error> {
        match found {
            Ok(found) => {
                self.accepted(peer, &found.principal);
                Ok(found)
            }
            Err(failure) => {
                if failure.told == BUSY {
                    self.counters.busy.fetch_add(1, Relaxed);
                }
                self.failed(
                    peer,
                    failure.subject.as_deref(),
                    Some(failure.method),
                    &failure.reason,
                );
                Err(Error::rejected(failure.told))
            }
        }
    }

    async fn by_password(
        self: &Arc<Self>,
        peer: &Origin,
        name: &[u8],
        password: &[u8],
    ) -> Result<Found, Failure> {
        let (from, method) = (peer.ip(), Method::Password);
        let Ok(name) = std::str::from_utf8(name) else {
            return Err(Failure::new(method, None, "the name is not UTF-8"));
        };
        let shown = rsock_access::check_name(name).is_ok().then_some(name);
        let busy = || Failure { told: BUSY, ..Failure::new(method, shown, "too many at a time") };
        if self.policy().users.is_none() {
            return Err(Failure::new(method, shown, "there are no users"));
        }
        // Whoever guesses waits before anything is computed.
        let wait = lock(&self.throttle).wait(from, Some(name), self.now());
        if !wait.is_zero() {
            self.counters.slowed.fetch_add(1, Relaxed);
            let _waits = self.hashing.delay(from).map_err(|Busy| busy())?;
            tokio::time::sleep(wait.min(self.max_wait)).await;
        }
        // It is looked at by what holds then.
        let policy = self.policy();
        let Some(users) = &policy.users else {
            return Err(Failure::new(method, shown, "there are no users"));
        };
        let known = users.find(name);
        let Some(user) = known.or_else(|| users.nobody()) else {
            return Err(Failure::new(method, shown, "no such user"));
        };
        let (inner, tried, is_known) = (Arc::clone(self), name.to_owned(), known.is_some());
        let told = move |is_right| {
            let mut throttle = lock(&inner.throttle);
            if is_right && is_known {
                throttle.succeeded(from, Some(&tried));
            } else {
                throttle.failed(from, Some(&tried), inner.now());
            }
        };
        let is_right = self.hashing.verify(Arc::clone(user), password.to_vec(), from, told).await;
        match known {
            Some(user) if is_right.map_err(|Busy| busy())? => {
                let roles = Arc::clone(user.roles());
                let mut principal = Principal::new(Some(name.into()), roles, method);
                principal.issued = Some(unix_now());
                Ok(Found { principal, policy })
            }
            Some(_) => Err(Failure::new(method, shown, "wrong password")),
            None => Err(Failure::new(method, shown, "no such user")),
        }
    }

    async fn by_token(&self, token: &[u8], method: Method) -> Result<Found, Failure> {
        let policy = self.policy();
        let wrong = |reason: String| Failure::new(method, None, reason);
        let Some(verifier) = &policy.verifier else {
            return Err(wrong("there are no keys for tokens".to_owned()));
        };
        let token = std::str::from_utf8(token).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let verified =
            remote::verify(&policy, |more| verifier.verify_with(more, token, unix_now()));
        let mut principal = verified.await.map_err(|error| wrong(error.to_string()))?;
        principal.method = method;
        if lock(&self.revoked).has(&principal) {
            return Err(Failure::new(method, principal.subject.as_deref(), "it is revoked"));
        }
        Ok(Found { principal, policy })
    }

    /// The one who comes without credentials.
    pub(super) fn anonymous(&self, peer: &Origin) -> Result<Found, Error> {
        let policy = self.policy();
        match &policy.anonymous {
            Some(roles) => {
                let principal = Principal::new(None, Arc::clone(roles), Method::Anonymous);
                Ok(Found { principal, policy })
            }
            None => {
                self.failed(peer, None, Some(Method::Anonymous), "no credentials");
                Err(Error::rejected(FAILED))
            }
        }
    }

    fn seal_of(&self, own: &Authentication) -> Option<Sealed> {
        match own {
            Authentication::Simple { username, password } => {
                Some(self.seal.of(&[b"simple", username, password]))
            }
            Authentication::Bearer { token } => Some(self.seal.of(&[b"bearer", token])),
            _ => None,
        }
    }

    fn denied_over_http(&self, origin: &Origin, principal: &Principal, action: Action) {
        self.counters.denied.fetch_add(1, Relaxed);
        self.audit.tell(Event {
            event: "denied",
            peer: Some(&origin.address),
            subject: principal.subject.as_deref(),
            method: Some(principal.method.as_str()),
            action: Some(action.as_str()),
            ..Event::default()
        });
    }

    pub(super) fn accepted(&self, peer: &Origin, principal: &Principal) {
        self.counters.accepted.add(Some(principal.method));
        self.audit.tell(Event {
            event: "auth.ok",
            conn: peer.connection,
            peer: Some(&peer.address),
            subject: principal.subject.as_deref(),
            method: Some(principal.method.as_str()),
            ..Event::default()
        });
    }

    pub(super) fn failed(
        &self,
        peer: &Origin,
        subject: Option<&str>,
        method: Option<Method>,
        reason: &str,
    ) {
        self.counters.failed.add(method);
        self.audit.tell(Event {
            event: "auth.failed",
            conn: peer.connection,
            peer: Some(&peer.address),
            subject,
            method: method.map(Method::as_str),
            reason: Some(reason),
            ..Event::default()
        });
    }

    /// The session of somebody, who may have been let in by a policy that is not the one any more.
    pub(super) fn enter(
        self: &Arc<Self>,
        found: Found,
        connection: Option<Connection>,
    ) -> Arc<Session> {
        let Found { principal, policy } = found;
        let grants = Self::grants_of(&policy, &principal);
        let session = Session::new(principal, grants, connection, self);
        self.catch_up(&policy, &session);
        session
    }

    /// Judges a session, which was judged by this policy and is known from here on, by what holds now: whoever
    /// changed that may have looked through the sessions before.
    pub(super) fn catch_up(&self, seen: &Policy, session: &Session) {
        let policy = self.policy();
        if !std::ptr::eq(&*policy, seen) {
            self.judge_anew(seen, &policy, session);
        }
        if lock(&self.revoked).has(&session.principal()) {
            self.end_revoked(session);
        }
    }
}

/// The other end of a connection, as far as the audit log tells of it.
pub(super) struct Origin {
    connection: Option<u64>,
    address: Box<str>,
}

impl Origin {
    pub(super) fn of(peer: &Peer) -> Self {
        Self { connection: Some(peer.connection_id()), address: peer.address().into() }
    }

    /// Of those that have one.
    fn ip(&self) -> Option<IpAddr> {
        self.address.parse::<SocketAddr>().ok().map(|address| address.ip())
    }
}
