//! Whether a release is due, and why, as data.

use std::collections::BTreeMap;

use super::*;
use crate::assets::Assets;
use crate::config::{self, Defaults};
use crate::facts::app::Failed;
use crate::facts::host::Host;
use crate::project;
use crate::tree::{Entry, Kind};
use minijinja::Value;

const FILES: [(&str, &str); 4] = [
    ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\nimport django\n"),
    ("mysite/settings.py", "WSGI_APPLICATION = 'mysite.wsgi.application'\n"),
    ("mysite/wsgi.py", ""),
    ("requirements.txt", "Django==5.2.8\ngunicorn\npsycopg[binary]\n"),
];

/// What one requirements file brings.
fn packages(text: &str) -> Packages {
    let files = project::Dependencies::requirements(vec!["requirements.txt".into()]);
    Packages::read(&files, vec![("requirements.txt".into(), text.into())]).unwrap()
}

/// A configuration with these lines, of a project like any other.
pub(crate) fn config(lines: &str) -> Config {
    Case::new(lines).config
}

struct Case {
    config: Config,
    source: Source,
    templates: Templates,
    vars: Vars,
    facts: Facts,
}

impl Case {
    fn new(yaml: &str) -> Self {
        let files: BTreeMap<String, String> = FILES
            .iter()
            .map(|(path, text)| (path.to_string(), text.replace("site.settings", "mysite.settings")))
            .collect();
        let project = project::detect(&project::Tree::from_map(files.clone()));
        let text = format!("app: site\nserver: {{provider: ssh, host: h}}\n{yaml}");
        let config = config::load(
            "ship.yml",
            &text,
            None,
            &project,
            &Defaults { folder_name: "site", playbooks: &[] },
        )
        .unwrap();
        let mut vars = super::processes::vars(&config);
        vars.extend(Vars::from([
            ("app".into(), Value::from("site")),
            ("user".into(), Value::from("site")),
            ("home".into(), Value::from("/srv/site")),
            ("port".into(), Value::from(8000)),
            ("database".into(), Value::from("postgres")),
            ("plain_env".into(), Value::from(Vec::<Value>::new())),
            ("web_workers".into(), Value::from(2)),
            ("timeout_s".into(), Value::from(30)),
            ("start_timeout_s".into(), Value::from(60)),
            ("django_root".into(), Value::from("")),
        ]));
        let host = Host {
            os: "debian".into(),
            os_version: "12".into(),
            os_name: "Debian GNU/Linux 12".into(),
            cores: 1,
            memory_mb: 1000,
            free_mb: 9000,
            python: Some("3.11.2".into()),
            ..Host::default()
        };
        let mut case = Self {
            config,
            source: Source {
                packages: packages(FILES[3].1),
                commit: Some("0123456789".into()),
                ..Source::without_code("me@laptop".into())
            },
            templates: Assets::load(std::path::Path::new("/nonexistent")).unwrap().templates().unwrap(),
            vars,
            facts: Facts { host, ..Facts::default() },
        };
        case.edit("mysite/views.py", "one");
        case
    }

    /// The local tree with one file that says this.
    fn edit(&mut self, path: &str, text: &str) {
        let entry = |path: &str, text: &str| Entry {
            path: path.into(),
            kind: Kind::Plain,
            sha256: sha256(text.as_bytes()),
            size: text.len() as u64,
        };
        let mut entries: Vec<Entry> = FILES.iter().map(|(path, text)| entry(path, text)).collect();
        entries.push(entry(path, text));
        self.source.tree = Tree::new(entries);
    }

