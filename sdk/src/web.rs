//! Answering HTTP: reading what was sent with errors that name the field, and
//! the usual answers.
//!
//! ```
//! use souk_sdk::web::{self, Form, Request, Response, Text};
//!
//! #[derive(serde::Deserialize)]
//! struct Add {
//!     sku: Text<64>,
//!     quantity: u32,
//! }
//!
//! fn add(Form(add): Form<Add>) -> Response {
//!     web::html(format!("{} of {} added", add.quantity, &*add.sku))
//! }
//!
//! fn handle(request: Request) -> Response {
//!     match request.route.as_str() {
//!         "add" => web::call(add, &request),
//!         _ => web::not_found(),
//!     }
//! }
//! ```
//!
//! [`call`] runs a function on what its parameters read from the request. Where
//! types do not help, [`Request`] has the parts themselves, and [`answer`] lets
//! a closure use `?`.

mod extract;
mod pairs;

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use extract::{Form, FromRequest, Handler, IntoResponse, Json, Path, Query, Text, call};

pub use crate::bindings::web::handler::Guest;
pub use crate::bindings::web::types::{CachePolicy, Request, Response};
pub use crate::bindings::web::{handler, types};

/// 200 with a page. Write it with `maud::html!`, which escapes what is put in.
pub fn html(body: impl Into<String>) -> Response {
    response(200, "text/html; charset=utf-8", body.into().into_bytes())
}

/// 200 with JSON; 500 if the value has no JSON form.
pub fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => response(200, "application/json", body),
        Err(error) => Problem::new(500, "Answer cannot be written").detail(error.to_string()).into(),
    }
}

/// 303: after a form was sent, the browser gets the next page with GET.
pub fn redirect(location: &str) -> Response {
    let mut response = response(303, "text/plain; charset=utf-8", Vec::new());
    response.headers.push(("location".into(), location.into()));
    response
}

/// 404.
pub fn not_found() -> Response {
    Problem::new(404, "Not found").into()
}

/// Any answer, without further headers.
pub fn response(status: u16, content_type: &str, body: Vec<u8>) -> Response {
    let headers = vec![("content-type".into(), content_type.into())];
    Response { status, headers, body, cache: None, await_effects: false }
}

/// Lets a handler use `?`: a [`Problem`] becomes the answer.
pub fn answer(handler: impl FnOnce() -> Result<Response, Problem>) -> Response {
    handler().unwrap_or_else(Response::from)
}

impl Response {
    /// The same answer under another status; from 400 on it rolls the unit back.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// One more header, whether or not there is one of this name.
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// What is true for a moment: it may be asked for again, and is not to be kept.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with_header("retry-after", seconds.to_string()).with_header("cache-control", "no-store")
    }

    /// Lets the host keep the page until `ttl_s` passed or a tag is invalidated.
    pub fn cached(mut self, ttl_s: u32, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cache = Some(CachePolicy { ttl_s, tags: tags.into_iter().map(Into::into).collect() });
        self
    }
}

impl Request {
    /// A path parameter of the route; empty if the route has none of this name.
    pub fn param(&self, name: &str) -> &str {
        first(&self.params, name).unwrap_or_default()
    }

    /// `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        first(&self.headers, name)
    }

    /// What stands behind the question mark.
    pub fn query(&self) -> Fields {
        Fields::parse(self.query.as_bytes())
    }

    /// The body of an HTML form.
    pub fn form(&self) -> Result<Fields, Problem> {
        self.expect_type("application/x-www-form-urlencoded")?;
        Ok(Fields::parse(&self.body))
    }

    /// The body as JSON; the problem names the field that does not fit.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.expect_type("application/json")?;
        let mut text = serde_json::Deserializer::from_slice(&self.body);
        let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let (field, reason) = (error.path().to_string(), error.inner().to_string());
            // The root's path is written as a dot.
            if field == "." {
                Problem::new(400, "Malformed JSON").detail(reason)
            } else {
                Problem::field(&field, "invalid", reason)
            }
        })?;
        text.end().map_err(|error| Problem::new(400, "Malformed JSON").detail(error.to_string()))?;
        Ok(value)
    }

    fn expect_type(&self, wanted: &str) -> Result<(), Problem> {
        let given = self.header("content-type").unwrap_or_default();
        let essence = given.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        Err(Problem::new(415, "Unsupported media type").detail(format!("send the body as {wanted}")))
    }
}

fn first<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

