//! The fuzz targets as plain functions: each takes any bytes, and panics if the engine is
//! at fault. `tests/corpus.rs` replays the corpus through them without a fuzzer.

mod access;
mod beginning;
mod connection;
mod frames;
mod ledger;
mod members;
mod metadata;
mod plain_json;
mod store;
mod topics;
mod world;

pub use access::access;
pub use beginning::{certificate, proxy_header};
pub use connection::connection;
pub use frames::{decode, deframe};
pub use members::members;
pub use metadata::metadata;
pub use plain_json::plain_json;
pub use store::{seeds as store_seeds, store};
pub use topics::topics;
pub use world::world;
