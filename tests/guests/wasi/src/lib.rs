//! Written against the interfaces of WASI alone: a path for each thing that the
//! tests look at.

wit_bindgen::generate!({
    inline: "
        package souk-tests:wasi;

        world guest {
            import wasi:cli/stdout@0.2.12;
            import wasi:cli/stderr@0.2.12;
            import wasi:clocks/monotonic-clock@0.2.12;
            import wasi:clocks/wall-clock@0.2.12;
            import wasi:filesystem/preopens@0.2.12;
            import wasi:io/poll@0.2.12;
            import wasi:random/random@0.2.12;
            import wasi:sockets/tcp-create-socket@0.2.12;
            import wasi:http/outgoing-handler@0.2.12;
            import wasi:config/store@0.2.0-rc.1;
            import wasi:logging/logging@0.1.0-draft;
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:keyvalue/batch@0.2.0-draft2;
            export wasi:http/incoming-handler@0.2.12;
        }
    ",
    path: [
        "../../../host/adapters/wit/deps/io.wit",
        "../../../host/adapters/wit/deps/clocks.wit",
        "../../../host/adapters/wit/deps/filesystem.wit",
        "../../../host/adapters/wit/deps/random.wit",
        "../../../host/adapters/wit/deps/sockets.wit",
        "../../../host/adapters/wit/deps/cli.wit",
        "../../../host/adapters/wit/deps/http.wit",
        "../../../host/adapters/wit/deps/config",
        "../../../host/adapters/wit/deps/logging",
        "../../../host/adapters/wit/deps/keyvalue-draft",
        "../../../host/adapters/wit/deps/keyvalue-draft2",
    ],
    generate_all,
});

use exports::wasi::http::incoming_handler::Guest;
use wasi::cli::{stderr, stdout};
use wasi::clocks::{monotonic_clock, wall_clock};
use wasi::config::store as config;
use wasi::filesystem::preopens;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, HeaderError, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::keyvalue0_2_0_draft as draft;
use wasi::keyvalue0_2_0_draft2::{atomics, batch, store};
use wasi::logging::logging::{self, Level};
use wasi::random::random;
use wasi::sockets::network::IpAddressFamily;
use wasi::sockets::tcp_create_socket::create_tcp_socket;

struct Plugin;

export!(Plugin);

type Answer = (u16, Vec<(String, Vec<u8>)>, Vec<u8>);

impl Guest for Plugin {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap();
        let path = target.split('?').next().unwrap();
        let (status, headers, body) = match path.strip_prefix("/wasi/").unwrap() {
            "nothing" => return,
            "error" => return ResponseOutparam::set(out, Err(ErrorCode::ConfigurationError)),
            "half" => return half(out),
            "short" => return short(out),
            "large" => (200, Vec::new(), vec![b'x'; 9 << 20]),
            "count" => count(target.contains("fail")),
            "pairs" => told(pairs()),
            "config" => told(config_lines()),
            "log" => told(lines()),
            "clocks" => told(clocks()),
            "fields" => told(fields()),
            "absent" => told(absent()),
            "own" => fetch("shop.internal", "/wasi/echo/there?a=1", false),
            "foreign" => fetch("example.org", "/?secret=1", false),
            "after" => fetch("shop.internal", "/wasi/echo", true),
            _ => echo(&request, &target),
        };
        let fields = Fields::from_list(&headers).unwrap();
        let response = OutgoingResponse::new(fields);
        response.set_status_code(status).unwrap();
        let outgoing = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        write(&outgoing.write().unwrap(), &body);
        OutgoingBody::finish(outgoing, None).unwrap();
    }
}

fn told(text: String) -> Answer {
    (200, Vec::new(), text.into_bytes())
}

/// As the interface wants it: no more than is allowed at a time.
fn write(stream: &OutputStream, mut bytes: &[u8]) {
    let ready = stream.subscribe();
    while !bytes.is_empty() {
        ready.block();
        let allowed = stream.check_write().unwrap() as usize;
        let (now, later) = bytes.split_at(allowed.min(bytes.len()));
        stream.write(now).unwrap();
        bytes = later;
    }
    stream.flush().unwrap();
}

