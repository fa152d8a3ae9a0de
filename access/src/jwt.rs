//! Signed tokens (RFC 7519).

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::{
    action::{Action, Actions},
    grants::Grants,
    jwks::{Algorithm, Keys},
    name::check_name,
    pattern::{Kind, Pattern},
    principal::{Method, Principal},
};

/// Bytes of a token.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Roles of a token, and patterns that it grants.
const MAX_ROLES: usize = 64;
const MAX_GRANTS: usize = 64;
/// The type of a token for one topic, which is no login.
const TOPIC_TYPE: &str = "rsock-topic+jwt";

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
            Self::Claim(problem) => write!(f, "the token's {problem}"),
        }
    }
}

impl std::error::Error for TokenError {}

impl Verifier {
    /// The one whom a token speaks of, at this second since 1970.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify(&self, token: &str, now: u64) -> Result<Principal, TokenError> {
        let claims = self.signed_claims(token)?;
        self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        let subject = claims.get("sub").and_then(Value::as_str).ok_or_else(|| missing("sub"))?;
        check_name(subject).map_err(|problem| TokenError::Claim(format!("sub {problem}")))?;
        let roles = roles(find(&claims, &self.claims.roles))?;
        let mut principal = Principal::new(Some(subject.into()), roles, Method::Token);
        principal.grants =
            find(&claims, &self.claims.grants).map(grants).transpose()?.map(Arc::new);
        principal.expires = seconds(&claims, "exp")?;
        principal.issued = seconds(&claims, "iat")?;
        principal.token_id = claims.get("jti").and_then(Value::as_str).map(Arc::from);
        Ok(principal)
    }

    /// The claims of a token that one of the keys has signed. What its header says is heard before that, and
    /// nothing is done that it says: the key decides how the signature is looked at.
    fn signed_claims(&self, token: &str) -> Result<Map<String, Value>, TokenError> {
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
        let kind = text("typ")?.unwrap_or_default();
        let kind = kind.strip_prefix("application/").unwrap_or(kind);
        if kind.eq_ignore_ascii_case(TOPIC_TYPE) {
            return Err(TokenError::OfTopic);
        }
        let algorithm = text("alg")?.and_then(Algorithm::parse).ok_or(TokenError::NoKey)?;
        let mut keys = self.keys.of_token(algorithm, text("kid")?).peekable();
        if keys.peek().is_none() {
            return Err(TokenError::NoKey);
        }
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed("its signature is not base64url"))?;
        let message = &token.as_bytes()[..header.len() + 1 + claims.len()];
        if !keys.any(|key| key.verifies(message, &signature)) {
            return Err(TokenError::Signature);
        }
        object(claims, "its claims are no object")
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
    let mut actions = Actions::NONE;
    for action in entry.get("do").and_then(Value::as_array).ok_or_else(example)? {
        let action = Action::parse(action.as_str().ok_or_else(example)?)?;
        actions = actions.and(Actions::of(&[action]));
    }
    grants.add(Kind::Topic, &pattern, actions, is_denied);
    Ok(())
}

fn add_route(grants: &mut Grants, entry: &Value) -> Result<(), String> {
    let pattern = entry.as_str().ok_or_else(|| "a route is a text".to_owned())?;
    let pattern = Pattern::parse(pattern, Kind::Route)?;
    grants.add(Kind::Route, &pattern, Actions::of(&[Action::Request]), false);
    Ok(())
}
