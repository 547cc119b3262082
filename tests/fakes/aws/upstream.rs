//! The other side of the proxy: one request, one answer, over a connection of its own.
//!
//! Invariant: a request that is passed on is the client's own (method, target, headers, body), because its signature
//! covers them. moto learns the account from a further header, ministack from the access key.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::call::form;
use crate::fakes::http::{Request, Response};

/// An account at one of the servers; every [`super::Aws`] has one of its own.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The account's number, which is also the access key of someone who may do everything in it.
    pub account: String,
}

impl Upstream {
    /// Passes a request on as it is; panics when there is no answer, because then the fake is broken, not the client.
    pub fn forward(&self, request: &Request) -> Response {
        let asked = || format!("{} does not answer {} {}", self.address, request.method, request.path);
        self.exchange(request).unwrap_or_else(|error| panic!("{}: {error}", asked()))
    }

    /// Asks something of the query protocol as someone who may do everything.
    pub fn query(&self, service: &str, region: &str, parameters: &BTreeMap<String, String>) -> Response {
        self.ask(service, region, "POST", "/", &form(parameters))
    }

    /// Asks anything as someone who may do everything, whose signature nobody checks.
    pub fn ask(&self, service: &str, region: &str, method: &str, target: &str, body: &[u8]) -> Response {
        let header = |name: &str, value: String| (name.to_owned(), value);
        let kind = if target == "/" {
            "application/x-www-form-urlencoded; charset=utf-8"
        } else {
            "application/xml"
        };
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/{region}/{service}/aws4_request, SignedHeaders=host, Signature=0",
            self.account
        );
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        self.forward(&Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: vec![
                header("Host", self.address.to_string()),
                header("Content-Type", kind.to_owned()),
                header("Authorization", authorization),
            ],
            body: body.to_vec(),
        })
    }

    fn exchange(&self, request: &Request) -> std::io::Result<Response> {
        let mut stream = BufReader::new(TcpStream::connect(self.address)?);
        stream.get_ref().set_nodelay(true)?;
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(60)))?;
        let mark = if request.query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {}{mark}{} HTTP/1.1\r\n", request.method, request.path, request.query);
        let own = ["Connection", "Content-Length", "Transfer-Encoding", "Expect"];
        for (name, value) in request.headers.iter().filter(|(name, _)| !named(name, &own)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = request.body.len();
        let own = format!(
            "x-moto-account-id: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n",
            self.account
        );
        stream.get_mut().write_all(&[head.as_bytes(), own.as_bytes(), &request.body].concat())?;
        read(&mut stream)
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Response> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let status = line(stream)?.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    let mut response = Response { status, headers: Vec::new(), body: Vec::new() };
    let mut length = None;
    let mut chunked = false;
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse().map_err(|_| invalid())?),
            "transfer-encoding" => chunked = true,
            "connection" => {}
            _ => response.headers.push((name.to_owned(), value.trim().to_owned())),
        }
    }
    if chunked {
        loop {
            let size = usize::from_str_radix(&line(stream)?, 16).map_err(|_| invalid())?;
            let start = response.body.len();
            response.body.resize(start + size, 0);
            stream.read_exact(&mut response.body[start..])?;
            line(stream)?;
            if size == 0 {
                return Ok(response);
            }
        }
    } else if let Some(length) = length {
        response.body.resize(length, 0);
        stream.read_exact(&mut response.body)?;
    } else {
        stream.read_to_end(&mut response.body)?;
    }
    Ok(response)
}

fn named(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
