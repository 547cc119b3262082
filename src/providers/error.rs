//! What goes wrong between this computer and a cloud's API.
//!
//! Invariant: a call that may have happened is never taken for one that has not.

use crate::error::{Exit, Failure};

/// A call to a cloud that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// The cloud said no. It did nothing.
    #[error("{cloud} refused to {doing}: {message}")]
    Refused {
        /// The cloud.
        cloud: &'static str,
        /// What was wanted: `create the droplet library`.
        doing: String,
        /// The API's own code: `UnauthorizedOperation`, `unprocessable_entity`.
        code: String,
        /// The API's own words.
        message: String,
        /// What helps: a permission, a page, another value.
        hints: Vec<String>,
        /// Whether the user's input is the reason.
        input: bool,
    },
    /// The connection broke, or the cloud failed: it may have done it or not.
    #[error("no telling whether {cloud} managed to {doing}: {why}")]
    Unclear {
        /// The cloud.
        cloud: &'static str,
        /// What was wanted.
        doing: String,
        /// Why nobody knows.
        why: String,
    },
    /// Nothing was sent, or nothing but a question: the cloud can't be reached or doesn't answer sensibly.
    #[error("can't {doing}: {why}")]
    Unreachable {
        /// The cloud.
        cloud: &'static str,
        /// What was wanted.
        doing: String,
        /// Why not.
        why: String,
    },
    /// Something did not happen within its time.
    #[error("{what} after {seconds} s")]
    Late {
        /// What is not as it should be: `the droplet library is still new`.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// What the cloud has, or what the configuration wants, makes no sense together.
    #[error("{message}")]
    Impossible {
        /// The problem.
        message: String,
        /// What helps.
        hints: Vec<String>,
    },
}

impl CloudError {
    /// Whether the call may have happened although it failed.
    pub fn is_unclear(&self) -> bool {
        matches!(self, CloudError::Unclear { .. })
    }

    /// The API's own code, if it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            CloudError::Refused { code, .. } => Some(code),
            CloudError::Unclear { .. }
            | CloudError::Unreachable { .. }
            | CloudError::Late { .. }
            | CloudError::Impossible { .. } => None,
        }
    }
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        let message = error.to_string();
        let (exit, hints) = match error {
            CloudError::Refused { hints, input, .. } => {
                (if input { Exit::Input } else { Exit::Failed }, hints)
            }
            CloudError::Unclear { .. } => (
                Exit::Failed,
                vec!["run `ship up` again: it looks first, and never makes a second one".to_owned()],
            ),
            CloudError::Unreachable { .. } => (Exit::Unreachable, Vec::new()),
            CloudError::Late { .. } => (
                Exit::Failed,
                vec!["`ship up` carries on from here; the cloud's own status page may say more".to_owned()],
            ),
            CloudError::Impossible { hints, .. } => (Exit::Input, hints),
        };
        hints.into_iter().fold(Failure::new(exit, message), Failure::hint)
    }
}
