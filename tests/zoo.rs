//! Projects as they come: each made by its own tools, deployed unmodified, asked for its pages, and deployed again.
//!
//! `scripts/test` runs those marked `quick`; `scripts/zoo` all of them, and writes the table of docs/zoo.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde::Deserialize;

use crate::boxes::{Suite, TestBox};
use crate::support::websocket::WebSocket;
use crate::support::{Project, get, wait_for};

/// An entry of zoo.yml; what its keys mean stands there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    on: String,
    #[serde(default)]
    quick: bool,
    make: String,
    folder: Option<String>,
    front: Option<u16>,
    #[serde(default)]
    pages: BTreeMap<String, String>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    config: String,
    database: Option<String>,
    websocket: Option<String>,
    file: Option<String>,
    refused: Option<String>,
    #[serde(default)]
    warns: Vec<String>,
}

fn entries() -> Vec<Entry> {
    serde_yaml::from_str(include_str!("zoo/zoo.yml")).expect("zoo.yml is what Entry says")
}

fn tools() -> PathBuf {
    let testbed = std::env::var("SHIP_TESTBED").unwrap_or_else(|_| "/var/cache/ship-testbed".into());
    let tools = Path::new(&testbed).join("zoo/bin");
    assert!(tools.join("uv").exists(), "tests/zoo/prepare installs uv into {}", tools.display());
    tools
}

/// What the scripts begin with. Only a Python of today runs the Django of today, and the box has one.
const PRELUDE: &str = r#"set -euo pipefail
django() {
  local version=$1
  shift
  if [[ $version == newest ]]; then cp -r "$NEWEST/." .; else uv tool run --quiet --from "django==$version.*" django-admin "$@"; fi
}
"#;

/// What `startproject` of the newest Django makes, on a server that has a Python for it.
fn newest(server: &TestBox, to: &Path) {
    server.exec(
        "cd /root && python3 -m venv newest && newest/bin/pip -q install django >/dev/null 2>&1 &&
         mkdir project && newest/bin/django-admin startproject mysite project && tar -cf project.tar -C project . &&
         rm -rf newest project /root/.cache",
    );
    let tar = server.read("/root/project.tar").expect("project.tar");
    server.exec("rm /root/project.tar");
    std::fs::create_dir_all(to).unwrap();
    let file = to.with_extension("tar");
    std::fs::write(&file, tar).unwrap();
    let done = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(to).status().expect("run tar");
    assert!(done.success());
}

fn make(entry: &Entry, server: &TestBox, project: &Project) {
    let newest_to = project.home.join("newest");
    if entry.make.contains("django newest") {
        newest(server, &newest_to);
    }
    let path = format!("{}:{}", tools().display(), std::env::var("PATH").unwrap_or_default());
    let made = Command::new("bash")
        .arg("-c")
        .arg(format!("{PRELUDE}{}", entry.make))
        .current_dir(&project.dir)
        .env("PATH", path)
        .env("NEWEST", &newest_to)
        .envs([("UV_SYSTEM_CERTS", "1"), ("UV_NO_PROGRESS", "1"), ("UV_PYTHON_DOWNLOADS", "never")])
        .output()
        .expect("run bash");
    let (out, err) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    assert!(made.status.success(), "{}: {}\n{out}\n{err}", entry.name, made.status);
}

/// What a deployed entry came to, as a row of the table.
struct Row {
    name: String,
    system: String,
    versions: String,
    seconds: f64,
    database: String,
    overrides: Vec<String>,
}

