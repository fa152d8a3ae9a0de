//! History: parts of a log, as pages and as streams.

mod backward;
mod page;
mod paging;
#[cfg(test)]
mod tests;

pub use backward::Backward;
pub use page::{Moment, Question, Wanted};
pub use paging::page;
