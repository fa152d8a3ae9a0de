//! Sessions: who is at the other end of a connection, for as long as it is there; or who sent a request.

use std::sync::{
    Arc, PoisonError, RwLock, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use rsock::Requester;
use rsock_access::{Action, Grants, Kind, Principal};

use super::Inner;
use crate::doors::OfUser;

/// Somebody, and what they may do at this moment.
pub(crate) struct Session {
    id: u64,
    /// The connection that is theirs; of a request there is none.
    pub(super) connection: Option<Connection>,
    state: RwLock<State>,
    owner: Weak<Inner>,
}

pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) address: Box<str>,
    pub(super) requester: Requester,
    /// Counts among the connections of the user for as long.
    pub(super) _of_user: Option<OfUser>,
}

struct State {
    principal: Principal,
    grants: Arc<Grants>,
    /// Nothing is permitted any more.
    is_over: bool,
}

impl Session {
    pub(super) fn new(
        principal: Principal,
        grants: Arc<Grants>,
        connection: Option<Connection>,
        owner: &Arc<Inner>,
    ) -> Arc<Self> {
        static SESSIONS: AtomicU64 = AtomicU64::new(1);
        let state = RwLock::new(State { principal, grants, is_over: false });
        let id = SESSIONS.fetch_add(1, Relaxed);
        let session = Arc::new(Self { id, connection, state, owner: Arc::downgrade(owner) });
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
        match &state.principal.grants {
            None => state.grants.permit(kind, name, own, action),
            Some(more) => state.grants.on_with(more, kind, name, own).has(action),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.read().is_over
    }

    pub(super) fn principal(&self) -> Principal {
        self.read().principal.clone()
    }

    pub(super) fn expires(&self) -> Option<u64> {
        self.read().principal.expires
    }

    /// Says anew who it is, with what they may do.
    pub(super) fn renew(&self, principal: Principal, grants: Arc<Grants>) {
        let mut state = self.write();
        state.principal = principal;
        state.grants = grants;
    }

    /// From now on nothing is permitted; the connection ends, if it has one.
    pub(super) fn end(&self, why: &str) {
        self.write().is_over = true;
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