fn read(body: IncomingBody) -> Vec<u8> {
    let stream: InputStream = body.stream().unwrap();
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(1_000) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    assert!(trailers.get().unwrap().unwrap().unwrap().is_none());
    bytes
}

fn echo(request: &IncomingRequest, target: &str) -> Answer {
    let seen = request.headers().get("X-Asked").into_iter().next().unwrap_or_default();
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        _ => "?",
    };
    let method = match request.method() {
        Method::Get => "GET",
        Method::Post => "POST",
        _ => "?",
    };
    let body = read(request.consume().unwrap());
    assert!(request.consume().is_err(), "a body is taken once");
    let address = format!("{scheme}://{}", request.authority().unwrap());
    let length = body.len().to_string();
    let headers = [("x-plugin-method", method), ("x-plugin-target", target), ("x-plugin-address", &address), ("content-length", &length), ("content-type", "text/plain")];
    let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into();
    headers.push(("x-plugin-seen".into(), seen));
    (200, headers, body)
}

/// Answers, and does not end the body.
fn half(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    write(&body.write().unwrap(), b"half");
}

/// Another length than it announced.
fn short(out: ResponseOutparam) {
    let headers = Fields::new();
    headers.set("Content-Length", &[b"10".to_vec()]).unwrap();
    let response = OutgoingResponse::new(headers);
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    write(&body.write().unwrap(), b"short");
    assert!(matches!(OutgoingBody::finish(body, None), Err(ErrorCode::HttpResponseBodySize(Some(5)))));
}

fn count(fail: bool) -> Answer {
    let visits = atomics::increment(&store::open("visits").unwrap(), "page", 1).unwrap();
    (if fail { 500 } else { 200 }, Vec::new(), visits.to_string().into_bytes())
}

