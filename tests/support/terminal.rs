//! A pseudo-terminal with a program on it, and somebody in front of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A program whose controlling terminal this is.
pub struct Terminal {
    master: File,
    /// Kept open, so that its modes can be read after the program's end.
    slave: OwnedFd,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

impl Terminal {
    /// Starts a command on a terminal of 80 times 24 characters.
    pub fn start(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
        let master = File::from(master);
        resize(&master, 80, 24);
        let end = || Stdio::from(slave.try_clone().unwrap());
        let mut program = Command::new("setsid");
        program.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        program
            .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "xterm");
        if let Some(dir) = command.get_current_dir() {
            program.current_dir(dir);
        }
        let child =
            program.stdin(end()).stdout(end()).stderr(end()).spawn().expect("run setsid (util-linux)");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (master.try_clone().unwrap(), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                into.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { master, slave, child, screen, read: 0 }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Presses keys.
    pub fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a text appears after what was waited for before, and returns all up to its end.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.screen.lock().unwrap().clone();
            let new = String::from_utf8_lossy(&screen[self.read..]).into_owned();
            if let Some(at) = new.find(text) {
                self.read += at + text.len();
                return new[..at + text.len()].to_owned();
            }
            assert!(Instant::now() < deadline, "the terminal does not show {text:?}:\n{new}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that it has shown.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    /// Another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.master, columns, rows);
    }

    /// How it treats keys and output.
    pub fn modes(&self) -> Termios {
        tcgetattr(self.slave.as_fd()).unwrap()
    }

    /// Whether what is typed is shown and read line by line, and Ctrl-C interrupts.
    pub fn is_sane(&self) -> bool {
        use rustix::termios::{InputModes, LocalModes, OutputModes};
        let modes = self.modes();
        modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && modes.input_modes.contains(InputModes::ICRNL)
            && modes.output_modes.contains(OutputModes::OPOST)
    }

    /// Whether the program has ended, and how; 128 + n after signal n.
    pub fn ended(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }

    /// Waits for the program's end; 128 + n after signal n.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(code) = self.ended() {
                return code;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}
