//! The decisions of `templates/django/overlay.py` as data, and that the plan foretells what Django will say.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;
use crate::config::{self, Defaults};
use crate::project;

const STARTPROJECT: [&str; 2] = [
    include_str!("../../tests/fixtures/overlay/settings-4.2.py"),
    include_str!("../../tests/fixtures/overlay/startproject/mysite/settings.py"),
];

/// Runs Python with `overlay.py` loaded and JSON from stdin as `data`; what it prints is JSON.
fn python(code: &str, data: &Value) -> Value {
    let program = format!("import json, sys\ndata = json.load(sys.stdin)\n{DECIDE}\n{code}");
    let mut child = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(data.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn config(lines: &str) -> config::Config {
    let files: BTreeMap<String, String> = [
        ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\nimport django\n"),
        ("mysite/settings.py", ""),
        ("mysite/wsgi.py", ""),
        ("requirements.txt", "Django\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    let project = project::detect(&project::Tree::from_map(files));
    let text = format!("app: site\nserver: {{provider: ssh, host: h}}\n{lines}");
    config::load("ship.yml", &text, None, &project, &Defaults { folder_name: "site", playbooks: &[] })
        .unwrap()
}

fn settings(text: &str) -> Settings {
    Settings::find(".", "mysite.settings", "mysite.wsgi", &[], &|path| {
        (path == "mysite/settings.py").then(|| text.to_owned())
    })
}

/// What Python decides for the text of settings, executed as it stands in a release.
fn decided(config: &config::Config, text: &str, database_url: &str, https: bool) -> Vec<Override> {
    let program = program(config, &settings(text)).unwrap().text().to_string();
    let line = program.lines().find(|line| line.starts_with("SHIP = ")).unwrap();
    let code = format!(
        "{line}\nnames = {{'__file__': '/srv/site/releases/v1/mysite/settings.py', '__name__': 'mysite.settings'}}\n\
         exec(data['text'], names)\n\
         names = {{name: value for name, value in names.items() if name.isupper()}}\n\
         found = decide(names, dict(SHIP, cwd='/srv/site/releases/v1', https=data['https']), data['env'], (5, 2), [data['text']])\n\
         [one.pop('value') for one in found]\nprint(json.dumps(found))"
    );
    let env = json!({"SECRET_KEY": "made", "DJANGO_SECRET_KEY": "made", "DATABASE_URL": database_url});
    serde_json::from_value(python(&code, &json!({"text": text, "env": env, "https": https}))).unwrap()
}

#[test]
fn the_plan_foretells_what_django_will_say() {
    let url = "postgres://site:pw@127.0.0.1:5432/site";
    let sqlite = "sqlite:////srv/site/shared/database/db.sqlite3";
    let foreign = "SECRET_KEY = 'abc'\nDEBUG = True\nALLOWED_HOSTS = ['tutorial.example.org', '127.0.0.1']\n\
                   DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'polls', 'USER': 'me', 'HOST': 'db.example.org'}}\n\
                   MEDIA_ROOT = '/srv/site/shared/media'\n";
    let development_mail = format!(
        "{}\nMAILERS = {{\n    'default': {{\n        'BACKEND': 'django.core.mail.backends.console.EmailBackend',\n    }},\n}}\n",
        STARTPROJECT[1]
    );
    let other_fields = STARTPROJECT[1]
        .replace("'django.contrib.staticfiles',", "'django.contrib.staticfiles', 'wagtail.search',");
    for (lines, text, url) in [
        ("", STARTPROJECT[0], url),
        ("", STARTPROJECT[1], url),
        ("", &development_mail, url),
        ("", &other_fields, url),
        ("database: sqlite", &other_fields, sqlite),
        ("domains: [a.example, www.a.example]", STARTPROJECT[1], url),
        ("database: sqlite", STARTPROJECT[1], sqlite),
        ("django: {overlay: {debug: off, databases: off}}", STARTPROJECT[1], url),
        ("domains: [a.example]", foreign, url),
        ("", "SECRET_KEY = ''\n", url),
    ] {
        let config = config(lines);
        for https in [false, true] {
            assert_eq!(
                expected(&config, &settings(text), None, https),
                decided(&config, text, url, https),
                "{lines}\n{text}"
            );
        }
    }
    insta::assert_snapshot!(lines(&expected(&config("domains: [a.example]"), &settings(STARTPROJECT[1]), None, false)).join("\n"), @r#"
    DEBUG                 True → False  (with DEBUG on, errors show the site's code and settings to everyone)
    SECRET_KEY            *** in the code → ***  (whoever reads the code could sign sessions with it; the new one is known to the server alone)
    ALLOWED_HOSTS         [] → ['a.example']  (`domains` of ship.yml)
    CSRF_TRUSTED_ORIGINS  [] → ['https://a.example']  (forms are sent from the `domains` of ship.yml, through nginx)
    DATABASES             sqlite db.sqlite3 → postgres site at 127.0.0.1  (the project's own would be gone with each release; to keep SQLite: `database: sqlite`)
    STATIC_ROOT           not set → '/srv/site/static'  (collectstatic needs a folder, which nginx serves)
    MEDIA_ROOT            not set → '/srv/site/shared/media'  (uploads are kept outside the releases)
    "#);
    assert_eq!(program(&config("django: {overlay: off}"), &settings("")), None);
    assert_eq!(expected(&config("django: {overlay: off}"), &settings(STARTPROJECT[1]), None, false), []);
}

#[test]
fn what_django_said_is_corrected_by_the_text() {
    let one = |name: &str, switch: &str, new: &str| Override {
        switch: switch.into(),
        name: name.into(),
        old: "o".into(),
        new: new.into(),
        why: String::new(),
    };
    let last = vec![
        one("STATIC_ROOT", "static_root", "x"),
        one("DEBUG", "debug", "old"),
        one("DATABASES", "databases", "y"),
    ];
    let text =
        "DEBUG = True\nSECRET_KEY = env('X')\nALLOWED_HOSTS = ['*']\nDATABASES = f()\nMEDIA_ROOT = 'm'\n";
    let found = expected(&config("django: {overlay: {databases: off}}"), &settings(text), Some(last), false);
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["DEBUG", "STATIC_ROOT"]);
    assert_eq!(found[0].new, "False");
}

#[test]
fn urls_of_databases_keep_everything() {
    let postgres = "django.db.backends.postgresql";
    let cases = json!([
        ["postgres://u:p@h:5433/n", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "5433"}],
        ["postgresql://u%40x:p%2F%3A%40%23@H.example.com/n-1", {"ENGINE": postgres, "NAME": "n-1", "USER": "u@x", "PASSWORD": "p/:@#", "HOST": "H.example.com", "PORT": ""}],
        ["postgres://u:p#w@h/n", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p#w", "HOST": "h", "PORT": ""}],
        ["postgres://u:p@%2Frun%2Fpostgresql/n", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "/run/postgresql", "PORT": ""}],
        ["postgresql:///n?host=/run/postgresql", {"ENGINE": postgres, "NAME": "n", "USER": "", "PASSWORD": "", "HOST": "/run/postgresql", "PORT": ""}],
        ["postgres://u:p@[::1]:5432/n", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "::1", "PORT": "5432"}],
        ["postgres://u:p@a:1,b:2/n?target_session_attrs=read-write", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "a,b", "PORT": "1,2", "OPTIONS": {"target_session_attrs": "read-write"}}],
        ["postgres://u:p@h/n?sslmode=verify-full&sslrootcert=/etc/ca.pem&conn_max_age=0&connect_timeout=5", {"ENGINE": postgres, "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "", "CONN_MAX_AGE": 0, "OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem", "connect_timeout": 5}}],
        ["postgis://h/n", {"ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "n", "USER": "", "PASSWORD": "", "HOST": "h", "PORT": ""}],
        ["mysql://u:p@h:3306/n?ssl-ca=/ca.pem&charset=utf8", {"ENGINE": "django.db.backends.mysql", "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "3306", "OPTIONS": {"ssl": {"ca": "/ca.pem"}, "charset": "utf8"}}],
        ["mysql://u:p@h/n?ssl-mode=required", {"ENGINE": "django.db.backends.mysql", "NAME": "n", "USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "", "OPTIONS": {"ssl_mode": "REQUIRED"}}],
        ["mysqlgis://u@/n?unix_socket=/run/mysqld/mysqld.sock", {"ENGINE": "django.contrib.gis.db.backends.mysql", "NAME": "n", "USER": "u", "PASSWORD": "", "HOST": "", "PORT": "", "OPTIONS": {"unix_socket": "/run/mysqld/mysqld.sock"}}],
        ["sqlite:////srv/x/db.sqlite3", {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/x/db.sqlite3", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}],
        ["sqlite:///x.db", {"ENGINE": "django.db.backends.sqlite3", "NAME": "x.db", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}],
        ["sqlite://:memory:", {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}],
    ]);
    let found = python("print(json.dumps([[url, parse_url(url)] for url, _ in data]))", &cases);
    assert_eq!(found, cases);
    let bad = python(
        "def fails(url):\n    try:\n        parse_url(url)\n    except ValueError as error:\n        return str(error)\nprint(json.dumps([fails(url) for url in data]))",
        &json!(["http://x/y", "", "postgres://h:x/y"]),
    );
    assert!(bad.as_array().unwrap().iter().all(Value::is_string), "{bad}");
    assert!(!bad.to_string().contains("h:x"));
}

/// Settings beyond the example of Django, what ship.yml says, the environment, and the overrides that follow.
#[test]
fn what_is_production_safe_stays() {
    let ours = json!({"SECRET_KEY": "made", "DATABASE_URL": "postgres://site:pw@127.0.0.1:5432/site"});
    let read = json!({"ENGINE": "django.db.backends.postgresql", "NAME": "site", "USER": "site", "PASSWORD": "pw", "HOST": "127.0.0.1", "PORT": 5432});
    let safe = json!({"DEBUG": false, "SECRET_KEY": "made", "ALLOWED_HOSTS": ["a.example"], "DATABASES": {"default": read}, "MEDIA_ROOT": "/srv/site/shared/media",
        "CSRF_TRUSTED_ORIGINS": ["https://a.example", "http://a.example"], "INSTALLED_APPS": ["django.contrib.staticfiles"], "STATIC_URL": "/s/", "STATIC_ROOT": "/srv/site/releases/v1/staticfiles"});
    let with = |change: Value| {
        let mut settings = safe.clone();
        settings.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        settings
    };
    let env = |change: Value| {
        let mut env = ours.clone();
        env.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        env
    };
    let sqlite = json!({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/srv/site/releases/v1/db.sqlite3"}});
    let other = |host: &str| json!({"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "USER": "x", "PASSWORD": "secret", "HOST": host, "OPTIONS": {"sslmode": "require"}}}});
    let cases: Vec<(&str, Value, Value, Value, &str)> = vec![
        ("all is well", safe.clone(), json!({}), ours.clone(), ""),
        ("DEBUG", with(json!({"DEBUG": true})), json!({}), ours.clone(), "DEBUG"),
        ("switched off", with(json!({"DEBUG": true})), json!({"off": ["debug"]}), ours.clone(), ""),
        (
            "a key of its own name in the environment",
            with(json!({"SECRET_KEY": "mine"})),
            json!({}),
            env(json!({"MY_KEY": "mine"})),
            "",
        ),
        ("a key from a file", with(json!({"SECRET_KEY": "from secrets.json"})), json!({}), ours.clone(), ""),
        (
            "a key in the code",
            with(json!({"SECRET_KEY": "in the code"})),
            json!({}),
            ours.clone(),
            "SECRET_KEY",
        ),
        (
            "Django's own insecure key",
            with(json!({"SECRET_KEY": "django-insecure-x"})),
            json!({}),
            ours.clone(),
            "SECRET_KEY",
        ),
        ("any host", with(json!({"ALLOWED_HOSTS": ["*"]})), json!({}), ours.clone(), ""),
        ("a domain and all below", with(json!({"ALLOWED_HOSTS": [".example"]})), json!({}), ours.clone(), ""),
        (
            "foreign hosts",
            with(json!({"ALLOWED_HOSTS": ["x.example.org"]})),
            json!({}),
            ours.clone(),
            "ALLOWED_HOSTS",
        ),
        (
            "hosts as a tuple's text",
            with(json!({"ALLOWED_HOSTS": []})),
            json!({"domains": []}),
            ours.clone(),
            "ALLOWED_HOSTS",
        ),
        ("no DATABASE_URL", with(json!({"DATABASES": sqlite})), json!({}), json!({"SECRET_KEY": "made"}), ""),
        ("SQLite in the project", with(json!({"DATABASES": sqlite})), json!({}), ours.clone(), "DATABASES"),
        ("a server of somebody's", with(other("db.example.org")), json!({}), ours.clone(), "DATABASES"),
        (
            "a server from other variables",
            with(other("db.example.org")),
            json!({}),
            env(json!({"DB_HOST": "db.example.org"})),
            "",
        ),
        (
            "a password from other variables",
            with(other("localhost")),
            json!({}),
            env(json!({"DB_PASSWORD": "secret"})),
            "",
        ),
        (
            "the name of a user is no variable",
            with(other("localhost")),
            json!({}),
            env(json!({"USER": "x"})),
            "DATABASES",
        ),
        ("no database", with(json!({"DATABASES": {}})), json!({}), ours.clone(), "DATABASES"),
        ("no folder", with(json!({"STATIC_ROOT": null})), json!({}), ours.clone(), "STATIC_ROOT"),
        (
            "a folder elsewhere",
            with(json!({"STATIC_ROOT": "/var/www/static"})),
            json!({}),
            ours.clone(),
            "STATIC_ROOT",
        ),
        (
            "its own source",
            with(json!({"STATICFILES_DIRS": ["/srv/site/releases/v1/staticfiles/"]})),
            json!({}),
            ours.clone(),
            "STATIC_ROOT",
        ),
        (
            "without staticfiles",
            with(json!({"INSTALLED_APPS": [], "STATIC_ROOT": null})),
            json!({}),
            ours.clone(),
            "",
        ),
        ("uploads to nowhere", with(json!({"MEDIA_ROOT": ""})), json!({}), ours.clone(), "MEDIA_ROOT"),
        (
            "uploads elsewhere",
            with(json!({"MEDIA_ROOT": "/var/www/media"})),
            json!({}),
            ours.clone(),
            "MEDIA_ROOT",
        ),
        (
            "uploads to a bucket",
            with(
                json!({"MEDIA_ROOT": "", "STORAGES": {"default": {"BACKEND": "storages.backends.s3.S3Storage"}}}),
            ),
            json!({}),
            ours.clone(),
            "",
        ),
        (
            "the same, as Django before 4.2 says it",
            with(
                json!({"MEDIA_ROOT": "", "DEFAULT_FILE_STORAGE": "storages.backends.s3boto3.S3Boto3Storage"}),
            ),
            json!({}),
            ours.clone(),
            "",
        ),
        (
            "TLS",
            safe.clone(),
            json!({"https": true}),
            ours.clone(),
            "SECURE_PROXY_SSL_HEADER SESSION_COOKIE_SECURE CSRF_COOKIE_SECURE SILENCED_SYSTEM_CHECKS",
        ),
        (
            "TLS, and a project that sees to it by itself",
            with(
                json!({"SECURE_PROXY_SSL_HEADER": ["HTTP_X", "https"], "SESSION_COOKIE_SECURE": true, "CSRF_COOKIE_SECURE": true,
                "SECURE_HSTS_SECONDS": 60, "SECURE_SSL_REDIRECT": true}),
            ),
            json!({"https": true}),
            ours.clone(),
            "",
        ),
        (
            "headers that were turned off",
            with(
                json!({"SECURE_CONTENT_TYPE_NOSNIFF": false, "SECURE_REFERRER_POLICY": null, "SESSION_COOKIE_HTTPONLY": false}),
            ),
            json!({}),
            ours.clone(),
            "SECURE_CONTENT_TYPE_NOSNIFF SECURE_REFERRER_POLICY SESSION_COOKIE_HTTPONLY",
        ),
        (
            "origins by pattern",
            with(json!({"CSRF_TRUSTED_ORIGINS": ["https://*.example", "http://*.example"]})),
            json!({}),
            ours.clone(),
            "",
        ),
    ];
    let ship = json!({"domains": ["a.example"], "https": false, "database": "postgres", "off": [], "cwd": "/srv/site/releases/v1",
        "folders": ["/srv/site/releases", "/srv/site/shared", "/srv/site/static"], "static": "/srv/site/static", "media": "/srv/site/shared/media"});
    let data: Vec<Value> = cases
        .iter()
        .map(|(_, settings, change, env, _)| {
            let mut ship = ship.clone();
            ship.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            json!([settings, ship, env])
        })
        .collect();
    let found = python(
        "print(json.dumps([' '.join(one['name'] for one in decide(settings, ship, env, (5, 2), [\"KEY = 'in the code'\"])) for settings, ship, env in data]))",
        &data.into(),
    );
    for ((what, .., expected), found) in cases.iter().zip(found.as_array().unwrap()) {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn mail_for_development_is_sent_after_all() {
    let console = "django.core.mail.backends.console.EmailBackend";
    let cases = json!([
        [{"MAILERS": {"default": {"BACKEND": console}, "log": {"BACKEND": console}}}, {}],
        [
            {"MAILERS": {"default": {"BACKEND": console}}},
            {"EMAIL_HOST": "smtp.example", "EMAIL_PORT": "587", "EMAIL_USE_TLS": "True", "EMAIL_HOST_USER": "u", "EMAIL_HOST_PASSWORD": "007"}
        ],
        [{"MAILERS": {"default": {"BACKEND": "anymail.backends.mailgun.EmailBackend"}}}, {}],
        [{"MAILERS": {"default": {}}}, {}],
        [{"EMAIL_BACKEND": console}, {}],
    ]);
    let found = python(
        "made = []\nfor settings, env in data:\n    mail(settings, env, lambda *one: made.append([one[2], one[3]]))\nprint(json.dumps(made))",
        &cases,
    );
    let smtp = "django.core.mail.backends.smtp.EmailBackend";
    let expected = json!([
        [{"default": {"BACKEND": smtp, "OPTIONS": {"host": "localhost"}}, "log": {"BACKEND": console}}, "console"],
        [
            {"default": {"BACKEND": smtp, "OPTIONS": {
                "host": "smtp.example", "port": 587, "use_tls": true, "username": "u", "password": "007"}}},
            "console"
        ],
    ]);
    assert_eq!(found, expected);
}

#[test]
fn databases_keep_what_they_have_of_use() {
    let url = "postgres://site:pw@127.0.0.1:5432/site";
    let cases = json!([
        [{"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "ATOMIC_REQUESTS": true, "OPTIONS": {"timeout": 5}}, url, [5, 2]],
        [{"ENGINE": "django_prometheus.db.backends.postgresql", "OPTIONS": {"options": "-c x=1"}, "CONN_MAX_AGE": 0}, url, [3, 2]],
        [{"ENGINE": "django.contrib.gis.db.backends.spatialite"}, url, [4, 0]],
        [{"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": true}}, url, [5, 2]],
        [{"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 5}}, "sqlite:////s/db", [5, 1]],
        [{"ENGINE": "django.db.backends.sqlite3"}, "sqlite:////s/db", [4, 2]],
        [{"ENGINE": "django.db.backends.sqlite3"}, "mysql://u:p@h/n", [5, 2]],
        [{"ENGINE": "django.db.backends.mysql", "HOST": "db.internal", "OPTIONS": {"ssl": {"ca": "/ca.pem"}, "read_default_file": "/etc/my.cnf", "init_command": "SET x=1", "charset": "utf8"}}, "mysql://u:p@127.0.0.1/n?charset=utf8mb4", [3, 2]],
        [{"ENGINE": "django.contrib.gis.db.backends.mysql", "OPTIONS": {"unix_socket": "/s", "ssl": {"ca": "/ca.pem"}}}, "mysql://u:p@db.internal/n?ssl-mode=VERIFY_CA", [3, 2]],
    ]);
    let found = python(
        "def made(old, url, version):\n    one = database(old, parse_url(url), tuple(version), False)\n    return {key: value for key, value in one.items() if key not in ('USER', 'PASSWORD', 'HOST', 'PORT', 'NAME')}\n\
         print(json.dumps([made(*case) for case in data]))",
        &cases,
    );
    let expected = json!([
        {"ENGINE": "django.db.backends.postgresql", "ATOMIC_REQUESTS": true, "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": true},
        {"ENGINE": "django_prometheus.db.backends.postgresql", "OPTIONS": {"options": "-c x=1"}, "CONN_MAX_AGE": 0},
        {"ENGINE": "django.contrib.gis.db.backends.postgis", "CONN_MAX_AGE": 60},
        {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": true}},
        {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 5, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"}},
        {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 20}},
        {"ENGINE": "django.db.backends.mysql", "OPTIONS": {"charset": "utf8mb4"}, "CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": true},
        {"ENGINE": "django.db.backends.mysql", "OPTIONS": {"charset": "utf8mb4", "init_command": "SET x=1"}, "CONN_MAX_AGE": 60},
        {"ENGINE": "django.contrib.gis.db.backends.mysql", "OPTIONS": {"charset": "utf8mb4", "ssl": {"ca": "/ca.pem"}, "ssl_mode": "VERIFY_CA"}, "CONN_MAX_AGE": 60},
    ]);
    assert_eq!(found, expected);
}

#[test]
fn pymysql_gets_its_own_words_for_tls() {
    let cases = json!([
        {"charset": "utf8mb4"},
        {"ssl_mode": "DISABLED"},
        {"ssl_mode": "REQUIRED"},
        {"ssl_mode": "VERIFY_CA", "ssl": {"ca": "/ca.pem"}},
        {"ssl_mode": "VERIFY_IDENTITY", "ssl": {"ca": "/ca.pem"}},
    ]);
    let expected = json!([
        {"charset": "utf8mb4"},
        {},
        {"ssl": {"check_hostname": false}},
        {"ssl": {"ca": "/ca.pem", "check_hostname": false, "verify_mode": "required"}},
        {"ssl": {"ca": "/ca.pem", "check_hostname": true, "verify_mode": "required"}},
    ]);
    assert_eq!(python("print(json.dumps([for_pymysql(one) for one in data]))", &cases), expected);
}
