//! Counts the orders that are placed.

use souk_sdk::InWords;
use souk_sdk::events::{self, Event};
use souk_sdk::host::command_handler;
use souk_sdk::storage::Counter;

const ORDERS: Counter = Counter::new("orders");
const ALL: &str = "all";

struct {Type};

impl events::Guest for {Type} {
    /// A unit of its own: each event counts exactly once.
    fn handle(_: Event) -> Result<(), String> {
        ORDERS.add(ALL, 1).map(drop).map_err(|error| error.in_words())
    }
}

impl command_handler::Guest for {Type} {
    fn run(_: String, _: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        let orders = ORDERS.get(ALL).map_err(|error| error.in_words())?;
        Ok(format!("{orders}\n").into_bytes())
    }
}

souk_sdk::export!({Type}: host::event_handler, host::command_handler);

#[cfg(test)]
mod tests {
    use command_handler::Guest as _;
    use events::Guest as _;

    use super::*;

    #[test]
    fn each_order_counts() {
        let event = Event { id: "1".into(), topic: "order.placed".into(), key: "token".into(), publisher: "orders".into(), at_ms: 0, payload: Vec::new() };
        {Type}::handle(event).unwrap();
        assert_eq!({Type}::run("count-orders".into(), Vec::new(), Vec::new()).unwrap(), b"1\n");
    }
}
