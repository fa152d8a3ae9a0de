//! Decisions on who somebody is, and what they may do: users, tokens, grants, and the slowing of who guesses.
//!
//! Everything here is a function of what it is given, and of the time it is given: there are no sockets,
//! tasks, clocks or files. Text comes in, decisions go out.
//!
//! ```
//! use rsock_access::{Action, Actions, Kind, Pattern, Rule, Rules};
//!
//! let chat = Rule {
//!     roles: vec!["chat".to_owned()],
//!     kind: Kind::Topic,
//!     patterns: vec![Pattern::parse("room.*", Kind::Topic)?],
//!     actions: Actions::of(&[Action::Subscribe, Action::Publish]),
//!     is_denied: false,
//! };
//! let grants = Rules::new(vec![chat]).of_roles(["chat"]);
//! assert!(grants.permit(Kind::Topic, "room.1", Some("ann"), Action::Publish));
//! assert!(!grants.permit(Kind::Topic, "room.1", Some("ann"), Action::History));
//! # Ok::<(), String>(())
//! ```

mod action;
mod grants;
#[cfg(feature = "jwt")]
mod jwks;
#[cfg(feature = "jwt")]
mod jwt;
mod name;
mod pattern;
mod principal;
mod revoked;
mod rules;
#[cfg(any(feature = "jwt", feature = "password"))]
mod seal;
#[cfg(feature = "settings")]
mod settings;
mod throttle;
#[cfg(feature = "password")]
mod users;

pub use action::{Action, Actions};
pub use grants::Grants;
#[cfg(feature = "jwt")]
pub use jwks::{Key, Keys};
#[cfg(feature = "jwt")]
pub use jwt::{Claims, TokenError, TopicToken, Verifier};
pub use name::{MAX_NAME_BYTES, check_name, is_shown};
pub use pattern::{Kind, MAX_PATTERN_BYTES, Pattern, is_token};
pub use principal::{KeyPrint, Method, Principal};
pub use revoked::{Revoked, TooManyRevoked};
pub use rules::{Rule, Rules};
#[cfg(any(feature = "jwt", feature = "password"))]
pub use seal::{Seal, Sealed};
#[cfg(feature = "settings")]
pub use settings::{
    AccessSettings, AuthSettings, CertificateName, CookieSettings, JwtSettings, KeySettings,
    MtlsSettings, RuleSettings, Secret, UsersSettings,
};
pub use throttle::{Network, Throttle, ThrottleLimits};
#[cfg(feature = "password")]
pub use users::{User, Users, hash_password};
