//! A name server that answers for whatever records it is shown: what the zones of a fake cloud say.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::{RData, Record, RecordType};

/// It stops when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers with the addresses that `look` has of a name (lower case, without the last dot).
    pub fn start(look: impl Fn(&str) -> Vec<IpAddr> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, asker)) = socket.recv_from(&mut buffer) else { continue };
                let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
                socket.send_to(&answer(&question, &look).to_vec().unwrap(), asker).unwrap();
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// For `SHIP_NAMESERVERS`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(question: &Message, look: &impl Fn(&str) -> Vec<IpAddr>) -> Message {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    for query in &question.queries {
        let name = query.name().to_ascii().to_ascii_lowercase();
        for address in look(name.trim_end_matches('.')) {
            let data = match address {
                IpAddr::V4(ip) => RData::A(ip.into()),
                IpAddr::V6(ip) => RData::AAAA(ip.into()),
            };
            if data.record_type() == query.query_type() || query.query_type() == RecordType::ANY {
                answer.answers.push(Record::from_rdata(query.name().clone(), 60, data));
            }
        }
    }
    answer
}
