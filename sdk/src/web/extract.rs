//! Handlers as plain functions: what they take is read from the request, what
//! they return becomes the answer. Called by plugins through [`call`]; all of
//! it is known when the plugin is compiled.

use std::borrow::Cow;
use std::ops::Deref;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::pairs::Pairs;
use super::{Problem, Request, Response};

/// Answers with a function of up to four extractors, in any order. The first
/// that does not fit the request is the answer.
///
/// ```
/// use serde::Deserialize;
/// use souk_sdk::web::{self, Json, Path, Problem, Query, Request, Response};
///
/// #[derive(Deserialize)]
/// struct Paging {
///     #[serde(default)]
///     offset: u32,
/// }
///
/// fn list(Query(paging): Query<Paging>, request: &Request) -> Json<String> {
///     Json(format!("{} from {}", request.path, paging.offset))
/// }
///
/// fn one(Path(name): Path<&str>) -> Result<Response, Problem> {
///     Err(Problem::new(410, "Gone").detail(name))
/// }
///
/// fn handle(request: Request) -> Response {
///     match request.route.as_str() {
///         "list" => web::call(list, &request),
///         _ => web::call(one, &request),
///     }
/// }
///
/// # use souk_sdk::testing;
/// assert_eq!(handle(testing::get("list", "/things?offset=20")).body, br#""/things from 20""#);
/// assert_eq!(handle(testing::get("list", "/things?offset=x")).status, 422);
/// ```
pub fn call<'a, A>(handler: impl Handler<'a, A>, request: &'a Request) -> Response {
    handler.answer(request)
}

/// Something that a handler takes.
///
/// ```
/// use souk_sdk::web::{self, FromRequest, Problem, Request};
///
/// struct Caller<'a>(&'a str);
///
/// impl<'a> FromRequest<'a> for Caller<'a> {
///     fn from_request(request: &'a Request) -> Result<Self, Problem> {
///         let key = request.header("x-api-key").ok_or_else(|| Problem::new(401, "Who are you?"))?;
///         Ok(Self(key))
///     }
/// }
///
/// fn hello(Caller(key): Caller) -> web::Response {
///     web::html(format!("Hello {key}"))
/// }
///
/// assert_eq!(web::call(hello, &souk_sdk::testing::get("hello", "/hello")).status, 401);
/// ```
pub trait FromRequest<'a>: Sized {
    /// The problem is answered, and the function does not run.
    fn from_request(request: &'a Request) -> Result<Self, Problem>;
}

impl<'a> FromRequest<'a> for &'a Request {
    fn from_request(request: &'a Request) -> Result<Self, Problem> {
        Ok(request)
    }
}

/// The route's path parameters: a struct with fields of their names, or one
/// value where there is one parameter. 404 for a path whose text does not fit.
///
/// ```
/// # use souk_sdk::{testing, web::{FromRequest, Path}};
/// #[derive(serde::Deserialize)]
/// struct Line<'a> {
///     cart: &'a str,
///     line: u32,
/// }
///
/// let mut request = testing::get("line", "/carts/c1/lines/7");
/// request.params = vec![("cart".into(), "c1".into()), ("line".into(), "7".into())];
/// let Path(Line { cart, line }) = Path::from_request(&request)?;
/// assert_eq!((cart, line), ("c1", 7));
///
/// request.params = vec![("order".into(), "x".into())];
/// assert_eq!(Path::<&str>::from_request(&request)?.0, "x");
/// assert_eq!(Path::<u32>::from_request(&request).unwrap_err().status, 404);
/// # Ok::<(), souk_sdk::web::Problem>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<'a, T: Deserialize<'a>> FromRequest<'a> for Path<T> {
    fn from_request(request: &'a Request) -> Result<Self, Problem> {
        T::deserialize(Pairs(&request.params)).map(Self).map_err(|error| match error.0.code.as_str() {
            "required" => Problem::new(500, "No such path parameter").detail(format!("the route `{}` has no `{}`", request.route, error.0.field)),
            _ => Problem::new(404, "Not found").detail(format!("{}: {}", request.path, error.to_string().trim_start())),
        })
    }
}