    fn context(&self) -> Context<'_> {
        Context {
            config: &self.config,
            source: &self.source,
            templates: &self.templates,
            vars: &self.vars,
            https: false,
            https_soon: false,
        }
    }

    fn manifest(&self) -> String {
        let delta = self.source.tree.delta("", &[]);
        delta.added
    }

    /// As if everything of now were live as v1.
    fn deployed(mut self) -> Self {
        let python = python::choose(&self.config.python, &self.source.packages, &self.facts.host).unwrap();
        let venv = venv::hash(&self.config, &self.source, &python);
        let plain = self.templates.render("django/plain.env.j2", &self.vars, None).unwrap();
        let parts = BTreeMap::from([(PLAIN_ENV.to_string(), sha256(plain.as_bytes()))]);
        let build = Build {
            tree: Some(self.source.tree.digest().into()),
            venv: Some(venv.clone()),
            config: parts.clone(),
            recipe: Some(recipe(&self.context(), &self.facts).unwrap()),
            answer: Some(Layout::usual().line()),
            ..Build::default()
        };
        self.facts.app.builds.insert(1, build);
        self.facts.app.current = Some(1);
        self.facts.app.releases.push(Record { number: 1, ..code_record(&self.source) });
        self.facts.app.venvs.insert(venv);
        self.facts.app.config = parts;
        let instance = crate::facts::app::Instance { state: "active".into(), ..Default::default() };
        self.facts.app.active.insert("site@v1.service".into(), instance);
        self.facts.app.enabled.insert("site@v1.service".into());
        let socket =
            crate::facts::unit::Unit { active: true, file_state: "enabled".into(), ..Default::default() };
        self.facts.units.insert("site.socket".into(), socket);
        self
    }

    /// The first half of the plan, a line a change; or the error.
    fn plan(&self) -> String {
        match plan(&self.context(), &self.facts, &[]) {
            Ok((changes, _)) => crate::plan::Plan { changes }.to_text(true),
            Err(error) => format!("error: {error}"),
        }
    }
}