/// `ship init` and `ship up`, twice, with nothing edited but where the server is.
fn deploy(entry: &Entry) -> Row {
    let (suite, system) = match entry.on.as_str() {
        "bookworm" => (Suite::Bookworm, "Debian 12"),
        "trixie" => (Suite::Trixie, "Debian 13"),
        other => panic!("{other} is no box"),
    };
    let server = TestBox::builder().suite(suite).packages(true).boot();
    let project = Project::named(&server, "root", entry.folder.as_deref().unwrap_or("mysite"));
    make(entry, &server, &project);
    project.ship(&["init"]).exits(0);
    let written = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    project.write("ship.yml", &format!("{}\n{}\n", project.with_server(&written), entry.config));
    project.commit("As it comes");

    if let Some(text) = &entry.refused {
        let ran = project.ship(&["up", "--yes"]).exits(3).says(text);
        assert!(!ran.stderr.contains("Traceback"), "{}", ran.stderr);
        assert_eq!(server.exec("ls -d /srv/*/releases 2>/dev/null || true"), "", "nothing was built");
        return Row {
            name: entry.name.clone(),
            system: system.into(),
            versions: "refused".into(),
            seconds: 0.0,
            database: String::new(),
            overrides: vec![
                ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().into(),
            ],
        };
    }
    // What only the owner knows is asked for before anything is built.
    if let Some(name) = entry.set.keys().next() {
        project.ship(&["up", "--yes"]).exits(3).says(name).says("ship config set");
        assert_eq!(server.exec("ls -d /srv/*/releases/* 2>/dev/null || true"), "", "nothing was built");
    }
    for (name, value) in &entry.set {
        project.ship(&["config", "set", "--yes", &format!("{name}={value}")]).exits(0);
    }
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    for text in &entry.says {
        assert!(plan.stdout.contains(text.as_str()), "the plan does not say {text}:\n{}", plan.stdout);
    }
    let overrides: Vec<String> = plan
        .stdout
        .lines()
        .filter(|line| line.contains(" → ") && line.starts_with("      "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    let began = Instant::now();
    project.up().says("v1 serves");
    let seconds = began.elapsed().as_secs_f64();

    pages(entry, &server);
    let database = database(entry, &project, &plan.stdout);
    checks(entry, &project, &NEED_HTTPS);
    if let Some(path) = &entry.websocket {
        let mut socket = WebSocket::open(&server.host, path);
        assert_eq!(socket.ask("hello"), "echo hello", "{}", entry.name);
    }
    if let Some(file) = &entry.file {
        let path = format!("ls -s /srv/*/{file} | grep -v '^0'");
        wait_for(file, 60, || server.exec_status(&path).status.success());
    }
    project.up().says("Nothing to change");
    by_https(entry, &server, &project);
    let versions =
        "import sys, django; print('Django', django.__version__, 'Python', '%d.%d' % sys.version_info[:2])";
    let versions = project.ship(&["manage", "shell", "-c", versions]).exits(0).stdout;
    let versions = versions.lines().find(|line| line.starts_with("Django ")).unwrap_or_default().to_owned();
    Row { name: entry.name.clone(), system: system.into(), versions, seconds, database, overrides }
}

fn pages(entry: &Entry, server: &TestBox) {
    let name = &entry.name;
    let front = get(server, "/");
    assert_eq!(front.status, entry.front.unwrap_or(404), "{name}: {}", front.text());
    let admin = get(server, "/admin/");
    assert_eq!(admin.status, 302, "{name}: {}", admin.text());
    let login = get(server, admin.header("Location"));
    assert_eq!(login.status, 200, "{name}: {}", login.text());
    let text = login.text();
    let styles = text.split('"').find(|word| word.contains("/static/") && word.contains(".css"));
    let styles = styles.unwrap_or_else(|| panic!("{name}: no style sheet in {text}"));
    let css = get(server, styles.split('?').next().unwrap());
    assert_eq!(css.status, 200, "{name}: {styles}");
    assert!(
        !css.header("ETag").is_empty() && css.header("X-Content-Type-Options") == "nosniff",
        "{name}: by nginx"
    );
    let nowhere = get(server, "/nowhere/at/all/");
    assert_eq!(nowhere.status, 404, "{name}");
    assert!(!nowhere.text().contains("DEBUG"), "{name}: {}", nowhere.text());
    for (path, has) in &entry.pages {
        let page = get(server, path);
        assert!(page.status == 200 && page.text().contains(has.as_str()), "{name} {path}: {}", page.text());
    }
}

/// The database is the one that the plan named.
fn database(entry: &Entry, project: &Project, plan: &str) -> String {
    let wanted = entry.database.as_deref().unwrap_or("postgres");
    assert!(plan.contains("postgres database"), "the plan names the database:\n{plan}");
    let engine = "from django.db import connection as c; c.ensure_connection(); \
                  print('engine', c.settings_dict['ENGINE'], c.vendor)";
    let said = project.ship(&["manage", "shell", "-c", engine]).exits(0).stdout;
    let engine = said.lines().find(|line| line.starts_with("engine ")).unwrap_or_default();
    assert!(engine.ends_with("postgresql"), "{}: {said}", entry.name);
    assert_eq!(engine.contains("postgis"), wanted == "postgis", "{}: {said}", entry.name);
    wanted.to_owned()
}

/// What `check --deploy` may still say: these need HTTPS.
const NEED_HTTPS: [&str; 5] =
    ["security.W004", "security.W008", "security.W012", "security.W016", "security.W021"];

fn checks(entry: &Entry, project: &Project, accepted: &[&str]) {
    let said = project.ship(&["manage", "check", "--deploy"]);
    let text = format!("{}{}", said.stdout, said.stderr);
    let others: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("security.W") || line.contains("security.E"))
        .filter(|line| !accepted.iter().any(|id| line.contains(id)))
        .filter(|line| !entry.warns.iter().any(|id| line.contains(id.as_str())))
        .collect();
    assert!(others.is_empty(), "check --deploy: {}", others.join("\n"));
}

/// One line more, and nothing is left of what `check --deploy` said.
fn by_https(entry: &Entry, server: &TestBox, project: &Project) {
    let written = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    project.write("ship.yml", &format!("{written}\ntls: self-signed\n"));
    project.up().says(&format!("v2 serves https://{}/", server.host));
    checks(entry, project, &[]);
    let status = Command::new("curl")
        .args(["-s", "-k", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--max-time", "30"])
        .arg(format!("https://{}/", server.host))
        .output()
        .expect("run curl");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status, format!("{} 2", entry.front.unwrap_or(404)), "{}", entry.name);
    let led = get(server, "/admin/");
    assert_eq!(
        (led.status, led.header("Location")),
        (301, format!("https://{}/admin/", server.host).as_str())
    );
    project.up().says("Nothing to change");
}

/// Deploys these one after the other, and says what became of each; a failure ends the test when all have been tried.
fn visit(entries: &[Entry]) {
    let each = |entry: &Entry| std::panic::catch_unwind(|| deploy(entry)).map_err(|_| entry.name.clone());
    let done: Vec<Result<Row, String>> = entries.iter().map(each).collect();
    let rows: Vec<&Row> = done.iter().filter_map(|row| row.as_ref().ok()).collect();
    let failed: Vec<&str> = done.iter().filter_map(|row| row.as_ref().err().map(String::as_str)).collect();
    if let Some(file) = std::env::var_os("SHIP_ZOO_REPORT") {
        let line = |row: &&Row| {
            let seconds = if row.seconds > 0.0 { format!("{:.0}", row.seconds) } else { String::new() };
            format!(
                "| {} | {} | {} | {seconds} | {} | {} |\n",
                row.name,
                row.system,
                row.versions,
                row.database,
                row.overrides.join(", ")
            )
        };
        use std::io::Write as _;
        let mut report =
            std::fs::OpenOptions::new().create(true).append(true).open(file).expect("the report");
        report.write_all(rows.iter().map(line).collect::<String>().as_bytes()).unwrap();
    }
    assert!(failed.is_empty(), "failed: {}", failed.join("; "));
}

/// A test for each of the quick ones, which so run side by side.
macro_rules! quick {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            #[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
            fn $test() {
                let named = entries().into_iter().find(|entry| entry.name == $name);
                visit(&[named.expect("zoo.yml has an entry of that name")]);
            }
        )*

        #[test]
        fn each_quick_one_has_a_test() {
            let quick: Vec<String> =
                entries().into_iter().filter(|entry| entry.quick).map(|entry| entry.name).collect();
            assert_eq!(quick, [$($name),*]);
        }
    };
}

quick! {
    django_4_2: "startproject, Django 4.2",
    the_newest_django: "startproject, the newest Django",
    wagtail: "wagtail start",
    settings_in_parts: "settings in parts, requirements in parts, django-environ (as cookiecutter-django lays out)",
    uv: "uv",
    pipenv: "Pipenv",
    a_folder_below: "a folder below the repository's, names with dashes and capitals",
    a_user_model: "a user model of its own, and a migration of data",
    python_decouple: "python-decouple",
    a_project_of_2018: "a project of 2018, for Heroku",
}

#[test]
#[ignore = "needs root, systemd-nspawn and half an hour: scripts/zoo runs it"]
fn all_of_them() {
    let only = std::env::var("SHIP_ZOO").unwrap_or_default();
    let all: Vec<Entry> = entries().into_iter().filter(|entry| entry.name.contains(&only)).collect();
    assert!(!all.is_empty(), "no entry's name has {only:?} in it");
    // The table tells how long each takes.
    visit(&all);
}
