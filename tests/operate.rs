//! The daily commands on real servers, through real terminals: what somebody does who comes from Heroku.

mod logs;
mod table;
mod terminals;

use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::boxes::TestBox;
use crate::support::{Browser, Project, Ran, Stop, wait_for};

/// Processes beside the site that do nothing but say so.
const WORKERS: &str = "processes:
  web: {workers: 2}   # two
  # Says a line each second.
  worker: python -c 'import time; [(print(\"tick\", i, flush=True), time.sleep(1)) for i in range(10**6)]'  # slow
domains: []
";

/// The example with a worker, live on a server.
fn deployed() -> (TestBox, Project) {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.config(WORKERS);
    project.commit("A worker");
    project.up().says("v1 serves");
    (server, project)
}

/// Somebody who reads the front page all the time and notices every answer that isn't one.
struct Visitor {
    answers: Arc<AtomicUsize>,
    stop: Stop,
    thread: JoinHandle<()>,
}

impl Visitor {
    fn start(server: &TestBox) -> Self {
        let (answers, stop) = (Arc::new(AtomicUsize::new(0)), Stop::default());
        let (host, counted, told) = (server.host.clone(), Arc::clone(&answers), stop.told());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let page = Browser::open(&host).and_then(|mut browser| browser.request("GET", "/", "", b""));
                assert_eq!(page.expect("an answer").status, 200);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { answers, stop, thread }
    }

    fn leaves(self) -> usize {
        let enough = self.answers.load(Ordering::Relaxed) + 5;
        wait_for("a visitor to be answered", 30, || {
            self.answers.load(Ordering::Relaxed) >= enough || self.thread.is_finished()
        });
        self.stop.tell();
        self.thread.join().expect("every request is answered");
        self.answers.load(Ordering::Relaxed)
    }
}

