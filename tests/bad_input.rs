//! What a user reads when something is wrong, whole: the first line names the cause.
//!
//! Addresses, folders, keys and times are replaced by their names; nothing else is left out.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::boxes::{Sudo, Suite, TestBox};
use crate::support::{Project, Ran, get, noise, wait_for};

/// Replaces every run of characters between `from` and the first that `ends`, `from` itself kept.
fn mask(text: &str, from: &str, to: &str, ends: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(from);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.find(&ends).map_or("", |at| &part[at..]);
        out.push_str(from);
        out.push_str(to);
        out.push_str(rest);
    }
    out
}

/// What `ship` said last: from `error:` on, with the exit code on top.
fn message(project: &Project, ran: &Ran) -> String {
    let from = ran.stderr.find("error:").unwrap_or(0);
    let text =
        ran.stderr[from..].replace(&project.dir.canonicalize().unwrap().display().to_string(), "PROJECT");
    let text = mask(&text, "SHA256:", "…", |c| c.is_whitespace() || c == ')');
    // Where a line of somebody else's code is, and which folder of packages it was, is not ours to say.
    let text = mask(&text, ", line ", "N", |c| !c.is_ascii_digit());
    let text = mask(&text, "/srv/library/venvs/", "…", |c| c == '/');
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("exit {}\n{}", ran.code, lines.join("\n"))
}

fn up(project: &Project) -> String {
    message(project, &project.ship(&["up", "--yes"]))
}

fn nowhere() -> Project {
    Project::elsewhere("{provider: ssh, host: 127.0.0.1, port: 1, user: root}")
}

