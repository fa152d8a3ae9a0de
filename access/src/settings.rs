//! Settings, as files have them: `[auth]`, `[[grant]]` and `[[deny]]`.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::{
    action::{Action, Actions},
    name::check_name,
    pattern::{Kind, Pattern},
    rules::{Rule, Rules},
};

/// Settings of who may come in, and who may do what.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// The ways in which somebody shows who they are; without it nobody is asked.
    pub auth: Option<AuthSettings>,
    /// Rules that grant.
    pub grant: Vec<RuleSettings>,
    /// Rules that deny, whatever else grants.
    pub deny: Vec<RuleSettings>,
}

/// The ways in which somebody shows who they are.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// The roles of who says nothing of themselves; without it, nobody comes in so.
    pub anonymous: Option<Vec<String>>,
    /// Users with passwords.
    pub users: Option<UsersSettings>,
    /// Signed tokens.
    pub jwt: Option<JwtSettings>,
    /// Certificates of clients, which TLS has verified.
    pub mtls: Option<MtlsSettings>,
    /// Signed tokens in a cookie of the handshake of a WebSocket.
    pub cookie: Option<CookieSettings>,
    /// Passwords that are looked at at a time. Each takes a core and 19 MiB meanwhile; without it they are
    /// two, and no more than half of the cores.
    pub hashing_at_once: Option<usize>,
    /// Passwords that wait for that; those beyond are told to come again.
    pub hashing_queue: usize,
    /// The time for which a password that was right is right without being looked at again.
    #[serde(deserialize_with = "time")]
    pub password_cache: Duration,
    /// The same for a token of a request; no longer than until it expires.
    #[serde(deserialize_with = "time")]
    pub token_cache: Duration,
    /// Credentials that are kept as right, by keyed hashes.
    pub credentials_kept: usize,
    /// Failures of an address, or of a name at one, that cost nothing.
    pub free_failures: u32,
    /// The time for which a failure counts.
    #[serde(deserialize_with = "time")]
    pub failures_window: Duration,
    /// Addresses, and names at addresses, of which failures are kept.
    pub failures_kept: usize,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            anonymous: None,
            users: None,
            jwt: None,
            mtls: None,
            cookie: None,
            hashing_at_once: None,
            hashing_queue: 64,
            password_cache: Duration::from_secs(300),
            token_cache: Duration::from_secs(300),
            credentials_kept: 10_000,
            free_failures: 5,
            failures_window: Duration::from_secs(60),
            failures_kept: 10_000,
        }
    }
}

/// The place of users.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct UsersSettings {
    /// A file: `name:hash:role,role`, a line each.
    pub file: PathBuf,
}

/// Which tokens are taken.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// The keys.
    pub keys: Vec<KeySettings>,
    /// A file with a set of keys (RFC 7517).
    pub jwks_file: Option<PathBuf>,
    /// The place of such a set on another server: `https://…`, or `http://` on this machine.
    pub jwks_url: Option<String>,
    /// The authorities that vouch for that server, as a file of PEM; else those that the system trusts.
    pub jwks_ca: Option<PathBuf>,
    /// How often it is fetched anew.
    #[serde(deserialize_with = "time")]
    pub jwks_refresh: Duration,
    /// The issuer that they must have.
    pub issuer: Option<String>,
    /// For one of whom they must be: a text, or a list.
    #[serde(deserialize_with = "one_or_more")]
    pub audience: Vec<String>,
    /// By how much clocks may differ.
    #[serde(deserialize_with = "time")]
    pub leeway: Duration,
    /// The claim with the roles.
    pub roles_claim: String,
    /// The claim with the grants.
    pub grants_claim: String,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca: None,
            jwks_refresh: Duration::from_secs(600),
            issuer: None,
            audience: Vec::new(),
            leeway: Duration::from_secs(30),
            roles_claim: "roles".to_owned(),
            grants_claim: "rsock".to_owned(),
        }
    }
}

/// A key: with a file of PEM, or a secret.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The algorithm, which is the key's and not the token's: HS256 … ES512.
    pub alg: String,
    /// The file with the public key.
    pub file: Option<PathBuf>,
    /// The secret.
    pub secret: Option<Secret>,
    /// The name by which tokens name it.
    pub kid: Option<String>,
}

/// The way from a certificate to whom it is of.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct MtlsSettings {
    /// The name in a certificate that counts.
    pub identity: CertificateName,
    /// The roles of these names. Others come in and have none.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<String>>,
}

