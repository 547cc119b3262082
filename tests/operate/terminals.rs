//! What is typed and seen on a terminal, and how the terminal is left.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::boxes::{Suite, TestBox};
use crate::support::terminal::Terminal;
use crate::support::{Project, wait_for};

use super::deployed;

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_terminal_is_passed_on_and_left_as_it_was() {
    let (server, project) = deployed();
    a_superuser_is_made(&project);
    keys_and_sizes_arrive(&project);
    nothing_of_a_short_command_is_lost(&project);
    a_shell_of_django(&project);
    a_killed_ship_leaves_a_sane_terminal(&project, &server);
    logs_end_with_ctrl_c(&project, &server);
    a_refused_terminal_is_told(&project, &server);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_newer_systemd_adds_nothing_of_its_own() {
    let server = TestBox::builder().suite(Suite::Trixie).packages(true).boot();
    let project = Project::new(&server);
    project.up().says("v1 serves");
    let mut terminal = Terminal::start(&project.command(&["run", "stty size; echo term: $TERM; exit 6"]));
    terminal.shows("24 80\r\nterm: xterm\r\n");
    assert_eq!(terminal.ends(), 6);
    assert!(!terminal.screen().contains("\u{1b}]"), "a title: {:?}", terminal.screen());
    assert!(!terminal.screen().contains("\u{1b}[J"), "what was below is gone: {:?}", terminal.screen());
    nothing_of_a_short_command_is_lost(&project);
    project.ship(&["run", "kill -9 $$"]).exits(137);
    project.ship(&["restart"]).exits(0).says("restarted web of v1");
}

/// Many at once, so that the server is busy when they end.
fn nothing_of_a_short_command_is_lost(project: &Project) {
    for round in 0..6 {
        let command = project.command(&["run", &format!("echo said in {round}; exit 6")]);
        let mut all: Vec<Terminal> = (0..6).map(|_| Terminal::start(&command)).collect();
        for terminal in &mut all {
            assert_eq!(terminal.ends(), 6, "{}", terminal.screen());
            terminal.shows(&format!("said in {round}\r\n"));
        }
    }
}

fn a_superuser_is_made(project: &Project) {
    let mut terminal = Terminal::start(&project.command(&["manage", "createsuperuser"]));
    let before = terminal.modes();
    terminal.shows("Username");
    terminal.types("ada\r");
    terminal.shows("Email");
    terminal.types("ada@example.com\r");
    terminal.shows("Password:");
    terminal.types("correct horse battery\r");
    terminal.shows("Password (again):");
    terminal.types("correct horse battery\r");
    terminal.shows("Superuser created");
    assert_eq!(terminal.ends(), 0);
    assert!(!terminal.screen().contains("battery"), "the password shows");
    assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
    let ask = "from django.contrib.auth import authenticate as a; print(a(username='ada', password='correct horse battery').is_superuser)";
    // Newer Djangos also say what they have imported.
    assert!(project.ship(&["manage", "shell", "-c", ask]).exits(0).stdout.ends_with("True\n"));
}

fn keys_and_sizes_arrive(project: &Project) {
    let mut terminal = Terminal::start(&project.command(&["run", "sh -i"]));
    terminal.shows("$ ");
    // Not as it is typed, since that shows as well.
    terminal.types("stty size | sed 's/^/size: /'\r");
    terminal.shows("size: 24 80");
    terminal.resize(101, 33);
    wait_for("the new size", 20, || {
        terminal.types("stty size | sed 's/^/size: /'\r");
        terminal.shows("size: ").ends_with("size: ") && terminal.shows("\r\n").contains("33 101")
    });
    // Ctrl-C ends what runs there, and neither the shell nor ship.
    terminal.types("sleep 1000; echo ended: $?\r");
    terminal.shows("\r\n");
    wait_for("the command to run", 20, || {
        project.ship(&["ssh", "--", "pgrep", "-f", "'^sleep 1000'"]).code == 0
    });
    terminal.types("\u{3}");
    terminal.types("echo after: $?\r");
    terminal.shows("after: 130");
    terminal.types("exit 9\r");
    assert_eq!(terminal.ends(), 9);
    assert!(terminal.is_sane());
}

fn a_shell_of_django(project: &Project) {
    let mut terminal = Terminal::start(&project.command(&["shell"]));
    terminal.shows(">>> ");
    terminal.types("from catalog.models import Book; print('books:', Book.objects.count() > 0)\r");
    terminal.shows("books: True");
    terminal.types("\u{4}");
    assert_eq!(terminal.ends(), 0);
    assert!(terminal.is_sane());

    let mut terminal = Terminal::start(&project.command(&["manage", "dbshell"]));
    terminal.shows("library=> ");
    terminal.types("select 'books ' || (count(*) > 0) from catalog_book;\r");
    terminal.shows("books true");
    terminal.types("\\q\r");
    assert_eq!(terminal.ends(), 0);
    assert!(terminal.is_sane());
}

/// From a shell, as people start it: `ship` dies in raw mode, and nobody can catch that.
fn a_killed_ship_leaves_a_sane_terminal(project: &Project, server: &TestBox) {
    let ship = project.command(&["run", "python -i"]);
    let mut shell = Command::new("sh");
    let words = format!(
        "sh -c 'echo \"own: $$\"; exec {} run \"python3 -iq\"'; echo left: $?",
        ship.get_program().display()
    );
    shell.args(["-c", &words]).current_dir(&project.dir).env_clear();
    shell.envs(ship.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = Terminal::start(&shell);
    let before = terminal.modes();
    terminal.shows("own: ");
    let pid: u32 = terminal.shows("\r\n").trim().parse().unwrap();
    terminal.shows(">>> ");
    assert!(!terminal.is_sane(), "it is raw while python reads keys");
    kill(pid, Signal::KILL);
    terminal.shows("left: 137");
    wait_for("a sane terminal", 10, || format!("{:?}", terminal.modes()) == format!("{before:?}"));
    // Nothing is left of it on the server either.
    wait_for("its command to end", 30, || server.exec("pgrep -fc '^python3 -iq' || true").trim() == "0");

    // Other ways to go.
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut terminal = Terminal::start(&project.command(&["run", "python3 -iq"]));
        let before = terminal.modes();
        terminal.shows(">>> ");
        kill(terminal.pid(), signal);
        assert_eq!(terminal.ends(), code);
        assert_eq!(format!("{:?}", terminal.modes()), format!("{before:?}"));
    }
}

fn logs_end_with_ctrl_c(project: &Project, server: &TestBox) {
    let mut terminal = Terminal::start(&project.command(&["logs", "-f", "--process", "worker"]));
    terminal.shows("tick");
    terminal.types("\u{3}");
    assert_eq!(terminal.ends(), 130);
    assert!(terminal.is_sane());
    assert!(terminal.screen().contains("\u{1b}["), "colours for a terminal");
    wait_for("the reader on the server to end", 30, || {
        server.exec("pgrep -fc '^journalctl.*--follow' || true").trim() == "0"
    });
    let plain = project.ship(&["logs", "-n", "3"]).exits(0).stdout;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let mut quiet = project.command(&["logs", "-n", "3"]);
    quiet.env("NO_COLOR", "1");
    let mut terminal = Terminal::start(&quiet);
    assert_eq!(terminal.ends(), 0);
    assert!(!terminal.screen().contains("\u{1b}[3"), "{}", terminal.screen());
}

fn a_refused_terminal_is_told(project: &Project, server: &TestBox) {
    server.exec("echo 'PermitTTY no' >/etc/ssh/sshd_config.d/no-tty.conf && systemctl reload ssh");
    let mut terminal = Terminal::start(&project.command(&["run", "sh -i"]));
    terminal.shows("refuses a terminal to root");
    terminal.shows("PermitTTY");
    assert_eq!(terminal.ends(), 4);
    assert!(terminal.is_sane());
    // Without one, nothing is refused.
    assert_eq!(project.ship(&["run", "echo here"]).exits(0).stdout, "here\n");
}