/// The query string as a struct. A name that repeats is a list; one that is
/// blank is as if it were missing; unknown ones are ignored. What may be missing
/// is an `Option`, or has `#[serde(default)]`. 422 that names the field.
///
/// ```
/// # use souk_sdk::{testing, web::{FromRequest, Query, Text}};
/// #[derive(serde::Deserialize)]
/// struct Search {
///     q: Option<Text<20>>,
///     #[serde(default)]
///     sku: Vec<String>,
/// }
///
/// let request = testing::get("search", "/search?sku=a&q=&sku=b&utm=x");
/// let Query(search) = Query::<Search>::from_request(&request)?;
/// assert_eq!(search.sku, ["a", "b"]);
/// assert!(search.q.is_none());
/// let request = testing::get("search", "/search?q=a+cup+of+tea+for+everybody");
/// assert_eq!(Query::<Search>::from_request(&request).err().unwrap().detail, "q has more than 20 characters");
/// # Ok::<(), souk_sdk::web::Problem>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest<'_> for Query<T> {
    fn from_request(request: &Request) -> Result<Self, Problem> {
        from_encoded(request.query.as_bytes()).map(Self)
    }
}

/// The body of an HTML form as a struct, under the rules of [`Query`]. As
/// `Option` none where there is no body.
///
/// ```
/// # use souk_sdk::{testing, web::{FromRequest, Form}};
/// #[derive(Debug, serde::Deserialize)]
/// struct Add {
///     quantity: u32,
///     #[serde(default)]
///     gift: bool,
/// }
///
/// let request = testing::post_form("add", "/add", &[("quantity", "2"), ("gift", "on")]);
/// let Form(add) = Form::<Add>::from_request(&request)?;
/// assert!(add.quantity == 2 && add.gift);
/// let request = testing::post_form("add", "/add", &[("quantity", " ")]);
/// assert_eq!(Form::<Add>::from_request(&request).unwrap_err().detail, "quantity is required");
/// # Ok::<(), souk_sdk::web::Problem>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl<T: DeserializeOwned> FromRequest<'_> for Form<T> {
    fn from_request(request: &Request) -> Result<Self, Problem> {
        request.expect_type("application/x-www-form-urlencoded")?;
        from_encoded(&request.body).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<'_> for Option<Form<T>> {
    fn from_request(request: &Request) -> Result<Self, Problem> {
        (!request.body.is_empty()).then(|| Form::from_request(request)).transpose()
    }
}

/// The body as JSON; returned, an answer in JSON. As `Option` none where there
/// is no body.
///
/// ```
/// # use souk_sdk::{testing, web::{self, Json}};
/// fn double(body: Option<Json<u32>>) -> Option<Json<u32>> {
///     body.map(|Json(number)| Json(number * 2))
/// }
///
/// assert_eq!(web::call(double, &testing::post_json("double", "/double", &21)).body, b"42");
/// assert_eq!(web::call(double, &testing::get("double", "/double")).status, 404);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<'_> for Json<T> {
    fn from_request(request: &Request) -> Result<Self, Problem> {
        request.json().map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<'_> for Option<Json<T>> {
    fn from_request(request: &Request) -> Result<Self, Problem> {
        (!request.body.is_empty()).then(|| Json::from_request(request)).transpose()
    }
}

fn from_encoded<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, Problem> {
    let mut pairs: Vec<(Cow<str>, Cow<str>)> = form_urlencoded::parse(encoded).filter(|(_, value)| !value.trim().is_empty()).collect();
    // Names that repeat come together, their values in the order in which they were sent.
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    T::deserialize(Pairs(&pairs)).map_err(|error| Problem::fields(vec![error.0]))
}

/// Text of 1 to `CHARS_MAX` characters, trimmed: a field's limit, in its type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Text<const CHARS_MAX: usize>(String);

impl<const CHARS_MAX: usize> Deref for Text<CHARS_MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const CHARS_MAX: usize> From<Text<CHARS_MAX>> for String {
    fn from(text: Text<CHARS_MAX>) -> Self {
        text.0
    }
}

impl<'de, const CHARS_MAX: usize> Deserialize<'de> for Text<CHARS_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(D::Error::custom("is required"));
        }
        if trimmed.chars().count() > CHARS_MAX {
            return Err(D::Error::custom(format_args!("has more than {CHARS_MAX} characters")));
        }
        Ok(Self(if trimmed.len() == text.len() { text } else { trimmed.to_owned() }))
    }
}

/// What a handler may return: an answer, a [`Problem`], JSON, one of these or a
/// problem, and `None` for 404.
pub trait IntoResponse {
    /// The answer that it stands for.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into()
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        super::json(&self.0)
    }
}

