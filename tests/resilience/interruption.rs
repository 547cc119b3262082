//! A deploy is broken off at a random point in every way that it can be; one `ship up` later all is as if it had not.
//!
//! Every case prints its seed. `SHIP_SEED=N` with the test's name replays one.

use std::process::Child;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::load::{add_form, entries};
use super::state;
use super::{how_many, report};
use crate::boxes::TestBox;
use crate::support::{Browser, Project, Ran, get, wait_for};

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `kill -9` of ship.
    Laptop,
    /// Packets are dropped both ways, for a while.
    Network,
    /// `kill -9` of the step that runs, or of all of its unit.
    Step,
    /// Power loss of the server.
    Power,
}

/// A random point, and what happens there; all of it follows from the seed.
#[derive(Debug, Clone, Copy)]
struct Point {
    #[allow(dead_code, reason = "printed")]
    seed: u64,
    /// How far into the deploy, 0 to 1: of its time or of its steps.
    part: f64,
    by_time: bool,
    /// Into the step.
    later: Duration,
    cut_for: Duration,
    whole_unit: bool,
}

impl Point {
    fn of(seed: u64) -> Self {
        let mut state = seed;
        let mut below = |limit: u64| {
            // splitmix64
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % limit
        };
        Self {
            seed,
            part: below(1000) as f64 / 1000.0,
            by_time: below(2) == 0,
            later: Duration::from_millis(below(300)),
            cut_for: Duration::from_millis(500 + below(12_000)),
            whole_unit: below(2) == 0,
        }
    }
}

/// The seeds of a test: one to replay, or new ones.
fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("SHIP_SEED") {
        return vec![seed.parse().expect("SHIP_SEED is a number")];
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = u64::from(now.subsec_nanos()) % 1_000_000 + std::process::id() as u64 * 1_000_000;
    (0..how_many(2, 25)).map(|index| first + index * 7919).collect()
}

/// An undisturbed deploy: how long it takes, in how many steps, and what it comes to.
#[derive(Debug)]
struct Reference {
    took: Duration,
    steps: usize,
    state: Vec<String>,
}

fn mark(server: &TestBox) {
    server.exec("touch /run/mark");
}

/// Number of steps that were begun since the mark.
fn steps(server: &TestBox) -> usize {
    let count = server.exec_status(
        "find /var/lib/ship/library/apply -name journal -newer /run/mark -exec grep -ahE '^.[0-9]+\tstart ' {} + | wc -l",
    );
    String::from_utf8_lossy(&count.stdout).trim().parse().unwrap_or(0)
}

fn undisturbed(server: &TestBox, project: &Project) -> Reference {
    mark(server);
    let began = Instant::now();
    project.up().says("serves");
    let took = began.elapsed();
    let steps = steps(server);
    drained(server);
    Reference { took, steps, state: state::of(server) }
}

/// The old release's instance is given the time it may take to end.
fn drained(server: &TestBox) {
    wait_for("the old instance to end", 60, || {
        let units =
            server.exec("systemctl list-units --plain --no-legend 'library@*' | grep -c service || true");
        units.trim() == "1"
    });
}

/// Breaks a deploy that has just begun; returns how ship ended, if it could.
fn break_off(server: &TestBox, mut ship: Child, fault: Fault, point: Point, reference: &Reference) -> Ran {
    let began = Instant::now();
    let mut over = || ship.try_wait().unwrap().is_some();
    if point.by_time {
        let moment = reference.took.mul_f64(point.part);
        wait_for("the moment", 600, || began.elapsed() >= moment || over());
    } else {
        let wanted = (reference.steps as f64 * point.part) as usize;
        wait_for("the step", 600, || steps(server) >= wanted || over());
        let reached = Instant::now();
        wait_for("the moment", 5, || reached.elapsed() >= point.later || over());
    }
    match fault {
        Fault::Laptop => ship.kill().unwrap(),
        Fault::Network => {
            server.cut();
            let cut = Instant::now();
            wait_for("the end of the cut", 60, || cut.elapsed() >= point.cut_for);
            server.heal();
        }
        Fault::Step => {
            let kill = match point.whole_unit {
                true => "systemctl kill -s KILL 'ship-library-*.service'",
                false => {
                    "for unit in $(systemctl list-units --plain --no-legend 'ship-library-*' | cut -d' ' -f1); do
                       pkill -KILL -P $(systemctl show -p MainPID --value $unit)
                     done"
                }
            };
            server.exec_status(kill);
        }
        Fault::Power => {
            server.kill();
            ship.kill().unwrap();
        }
    }
    let ran = Ran::finished(ship);
    if fault == Fault::Power {
        server.start();
    }
    ran
}

/// One `ship up` must bring about what an undisturbed deploy does.
fn recovered(server: &TestBox, project: &Project, reference: &Reference, what: &str, broken: &Ran) {
    let up = project.ship(&["up", "--yes"]);
    assert_eq!(up.code, 0, "{what}: `ship up` after it:\n{}\nbroken off:\n{}", up.stderr, broken.stderr);
    drained(server);
    let found = state::of(server);
    let difference = state::difference(&reference.state, &found);
    assert_eq!(difference, "", "{what}: another state\nbroken off:\n{}\nthen:\n{}", broken.stderr, up.stderr);
    project.ship(&["plan"]).exits(0);
}

