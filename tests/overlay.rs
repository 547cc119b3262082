//! Projects that nobody prepared for production, deployed as they are.

use std::path::Path;

use base64::Engine as _;

use crate::boxes::TestBox;
use crate::support::{Browser, Project, get, wait_for};

/// The fixture as a project with its requirements.
fn startproject(server: &TestBox) -> Project {
    let project = Project::startproject(server);
    project.write("requirements.txt", "Django>=5.2,<5.3\n");
    project.write(".gitignore", "*.sqlite3\n.env\nsecrets.json\n");
    project.config("app: mysite");
    project.commit("startproject");
    project
}

/// What the site's database is, as Django itself says.
fn database(project: &Project) -> String {
    let code = "from django.db import connection as c; print('vendor', c.vendor, c.settings_dict['NAME'])";
    project.ship(&["manage", "shell", "-c", code]).exits(0).stdout
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn startproject_unmodified() {
    let server = TestBox::builder().packages(true).boot();
    let project = startproject(&server);

    // Before the first `up`, the plan names what the project lacks.
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    for line in [
        "DEBUG         True → False",
        "SECRET_KEY    *** in the code → ***",
        "ALLOWED_HOSTS  [] → ['*']",
        "sqlite db.sqlite3 → postgres mysite at 127.0.0.1",
        "not set → '/srv/mysite/static'",
    ] {
        let line: Vec<&str> = line.split_whitespace().collect();
        let said = plan.stdout.lines().any(|told| {
            let told: Vec<&str> = told.split_whitespace().collect();
            told.windows(line.len()).any(|words| words == line)
        });
        assert!(said, "{line:?} is not in\n{}", plan.stdout);
    }
    assert!(!plan.stdout.contains("django-insecure"), "{}", plan.stdout);

    project.up();
    // startproject has no page of its own; with DEBUG off, nothing is at /.
    assert_eq!(get(&server, "/").status, 404);
    let admin = get(&server, "/admin/login/");
    assert_eq!(admin.status, 200);
    assert!(admin.text().contains("/static/admin/css/base.css"), "{}", admin.text());
    let css = get(&server, "/static/admin/css/base.css");
    assert_eq!((css.status, css.header("Content-Type")), (200, "text/css"));
    wait_for("nginx's log of it", 10, || {
        let log = server.exec("cat /var/log/nginx/mysite.access.log");
        log.lines().any(|line| line.contains("/static/admin/css/base.css") && line.contains("upstream=-"))
    });
    let gone = get(&server, "/nowhere/");
    assert_eq!(gone.status, 404);
    assert!(!gone.text().contains("DEBUG") && !gone.text().contains("urlconf"), "{}", gone.text());
    assert!(database(&project).contains("vendor postgresql mysite"));
    // The settings' own key signs nothing here.
    let code = "from django.conf import settings as s; print('insecure' in s.SECRET_KEY, s.SETTINGS_MODULE, len(s.SHIP_OVERRIDES))";
    project.ship(&["manage", "shell", "-c", code]).exits(0).says("False mysite.settings");

    project.up().says("Nothing to change");
    let mode = server
        .exec("stat -c '%a %U:%G' /etc/ship/mysite/overlay/v1 /etc/ship/mysite/overlay/v1/ship_settings.py");
    assert_eq!(mode.trim(), "750 root:mysite\n640 root:mysite");

    // One override off, and domains: the plan says what Django will.
    project.config("app: mysite\ndomains: [mysite.example.com]\ndjango: {overlay: {media_root: off}}");
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    assert!(
        plan.stdout.contains("['mysite.example.com']") && !plan.stdout.contains("MEDIA_ROOT"),
        "{}",
        plan.stdout
    );
    project.up();
    let named = |name: &str| {
        let mut browser = Browser::named(server.host.parse().unwrap(), name).unwrap();
        browser.request("GET", "/admin/login/", "", b"").map_or(0, |answer| answer.status)
    };
    // nginx hangs up on names that nobody here has.
    assert_eq!((named("mysite.example.com"), named("other.example.com")), (200, 0));
    project.up().says("Nothing to change");

    // Off altogether: the project's own settings, which keep SQLite where nothing stays.
    project.config("app: mysite\ndjango: {overlay: off}");
    project.ship(&["up", "--yes"]).exits(1).says("The settings keep SQLite inside the release");
    // And back to what was.
    project.ship(&["rollback", "--yes"]).exits(0);
    assert_eq!(named("mysite.example.com"), 200);
}

/// startproject with these lines at the end of its settings, and what they need.
fn with_settings(project: &Project, lines: &str) {
    let made =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/overlay/startproject/mysite/settings.py");
    project.write("mysite/settings.py", &(std::fs::read_to_string(made).unwrap() + lines));
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn settings_from_elsewhere() {
    let server = TestBox::builder().packages(true).boot();
    let project = startproject(&server);
    project
        .write("requirements.txt", "Django>=5.2,<5.3\npython-decouple\ndjango-environ\npydantic-settings\n");

    // python-decouple: what is missing is named before anything is built, on a server that has nothing yet.
    with_settings(
        &project,
        "\nfrom decouple import config\nAPI_KEY = config('API_KEY')\nSECRET_KEY = config('SECRET_KEY')\n\
         DEBUG = config('DEBUG', default=True, cast=bool)\nREGION = config('REGION', default='x')\n",
    );
    project.write(".env.example", "API_KEY=\nSENTRY_DSN=\n");
    let refused = project.ship(&["up", "--yes"]).exits(3);
    let refused = refused.says("API_KEY is not set").says("ship config set API_KEY=…");
    refused
        .says("mysite/settings.py:125: the settings need API_KEY")
        .says(".env.example also has SENTRY_DSN");
    assert_eq!(server.exec("ls /srv /etc/ship 2>/dev/null | wc -l").trim(), "1");
    project.ship(&["config", "set", "API_KEY=hunter2 $x\"y"]).exits(0);
    project.up();
    let shell = |code: &str| project.ship(&["manage", "shell", "-c", code]).exits(0).stdout;
    assert!(
        shell("from django.conf import settings as s; print('is', repr(s.API_KEY), s.DEBUG)")
            .contains("is 'hunter2 $x\"y' False")
    );
    let file =
        server.exec("readlink /srv/mysite/current/.env; stat -L -c '%a %U:%G' /srv/mysite/current/.env");
    assert_eq!(file.trim(), "/etc/ship/mysite/v1.env\n640 root:mysite");
    project.up().says("Nothing to change");
    project.ship(&["config", "set", "API_KEY=other"]).exits(0);
    assert!(shell("from django.conf import settings as s; print('is', s.API_KEY)").contains("is other"));
    assert_eq!(server.exec("readlink /srv/mysite/current/.env").trim(), "/etc/ship/mysite/v2.env");

    // django-environ, whose file wins over the environment, with the database from the environment.
    with_settings(
        &project,
        "\nimport environ\nenv = environ.Env(DEBUG=(bool, True))\nenviron.Env.read_env(BASE_DIR / '.env', overwrite=True)\n\
         DEBUG = env('DEBUG')\nSECRET_KEY = env('SECRET_KEY')\nAPI_KEY = env.str('API_KEY')\nDATABASES = {'default': env.db()}\n",
    );
    project.up();
    assert!(shell("from django.conf import settings as s; print('is', s.API_KEY, s.DEBUG, [o['name'] for o in s.SHIP_OVERRIDES])")
        .contains("is other False ['ALLOWED_HOSTS', 'STATIC_ROOT', 'MEDIA_ROOT']"));
    assert!(database(&project).contains("vendor postgresql mysite"));

    // What only an import finds out: a condition, a class of pydantic's. The site stays as it is.
    with_settings(&project, "\nimport os\nif not DEBUG or True:\n    MAIL = os.environ['MAIL_URL']\n");
    project
        .ship(&["up", "--yes"])
        .exits(3)
        .says("MAIL_URL is not set, and mysite/settings.py:126 reads it")
        .says("ship config set MAIL_URL=…");
    with_settings(
        &project,
        "\nfrom pydantic_settings import BaseSettings\nclass S(BaseSettings):\n    stripe_key: str\nS()\n",
    );
    project.ship(&["up", "--yes"]).exits(3).says("STRIPE_KEY is not set");
    assert_eq!(get(&server, "/admin/login/").status, 200);

    // A file that git must not have.
    let read = "\nimport json\nSECRETS = json.loads((BASE_DIR / 'conf/secrets.json').read_text())\nSECRET_KEY = SECRETS['key']\n";
    with_settings(&project, read);
    project
        .ship(&["up", "--yes"])
        .exits(3)
        .says("the settings read conf/secrets.json")
        .says("files: [conf/secrets.json]");
    project.config("app: mysite\nfiles: {conf/secrets.json: ./secrets.json}");
    project
        .ship(&["up", "--yes"])
        .exits(3)
        .says("conf/secrets.json is neither on this computer nor on the server");
    project.write("secrets.json", "{\"key\": \"from-a-file-of-mine\"}");
    let up = project.up();
    assert!(!up.stderr.contains("from-a-file"), "{}", up.stderr);
    assert!(
        shell("from django.conf import settings as s; print('is', s.SECRET_KEY)")
            .contains("is from-a-file-of-mine")
    );
    let kept = server.exec("stat -c '%a %U:%G' /etc/ship/mysite/files /etc/ship/mysite/files/*; readlink /srv/mysite/current/conf/secrets.json");
    assert_eq!(kept.trim(), "750 root:mysite\n640 root:mysite\n/etc/ship/mysite/files/conf%2Fsecrets.json");
    project.up().says("Nothing to change");
    // Gone from this computer, it stays on the server; changed, it makes a release.
    std::fs::remove_file(project.dir.join("secrets.json")).unwrap();
    project.up().says("Nothing to change");
    project.write("secrets.json", "{\"key\": \"another-one-of-mine\"}");
    project.up();
    assert!(
        shell("from django.conf import settings as s; print('is', s.SECRET_KEY)")
            .contains("is another-one-of-mine")
    );
    project.up().says("Nothing to change");
}

/// A model and the migration that makes its table, after one that makes an extension.
const WORDS: [(&str, &str); 3] = [
    ("words/__init__.py", ""),
    ("words/migrations/__init__.py", ""),
    (
        "words/migrations/0001_initial.py",
        "from django.contrib.postgres.operations import TrigramExtension\n\
         from django.db import migrations, models\n\n\
         class Migration(migrations.Migration):\n    operations = [\n        TrigramExtension(),\n        \
         migrations.CreateModel('Word', [('id', models.BigAutoField(primary_key=True)), ('text', models.TextField())]),\n    ]\n",
    ),
];

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn databases_as_asked_for() {
    let server = TestBox::builder().packages(true).boot();
    let project = startproject(&server);

    // Extensions, one from a package of its own; what the site may create, its migrations create.
    for (path, text) in WORDS {
        project.write(path, text);
    }
    with_settings(&project, "\nINSTALLED_APPS += ['django.contrib.postgres', 'words']\n");
    project.config("app: mysite\ndatabase: {engine: postgres, extensions: [postgis, citext]}");
    project.up();
    let names = "from django.db import connection as c; k = c.cursor(); k.execute('select extname from pg_extension'); \
                 print('has', sorted(name for name, in k.fetchall()))";
    let has = "has ['citext', 'pg_trgm', 'plpgsql', 'postgis']";
    project.ship(&["manage", "shell", "-c", names]).exits(0).says(has);
    project.up().says("Nothing to change");
    assert!(server.exec("cat /etc/ship/mysite/v1.env").contains("postgis://mysite:"));

    // A dump with extensions goes back in, although the site itself may not create all of them.
    let second = "from django.db import migrations\n\nclass Migration(migrations.Migration):\n    \
                  dependencies = [('words', '0001_initial')]\n    operations = [migrations.RunSQL(\"insert into words_word (text) values ('lost')\")]\n";
    project.ship(&["manage", "shell", "-c", "from django.db import connection as c; c.cursor().execute(\"insert into words_word (text) values ('kept')\")"]).exits(0);
    project.write("words/migrations/0002_more.py", second);
    project.up();
    project.ship(&["rollback", "--yes", "--restore-dump", "--confirm", "mysite"]).exits(0);
    let rows = "from django.db import connection as c; k = c.cursor(); k.execute('select text from words_word'); print('rows', k.fetchall())";
    project.ship(&["manage", "shell", "-c", rows]).exits(0).says("rows [('kept',)]");
    project.ship(&["manage", "shell", "-c", names]).exits(0).says(has);

    // SQLite for who asks for it: a write-ahead log, and writers that wait for each other.
    std::fs::remove_dir_all(project.dir.join("words")).unwrap();
    with_settings(&project, "");
    project.config("app: mysite\ndatabase: sqlite");
    project.up();
    assert!(database(&project).contains("vendor sqlite /srv/mysite/shared/database/db.sqlite3"));
    let mode = "from django.db import connection as c; k = c.cursor(); k.execute('pragma journal_mode'); print('mode', k.fetchone()); \
                k.execute('pragma busy_timeout'); print('busy', k.fetchone())";
    project.ship(&["manage", "shell", "-c", mode]).exits(0).says("mode ('wal',)").says("busy (20000,)");
    project.up().says("Nothing to change");
    // The same with a Django that has no settings for it.
    project.write("requirements.txt", "Django>=4.2,<5\n");
    project.up();
    project.ship(&["manage", "shell", "-c", mode]).exits(0).says("mode ('wal',)").says("busy (20000,)");
    assert_eq!(get(&server, "/admin/login/").status, 200);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_database_of_before_is_carried_over() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.up();
    // What `manage.py migrate` and some use leave on a developer's computer; a server has the Python for it.
    let site = "cd /srv/library/current && sudo -u library env -i SECRET_KEY=x DEBUG=1 DATABASE_URL=sqlite:////tmp/old.sqlite3 \
                DJANGO_SETTINGS_MODULE=locallibrary.settings /srv/library/venvs/v1/bin/python manage.py";
    server.exec(&format!("{site} migrate -v 0 && {site} createsuperuser --noinput --username old --email old@example.com 2>&1 \
                          && {site} loaddata --help >/dev/null && {site} dumpdata -o /tmp/old.json auth.group 2>/dev/null"));
    let encoded = server.exec("base64 -w0 /tmp/old.sqlite3; rm /tmp/old.sqlite3");
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).unwrap();
    std::fs::write(project.dir.join("old.sqlite3"), bytes).unwrap();

    // The example's migrations bring books of their own.
    let refused = project.ship(&["db", "import", "old.sqlite3"]).exits(1);
    refused.says("the database is not empty: catalog.").says("ship db import --replace");
    project.ship(&["db", "import", "old.sqlite3", "--replace", "--yes"]).exits(0).says("rows now");
    let users = "from django.contrib.auth import get_user_model as g; from django.db import connection as c; \
                 print('users', c.vendor, [u.username for u in g().objects.all()]); g().objects.create(username='next')";
    project.ship(&["manage", "shell", "-c", users]).exits(0).says("users postgresql ['old']");
    assert_eq!(get(&server, "/").status, 200);
    assert!(get(&server, "/books/").text().contains("/books/"));
    // A fixture that doesn't fit leaves everything as it was.
    project.write("bad.json", "[{\"model\": \"catalog.nothing\", \"pk\": 1, \"fields\": {}}]");
    project
        .ship(&["db", "import", "bad.json", "--replace", "--yes"])
        .exits(1)
        .says("bad.json was not imported")
        .says("the database is as it was");
    let left = "from django.contrib.auth import get_user_model as g; print('left', g().objects.count())";
    project.ship(&["manage", "shell", "-c", left]).exits(0).says("left 2");
    assert_eq!(server.exec("ls -d /var/lib/ship/tmp.* 2>/dev/null | wc -l").trim(), "0");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn projects_with_ways_of_their_own() {
    let server = TestBox::builder().packages(true).boot();
    let project = startproject(&server);

    // Settings as a package, a wsgi.py that insists on one of them, packed files with hashes, one folder as source and goal.
    let settings = std::fs::read_to_string(project.dir.join("mysite/settings.py")).unwrap();
    std::fs::remove_file(project.dir.join("mysite/settings.py")).unwrap();
    let middleware = "'django.middleware.security.SecurityMiddleware',";
    let settings = settings
        .replace(middleware, &format!("{middleware}\n    'whitenoise.middleware.WhiteNoiseMiddleware',"));
    let settings = settings.replace(
        "BASE_DIR = Path(__file__).resolve().parent.parent",
        "BASE_DIR = Path(__file__).resolve().parent.parent.parent",
    );
    project.write("mysite/settings/__init__.py", "");
    project.write("mysite/settings/base.py", &settings);
    project.write("mysite/settings/local.py", "from .base import *\nINTERNAL_IPS = ['127.0.0.1']\n");
    project.write(
        "mysite/settings/production.py",
        "import os\nfrom .base import *\nfrom . import base\nNAMED = os.environ['DJANGO_SETTINGS_MODULE']\nDEBUG = False\n\
         STATIC_ROOT = BASE_DIR / 'static'\nSTATICFILES_DIRS = [BASE_DIR / 'static']\n\
         STORAGES = {'default': {'BACKEND': 'django.core.files.storage.FileSystemStorage'},\n    \
         'staticfiles': {'BACKEND': 'whitenoise.storage.CompressedManifestStaticFilesStorage'}}\n",
    );
    project.write("static/own.css", &"body { color: black }\n".repeat(200));
    project.replace("manage.py", "'mysite.settings'", "'mysite.settings.local'");
    project.replace(
        "mysite/wsgi.py",
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')",
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'mysite.settings.production'",
    );
    project.write("requirements.txt", "Django>=5.2,<5.3\nwhitenoise[brotli]\n");
    project.config("app: mysite\ndjango: {settings: mysite.settings.production}");
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    assert!(!plan.stdout.contains("DEBUG "), "{}", plan.stdout);
    project.up().says("STATIC_ROOT: 'static' → '/srv/mysite/static' (STATICFILES_DIRS has the same folder, which Django refuses)");
    let code = "from django.conf import settings as s; import importlib; \
                print('named', s.NAMED, importlib.import_module(s.SETTINGS_MODULE).__name__, s.SECRET_KEY[:6] != 'django')";
    project
        .ship(&["manage", "shell", "-c", code])
        .exits(0)
        .says("named mysite.settings.production mysite.settings.production True");

    let page = get(&server, "/admin/login/").text();
    let at = page.find("/static/admin/css/base.").expect("the admin's CSS");
    let css = page[at..].split('"').next().unwrap();
    assert_ne!(css, "/static/admin/css/base.css");
    let packed = |path: &str, how: &str| {
        let answer = crate::support::get_with(&server, path, &format!("Accept-Encoding: {how}\r\n"));
        (
            answer.status,
            answer.header("Content-Encoding").to_owned(),
            answer.header("Cache-Control").to_owned(),
        )
    };
    let forever = "public, max-age=31536000, immutable";
    assert_eq!(packed(css, "gzip, br"), (200, "br".into(), forever.into()));
    assert_eq!(packed(css, "gzip"), (200, "gzip".into(), forever.into()));
    assert_eq!(packed("/static/own.css", "identity"), (200, String::new(), "no-cache".into()));
    // The instance that serves has ship's settings, whatever wsgi.py says.
    assert_eq!(get(&server, "/nowhere/").status, 404);
    assert!(database(&project).contains("vendor postgresql mysite"));
    project.up().says("Nothing to change");
}
