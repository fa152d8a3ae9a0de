//! Policies: what the settings of access say, with the files that they name.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rsock_access::{
    AccessSettings, AuthSettings, Claims, CookieSettings, JwtSettings, Key, KeySettings, Keys,
    Method, Principal, RuleSettings, Rules, Secret, Users, Verifier,
};
use serde::Deserialize;

use crate::settings::AccessFile;

use super::{certificate, remote::RemoteKeys};

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// All that decides who comes in and who may do what. It does not change: another takes its place.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: Rules,
    pub(crate) users: Option<Users>,
    pub(crate) verifier: Option<Verifier>,
    /// The keys of tokens that another server has.
    pub(crate) remote: Option<Arc<RemoteKeys>>,
    pub(crate) cookie: Option<CookieSettings>,
    /// The roles of who says nothing of themselves.
    pub(crate) anonymous: Option<Arc<[Arc<str>]>>,
    pub(crate) auth: AuthSettings,
}

/// The problems of settings of access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    file: PathBuf,
    problems: Vec<String>,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.problems.join("; "))
    }
}

impl std::error::Error for AccessError {}

impl Policy {
    /// Reads a file of settings, and those that it names: by paths beside it, where they are not absolute.
    ///
    /// # Errors
    /// All that is wrong.
    pub(crate) fn read(file: &AccessFile) -> Result<Self, AccessError> {
        let AccessFile { path: file, is_config } = file;
        let wrong = |problems| AccessError { file: file.to_owned(), problems };
        let text = read_file(file).map_err(|problem| wrong(vec![problem]))?;
        let settings = if *is_config {
            toml::from_str(&text).map(|InConfig { auth, grant, deny }| AccessSettings {
                auth,
                grant,
                deny,
            })
        } else {
            toml::from_str(&text)
        };
        // Its line is named and not shown: there may be a secret in it.
        let settings = settings.map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            wrong(vec![format!("line {line}: {}", without_texts(error.message().trim()))])
        })?;
        Self::new(&settings, file.parent().unwrap_or_else(|| Path::new(""))).map_err(wrong)
    }

    /// The policy that settings are of.
    ///
    /// # Errors
    /// All that is wrong, each as a sentence.
    pub(crate) fn new(settings: &AccessSettings, directory: &Path) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let rules = settings.rules().unwrap_or_else(|wrong| {
            problems.extend(wrong);
            Rules::default()
        });
        let Some(auth) = settings.auth.clone() else {
            problems.push("there is no [auth]: who comes in, and by what".to_owned());
            return Err(problems);
        };
        if auth.anonymous.is_none()
            && auth.users.is_none()
            && auth.jwt.is_none()
            && auth.mtls.is_none()
        {
            problems.push(
                "[auth] lets nobody in: there is neither anonymous, users, jwt nor mtls".to_owned(),
            );
        }
        if auth.cookie.is_some() && auth.jwt.is_none() {
            problems.push("[auth.cookie] needs [auth.jwt]: a cookie has a token".to_owned());
        }
        if auth.hashing_at_once == Some(0) || auth.hashing_queue == 0 {
            problems.push("hashing_at_once and hashing_queue are at least 1".to_owned());
        }
        let mut of = |read: Result<_, Vec<String>>| match read {
            Ok(value) => value,
            Err(wrong) => {
                problems.extend(wrong);
                None
            }
        };
        let users = of(auth
            .users
            .as_ref()
            .map(|users| read_users(&directory.join(&users.file)))
            .transpose());
        let verifier = match auth.jwt.as_ref().map(|jwt| read_verifier(jwt, directory)).transpose()
        {
            Ok(verifier) => verifier,
            Err(wrong) => {
                problems.extend(wrong);
                None
            }
        };
        let remote = auth.jwt.as_ref().map(|jwt| RemoteKeys::of(jwt, directory)).transpose();
        let remote = remote.map(Option::flatten).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let anonymous = auth.anonymous.as_ref();
        let anonymous =
            anonymous.map(|roles| roles.iter().map(|role| role.as_str().into()).collect());
        Ok(Self { rules, users, verifier, remote, cookie: auth.cookie.clone(), anonymous, auth })
    }

    /// Takes from the one before what would be the same: keys that were fetched.
    pub(super) fn adopt(&mut self, before: &Self) {
        if let (Some(own), Some(known)) = (&mut self.remote, &before.remote)
            && own.is_same(known)
        {
            *own = Arc::clone(known);
        }
    }

    /// Whether what somebody came in with by the policy before counts still, with the roles that it has now: the
    /// password was not changed, the key is still trusted, tokens are from and for the same as before.
    pub(super) fn still_takes(&self, before: &Self, principal: &mut Principal) -> bool {
        let name = principal.subject.as_deref().unwrap_or_default();
        match principal.method {
            Method::Password => {
                let find = |policy: &Self| policy.users.as_ref()?.find(name).cloned();
                match (find(before), find(self)) {
                    (Some(known), Some(user)) if user.has_password_of(&known) => {
                        principal.roles = Arc::clone(user.roles());
                        true
                    }
                    _ => false,
                }
            }
            Method::Anonymous => self.anonymous.as_ref().is_some_and(|roles| {
                principal.roles = Arc::clone(roles);
                true
            }),
            Method::Certificate => self.auth.mtls.as_ref().is_some_and(|mtls| {
                let is_same =
                    before.auth.mtls.as_ref().is_some_and(|old| old.identity == mtls.identity);
                principal.roles = certificate::roles_of(mtls, name);
                is_same
            }),
            Method::Cookie if self.cookie.is_none() => false,
            Method::Token | Method::Cookie => {
                let (Some(old), Some(new)) = (&before.verifier, &self.verifier) else {
                    return false;
                };
                let is_trusted = principal.signed_by.is_none_or(|key| {
                    // Keys of another server come and go, and what they have signed counts until it expires.
                    !old.keys.has(key) || new.keys.has(key)
                });
                is_trusted && old.issuer == new.issuer && old.audience == new.audience
            }
        }
    }
}