/// Runs `ship` with something to read.
fn fed(project: &Project, words: &[&str], input: &[u8]) -> Ran {
    let mut ship = project.command(words);
    let mut ship = ship.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = ship.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let ran = Ran::finished(ship);
    // Whoever has read enough may close it.
    let _ = writer.join().unwrap();
    ran
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn every_day() {
    let (server, project) = deployed();
    commands_end_as_they_do_there(&project);
    much_goes_through(&project);
    config_is_a_release(&project, &server);
    what_runs_is_shown_and_scaled(&project, &server);
    domains_are_written_into_the_file(&project);
    table::each_line_holds(&project, &server);
}

#[test]
fn pages_and_completions_are_printed() {
    let ship = |words: &[&str]| {
        Ran::of(std::process::Command::new(env!("CARGO_BIN_EXE_ship")).args(words).stdin(Stdio::null()))
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("man1");
    ship(&["man", "--into", folder.to_str().unwrap()]).exits(0);
    for name in ["ship", "ship-logs", "ship-config-set", "ship-domains-add"] {
        let page = std::fs::read_to_string(folder.join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {} 1", name.to_uppercase())), "{page}");
    }
    ship(&["man", "config", "set"]).exits(0).says("env\\-file");
    ship(&["man", "nothing"]).exits(3).says("there are init, up");
    for shell in ["bash", "zsh", "fish"] {
        ship(&["completions", shell]).exits(0).says("restart");
    }
    // Whoever reads no more has had enough.
    let mut closed = std::process::Command::new(env!("CARGO_BIN_EXE_ship"));
    let mut closed = closed.args(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(closed.stdout.take());
    assert_eq!(closed.wait().unwrap().code(), Some(0));
}

fn commands_end_as_they_do_there(project: &Project) {
    let code = |words: &[&str]| {
        let mut all = vec!["run"];
        all.extend(words);
        project.ship(&all).code
    };
    assert_eq!(code(&["true"]), 0);
    assert_eq!(code(&["false"]), 1);
    assert_eq!(code(&["exit 42"]), 42);
    assert_eq!(code(&["kill -9 $$"]), 128 + 9);
    assert_eq!(code(&["kill -TERM $$"]), 128 + 15);
    assert_eq!(code(&["python", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]), 128 + 11);
    assert_eq!(code(&["no-such-command"]), 127);
    let told = "import os, sys; print(os.environ['SHIP_RELEASE'], os.getuid() == os.stat('../../shared').st_uid, sys.argv[1:])";
    let ran = project.ship(&["run", "python", "-c", told, "a  b", "$HOME", "%n", "é'\"", "-x"]).exits(0);
    assert_eq!(ran.stdout, "v1 True ['a  b', '$HOME', '%n', 'é\\'\"', '-x']\n");
    // Both streams stay apart.
    let ran = project.ship(&["run", "echo out; echo err >&2"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.trim_end()), ("out\n", "err"));
    assert!(fed(project, &["shell"], b"print(6 * 7)\n").exits(0).stdout.ends_with("42\n"));

    let ran = project.ship(&["run", "--detach", "echo begun; exec sleep 300"]).exits(0);
    let unit = ran.stdout.trim().to_owned();
    assert!(unit.starts_with("library-run-"), "{unit}");
    project.ship(&["ps"]).exits(0).says(unit.strip_prefix("library-").unwrap());
    wait_for("its line", 20, || {
        project.ship(&["logs", "--process", "run"]).exits(0).stdout.contains("begun")
    });
    project.ship(&["ssh", "--", "systemctl", "stop", &unit]).exits(0);
    assert!(!project.ship(&["ps"]).exits(0).stdout.contains("run-"));
    project.ship(&["ssh", "--", "exit", "7"]).exits(7);
}

/// 100 MB in and out again, which ship does not hold in its memory.
fn much_goes_through(project: &Project) {
    let mut blob = Vec::with_capacity(100_000_000);
    for seed in 0..5 {
        blob.extend(crate::support::noise(seed));
    }
    blob.truncate(100_000_000);
    let file = project.dir.join("../blob");
    std::fs::write(&file, &blob).unwrap();
    let mut ship = project.command(&["run", "cat"]);
    let mut ship = ship
        .stdin(std::fs::File::open(&file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = ship.id();
    let mut out = ship.stdout.take().unwrap();
    let mut back = Vec::with_capacity(blob.len());
    let mut peak = 0;
    let mut piece = vec![0; 1 << 20];
    while let Ok(count @ 1..) = std::io::Read::read(&mut out, &mut piece) {
        back.extend_from_slice(&piece[..count]);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kb.unwrap_or(0));
    }
    assert!(ship.wait().unwrap().success());
    assert!(back == blob, "{} bytes of {}", back.len(), blob.len());
    assert!(peak > 0 && peak < 80_000, "ship took {peak} kB of memory");
}

fn config_is_a_release(project: &Project, server: &TestBox) {
    let value = |name: &str| {
        project
            .ship(&["run", "python", "-c", &format!("import os; print(repr(os.environ.get('{name}')))")])
            .exits(0)
            .stdout
    };
    std::fs::write(project.dir.join("../of.env"), "A='one'\nexport B=\"two\\nlines\" # note\nC=$(id)\n")
        .unwrap();
    project.ship(&["config", "set", "--env-file", "../of.env"]).exits(0).says("library runs with it as v2");
    assert_eq!(
        (value("A"), value("B"), value("C")),
        ("'one'\n".into(), "'two\\nlines'\n".into(), "'$(id)'\n".into())
    );
    let shown = project.ship(&["config"]).exits(0).stdout;
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["A", "***"])), "{shown}");
    assert!(project.ship(&["config", "--reveal"]).exits(0).stdout.contains("$(id)"));

    // In an editor: one changed, one gone, one from a command; and the file is nobody else's.
    project.write("../editor", "#!/bin/sh\nstat -c %a \"$1\" >../mode\ncp \"$1\" ../before\nsed -i -e 's/^A=.*/A=\"1 $X\"/' -e '/^B=/,/^lines/d' \"$1\"\nprintf '%s\\n' 'D=$(printf \"s3\\nt\")' >>\"$1\"\nprintf '%s' \"$1\" >../edited\n");
    let mut edit = project.command(&["config", "edit"]);
    edit.env("EDITOR", "sh ../editor");
    Ran::of(&mut edit).exits(0).says("config set A D, unset B").says("as v3");
    let read = |name: &str| std::fs::read_to_string(project.dir.join("..").join(name)).unwrap();
    assert_eq!(read("mode"), "600\n");
    assert!(read("before").contains("\nC=\"$(id)\"\n"), "{}", read("before"));
    assert!(!std::path::Path::new(&read("edited")).exists(), "the file for the editor is still there");
    assert_eq!(
        (value("A"), value("B"), value("C")),
        ("'1 $X'\n".into(), "None\n".into(), "'$(id)'\n".into())
    );
    assert_eq!(value("D"), "'s3\\nt'\n");
    let mut edit = project.command(&["config", "edit"]);
    edit.env("EDITOR", "true");
    Ran::of(&mut edit).exits(0).says("nothing was changed");
    let mut edit = project.command(&["config", "edit"]);
    edit.env("EDITOR", "false");
    Ran::of(&mut edit).exits(1).says("nothing was changed");

    fed(project, &["config", "set", "NUL=-"], b"a\0b").exits(3).says("NUL byte");
    fed(project, &["config", "set", "BIN=-"], b"\xff\xfe").exits(3).says("not UTF-8");
    // A value that the site can't start with is not kept.
    project
        .ship(&["config", "set", "DJANGO_SETTINGS_MODULE=nowhere"])
        .exits(1)
        .says("the config is as it was");
    project.ship(&["config", "get", "DJANGO_SETTINGS_MODULE"]).exits(0).says("locallibrary.settings");
    assert_eq!(server.exec("ls -A /etc/ship/library/config | grep -c '^[.]' || true").trim(), "0");
    project.ship(&["config", "set", "--no-restart", "LATER=1"]).exits(0).says("the next `ship up`");
    assert_eq!(value("LATER"), "None\n");
    project.ship(&["config", "unset", "LATER", "--no-restart"]).exits(0);
    project.ship(&["config", "unset", "NEVER"]).exits(1).says("NEVER was not set");

    project.ship(&["rollback", "v2"]).exits(0);
    assert_eq!((value("A"), value("B")), ("'one'\n".into(), "'two\\nlines'\n".into()));
    project.ship(&["plan"]).exits(0);
}

fn what_runs_is_shown_and_scaled(project: &Project, server: &TestBox) {
    let rows = || {
        let ran = project.ship(&["--json", "ps"]).exits(0);
        ran.json().into_iter().find(|event| event["event"] == "result").unwrap()["result"].clone()
    };
    let find = |rows: &serde_json::Value, process: &str| {
        rows.as_array().unwrap().iter().find(|row| row["process"] == process).cloned()
    };
    let before = rows();
    let web = find(&before, "web").unwrap();
    assert_eq!((web["state"].as_str(), web["processes"].as_u64()), (Some("up"), Some(3)), "{web}");
    assert!(web["memory"].as_u64().unwrap() > 20_000_000, "{web}");
    let pid = || server.exec("systemctl show -p MainPID --value 'library@v*' 'library-worker@v*'");

    let visitor = Visitor::start(server);
    let (pids, release) = (pid(), web["release"].clone());
    project.ship(&["restart"]).exits(0).says("restarted web, worker of v");
    let after = rows();
    assert_eq!(find(&after, "web").unwrap()["release"], release);
    assert!(find(&after, "web").unwrap()["since"].as_f64() > web["since"].as_f64());
    assert_ne!(pid(), pids);
    assert_eq!(server.exec("cd /srv/library && ls -d releases/*restart venvs/*restart /etc/ship/library/*restart* 2>/dev/null || true"), "");
    project.ship(&["plan"]).exits(0);
    project.ship(&["restart", "nobody"]).exits(3).says("there are web, worker");

    // What can't start again is left as it is.
    let folder = server.exec("readlink -f /srv/library/current").trim().to_owned();
    server.exec(&format!("mv {folder}/catalog {folder}/elsewhere"));
    let pids = server.exec("systemctl show -p MainPID --value 'library@v*'");
    project.ship(&["restart", "web"]).exits(1).says("nothing was restarted").says("does not start again");
    assert_eq!(server.exec("systemctl show -p MainPID --value 'library@v*'"), pids);
    server.exec(&format!("mv {folder}/elsewhere {folder}/catalog"));

    let file = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    project.ship(&["scale", "web=3", "worker=2", "--yes"]).exits(0).says("serves");
    visitor.leaves();
    let edited = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    assert!(
        edited.contains("  web: {workers: 3}   # two\n  # Says a line each second.\n  worker: {command: "),
        "{edited}"
    );
    assert!(edited.contains(", replicas: 2}  # slow\n"), "{edited}");
    let now = rows();
    assert_eq!(find(&now, "web").unwrap()["processes"], 4);
    assert_eq!(find(&now, "worker-2").unwrap()["state"], "up");
    project.ship(&["scale"]).exits(0).says("web      3").says("worker   2");
    project.ship(&["scale", "worker=2", "web=3"]).exits(0).says("says so already");
    project.ship(&["scale", "worker=0", "--yes"]).exits(0);
    assert_eq!(find(&rows(), "worker"), None);
    project.ship(&["scale", "worker=1", "web=2", "--yes"]).exits(0);
    assert_eq!(find(&rows(), "worker").unwrap()["state"], "up");
    for (wish, why) in
        [("web=0", "answers nobody"), ("web=many", "PROCESS=NUMBER"), ("cron=1", "there are web, worker")]
    {
        project.ship(&["scale", wish]).exits(3).says(why);
    }
    // What can't be had is not written.
    let good = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    project.ship(&["scale", "worker=65", "--yes"]).exits(3).says("is as it was");
    assert_eq!(std::fs::read_to_string(project.dir.join("ship.yml")).unwrap(), good);
    project.write("ship.yml", &file);
    project.up();
}

fn domains_are_written_into_the_file(project: &Project) {
    let file = || std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    let before = file();
    project.ship(&["domains"]).exits(0).says("answers to any name");
    project
        .ship(&["domains", "add", "site.example.com", "www.example.com"])
        .exits(0)
        .says("`ship up` makes it so");
    assert_eq!(file(), before.replace("domains: []", "domains: [site.example.com, www.example.com]"));
    project.ship(&["domains", "add", "www.example.com"]).exits(3).says("is there already");
    project.ship(&["domains", "add", "not a name"]).exits(3);
    project.ship(&["domains", "remove", "other.example.com"]).exits(3).says("is not there");
    let mut open = project.command(&["open", "admin"]);
    project.write("../browser", "#!/bin/sh\necho \"$1\" >../opened\n");
    open.env("BROWSER", "sh ../browser");
    Ran::of(&mut open).exits(0).says("http://site.example.com/admin");
    let opened = project.dir.join("../opened");
    wait_for("the browser", 10, || {
        std::fs::read_to_string(&opened).is_ok_and(|url| url.ends_with("/admin\n"))
    });
    project.ship(&["domains", "remove", "www.example.com", "site.example.com"]).exits(0);
    assert_eq!(file(), before);
    // Of an environment: its own list, which takes the place of the other one.
    project.write(
        "ship.yml",
        &before.replace("domains: []", "domains: [example.com]\nenvironments: {staging: {}}"),
    );
    project.ship(&["-e", "staging", "domains", "add", "staging.example.com"]).exits(0);
    project.ship(&["-e", "staging", "domains", "remove", "example.com"]).exits(0);
    assert!(
        file()
            .contains("domains: [example.com]\nenvironments: {staging: {domains: [staging.example.com]}}\n")
    );
    project.ship(&["-e", "staging", "open"]).exits(0).says("http://staging.example.com/");
    project.ship(&["-e", "stagin", "ps"]).exits(3).says("did you mean");
    project.write("ship.yml", &before);
}
