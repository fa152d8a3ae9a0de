//! Attacks on a service over real sockets: by tokens, by names, by what is not permitted any more.

#![expect(clippy::unwrap_used, reason = "a test fails where it panics, its helpers included")]

mod ends;
mod guessing;
mod names;
mod remote;
mod revoked;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod topic_tokens;
