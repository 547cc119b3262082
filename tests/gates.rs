//! What a bad release meets: each one stops with its cause in the first line, and the old site never notices.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::boxes::TestBox;
use crate::support::{Browser, Project, Stop, get, wait_for};

/// Someone who asks for the front page all the time, over a new connection each time.
struct Visitor {
    asked: Arc<AtomicUsize>,
    /// What was not the page of the release that should serve.
    strange: Arc<Mutex<Vec<String>>>,
    stop: Stop,
    thread: std::thread::JoinHandle<()>,
}

impl Visitor {
    fn start(server: &TestBox, expected: &'static str) -> Self {
        let (asked, strange, stop) = <(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>, Stop)>::default();
        let host = server.host.clone();
        let shared = (Arc::clone(&asked), Arc::clone(&strange), stop.told());
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
        self.stop.tell();
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

/// The newest release's note of why it failed; only the last few of them are kept.
const STAMP: &str = "cd /var/lib/ship/library/releases && grep -H . \"$(ls -d v*/failed | sort -V | tail -n 1)\" \
                     | sed 's/\\t[^\\t]*Z\\t/ /'";

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

    let (mut said, mut stamps) = (String::new(), String::new());
    for (name, seen, break_it) in BAD {
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
        // One that failed before it was a release leaves none.
        let stamp = server.exec(STAMP);
        if !stamps.contains(&stamp) {
            stamps.push_str(&stamp);
        }
        for hint in hints {
            let _ = writeln!(said, "    {hint}");
        }
        project.git(&["checkout", "--quiet", "."]);
        project.git(&["clean", "--quiet", "-dfx"]);
        project.write("ship.yml", &ship_yml);
    }
    insta::assert_snapshot!(scrubbed(&said), @r#"
    syntax error
        error: `preflight v2` failed: check --deploy: SyntaxError: invalid syntax (views.py, line 103)
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    ImportError
        error: `preflight v3` failed: check --deploy: ImportError: cannot import name 'nowhere' from 'django.utils' (/srv/library/venvs/v3/lib/python3.11/site-packages/django/utils/__init__.py)
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    missing dependency
        error: `preflight v4` failed: loading locallibrary.wsgi: ModuleNotFoundError: No module named 'stripe'
        hint: `stripe` is neither in the project nor in its list of packages; where it works, `pip freeze` names the package that has it
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    requirements that don't resolve
        error: `install Python packages` failed: No solution found when resolving dependencies: Because you require django==5.2.19 and django<5, we can conclude that your requirements are unsatisfiable.
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    wrong wsgi name
        error: `preflight v6` failed: loading locallibrary.wsgi:app: AppImportError: Failed to find attribute 'app' in 'locallibrary.wsgi'.
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    check --deploy
        error: `preflight v7` failed: check --deploy: the shelves are empty (catalog.E001)
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    exception on the health path
        error: `preflight v8` failed: GET / as localhost answered 500: ZeroDivisionError: division by zero
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    500
        error: `preflight v9` failed: GET / as localhost answered 500
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    403
        error: `preflight v10` failed: GET / as localhost answered 403
        hint: visitors may not see it; name a path that anyone may see: `django: {health: /path/}`
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    404
        error: `preflight v11` failed: GET /nowhere/ as localhost answered 404
        hint: name a path that is there: `django: {health: /path/}`
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    redirects in a circle
        error: `preflight v12` failed: GET / as localhost redirects in a circle
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    health path that hangs
        error: `preflight v13` failed: GET / took longer than 2 s (`django.health.timeout`)
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    boot slower than the limit
        error: `preflight v14` failed: loading locallibrary.wsgi took longer than 3 s (`processes.web.boot_timeout`)
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    collectstatic
        error: `collect static files` failed: ValueError: The file 'catalog/nowhere.png' could not be found with <django.contrib.staticfiles.storage.ManifestStaticFilesStorage object at 0x…>.
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    worker that crashes at start
        error: `switch to v16` failed: the process library-worker ends as soon as it is started: no broker
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    template with an nginx error
        error: `reload nginx.service` failed: unknown directive "server_tokenz" in /etc/nginx/sites-enabled/library.conf:19
        hint: `ship up` carries on from here; -v shows all that the steps print
    only behind nginx
        error: `switch to v18` failed: GET http://localhost/ answered 500
        hint: v18 was taken back
        hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    "#);
    insta::assert_snapshot!(scrubbed(&stamps), @r"
    v2/failed:failed preflight: check --deploy: SyntaxError: invalid syntax (views.py, line 103)
    v3/failed:failed preflight: check --deploy: ImportError: cannot import name 'nowhere' from 'django.utils' (/srv/library/venvs/v3/lib/python3.11/site-packages/django/utils/__init__.py)
    v4/failed:failed preflight: loading locallibrary.wsgi: ModuleNotFoundError: No module named 'stripe'
    v5/failed:failed install Python packages: No solution found when resolving dependencies
    v6/failed:failed preflight: loading locallibrary.wsgi:app: AppImportError: Failed to find attribute 'app' in 'locallibrary.wsgi'.
    v7/failed:failed preflight: check --deploy: the shelves are empty (catalog.E001)
    v8/failed:failed preflight: GET / as localhost answered 500: ZeroDivisionError: division by zero
    v9/failed:failed preflight: GET / as localhost answered 500
    v10/failed:failed preflight: GET / as localhost answered 403
    v11/failed:failed preflight: GET /nowhere/ as localhost answered 404
    v12/failed:failed preflight: GET / as localhost redirects in a circle
    v13/failed:failed preflight: GET / took longer than 2 s (`django.health.timeout`)
    v14/failed:failed preflight: loading locallibrary.wsgi took longer than 3 s (`processes.web.boot_timeout`)
    v15/failed:failed collectstatic: ValueError: The file 'catalog/nowhere.png' could not be found with <django.contrib.staticfiles.storage.ManifestStaticFilesStorage object at 0x…>.
    v16/failed:failed switch: the process library-worker ends as soon as it is started: no broker
    v18/failed:bad switch: GET http://localhost/ answered 500
    ");
    // Whatever failed, what is right goes live.
    project.put_on_page("the new site");
    project.up().says("serves");
    assert!(get(&server, "/").text().contains("the new site"));
    project.ship(&["plan"]).exits(0);
}

/// Without the addresses of Python's objects.
fn scrubbed(text: &str) -> String {
    let mut parts = text.split("object at 0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + "object at 0x…" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit())
    })
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
    // What the server has kept of ship's steps is lost or damaged.
    server.exec("cd /var/lib/ship/library/kept; ls | head -n 5 | xargs rm; for part in *; do : >$part; done");
    project.write("locallibrary/first.py", FIRST);
    append(
        &project,
        "locallibrary/settings.py",
        "MIDDLEWARE = [\"locallibrary.first.First\", *MIDDLEWARE]\n",
    );
    project.up().says("v5 serves");
    let main = server.exec("systemctl show -p MainPID --value library@v5.service");
    assert_eq!(get(&server, "/").header("X-First"), main.trim(), "no worker was the first to answer");
    assert_eq!(
        server.exec("systemctl show -p SubState --value library-worker@v4.service").trim(),
        "stop-sigterm"
    );
    server.exec("touch /srv/library/shared/media/may-end");
    wait_for("the old worker to finish its job", 20, || {
        get(&server, "/media/job").text().contains("finished")
    });
    project.ship(&["plan"]).exits(0);

    // Whoever is asked for another release says so without the project's page, to this server alone.
    let ask = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 80); c.request('GET', '/', headers={'Host': 'localhost', \
               'X-Ship-Check': 'v4'}); r = c.getresponse(); print(r.status, r.getheader('X-Ship-Release'), len(r.read()))";
    assert_eq!(server.exec(&format!("python3 -c {}", ship::shell::quote(ask))).trim(), "421 v5 0");

    // A config change passes the same gates.
    project.ship(&["config", "set", "SECRET_KEY="]).exits(1).says("ImproperlyConfigured: Set SECRET_KEY");
    assert_eq!(get(&server, "/").status, 200);
    assert_eq!(server.exec("readlink /srv/library/current").trim(), "releases/v5");
}

/// Tells with each answer which process has given the first one.
const FIRST: &str = "import os\n\nfirst = []\n\n\nclass First:\n    def __init__(self, answer):\n        self.answer = answer\n\n    \
                     def __call__(self, request):\n        first.append(os.getpid())\n        response = self.answer(request)\n        \
                     response[\"X-First\"] = str(first[0])\n        return response\n";

/// Works on one job until it is allowed to end.
const WORKER: &str = r#"import os, signal, time

stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
open("media/job", "w").write("begun")
while not (stopping and os.path.exists("media/may-end")):
    time.sleep(0.05)
open("media/job", "w").write("finished")
"#;

/// What a request gets: status, the release that says it answered, and where it leads.
type Answer = (u16, &'static str, &'static str);

/// The answer to a host, a path, and the number of the request.
type Answers = fn(&str, &str, usize) -> Answer;

/// Runs the check of v2 against a web server that answers by host, path and number of the request.
fn check(answer: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let server = std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            let (mut head, mut byte) = (String::new(), [0]);
            while !head.ends_with("\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(char::from(byte[0]));
            }
            let path = head.split(' ').nth(1).unwrap_or_default();
            let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap_or_default();
            let (status, release, location) = answer(host, path, number);
            let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n");
            for (name, value) in [("X-Ship-Release", release), ("Location", location)] {
                if !value.is_empty() {
                    text += &format!("{name}: {value}\r\n");
                }
            }
            let _ = std::io::Write::write_all(&mut stream, format!("{text}\r\n").as_bytes());
        }
    });
    // Nobody listens here: the site has no HTTPS.
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let site = serde_json::json!({
        "tls": closed, "release": "v2", "domains": ["a.example", "b.example"], "path": "/", "guessed": true, "timeout": 1, "web": port,
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("health.py");
    std::fs::write(&file, ship::release::gates::health_program(&site).text()).unwrap();
    let ran = Command::new("python3").arg("-I").arg(&file).arg("{}").output().unwrap();
    stop.store(true, Ordering::Relaxed);
    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
    server.join().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    let said = said.trim_end().to_owned();
    assert_eq!(ran.status.success(), said.is_empty(), "{said}");
    if said.is_empty() { "healthy".into() } else { said }
}

#[test]
#[ignore = "needs python3: scripts/test runs it"]
fn what_counts_as_healthy_behind_nginx() {
    let cases: [(&str, Answers); 16] = [
        ("all is well", |_, _, _| (200, "v2", "")),
        ("the old one answers first", |_, _, n| if n < 4 { (500, "v1", "") } else { (200, "v2", "") }),
        ("only the new one is ill", |_, _, n| if n % 2 == 0 { (200, "v1", "") } else { (500, "v2", "") }),
        ("one bad moment", |_, _, n| if n == 0 { (503, "v2", "") } else { (200, "v2", "") }),
        ("the second name", |host, _, _| if host == "b.example" { (400, "v2", "") } else { (200, "v2", "") }),
        ("nobody says who it is", |_, _, _| (200, "", "")),
        ("nginx finds nobody", |_, _, _| (502, "", "")),
        ("the new one is never there", |_, _, _| (200, "v1", "")),
        (
            "a login page",
            |_, path, _| if path == "/" { (302, "v2", "/login/?next=/") } else { (200, "v2", "") },
        ),
        (
            "a login page that is ill",
            |_, path, _| if path == "/" { (302, "v2", "/login/") } else { (500, "v2", "") },
        ),
        ("the other name", |host, _, _| {
            if host == "b.example" { (301, "v2", "http://a.example/") } else { (200, "v2", "") }
        }),
        ("https", |_, _, _| (301, "v2", "https://a.example/")),
        ("a circle", |_, _, _| (302, "v2", "/")),
        ("a password", |_, _, _| (401, "v2", "")),
        ("forbidden", |_, _, _| (403, "v2", "")),
        ("nothing there", |_, _, _| (404, "v2", "")),
    ];
    let said: String = cases.iter().map(|(name, answer)| format!("{name}: {}\n", check(*answer))).collect();
    insta::assert_snapshot!(said, @r"
    all is well: healthy
    the old one answers first: healthy
    only the new one is ill: ship-cause: GET http://a.example/ answered 500
    one bad moment: healthy
    the second name: ship-hint: does ALLOWED_HOSTS have b.example? It can be read from the environment
    ship-cause: GET http://b.example/ answered 400
    nobody says who it is: healthy
    nginx finds nobody: ship-cause: GET http://a.example/ answered 502
    the new one is never there: ship-cause: v2 did not answer any request for 6 s
    a login page: healthy
    a login page that is ill: ship-cause: GET http://a.example/login/ answered 500
    the other name: healthy
    https: healthy
    a circle: ship-cause: GET http://a.example/ redirects in a circle
    a password: healthy
    forbidden: ship-hint: visitors may not see it; name a path that anyone may see: `django: {health: /path/}`
    ship-cause: GET http://a.example/ answered 403
    nothing there: ship-hint: name a path that is there: `django: {health: /path/}`
    ship-cause: GET http://a.example/ answered 404
    ");
}
