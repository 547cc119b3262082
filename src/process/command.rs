//! Command lines as a Procfile has them.
//!
//! Invariant: only a single program with its words is taken apart; whatever else the shell would do stays as it is.

/// A word of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, quotes included.
    pub raw: String,
    /// Without quotes; variables stay as they are.
    pub text: String,
}

/// The words of a command line that starts one program; `None` if the shell would do more.
pub fn words(command: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        let current = || Word { raw: String::new(), text: String::new() };
        match (quote, c) {
            (None, ' ' | '\t') => {
                words.extend(word.take());
                continue;
            }
            (None, ';' | '|' | '&' | '<' | '>' | '(' | ')' | '#' | '\n') | (None | Some('"'), '`') => {
                return None;
            }
            (None | Some('"'), '$') if chars.peek() == Some(&'(') => return None,
            (None, '\'' | '"') => {
                word.get_or_insert_with(current).raw.push(c);
                quote = Some(c);
                continue;
            }
            (Some(open), _) if open == c => {
                word.get_or_insert_with(current).raw.push(c);
                quote = None;
                continue;
            }
            (None | Some('"'), '\\') => {
                let word = word.get_or_insert_with(current);
                let next = chars.next()?;
                word.raw.extend([c, next]);
                word.text.push(next);
                continue;
            }
            (_, _) => {}
        }
        let word = word.get_or_insert_with(current);
        word.raw.push(c);
        word.text.push(c);
    }
    words.extend(word);
    (quote.is_none() && !words.is_empty()).then_some(words)
}

/// The command without `poetry run`, `pipenv run` or `uv run`: a release has one virtual environment, which is in PATH.
pub fn without_runner(command: &str) -> &str {
    let command = command.trim();
    for runner in ["poetry", "pipenv", "uv", "pdm"] {
        let rest = command.strip_prefix(runner).filter(|rest| rest.starts_with(' '));
        let rest = rest.and_then(|rest| rest.trim_start().strip_prefix("run "));
        if let Some(rest) = rest.map(str::trim_start).filter(|rest| !rest.starts_with('-')) {
            return rest;
        }
    }
    command
}

/// Whether two of it at once would do things twice: what hands out work by the clock.
pub fn is_singleton(name: &str, command: &str) -> bool {
    let named = name.split('-').any(|part| matches!(part, "beat" | "clock" | "scheduler" | "cron"));
    let words: Vec<&str> = command.split_whitespace().collect();
    let has = |wanted: &str| words.iter().any(|word| word.rsplit('/').next() == Some(wanted));
    named
        || (has("celery") && (has("beat") || has("-B") || has("--beat")))
        || [
            "rqscheduler",
            "run_huey",
            "huey_consumer",
            "huey_consumer.py",
            "runapscheduler",
            "django_apscheduler",
        ]
        .iter()
        .any(|word| has(word))
}

/// The command with a place for celery beat's schedule, where it can write: its own folder is read-only.
pub fn with_schedule_file(command: &str, folder: &str) -> String {
    let Some(words) = words(command) else { return command.to_owned() };
    let has = |wanted: &[&str]| {
        words.iter().any(|word| {
            let name = word.text.split('=').next().unwrap_or_default();
            wanted.contains(&name.rsplit('/').next().unwrap_or_default())
        })
    };
    let beats = has(&["celery"]) && has(&["beat", "-B", "--beat"]);
    let placed = has(&["-s", "--schedule", "--schedule-filename", "-S", "--scheduler"]);
    if beats && !placed { format!("{command} -s {folder}/celerybeat-schedule") } else { command.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_shell() {
        let read = |command: &str| {
            words(command).map(|words| words.into_iter().map(|word| word.text).collect::<Vec<_>>().join("|"))
        };
        for (command, expected) in [
            ("gunicorn a.wsgi", Some("gunicorn|a.wsgi")),
            ("  a  'b c'\td\"e\"f ", Some("a|b c|def")),
            ("a --bind=0.0.0.0:$PORT ${X:-3}", Some("a|--bind=0.0.0.0:$PORT|${X:-3}")),
            ("a \\; b\\ c", Some("a|;|b c")),
            ("a '' b", Some("a||b")),
            ("a && b", None),
            ("a | b", None),
            ("a $(b)", None),
            ("a `b`", None),
            ("a 'b", None),
            ("", None),
        ] {
            assert_eq!(read(command).as_deref(), expected, "{command}");
        }
        assert_eq!(words("x 'a b'\"$C\"").unwrap()[1].raw, "'a b'\"$C\"");
    }

    #[test]
    fn runners_are_left_out() {
        for (command, expected) in [
            ("poetry run celery -A x worker", "celery -A x worker"),
            ("pipenv run  python a.py", "python a.py"),
            ("uv run --group prod x", "uv run --group prod x"),
            ("uvicorn run x", "uvicorn run x"),
        ] {
            assert_eq!(without_runner(command), expected);
        }
    }

    #[test]
    fn what_keeps_the_time_is_alone() {
        for (name, command, expected) in [
            ("worker", "celery -A x worker", false),
            ("worker", "celery -A x worker -B -l info", true),
            ("anything", "celery -A x.beat worker", false),
            ("ticker", "venv/bin/celery --app=x beat", true),
            ("rq", "python manage.py rqscheduler", true),
            ("rq", "python manage.py rqworker default", false),
            ("huey", "python manage.py run_huey", true),
            ("clock", "python clock.py", true),
        ] {
            assert_eq!(is_singleton(name, command), expected, "{command}");
        }
    }

    #[test]
    fn beat_writes_where_it_can() {
        for (command, expected) in [
            ("celery -A x beat", "celery -A x beat -s /s/celerybeat-schedule"),
            ("celery -A x worker -B", "celery -A x worker -B -s /s/celerybeat-schedule"),
            ("celery -A x beat -s /tmp/y", "celery -A x beat -s /tmp/y"),
            ("celery -A x beat --scheduler=a.b:C", "celery -A x beat --scheduler=a.b:C"),
            ("celery -A x worker", "celery -A x worker"),
            ("cd y && celery -A x beat", "cd y && celery -A x beat"),
        ] {
            assert_eq!(with_schedule_file(command, "/s"), expected);
        }
    }
}