/// A message about what is of another type than it should be, without the text that stands there.
fn without_texts(message: &str) -> String {
    let begin = message.find("string \"").map(|at| at + "string ".len());
    let end = message.rfind("\", expected ").map(|at| at + 1);
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}…{}", &message[..begin], &message[end..])
        }
        _ => message.to_owned(),
    }
}

/// The same tables in a file of settings, whose other keys others have looked at.
#[derive(Deserialize)]
struct InConfig {
    auth: Option<AuthSettings>,
    #[serde(default)]
    grant: Vec<RuleSettings>,
    #[serde(default)]
    deny: Vec<RuleSettings>,
}

/// The text of a file.
pub(super) fn read_file(file: &Path) -> Result<String, String> {
    let told = |error: io::Error| format!("cannot read {}: {error}", file.display());
    if fs::metadata(file).map_err(told)?.len() > MAX_FILE_BYTES {
        return Err(format!("{} has more than {MAX_FILE_BYTES} bytes", file.display()));
    }
    fs::read_to_string(file).map_err(told)
}

fn read_users(file: &Path) -> Result<Users, Vec<String>> {
    let text = read_file(file).map_err(|problem| vec![problem])?;
    warn_if_open(file);
    Users::parse(&text).map_err(|problems| {
        problems.into_iter().map(|problem| format!("{}: {problem}", file.display())).collect()
    })
}

fn read_verifier(settings: &JwtSettings, directory: &Path) -> Result<Verifier, Vec<String>> {
    let (mut keys, mut problems) = (Vec::new(), Vec::new());
    for (at, key) in settings.keys.iter().enumerate() {
        match read_key(key, directory) {
            Ok(key) => keys.push(key),
            Err(problem) => problems.push(format!("auth.jwt.keys {}: {problem}", at + 1)),
        }
    }
    if let Some(file) = &settings.jwks_file {
        let file = directory.join(file);
        match read_file(&file).and_then(|text| Keys::parse_set(&text)) {
            Ok((more, odd)) => {
                for problem in odd {
                    tracing::warn!("{}: {problem}; it is left out", file.display());
                }
                keys.extend(more);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if keys.is_empty() && settings.jwks_url.is_none() && problems.is_empty() {
        problems.push("[auth.jwt] has no key: neither keys, jwks_file nor jwks_url".to_owned());
    }
    match Keys::new(keys) {
        Ok(keys) if problems.is_empty() => Ok(Verifier {
            keys,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            leeway: settings.leeway.as_secs(),
            claims: Claims {
                roles: settings.roles_claim.clone(),
                grants: settings.grants_claim.clone(),
            },
        }),
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

fn read_key(key: &KeySettings, directory: &Path) -> Result<Key, String> {
    let id = key.kid.as_deref();
    match (&key.file, &key.secret) {
        (Some(file), None) => {
            let file = directory.join(file);
            let text = read_file(&file)?;
            Key::pem(&key.alg, &text, id)
                .map_err(|problem| format!("{}: {problem}", file.display()))
        }
        (None, Some(secret)) => {
            Key::secret(&key.alg, read_secret(secret, directory)?.as_bytes(), id)
        }
        _ => Err("it has either a file or a secret".to_owned()),
    }
}

fn read_secret(secret: &Secret, directory: &Path) -> Result<String, String> {
    match secret {
        Secret::Text(text) => Ok(text.clone()),
        Secret::Env { env } => {
            std::env::var(env).map_err(|_| format!("the environment has no {env} that is text"))
        }
        Secret::File { file } => {
            let file = directory.join(file);
            let text = read_file(&file)?;
            warn_if_open(&file);
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

/// Tells of a file with secrets that everybody on this machine may read.
#[cfg(unix)]
fn warn_if_open(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(file).is_ok_and(|known| known.permissions().mode() & 0o004 != 0) {
        tracing::warn!("everybody on this machine may read {}: chmod o-r", file.display());
    }
}

#[cfg(not(unix))]
fn warn_if_open(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A secret beside a slip of the hand is not for the log.
    #[test]
    fn what_is_wrong_is_told_without_what_stands_there() {
        let file = std::env::temp_dir().join(format!("rsock-policy-{}", std::process::id()));
        for text in [
            "[auth.jwt]\nkeys = [{ agl = \"HS256\", secret = \"SUPERSECRET\" }]",
            "[auth.jwt]\nkeys = [\"SUPERSECRET\"]",
            "[auth.jwt]\njwks_url = \"https://user:SUPERSECRET@host/keys\"",
            "[auth.jwt]\njwks_url = \"ftp://host/keys?key=SUPERSECRET\"",
        ] {
            fs::write(&file, text).expect("it can be written");
            let told = Policy::read(&file.clone().into()).expect_err(text).to_string();
            assert!(!told.contains("SUPERSECRET"), "{told}");
        }
        fs::remove_file(&file).expect("it is there");
    }
}
