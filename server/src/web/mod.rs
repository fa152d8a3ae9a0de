//! The files that browsers are given: the console, and the module by which pages of anybody speak RSocket.
//! They are the same for everybody, and tell nothing of the service but what program it is.

mod files;

use rsock::{
    HttpResponse,
    http::{HeaderMap, Method},
};

use files::{File, file};

/// Files for pages of all sites.
pub(crate) const PUBLIC: [&str; 4] =
    ["/rsocket.mjs", "/rsocket-base.mjs", "/rsocket-topics.mjs", "/rsocket.d.ts"];
/// The page of the console.
const PAGE: &str = "console/index.html";
/// The headers of all files. Scripts, styles and connections are the service's own, and no page of others frames it.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    // It is asked each time whether there is another: a service that was replaced has other files.
    ("cache-control", "no-cache"),
];

/// Whether this is a file for pages of all sites.
pub(crate) fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path)
}

/// Whether links of other pages may lead there: it is a page, which its reader alone sees.
pub(crate) fn is_page(path: &str) -> bool {
    matches!(path, "/" | "/console" | "/console/")
}

/// The answer to a request for a file, if there is one at this path. The console's are there only where there
/// is a console, and it is on `/` for those who read pages.
pub(crate) fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    has_console: bool,
) -> Option<HttpResponse> {
    let file = match path {
        _ if is_public(path) => file(path.strip_prefix('/')?)?,
        _ if !has_console => return None,
        "/" if !reads_pages(headers) => return None,
        _ if is_page(path) => file(PAGE)?,
        _ if path.starts_with("/console/") => file(path.strip_prefix('/')?)?,
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let refusal = HttpResponse::text(405, "It takes GET.\n");
        return Some(refusal.header("allow", "GET, HEAD, OPTIONS"));
    }
    Some(served(file, path, headers))
}

fn served(file: &File, path: &str, headers: &HeaderMap) -> HttpResponse {
    let packed = file.packed().filter(|_| takes_packed(headers));
    let tag = file.tag(packed.is_some());
    let mut answer = match is_known(headers, &tag) {
        true => HttpResponse::new(304, ""),
        // Whoever adds a file of another type is told by a test.
        false => HttpResponse::new(200, packed.unwrap_or(file.bytes))
            .header("content-type", file.kind().unwrap_or("application/octet-stream")),
    };
    answer = answer.header("etag", tag);
    if packed.is_some() && answer.status() == 200 {
        answer = answer.header("content-encoding", "gzip");
    }
    for (name, value) in HEADERS {
        answer = answer.header(name, value);
    }
    // Others have a text on the root.
    let depends_on = if path == "/" { "accept, accept-encoding" } else { "accept-encoding" };
    answer = answer.header("vary", depends_on);
    match is_public(path) {
        false => answer.header("cross-origin-resource-policy", "same-origin"),
        true => answer
            .header("access-control-allow-origin", "*")
            .header("cross-origin-resource-policy", "cross-origin"),
    }
}

/// The parts of a header that is a list.
fn parts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether somebody reads pages, as browsers say it; others, as curl, take anything.
fn reads_pages(headers: &HeaderMap) -> bool {
    parts(headers, "accept").any(|range| {
        let kind = range.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    })
}

/// Whether somebody takes what is compressed by gzip.
fn takes_packed(headers: &HeaderMap) -> bool {
    parts(headers, "accept-encoding").any(|part| {
        let (coding, weight) = part.split_once(';').unwrap_or((part, ""));
        let weight = weight.trim().strip_prefix("q=").map(str::parse::<f32>);
        coding.trim().eq_ignore_ascii_case("gzip") && weight != Some(Ok(0.0))
    })
}

/// Whether somebody has a file with this tag.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    // What passed it on may have marked it as weak.
    parts(headers, "if-none-match")
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use rsock::http::HeaderValue;

    use super::{files::FILES, *};

    fn get(
        path: &str,
        headers: &[(&'static str, &str)],
        has_console: bool,
    ) -> Option<HttpResponse> {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        answer(&Method::GET, path, &all, has_console)
    }

    fn header<'a>(answer: &'a HttpResponse, name: &str) -> Option<&'a str> {
        answer.headers().get(name)?.to_str().ok()
    }

    #[test]
    fn every_file_is_served() {
        for file in FILES {
            let answer = get(&format!("/{}", file.path), &[], true).expect(file.path);
            assert_eq!(
                (answer.status(), answer.body().map(|body| &body[..])),
                (200, Some(file.bytes))
            );
            assert_eq!(header(&answer, "content-type"), file.kind());
            for (name, value) in HEADERS {
                assert_eq!(header(&answer, name), Some(value));
            }
            let is_public = !file.path.starts_with("console/");
            let others = header(&answer, "access-control-allow-origin");
            assert_eq!(others, is_public.then_some("*"), "{}", file.path);
            // Without a console there is what is everybody's.
            assert_eq!(get(&format!("/{}", file.path), &[], false).is_some(), is_public);
        }
    }

    #[test]
    fn the_console_is_for_those_who_read_pages() {
        let browser = [("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")];
        let page = get("/", &browser, true).expect("the page");
        assert_eq!(header(&page, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(header(&page, "vary"), Some("accept, accept-encoding"));
        for path in ["/console", "/console/"] {
            assert_eq!(get(path, &[], true).expect(path).body(), page.body(), "{path}");
            assert!(get(path, &browser, false).is_none());
        }
        for accept in ["*/*", "text/*", "text/plain, text/htmlx"] {
            assert!(get("/", &[("accept", accept)], true).is_none(), "{accept}");
        }
        assert!(get("/", &[], true).is_none() && get("/", &browser, false).is_none());
        for path in ["/console/nothing", "/consol", "/index.html", "/console/../index.html"] {
            assert!(get(path, &browser, true).is_none(), "{path}");
        }
    }

    #[test]
    fn whoever_takes_it_is_sent_less() {
        let whole = get("/console", &[], true).expect("the page");
        for (takes, is_packed) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("deflate, xgzip", false),
            ("", false),
        ] {
            let page = get("/console", &[("accept-encoding", takes)], true).expect("the page");
            let coding = header(&page, "content-encoding");
            assert_eq!(coding, is_packed.then_some("gzip"), "{takes}");
            assert_eq!(page.body() == whole.body(), !is_packed);
            assert_eq!(header(&page, "etag") == header(&whole, "etag"), !is_packed);
            let known = header(&page, "etag").expect("a tag");
            let known = [("accept-encoding", takes), ("if-none-match", known)];
            let again = get("/console", &known, true).expect("an answer");
            assert_eq!((again.status(), header(&again, "content-encoding")), (304, None));
        }
    }

    #[test]
    fn whoever_has_a_file_is_not_sent_it_again() {
        let first = get("/console", &[], true).expect("the page");
        let tag = header(&first, "etag").expect("a tag").to_owned();
        for known in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
            let again = get("/console", &[("if-none-match", &known)], true).expect("an answer");
            assert_eq!((again.status(), header(&again, "etag")), (304, Some(&*tag)), "{known}");
            assert!(again.body().is_some_and(bytes::Bytes::is_empty));
        }
        let other = get("/console", &[("if-none-match", "\"x\"")], true).expect("the page");
        assert_eq!(other.status(), 200);
        let refused =
            answer(&Method::POST, "/console", &HeaderMap::new(), true).expect("a refusal");
        assert_eq!(refused.status(), 405);
    }
}
