//! Our client against our server, over every transport, asking in both directions.

mod connections;
mod demand;
mod draining;
mod ending;
mod feed;
mod forward;
mod http;
mod interactions;
mod keepalive;
mod layer;
mod lease;
mod leaving;
#[cfg(target_os = "linux")]
mod link_local;
mod observe;
mod panics;
#[cfg(target_os = "linux")]
mod per_core;
mod plain_websocket;
mod reconnect;
mod resume;
mod setup;
#[cfg(unix)]
mod unix;
