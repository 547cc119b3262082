//! Reaching the server. `ssh.rs` is the only file that knows russh.
