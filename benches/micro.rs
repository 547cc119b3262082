//! How long the pure parts take on this computer: 1,000 resources read and planned, what a server lacks of 50,000 files,
//! and every template rendered. `cargo bench --no-default-features`.

#![allow(missing_docs, reason = "criterion's macros make functions without any")]
#![allow(clippy::unwrap_used, reason = "what fails here is a defect of the benchmark")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ship::assets::Assets;
use ship::config::{self, Defaults};
use ship::engine::Desired;
use ship::facts::Facts;
use ship::facts::host::Host;
use ship::facts::path::{PathFact, PathKind};
use ship::playbook::{self, Templates, Vars};
use ship::project;
use ship::release::Source;
use ship::resources::file::sha256;
use ship::resources::{self, Resource};
use ship::tree::{Entry, Kind, Tree};

/// A quarter each: files, folders, links, packages.
fn playbook_of_a_thousand() -> String {
    let mut text = String::new();
    for n in 0..250 {
        writeln!(text, "- file: /etc/bench/file-{n}.conf\n  content: \"{}\"", content(n)).unwrap();
        writeln!(text, "- directory: /srv/bench/folder-{n}").unwrap();
        writeln!(text, "- link: /srv/bench/link-{n}\n  to: /srv/bench/folder-{n}").unwrap();
        writeln!(text, "- package: [bench-{n}]").unwrap();
    }
    text
}

fn content(n: u32) -> String {
    format!("number = {n} {}", "and so on ".repeat(20))
}

/// A server on which all of that is as wished, but for the packages.
fn facts_of_a_thousand() -> Facts {
    let root =
        |kind, mode: &str| PathFact { kind, mode: mode.into(), owner: "root".into(), group: "root".into() };
    let mut paths = BTreeMap::new();
    for n in 0..250 {
        let file = PathKind::File { sha256: sha256(content(n).as_bytes()), content: None };
        paths.insert(format!("/etc/bench/file-{n}.conf"), root(file, "644"));
        paths.insert(format!("/srv/bench/folder-{n}"), root(PathKind::Directory, "755"));
        let link = PathKind::Link { to: format!("/srv/bench/folder-{n}") };
        paths.insert(format!("/srv/bench/link-{n}"), root(link, "777"));
    }
    Facts { paths, ..Facts::default() }
}

fn read(text: &str, templates: &Arc<Templates>) -> Vec<Box<dyn Resource>> {
    playbook::resources("bench.yml", text, &Vars::new(), templates).unwrap()
}

fn plan(resources: &[Box<dyn Resource>], facts: &Facts) -> usize {
    let mut changes = Vec::new();
    resources::diff_into(&mut changes, resources, facts).unwrap();
    resources::package::merge(changes, &[]).len()
}

fn resources(criterion: &mut Criterion) {
    let text = playbook_of_a_thousand();
    let templates = Arc::new(Templates::new([]).unwrap());
    let thousand = read(&text, &templates);
    assert_eq!(thousand.len(), 1000);
    let (bare, as_wished) = (Facts::default(), facts_of_a_thousand());
    // Packages are one change; the rest is there, or is a change each.
    assert_eq!((plan(&thousand, &bare), plan(&thousand, &as_wished)), (751, 1));
    criterion.bench_function("read 1,000 resources", |bencher| {
        bencher.iter(|| read(black_box(&text), &templates))
    });
    criterion.bench_function("plan 1,000 resources on a bare server", |bencher| {
        bencher.iter(|| plan(black_box(&thousand), &bare));
    });
    criterion.bench_function("plan 1,000 resources, most as wished", |bencher| {
        bencher.iter(|| plan(black_box(&thousand), &as_wished));
    });
}

/// 50,000 files in 500 folders; every `changed`th has other bytes.
fn entries(changed: usize) -> Vec<Entry> {
    let entry = |n: usize| {
        let version = if changed > 0 && n.is_multiple_of(changed) { "new" } else { "old" };
        Entry {
            path: format!("app_{}/folder/file_{n}.py", n % 500),
            kind: Kind::Plain,
            sha256: sha256(format!("{n} {version}").as_bytes()),
            size: 4000,
        }
    };
    (0..50_000).map(entry).collect()
}

