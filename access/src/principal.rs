//! Principals: somebody who has shown who they are.

use std::{fmt, sync::Arc};

use crate::grants::Grants;

/// The way in which somebody has shown who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all: by roles that everybody has.
    Anonymous,
    /// By a password.
    Password,
    /// By a signed token.
    Token,
    /// By a signed token in a cookie.
    Cookie,
    /// By a certificate.
    Certificate,
}

impl Method {
    /// The name it has in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Password => "password",
            Self::Token => "token",
            Self::Cookie => "cookie",
            Self::Certificate => "certificate",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody, and what is known of them.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The name; of nobody in particular there is none.
    pub subject: Option<Arc<str>>,
    /// The roles.
    pub roles: Arc<[Arc<str>]>,
    /// The grants of a token, beside the roles.
    pub grants: Option<Arc<Grants>>,
    /// The second since 1970 from which on this is not true any more.
    pub expires: Option<u64>,
    /// The way in which it was shown.
    pub method: Method,
    /// The token's own number.
    pub token_id: Option<Arc<str>>,
    /// The second since 1970 in which the token was made, or in which a password or certificate was looked at.
    pub issued: Option<u64>,
    /// The key that the token was signed with, by its hash.
    pub signed_by: Option<KeyPrint>,
}

/// A key by its hash: two of the same are the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyPrint(pub(crate) [u8; 32]);

/// Shows nothing of it.
impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPrint")
    }
}

impl Principal {
    /// Somebody of this name, who has these roles.
    pub fn new(subject: Option<Arc<str>>, roles: Arc<[Arc<str>]>, method: Method) -> Self {
        Self {
            subject,
            roles,
            grants: None,
            expires: None,
            method,
            token_id: None,
            issued: None,
            signed_by: None,
        }
    }
}
