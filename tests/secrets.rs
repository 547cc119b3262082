//! No secret shows where somebody else could look: process lists, logs, journals, ship's own words, files.

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::boxes::TestBox;
use crate::support::{Project, Ran, Stop, get};

/// Collects the command lines of all processes, over and over. A box's processes are this machine's, too.
struct ProcessList {
    stop: Stop,
    watcher: JoinHandle<(HashSet<Vec<u8>>, usize)>,
}

impl ProcessList {
    fn watch() -> Self {
        let stop = Stop::default();
        let told = stop.told();
        let watcher = std::thread::spawn(move || {
            let (mut seen, mut rounds) = (HashSet::new(), 0);
            while !told.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let is_process =
                        entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
                    if !is_process {
                        continue;
                    }
                    // It may be gone by now.
                    if let Ok(line) = std::fs::read(entry.path().join("cmdline")) {
                        seen.insert(line);
                    }
                }
                rounds += 1;
            }
            (seen, rounds)
        });
        Self { stop, watcher }
    }

    fn seen(self) -> Vec<String> {
        self.stop.tell();
        let (seen, rounds) = self.watcher.join().unwrap();
        assert!(rounds > 100, "looked only {rounds} times");
        seen.iter().map(|line| String::from_utf8_lossy(line).replace('\0', " ")).collect()
    }
}

/// Every value of the environment files and the database's password, as the server keeps them.
fn secrets(server: &TestBox) -> Vec<String> {
    let kept = server.exec(
        "cd /etc/ship/library; cat database.password; sed -n 's/^[A-Z_]*=\"\\(.*\\)\"$/\\1/p' config/00-*.env config/05-*.env config/20-*.env",
    );
    let mut secrets: Vec<String> = kept.lines().map(str::to_string).collect();
    secrets.sort();
    secrets.dedup();
    secrets
}

