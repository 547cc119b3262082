//! The command lines of README.md and docs/*.md, run as they are written, on a terminal, against a server.
//!
//! Invariant: each line is in one of three lists: run here, run by another test that is named, or another program's own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::boxes::TestBox;
use crate::fakes::names::NameServer;
use crate::support::Project;
use crate::support::terminal::Terminal;

use super::blocks::blocks;

/// A line and how it goes.
struct Line {
    line: &'static str,
    /// What the terminal shows, and what is typed then.
    keys: &'static [(&'static str, &'static str)],
    /// The exit code.
    code: i32,
}

/// A line that ends by itself, well; questions are answered with yes, or by the name that is asked for.
const fn fine(line: &'static str) -> Line {
    Line { line, keys: &[], code: 0 }
}

const fn ends(line: &'static str, code: i32) -> Line {
    Line { line, keys: &[], code }
}

const fn keys(line: &'static str, keys: &'static [(&'static str, &'static str)], code: i32) -> Line {
    Line { line, keys, code }
}

/// Before there is a ship.yml.
const FIRST: [Line; 2] = [fine("ship init"), fine("ship init --force")];

/// The site comes, is looked at, and gets its config.
const SITE: [Line; 60] = [
    ends("ship plan", 2),
    fine("ship up"),
    fine("ship up -y --json"),
    fine("ship plan --json"),
    fine("ship plan --format markdown >plan.md"),
    fine("ship status"),
    fine("ship status --json"),
    fine("ship apps"),
    fine("ship doctor"),
    fine("ship doctor --json"),
    fine("ship open"),
    fine("ship open /admin/"),
    fine("ship -e staging open"),
    fine("ship domains"),
    keys("ship manage createsuperuser", &[("Username", "\u{3}")], 1),
    fine("ship manage showmigrations"),
    fine("ship manage dumpdata catalog >catalog.json"),
    fine("ship run python -c 'import django; print(django.__version__)'"),
    fine("ship run 'ls -l | wc -l'"),
    fine("ship run -- ls -l"),
    fine("ship run cat media/book.pdf >book.pdf"),
    fine("ship run --detach python manage.py check"),
    fine("ship run --detach python manage.py rebuild_index"),
    fine("ship logs --process run"),
    keys("ship shell", &[(">>> ", "exit()\r")], 0),
    fine("echo 'print(1 + 1)' | ship shell"),
    keys("ship ssh", &[("# ", "exit\r")], 0),
    fine("ship ssh -- df -h"),
    fine("ship ssh -- systemctl list-timers"),
    fine("ship maintenance on"),
    fine("ship maintenance off"),
    fine("ship ps"),
    fine("ship ps --json"),
    fine("ship scale"),
    fine("ship scale web=2"),
    fine("ship restart"),
    fine("ship restart worker"),
    fine("ship config"),
    fine("ship config get SECRET_KEY"),
    fine("ship config set SENTRY_DSN=@dsn.txt"),
    fine("ship config set SENTRY_DSN=https://… MAIL_PASSWORD=@password.txt"),
    fine("pass show token | ship config set TOKEN=-"),
    fine("ship config set TOKEN=- <token.txt"),
    fine("ship config set --env-file .env"),
    fine("ship config set PACKAGES_TOKEN=@token.txt"),
    fine("ship config set --no-restart KEY=…"),
    fine("ship config unset SENTRY_DSN"),
    fine("ship config edit"),
    fine("EDITOR='code --wait' ship config edit"),
    fine("heroku config -s >config.env"),
    fine("heroku config -s | ship import heroku --config -"),
    fine("ship releases"),
    fine("ship releases --json"),
    fine("ship rollback"),
    fine("ssh-keygen -t ed25519 -N '' -C ci -f ci-key"),
    fine("ship ssh -- 'cat >>~/.ssh/authorized_keys' <ci-key.pub"),
    fine("ssh-keyscan -t ed25519 203.0.113.7"),
    fine("ship schema >ship.schema.json"),
    fine("ship scale web=4 worker=2"),
    fine("ship scale web=auto"),
];

