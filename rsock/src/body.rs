//! The kinds of data that handlers take and give.

/// Data that is UTF-8 text, in and out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

/// Data that is JSON, in and out. Empty data reads like `null`.
#[cfg(feature = "json")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);
