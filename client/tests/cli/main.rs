//! The command line as users run it: the real binary against servers made here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod errors;
mod flow;
mod input;
mod interactions;
mod metadata;
mod output;
mod published;
mod reconnect;
mod support;
mod topic;
mod waits;
