//! What runs of a project: ASGI with websockets, servers of its own, workers, what must be alone, jobs.

use crate::boxes::TestBox;
use crate::resilience::load::{Load, add_form};
use crate::support::websocket::WebSocket;
use crate::support::{Project, get, get_with, wait_for};

fn append(project: &Project, path: &str, text: &str) {
    let old = std::fs::read_to_string(project.dir.join(path)).unwrap();
    project.write(path, &(old + text));
}

/// Django's own ASGI application with a websocket beside it, which says which release it is of.
const ASGI: &str = r#"import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "locallibrary.settings")

from django.core.asgi import get_asgi_application

django = get_asgi_application()
release = os.getcwd().rsplit("/", 1)[1]


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return await django(scope, receive, send)
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": "%s from %s" % (message.get("text"), release)})
"#;

/// A project that is served by ASGI as soon as anything says so.
fn asgi(server: &TestBox) -> Project {
    let project = Project::new(server);
    project.write("locallibrary/asgi.py", ASGI);
    append(
        &project,
        "locallibrary/settings.py",
        "\nASGI_APPLICATION = \"locallibrary.asgi.application\"\nDATABASES[\"default\"][\"CONN_MAX_AGE\"] = 0\n",
    );
    add_form(&project);
    project
}

fn active(server: &TestBox, unit: &str) -> String {
    server.exec(&format!("systemctl show -p ActiveState --value '{unit}'")).trim().to_owned()
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_websocket_outlives_a_release_and_new_ones_meet_the_new_one() {
    let server = TestBox::builder().packages(true).boot();
    let project = asgi(&server);
    append(&project, "requirements.txt", "daphne\n");
    project.commit("ASGI");
    let why = "by ASGI: daphne is required and the settings have ASGI_APPLICATION";
    project.up().says(why).says("v1 serves");
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    let named = get_with(&server, "/", "X-Ship-Check: 1\r\n");
    assert_eq!((named.status, named.header("X-Ship-Release")), (200, ""), "only ship itself is told");
    let mut old = WebSocket::open(&server.host, "/ws/");
    assert_eq!(old.ask("hello"), "hello from v1");

    let load = Load::start(&server, "asgi");
    load.wait_for_more(50);
    project.put_on_page("two");
    project.up().says("v2 serves");
    // The new one at once, the old one as long as it is open.
    let mut new = WebSocket::open(&server.host, "/ws/");
    for turn in 0..20 {
        assert_eq!(new.ask("hi"), "hi from v2");
        assert_eq!(old.ask("still there"), "still there from v1");
        assert_eq!(WebSocket::open(&server.host, "/ws/").ask("x"), "x from v2", "turn {turn}");
    }
    assert_eq!(active(&server, "library@v1.service"), "deactivating");
    load.wait_for_more(50);
    load.stop().assert_whole(&server);
    // It ends with its last connection.
    drop(old);
    wait_for("the old instance to end", 20, || active(&server, "library@v1.service") == "inactive");
    project.ship(&["plan"]).exits(0);

    // Or when its time is up, with a word to the client.
    project.config("processes: {web: {drain: 3}}");
    project.up().says("v3 serves");
    let mut old = WebSocket::open(&server.host, "/ws/");
    assert_eq!(old.ask("a"), "a from v3");
    assert_eq!(new.ask("a"), "a from v2", "v2 was started with more time");
    project.put_on_page("four");
    project.up().says("v4 serves");
    assert_eq!(old.read(), "closed 1012");
    wait_for("the old instance to end", 20, || active(&server, "library@v3.service") == "inactive");

    // The preflight asks an ASGI application as well.
    append(
        &project,
        "locallibrary/urls.py",
        "\n\nasync def broken(request):\n    return 1 / 0\n\nurlpatterns.insert(0, path(\"\", broken))\n",
    );
    project.ship(&["up", "--yes"]).exits(1).says("answered 500: ZeroDivisionError: division by zero");
    assert_eq!(get(&server, "/").status, 200);
}

/// Appends a line when it begins, one when it ends, and works until then.
const KEEPER: &str = r#"import os, signal, sys, time

kind, seconds = sys.argv[1], float(sys.argv[2])
name = "%s %s" % (kind, os.environ["SHIP_RELEASE"])


def note(word):
    with open("/srv/library/shared/media/log", "a") as log:
        log.write("%s %s %s %.3f\n" % (name, os.getpid(), word, time.time()))


def leave(*_):
    # Work that takes a moment to lay down.
    time.sleep(0.5)
    note("end")
    sys.exit(0)


signal.signal(signal.SIGTERM, leave)
note("start")
if seconds:
    time.sleep(seconds)
    note("end")
else:
    while True:
        time.sleep(60)
"#;

/// The lines of one kind, as `v1 start`; fails if two of it were ever at work at once.
#[track_caller]
fn one_at_a_time(server: &TestBox, kind: &str) -> Vec<String> {
    let log = server.exec("cat /srv/library/shared/media/log 2>/dev/null || true");
    let mut at_work: Option<String> = None;
    let mut lines = Vec::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [of, release, pid, word, _] = words.as_slice() else { panic!("a torn line: {line:?}\n{log}") };
        if *of != kind {
            continue;
        }
        match *word {
            "start" => assert_eq!(at_work.replace((*pid).to_owned()), None, "two of {kind}\n{log}"),
            _ => assert_eq!(at_work.take().as_deref(), Some(*pid), "{log}"),
        }
        lines.push(format!("{release} {word}"));
    }
    lines
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn what_keeps_the_time_follows_the_release_and_never_runs_twice() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.write("keeper.py", KEEPER);
    project.write(
        "Procfile",
        "web: gunicorn locallibrary.wsgi --workers 2\n\
         release: python manage.py migrate && echo \"released $SHIP_RELEASE\" >>/srv/library/shared/media/released\n\
         worker: python keeper.py worker 0\nclock: python keeper.py clock 0\n",
    );
    // Every two seconds, and each run takes longer than that.
    project.config("schedule: {tick: {command: python keeper.py job 3, at: \"*:*:0/2\"}}");
    project.commit("Processes");
    project.up().says("the Procfile's").says("v1 serves");
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    project.ship(&["plan"]).exits(0);
    let runs = |release: &str| {
        one_at_a_time(&server, "job").iter().filter(|line| **line == format!("{release} end")).count()
    };
    wait_for("two runs of the job", 30, || runs("v1") >= 2);
    assert_eq!(one_at_a_time(&server, "clock"), ["v1 start"]);
    project.ship(&["status"]).exits(0).says("library-job-tick.timer").says("library-clock@v1.service");

    for number in 2..=4 {
        project.put_on_page(&format!("release {number}"));
        project.up().says(&format!("v{number} serves"));
        let name = format!("v{number}");
        assert_eq!(one_at_a_time(&server, "clock").last(), Some(&format!("{name} start")));
        wait_for("a run in the new release", 30, || runs(&name) >= 1);
        // From the first run of the new release on, there is none of an old one.
        let lines = one_at_a_time(&server, "job");
        let first = lines.iter().position(|line| line.starts_with(&name)).unwrap();
        assert!(lines.iter().skip(first).all(|line| line.starts_with(&name)), "{lines:?}");
    }
    assert_eq!(
        one_at_a_time(&server, "clock"),
        ["v1 start", "v1 end", "v2 start", "v2 end", "v3 start", "v3 end", "v4 start"]
    );
    assert_eq!(
        server.exec("cat /srv/library/shared/media/released"),
        "released v1\nreleased v2\nreleased v3\nreleased v4\n"
    );

    // A release that fails after the clock was replaced gives it back.
    project.replace(
        "Procfile",
        "worker: python keeper.py worker 0",
        "worker: python keeper.py worker 0\nbeat: false",
    );
    project.ship(&["up", "--yes"]).exits(1).says("library-beat ends as soon as it is started");
    wait_for("the clock of v4 again", 20, || active(&server, "library-clock@v4.service") == "active");
    assert_eq!(one_at_a_time(&server, "clock").last().map(String::as_str), Some("v4 start"));
    assert_eq!(get(&server, "/").status, 200);
    project.git(&["checkout", "--quiet", "Procfile"]);

    // Replicas, and another job in place of the one that was there.
    project.config(
        "processes: {worker: {command: python keeper.py worker 0, replicas: 2}}\n\
         schedule: {later: {command: python keeper.py later 0, at: \"0 4 * * 1-5\"}}",
    );
    project.up().says("v6 serves");
    for unit in ["library-worker@v6.service", "library-worker-2@v6.service"] {
        assert_eq!(active(&server, unit), "active", "{unit}");
    }
    let units = server.exec("cd /etc/systemd/system; ls -d library-job-* timers.target.wants/library-*");
    assert_eq!(
        units.lines().collect::<Vec<_>>(),
        [
            "library-job-later.service",
            "library-job-later.timer",
            "timers.target.wants/library-job-later.timer"
        ]
    );
    assert_eq!(active(&server, "library-job-tick.timer"), "inactive");
    assert_eq!(active(&server, "library-job-later.timer"), "active");
    assert_eq!(one_at_a_time(&server, "clock").last().map(String::as_str), Some("v4 end"));
    project.ship(&["logs", "--process", "worker"]).exits(0);
    project.ship(&["logs", "--process", "later"]).exits(0);
    project.ship(&["plan"]).exits(0);
    project.config(
        "processes: {worker: {command: python keeper.py worker 0, replicas: 2}}\n\
         schedule: {later: {command: python keeper.py later 0, at: \"0 5 * * 1-5\"}}",
    );
    project.up().says("restart library-job-later.timer").says("library-job-later.timer changed");
}

