//! The `release:` line: what a project wants done once for each release.
//!
//! Invariant: `migrate` and `collectstatic` as everybody writes them are ship's own steps and left out; anything else
//! of the line runs as it stands.

use super::command;

/// What of the line is left to run; `None` if ship does all of it anyway.
pub fn rest(line: &str) -> Option<String> {
    // Only a plain chain can be taken apart: `;` would go on after a failure, and quotes may hold anything.
    let plain = !line.contains(['"', '\'', '\\', '(', ')', '`', '|', ';', '\n']);
    let parts: Vec<&str> = if plain { line.split("&&").collect() } else { vec![line] };
    let left: Vec<&str> = parts
        .into_iter()
        .map(command::without_runner)
        .filter(|part| !part.is_empty() && !is_ours(part))
        .collect();
    (!left.is_empty()).then(|| left.join(" && "))
}

/// Whether it is a step of every release already.
fn is_ours(part: &str) -> bool {
    let Some(words) = command::words(part) else { return false };
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    let rest = match words.as_slice() {
        ["python" | "python3", manage, rest @ ..] if is_manage(manage) => rest,
        [manage, rest @ ..] if is_manage(manage) || *manage == "django-admin" => rest,
        [..] => return false,
    };
    let Some((verb, flags)) = rest.split_first() else { return false };
    let quiet = ["--noinput", "--no-input", "--traceback", "--no-color", "--skip-checks"];
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        match *flag {
            "-v" | "--verbosity" => {
                flags.next();
            }
            flag if quiet.contains(&flag) || flag.starts_with("--verbosity=") || flag.starts_with("-v") => {}
            _ => return false,
        }
    }
    matches!(*verb, "migrate" | "collectstatic" | "check")
}

fn is_manage(word: &str) -> bool {
    word.rsplit('/').next() == Some("manage.py")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ship_does_not_do_is_left() {
        for (line, expected) in [
            ("python manage.py migrate", None),
            ("python3 ./manage.py migrate --noinput -v 2", None),
            ("python manage.py migrate && python manage.py collectstatic --noinput", None),
            ("poetry run python manage.py migrate --no-input", None),
            ("django-admin migrate", None),
            ("python manage.py migrate --fake", Some("python manage.py migrate --fake")),
            ("python manage.py migrate catalog 0002", Some("python manage.py migrate catalog 0002")),
            (
                "python manage.py migrate && python manage.py createcachetable",
                Some("python manage.py createcachetable"),
            ),
            ("./release.sh", Some("./release.sh")),
            ("python manage.py migrate; ./x", Some("python manage.py migrate; ./x")),
            ("sh -c 'python manage.py migrate && ./x'", Some("sh -c 'python manage.py migrate && ./x'")),
            ("", None),
        ] {
            assert_eq!(rest(line).as_deref(), expected, "{line}");
        }
    }
}
