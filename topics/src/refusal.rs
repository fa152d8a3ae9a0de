//! Refusals: reasons why something is not done, in words that clients and tests may match up to the first colon.

use std::fmt;

/// A reason why a request is not served: INVALID, REJECTED or APPLICATION_ERROR on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It can never succeed as it is: a name, options, JSON, the size of a field.
    Invalid(String),
    /// Nothing was done, and nothing of it remains.
    Rejected(String),
    /// It failed while it was done, and may have been done.
    Failed(String),
}

impl Refusal {
    /// A request that can never succeed as it is.
    pub fn invalid(text: impl fmt::Display) -> Self {
        Self::Invalid(text.to_string())
    }

    /// A request of which nothing was done.
    pub fn rejected(text: impl fmt::Display) -> Self {
        Self::Rejected(text.to_string())
    }

    /// A request that may have been done.
    pub fn failed(text: impl fmt::Display) -> Self {
        Self::Failed(text.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(text) | Self::Rejected(text) | Self::Failed(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}