/// Fields of a form or a query string, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of `application/x-www-form-urlencoded`; whatever does not decode stays as it is.
    pub fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// As sent; the first where there are several.
    pub fn get(&self, name: &str) -> Option<&str> {
        first(&self.0, name)
    }

    /// Every value of this name, in the order sent.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// Names and values, in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Text that must be there, trimmed, of 1 to `chars_max` characters.
    pub fn text(&self, name: &str, chars_max: usize) -> Result<&str, Problem> {
        let text = self.optional_text(name, chars_max)?;
        text.ok_or_else(|| Problem::field(name, "required", "is required"))
    }

    /// The same, `None` where it is missing or blank.
    pub fn optional_text(&self, name: &str, chars_max: usize) -> Result<Option<&str>, Problem> {
        let text = self.get(name).map(str::trim).filter(|text| !text.is_empty());
        if text.is_some_and(|text| text.chars().count() > chars_max) {
            return Err(Problem::field(name, "too-long", format!("has more than {chars_max} characters")));
        }
        Ok(text)
    }

    /// A number that must be there and fit the type.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        let text = self.text(name, 40)?;
        text.parse().map_err(|_| Problem::field(name, "number", format!("`{text}` is not a number that is allowed here")))
    }

    /// The same, with a value for where it is missing or blank.
    pub fn number_or<T: FromStr>(&self, name: &str, default: T) -> Result<T, Problem> {
        if self.optional_text(name, 40)?.is_none() { Ok(default) } else { self.number(name) }
    }
}

/// An error as RFC 9457 has it. As a [`Response`] it rolls the unit back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The same for all problems of its kind.
    pub title: String,
    /// What was wrong this time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Seconds, as a header: whoever asks again later may get an answer.
    #[serde(skip)]
    pub retry_after: Option<u32>,
}

pub use crate::bindings::commerce::types::FieldError;

impl Problem {
    /// With a title for people; [`Self::detail`] says more.
    pub fn new(status: u16, title: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: String::new(), errors: Vec::new(), retry_after: None }
    }

    /// What was wrong this time, and what to do.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// What is true for a moment: it may be asked again, and is not to be kept.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 422: one field is wrong. `code` is for programs, `message` for people.
    pub fn field(field: &str, code: &str, message: impl Into<String>) -> Self {
        let error = FieldError { field: field.into(), code: code.into(), message: message.into() };
        Self::fields(vec![error])
    }

    /// 422: these fields are wrong.
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>();
        Self { errors, ..Self::new(422, "Invalid input").detail(detail.join("; ")) }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        // Text and numbers only: it always has a JSON form.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let response = response(problem.status, "application/problem+json", body);
        match problem.retry_after {
            Some(seconds) => response.retry_after(seconds),
            None => response,
        }
    }
}

/// Storage that is out of reach is the shop's trouble, not the client's.
impl From<crate::storage::Error> for Problem {
    fn from(error: crate::storage::Error) -> Self {
        Self::new(503, "Storage is not available").detail(error.to_string())
    }
}

impl From<crate::storage::CollectionError> for Problem {
    fn from(error: crate::storage::CollectionError) -> Self {
        match error {
            crate::storage::CollectionError::Storage(error) => error.into(),
            crate::storage::CollectionError::Duplicate { index, .. } => Self::field(index, "taken", "is already taken"),
            error @ crate::storage::CollectionError::Unreadable { .. } => {
                Self::new(500, "A document cannot be read").detail(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{get, post_form, post_json};

    #[test]
    fn a_wrong_field_is_named() {
        #[derive(Debug, serde::Deserialize)]
        struct Body {
            #[allow(dead_code)]
            lines: Vec<Line>,
        }
        #[derive(Debug, serde::Deserialize)]
        struct Line {
            #[allow(dead_code)]
            quantity: u32,
        }
        let request = post_json("add", "/add", &serde_json::json!({ "lines": [{ "quantity": 1 }, { "quantity": -1 }] }));
        assert_eq!(request.json::<Body>().unwrap_err().errors[0].field, "lines[1].quantity");

        let form = post_form("add", "/add", &[("quantity", "-1"), ("note", " ")]).form().unwrap();
        assert_eq!(form.number::<u32>("quantity").unwrap_err().errors[0].code, "number");
        assert_eq!(form.text("note", 10).unwrap_err().errors[0].code, "required");
    }

    #[test]
    fn fields_are_decoded() {
        let fields = get("search", "/search?q=%E8%8C%B6+cup&tag=a&tag=b").query();
        assert_eq!(fields.get("q"), Some("茶 cup"));
        assert_eq!(fields.all("tag").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_form_sent_as_something_else_is_refused() {
        let request = post_json("add", "/add", &serde_json::json!({}));
        assert_eq!(request.form().unwrap_err().status, 415);
    }
}
