//! The local terminal: raw mode, its size, and its keys as a stream. Knows nothing of SSH.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Flow, Stream, TermSize};

/// Raw mode on stdin for as long as the value lives, through panics too.
pub(super) struct RawMode {
    saved: Termios,
}

impl RawMode {
    /// Enters raw mode. `None` if stdin is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        let Ok(saved) = tcgetattr(&stdin) else { return Ok(None) };
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Some(Self { saved }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved);
    }
}

/// The size of the terminal on stdin or stdout.
pub(super) fn size() -> Option<TermSize> {
    let size = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout())).ok()?;
    (size.ws_col > 0).then_some(TermSize { columns: size.ws_col, rows: size.ws_row })
}

/// Every new size of the terminal, until the receiver is dropped.
pub(super) fn resizes() -> io::Result<mpsc::Receiver<TermSize>> {
    let mut changes = signal(SignalKind::window_change())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = changes.recv() => if change.is_none() { return },
                () = sender.closed() => return,
            }
            if let Some(size) = size()
                && sender.send(size).await.is_err()
            {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Passes output on. A reader that has gone away ends the run.
pub(super) fn show(stream: Stream, data: &[u8]) -> Flow {
    use std::io::Write as _;
    let written = match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            out.write_all(data).and_then(|()| out.flush())
        }
        Stream::Err => io::stderr().lock().write_all(data),
    };
    match written {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    }
}

/// stdin as a stream that can be left without losing a key.
///
/// A thread waits for stdin *or* for this value to be dropped, so no read is left hanging: tokio's own stdin would
/// swallow the next line and hold up the program's end.
pub(super) struct Keys {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    _stop: OwnedFd,
}

impl Keys {
    /// Starts to read.
    pub(super) fn open() -> io::Result<Self> {
        let (stopped, stop) = rustix::pipe::pipe()?;
        let (sender, receiver) = mpsc::channel(4);
        std::thread::Builder::new().name("stdin".into()).spawn(move || read_until(&stopped, &sender))?;
        Ok(Self { receiver, rest: Bytes::new(), _stop: stop })
    }
}

fn read_until(stopped: &OwnedFd, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let stdin = io::stdin();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut ready = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        let polled = poll(&mut ready, None);
        let [keys, stop] = &ready;
        match polled {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                let _ = sender.blocking_send(Err(error.into()));
                return;
            }
            Ok(_) if !stop.revents().is_empty() => return,
            Ok(_) if keys.revents().is_empty() => continue,
            Ok(_) => {}
        }
        let message = match rustix::io::read(&stdin, &mut *buffer) {
            Ok(0) => return,
            Ok(count) => Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default())),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            Err(error) => Err(error.into()),
        };
        let failed = message.is_err();
        if sender.blocking_send(message).is_err() || failed {
            return;
        }
    }
}

impl AsyncRead for Keys {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = self.rest.len().min(buf.remaining());
        buf.put_slice(self.rest.get(..count).unwrap_or_default());
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}