fn manifest(criterion: &mut Criterion) {
    let old = Tree::new(entries(0));
    let new = Tree::new(entries(1000));
    assert_eq!(new.delta(old.manifest(), &[]).send.len(), 50);
    let unsorted = entries(1000);
    criterion.bench_function("list 50,000 files", |bencher| {
        bencher.iter_batched(|| unsorted.clone(), Tree::new, criterion::BatchSize::LargeInput);
    });
    criterion.bench_function("diff a manifest of 50,000 files", |bencher| {
        bencher.iter(|| black_box(&new).delta(old.manifest(), &[]));
    });
}

/// Two sites with all that templates exist for, and files that they are made to.
const SITES: [(&str, &[&str]); 2] = [
    (
        "
app: bench
server: {provider: ssh, host: web.example.com}
domains: [example.com, www.example.com]
database: postgres
services: {redis: on}
processes: {worker: celery -A shelf worker}
schedule: {nightly: {command: python manage.py clearsessions, at: daily}}
",
        &["redis", "bench-worker@.service", "bench-job-nightly.timer", "run-live", "502.html", "postgresql"],
    ),
    (
        "
app: bench
server: {provider: ssh, host: web.example.com}
domains: [example.com]
tls: self-signed
database: mysql
services: {memcached: on}
processes: {web: {command: daphne shelf.asgi:application}}
",
        &["memcached.conf", ".cnf", "ship_serve.py", "ship-default-tls.conf", ".mount", "ship-tls.conf"],
    ),
];

const FILES: [(&str, &str); 5] = [
    ("manage.py", "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shelf.settings')\n"),
    ("shelf/settings.py", "WSGI_APPLICATION = 'shelf.wsgi.application'\n"),
    ("shelf/wsgi.py", "application = None\n"),
    ("shelf/asgi.py", "application = None\n"),
    ("requirements.txt", "Django==5.2.19\ngunicorn==27.0.1\ncelery==5.5.3\nredis==6.4.0\ndaphne==4.2.1\n"),
];

fn desired(site: &str) -> Desired {
    let project = project::detect(&project::Tree::from_map(
        FILES.map(|(path, text)| (path.into(), text.into())).into(),
    ));
    let assets = Assets::load(Path::new("/nonexistent")).unwrap();
    let names: Vec<&str> = assets.playbook_names().collect();
    let defaults = Defaults { folder_name: "bench", playbooks: &names };
    let config = config::load("ship.yml", site, None, &project, &defaults).unwrap();
    let source = Source::without_code("ann@laptop".into());
    let mut desired = Desired::new(Path::new("/nonexistent"), config, source, assets).unwrap();
    desired.set_volume(Some("/dev/disk/by-id/bench".into()));
    desired
}

fn templates(criterion: &mut Criterion) {
    let assets = Assets::load(Path::new("/nonexistent")).unwrap();
    criterion.bench_function("read every template", |bencher| bencher.iter(|| assets.templates().unwrap()));
    let host = || Host {
        os: "debian".into(),
        os_version: "12".into(),
        os_name: "Debian GNU/Linux 12 (bookworm)".into(),
        arch: "x86_64".into(),
        cores: 2,
        memory_mb: 2048,
        free_mb: 20_000,
        disk_mb: 40_000,
        available_mb: 1800,
        python_candidate: Some("3.11".into()),
        ..Host::default()
    };
    let sites = SITES.map(|(site, made)| {
        let desired = desired(site);
        let plan = desired.plan_for_new(host()).unwrap().to_text(false);
        for file in made {
            assert!(plan.contains(file), "{file} is not in {plan}");
        }
        desired
    });
    criterion.bench_function(
        "plan two whole sites on bare servers, with every template of a site",
        |bencher| {
            bencher.iter(|| sites.each_ref().map(|desired| desired.plan_for_new(host()).unwrap()));
        },
    );
}

criterion_group!(micro, resources, manifest, templates);
criterion_main!(micro);
