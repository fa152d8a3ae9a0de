//! How a connection behaves, seen from its wire.
//!
//! Tests talk to one `Connection` as a raw peer ([`peer`]), or couple two of them (`pair`). They
//! compare whole traces in the notation of the protocol notes: `RS(1,n=3,'d')`, `P(1,N+C,'x')`,
//! `ERR(0,0x101)`. IDs such as `RS-02` or `H065` name the requirement or hostile input a test is for.

mod at_once;
mod bounds;
mod channel;
mod closing;
mod credit;
mod fairness;
mod fragment_end;
mod fragment_in;
mod fragment_large;
mod fragment_out;
mod fragments;
mod hostile;
mod keepalive;
mod lease;
mod matrix;
mod pair;
mod peer;
mod request;
mod resume;
mod resume_client;
mod setup;
mod stream;
mod summary;
mod unsent;
mod wire;
