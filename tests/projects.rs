//! Projects as they come: every way to say which packages are needed, other Pythons, builds that fail. Each on a real
//! server, unmodified, and twice: the second `ship up` has nothing to do.

use crate::boxes::{Suite, TestBox};
use crate::support::{Project, get, wait_for};

const MANAGE: &str = r#"
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"#;

const SETTINGS: &str = r#"
import os

SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
INSTALLED_APPS = ["django.contrib.staticfiles"]
STATIC_URL = "static/"
STATIC_ROOT = os.path.join(os.path.dirname(__file__), "collected")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
"#;

const WSGI: &str = r#"
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"#;

/// Answers with what it runs on.
const URLS: &str = r#"
import sys
from importlib.metadata import distributions

from django.http import HttpResponse
from django.urls import path


def front(request):
    # Only some releases of gunicorn need packaging.
    names = sorted({d.metadata["Name"].lower() for d in distributions()} - {"packaging"})
    return HttpResponse("Python %d.%d with %s" % (*sys.version_info[:2], " ".join(names)))


urlpatterns = [path("", front)]
"#;

/// A project in a folder of its own for one box, with nothing yet that says which packages it needs.
fn site(server: &TestBox) -> Project {
    let project = Project::empty(server, "root");
    project.write("manage.py", MANAGE);
    project.write("mysite/__init__.py", "");
    project.write("mysite/settings.py", SETTINGS);
    project.write("mysite/wsgi.py", WSGI);
    project.write("mysite/urls.py", URLS);
    project.config("database: sqlite");
    project
}

/// Deploys it twice, and says what the front page tells.
#[track_caller]
fn deployed(project: &Project, server: &TestBox) -> String {
    project.commit("as it is");
    project.up();
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    let page = get(server, "/");
    assert_eq!(page.status, 200, "{}", page.text());
    page.text()
}

const PYPROJECT: &str = r#"
[project]
name = "My-Site"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = ["Django~=5.2.0"]

[dependency-groups]
dev = ["tomli"]
prod = ["whitenoise"]
"#;

/// A lock as poetry 1 and 2 write it, of the packages that Django needs.
fn poetry_lock() -> String {
    let package = |name: &str, version: &str, group: &str, more: &str| {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\noptional = false\ngroups = [\"{group}\"]\n\
             files = []\n{more}\n"
        )
    };
    [
        package(
            "django",
            "5.2",
            "main",
            "[package.dependencies]\nasgiref = \">=3.8.1\"\nsqlparse = \">=0.3.1\"\n",
        ),
        package("asgiref", "3.8.1", "main", ""),
        package("sqlparse", "0.5.1", "main", ""),
        package("tzdata", "2025.1", "main", "markers = \"sys_platform == \\\"win32\\\"\"\n"),
        package("tomli", "2.0.1", "dev", ""),
        "[metadata]\nlock-version = \"2.1\"\npython-versions = \"^3.9\"\n".to_owned(),
    ]
    .concat()
    .replace("files = []\nmarkers", "markers")
}

const POETRY: &str = r#"
[tool.poetry]
name = "mysite"
version = "0.1.0"
[tool.poetry.dependencies]
python = "^3.9"
django = "^5.2"
[tool.poetry.group.dev.dependencies]
tomli = "*"
[build-system]
requires = ["poetry-core"]
build-backend = "poetry.core.masonry.api"
"#;

const PIPFILE_LOCK: &str = r#"{
  "_meta": {"requires": {}, "sources": [{"name": "pypi", "url": "https://index.example.com/simple", "verify_ssl": true}]},
  "default": {
    "asgiref": {"version": "==3.8.1", "markers": "python_version >= '3.8'"},
    "django": {"version": "==5.2", "index": "pypi"},
    "sqlparse": {"version": "==0.5.1"}
  },
  "develop": {"tomli": {"version": "==2.0.1"}}
}"#;

const SETUP: &str = r#"
from setuptools import setup

