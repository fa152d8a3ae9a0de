//! Access: who comes in, and what they may do: `rsock-access` at connections and requests.

mod audit;
mod certificate;
mod cookie;
mod door;
mod expiry;
mod hashing;
mod login;
mod policy;
mod remote;
mod revoke;
mod session;
mod topic_token;

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant, SystemTime},
};

use rsock::{Admission, Error, Identity, ItemGuard, Request};
use rsock_access::{
    Action, Grants, Kind, Method, Principal, Revoked, Seal, Throttle, ThrottleLimits,
};
use rsock_topics::{Permit, Refusal, TopicName};
use serde::Serialize;

use audit::{Audit, Event};
pub(crate) use door::Door;
use expiry::Expiry;
use hashing::Hashing;
use login::{Cache, Origin};
pub use policy::AccessError;
use policy::Policy;
pub(crate) use revoke::Revoke;
use session::Session;

use crate::settings::AccessFile;

/// The interval at which it is looked at whose token has expired.
const TICK: Duration = Duration::from_secs(1);
/// The name of those who have said nothing of themselves. No subject begins so.
const NOBODY: &str = "~";
/// The text for all who were not let in, whatever the reason.
const FAILED: &str = "authentication failed";
/// Routes whose answers show no more than one may use, and by which one says who one is.
const OPEN_ROUTES: [&str; 3] = ["routes", "topics", "auth"];
/// Beginnings of the names that are judged by the topic that they name, behind this.
const OF_TOPICS: [&str; 3] = ["topic.", "presence.", "history."];

/// Decides who comes in, and what they may do. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Access(Arc<Inner>);

struct Inner {
    file: AccessFile,
    policy: RwLock<Arc<Policy>>,
    /// Grows when somebody may do less than before.
    version: AtomicU64,
    hashing: Hashing,
    throttle: Mutex<Throttle>,
    cache: Mutex<Cache>,
    seal: Seal,
    revoked: Mutex<Revoked>,
    sessions: Mutex<Sessions>,
    audit: Audit,
    counters: Counters,
    started: Instant,
    /// The longest that an answer may be put off.
    max_wait: Duration,
    /// Held while settings are read anew, so that those that were read last are those that hold.
    reloading: Mutex<()>,
}

/// Looks whether a file of settings, and those that it names, can be used.
///
/// # Errors
/// What is wrong, as a sentence.
pub(crate) fn check(file: &AccessFile) -> Result<(), String> {
    Policy::read(file).map(drop).map_err(|error| error.to_string())
}

/// Settings that were read, and do not act yet.
pub(crate) struct NextPolicy(Policy);

/// All sessions there are, and those of them that expire.
#[derive(Default)]
struct Sessions {
    all: HashMap<u64, Weak<Session>>,
    expiry: Expiry,
}

#[derive(Default)]
struct Counters {
    accepted: ByMethod,
    failed: ByMethod,
    busy: AtomicU64,
    slowed: AtomicU64,
    denied: AtomicU64,
    expired: AtomicU64,
    noticed: AtomicU64,
}

