//! Databases other than PostgreSQL: a project that is written for MySQL, on a MariaDB of its own.

use ship::config::Database;

use crate::boxes::{Suite, TestBox};
use crate::support::{Project, get};

/// What `startproject` writes, with an application that has words, written for a MySQL elsewhere.
fn words(server: &TestBox) -> Project {
    let project = Project::startproject(server);
    let settings = std::fs::read_to_string(project.dir.join("mysite/settings.py")).unwrap();
    let settings = settings.replace("'ENGINE': 'django.db.backends.sqlite3',", ELSEWHERE);
    let settings = settings.replace("'NAME': BASE_DIR / 'db.sqlite3',", "'NAME': 'words',");
    assert!(settings.contains("db.internal") && !settings.contains("sqlite"), "{settings}");
    project.write("mysite/settings.py", &(settings + "\nINSTALLED_APPS += ['words']\n"));
    project.write("requirements.txt", "Django>=5.2,<5.3\nmysqlclient\n");
    project.write("words/__init__.py", "");
    project.write(
        "words/models.py",
        "from django.db import models\n\nclass Word(models.Model):\n    text = models.TextField()\n",
    );
    project.write("words/migrations/__init__.py", "");
    project.config("app: mysite");
    project.commit("words");
    project
}

const ELSEWHERE: &str =
    "'ENGINE': 'django.db.backends.mysql', 'HOST': 'db.internal', 'USER': 'words', 'PASSWORD': 'x',
        'OPTIONS': {'ssl': {'ca': '/etc/ssl/certs/nothing.pem'}},";

const CREATE: &str = "migrations.CreateModel('Word', [('id', models.BigAutoField(primary_key=True)), ('text', models.TextField())])";
const STUMBLE: &str = "migrations.RunPython(stumble)";

fn migration(project: &Project, name: &str, after: Option<&str>, operations: &[&str]) {
    let after = after.map_or(String::new(), |after| format!("('words', '{after}')"));
    let text = format!(
        "from django.db import migrations, models\n\n\
         def forget(apps, schema_editor):\n    apps.get_model('words', 'Word').objects.all().delete()\n\n\
         def stumble(apps, schema_editor):\n    raise ValueError('no such word')\n\n\
         class Migration(migrations.Migration):\n    dependencies = [{after}]\n    operations = [{}]\n",
        operations.join(", ")
    );
    project.write(&format!("words/migrations/{name}.py"), &text);
}

fn shell(project: &Project, code: &str) -> String {
    project.ship(&["manage", "shell", "-c", code]).exits(0).stdout
}

fn rows(project: &Project) -> String {
    let said = shell(
        project,
        "from words.models import Word as w; print('rows', sorted(w.objects.values_list('text', flat=True)))",
    );
    said.lines().find(|line| line.starts_with("rows ")).unwrap().to_owned()
}

