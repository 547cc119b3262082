//! What users of other tools complain about when they release, each as a test of its name.
//!
//! Most share one server, one after the other; each starts from the example as it is, whatever the one before left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::boxes::TestBox;
use crate::support::{Project, Ran, get, wait_for};

/// The shared server, as long as a test waits for it, and the example on it.
struct Site {
    project: Project,
    server: Arc<TestBox>,
    _turn: MutexGuard<'static, ()>,
}

fn site() -> Site {
    static SERVER: Mutex<Weak<TestBox>> = Mutex::new(Weak::new());
    static TURN: Mutex<()> = Mutex::new(());
    let server = {
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(TestBox::builder().packages(true).boot());
            *shared = Arc::downgrade(&server);
            server
        })
    };
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let project = Project::new(&server);
    project.up();
    Site { project, server, _turn: turn }
}

impl Site {
    fn live(&self) -> u32 {
        let link = self.server.exec("readlink /srv/library/current");
        link.trim().rsplit_once('v').unwrap().1.parse().unwrap()
    }

    /// Makes the site answer this at `/word/`.
    fn say(&self, word: &str) {
        let urls = std::fs::read_to_string(self.project.dir.join("locallibrary/urls.py")).unwrap();
        let before = urls.split("\n# The word").next().unwrap();
        let view = format!(
            "\n# The word\nfrom django.http import HttpResponse\n\nurlpatterns.append(path(\"word/\", lambda request: HttpResponse({word:?})))\n"
        );
        self.project.write("locallibrary/urls.py", &format!("{before}{view}"));
    }

    fn word(&self) -> String {
        get(&self.server, "/word/").text()
    }

    /// Adds a line to the module that gunicorn loads.
    fn in_wsgi(&self, line: &str) {
        let text = std::fs::read_to_string(self.project.dir.join("locallibrary/wsgi.py")).unwrap();
        self.project.write("locallibrary/wsgi.py", &format!("{text}\n{line}\n"));
    }

    fn fails(&self) -> Ran {
        self.project.ship(&["up", "--yes"]).exits(1)
    }
}

/// deployer#3335, dokku#3167, terraform#28374
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_1_a_cancelled_deploy_leaves_no_lock() {
    let site = site();
    site.say("after the lock");
    for signal in ["INT", "KILL"] {
        let mut ship = site.project.start_up();
        wait_for("the server to begin", 60, || {
            site.server.exec_status("test -e /var/lib/ship/library/applying").status.success()
        });
        let id = ship.id().to_string();
        for _ in 0..2 {
            // The second one finds nobody if the first was enough.
            let _ = std::process::Command::new("kill").args(["-s", signal, &id]).status();
        }
        assert_ne!(ship.wait().unwrap().code(), Some(0));
    }
    site.project.up().says("serves");
    assert_eq!(site.word(), "after the lock");
    site.server.exec("flock -n /var/lib/ship/library/lock true");
}

/// kamal#992
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_2_the_health_check_uses_a_name_that_allowed_hosts_has() {
    let site = site();
    site.project.config("domains: [library.example.com]");
    let settings = std::fs::read_to_string(site.project.dir.join("locallibrary/settings.py")).unwrap();
    site.project
        .write("locallibrary/settings.py", &format!("{settings}\nALLOWED_HOSTS = ['library.example.com']\n"));
    site.project.up().says("serves");
    // Where the settings refuse the domain, the overlay lets it in; without, that is what is said.
    site.project
        .write("locallibrary/settings.py", &format!("{settings}\nALLOWED_HOSTS = ['other.example.com']\n"));
    site.project.up().says("ALLOWED_HOSTS").says("serves");
    site.project.config("domains: [library.example.com]\ndjango: {overlay: {allowed_hosts: off}}");
    site.fails().says("library.example.com").says("ALLOWED_HOSTS");
    site.project.write("locallibrary/settings.py", &settings);
    site.project.config("");
    site.project.up();
}