#[test]
fn a_first_release_brings_everything() {
    insta::assert_snapshot!(Case::new("").plan(), @r"
    > upload v1                                            first release; 5 files, 166 B
    > install Python packages                              Python 3.11, requirements.txt
    > prepare v1
    > preflight v1                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
}

#[test]
fn packages_that_anyone_may_have_are_installed_beside_those_of_the_server() {
    let early = |text: &str| {
        let mut case = Case::new("env: {TOKEN: secret}");
        case.source.packages = packages(text);
        let (changes, _) = plan(&case.context(), &case.facts, &[]).unwrap();
        let mut early: Vec<Script> = changes.into_iter().filter_map(|change| change.early).collect();
        early.pop()
    };
    let script = early("Django==5.2.8\npsycopg[binary]\n").unwrap();
    for line in [
        "export UV_NO_BUILD=1",
        "timeout 600 runuser -u \"$app-build\" -- sh -eu <<'SHIP_END_'",
        "Django==5.2.8",
        "install -r requirements.txt",
        "install gunicorn",
    ] {
        assert!(script.text().lines().any(|own| own == line), "{line}: {}", script.text());
    }
    // What is built, comes from elsewhere or takes a password has its turn when everything is there.
    for text in [
        "Django\n-e .\n",
        "Django\nthing @ git+https://example.com/thing\n",
        "--index-url https://user:${TOKEN}@example.com/simple\nDjango\n",
    ] {
        assert_eq!(early(text), None, "{text}");
    }
}

#[test]
fn nothing_is_due_when_nothing_changed() {
    assert_eq!(Case::new("").deployed().plan(), "");
}

#[test]
fn a_changed_file_is_a_release_that_sends_it_alone() {
    let mut case = Case::new("").deployed();
    case.facts.app.manifest = Some(case.manifest());
    case.edit("mysite/views.py", "two");
    insta::assert_snapshot!(case.plan(), @r"
    > upload v2                                            mysite/views.py changed; 1 file, 3 B
        ~ mysite/views.py
    > prepare v2
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
}

#[test]
fn other_requirements_are_another_virtual_environment() {
    let mut case = Case::new("").deployed();
    case.source.packages = packages(&format!("{}Pillow\n", FILES[3].1));
    insta::assert_snapshot!(case.plan(), @r"
    > upload v2                                            requirements changed
    > install Python packages                              Python 3.11, requirements.txt
    > prepare v2
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
}

#[test]
fn another_environment_is_a_release() {
    let mut case = Case::new("").deployed();
    case.facts.app.config.insert(secret_file("TOKEN"), "new".into());
    insta::assert_snapshot!(case.plan(), @r"
    > upload v2                                            config changed: TOKEN
    > prepare v2
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
}

#[test]
fn an_interrupted_release_is_finished_under_its_number() {
    let mut case = Case::new("").deployed();
    case.edit("mysite/views.py", "two");
    let tree = Some(case.source.tree.digest().to_string());
    case.facts.app.builds.insert(2, Build { tree, ..Build::default() });
    insta::assert_snapshot!(case.plan(), @r"
    > prepare v2                                           finishing an interrupted one
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
    assert_eq!(plan(&case.context(), &case.facts, &[]).unwrap().1.unwrap().number, 2);
}

#[test]
fn what_failed_is_tried_again_under_its_number_and_what_went_bad_is_not() {
    let mut case = Case::new("").deployed();
    case.edit("mysite/views.py", "two");
    let tree = Some(case.source.tree.digest().to_string());
    let failed = |bad| Some(Failed { bad, at: "t".into(), reason: "switch: GET / answered 500".into() });
    case.facts.app.builds.insert(2, Build { tree: tree.clone(), failed: failed(false), ..Build::default() });
    insta::assert_snapshot!(case.plan(), @r"
    > prepare v2                                           trying again what failed: switch: GET / answered 500
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
    case.facts.app.builds.insert(2, Build { tree, failed: failed(true), ..Build::default() });
    insta::assert_snapshot!(case.plan(), @r"
    > upload v3
    > prepare v3
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    ");
    // Other files are another release, whatever became of the last.
    case.facts.app.builds.get_mut(&2).unwrap().failed = failed(false);
    case.edit("mysite/views.py", "three");
    assert_eq!(plan(&case.context(), &case.facts, &[]).unwrap().1.unwrap().number, 3);
    // And the files of the live one are none.
    case.edit("mysite/views.py", "one");
    assert_eq!(case.plan(), "");
}

#[test]
fn a_stopped_instance_is_started_again() {
    let mut case = Case::new("").deployed();
    case.facts.app.active.clear();
    case.facts.units.clear();
    insta::assert_snapshot!(case.plan(), @r"
    > start site.socket                                    is not running
    ~ unit site.socket                                     does not start at boot
    > start site@v1.service                                is not running
    ");
}

#[test]
fn another_release_on_the_socket_is_stopped_and_a_missing_record_made_up_for() {
    let mut case = Case::new("").deployed();
    let instance = crate::facts::app::Instance { state: "active".into(), ..Default::default() };
    case.facts.app.active.insert("site@v9.service".into(), instance.clone());
    case.facts.app.active.insert("site-other@v1.service".into(), instance);
    case.facts.app.enabled.insert("site@v9.service".into());
    case.facts.app.releases.clear();
    insta::assert_snapshot!(case.plan(), @r"
    ~ unit site@v9.service                                 starts at boot, and is not the live release
    - stop site@v9.service                                 is not the live release
    > check v1                                             it was never seen healthy
    > record v1
    ");
}

#[test]
fn units_put_back_by_the_same_plan_are_restarted() {
    let case = Case::new("").deployed();
    let file =
        Change::new(ResourceId::new("file", "/etc/systemd/system/site@.service"), Action::Update, "", vec![]);
    let (changes, _) = plan(&case.context(), &case.facts, &[file]).unwrap();
    insta::assert_snapshot!(crate::plan::Plan { changes }.to_text(true), @r"
      > restart site@v1.service                              /etc/systemd/system/site@.service changed
    ");
}

#[test]
fn a_timer_goes_before_what_it_starts() {
    let job_units = ["a", "kept"].iter().flat_map(|name| processes::job_units("site", name)).collect();
    let app = App { job_units, ..App::default() };
    let config = config("schedule: {kept: {command: \"true\", at: hourly}}");
    let removed: Vec<String> =
        processes::removed_jobs(&config, &app).into_iter().map(|change| change.id.name).collect();
    assert_eq!(removed, ["/etc/systemd/system/site-job-a.timer", "/etc/systemd/system/site-job-a.service"]);
}

#[test]
fn what_cannot_work_is_said_before_anything_is_done() {
    insta::assert_snapshot!(Case::new("secrets: [TOKEN]").plan(), @r"
    error: secrets are not set: TOKEN
    ");
    insta::assert_snapshot!(Case::new("python: \"3.7\"").plan(), @"error: the project wants Python 3.7 (ship.yml), and Debian GNU/Linux 12 has 3.11.2");
    let mut full = Case::new("");
    full.facts.host.free_mb = 50;
    insta::assert_snapshot!(full.plan(), @r"
    error: the server has 50 MiB free and this release needs about 764 MiB
    ");
    full.facts.host.free_mb = 9000;
    full.facts.host.free_inodes = Some(900);
    insta::assert_snapshot!(full.plan(), @r"
    error: the server's disk has room for 900 more files and this release needs about 33015
    ");
}

#[test]
fn packages_that_a_server_needs_are_added_once() {
    let config = Case::new("").config;
    for (text, extra) in [
        (FILES[3].1, &[][..]),
        ("Django\n", &["gunicorn", "psycopg[binary]"]),
        ("Gunicorn>=20\npsycopg2-binary==2.9.9\n", &[]),
        ("gunicorn\nDjango==3.2.25\n", &["psycopg2-binary"]),
        ("gunicorn\nDjango==2.2.28\n", &["psycopg2-binary<2.9"]),
    ] {
        assert_eq!(venv::extra_packages(&config, &packages(text)), extra, "{text}");
    }
    let config = Case::new("database: mysql").config;
    for (text, extra) in [
        ("Django\n", &["gunicorn", "mysqlclient"][..]),
        ("gunicorn\nmysqlclient\n", &[]),
        ("gunicorn\nPyMySQL==1.1.0\n", &[]),
    ] {
        assert_eq!(venv::extra_packages(&config, &packages(text)), extra, "{text}");
    }
}

#[test]
fn what_must_be_alone_makes_room() {
    let starts = |yaml: &str| {
        let case = Case::new(yaml).deployed();
        let release = Release { number: 2, upload: None };
        let changes = finish(&case.context(), &case.facts, &release, &[]).unwrap();
        let switch = changes.iter().find(|change| change.id.name.starts_with("switch")).unwrap();
        let crate::plan::Step::Run(script) = &switch.steps[0] else { panic!("not a script") };
        let words =
            ["start ", "make_room ", "watch ", "if ! systemctl -q is-active", "if systemctl -q is-active"];
        let lines = script.text().lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
        let lines: Vec<String> = lines.map(|line| format!("  {line}\n")).collect();
        format!("{yaml}\n  ({})\n{}", switch.why, lines.concat())
    };
    let said = starts("processes: {clock: python clock.py, worker: python work.py}")
        + &starts("processes: {web: {server: waitress}, worker: python work.py}");
    insta::assert_snapshot!(said, @r#"
    processes: {clock: python clock.py, worker: python work.py}
      (v1 serves until v2 is seen healthy)
      start site-worker@v2.service
      make_room site-clock
      start site-clock@v2.service
      watch site-clock@v2.service 5
      watch site-worker@v2.service 5
      if ! systemctl -q is-active "$app.socket"; then make_room "$app"; systemctl start "$app.socket"; fi
      start site@v2.service
    processes: {web: {server: waitress}, worker: python work.py}
      (waitress can't take over a socket: v1 ends first, and requests fail for some seconds until v2 listens)
      start site-worker@v2.service
      watch site-worker@v2.service 5
      make_room "$app"
      if systemctl -q is-active "$app.socket"; then closed=1; systemctl stop "$app.socket"; fi
      start site@v2.service
    "#);
}

#[test]
fn the_switch_starts_the_new_before_it_stops_the_old() {
    let case = Case::new("processes: {worker: python manage.py work}").deployed();
    let release = Release { number: 2, upload: None };
    let changes = finish(&case.context(), &case.facts, &release, &[]).unwrap();
    let switch = changes.iter().find(|change| change.id.name == "switch to v2").unwrap();
    let crate::plan::Step::Run(script) = &switch.steps[0] else { panic!("not a script") };
    let text = without_heredocs(script.text());
    // The recipe's digest changes with every template.
    let text = text.replace(&recipe(&case.context(), &case.facts).unwrap(), "RECIPE");
    let (_, from_the_start) = text.split_once("\nstart site-worker").unwrap();
    insta::assert_snapshot!(format!("start site-worker{from_the_start}"), @r#"
    start site-worker@v2.service
    since=$(uptime_s)
    watch site-worker@v2.service 5
    if ! systemctl -q is-active "$app.socket"; then make_room "$app"; systemctl start "$app.socket"; fi
    start site@v2.service
    put_back() { :; }
    rm -rf "/run/ship/$app"
    old=$(readlink "$top/current" 2>/dev/null || true); old=${old##*/}
    case " $stopped " in
      *" $app@$old.service "*) ;;
      *) [ "$old" != "$n" ] && [ -n "$old" ] && systemctl -q is-active "$app@$old.service" || old= ;;
    esac
    sick=
    healthy || sick=1
    rm -rf "$ask"
    if [ -n "$sick" ]; then
      bad=bad
      echo "$n's last lines:"
      journalctl -q -o cat -n 20 -u "$app@$n.service" --since "$began" 2>/dev/null || true
      if [ -n "$old" ]; then
        put_back || true
        echo "ship-hint: $n was taken back"
        give_up
      fi
      echo "ship-hint: there is nothing to return to, so $n is left running"
    fi
    set_live "$n"
    ln -sfn "releases/$n" "$top/.current.new" && mv -fT "$top/.current.new" "$top/current"
    recipe=RECIPE
    printf '%s\n' "$recipe" >"$state/recipe"
    reading=/run/ship.reading-units
    systemctl enable --quiet --no-reload "$@"
    keep=" $* "
    # Every other instance of this application drains; those of removed processes, too.
    others=$( { systemctl list-units --all --plain --no-legend "$app@*.service" "$app-*@*.service" | cut -d' ' -f1
      cd /etc/systemd/system/multi-user.target.wants && ls -d -- "$app"@*.service "$app"-*@*.service 2>/dev/null; } | sort -u)
    for unit in $others; do
      case "$keep" in *" $unit "*) continue ;; esac
      # Another application's name may begin as this one's.
      file=/etc/systemd/system/${unit%@*}@.service
      [ ! -e "$file" ] || grep -q "^WorkingDirectory=$top/" "$file" || continue
      rm -f /etc/systemd/system/*.wants/"$unit"
      systemctl stop --no-block "$unit"
    done
    # The next step does not have to wait for it, only who looks at units.
    exec 7>"$reading"; flock 7
    systemctl daemon-reload >/dev/null 2>&1 </dev/null &
    exec 7>&-
    # There was nothing to return to.
    [ -z "$sick" ]
    "#);
    let changes = finish(&case.context(), &case.facts, &release, &[nginx_site()]).unwrap();
    let switch = changes.iter().find(|change| change.id.name == "switch to v2").unwrap();
    let crate::plan::Step::Run(script) = &switch.steps[0] else { panic!("not a script") };
    let text = script.text();
    let put_back: Vec<&str> = text.lines().skip_while(|line| *line != "put_back() {").take(4).collect();
    insta::assert_snapshot!(put_back.join("\n"), @r"
    put_back() {
    if [ -e before/etc/nginx/sites-available/site.conf ]; then mv -fT -- before/etc/nginx/sites-available/site.conf /etc/nginx/sites-available/site.conf; else rm -f -- /etc/nginx/sites-available/site.conf; fi
    nginx -t -q && systemctl reload nginx.service
    }
    ");
}

fn nginx_site() -> Change {
    let path = "/etc/nginx/sites-available/site.conf";
    let write = crate::plan::FileWrite {
        path: path.into(),
        content: Vec::new(),
        owner: "root".into(),
        group: "root".into(),
        mode: "0644".into(),
        secret: false,
    };
    Change::new(ResourceId::new("file", path), Action::Update, "", vec![crate::plan::Step::Write(write)])
}

/// A script without the programs that it carries.
fn without_heredocs(text: &str) -> String {
    let mut inside = false;
    let keep = text.lines().filter(|line| {
        let ends = inside && *line == "SHIP_END";
        let was = inside;
        inside = (inside || line.ends_with("<<'SHIP_END'")) && !ends;
        !was
    });
    keep.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_new_migration_is_in_the_plan() {
    let mut case = Case::new("").deployed();
    case.facts.app.manifest = Some(case.manifest());
    let path = "mysite/migrations/0002_rating.py";
    case.edit(path, "new");
    let text = "operations = [migrations.AddField('book', 'rating', x), migrations.RunPython(fill)]";
    case.source.migrations =
        vec![(path.into(), text.into()), ("mysite/migrations/0001_old.py".into(), text.into())];
    insta::assert_snapshot!(case.plan(), @r"
    > upload v2                                            mysite/migrations/0002_rating.py, mysite/views.py changed; 1 file, 3 B
        ~ mysite/migrations/0002_rating.py
        - mysite/views.py
    > prepare v2
    > preflight v2                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 1 migration not on the server yet
        mysite/migrations/0002_rating.py
          AddField book.rating
          RunPython (can't be reversed)
    ");
}

#[test]
fn a_dump_can_be_left_out() {
    let text = Case::new("dump_limit: 0").plan();
    assert!(text.contains("> take no dump\n") && !text.contains("dump the database"), "{text}");
}

/// What a rollback from v2 to v1 does, a line a change.
fn rollback_plan(yaml: &str, surplus: &rollback::Surplus, way: rollback::Way) -> String {
    let mut case = Case::new(yaml).deployed();
    let build = case.facts.app.builds[&1].clone();
    case.facts.app.builds.insert(2, build);
    case.facts.app.current = Some(2);
    case.facts.app.enabled.insert("site-worker@v2.service".into());
    let changes = rollback::steps(&case.context(), &case.facts, 1, surplus, way, Vec::new());
    let scripts: String =
        changes.iter().flat_map(|change| &change.steps).map(|step| format!("{step:?}")).collect();
    assert!(
        scripts.contains("start site-worker@v3.service"),
        "what runs now is started, whatever ship.yml says"
    );
    crate::plan::Plan { changes }.to_text(true)
}

#[test]
fn a_rollback_takes_the_database_along_as_the_user_wants() {
    use rollback::{Applied, Surplus, Way};
    insta::assert_snapshot!(rollback_plan("", &Surplus::default(), Way::Keep), @r"
    > take the files of v1                                 rollback to v1
    > prepare v3
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    > collect static files                                 unless nothing of them changed
    > switch to v3                                         v2 serves until v3 is seen healthy
    > put the environment back
    > record v3
    ");
    let applied = |name: &str, additive| Applied {
        name: name.into(),
        irreversible: String::new(),
        additive,
        replaces: vec![],
    };
    let adds = Surplus { migrations: vec![applied("a.0002_b", true)], with: 2, ..Surplus::default() };
    insta::assert_snapshot!(rollback_plan("", &adds, Way::Reverse), @r"
    > take the files of v1                                 rollback to v1
    > prepare v3
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    > collect static files                                 unless nothing of them changed
    > switch to v3                                         v2 serves until v3 is seen healthy
    > put the environment back
    > record v3
    > dump the database as it is                           to have it if this was a mistake
    > reverse 1 migration                                  v1 doesn't know of 1 migration
    ");
    let mixed = Surplus {
        migrations: vec![applied("a.0002_b", true), applied("a.0003_c", false)],
        with: 2,
        ..Surplus::default()
    };
    insta::assert_snapshot!(rollback_plan("", &mixed, Way::Reverse), @r"
    > take the files of v1                                 rollback to v1
    > prepare v3
    > ask Django for its settings
    > dump the database as it is                           to have it if this was a mistake
    > reverse 2 migrations                                 v1 doesn't know of 2 migrations
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    > collect static files                                 unless nothing of them changed
    > switch to v3                                         v2 serves until v3 is seen healthy
    > put the environment back
    > record v3
    ");
    let dump = Some((2, crate::facts::app::Dump { bytes: 1, at: "2026-01-02T03:04:05Z".into() }));
    insta::assert_snapshot!(rollback_plan("", &Surplus { dump, ..mixed.clone() }, Way::Restore), @r"
    > take the files of v1                                 rollback to v1
    > prepare v3
    > ask Django for its settings
    > dump the database as it is                           to have it if this was a mistake
    > restore the dump of before v2                        of 2026-01-02T03:04:05Z
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > dump the database                                    if migrations are pending
    > migrate the database                                 if migrations are pending
    > collect static files                                 unless nothing of them changed
    > switch to v3                                         v2 serves until v3 is seen healthy
    > put the environment back
    > record v3
    ");
    insta::assert_snapshot!(rollback_plan("database: external", &mixed, Way::Reverse), @r"
    > take the files of v1                                 rollback to v1
    > prepare v3
    > ask Django for its settings
    > reverse 2 migrations                                 v1 doesn't know of 2 migrations
    > preflight v3                                         settings, check --deploy, migrations, GET /
    > take no dump
    > migrate the database                                 if migrations are pending
    > collect static files                                 unless nothing of them changed
    > switch to v3                                         v2 serves until v3 is seen healthy
    > put the environment back
    > record v3
    ");
}

#[test]
fn what_settings_need_is_asked_for_before_anything_is_built() {
    let mut case = Case::new("env: {REGION: x}");
    let text = "import os\nA = os.environ['API_KEY']\nB = os.environ['REGION']\nC = os.environ['SECRET_KEY']\nD = os.environ['MAIL']\n";
    let paths = ["mysite/settings.py", ".env.example"].map(String::from);
    case.source.settings =
        Settings::find(".", "mysite.settings", "mysite.wsgi", &paths, &|path| match path {
            "mysite/settings.py" => Some(text.into()),
            ".env.example" => Some("MAIL=x\nSENTRY_DSN=\n".into()),
            _ => None,
        });
    case.vars.insert(
        "plain_env".into(),
        Value::from(vec![Value::from_pairs([("name", "REGION"), ("value", "x")])]),
    );
    let missing = |case: &Case| match plan(&case.context(), &case.facts, &[]) {
        Err(ReleaseError::MissingVariables { needs, exampled }) => {
            let needs: Vec<String> =
                needs.iter().map(|need| format!("{}:{} {}", need.path, need.line, need.name)).collect();
            let exampled: Vec<String> = exampled.into_iter().map(|(name, _)| name).collect();
            (needs.join(","), exampled.join(","))
        }
        Err(other) => panic!("{other}"),
        Ok(_) => Default::default(),
    };
    let (needs, exampled) = missing(&case);
    assert_eq!(needs, "mysite/settings.py:2 API_KEY,mysite/settings.py:5 MAIL");
    assert_eq!(exampled, "SENTRY_DSN");
    case.facts.app.config =
        [secret_file("API_KEY"), secret_file("MAIL")].map(|name| (name, String::new())).into();
    assert_eq!(missing(&case).0, "");
}

#[test]
fn a_secret_file_must_be_somewhere_and_makes_a_release_when_it_changes() {
    let mut case = Case::new("files: [secrets.json]").deployed();
    let placed = |content: Option<&str>| {
        vec![Placed { app: "site".into(), name: "secrets.json".into(), content: content.map(Into::into) }]
    };
    let reasons = |case: &Case| match plan(&case.context(), &case.facts, &[]) {
        Ok((changes, _)) => changes
            .iter()
            .map(|change| change.why.as_str())
            .find(|why| !why.is_empty())
            .unwrap_or("")
            .to_owned(),
        Err(error) => error.to_string(),
    };
    case.source.files = placed(None);
    assert_eq!(reasons(&case), "files are missing: secrets.json");
    case.source.files = placed(Some("one"));
    assert!(reasons(&case).contains("config changed: files/secrets.json"), "{}", reasons(&case));
    // It is there, and part of the live release.
    let part = ("files/secrets.json".to_string(), sha256(b"one"));
    case.facts.app.config.insert(part.0.clone(), part.1.clone());
    case.facts.app.builds.get_mut(&1).unwrap().config.insert(part.0, part.1);
    assert!(!reasons(&case).contains("config changed"), "{}", reasons(&case));
    case.source.files = placed(None);
    assert!(!reasons(&case).contains("config changed"), "{}", reasons(&case));
    case.source.files = placed(Some("two"));
    assert!(reasons(&case).contains("config changed: files/secrets.json"), "{}", reasons(&case));
}

#[test]
fn the_layout_of_a_first_deploy_is_foretold_from_the_settings() {
    let case = Case::new("");
    let foretold = |text: &str| {
        let settings = Settings::find(".", "mysite.settings", "mysite.wsgi", &[], &|path| {
            (path == "mysite/settings.py").then(|| text.to_owned())
        });
        Layout::foretold(&case.config, &settings).line()
    };
    // As `django-admin startproject` writes it, and as Django answers under the overlay.
    let started = "INSTALLED_APPS = ['django.contrib.staticfiles']\nSTATIC_URL = 'static/'\n";
    assert_eq!(
        foretold(started),
        r#"{"media_root":"/srv/site/shared/media","media_url":null,"static_root":"/srv/site/static","static_url":"/static/"}"#
    );
    assert_eq!(
        foretold(&format!("{started}MEDIA_URL = '/up/'\nSTATIC_ROOT = BASE_DIR / 'staticfiles'\n")),
        r#"{"media_root":"/srv/site/shared/media","media_url":"/up/","static_root":"staticfiles","static_url":"/static/"}"#
    );
    let cdn = "STATIC_URL = 'https://cdn.example.com/'\nSTATIC_ROOT = 'staticfiles'\nMEDIA_ROOT = 'media'\n";
    assert_eq!(
        foretold(cdn),
        r#"{"media_root":"media","media_url":"/media/","static_root":"staticfiles","static_url":null}"#
    );
    // What can't be read is taken for the usual.
    let read = "MEDIA_ROOT = os.getenv('MEDIA')\nSTATIC_ROOT = os.environ.get('STATIC_ROOT')\n";
    assert_eq!(
        foretold(&format!("import os\n{started}{read}")),
        foretold(started),
        "nobody sets the variables"
    );
    assert_eq!(Layout::foretold(&case.config, &Settings::default()), Layout::usual());
}
