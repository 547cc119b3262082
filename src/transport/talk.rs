//! Two scripts in one session: the second is sent once this side has read what the first one said. That saves a channel, a
//! process on the server and two round trips.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use super::command::{followed, following};
use super::error::TransportError;
use super::ssh::{Session, nonce};
use super::{Exec, Flow, OnOutput, Output, Stdin, Stream};
use crate::shell::Script;

/// How much of the second script waits to be sent.
const BUFFER: usize = 64 * 1024;

/// A session with its first script begun.
pub struct Talk<'a> {
    session: &'a Session,
    work: Pin<Box<dyn Future<Output = Result<Option<i32>, TransportError>> + Send + 'a>>,
    heard: mpsc::UnboundedReceiver<(Stream, Bytes)>,
    stdin: DuplexStream,
    marker: String,
}

impl<'a> Talk<'a> {
    /// Begins with a script that runs as root and reads nothing.
    pub fn begin(session: &'a Session, first: &Script) -> Self {
        let marker = format!("ship-then-{}", nonce());
        let script = followed(first, &marker);
        let (stdin, mut reader) = tokio::io::duplex(BUFFER);
        let (say, heard) = mpsc::unbounded_channel();
        let work = Box::pin(async move {
            let mut on_output =
                |stream: Stream, piece: &[u8]| match say.send((stream, Bytes::copy_from_slice(piece))) {
                    Ok(()) => Flow::Continue,
                    Err(_) => Flow::Stop,
                };
            session.stream(Exec::as_root(&script).stdin(Stdin::Stream(&mut reader)), &mut on_output).await
        });
        Self { session, work, heard, stdin, marker }
    }

    /// What the first script said, and the talk, unless it is over: only then is the status known.
    pub async fn answer(mut self) -> Result<(Output, Option<Self>), TransportError> {
        let end = format!("\n{}\n", self.marker).into_bytes();
        let mut output = Output::default();
        loop {
            let (heard, ended) = tokio::select! {
                biased;
                heard = self.heard.recv() => (heard, None),
                ended = &mut self.work => (None, Some(ended?)),
            };
            let mut pieces: Vec<(Stream, Bytes)> = heard.into_iter().collect();
            while let Ok(piece) = self.heard.try_recv() {
                pieces.push(piece);
            }
            for (stream, piece) in pieces {
                match stream {
                    Stream::Out => output.stdout.extend_from_slice(&piece),
                    Stream::Err => output.stderr.extend_from_slice(&piece),
                }
            }
            if output.stdout.ends_with(&end) {
                output.stdout.truncate(output.stdout.len() - end.len());
                return Ok((output, ended.is_none().then_some(self)));
            }
            if let Some(status) = ended {
                output.status = status.unwrap_or_default();
                return Ok((output, None));
            }
        }
    }

    /// Runs the second script and hands over what it says as it comes. `None`: `on_output` stopped it.
    pub async fn go_on(
        self,
        script: &Script,
        stdin: Stdin<'_>,
        on_output: OnOutput<'_>,
    ) -> Result<Option<i32>, TransportError> {
        let Self { session, mut work, mut heard, stdin: into, .. } = self;
        let mut sending = std::pin::pin!(send(into, script, stdin));
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                Some((stream, piece)) = heard.recv() => {
                    if on_output(stream, &piece) == Flow::Stop {
                        return Ok(None);
                    }
                }
                ended = &mut work => {
                    while let Ok((stream, piece)) = heard.try_recv() {
                        if on_output(stream, &piece) == Flow::Stop {
                            return Ok(None);
                        }
                    }
                    return ended;
                }
                done = &mut sending, if !sent => {
                    sent = true;
                    done.map_err(|source| session.local_input(source))?;
                }
            }
        }
    }

    /// Ends it: nothing follows the first script.
    pub async fn hang_up(self) {
        let Self { mut work, stdin, .. } = self;
        drop(stdin);
        // Long enough to tell the server, which ends it by itself.
        tokio::select! {
            biased;
            _ = &mut work => {}
            () = tokio::task::yield_now() => {}
        }
    }
}

/// Sends the second script and what it reads.
async fn send(mut into: DuplexStream, script: &Script, stdin: Stdin<'_>) -> io::Result<()> {
    // Whoever no longer listens says so by how the session ends.
    let _ = into.write_all(&following(script)?).await;
    match stdin {
        Stdin::Empty => {}
        Stdin::Bytes(bytes) => drop(into.write_all(&bytes).await),
        Stdin::Stream(stream) => {
            let mut chunk = vec![0; BUFFER];
            loop {
                let size = stream.read(&mut chunk).await?;
                let Some(piece) = chunk.get(..size).filter(|piece| !piece.is_empty()) else { break };
                if into.write_all(piece).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}