/// Celery with a task that says every second in which release it ran.
const CELERY: &str = r#"import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "locallibrary.settings")
app = Celery("locallibrary", broker=os.environ["CELERY_BROKER_URL"])
app.conf.beat_schedule = {"tell": {"task": "locallibrary.celery.tell", "schedule": 1.0, "args": [os.environ["SHIP_RELEASE"]]}}


@app.task
def tell(sent_by):
    with open("/srv/library/shared/media/told", "a") as log:
        log.write("%s %s\n" % (sent_by, os.environ["SHIP_RELEASE"]))
"#;

#[test]
#[ignore = "needs root, systemd-nspawn and PyPI: scripts/test runs it"]
fn a_task_queue_and_its_redis_turn_on_by_themselves() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.write("locallibrary/celery.py", CELERY);
    append(&project, "requirements.txt", "celery[redis]\nredis\n");
    project.commit("Celery");
    project
        .up()
        .says("locallibrary/celery.py reads CELERY_BROKER_URL, and redis is required")
        .says("Celery in locallibrary/celery.py")
        .says("a schedule in locallibrary/celery.py")
        .says("v1 serves");
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    let told = |line: &str| {
        let log = server.exec("cat /srv/library/shared/media/told 2>/dev/null || true");
        log.lines().any(|found| found == line)
    };
    wait_for("a task of v1", 60, || told("v1 v1"));
    let listens = server.exec("ss -Hltn 'sport = :6379' | awk '{ print $4 }' | sort");
    assert_eq!(listens.lines().collect::<Vec<_>>(), ["127.0.0.1:6379", "[::1]:6379"]);
    assert_eq!(server.exec("redis-cli config get maxmemory-policy | tail -n 1").trim(), "volatile-lru");

    project.put_on_page("two");
    project.up().says("v2 serves");
    server.exec("rm -f /srv/library/shared/media/told");
    wait_for("a task of v2", 60, || told("v2 v2"));
    let beats = server
        .exec("systemctl list-units --plain --no-legend --state=active 'library-beat@*' | cut -d' ' -f1");
    assert_eq!(beats.trim(), "library-beat@v2.service");
    project.ship(&["plan"]).exits(0);
}

