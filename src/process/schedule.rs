//! When a job runs: cron's five fields, or systemd's own calendar.
//!
//! Invariant: what comes out is a calendar expression that systemd reads; what would mean something else there is
//! refused with the reason.

/// systemd's words for calendars.
const WORDS: [&str; 9] =
    ["minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const LONG_DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Why a text is no calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

fn refused<T>(message: impl Into<String>, hint: &str) -> Result<T, Refused> {
    let hint = (!hint.is_empty()).then(|| hint.to_owned());
    Err(Refused { message: message.into(), hint })
}

/// The value of systemd's `OnCalendar=`.
pub fn calendar(at: &str) -> Result<String, Refused> {
    let at = at.trim();
    let fields: Vec<&str> = at.split_whitespace().collect();
    match fields.as_slice() {
        [] => refused("it is empty", "such as `at: daily` or `at: \"*/10 * * * *\"`"),
        [word] if word.starts_with('@') => macro_word(word),
        [minute, hour, day, month, weekday] => cron(minute, hour, day, month, weekday),
        [word] if WORDS.contains(&word.to_ascii_lowercase().as_str()) => Ok(word.to_ascii_lowercase()),
        [_, _, _, _, _, _, ..] => refused(format!("`{at}` has {} fields", fields.len()), "cron has five"),
        rest => systemd(at, rest),
    }
}

fn macro_word(word: &str) -> Result<String, Refused> {
    match word {
        "@hourly" | "@daily" | "@weekly" | "@monthly" | "@yearly" | "@annually" => {
            Ok(word.trim_start_matches('@').to_owned())
        }
        "@midnight" => Ok("daily".to_owned()),
        "@reboot" => refused("`@reboot` is no time", "a process under `processes` starts with the server"),
        _ => refused(format!("`{word}` is not one of cron's words"), "such as `@daily`"),
    }
}

fn cron(minute: &str, hour: &str, day: &str, month: &str, weekday: &str) -> Result<String, Refused> {
    let minute = field("minute", minute, 0, 59, &[])?;
    let hour = field("hour", hour, 0, 23, &[])?;
    let dom = field("day of the month", day, 1, 31, &[])?;
    let mon = field("month", month, 1, 12, &MONTHS)?;
    let days = weekdays(weekday)?;
    if day != "*" && weekday != "*" {
        return refused(
            "cron runs it on days that match either the day of the month or the day of the week, systemd only on \
             those that match both",
            "make two jobs of it, one with each",
        );
    }
    let days = if days.is_empty() { String::new() } else { format!("{days} ") };
    Ok(format!("{days}*-{mon}-{dom} {hour}:{minute}:00"))
}

/// A number of a field, or the name of a month.
fn number(what: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<u32, Refused> {
    let named = names.iter().position(|name| text.eq_ignore_ascii_case(name));
    let named = named.and_then(|index| u32::try_from(index).ok()).map(|index| index + least);
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    match named.or_else(|| if digits { text.parse().ok() } else { None }) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        Some(number) => refused(format!("{number} is not a {what} from {least} to {most}"), ""),
        None => refused(format!("`{text}` is not a {what}"), ""),
    }
}

/// The two ends of an item and its step.
fn range(
    what: &str,
    item: &str,
    least: u32,
    most: u32,
    names: &[&str],
) -> Result<(u32, Option<u32>, Option<u32>), Refused> {
    let (body, step) = match item.split_once('/') {
        Some((body, step)) => (body, Some(number(&format!("step of the {what}"), step, 1, most, &[])?)),
        None => (item, None),
    };
    if body == "*" {
        return Ok((least, Some(most), step));
    }
    match body.split_once('-') {
        Some((from, to)) => {
            let (from, to) = (number(what, from, least, most, names)?, number(what, to, least, most, names)?);
            if from > to {
                return refused(format!("`{body}` goes backwards"), "");
            }
            Ok((from, Some(to), step))
        }
        None => Ok((number(what, body, least, most, names)?, None, step)),
    }
}

/// One of cron's fields as systemd writes it.
fn field(what: &str, text: &str, least: u32, most: u32, names: &[&str]) -> Result<String, Refused> {
    let mut parts = Vec::new();
    for item in text.split(',') {
        let (from, to, step) = range(what, item, least, most, names)?;
        parts.push(match (to, step) {
            (Some(to), None) if (from, to) == (least, most) => "*".to_owned(),
            (Some(to), None) => format!("{from}..{to}"),
            (None, None) => format!("{from:02}"),
            (Some(to), Some(step)) if to != most => format!("{from}..{to}/{step}"),
            (_, Some(step)) => format!("{from}/{step}"),
        });
    }
    if parts.iter().any(|part| part == "*") {
        return Ok("*".to_owned());
    }
    Ok(parts.join(","))
}

/// The days of the week by name; empty for all.
fn weekdays(text: &str) -> Result<String, Refused> {
    let mut days = [false; 8];
    for item in text.split(',') {
        let (from, to, step) = range("day of the week", item, 0, 7, &DAYS)?;
        let to = to.unwrap_or(if step.is_some() { 6 } else { from });
        let every = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        // `*` reaches to 7, which is Sunday once more.
        let to = if item.starts_with('*') { 6 } else { to };
        for (index, day) in days.iter_mut().enumerate() {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let offset = index.saturating_sub(usize::try_from(from).unwrap_or(0));
            *day |= (from..=to).contains(&number) && offset.is_multiple_of(every);
        }
    }
    let [sunday, rest @ .., again] = days;
    let sunday = sunday || again;
    if sunday && rest.iter().all(|day| *day) {
        return Ok(String::new());
    }
    let named = DAYS.iter().skip(1).zip(rest).filter(|(_, on)| *on).map(|(name, _)| *name);
    Ok(named.chain(sunday.then_some("Sun")).collect::<Vec<_>>().join(","))
}

/// systemd's own notation: `[DAYS] [DATE] [TIME] [ZONE]`.
fn systemd(at: &str, words: &[&str]) -> Result<String, Refused> {
    let mut rest = words;
    if let [first, others @ ..] = rest
        && is_days(first)
    {
        rest = others;
    }
    let dated = matches!(rest, [first, ..] if is_date(first));
    if let ([_, others @ ..], true) = (rest, dated) {
        rest = others;
    }
    let timed = matches!(rest, [first, ..] if is_time(first));
    if let ([_, others @ ..], true) = (rest, timed) {
        rest = others;
    }
    if let ([zone], true) = (rest, dated || timed || rest.len() < words.len())
        && is_zone(zone)
    {
        rest = &[];
    }
    if rest.is_empty() && !words.is_empty() {
        return Ok(words.join(" "));
    }
    refused(
        format!("`{at}` is neither cron's five fields nor a calendar of systemd's"),
        "such as `daily`, `Mon..Fri 08:30`, `*-*-01 04:00` or `\"*/10 * * * *\"`",
    )
}

fn is_days(text: &str) -> bool {
    let day = |text: &str| {
        let text = text.to_ascii_lowercase();
        DAYS.iter().any(|day| day.eq_ignore_ascii_case(&text)) || LONG_DAYS.contains(&text.as_str())
    };
    text.split(',').all(|item| item.split_once("..").map_or_else(|| day(item), |(a, b)| day(a) && day(b)))
}

/// Whether a part of a date or time is well-formed and in its bounds.
fn is_component(text: &str, least: u32, most: u32) -> bool {
    let bounded = |text: &str| number("", text, least, most, &[]).is_ok();
    text.split(',').all(|item| {
        let (body, step) = item.split_once('/').map_or((item, None), |(body, step)| (body, Some(step)));
        let body_good = match body.split_once("..") {
            Some((from, to)) => bounded(from) && bounded(to),
            None => body == "*" || bounded(body),
        };
        body_good && step.is_none_or(|step| number("", step, 1, most.max(1), &[]).is_ok())
    })
}

fn is_date(text: &str) -> bool {
    // `~` counts days from the month's end.
    let (text, last) = match text.rsplit_once('~') {
        Some((head, last)) => (format!("{head}-1"), Some(last)),
        None => (text.to_owned(), None),
    };
    let day = |day: &str| is_component(last.unwrap_or(day), 1, 31);
    match text.split('-').collect::<Vec<_>>().as_slice() {
        [year, month, d] => is_component(year, 1970, 2200) && is_component(month, 1, 12) && day(d),
        [month, d] => is_component(month, 1, 12) && day(d),
        [..] => false,
    }
}

fn is_time(text: &str) -> bool {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [hour, minute] => is_component(hour, 0, 23) && is_component(minute, 0, 59),
        [hour, minute, second] => {
            is_component(hour, 0, 23) && is_component(minute, 0, 59) && is_component(second, 0, 59)
        }
        [..] => false,
    }
}

