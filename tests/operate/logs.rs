//! `ship logs -f` through everything that happens to logs and lines: each line once, in the order of time.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::boxes::TestBox;
use crate::support::{Browser, Project, get, wait_for};

use super::deployed;

/// `ship logs -f --json`, read by a thread.
struct Follower {
    ship: Child,
    lines: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Follower {
    fn start(project: &Project, words: &[&str]) -> Self {
        let mut all = vec!["--json", "logs", "-f"];
        all.extend(words);
        let mut ship = project.command(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, into) = (ship.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let event: serde_json::Value = serde_json::from_str(&line).unwrap();
                if event["event"] == "log" {
                    into.lock().unwrap().push(event);
                }
            }
        });
        Self { ship, lines }
    }

    fn seen(&self) -> Vec<serde_json::Value> {
        self.lines.lock().unwrap().clone()
    }

    /// The messages of a process that hold a text.
    fn messages(&self, process: &str, text: &str) -> Vec<String> {
        let wanted = |event: &&serde_json::Value| event["process"] == process;
        let message = |event: &serde_json::Value| event["message"].as_str().unwrap().to_owned();
        self.seen().iter().filter(wanted).map(message).filter(|message| message.contains(text)).collect()
    }

    #[track_caller]
    fn waits_for(&self, process: &str, text: &str) {
        wait_for(text, 90, || !self.messages(process, text).is_empty());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.ship.kill();
        let _ = self.ship.wait();
    }
}

/// The numbers of the worker's ticks by the release that said them.
fn ticks(events: &[serde_json::Value]) -> BTreeMap<String, Vec<u64>> {
    let mut ticks: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["process"] == "worker") {
        let number =
            event["message"].as_str().unwrap().strip_prefix("tick ").and_then(|text| text.parse().ok());
        if let Some(number) = number {
            ticks.entry(event["release"].as_str().unwrap().to_owned()).or_default().push(number);
        }
    }
    ticks
}

fn visit(server: &TestBox, numbers: std::ops::Range<u32>) {
    let mut browser = Browser::open(&server.host).unwrap();
    for number in numbers {
        let page = browser.request("GET", &format!("/?visit={number}."), "", b"").unwrap();
        assert_eq!(page.status, 200);
    }
}

fn complain(server: &TestBox, number: u32) {
    let sql = format!(
        "runuser -u postgres -- psql -q -d library -c 'select complaint_{number}' 2>/dev/null || true"
    );
    server.exec(&format!("cd /; {sql}"));
}