fn assert_absent(secrets: &[String], text: &str, place: &str) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{place} shows {secret}:\n{text}");
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn no_secret_shows_anywhere() {
    let server = TestBox::builder().packages(true).boot();
    // The strictest log that an administrator may have set up.
    server.exec("cd /; until runuser -u postgres -- psql -qc \"alter system set log_statement = 'all'\" -c 'select pg_reload_conf()'; do sleep 0.2; done");
    let project = Project::new(&server);
    let list = ProcessList::watch();
    let mut said = String::new();
    let mut keep = |ran: Ran| {
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
    };
    keep(project.ship(&["--json", "-v", "up", "--yes"]).exits(0));
    let mut set = project.command(&["--json", "-v", "config", "set", "API_TOKEN=-"]);
    let mut set = set.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    set.stdin.take().unwrap().write_all(b"token-c0ffee-4711-of-the-api").unwrap();
    keep(Ran::finished(set).exits(0));
    std::fs::write(project.dir.join("../dsn"), "https://dsn-badcafe-0815@sentry.example.com/1").unwrap();
    keep(project.ship(&["-v", "config", "set", "SENTRY_DSN=@../dsn"]).exits(0));
    project.put_on_page("again");
    keep(project.ship(&["-v", "up", "--yes"]).exits(0));
    keep(project.ship(&["config"]).exits(0));
    keep(project.ship(&["plan"]).exits(0));
    keep(project.ship(&["-v", "status"]).exits(0));
    // Failing loudly is no excuse.
    project.replace(
        "locallibrary/settings.py",
        "import os",
        "import os\nBROKEN = os.environ.get(\"NOT_SET\").lower()",
    );
    keep(project.ship(&["--json", "-v", "up", "--yes"]).exits(1));
    let processes = list.seen();
    assert_eq!(get(&server, "/").status, 200);

    let secrets = secrets(&server);
    // SECRET_KEY, the database's password and URL, two values of config.
    assert_eq!(secrets.len(), 5, "{secrets:?}");
    assert!(secrets.iter().all(|secret| secret.len() > 20), "{secrets:?}");

    // The watcher sees what it must: the box's own processes, too.
    assert!(processes.iter().any(|line| line.contains("gunicorn --config /etc/ship")), "{processes:?}");
    assert!(processes.iter().any(|line| line.contains("config set API_TOKEN=-")), "{processes:?}");
    assert_absent(&secrets, &processes.join("\n"), "a process list");
    assert_absent(&secrets, &said, "ship");
    let journal = server.exec("journalctl --sync; journalctl -q -o export | strings -n 1 2>/dev/null || journalctl -q -o json --all");
    assert!(journal.contains("library@v1"));
    assert_absent(&secrets, &journal, "the journal");
    let log = server.exec("cat /var/log/postgresql/*.log");
    assert!(log.contains("create database"), "the log of PostgreSQL is not what it was");
    assert_absent(&secrets, &log, "the log of PostgreSQL");
    let journals = server.exec("cat /var/lib/ship/library/apply/*/journal");
    assert!(journals.contains("start 0001"));
    assert_absent(&secrets, &journals, "the journal of an apply");

    // Whoever is on the server, too: what nobody can read must hold none.
    server.write("/root/secrets", secrets.join("\n"));
    // One that is planted shows that this would find it.
    server.write("/opt/planted", &secrets[0]);
    let found = server.exec(
        "cd /; runuser -u nobody -- grep -rlF -D skip -f - /etc /var /srv /run /tmp /opt /home /dev/shm /usr/local </root/secrets 2>/dev/null || true",
    );
    assert_eq!(found, "/opt/planted\n", "anybody can read");
    server.exec("rm /opt/planted");
    let holders = server.exec("grep -rlF -D skip -f /root/secrets /etc /var /srv /run /tmp /opt /home 2>/dev/null | xargs -d '\\n' stat -c '%a %U:%G %n' | sort -k3");
    insta::assert_snapshot!(holders.replace(&server.host, "HOST"), @r"
    600 root:root /etc/ship/library/config/00-generated.env
    600 root:root /etc/ship/library/config/05-database.env
    600 root:root /etc/ship/library/config/20-API_TOKEN.env
    600 root:root /etc/ship/library/config/20-SENTRY_DSN.env
    600 root:root /etc/ship/library/database.password
    640 root:library /etc/ship/library/v1.env
    640 root:library /etc/ship/library/v2.env
    640 root:library /etc/ship/library/v3.env
    640 root:library /etc/ship/library/v4.env
    640 root:library /etc/ship/library/v5.env
    600 root:root /var/lib/ship/library/releases/v1/parts/00-generated.env
    600 root:root /var/lib/ship/library/releases/v1/parts/05-database.env
    600 root:root /var/lib/ship/library/releases/v2/parts/00-generated.env
    600 root:root /var/lib/ship/library/releases/v2/parts/05-database.env
    600 root:root /var/lib/ship/library/releases/v2/parts/20-API_TOKEN.env
    600 root:root /var/lib/ship/library/releases/v3/parts/00-generated.env
    600 root:root /var/lib/ship/library/releases/v3/parts/05-database.env
    600 root:root /var/lib/ship/library/releases/v3/parts/20-API_TOKEN.env
    600 root:root /var/lib/ship/library/releases/v3/parts/20-SENTRY_DSN.env
    600 root:root /var/lib/ship/library/releases/v4/parts/00-generated.env
    600 root:root /var/lib/ship/library/releases/v4/parts/05-database.env
    600 root:root /var/lib/ship/library/releases/v4/parts/20-API_TOKEN.env
    600 root:root /var/lib/ship/library/releases/v4/parts/20-SENTRY_DSN.env
    600 root:root /var/lib/ship/library/releases/v5/parts/00-generated.env
    600 root:root /var/lib/ship/library/releases/v5/parts/05-database.env
    600 root:root /var/lib/ship/library/releases/v5/parts/20-API_TOKEN.env
    600 root:root /var/lib/ship/library/releases/v5/parts/20-SENTRY_DSN.env
    ");

    // And on the laptop: ship keeps none.
    let mut patterns = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut patterns, secrets.join("\n").as_bytes()).unwrap();
    let kept = Command::new("grep")
        .args(["-rlF", "-f"])
        .arg(patterns.path())
        .arg(project.dir.parent().unwrap())
        .output()
        .unwrap();
    let dsn = project.dir.parent().unwrap().join("dsn");
    assert_eq!(String::from_utf8_lossy(&kept.stdout).trim(), dsn.display().to_string());
    let mode = std::fs::metadata(project.dir.join(".ship/known_hosts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "others can replace the pinned host keys");
}
