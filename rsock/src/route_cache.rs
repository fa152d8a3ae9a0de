//! The metadata of routes that a thread asks for again and again.
//!
//! Most programs ask for a few routes, each a constant. To write such a route's metadata anew takes as
//! many instructions as to route it.

use std::{cell::RefCell, hash::BuildHasher};

use bytes::Bytes;
use rsock_proto::metadata::{MetadataError, append_route};
use rustc_hash::FxBuildHasher;

/// Places of a thread; each has metadata of 260 bytes at most.
const PLACES: usize = 16;

/// A place for routes that look alike.
#[derive(Default)]
struct Place {
    /// The hash of the route that was asked for last: one that is asked for once does not take the place.
    seen: u64,
    /// The route that was asked for twice in a row, and its metadata.
    kept: Option<(Box<str>, Bytes)>,
}

thread_local! {
    static PLACES_OF_THREAD: RefCell<[Place; PLACES]> = RefCell::default();
}

/// Composite metadata of this route alone.
///
/// # Errors
/// As [`append_route`].
pub(crate) fn route_metadata(route: &str) -> Result<Bytes, MetadataError> {
    let kept = PLACES_OF_THREAD.try_with(|places| {
        let mut places = places.try_borrow_mut().ok()?;
        let last = route.as_bytes().last().copied().unwrap_or_default();
        let place = &mut places[(route.len() ^ usize::from(last)) % PLACES];
        if let Some((_, metadata)) = place.kept.as_ref().filter(|kept| *kept.0 == *route) {
            return Some(metadata.clone());
        }
        let seen = FxBuildHasher.hash_one(route);
        if place.seen == seen {
            let metadata = append_route(&[], route).ok()?;
            place.kept = Some((route.into(), metadata.clone()));
            return Some(metadata);
        }
        place.seen = seen;
        None
    });
    // Not where the thread ends.
    kept.ok().flatten().map_or_else(|| append_route(&[], route), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_what_is_written_anew() {
        for route in ["", "a", "b", "quotes.AAPL", &"x".repeat(255)] {
            for _ in 0..4 {
                assert_eq!(route_metadata(route), append_route(&[], route), "{route}");
            }
        }
        for _ in 0..4 {
            assert!(route_metadata(&"x".repeat(256)).is_err());
        }
    }

    #[test]
    fn a_route_that_is_asked_for_again_has_its_metadata_already() {
        let constant = "orders.place";
        let of = |route: &str| route_metadata(route).expect("a short route").as_ptr();
        of(constant);
        let kept = of(constant);
        assert_eq!(of(constant), kept);
        // Those that are like it look at the same place, and do not take it, each asked for once.
        for n in 0..100 {
            let made = format!("orders.{n:04}e");
            assert_eq!(made.len(), constant.len());
            of(&made);
        }
        assert_eq!(of(constant), kept);
    }
}