/// A name in a certificate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateName {
    /// A URI among the alternative names.
    SanUri,
    /// A DNS name among them.
    SanDns,
    /// The common name of the subject.
    Cn,
    /// The SHA-256 of the public key, in hexadecimal digits.
    Spki,
}

/// The cookie that has a token.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CookieSettings {
    /// Its name.
    pub name: String,
    /// The origins of pages whose WebSockets may use it, as `https://app.example`. Those of the service's own
    /// host always may.
    #[serde(default)]
    pub origins: Vec<String>,
}

/// A secret, or where it is.
#[derive(Clone, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Secret {
    /// Itself.
    Text(String),
    /// The environment variable that has it.
    Env {
        /// The variable's name.
        env: String,
    },
    /// The file that has it. A line's end behind it does not count.
    File {
        /// The file's path.
        file: PathBuf,
    },
}

/// Shows where it is, and not what it is.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Secret"),
            Self::Env { env } => f.debug_struct("Secret").field("env", env).finish(),
            Self::File { file } => f.debug_struct("Secret").field("file", file).finish(),
        }
    }
}

/// A rule: what some roles may do, or may not.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RuleSettings {
    /// The roles; `*` is everybody.
    pub roles: Vec<String>,
    /// Patterns of topics.
    pub topics: Vec<String>,
    /// Patterns of routes.
    pub routes: Vec<String>,
    /// The actions that they may do; of routes it goes without saying.
    pub allow: Option<Vec<String>>,
    /// In `[[deny]]`, what they may not do; without it, anything.
    pub deny: Option<Vec<String>>,
}

/// The actions on topics.
const OF_TOPICS: Actions = Actions::of(&[
    Action::Publish,
    Action::Signal,
    Action::Subscribe,
    Action::Join,
    Action::Presence,
    Action::History,
    Action::PublishAs,
    Action::Admin,
]);
/// The actions on routes.
const OF_ROUTES: Actions = Actions::of(&[Action::Request]);
/// The actions on the service as a whole.
const OF_SERVICE: Actions = Actions::of(&[Action::Metrics, Action::Console, Action::Admin]);

impl AccessSettings {
    /// The rules.
    ///
    /// # Errors
    /// All that is wrong with them, each as a sentence.
    pub fn rules(&self) -> Result<Rules, Vec<String>> {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for (name, all, is_denied) in [("grant", &self.grant, false), ("deny", &self.deny, true)] {
            for (at, settings) in all.iter().enumerate() {
                match settings.rules(is_denied) {
                    Ok(some) => rules.extend(some),
                    Err(problem) => problems.push(format!("[[{name}]] {}: {problem}", at + 1)),
                }
            }
        }
        if problems.is_empty() { Ok(Rules::new(rules)) } else { Err(problems) }
    }
}

impl RuleSettings {
    fn rules(&self, is_denied: bool) -> Result<Vec<Rule>, String> {
        if self.roles.is_empty() {
            return Err("it names no roles; roles = [\"*\"] is everybody".to_owned());
        }
        for role in &self.roles {
            check_name(role).map_err(|problem| format!("the role {role:?} {problem}"))?;
        }
        let (named, other, word) = match is_denied {
            false => (&self.allow, &self.deny, "deny"),
            true => (&self.deny, &self.allow, "allow"),
        };
        if other.is_some() {
            return Err(format!("{word:?} does not belong in it"));
        }
        let mut parts = Vec::new();
        if !self.topics.is_empty() {
            parts.push((Kind::Topic, &self.topics, OF_TOPICS, "topics"));
        }
        if !self.routes.is_empty() {
            parts.push((Kind::Route, &self.routes, OF_ROUTES, "routes"));
        }
        let none = Vec::new();
        if parts.is_empty() {
            parts.push((Kind::Route, &none, OF_SERVICE, "the service as a whole"));
        }
        let possible = parts.iter().fold(Actions::NONE, |all, part| all.and(part.2));
        let actions = match named {
            Some(names) => read_actions(names)?,
            None if is_denied || self.topics.is_empty() && !self.routes.is_empty() => possible,
            None => return Err("\"allow\" is missing: what they may do".to_owned()),
        };
        if let Some(strange) = actions.without(possible).iter().next() {
            let of: Vec<_> = parts.iter().map(|part| part.3).collect();
            return Err(format!("{:?} is nothing to do to {}", strange.as_str(), of.join(" and ")));
        }
        parts
            .into_iter()
            .map(|(kind, patterns, of_kind, _)| {
                let patterns = patterns.iter().map(|text| Pattern::parse(text, kind));
                let patterns = patterns.collect::<Result<_, _>>()?;
                let is_only_request = kind == Kind::Route && !self.routes.is_empty();
                // With topics beside them, of routes it still goes without saying.
                let actions = if is_only_request {
                    of_kind
                } else {
                    actions.without(actions.without(of_kind))
                };
                Ok(Rule { roles: self.roles.clone(), kind, patterns, actions, is_denied })
            })
            .collect()
    }
}

