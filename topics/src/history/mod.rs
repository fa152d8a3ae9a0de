//! History: parts of a log, as pages and as streams.

mod page;

pub use page::{Moment, Question, Wanted};
