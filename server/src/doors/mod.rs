//! The doors of the service: the sites of pages, and how often anybody may ask.

mod origin;
mod rates;

pub(crate) use origin::{OriginPattern, check_host, is_known_host, is_local_page, is_of_host};
pub(crate) use rates::{OfUser, Rates};
