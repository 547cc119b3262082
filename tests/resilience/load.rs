//! Visitors at a constant rate, half of whom keep their connection and half of whom never do, and what they saw.
//!
//! Invariant: nothing is tried again. Whatever is not the whole page that was asked for counts as a failure.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::boxes::TestBox;
use crate::support::{Browser, Project, Response, Stop, wait_for};

/// Visitors of each kind.
const VISITORS: usize = 8;

/// How often each visitor asks for something.
const EVERY: Duration = Duration::from_millis(200);

/// A table that takes what is posted, each post once; doubled ones are not refused but counted.
const MODEL: &str = "

class Entry(models.Model):
    token = models.CharField(max_length=64)
";

const MIGRATION: &str = r#"from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0002_first_books")]
    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=64)),
            ],
        ),
    ]
"#;

const VIEW: &str = r#"

from catalog.models import Entry
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

@csrf_exempt
@require_POST
def entries(request):
    token = request.POST["token"]
    Entry.objects.create(token=token)
    return HttpResponse("wrote " + token)

urlpatterns.append(path("entries/", entries))
"#;

/// Gives the project a form that everybody may post to.
pub fn add_form(project: &Project) {
    let append = |path: &str, text: &str| {
        let old = std::fs::read_to_string(project.dir.join(path)).unwrap();
        project.write(path, &(old + text));
    };
    append("catalog/models.py", MODEL);
    append("locallibrary/urls.py", VIEW);
    project.write("catalog/migrations/0003_entry.py", MIGRATION);
}

/// What all visitors together saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How long each response took.
    pub took: Vec<Duration>,
    /// Posts that were answered, and those that weren't.
    pub posted: Vec<String>,
    /// What went wrong, and when.
    pub failures: Vec<String>,
    /// Connections that the server closed between two requests, as HTTP allows at any time.
    pub reopened: usize,
}

impl Seen {
    /// The response time that `share` of all responses stayed below.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(index).copied().unwrap_or_default()
    }

    /// Fails unless every request was answered, and every post is in the database exactly once.
    #[track_caller]
    pub fn assert_whole(&self, server: &TestBox) {
        let some: Vec<&str> = self.failures.iter().take(12).map(String::as_str).collect();
        assert!(
            some.is_empty(),
            "{} of {} requests failed:\n{}",
            self.failures.len(),
            self.took.len(),
            some.join("\n")
        );
        let rows = entries(server);
        let wrong = |token: &&String| rows.get(*token) != Some(&1);
        let wrong: Vec<&String> = self.posted.iter().filter(wrong).collect();
        assert!(wrong.is_empty(), "lost or doubled posts: {wrong:?}");
        assert!(self.posted.len() > 10, "{} posts are no load", self.posted.len());
    }
}

/// What is in the database: how often each post.
pub fn entries(server: &TestBox) -> BTreeMap<String, usize> {
    let query = "select token, count(*) from catalog_entry group by token";
    let rows = server.exec(&format!("cd /; runuser -u postgres -- psql -AtF ' ' -c '{query}' library"));
    let row = |line: &str| {
        let (token, count) = line.split_once(' ').expect("two columns");
        (token.to_owned(), count.parse().expect("a count"))
    };
    rows.lines().map(row).collect()
}

/// The visitors at work.
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: Stop,
    visitors: Vec<JoinHandle<()>>,
}

impl Load {
    /// Sends them all to the site. `name` makes their posts unique in the database.
    pub fn start(server: &TestBox, name: &str) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Stop::default());
        let began = Instant::now();
        let visit = |index: usize| {
            let mut visitor = Visitor {
                host: server.host.clone(),
                name: format!("{name}-{index}"),
                keeps: index.is_multiple_of(2),
                open: None,
                seen: Arc::clone(&seen),
                began,
            };
            let stop = stop.told();
            let phase = EVERY * u32::try_from(index).unwrap() / u32::try_from(2 * VISITORS).unwrap();
            std::thread::spawn(move || {
                let mut due = began + phase;
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // A rate, not a wait for something to happen.
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    visitor.take_turn(turn);
                    due = (due + EVERY).max(Instant::now());
                }
            })
        };
        let visitors = (0..2 * VISITORS).map(visit).collect();
        Self { seen, stop, visitors }
    }

    /// Waits until this many more requests were answered.
    pub fn wait_for_more(&self, requests: usize) {
        let count = || self.seen.lock().unwrap().took.len();
        let enough = count() + requests;
        wait_for("requests to be answered", 120, || count() >= enough);
    }

    /// Sends them home; returns what they saw.
    pub fn stop(self) -> Seen {
        self.stop.tell();
        for visitor in self.visitors {
            visitor.join().expect("a visitor");
        }
        let seen = self.seen.lock().unwrap();
        seen.clone()
    }
}

struct Visitor {
    host: String,
    name: String,
    keeps: bool,
    open: Option<Browser>,
    seen: Arc<Mutex<Seen>>,
    began: Instant,
}

/// Pages, and what only the whole of each contains.
const PAGES: [(&str, &str, &str); 4] = [
    ("/", "What would you like to read?", "</html>"),
    ("/books/", "Emma", "</html>"),
    ("/books/1/", "<h1", "</html>"),
    ("/static/catalog/site.css", "{", "}"),
];

impl Visitor {
    fn take_turn(&mut self, turn: usize) {
        let began = Instant::now();
        let post = turn % 4 == 1;
        let token = format!("{}-{turn}", self.name);
        let (what, wrong) = if post {
            let form = format!("token={token}");
            let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
            let answer = self.ask("POST", "/entries/", headers, form.as_bytes());
            let right = |page: &Response| page.status == 200 && page.text() == format!("wrote {token}");
            (format!("POST {token}"), wrong(answer, right))
        } else {
            let (path, has, end) = PAGES[(turn + self.name.len()) % PAGES.len()];
            let answer = self.ask("GET", path, "", b"");
            let right = |page: &Response| {
                let text = page.text();
                page.status == 200 && text.contains(has) && text.trim_end().ends_with(end)
            };
            (format!("GET {path}"), wrong(answer, right))
        };
        let mut seen = self.seen.lock().unwrap();
        seen.took.push(began.elapsed());
        if post {
            seen.posted.push(token);
        }
        if let Some(wrong) = wrong {
            let kept = if self.keeps { "kept" } else { "new" };
            let at = self.began.elapsed().as_secs_f64();
            let took = began.elapsed().as_millis();
            seen.failures.push(format!("{at:.3} s: {what} on a {kept} connection after {took} ms: {wrong}"));
            drop(seen);
            self.open = None;
        }
    }

    fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<Response> {
        let kept = self.open.take().filter(|browser| {
            let there = !browser.is_closed();
            self.seen.lock().unwrap().reopened += usize::from(!there);
            there
        });
        let mut browser = match kept {
            Some(browser) => browser,
            None => Browser::open(&self.host)?,
        };
        let connection = if self.keeps { "" } else { "Connection: close\r\n" };
        let page = browser.request(method, path, &format!("{headers}{connection}"), body)?;
        if self.keeps && page.header("Connection") != "close" {
            self.open = Some(browser);
        }
        Ok(page)
    }
}

/// What is wrong with an answer, if anything is.
fn wrong(answer: std::io::Result<Response>, right: impl Fn(&Response) -> bool) -> Option<String> {
    match answer {
        Err(error) => Some(format!("{error} ({:?})", error.kind())),
        Ok(page) if right(&page) => None,
        Ok(page) => Some(format!("{}: {}", page.status, page.text().chars().take(200).collect::<String>())),
    }
}
