//! Deterministic simulation: two protocol engines over a wire that splits, delays and loses what it
//! carries; applications that do anything at any time; virtual time; and those who watch.
//!
//! The [`World`] is a function of its [`Plan`] and a list of [`Op`]s, and both are of a seed. The
//! referee reads the raw wire with a decoder of its own and judges what each side writes by what it
//! has been told; the model knows what the applications sent, and so what each may be told. What must
//! hold has a name: [`Invariant`].

mod broken;
mod end;
mod fairness;
mod hostile;
mod join;
mod lease;
mod link;
mod model;
mod op;
mod plan;
mod positions;
mod referee;
mod rng;
mod run;
mod session;
mod tamper;
mod wire;
mod world;

pub use broken::{Broken, Invariant};
pub use op::{Choices, Input, Op, Size, Who};
pub use plan::{Limits, Plan};
pub use rng::Rng;
pub use run::{Failure, OPERATIONS, Run, Totals, run_seed};
pub use tamper::Tamper;
pub use world::World;
