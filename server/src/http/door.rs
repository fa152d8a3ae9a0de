//! The door for what browsers and proxies send: pages of other sites, and who comes by a proxy that nobody
//! knows of, get nowhere.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use rsock::{
    HttpResponse, ProxyProtocol,
    http::{HeaderName, RequestHead},
};

use crate::{
    access::Access,
    doors::{OriginPattern, is_known_host, is_local_page, is_of_host},
    web::{is_page, is_public},
};

/// Paths that tell everybody the same of the service, and nothing about anyone.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
/// Whether this is a header by which proxies say for whom they ask, in lower case.
pub(crate) fn is_forwarding(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "forwarded"
                | "via"
                | "x-real-ip"
                | "x-client-ip"
                | "true-client-ip"
                | "cf-connecting-ip"
        )
}

/// The rules of the door, as settings have them.
#[derive(Debug)]
pub(crate) struct WebRules {
    pub(crate) origins: Vec<OriginPattern>,
    pub(crate) hosts: Vec<String>,
}

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct WebDoor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: RwLock<Arc<WebRules>>,
    access: Option<Access>,
    /// Proxies whose word counts.
    proxies: Option<ProxyProtocol>,
}

/// The people who must say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Nobody is asked.
    Nobody,
    /// Those who like: who says nothing comes in all the same.
    WhoLikes,
    Everybody,
}

impl WebDoor {
    pub(crate) fn new(
        rules: WebRules,
        access: Option<Access>,
        proxies: Option<ProxyProtocol>,
    ) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        Self(Arc::new(Inner { rules, access, proxies }))
    }

    /// Other rules, from now on.
    pub(crate) fn set(&self, rules: WebRules) {
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The answer to a request that may not come in: 403, and what would let it in.
    pub(crate) fn refusal(&self, head: &RequestHead<'_>) -> Option<HttpResponse> {
        let asked = match &self.0.access {
            None => Asked::Nobody,
            Some(access) if access.lets_in_anybody() => Asked::WhoLikes,
            Some(_) => Asked::Everybody,
        };
        // It is changed by an assignment alone.
        let rules = Arc::clone(&self.0.rules.read().unwrap_or_else(PoisonError::into_inner));
        let cookie_origins = self.0.access.as_ref().map(Access::cookie_origins).unwrap_or_default();
        let request = Request::of(head, self.0.proxies.as_ref());
        let reason = check(&request, &rules, &cookie_origins, asked).err()?;
        tracing::debug!(peer = head.address(), path = head.path(), "refused: {reason}");
        Some(HttpResponse::text(403, format!("{reason}\n")))
    }
}

/// The parts of a request that the door looks at.
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    /// It came to an address that only this machine reaches.
    is_local: bool,
    from: Option<IpAddr>,
    is_from_proxy: bool,
    is_encrypted: bool,
    /// All that there are: a second one is for somebody who looks elsewhere.
    hosts: Vec<Option<&'a str>>,
    origins: Vec<Option<&'a str>>,
    fetch_site: Option<&'a str>,
    fetch_mode: Option<&'a str>,
    forwards: Option<&'a str>,
}

