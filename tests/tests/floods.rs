//! Clients that mean harm to the server itself, while shoppers look and fill
//! carts: these must be served, every hostile connection must be ended by the
//! server, and its memory must come back.

use std::net::SocketAddr;
use std::time::Duration;

use souk_tests::process::open_files;
use souk_tests::shoppers::Shoppers;
use souk_tests::{Shop, client, limit, store};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// So short that a test sees them pass.
const LIMITS: &str = "
header-timeout-ms = 3000
body-idle-timeout-ms = 1500
body-timeout-ms = 3000
write-timeout-ms = 1500
connections-max = 400
";

/// Of the server, above what it had before.
const GROWTH_MIB_MAX: f64 = 64.0;
/// Between two bytes of a slow client: far below every limit.
const DRIP: Duration = Duration::from_millis(100);

async fn besieged(limits: &str, siege: impl AsyncFnOnce(&Shop, SocketAddr)) {
    let folder = store();
    limit(&folder, limits);
    let shop = Shop::serve(folder);
    let shoppers = Shoppers::enter(&shop).await;
    // What a shop takes when it gets to work is not of the siege.
    shoppers.until_served(300).await;
    let resident_mib = shop.resident_mib();
    siege(&shop, shop.url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    shoppers.leave().await;
    shop.until_metric("souk_http_connections", |connections| connections == 0.0).await;
    let grown = shop.resident_mib() - resident_mib;
    assert!(grown < GROWTH_MIB_MAX, "{grown:.0} MiB more than before");
}

/// All that the server sends until it ends the connection.
async fn rest(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset ends it too.
    let _ = tokio::time::timeout(Duration::from_secs(120), stream.read_to_end(&mut all)).await.expect("the server ends the connection");
    all
}

async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it took everything.
    let _ = stream.write_all(bytes).await;
    rest(stream).await
}

/// Sends the head, then the drip again and again, until the server ends it.
async fn drip(address: SocketAddr, head: &[u8], drip: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head).await.unwrap();
    let (reading, mut writing) = stream.split();
    let dripping = async {
        loop {
            tokio::time::sleep(DRIP).await;
            if writing.write_all(drip).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        answer = rest(reading) => answer,
        () = dripping => unreachable!(),
    }
}

fn starts(answer: &[u8], status: &str) -> bool {
    answer.strip_prefix(b"HTTP/1.1 ").is_some_and(|rest| rest.starts_with(status.as_bytes()))
}

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(400)]).into_owned()
}

