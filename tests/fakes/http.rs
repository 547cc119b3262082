//! A small HTTP/1.1 server that can misbehave on the wire: answer late, cut an answer short, close or reset instead.
//!
//! Not a crate, because a server that could do this is `hyper`'s, and turning that feature on for tests would compile
//! everything above hyper (the AWS SDK too) a second time.
//!
//! Invariant: one thread a connection, all of them gone when the server is dropped; a panic in a handler is kept and
//! fails the test then.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a client asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST…
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// The query as sent, without its question mark.
    pub query: String,
    /// As sent, in that order.
    pub headers: Vec<(String, String)>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(has, _)| has.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// What a client is answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers other than the length.
    pub headers: Vec<(String, String)>,
    /// The body; none with a 204.
    pub body: Vec<u8>,
}

/// How an answer is delivered.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// As it should be, that much later.
    Whole(Response, Duration),
    /// The head, half of the body, and then the end of the connection.
    Truncated(Response),
    /// The connection is closed without a word.
    Closed,
    /// The connection is reset (RST) without a word.
    Reset,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stop: bool,
    connections: Vec<(TcpStream, JoinHandle<()>)>,
    panics: Vec<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits that long, or until the server is dropped.
    fn hold(&self, how_long: Duration) {
        let state = self.lock();
        let wait = self.stopped.wait_timeout_while(state, how_long, |state| !state.stop);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1 and hands every request to `handler`, several at a time.
    pub fn start(handler: impl Fn(Request) -> Delivery + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listen on the loopback interface");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared::default());
        let handler = Arc::new(handler);
        let accepting = Arc::clone(&shared);
        let accept = move || {
            for stream in listener.incoming() {
                let mut state = accepting.lock();
                if state.stop {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let Ok(kept) = stream.try_clone() else { continue };
                let (shared, handler) = (Arc::clone(&accepting), Arc::clone(&handler));
                let connection = std::thread::spawn(move || serve(stream, &shared, handler.as_ref()));
                state.connections.retain(|(_, thread)| !thread.is_finished());
                state.connections.push((kept, connection));
            }
        };
        Self { address, shared, listener: Some(std::thread::spawn(accept)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and waits for their threads; says what panicked in a handler.
    pub fn stop(&mut self) -> Vec<String> {
        let Some(listener) = self.listener.take() else { return Vec::new() };
        let connections = {
            let mut state = self.shared.lock();
            state.stop = true;
            std::mem::take(&mut state.connections)
        };
        self.shared.stopped.notify_all();
        drop(TcpStream::connect(self.address)); // wakes the listener, which then sees the flag
        listener.join().expect("the listener's thread ends");
        for (stream, thread) in connections {
            drop(stream.shutdown(Shutdown::Both));
            thread.join().expect("a connection's thread ends");
        }
        std::mem::take(&mut self.shared.lock().panics)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        fail_with(&self.stop());
    }
}

/// Fails the test if something went wrong in a fake; one that fails already is only told.
pub fn fail_with(failures: &[String]) {
    if !failures.is_empty() {
        let failures = failures.join("\n");
        assert!(std::thread::panicking(), "the fake itself went wrong:\n{failures}");
        eprintln!("the fake itself went wrong, too:\n{failures}");
    }
}

/// One connection, request after request until either side has had enough.
fn serve(stream: TcpStream, shared: &Shared, handler: &(impl Fn(Request) -> Delivery + ?Sized)) {
    drop(stream.set_nodelay(true));
    let mut stream = BufReader::new(stream);
    while let Ok(Some(request)) = read(&mut stream) {
        let last = request.header("Connection").eq_ignore_ascii_case("close");
        let delivery = catch_unwind(AssertUnwindSafe(|| handler(request))).unwrap_or_else(|panic| {
            let message = panic_message(panic.as_ref());
            shared.lock().panics.push(message.clone());
            Delivery::Whole(
                Response { status: 500, headers: Vec::new(), body: message.into_bytes() },
                Duration::ZERO,
            )
        });
        let socket = stream.get_mut();
        match delivery {
            Delivery::Whole(response, late) => {
                if !late.is_zero() {
                    shared.hold(late);
                }
                if write(socket, &response, response.body.len()).is_err() || last {
                    return;
                }
            }
            Delivery::Truncated(response) => {
                drop(write(socket, &response, response.body.len() / 2));
                return drop(socket.shutdown(Shutdown::Both));
            }
            Delivery::Closed => return drop(socket.shutdown(Shutdown::Both)),
            Delivery::Reset => {
                drop(socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO)));
                // A socket is reset when its last descriptor is closed, and the server holds another one.
                let here = socket.peer_addr().ok();
                shared.lock().connections.retain(|(kept, _)| kept.peer_addr().ok() != here);
                return;
            }
        }
    }
}

/// What a panic said.
pub fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic".into())
}

/// The next request; nothing when the client has closed.
fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let start = line(stream)?;
    if start.is_empty() {
        return Ok(None);
    }
    let mut words = start.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(invalid()) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(invalid)?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    if request.header("Expect").eq_ignore_ascii_case("100-continue") {
        stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("Transfer-Encoding").eq_ignore_ascii_case("chunked") {
        loop {
            let size = usize::from_str_radix(line(stream)?.trim(), 16).map_err(|_| invalid())?;
            let start = request.body.len();
            request.body.resize(start + size, 0);
            stream.read_exact(&mut request.body[start..])?;
            line(stream)?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = request.header("Content-Length");
        request.body = vec![0; if length.is_empty() { 0 } else { length.parse().map_err(|_| invalid())? }];
        stream.read_exact(&mut request.body)?;
    }
    Ok(Some(request))
}

/// One line without its end; empty at the end of the stream.
fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// Writes a response, but only that much of its body.
fn write(stream: &mut TcpStream, response: &Response, body: usize) -> std::io::Result<()> {
    let mut bytes = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status)).into_bytes();
    for (name, value) in &response.headers {
        bytes.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    if response.status != 204 {
        bytes.extend(format!("Content-Length: {}\r\n", response.body.len()).into_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(&response.body[..body]);
    stream.write_all(&bytes)?;
    stream.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}
