//! Pages of other sites: what browsers are told that they may do.

use rsock::{HttpRequest, HttpResponse, http::HeaderValue};

use crate::access::Access;

/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";

/// The page that asks, where it is of a site that is allowed: the door has refused all others.
#[derive(Debug)]
pub(super) struct Cors {
    origin: Option<HeaderValue>,
    /// The cookie of the service's settings counts for it.
    has_cookie: bool,
}

impl Cors {
    pub(super) fn of(request: &HttpRequest, access: Option<&Access>) -> Self {
        let origin = request.headers().get("origin").cloned();
        let origins = access.map(Access::cookie_origins).unwrap_or_default();
        let has_cookie = origin.as_ref().is_some_and(|origin| {
            origins.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
        });
        Self { origin, has_cookie }
    }

    /// Tells the browser that the page may see the answer.
    pub(super) fn mark(self, mut answer: HttpResponse) -> HttpResponse {
        let headers = answer.headers_mut();
        headers.append("vary", HeaderValue::from_static("Origin"));
        let Some(origin) = self.origin else { return answer };
        headers.insert("access-control-allow-origin", origin);
        headers.insert(
            "access-control-expose-headers",
            HeaderValue::from_static("Rsock-Next, Rsock-Metadata, Retry-After"),
        );
        if self.has_cookie {
            headers.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
        }
        answer
    }
}

/// The answer to a browser that asks what a page may send.
pub(super) fn preflight() -> HttpResponse {
    HttpResponse::new(204, "")
        .header("allow", "GET, HEAD, POST, OPTIONS")
        .header("access-control-allow-methods", "GET, HEAD, POST")
        .header(
            "access-control-allow-headers",
            "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Rsock-Metadata, Rsock-Timeout",
        )
        .header("access-control-max-age", MAX_AGE)
}
