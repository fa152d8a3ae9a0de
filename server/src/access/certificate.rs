//! Certificates of clients, as names and roles.

use std::sync::Arc;

use rsock::{Peer, tls::PeerCertificate};
use rsock_access::{CertificateName, Method, MtlsSettings, Principal, check_name};

/// The one whom the certificate of a client is of, if it gave one that has such a name.
pub(super) fn principal_of(peer: &Peer, settings: &MtlsSettings) -> Option<Principal> {
    let certificate = peer.tls()?.certificate()?;
    let names = names_of(certificate, settings.identity);
    let mut names = names.iter().filter(|name| check_name(name).is_ok());
    // Of several the first that is known of; else the first.
    let known = names.clone().find(|name| settings.roles.contains_key(*name));
    let name = known.or_else(|| names.next())?;
    let roles = roles_of(settings, name);
    let mut principal = Principal::new(Some(name.as_str().into()), roles, Method::Certificate);
    principal.expires = u64::try_from(certificate.not_after()).ok();
    Some(principal)
}

/// The roles of a name.
pub(super) fn roles_of(settings: &MtlsSettings, name: &str) -> Arc<[Arc<str>]> {
    let roles = settings.roles.get(name).map(Vec::as_slice).unwrap_or_default();
    roles.iter().map(|role| role.as_str().into()).collect()
}

fn names_of(certificate: &PeerCertificate, kind: CertificateName) -> Vec<String> {
    match kind {
        CertificateName::SanUri => certificate.uris().map(str::to_owned).collect(),
        CertificateName::SanDns => certificate.dns_names().map(str::to_owned).collect(),
        CertificateName::Cn => certificate.common_name().map(str::to_owned).into_iter().collect(),
        CertificateName::Spki => {
            vec![certificate.spki_sha256().iter().map(|byte| format!("{byte:02x}")).collect()]
        }
    }
}