fn pairs() -> String {
    let bucket = store::open("").unwrap();
    for key in ["a", "b", "c"] {
        bucket.set(key, key.to_uppercase().as_bytes()).unwrap();
    }
    bucket.delete("b").unwrap();
    assert!(bucket.exists("a").unwrap() && !bucket.exists("b").unwrap());
    assert_eq!(bucket.get("c").unwrap(), Some(b"C".to_vec()));
    let many: Vec<(String, Vec<u8>)> = (0..250).map(|n| (format!("many-{n:03}"), Vec::new())).collect();
    batch::set_many(&bucket, &many).unwrap();
    let (mut keys, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bucket.list_keys(cursor.as_deref()).unwrap();
        keys.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert!(keys.is_sorted() && keys.len() == 252 && pages == 3, "{} keys in {pages} pages", keys.len());
    batch::delete_many(&bucket, &many.into_iter().map(|(key, _)| key).collect::<Vec<_>>()).unwrap();
    let got = batch::get_many(&bucket, &["a".to_owned(), "b".to_owned()]).unwrap();
    assert_eq!(got, [("a".to_owned(), Some(b"A".to_vec())), ("b".to_owned(), None)]);

    let cas = atomics::Cas::new(&bucket, "a").unwrap();
    assert_eq!(cas.current().unwrap(), Some(b"A".to_vec()));
    bucket.set("a", b"between").unwrap();
    let Err(atomics::CasError::CasFailed(again)) = atomics::swap(cas, b"lost") else { panic!("it was changed between") };
    atomics::swap(again, b"swapped").unwrap();

    // The other draft sees the same.
    let older = draft::store::open("default").unwrap();
    assert_eq!(older.get("a").unwrap(), Some(b"swapped".to_vec()));
    assert_eq!(older.list_keys(None).unwrap().keys, ["a", "c"]);
    assert_eq!(draft::atomics::increment(&older, "number", 40).unwrap(), 40);
    assert_eq!(atomics::increment(&bucket, "number", -50).unwrap(), -10);
    let not_a_number = atomics::increment(&bucket, "a", 1).unwrap_err();
    let bad_name = store::open("Not A Name").err().unwrap();
    format!("{not_a_number:?}\n{bad_name:?}")
}

fn config_lines() -> String {
    assert_eq!(config::get("unheard-of").unwrap(), None);
    let all = config::get_all().unwrap().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    format!("{} {}", config::get("greeting").unwrap().unwrap(), all.join(" "))
}

fn lines() -> String {
    logging::log(Level::Warn, "tests", "by wasi:logging");
    logging::log(Level::Trace, "", "not shown");
    let stderr = stderr::get_stderr();
    stderr.blocking_write_and_flush(b"in two ").unwrap();
    stderr.blocking_write_and_flush(b"parts\nwithout an end").unwrap();
    stdout::get_stdout().blocking_write_and_flush(b"on stdout\n").unwrap();
    String::from("done")
}

fn clocks() -> String {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let (before, day) = (monotonic_clock::now(), wall_clock::now());
    let (hour, day_long) = (monotonic_clock::subscribe_duration(HOUR_NS), monotonic_clock::subscribe_duration(24 * HOUR_NS));
    assert_eq!(wasi::io::poll::poll(&[&day_long, &hour]), [1], "the first to come");
    let waited = monotonic_clock::now() - before;
    assert!((HOUR_NS..2 * HOUR_NS).contains(&waited), "{waited}");
    let today = wall_clock::now();
    assert_eq!((day.seconds, day.nanoseconds), (today.seconds, today.nanoseconds));
    assert_eq!(random::get_random_bytes(100_000).len(), 100_000);
    assert_ne!(random::get_random_u64(), random::get_random_u64());
    day.seconds.to_string()
}

fn fields() -> String {
    let fields = Fields::new();
    for (name, value, wanted) in [
        ("connection", "close", HeaderError::Forbidden),
        ("Host", "evil.example", HeaderError::Forbidden),
        ("transfer-encoding", "chunked", HeaderError::Forbidden),
        ("a b", "x", HeaderError::InvalidSyntax),
        ("x", "a\r\nset-cookie: stolen=1", HeaderError::InvalidSyntax),
    ] {
        let refused = fields.append(name, value.as_bytes()).unwrap_err();
        assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&wanted), "{name}");
    }
    fields.append("X-Two", b"1").unwrap();
    fields.append("x-two", b"2").unwrap();
    assert_eq!(fields.get("x-TWO"), [b"1".to_vec(), b"2".to_vec()]);
    let copy = fields.clone();
    fields.delete("x-two").unwrap();
    assert!(!fields.has("x-two") && copy.has("x-two"));
    let request = OutgoingRequest::new(copy);
    assert!(matches!(request.headers().set("x", &[]), Err(HeaderError::Immutable)));
    assert!(request.set_path_with_query(Some("@evil.example/")).is_err());
    assert!(request.set_authority(Some("user@evil.example")).is_err());
    String::from("done")
}

fn absent() -> String {
    assert!(preopens::get_directories().is_empty());
    format!("{:?}", create_tcp_socket(IpAddressFamily::Ipv4).err().unwrap())
}

/// Posts to a host, after a write or before.
fn fetch(authority: &str, target: &str, write_first: bool) -> Answer {
    if write_first {
        store::open("visits").unwrap().set("x", b"1").unwrap();
    }
    let headers = Fields::from_list(&[("x-asked".to_owned(), b"by the plugin".to_vec()), ("content-length".to_owned(), b"4".to_vec())]).unwrap();
    let request = OutgoingRequest::new(headers);
    request.set_method(&Method::Post).unwrap();
    request.set_scheme(Some(&if authority == "shop.internal" { Scheme::Http } else { Scheme::Https })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(target)).unwrap();
    let body = request.body().unwrap();
    let answer = outgoing_handler::handle(request, None).unwrap();
    assert!(answer.get().is_none(), "its body has not been written");
    write(&body.write().unwrap(), b"ping");
    OutgoingBody::finish(body, None).unwrap();
    answer.subscribe().block();
    match answer.get().unwrap().unwrap() {
        Err(code) => told(format!("{code:?}")),
        Ok(response) => {
            let shown = |(name, _): &(String, Vec<u8>)| ["x-plugin-method", "x-plugin-target", "x-plugin-seen"].contains(&name.as_str());
            let headers = response.headers().entries().into_iter().filter(shown).collect();
            (response.status(), headers, read(response.consume().unwrap()))
        }
    }
}
