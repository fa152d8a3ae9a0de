//! Signed tokens (RFC 7519).

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    action::{Action, Actions},
    grants::Grants,
    jwks::{Algorithm, Keys},
    name::check_name,
    pattern::{Kind, Pattern, is_token},
    principal::{KeyPrint, Method, Principal},
};

/// Bytes of a token.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Roles of a token, and patterns that it grants.
const MAX_ROLES: usize = 64;
const MAX_GRANTS: usize = 64;
/// The type of a token for one topic, which is no login.
const TOPIC_TYPE: &str = "rsock-topic+jwt";
/// The actions that such a token may let somebody do.
const OF_TOPIC_TOKENS: Actions = Actions::of(&[
    Action::Publish,
    Action::Signal,
    Action::Subscribe,
    Action::Join,
    Action::History,
    Action::PublishAs,
]);

/// A judge of tokens: by which keys, from whom, for whom.
#[derive(Debug, Default)]
pub struct Verifier {
    /// The keys that are trusted.
    pub keys: Keys,
    /// The issuer that a token must have, if that matters.
    pub issuer: Option<String>,
    /// For one of whom it must be, if that matters.
    pub audience: Vec<String>,
    /// Seconds by which clocks may differ.
    pub leeway: u64,
    /// The claims that have roles and grants. A dot leads into an object.
    pub claims: Claims,
}

/// The names of claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The claim that has roles: an array, or a text with spaces between them.
    pub roles: String,
    /// The claim that has grants: `{"topics":[{"t":"room.42","do":["join"]}],"routes":["echo"]}`.
    pub grants: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self { roles: "roles".to_owned(), grants: "rsock".to_owned() }
    }
}

