//! Shell text as data: quoting, scripts and secrets.
//!
//! Invariant: this is the only module that turns a value into shell text. A script always travels
//! over stdin, never in argv, so what it holds never shows in a process list.

use std::fmt;

use shlex::Quoter;

/// Quotes `value` for any POSIX shell. Bash, dash and BusyBox read back exactly these bytes.
///
/// A NUL can't be an argument on any Unix; configuration rejects it long before, and here it is
/// dropped rather than allowed to cut the script short.
pub fn quote(value: &str) -> String {
    let clean;
    let value = if value.contains('\0') {
        clean = value.replace('\0', "");
        &clean
    } else {
        value
    };
    match Quoter::new().quote(value) {
        Ok(quoted) => quoted.into_owned(),
        // The only error is a NUL, which is gone.
        Err(_) => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// A value that must not be seen: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that writes it where it belongs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One simple command; every argument is quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmd(String);

impl Cmd {
    /// Starts a command with its program name.
    pub fn new(program: &str) -> Self {
        Self(quote(program))
    }

    /// Adds a quoted argument.
    pub fn arg(mut self, value: impl AsRef<str>) -> Self {
        self.0.push(' ');
        self.0.push_str(&quote(value.as_ref()));
        self
    }

    /// Adds several quoted arguments.
    pub fn args<S: AsRef<str>>(self, values: impl IntoIterator<Item = S>) -> Self {
        values.into_iter().fold(self, Cmd::arg)
    }

    /// Adds shell text as it is: redirections and operators, never a value.
    pub fn raw(mut self, text: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(text);
        self
    }

    /// The command as shell text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// A POSIX shell script.
#[derive(Clone, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct Script {
    text: String,
    /// Where parts of ship itself are in it: the beginning and the end of each.
    fixed: Vec<(usize, usize)>,
}

/// A stretch of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stretch<'a> {
    /// Part of ship, and the same whatever is deployed.
    Fixed(&'a str),
    /// Made for this script.
    Own(&'a str),
}

impl Script {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes shell text as it is. For recipes, which are code themselves.
    pub fn from_text(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        Self { text, fixed: Vec::new() }
    }

    /// Takes a constant. A server may keep it: it holds nothing of a configuration, as its lifetime shows.
    pub fn fixed(text: &'static str) -> Self {
        let script = Self::from_text(text);
        Self { fixed: vec![(0, script.text.len())], ..script }
    }

    /// What it consists of, in order.
    pub fn stretches(&self) -> Vec<Stretch<'_>> {
        let mut stretches = Vec::new();
        let mut done = 0;
        for (begin, end) in self.fixed.iter().copied().chain([(self.text.len(), self.text.len())]) {
            stretches.extend(self.text.get(done..begin).map(Stretch::Own));
            stretches.extend(self.text.get(begin..end).map(Stretch::Fixed));
            done = end;
        }
        stretches.retain(|stretch| !matches!(stretch, Stretch::Fixed("") | Stretch::Own("")));
        stretches
    }

    /// Adds a command on a line of its own.
    #[must_use]
    pub fn cmd(mut self, cmd: Cmd) -> Self {
        self.text.push_str(cmd.text());
        self.text.push('\n');
        self
    }

    /// Adds a line of shell text as it is: control flow, never a value.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Sets a shell variable to a quoted value.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.text.push_str(name);
        self.text.push('=');
        self.text.push_str(&quote(value.as_ref()));
        self.text.push('\n');
        self
    }

    /// Waits until a command succeeds, for so many tenths of a second at most; `tries` says how many went by.
    #[must_use]
    pub fn wait_until(self, command: &str, tenths: u32) -> Self {
        self.line("tries=0").line(&format!(
            "until {command} || [ $tries = {tenths} ]; do tries=$((tries + 1)); sleep 0.1; done"
        ))
    }

    /// Appends another script.
    #[must_use]
    pub fn then(mut self, other: &Script) -> Self {
        let shift = self.text.len();
        self.fixed.extend(other.fixed.iter().map(|(begin, end)| (begin + shift, end + shift)));
        self.text.push_str(&other.text);
        self
    }

    /// The script as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl From<&'static str> for Script {
    fn from(text: &'static str) -> Self {
        Self::fixed(text)
    }
}

impl From<String> for Script {
    fn from(text: String) -> Self {
        Self::from_text(text)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_quoted() {
        let script = Script::new()
            .set("who", "O'Hara & co")
            .cmd(Cmd::new("install").arg("-d").arg("/srv/a b/$HOME").raw("</dev/null"))
            .line("true");
        assert_eq!(script.text(), "who=\"O'Hara & co\"\ninstall -d '/srv/a b/$HOME' </dev/null\ntrue\n");
    }

    #[test]
    fn a_secret_never_prints() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "hunter2");
    }

    proptest::proptest! {
        #[test]
        fn quoting_survives_sh(value in "[^\0]*") {
            let script = Script::new().cmd(Cmd::new("printf").arg("%s").arg(&value));
            for shell in ["sh", "bash"] {
                let out = std::process::Command::new(shell).arg("-c").arg(script.text()).output().unwrap();
                proptest::prop_assert_eq!(&out.stdout, value.as_bytes());
            }
        }
    }
}
