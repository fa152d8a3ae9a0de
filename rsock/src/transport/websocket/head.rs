//! The head of the HTTP request that opened a WebSocket, as it is kept.

use std::fmt;

use hyper::{HeaderMap, Uri};

/// The HTTP request that opened a WebSocket: its path, query and headers.
#[derive(Clone, Default)]
pub struct HttpHead {
    /// The path and query, then each header's name and value.
    text: Box<[u8]>,
    target_len: u32,
    /// Of each header, where its name ends and where its value does.
    ends: Box<[(u32, u32)]>,
}

impl HttpHead {
    pub(crate) fn new(uri: &Uri, headers: &HeaderMap) -> Self {
        Self::of(
            uri.path_and_query().map_or("/", |target| target.as_str()),
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
        )
    }

    fn of<'a>(target: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let (mut text, mut ends) = (target.as_bytes().to_vec(), Vec::new());
        // A head has been read into memory, so that it is far below 4 GiB.
        let position = |text: &Vec<u8>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        let target_len = position(&text);
        for (name, value) in headers {
            text.extend_from_slice(name.as_bytes());
            let name_end = position(&text);
            text.extend_from_slice(value);
            ends.push((name_end, position(&text)));
        }
        Self { text: text.into(), target_len, ends: ends.into() }
    }

    /// The path, as it was sent: percent-encoded.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    /// The query, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    fn target(&self) -> &str {
        // It was a string.
        std::str::from_utf8(&self.text[..self.target_len as usize]).unwrap_or_default()
    }

    /// The first header of this name, in any case, if its value is visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok().filter(|value| value.is_ascii())
    }

    /// All headers: their names, in lower case, and their values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = self.target_len;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = &self.text[start as usize..name_end as usize];
            let value = &self.text[name_end as usize..value_end as usize];
            start = value_end;
            (std::str::from_utf8(name).unwrap_or_default(), value)
        })
    }

    /// The site whose page opened the WebSocket; browsers alone send it, and always do.
    pub fn origin(&self) -> Option<&str> {
        self.header("origin")
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }

    /// The parts of a long head that are kept for as long as the connection: path, query and Origin,
    /// each if it has fewer than `max` bytes.
    pub(crate) fn shortened(&self, max: usize) -> Self {
        let target = Some(self.target()).filter(|target| target.len() < max).unwrap_or_default();
        let origin = self.headers().filter(|(name, value)| *name == "origin" && value.len() < max);
        Self::of(target, origin.take(1))
    }
}

/// Shows no values of headers: credentials may be among them. Nor the query.
impl fmt::Debug for HttpHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("HttpHead").field("path", &self.path()).field("headers", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, headers: &[(&'static str, &str)]) -> HttpHead {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        HttpHead::new(&target.parse().expect("a target"), &map)
    }

    #[test]
    fn it_has_what_the_request_had() {
        let headers = [("origin", "https://a.example"), ("cookie", "a=1"), ("cookie", "b=2")];
        let head = head("/rsocket?tenant=blue&a=?", &headers);
        assert_eq!((head.path(), head.query()), ("/rsocket", Some("tenant=blue&a=?")));
        assert_eq!(
            (head.origin(), head.header("Cookie")),
            (Some("https://a.example"), Some("a=1"))
        );
        let all: Vec<_> = head.headers().map(|(name, _)| name).collect();
        assert_eq!(all, ["origin", "cookie", "cookie"]);
        assert_eq!(head.header("x"), None);
        let shown = format!("{head:?}");
        assert!(shown.contains("cookie") && !shown.contains("a=1"), "{shown}");
        let bare = self::head("/", &[("x", "\u{fc}")]);
        assert_eq!((bare.query(), bare.header("x")), (None, None));
        assert_eq!(HttpHead::default().path(), "");
    }

    #[test]
    fn a_long_one_is_shortened_to_what_is_short() {
        let long = "x".repeat(100);
        let head = head(&format!("/a?{long}"), &[("cookie", &long), ("origin", "https://a")]);
        let short = head.shortened(100);
        assert_eq!(
            (short.path(), short.origin(), short.header("cookie")),
            ("", Some("https://a"), None)
        );
        assert_eq!(head.shortened(200).query(), Some(long.as_str()));
        assert_eq!(self::head("/", &[("origin", &long)]).shortened(100).origin(), None);
    }
}