impl<'a> Request<'a> {
    fn of(head: &RequestHead<'a>, proxies: Option<&ProxyProtocol>) -> Self {
        let all = |name: &str| {
            head.headers().get_all(name).iter().map(|value| value.to_str().ok()).collect()
        };
        let from = head.address().parse::<SocketAddr>().ok().map(|address| address.ip());
        let is_from_proxy = from.zip(proxies).is_some_and(|(from, proxies)| proxies.trusts(from));
        let local = head.local_address().map(|address| address.ip().to_canonical());
        // A proxy that ends TLS says so, and is believed if it is one that is trusted.
        let is_told_https = is_from_proxy
            && head.header("x-forwarded-proto").is_some_and(|scheme| {
                ["https", "wss"].iter().any(|it| scheme.eq_ignore_ascii_case(it))
            });
        Self {
            method: head.method().as_str(),
            path: head.path(),
            is_local: local.is_none_or(|ip| ip.is_loopback()),
            from,
            is_from_proxy,
            is_encrypted: head.scheme() == "https" || is_told_https,
            hosts: all("host"),
            origins: all("origin"),
            fetch_site: head.header("sec-fetch-site"),
            fetch_mode: head.header("sec-fetch-mode"),
            forwards: head
                .headers()
                .keys()
                .map(HeaderName::as_str)
                .find(|name| is_forwarding(name)),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }
}

/// # Errors
/// Why it may not come in, as a sentence.
fn check(
    request: &Request<'_>,
    rules: &WebRules,
    cookie_origins: &[String],
    asked: Asked,
) -> Result<(), String> {
    if request.is_read() && (HEALTH.contains(&request.path) || is_public(request.path)) {
        return Ok(());
    }
    let host = match request.hosts.as_slice() {
        [] => None,
        [Some(host)] => Some(*host),
        _ => return Err("a request has one Host, of ASCII".to_owned()),
    };
    // Only this machine is to reach it there, and whoever does may come in.
    let is_private = asked != Asked::Everybody && request.is_local;
    if is_private
        && !request.is_from_proxy
        && let Some(name) = request.forwards
    {
        // There is a proxy before it, which others may reach.
        let from = request.from.map_or_else(|| "somewhere".to_owned(), |ip| ip.to_string());
        return Err(format!(
            "it came by a proxy ({name}, from {from}), and not everybody is asked who they are: \
             --proxy-trust {from} lets its clients in"
        ));
    }
    if is_private {
        // The name of a page's host may be made to lead here, and its Origin agrees with it.
        let is_known = host.is_none_or(|host| is_known_host(host, &rules.hosts));
        if !is_known {
            let host = host.unwrap_or_default().escape_debug();
            return Err(format!(
                "this service is for its own machine, and is not known as {host}: --allow-host {host} \
                 makes it so"
            ));
        }
    }
    let allows = |origin: &str| {
        is_of_host(origin, host, request.is_encrypted)
            || rules.origins.iter().any(|pattern| pattern.covers(origin))
            || cookie_origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
            || asked == Asked::Nobody && is_local_page(origin)
    };
    match request.origins.as_slice() {
        [] => {}
        [Some(origin)] if allows(origin) => return Ok(()),
        [Some(origin)] => {
            let origin = origin.escape_debug();
            return Err(format!(
                "pages of {origin} may not use this service: --allow-origin {origin} lets them"
            ));
        }
        _ => return Err("a request has one Origin, of ASCII".to_owned()),
    }
    // Browsers leave the origin out where they only read; of those that tell nothing, none is known.
    match request.fetch_site {
        None | Some("same-origin" | "none") => Ok(()),
        // A link leads to it, and nobody but the user sees what comes.
        _ if request.is_read()
            && is_page(request.path)
            && request.fetch_mode == Some("navigate") =>
        {
            Ok(())
        }
        Some(_) => Err("pages of other sites may not read from this service".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> WebRules {
        WebRules {
            origins: vec!["https://app.example".parse().expect("an origin")],
            hosts: vec!["chat.example".to_owned()],
        }
    }

    fn get<'a>(host: &'a str, origin: Option<&'a str>) -> Request<'a> {
        Request {
            method: "GET",
            path: "/rsocket",
            is_local: true,
            from: Some([192, 168, 0, 7].into()),
            is_from_proxy: false,
            is_encrypted: false,
            hosts: vec![Some(host)],
            origins: origin.map(Some).into_iter().collect(),
            fetch_site: None,
            fetch_mode: None,
            forwards: None,
        }
    }

    fn passes(request: &Request<'_>, asked: Asked) -> bool {
        check(request, &rules(), &["https://cookie.example".to_owned()], asked).is_ok()
    }

    #[test]
    fn pages_of_other_origins_do_not_come_in() {
        for asked in [Asked::Nobody, Asked::WhoLikes, Asked::Everybody] {
            let passes = |origin| passes(&get("chat.example", origin), asked);
            assert!(passes(None) && passes(Some("https://app.example")));
            assert!(passes(Some("https://chat.example")) && passes(Some("https://cookie.example")));
            assert!(!passes(Some("https://evil.example")) && !passes(Some("null")));
            // A page under development, where nobody has anything to lose.
            assert_eq!(passes(Some("http://localhost:3000")), asked == Asked::Nobody);
            assert_eq!(passes(Some("http://127.0.0.1:5173")), asked == Asked::Nobody);
        }
        let mut two = get("chat.example", Some("https://app.example"));
        two.origins.push(Some("https://evil.example"));
        assert!(!passes(&two, Asked::Everybody));
        two.origins = vec![None];
        assert!(!passes(&two, Asked::Everybody));
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_does_not() {
        // Host and Origin agree.
        let rebinding = get("evil.example:7879", Some("http://evil.example:7879"));
        assert!(!passes(&rebinding, Asked::Nobody));
        assert!(!passes(&rebinding, Asked::WhoLikes));
        // Where everybody says who they are, the page has nothing to say.
        assert!(passes(&rebinding, Asked::Everybody));
        // What others reach anyway has names that nobody has told it.
        let far = Request { is_local: false, ..get("evil.example", Some("http://evil.example")) };
        assert!(passes(&far, Asked::Nobody));
        for host in ["localhost:7879", "127.0.0.1:7879", "[::1]:7879", "chat.example:7879"] {
            assert!(passes(&get(host, None), Asked::Nobody), "{host}");
        }
        let mut two = get("localhost", None);
        two.hosts.push(Some("evil.example"));
        assert!(!passes(&two, Asked::Nobody));
    }

    #[test]
    fn who_comes_by_a_proxy_that_is_not_known_does_not() {
        let by = |is_from_proxy, is_local| Request {
            forwards: Some("x-forwarded-for"),
            is_from_proxy,
            is_local,
            ..get("localhost", None)
        };
        for asked in [Asked::Nobody, Asked::WhoLikes] {
            assert!(!passes(&by(false, true), asked));
            assert!(passes(&by(true, true), asked));
            // What others reach anyway: proxies of clients write these headers too.
            assert!(passes(&by(false, false), asked));
        }
        assert!(passes(&by(false, true), Asked::Everybody));
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-port", "via", "x-real-ip"] {
            assert!(is_forwarding(name), "{name}");
        }
        assert!(!is_forwarding("x-forwarder") && !is_forwarding("host"));
    }

    #[test]
    fn pages_of_other_sites_do_not_read_without_an_origin() {
        let read = |path, site, mode| {
            let mut request = get("localhost", None);
            (request.path, request.fetch_site, request.fetch_mode) = (path, Some(site), mode);
            passes(&request, Asked::Nobody)
        };
        assert!(read("/metrics", "same-origin", None) && read("/metrics", "none", None));
        assert!(!read("/metrics", "cross-site", None) && !read("/metrics", "same-site", None));
        assert!(!read("/metrics", "cross-site", Some("navigate")));
        assert!(!read("/", "cross-site", Some("no-cors")));
        for page in ["/", "/console"] {
            assert!(read(page, "cross-site", Some("navigate")));
            assert!(!read(page, "cross-site", Some("cors")));
        }
        assert!(read("/rsocket.mjs", "cross-site", Some("cors")));
        assert!(!read("/console/app.js", "cross-site", Some("no-cors")));
        assert!(read("/healthz", "cross-site", None));
        assert!(!read("/healthz/", "cross-site", None));
    }
}