/// The reason why a token is not taken. For logs, and not for who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not a token, and why.
    Malformed(&'static str),
    /// There is no key for its algorithm and the key it names.
    NoKey,
    /// It is signed by none of the keys.
    Signature,
    /// It was true until a moment, which it is not any more.
    Expired,
    /// It is not true yet.
    NotYet,
    /// It is from somebody else.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It is for one topic, and no login.
    OfTopic,
    /// It is a login, or something else, and not for one topic.
    NotOfTopic,
    /// It is signed, and a claim is missing or not what it has to be.
    Claim(String),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(problem) => write!(f, "the token is malformed: {problem}"),
            Self::NoKey => f.write_str("there is no key for the token's algorithm and key id"),
            Self::Signature => f.write_str("the token is signed by none of the keys"),
            Self::Expired => f.write_str("the token has expired"),
            Self::NotYet => f.write_str("the token is not valid yet"),
            Self::Issuer => f.write_str("the token is from another issuer"),
            Self::Audience => f.write_str("the token is for another audience"),
            Self::OfTopic => f.write_str("the token is for one topic, and no login"),
            Self::NotOfTopic => {
                write!(f, "the token is not for one topic: its typ is not {TOPIC_TYPE}")
            }
            Self::Claim(problem) => write!(f, "the token's {problem}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// The use that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Login,
    Topic,
}

/// A token for one topic: it lets one somebody do some things there, and nothing anywhere else.
#[derive(Clone, Debug)]
pub struct TopicToken {
    /// Somebody, by no roles; with grants for this topic alone.
    pub principal: Principal,
    /// The topic.
    pub topic: String,
}

impl Verifier {
    /// The one whom a token speaks of, at this second since 1970.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify(&self, token: &str, now: u64) -> Result<Principal, TokenError> {
        self.verify_with(&Keys::default(), token, now)
    }

    /// The same by these keys as well.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify_with(&self, more: &Keys, token: &str, now: u64) -> Result<Principal, TokenError> {
        let (claims, key) = self.checked_claims(more, token, Purpose::Login, now)?;
        let mut principal = somebody(&claims, roles(find(&claims, &self.claims.roles))?, key)?;
        principal.grants =
            find(&claims, &self.claims.grants).map(grants).transpose()?.map(Arc::new);
        Ok(principal)
    }

    /// The words of a token for one topic, `{"sub":"ann","topic":"room.42","do":["join","subscribe"],"exp":…}`, at
    /// this second since 1970, by these keys as well.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify_topic(
        &self,
        more: &Keys,
        token: &str,
        now: u64,
    ) -> Result<TopicToken, TokenError> {
        let (claims, key) = self.checked_claims(more, token, Purpose::Topic, now)?;
        let mut principal = somebody(&claims, Arc::default(), key)?;
        let topic = claims.get("topic").and_then(Value::as_str).ok_or_else(|| missing("topic"))?;
        // A pattern would be more than one.
        if !topic.split('.').all(is_token) {
            return Err(TokenError::Claim("topic is not a topic's name".to_owned()));
        }
        let wrong = |problem: String| TokenError::Claim(format!("do: {problem}"));
        let actions = actions(claims.get("do").ok_or_else(|| missing("do"))?).map_err(wrong)?;
        if let Some(strange) = actions.without(OF_TOPIC_TOKENS).iter().next() {
            return Err(wrong(format!("{:?} is nothing to be let do so", strange.as_str())));
        }
        let mut grants = Grants::default();
        grants.add(
            Kind::Topic,
            &Pattern::parse(topic, Kind::Topic).map_err(wrong)?,
            actions,
            false,
        );
        principal.grants = Some(Arc::new(grants));
        Ok(TopicToken { principal, topic: topic.to_owned() })
    }

    fn checked_claims(
        &self,
        more: &Keys,
        token: &str,
        purpose: Purpose,
        now: u64,
    ) -> Result<(Map<String, Value>, KeyPrint), TokenError> {
        let (claims, key) = self.signed_claims(more, token, purpose)?;
        self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        Ok((claims, key))
    }

    /// The claims of a token that one of the keys has signed, and which. What its header says is heard before that,
    /// and nothing is done that it says: the key decides how the signature is looked at.
    fn signed_claims(
        &self,
        more: &Keys,
        token: &str,
        purpose: Purpose,
    ) -> Result<(Map<String, Value>, KeyPrint), TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed("it is too long"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it has not three parts"));
        };
        let head = object(header, "its header is not a JSON object")?;
        let text = |name: &str| match head.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => {
                Err(TokenError::Malformed("its header has no text where there has to be one"))
            }
        };
        if head.contains_key("crit") {
            return Err(TokenError::Malformed("it asks for an extension"));
        }
        match (purpose, is_of_topic(text("typ")?.unwrap_or_default())) {
            (Purpose::Login, true) => return Err(TokenError::OfTopic),
            (Purpose::Topic, false) => return Err(TokenError::NotOfTopic),
            _ => {}
        }
        let algorithm = text("alg")?.and_then(Algorithm::parse).ok_or(TokenError::NoKey)?;
        let mut keys = Keys::of_token([&self.keys, more], algorithm, text("kid")?).peekable();
        if keys.peek().is_none() {
            return Err(TokenError::NoKey);
        }
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
        let message = &token.as_bytes()[..header.len() + 1 + claims.len()];
        let Some(key) = keys.find(|key| key.verifies(message, &signature)) else {
            return Err(TokenError::Signature);
        };
        Ok((object(claims, "its claims are no object")?, key.print()))
    }

    fn check_times(&self, claims: &Map<String, Value>, now: u64) -> Result<(), TokenError> {
        let expires = seconds(claims, "exp")?.ok_or_else(|| missing("exp"))?;
        if expires.saturating_add(self.leeway) <= now {
            return Err(TokenError::Expired);
        }
        let begins = seconds(claims, "nbf")?;
        if begins.is_some_and(|begins| begins > now.saturating_add(self.leeway)) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenError::Issuer);
        }
        let is_ours = |value: &Value| {
            value.as_str().is_some_and(|value| self.audience.iter().any(|own| own == value))
        };
        let is_for_us = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if !self.audience.is_empty() && !is_for_us {
            return Err(TokenError::Audience);
        }
        Ok(())
    }
}

/// Whether this is the type of tokens for one topic. Types of media are the same in any case (RFC 2045), and may have
/// parameters.
fn is_of_topic(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").unwrap_or(&kind) == TOPIC_TYPE
}

