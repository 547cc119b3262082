//! A project at Heroku as ship's: which of its variables come along, which stay behind and why, and the `ship.yml`.
//!
//! Invariant: pure, and no value is ever in a message. What Heroku itself or its own add-ons have set belongs to what is
//! there and stays behind, unless the user keeps the add-ons.

use std::collections::BTreeMap;

use crate::shell::Secret;

/// A line of `heroku config -s` that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it. Never what stands there, which may be secret.
    pub why: &'static str,
}

/// Reads what `heroku config -s` prints: `NAME=value`, in single quotes with `\\` and `\'`, or in double quotes with
/// `\"`, `\\`, `\$`, `` \` ``, `\!` and `\n`.
pub fn parse_config(text: &str) -> Result<Vec<(String, Secret)>, BadLine> {
    let mut entries = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let bad = |why: &'static str| BadLine { line: index + 1, why };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("===") {
            return Err(bad("this is the table for people: `heroku config -s` prints what is read here"));
        }
        let Some((name, rest)) = line.split_once('=') else { return Err(bad("it is not NAME=value")) };
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid {
            return Err(bad("its name is none of a variable"));
        }
        let value = unquoted(rest).ok_or_else(|| bad("its quotes don't match"))?;
        entries.push((name.to_owned(), Secret::new(value)));
    }
    Ok(entries)
}

fn unquoted(text: &str) -> Option<String> {
    let quote = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => quote,
        Some(_) | None => return Some(text.to_owned()),
    };
    let inside = text.strip_prefix(quote)?;
    let mut value = String::new();
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match (characters.next()?, quote) {
                ('n', '"') => value.push('\n'),
                (escaped, _) => value.push(escaped),
            },
            end if end == quote => return characters.next().is_none().then_some(value),
            other => value.push(other),
        }
    }
    None
}

/// What a project at Heroku comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Variables that are no secret, for `env`.
    pub env: BTreeMap<String, String>,
    /// Those that the server keeps.
    pub secrets: BTreeMap<String, Secret>,
    /// The settings module, if a variable names it.
    pub settings: Option<String>,
    /// Number of gunicorn's workers, if a variable names it.
    pub workers: Option<u32>,
    /// Whether the database stays where it is.
    pub external: bool,
    /// What stays behind, and why.
    pub left: Vec<(String, &'static str)>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Names whose values say nothing that others must not know.
const PLAIN: [&str; 8] = [
    "TZ",
    "TIME_ZONE",
    "LANG",
    "LANGUAGE_CODE",
    "LOG_LEVEL",
    "DJANGO_LOG_LEVEL",
    "DJANGO_ENV",
    "ENVIRONMENT",
];

/// Why a variable stays behind.
fn left(name: &str, keep_addons: bool) -> Option<&'static str> {
    match name {
        "DATABASE_URL" | "DATABASE_CONNECTION_POOL_URL" if !keep_addons => {
            Some("Heroku's database: the server has one of its own")
        }
        "REDIS_URL" | "REDIS_TLS_URL" if !keep_addons => {
            Some("Heroku's Redis: the server has one of its own")
        }
        "PORT" | "DYNO" => Some("set for each process"),
        "DEBUG" | "DJANGO_DEBUG" => Some("off on a server"),
        "ALLOWED_HOSTS" | "DJANGO_ALLOWED_HOSTS" | "CSRF_TRUSTED_ORIGINS" => {
            Some("follows `domains` of ship.yml")
        }
        "DISABLE_COLLECTSTATIC"
        | "DEBUG_COLLECTSTATIC"
        | "PYTHONHOME"
        | "PYTHONPATH"
        | "LD_LIBRARY_PATH"
        | "LIBRARY_PATH"
        | "PATH"
        | "PYTHONHASHSEED"
        | "PIP_NO_CACHE_DIR" => Some("for Heroku's build"),
        _ if name.starts_with("HEROKU_POSTGRESQL_") || name.starts_with("HEROKU_REDIS_") => {
            if keep_addons {
                None
            } else {
                Some("Heroku's add-on: the server has one of its own")
            }
        }
        _ if name.starts_with("HEROKU_") => Some("Heroku's own"),
        _ => None,
    }
}

