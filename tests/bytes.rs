//! Values arrive byte for byte: through the shell, systemd's files and units, and all of `ship` at once.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ship::playbook::{Templates, Vars, envfile};
use ship::shell::quote;

use crate::boxes::{Sudo, TestBox};
use crate::support::{Project, Ran, get, wait_for};

/// What has broken such chains before, here or elsewhere.
const AWKWARD: [&str; 22] = [
    "",
    " ",
    "  both  ",
    "\ttab\t",
    "a'b",
    "a\"b",
    "$HOME ${HOME} $(id) $$ $",
    "`id`",
    "100% %h %% %n %",
    "\\ \\\\ \\n \\t \\x41 \\u0041 \\",
    "line one\nline two\n",
    "\n\n",
    "# not a comment",
    "a # not one either",
    "; also not",
    "A=B=C",
    "-n",
    "~ * ? [a] {a,b} ! !!",
    "é ü 漢字 🚢 \u{202e} \u{feff}",
    "| & ; < > ( )",
    "{{ template }} {% if %} {# note #}",
    "a\r\nb\r",
];

/// Batches of values, since each goes through a whole systemd.
fn values() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(AWKWARD.to_vec()).prop_map(str::to_string),
        2 => "[ -~\n\t]{0,20}",
        1 => "[^\0]{0,20}",
    ];
    let value = proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat());
    proptest::collection::vec(value, 40)
}

fn between_nuls(text: &str) -> Vec<String> {
    text.split_terminator('\0').map(str::to_string).collect()
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn any_value_survives_the_shell_and_systemd() {
    let server = TestBox::builder().boot();
    let source = ("argv".to_string(), "argv".to_string(), "{{ value | systemd }}".to_string());
    let templates = Templates::new([source]).unwrap();
    let argument = |value: &String| {
        let vars = Vars::from([("value".to_string(), value.as_str().into())]);
        templates.render("argv", &vars, None).unwrap()
    };
    let mut runner = TestRunner::new(Config { cases: 16, failure_persistence: None, ..Config::default() });
    let every = AWKWARD.map(str::to_string).to_vec();
    let check = |values: Vec<String>| {
        let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
        server.write("/root/words.sh", format!("printf '%s\\0' {}\n", quoted.join(" ")));
        prop_assert_eq!(&between_nuls(&server.exec("sh /root/words.sh")), &values);

        let lines: Vec<String> =
            values.iter().enumerate().map(|(at, value)| format!("V{at}={}\n", envfile(value))).collect();
        server.write("/root/values.env", lines.concat());
        let printed = server.exec(
            "systemd-run --quiet --wait --pipe --property=EnvironmentFile=/root/values.env /usr/bin/env -0",
        );
        let environment: BTreeMap<String, String> = between_nuls(&printed)
            .iter()
            .filter_map(|line| {
                line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()))
            })
            .collect();
        for (at, value) in values.iter().enumerate() {
            prop_assert_eq!(environment.get(&format!("V{}", at)), Some(value));
        }

        let arguments: Vec<String> = values.iter().map(argument).collect();
        let unit = format!(
            "[Service]\nType=oneshot\nStandardOutput=truncate:/root/argv\nExecStart=/usr/bin/printf \"%%s\\\\0\" {}\n",
            arguments.join(" ")
        );
        server.write("/etc/systemd/system/argv.service", &unit);
        let argv = server.exec("systemctl daemon-reload && systemctl start argv.service && cat /root/argv");
        prop_assert_eq!(&between_nuls(&argv), &values);
        Ok(())
    };
    check(every).unwrap();
    runner.run(&values(), check).unwrap();
}

/// Every byte but a line break and NUL, in one password.
const PASSWORD: &str = " it's \"a\" $(secret) `pw` \\n %s #1 ü ";

