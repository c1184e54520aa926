//! Commands that say what reached them: arguments and input, as lines.

use souk_sdk::host::command_handler;
use souk_sdk::serde_json;
use souk_sdk::storage::Collection;

const SEEN: Collection<String> = Collection::new("seen", &[]);
const LAST: &str = "last";

struct Clerk;

impl command_handler::Guest for Clerk {
    fn run(name: String, arguments: Vec<(String, String)>, input: Vec<u8>) -> Result<Vec<u8>, String> {
        if name == "list-numbers" {
            return numbers(&arguments);
        }
        let mut given: Vec<String> = arguments.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        given.push(format!("{} bytes", input.len()));
        let given = given.join("\n");
        match name.as_str() {
            "echo" => Ok(given.into_bytes()),
            "spy" => SEEN.put(LAST, &given).map(|()| Vec::new()).map_err(|error| error.to_string()),
            "seen" => SEEN.get(LAST).map(|seen| seen.unwrap_or_default().into_bytes()).map_err(|error| error.to_string()),
            _ => Err("the clerk stumbles".into()),
        }
    }
}

fn numbers(arguments: &[(String, String)]) -> Result<Vec<u8>, String> {
    let argument = |wanted: &str| arguments.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    let of = argument("of");
    let all: Vec<String> = (1..=5).map(|number| format!("{of}-{number}")).collect();
    let seen = all.iter().position(|id| id == argument("after")).map_or(0, |seen| seen + 1);
    let limit = argument("limit").parse().unwrap_or(5);
    let rows: Vec<_> = all[seen..].iter().take(limit).map(|id| serde_json::json!({ "id": id, "of": of, "what": { "is": { "deep": { "er": 1 } } } })).collect();
    serde_json::to_vec(&rows).map_err(|error| error.to_string())
}

souk_sdk::export!(Clerk: host::command_handler);
