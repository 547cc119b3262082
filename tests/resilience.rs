//! A release can't take the site down: proved under load and by breaking things at random.
//!
//! `scripts/test` runs a few of each; `scripts/resilience` runs them all (`SHIP_RESILIENCE=full`) and writes what was
//! measured to docs/resilience.md.

#![allow(clippy::print_stderr, reason = "seeds and measurements are for whoever reads the test's output")]

mod interruption;
pub mod load;
mod locks;
mod odd;
mod pressure;
mod releases;
mod state;

/// How much is done: a few of each, or all of it.
fn full() -> bool {
    std::env::var("SHIP_RESILIENCE").is_ok_and(|value| value == "full")
}

/// `few` in `scripts/test`, `all` in the full run.
fn how_many<T>(few: T, all: T) -> T {
    if full() { all } else { few }
}

/// Says what was measured: on the terminal, and as a part of the report of the full run.
fn report(part: &str, text: &str) {
    eprintln!("{text}");
    if let Some(folder) = std::env::var_os("SHIP_RESILIENCE_REPORT") {
        let file = std::path::Path::new(&folder).join(format!("{part}.md"));
        std::fs::write(file, format!("{}\n", text.trim_end())).expect("write the report");
    }
}