/// kamal#842, kamal#1041
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_3_an_unhealthy_boot_tells_its_reason_first() {
    let site = site();
    site.in_wsgi("raise RuntimeError('no shelf for the books')");
    let ran = site.fails();
    let first = ran.stderr.lines().find(|line| line.starts_with("error:")).unwrap();
    assert!(first.ends_with("RuntimeError: no shelf for the books"), "{}", ran.stderr);
}

/// kamal#1658, laravel-deployer#160
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaints_4_and_7_going_back_takes_no_sha_and_restarts_what_runs() {
    let site = site();
    site.say("older");
    site.project.up();
    site.say("newer");
    site.project.up();
    assert_eq!(site.word(), "newer");
    site.project.ship(&["rollback"]).exits(0);
    assert_eq!(site.word(), "older");
}

/// capistrano/rails#110
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_5_going_back_knows_the_schema() {
    let site = site();
    site.project.write(
        "catalog/migrations/0003_shelf.py",
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [('catalog', '0002_first_books')]\n    operations = [migrations.CreateModel('Shelf', \
         [('id', models.BigAutoField(primary_key=True))])]\n",
    );
    site.project.up();
    let tables = "cd /; runuser -u postgres -- psql -Atc \"select count(*) from pg_tables where tablename = 'catalog_shelf'\" library";
    assert_eq!(site.server.exec(tables), "1\n");
    site.project.ship(&["rollback"]).exits(1).says("catalog.0003_shelf  can be reversed").says("--reverse");
    site.project.ship(&["rollback", "--reverse"]).exits(0);
    assert_eq!(site.server.exec(tables), "0\n");
}

/// capistrano#1885
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_6_failed_deploys_leave_the_good_releases_and_do_not_pile_up() {
    let site = site();
    site.project.config("keep: 2");
    site.say("good");
    site.project.up();
    site.say("live");
    site.project.up();
    for attempt in 0..5 {
        site.in_wsgi(&format!("raise RuntimeError('attempt {attempt}')"));
        site.fails();
    }
    let releases = site
        .server
        .exec("ls -d /srv/library/releases/v* | wc -l; ls -d /var/lib/ship/library/releases/v* | wc -l");
    assert_eq!(releases, "4\n4\n", "two good ones and two failed ones");
    assert_eq!(site.word(), "live");
    site.project.ship(&["rollback"]).exits(0);
    assert_eq!(site.word(), "good");
}

/// kamal#1341
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_8_the_first_deploy_may_create_its_schema_slowly() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.config("django: {health: {timeout: 2}}\nprocesses: {web: {boot_timeout: 5}}");
    project.write(
        "catalog/migrations/0003_slow.py",
        "import time\n\nfrom django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [('catalog', '0002_first_books')]\n    operations = [migrations.RunPython(\
         lambda apps, editor: time.sleep(12), migrations.RunPython.noop)]\n",
    );
    project.up().says("v1 serves");
    assert_eq!(get(&server, "/").status, 200);
}

/// kamal#480, piku#173: what has begun is finished by the code that began it, and nothing of the old code stays.
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaints_10_and_20_a_job_is_finished_and_no_stale_worker_stays() {
    let site = site();
    let worker = |word: &str| {
        let code = format!(
            "import signal, time\n\nended = []\nsignal.signal(signal.SIGTERM, lambda *_: ended.append(1))\n\
             while not ended:\n    with open('media/jobs.txt', 'a') as log:\n        log.write('begin {word}\\n')\n        log.flush()\n        \
             for _ in range(20):\n            time.sleep(0.1)\n        log.write('end {word}\\n')\n"
        );
        site.project.write("jobs.py", &code);
    };
    let count = |line: &str| {
        let command = format!("grep -cx '{line}' /srv/library/shared/media/jobs.txt || true");
        site.server.exec(&command).trim().parse::<usize>().unwrap_or(0)
    };
    worker("old");
    site.project.config("processes: {worker: exec python jobs.py}");
    site.project.up();
    wait_for("a job to begin", 20, || count("begin old") > 0);
    worker("new");
    site.project.up();
    wait_for("a job of the new code", 20, || count("begin new") > 0);
    wait_for("the old worker to end", 30, || {
        site.server.exec("pgrep -fc '[p]ython jobs.py' || true").trim() == "1"
    });
    let begun = count("begin old");
    assert_eq!(count("end old"), begun, "each job that began has ended");
    wait_for("another job of the new code", 20, || count("begin new") > 1);
    assert_eq!(count("begin old"), begun);
    site.project.config("");
    site.project.up();
}

