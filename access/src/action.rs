//! Actions, which may be permitted.

use std::fmt;

/// Something that may be permitted, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// To publish messages to a topic.
    Publish,
    /// To publish events that are not kept.
    Signal,
    /// To read what is published to a topic from now on.
    Subscribe,
    /// To join a topic, and to be seen there.
    Join,
    /// To see who is present at a topic.
    Presence,
    /// To read what was published to a topic before.
    History,
    /// To publish in another's name.
    PublishAs,
    /// To call a route, by whatever interaction.
    Request,
    /// To read the figures of the service.
    Metrics,
    /// To use the console of the service.
    Console,
    /// To administer a topic, or the service.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Publish,
        Self::Signal,
        Self::Subscribe,
        Self::Join,
        Self::Presence,
        Self::History,
        Self::PublishAs,
        Self::Request,
        Self::Metrics,
        Self::Console,
        Self::Admin,
    ];

    /// The name it has in settings, in tokens and in refusals.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Signal => "signal",
            Self::Subscribe => "subscribe",
            Self::Join => "join",
            Self::Presence => "presence",
            Self::History => "history",
            Self::PublishAs => "publish-as",
            Self::Request => "request",
            Self::Metrics => "metrics",
            Self::Console => "console",
            Self::Admin => "admin",
        }
    }

    /// The action of this name.
    ///
    /// # Errors
    /// That there is none, and which there are, as a sentence.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|action| action.as_str() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("{name:?} is not an action: there are {}", known.join(", "))
        })
    }
}

/// A set of actions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Actions(u16);

impl Actions {
    /// No actions.
    pub const NONE: Self = Self(0);

    /// A set of these.
    pub const fn of(actions: &[Action]) -> Self {
        let (mut all, mut at) = (0, 0);
        while at < actions.len() {
            all |= 1 << actions[at] as u16;
            at += 1;
        }
        Self(all)
    }

    /// Whether this one is among them.
    #[inline]
    pub const fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u16 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and the others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These without the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.has(*action))
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_found_by_its_name_and_has_a_place_of_its_own() {
        let mut before = Actions::NONE;
        for action in Action::ALL {
            assert_eq!(Action::parse(action.as_str()), Ok(action));
            assert!(!before.has(action));
            before = before.and(Actions::of(&[action]));
            assert!(before.has(action));
        }
        assert_eq!(before.iter().count(), Action::ALL.len());
        assert_eq!(before.without(Actions::of(&[Action::Admin])).iter().count(), 10);
        let error = Action::parse("read").expect_err("there is none");
        assert!(error.contains("\"read\" is not an action: there are publish, signal"), "{error}");
    }
}
