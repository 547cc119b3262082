//! Numbers for people.

use std::time::Duration;

/// `1 file`, `3 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Bytes for people: `812 B`, `3.4 kB`, `12 MB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if number < 1000 {
        return format!("{number} B");
    }
    #[allow(clippy::cast_precision_loss)]
    let mut value = number as f64 / 1000.0;
    let mut unit = "kB";
    for next in UNITS {
        unit = next;
        if value < 999.5 {
            break;
        }
        if next != "TB" {
            value /= 1000.0;
        }
    }
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// `0.3s`, `12s`, `3m 05s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1}s")
    } else if seconds < 59.5 {
        format!("{seconds:.0}s")
    } else {
        let whole = time.as_secs_f64().round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = whole as u64;
        format!("{}m {:02}s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people() {
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!([text(40), text(9940), text(12_400), text(185_000)], ["0.0s", "9.9s", "12s", "3m 05s"]);
    }
}
