//! A browser without scripts: pages, forms, redirects and one cookie.

use std::cell::RefCell;

use crate::Shop;

pub struct Visitor {
    http: reqwest::Client,
    shop: String,
    cookie: RefCell<Option<String>>,
}

/// An answer as a person gets it.
pub struct Seen {
    pub status: u16,
    /// Where it leads, if it is a redirect.
    pub location: String,
    pub body: String,
}

impl Visitor {
    pub fn of(shop: &Shop) -> Self {
        Self { http: crate::client(), shop: shop.url.clone(), cookie: RefCell::default() }
    }

    /// Through the proxy of [`crate::behind_a_proxy`].
    pub fn at(shop: &Shop, address: &str) -> Self {
        Self { http: crate::client_at(address), ..Self::of(shop) }
    }

    /// Whatever the browser kept is gone.
    pub fn forget(&self) {
        self.cookie.take();
    }

    pub async fn get(&self, path: &str) -> Seen {
        self.send(self.http.get(self.address(path))).await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Seen {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let origin = ("origin", self.shop.as_str());
        let form = ("content-type", "application/x-www-form-urlencoded");
        self.send(self.http.post(self.address(path)).header(origin.0, origin.1).header(form.0, form.1).body(body.join("&"))).await
    }

    /// The page behind however many redirects.
    pub async fn follow(&self, mut seen: Seen) -> Seen {
        for _ in 0..5 {
            if seen.location.is_empty() {
                return seen;
            }
            seen = self.get(&seen.location).await;
        }
        panic!("it leads round and round");
    }

    fn address(&self, path: &str) -> String {
        if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.shop) }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Seen {
        let cookie = self.cookie.borrow().clone();
        let request = request.header("accept", "text/html,*/*;q=0.8");
        let request = if let Some(cookie) = cookie { request.header("cookie", cookie) } else { request };
        let answer = request.send().await.unwrap();
        if let Some(set) = answer.headers().get("set-cookie") {
            self.cookie.replace(set.to_str().unwrap().split(';').next().map(str::to_owned));
        }
        let location = answer.headers().get("location").map_or_else(String::new, |location| location.to_str().unwrap().to_owned());
        Seen { status: answer.status().as_u16(), location, body: answer.text().await.unwrap() }
    }

    /// From an empty cart to the last page of the checkout: its fingerprint, and
    /// all hidden fields of its form.
    pub async fn to_payment(&self, language: &str, sku: &str, quantity: u32) -> Vec<(String, String)> {
        let added = self.post(&format!("/{language}/cart/lines"), &[("sku", sku), ("quantity", &quantity.to_string())]).await;
        assert_eq!(added.status, 303, "{}", added.body);
        self.check_out(language).await
    }

    /// From a filled cart to the last page of the checkout.
    pub async fn check_out(&self, language: &str) -> Vec<(String, String)> {
        let details = self.post(&format!("/{language}/checkout"), &DETAILS).await;
        assert_eq!(details.status, 303, "{}", details.body);
        let shipping = self.post(&format!("/{language}/checkout/shipping"), &[("method", "standard")]).await;
        assert_eq!(shipping.status, 303, "{}", shipping.body);
        let payment = self.get(&format!("/{language}/checkout/payment")).await;
        assert_eq!(payment.status, 200, "{}", payment.body);
        payment.hidden("/checkout/place")
    }

    /// Sends the last form of the checkout.
    pub async fn place(&self, language: &str, hidden: &[(String, String)], method: &str) -> Seen {
        let mut fields: Vec<(&str, &str)> = hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        fields.push(("method", method));
        self.post(&format!("/{language}/checkout/place"), &fields).await
    }
}

pub const DETAILS: [(&str, &str); 8] = [
    ("email", "li.lei@shop.example"),
    ("country", "CN"),
    ("name", "李雷"),
    ("phone", "13800138000"),
    ("region", "33"),
    ("city", "杭州市"),
    ("district", "西湖区"),
    ("street", "龙井路 1 号"),
];

impl Seen {
    /// Hidden fields of the form whose action ends so.
    pub fn hidden(&self, action: &str) -> Vec<(String, String)> {
        let form = self.body.split("<form").find(|form| form.split('>').next().is_some_and(|head| head.contains(&format!("{action}\""))));
        let form = form.unwrap_or_else(|| panic!("no form leads to {action}: {}", self.body));
        let form = form.split("</form>").next().unwrap_or_default();
        let inputs = form.split("<input").skip(1).filter(|input| input.contains("type=\"hidden\""));
        inputs.filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?))).collect()
    }

    /// The token of the order that it leads to.
    pub fn token(&self) -> &str {
        let (_, rest) = self.location.split_once("/orders/").unwrap_or_else(|| panic!("it leads to `{}`: {} {}", self.location, self.status, self.body));
        rest.split(['?', '/']).next().unwrap_or_default()
    }

    /// The first link that begins so.
    pub fn link(&self, begin: &str) -> String {
        let found = self.body.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).find(|link| link.starts_with(begin));
        found.unwrap_or_else(|| panic!("no link to {begin}: {}", self.body)).replace("&amp;", "&")
    }
}

fn attribute(element: &str, name: &str) -> Option<String> {
    let (_, rest) = element.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
