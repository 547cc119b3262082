//! The user's story on real servers: the first `ship up`, the ones after it, and what a site is operated with.
//!
//! Each test is a chapter on a box of its own, since a first deploy is what costs time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use crate::boxes::{SshdCounts, TestBox};
use crate::support::{Browser, Project, Response, get, get_with, wait_for};

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
    let project = Project::new(&server);
    project.config("keep: 2");
    project.up().says("v1 serves");
    let cover = upload_cover(&project, &server);
    assert_eq!(books_on_page(&get(&server, "/books/")), 8);

    let before = machine(&server);
    project.replace("catalog/views.py", "paginate_by = 8", "paginate_by = 3");
    let plan =
        project.ship(&["plan"]).exits(2).says("upload v2").says("catalog/views.py changed").says("1 file");
    assert!(!plan.stdout.contains("package") && !plan.stdout.contains("/etc/"), "{}", plan.stdout);
    let bytes = traffic(&server);
    project.up().says("v2 serves");
    let bytes = traffic(&server) - bytes;
    assert!(bytes < 40_000, "{bytes} bytes for one line");
    assert_eq!(books_on_page(&get(&server, "/books/")), 3);
    assert_eq!(machine(&server), before, "apt, PostgreSQL and nginx were left alone");
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
    project.ship(&["plan"]).exits(0);
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
    stop: Arc<AtomicBool>,
    visitors: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(server: &TestBox) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let visit = |keep: bool| {
            let (host, seen, stop) = (server.host.clone(), Arc::clone(&seen), Arc::clone(&stop));
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
        self.stop.store(true, Ordering::Relaxed);
        for visitor in self.visitors {
            visitor.join().expect("every request is answered with 200");
        }
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}
