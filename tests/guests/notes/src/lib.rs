//! Keeps notes. What it knows of their forms is a setting, so that one
//! component serves as two versions: the first has text alone, the second has
//! put it into a body.

use serde::{Deserialize, Serialize};
use souk_sdk::host::data_migrate;
use souk_sdk::storage::{self, Collection, CollectionError};
use souk_sdk::web::{self, Problem, Request, Response};
use souk_sdk::{config, data};

/// A few, so that a migration takes many units.
const AT_ONCE: u32 = 10;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Note {
    First { text: String },
    Second { body: Body },
}

#[derive(Serialize, Deserialize)]
struct Body {
    text: String,
}

const NOTES: Collection<Note> = Collection::new("notes", &[]);

impl Note {
    fn new(text: String, form: u32) -> Self {
        if form == 1 { Note::First { text } } else { Note::Second { body: Body { text } } }
    }

    fn into_text(self, knows: u32) -> String {
        match self {
            Note::First { text } => text,
            Note::Second { body } => {
                assert!(knows >= 2, "the first version cannot read this");
                body.text
            }
        }
    }
}

#[derive(Deserialize)]
struct Settings {
    knows: u32,
}

fn knows() -> u32 {
    config::load::<Settings>().map_or(1, |settings| settings.knows)
}

/// The unit cannot go on without.
fn form() -> u32 {
    data::form().unwrap_or_else(|error| panic!("{error}"))
}

struct Notes;

impl web::Guest for Notes {
    fn handle(request: Request) -> Response {
        web::answer(|| {
            let (key, knows) = (request.param("key"), knows());
            if request.method == "POST" {
                // The version that knows one form alone asks nobody.
                let form = if knows == 1 { 1 } else { form() };
                NOTES.put(key, &Note::new(String::from_utf8_lossy(&request.body).into_owned(), form))?;
            }
            match NOTES.get(key)? {
                Some(note) => Ok(web::html(note.into_text(knows))),
                None => Err(Problem::new(404, "No such note")),
            }
        })
    }
}

impl data_migrate::Guest for Notes {
    fn migrate(cursor: String) -> Result<Option<String>, String> {
        rewrite(&cursor).map_err(|error| error.to_string())
    }
}

fn rewrite(cursor: &str) -> Result<Option<String>, CollectionError> {
    let form = form();
    let notes = NOTES.scan(&storage::after(Some(cursor)), AT_ONCE, false)?;
    let next = notes.last().map(|(key, _)| key.clone());
    for (key, note) in notes {
        NOTES.put(&key, &Note::new(note.into_text(2), form))?;
    }
    Ok(next)
}

souk_sdk::export!(Notes: web::handler, host::data_migrate);