/// What is said, and manuals.
const WORDS: [Line; 10] = [
    keys("ship logs -f", &[("v", "\u{3}")], 130),
    fine("ship logs -n 200 --process web,worker"),
    fine("ship logs --since 10m --grep 'error|timeout'"),
    fine("ship logs --release v7"),
    fine("ship logs --release v7 --process web"),
    fine("ship logs --json --since yesterday | jq -r .message"),
    fine("ship logs --process worker"),
    fine("ship man | man -l -"),
    fine("ship man config set | man -l -"),
    fine("ship man --into ~/.local/share/man/man1"),
];

/// Data, out and in. The site from another server is at `/home/sammy`.
const DATA: [Line; 44] = [
    fine("ship completions zsh >~/.zfunc/_ship"),
    fine("ship completions fish >~/.config/fish/completions/ship.fish"),
    keys("ship db psql", &[("library=> ", "\\q\r")], 0),
    fine("ship db psql -c 'select count(*) from auth_user'"),
    fine("ship db psql <report.sql"),
    fine("ship db dump"),
    fine("ship db dump before.dump"),
    fine("ship db dump - | pg_restore --list"),
    fine("ship db dump --anonymise scrub.sql small.dump"),
    fine("ship db restore before.dump"),
    fine("ship db pull library.dump"),
    fine("ship db pull --anonymise scrub.sql dev.dump"),
    fine("ship db pull --anonymise scrub.sql"),
    fine("ship db pull --anonymise scrub.sql postgres://localhost/library_dev"),
    fine("ship db pull --anonymise scrub.py postgres://localhost/library_dev"),
    fine("ship db backups now"),
    fine("ship db backups"),
    fine("ship db backups list"),
    fine("ship db backups list --json"),
    fine("ship db backups fetch latest"),
    fine("ship db backups fetch 1a2b3c4d before-the-move"),
    fine("ship db backups drill"),
    fine("ship db backups key >library.key"),
    fine("ship db restore latest"),
    fine("ship db restore 1a2b3c4d"),
    fine("ship db restore .ship/backups/library-20260131T…"),
    fine("heroku pg:backups:capture && heroku pg:backups:download"),
    fine("ship import heroku --data latest.dump"),
    fine("ssh root@203.0.113.7 'cd / && sudo -u postgres pg_dump -Fc library' >old.dump"),
    fine("scp -r root@203.0.113.7:/home/sammy/library/media old-media"),
    fine("scp root@203.0.113.7:/home/sammy/library/.env old.env"),
    fine("ship config set --env-file old.env"),
    fine("ship db restore old.dump"),
    fine("tar -C old-media -cf - . | ship run 'tar -C /srv/library/shared/media -xf -'"),
    fine("ship ssh -- 'cd / && sudo -u postgres pg_dump -Fc library' >old.dump"),
    fine(
        "ship ssh -- 'cp -r /home/sammy/library/media/. /srv/books/shared/media/ && chown -R books:www-data /srv/books/shared/media'",
    ),
    fine("ship ssh -- systemctl disable --now gunicorn"),
    fine("ship ssh -- 'cd / && sudo -u postgres pg_dump -Fc library' >last.dump"),
    fine("ship db restore last.dump"),
    fine("ship ssh -- rm /etc/nginx/sites-enabled/library"),
    fine("ship -e staging up"),
    fine("ship up -e staging"),
    fine("ship db push staging --anonymise scrub.sql"),
    fine("ship db restore v7"),
];

/// Names, each line with the list of domains that it finds.
const NAMES: [(&str, &str); 6] = [
    ("[]", "ship domains add www.example.com && ship up"),
    ("[example.com, www.example.com]", "ship domains remove www.example.com && ship up"),
    ("[]", "ship domains add example.com www.example.com"),
    ("[]", "ship domains add example.com www.example.com && ship up"),
    ("[new.example.com]", "ship domains add library.example.com"),
    ("[library.example.com, new.example.com]", "ship domains remove new.example.com"),
];

