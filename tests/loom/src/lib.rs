//! Models of the places where threads meet in a connection: the mailbox, inlets, the wakers of
//! producers, and the table of sessions; and in a topic, where readers wait and pumps wake them. `loom`
//! runs each model in every order that its locks and atomics allow.
//!
//! The sources are those of the library, with loom's locks in the place of std's. There is also a
//! copy for each of several ways of breaking them, by which the models are shown to find it.

mod neighbours;

include!(concat!(env!("OUT_DIR"), "/copies.rs"));