/// The figures of who came in and of what was not permitted.
#[derive(Debug, Serialize)]
pub(crate) struct AccessFigures {
    pub(crate) accepted: u64,
    pub(crate) failed: u64,
    pub(crate) busy: u64,
    pub(crate) slowed: u64,
    pub(crate) denied: u64,
    pub(crate) expired: u64,
    pub(crate) noticed: u64,
    pub(crate) sessions: usize,
    /// The first two, by method.
    #[serde(skip)]
    pub(crate) by_method: [(&'static str, u64, u64); METHODS.len()],
}

/// The ways in which somebody says who they are; those behind which nothing could be read have none.
const METHODS: [Option<Method>; 6] = [
    Some(Method::Anonymous),
    Some(Method::Password),
    Some(Method::Token),
    Some(Method::Cookie),
    Some(Method::Certificate),
    None,
];

/// A count for each method.
#[derive(Default)]
struct ByMethod([AtomicU64; METHODS.len()]);

impl ByMethod {
    fn add(&self, method: Option<Method>) {
        if let Some(index) = METHODS.iter().position(|known| *known == method) {
            self.0[index].fetch_add(1, Relaxed);
        }
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }
}

impl Access {
    /// Reads a file of settings, and those that it names.
    ///
    /// # Errors
    /// What is wrong with them, or that the system has no random numbers.
    pub(crate) fn open(file: &AccessFile, setup_timeout: Duration) -> Result<Self, String> {
        let policy = Policy::read(file).map_err(|error| error.to_string())?;
        let seal = Seal::random()?;
        let auth = &policy.auth;
        let at_once = auth.hashing_at_once.unwrap_or_else(hashing_at_once);
        let hashing = Hashing::new(at_once, auth.hashing_queue);
        let limits = ThrottleLimits {
            free: auth.free_failures,
            window: auth.failures_window,
            entries: auth.failures_kept,
            ..ThrottleLimits::default()
        };
        Ok(Self(Arc::new(Inner {
            file: file.clone(),
            policy: RwLock::new(Arc::new(policy)),
            version: AtomicU64::new(1),
            hashing,
            throttle: Mutex::new(Throttle::new(limits)),
            cache: Mutex::default(),
            seal,
            revoked: Mutex::default(),
            sessions: Mutex::default(),
            audit: Audit::default(),
            counters: Counters::default(),
            started: Instant::now(),
            max_wait: setup_timeout / 2,
            reloading: Mutex::default(),
        })))
    }

    /// Writes what happens to a file as well.
    ///
    /// # Errors
    /// If it cannot be opened, as a sentence.
    pub(crate) fn audit_to(&self, file: &Path) -> Result<(), String> {
        self.0.audit.open(file).map_err(|error| format!("cannot open {}: {error}", file.display()))
    }

    /// Ends what has expired, for as long as there is anybody to decide about.
    pub(crate) fn start(&self) {
        if let Some(remote) = &self.0.policy().remote {
            remote.start();
        }
        let inner = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.end_expired(unix_now());
            }
        });
    }

    /// Has the file of the audit written.
    pub(crate) fn close(&self) {
        self.0.audit.close();
    }

    /// Reads the settings anew, and has nothing act yet.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn read_anew(&self) -> Result<NextPolicy, AccessError> {
        let inner = &self.0;
        match Policy::read(&inner.file) {
            Ok(policy) => Ok(NextPolicy(policy)),
            Err(error) => {
                let reason = error.to_string();
                inner.audit.tell(Event {
                    event: "reload.failed",
                    reason: Some(&reason),
                    ..Event::default()
                });
                Err(error)
            }
        }
    }

    /// Has settings act that were read.
    pub(crate) fn take(&self, NextPolicy(mut policy): NextPolicy) {
        let inner = &self.0;
        let _reloading = lock(&inner.reloading);
        let before = inner.policy();
        policy.adopt(&before);
        if let Some(remote) = &policy.remote {
            remote.start();
        }
        let policy = Arc::new(policy);
        *inner.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&policy);
        lock(&inner.cache).clear();
        for session in inner.sessions() {
            inner.judge_anew(&before, &policy, &session);
        }
        inner.version.fetch_add(1, Release);
        inner.audit.tell(Event { event: "reload", ..Event::default() });
    }

    /// Decides what becomes of a request before its handler sees it. `default` is the route of those that name none.
    #[inline]
    pub(crate) fn admit(
        &self,
        request: &mut Request,
        default: Option<&str>,
    ) -> Result<Admission, Error> {
        // Most have no credentials of their own, and ask for what was asked for before.
        let number = request.route_number();
        if number.is_some_and(|number| {
            session_of(request).is_some_and(|session| session.may_call(number))
        }) && (request.is_identified() || matches!(request.authentication(), Ok(None)))
        {
            return Ok(Admission::Served);
        }
        self.look(request, default)
    }

    #[inline(never)]
    fn look(&self, request: &mut Request, default: Option<&str>) -> Result<Admission, Error> {
        let route = request.route().or(default).unwrap_or_default();
        // What comes with `auth` is for the connection.
        if !request.is_identified() && route != "auth" {
            match request.authentication() {
                Ok(None) => {}
                Ok(Some(own)) => match self.known(&own) {
                    Some(identity) => request.identify(identity),
                    None => return Ok(self.ask(request, own)),
                },
                Err(Error::Rejected(reason)) => {
                    self.0.failed(&Origin::of(request.peer()), None, None, &reason);
                    return Err(Error::rejected(FAILED));
                }
                Err(error) => return Err(error),
            }
        }
        let route = request.route().or(default).unwrap_or_default();
        let number = request.route_number();
        if session_of(request).is_some_and(|session| may_request(session, number, route)) {
            return Ok(Admission::Served);
        }
        let route = route.to_owned();
        self.denied(request, Action::Request, &route);
        Err(Error::rejected(format_args!("not permitted: request on route {route:?}")))
    }

    /// A look that ends the items of a request when it is not permitted any more; of topics they see to it
    /// themselves.
    pub(crate) fn guard(&self, request: &Request, default: Option<&str>) -> Option<ItemGuard> {
        let route = request.route().or(default)?.to_owned();
        if OF_TOPICS.iter().any(|prefix| route.starts_with(prefix)) {
            return None;
        }
        let (access, session) = (self.clone(), Arc::clone(session_of(request)?));
        let mut version = self.0.version.load(Acquire);
        Some(Box::new(move || {
            let now = access.0.version.load(Acquire);
            if now != version && !may_request(&session, None, &route) {
                access.0.counters.denied.fetch_add(1, Relaxed);
                access.0.tell_of("denied", &session, Some("the permission has ended"));
                return Err(Error::rejected(format_args!(
                    "permission ended: request on route {route:?}; authenticate again"
                )));
            }
            version = now;
            Ok(())
        }))
    }

    /// Whether who says nothing of themselves comes in all the same.
    pub(crate) fn lets_in_anybody(&self) -> bool {
        self.0.policy().anonymous.is_some()
    }

    /// Writes down what somebody did who administers the service.
    pub(crate) fn administered(
        &self,
        address: &str,
        by: &Principal,
        action: &'static str,
        object: Option<&str>,
    ) {
        self.0.audit.tell(Event {
            event: "admin",
            peer: Some(address),
            subject: by.subject.as_deref(),
            method: Some(by.method.as_str()),
            action: Some(action),
            object,
            ..Event::default()
        });
    }

    /// Whether this is the name of those who have said nothing of themselves.
    pub(crate) fn is_nobody(name: &str) -> bool {
        name == NOBODY
    }

    /// The origins whose pages may use the cookie.
    pub(crate) fn cookie_origins(&self) -> Vec<String> {
        self.0.policy().cookie.as_ref().map(|cookie| cookie.origins.clone()).unwrap_or_default()
    }

    /// Whether whoever sent this request may call this route.
    #[inline]
    pub(crate) fn may_request(&self, request: &Request, route: &str) -> bool {
        session_of(request).is_some_and(|session| may_request(session, None, route))
    }

    #[cold]
    fn denied(&self, request: &Request, action: Action, object: &str) {
        self.0.counters.denied.fetch_add(1, Relaxed);
        let principal = session_of(request).map(|session| session.principal());
        let subject = principal.as_ref().and_then(|principal| principal.subject.as_deref());
        self.0.audit.tell(Event {
            event: "denied",
            conn: Some(request.peer().connection_id()),
            peer: Some(request.peer().address()),
            subject,
            method: principal.as_ref().map(|principal| principal.method.as_str()),
            action: Some(action.as_str()),
            object: Some(object),
            reason: None,
        });
    }

    pub(crate) fn figures(&self) -> AccessFigures {
        let counters = &self.0.counters;
        AccessFigures {
            accepted: counters.accepted.sum(),
            failed: counters.failed.sum(),
            busy: counters.busy.load(Relaxed),
            slowed: counters.slowed.load(Relaxed),
            denied: counters.denied.load(Relaxed),
            expired: counters.expired.load(Relaxed),
            noticed: counters.noticed.load(Relaxed),
            sessions: lock(&self.0.sessions).all.len(),
            by_method: std::array::from_fn(|index| {
                let count = |of: &ByMethod| of.0[index].load(Relaxed);
                let method = METHODS[index].map_or("unreadable", Method::as_str);
                (method, count(&counters.accepted), count(&counters.failed))
            }),
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("file", &self.0.file.path).finish_non_exhaustive()
    }
}

