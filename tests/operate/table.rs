//! The table of what people know from Heroku: each line of it is run.

use crate::boxes::TestBox;
use crate::support::terminal::Terminal;
use crate::support::{Project, get};

/// The rows of the tables that have Heroku's commands beside ship's: what ship's column says.
fn rows() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for file in ["README.md", "docs/operate.md"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let table = text
            .split("| Heroku | ship |\n|---|---|\n")
            .nth(1)
            .unwrap_or_else(|| panic!("{file} has no table"));
        for line in table.lines().take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [heroku, ship] = cells.as_slice() else { panic!("{file}: {line}") };
            let row = ((*heroku).to_owned(), (*ship).to_owned());
            if !rows.contains(&row) {
                rows.push(row);
            }
        }
    }
    rows
}

#[test]
fn the_table_names_every_command_of_the_tutorials() {
    let text: String = rows().into_iter().map(|(heroku, _)| heroku + "\n").collect();
    let missing: Vec<&str> = [
        "create",
        "git push",
        "run",
        "config",
        "config:set",
        "logs --tail",
        "ps",
        "addons",
        "open",
        "releases",
        "rollback",
        "domains",
        "certs",
        "maintenance:on",
        "maintenance:off",
        "restart",
        "ps:scale",
        "pg:psql",
        "pg:backups",
        "pg:backups:capture",
        "pg:backups:restore",
        "pg:pull",
        "pg:push",
        "pg:copy",
    ]
    .into_iter()
    .filter(|command| !text.contains(command))
    .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Runs what each row promises.
pub(super) fn each_line_holds(project: &Project, server: &TestBox) {
    for (heroku, ship) in rows() {
        let commands: Vec<&str> = ship.split('`').skip(1).step_by(2).collect();
        assert!(!commands.is_empty(), "{heroku}: {ship}");
        for command in commands {
            holds(command, project, server).unwrap_or_else(|| panic!("no check for `{command}` ({heroku})"));
        }
    }
}

/// Runs one command of the table; `None` for one that nobody has thought of here.
fn holds(command: &str, project: &Project, server: &TestBox) -> Option<()> {
    if command.starts_with("backups:") {
        let file = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
        project.write("ship.yml", &format!("{file}{command}\n"));
        project.up();
        assert!(server.exec("systemctl list-timers library-backup.timer").contains("03:30:00"));
        return Some(());
    }
    let words = shlex::split(command).unwrap();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let ship = || project.ship(&words);
    match words.as_slice() {
        ["up"] => drop(project.up().says("serves")),
        ["run", "bash"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("$ ");
            terminal.types("echo in:$SHIP_RELEASE; exit 3\r");
            terminal.shows("in:v");
            assert_eq!(terminal.ends(), 3);
        }
        ["run", "python", "manage.py", "migrate"] | ["manage", "migrate"] => {
            drop(ship().exits(0).says("No migrations to apply"));
        }
        ["run", "--detach", ..] => drop(ship().exits(0).says("library-run-")),
        ["manage", "createsuperuser"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("Username");
            terminal.types("\u{3}");
            terminal.shows("cancelled");
            assert_eq!(terminal.ends(), 1);
        }
        ["shell"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows(">>> ");
            terminal.types("exit()\r");
            assert_eq!(terminal.ends(), 0);
        }
        ["manage", "dbshell"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("library=> ");
            terminal.types("\\q\r");
            assert_eq!(terminal.ends(), 0);
        }
        ["maintenance", state] => {
            ship().exits(0);
            assert_eq!(get(server, "/").status, if *state == "on" { 503 } else { 200 });
            // The rows after this one want to see the site.
            project.ship(&["maintenance", "off"]).exits(0);
            assert_eq!(get(server, "/").status, 200);
        }
        ["config"] => drop(ship().exits(0).says("***")),
        ["config", "set", pair] => {
            ship().exits(0).says("runs with it");
            let name = pair.split('=').next().unwrap();
            project.ship(&["run", "sh", "-c", &format!("test -n \"${name}\"")]).exits(0);
        }
        ["config", "get", name] => {
            project.ship(&["config", "set", &format!("{name}=there")]).exits(0);
            assert_eq!(ship().exits(0).stdout, "there\n");
        }
        ["config", "unset", name] => {
            if project.ship(&["config", "get", name]).code != 0 {
                project.ship(&["config", "set", &format!("{name}=there")]).exits(0);
            }
            ship().exits(0).says("runs with it");
            project.ship(&["config", "get", name]).exits(3);
        }
        ["config", "edit"] => {
            let mut edit = project.command(&words);
            edit.env("EDITOR", "true");
            crate::support::Ran::of(&mut edit).exits(0);
        }
        ["logs"] => drop(ship().exits(0).says("web")),
        ["logs", "-f", ..] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("v");
            terminal.types("\u{3}");
            assert_eq!(terminal.ends(), 130);
        }
        ["logs", "--process", process, ..] => drop(ship().exits(0).says(process)),
        ["ps"] => drop(ship().exits(0).says("web").says("up")),
        ["scale", ..] => drop(project.ship(&[words.as_slice(), &["--yes"]].concat()).exits(0)),
        ["restart", ..] => drop(ship().exits(0).says("restarted")),
        ["status"] => drop(ship().exits(0).says("postgresql.service")),
        ["apps"] => drop(ship().exits(0).says("library *")),
        ["open"] => drop(ship().exits(0).says(&format!("http://{}/", server.host))),
        ["releases"] => drop(ship().exits(0).says("live")),
        ["rollback"] => {
            // There must be something to go back to.
            project.ship(&["config", "set", "STEP=1"]).exits(0);
            ship().exits(0).says("serves");
            assert_eq!(get(server, "/").status, 200);
        }
        ["rollback", release] => drop(ship().exits(1).says(release)),
        ["domains"] => drop(ship().exits(0).says("answers to any name")),
        ["domains", "add", _] | ["domains", "remove", _] => {
            drop(ship().exits(0).says("`ship up` makes it so"))
        }
        ["ssh"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("# ");
            terminal.types("echo on:$(hostname); exit\r");
            terminal.shows(&format!("on:{}", server.name));
            terminal.ends();
        }
        ["plan"] => drop(ship().exits(0)),
        ["db", "psql"] => {
            let mut terminal = Terminal::start(&project.command(&words));
            terminal.shows("library=> ");
            terminal.types("\\q\r");
            assert_eq!(terminal.ends(), 0);
        }
        ["db", "backups"] => drop(ship().exits(0)),
        ["db", "backups", "now"] => {
            drop(ship().exits(0).says("is kept on the server itself"));
            project.ship(&["db", "backups"]).exits(0).says("backup");
        }
        ["db", "dump", file] | ["db", "pull", file] => {
            ship().exits(0);
            assert!(std::fs::read(project.dir.join(file)).unwrap().starts_with(b"PGDMP"));
        }
        ["db", "restore", _] => {
            project.ship(&["db", "psql", "-c", "update catalog_book set title = 'Gone'"]).exits(0);
            project.ship(&[words.as_slice(), &["--yes"]].concat()).exits(0);
            let count = "select 'gone:' || count(*) from catalog_book where title = 'Gone'";
            project.ship(&["db", "psql", "-c", count]).exits(0).says("gone:0");
        }
        ["db", "push", environment] => a_copy_goes_to(environment, project),
        [..] => return None,
    }
    Some(())
}

