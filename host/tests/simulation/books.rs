//! The model: what a shop's books must say whatever happens. It is shown each
//! batch when it is on the disk, and knows no plugin but by the documents that
//! it leaves there; it shares no code with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use souk_host::store::{Batch, Space};
use souk_host::work::keys;

const PENDING: &str = "payment-pending";
const PLACED: &str = "placed";

#[derive(Clone, Default)]
pub struct Books {
    /// What there was of each article before anything was sold.
    stock: BTreeMap<String, i64>,
    /// Uses that there are of a discount, and of it for each customer.
    limits: BTreeMap<String, (usize, usize)>,
    available: BTreeMap<String, i64>,
    /// Of stock, by id.
    holds: BTreeMap<String, Hold>,
    /// By token.
    orders: BTreeMap<String, Order>,
    /// What the company outside has in its books, by payment.
    provider: BTreeMap<String, Paid>,
    /// What waits for a person, by payment.
    tasks: BTreeMap<String, Vec<String>>,
    /// Payments whose refund was refused.
    refused: BTreeSet<String>,
    /// Tokens that shoppers were told, and what they were told to pay.
    promised: BTreeMap<String, i64>,
    /// Keys of effects and of work that was given up.
    effects: BTreeSet<Vec<u8>>,
    dead: BTreeSet<Vec<u8>>,
    /// The latest that a clock ever showed.
    latest_ms: u64,
}

#[derive(Clone)]
struct Hold {
    state: String,
    lines: BTreeMap<String, i64>,
}

impl Hold {
    fn of(record: &Value) -> Option<Self> {
        let last = record["movements"].as_array()?.last()?;
        let lines = last["lines"].as_object()?.iter().filter_map(|(sku, count)| Some((sku.clone(), count.as_i64()?)));
        Some(Self { state: last["kind"].as_str()?.to_owned(), lines: lines.collect() })
    }

    fn is_taken(&self) -> bool {
        ["reserved", "committed", "shipped"].contains(&self.state.as_str())
    }
}

#[derive(Clone, PartialEq)]
struct Order {
    status: String,
    number: String,
    cart: String,
    hold: String,
    expires_ms: u64,
    customer: String,
    total: i64,
    quantities: BTreeMap<String, i64>,
    /// Ids of discounts.
    applied: Vec<String>,
    paid_by: Option<String>,
    cancelled_by: Option<String>,
}

#[derive(Clone)]
struct Paid {
    number: String,
    asked: i64,
    /// As much as the shopper gave.
    amount: i64,
    state: String,
}

impl Order {
    fn of(record: &Value) -> Result<Self, String> {
        let order = &record["order"];
        let money = |value: &Value| value["amount"].as_i64().ok_or_else(|| format!("no amount: {order}"));
        let totals = &order["totals"];
        let shipping = if totals["shipping"].is_null() { 0 } else { money(&totals["shipping"])? };
        let (subtotal, discount, total) = (money(&totals["subtotal"])?, money(&totals["discount"])?, money(&totals["total"])?);
        let mut quantities = BTreeMap::new();
        let (mut lines_subtotal, mut lines_discount) = (0, 0);
        for line in order["lines"].as_array().into_iter().flatten() {
            let quantity = line["quantity"].as_i64().ok_or("no quantity")?;
            let (unit, line_subtotal, line_discount) = (money(&line["unit_price"])?, money(&line["subtotal"])?, money(&line["discount"])?);
            if unit * quantity != line_subtotal || line_subtotal - line_discount != money(&line["total"])? || line_discount < 0 || quantity < 1 {
                return Err(format!("a line does not add up: {line}"));
            }
            lines_subtotal += line_subtotal;
            lines_discount += line_discount;
            *quantities.entry(line["sku"].as_str().unwrap_or_default().to_owned()).or_default() += quantity;
        }
        if lines_subtotal != subtotal || lines_discount != discount || subtotal - discount + shipping + money(&totals["tax_added"])? != total || total < 0 {
            return Err(format!("an order's totals do not add up: {totals}"));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Self {
            status: text(&order["status"]),
            number: text(&order["number"]),
            cart: text(&record["cart_id"]),
            hold: text(&record["hold_id"]),
            expires_ms: record["expires_ms"].as_u64().ok_or("no end")?,
            customer: text(&order["contact"]["email"]),
            total,
            quantities,
            applied: order["applied"].as_array().into_iter().flatten().map(|applied| text(&applied["id"])).collect(),
            paid_by: record["paid_by"].as_str().map(str::to_owned),
            cancelled_by: record["cancelled_by"].as_str().map(str::to_owned),
        })
    }

