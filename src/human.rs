//! Numbers for people.

use std::time::Duration;

/// `1 file`, `3 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A moment as servers write it, `2026-01-31T12:00:00Z`, for people.
pub fn moment(text: &str) -> String {
    text.replacen('T', " ", 1)
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

/// Text for a terminal that is `width` columns wide: lines end between words, and what goes on stands below the column
/// that it belongs to. What is in backticks stays in one piece, to be copied.
pub fn wrapped(text: &str, width: usize) -> String {
    text.split('\n').map(|line| wrapped_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    if shown_width(line) <= width {
        return line.to_owned();
    }
    let hang = " ".repeat(hanging(line, width));
    let mut lines = vec![String::new()];
    for (gap, word) in words(line) {
        let Some(last) = lines.last_mut() else { break };
        let fits = shown_width(last) + gap + shown_width(&word) <= width;
        // Of a column that begins too far to the right, nothing stays there alone.
        let late = gap > 1 && (shown_width(last) + gap) * 10 > width * 6;
        if (fits && !late) || last.trim().is_empty() {
            last.push_str(&" ".repeat(gap));
            last.push_str(&word);
        } else {
            lines.push(format!("{hang}{word}"));
        }
    }
    lines.join("\n")
}

/// Where a line goes on: below its last column that leaves room.
fn hanging(line: &str, width: usize) -> usize {
    let mut at = 0;
    let mut indent = None;
    let mut column = 0;
    for (gap, word) in words(line) {
        at += gap;
        match indent {
            None => indent = Some(at),
            Some(_) if gap > 1 && at * 10 <= width * 6 => column = at,
            Some(_) => {}
        }
        at += shown_width(&word);
    }
    match indent.unwrap_or(0) {
        _ if column > 0 => column,
        0 => 2.min(width / 4),
        indent => (indent + 4).min(width / 2),
    }
}

/// The words of a line, each with the number of spaces before it.
fn words(line: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let (mut gap, mut quoted, mut word) = (0, false, String::new());
    let marks = line.matches('`').count();
    for letter in line.chars() {
        if letter == '`' && marks.is_multiple_of(2) {
            quoted = !quoted;
        }
        if letter != ' ' || quoted {
            word.push(letter);
            continue;
        }
        if !word.is_empty() {
            words.push((gap, std::mem::take(&mut word)));
            gap = 0;
        }
        gap += 1;
    }
    if !word.is_empty() {
        words.push((gap, word));
    }
    words
}

/// Columns that a text takes, without the escape sequences of colours.
fn shown_width(text: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for letter in text.chars() {
        match (escaped, letter) {
            (false, '\u{1b}') => escaped = true,
            (false, _) => width += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_between_words_and_go_on_below_their_column() {
        let plan = "  + file /etc/a                  only sshd, 80, 443 and what is allowed";
        insta::assert_snapshot!(wrapped(plan, 60), @r"
          + file /etc/a                  only sshd, 80, 443 and what
                                         is allowed
        ");
        insta::assert_snapshot!(wrapped(plan, 40), @r"
          + file /etc/a
              only sshd, 80, 443 and what is
              allowed
        ");
        let hint = "\u{1b}[1mhint:\u{1b}[0m the new one: `ship config set A=1 B=2`, then `ship up` again";
        assert_eq!(
            wrapped(hint, 40),
            "\u{1b}[1mhint:\u{1b}[0m the new one:\n  `ship config set A=1 B=2`, then\n  `ship up` again"
        );
        assert_eq!(wrapped("short\n\n  and short", 12), "short\n\n  and short");
        // A word that is longer than the line stays whole.
        let key = "x".repeat(30);
        assert_eq!(wrapped(&format!("is {key}"), 20), format!("is\n  {key}"));
    }

    #[test]
    fn durations_are_for_people() {
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!([text(40), text(9940), text(12_400), text(185_000)], ["0.0s", "9.9s", "12s", "3m 05s"]);
    }
}
