//! Points of customers: a service that other plugins call, as one unit with
//! what they do. Its contract is in `wit/points`.

use souk_sdk::host::command_handler;
use souk_sdk::points::balance;
use souk_sdk::storage::Counter;

const POINTS: Counter = Counter::new("points");

struct {Type};

impl balance::Guest for {Type} {
    fn add(customer: String, points: u32) -> Result<u64, String> {
        let sum = POINTS.add(&customer, points.into()).map_err(|error| error.to_string())?;
        Ok(sum.unsigned_abs())
    }

    fn get(customer: String) -> u64 {
        // A name that can be no key is nobody's.
        POINTS.get(&customer).unwrap_or_default().unsigned_abs()
    }
}

impl command_handler::Guest for {Type} {
    fn run(_: String, arguments: Vec<(String, String)>, _: Vec<u8>) -> Result<Vec<u8>, String> {
        let given = |wanted: &str| {
            let found = arguments.iter().find(|(argument, _)| argument == wanted).map(|(_, value)| value.clone());
            found.ok_or_else(|| format!("give {wanted}=…"))
        };
        let points = given("points")?.parse().map_err(|_| "points: give a whole number".to_owned())?;
        let sum = <Self as balance::Guest>::add(given("customer")?, points)?;
        Ok(format!("{sum}\n").into_bytes())
    }
}

souk_sdk::export!({Type}: points::balance, host::command_handler);

#[cfg(test)]
mod tests {
    use balance::Guest as _;

    use super::*;

    #[test]
    fn points_add_up_for_each_customer() {
        assert_eq!({Type}::add("lilei".into(), 10), Ok(10));
        assert_eq!({Type}::add("lilei".into(), 5), Ok(15));
        assert_eq!(({Type}::get("lilei".into()), {Type}::get("hanmeimei".into())), (15, 0));
    }
}
