//! Releases of every kind under constant load: no request fails, no post is lost or doubled.

use std::time::{Duration, Instant};

use super::load::{Load, Seen, add_form};
use super::{how_many, report};
use crate::boxes::TestBox;
use crate::support::{Project, wait_for};

/// A row of the report.
fn row(name: &str, times: usize, seen: &Seen, took: Duration) -> String {
    let ms = |share: f64| seen.quantile(share).as_millis();
    format!(
        "| {name} | {times} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
        seen.took.len(),
        seen.posted.len(),
        seen.failures.len(),
        seen.reopened,
        ms(0.5),
        ms(0.99),
        ms(1.0),
        took.as_secs_f64()
    )
}

const HEAD: &str = "\
| what happened | times | requests | of them POST | failed | idle connections closed | median ms | 99 % ms | slowest ms | s |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

/// What is done to the site while it is visited.
struct Phase<'a> {
    name: &'static str,
    times: usize,
    act: Box<dyn Fn(usize) + 'a>,
}

fn deploy_something(project: &Project, text: &str) {
    let template = "{% comment %}marker{% endcomment %}";
    project.write("templates/marker.html", &format!("{template}{text}"));
    project.up().says("serves");
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn releases_of_every_kind_under_load() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    add_form(&project);
    project.up().says("v1 serves");
    server.exec("apt-get -qq update");

    let mut rows = vec![HEAD.to_owned()];
    let began = Instant::now();
    let load = Load::start(&server, "baseline");
    let rest = Duration::from_secs(how_many(10, 60));
    wait_for("the baseline", 90, || began.elapsed() > rest);
    let baseline = load.stop();
    rows.push(row("nothing, for comparison", 0, &baseline, began.elapsed()));
    eprintln!("{}", rows.join("\n"));
    baseline.assert_whole(&server);

    let phases = [
        Phase {
            name: "redeploy",
            times: how_many(3, 20),
            act: Box::new(|time| deploy_something(&project, &format!("{time}"))),
        },
        Phase {
            name: "rollback",
            times: how_many(2, 5),
            act: Box::new(|time| {
                project.ship(&["rollback"]).exits(0).says("rollback to");
                deploy_something(&project, &format!("after rollback {time}"));
            }),
        },
        Phase {
            name: "config change",
            times: how_many(1, 5),
            act: Box::new(|time| {
                project.ship(&["config", "set", &format!("GREETING={time}")]).exits(0);
            }),
        },
        Phase {
            name: "change of nginx's site",
            times: how_many(1, 5),
            act: Box::new(|time| {
                project.config(&format!("upload_limit: {}", 20 + time));
                let up = project.up();
                assert!(up.stderr.contains("sites-available/library.conf"), "{}", up.stderr);
            }),
        },
        Phase {
            name: "package upgrade",
            times: 1,
            // What apt does to a package when a new version of it comes; the site itself runs on these.
            act: Box::new(|_| {
                server.exec(
                    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --reinstall \
                     python3.11 libpython3.11-stdlib openssl libc-bin 2>&1",
                );
                project.up().says("Nothing to change");
            }),
        },
    ];
    let mut broken = Vec::new();
    for phase in &phases {
        let began = Instant::now();
        let load = Load::start(&server, phase.name.split(' ').next().unwrap());
        load.wait_for_more(40);
        for time in 1..=phase.times {
            (phase.act)(time);
            load.wait_for_more(40);
        }
        let seen = load.stop();
        rows.push(row(phase.name, phase.times, &seen, began.elapsed()));
        eprintln!("{}", rows[rows.len() - 1]);
        // All of them are seen before the first failure ends the test.
        if !seen.failures.is_empty() {
            broken.push(format!("{}:\n{}", phase.name, seen.failures.join("\n")));
        } else {
            seen.assert_whole(&server);
        }
    }
    report("releases", &rows.join("\n"));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
