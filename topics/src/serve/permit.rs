//! Permissions, as topics ask for them.

use rsock::Request;

use crate::{name::TopicName, refusal::Refusal};

/// Something that may be permitted on a topic, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To publish messages.
    Publish,
    /// To publish events that are not kept: whoever may publish may do this as well.
    Signal,
    /// To read what is published from now on, and was in the last two minutes; and the newest message of each
    /// key, in topics that keep that alone.
    Subscribe,
    /// To join, and to be seen by others as present.
    Join,
    /// To see who is present.
    Presence,
    /// To read what was published before.
    History,
    /// To publish in another's name.
    PublishAs,
    /// To purge topics and to delete them.
    Admin,
}

impl Action {
    /// The name it has in settings, in tokens and in refusals.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Signal => "signal",
            Self::Subscribe => "subscribe",
            Self::Join => "join",
            Self::Presence => "presence",
            Self::History => "history",
            Self::PublishAs => "publish-as",
            Self::Admin => "admin",
        }
    }
}

/// The judge of who may do what.
pub trait Permit: Send + Sync + 'static {
    /// Whether whoever sent this request may do this to a topic of this name. Whether there is such a topic
    /// is not to be told.
    ///
    /// # Errors
    /// [`Refusal::not_permitted`].
    fn permits(&self, request: &Request, action: Action, topic: &TopicName) -> Result<(), Refusal>;

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