fn sql(server: &TestBox, statements: &str) -> String {
    server.exec(&format!("mariadb -NB mysite <<'SQL'\n{statements}\nSQL")).trim().to_owned()
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_project_written_for_mysql() {
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).disk_mb(3000).boot();
    let project = words(&server);

    // A project that is written for it keeps it, and the plan says why.
    let plan = project.ship(&["plan", "--yes"]).exits(2);
    for text in [
        "mysite/settings.py names backends.mysql, and mysqlclient is among the packages",
        "default-libmysqlclient-dev",
        "mysql database mysite",
        "mysql words at db.internal → mysql mysite at 127.0.0.1",
    ] {
        assert!(plan.stdout.contains(text), "{text} is not in\n{}", plan.stdout);
    }
    assert!(!plan.stdout.contains("postgresql"), "{}", plan.stdout);

    // The first migration stops half-way: nothing of it stays to be in the way of the next attempt.
    migration(&project, "0001_initial", None, &[CREATE, STUMBLE]);
    let failed = project.ship(&["up", "--yes"]).exits(1);
    failed
        .says("words.0001_initial: ValueError: no such word")
        .says("the database was empty before, and is again");
    assert_eq!(sql(&server, "show tables"), "");
    migration(&project, "0001_initial", None, &[CREATE]);
    project.up();
    assert_eq!(get(&server, "/admin/login/").status, 200);
    let place = "from django.db import connection as c; print('is', c.vendor, c.display_name, c.settings_dict['NAME'], c.settings_dict['OPTIONS'])";
    assert!(
        shell(&project, place).contains("is mysql MariaDB mysite {'charset': 'utf8mb4'}"),
        "{}",
        shell(&project, place)
    );
    project.up().says("Nothing to change");

    // Local only, its password nowhere but where it belongs.
    let listening = server.exec("ss -Hltn 'sport = :3306' | awk '{print $4}'");
    assert_eq!(listening.trim(), "127.0.0.1:3306");
    let password = server.exec("cat /etc/ship/mysite/database.password").trim().to_owned();
    assert!(password.len() >= 32);
    assert_eq!(server.exec(&format!("journalctl -o cat | grep -cF {password} || true")).trim(), "0");
    assert_eq!(server.exec("stat -c %a /etc/ship/mysite/config/05-database.env").trim(), "600");

    // A fixture that does not fit leaves every row, although MySQL can't take back what empties a table at once.
    project.write("words.json", r#"[{"model": "words.word", "pk": 1, "fields": {"text": "kept 🦆"}}]"#);
    project.ship(&["db", "import", "words.json"]).exits(0).says("1 row now");
    project.write("bad.json", r#"[{"model": "words.nothing", "pk": 1, "fields": {}}]"#);
    project
        .ship(&["db", "import", "bad.json", "--replace", "--yes"])
        .exits(1)
        .says("the database is as it was");
    assert_eq!(rows(&project), "rows ['kept 🦆']");
    project.ship(&["db", "import", "words.json", "--replace", "--yes"]).exits(0).says("1 row now");
    assert_eq!(rows(&project), "rows ['kept 🦆']");

    // A migration that fails half-way: told as what it is, with the dump of before; and back.
    let add = "migrations.AddField('word', 'note', models.TextField(null=True))";
    let forget = "migrations.RunPython(forget)";
    migration(&project, "0002_note", Some("0001_initial"), &[add, forget, STUMBLE]);
    project
        .ship(&["up", "--yes"])
        .exits(1)
        .says("words.0002_note: ValueError: no such word")
        .says("MariaDB can't take it back")
        .says("`ship rollback --restore-dump` puts that one back");
    assert_eq!(sql(&server, "select count(*) from words_word"), "0");
    project.ship(&["rollback", "--yes"]).exits(1).says("applied half-way").says("--restore-dump");
    project.ship(&["rollback", "--yes", "--restore-dump", "--confirm", "mysite"]).exits(0);
    assert_eq!(rows(&project), "rows ['kept 🦆']");
    assert_eq!(sql(&server, "show columns from words_word like 'note'"), "");
    assert_eq!(sql(&server, "show databases like 'mysite%'"), "mysite");
    assert_eq!(get(&server, "/admin/login/").status, 200);

    // Triggers can't move from one database to another, so the dump is read in again.
    sql(
        &server,
        "create trigger shout before insert on words_word for each row set new.text = concat(new.text, '!');",
    );
    migration(&project, "0002_note", Some("0001_initial"), &[add, forget]);
    project.up();
    assert_eq!(rows(&project), "rows []");
    project.ship(&["rollback", "--yes", "--restore-dump", "--confirm", "mysite"]).exits(0);
    assert_eq!(rows(&project), "rows ['kept 🦆']");
    shell(&project, "from words.models import Word as w; w.objects.create(text='next')");
    assert_eq!(rows(&project), "rows ['kept 🦆', 'next!']");
    assert_eq!(sql(&server, "show databases like 'mysite%'"), "mysite");
    assert_eq!(server.exec("ls -d /var/lib/ship/tmp.* 2>/dev/null | wc -l").trim(), "0");

    // The copy that is taken before a server goes, and put back on another.
    let (dump, name) = ship::backup::dump_script(Database::Mysql, "mysite").unwrap();
    assert_eq!(name, "database.sql.gz");
    server.write("/root/dump.sh", dump.text());
    server.write("/root/restore.sh", ship::backup::restore_script(Database::Mysql, "mysite").unwrap().text());
    server.exec(
        "sh /root/dump.sh >/root/copy && mariadb mysite -e 'delete from words_word; drop trigger shout'",
    );
    let cut = server.exec_status("head -c 2000 /root/copy | sh /root/restore.sh");
    assert!(!cut.status.success() && rows(&project) == "rows []", "half a copy takes no database's place");
    server.exec("sh /root/restore.sh </root/copy");
    assert_eq!(rows(&project), "rows ['kept 🦆', 'next!']");

    // A migration that would fill the disk is stopped while the database can still write.
    server.exec("fallocate -l \"$(df -PB1 /var | awk 'NR == 2 { print $4 - 400000000 }')\" /var/filler");
    let large = "migrations.RunSQL('create table large engine=innodb as select seq, repeat(md5(seq), 60) as text from seq_1_to_3000000')";
    migration(&project, "0002_note", Some("0001_initial"), &[large]);
    let running = || server.exec("systemctl show -p ActiveEnterTimestamp -p NRestarts mariadb.service");
    let before = running();
    project.ship(&["up", "--yes"]).exits(1).says("words.0002_note: the disk is full: of 64 MiB");
    assert_eq!(running(), before, "the database ran on");
    server.exec("rm /var/filler");
    assert_eq!(rows(&project), "rows ['kept 🦆', 'next!']");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_mysql_elsewhere_by_pymysql() {
    let server = TestBox::builder().packages(true).boot();
    let project = words(&server);
    migration(&project, "0001_initial", None, &[CREATE]);
    // Nothing of the project puts PyMySQL into the place of the driver that Django looks for.
    project.write("requirements.txt", "Django>=5.2,<5.3\nPyMySQL\n");
    project.config("app: mysite\ndatabase: {engine: mariadb}");
    project.up();
    let place = "import MySQLdb; from django.db import connection as c; print('is', c.vendor, c.settings_dict['NAME'], MySQLdb.__name__)";
    let said = shell(&project, place);
    assert!(said.contains("is mysql mysite pymysql"), "{said}");
    shell(&project, "from words.models import Word as w; w.objects.create(text='here 🦆')");
    project.up().says("Nothing to change");

    // The same data elsewhere, by a URL with an odd password and an option of TLS.
    server.exec(
        "mariadb -e \"create database far character set utf8mb4; create user far@localhost identified by 'p@ss'; \
         grant all on far.* to far@localhost\" && mariadb-dump mysite | mariadb far && mariadb mysite -e 'delete from words_word'",
    );
    project.config("app: mysite\ndatabase: external");
    project.ship(&["up", "--yes"]).exits(3).says("DATABASE_URL");
    let url = "DATABASE_URL=mysql://far:p%40ss@127.0.0.1/far?ssl-mode=DISABLED";
    project.ship(&["config", "set", url]).exits(0);
    project.up();
    let said = shell(&project, place);
    assert!(said.contains("is mysql far pymysql"), "{said}");
    assert_eq!(rows(&project), "rows ['here 🦆']");
    project.up().says("Nothing to change");
    assert_eq!(get(&server, "/admin/login/").status, 200);
    // What is not on the server as ship made it is not dumped, and that is said.
    let add = "migrations.AddField('word', 'note', models.TextField(null=True))";
    migration(&project, "0002_note", Some("0001_initial"), &[add]);
    project.up().says("the database is not on this server, so ship takes no dump of it");
}
