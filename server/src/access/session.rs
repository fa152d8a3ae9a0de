//! Sessions: who is at the other end of a connection, for as long as it is there; or who sent a request.

use std::sync::{
    Arc, PoisonError, RwLock, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rsock::{Peer, Requester};
use rsock_access::{Action, Actions, Grants, Kind, Principal};

use super::Inner;
use crate::doors::OfUser;

/// Somebody, and what they may do at this moment.
pub(crate) struct Session {
    id: u64,
    /// The connection that is theirs; of a request there is none.
    pub(super) connection: Option<Connection>,
    /// Of who has a token for one topic: the one whose connection it is, who may do no less.
    beside: Option<Arc<Self>>,
    state: RwLock<State>,
    /// The routes that were looked up already, by their numbers: two bits each, whether it was, and whether it may be
    /// called. Written while the state is held, and begun anew with it.
    routes: AtomicU64,
    owner: Weak<Inner>,
}

/// Routes whose verdicts are kept.
const KEPT_ROUTES: u32 = 32;
const IS_KNOWN: u64 = 1;
const IS_PERMITTED: u64 = 2;

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) address: Box<str>,
    pub(super) requester: Requester,
    /// Counts among the connections of the user for as long.
    pub(super) _of_user: Option<OfUser>,
}

impl Connection {
    pub(super) fn of(peer: &Peer, of_user: Option<OfUser>) -> Self {
        Self {
            id: peer.connection_id(),
            address: peer.address().into(),
            requester: peer.requester().clone(),
            _of_user: of_user,
        }
    }
}

struct State {
    principal: Principal,
    grants: Arc<Grants>,
    /// Nothing is permitted any more.
    is_over: bool,
}

impl State {
    /// The actions by its own grants, by those of its token, and by these.
    #[inline]
    fn actions(&self, kind: Kind, name: &str, own: Option<&str>, more: Option<&Grants>) -> Actions {
        let own_more = self.principal.grants.as_deref();
        match (own_more, more) {
            (None, None) => self.grants.on(kind, name, own),
            (own_more, more) => {
                let all = [Some(&*self.grants), own_more, more];
                Grants::on_all(all.into_iter().flatten(), kind, name, own)
            }
        }
    }
}

impl Session {
    pub(super) fn new(
        principal: Principal,
        grants: Arc<Grants>,
        connection: Option<Connection>,
        owner: &Arc<Inner>,
    ) -> Arc<Self> {
        Self::beside(None, principal, grants, connection, owner)
    }

    /// Somebody with a token for one topic, whose grants are the principal's, beside what may be done anyway.
    pub(super) fn of_topic(
        beside: Arc<Self>,
        principal: Principal,
        owner: &Arc<Inner>,
    ) -> Arc<Self> {
        Self::beside(Some(beside), principal, Arc::default(), None, owner)
    }

    fn beside(
        beside: Option<Arc<Self>>,
        principal: Principal,
        grants: Arc<Grants>,
        connection: Option<Connection>,
        owner: &Arc<Inner>,
    ) -> Arc<Self> {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let state = RwLock::new(State { principal, grants, is_over: false });
        let id = SESSIONS.fetch_add(1, Relaxed);
        let session = Arc::new(Self {
            id,
            connection,
            beside,
            state,
            routes: AtomicU64::new(0),
            owner: Arc::downgrade(owner),
        });
        owner.remember(&session);
        session
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Whether something may be done to something of this name.
    #[inline]
    pub(super) fn may(&self, kind: Kind, name: &str, action: Action) -> bool {
        let state = self.read();
        if state.is_over {
            return false;
        }
        let own = state.principal.subject.as_deref();
        match &self.beside {
            None => state.actions(kind, name, own, None).has(action),
            Some(beside) => {
                let (beside, more) = (beside.read(), state.principal.grants.as_deref());
                !beside.is_over && beside.actions(kind, name, own, more).has(action)
            }
        }
    }

    /// Whether the route of this number may be called, where that is known already.
    #[inline]
    pub(super) fn may_call(&self, number: u32) -> bool {
        let known = self.routes.load(Relaxed).checked_shr(2 * number).unwrap_or(0);
        known & (IS_KNOWN | IS_PERMITTED) == IS_KNOWN | IS_PERMITTED
    }

    /// Whether this route may be called, which has this number if it is the only one for its name: from then on
    /// that is known.
    pub(super) fn may_request(&self, number: Option<u32>, route: &str, is_open: bool) -> bool {
        let state = self.read();
        if state.is_over {
            return false;
        }
        let own = state.principal.subject.as_deref();
        let may = is_open || state.actions(Kind::Route, route, own, None).has(Action::Request);
        if let Some(number) = number.filter(|number| *number < KEPT_ROUTES) {
            // Nobody changes what may be done meanwhile.
            let verdict = if may { IS_KNOWN | IS_PERMITTED } else { IS_KNOWN };
            self.routes.fetch_or(verdict << (2 * number), Relaxed);
        }
        may
    }

    pub(super) fn is_over(&self) -> bool {
        self.read().is_over || self.beside.as_ref().is_some_and(|beside| beside.is_over())
    }

    pub(super) fn principal(&self) -> Principal {
        self.read().principal.clone()
    }

    pub(super) fn expires(&self) -> Option<u64> {
        self.read().principal.expires
    }

    /// Says anew who it is, with what they may do. Whether that differs from before.
    pub(super) fn renew(&self, principal: Principal, grants: Arc<Grants>) -> bool {
        let mut state = self.write();
        self.routes.store(0, Relaxed);
        let before = &state.principal;
        let is_same = before.grants.is_none()
            && principal.grants.is_none()
            && Arc::ptr_eq(&state.grants, &grants);
        state.principal = principal;
        state.grants = grants;
        !is_same
    }

    /// Decides anew what it may do; without grants, it has ended. Nobody says meanwhile who it is.
    pub(super) fn judge(&self, judge: impl FnOnce(&mut Principal) -> Option<Arc<Grants>>) -> bool {
        let mut state = self.write();
        self.routes.store(0, Relaxed);
        match judge(&mut state.principal) {
            Some(grants) => {
                state.grants = grants;
                true
            }
            None => false,
        }
    }

    /// From now on nothing is permitted; the connection ends, if it has one.
    pub(super) fn end(&self, why: &str) {
        {
            let mut state = self.write();
            self.routes.store(0, Relaxed);
            state.is_over = true;
        }
        if let Some(connection) = &self.connection {
            connection.requester.end(why);
        }
    }

    #[inline]
    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // It is changed by assignments alone.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.upgrade() {
            owner.forget(self.id);
        }
    }
}