/// Sorts the variables. `in_git` are those that `app.json` gives a value: what stands there is no secret.
pub fn sort(
    entries: Vec<(String, Secret)>,
    in_git: &BTreeMap<String, String>,
    addons: &[String],
    keep_addons: bool,
) -> Imported {
    let mut found = Imported::default();
    for (name, value) in entries {
        if let Some(why) = left(&name, keep_addons) {
            found.left.push((name, why));
            continue;
        }
        let plain =
            PLAIN.contains(&name.as_str()) || in_git.get(&name).is_some_and(|known| known == value.reveal());
        match (name.as_str(), value.reveal()) {
            ("DJANGO_SETTINGS_MODULE", module) => found.settings = Some(module.to_owned()),
            ("WEB_CONCURRENCY", number) => match number.parse() {
                Ok(number @ 1..=256) => found.workers = Some(number),
                Ok(_) | Err(_) => found.left.push((name, "not a number of workers")),
            },
            (_, value) if plain && !value.contains(char::is_control) => {
                found.env.insert(name, value.to_owned());
            }
            _ => {
                found.external |= name == "DATABASE_URL";
                found.secrets.insert(name, value);
            }
        }
    }
    for addon in addons {
        let name = addon.split(':').next().unwrap_or(addon);
        match name {
            "heroku-postgresql" => {}
            "heroku-redis" => found.notes.push(
                "add-on heroku-redis: Redis runs on the server when the settings use it; `services: {redis: on}` says so".into(),
            ),
            "scheduler" => found.notes.push(
                "add-on scheduler: its jobs are listed by nobody but `heroku addons:open scheduler`; put them under `schedule:`"
                    .into(),
            ),
            other => found
                .notes
                .push(format!("add-on {other}: it stays at its provider, its variables come along; it may end with the app at Heroku")),
        }
    }
    found
}

/// The add-ons that `app.json` names.
pub fn addons(app_json: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(app_json).unwrap_or_default();
    let name =
        |addon: &serde_json::Value| addon.as_str().or_else(|| addon.get("plan")?.as_str()).map(str::to_owned);
    value.get("addons").and_then(|addons| addons.as_array()).into_iter().flatten().filter_map(name).collect()
}