/// A worker that writes down its arguments and GREETING, and stays.
const TELL: &str = "import sys, time, os; open(sys.argv[1] + '.new', 'w').write('\\0'.join(sys.argv[2:] + [os.environ['GREETING']])); \
                    os.rename(sys.argv[1] + '.new', sys.argv[1]); time.sleep(1e6)";

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn values_paths_passwords_and_commands_arrive() {
    let server =
        TestBox::builder().packages(true).user("deploy", Sudo::Password(PASSWORD.to_string())).boot();
    let project = Project::for_user(&server, "deploy");
    let ship = |words: &[&str]| Ran::of(project.command(words).env("SHIP_SUDO_PASSWORD", PASSWORD));

    // A database elsewhere, with a password that its URL must escape.
    server.write(
        "/root/role.sql",
        "create role odd login password $$p@ss:w/rd 'x' \"y\" %41 \\ #?$$; create database odd owner odd",
    );
    server.exec(
        "cd /; until runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 </root/role.sql; do sleep 0.2; done",
    );
    let url = "postgres://odd:p%40ss%3Aw%2Frd%20%27x%27%20%22y%22%20%2541%20%5C%20%23%3F@127.0.0.1:5432/odd";

    let mut wanted = BTreeMap::from([("DATABASE_URL".to_string(), url.to_string())]);
    let mut plain = String::new();
    for (at, value) in AWKWARD.iter().enumerate() {
        wanted.insert(format!("PLAIN_{at}"), (*value).to_string());
        plain.push_str(&format!("  PLAIN_{at}: {}\n", serde_json::to_string(value).unwrap()));
        wanted.insert(format!("SET_{at}"), (*value).to_string());
    }
    let tell = |at: &str, command: &str| {
        let command = command.replace("TELL", &format!("{} /srv/library/shared/{at}", quote(TELL)));
        format!("  {at}: {}\n", serde_json::to_string(&command).unwrap())
    };
    let workers = [
        tell("plain", "python -c TELL 100% %n '$HOME' \"$GREETING\" 'a \"b\"' \"it's\" '\\n' é ''"),
        tell("assigned", "GREETING='other words' python -c TELL \"$GREETING\""),
        tell("chained", "cd catalog && GREETING=x python -c TELL \"$PWD\""),
    ];
    project.config(&format!(
        "database: external\nsecrets: [DATABASE_URL]\nprocesses:\n{}env:\n  GREETING: two  words\n{plain}",
        workers.concat()
    ));

    // Paths, too.
    let paths = [
        "odd/ lead and trail ",
        "odd/it's \"q\" $x `b` %d #h.txt",
        "odd/back\\slash",
        "odd/-rf",
        "odd/tab\there",
        "odd/ü 漢 🚢/[a]{b}*?.txt",
        "-odd/x",
        "#odd#/~",
    ];
    for path in paths {
        project.write(path, &format!("this is {path}"));
    }

    // Before there is anything, and from each source.
    let mut from_stdin = project.command(&["--yes", "config", "set", "DATABASE_URL=-"]);
    let mut child = from_stdin
        .env("SHIP_SUDO_PASSWORD", PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(url.as_bytes()).unwrap();
    Ran::finished(child).exits(0);
    ship(&["up", "--yes"]).exits(0);
    assert_eq!(get(&server, "/").status, 200, "the site does not reach its database");

    let long: String = "0123456789 '\"$%\\".chars().cycle().take(100_000).collect();
    std::fs::write(project.dir.join("../long"), &long).unwrap();
    wanted.insert("LONG".to_string(), long);
    let mut set = vec!["config".to_string(), "set".to_string(), "LONG=@../long".to_string()];
    set.extend(AWKWARD.iter().enumerate().map(|(at, value)| format!("SET_{at}={value}")));
    ship(&set.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);

    let printed = ship(&["run", "env", "-0"]).exits(0).stdout;
    let arrived: BTreeMap<String, String> = between_nuls(&printed)
        .iter()
        .filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string())))
        .collect();
    let revealed = ship(&["--json", "config", "--reveal"]).exits(0).json().pop().unwrap();
    for (name, value) in &wanted {
        assert_eq!(revealed["result"][name.as_str()].as_str(), Some(value.as_str()), "{name}");
        assert_eq!(arrived.get(name), Some(value), "{name}");
    }

    for (name, argv) in [
        ("plain", vec!["100%", "%n", "$HOME", "two  words", "a \"b\"", "it's", "\\n", "é", "", "two  words"]),
        ("assigned", vec!["two  words", "other words"]),
        ("chained", vec!["/srv/library/releases/v2/catalog", "x"]),
    ] {
        let told = format!("/srv/library/shared/{name}");
        wait_for(&format!("the worker {name}"), 20, || {
            server
                .read(&told)
                .is_some_and(|text| String::from_utf8(text).unwrap().split('\0').eq(argv.iter().copied()))
        });
        // systemd's signals reach the command itself: no shell stands in between.
        let main = format!("ps -o comm= -p $(systemctl show -p MainPID --value library-{name}@v2.service)");
        assert_eq!(server.exec(&main).trim(), "python", "{name}");
    }

    for path in paths {
        let text = server.read(&format!("/srv/library/releases/v2/{path}")).unwrap_or_default();
        assert_eq!(String::from_utf8(text).unwrap(), format!("this is {path}"), "{path}");
    }
    ship(&["up", "--yes"]).exits(0).says("Nothing to change");
    std::fs::remove_file(project.dir.join(paths[0])).unwrap();
    project.write(paths[1], "changed");
    ship(&["up", "--yes"]).exits(0);
    let read = |path: &str| server.read(&format!("/srv/library/releases/v3/{path}"));
    assert_eq!(read(paths[0]), None, "a removed file is still there");
    assert_eq!(read(paths[1]).unwrap(), b"changed");
}
