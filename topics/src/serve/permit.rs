//! Permissions, as topics ask for them.

use rsock::{Identity, Request};
/// Something that may be permitted on a topic, or not: of those there are, topics ask for all but
/// [`Request`](Action::Request), [`Metrics`](Action::Metrics) and [`Console`](Action::Console). Whoever may
/// [`Publish`](Action::Publish) may [`Signal`](Action::Signal) as well, and [`Subscribe`](Action::Subscribe) is
/// about what is published from now on and was in the last two minutes, and about the newest message of each key
/// in topics that keep that alone.
pub use rsock_access::Action;

use crate::{name::TopicName, refusal::Refusal};

/// The judge of who may do what.
pub trait Permit: Send + Sync + 'static {
    /// Whether whoever sent this request may do this to a topic of this name. Whether there is such a topic
    /// is not to be told.
    ///
    /// # Errors
    /// [`Refusal::not_permitted`].
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal>;

    /// The identity of who sends this request, by a token for this topic that is among its options: beside the
    /// connection's, by which it is judged from here on, and for as long as its stream runs.
    ///
    /// # Errors
    /// [`Refusal::token_refused`], and [`Refusal::token_unchecked`] where none is taken.
    fn admit_token(
        &self,
        request: &Request,
        token: &str,
        topic: &TopicName,
    ) -> Result<Identity, Refusal> {
        let _ = (request, token);
        Err(Refusal::token_unchecked(topic))
    }

    /// Hears that whoever sent this request was refused this: [`permits`](Self::permits) is also asked by what
    /// only shows less to who may not see all.
    fn refused(&self, request: &Request, action: Action, topic: &TopicName) {
        let _ = (request, action, topic);
    }

    /// A number that changes when somebody may do less than before: streams that run are judged anew then.
    /// `None` where that never happens.
    fn version(&self) -> Option<u64> {
        None
    }
}

/// Everybody may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Permit for AllowAll {
    fn permits(&self, _: &Request, _: Action, _: &TopicName) -> Result<(), Refusal> {
        Ok(())
    }
}