#[test]
#[ignore = "needs root, systemd-nspawn and PyPI: scripts/test runs it"]
fn a_project_keeps_the_server_that_it_names() {
    let server = TestBox::builder().packages(true).boot();
    let project = asgi(&server);
    append(&project, "requirements.txt", "daphne\nwaitress\nuvicorn\n");
    let procfile = |line: &str| {
        project.write("Procfile", &format!("web: {line}\n"));
        project.commit(line);
    };
    // Nobody answers pings while `up` runs, which takes its time on a busy machine.
    procfile("daphne -b 0.0.0.0 -p $PORT --ping-interval 600 locallibrary.asgi:application");
    project.up().says("by daphne: Procfile").says("v1 serves");
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    let mut old = WebSocket::open(&server.host, "/ws/");
    assert_eq!(old.ask("a"), "a from v1");
    let load = Load::start(&server, "daphne");
    load.wait_for_more(50);
    procfile("uvicorn locallibrary.asgi:application --host 0.0.0.0 --port $PORT --ws-ping-interval 600");
    project.up().says("v2 serves");
    let mut new = WebSocket::open(&server.host, "/ws/");
    assert_eq!([old.ask("b"), new.ask("b")], ["b from v1", "b from v2"]);
    project.put_on_page("three");
    project.up().says("v3 serves");
    assert_eq!([old.ask("c"), new.ask("c")], ["c from v1", "c from v2"]);
    load.wait_for_more(50);
    load.stop().assert_whole(&server);
    drop((old, new));

    // waitress can't take over a socket.
    procfile("waitress-serve --port=$PORT locallibrary.wsgi:application");
    let ran = project.up().says("waitress can't take over a socket: v3 ends first, and requests fail");
    ran.says("v4 serves");
    assert_eq!(get(&server, "/books/").status, 200);
    assert_eq!(active(&server, "library.socket"), "inactive");
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    project.put_on_page("five");
    project.up().says("v5 serves");
    assert!(get(&server, "/").text().contains("five"));
    // One that does not start gives the port back to the one that did.
    procfile("waitress-serve --nonsense locallibrary.wsgi:application");
    project.ship(&["up", "--yes"]).exits(1).says("does not listen on 127.0.0.1:8000");
    wait_for("v5 to be back", 30, || get(&server, "/").text().contains("five"));
    // And back on the shared socket.
    procfile("gunicorn locallibrary.wsgi --workers 2 --threads 3");
    project.up().says("serves");
    assert_eq!(active(&server, "library.socket"), "active");
    assert_eq!(get(&server, "/").status, 200);
    project.ship(&["plan"]).exits(0);
}
