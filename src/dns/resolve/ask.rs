//! One question to one name server: the messages, over UDP, and over TCP where the answer is too long for that.
//!
//! Invariant: nothing but an answer to the very question that was sent is taken for one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sort {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Name servers.
    Ns,
    /// Whether a zone begins there.
    Soa,
    /// The parent's word on which keys sign the zone.
    Ds,
    /// The keys that sign the zone.
    Dnskey,
}

impl Sort {
    fn record_type(self) -> RecordType {
        match self {
            Sort::A => RecordType::A,
            Sort::Aaaa => RecordType::AAAA,
            Sort::Ns => RecordType::NS,
            Sort::Soa => RecordType::SOA,
            Sort::Ds => RecordType::DS,
            Sort::Dnskey => RecordType::DNSKEY,
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Full name without the last dot; empty for the root.
    pub name: String,
    /// What of it.
    pub sort: Sort,
    /// Whether the server should ask others if it doesn't know.
    pub recurse: bool,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose, lower case, without the last dot.
    pub name: String,
    /// What.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// The name behind a name.
    Cname(String),
    /// A name server.
    Ns(String),
    /// A zone begins here.
    Soa,
    /// A record of another type, by its name.
    Other(String),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// The name exists.
    Fine,
    /// It doesn't.
    NoSuchName,
    /// The server would not or could not say: `Query Refused`.
    Failed(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub code: Code,
    /// Whether the server speaks for the zone itself.
    pub authoritative: bool,
    /// What was asked for.
    pub answers: Vec<Entry>,
    /// Whom to ask instead.
    pub authorities: Vec<Entry>,
}

/// Asks one server, some times. The error is why there is no answer.
pub async fn ask(
    server: SocketAddr,
    question: &Question,
    per_try: Duration,
    tries: u32,
) -> Result<Answer, String> {
    let mut error = String::new();
    for _ in 0..tries.max(1) {
        match tokio::time::timeout(per_try, once(server, question)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(why)) => error = why,
            Err(_) => error = format!("no answer within {} s", per_try.as_secs_f32()),
        }
    }
    Err(error)
}

async fn once(server: SocketAddr, question: &Question) -> Result<Answer, String> {
    let (sent, bytes) = encode(question)?;
    let text = |error: std::io::Error| error.to_string();
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(local).await.map_err(text)?;
    socket.connect(server).await.map_err(text)?;
    socket.send(&bytes).await.map_err(text)?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(text)?;
        // Anything else may be somebody's guess: the answer can still come.
        let Some(answer) = buffer.get(..length).and_then(|bytes| decode(bytes, &sent)) else { continue };
        if !answer.metadata.truncation {
            return Ok(read(&answer));
        }
        let mut stream = TcpStream::connect(server).await.map_err(text)?;
        let length = u16::try_from(bytes.len()).map_err(|error| error.to_string())?;
        stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.map_err(text)?;
        let mut answer = vec![0; usize::from(stream.read_u16().await.map_err(text)?)];
        stream.read_exact(&mut answer).await.map_err(text)?;
        let answer = decode(&answer, &sent).ok_or("its answer over TCP makes no sense")?;
        return Ok(read(&answer));
    }
}

fn encode(question: &Question) -> Result<(Message, Vec<u8>), String> {
    let text = |error: &dyn std::fmt::Display| format!("`{}` can't be asked for: {error}", question.name);
    let name = Name::from_ascii(format!("{}.", question.name)).map_err(|error| text(&error))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = question.recurse;
    message.add_query(Query::query(name, question.sort.record_type()));
    let bytes = message.to_vec().map_err(|error| text(&error))?;
    Ok((message, bytes))
}

fn decode(bytes: &[u8], sent: &Message) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let matches = answer.metadata.id == sent.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == sent.queries;
    matches.then_some(answer)
}

fn read(answer: &Message) -> Answer {
    let entries = |records: &[hickory_proto::rr::Record]| {
        let entry = |record: &hickory_proto::rr::Record| Entry {
            name: plain(&record.name),
            data: data(&record.data),
        };
        records.iter().map(entry).collect()
    };
    Answer {
        code: match answer.metadata.response_code {
            ResponseCode::NoError => Code::Fine,
            ResponseCode::NXDomain => Code::NoSuchName,
            other => Code::Failed(other.to_string()),
        },
        authoritative: answer.metadata.authoritative,
        answers: entries(&answer.answers),
        authorities: entries(&answer.authorities),
    }
}

fn data(data: &RData) -> Data {
    match data {
        RData::A(ip) => Data::Address(ip.0.into()),
        RData::AAAA(ip) => Data::Address(ip.0.into()),
        RData::CNAME(name) => Data::Cname(plain(&name.0)),
        RData::NS(name) => Data::Ns(plain(&name.0)),
        RData::SOA(_) => Data::Soa,
        other => Data::Other(other.record_type().to_string()),
    }
}

fn plain(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}
