//! Composite metadata, as far as tests write it by hand.

/// The MIME type of composite metadata.
pub const COMPOSITE: &str = "message/x.rsocket.composite-metadata.v0";

/// The head of an entry of routing metadata: its well-known id.
pub const ROUTE: u8 = 0x80 | 0x7e;

/// An entry of composite metadata: its head, a u24 length, its content.
pub fn entry(head: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    named(&[head], content)
}

/// An entry whose type is a name, with its length minus one before it.
pub fn named(head: &[u8], content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [head, &(content.len() as u32).to_be_bytes()[1..], content].concat()
}

/// Composite metadata of one entry: a route of one tag.
pub fn route(name: &str) -> Vec<u8> {
    entry(ROUTE, [&[name.len() as u8], name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_written_as_the_extension_has_it() {
        assert_eq!(route("echo"), b"\xfe\0\0\x05\x04echo");
        assert_eq!(named(b"\x02x/y", b"z"), b"\x02x/y\0\0\x01z");
    }
}