#[test]
fn a_wrong_ship_yml_is_shown_at_its_place() {
    let project = nowhere();
    project.config("databse: postgres\nprocesses: {web: {workers: many}}");
    insta::assert_snapshot!(up(&project), @r"
    exit 3
    error: ship.yml has 2 problems

    ship.yml:2:1: unknown key `databse`
      |
    2 | databse: postgres
      | ^^^^^^^
    hint: did you mean `database`?
    hint: the file takes app, server, domains, dns, tls, python, python_mirror, node, django, requirements, database, processes, schedule, services, hardening, port, rate_limit, upload_limit, env, secrets, files, playbooks, keep, dump_limit, backups, environments

    ship.yml:3:28: `processes.web.workers`: expected `auto` or a number from 1 to 256, found the text `many`
      |
    3 | processes: {web: {workers: many}}
      |                            ^^^^
    ");
    let project = Project::elsewhere("{provider: shh}");
    insta::assert_snapshot!(up(&project), @r"
    exit 3
    error: ship.yml:1:20: `server.provider` can't be `shh`
      |
    1 | server: {provider: shh}
      |                    ^^^
    hint: did you mean `ssh`?
    hint: it takes ssh, vagrant, digitalocean, ec2
    ");
    std::fs::remove_file(project.dir.join("ship.yml")).unwrap();
    insta::assert_snapshot!(up(&project), @r#"
    exit 3
    error: there is no ship.yml in PROJECT
    hint: `ship init` writes one, -C names another folder
    "#);
}

#[test]
fn a_project_that_is_not_there_as_said() {
    let project = nowhere();
    project.config("django: {settings: locallibrary.setings}");
    insta::assert_snapshot!(up(&project), @r#"
    exit 3
    error: ship.yml:2:20: `django.settings`: the settings module `locallibrary.setings` does not exist as a file below the project's folder
      |
    2 | django: {settings: locallibrary.setings}
      |                    ^^^^^^^^^^^^^^^^^^^^
    hint: did you mean `locallibrary.settings`?
    hint: settings modules here: locallibrary.settings
    "#);
    project.config("playbooks: [redsi]");
    insta::assert_snapshot!(up(&project), @r"
    exit 3
    error: ship.yml:2:13: `playbooks[0]`: no playbook `redsi`
      |
    2 | playbooks: [redsi]
      |             ^^^^^
    hint: did you mean `redis`?
    hint: ship's own: backups, base, django, hardening, memcached, mysql, nginx, postgres, python, redis, schedule, sqlite, tls, volume; a file is written `./redsi.yml`
    ");
    project.config("playbooks: [./ops/none.yml]");
    insta::assert_snapshot!(up(&project), @r#"
    exit 3
    error: ship.yml:2:13: `playbooks[0]`: `ops/none.yml` is not a file of the project
      |
    2 | playbooks: [./ops/none.yml]
      |             ^^^^^^^^^^^^^^
    "#);
    project.config("");
    project.write(".ship/templates/nginx/site.conf.j2", "server {\n    listen {{ port;\n}\n");
    insta::assert_snapshot!(up(&project), @r#"
    exit 3
    error: .ship/templates/nginx/site.conf.j2:2: syntax error: unexpected character
      |
    2 | listen {{ port;
      |
    "#);
    std::fs::remove_dir_all(project.dir.join(".ship")).unwrap();
    std::fs::remove_file(project.dir.join("manage.py")).unwrap();
    insta::assert_snapshot!(up(&project), @r#"
    exit 3
    error: no manage.py of a Django project in this folder or below it (41 files searched)
    hint: run ship in the project's folder, or name it with `-C DIR`
    hint: virtual environments, node_modules and hidden folders are not searched, nor what git ignores
    "#);
}

#[test]
fn nothing_listens_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let project =
        Project::elsewhere(&format!("{{provider: ssh, host: 127.0.0.1, port: {free}, user: root}}"));
    insta::assert_snapshot!(up(&project).replace(&free.to_string(), "PORT"), @r#"
    exit 4
    error: 127.0.0.1 refused the connection on port PORT
    hint: is sshd running, and on port PORT? A server that has just booted needs a moment
    "#);
    let project = Project::elsewhere("{provider: ssh, host: no-such-host.invalid, user: root}");
    insta::assert_snapshot!(up(&project), @r#"
    exit 4
    error: the name no-such-host.invalid could not be looked up
    failed to lookup address information: Name or service not known
    hint: check `server.host` in ship.yml, and this machine's network
    "#);
}

#[test]
fn vagrant_is_not_installed() {
    let project = Project::elsewhere("{provider: vagrant}");
    let empty = tempfile::tempdir().unwrap();
    let ran = Ran::of(project.command(&["up", "--yes"]).env("PATH", empty.path()));
    insta::assert_snapshot!(message(&project, &ran), @r#"
    exit 3
    error: `server.provider` is vagrant, and there is no `vagrant` on this computer
    hint: Debian and Ubuntu: `vagrant/setup` of ship's repository installs it with a local box
    hint: elsewhere: https://developer.hashicorp.com/vagrant/install, and VirtualBox or libvirt
    "#);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_server_that_turns_ship_away() {
    let server = TestBox::builder().user("deploy", Sudo::None).boot();
    let project = Project::new(&server);
    let named =
        |text: String| text.replace(&server.host, "HOST").replace(&server.key.display().to_string(), "KEY");

    // Somebody else's key.
    let other = tempfile::tempdir().unwrap();
    let key = other.path().join("other");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let stranger = Project::elsewhere(&format!(
        "{{provider: ssh, host: {}, user: root, key: {}}}",
        server.host,
        key.display()
    ));
    insta::assert_snapshot!(named(up(&stranger)).replace(&key.display().to_string(), "OTHER"), @r#"
    exit 4
    error: root@HOST refused the login
      tried OTHER (SHA256:…)
      the server takes: publickey, password
    hint: to give it your key: ssh-copy-id root@HOST
    hint: is the user right? Cloud images often want `debian`, `admin` or `ubuntu` instead of `root`
    "#);

    // A user who may log in and no more.
    let deployer = Project::for_user(&server, "deploy");
    insta::assert_snapshot!(named(up(&deployer)), @r#"
    exit 4
    error: deploy@HOST may not become root: sudo wants a password, and none was given
    hint: run ship on a terminal to be asked for it, or set SHIP_SUDO_PASSWORD; to need none, as root on the server: echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy
    "#);

    server.exec("echo 'deploy:right horse' | chpasswd");
    let with_password = |password: &str| {
        let ran = Ran::of(deployer.command(&["up", "--yes"]).env("SHIP_SUDO_PASSWORD", password));
        named(message(&deployer, &ran))
    };
    insta::assert_snapshot!(with_password("right horse"), @r#"
    exit 4
    error: deploy@HOST may not become root: sudo does not allow it
    hint: as root on the server: adduser deploy sudo; or log in as root
    "#);
    insta::assert_snapshot!(with_password("wrong horse"), @r#"
    exit 4
    error: deploy@HOST may not become root: sudo does not take the password
    hint: it is the password of deploy on the server; to need none: echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy, as root on the server
    "#);

    // Not a system that the recipes are made for.
    server.exec("cp --remove-destination -L /etc/os-release /root/os-release; rm /etc/os-release; printf 'ID=fedora\\nVERSION_ID=43\\nPRETTY_NAME=\"Fedora Linux 43\"\\n' >/etc/os-release");
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 3
    error: the server runs Fedora Linux 43; ship needs Debian or Ubuntu
    "#);
    server.exec("mv /root/os-release /etc/os-release");

    // A Python that the server can't have.
    project.config("python: \"3.7\"");
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 3
    error: the project wants Python 3.7 (ship.yml), and Debian GNU/Linux 12 (bookworm) has 3.11.2
    hint: uv brings 3.8 to 3.14 where the server has another
    hint: `python:` in ship.yml asks for another than the project's files; packages pinned for an older one may need newer pins
    "#);
    project.config("");

    // Names and values that only the server's facts complete.
    project.write(
        ".ship/templates/nginx/site.conf.j2",
        "server {\n    listen 80;\n    server_name {{ domain }};\n}\n",
    );
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 3
    error: .ship/templates/nginx/site.conf.j2:3: undefined value: `domain` is undefined
      |
    3 | server_name {{ domain }};
      |
    "#);
    std::fs::remove_dir_all(project.dir.join(".ship/templates")).unwrap();

    project.config("secrets: [SENTRY_DSN, STRIPE_KEY]");
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 3
    error: secrets SENTRY_DSN, STRIPE_KEY are not set on the server
    hint: ship config set SENTRY_DSN=… STRIPE_KEY=…
    "#);
    project.config("");

    // All of these were told before anything was changed.
    assert_eq!(server.exec("ls -d /srv/library /var/lib/ship /etc/ship 2>/dev/null || true"), "");

    // The server was exchanged, or someone is in between: nothing is sent.
    server.exec("ssh-keygen -q -t ed25519 -N '' -f /root/new && mv /root/new /etc/ssh/ssh_host_ed25519_key && mv /root/new.pub /etc/ssh/ssh_host_ed25519_key.pub && systemctl restart ssh");
    let before = server.sshd_counts();
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 4
    error: the host key of HOST has changed: it is not the one recorded in PROJECT/.ship/known_hosts:1
      recorded  ssh-ed25519 SHA256:…
      shown     ssh-ed25519 SHA256:…
    hint: someone may be between you and the server: do not go on unless you know why it changed
    hint: if you reinstalled the server: ssh-keygen -f PROJECT/.ship/known_hosts -R HOST
    "#);
    assert_eq!(server.sshd_counts(), before, "logged in to a server with another key");

    // Every packet is dropped.
    server.cut();
    let began = Instant::now();
    insta::assert_snapshot!(named(up(&project)), @r#"
    exit 4
    error: HOST did not answer on port 22: ship tried for 15 s, connecting
    hint: is the server on, and does its firewall let port 22 through?
    "#);
    assert!(began.elapsed() < Duration::from_secs(20), "took {:?}", began.elapsed());
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn a_bad_release_leaves_the_old_one_serving() {
    let server = TestBox::builder().suite(Suite::Bookworm).packages(true).boot();
    let project = Project::new(&server);
    project.put_on_page("as it was");
    project.up();
    let failed = |what: &str| {
        let text = up(&project).replace(&server.host, "HOST");
        let page = get(&server, "/");
        assert_eq!(page.status, 200, "after {what}");
        assert!(page.text().contains("as it was"), "after {what}");
        text
    };
    let restore = |path: &str| project.git(&["checkout", "--", path]);

    project.write("requirements.txt", "Django==5.2.19\nno-such-package-of-anyone==1.0\n");
    insta::assert_snapshot!(failed("requirements"), @r"
    exit 1
    error: `install Python packages` failed: No solution found when resolving dependencies: Because no-such-package-of-anyone was not found in the package registry and you require no-such-package-of-anyone==1.0, we can conclude that your requirements are unsatisfiable.
    error: No solution found when resolving dependencies
      cause: Because no-such-package-of-anyone was not found in the package registry and you require no-such-package-of-anyone==1.0, we can conclude that your requirements are unsatisfiable.
    hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    ");
    restore("requirements.txt");

    project.config("django: {wsgi: locallibrary.wsgy}");
    insta::assert_snapshot!(failed("wsgi"), @r#"
    exit 3
    error: ship.yml:2:16: `django.wsgi`: `locallibrary.wsgy` is not a module of the project
      |
    2 | django: {wsgi: locallibrary.wsgy}
      |                ^^^^^^^^^^^^^^^^^
    hint: did you mean `locallibrary.wsgi`?
    hint: WSGI modules here: locallibrary.wsgi
    "#);
    project.config("");

    project.replace("locallibrary/wsgi.py", "import os", "import os\nimport no_such_module");
    insta::assert_snapshot!(failed("wsgi import"), @r#"
    exit 1
    error: `preflight v3` failed: loading locallibrary.wsgi: ModuleNotFoundError: No module named 'no_such_module'
    Traceback (most recent call last):
      ...
      File "/srv/library/releases/v3/locallibrary/wsgi.py", line N, in <module>
        import no_such_module
    ModuleNotFoundError: No module named 'no_such_module'
    hint: `no_such_module` is neither in the project nor in its list of packages; where it works, `pip freeze` names the package that has it
    hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    "#);
    restore("locallibrary/wsgi.py");

    project.replace("locallibrary/settings.py", "import os", "import os\nBROKEN = os.environ[\"NOT_SET\"]");
    insta::assert_snapshot!(failed("a variable that nobody set"), @r"
    exit 3
    error: NOT_SET is not set
    locallibrary/settings.py:4: the settings need NOT_SET
    hint: ship config set NOT_SET=…
    hint: what is no secret may stand in ship.yml: `env: {NAME: value}`
    ");
    restore("locallibrary/settings.py");

    project.replace(
        "locallibrary/settings.py",
        "import os",
        "import os\nBROKEN = int(os.environ.get(\"NOT_SET\", \"x\"))",
    );
    insta::assert_snapshot!(failed("settings"), @r#"
    exit 1
    error: `preflight v4` failed: loading locallibrary.wsgi: ValueError: invalid literal for int() with base 10: 'x'
    Traceback (most recent call last):
      ...
      File "/srv/library/releases/v4/locallibrary/settings.py", line N, in <module>
        BROKEN = int(os.environ.get("NOT_SET", "x"))
                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    ValueError: invalid literal for int() with base 10: 'x'
    hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    "#);
    restore("locallibrary/settings.py");

    project.write(
        "catalog/migrations/0003_broken.py",
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    dependencies = [(\"catalog\", \"0002_first_books\")]\n    operations = [migrations.RunSQL(\"alter table no_such_table add x int\")]\n",
    );
    insta::assert_snapshot!(failed("migration"), @r#"
    exit 1
    error: `migrate the database` failed: catalog.0003_broken: ProgrammingError: relation "no_such_table" does not exist
    Operations to perform:
      Apply all migrations: admin, auth, catalog, contenttypes, sessions
    Running migrations:
      Applying catalog.0003_broken...
    Traceback (most recent call last):
      File "/srv/library/venvs/…/lib/python3.11/site-packages/django/db/backends/utils.py", line N, in _execute
        return self.cursor.execute(sql)
               ^^^^^^^^^^^^^^^^^^^^^^^^
      File "/srv/library/venvs/…/lib/python3.11/site-packages/psycopg/cursor.py", line N, in execute
        raise ex.with_traceback(None)
    psycopg.errors.UndefinedTable: relation "no_such_table" does not exist
    Traceback (most recent call last):
      ...
      File "/srv/library/venvs/…/lib/python3.11/site-packages/django/db/backends/utils.py", line N, in _execute
        return self.cursor.execute(sql)
               ^^^^^^^^^^^^^^^^^^^^^^^^
      File "/srv/library/venvs/…/lib/python3.11/site-packages/psycopg/cursor.py", line N, in execute
        raise ex.with_traceback(None)
    django.db.utils.ProgrammingError: relation "no_such_table" does not exist
    hint: PostgreSQL took back all of catalog.0003_broken
    hint: the database of before v5 is in /var/backups/ship/library/v5.dump
    hint: the site is as it was: v1 serves; mend the cause and run `ship up` again
    "#);
    std::fs::remove_file(project.dir.join("catalog/migrations/0003_broken.py")).unwrap();

    let template =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/nginx/site.conf.j2"))
            .unwrap();
    project.write(
        ".ship/templates/nginx/site.conf.j2",
        &template.replace("keepalive_timeout 65s;", "keepalive_timeout 65 parsecs;"),
    );
    let refused = |what: &str| {
        let text = failed(what).lines().take(2).collect::<Vec<_>>().join("\n");
        mask(&text, "library.conf:", "N", |c| !c.is_ascii_digit())
    };
    let first = refused("nginx");
    insta::assert_snapshot!(first, @r#"
    exit 1
    error: `reload nginx.service` failed: "keepalive_timeout" directive invalid value in /etc/nginx/sites-enabled/library.conf:N
    "#);
    // Refused again, not taken for done, and nothing that could stop the next boot lies there.
    assert_eq!(refused("nginx, again"), first);
    server.exec("nginx -t -q");
    std::fs::remove_dir_all(project.dir.join(".ship/templates")).unwrap();

    // Who has the port of the web server is named, and how it is had back.
    server.exec("systemctl stop nginx && systemd-run --quiet --unit other python3 -m http.server 80");
    server.exec("timeout 30 sh -c 'until ss -Hltn sport = :80 | grep -q .; do sleep 0.1; done'");
    let taken = project.ship(&["up", "--yes"]).exits(1);
    let taken = taken.says("failed: port 80 is taken by python3 (process ").says(" of other.service)");
    taken.says("hint: if nothing needs it: `ship ssh -- sudo systemctl disable --now other.service`");
    server.exec("systemctl stop other");

    // Mended, everything goes on.
    project.up();
    project.up().says("Nothing to change");

    // Forgotten: `makemigrations`.
    let title = "    title = models.CharField(max_length=200)\n    author";
    let lacking =
        "the models of catalog have changes that no migration makes: `python manage.py makemigrations`";
    project.replace(
        "catalog/models.py",
        title,
        &format!("    shelf = models.IntegerField(null=True)\n{title}"),
    );
    let failed = project.ship(&["up", "--yes"]).exits(1).says("column catalog_book.shelf does not exist");
    failed.says(&format!("hint: {lacking} writes it"));
    restore("catalog/models.py");
    project.replace("catalog/models.py", title, &title.replace("(max", "(\"name\", max"));
    let warned = project.up().says(&format!("warning: {lacking} writes it"));
    assert_eq!(warned.stderr.matches(lacking).count(), 1, "it is said once: {}", warned.stderr);
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn the_disk_is_full() {
    // The estimate refuses before anything hurts.
    let server = TestBox::builder().packages(true).disk_mb(900).boot();
    let project = Project::new(&server);
    let free = || server.exec("df -Pm /srv | awk 'NR == 2 { print $4 }'").trim().parse::<u64>().unwrap();
    server.exec(&format!("fallocate -l {}M /var/filler", free() - 200));
    let text = up(&project);
    insta::assert_snapshot!(mask(&text, "the server has ", "N", |c| c == ' '), @r"
    exit 1
    error: the server has N MiB free and this release needs about 364 MiB
    hint: nothing was changed
    hint: look what fills it with `ship ssh -- df -h` and `ship ssh -- du -xsh /var/* /srv/*`
    ");
    assert_eq!(server.exec("ls -d /srv/library /var/lib/ship 2>/dev/null || true"), "");
    server.exec("rm /var/filler");
    project.put_on_page("as it was");
    project.up();

    // Something else fills the disk while files arrive.
    project.put_on_page("as it will be");
    std::fs::write(project.dir.join("noise.bin"), noise(2)).unwrap();
    let ship = project.start_up();
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &ship.id().to_string()]).status().unwrap().success());
    };
    wait_for("the upload to begin", 30, || {
        server.exec_status("ls /var/lib/ship/library/apply/*/upload.part").status.success()
    });
    signal("STOP");
    server.exec("cat /dev/zero >/var/filler 2>/dev/null || true");
    signal("CONT");
    let ran = Ran::finished(ship);
    // What follows depends on whether the disk could take the journal's end.
    let cause = message(&project, &ran).lines().take(2).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(cause, @r#"
    exit 1
    error: `upload v2` failed: the server's disk is full
    "#);
    let page = get(&server, "/");
    assert!(page.status == 200 && page.text().contains("as it was"), "{}", page.status);
    server.exec("rm /var/filler");
    project.up();
    assert!(get(&server, "/").text().contains("as it will be"));
    project.up().says("Nothing to change");
}
