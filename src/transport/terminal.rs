//! The local terminal: raw mode, its size, and its keys as a stream. Knows nothing of SSH.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Flow, Stream, TermSize};

/// Raw mode on stdin for as long as the value lives, through panics too, and through `kill -9`.
pub(super) struct RawMode {
    saved: Termios,
    guardian: Option<Guardian>,
}

impl RawMode {
    /// Enters raw mode. `None` if stdin is no terminal.
    pub(super) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        let Ok(saved) = tcgetattr(&stdin) else { return Ok(None) };
        // Without one, all is as good but for what nobody can catch.
        let mut guardian = Guardian::start().ok();
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        if let Some(guardian) = &mut guardian {
            guardian.tell();
        }
        Ok(Some(Self { saved, guardian }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved);
        if let Some(guardian) = &mut self.guardian {
            guardian.dismiss();
        }
    }
}

/// A shell that waits for this program's end, and puts the terminal right if nobody else has.
///
/// It is in a process group of its own: a shell kills those of a whole job.
struct Guardian {
    shell: Child,
}

/// Its stdin ends when this program does, its stdout is the terminal. What the user's shell has set right by then stays.
const GUARDIAN: &str = r#"trap '' INT QUIT HUP TERM TSTP TTIN TTOU
exec 3<&1
saved=$(stty -g <&3) || exit 1
echo ready >&2
read -r word || { stty "$saved" <&3; exit; }
raw=$(stty -g <&3)
read -r word && exit
[ "$(stty -g <&3)" = "$raw" ] || exit
stty "$saved" <&3
printf '\r\n\033[0m\033[?25h\033[?1000;1002;1006;2004l'"#;

impl Guardian {
    /// Returns when it knows how the terminal is now.
    fn start() -> io::Result<Self> {
        let terminal = rustix::io::dup(io::stdin())?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARDIAN]).stdin(Stdio::piped()).stdout(terminal).stderr(Stdio::piped());
        let mut shell = command.process_group(0).spawn()?;
        let ready = shell.stderr.take().map(|mut said| said.read_exact(&mut [0; 6]));
        if !matches!(ready, Some(Ok(()))) {
            let _ = shell.wait();
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Self { shell })
    }

    /// Says that a line was passed.
    fn tell(&mut self) {
        if let Some(stdin) = &mut self.shell.stdin {
            let _ = stdin.write_all(b"\n");
        }
    }

    fn dismiss(&mut self) {
        self.tell();
        let _ = self.shell.wait();
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
