//! Errors as clients see them: RFC 9457 for programs, a short page for people.
//! Never what a plugin or the host said internally; the request id leads there.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::{Failure, FailureKind};

/// Why a request got no answer from a plugin.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// For programs; stable.
    pub code: &'static str,
    pub detail: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The rest of the request was not read.
    pub close: bool,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), headers: Vec::new(), close: false }
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// For an error status of a plugin that said nothing more.
    pub fn of_status(status: StatusCode) -> Self {
        let detail = match status.as_u16() {
            404 | 410 => "There is nothing here.",
            401 | 403 => "This is not open to you.",
            405..=499 => "The request could not be carried out as it was sent.",
            400 => "The request was not understood.",
            _ => "Something went wrong on our side. Nothing was changed.",
        };
        Self::new(status, "error", detail)
    }

    /// Content type and body.
    pub fn render(&self, html: bool, request_id: &str) -> (HeaderValue, Bytes) {
        let title = self.status.canonical_reason().unwrap_or("Error");
        if html {
            // All parts are the host's own text except the id, which is a token.
            let page = format!(
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
                 <title>{title}</title>\n<main>\n<h1>{title}</h1>\n<p>{}</p>\n<p><a href=\"/\">Go to the start page</a></p>\n\
                 <p><small>Request {request_id}</small></p>\n</main>\n</html>\n",
                self.detail
            );
            return (HeaderValue::from_static("text/html; charset=utf-8"), page.into());
        }
        let document = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "request-id": request_id,
        });
        (HeaderValue::from_static("application/problem+json"), document.to_string().into())
    }

    pub fn into_response(self, html: bool, request_id: &str) -> Response<Full<Bytes>> {
        let (content_type, body) = self.render(html, request_id);
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.extend(self.headers);
        response
    }
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let retry = |p: Problem| p.with(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
        match failure.kind {
            FailureKind::Plugin => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "plugin-failed", "Something went wrong on our side. Nothing was changed.")
            }
            FailureKind::Deadline => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline", "This took too long and was stopped. Nothing was changed.")
            }
            FailureKind::Overloaded => retry(Self::overloaded()),
            FailureKind::Share => retry(Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "over-share",
                "This part of the shop is used more than it can take. The rest goes on; please try this again in a moment.",
            )),
            FailureKind::Conflict => retry(Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "conflict",
                "Many people are changing the same thing right now. Nothing was changed; please try again.",
            )),
            FailureKind::IdempotencyMismatch => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-mismatch",
                "This Idempotency-Key was used with another request. Use a new key for a new request.",
            ),
            FailureKind::IdempotencyInProgress => retry(Self::new(
                StatusCode::CONFLICT,
                "idempotency-in-progress",
                "The first request with this Idempotency-Key is still being worked on.",
            )),
            FailureKind::Unavailable => {
                retry(Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The shop cannot do this at the moment. Nothing was changed."))
            }
            // No `Retry-After`: to do it again without the same key might do it twice.
            FailureKind::Unconfirmed => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unconfirmed",
                "The shop could not store this for certain. Look whether it is there before you do it again, or repeat it with the same Idempotency-Key.",
            ),
        }
    }
}

impl Problem {
    pub fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The shop is very busy. Please try again in a moment.")
    }
}

pub fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).any(|v| v.contains("text/html"))
}
