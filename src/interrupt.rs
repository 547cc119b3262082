//! What Ctrl-C does: ends the program, unless something is under way that must be told first.
//!
//! Invariant: nobody waits for long on Ctrl-C. While nothing is guarded it ends the program at once, also in the
//! middle of a question.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::error::Exit;

/// The user's Ctrl-C.
#[derive(Debug, Clone)]
pub struct Interrupts {
    count: Arc<watch::Sender<u32>>,
    guards: Arc<AtomicUsize>,
}

impl Default for Interrupts {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)), guards: Arc::default() }
    }
}

impl Interrupts {
    /// Takes Ctrl-C over from the system; `goodbye` is called before it ends the program. Needs a runtime.
    pub fn listen(&self, goodbye: impl Fn() + Send + 'static) {
        let this = self.clone();
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if this.guards.load(Ordering::SeqCst) > 0 {
                    this.count.send_modify(|count| *count += 1);
                } else {
                    goodbye();
                    // Not the end of a future, since a question blocks the one that asks.
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
    }

    /// From now on, Ctrl-C is for whoever holds this.
    pub fn guard(&self) -> Guard {
        self.guards.fetch_add(1, Ordering::SeqCst);
        Guard { presses: self.count.subscribe(), guards: Arc::clone(&self.guards) }
    }
}

/// Receives Ctrl-C until it is dropped.
#[derive(Debug)]
pub struct Guard {
    presses: watch::Receiver<u32>,
    guards: Arc<AtomicUsize>,
}

impl Guard {
    /// Waits for the next Ctrl-C.
    pub async fn next(&mut self) {
        if self.presses.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.guards.fetch_sub(1, Ordering::SeqCst);
    }
}