/// Requests of which pieces were exchanged by chance; a failure names the seed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bytes_come_are_answered_or_hung_up_on() {
    const REQUESTS: u64 = 2_000;
    const WHOLE: [&str; 4] = [
        "GET /en/products?page=2&sort=price HTTP/1.1\r\nhost: a\r\naccept-encoding: br;q=0.5, gzip\r\naccept-language: zh, en;q=0.8\r\ncookie: souk=x.y; souk_locale=zh-CN\r\nif-none-match: \"x\"\r\nconnection: close\r\n\r\n",
        "POST /api/v1/carts/none/lines HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\nidempotency-key: 6a0f2c1e-93b7-4d58-8e21-7f4c5b6d9a03\r\ncontent-length: 27\r\nconnection: close\r\n\r\n{\"sku\":\"x\",\"quantity\":1.50}",
        "POST /en/cart/lines HTTP/1.1\r\nhost: a\r\norigin: http://a\r\ncontent-type: application/x-www-form-urlencoded\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nsku=x\r\na\r\n&quantity=\r\n0\r\n\r\n",
        "GET /media/..%2f..%2fsouk.toml HTTP/1.1\r\nhost: a\r\nrange: bytes=0-9,5-\r\nconnection: close\r\n\r\n",
    ];
    besieged(LIMITS, async |_, address| {
        let mut clients = JoinSet::new();
        for seed in 0..REQUESTS {
            if clients.len() >= 100 {
                clients.join_next().await.unwrap().unwrap();
            }
            clients.spawn(async move {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut bytes = WHOLE[rng.usize(..WHOLE.len())].as_bytes().to_vec();
                for _ in 0..rng.usize(1..6) {
                    let start = rng.usize(..bytes.len());
                    let end = (start + rng.usize(..8)).min(bytes.len());
                    let piece: Vec<u8> = (0..rng.usize(..8)).map(|_| if rng.bool() { rng.u8(..) } else { *rng.choice(b"\r\n :;,%/\0\"0fF").unwrap() }).collect();
                    bytes.splice(start..end, piece);
                }
                let answer = raw(address, &bytes).await;
                assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "seed {seed}: {}", text(&answer));
                assert!(!starts(&answer, "500"), "seed {seed}: {}", text(&answer));
            });
        }
        clients.join_all().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_senders_are_let_go() {
    besieged(LIMITS, async |_, address| {
        let mut slow = JoinSet::new();
        for _ in 0..80 {
            slow.spawn(async move {
                let answer = drip(address, b"GET /en HTTP/1.1\r\nhost: a\r\nx-slow: ", b"a").await;
                assert!(answer.is_empty(), "{}", text(&answer));
            });
            slow.spawn(async move {
                let answer = drip(address, b"POST /api/v1/carts HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n", b"a").await;
                assert!(starts(&answer, "408"), "{}", text(&answer));
            });
            slow.spawn(async move {
                let answer = drip(address, b"POST /api/v1/carts HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n").await;
                assert!(starts(&answer, "408"), "{}", text(&answer));
            });
            // Nothing at all.
            slow.spawn(async move { assert!(raw(address, b"").await.is_empty()) });
        }
        slow.join_all().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_and_those_within_go_on() {
    besieged(&LIMITS.replace("= 400", "= 48"), async |shop, address| {
        let files = open_files(shop.pid()).unwrap();
        let mut idle = JoinSet::new();
        for _ in 0..200 {
            idle.spawn(async move { assert!(raw(address, b"").await.is_empty()) });
        }
        shop.until_metric("souk_http_connections", |connections| connections >= 47.0).await;
        let crowded = open_files(shop.pid()).unwrap();
        assert!(crowded <= files + 48, "{crowded} files, {files} before");
        // Stands behind all of them.
        let newcomer = client().get(format!("{}/en", shop.url)).send().await.unwrap();
        assert_eq!(newcomer.status(), 200);
        drop(newcomer);
        idle.join_all().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_given_up() {
    besieged(LIMITS, async |shop, address| {
        let mut deaf = Vec::new();
        for _ in 0..50 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4 << 10).unwrap();
            let stream = socket.connect(address).await.unwrap();
            // More than all buffers on the way hold.
            let requests = "GET /en/products HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2_000);
            let _ = stream.try_write(requests.as_bytes());
            deaf.push(stream);
        }
        // The shoppers' own stay.
        shop.until_metric("souk_http_connections", |connections| connections < 50.0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused() {
    besieged(LIMITS, async |_, address| {
        let pad = "y".repeat(60_000);
        let many: String = (0..2_000).map(|i| format!("x-{i}: 1\r\n")).collect();
        let post = "POST /api/v1/carts HTTP/1.1\r\nhost: a\r\n";
        let chunks = format!("ea60\r\n{pad}\r\n").repeat(100);
        let cases = [
            ("431", format!("GET /en HTTP/1.1\r\nhost: a\r\nx: {pad}\r\n\r\n")),
            ("431", format!("GET /en HTTP/1.1\r\nhost: a\r\n{many}\r\n")),
            ("431", format!("GET /en HTTP/1.1\r\nhost: a\r\ncookie: {}\r\n\r\n", "souk=1; ".repeat(8_000))),
            ("4", format!("GET /{pad} HTTP/1.1\r\nhost: a\r\n\r\n")),
            ("4", format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "G".repeat(60_000))),
            ("413", format!("{post}content-length: 1073741824\r\n\r\n{pad}")),
            ("400", format!("{post}content-length: 18446744073709551616\r\n\r\n{pad}")),
            ("413", format!("{post}transfer-encoding: chunked\r\n\r\n{chunks}")),
            ("4", format!("{post}transfer-encoding: chunked\r\n\r\n1;{pad}\r\na\r\n0\r\n\r\n")),
            ("4", format!("{post}transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: {pad}\r\n\r\n")),
        ];
        let mut clients = JoinSet::new();
        for (status, case) in cases {
            for _ in 0..20 {
                let case = case.clone();
                clients.spawn(async move {
                    let answer = raw(address, case.as_bytes()).await;
                    // What the server did not take may reset the connection before the answer is read.
                    assert!(answer.is_empty() || starts(&answer, status), "{}… → {}", text(case.as_bytes()), text(&answer));
                });
            }
        }
        clients.join_all().await;
    })
    .await;
}

/// Two servers on the way of a request must not see different ends of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_hides_in_another() {
    const SMUGGLED: &str = "GET /api/v1/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";
    const SEEN: &str = "souk_http_requests_total{plugin=\"api\",route=\"openapi\"";
    besieged(LIMITS, async |shop, address| {
        let (post, chunked) = ("POST /api/v1/carts HTTP/1.1\r\nhost: a\r\n", "transfer-encoding: chunked\r\n");
        let refused = [
            format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nabcde"),
            format!("{post}content-length: 5, 6\r\n\r\nabcde"),
            format!("{post}content-length: +5\r\n\r\nabcde"),
            format!("{post}content-length: -5\r\n\r\nabcde"),
            format!("{post}content-length: 0x5\r\n\r\nabcde"),
            format!("{post}content-length: 5 5\r\n\r\nabcde"),
            format!("{post}content-length: \r\n\r\n"),
            format!("{post}content-length : 5\r\n\r\nabcde"),
            format!("{post}content-length: 5\0\r\n\r\nabcde"),
            format!("{post}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            format!("{post}{chunked}transfer-encoding: identity\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding\r\n: chunked\r\n\r\n0\r\n\r\n"),
            format!("POST /api/v1/carts HTTP/1.0\r\nhost: a\r\n{chunked}\r\n0\r\n\r\n"),
            format!("{post}content-length: 5\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
            format!("{post}{chunked}\r\n-1\r\nabc\r\n0\r\n\r\n"),
            format!("{post}{chunked}\r\n0x1\r\na\r\n0\r\n\r\n"),
            format!("{post}{chunked}\r\nffffffffffffffffff\r\nabc\r\n"),
            format!("{post}{chunked}\r\n10000000000000001\r\na\r\n0\r\n\r\n"),
            format!("{post}{chunked}\r\n1\na\n0\n\n"),
            format!("{post}{chunked}\r\n1;a\nb\r\na\r\n0\r\n\r\n"),
            format!("{post}{chunked}\r\n1\r\nabc\r\n0\r\n\r\n"),
            format!("{post}x: y\r\n z: folded\r\n\r\n"),
            format!("{post}x: y\0z\r\n\r\n"),
            format!("{post}x: y\rcontent-length: 5\r\n\r\nabcde"),
            format!("{post}: nameless\r\n\r\n"),
            format!("{post}x y: z\r\n\r\n"),
            "GET /en HTTP/1.1\r\n host: a\r\n\r\n".into(),
            "GET /en HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into(),
            "GET /en HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".into(),
            "GET /en HTTP/1.1\r\n\r\n".into(),
            "GET http://b/en HTTP/1.1\r\nhost: a\r\n\r\n".into(),
            "GET http://b/en HTTP/1.1\r\n\r\n".into(),
            "GET /en HTTP/1.1 HTTP/1.1\r\nhost: a\r\n\r\n".into(),
            "GET /en\r\nhost: a\r\n\r\n".into(),
            "GET /en HTTP/1.9\r\nhost: a\r\n\r\n".into(),
            "GET  /en HTTP/1.1\r\nhost: a\r\n\r\n".into(),
        ];
        for case in refused {
            let answer = raw(address, format!("{case}{SMUGGLED}").as_bytes()).await;
            assert!(answer.is_empty() || starts(&answer, "400"), "{case:?} → {}", text(&answer));
            assert_eq!(shop.metric(SEEN).await, 0.0, "{case:?}");
        }
        // Answered, but then it ends: RFC 9112 lets the chunks count and wants
        // the connection closed.
        for case in [format!("{post}content-length: 4\r\n{chunked}\r\n0\r\n\r\n"), format!("{post}{chunked}content-length: 4\r\n\r\n0\r\n\r\n")] {
            raw(address, format!("{case}{SMUGGLED}").as_bytes()).await;
            assert_eq!(shop.metric(SEEN).await, 0.0, "{case:?}");
        }
        // A line may end with a bare line feed (RFC 9112 section 2.2), and then
        // does so for every rule about lengths.
        for case in [
            "POST /api/v1/carts HTTP/1.1\nhost: a\nx: y\ncontent-length: 5\ncontent-length: 6\n\nabcde",
            "POST /api/v1/carts HTTP/1.1\r\nhost: a\r\nx: y\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        ] {
            let answer = raw(address, format!("{case}{SMUGGLED}").as_bytes()).await;
            assert!(starts(&answer, "400"), "{case:?} → {}", text(&answer));
            assert_eq!(shop.metric(SEEN).await, 0.0, "{case:?}");
        }
        // No way to HTTP/2 past a proxy that knows only HTTP/1.
        let upgrade =
            "GET /en HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n";
        let answer = raw(address, upgrade.as_bytes()).await;
        assert!(starts(&answer, "200"), "{}", text(&answer));
        // That it would have been seen: two honest requests in a row are two.
        raw(address, format!("GET /en HTTP/1.1\r\nhost: a\r\n\r\n{SMUGGLED}").as_bytes()).await;
        assert_eq!(shop.metric(SEEN).await, 1.0);
    })
    .await;
}

/// HTTP/2 by hand, since no client library sends what is sent here.
mod http2 {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    pub const UNKNOWN: u8 = 0xbe;

    pub const NONE: u8 = 0;
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// What a client begins with.
    pub fn opening(settings: &[(u16, u32)]) -> Vec<u8> {
        let settings: Vec<u8> = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, NONE, 0, &settings)[..]].concat()
    }

    /// A header block (RFC 7541): static entries, and literals under indexed names.
    pub fn block(method: u8, path: &str) -> Vec<u8> {
        const SCHEME_HTTP: u8 = 0x86;
        const AUTHORITY: u8 = 0x01;
        const PATH: u8 = 0x04;
        [&[method, SCHEME_HTTP, AUTHORITY, 1, b'a', PATH, path.len() as u8], path.as_bytes()].concat()
    }

    pub const GET: u8 = 0x82;
    pub const POST: u8 = 0x83;

    pub fn get(stream: u32, path: &str) -> Vec<u8> {
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(GET, path))
    }

    /// One entry as large as the table for each request, named again and again.
    pub fn bomb(stream: u32) -> Vec<u8> {
        let mut bomb = block(GET, "/en");
        let value = [b'y'; 4_000];
        // With indexing, a new name, and the value's length as an integer of 7 bits and more.
        bomb.extend([0x40, 1, b'x', 0x7f]);
        let rest = value.len() - 0x7f;
        bomb.extend([(rest % 128) as u8 | 0x80, (rest / 128) as u8]);
        bomb.extend(value);
        bomb.extend([0x80 | 62; 12_000]);
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &bomb)
    }
}

use http2::*;

/// No flood gets so far.
const FLOOD_BYTES_MAX: usize = 512 << 20;

/// Sends wave after wave, as fast as the server takes them, until it ends the
/// connection.
async fn flood(address: SocketAddr, name: &str, reads: bool, first: Vec<u8>, wave: impl Fn(u32) -> Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&first).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let flooding = async {
        let mut sent = 0;
        for number in 0.. {
            let wave = wave(number);
            if writing.write_all(&wave).await.is_err() {
                break;
            }
            sent += wave.len();
            assert!(sent < FLOOD_BYTES_MAX, "{name}: the server takes all of it");
        }
    };
    let drained = async {
        if !reads {
            std::future::pending::<()>().await;
        }
        let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
    };
    let ended = async {
        tokio::select! {
            () = flooding => {}
            () = drained => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(120), ended).await.unwrap_or_else(|_| panic!("{name}: the server ends the connection"));
}

/// Odd numbers of clients' streams, from the second on.
fn nth(number: u32) -> u32 {
    3 + number * 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_the_connection() {
    type Wave = fn(u32) -> Vec<u8>;
    let waves: [(&str, Vec<u8>, Wave); 10] = [
        // CVE-2023-44487: the server works on what nobody waits for.
        ("resets", Vec::new(), |n| [get(nth(n), "/api/v1/products"), frame(RST_STREAM, NONE, nth(n), &[0, 0, 0, 8])].concat()),
        ("continuations", frame(HEADERS, END_STREAM, 1, &block(GET, "/en")), |_| frame(CONTINUATION, NONE, 1, &[0, 1, b'x', 1, b'y']).repeat(100)),
        ("empty continuations", frame(HEADERS, END_STREAM, 1, &block(GET, "/en")), |_| frame(CONTINUATION, NONE, 1, &[]).repeat(100)),
        ("settings", Vec::new(), |_| frame(SETTINGS, NONE, 0, &[]).repeat(100)),
        ("pings", Vec::new(), |_| frame(PING, NONE, 0, b"souksouk").repeat(100)),
        ("priorities", Vec::new(), |n| frame(PRIORITY, NONE, nth(n), &[0, 0, 0, 0, 1]).repeat(100)),
        ("window updates", Vec::new(), |_| frame(WINDOW_UPDATE, NONE, 0, &[0, 0, 0, 1]).repeat(100)),
        ("unknown frames", Vec::new(), |_| frame(UNKNOWN, NONE, 0, b"souksouk").repeat(100)),
        ("empty data", frame(HEADERS, END_HEADERS, 1, &block(POST, "/api/v1/carts")), |_| frame(DATA, NONE, 1, &[]).repeat(100)),
        ("bombs", Vec::new(), |n| bomb(nth(n))),
    ];
    besieged(LIMITS, async |_, address| {
        let mut floods = JoinSet::new();
        for (name, first, wave) in waves {
            for reads in [true, false] {
                floods.spawn(flood(address, name, reads, [opening(&[]), first.clone()].concat(), wave));
            }
        }
        floods.join_all().await;
    })
    .await;
}

/// The patient sibling of the flood of resets: each request is begun before it
/// is taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_taken_back_for_ever_end_the_connection() {
    const STREAMS: u32 = 90;
    besieged(LIMITS, async |_, address| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&opening(&[])).await.unwrap();
        for wave in 0..1_000 {
            // More than can be answered while the pong is on its way.
            let streams = || (0..STREAMS).map(|number| nth(wave * STREAMS + number));
            let mut begun: Vec<u8> = streams().flat_map(|stream| get(stream, "/api/v1/products?limit=100")).collect();
            begun.extend(frame(PING, NONE, 0, b"souksouk"));
            if stream.write_all(&begun).await.is_err() || !until_pong(&mut stream).await {
                return;
            }
            let taken_back: Vec<u8> = streams().flat_map(|stream| frame(RST_STREAM, NONE, stream, &[0, 0, 0, 8])).collect();
            let _ = stream.write_all(&taken_back).await;
        }
        panic!("the server goes on and on");
    })
    .await;
}

/// False where the connection ended.
async fn until_pong(stream: &mut TcpStream) -> bool {
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return false;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if stream.read_exact(&mut vec![0; length]).await.is_err() {
            return false;
        }
        if (head[3], head[4]) == (PING, ACK) {
            return true;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_window_to_go_through_are_given_up() {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    let closed = opening(&[(INITIAL_WINDOW_SIZE, 0)]);
    let requests: Vec<u8> = (0..100).flat_map(|number| get(nth(number), "/en/products")).collect();
    let stalled = [closed, requests].concat();
    besieged(LIMITS, async |_, address| {
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let one = stalled.clone();
            clients.spawn(async move { drop(raw(address, &one).await) });
            // A byte at a time, and a ping to look alive.
            let one = stalled.clone();
            clients.spawn(async move {
                let byte = [frame(WINDOW_UPDATE, NONE, nth(0), &[0, 0, 0, 1]), frame(PING, NONE, 0, b"souksouk")].concat();
                drop(drip(address, &one, &byte).await);
            });
        }
        clients.join_all().await;
    })
    .await;
}
