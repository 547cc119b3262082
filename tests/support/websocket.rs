//! A websocket client of text frames (RFC 6455), small enough to see every byte.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// An open websocket to port 80 of a box. A thread reads it: a server closes one whose pings nobody answers.
pub struct WebSocket {
    stream: TcpStream,
    said: Receiver<String>,
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        // The thread has a handle of its own.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl WebSocket {
    /// Opens it; panics with the server's answer if that is no upgrade.
    #[track_caller]
    pub fn open(host: &str, path: &str) -> Self {
        let mut stream = TcpStream::connect((host, 80)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket"); // for the answer to this
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://{host}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("send");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
            answer.push(byte[0]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 101"), "{path}: {answer}");
        stream.set_read_timeout(None).expect("a socket");
        let (say, said) = channel();
        let reader = stream.try_clone().expect("a socket");
        std::thread::spawn(move || read(reader, &say));
        Self { stream, said }
    }

    /// Sends a text.
    pub fn send(&mut self, text: &str) {
        let length = u8::try_from(text.len()).expect("a short text");
        assert!(length < 126);
        // The mask of zeros leaves the text as it is.
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).expect("send a frame");
    }

    /// The next text, or how the other side closed: `closed 1012`, `closed` without a word.
    pub fn read(&self) -> String {
        self.said.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|error| error.to_string())
    }

    /// Sends a text and returns what comes back.
    pub fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.read()
    }
}

/// Tells all texts and the end, and answers pings.
fn read(mut stream: TcpStream, say: &Sender<String>) {
    loop {
        let said = match frame(&mut stream) {
            Ok((0x1, body)) => String::from_utf8_lossy(&body).into_owned(),
            Ok((0x8, body)) => {
                let code = body.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                let _ = say.send(format!("closed {}", code.unwrap_or(0)));
                return;
            }
            Ok((0x9, body)) => {
                let mut pong = vec![0x8a, 0x80 | u8::try_from(body.len()).expect("a short ping"), 0, 0, 0, 0];
                pong.extend(body);
                // If it is closed, the next frame tells.
                let _ = stream.write_all(&pong);
                continue;
            }
            Ok(_) => continue,
            Err(_) => {
                let _ = say.send("closed".into());
                return;
            }
        };
        if say.send(said).is_err() {
            return;
        }
    }
}

fn frame(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let [kind, length] = head;
    let length = match length & 0x7f {
        126 => {
            let mut long = [0; 2];
            stream.read_exact(&mut long)?;
            usize::from(u16::from_be_bytes(long))
        }
        short => usize::from(short),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((kind & 0x0f, body))
}
