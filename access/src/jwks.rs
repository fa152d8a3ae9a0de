//! Keys that tokens are signed with.

use std::fmt;

use aws_lc_rs::{
    digest, hmac,
    signature::{self, ParsedPublicKey, RsaPublicKeyComponents},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::{Map, Value};

use crate::principal::KeyPrint;

/// Keys in all.
const MAX_KEYS: usize = 100;
/// Keys that are tried for a token which does not say by which it is signed.
const MAX_TRIED: usize = 8;

/// A way to sign, which a key has, and which is not for a token to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs(Bits),
    Rs(Bits),
    Es(Bits),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    B256,
    B384,
    B512,
}

impl Algorithm {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let bits = match name.get(2..)? {
            "256" => Bits::B256,
            "384" => Bits::B384,
            "512" => Bits::B512,
            _ => return None,
        };
        match &name[..2] {
            "HS" => Some(Self::Hs(bits)),
            "RS" => Some(Self::Rs(bits)),
            "ES" => Some(Self::Es(bits)),
            _ => None,
        }
    }

    fn of_settings(name: &str) -> Result<Self, String> {
        Self::parse(name).ok_or_else(|| {
            format!("{name:?} is not an algorithm: there are HS, RS and ES with 256, 384 or 512")
        })
    }
}

/// A key, with the one algorithm that it is for.
pub struct Key {
    pub(crate) algorithm: Algorithm,
    id: Option<Box<str>>,
    material: Material,
    print: KeyPrint,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// A secret, for HS256, HS384 or HS512. It has as many bytes as the hash, or more (RFC 7518, 3.2).
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn secret(algorithm: &str, secret: &[u8], id: Option<&str>) -> Result<Self, String> {
        let known = Algorithm::of_settings(algorithm)?;
        let Algorithm::Hs(bits) = known else {
            return Err(format!("{algorithm} takes a public key, in a file, and no secret"));
        };
        let (hash, least) = match bits {
            Bits::B256 => (hmac::HMAC_SHA256, 32),
            Bits::B384 => (hmac::HMAC_SHA384, 48),
            Bits::B512 => (hmac::HMAC_SHA512, 64),
        };
        if secret.len() < least {
            return Err(format!(
                "the secret has {} bytes, and {algorithm} takes {least} or more: `openssl rand -base64 {least}` \
                 makes one",
                secret.len()
            ));
        }
        let material = Material::Secret(Box::new(hmac::Key::new(hash, secret)));
        Ok(Self { algorithm: known, id: id.map(Box::from), material, print: print(&[secret]) })
    }

    /// A public key, as PEM.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn pem(algorithm: &str, text: &str, id: Option<&str>) -> Result<Self, String> {
        let known = Algorithm::of_settings(algorithm)?;
        if matches!(known, Algorithm::Hs(_)) {
            return Err(format!("{algorithm} takes a secret, and no public key"));
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(
                "it is a private key: `openssl pkey -pubout` makes the public one".to_owned()
            );
        }
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            "there is no PUBLIC KEY in it; `openssl x509 -pubkey -noout` takes that of a certificate"
        })?;
        Self::public(known, &key, id)
            .ok_or_else(|| format!("it is not a valid key for {algorithm}"))
    }

    fn public(algorithm: Algorithm, der: &[u8], id: Option<&str>) -> Option<Self> {
        let parsed = match algorithm {
            Algorithm::Hs(_) => return None,
            Algorithm::Rs(bits) => ParsedPublicKey::new(rs(bits), der),
            Algorithm::Es(bits) => ParsedPublicKey::new(es(bits), der),
        };
        let material = Material::Public(parsed.ok()?);
        Some(Self { algorithm, id: id.map(Box::from), material, print: print(&[der]) })
    }

    pub(crate) fn print(&self) -> KeyPrint {
        self.print
    }

    /// Whether this signature is by this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The hash of what makes a key.
fn print(parts: &[&[u8]]) -> KeyPrint {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    // SHA-256 has as many.
    hash.copy_from_slice(context.finish().as_ref());
    KeyPrint(hash)
}

fn rs(bits: Bits) -> &'static signature::RsaParameters {
    match bits {
        Bits::B256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Bits::B384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Bits::B512 => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

fn es(bits: Bits) -> &'static signature::EcdsaVerificationAlgorithm {
    match bits {
        Bits::B256 => &signature::ECDSA_P256_SHA256_FIXED,
        Bits::B384 => &signature::ECDSA_P384_SHA384_FIXED,
        Bits::B512 => &signature::ECDSA_P521_SHA512_FIXED,
    }
}

