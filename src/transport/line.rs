//! A byte stream that notices when the other side has gone silent.
//!
//! russh can only time a whole write of up to two megabytes, so on a slow uplink its own inactivity timeout kills
//! healthy uploads, and without it a frozen server hangs them. Here any byte that moves is a sign of life. Invariant:
//! what is silent is the server, never this process: time in which nobody polled does not count.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How often the server is asked for a sign of life.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(4);
/// How long it may stay silent.
pub(super) const SILENCE: Duration = Duration::from_secs(12);
/// A pause between two polls that only a busy client explains: the keep-alive alone wakes it more often.
const ABSENT: Duration = Duration::from_secs(6);

/// What is known of a line, shared with whoever holds the connection.
#[derive(Debug, Default)]
pub(super) struct Life {
    armed: AtomicBool,
    received: AtomicU64,
    silent: AtomicBool,
}

impl Life {
    /// Starts to insist on signs of life: something must ask for them from now on.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// How many bytes have come.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the line was given up for its silence.
    pub(super) fn silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }
}

/// A stream that fails with `TimedOut` after [`SILENCE`].
pub(super) struct Watched<S> {
    inner: S,
    life: Arc<Life>,
    moved: Instant,
    polled: Instant,
    blocked: Option<Instant>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    limit: Duration,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, life: Arc<Life>) -> Self {
        Self::with_limit(inner, life, SILENCE)
    }

    fn with_limit(inner: S, life: Arc<Life>, limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            inner,
            life,
            moved: now,
            polled: now,
            blocked: None,
            read_timer: Box::pin(sleep(limit)),
            write_timer: Box::pin(sleep(limit)),
            limit,
        }
    }

    /// Waits until the silence has lasted too long, counted from the last movement or from `since`.
    fn silence(&mut self, cx: &mut Context<'_>, side: Side, since: Option<Instant>) -> Poll<io::Error> {
        loop {
            let deadline = since.map_or(self.moved, |since| since.max(self.moved)) + self.limit;
            let timer = match side {
                Side::Read => &mut self.read_timer,
                Side::Write => &mut self.write_timer,
            };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if self.life.armed.load(Ordering::Relaxed) {
                self.life.silent.store(true, Ordering::Relaxed);
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.moved = Instant::now();
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Read,
    Write,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let now = Instant::now();
        if now.duration_since(std::mem::replace(&mut this.polled, now)) > ABSENT {
            this.moved = now;
        }
        match Pin::new(&mut this.inner).poll_read(cx, buf) {
            Poll::Ready(result) => {
                let count = buf.filled().len().saturating_sub(before);
                if count > 0 {
                    this.moved = now;
                    this.life.received.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.silence(cx, Side::Read, None).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_write(cx, buf) {
            Poll::Ready(result) => {
                // Only a write that had to wait proves that the other side takes bytes; others fill a local buffer.
                if this.blocked.take().is_some() && result.is_ok() {
                    this.moved = Instant::now();
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let since = *this.blocked.get_or_insert_with(Instant::now);
                this.silence(cx, Side::Write, Some(since)).map(Err)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Never fails: russh would lose the reason why the connection ended.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.life.silent() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx).map(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    fn line(
        size: usize,
        armed: bool,
    ) -> (Watched<tokio::io::DuplexStream>, tokio::io::DuplexStream, Arc<Life>) {
        let (near, far) = duplex(size);
        let life = Arc::new(Life::default());
        if armed {
            life.arm();
        }
        (Watched::with_limit(near, life.clone(), LIMIT), far, life)
    }

    #[tokio::test]
    async fn silence_ends_a_read() {
        let (mut line, _far, life) = line(1024, true);
        let error = timeout(LIMIT * 10, line.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(life.silent());
    }

    #[tokio::test]
    async fn silence_ends_a_write() {
        let (mut line, _far, life) = line(1024, true);
        let error = timeout(LIMIT * 10, line.write_all(&[0; 4096])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(life.silent());
    }

    #[tokio::test]
    async fn a_slow_reader_is_alive() {
        let (mut line, mut far, _) = line(1024, true);
        let start = Instant::now();
        let reader = tokio::spawn(async move {
            let mut taken = [0; 512];
            for _ in 0..6 {
                tokio::time::sleep(LIMIT / 2).await;
                far.read_exact(&mut taken).await.unwrap();
            }
            far
        });
        line.write_all(&[0; 4096]).await.unwrap();
        assert!(start.elapsed() > LIMIT * 2);
        reader.abort();
    }

    #[tokio::test]
    async fn an_unarmed_line_may_be_silent() {
        let (mut line, _far, _) = line(1024, false);
        assert!(timeout(LIMIT * 4, line.read_u8()).await.is_err());
    }
}