/// The `ship.yml`: what `ship init` writes for the project, with what Heroku says.
pub fn ship_yml(written: &str, imported: &Imported, server: Option<&str>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let env: Vec<String> =
        imported.env.iter().map(|(name, value)| format!("{name}: {}", quoted(value))).collect();
    let secrets: Vec<&str> = imported.secrets.keys().map(String::as_str).collect();
    let mut out = String::new();
    let mut settings = imported.settings.clone();
    for line in written.lines() {
        let is = |beginning: &str| line.starts_with(beginning);
        let new = if is("server: ") {
            server.map(|server| format!("server: {server}"))
        } else if is("database: ") && imported.external {
            Some("database: external".to_owned())
        } else if (is("# env: {") || is("env: {")) && !env.is_empty() {
            Some(format!("env: {{{}}}    # from Heroku", env.join(", ")))
        } else if (is("# secrets: [") || is("secrets: [")) && !secrets.is_empty() {
            Some(format!("secrets: [{}]    # from Heroku", secrets.join(", ")))
        } else if is("# processes:") {
            imported
                .workers
                .map(|number| format!("processes: {{web: {{workers: {number}}}}}    # WEB_CONCURRENCY"))
        } else if is("# django: {") || is("django: {") {
            settings.take().map(|module| {
                let root = line.split("root: ").nth(1).and_then(|rest| rest.split([',', '}']).next());
                let root = root
                    .filter(|root| *root != ".")
                    .map(|root| format!("root: {root}, "))
                    .unwrap_or_default();
                format!("django: {{{root}settings: {}}}    # DJANGO_SETTINGS_MODULE", quoted(&module))
            })
        } else {
            None
        };
        out.push_str(new.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = r#"ALLOWED_HOSTS=library.herokuapp.com
DATABASE_URL='postgres://u:secret@ec2.example.com:5432/d'
DISABLE_COLLECTSTATIC=1
DJANGO_SETTINGS_MODULE=library.settings.production
EMPTY=
GREETING='it is \\ here'
HEROKU_POSTGRESQL_COBALT_URL='postgres://u:secret@ec2.example.com:5432/d'
HEROKU_SLUG_COMMIT=abc
KEY="line one\nline 'two' \"\$x\""
REDIS_URL='redis://h:secret@ec2.example.com:6379'
SECRET_KEY='a(b)$c'
TIME_ZONE='Europe/Berlin'
TITLE='The Library'
WEB_CONCURRENCY=3
"#;

    fn imported(keep: bool) -> Imported {
        let in_git = BTreeMap::from([("TITLE".to_owned(), "The Library".to_owned())]);
        let addons = addons(
            r#"{"addons": ["heroku-postgresql:mini", {"plan": "heroku-redis:mini"}, "scheduler:standard", "sendgrid"]}"#,
        );
        sort(parse_config(SAID).unwrap(), &in_git, &addons, keep)
    }

    #[test]
    fn the_words_of_heroku_are_read_as_it_quotes_them() {
        let entries = parse_config(SAID).unwrap();
        let value = |name: &str| {
            entries
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.reveal().to_owned())
                .unwrap()
        };
        assert_eq!(value("GREETING"), r"it is \ here");
        assert_eq!(value("KEY"), "line one\nline 'two' \"$x\"");
        assert_eq!(value("SECRET_KEY"), "a(b)$c");
        assert_eq!(value("EMPTY"), "");
        let bad = |text: &str| parse_config(text).map(|_| ()).unwrap_err();
        assert_eq!(bad("A=1\nsecret"), BadLine { line: 2, why: "it is not NAME=value" });
        assert_eq!(bad("A='x").why, "its quotes don't match");
        assert_eq!(bad("A='x' y").why, "its quotes don't match");
        assert_eq!(bad("1A=x").why, "its name is none of a variable");
        assert!(bad("=== library Config Vars").why.contains("heroku config -s"));
    }

    #[test]
    fn what_is_herokus_stays_there_and_it_is_said_why() {
        let found = imported(false);
        let left: Vec<String> = found.left.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        insta::assert_snapshot!(left.join("\n"), @r"
        ALLOWED_HOSTS: follows `domains` of ship.yml
        DATABASE_URL: Heroku's database: the server has one of its own
        DISABLE_COLLECTSTATIC: for Heroku's build
        HEROKU_POSTGRESQL_COBALT_URL: Heroku's add-on: the server has one of its own
        HEROKU_SLUG_COMMIT: Heroku's own
        REDIS_URL: Heroku's Redis: the server has one of its own
        ");
        assert_eq!(found.secrets.keys().collect::<Vec<_>>(), ["EMPTY", "GREETING", "KEY", "SECRET_KEY"]);
        assert_eq!(found.env.keys().collect::<Vec<_>>(), ["TIME_ZONE", "TITLE"]);
        insta::assert_snapshot!(found.notes.join("\n"), @r"
        add-on heroku-redis: Redis runs on the server when the settings use it; `services: {redis: on}` says so
        add-on scheduler: its jobs are listed by nobody but `heroku addons:open scheduler`; put them under `schedule:`
        add-on sendgrid: it stays at its provider, its variables come along; it may end with the app at Heroku
        ");
        let kept = imported(true);
        assert!(
            kept.external
                && kept.secrets.contains_key("DATABASE_URL")
                && kept.secrets.contains_key("REDIS_URL")
        );
    }

    #[test]
    fn ship_yml_has_what_heroku_says() {
        let written = "app: library\nserver: {provider: vagrant}\n# django: {root: src, settings: library.settings, wsgi: library.wsgi}    # found\n\
                       database: postgres\n# processes:\n#   web: {workers: auto}\n# env: {TIME_ZONE: UTC}\n# secrets: [EMAIL_HOST_PASSWORD]\n";
        let text = ship_yml(written, &imported(false), Some("{provider: ssh, host: 203.0.113.7}"));
        insta::assert_snapshot!(text, @r#"
        app: library
        server: {provider: ssh, host: 203.0.113.7}
        django: {root: src, settings: "library.settings.production"}    # DJANGO_SETTINGS_MODULE
        database: postgres
        processes: {web: {workers: 3}}    # WEB_CONCURRENCY
        #   web: {workers: auto}
        env: {TIME_ZONE: "Europe/Berlin", TITLE: "The Library"}    # from Heroku
        secrets: [EMPTY, GREETING, KEY, SECRET_KEY]    # from Heroku
        "#);
        assert_eq!(ship_yml(written, &Imported::default(), None), written);
    }
}