fn first_deploys(fault: Fault) {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    let fresh = || {
        let server = TestBox::builder().packages(true).boot();
        let project = Project::new(&server);
        add_form(&project);
        (server, project)
    };
    let reference = REFERENCE.get_or_init(|| {
        let (server, project) = fresh();
        undisturbed(&server, &project)
    });
    let began = Instant::now();
    let seeds = seeds();
    for seed in &seeds {
        let point = Point::of(*seed);
        let what = format!("first deploy, {fault:?}, {point:?}");
        eprintln!("{what}");
        let (server, project) = fresh();
        mark(&server);
        let broken = break_off(&server, project.start_up(), fault, point, reference);
        eprintln!("  ship ended with {}", broken.code);
        recovered(&server, &project, reference, &what, &broken);
        assert_eq!(get(&server, "/").status, 200, "{what}");
    }
    tell("first", fault, &seeds, began.elapsed());
}

fn redeploys(fault: Fault) {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    project.config("keep: 2");
    add_form(&project);
    project.up().says("v1 serves");
    // Two migrations take turns, so that each deploy changes the schema and every second one is alike.
    let change = |round: usize| {
        project.write("templates/marker.html", &format!("round {round}"));
        let sql =
            if round % 2 == 1 { "create table toggle (id bigint primary key)" } else { "drop table toggle" };
        let before = match round {
            1 => "0003_entry".to_owned(),
            round => format!("{:04}_toggle", 2 + round),
        };
        project.write(
            &format!("catalog/migrations/{:04}_toggle.py", 3 + round),
            &format!(
                "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    \
                 dependencies = [(\"catalog\", \"{before}\")]\n    operations = [migrations.RunSQL(\"{sql}\")]\n"
            ),
        );
    };
    let references = [1, 2].map(|round| {
        change(round);
        undisturbed(&server, &project)
    });
    let began = Instant::now();
    let seeds = seeds();
    for (index, seed) in seeds.iter().enumerate() {
        let round = index + 3;
        let reference = &references[(round + 1) % 2];
        let point = Point::of(*seed);
        let what = format!("redeploy {round}, {fault:?}, {point:?}");
        eprintln!("{what}");
        change(round);
        let token = format!("before-{seed}");
        post(&server, &token);
        let rows = entries(&server);
        assert_eq!(rows.get(&token), Some(&1));
        mark(&server);
        let broken = break_off(&server, project.start_up(), fault, point, reference);
        eprintln!("  ship ended with {}", broken.code);
        if fault != Fault::Power {
            assert_eq!(get(&server, "/").status, 200, "{what}: the site is down\n{}", broken.stderr);
        }
        recovered(&server, &project, reference, &what, &broken);
        assert_eq!(get(&server, "/").status, 200, "{what}");
        assert_eq!(entries(&server), rows, "{what}: rows were lost or doubled");
        let applied = server.exec(
            "cd /; runuser -u postgres -- psql -Atc \"select count(*), count(distinct name) from django_migrations
             where app = 'catalog'\" library",
        );
        assert_eq!(applied.trim(), format!("{0}|{0}", 3 + round), "{what}: migrations");
    }
    tell("redeploy", fault, &seeds, began.elapsed());
}

fn post(server: &TestBox, token: &str) {
    let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
    let mut browser = Browser::open(&server.host).unwrap();
    let answer = browser.request("POST", "/entries/", headers, format!("token={token}").as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn tell(situation: &str, fault: Fault, seeds: &[u64], took: Duration) {
    let seeds = seeds.iter().map(u64::to_string).collect::<Vec<_>>();
    report(
        &format!("interruption-{situation}-{fault:?}"),
        &format!(
            "| {situation} | {fault:?} | {0} | {0} | {1:.0} | {2} |",
            seeds.len(),
            took.as_secs_f64(),
            seeds.join(" ")
        ),
    );
}

macro_rules! cases {
    ($($name:ident: $what:ident($fault:ident),)*) => { $(
        #[test]
        #[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
        fn $name() {
            $what(Fault::$fault);
        }
    )* };
}

cases! {
    a_first_deploy_survives_the_death_of_ship: first_deploys(Laptop),
    a_first_deploy_survives_the_loss_of_the_network: first_deploys(Network),
    a_first_deploy_survives_the_death_of_its_step: first_deploys(Step),
    a_first_deploy_survives_a_power_loss: first_deploys(Power),
    a_redeploy_survives_the_death_of_ship: redeploys(Laptop),
    a_redeploy_survives_the_loss_of_the_network: redeploys(Network),
    a_redeploy_survives_the_death_of_its_step: redeploys(Step),
    a_redeploy_survives_a_power_loss: redeploys(Power),
}