    fn holds_stock(&self) -> bool {
        [PENDING, PLACED, "fulfilled"].contains(&self.status.as_str())
    }

    /// Whether it may become that in one commit.
    fn may_become(&self, then: &Self) -> bool {
        let changing = |of: &Self| Self {
            status: String::new(), paid_by: None, cancelled_by: None, hold: String::new(), expires_ms: 0, ..of.clone()
        };
        let step = (self.status.as_str(), then.status.as_str());
        let steps = [
            (PENDING, PLACED), (PENDING, "cancelled"), (PENDING, "refunding"), ("cancelled", PLACED), ("cancelled", "refunding"), ("refunding", "refunded"),
            ("refunded", "refunding"), (PLACED, "fulfilled"), (PLACED, "refunding"),
        ];
        // Who has cancelled is not sent the goods all the same.
        let is_wanted = step != ("cancelled", PLACED) || self.cancelled_by.as_deref() == Some("expiry");
        let paid = self.paid_by.is_none() || self.paid_by == then.paid_by || step == (PLACED, "refunding") && then.paid_by.is_none();
        changing(self) == changing(then) && (step.0 == step.1 || steps.contains(&step)) && is_wanted && paid
    }
}

impl Books {
    /// With so much of some articles on the shelves, and these limits of discounts.
    pub fn open(stock: BTreeMap<String, i64>, limits: BTreeMap<String, (usize, usize)>) -> Self {
        Self { available: stock.clone(), stock, limits, ..Self::default() }
    }

    /// A shopper was told that an order is there.
    pub fn promise(&mut self, token: &str, total: i64) {
        self.promised.insert(token.to_owned(), total);
    }

