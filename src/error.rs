//! What a failure looks like at the edge: one line of cause, its evidence, and the way out.
//!
//! Inside, modules have typed errors; they become a [`Failure`] where a command ends.

use std::fmt;
use std::process::ExitCode;

/// The exit codes that scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The deploy failed; the site is as it was.
    Failed = 1,
    /// `plan` found changes.
    Changes = 2,
    /// The user's input is wrong, the command line included.
    Input = 3,
    /// The server could not be reached or refused the login.
    Unreachable = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A failure as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What was being done, to what, and why it failed: one line.
    pub message: String,
    /// The evidence, shown as it is: a source excerpt, the last lines of what failed.
    pub detail: Option<String>,
    /// What to try.
    pub hints: Vec<String>,
    /// Whether it may go away by itself, as a broken line does.
    pub may_pass: bool,
}

impl Failure {
    /// A failure with nothing but its message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), detail: None, hints: Vec::new(), may_pass: false }
    }

    /// The deploy failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The user's input is wrong.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    /// The server could not be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// Adds evidence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        if !detail.trim().is_empty() {
            self.detail = Some(detail);
        }
        self
    }

    /// Adds a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "\n{}", detail.trim_end())?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