/// The one whom claims speak of.
fn somebody(
    claims: &Map<String, Value>,
    roles: Arc<[Arc<str>]>,
    key: KeyPrint,
) -> Result<Principal, TokenError> {
    let subject = claims.get("sub").and_then(Value::as_str).ok_or_else(|| missing("sub"))?;
    check_name(subject).map_err(|problem| TokenError::Claim(format!("sub {problem}")))?;
    let mut principal = Principal::new(Some(subject.into()), roles, Method::Token);
    principal.expires = seconds(claims, "exp")?;
    principal.issued = seconds(claims, "iat")?;
    principal.token_id = claims.get("jti").and_then(Value::as_str).map(Arc::from);
    principal.signed_by = Some(key);
    Ok(principal)
}

fn object(part: &str, problem: &'static str) -> Result<Map<String, Value>, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed("a part of it is not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(problem))
}

fn missing(claim: &str) -> TokenError {
    TokenError::Claim(format!("{claim} is missing"))
}

/// A time in a claim: whole seconds, or with a fraction, which is cut off.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let fraction = value.as_f64().filter(|value| *value >= 0.0 && value.is_finite());
    match value.as_u64().or_else(|| fraction.map(|seconds| seconds as u64)) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(TokenError::Claim(format!("{name} is not a number of seconds"))),
    }
}

/// The claim of this name; or, where there is none, the one that its dots lead to.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

fn roles(claim: Option<&Value>) -> Result<Arc<[Arc<str>]>, TokenError> {
    let malformed =
        || TokenError::Claim("roles are neither an array of texts nor a text".to_owned());
    let names: Vec<&str> = match claim {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split_whitespace().collect(),
        Some(Value::Array(all)) => {
            all.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(malformed)?
        }
        Some(_) => return Err(malformed()),
    };
    if names.len() > MAX_ROLES {
        return Err(TokenError::Claim(format!("roles are more than {MAX_ROLES}")));
    }
    Ok(names.into_iter().map(Arc::from).collect())
}

/// The grants and denials of a token itself.
fn grants(claim: &Value) -> Result<Grants, TokenError> {
    let wrong = |problem: String| TokenError::Claim(format!("grants: {problem}"));
    let claim = claim.as_object().ok_or_else(|| wrong("they are no object".to_owned()))?;
    let (mut grants, mut count) = (Grants::default(), 0);
    for (part, value) in claim {
        if !matches!(part.as_str(), "topics" | "deny" | "routes") {
            return Err(wrong(format!("{part:?} is none of topics, routes and deny")));
        }
        let entries = value.as_array().ok_or_else(|| wrong(format!("{part:?} is not an array")))?;
        count += entries.len();
        if count > MAX_GRANTS {
            return Err(wrong(format!("they are more than {MAX_GRANTS}")));
        }
        for entry in entries {
            match part.as_str() {
                "topics" => add_topic(&mut grants, entry, false),
                "deny" => add_topic(&mut grants, entry, true),
                _ => add_route(&mut grants, entry),
            }
            .map_err(wrong)?;
        }
    }
    Ok(grants)
}

fn add_topic(grants: &mut Grants, entry: &Value, is_denied: bool) -> Result<(), String> {
    let example = || "an entry is {\"t\":\"room.42\",\"do\":[\"join\"]}".to_owned();
    let entry = entry.as_object().ok_or_else(example)?;
    if entry.keys().any(|key| key != "t" && key != "do") {
        return Err(example());
    }
    let pattern = entry.get("t").and_then(Value::as_str).ok_or_else(example)?;
    let pattern = Pattern::parse(pattern, Kind::Topic)?;
    grants.add(Kind::Topic, &pattern, actions(entry.get("do").ok_or_else(example)?)?, is_denied);
    Ok(())
}

/// An array of actions.
fn actions(claim: &Value) -> Result<Actions, String> {
    let example = || "actions are an array, as [\"join\",\"subscribe\"]".to_owned();
    let mut actions = Actions::NONE;
    for action in claim.as_array().ok_or_else(example)? {
        let action = Action::parse(action.as_str().ok_or_else(example)?)?;
        actions = actions.and(Actions::of(&[action]));
    }
    Ok(actions)
}

fn add_route(grants: &mut Grants, entry: &Value) -> Result<(), String> {
    let pattern = entry.as_str().ok_or_else(|| "a route is a text".to_owned())?;
    let pattern = Pattern::parse(pattern, Kind::Route)?;
    grants.add(Kind::Route, &pattern, Actions::of(&[Action::Request]), false);
    Ok(())
}
