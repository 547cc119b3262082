//! The site's data: dumped, restored under load, backed up by the clock, proved, lost with its server and brought back.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::boxes::TestBox;
use crate::fakes::s3::Store;
use crate::support::{Browser, Project, Ran, Stop, get, noise, wait_for};

/// A box as `ship.yml` names it.
fn login(server: &TestBox) -> String {
    let (host, port, key) = (&server.host, server.port, server.key.display());
    format!("{{provider: ssh, host: {host:?}, port: {port}, user: root, key: {key}}}")
}

fn psql(project: &Project, sql: &str) -> String {
    let mut ship = project.command(&["db", "psql"]);
    let mut child =
        ship.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run ship");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("\\pset format unaligned\n\\t on\n{sql}\n").as_bytes())
        .unwrap();
    let ran = Ran::finished(child).exits(0);
    ran.stdout
        .lines()
        .filter(|line| !line.contains("format is") && !line.contains("only is"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every row of the site, as a digest that a person can't read but a machine compares.
const ROWS: &str = "select 'books', count(*), md5(string_agg(b::text, '|' order by id)) from catalog_book b \
                    union all select 'users', count(*), md5(string_agg(u::text, '|' order by id)) from auth_user u;";

fn media(server: &TestBox) -> String {
    server.exec("cd /srv/library/shared/media && find . -type f -exec sha256sum {} + | sort -k2; stat -c '%a %U %n' . covers")
}

/// A digest of what pg_restore makes of a dump, which the box's own client reads.
fn text_of(server: &TestBox, dump: &[u8]) -> String {
    server.write("/root/read.dump", dump);
    server.exec("pg_restore -f - /root/read.dump; rm /root/read.dump")
}

#[test]
#[ignore = "needs root, systemd-nspawn and moto: scripts/test runs it"]
fn the_data_outlives_the_server() {
    let server = TestBox::builder().packages(true).boot();
    let store = Store::start(&server, "backups");
    let backups = format!(
        "backups:\n  to: s3://backups/library\n  endpoint: {}\n  keep: {{daily: 2, weekly: 0, monthly: 0}}\n",
        store.endpoint()
    );
    let mut project = Project::new(&server);
    project.config(&backups);
    project.up();
    project.up().says("Nothing to change");

    server.exec(
        "cd /srv/library/shared/media && install -d -o library covers && head -c 300000 /dev/urandom >covers/a.jpg \
         && echo two >covers/b.jpg && chown library: covers/*",
    );
    psql(
        &project,
        "insert into auth_user (password, is_superuser, username, first_name, last_name, email, is_staff, is_active, date_joined) \
         select '', false, 'reader' || n, '', '', 'reader' || n || '@example.org', false, true, now() from generate_series(1, 500) n;",
    );
    talking(&project);
    dumping(&project, &server);
    restoring(&project, &server);
    a_copy_without_names(&project, &server);
    backing_up(&project, &server);
    let (rows, files) = (psql(&project, ROWS), media(&server));
    let key = project.ship(&["db", "backups", "key"]).exits(0).stdout;

    // The server is gone, and what was on it. Its end of the line to the store stays, so that the next one finds it.
    server.stop();
    let second = TestBox::builder().packages(true).boot();
    let began = Instant::now();
    project.move_to(&login(&second), &backups);
    project.write("backup.key", &key);
    project
        .ship(&[
            "db",
            "backups",
            "set",
            "AWS_ACCESS_KEY_ID=ship",
            "AWS_SECRET_ACCESS_KEY=secret",
            "BACKUP_KEY=@backup.key",
            "--yes",
        ])
        .exits(0);
    project.up();
    project.ship(&["db", "restore", "latest"]).exits(3).says("--confirm library");
    project.ship(&["db", "restore", "latest", "--confirm", "other"]).exits(3).says("nothing was changed");
    project
        .ship(&["db", "restore", "latest", "--yes"])
        .exits(0)
        .says("16 tables")
        .says("2 files of media are back");
    println!("rebuilt on a bare server in {:.0} s", began.elapsed().as_secs_f64());
    assert_eq!(psql(&project, ROWS), rows);
    assert_eq!(media(&second), files);
    assert_eq!(get(&second, "/books/").status, 200);
    project.up().says("Nothing to change");

    a_copy_here(&project, &second, &rows, &files);
    damage(&project, &second, &store);
    assert_eq!(
        second.exec("ls -A /var/lib/ship/library/spool /srv/library/.backup 2>/dev/null || true").trim(),
        "/var/lib/ship/library/spool:"
    );
    project.config("");
    project.up().says("end the backup by the clock");
    assert_eq!(second.exec("systemctl list-timers --all | grep -c library- || true").trim(), "0");
    project.up().says("Nothing to change");
}

fn talking(project: &Project) {
    let said = project.ship(&["db", "psql", "-c", "select current_user, 6 * 7 as answer"]).exits(0);
    said.says("library").says("42");
    project.ship(&["db", "psql", "-c", "select nothing"]).exits(3).says("column \"nothing\" does not exist");
    psql(project, "create table mine (n int); drop table mine;");
}

fn dumping(project: &Project, server: &TestBox) {
    use std::os::unix::fs::PermissionsExt as _;
    let dump = project.dir.join("before.dump");
    project.ship(&["db", "dump", "before.dump"]).exits(0).says("its checksum compared");
    assert_eq!(std::fs::metadata(&dump).unwrap().permissions().mode() & 0o777, 0o600);
    project.ship(&["db", "dump", "before.dump"]).exits(3).says("is there already");
    assert!(text_of(server, &std::fs::read(&dump).unwrap()).contains("reader7@example.org"));

    // The line is cut while whoever reads the dump takes his time: every byte arrives once.
    server.write("/root/noise", noise(7));
    server.exec("cd / && chmod 644 /root/noise && install -m 644 /root/noise /tmp/noise && runuser -u postgres -- psql -q library -c \"create table noise as select pg_read_binary_file('/tmp/noise') as bytes\"");
    let mut ship = project.command(&["db", "dump", "-"]);
    let mut child: Child = ship.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run ship");
    let mut out = child.stdout.take().unwrap();
    let mut bytes = vec![0; 1 << 20];
    out.read_exact(&mut bytes).unwrap();
    // Those that run a script of ship's, and no others.
    server.exec("pkill -KILL -f '^sshd: root@notty'");
    out.read_to_end(&mut bytes).unwrap();
    let ran = Ran::finished(child).exits(0);
    assert!(ran.stderr.contains("the line was cut after"), "{}", ran.stderr);
    server.write("/root/cut.dump", &bytes);
    server.exec("pg_restore --list /root/cut.dump | grep -q 'TABLE DATA public noise'");

    // Where it can't be written on, it is broken off; the same command once more goes on from there.
    std::fs::create_dir(project.dir.join("small")).unwrap();
    let small = project.dir.join("small");
    let mount = |size: &str, how: &str| {
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("{how}size={size}"), "none"])
            .arg(&small)
            .status()
            .unwrap();
        assert!(status.success());
    };
    mount("2m", "");
    project.ship(&["db", "dump", "small/a.dump"]).exits(1).says("can't write what has been fetched");
    mount("64m", "remount,");
    let again = project.ship(&["db", "dump", "small/a.dump"]).exits(0).says("going on after");
    drop(again);
    let parts = std::fs::read_dir(&small).unwrap().count();
    let read = std::fs::read(small.join("a.dump")).unwrap();
    std::process::Command::new("umount").arg(&small).status().unwrap();
    assert_eq!(parts, 1, "nothing but the dump");
    server.write("/root/a.dump", read);
    server.exec("pg_restore -f /dev/null /root/a.dump && rm /root/*.dump /root/noise && cd / && runuser -u postgres -- psql -q library -c 'drop table noise'");
}

/// Readers of the list of books, each answer counted.
fn readers(server: &TestBox) -> (Stop, Arc<AtomicUsize>, std::thread::JoinHandle<()>) {
    let (stop, answers) = (Stop::default(), Arc::new(AtomicUsize::new(0)));
    let (host, ends, counts) = (server.host.clone(), stop.told(), Arc::clone(&answers));
    let thread = std::thread::spawn(move || {
        while !ends.load(Ordering::Relaxed) {
            let page =
                Browser::open(&host).and_then(|mut browser| browser.request("GET", "/books/", "", b""));
            assert_eq!(page.expect("an answer").status, 200);
            counts.fetch_add(1, Ordering::Relaxed);
        }
    });
    (stop, answers, thread)
}

fn restoring(project: &Project, server: &TestBox) {
    let rows = psql(project, ROWS);
    psql(project, "delete from auth_user where id % 2 = 0; update catalog_book set title = 'changed';");
    let changed = psql(project, ROWS);
    assert_ne!(changed, rows);

    // What is no dump, or half of one, costs nothing.
    project.write("bad.dump", "nothing of the kind");
    let refused = project.ship(&["db", "restore", "bad.dump", "--yes"]).exits(1);
    refused.says("no archive of pg_dump's").says("the site and its database are as they were");
    let whole = std::fs::read(project.dir.join("before.dump")).unwrap();
    std::fs::write(project.dir.join("half.dump"), &whole[..whole.len() / 2]).unwrap();
    project.ship(&["db", "restore", "half.dump", "--yes"]).exits(1).says("are as they were");
    assert_eq!(psql(project, ROWS), changed);

    // Nobody is refused while another database takes the place of this one.
    let (stop, answers, thread) = readers(server);
    project
        .ship(&["db", "restore", "before.dump", "--yes"])
        .exits(0)
        .says("16 tables")
        .says("before-restore-");
    let enough = answers.load(Ordering::Relaxed) + 5;
    wait_for("readers after the restore", 30, || {
        answers.load(Ordering::Relaxed) >= enough || thread.is_finished()
    });
    stop.tell();
    thread.join().expect("every request is answered with the list of books");
    assert_eq!(psql(project, ROWS), rows);
    let databases = "select datname from pg_database where datname like 'library%';";
    assert_eq!(psql(project, databases), "library");

    // What was there before is a name away.
    let listed = project.ship(&["db", "backups"]).exits(0).stdout;
    let before =
        listed.split_whitespace().find(|word| word.starts_with("before-restore-")).unwrap().to_owned();
    project.ship(&["db", "restore", &before, "--yes"]).exits(0);
    assert_eq!(psql(project, ROWS), changed);
    project.ship(&["db", "restore", "before.dump", "--yes"]).exits(0);
    assert_eq!(psql(project, ROWS), rows);

    // A dump from before a migration gets it before it is put in place.
    psql(project, "delete from django_migrations where app = 'sessions'; drop table django_session;");
    project.ship(&["db", "dump", "older.dump"]).exits(0);
    project
        .ship(&["db", "restore", "older.dump", "--yes"])
        .exits(0)
        .says("it lacked the migration sessions.0001_initial");
    assert_eq!(psql(project, "select count(*) from django_session;"), "0");
}

fn a_copy_without_names(project: &Project, server: &TestBox) {
    let rows = psql(project, ROWS);
    project.write(
        "scrub.sql",
        "update auth_user set email = 'user' || id || '@example.com', username = 'user' || id;\n",
    );
    project.write(
        "scrub.py",
        "from django.contrib.auth import get_user_model\nfor user in get_user_model().objects.all():\n    \
         user.email = f'person{user.pk}@example.com'\n    user.username = f'person{user.pk}'\n    user.save()\n",
    );
    for (script, file, name) in [("scrub.sql", "sql.dump", "user"), ("scrub.py", "py.dump", "person")] {
        project.ship(&["db", "pull", file, "--anonymise", script]).exits(0);
        let text = text_of(server, &std::fs::read(project.dir.join(file)).unwrap());
        assert!(!text.contains("example.org") && !text.contains("reader"), "{script}: an address is left");
        assert!(text.contains(&format!("{name}7@example.com")), "{script}");
    }
    project.write(
        "broken.py",
        "from django.contrib.auth import get_user_model\nget_user_model().objects.get(pk=0)\n",
    );
    let failed = project.ship(&["db", "pull", "none.dump", "--anonymise", "broken.py"]).exits(1);
    failed.says("the script failed at line 2: DoesNotExist");
    assert!(!project.dir.join("none.dump").exists());
    project.ship(&["db", "pull", "none.dump", "--anonymise", "scrub.txt"]).exits(3);
    assert_eq!(psql(project, ROWS), rows, "the site's own rows are what they were");
    assert_eq!(psql(project, "select datname from pg_database where datname like 'library%';"), "library");
}

fn backing_up(project: &Project, server: &TestBox) {
    project.ship(&["status"]).exits(0).says("none yet in s3://backups/library");
    project
        .ship(&["db", "backups", "now"])
        .exits(1)
        .says("nobody has set the keys")
        .says("ship db backups set");
    project.ship(&["db", "backups", "set", "SECRET_KEY=x"]).exits(3).says("nothing that backups know");
    project.write("secret.txt", "secret\n");
    let set = ["db", "backups", "set", "AWS_ACCESS_KEY_ID=ship", "AWS_SECRET_ACCESS_KEY=@secret.txt"];
    project.ship(&set).exits(0).says("out of the site's reach");
    let kept = server.exec(
        "stat -c '%a %U' /etc/ship/library/backup /etc/ship/library/backup/*; cat /etc/ship/library/v1.env",
    );
    assert!(!kept.contains("AWS_") && kept.starts_with("700 root\n600 root\n"), "{kept}");
    project.ship(&["db", "backups", "drill"]).exits(1);
    project.ship(&["db", "backups", "now"]).exits(0).says("is kept in s3://backups/library");
    project.ship(&["db", "backups", "drill"]).exits(0).says("16 tables").says("2 files");
    let status = project.ship(&["status"]).exits(0);
    status.says("was restored for trial at").says("only the server has the key");
    project.ship(&["db", "backups", "key"]).exits(0);
    project.ship(&["doctor"]).exits(0);
    // What is the same is kept once, and no more stay than was asked for.
    server.exec(
        "echo three >/srv/library/shared/media/covers/c.jpg && rm /srv/library/shared/media/covers/c.jpg",
    );
    project.ship(&["db", "backups", "now"]).exits(0);
    let listed = project.ship(&["db", "backups", "list", "--json"]).exits(0).json();
    let backups = listed.iter().find(|event| event["event"] == "result").unwrap()["result"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["what"] == "backup")
        .count();
    assert_eq!(backups, 2, "{listed:?}");
    let timers = server
        .exec("systemctl show -p NextElapseUSecRealtime --value library-backup.timer library-drill.timer");
    assert!(timers.contains("03:30:00"), "{timers}");
}

/// A backup as a folder here, and back from it.
fn a_copy_here(project: &Project, server: &TestBox, rows: &str, files: &str) {
    project.ship(&["db", "backups", "fetch", "latest", "copy"]).exits(0);
    psql(project, "delete from auth_user;");
    server.exec("rm -r /srv/library/shared/media/covers");
    project.ship(&["db", "restore", "copy", "--yes"]).exits(0);
    assert_eq!((psql(project, ROWS).as_str(), media(server).as_str()), (rows, files));
}

/// A backup that has rotted is found by the drill.
fn damage(project: &Project, server: &TestBox, store: &Store) {
    project.ship(&["db", "backups", "drill"]).exits(0);
    // The largest holds the data; others hold lists.
    let largest =
        store.keys("library/data/").into_iter().max_by_key(|key| store.get(key).len()).expect("some data");
    let mut bytes = store.get(&largest);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.put(&largest, bytes);
    project.ship(&["db", "backups", "drill"]).exits(1).says("damaged");
    project.ship(&["status"]).exits(0).says("found: ").says("damaged");
    project.ship(&["doctor"]).exits(1).says("damaged").says("`backups.to`");
    assert_eq!(server.exec("cd / && runuser -u postgres -- psql -Atc \"select count(*) from pg_database where datname like 'library%'\"").trim(), "1");
}

/// What `heroku config -s` prints for a project like the example.
const HEROKU: &str = "ALLOWED_HOSTS=library.herokuapp.com\nDATABASE_URL='postgres://u:p4ss@ec2.example.com:5432/d'\n\
                      GREETING='good \"day\" & $more'\nLINES=\"one\\ntwo's\"\nREDIS_URL='redis://h:p4ss@ec2.example.com:6379'\n\
                      SECRET_KEY='kept-from-heroku-0123456789-0123456789-0123456789'\nTIME_ZONE=Europe/Berlin\n";

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_project_moves_from_heroku() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    std::fs::remove_file(project.dir.join("ship.yml")).unwrap();
    project.write("heroku.env", HEROKU);
    project.write("app.json", "{\"addons\": [\"heroku-postgresql:mini\", \"scheduler\"]}");
    let first = project.ship(&["import", "heroku", "--config", "heroku.env"]).exits(0);
    let first = first
        .says("say in ship.yml where the site runs")
        .says("left behind: DATABASE_URL")
        .says("add-on scheduler");
    assert!(!first.stderr.contains("p4ss") && !first.stderr.contains("good"), "{}", first.stderr);
    let text = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    assert!(text.contains("secrets: [GREETING, LINES, SECRET_KEY]") && !text.contains("good"), "{text}");
    assert!(text.contains("env: {TIME_ZONE: \"Europe/Berlin\"}"), "{text}");
    project.write("broken.env", "A=1\nB='x\n");
    project
        .ship(&["import", "heroku", "--config", "broken.env"])
        .exits(3)
        .says("broken.env:2: its quotes don't match");

    // Once it says where, the same command sets the secrets.
    project.write("ship.yml", &project.with_server(&text));
    project
        .ship(&["import", "heroku", "--config", "heroku.env", "--yes"])
        .exits(0)
        .says("kept on the server for the first `ship up`");
    project.up();
    let said = project
        .ship(&["run", "sh", "-c", "printf '%s|' \"$GREETING\" \"$LINES\" \"$SECRET_KEY\""])
        .exits(0)
        .stdout;
    assert_eq!(said, "good \"day\" & $more|one\ntwo's|kept-from-heroku-0123456789-0123456789-0123456789|");

    // A dump as Heroku makes them: extensions in a schema of their own, somebody else's objects and grants.
    server.exec(
        "cd / && runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 library <<'SQL'\n\
         create role u4s nologin; create role reporting nologin;\n\
         create schema heroku_ext; create extension citext schema heroku_ext; create extension pg_stat_statements schema heroku_ext;\n\
         create table legacy (name heroku_ext.citext); insert into legacy values ('Emma'), ('Persuasion');\n\
         alter table legacy owner to u4s; grant select on legacy to reporting;\n\
         update catalog_book set title = 'From Heroku' where id = (select min(id) from catalog_book);\nSQL\n\
         runuser -u postgres -- pg_dump -Fc library >/root/latest.dump\n\
         runuser -u postgres -- psql -q library -c \"drop table legacy; drop schema heroku_ext cascade; drop role u4s; drop role reporting; \
         update catalog_book set title = 'Before'\"",
    );
    std::fs::write(project.dir.join("latest.dump"), server.read("/root/latest.dump").unwrap()).unwrap();
    project
        .ship(&["import", "heroku", "--data", "latest.dump", "--yes"])
        .exits(0)
        .says("library has the data of latest.dump");
    assert_eq!(psql(&project, "select count(*) from legacy where name = 'eMMa';"), "1");
    assert_eq!(psql(&project, "select count(*) from catalog_book where title = 'From Heroku';"), "1");
    assert_eq!(psql(&project, "select tableowner from pg_tables where tablename = 'legacy';"), "library");
    assert!(get(&server, "/books/").text().contains("From Heroku"));
    project.up().says("Nothing to change");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_damaged_backup_on_the_server_is_found() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.config("backups: {at: \"*-*-* 04:15\", drill: off}");
    project.up();
    project.ship(&["db", "backups", "drill"]).exits(1).says("the server takes no backups yet");
    project.config("backups: 04:15");
    project.up();
    server.exec("cd /srv/library/shared/media && head -c 300000 /dev/urandom >a.jpg && chown library: a.jpg");
    project.ship(&["db", "backups", "now"]).exits(0).says("is kept on the server itself");
    project.ship(&["db", "backups", "drill"]).exits(0).says("16 tables").says("1 files");
    server.exec(
        "cd /var/backups/ship/library/store/data && file=$(find . -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2) \
         && chmod u+w $file && printf x | dd of=$file bs=1 seek=$(($(stat -c %s $file) / 2)) conv=notrunc 2>/dev/null",
    );
    project.ship(&["db", "backups", "drill"]).exits(1).says("damaged");
    project.ship(&["status"]).exits(0).says("found: ").says("damaged");
    project.ship(&["doctor"]).exits(1).says("damaged").says("store.damaged");
    server.exec("mv /var/backups/ship/library/store /var/backups/ship/library/store.damaged");
    project.ship(&["db", "backups", "now"]).exits(0);
    project.ship(&["db", "backups", "drill"]).exits(0);
    project.ship(&["doctor"]).exits(0);
    project.config("");
    project.up().says("end the backup by the clock").says("end the drill by the clock");
    assert_eq!(
        server.exec("ls /etc/systemd/system | grep -c -e library-backup -e library-drill || true").trim(),
        "0"
    );
    project.up().says("Nothing to change");
}