/// Lines that another test runs, by its name, and why not here.
const ELSEWHERE: [(&str, &str, &str); 16] = [
    (
        "ship rollback --reverse",
        "a_site_goes_back_to_what_it_was_and_so_does_its_database",
        "wants a migration to reverse",
    ),
    ("ship rollback v7 --reverse", "a_site_goes_back_to_what_it_was_and_so_does_its_database", "the same"),
    (
        "ship rollback v7 --restore-dump",
        "a_site_goes_back_to_what_it_was_and_so_does_its_database",
        "the same",
    ),
    (
        "ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@secret.txt",
        "the_data_outlives_the_server",
        "wants a bucket",
    ),
    (
        "ship db backups set AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=@secret.txt BACKUP_KEY=@library.key",
        "the_data_outlives_the_server",
        "the same",
    ),
    (
        "ship db backups set BACKUP_KEY=@library.key",
        "the_data_outlives_the_server",
        "wants a server that takes another one's place",
    ),
    (
        "ship db import db.sqlite3",
        "a_database_of_before_is_carried_over",
        "wants a database of the project's own computer",
    ),
    ("ship db import db.sqlite3 --replace", "a_database_of_before_is_carried_over", "the same"),
    ("ship db import books.json", "a_project_written_for_mysql", "wants an empty database"),
    ("ship -e staging db push preview", "every_day", "a third site; the push itself is run here"),
    (
        "ship import heroku --config config.env --server '{provider: digitalocean, region: fra1}'",
        "a_project_moves_from_heroku",
        "wants an account",
    ),
    (
        "ship import heroku --config config.env --server '{provider: ssh, host: 203.0.113.7}'",
        "a_project_moves_from_heroku",
        "its server is an example",
    ),
    (
        "ship completions bash >/etc/bash_completion.d/ship",
        "pages_and_completions_are_printed",
        "writes to this computer's /etc",
    ),
    ("ship destroy", "from_an_empty_account_to_a_page_and_back", "wants a server that ship made"),
    ("ship destroy --confirm library", "from_an_empty_account_to_a_page_and_back", "the same"),
    ("export DIGITALOCEAN_TOKEN=…", "from_an_empty_account_to_a_page_and_back", "wants an account"),
];

/// Lines of other programs, and why they are not run.
const OTHERS: [(&str, &str); 7] = [
    ("scripts/test", "runs all tests, this one too"),
    ("scripts/demo", "scripts/test runs it, twice"),
    ("cargo install --path .", "builds what this test runs"),
    ("cargo install --path . --no-default-features", "the same"),
    ("pip freeze >requirements.txt", "in the user's own virtual environment"),
    (
        "aws iam create-policy --policy-name ship --policy-document file://docs/ec2-policy.json",
        "wants an account; tests/ec2/access.rs has ship work under that policy",
    ),
    ("aws iam attach-user-policy --user-name YOU --policy-arn arn:aws:iam::ACCOUNT:policy/ship", "the same"),
];

fn run_here() -> Vec<&'static Line> {
    FIRST.iter().chain(&SITE).chain(&WORDS).chain(&DATA).collect()
}