/// Whether this somebody may call this route.
fn may_request(session: &Session, number: Option<u32>, route: &str) -> bool {
    let is_open =
        OPEN_ROUTES.contains(&route) || OF_TOPICS.iter().any(|prefix| route.starts_with(prefix));
    session.may_request(number, route, is_open)
}

/// The session of whoever sent a request.
#[inline]
fn session_of(request: &Request) -> Option<&Arc<Session>> {
    request.identity()?.claims::<Arc<Session>>()
}

impl Permit for Access {
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal> {
        let session = session_of(request);
        if session.is_some_and(|session| session.may(Kind::Topic, topic.as_str(), action)) {
            return Ok(());
        }
        Err(Refusal::not_permitted(action.as_str(), topic, None))
    }

    fn admit_token(
        &self,
        request: &Request,
        token: &str,
        topic: &TopicName,
    ) -> Result<Identity, Refusal> {
        self.of_topic_token(request, token, topic)
    }

    fn refused(&self, request: &Request, action: Action, topic: &TopicName) {
        self.denied(request, action, topic.as_str());
    }

    fn version(&self) -> Option<u64> {
        Some(self.0.version.load(Acquire))
    }
}

impl Inner {
    fn policy(&self) -> Arc<Policy> {
        // It is changed by an assignment alone.
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn grants_of(policy: &Policy, principal: &Principal) -> Arc<Grants> {
        policy.rules.of_roles(principal.roles.iter())
    }

    fn remember(&self, session: &Arc<Session>) {
        let expires = session.expires();
        let ends = self.ends(expires);
        let mut sessions = lock(&self.sessions);
        sessions.all.insert(session.id(), Arc::downgrade(session));
        sessions.expiry.set(session.id(), expires, ends);
    }

    /// When a token counts no more that expires at a time: clocks differ.
    fn ends(&self, expires: Option<u64>) -> Option<u64> {
        let leeway = self.policy().verifier.as_ref().map_or(0, |verifier| verifier.leeway);
        expires.map(|expires| expires.saturating_add(leeway))
    }

    fn forget(&self, id: u64) {
        let mut sessions = lock(&self.sessions);
        sessions.all.remove(&id);
        sessions.expiry.forget(id);
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.sessions).all.values().filter_map(Weak::upgrade).collect()
    }

