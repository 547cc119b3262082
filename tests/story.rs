//! The user's story on real servers: the first `ship up`, the ones after it, and what a site is operated with.
//!
//! Each test is a chapter on a box of its own, since a first deploy is what costs time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use crate::boxes::{SshdCounts, Sudo, Suite, TestBox};
use crate::support::{Browser, Project, Ran, Response, Stop, get, get_with, wait_for};

/// A view that tells what of a request reaches Django, and one variable of the environment.
fn add_whoami(project: &Project) {
    let urls = std::fs::read_to_string(project.dir.join("locallibrary/urls.py")).unwrap();
    let view = r#"

import os
from django.http import JsonResponse

def whoami(request):
    headers = {name: value for name, value in request.META.items() if name.startswith("HTTP_")}
    return JsonResponse({"uri": request.build_absolute_uri(), "greeting": os.environ.get("GREETING"), **headers})

urlpatterns.append(path("whoami/", whoami))
"#;
    project.write("locallibrary/urls.py", &(urls + view));
}

/// Uploads a cover through the site's own forms, as a librarian does; returns the URL that it has then.
fn upload_cover(project: &Project, server: &TestBox) -> String {
    let create = "DJANGO_SUPERUSER_PASSWORD=geheim python manage.py createsuperuser --noinput --username ann --email ann@example.com";
    project.ship(&["run", create]).exits(0);
    assert!(!server.exec("journalctl --no-pager").contains("geheim"), "the journal knows the password");
    let mut browser = Browser::open(&server.host).unwrap();
    let token = browser.request("GET", "/accounts/login/", "", b"").unwrap().cookie("csrftoken");
    let form = format!("csrfmiddlewaretoken={token}&username=ann&password=geheim");
    let headers = format!("Cookie: csrftoken={token}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let login = browser.request("POST", "/accounts/login/", &headers, form.as_bytes()).unwrap();
    assert_eq!(login.status, 302, "{}", login.text());

    let (token, session) = (login.cookie("csrftoken"), login.cookie("sessionid"));
    let mut form = format!(
        "--SHIP\r\nContent-Disposition: form-data; name=\"csrfmiddlewaretoken\"\r\n\r\n{token}\r\n\
         --SHIP\r\nContent-Disposition: form-data; name=\"cover\"; filename=\"dot.png\"\r\n\
         Content-Type: image/png\r\n\r\n"
    )
    .into_bytes();
    form.extend(picture());
    form.extend(b"\r\n--SHIP--\r\n");
    let headers = format!(
        "Cookie: csrftoken={token}; sessionid={session}\r\nContent-Type: multipart/form-data; boundary=SHIP\r\n"
    );
    let uploaded = browser.request("POST", "/books/1/cover/", &headers, &form).unwrap();
    assert_eq!(uploaded.status, 302, "{}", uploaded.text());
    let page = get(server, "/books/1/").text();
    let from = page.find("/media/covers/").expect("the cover is on the book's page");
    page[from..].split('"').next().unwrap().to_owned()
}

/// A PNG of one pixel.
fn picture() -> Vec<u8> {
    let text =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// What a change of the server itself would change: packages, and when PostgreSQL and nginx were started or reloaded.
fn machine(server: &TestBox) -> String {
    server.exec(
        "sha256sum /var/log/dpkg.log; pgrep nginx; \
         systemctl show -p Id -p InvocationID nginx.service 'postgresql@*.service'",
    )
}

/// The same, and when the site's own units were started.
fn everything_running(server: &TestBox) -> String {
    machine(server)
        + &server.exec(
            "systemctl show -p Id -p InvocationID library.socket 'library@*.service' 'library-*@*.service'",
        )
}

fn between(server: &TestBox, work: impl FnOnce()) -> SshdCounts {
    let before = server.sshd_counts();
    work();
    server.sshd_counts() - before
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_bare_server_becomes_a_site_and_stays_one() {
    let server = TestBox::builder().packages(false).boot();
    let project = Project::new(&server);
    project.config("upload_limit: 1");
    add_whoami(&project);
    project.write("catalog/static/catalog/app.0123456789ab.js", "// A name with a hash of its content\n");
    // Nobody is there to say that the host key is the right one.
    project.ship(&["plan"]).exits(4).says("host key").says("--yes");
    project.ship(&["plan", "--yes"]).exits(2).says(" nginx ").says("first release");
    project.up().says(&format!("v1 serves http://{}/", server.host));

    pages_come_from_django(&server);
    let cover = upload_cover(&project, &server);
    files_come_from_nginx(&server, &cover);
    requests_arrive_as_they_were_sent(&server);
    a_second_up_changes_nothing(&project, &server);
    drift_is_shown_and_mended(&project, &server, &cover);
}

fn pages_come_from_django(server: &TestBox) {
    let page = get_with(server, "/books/", "Accept-Encoding: gzip\r\n");
    assert_eq!((page.status, page.header("Content-Encoding")), (200, "gzip"));
    let books = get(server, "/books/");
    assert!(books.text().contains("Emma"), "{}", books.text());
    assert!(page.body.len() < books.body.len());
    let count = server.exec("runuser -u postgres -- psql -Atc 'select count(*) from catalog_book' library");
    assert!(
        get(server, "/").text().contains(&format!("<dd>{}</dd>", count.trim())),
        "{count} books are on the page"
    );
    assert_eq!(get(server, "/nowhere/").status, 404);
}

fn files_come_from_nginx(server: &TestBox, cover: &str) {
    let style = get(server, "/static/catalog/site.css");
    let cache = |response: &Response| response.header("Cache-Control").to_owned();
    assert_eq!((style.status, cache(&style).as_str()), (200, "no-cache"));
    assert_eq!(style.header("X-Content-Type-Options"), "nosniff");
    let unchanged =
        get_with(server, "/static/catalog/site.css", &format!("If-None-Match: {}\r\n", style.header("ETag")));
    assert_eq!(unchanged.status, 304);
    let small = get_with(server, "/static/catalog/site.css", "Accept-Encoding: gzip\r\n");
    assert_eq!((small.header("Content-Encoding"), small.header("Vary")), ("gzip", "Accept-Encoding"));
    assert!(small.body.len() * 2 < style.body.len());
    let hashed = get(server, "/static/catalog/app.0123456789ab.js");
    assert_eq!(cache(&hashed), "public, max-age=31536000, immutable");
    let media = get(server, cover);
    assert_eq!((media.status, cache(&media).as_str()), (200, "private, max-age=3600"));
    assert_eq!((media.header("Content-Type"), &media.body), ("image/png", &picture()));

    // Files are there while nobody answers for the pages.
    server.exec("systemctl stop library.socket 'library@*.service'");
    let statuses = ["/", "/static/admin/css/base.css", cover].map(|path| get(server, path).status);
    server.exec("systemctl start library.socket library@v1.service");
    assert_eq!(statuses, [502, 200, 200]);
    for outside in
        ["/static/../current/manage.py", "/static../current/manage.py", "/media/../../current/manage.py"]
    {
        assert!(get(server, outside).status >= 400, "{outside}");
    }
}

fn requests_arrive_as_they_were_sent(server: &TestBox) {
    let mut browser = Browser::open(&server.host).unwrap();
    let lies = "X-Forwarded-For: 192.0.2.66\r\nX-Real-IP: 192.0.2.66\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 443\r\n";
    let seen: serde_json::Value =
        serde_json::from_slice(&browser.request("GET", "/whoami/", lies, b"").unwrap().body).unwrap();
    let address = browser.address();
    assert_eq!(
        (seen["HTTP_X_FORWARDED_FOR"].as_str(), seen["HTTP_X_REAL_IP"].as_str()),
        (Some(&*address), Some(&*address))
    );
    assert_eq!(seen["uri"], format!("http://{}/whoami/", server.host));
    assert_eq!(
        (&seen["HTTP_X_FORWARDED_PROTO"], &seen["HTTP_X_FORWARDED_PORT"]),
        (&"http".into(), &"80".into())
    );
    assert_eq!(seen["HTTP_X_FORWARDED_HOST"], *server.host);

    // What is small enough reaches Django, which misses its CSRF token.
    let post = |bytes: usize| {
        let mut browser = Browser::open(&server.host).unwrap();
        browser
            .request("POST", "/accounts/login/", "Content-Type: text/plain\r\n", &vec![b'x'; bytes])
            .unwrap()
            .status
    };
    assert_eq!([post(1_000_000), post(1_100_000)], [403, 413]);
}

fn a_second_up_changes_nothing(project: &Project, server: &TestBox) {
    let running = everything_running(server);
    server.exec("touch /run/before");
    let used = between(server, || {
        project.up().says(&format!("Nothing to change: v1 serves http://{}/", server.host));
    });
    assert_eq!(used.connections, 1);
    assert!(used.channels <= 2, "{used:?}");
    assert_eq!(
        server.exec("find /etc /srv /opt /usr/local /var/lib/ship /var/cache/ship -newer /run/before"),
        ""
    );
    assert_eq!(everything_running(server), running);
    project.ship(&["plan"]).exits(0).says("Nothing to change");
}

fn drift_is_shown_and_mended(project: &Project, server: &TestBox, cover: &str) {
    let site = "/etc/nginx/sites-available/library.conf";
    server.exec(&format!("sed -i 's/client_max_body_size 1m/client_max_body_size 1k/' {site}"));
    server.exec("systemctl stop library@v1.service && dpkg --remove --force-depends python3-venv");
    let plan = project.ship(&["plan", "--json"]).exits(2).json();
    let changes = plan.last().unwrap()["result"]["changes"].as_array().unwrap();
    let named = |name: &str| {
        changes.iter().find(|change| change["name"] == name).unwrap_or_else(|| panic!("{name}: {plan:?}"))
    };
    let names: BTreeSet<&str> = changes.iter().map(|change| change["name"].as_str().unwrap()).collect();
    // nginx reads its files again because one of them changes.
    assert_eq!(names, BTreeSet::from([site, "library@v1.service", "python3-venv", "nginx.service"]));
    assert_eq!(
        (&named(site)["action"], &named("nginx.service")["action"]),
        (&"update".into(), &"reload".into())
    );
    assert_eq!(
        (&named("python3-venv")["action"], &named("library@v1.service")["action"]),
        (&"create".into(), &"start".into())
    );
    let diff = named(site)["diff"].as_str().unwrap();
    assert!(diff.contains("-    client_max_body_size 1k;\n+    client_max_body_size 1m;"), "{diff}");
    let text = project.ship(&["plan"]).exits(2).says("client_max_body_size 1k").says("is not running");
    assert!(!text.stdout.contains("release"), "{}", text.stdout);

    project.up().says("v1 serves");
    project.ship(&["plan"]).exits(0);
    assert_eq!([get(server, "/").status, get(server, cover).status], [200, 200]);
    wait_for("nginx to take its limit back", 5, || {
        let mut browser = Browser::open(&server.host).unwrap();
        browser.request("POST", "/accounts/login/", "", &[b'x'; 5000]).unwrap().status == 403
    });
    server.exec("dpkg --status python3-venv && systemctl is-active library@v1.service");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_change_of_code_is_all_that_a_release_sends_and_touches() {
    let server = TestBox::builder().packages(true).boot();
    let mut project = Project::new(&server);
    project.config("keep: 2");
    let mut large = vec![0; 1_000_000];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut large).unwrap();
    std::fs::write(project.dir.join("catalog/static/catalog/large.jpg"), &large).unwrap();
    let settings = std::fs::read_to_string(project.dir.join("locallibrary/settings.py")).unwrap();
    project.write("locallibrary/settings.py", &(settings + COUNTED));
    project.up().says("v1 serves");
    let cover = upload_cover(&project, &server);
    assert_eq!(books_on_page(&get(&server, "/books/")), 8);

    let (before, served) = (machine(&server), workers(&server, "v1"));
    project.replace("catalog/views.py", "paginate_by = 8", "paginate_by = 3");
    let plan =
        project.ship(&["plan"]).exits(2).says("upload v2").says("catalog/views.py changed").says("1 file");
    assert!(!plan.stdout.contains("package") && !plan.stdout.contains("/etc/"), "{}", plan.stdout);
    let (bytes, started) = (traffic(&server), starts(&server));
    server.exec(WATCH_LISTENER);
    let used = between(&server, || {
        project.up().says("v2 serves");
    });
    let bytes = traffic(&server) - bytes;
    // A worker that is not the first to take a visitor would wait for the next one, and answer nobody until then.
    assert_eq!(
        server.exec("systemctl stop watch; cat /run/blocking"),
        "",
        "the socket of those that serve was blocking"
    );
    assert_eq!(starts(&server) - started, 1, "the process that was asked is the one that serves");
    assert_eq!(used.connections, 1);
    assert!(used.channels <= 3, "{used:?}");
    // Key exchange, two probes and the steps, both ways; the file itself is 4 kB. The server has the programs of the gates.
    assert!(bytes < 70_000, "{bytes} bytes for one line");
    assert_eq!(get(&server, "/static/catalog/large.jpg").body, large);
    assert_eq!(books_on_page(&get(&server, "/books/")), 3);
    assert_eq!(machine(&server), before, "apt, PostgreSQL and nginx were left alone");
    wait_for("v1 to end", 20, || {
        server.exec("systemctl show -p ActiveState --value library@v1.service") == "inactive\n"
    });
    // However quickly they end, what the application has registered for that is called.
    let ended = server.exec("sort -n /srv/library/shared/ends");
    assert!(!served.is_empty());
    assert_eq!(ended.lines().filter(|line| served.contains(&line.parse().unwrap())).count(), served.len());
    assert_eq!(get(&server, &cover).body, picture());
    assert_eq!(kept(&server), "v1 v2 -> releases/v2");

    let load = Load::start(&server);
    load.wait_for_more(200);
    project.replace("catalog/views.py", "paginate_by = 3", "paginate_by = 4");
    project.git(&["rm", "--quiet", "README.md"]);
    project.commit("Four books a page");
    project.up().says("v3 serves");
    load.wait_for_more(200);
    let seen = load.stop();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [3, 4], "books on each page, how often: {seen:?}");
    assert_eq!(kept(&server), "v2 v3 -> releases/v3");
    server.exec("test -e /srv/library/releases/v2/README.md && test ! -e /srv/library/releases/v3/README.md");
    wait_for("only v3 to run", 60, || {
        server.exec("systemctl list-units --plain --no-legend 'library@*.service' | cut -d' ' -f1")
            == "library@v3.service\n"
    });

    assert_eq!(venvs(&server), 1);
    let requirements = std::fs::read_to_string(project.dir.join("requirements.txt")).unwrap();
    project.write("requirements.txt", &(requirements + "itsdangerous==2.2.0\n"));
    project.ship(&["plan"]).exits(2).says("requirements changed").says("install Python packages");
    project.up().says("v4 serves");
    project.ship(&["manage", "shell", "-c", "import itsdangerous"]).exits(0);
    assert_eq!(venvs(&server), 2, "v3 still needs the old one");
    project.put_on_page("A fifth release");
    let up = project.up().says("v5 serves");
    assert!(!up.stderr.contains("Python packages"), "{}", up.stderr);
    assert_eq!((kept(&server).as_str(), venvs(&server)), ("v4 v5 -> releases/v5", 1));
    assert!(get(&server, "/").text().contains("A fifth release"));
    assert_eq!(get(&server, &cover).body, picture());
    assert_eq!(machine(&server), before);
    let linked = server.exec("find -L /srv/library/current -name 'manage.*.pyc' -links +1 | wc -l");
    assert_eq!(linked.trim(), "1", "what is compiled of an unchanged file is linked");
    project.ship(&["plan"]).exits(0);
    let started = starts(&server);
    let turns = turns(&mut project);
    assert!(turns <= 14, "{turns} round trips with nothing to do");
    assert_eq!(starts(&server), started);
}

/// Notes when the socket that v1 listens on is a blocking one.
const WATCH_LISTENER: &str = r#"
inode=$(ss -Hltne 'sport = :8000' | sed 's/.*ino:\([0-9]*\).*/\1/')
process=$(systemctl show -p MainPID --value library@v1)
for fd in /proc/$process/fd/*; do [ "$(readlink $fd)" != "socket:[$inode]" ] || break; done
: >/run/blocking
cat >/run/watch.sh <<'EOF'
while flags=$(grep ^flags "$1"); do
  case $flags in *[4567]???) ;; *) echo "$flags" >>/run/blocking ;; esac
  sleep 0.02
done
EOF
systemd-run -q --unit=watch sh /run/watch.sh "/proc/$process/fdinfo/${fd##*/}"
"#;

/// Settings that note every process which loads them.
const COUNTED: &str = r#"

if os.path.isdir("/srv/library/shared"):
    with open("/srv/library/shared/starts", "a") as file:
        file.write("%d\n" % os.getpid())


def ended(process):
    if process == os.getpid():
        with open("/srv/library/shared/ends", "a") as file:
            file.write("%d\n" % process)


import atexit
os.register_at_fork(after_in_child=lambda: atexit.register(ended, os.getpid()))
"#;

/// The workers of a release, in order.
fn workers(server: &TestBox, release: &str) -> Vec<u32> {
    let listed = server
        .exec(&format!("pgrep -P $(systemctl show -p MainPID --value library@{release}.service) | sort -n"));
    listed.lines().map(|line| line.parse().unwrap()).collect()
}

/// How often Django has been started on the server so far.
fn starts(server: &TestBox) -> usize {
    server.exec("cat /srv/library/shared/starts").lines().count()
}

/// A line that counts how often the laptop speaks after it has heard something: the round trips that it waits for.
const COUNTING_LINE: &str = r#"
import os, select, socket, sys

line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
turns, heard = 0, True
while True:
    for end in select.select([0, line], [], [])[0]:
        data = os.read(0, 65536) if end == 0 else line.recv(65536)
        if not data:
            sys.exit()
        if end == 0:
            turns, heard = turns + heard, False
            with open(sys.argv[3] + ".part", "w") as file:
                file.write(str(turns))
            # Whoever reads it while the line closes finds a number.
            os.replace(sys.argv[3] + ".part", sys.argv[3])
            line.sendall(data)
        else:
            heard = True
            os.write(1, data)
"#;

/// The round trips of an `up` that finds nothing to do, with those of the handshake.
fn turns(project: &mut Project) -> u32 {
    let (program, counted) = (project.home.join("line.py"), project.home.join("turns"));
    std::fs::write(&program, COUNTING_LINE).unwrap();
    let line = format!("ProxyCommand python3 {} %h %p {}\n", program.display(), counted.display());
    let config = project.home.join("config");
    std::fs::write(&config, line).unwrap();
    // OpenSSH takes no notice of HOME.
    let ssh = project.home.join("bin/ssh");
    std::fs::create_dir_all(ssh.parent().unwrap()).unwrap();
    std::fs::write(&ssh, format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", config.display())).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    project.set("PATH", format!("{}:{path}", ssh.parent().unwrap().display()));
    project.up().says("Nothing to change");
    std::fs::read_to_string(&counted).unwrap().parse().unwrap()
}

fn books_on_page(page: &Response) -> usize {
    assert_eq!(page.status, 200, "{}", page.text());
    page.text().matches("<strong>").count()
}

/// Bytes that the box has sent and received so far.
fn traffic(server: &TestBox) -> u64 {
    let text = server.exec("sed -n 's/^ *eth0://p' /proc/net/dev");
    let fields: Vec<u64> = text.split_whitespace().map(|field| field.parse().unwrap()).collect();
    fields[0] + fields[8]
}

/// The releases that are there, and the one that is live.
fn kept(server: &TestBox) -> String {
    let text = server.exec("cd /srv/library && ls releases && echo '->' && readlink current");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Number of virtual environments.
fn venvs(server: &TestBox) -> usize {
    server.exec("find /srv/library/venvs -mindepth 1 -maxdepth 1 -type d").lines().count()
}

/// Visitors who reload the list of books without a break: two who keep their connection, one who never does.
struct Load {
    seen: Arc<Mutex<BTreeMap<usize, usize>>>,
    stop: Stop,
    visitors: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(server: &TestBox) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeMap::new())), Stop::default());
        let visit = |keep: bool| {
            let (host, seen, stop) = (server.host.clone(), Arc::clone(&seen), stop.told());
            std::thread::spawn(move || {
                let mut open = None;
                while !stop.load(Ordering::Relaxed) {
                    let mut browser = open.take().unwrap_or_else(|| Browser::open(&host).expect("connect"));
                    let page = browser.request("GET", "/books/", "", b"").expect("a response");
                    *seen.lock().unwrap().entry(books_on_page(&page)).or_insert(0) += 1;
                    // nginx announces the end of a connection that has had its share of requests.
                    open = (keep && page.header("Connection") != "close").then_some(browser);
                }
            })
        };
        let visitors = [true, true, false].map(visit).into();
        Self { seen, stop, visitors }
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().values().sum()
    }

    fn wait_for_more(&self, requests: usize) {
        let enough = self.count() + requests;
        wait_for("requests to be answered", 30, || {
            assert!(
                !self.visitors.iter().any(std::thread::JoinHandle::is_finished),
                "a visitor got no answer"
            );
            self.count() >= enough
        });
    }

    /// Number of books on a page, and how often that was seen; panics if any request failed.
    fn stop(self) -> BTreeMap<usize, usize> {
        self.stop.tell();
        for visitor in self.visitors {
            visitor.join().expect("every request is answered with 200");
        }
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_site_is_operated_from_the_laptop_and_survives_a_reboot() {
    let server =
        TestBox::builder().suite(Suite::Trixie).packages(true).user("deploy", Sudo::NoPassword).boot();
    let project = Project::for_user(&server, "deploy");
    add_whoami(&project);
    project.write("beat.py", BEAT);
    project.config("processes: {worker: python beat.py}");
    let up = project.ship(&["up", "--yes", "--json"]).exits(0);
    let events = up.json();
    assert!(events.iter().all(|event| event["event"].is_string()), "{}", up.stdout);
    let done = events.last().unwrap();
    assert_eq!(
        (&done["event"], &done["release"], &done["changed"]),
        (&"done".into(), &1.into(), &true.into())
    );

    the_environment_is_set_from_the_laptop(&project, &server);
    commands_run_in_the_release(&project, &server);

    project.replace("beat.py", "one", "two");
    project.put_on_page("The worker says two");
    project.up().says("v4 serves");
    wait_for("the worker to run the new code", 10, || beat(&server) == "two None");
    project.config("");
    project.up().says("v5 serves");
    wait_for("the worker to end", 70, || server.exec("pgrep -f '[b]eat.py' || true").is_empty());
    assert_eq!(server.exec("cd /etc/systemd/system && find . -path '*.wants/*' -name 'library-worker*'"), "");
    assert!(!project.ship(&["status"]).exits(0).stdout.contains("worker"));

    server.reboot();
    wait_for("the site to be back", 60, || {
        let page = Browser::open(&server.host).and_then(|mut browser| browser.request("GET", "/", "", b""));
        page.is_ok_and(|page| page.status == 200 && page.text().contains("The worker says two"))
    });
    project.ship(&["plan"]).exits(0).says("v5 is live");
    assert_eq!(server.exec("pgrep -f '[b]eat.py' || true"), "");
}

/// A worker that says what it is and what environment it has, in a file that nginx serves.
const BEAT: &str = r#"import os, time

print("the worker is awake")
while True:
    # The worker of the release before may still be at it.
    new = "media/beat.%s" % os.getpid()
    with open(new, "w") as file:
        file.write("one %s" % os.environ.get("GREETING"))
    os.replace(new, "media/beat.txt")
    time.sleep(0.1)
"#;

fn beat(server: &TestBox) -> String {
    get(server, "/media/beat.txt").text()
}

fn the_environment_is_set_from_the_laptop(project: &Project, server: &TestBox) {
    let greeting = || -> serde_json::Value {
        let seen: serde_json::Value = serde_json::from_slice(&get(server, "/whoami/").body).unwrap();
        seen["greeting"].clone()
    };
    wait_for("the worker to start", 10, || beat(server) == "one None");
    assert!(greeting().is_null());
    let awkward = "hé 'l' \"l\" $HOME `id` %n \\ # o";
    project.ship(&["config", "set", &format!("GREETING={awkward}")]).exits(0).says("v2");
    assert_eq!(greeting(), awkward);
    wait_for("the worker to have it", 10, || beat(server) == format!("one {awkward}"));
    assert_eq!(project.ship(&["config", "get", "GREETING"]).exits(0).stdout, format!("{awkward}\n"));
    let listed = project.ship(&["config"]).exits(0).says("GREETING").says("SECRET_KEY");
    assert!(!listed.stdout.contains("hé"), "{}", listed.stdout);
    project.ship(&["up", "--yes"]).exits(0).says("Nothing to change: v2");
    project.ship(&["config", "unset", "GREETING"]).exits(0).says("v3");
    assert!(greeting().is_null());
    wait_for("the worker to be without it", 10, || beat(server) == "one None");
    project.ship(&["config", "get", "GREETING"]).exits(3).says("GREETING is not set");
    project.ship(&["config", "set", "PORT=80"]).exits(3);
    let traces = server.exec("journalctl --no-pager; cat /var/lib/ship/library/releases.jsonl; cat /var/lib/ship/library/apply/*/*");
    assert!(traces.contains("GREETING") && !traces.contains("hé 'l'"), "the value is in a log");
}

fn commands_run_in_the_release(project: &Project, server: &TestBox) {
    project.ship(&["run", "--", "sh", "-c", "exit 42"]).exits(42);
    project.ship(&["ssh", "--", "exit 7"]).exits(7);
    let whoami = "id -un; pwd; echo ${DATABASE_URL%%:*}; command -v python";
    let place = "library\n/srv/library/releases/v3\npostgres\n/srv/library/venvs/v3/bin/python\n";
    assert_eq!(project.ship(&["run", whoami]).exits(0).stdout, place);
    assert_eq!(
        project.ship(&["run", "printf", "%s|", "a b", "$HOME", "it's"]).exits(0).stdout,
        "a b|$HOME|it's|"
    );
    assert_eq!(project.ship(&["ssh", "--", "id -un"]).exits(0).stdout, "deploy\n");
    project.ship(&["manage", "check", "--database", "default"]).exits(0).says("no issues");
    project.ship(&["manage", "nonsense"]).exits(1).says("Unknown command");

    let mut cat = project.command(&["run", "sort"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"b\na\n").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"a\nb\n");

    let log = project.ship(&["logs", "--process", "worker"]).exits(0);
    assert!(log.stdout.contains("the worker is awake") && !log.stdout.contains("gunicorn"), "{}", log.stdout);
    project.ship(&["logs", "--process", "web"]).exits(0).says("Booting worker");
    project.ship(&["logs", "--process", "nginx"]).exits(0).says("GET /whoami/");
    project.ship(&["logs", "--process", "nobody"]).exits(3).says("worker");

    project.ship(&["status"]).exits(0).says("v3").says("library-worker@v3.service  active");
    let status = project.ship(&["status", "--json"]).exits(0).json();
    let result = &status.last().unwrap()["result"];
    assert_eq!((&result["current"], &result["address"]), (&3.into(), &server.host.as_str().into()));
    let units = result["units"].as_array().unwrap();
    assert!(units.len() >= 5 && units.iter().all(|unit| unit["active"] == true), "{units:?}");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn files_arrive_as_they_are_and_folders_of_the_site_stay() {
    let password = Sudo::Password("two words".into());
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).user("ann", password).boot();
    let project = Project::empty(&server, "ann");
    project.config("database: sqlite\ndjango: {root: back end}");
    in_a_subfolder(&project);
    project.commit("A site in a subfolder");
    let up = |password: &str| {
        let mut up = project.command(&["up", "--yes"]);
        Ran::of(up.env("SHIP_SUDO_PASSWORD", password))
    };
    up("wrong").exits(4).says("sudo");
    up("two words").exits(0).says("v1 serves");
    let manage = [
        "manage",
        "shell",
        "-c",
        "from django.contrib.auth.models import User; User.objects.create(username='bo')",
    ];
    Ran::of(project.command(&manage).env("SHIP_SUDO_PASSWORD", "two words")).exits(0);

    let check = |version: u32, greeting: &str| {
        assert_eq!(get(&server, "/").text(), format!("{greeting}, 1 user"));
        let style = format!("/* {greeting} */\n{RULES}");
        assert_eq!(get(&server, "/static/app.css").text(), style);
        let packed = get_with(&server, "/static/app.css", "Accept-Encoding: gzip\r\n");
        assert_eq!(packed.header("Content-Encoding"), "gzip");
        assert_eq!(unpacked(&packed.body), style);
        // Beforehand, not at each request; and nothing that has no need of it.
        assert_eq!(server.exec("cd /srv/library/static && find . -name '*.gz'"), "./app.css.gz\n");
        assert_eq!(server.exec("gzip -dc /srv/library/static/app.css.gz"), style);
        assert_eq!(get(&server, "/static/committed.css").text(), "/* in git */\n");
        assert_eq!(get(&server, "/media/committed.txt").text(), "in git\n");
        let found = server.exec(&format!(
            "cd '/srv/library/releases/v{version}' && find . -name __pycache__ -prune -o ! -type d -printf '%p %y%m %l\\n' | LC_ALL=C sort"
        ));
        assert_eq!(found, FILES);
        let text = server.exec("cat '/srv/library/current/back end/link to a page.txt'");
        assert_eq!(text, "påge\n");
    };
    check(1, "hej");
    server.exec("test -z \"$(find /srv/library/releases ! -user root -print -quit)\"");
    server.exec("runuser -u library -- sh -c 'echo uploaded >/srv/library/shared/media/later.txt'");

    project.replace("back end/mysite/urls.py", "hej", "hallo");
    project.replace("back end/assets/app.css", "hej", "hallo");
    up("two words").exits(0).says("v2 serves");
    check(2, "hallo");
    project.replace("back end/mysite/urls.py", "hallo", "hola");
    project.replace("back end/assets/app.css", "hallo", "hola");
    up("two words").exits(0).says("v3 serves");
    check(3, "hola");
    assert_eq!(get(&server, "/media/later.txt").text(), "uploaded\n");
    up("two words").exits(0).says("Nothing to change");
}

/// Enough of them to be worth packing.
const RULES: &str = include_str!("../examples/library/catalog/static/catalog/site.css");

fn unpacked(body: &[u8]) -> String {
    std::io::read_to_string(flate2::read::GzDecoder::new(body)).unwrap()
}

/// What of the project is in a release: kind and permissions, and where a link points. The shared folders are links.
const FILES: &str = r#"./-dash.txt f644 
./.gitignore f644 
./.shipignore f644 
./back end/assets/app.css f644 
./back end/it's a "$HOME" \ `id`.txt f644 
./back end/link to a page.txt l777 with space/påge.txt
./back end/manage.py f755 
./back end/media l777 /srv/library/shared/media
./back end/mysite/__init__.py f644 
./back end/mysite/settings.py f644 
./back end/mysite/urls.py f644 
./back end/mysite/wsgi.py f644 
./back end/requirements.txt f644 
./back end/staticfiles l777 /srv/library/static
./back end/with space/påge.txt f644 
./ship.yml f644 
"#;

/// A site with one page, whose files have all the names that files can have.
fn in_a_subfolder(project: &Project) {
    let settings = r#"
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = os.environ["ALLOWED_HOSTS"].split(",")
ROOT_URLCONF = "mysite.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.staticfiles"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ["DATABASE_URL"].removeprefix("sqlite:///"),
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL, STATIC_ROOT, STATICFILES_DIRS = "/static/", BASE_DIR / "staticfiles", [BASE_DIR / "assets"]
MEDIA_URL, MEDIA_ROOT = "/media/", BASE_DIR / "media"
"#;
    let urls = r#"
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse("hej, %s user" % User.objects.count()))]
"#;
    let environ = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'mysite.settings')\n";
    let wsgi = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n";
    let manage = "import sys\nfrom django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n";
    for (path, text) in [
        (".gitignore", "*.log\n/.ship/\n"),
        (".shipignore", "docs/\n"),
        ("-dash.txt", "-\n"),
        ("debug.log", "not for git\n"),
        ("docs/manual.txt", "not for the server\n"),
        ("back end/requirements.txt", "Django==5.2.19\n"),
        ("back end/manage.py", &format!("#!/usr/bin/env python\n{environ}{manage}")),
        ("back end/mysite/__init__.py", ""),
        ("back end/mysite/settings.py", settings),
        ("back end/mysite/urls.py", urls),
        ("back end/mysite/wsgi.py", &format!("{environ}{wsgi}")),
        ("back end/assets/app.css", &format!("/* hej */\n{RULES}")),
        ("back end/staticfiles/committed.css", "/* in git */\n"),
        ("back end/media/committed.txt", "in git\n"),
        ("back end/with space/påge.txt", "påge\n"),
        ("back end/it's a \"$HOME\" \\ `id`.txt", "\n"),
    ] {
        project.write(path, text);
    }
    std::os::unix::fs::symlink("with space/påge.txt", project.dir.join("back end/link to a page.txt"))
        .unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(project.dir.join("back end/manage.py"), executable).unwrap();
}