fn is_zone(text: &str) -> bool {
    text == "UTC"
        || text.split_once('/').is_some_and(|(area, city)| {
            let word = |text: &str| {
                text.starts_with(|c: char| c.is_ascii_uppercase())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/'))
            };
            word(area) && word(city)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, and what systemd gets.
    const GOOD: &[(&str, &str)] = &[
        ("* * * * *", "*-*-* *:*:00"),
        ("*/10 * * * *", "*-*-* *:0/10:00"),
        ("0 4 * * *", "*-*-* 04:00:00"),
        ("30 8 * * 1-5", "Mon,Tue,Wed,Thu,Fri *-*-* 08:30:00"),
        ("0 0 1 * *", "*-*-01 00:00:00"),
        ("0 0 * * 0", "Sun *-*-* 00:00:00"),
        ("0 0 * * 7", "Sun *-*-* 00:00:00"),
        ("0 0 * * 5-7", "Fri,Sat,Sun *-*-* 00:00:00"),
        ("0 0 * * sun,Wed", "Wed,Sun *-*-* 00:00:00"),
        ("0 0 * * */2", "Tue,Thu,Sat,Sun *-*-* 00:00:00"),
        ("0 0 * * 0-7", "*-*-* 00:00:00"),
        ("5,35 9-17 * * *", "*-*-* 9..17:05,35:00"),
        ("0 8-18/2 * * *", "*-*-* 8..18/2:00:00"),
        ("0 0 */2 * *", "*-*-1/2 00:00:00"),
        ("0 0 1,15 jan-mar *", "*-1..3-01,15 00:00:00"),
        ("20/15 * * * *", "*-*-* *:20/15:00"),
        ("0 0-23 * * *", "*-*-* *:00:00"),
        ("@daily", "daily"),
        ("@midnight", "daily"),
        ("hourly", "hourly"),
        ("Daily", "daily"),
        ("04:00", "04:00"),
        ("Mon..Fri 08:30", "Mon..Fri 08:30"),
        ("Sat,Sunday", "Sat,Sunday"),
        ("*-*-01 04:00:00", "*-*-01 04:00:00"),
        ("*-02~03", "*-02~03"),
        ("*:0/15", "*:0/15"),
        ("*-*-* 06:00 Europe/Berlin", "*-*-* 06:00 Europe/Berlin"),
        ("Mon 2027-01-04 06:00 UTC", "Mon 2027-01-04 06:00 UTC"),
    ];

    #[test]
    fn calendars_are_those_of_systemd() {
        for (at, expected) in GOOD {
            assert_eq!(calendar(at).as_deref(), Ok(*expected), "{at}");
        }
    }

    #[test]
    fn what_means_something_else_is_refused() {
        let said: String = [
            "0 0 1 * 1",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "30-10 * * * *",
            "a * * * *",
            "0 0 * * * *",
            "@reboot",
            "@often",
            "every day",
            "25:00",
            "UTC",
            "",
        ]
        .iter()
        .map(|at| {
            let refused = calendar(at).unwrap_err();
            format!(
                "{at}: {}{}\n",
                refused.message,
                refused.hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
            )
        })
        .collect();
        insta::assert_snapshot!(said, @r#"
        0 0 1 * 1: cron runs it on days that match either the day of the month or the day of the week, systemd only on those that match both (make two jobs of it, one with each)
        60 * * * *: 60 is not a minute from 0 to 59
        * 24 * * *: 24 is not a hour from 0 to 23
        * * 0 * *: 0 is not a day of the month from 1 to 31
        * * * 13 *: 13 is not a month from 1 to 12
        * * * * 8: 8 is not a day of the week from 0 to 7
        */0 * * * *: 0 is not a step of the minute from 1 to 59
        30-10 * * * *: `30-10` goes backwards
        a * * * *: `a` is not a minute
        0 0 * * * *: `0 0 * * * *` has 6 fields (cron has five)
        @reboot: `@reboot` is no time (a process under `processes` starts with the server)
        @often: `@often` is not one of cron's words (such as `@daily`)
        every day: `every day` is neither cron's five fields nor a calendar of systemd's (such as `daily`, `Mon..Fri 08:30`, `*-*-01 04:00` or `"*/10 * * * *"`)
        25:00: `25:00` is neither cron's five fields nor a calendar of systemd's (such as `daily`, `Mon..Fri 08:30`, `*-*-01 04:00` or `"*/10 * * * *"`)
        UTC: `UTC` is neither cron's five fields nor a calendar of systemd's (such as `daily`, `Mon..Fri 08:30`, `*-*-01 04:00` or `"*/10 * * * *"`)
        : it is empty (such as `at: daily` or `at: "*/10 * * * *"`)
        "#);
    }

    #[test]
    #[ignore = "needs systemd-analyze: scripts/test runs it"]
    fn systemd_reads_them() {
        for (at, expected) in GOOD {
            let read =
                std::process::Command::new("systemd-analyze").args(["calendar", expected]).output().unwrap();
            assert!(read.status.success(), "{at} as {expected}: {}", String::from_utf8_lossy(&read.stderr));
        }
    }
}