/// The numbers that follow a word in messages, up to the next dot or quote.
fn numbers(messages: &[String], word: &str) -> Vec<u32> {
    let number = |message: &String| {
        let rest = message.split_once(word).unwrap().1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().unwrap()
    };
    messages.iter().map(number).collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn every_line_is_followed_once() {
    let (server, project) = deployed();
    server.exec("apt-get -qq install -y logrotate >/dev/null 2>&1 || command -v logrotate");
    let follower = Follower::start(&project, &["-n", "0"]);
    visit(&server, 0..1);
    follower.waits_for("nginx", "visit=0.");
    visit(&server, 1..50);
    complain(&server, 1);

    // A release: another instance of every unit.
    project.put_on_page("again");
    project.up().says("v2 serves");
    visit(&server, 50..100);

    // A rotation: nginx's by renaming, PostgreSQL's by copying and emptying; twice, so that the first copy is packed.
    let rotate = "logrotate -f /etc/logrotate.d/nginx && logrotate -f /etc/logrotate.d/postgresql-common && journalctl --rotate";
    server.exec(rotate);
    visit(&server, 100..150);
    complain(&server, 2);
    follower.waits_for("nginx", "visit=149.");
    follower.waits_for("postgres", "complaint_2");
    server.exec(rotate);
    visit(&server, 150..200);
    follower.waits_for("nginx", "visit=199.");

    // A cut line, and while it is cut: requests that nobody can make from here, a rotation, errors.
    server.cut();
    let inside = |from: u32, to: u32| {
        server.exec(&format!(
            "python3 -c \"import urllib.request as u; [u.urlopen('http://127.0.0.1/?visit=%d.' % i).read() for i in range({from}, {to})]\""
        ));
    };
    inside(200, 230);
    complain(&server, 3);
    server.exec(rotate);
    inside(230, 260);
    server.exec(rotate);
    inside(260, 270);
    complain(&server, 4);
    // Until the client has noticed.
    let before = follower.seen().len();
    let clock = std::time::Instant::now();
    wait_for("the silence to be noticed", 60, || clock.elapsed().as_secs() > 20);
    assert_eq!(follower.seen().len(), before, "nothing passes a cut line");
    server.heal();
    follower.waits_for("nginx", "visit=269.");
    visit(&server, 270..300);
    complain(&server, 5);
    follower.waits_for("nginx", "visit=299.");
    follower.waits_for("postgres", "complaint_5");

    let visits = numbers(&follower.messages("nginx", "visit="), "visit=");
    assert_eq!(visits, (0..300).collect::<Vec<u32>>());
    let complaints = follower.messages("postgres", "does not exist");
    assert_eq!(numbers(&complaints, "complaint_"), [1, 2, 3, 4, 5], "{complaints:?}");
    for (release, numbers) in ticks(&follower.seen()) {
        let first = numbers[0];
        let expected: Vec<u64> = (first..first + u64::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, expected, "{release}");
    }
    assert_eq!(ticks(&follower.seen()).len(), 2, "both releases were heard");
    assert!(!follower.messages("web", "Listening at").is_empty(), "v2's server was heard");
    // In the order of time, but for where the line was cut.
    let seen = follower.seen();
    let at = |event: &serde_json::Value| event["at"].as_str().unwrap().to_owned();
    let back: Vec<_> = seen.windows(2).filter(|pair| at(&pair[1]) < at(&pair[0])).collect();
    assert!(back.len() <= 2, "{} of {} are out of order: {back:#?}", back.len(), seen.len());
    drop(follower);
    what_is_asked_for_is_shown(&project, &server);
}

fn what_is_asked_for_is_shown(project: &Project, server: &TestBox) {
    let shown = |words: &[&str]| {
        let mut all = vec!["--json", "logs"];
        all.extend(words);
        let events = project.ship(&all).exits(0).json();
        events.into_iter().filter(|event| event["event"] == "log").collect::<Vec<_>>()
    };
    // All of them, through three rotations, packed or not.
    let visits = shown(&["--process", "nginx", "--grep", "VISIT=|visit=", "-n", "1000"]);
    let messages: Vec<String> =
        visits.iter().map(|event| event["message"].as_str().unwrap().into()).collect();
    assert_eq!(numbers(&messages, "visit="), (0..300).collect::<Vec<u32>>());
    let visits = shown(&["--process", "nginx", "--grep", "visit=", "--since", "1h"]);
    assert_eq!(visits.len(), 300);
    assert_eq!(shown(&["--process", "nginx", "--grep", "visit=", "-n", "7"]).len(), 7);
    assert_eq!(shown(&["-n", "9"]).len(), 9);
    let of_release = shown(&["--release", "v1", "-n", "20"]);
    assert!(of_release.len() == 20 && of_release.iter().all(|event| event["release"] == "v1"));
    assert!(
        shown(&["--process", "postgres", "--grep", "complaint_3"]).len() >= 2,
        "the error and its statement"
    );
    assert!(shown(&["--since", "2020-01-01", "--grep", "nobody says this"]).is_empty());
    for words in [
        ["--since", "10x"],
        ["--since", "never ever"],
        ["--grep", "("],
        ["--process", "nobody"],
        ["--release", "x"],
    ] {
        project.ship(&["logs", words[0], words[1]]).exits(3);
    }
    // Lines of a database next door are not this site's.
    server.exec("cd /; runuser -u postgres -- psql -q -c 'create database other' && (runuser -u postgres -- psql -q -d other -c 'select not_ours' 2>/dev/null || true)");
    assert_eq!(get(server, "/").status, 200);
    assert!(shown(&["--grep", "not_ours"]).is_empty());
}