setup(name="mysite", version="1.0", packages=["mysite"], install_requires=["Django~=5.2.0"], python_requires=">=3.9")
"#;

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn every_way_to_say_which_packages_are_needed() {
    let server = TestBox::builder().packages(true).boot();
    let project = site(&server);
    let without = |name: &str| std::fs::remove_file(project.dir.join(name)).unwrap();

    // Requirements: an editable package of the project, constraints, a marker, hashes.
    project.write(
        "requirements.txt",
        "-r requirements/live.txt\n-c limits.txt\ntomli; python_version < '3.0'\n",
    );
    project.write("requirements/live.txt", "Django\n-e ./lib\n");
    project.write("limits.txt", "Django~=5.2.0\n");
    project.write(
        "lib/setup.py",
        "from setuptools import setup\nsetup(name='ourlib', version='1', py_modules=['ourlib'])\n",
    );
    project.write("lib/ourlib.py", "");
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn ourlib sqlparse");
    let venv = server.exec("readlink -f /srv/library/venvs/v1");
    assert_eq!(
        server.exec(&format!("grep -rl /releases/ {}/lib --include='*.pth' || true", venv.trim())),
        ""
    );
    let hashed = server.exec("cd /tmp && echo 'Django~=5.2.0' | /opt/ship/uv/bin/uv pip compile -q --generate-hashes --system-certs - 2>/dev/null");
    project.write("requirements.txt", &hashed);
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");

    // uv: a lock, which counts more than what else is there; groups for servers, none for developers.
    project.write("pyproject.toml", PYPROJECT);
    server.exec("mkdir -p /tmp/lock");
    server.write("/tmp/lock/pyproject.toml", PYPROJECT);
    server.exec("cd /tmp/lock && UV_SYSTEM_CERTS=1 /opt/ship/uv/bin/uv lock -q");
    project.write("uv.lock", &String::from_utf8(server.read("/tmp/lock/uv.lock").unwrap()).unwrap());
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse whitenoise");
    // One that pyproject.toml has left behind is refused in uv's own words, and the site stays.
    project.write("pyproject.toml", &PYPROJECT.replace("\"Django~=5.2.0\"", "\"Django~=5.2.0\", \"pytz\""));
    project.ship(&["up", "--yes"]).exits(1).says("uv.lock` needs to be updated").says("as it was");
    without("uv.lock");

    // PEP 621 without a lock. The requirements are more exact, until they are gone.
    project.write("pyproject.toml", PYPROJECT);
    without("requirements.txt");
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");

    project.write("pyproject.toml", POETRY);
    project.write("poetry.lock", &poetry_lock());
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");
    without("poetry.lock");
    without("pyproject.toml");

    project.write("Pipfile.lock", PIPFILE_LOCK);
    project.write("Pipfile", "");
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");
    without("Pipfile.lock");
    without("Pipfile");

    project.write("setup.py", SETUP);
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn mysite sqlparse");
    // The same by pip, where there is no uv for a machine.
    server.exec("rm /opt/ship/uv/bin/uv");
    without("setup.py");
    project.write("pyproject.toml", POETRY);
    project.write("poetry.lock", &poetry_lock().replace("0.5.1", "0.5.3"));
    let by_pip = deployed(&project, &server);
    assert_eq!(by_pip, "Python 3.11 with asgiref django gunicorn pip setuptools sqlparse");
    project.write("uv.lock", "version = 1\n");
    project.ship(&["up", "--yes"]).exits(1).says("uv.lock needs uv");
    // Nothing of a build is left on the server.
    assert_eq!(server.exec("ls -d /var/cache/ship/library/build.* 2>/dev/null || true"), "");
}

/// Where the box finds other Pythons: a list as uv reads it, with one that Debian 12 brings.
const PYTHONS: &str = "http://127.0.0.1:8099/pythons.json";

