//! Our client against our server, over every transport, asking in both directions.

mod ending;
mod interactions;
mod keepalive;
mod leaving;
mod panics;
mod setup;
