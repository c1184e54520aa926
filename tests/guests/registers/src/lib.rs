//! A request is a list of operations, carried out in one unit; the answer says
//! what each of them saw. What is written tells where it comes from: appends
//! are to lists, adds are of bits.

use serde::{Deserialize, Serialize};
use souk_sdk::host::session;
use souk_sdk::storage::{self, Collection, Counter};
use souk_sdk::web::{self, Problem, Request, Response};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Operation {
    Append(String, u64),
    Read(String),
    /// All lists whose names begin so.
    Scan(String),
    Add(String, i64),
    Count(String),
    /// To the shopper's own list.
    AppendOwn(u64),
    ReadOwn,
    /// The unit leaves nothing.
    Abort,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Seen {
    List(Vec<u64>),
    Lists(Vec<(String, Vec<u64>)>),
    Count(i64),
    Nothing,
}

const LISTS: Collection<Vec<u64>> = Collection::new("lists", &[]);
const COUNTS: Counter = Counter::new("counts");
const SCAN_MAX: u32 = 100;
const OWN: &str = "list";

fn own() -> Result<Vec<u64>, Problem> {
    let stored = session::get(OWN).map_err(|error| broken(&error))?;
    Ok(stored.and_then(|list| serde_json::from_str(&list).ok()).unwrap_or_default())
}

fn broken(error: &impl std::fmt::Debug) -> Problem {
    Problem::new(503, "Try again").detail(format!("{error:?}"))
}

fn carry_out(operation: Operation) -> Result<Seen, Problem> {
    Ok(match operation {
        Operation::Append(key, element) => {
            let mut list = LISTS.get(&key)?.unwrap_or_default();
            list.push(element);
            LISTS.put(&key, &list)?;
            Seen::Nothing
        }
        Operation::Read(key) => Seen::List(LISTS.get(&key)?.unwrap_or_default()),
        Operation::Scan(prefix) => Seen::Lists(LISTS.scan(&storage::prefix(&prefix), SCAN_MAX, false)?),
        Operation::Add(key, bit) => {
            COUNTS.add(&key, bit).map_err(|error| broken(&error))?;
            Seen::Nothing
        }
        Operation::Count(key) => Seen::Count(COUNTS.get(&key).map_err(|error| broken(&error))?),
        Operation::AppendOwn(element) => {
            let mut list = own()?;
            list.push(element);
            session::set(OWN, &serde_json::to_string(&list).unwrap_or_default()).map_err(|error| broken(&error))?;
            Seen::Nothing
        }
        Operation::ReadOwn => Seen::List(own()?),
        Operation::Abort => return Err(Problem::new(409, "As asked")),
    })
}

struct Registers;

impl web::Guest for Registers {
    fn handle(request: Request) -> Response {
        web::answer(|| {
            let operations: Vec<Operation> = request.json()?;
            let seen: Vec<Seen> = operations.into_iter().map(carry_out).collect::<Result<_, _>>()?;
            Ok(web::json(&seen))
        })
    }
}

souk_sdk::export!(Registers: web::handler);
