//! Going back: code, environment and database of a release of before, on one real server, while visitors read.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::boxes::TestBox;
use crate::support::{Browser, Project, Ran, Stop, get, wait_for};

/// Visitors who read the list of books without a break, each answer checked.
struct Visitors {
    answers: Arc<AtomicUsize>,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl Visitors {
    fn start(server: &TestBox) -> Self {
        let (answers, stop) = (Arc::new(AtomicUsize::new(0)), Stop::default());
        let visit = || {
            let (host, answers, stop) = (server.host.clone(), Arc::clone(&answers), stop.told());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let page = Browser::open(&host)
                        .and_then(|mut browser| browser.request("GET", "/books/", "", b""))
                        .expect("an answer");
                    assert_eq!(page.status, 200, "{}", page.text());
                    assert!(page.text().contains("<strong>"), "{}", page.text());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { answers: Arc::clone(&answers), threads: vec![visit(), visit()], stop }
    }

    /// Ends them; panics if any of their requests failed.
    fn leave(self) {
        let enough = self.answers.load(Ordering::Relaxed) + 20;
        wait_for("visitors to be answered to the end", 30, || {
            self.answers.load(Ordering::Relaxed) >= enough || self.threads.iter().any(JoinHandle::is_finished)
        });
        self.stop.tell();
        for thread in self.threads {
            thread.join().expect("every request is answered with the list of books");
        }
    }
}

fn sql(server: &TestBox, query: &str) -> String {
    let command = format!("cd / && runuser -u postgres -- psql -Atc \"{query}\" library");
    server.exec(&command).trim().to_owned()
}

fn has_column(server: &TestBox, column: &str) -> bool {
    let query = format!(
        "select count(*) from information_schema.columns where table_name = 'catalog_book' and column_name = '{column}'"
    );
    sql(server, &query) == "1"
}

fn applied(server: &TestBox, name: &str) -> bool {
    sql(server, &format!("select count(*) from django_migrations where app = 'catalog' and name = '{name}'"))
        == "1"
}

/// `ship releases` without what differs from run to run: when, who, commit and the size of dumps.
fn releases(project: &Project) -> String {
    let text = project.ship(&["releases"]).exits(0).stdout;
    let row = |line: &str| {
        let mut cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        if let ["v" | "state", ..] = cells.as_slice() {
            return cells.join(" | ");
        }
        let masked: Vec<&str> = cells.drain(2..5).collect();
        let [when, who, commit] = masked.as_slice() else { panic!("{line}") };
        assert!(*when == "-" || when.starts_with("20") && when.ends_with('Z'), "{line}");
        assert!(*who == "-" || who.starts_with("tester@"), "{line}");
        assert!(
            *commit == "-" || commit.trim_end_matches('+').chars().all(|c| c.is_ascii_hexdigit()),
            "{line}"
        );
        let text = cells.join(" | ");
        match text.split_once("(dump ") {
            Some((before, _)) => format!("{before}(dump)"),
            None => text,
        }
    };
    text.lines().map(row).collect::<Vec<_>>().join("\n")
}

/// A migration of the example's app after its first two.
fn write_migration(project: &Project, name: &str, after: &str, atomic: bool, operations: &str) {
    let text = format!(
        "from django.db import migrations, models\n\n\ndef forget(apps, schema_editor):\n    \
         apps.get_model('catalog', 'BookInstance').objects.all().delete()\n    \
         apps.get_model('catalog', 'Book').objects.filter(title='Emma').delete()\n\n\n\
         def stumble(apps, schema_editor):\n    raise ValueError('no such shelf')\n\n\n\
         class Migration(migrations.Migration):\n    atomic = {}\n    dependencies = [('catalog', '{after}')]\n    \
         operations = [{operations}]\n",
        if atomic { "True" } else { "False" }
    );
    project.write(&format!("catalog/migrations/{name}.py"), &text);
}

const LAST: &str = "0002_first_books";

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_site_goes_back_to_what_it_was_and_so_does_its_database() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.ship(&["releases", "--yes"]).exits(0).says("no release yet");
    project.ship(&["rollback"]).exits(1).says("there is no release yet");
    project.up().says("the database is empty").says("v1 serves");
    let visitors = Visitors::start(&server);
    code_goes_back(&project, &server);
    the_environment_goes_back(&project, &server);
    a_migration_is_reversed(&project, &server);
    a_failed_migration_leaves_the_site_alone(&project, &server);
    visitors.leave();
    what_cannot_be_reversed_comes_from_the_dump(&project, &server);
    insta::assert_snapshot!(releases(&project), @r"
      state | when | who | commit | what | migrations
      v18 | live | rollback to v16 | (dump)
      v17 | bad | code | catalog.0003_rating, catalog.0004_shelf (dump)
      v16 | good | rollback to v14 | (dump)
      v15 | failed | code; migrate: catalog.0004_shelf: ValueError: no such shelf | catalog.0003_rating (dump)
      v14 | good | rollback to v12 | (dump)
      v13 | failed | code; migrate: catalog.0004_shelf: ValueError: no such shelf | catalog.0003_rating (dump)
      v12 | good | rollback to v7 | (dump)
      v11 | gone | rollback to v9
      v10 | gone | rollback to v8 | catalog.0003_rating
      v9 | gone | rollback to v7
      v8 | gone | code | catalog.0003_rating
      v7 | gone | rollback to v5
      v6 | gone | rollback to v4
      v5 | gone | config set GREETING
      v4 | gone | rollback to v2
      v3 | gone | rollback to v1
      v2 | gone | code
      v1 | gone | code | 20 migrations, to sessions.0001_initial
    ");
}

fn code_goes_back(project: &Project, server: &TestBox) {
    let style = || get(server, "/static/catalog/site.css").text();
    let first = style();
    project.ship(&["rollback"]).exits(1).says("there is no good release before v1");
    project.put_on_page("A second release");
    project.write("catalog/static/catalog/site.css", "/* second */\n");
    project.commit("Second");
    let up = project.up().says("v2 serves");
    assert!(
        !up.stderr.contains("✓ dump") && !up.stderr.contains("✓ migrate"),
        "nothing is migrated: {}",
        up.stderr
    );
    assert!(get(server, "/").text().contains("A second release"));
    assert_eq!(style(), "/* second */\n");

    project.ship(&["rollback"]).exits(0).says("v3 serves").says("rollback to v1").says("`ship up` makes v4");
    assert!(!get(server, "/").text().contains("A second release"));
    assert_eq!(style(), first, "files that nginx serves go back, too");
    project
        .ship(&["plan"])
        .exits(2)
        .says("upload v4")
        .says("these are the files of v2, which v3 went back from");
    project.ship(&["rollback"]).exits(1).says("there is no good release before v3");
    project.ship(&["rollback", "v3"]).exits(1).says("v3 is live");
    project.ship(&["rollback", "v9"]).exits(1).says("there is no v9");
    project.ship(&["rollback", "nonsense"]).exits(3);

    // Back to the newer one, which was bad for somebody.
    project.ship(&["rollback", "v2"]).exits(0).says("v4 serves");
    assert!(get(server, "/").text().contains("A second release"));
    assert_eq!(style(), "/* second */\n");
    project.ship(&["plan"]).exits(0).says("v4 is live");
}

fn the_environment_goes_back(project: &Project, server: &TestBox) {
    project.ship(&["config", "set", "GREETING=hello"]).exits(0).says("v5");
    let greeting = || project.ship(&["run", "sh", "-c", "echo \"<$GREETING>\""]).exits(0).stdout;
    assert_eq!(greeting(), "<hello>\n");
    project.ship(&["rollback"]).exits(0).says("v6 serves").says("rollback to v4");
    assert_eq!(greeting(), "<>\n");
    project.ship(&["config", "get", "GREETING"]).exits(3);
    project.ship(&["plan"]).exits(0).says("v6 is live");
    project.ship(&["rollback", "v5"]).exits(0).says("v7 serves");
    assert_eq!(greeting(), "<hello>\n");
    assert_eq!(project.ship(&["config", "get", "GREETING"]).exits(0).stdout, "hello\n");
    project.ship(&["plan"]).exits(0);
    let kept = server
        .exec("stat -c '%a %U' /var/lib/ship/library/releases/v7/parts /var/lib/ship/library/releases/v7");
    assert_eq!(kept, "700 root\n700 root\n");
}

fn a_migration_is_reversed(project: &Project, server: &TestBox) {
    let field = "migrations.AddField('book', 'rating', models.IntegerField(null=True, db_index=True))";
    // PostgreSQL's estimate, as ANALYZE would write it.
    sql(server, "update pg_class set reltuples = 2e6 where relname = 'catalog_book'");
    write_migration(project, "0003_rating", LAST, true, field);
    project.replace(
        "catalog/models.py",
        "    added = models",
        "    rating = models.IntegerField(null=True, db_index=True)\n    added = models",
    );
    project.commit("Ratings");
    project
        .ship(&["plan"])
        .exits(2)
        .says("migration catalog.0003_rating, can be reversed")
        .says("Add field rating to book")
        .says("ADD COLUMN \"rating\" integer NULL")
        .says("! catalog.0003_rating: catalog_book has about 2.0 million rows: an index is built");
    assert_eq!(server.exec("ls -d /srv/library/releases/plan* 2>/dev/null || true"), "");
    // Without room for the dump nothing is migrated.
    server.exec("mkdir -p /var/backups/ship && mount -t tmpfs -o size=8k none /var/backups/ship");
    project
        .ship(&["up", "--yes"])
        .exits(1)
        .says("`dump the database` failed: there is no room for it on the server's disk")
        .says("the database was left as it is");
    server.exec("test -z \"$(find /var/backups/ship -type f)\" && umount /var/backups/ship");
    assert!(!has_column(server, "rating"));
    project
        .up()
        .says("migration catalog.0003_rating, can be reversed")
        .says("Add field rating to book")
        .says("ADD COLUMN \"rating\" integer NULL")
        .says("catalog_book has about 2.0 million rows: an index is built, and nobody writes it meanwhile")
        .says("/var/backups/ship/library/v8.dump")
        .says("v8 serves");
    assert!(has_column(server, "rating"));
    let dump = server.exec("cd /var/backups/ship/library && stat -c '%a %U %n' . * && pg_restore --list v8.dump | grep -c 'TABLE DATA'");
    assert!(dump.starts_with("700 root .\n600 root v8.dump\n"), "{dump}");

    let refused = project.ship(&["rollback"]).exits(1).says("v7 doesn't know of 1 migration");
    let refused = refused.says("catalog.0003_rating  can be reversed").says("ship rollback v7 --reverse");
    refused.says("--restore-dump").says("--keep-schema");
    project.ship(&["rollback", "--reverse"]).exits(0).says("reversed catalog.0003_rating").says("v9 serves");
    assert!(!has_column(server, "rating") && !applied(server, "0003_rating"));
    // Forward again, by number: what it needs is migrated as for any release.
    project.ship(&["rollback", "v8"]).exits(0).says("v10 serves");
    assert!(has_column(server, "rating"));
    project.ship(&["rollback", "v9", "--keep-schema"]).exits(0).says("v11 serves");
    assert!(has_column(server, "rating") && applied(server, "0003_rating"));
    // The live release doesn't know of it, and still it is found and taken back.
    project.ship(&["rollback", "v7", "--reverse"]).exits(0).says("v12 serves");
    assert!(!has_column(server, "rating"));
}

fn a_failed_migration_leaves_the_site_alone(project: &Project, server: &TestBox) {
    let live = server.exec("readlink /srv/library/current");
    let half =
        "migrations.AddField('book', 'shelf', models.IntegerField(null=True)), migrations.RunPython(stumble)";
    write_migration(project, "0004_shelf", "0003_rating", true, half);
    let fails = |project: &Project| project.ship(&["up", "--yes"]).exits(1);
    let first_line =
        |ran: &Ran| ran.stderr.lines().find(|line| line.starts_with("error:")).unwrap_or_default().to_owned();
    let failed = fails(project);
    assert_eq!(
        first_line(&failed),
        "error: `migrate the database` failed: catalog.0004_shelf: ValueError: no such shelf"
    );
    failed
        .says("PostgreSQL took back all of catalog.0004_shelf")
        .says("before it, this release applied catalog.0003_rating")
        .says("v12 serves")
        .says("/var/backups/ship/library/v13.dump")
        .says("`ship rollback`");
    assert_eq!((has_column(server, "rating"), has_column(server, "shelf")), (true, false));
    assert_eq!(server.exec("readlink /srv/library/current"), live);
    // Nothing is live that should be left: only the database goes back.
    project.ship(&["rollback", "--reverse"]).exits(0).says("rollback to v12").says("v14 serves");
    assert!(!has_column(server, "rating"));

    write_migration(project, "0004_shelf", "0003_rating", false, half);
    fails(project)
        .says("what catalog.0004_shelf did before the error stays in the database, since it is not atomic")
        .says("v14 serves");
    assert!(has_column(server, "rating") && has_column(server, "shelf"));
    project
        .ship(&["rollback", "--reverse"])
        .exits(1)
        .says("can't be reversed: catalog.0004_shelf (applied half-way)")
        .says("--restore-dump");
}

fn what_cannot_be_reversed_comes_from_the_dump(project: &Project, server: &TestBox) {
    project.ship(&["rollback", "--restore-dump"]).exits(3).says("--confirm library");
    project.ship(&["rollback", "--restore-dump", "--confirm", "other"]).exits(3).says("nothing was changed");
    assert!(has_column(server, "shelf"));
    project.ship(&["rollback", "--restore-dump", "--confirm", "library"]).exits(0).says("v16 serves");
    let open = "select has_database_privilege('public', 'library', 'connect')";
    let open = server.exec(&format!("cd / && runuser -u postgres -- psql -Atc \"{open}\""));
    assert_eq!(open, "f\n", "no other role may connect to what was restored");
    assert!(!has_column(server, "rating") && !has_column(server, "shelf"));
    assert!(get(server, "/books/").text().contains("Emma"));

    let forget = "migrations.RunPython(forget)";
    write_migration(project, "0004_shelf", "0003_rating", true, forget);
    let emma = || sql(server, "select count(*) from catalog_book where title = 'Emma'");
    let rows = sql(server, "select count(*) from catalog_bookinstance");
    project.up().says("can't be reversed (RunPython)").says("v17 serves");
    assert_eq!(emma(), "0");
    project
        .ship(&["rollback", "--reverse"])
        .exits(1)
        .says("can't be reversed: catalog.0004_shelf (RunPython)");
    assert_eq!(emma(), "0");
    project.ship(&["rollback", "--restore-dump", "--confirm", "library"]).exits(0).says("v18 serves");
    assert_eq!((emma().as_str(), sql(server, "select count(*) from catalog_bookinstance")), ("1", rows));
    assert_eq!(get(server, "/books/").status, 200);
    // What was there before the restore is kept as well.
    server.exec("test -s /var/backups/ship/library/v18.dump");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_file_as_database_is_dumped_and_restored_alike() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.config("database: sqlite");
    project.up().says("v1 serves");
    write_migration(&project, "0003_forget", LAST, true, "migrations.RunPython(forget)");
    project.up().says("catalog.0003_forget, can't be reversed").says("v2.dump").says("v2 serves");
    assert!(!get(&server, "/books/").text().contains("Emma"));
    let dump = server.exec("cd /var/backups/ship/library && stat -c '%a %U' v2.dump && head -c 15 v2.dump");
    assert_eq!(dump, "600 root\nSQLite format 3");
    project.ship(&["rollback", "--restore-dump", "--confirm", "library"]).exits(0).says("v3 serves");
    assert!(get(&server, "/books/").text().contains("Emma"));
    project.ship(&["run", "sh", "-c", "test -w ../../shared/database/db.sqlite3"]).exits(0);

    project.config("database: sqlite\ndump_limit: 0");
    project.up().says("no dump was taken before it, as was asked for").says("v4 serves");
    assert!(!get(&server, "/books/").text().contains("Emma"));
    project
        .ship(&["rollback", "--restore-dump"])
        .exits(1)
        .says("there is no dump from before")
        .says("--keep-schema");
    project.ship(&["rollback", "--keep-schema"]).exits(0).says("v5 serves").says("rollback to v3");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn on_a_terminal_the_way_back_is_chosen() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.up().says("v1 serves");
    let field = "migrations.AddField('book', 'rating', models.IntegerField(null=True))";
    write_migration(&project, "0003_rating", LAST, true, field);
    project.up().says("v2 serves");
    // script gives ship a terminal, and types what it is told.
    let typed = |answers: &str| {
        let ship = project.command(&["rollback"]);
        let words = format!("exec {} rollback", ship.get_program().display());
        let mut script = Command::new("script");
        script.args(["-qec", &words, "/dev/null"]).current_dir(&project.dir).env_clear();
        script
            .envs(ship.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("TERM", "dumb")
            .env("NO_COLOR", "1");
        let mut script =
            script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run script (bsdutils)");
        std::io::Write::write_all(&mut script.stdin.take().unwrap(), answers.as_bytes()).unwrap();
        Ran::finished(script)
    };
    let ran = typed("4\n").exits(1);
    let ran =
        ran.says("What shall happen to the database?").says("1. reverse them; what only they hold is lost");
    ran.says("4. leave everything as it is, v2 live").says("nothing was changed");
    assert!(has_column(&server, "rating"));
    // A dump takes more than a number.
    typed("2\nnot its name\n")
        .exits(1)
        .says("everything written since then is lost")
        .says("nothing was changed");
    assert!(has_column(&server, "rating"));
    typed("1\n").exits(0).says("v3 serves");
    assert!(!has_column(&server, "rating"));
}
