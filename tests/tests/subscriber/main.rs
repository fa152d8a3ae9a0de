//! The client's side of topics, `rsock::topic`, against a small service with faults: connections that are cut,
//! gaps, resets, refusals, answers that are lost.

mod presence;
mod publisher;
mod reported;
mod rsockd;
mod service;
mod subscription;
