//! Input before the first frame: the header of a proxy, and the certificate of a client.
//!
//! Both are of `rsock`, whose sources are taken as they are: these are functions of bytes.

#[path = "../../rsock/src/transport/tls/der.rs"]
mod der;
#[expect(dead_code, reason = "what is not of the header: sockets and networks")]
#[path = "../../rsock/src/transport/proxy.rs"]
mod proxy;

use der::Fields;
use proxy::{ProxyVersions, header};

/// The longest header: its fixed part, and what may follow.
const MAX_HEADER: usize = 16 + 4_096;

/// The header of the PROXY protocol: the first that is whole is taken, however the bytes come, and nothing behind it.
pub fn proxy_header(data: &[u8]) {
    let whole = header(data, ProxyVersions::Any);
    let mut judged = Ok(None);
    for end in 1..=data.len().min(MAX_HEADER) {
        judged = header(&data[..end], ProxyVersions::Any);
        match judged {
            Ok(None) => assert!(end < MAX_HEADER, "it is waited for more than there can be"),
            Ok(Some((len, _))) => {
                assert_eq!(len, end, "it was whole before, or is not yet");
                break;
            }
            Err(_) => break,
        }
    }
    if !data.is_empty() {
        // All at once is judged as byte by byte is.
        assert_eq!(judged.is_err(), whole.is_err());
        assert_eq!(judged.ok(), whole.ok());
    }
    for (version, other) in
        [(ProxyVersions::V1, ProxyVersions::V2), (ProxyVersions::V2, ProxyVersions::V1)]
    {
        let is_taken = |versions| matches!(header(data, versions), Ok(Some(_)));
        assert!(!(is_taken(version) && is_taken(other)), "it is of both versions");
    }
}

/// The fields of a certificate: no more of them than there are bytes, and text that can be shown.
pub fn certificate(data: &[u8]) {
    let Some(fields) = Fields::read(data) else { return };
    let names = fields.dns.iter().chain(&fields.uris).chain(&fields.common_name);
    let mut bytes = fields.addresses.len() * 4;
    for name in names {
        assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?}");
        bytes += name.len();
    }
    assert!(bytes <= data.len(), "{bytes} bytes of {}", data.len());
    assert_eq!(Fields::read(data), Some(fields));
}
