//! What a bad release meets: each one stops with its cause in the first line, and the old site never notices.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::boxes::TestBox;
use crate::support::{Browser, Project, get, wait_for};

/// Someone who asks for the front page all the time, over a new connection each time.
struct Visitor {
    asked: Arc<AtomicUsize>,
    /// What was not the page of the release that should serve.
    strange: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Visitor {
    fn start(server: &TestBox, expected: &'static str) -> Self {
        let (asked, strange, stop) =
            <(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>, Arc<AtomicBool>)>::default();
        let host = server.host.clone();
        let shared = (Arc::clone(&asked), Arc::clone(&strange), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (asked, strange, stop) = shared;
            while !stop.load(Ordering::Relaxed) {
                let page = Browser::open(&host).and_then(|mut browser| browser.request("GET", "/", "", b""));
                match page {
                    Ok(page) if page.status == 200 && page.text().contains(expected) => {}
                    Ok(page) => strange.lock().unwrap().push(format!("{}: {}", page.status, page.text())),
                    Err(error) => strange.lock().unwrap().push(error.to_string()),
                }
                asked.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        Self { asked, strange, stop, thread }
    }

    /// What was strange, once a few more requests have been answered.
    fn stop(self) -> Vec<String> {
        let enough = self.asked.load(Ordering::Relaxed) + 5;
        wait_for("a few more pages", 60, || self.asked.load(Ordering::Relaxed) >= enough);
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        Arc::into_inner(self.strange).unwrap().into_inner().unwrap()
    }
}

/// Answers `GET /` with this view instead of the front page.
fn front_page(project: &Project, view: &str) {
    let urls = std::fs::read_to_string(project.dir.join("locallibrary/urls.py")).unwrap();
    let text = format!(
        "{urls}\nfrom django.http import HttpResponse, HttpResponseRedirect\n\ndef front(request):\n    {view}\n\n\
         urlpatterns.insert(0, path(\"\", front))\n"
    );
    project.write("locallibrary/urls.py", &text);
}

fn append(project: &Project, path: &str, text: &str) {
    let old = std::fs::read_to_string(project.dir.join(path)).unwrap();
    project.write(path, &(old + text));
}

const MANIFEST: &str = r#"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
"#;

/// Whether visitors may have met the new release before it was taken back.
#[derive(PartialEq, Eq)]
enum Seen {
    Never,
    Briefly,
}

type Break = fn(&Project);

/// What breaks, how, and whether visitors may see it.
const BAD: &[(&str, Seen, Break)] = &[
    ("syntax error", Seen::Never, |project| append(project, "catalog/views.py", "\ndef broken(:\n")),
    ("ImportError", Seen::Never, |project| {
        append(project, "catalog/views.py", "\nfrom django.utils import nowhere\n");
    }),
    ("missing dependency", Seen::Never, |project| append(project, "catalog/models.py", "\nimport stripe\n")),
    ("requirements that don't resolve", Seen::Never, |project| {
        append(project, "requirements.txt", "Django<5\n");
    }),
    ("wrong wsgi name", Seen::Never, |project| {
        project.config("django: {wsgi: \"locallibrary.wsgi:app\"}");
    }),
    ("check --deploy", Seen::Never, |project| {
        let check = "\nfrom django.core import checks\n\n@checks.register()\ndef stock(**_):\n    \
                     return [checks.Error(\"the shelves are empty\", id=\"catalog.E001\")]\n";
        append(project, "catalog/models.py", check);
    }),
    ("exception on the health path", Seen::Never, |project| front_page(project, "return 1 / 0")),
    ("500", Seen::Never, |project| front_page(project, "return HttpResponse('We are sorry', status=500)")),
    ("403", Seen::Never, |project| front_page(project, "return HttpResponse('Members only', status=403)")),
    ("404", Seen::Never, |project| project.config("django: {health: /nowhere/}")),
    ("redirects in a circle", Seen::Never, |project| front_page(project, "return HttpResponseRedirect('/')")),
    ("health path that hangs", Seen::Never, |project| {
        front_page(project, "import time; time.sleep(600)");
        project.config("django: {health: {timeout: 2}}");
    }),
    ("boot slower than the limit", Seen::Never, |project| {
        append(project, "locallibrary/wsgi.py", "\nimport time\ntime.sleep(600)\n");
        project.config("processes: {web: {boot_timeout: 3}}");
    }),
    ("collectstatic", Seen::Never, |project| {
        append(project, "locallibrary/settings.py", MANIFEST);
        append(project, "catalog/static/catalog/site.css", "\nbody { background: url(nowhere.png) }\n");
    }),
    ("worker that crashes at start", Seen::Never, |project| {
        project.config("processes: {worker: python -c 'raise SystemExit(\"no broker\")'}");
    }),
    ("template with an nginx error", Seen::Never, |project| {
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/nginx/site.conf.j2");
        let text = std::fs::read_to_string(ours).unwrap();
        project.write(
            ".ship/templates/nginx/site.conf.j2",
            &text.replace("server_tokens off;", "server_tokenz off;"),
        );
        append(project, "catalog/views.py", "\n# also a release\n");
    }),
    ("only behind nginx", Seen::Briefly, |project| {
        front_page(
            project,
            "return HttpResponse('Sorry', status=500 if 'gunicorn.socket' in request.environ else 200)",
        );
    }),
];

/// What runs and what starts at boot, and where everything points.
fn standing(server: &TestBox) -> String {
    server.exec(
        "readlink /srv/library/current; cat /etc/systemd/system/library.socket.d/live.conf; \
         ls /etc/systemd/system/multi-user.target.wants | grep library; \
         systemctl list-units --plain --no-legend --state=active,activating 'library@*' 'library-*@*' | cut -d' ' -f1; \
         sha256sum /etc/nginx/sites-enabled/* /etc/nginx/conf.d/*; ls /run/systemd/system | grep preflight || true",
    )
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn no_bad_release_takes_the_site_down() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.put_on_page("the old site");
    project.commit("The old site");
    project.up().says("v1 serves").says("check --deploy warns of").says("security.W004");
    let good = standing(&server);
    let ship_yml = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    let only = std::env::var("SHIP_TEST_CASE").ok();

    let mut said = String::new();
    for (name, seen, break_it) in
        BAD.iter().filter(|(name, ..)| only.as_deref().is_none_or(|only| only == *name))
    {
        break_it(&project);
        let visitor = Visitor::start(&server, "the old site");
        let ran = project.ship(&["up", "--yes"]);
        let strange = visitor.stop();
        assert_eq!(ran.code, 1, "{name}\n{}\n{}", ran.stdout, ran.stderr);
        assert!(
            *seen == Seen::Briefly || strange.is_empty(),
            "{name}: visitors saw {strange:?}\n{}",
            ran.stderr
        );
        assert_eq!(standing(&server), good, "{name}\n{}", ran.stderr);
        let page = get(&server, "/");
        assert!(page.status == 200 && page.text().contains("the old site"), "{name}: {}", page.text());
        assert!(!ran.stderr.contains("check --deploy warns of"), "{name}: told again\n{}", ran.stderr);
        let first = ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        let hints = ran.stderr.lines().filter(|line| line.starts_with("hint: "));
        let _ = writeln!(said, "{name}\n    {first}");
        for hint in hints {
            let _ = writeln!(said, "    {hint}");
        }
        if std::env::var_os("SHIP_TEST_SHOW").is_some() {
            eprintln!("=== {name}\n{}", ran.stderr);
        }
        project.git(&["checkout", "--quiet", "."]);
        project.git(&["clean", "--quiet", "-dfx"]);
        project.write("ship.yml", &ship_yml);
    }
    let stamps = server.exec(
        "cd /var/lib/ship/library/releases && grep -H . v*/failed | sed 's/\\t[^\\t]*Z\\t/ /' | sort -V",
    );
    if only.is_some() {
        eprintln!("{said}\n{stamps}");
        return;
    }
    insta::assert_snapshot!(scrubbed(&said), @"");
    insta::assert_snapshot!(scrubbed(&stamps), @"");
    // Whatever failed, what is right goes live.
    project.put_on_page("the new site");
    project.up().says("serves");
    assert!(get(&server, "/").text().contains("the new site"));
    project.ship(&["plan"]).exits(0);
}

/// Without what differs from run to run.
fn scrubbed(text: &str) -> String {
    text.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/"), "")
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn what_a_release_brings_itself_does_not_fail_it() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    // Nothing to return to: it stays, and says so until it is mended.
    front_page(
        &project,
        "return HttpResponse('Sorry', status=500 if 'gunicorn.socket' in request.environ else 200)",
    );
    let ran = project.ship(&["up", "--yes"]).exits(1).says("answered 500").says("v1 is left running");
    assert!(!ran.stderr.contains("the site is as it was"), "{}", ran.stderr);
    assert_eq!(server.exec("readlink /srv/library/current").trim(), "releases/v1");
    assert_eq!(get(&server, "/books/").status, 200);
    project.ship(&["up", "--yes"]).exits(1).says("answered 500");
    project.git(&["checkout", "--quiet", "locallibrary/urls.py"]);
    project.up().says("v2 serves");

    // A column that its own migration adds, and a static file that its own collectstatic brings.
    append(&project, "locallibrary/settings.py", MANIFEST);
    project.write("catalog/static/catalog/new.css", "p { color: red }\n");
    project.replace(
        "catalog/templates/catalog/index.html",
        "<section class=\"hero\">",
        "<p>{% load static %}{% static 'catalog/new.css' %} {{ shelf }}</p><section class=\"hero\">",
    );
    append(
        &project,
        "catalog/models.py",
        "\nBook.add_to_class(\"shelf\", models.CharField(max_length=9, default=\"A1\"))\n",
    );
    project.write(
        "catalog/migrations/0003_shelf.py",
        "from django.db import migrations, models\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [(\"catalog\", \"0002_first_books\")]\n    \
         operations = [migrations.AddField(\"book\", \"shelf\", models.CharField(max_length=9, default=\"A1\"))]\n",
    );
    project.up().says("v3 serves");
    assert!(get(&server, "/").text().contains("/static/catalog/new."), "{}", get(&server, "/").text());

    // A worker finishes its work; the release does not wait for it.
    project.write("work.py", WORKER);
    project.config("processes: {worker: {command: python work.py, settle: 1, stop_timeout: 60}}");
    project.up().says("v4 serves");
    wait_for("the job to begin", 20, || get(&server, "/media/job").status == 200);
    project.put_on_page("five");
    project.up().says("v5 serves");
    assert_eq!(
        server.exec("systemctl show -p SubState --value library-worker@v4.service").trim(),
        "stop-sigterm"
    );
    server.exec("touch /srv/library/shared/media/may-end");
    wait_for("the old worker to finish its job", 20, || {
        get(&server, "/media/job").text().contains("finished")
    });
    project.ship(&["plan"]).exits(0);

    // A config change passes the same gates.
    project.ship(&["config", "set", "SECRET_KEY="]).exits(1).says("ImproperlyConfigured: Set SECRET_KEY");
    assert_eq!(get(&server, "/").status, 200);
    assert_eq!(server.exec("readlink /srv/library/current").trim(), "releases/v5");
}

/// Works on one job until it is allowed to end.
const WORKER: &str = r#"import os, signal, time

stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
open("media/job", "w").write("begun")
while not (stopping and os.path.exists("media/may-end")):
    time.sleep(0.05)
open("media/job", "w").write("finished")
"#;