#[test]
fn every_line_is_run_by_a_test() {
    let lines: Vec<(String, String)> = blocks()
        .iter()
        .flat_map(|block| {
            block.commands().map(|line| (block.page.clone(), line.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    let mut known: Vec<&str> = run_here().iter().map(|line| line.line).collect();
    known.extend(NAMES.iter().map(|(_, line)| *line));
    known.extend(ELSEWHERE.iter().map(|(line, ..)| *line));
    known.extend(OTHERS.iter().map(|(line, _)| *line));
    let new: Vec<_> = lines.iter().filter(|(_, line)| !known.contains(&line.as_str())).collect();
    assert!(new.is_empty(), "lines that no test runs; tests/pages/run.rs lists them: {new:#?}");
    let gone: Vec<_> = known.iter().filter(|line| !lines.iter().any(|(_, there)| there == *line)).collect();
    assert!(gone.is_empty(), "no page has them any more: {gone:#?}");
    let mut tests = String::new();
    super::texts(&super::root().join("tests"), &mut tests);
    let missing: Vec<_> =
        ELSEWHERE.iter().filter(|(_, test, _)| !tests.contains(&format!("fn {test}("))).collect();
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

/// The shell that reads the lines: where it is, and what takes the place of names that are examples.
struct Shell<'a> {
    project: &'a Project,
    path: String,
    server: &'a TestBox,
}

impl Shell<'_> {
    /// Runs a line to its end, on a terminal.
    fn runs(&self, Line { line, keys, code }: &Line) {
        let filled = self.filled(line);
        let mut command = self.project.command(&[]);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &filled]).current_dir(&self.project.dir).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.env("PATH", &self.path).env("EDITOR", "true").env("BROWSER", "true");
        shell.env("DATABASE_URL", "postgres://localhost/library_dev");
        command = shell;
        let mut terminal = Terminal::start(&command);
        for (shown, typed) in *keys {
            terminal.shows(shown);
            terminal.types(typed);
        }
        let ended = answered(&mut terminal, line);
        assert_eq!(ended, *code, "{line}\n{}", terminal.screen());
    }

    /// The line with what is there in the place of examples.
    fn filled(&self, line: &str) -> String {
        let mut line = line.to_owned();
        if line.starts_with("ssh-keyscan") {
            line = line.replace("203.0.113.7", &self.server.host);
        }
        if line.contains("1a2b3c4d") {
            let listed = self.project.ship(&["db", "backups", "list", "--json"]).exits(0).json();
            let listed = listed.iter().find(|event| event["event"] == "result").unwrap()["result"].clone();
            let backup = listed.as_array().unwrap().iter().find(|one| one["what"] == "backup").unwrap();
            line = line.replace("1a2b3c4d", backup["name"].as_str().unwrap());
        }
        if line.contains(".ship/backups/") {
            let mut folders = std::fs::read_dir(self.project.dir.join(".ship/backups")).unwrap();
            let folder = folders.next().expect("a backup was fetched").unwrap().file_name();
            line = line.replace("library-20260131T…", folder.to_str().unwrap());
        }
        if line == "ship db restore v7" {
            let dump = self.server.exec("cd /var/backups/ship/library && ls v*.dump | tail -1");
            line = line.replace("v7", dump.trim().trim_end_matches(".dump"));
        }
        line
    }
}

/// Waits for the end, and answers what is asked meanwhile: yes, or the name that is to be typed.
fn answered(terminal: &mut Terminal, line: &str) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut read = 0;
    loop {
        let ended = terminal.ended();
        let screen = terminal.screen();
        let new = screen.get(read..).unwrap_or_default();
        if new.ends_with("[Y/n] ") {
            read = screen.len();
            terminal.types("y\r");
        } else if let Some(before) = new.strip_suffix(" to go on: ") {
            let name: String = before
                .rsplit("Type ")
                .next()
                .unwrap_or_default()
                .replace("\u{1b}[1m", "")
                .replace("\u{1b}[0m", "");
            read = screen.len();
            terminal.types(&format!("{name}\r"));
        }
        if let Some(code) = ended {
            return code;
        }
        assert!(Instant::now() < deadline, "{line} does not end:\n{screen}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder with programs that the lines name and this computer may lack, or that must not do here what they do.
fn programs(project: &Project, server: &TestBox) -> PathBuf {
    let folder = project.home.join("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let name = &server.name;
    let testbed = super::root().join("tests/boxes/box");
    let inside = format!("exec {} exec {name}", testbed.display());
    let login = format!(
        "-i {} -o UserKnownHostsFile={} -o StrictHostKeyChecking=accept-new -o BatchMode=yes",
        server.key.display(),
        project.home.join("known").display(),
    );
    let other = |program: &str| {
        format!(
            "for word; do shift; set -- \"$@\" \"$(printf '%s' \"$word\" | sed 's/203\\.0\\.113\\.7/{}/')\"; done\nexec /usr/bin/{program} {login} \"$@\"",
            server.host
        )
    };
    let heroku = "case \"$*\" in 'config -s') echo \"GREETING='from Heroku'\" ;; *download) cp before.dump latest.dump ;; esac";
    let scripts = [
        ("pass", "echo from-the-password-manager".to_owned()),
        ("code", "test -f \"$2\"".to_owned()),
        ("man", "grep -q '^\\.TH'".to_owned()),
        ("heroku", heroku.to_owned()),
        ("ssh", other("ssh")),
        ("scp", other("scp")),
        // The client and the database of this computer are those of the box.
        (
            "psql",
            format!(
                "{inside} env PGHOST=localhost PGUSER=dev PGPASSWORD=dev PGDATABASE=library_dev psql \"$@\""
            ),
        ),
        (
            "pg_restore",
            format!(
                "test \"$1\" = --version && {inside} pg_restore --version\nfor file; do :; done\ntest -f \"$file\" && exec <\"$file\"\n\
                 case \"$1\" in --list) how=--list ;; *) how='--no-owner --no-privileges -f -' ;; esac\n\
                 {inside} sh -c \"cat >/root/pulled && pg_restore $how /root/pulled\""
            ),
        ),
    ];
    for (program, script) in scripts {
        let path = folder.join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// The files that the lines name.
fn prepare(project: &Project) {
    project.write("work.py", "import time\nwhile True:\n    print('tick', flush=True)\n    time.sleep(1)\n");
    project.commit("A worker");
    for (name, text) in [
        ("dsn.txt", "https://key@sentry.example.com/1\n"),
        ("password.txt", "from a file\n"),
        ("token.txt", "t0ken\n"),
        (".env", "FROM_ENV=1\n"),
        ("report.sql", "select count(*) from catalog_book;\n"),
        ("scrub.sql", "update auth_user set email = 'user' || id || '@example.com';\n"),
        (
            "scrub.py",
            "from django.contrib.auth import get_user_model\nget_user_model().objects.update(email='')\n",
        ),
        // Nothing of this is the project's.
        (".git/info/exclude", "*\n"),
    ] {
        project.write(name, text);
    }
    for folder in [".zfunc", ".config/fish/completions"] {
        std::fs::create_dir_all(project.home.join(folder)).unwrap();
    }
}

const CONFIG: &str = "tls: none
domains: []
backups: daily
processes:
  web: {workers: 2}
  worker: {command: python work.py, settle: 0}
environments:
  staging: {app: library-staging, domains: [staging.example.com], backups: off}
";

/// What is there when a site moves from a server, by docs/from-a-server.md, and the developer's own database.
const BEFORE: &str = "mkdir -p /home/sammy/library/media/covers /srv/books/shared/media && useradd --system books
echo picture >/home/sammy/library/media/covers/old.txt && echo OLD=1 >/home/sammy/library/.env
printf '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/gunicorn.service
systemctl enable -q --now gunicorn && echo >/etc/nginx/sites-available/library
ln -s /etc/nginx/sites-available/library /etc/nginx/sites-enabled/library
echo book >/srv/library/shared/media/book.pdf && chown library /srv/library/shared/media/book.pdf
cd / && runuser -u postgres -- psql -q -c \"create role dev superuser login password 'dev'\" -c 'create database library_dev owner dev' -c 'create database other owner dev'";

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn every_line_does_what_it_says() {
    let server = TestBox::builder().packages(true).boot();
    let names = NameServer::start(|_| Vec::new());
    let mut project = Project::new(&server);
    project.set("SHIP_NAMESERVERS", names.address());
    prepare(&project);
    let ship = Path::new(env!("CARGO_BIN_EXE_ship")).parent().unwrap();
    let path = format!(
        "{}:{}:{}",
        programs(&project, &server).display(),
        ship.display(),
        std::env::var("PATH").unwrap()
    );
    let shell = Shell { project: &project, path, server: &server };

    std::fs::remove_file(project.dir.join("ship.yml")).unwrap();
    FIRST.iter().for_each(|line| shell.runs(line));
    project.config(CONFIG);
    let (first, rest) = SITE.split_at(2);
    first.iter().for_each(|line| shell.runs(line));
    server.exec(BEFORE);
    nothing_of_others_is_taken(&project);
    rest.iter().chain(&WORDS).for_each(|line| shell.runs(line));
    let migration = "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
                     dependencies = [('catalog', '0002_first_books')]\n    operations = []\n";
    project.write("catalog/migrations/0003_nothing.py", migration);
    project.git(&["add", "--force", "catalog"]);
    project.config(CONFIG);
    project.up().says("serves");
    DATA.iter().for_each(|line| shell.runs(line));
    let dev = "cd / && runuser -u postgres -- psql -Atc 'select count(*) from catalog_book' library_dev";
    assert_eq!(server.exec(dev).trim(), "14", "what was pulled");
    assert_eq!(
        server.exec("cat /srv/library/shared/media/covers/old.txt /srv/books/shared/media/covers/old.txt"),
        "picture\npicture\n"
    );
    for (domains, line) in NAMES {
        project.config(&CONFIG.replacen("domains: []", &format!("domains: {domains}"), 1));
        shell.runs(&fine(line));
    }
    the_recipes_with_files_hold(&project, &server);
}

/// A new site refuses the name of an account, and of a database, that was there before it.
fn nothing_of_others_is_taken(project: &Project) {
    let file = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    let with = |app: &str| {
        project.write("another.yml", &format!("app: {app}\n{file}"));
        project.ship(&["--file", "another.yml", "plan"]).exits(3)
    };
    with("books").says("the server has a user books already, whose home is /home/books");
    with("other").says("the server has a database other already, which is dev's");
}

/// The piece of a file on docs/recipes.md that begins so.
fn recipe(start: &str) -> String {
    let blocks = blocks();
    let mut of_recipes = blocks.iter().filter(|block| block.page == "docs/recipes.md");
    let found = of_recipes.find(|block| block.lines.first().is_some_and(|line| line.starts_with(start)));
    found.unwrap_or_else(|| panic!("docs/recipes.md has no {start:?}")).lines.join("\n") + "\n"
}

/// A password before staging, and one name for the site, by the texts of docs/recipes.md.
fn the_recipes_with_files_hold(project: &Project, server: &TestBox) {
    let protect = std::fs::read_to_string(super::root().join("templates/nginx/protect.j2")).unwrap();
    let text = protect + &recipe("{% if environment") + &recipe("if ($host");
    project.write(".ship/templates/nginx/protect.j2", &text);
    project.write("ops/password.yml", &recipe("# ops/password.yml"));
    project.git(&["add", "--force", "ops"]);
    let names = "domains: [library.example.com, www.library.example.com]";
    let config = CONFIG.replacen("domains: []", names, 1);
    project.config(&config.replace("backups: off}", "backups: off, playbooks: [./ops/password.yml]}"));
    project.up().says("serves");
    project.ship(&["-e", "staging", "up", "--yes"]).exits(0).says("serves");
    let head = |host: &str, more: &str| {
        let mut line = TcpStream::connect((server.host.as_str(), 80)).unwrap();
        line.write_all(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let mut answer = Vec::new();
        line.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).split("\r\n\r\n").next().unwrap().to_owned()
    };
    assert!(head("library.example.com", "").contains(" 200 "));
    assert!(head("www.library.example.com", "").contains("Location: http://library.example.com/"));
    assert!(head("staging.example.com", "").contains(" 401 "));
    // team:staging
    assert!(head("staging.example.com", "Authorization: Basic dGVhbTpzdGFnaW5n\r\n").contains(" 200 "));
}