/// Puts Debian 12's own Python there, packed as uv's are.
fn mirror(server: &TestBox) {
    let bookworm = TestBox::builder().boot();
    bookworm.exec(
        "mkdir -p /tmp/p/python/bin /tmp/p/python/lib && cd /tmp/p/python && cp /usr/bin/python3.11 bin/ &&
         ln -s python3.11 bin/python3 && ln -s python3.11 bin/python && rm -f /usr/lib/python3.11/sitecustomize.py &&
         cp -rL /usr/lib/python3.11 lib/ && tar -C /tmp/p -czf /tmp/python.tar.gz python",
    );
    server.exec("mkdir -p /srv/mirror");
    server.write("/srv/mirror/python.tar.gz", bookworm.read("/tmp/python.tar.gz").unwrap());
    let arch = server.exec("uname -m");
    let arch = arch.trim();
    let list = serde_json::json!({format!("cpython-3.11.2-linux-{arch}-gnu"): {
        "name": "cpython", "arch": {"family": arch, "variant": null}, "os": "linux", "libc": "gnu",
        "major": 3, "minor": 11, "patch": 2, "prerelease": "", "variant": null, "build": "20250708", "sha256": null,
        "url": PYTHONS.replace("pythons.json", "python.tar.gz"),
    }});
    server.write("/srv/mirror/pythons.json", list.to_string());
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn another_python_than_the_distributions_comes_from_uv() {
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).boot();
    let project = site(&server);
    project.write("requirements.txt", "Django~=5.2.0\n");
    project.write("runtime.txt", "python-3.11.9\n");
    project.config(&format!("database: sqlite\npython_mirror: {PYTHONS}"));
    let why = "runtime.txt asks for 3.11.9; Debian GNU/Linux 13 (trixie) has 3.13";
    project.ship(&["plan", "--yes"]).exits(2).says("> install Python 3.11").says(why);

    // Nobody has it: said with the reason, and nothing is built.
    let refused = project.ship(&["up", "--yes"]).exits(3).says("Python 3.11 can't be had").says(why);
    let refused = refused.says(PYTHONS).says("the server has 3.13").says("python_mirror");
    assert!(!refused.stderr.contains("Traceback"), "{}", refused.stderr);
    assert_eq!(server.exec("ls /srv/library/releases"), "");

    mirror(&server);
    server.exec("systemd-run -q --unit mirror python3 -m http.server -b 127.0.0.1 -d /srv/mirror 8099");
    wait_for("the mirror", 20, || server.exec_status("ss -Htln | grep -q 127.0.0.1:8099").status.success());
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");
    let python =
        server.exec("readlink -f /srv/library/venvs/v1/bin/python; stat -c %U:%a /opt/ship/python/3.11/bin");
    assert!(python.starts_with("/opt/ship/python/cpython-3.11"), "{python}");
    assert!(python.ends_with("root:755\n"), "{python}");
    // It stays when the mirror is gone.
    server.exec("systemctl stop mirror");
    project.write("mysite/more.py", "");
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn sqlparse");

    // A project of 2018: what it was made for can't be had any more, and is not tried.
    project.write("runtime.txt", "python-3.7.0\n");
    project.write("requirements.txt", "Django==2.1.5\npsycopg2-binary==2.7.7\n");
    let refused =
        project.ship(&["up", "--yes"]).exits(3).says("the project wants Python 3.7.0 (runtime.txt)");
    assert!(!refused.says("uv brings 3.8 to").stderr.contains("Traceback"));
    // Without that wish: the Python that its Django can be imported by, and a package that is too old for it.
    std::fs::remove_file(project.dir.join("runtime.txt")).unwrap();
    project.config("database: postgres");
    project.ship(&["plan"]).exits(2).says("Python 3.11, requirements.txt");
    let failed = project.ship(&["up", "--yes"]).exits(1).says("psycopg2-binary==2.7.7 could not be built: ");
    let first = failed.says("a newer psycopg2-binary").says("v2 serves");
    assert!(!first.stderr.contains("error: Traceback"), "{}", first.stderr);
    assert_eq!(get(&server, "/").status, 200);
}

/// An index of packages that wants a name and a password: it serves what lies in /srv/index.
const PRIVATE_INDEX: &str = r#"
import base64
import http.server

WANTED = "Basic " + base64.b64encode(b"deploy:s3cret-and-@-sign").decode()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("Authorization") != WANTED:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.end_headers()
        else:
            super().do_GET()


