//! The owner of the files of Unix sockets.

/// The user and the group that files are given to, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnixOwner {
    /// The user; `None` leaves it as it is.
    pub user: Option<u32>,
    /// The group; `None` leaves it as it is.
    pub group: Option<u32>,
}

impl UnixOwner {
    /// Reads `USER`, `USER:GROUP` or `:GROUP`, each by name or number.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if group == Some("") || (user.is_empty() && group.is_none()) {
            return Err("an owner is USER, USER:GROUP or :GROUP, by name or number".to_owned());
        }
        Ok(Self {
            user: (!user.is_empty()).then(|| number_of("user", user, user_of)).transpose()?,
            group: group.map(|group| number_of("group", group, group_of)).transpose()?,
        })
    }
}

/// By their numbers.
impl std::fmt::Display for UnixOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = self.user {
            write!(f, "{user}")?;
        }
        self.group.map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

/// A number, or what the system knows by this name.
fn number_of(
    kind: &str,
    name: &str,
    find: impl Fn(&str) -> Result<Option<u32>, String>,
) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        // The system takes it for none.
        return if number == u32::MAX {
            Err(format!("there is no {kind} of the number {number}"))
        } else {
            Ok(number)
        };
    }
    match find(name) {
        Ok(found) => found.ok_or_else(|| format!("there is no {kind} {name:?} on this machine")),
        Err(error) => Err(format!("cannot look up the {kind} {name:?}: {error}")),
    }
}

#[cfg(unix)]
fn user_of(name: &str) -> Result<Option<u32>, String> {
    let found = nix::unistd::User::from_name(name).map_err(|error| error.to_string())?;
    Ok(found.map(|user| user.uid.as_raw()))
}

#[cfg(unix)]
fn group_of(name: &str) -> Result<Option<u32>, String> {
    let found = nix::unistd::Group::from_name(name).map_err(|error| error.to_string())?;
    Ok(found.map(|group| group.gid.as_raw()))
}

#[cfg(not(unix))]
fn user_of(_: &str) -> Result<Option<u32>, String> {
    Ok(None)
}

#[cfg(not(unix))]
fn group_of(_: &str) -> Result<Option<u32>, String> {
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_a_user_a_group_or_both() {
        for (text, user, group) in [
            ("12", Some(12), None),
            ("12:34", Some(12), Some(34)),
            (":34", None, Some(34)),
            #[cfg(unix)]
            ("root", Some(0), None),
            #[cfg(unix)]
            ("root:7", Some(0), Some(7)),
        ] {
            assert_eq!(UnixOwner::read(text), Ok(UnixOwner { user, group }), "{text}");
        }
        for (text, told) in [
            ("", "an owner is USER, USER:GROUP or :GROUP"),
            (":", "an owner is USER, USER:GROUP or :GROUP"),
            ("12:", "an owner is USER, USER:GROUP or :GROUP"),
            ("nobody-of-that-name", "there is no user \"nobody-of-that-name\" on this machine"),
            ("0:no-such-group", "there is no group \"no-such-group\" on this machine"),
            ("4294967295", "there is no user of the number 4294967295"),
        ] {
            let error = UnixOwner::read(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