/// The keys that are trusted.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// These keys.
    ///
    /// # Errors
    /// That there are too many, as a sentence.
    pub fn new(keys: Vec<Key>) -> Result<Self, String> {
        match keys.len() {
            0..=MAX_KEYS => Ok(Self(keys)),
            many => Err(format!("there are {many} keys, and {MAX_KEYS} is the most")),
        }
    }

    /// The keys of a set (RFC 7517), and what is wrong with those that are left out: one that cannot be used
    /// takes no other with it.
    ///
    /// # Errors
    /// What is wrong with the set as a whole, as a sentence.
    pub fn parse_set(text: &str) -> Result<(Vec<Key>, Vec<String>), String> {
        let set: Value =
            serde_json::from_str(text).map_err(|error| format!("the set of keys: {error}"))?;
        let Some(entries) = set.get("keys").and_then(Value::as_array) else {
            return Err("the set of keys has no \"keys\" that are an array".to_owned());
        };
        if entries.len() > MAX_KEYS {
            return Err(format!("there are {} keys, and {MAX_KEYS} is the most", entries.len()));
        }
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            match entry
                .as_object()
                .ok_or_else(|| "it is not a JSON object".to_owned())
                .and_then(of_set)
            {
                Ok(key) => keys.push(key),
                Err(problem) => problems.push(format!("key {} of the set: {problem}", at + 1)),
            }
        }
        Ok((keys, problems))
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key with this hash is among them.
    pub fn has(&self, key: KeyPrint) -> bool {
        self.0.iter().any(|known| known.print == key)
    }

    /// The keys of these sets by which a token of this algorithm may be signed that names this key, or none.
    pub(crate) fn of_token<'a>(
        sets: [&'a Self; 2],
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Key> {
        let is_named = move |key: &&Key| id.is_some() && key.id.as_deref() == id;
        let all = move || sets.into_iter().flat_map(|set| &set.0);
        let has_named = all().any(|key| is_named(&key));
        let fits = move |key: &&Key| match id {
            // Where it is named, no other is meant; where nobody has that name, it may be one without any.
            Some(_) if has_named => is_named(key),
            Some(_) => key.id.is_none(),
            None => true,
        };
        all().filter(fits).filter(move |key| key.algorithm == algorithm).take(MAX_TRIED)
    }
}

/// A key of a set.
fn of_set(entry: &Map<String, Value>) -> Result<Key, String> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let text = text(name).ok_or_else(|| format!("{name:?} is missing"))?;
        BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("{name:?} is not base64url"))
    };
    if text("use").is_some_and(|what| what != "sig") {
        return Err("it is not for signatures".to_owned());
    }
    if entry.contains_key("d") {
        return Err("it has a private part, which nobody else should have".to_owned());
    }
    let id = text("kid");
    let stated = match text("alg") {
        Some(name) => {
            Some(Algorithm::parse(name).ok_or_else(|| format!("{name:?} is not supported"))?)
        }
        None => None,
    };
    match text("kty") {
        Some("RSA") => {
            // Whoever leaves it out signs with this.
            let algorithm = stated.unwrap_or(Algorithm::Rs(Bits::B256));
            let Algorithm::Rs(bits) = algorithm else {
                return Err("its algorithm is not one for RSA".to_owned());
            };
            let components = RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? };
            let print = print(&[&components.n, &components.e]);
            let parsed =
                components.to_parsed_public_key(rs(bits)).map_err(|_| "its numbers are no key")?;
            let material = Material::Public(parsed);
            Ok(Key { algorithm, id: id.map(Box::from), material, print })
        }
        Some("EC") => {
            let (bits, len) = match text("crv") {
                Some("P-256") => (Bits::B256, 32),
                Some("P-384") => (Bits::B384, 48),
                Some("P-521") => (Bits::B512, 66),
                _ => return Err("its curve is none of P-256, P-384 and P-521".to_owned()),
            };
            let algorithm = Algorithm::Es(bits);
            if stated.is_some_and(|stated| stated != algorithm) {
                return Err("its algorithm is not the one of its curve".to_owned());
            }
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != len || y.len() != len {
                return Err(format!("its coordinates have not {len} bytes"));
            }
            let point = [&[4][..], &x, &y].concat();
            Key::public(algorithm, &point, id)
                .ok_or_else(|| "its point is not on the curve".to_owned())
        }
        Some("oct") => {
            Err("a secret does not belong in a set of keys: name it in `keys`".to_owned())
        }
        kind => Err(format!("its type {kind:?} is not supported")),
    }
}