handler = lambda *given: Handler(*given, directory="/srv/index")
http.server.ThreadingHTTPServer(("127.0.0.1", 8098), handler).serve_forever()
"#;

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn what_packages_need_of_the_system() {
    let server = TestBox::builder().packages(true).boot();
    let project = site(&server);
    // No wheel, and no compiler: said in the words of the build, with what would help.
    project.write("requirements.txt", "Django~=5.2.0\nnetifaces==0.11.0\n");
    let failed = project.ship(&["up", "--yes"]).exits(1).says("netifaces==0.11.0 could not be built: ");
    failed.says("the program gcc is missing").says("`- package: [gcc, python3-dev]`");

    // What psycopg2 is known to need is enough for both, and in the plan.
    project.write("requirements.txt", "Django~=5.2.0\nnetifaces==0.11.0\npsycopg2\n");
    project.ship(&["plan"]).exits(2).says("gcc, libpq-dev, python3-dev");
    assert_eq!(
        deployed(&project, &server),
        "Python 3.11 with asgiref django gunicorn netifaces psycopg2 sqlparse"
    );

    // A private index: its password is a secret of the server, in no argument and no log.
    server.exec("mkdir -p /srv/index/ourlib /srv/ourlib");
    server.write(
        "/srv/ourlib/setup.py",
        "from setuptools import setup\nsetup(name='ourlib', version='1.0', py_modules=['ourlib'])\n",
    );
    server.write("/srv/ourlib/ourlib.py", "");
    server.exec(
        "cd /srv/ourlib && UV_SYSTEM_CERTS=1 /opt/ship/uv/bin/uv build -q --wheel -o /srv/index/ourlib .",
    );
    server.write("/srv/index.py", PRIVATE_INDEX);
    server.exec("systemd-run -q --unit index python3 /srv/index.py");
    wait_for("the index", 20, || server.exec_status("ss -Htln | grep -q 127.0.0.1:8098").status.success());
    project.write(
        "requirements.txt",
        "--extra-index-url http://deploy:${INDEX_PASSWORD}@127.0.0.1:8098/\nDjango~=5.2.0\nourlib\n",
    );
    project.config("database: sqlite\nsecrets: [INDEX_PASSWORD]");
    project
        .ship(&["up", "--yes"])
        .exits(3)
        .says("INDEX_PASSWORD is not set")
        .says("ship config set INDEX_PASSWORD=…");
    project.ship(&["config", "set", "INDEX_PASSWORD=s3cret-and-%40-sign"]).exits(0);
    assert_eq!(deployed(&project, &server), "Python 3.11 with asgiref django gunicorn ourlib sqlparse");
    let leaks = "grep -rlF --exclude-dir=parts s3cret-and /var/lib/ship /var/cache/ship /srv/library || true; journalctl | grep -cF s3cret-and || true";
    assert_eq!(server.exec(leaks), "0\n");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_front_end_is_built_by_node() {
    let server = TestBox::builder().packages(true).boot();
    let project = site(&server);
    project.write("requirements.txt", "Django~=5.2.0\n");
    let package = r#"{"name": "front", "private": true, "dependencies": {"ms": "2.1.3"}, "scripts": {"build": "node build.js"}}"#;
    project.write("package.json", package);
    project.write(
        "package-lock.json",
        r#"{"name": "front", "lockfileVersion": 3, "requires": true, "packages": {
            "": {"name": "front", "dependencies": {"ms": "2.1.3"}},
            "node_modules/ms": {"version": "2.1.3", "integrity": "sha512-6FlzubTLZG3J2a/NVCAleEhjzq5oxgHyaCU9yYXvcLsvoVaHJq/s5xXI6/XXP6tz7R9xAOtHnSO/tXtF3WRTlA=="}}}"#,
    );
    let build = r##"
const fs = require("fs");
fs.mkdirSync("front/built", { recursive: true });
fs.writeFileSync("front/built/site.css", `/* ${require("ms")(60000)} in ${process.env.NODE_ENV}, version 1 */`);
fs.appendFileSync("mysite/__init__.py", "# built\n");
"##;
    project.write("build.js", build);
    project.write(".gitignore", "node_modules\nfront/built\n");
    project.write("mysite/settings.py", &format!("{SETTINGS}\nSTATICFILES_DIRS = [\"front/built\"]\n"));
    project
        .ship(&["plan", "--yes"])
        .exits(2)
        .says("nodejs, npm")
        .says("build the front end")
        .says("package-lock.json");
    deployed(&project, &server);
    assert_eq!(get(&server, "/static/site.css").text(), "/* 1m in production, version 1 */");
    // What belongs to the release is there; what it was built with is not, but kept for the next one.
    assert_eq!(
        server.exec(
            "cd /srv/library/releases/v1; ls -d node_modules 2>/dev/null || true; cat mysite/__init__.py"
        ),
        "# built\n"
    );
    let modules = server.exec("stat -c '%U %i' /var/cache/ship/library/node/*/node_modules/ms");
    assert!(modules.starts_with("library-build "), "{modules}");

    project.write("build.js", &build.replace("version 1", "version 2"));
    deployed(&project, &server);
    assert_eq!(get(&server, "/static/site.css").text(), "/* 1m in production, version 2 */");
    assert_eq!(
        server.exec("cat /srv/library/releases/v1/front/built/site.css"),
        "/* 1m in production, version 1 */"
    );
    assert_eq!(
        server.exec("stat -c '%U %i' /var/cache/ship/library/node/*/node_modules/ms"),
        modules,
        "installed anew"
    );

    // One that fails is told in its own words; the site stays, and so do the packages.
    project.write("build.js", "throw new Error('no such colour')");
    let failed =
        project.ship(&["up", "--yes"]).exits(1).says("`npm run build` failed: ").says("no such colour");
    failed.says("v2 serves");
    assert_eq!(
        server.exec("stat -c '%U %i' /var/cache/ship/library/node/*/node_modules/ms"),
        modules,
        "lost"
    );
    project.config("database: sqlite\nnode: off");
    project.write("mysite/settings.py", SETTINGS);
    deployed(&project, &server);
    assert_eq!(server.exec("ls /srv/library/current/front 2>/dev/null || true"), "");
}