/// The site's data on another server, which has a site of its own already.
fn a_copy_goes_to(environment: &str, project: &Project) {
    let other = TestBox::builder().packages(true).boot();
    let file = std::fs::read_to_string(project.dir.join("ship.yml")).unwrap();
    let (host, port, key) = (&other.host, other.port, other.key.display());
    let place = format!("{{provider: ssh, host: {host:?}, port: {port}, user: root, key: {key}}}");
    project.write("ship.yml", &format!("{file}environments:\n  {environment}: {{server: {place}}}\n"));
    project.ship(&["-e", environment, "up", "--yes"]).exits(0);
    let title =
        |of: &[&str], sql: &str| project.ship(&[of, &["db", "psql", "-c", sql]].concat()).exits(0).stdout;
    title(&[], "update catalog_book set title = 'Pushed' where id = (select min(id) from catalog_book)");
    let count = "select 'pushed:' || count(*) from catalog_book where title = 'Pushed'";
    assert!(title(&["-e", environment], count).contains("pushed:0"));
    project.ship(&["db", "push", environment]).exits(3).says("--confirm");
    project.ship(&["db", "push", environment, "--yes"]).exits(0);
    assert!(title(&["-e", environment], count).contains("pushed:1"));
    project.write("ship.yml", &file);
}