    /// What holds after every commit.
    pub fn post(&mut self, batch: &Batch, now_ms: u64) -> Result<(), String> {
        self.latest_ms = self.latest_ms.max(now_ms);
        let orders_before = self.orders.clone();
        let mut events = BTreeMap::new();
        for ((space, key), value) in batch {
            let name = |plugin: &str| keys::names_of(plugin, key);
            let json = || value.as_ref().map(|bytes| serde_json::from_slice::<Value>(bytes).map_err(|error| error.to_string())).transpose();
            match (space, key.first()) {
                (Space::Counters, _) => {
                    if let Some((collection, sku)) = name("inventory")
                        && collection == "available"
                        && let Some(count) = self.available.get_mut(&sku)
                    {
                        *count = value.as_ref().map_or(0, |bytes| i64::from_be_bytes(bytes[..].try_into().expect("counters have 8 bytes")));
                    }
                }
                (Space::Documents, Some(b'd')) => {
                    if let Some((collection, id)) = name("inventory")
                        && collection == "holds"
                        && let Some(record) = json()?
                    {
                        self.holds.insert(id, Hold::of(&record).ok_or("a hold without movements")?);
                    }
                    if let Some((collection, token)) = name("orders")
                        && collection == "orders"
                    {
                        let order = Order::of(&json()?.ok_or("an order is gone")?)?;
                        if let Some(before) = self.orders.insert(token.clone(), order)
                            && !before.may_become(&self.orders[&token])
                        {
                            return Err(format!("the order {} became {} out of {}", before.number, self.orders[&token].status, before.status));
                        }
                    }
                    if let Some((collection, id)) = name("pay-sandbox")
                        && collection == "payments"
                    {
                        let record = json()?.ok_or("the provider forgot a payment")?;
                        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
                        let asked = record["amount"].as_i64().unwrap_or_default();
                        let paid = Paid { number: text("order_number"), asked, amount: record["paid"].as_i64().unwrap_or(asked), state: text("state") };
                        if let Some(before) = self.provider.insert(id, paid)
                            && before.state == "refunded"
                        {
                            return Err(format!("money of the order {} went back, and something came after that", before.number));
                        }
                    }
                    if let Some((collection, id)) = name("payment")
                        && collection == "payments"
                    {
                        let record = json()?.ok_or("a payment is gone")?;
                        if record["refund"]["refused"].as_u64() > Some(0) {
                            self.refused.insert(id.clone());
                        }
                        self.tasks.insert(id, record["tasks"].as_object().into_iter().flatten().map(|(task, _)| task.clone()).collect());
                    }
                }
                (Space::Documents, Some(b'e')) => _ = if value.is_some() { self.effects.insert(key.clone()) } else { self.effects.remove(key) },
                (Space::Documents, Some(b'x')) => _ = if value.is_some() { self.dead.insert(key.clone()) } else { self.dead.remove(key) },
                (Space::Documents, Some(b'o')) => {
                    for topic in ["order.placed", "order.cancelled"] {
                        if let Some(bytes) = value
                            && bytes.windows(topic.len()).any(|part| part == topic.as_bytes())
                        {
                            *events.entry(topic).or_insert(0) += 1;
                        }
                    }
                }
                _ => {}
            }
        }
        let became = |status: &str| self.orders.iter().filter(|(token, order)| order.status == status && orders_before.get(*token).is_none_or(|before| before.status != status)).count();
        // Paid, and given up at once.
        let lost = self.orders.iter().filter(|(token, order)| order.status == "refunding" && orders_before.get(*token).is_some_and(|before| [PENDING, PLACED].contains(&before.status.as_str()))).count();
        for (topic, status, more) in [("order.placed", PLACED, 0), ("order.cancelled", "cancelled", lost)] {
            let (told, done) = (events.get(topic).copied().unwrap_or(0), became(status) + more);
            if told != done {
                return Err(format!("{done} orders became {status}, and {topic} was told {told} times"));
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        for (sku, stock) in &self.stock {
            let taken: i64 = self.holds.values().filter(|hold| hold.is_taken()).filter_map(|hold| hold.lines.get(sku)).sum();
            let available = self.available[sku];
            if available < 0 || available + taken != *stock {
                return Err(format!("of {stock} {sku}, {available} are available and {taken} held or sold"));
            }
        }
        let mut of_orders = BTreeSet::new();
        for order in self.orders.values() {
            let hold = self.holds.get(&order.hold).filter(|hold| hold.lines == order.quantities).ok_or_else(|| format!("the order {} has no stock of its own", order.number))?;
            of_orders.insert(&order.hold);
            let fits = match order.status.as_str() {
                // Its stock may be free a moment before it is given up.
                PENDING => hold.state == "reserved" || hold.state == "released" && order.expires_ms <= self.latest_ms,
                PLACED => hold.state == "committed",
                "fulfilled" => hold.state == "shipped",
                _ => !hold.is_taken(),
            };
            if !fits {
                return Err(format!("the order {} is {}, and its stock {}", order.number, order.status, hold.state));
            }
        }
        if let Some((id, _)) = self.holds.iter().find(|(id, hold)| hold.is_taken() && !of_orders.contains(id)) {
            return Err(format!("the hold {id} is nobody's"));
        }
        let mut carts = BTreeSet::new();
        let mut numbers = BTreeSet::new();
        for order in self.orders.values() {
            if !carts.insert(&order.cart) || !numbers.insert(&order.number) {
                return Err(format!("two orders of the cart {}, or with the number {}", order.cart, order.number));
            }
            if [PLACED, "fulfilled"].contains(&order.status.as_str()) {
                let paid = order.paid_by.as_ref().and_then(|id| self.provider.get(id));
                if !paid.is_some_and(|paid| paid.state == "captured" && paid.amount == order.total) {
                    return Err(format!("the order {} is placed, and nobody has its money", order.number));
                }
            }
        }
        for (discount, (in_all, each)) in &self.limits {
            let users: Vec<&String> = self.orders.values().filter(|order| order.holds_stock() && order.applied.contains(discount)).map(|order| &order.customer).collect();
            let most = users.iter().map(|user| users.iter().filter(|other| *other == user).count()).max().unwrap_or(0);
            if users.len() > *in_all || most > *each {
                return Err(format!("{discount} was used {} times, by one customer {most} times", users.len()));
            }
        }
        Ok(())
    }

    /// What holds after a start besides: no promise is broken.
    pub fn check_promises(&self) -> Result<(), String> {
        for (token, total) in &self.promised {
            if self.orders.get(token).is_none_or(|order| order.total != *total) {
                return Err(format!("an order of {total} that a shopper was told of is not there"));
            }
        }
        Ok(())
    }

    /// What holds once everybody has gone home and all work is done.
    pub fn close(&self) -> Result<(), String> {
        self.check_promises()?;
        if !self.effects.is_empty() || !self.dead.is_empty() {
            return Err(format!("{} effects are left, {} units of work were given up", self.effects.len(), self.dead.len()));
        }
        if let Some((id, paid)) = self.provider.iter().find(|(_, paid)| paid.state == "open") {
            return Err(format!("the payment {id} of order {} can still be paid", paid.number));
        }
        for (id, paid) in self.provider.iter().filter(|(_, paid)| paid.state == "captured") {
            let places = self.orders.values().any(|order| order.number == paid.number && order.paid_by.as_ref() == Some(id));
            // Of another amount, it is a person's to settle.
            let waits = paid.amount != paid.asked && self.tasks.get(id).is_some_and(|tasks| tasks.contains(&"mismatch".to_owned()));
            if places == waits {
                return Err(format!("{} of {} for the order {} is kept: it places the order: {places}, a person is told: {waits}", paid.amount, paid.asked, paid.number));
            }
        }
        for order in self.orders.values() {
            let paid = [PLACED, "fulfilled"].contains(&order.status.as_str());
            if paid != order.paid_by.is_some() || !paid && !["cancelled", "refunded"].contains(&order.status.as_str()) {
                return Err(format!("the order {} is left {}, paid by {:?}", order.number, order.status, order.paid_by));
            }
        }
        if let Some((id, _)) = self.tasks.iter().find(|(id, tasks)| tasks.contains(&"refund".to_owned()) && self.provider.get(*id).is_none_or(|paid| paid.state == "refunded")) {
            return Err(format!("a person is told of a refund of {id} that is done"));
        }
        Ok(())
    }

    /// How often each state is there: to see that a simulation reaches them all.
    pub fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for order in self.orders.values() {
            *states.entry(format!("order {}", order.status)).or_default() += 1;
        }
        for order in self.orders.values() {
            if let Some(by) = &order.cancelled_by {
                *states.entry(format!("order {} by {by}", order.status)).or_default() += 1;
            }
        }
        for paid in self.provider.values() {
            let what = if paid.amount == paid.asked { "" } else { " of less" };
            *states.entry(format!("payment {}{what}", paid.state)).or_default() += 1;
        }
        states.insert("refund refused".into(), self.refused.len());
        states
    }

    pub fn uses_of(&self, discount: &str) -> usize {
        self.orders.values().filter(|order| order.holds_stock() && order.applied.iter().any(|id| id == discount)).count()
    }
}
