//! Files of users: `name:hash:role,role`, a line each.

use std::{collections::HashMap, fmt, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params,
    password_hash::{PasswordHasher, PasswordVerifier, phc},
};

use crate::name::check_name;

/// Users of one file.
const MAX_USERS: usize = 100_000;
/// Bytes of a password.
const MAX_PASSWORD_BYTES: usize = 1_024;
/// Bytes of a password that bcrypt looks at. It cuts off the rest, which would let in whoever knows these.
const MAX_BCRYPT_BYTES: usize = 72;
/// The most that a hash may ask for: KiB, rounds, lanes; and bcrypt's exponent. What a file says is computed
/// for strangers.
const MAX_MEMORY: u32 = 256 << 10;
const MAX_ROUNDS: u32 = 16;
const MAX_LANES: u32 = 16;
const MAX_COST: u32 = 16;

/// Users by their names.
#[derive(Clone, Default)]
pub struct Users {
    users: HashMap<Box<str>, Arc<User>>,
    /// Somebody who is nobody, whose password takes as long as the others'.
    nobody: Option<Arc<User>>,
}

/// A user.
pub struct User {
    hash: Hash,
    roles: Arc<[Arc<str>]>,
}

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Argon2(Box<str>),
    Bcrypt(Box<str>),
}

impl Users {
    /// Reads a file: a line a user, with empty ones and those that begin with `#` left out.
    ///
    /// # Errors
    /// All that is wrong with it, each as a sentence that begins with the number of the line. No hash is in it.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut users, mut problems) = (Self::default(), Vec::new());
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if users.users.len() >= MAX_USERS {
                problems.push(format!("line {}: more than {MAX_USERS} users", number + 1));
                break;
            }
            match User::parse(line) {
                Ok((name, user)) => {
                    let user = Arc::new(user);
                    users.nobody.get_or_insert_with(|| Arc::clone(&user));
                    if users.users.insert(name.into(), user).is_some() {
                        problems.push(format!("line {}: {name:?} is there already", number + 1));
                    }
                }
                Err(problem) => problems.push(format!("line {}: {problem}", number + 1)),
            }
        }
        if problems.is_empty() { Ok(users) } else { Err(problems) }
    }

    /// The user of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Somebody whose password is looked at where there is no such user, so that it takes as long.
    pub fn nobody(&self) -> Option<&Arc<User>> {
        self.nobody.as_ref()
    }

    /// The names and roles, by name.
    pub fn list(&self) -> Vec<(&str, &User)> {
        let mut all: Vec<_> = self.users.iter().map(|(name, user)| (&**name, &**user)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl User {
    fn parse(line: &str) -> Result<(&str, Self), String> {
        let mut parts = line.split(':');
        let (Some(name), Some(hash)) = (parts.next(), parts.next()) else {
            return Err("there is no hash: a line is name:hash:role,role".to_owned());
        };
        let roles = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return Err("there are more than three parts: a line is name:hash:role,role".to_owned());
        }
        check_name(name).map_err(|problem| format!("the name {problem}"))?;
        let roles = roles.split(',').map(str::trim).filter(|role| !role.is_empty());
        let roles: Arc<[Arc<str>]> = roles.map(Arc::from).collect();
        for role in &*roles {
            check_name(role).map_err(|problem| format!("the role {role:?} {problem}"))?;
        }
        Ok((name, Self { hash: Hash::parse(hash.trim())?, roles }))
    }

    /// The roles.
    pub fn roles(&self) -> &Arc<[Arc<str>]> {
        &self.roles
    }

    /// The kind of the hash: `argon2id` or `bcrypt`.
    pub fn hash_kind(&self) -> &'static str {
        match self.hash {
            Hash::Argon2(_) => "argon2id",
            Hash::Bcrypt(_) => "bcrypt",
        }
    }

    /// Whether its password was not changed: the hash is the same.
    pub fn has_password_of(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    /// Whether this is the password. It takes tens of milliseconds and, with argon2id, as many MiB as its hash
    /// says: not for a task that serves others.
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        match &self.hash {
            Hash::Argon2(hash) => {
                PasswordVerifier::<str>::verify_password(&Argon2::default(), password, hash).is_ok()
            }
            Hash::Bcrypt(hash) => {
                // Computed for one that is too long as well: how long it takes is to tell nothing of a name.
                let begins = &password[..password.len().min(MAX_BCRYPT_BYTES)];
                let is_right = bcrypt::verify(begins, hash).unwrap_or(false);
                is_right && password.len() <= MAX_BCRYPT_BYTES
            }
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$argon2id$") {
            check_argon2(text)?;
            return Ok(Self::Argon2(text.into()));
        }
        if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            check_bcrypt(text)?;
            return Ok(Self::Bcrypt(text.into()));
        }
        Err("the hash is neither argon2id nor bcrypt: `rsockd user passwd` or `htpasswd -B` makes one"
            .to_owned())
    }
}

