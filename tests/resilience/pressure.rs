//! Servers that run out of something in the middle of a deploy: the old site serves on, and the message says what it was.
//!
//! A disk that is full before, while files arrive, and while the database is dumped: tests/bad_input.rs, tests/rollback.rs.

use super::load::add_form;
use crate::boxes::TestBox;
use crate::support::{Project, Ran, get, wait_for};

/// Takes all there is of the disk, at once.
const FILL: &str = "fallocate -l \"$(df -PB1 /var | awk 'NR == 2 { print $4 - 2000000 }')\" /var/filler
    cat /dev/zero >/var/rest 2>/dev/null || true";

/// Deploys; when `condition` holds on the server, `act` is done to it.
fn up_with(server: &TestBox, project: &Project, what: &str, condition: &str, act: &str) -> Ran {
    let mut ship = project.start_up();
    wait_for(what, 120, || {
        ship.try_wait().unwrap().is_some() || server.exec_status(condition).status.success()
    });
    server.exec(act);
    Ran::finished(ship)
}

fn first_line(ran: &Ran) -> &str {
    ran.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default()
}

fn serves(server: &TestBox, text: &str) {
    let page = get(server, "/");
    if page.status != 200 || !page.text().contains(text) {
        let log = server.exec("journalctl -q -n 60 -o cat -t library");
        panic!("{}: {}\n{log}", page.status, page.text());
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn the_disk_or_its_inodes_run_out_while_packages_are_installed_or_the_database_is_migrated() {
    let server = TestBox::builder().packages(true).disk_mb(1400).boot();
    let project = Project::new(&server);
    add_form(&project);
    project.put_on_page("as it was");
    project.up().says("v1 serves");
    let requirements = std::fs::read_to_string(project.dir.join("requirements.txt")).unwrap();

    // Packages.
    project.put_on_page("as it will be");
    project.write("requirements.txt", &format!("{requirements}wagtail\n"));
    let full = up_with(
        &server,
        &project,
        "packages to be installed",
        "pkill -STOP -x uv",
        &format!("{FILL}\npkill -CONT -x uv"),
    );
    let full = full.exits(1);
    assert_eq!(first_line(&full), "error: `install Python packages` failed: the server's disk is full");
    serves(&server, "as it was");
    server.exec("rm /var/filler /var/rest");

    // Inodes, before anything is begun and in the middle.
    let fill = "cd /var && mkdir filler && cd filler && python3 -c '
import itertools
try:
    for number in itertools.count():
        open(str(number), \"x\").close()
except OSError:
    pass'";
    server.exec(fill);
    let full = project.ship(&["up", "--yes"]);
    let full = full.exits(1);
    assert!(
        first_line(&full).starts_with("error: the server's disk has room for ")
            && first_line(&full).contains(" more files"),
        "{}",
        full.stderr
    );
    serves(&server, "as it was");
    server.exec("rm -r /var/filler");
    let full = up_with(
        &server,
        &project,
        "packages to be installed",
        "pkill -STOP -x uv",
        &format!("{fill}\npkill -CONT -x uv"),
    );
    let full = full.exits(1);
    assert!(first_line(&full).ends_with("the server's disk is full"), "{}", full.stderr);
    serves(&server, "as it was");
    server.exec("rm -r /var/filler");
    project.write("requirements.txt", &requirements);

    // The database, which would stop for good without room for its log.
    project.write(
        "catalog/migrations/0004_large.py",
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
         dependencies = [('catalog', '0003_entry')]\n    operations = [migrations.RunSQL(\
         \"create table large as select repeat(md5(i::text), 60) as text from generate_series(1, 3000000) i\")]\n",
    );
    let database =
        || server.exec("systemctl show -p ActiveEnterTimestamp -p NRestarts postgresql@15-main.service");
    let ran_since = database();
    let full = project.ship(&["up", "--yes"]);
    let full = full.exits(1);
    assert!(
        first_line(&full).starts_with(
            "error: `migrate the database` failed: catalog.0004_large: the disk is full: of 64 MiB"
        ),
        "{}",
        full.stderr
    );
    let full = full.says("PostgreSQL took back all of catalog.0004_large");
    serves(&server, "as it was");
    assert_eq!(database(), ran_since, "the database ran on\n{}", full.stderr);

    std::fs::remove_file(project.dir.join("catalog/migrations/0004_large.py")).unwrap();
    project.up();
    serves(&server, "as it will be");
    project.up().says("Nothing to change");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn memory_that_does_not_suffice_for_a_release_kills_that_one() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.put_on_page("as it was");
    project.up().says("v1 serves");
    let wsgi = std::fs::read_to_string(project.dir.join("locallibrary/wsgi.py")).unwrap();
    server.limit_memory(600);
    for (when, cause) in [
        (
            "True",
            "error: `preflight v2` failed: the preflight was killed, as the kernel does when memory runs out",
        ),
        (
            "\"gunicorn\" in open(\"/proc/self/cmdline\").read()",
            "error: `switch to v3` failed: library@v3 was killed, as the kernel does when memory runs out",
        ),
    ] {
        project.write(
            "locallibrary/wsgi.py",
            &format!("{wsgi}\nif {when}:\n    hoard = [bytes([i % 255 + 1]) * 2**20 for i in range(900)]\n"),
        );
        let killed = project.ship(&["up", "--yes"]);
        let killed = killed.exits(1);
        assert_eq!(first_line(&killed), cause, "{}", killed.stderr);
        serves(&server, "as it was");
    }
    server.free_memory();
    project.write("locallibrary/wsgi.py", &wsgi);
    project.put_on_page("as it will be");
    project.up();
    serves(&server, "as it will be");
}
