//! `POST /errand/{target}` with the kind as the body asks a plugin for an effect.
//! Of itself it carries out none, and takes no answer: both times in words that
//! erase what a terminal shows.

use souk_sdk::effects::{self, Completion, Failure, Order};
use souk_sdk::web::{self, Request, Response};

const ERASES: &str = "\u{1b}[2J\u{1b}[H\nnone\u{202e}";

struct Errand;

impl web::Guest for Errand {
    fn handle(request: Request) -> Response {
        let kind = String::from_utf8_lossy(&request.body).into_owned();
        match effects::request_json(request.param("target"), &kind, &format!("{kind}{ERASES}"), &ERASES) {
            Ok(()) => web::response(200, "text/plain", b"asked".to_vec()),
            Err(error) => web::response(422, "text/plain", format!("{error:?}").into_bytes()),
        }
    }
}

impl effects::Guest for Errand {
    fn perform(_order: Order) -> Result<Vec<u8>, Failure> {
        Err(Failure::Refused(ERASES.into()))
    }

    fn completed(_completion: Completion) -> Result<(), String> {
        Err(ERASES.into())
    }
}

souk_sdk::export!(Errand: web::handler, host::effect_handler);