    /// Ends all whose token is no longer true, and tells those who heed it whose token will not be for long.
    fn end_expired(&self, now: u64) {
        let (due, noticed) = {
            let mut sessions = lock(&self.sessions);
            let (due, noticed) =
                (sessions.expiry.take_ended(now), sessions.expiry.take_noticed(now));
            (sessions.some(&due), sessions.some(&noticed))
        };
        for session in noticed {
            if expiry::notify(&session, now) {
                self.counters.noticed.fetch_add(1, Relaxed);
            }
        }
        if due.is_empty() {
            return;
        }
        let mut has_streams = false;
        for session in &due {
            // Those of a connection end with it.
            has_streams |= session.connection.is_none();
            self.counters.expired.fetch_add(1, Relaxed);
            session.end("the token has expired: connect again with a fresh one");
            self.tell_of("expired", session, None);
        }
        if has_streams {
            self.version.fetch_add(1, Release);
        }
    }

    /// Looks at what somebody may do by another policy than the one before.
    fn judge_anew(&self, before: &Policy, policy: &Policy, session: &Session) {
        let is_kept = session.judge(|principal| {
            let takes = policy.still_takes(before, principal);
            takes.then(|| Self::grants_of(policy, principal))
        });
        if !is_kept {
            self.end_revoked(session);
        }
    }

    fn end_revoked(&self, session: &Session) {
        session.end("what you came in with counts no more: authenticate again");
        self.tell_of("revoked", session, None);
    }

    fn tell_of(&self, event: &'static str, session: &Session, reason: Option<&str>) {
        let (principal, connection) = (session.principal(), session.connection.as_ref());
        self.audit.tell(Event {
            event,
            conn: connection.map(|connection| connection.id),
            peer: connection.map(|connection| &*connection.address),
            subject: principal.subject.as_deref(),
            method: Some(principal.method.as_str()),
            reason,
            ..Event::default()
        });
    }

    /// The time by a clock that never goes back.
    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Sessions {
    /// Those of these numbers that there are still.
    fn some(&self, numbers: &[u64]) -> Vec<Arc<Session>> {
        numbers.iter().filter_map(|number| self.all.get(number)?.upgrade()).collect()
    }
}

/// The passwords that are looked at at a time, unless settings say it: two, and no more than half of the cores.
fn hashing_at_once() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 2)
}

/// Takes a lock. What is behind it here is changed by single calls, and right whoever panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unix_now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// The identity that a session is known by.
fn identity(session: Arc<Session>) -> Identity {
    let name = session.principal().subject.unwrap_or_else(|| NOBODY.into());
    Identity::with_claims(name, session)
}