fn read_actions(names: &[String]) -> Result<Actions, String> {
    let mut actions = Actions::NONE;
    for name in names {
        actions = actions.and(Actions::of(&[Action::parse(name)?]));
    }
    Ok(actions)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format_args!("{text:?} is not a time: write 500ms, 10s, 5m"))
    })
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> AccessSettings {
        toml::from_str(text).expect("it is of the right form")
    }

    #[test]
    fn all_that_can_be_said_is_read() {
        let settings = read(
            r#"
            [auth]
            anonymous = ["guest"]
            hashing_queue = 8
            password_cache = "1m"
            [auth.users]
            file = "/etc/rsockd/users"
            [auth.jwt]
            keys = [{ alg = "ES256", file = "pub.pem", kid = "a" }, { alg = "HS256", secret = { env = "S" } }]
            issuer = "https://id.example"
            audience = "rsock"
            leeway = "5s"
            [auth.cookie]
            name = "session"
            [[grant]]
            roles = ["chat"]
            topics = ["room.*", "user.{name}.>"]
            allow = ["subscribe", "publish"]
            [[grant]]
            roles = ["*"]
            routes = ["echo", "range"]
            [[grant]]
            roles = ["ops"]
            allow = ["admin", "metrics"]
            [[deny]]
            roles = ["chat"]
            topics = ["room.staff"]
            "#,
        );
        let auth = settings.auth.as_ref().expect("it is there");
        let jwt = auth.jwt.as_ref().expect("it is there");
        assert_eq!((jwt.leeway.as_secs(), &*jwt.audience), (5, &["rsock".to_owned()][..]));
        assert_eq!((auth.hashing_at_once, auth.hashing_queue), (None, 8));
        let rules = settings.rules().expect("they are right");
        let chat = rules.of_roles(["chat", "unheard-of"]);
        let may = |name, action| chat.permit(Kind::Topic, name, Some("ann"), action);
        assert!(may("room.1", Action::Publish) && may("user.ann.inbox", Action::Subscribe));
        assert!(!may("room.1", Action::History) && !may("room.staff", Action::Subscribe));
        assert!(!may("user.bob.inbox", Action::Subscribe));
        assert!(chat.permit(Kind::Route, "echo", None, Action::Request));
        assert!(chat.service().is_empty());
        assert!(rules.of_roles(["ops"]).service().has(Action::Admin));
        assert!(!format!("{settings:?}").contains("s3cr3t"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let rule = |text: &str| read(text).rules().expect_err(text).join("\n");
        for (text, expected) in [
            ("[[grant]]\ntopics = ['a']\nallow = ['join']", "[[grant]] 1: it names no roles"),
            ("[[grant]]\nroles = ['a']\ntopics = ['a']", "\"allow\" is missing"),
            ("[[grant]]\nroles = ['a']\nallow = ['publish']", "nothing to do to the service as a"),
            (
                "[[grant]]\nroles = ['a']\nroutes = ['a']\nallow = ['publish']",
                "nothing to do to routes",
            ),
            (
                "[[grant]]\nroles = ['a']\ntopics = ['a']\nallow = ['read']",
                "is not an action: there",
            ),
            (
                "[[grant]]\nroles = ['a']\ntopics = ['a..b']\nallow = ['join']",
                "not a pattern of topics",
            ),
            (
                "[[deny]]\nroles = ['a']\nroutes = ['a']\nallow = ['request']",
                "[[deny]] 1: \"allow\" does",
            ),
            ("[[grant]]\nroles = ['~a']\nroutes = ['a']", "the role \"~a\" begins with ~"),
        ] {
            assert!(rule(text).contains(expected), "{text}: {}", rule(text));
        }
        for (text, expected) in [
            ("[auth]\nanonymus = []", "unknown field `anonymus`"),
            ("[auth.jwt]\nleeway = 'soon'", "not a time: write 500ms"),
            ("[[grant]]\nrole = ['a']", "unknown field `role`"),
        ] {
            let error = toml::from_str::<AccessSettings>(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