fn check_argon2(text: &str) -> Result<(), String> {
    const MALFORMED: &str = "the argon2id hash is malformed";
    let hash = phc::PasswordHash::new(text).map_err(|_| MALFORMED)?;
    let params = Params::try_from(&hash).map_err(|_| MALFORMED)?;
    if hash.salt.is_none() || hash.hash.is_none() || hash.algorithm != Algorithm::Argon2id.ident() {
        return Err(MALFORMED.to_owned());
    }
    if params.m_cost() > MAX_MEMORY || params.t_cost() > MAX_ROUNDS || params.p_cost() > MAX_LANES {
        return Err(format!(
            "the argon2id hash asks for more than m={MAX_MEMORY}, t={MAX_ROUNDS}, p={MAX_LANES}"
        ));
    }
    Ok(())
}

fn check_bcrypt(text: &str) -> Result<(), String> {
    const MALFORMED: &str = "the bcrypt hash is malformed";
    let parts: bcrypt::HashParts = text.parse().map_err(|_| MALFORMED)?;
    if !(4..=MAX_COST).contains(&parts.get_cost()) {
        return Err(format!("the bcrypt hash has a cost that is not from 4 to {MAX_COST}"));
    }
    Ok(())
}

/// The argon2id hash of a password, with 19 MiB and two rounds. The salt is to be random.
///
/// # Errors
/// A password of no bytes, or more than 1,024, as a sentence.
pub fn hash_password(password: &[u8], salt: &[u8; 16]) -> Result<String, String> {
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        return Err(format!("a password has from 1 to {MAX_PASSWORD_BYTES} bytes"));
    }
    let hash = Argon2::default().hash_password_with_salt(password, salt);
    hash.map(|hash| hash.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `htpasswd -B -C 4` writes them, of "secret".
    const OF_SECRET: &str = "$2y$04$";

    #[test]
    fn a_hash_made_here_is_that_of_its_password_alone() {
        let hash = hash_password(b"secret", &[7; 16]).expect("it is made");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let users = Users::parse(&format!("# users\n\nann:{hash}:chat, ops\n")).expect("valid");
        let ann = users.find("ann").expect("she is there");
        assert!(ann.verify(b"secret"));
        for wrong in [&b"Secret"[..], b"secret ", b"", b"secre", &[b'x'; 2_000]] {
            assert!(!ann.verify(wrong));
        }
        assert_eq!(&*ann.roles().iter().map(|role| &**role).collect::<Vec<_>>(), ["chat", "ops"]);
        assert!(users.find("Ann").is_none());
        assert!(hash_password(b"", &[0; 16]).is_err());
    }

    /// Whatever a file has, what comes of it is users or sentences.
    #[test]
    fn nonsense_is_told_and_never_panics() {
        let hash = hash_password(b"secret", &[7; 16]).expect("it is made");
        let other = bcrypt::hash("secret", 4).expect("it is made");
        let text = format!("ann:{hash}:chat,ops\nbob:{other}:x\n");
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) as usize
        };
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..next() % 5 {
                let at = next() % bytes.len().max(1);
                match next() % 4 {
                    _ if bytes.len() <= at => {}
                    0 => bytes[at] = next() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b":$,=\n#~v"[next() % 8]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            match Users::parse(&String::from_utf8_lossy(&bytes)) {
                Ok(users) => right += users.len().min(1),
                Err(problems) => {
                    wrong += 1;
                    assert!(problems.iter().all(|problem| problem.starts_with("line ")));
                }
            }
        }
        assert!(right > 1_000 && wrong > 1_000, "{right} {wrong}");
    }

    #[test]
    fn bcrypt_is_read_and_never_cuts_a_password() {
        let long = [b'x'; 80];
        let hash = bcrypt::hash(&long[..72], 4).expect("it is made");
        let (_, rest) = hash.split_at(OF_SECRET.len());
        for kind in ["$2a$04$", "$2b$04$", "$2y$04$"] {
            let users = Users::parse(&format!("ann:{kind}{rest}")).expect("valid");
            let ann = users.find("ann").expect("she is there");
            assert!(ann.verify(&long[..72]), "{kind}");
            assert!(!ann.verify(&long), "what is behind 72 bytes counts");
            assert!(!ann.verify(&long[..71]));
            assert!(ann.roles().is_empty());
        }
    }

    #[test]
    fn all_that_is_wrong_with_a_file_is_told_by_its_lines_and_without_hashes() {
        let hash = hash_password(b"secret", &[7; 16]).expect("it is made");
        let text = format!(
            "ann:{hash}:chat\nann:{hash}\nbob\n~x:{hash}\ncid:plain\ndan:{hash}:a:b\n\
             eve:$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2g\nfay:$2b$31$x\n:{hash}\n\
             gil:$argon2id$v=19$m=19456\nhal:{hash}:~ops\n"
        );
        let problems = Users::parse(&text).expect_err("it is wrong");
        let expected = [
            "line 2: \"ann\" is there already",
            "line 3: there is no hash",
            "line 4: the name begins with ~",
            "line 5: the hash is neither argon2id nor bcrypt",
            "line 6: there are more than three parts",
            "line 7: the argon2id hash ",
            "line 8: the bcrypt hash is malformed",
            "line 9: the name has not from 1 to 64 bytes",
            "line 10: the argon2id hash is malformed",
            "line 11: the role \"~ops\" begins with ~",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem} {expected}");
            assert!(!problem.contains("$"), "{problem}");
        }
    }
}