impl<T: IntoResponse> IntoResponse for Result<T, Problem> {
    fn into_response(self) -> Response {
        match self {
            Ok(answer) => answer.into_response(),
            Err(problem) => problem.into(),
        }
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        self.map_or_else(super::not_found, T::into_response)
    }
}

/// A function that [`call`] takes; implemented for those of extractors.
pub trait Handler<'a, A> {
    /// What it answers, or the problem of the first parameter that does not fit.
    fn answer(self, request: &'a Request) -> Response;
}

macro_rules! handlers {
    ($(($($extractor:ident),*))*) => {
        $(impl<'a, F, R, $($extractor,)*> Handler<'a, ($($extractor,)*)> for F
        where
            F: FnOnce($($extractor),*) -> R,
            R: IntoResponse,
            $($extractor: FromRequest<'a>,)*
        {
            #[allow(unused_variables, non_snake_case)]
            fn answer(self, request: &'a Request) -> Response {
                $(let $extractor = match $extractor::from_request(request) {
                    Ok(value) => value,
                    Err(problem) => return problem.into(),
                };)*
                self($($extractor),*).into_response()
            }
        })*
    };
}

handlers! { () (A) (A, B) (A, B, C) (A, B, C, D) }

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Order {
        Newest,
        PriceUp,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Everything {
        name: Text<5>,
        page_size: Option<u8>,
        #[serde(default)]
        tag: Vec<u32>,
        order: Option<Order>,
        #[serde(default)]
        gift: bool,
    }

    fn read(query: &str) -> Result<Everything, String> {
        let request = Request { query: query.into(), ..testing::get("list", "/") };
        Query::from_request(&request).map(|Query(read)| read).map_err(|problem| format!("{} {}", problem.status, problem.detail))
    }

    #[test]
    fn a_query_is_read_into_types() {
        let read = read("tag=1&name=%E8%8C%B6+x&tag=2&order=price-up&gift=on&unknown=1&page-size=").unwrap();
        let name = Text("茶 x".into());
        assert_eq!(read, Everything { name, page_size: None, tag: vec![1, 2], order: Some(Order::PriceUp), gift: true });
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_does() {
        for (query, told) in [
            ("", "422 name is required"),
            ("name=+", "422 name is required"),
            ("name=abcdef", "422 name has more than 5 characters"),
            ("name=a&page-size=256", "422 page-size is `256`: use a number from 0 to 255"),
            ("name=a&tag=1&tag=-1", "422 tag is `-1`: use a number from 0 to 4294967295"),
            ("name=a&order=dear", "422 order is `dear`: use one of newest, price-up"),
            ("name=a&gift=maybe", "422 gift is `maybe`: use true or false"),
        ] {
            assert_eq!(read(query).unwrap_err(), told, "{query}");
        }
    }

    #[test]
    fn of_a_value_that_repeats_the_first_counts_and_maps_take_any_name() {
        assert_eq!(&*read("name=a&name=b").unwrap().name, "a");
        let request = testing::get("list", "/?b=2&a=1");
        let Query(all) = Query::<BTreeMap<String, u8>>::from_request(&request).unwrap();
        assert_eq!(all, BTreeMap::from([("a".into(), 1), ("b".into(), 2)]));
    }

    #[test]
    fn a_parameter_that_the_route_does_not_have_is_the_plugins_fault() {
        #[derive(Debug, Deserialize)]
        struct Wanted {
            #[allow(dead_code)]
            cart: String,
        }
        let mut request = testing::get("line", "/lines/1");
        request.params = vec![("line".into(), "1".into())];
        assert_eq!(Path::<Wanted>::from_request(&request).unwrap_err().detail, "the route `line` has no `cart`");
    }

    #[test]
    fn functions_of_none_to_four_extractors_answer() {
        fn none() -> Response {
            super::super::html("none")
        }
        fn four(a: &Request, Query(b): Query<BTreeMap<String, String>>, c: Option<Form<()>>, Path(_): Path<BTreeMap<String, String>>) -> Result<Option<Response>, Problem> {
            Ok((b.is_empty() && c.is_none()).then(|| super::super::html(a.path.clone())))
        }
        assert_eq!(call(none, &testing::get("none", "/")).body, b"none");
        assert_eq!(call(four, &testing::get("four", "/x")).body, b"/x");
        assert_eq!(call(four, &testing::get("four", "/x?y=1")).status, 404);
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "\\PC*") {
            let _ = read(&query);
        }
    }
}