/// kamal#1847
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_11_a_config_change_builds_nothing() {
    let site = site();
    let built = || {
        site.server.exec("cd /srv/library; stat -c '%n %Y' venvs/[0-9a-f]*/.ship-complete; find current/ -name '*.html' -printf '%i %p\\n'")
    };
    let before = built();
    let live = site.live();
    let ran = site.project.ship(&["config", "set", "SHELVES=12"]).exits(0);
    for step in ["upload", "install", "migrate", "collect"] {
        assert!(!ran.stderr.contains(step), "{}", ran.stderr);
    }
    assert_eq!((built(), site.live()), (before, live + 1), "the same files, under another number");
    assert_eq!(site.project.ship(&["run", "printenv", "SHELVES"]).exits(0).stdout, "12\n");
    site.project.ship(&["config", "unset", "SHELVES"]).exits(0);
}

/// kamal#1911, kamal#1200
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_12_secrets_keep_their_dollars_and_quotes() {
    let site = site();
    let secret = "p$a${b}$(c)`d`\"e\"'f'\\g %h #i!";
    site.project.ship(&["config", "set", &format!("ODD={secret}")]).exits(0);
    assert_eq!(site.project.ship(&["config", "get", "ODD"]).exits(0).stdout, format!("{secret}\n"));
    assert_eq!(site.project.ship(&["run", "printenv", "ODD"]).exits(0).stdout, format!("{secret}\n"));
    site.project.ship(&["config", "unset", "ODD"]).exits(0);
}

/// What dry runs of Ansible's roles break on: steps that need what an earlier step would have made.
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_17_everything_can_be_planned_on_a_bare_server() {
    let server = TestBox::builder().boot();
    let project = Project::new(&server);
    let state = || {
        server.exec("dpkg-query -W | sha256sum; find /etc /srv /var/lib /opt -newer /etc/hostname -type f | grep -v -e /var/lib/systemd -e /etc/resolv | sort")
    };
    let before = state();
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    plan.says("nginx").says("postgres database library").says("migrate the database").says("switch to v1");
    assert_eq!(state(), before, "a plan changes nothing");
}

/// dokku#5364, dokku#5007
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_18_uploads_stay_and_are_served() {
    let site = site();
    site.project.ship(&["run", "sh", "-c", "echo a cover >media/cover.txt"]).exits(0);
    let cover = || get(&site.server, "/media/cover.txt").text();
    assert_eq!(cover(), "a cover\n");
    site.say("with a cover");
    site.project.up();
    assert_eq!(cover(), "a cover\n");
    site.project.ship(&["rollback"]).exits(0);
    assert_eq!(cover(), "a cover\n");
}

/// dokku#4259: 502 after a reboot. heroku/cli#1319: `run` that exits with 0 when its command did not.
#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn complaint_20_a_reboot_brings_the_site_back_and_run_tells_how_it_ended() {
    let site = site();
    site.say("before the reboot");
    site.project.up();
    site.server.reboot();
    // nginx may not be up yet; once it is, gunicorn's socket is.
    let mut seen = Vec::new();
    wait_for("the site", 60, || {
        let page = crate::support::Browser::open(&site.server.host)
            .and_then(|mut browser| browser.request("GET", "/word/", "", b""));
        seen.extend(page.as_ref().ok().map(|page| page.status));
        page.is_ok_and(|page| page.text() == "before the reboot")
    });
    assert_eq!(seen, [200], "never 502");
    assert_eq!(site.project.ship(&["run", "sh", "-c", "exit 7"]).code, 7);
}
