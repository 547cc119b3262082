//! What a project says of the server it was meant for: settings of its own for it, and Heroku's `app.json`.
//!
//! Invariant: pure; a choice is told with its reason and can be made otherwise in `ship.yml`.

use std::collections::BTreeMap;

/// Last parts of the names of settings modules for a server, the best first.
const FOR_SERVERS: [&str; 6] = ["production", "prod", "live", "deployment", "deploy", "heroku"];

/// Those that are for developers, or that others are made from.
const FOR_OTHERS: [&str; 12] = [
    "base",
    "common",
    "defaults",
    "local",
    "dev",
    "devel",
    "develop",
    "development",
    "debug",
    "test",
    "tests",
    "testing",
];

/// The settings module for a server that is to be taken instead of `named`, among those that exist.
///
/// `is_empty` says whether a module has no code: a package whose own file says nothing leaves it to its parts.
pub(super) fn settings_for_server<'m>(
    named: &str,
    modules: impl Iterator<Item = &'m String> + Clone,
    is_empty: impl Fn(&str) -> bool,
) -> Option<String> {
    let (parent, last) = named.rsplit_once('.').unwrap_or(("", named));
    let flat = last.strip_prefix("settings_");
    let kind = flat.unwrap_or(last);
    // `settings.production` beside `settings.local`, or below an empty `settings`; `settings_production` beside
    // `settings_local`.
    let prefix = if flat.is_some() {
        format!("{}settings_", if parent.is_empty() { String::new() } else { format!("{parent}.") })
    } else {
        format!("{parent}.")
    };
    let inside = format!("{named}.");
    let others = FOR_OTHERS.contains(&kind);
    let find = |prefix: &str| {
        FOR_SERVERS
            .iter()
            .find_map(|name| modules.clone().find(|module| **module == format!("{prefix}{name}")))
    };
    let found = match () {
        () if FOR_SERVERS.contains(&kind) => None,
        () if others => find(&prefix),
        // A module called `settings` that has code is whole, as a rule, and reads what differs from the environment.
        () if last == "settings" && is_empty(named) => find(&inside),
        () => None,
    };
    found.cloned()
}

/// Heroku's `app.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppJson {
    /// Variables with a value.
    pub env: BTreeMap<String, String>,
    /// Variables that somebody must set.
    pub secrets: Vec<String>,
    /// Variables that may be set.
    pub optional: Vec<String>,
    /// How many of each process.
    pub formation: BTreeMap<String, u64>,
    /// The command that Heroku runs after the first deploy.
    pub postdeploy: Option<String>,
}

/// Variables that ship sets by itself, or that only Heroku reads.
const OURS: [&str; 11] = [
    "ALLOWED_HOSTS",
    "DATABASE_URL",
    "DEBUG",
    "DISABLE_COLLECTSTATIC",
    "DJANGO_ALLOWED_HOSTS",
    "DJANGO_DEBUG",
    "DJANGO_SECRET_KEY",
    "DJANGO_SETTINGS_MODULE",
    "PORT",
    "SECRET_KEY",
    "WEB_CONCURRENCY",
];

/// Reads `app.json`; `None` when it is no such file.
pub(super) fn app_json(text: &str) -> Option<AppJson> {
    let file: serde_json::Value = serde_json::from_str(text).ok()?;
    let file = file.as_object()?;
    let mut found = AppJson::default();
    for (name, entry) in file.get("env").and_then(|value| value.as_object()).into_iter().flatten() {
        if OURS.contains(&name.as_str()) {
            continue;
        }
        let value = entry.as_str().or_else(|| entry.get("value").and_then(|value| value.as_str()));
        let required = entry.get("required").and_then(serde_json::Value::as_bool).unwrap_or(true);
        match value {
            Some(value) if !value.chars().any(char::is_control) => {
                found.env.insert(name.clone(), value.to_owned());
            }
            Some(_) | None if required => found.secrets.push(name.clone()),
            Some(_) | None => found.optional.push(name.clone()),
        }
    }
    for (name, entry) in file.get("formation").and_then(|value| value.as_object()).into_iter().flatten() {
        let count = entry.as_u64().or_else(|| entry.get("quantity").and_then(serde_json::Value::as_u64));
        found.formation.insert(name.clone(), count.unwrap_or(1));
    }
    let command = file.get("scripts").and_then(|scripts| scripts.get("postdeploy"));
    found.postdeploy = command.and_then(|command| command.as_str()).map(str::to_owned);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_for_a_server() {
        for (named, modules, empty, expected) in [
            (
                "config.settings.local",
                "config.settings.local config.settings.production",
                "",
                "config.settings.production",
            ),
            ("config.settings.base", "config.settings.prod config.settings.base", "", "config.settings.prod"),
            (
                "config.settings",
                "config.settings config.settings.base config.settings.production",
                "config.settings",
                "config.settings.production",
            ),
            // Its own code decides.
            ("config.settings", "config.settings config.settings.production", "", ""),
            ("site.settings", "site.settings site.settings_prod", "", ""),
            (
                "site.settings_dev",
                "site.settings_dev site.settings_production",
                "",
                "site.settings_production",
            ),
            ("settings", "settings settings.prod", "settings", "settings.prod"),
            ("site.settings", "site.settings site.settings_test", "", ""),
            ("config.settings.staging", "config.settings.staging config.settings.production", "", ""),
            ("config.settings.prod", "config.settings.prod config.settings.production", "", ""),
            ("a.settings.dev", "a.settings.dev b.settings.production", "", ""),
        ] {
            let modules: Vec<String> = modules.split(' ').map(str::to_owned).collect();
            let found = settings_for_server(named, modules.iter(), |module| module == empty);
            assert_eq!(found.unwrap_or_default(), expected, "{named}");
        }
    }

    #[test]
    fn herokus_file() {
        let text = r#"{
          "name": "site",
          "env": {
            "SECRET_KEY": {"generator": "secret"},
            "TIME_ZONE": "UTC",
            "LOG_LEVEL": {"value": "info"},
            "MAIL_PASSWORD": {"description": "for outgoing mail"},
            "SENTRY_DSN": {"required": false}
          },
          "formation": {"web": {"quantity": 2, "size": "basic"}, "worker": {"quantity": 1}},
          "scripts": {"postdeploy": "python manage.py loaddata start"}
        }"#;
        let found = app_json(text).unwrap();
        assert_eq!(format!("{:?}", found.env), r#"{"LOG_LEVEL": "info", "TIME_ZONE": "UTC"}"#);
        assert_eq!(
            (found.secrets, found.optional),
            (vec!["MAIL_PASSWORD".into()], vec!["SENTRY_DSN".into()])
        );
        assert_eq!(format!("{:?}", found.formation), r#"{"web": 2, "worker": 1}"#);
        assert_eq!(found.postdeploy.as_deref(), Some("python manage.py loaddata start"));
        assert_eq!(app_json("{}"), Some(AppJson::default()));
        assert_eq!(app_json("[]"), None);
        assert_eq!(app_json("{"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_read_without_a_panic(named in "[a-z_.]*") {
            settings_for_server(&named, [named.clone()].iter(), |_| true);
        }
    }
}
