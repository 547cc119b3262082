use std::collections::BTreeMap;

use insta::assert_snapshot;

use super::*;
use crate::error::Failure;
use crate::process::serving::{self, Interface};
use crate::project::{Tree, detect};

fn tree(files: &[(&str, &str)]) -> Project {
    detect(&Tree::from_map(files.iter().map(|(path, text)| ((*path).into(), (*text).into())).collect()))
}

fn library() -> Project {
    tree(&[
        ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings') # django"),
        ("library/settings.py", "WSGI_APPLICATION = 'library.wsgi.application'"),
        ("library/settings_prod.py", ""),
        ("library/wsgi.py", ""),
        ("ops/custom.yml", ""),
        ("requirements.txt", "Django\n"),
        ("deploy/extra.txt", ""),
        ("runtime.txt", "python-3.10.2"),
    ])
}

const DEFAULTS: Defaults<'_> = Defaults { folder_name: "my site", playbooks: &["redis", "memcached"] };

fn load_in(text: &str, environment: Option<&str>) -> Result<Config, ConfigError> {
    load("ship.yml", text, environment, &library(), &DEFAULTS)
}

/// The failure as the user reads it.
fn refused(text: &str) -> String {
    Failure::from(load_in(text, None).unwrap_err()).to_string()
}

/// The one-line message of a file that is fine but for `line`.
fn message(line: &str) -> String {
    match load_in(&format!("server: {{provider: vagrant}}\n{line}\n"), None) {
        Ok(_) => "fine".to_owned(),
        Err(error) => {
            error.problems().iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
        }
    }
}

fn with(line: &str) -> Config {
    load_in(&format!("server: {{provider: vagrant}}\n{line}\n"), None).unwrap()
}

#[test]
fn the_smallest_file_gets_every_default() {
    let config = load_in("server: {provider: vagrant}", None).unwrap();
    assert_eq!(
        config,
        Config {
            app: "my-site".into(),
            environment: None,
            server: Server::Vagrant(VagrantServer {
                provider: VagrantProvider::Auto,
                vagrant_box: None,
                memory_mb: 1024,
                cpus: 1,
            }),
            domains: vec![],
            dns: Dns { host: None, ttl_s: 300, create_zone: false },
            tls: Tls::NONE,
            python: PythonWish::Version { version: "3.10.2".into(), origin: "runtime.txt".into() },
            python_mirror: None,
            node: None,
            django: Django {
                root: ".".into(),
                settings: "library.settings".into(),
                wsgi: "library.wsgi".into(),
                dependencies: Dependencies::requirements(vec!["requirements.txt".into()]),
                geodjango: false,
                health: Health { path: "/".into(), timeout_s: 10, guessed: true },
                overlay: Overlay { on: true, off: Vec::new() },
            },
            database: Database::Postgres,
            database_why: String::new(),
            speaks_mysql: false,
            extensions: vec![],
            web: Web {
                serving: gunicorn("library.wsgi"),
                drain_s: 30,
                workers: None,
                timeout_s: 30,
                boot_timeout_s: 120,
                preload: true,
                max_upload_mb: 20,
                limits: Limits::default(),
            },
            workers: BTreeMap::new(),
            release_command: None,
            jobs: BTreeMap::new(),
            services: BTreeMap::new(),
            service_variables: BTreeMap::new(),
            hardening: Hardening::default(),
            port: DEFAULT_PORT,
            port_written: false,
            rate_limit: None,
            env: BTreeMap::new(),
            secrets: vec![],
            files: BTreeMap::new(),
            playbooks: vec![],
            backups: None,
            keep_releases: 5,
            dump_limit_mb: 2048,
        }
    );
}

fn gunicorn(application: &str) -> Serving {
    Serving {
        interface: Interface::Wsgi,
        application: application.into(),
        server: serving::Server::Gunicorn { class: None, flags: String::new() },
        origin: String::new(),
    }
}

const FULL: &str = r#"
app: library
server:
  provider: ssh
  host: 203.0.113.7
  user: deploy
  port: 2222
  key: ~/.ssh/id_ed25519
domains: [Library.example.com, www.library.example.com]
python: 3.10
django: {root: ./, settings: library.settings_prod, wsgi: "library.wsgi:application", health: /health/?a=1}
requirements: [requirements.txt, ./deploy/extra.txt]
database: external
processes:
  web: {workers: 3, timeout: 60}
  worker: celery -A library worker
upload_limit: 100
env:
  TIME_ZONE: UTC
  DEBUG: true
  RATIO: 1.10
  ZIP: 00123
  MOTTO: "Grüße, 世界 $HOME"
  EMPTY: ""
secrets: [SENTRY_DSN]
playbooks: [redis, ./ops/custom.yml]
keep: 3
environments:
  staging:
    app: library-staging
    server: {host: staging.example.com}
    domains: [staging.example.com]
    env: {DEBUG: false}
  local:
    server: {provider: vagrant, memory: 2048}
"#;

#[test]
fn everything_written_counts() {
    let config = load_in(FULL, None).unwrap();
    assert_eq!(
        config.server,
        Server::Ssh(SshServer {
            host: "203.0.113.7".into(),
            user: Some("deploy".into()),
            port: Some(2222),
            key: Some("~/.ssh/id_ed25519".into()),
        })
    );
    assert_eq!(config.domains, ["library.example.com", "www.library.example.com"]);
    assert_eq!(config.python, PythonWish::Version { version: "3.10".into(), origin: "ship.yml".into() });
    assert_eq!(
        config.django,
        Django {
            root: ".".into(),
            settings: "library.settings_prod".into(),
            wsgi: "library.wsgi:application".into(),
            dependencies: Dependencies::requirements(vec![
                "requirements.txt".into(),
                "deploy/extra.txt".into()
            ]),
            geodjango: false,
            health: Health { path: "/health/?a=1".into(), timeout_s: 10, guessed: false },
            overlay: Overlay { on: true, off: Vec::new() },
        }
    );
    assert_eq!(
        config.web,
        Web {
            serving: gunicorn("library.wsgi:application"),
            drain_s: 60,
            workers: Some(3),
            timeout_s: 60,
            boot_timeout_s: 120,
            preload: true,
            max_upload_mb: 100,
            limits: Limits::default(),
        }
    );
    let worker = Worker {
        command: "celery -A library worker".into(),
        settle_s: 5,
        stop_timeout_s: 300,
        process: "worker".into(),
        singleton: false,
        origin: "one instance a release".into(),
        limits: Limits::default(),
    };
    assert_eq!(config.workers, BTreeMap::from([("worker".into(), worker)]));
    let env: Vec<(&str, &str)> = config.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        env,
        [
            ("DEBUG", "true"),
            ("EMPTY", ""),
            ("MOTTO", "Grüße, 世界 $HOME"),
            ("RATIO", "1.10"),
            ("TIME_ZONE", "UTC"),
            ("ZIP", "00123"),
        ]
    );
    assert_eq!(config.secrets, ["SENTRY_DSN", "DATABASE_URL"]);
    assert_eq!(
        config.playbooks,
        [PlaybookRef::Builtin("redis".into()), PlaybookRef::File("ops/custom.yml".into())]
    );
    assert_eq!((config.keep_releases, config.database), (3, Database::External));
}

#[test]
fn an_environment_is_laid_over() {
    let staging = load_in(FULL, Some("staging")).unwrap();
    assert_eq!(staging.environment.as_deref(), Some("staging"));
    assert_eq!(staging.app, "library-staging");
    assert_eq!(staging.domains, ["staging.example.com"]);
    assert_eq!(staging.env["DEBUG"], "false");
    assert_eq!(staging.env["TIME_ZONE"], "UTC");
    let Server::Ssh(server) = staging.server else { panic!("{staging:?}") };
    assert_eq!((server.host.as_str(), server.port), ("staging.example.com", Some(2222)));

    let Server::Vagrant(server) = load_in(FULL, Some("local")).unwrap().server else { panic!() };
    assert_eq!(server.memory_mb, 2048);

    let halves = "server: {memory: 512}\nenv: {provider: a, B: b}\n\
                  environments: {x: {server: {provider: vagrant}, env: {provider: c}}}\n";
    let config = load_in(halves, Some("x")).unwrap();
    assert_eq!(config.env, BTreeMap::from([("B".into(), "b".into()), ("provider".into(), "c".into())]));
    let Server::Vagrant(server) = config.server else { panic!() };
    assert_eq!(server.memory_mb, 512);

    let only_there = "environments: {prod: {server: {provider: ssh, host: a}}}";
    assert!(load_in(only_there, Some("prod")).is_ok());
    assert_snapshot!(refused(only_there), @r"
    error: ship.yml:1:1: `server` is missing
    hint: say where the site runs: `server: {provider: digitalocean, region: fra1}`, `{provider: ec2}`, `{provider: ssh, host: 203.0.113.7}` for a host you have, or `{provider: vagrant}` for a local machine
    hint: or choose an environment that has it with `-e`: prod
    ");
}

#[test]
fn anchors_and_merges_work() {
    let text = "server: &box {provider: vagrant, memory: 512}\n\
                environments: {big: {server: {<<: *box, memory: 4096}}, same: {server: *box}}\n";
    let Server::Vagrant(server) = load_in(text, Some("big")).unwrap().server else { panic!() };
    assert_eq!(server.memory_mb, 4096);
    assert!(load_in(text, Some("same")).is_ok());
}

#[test]
fn unknown_keys() {
    assert_snapshot!(refused("server: {provider: vagrant}\ndomain: [example.com]\n"), @r"
    error: ship.yml:2:1: unknown key `domain`
      |
    2 | domain: [example.com]
      | ^^^^^^
    hint: did you mean `domains`?
    hint: the file takes app, server, domains, dns, tls, python, python_mirror, node, django, requirements, database, processes, schedule, services, hardening, port, rate_limit, upload_limit, env, secrets, files, playbooks, keep, dump_limit, backups, environments
    ");
    assert_snapshot!(refused("server:\n  provider: ssh\n  host: a\n  domain: [example.com]\n"), @r"
    error: ship.yml:4:3: unknown key `domain` in `server`
      |
    4 |   domain: [example.com]
      |   ^^^^^^
    hint: did you mean `domains` (one level up)?
    hint: `server` takes provider, host, user, port, key
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nprocesses: {web: {worker: 3}}\n"), @r"
    error: ship.yml:2:19: unknown key `worker` in `processes.web`
      |
    2 | processes: {web: {worker: 3}}
      |                   ^^^^^^
    hint: did you mean `workers`?
    hint: `processes.web` takes server, command, workers, timeout, boot_timeout, preload, drain, memory, network, sandbox, writable
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\ntls: letsencrypt\ncolour: red\nhost: a\n"), @r"
    error: ship.yml has 3 problems

    ship.yml:2:1: `tls`: there are no `domains` that a certificate could be for
      |
    2 | tls: letsencrypt
      | ^^^
    hint: `domains: [library.example.com]`, or `tls: self-signed`

    ship.yml:3:1: unknown key `colour`
      |
    3 | colour: red
      | ^^^^^^
    hint: the file takes app, server, domains, dns, tls, python, python_mirror, node, django, requirements, database, processes, schedule, services, hardening, port, rate_limit, upload_limit, env, secrets, files, playbooks, keep, dump_limit, backups, environments

    ship.yml:4:1: unknown key `host`
      |
    4 | host: a
      | ^^^^
    hint: did you mean `server: {provider: ssh, host: …}`?
    ");
}

#[test]
fn wrong_overlays() {
    let base = "server: {provider: vagrant}\ndjango: ";
    assert_snapshot!(refused(&format!("{base}{{overlay: {{allowed_host: off}}}}\n")), @r"
    error: ship.yml:2:19: `django.overlay`: no override `allowed_host`, did you mean `allowed_hosts`? (there are debug, secret_key, allowed_hosts, csrf_trusted_origins, databases, installed_apps, static_url, static_root, media_root, mailers, proxy_ssl_header, secure_cookies, security_headers, silenced_checks)
      |
    2 | django: {overlay: {allowed_host: off}}
      |                   ^^^^^^^^^^^^^^^^^^^
    ");
    assert_snapshot!(refused(&format!("{base}{{overlay: {{debug: never}}}}\n")), @r"
    error: ship.yml:2:27: `django.overlay.debug`: expected `on` or `off`, found the text `never`
      |
    2 | django: {overlay: {debug: never}}
      |                           ^^^^^
    ");
    assert_snapshot!(refused(&format!("{base}{{overlay: none}}\n")), @r"
    error: ship.yml:2:19: `django.overlay`: expected `off`, or a map of overrides such as `{allowed_hosts: off}`, found the text `none`
      |
    2 | django: {overlay: none}
      |                   ^^^^
    ");
}

#[test]
fn overlays() {
    for (text, on, off) in [
        ("off", false, &[][..]),
        ("false", false, &[]),
        ("on", true, &[]),
        ("{debug: off, allowed_hosts: on, databases: false}", true, &["debug", "databases"]),
    ] {
        let config = with(&format!("django: {{overlay: {text}}}"));
        assert_eq!((config.django.overlay.on, config.django.overlay.off.as_slice()), (on, off), "{text}");
    }
}

#[test]
fn secret_files() {
    let named = |line: &str| with(line).files.into_iter().collect::<Vec<_>>();
    let pair = |name: &str, here: &str| (name.to_owned(), here.to_owned());
    assert_eq!(
        named("files: [secrets.json, ./keys/a.pem]"),
        [pair("keys/a.pem", "./keys/a.pem"), pair("secrets.json", "secrets.json")]
    );
    assert_eq!(
        named("files: {secrets.json: ../keys/prod.json}"),
        [pair("secrets.json", "../keys/prod.json")]
    );
    assert_snapshot!(refused("server: {provider: vagrant}\nfiles: [../a.json]\n"), @r"
    error: ship.yml:2:9: `files[0]`: `../a.json` must be inside the project
      |
    2 | files: [../a.json]
      |         ^^^^^^^^^
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nfiles: {/etc/passwd: x}\n"), @r"
    error: ship.yml:2:22: `files./etc/passwd`: `/etc/passwd` must be relative to the project
      |
    2 | files: {/etc/passwd: x}
      |                      ^
    ");
}

#[test]
fn wrong_types() {
    assert_snapshot!(refused("server: {provider: vagrant}\ndomains: example.com\n"), @r"
    error: ship.yml:2:10: `domains`: expected a list, found `example.com`
      |
    2 | domains: example.com
      |          ^^^^^^^^^^^
    hint: `domains: [example.com]`
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nprocesses:\n  web:\n    workers: many\n"), @r"
    error: ship.yml:4:14: `processes.web.workers`: expected `auto` or a number from 1 to 256, found the text `many`
      |
    4 |     workers: many
      |              ^^^^
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nprocesses: {web: gunicorn library.wsgi}\n"), @r"
    error: ship.yml:2:18: `processes.web`: expected a map (server, command, workers, timeout, boot_timeout, preload, drain, memory, network, sandbox, writable), found `gunicorn library.wsgi`
      |
    2 | processes: {web: gunicorn library.wsgi}
      |                  ^^^^^^^^^^^^^^^^^^^^^
    hint: `web` takes settings: `web: {workers: auto, timeout: 30}`, `web: {command: daphne library.asgi}`
    ");
    assert_snapshot!(refused("server: {provider: vagrant, memory: \"2048\"}\n"), @r#"
    error: ship.yml:1:37: `server.memory`: expected a whole number, found the text `2048`
      |
    1 | server: {provider: vagrant, memory: "2048"}
      |                                     ^^^^^^
    hint: write the number without quotes
    "#);
    assert_snapshot!(refused("server: {provider: vagrant}\ndjango:\n  - settings\n"), @r"
    error: ship.yml:3:3: `django`: expected a map (root, settings, wsgi, asgi, health, overlay), found a list
      |
    3 |   - settings
      |   ^^^^^^^^^^
    ");
    assert_snapshot!(refused("- app: x\n"), @r"
    error: ship.yml:1:1: expected keys and values, such as `app: library`
      |
    1 | - app: x
      | ^^^^^^^^
    ");
}

#[test]
fn the_server() {
    assert_snapshot!(refused("app: library\n"), @r"
    error: ship.yml:1:1: `server` is missing
    hint: say where the site runs: `server: {provider: digitalocean, region: fra1}`, `{provider: ec2}`, `{provider: ssh, host: 203.0.113.7}` for a host you have, or `{provider: vagrant}` for a local machine
    ");
    assert_snapshot!(refused("server:\n  host: example.com\n"), @r"
    error: ship.yml:1:1: `provider` is missing in `server`
      |
    1 | server:
      | ^^^^^^
    hint: `digitalocean` or `ec2` make a server, `ssh` is for a host you have, `vagrant` for a local machine
    ");
    assert_snapshot!(refused("server: {provider: ssh}\n"), @r"
    error: ship.yml:1:1: `host` is missing in `server`
      |
    1 | server: {provider: ssh}
      | ^^^^^^
    hint: a host name, an address, or an alias of ~/.ssh/config
    ");
    assert_snapshot!(refused("server:\n  provider: vagrnt\n"), @r"
    error: ship.yml:2:13: `server.provider` can't be `vagrnt`
      |
    2 |   provider: vagrnt
      |             ^^^^^^
    hint: did you mean `vagrant`?
    hint: it takes ssh, vagrant, digitalocean, ec2
    ");
    assert_snapshot!(refused("server:\n  provider: ssh\n  host: example.com\n  box: debian/bookworm64\n"), @r"
    error: ship.yml:4:3: unknown key `box` in `server`
      |
    4 |   box: debian/bookworm64
      |   ^^^
    hint: `box` belongs to `provider: vagrant`; this server's is `ssh`
    hint: `server` takes provider, host, user, port, key
    ");
    assert_snapshot!(refused("server: {provider: vagrant, host: a}\n"), @r"
    error: ship.yml:1:29: unknown key `host` in `server`
      |
    1 | server: {provider: vagrant, host: a}
      |                             ^^^^
    hint: `host` belongs to `provider: ssh`; this server's is `vagrant`
    hint: `server` takes provider, vagrant_provider, box, memory, cpus
    ");
    assert_snapshot!(refused("server: deploy@example.com\n"), @r"
    error: ship.yml:1:9: `server`: expected a map, found `deploy@example.com`
      |
    1 | server: deploy@example.com
      |         ^^^^^^^^^^^^^^^^^^
    hint: such as `server: {provider: ssh, host: 203.0.113.7}`
    ");
    assert_snapshot!(refused("server: {provider: ssh, host: deploy@example.com}\n"), @r"
    error: ship.yml:1:31: `server.host`: the login name goes into a key of its own
      |
    1 | server: {provider: ssh, host: deploy@example.com}
      |                               ^^^^^^^^^^^^^^^^^^
    hint: `host: example.com` and `user: deploy`
    ");
}

#[test]
fn cloud_servers() {
    let texts = [
        "server: {provider: digitalocean}",
        "server: {provider: aws}",
        "server:\n  provider: ec2\n  instance_type: t3.micro",
        "server:\n  provider: digitalocean\n  region: fra1\n  user: root",
        "server:\n  provider: digitalocean\n  region: fra1\n  ssh_from: [203.0.113.7/33]",
        "server:\n  provider: digitalocean\n  region: fra1\n  tags: [\"a b\", \"ship:x\"]",
        "server:\n  provider: ec2\n  disk: 4\n  tags: {Name: x}",
        "server: {provider: ec2}\ndns: route53",
        "server: {provider: vagrant}\ndomains: [a.example]\ndns: digitalocean",
        "server: {provider: ec2}\ndomains: [a.example]\ndns: aws",
        "server: {provider: ec2}\nenvironments: {default: {}}",
    ];
    let all: Vec<String> = texts.iter().map(|text| refused(&format!("{text}\n"))).collect();
    assert_snapshot!(all.join("\n\n"), @r#"
    error: ship.yml:1:1: `region` is missing in `server`
      |
    1 | server: {provider: digitalocean}
      | ^^^^^^
    hint: such as `region: fra1`; DigitalOcean's regions: https://docs.digitalocean.com/platform/regional-availability/

    error: ship.yml:1:20: `server.provider` can't be `aws`
      |
    1 | server: {provider: aws}
      |                    ^^^
    hint: did you mean `ec2`?
    hint: it takes ssh, vagrant, digitalocean, ec2

    error: ship.yml:3:3: unknown key `instance_type` in `server`
      |
    3 |   instance_type: t3.micro
      |   ^^^^^^^^^^^^^
    hint: did you mean `size`?
    hint: `server` takes provider, region, size, image, disk, user, key, ssh_from, elastic_ip, volume, vpc, subnet, termination_protection, tags

    error: ship.yml:4:9: `server.user`: root does not log in to servers that ship makes
      |
    4 |   user: root
      |         ^^^^
    hint: leave it out: a user `deploy` with sudo is made

    error: ship.yml:4:14: `server.ssh_from[0]`: `203.0.113.7/33` is not a network such as 203.0.113.0/24
      |
    4 |   ssh_from: [203.0.113.7/33]
      |              ^^^^^^^^^^^^^^

    error: ship.yml has 2 problems

    ship.yml:4:10: `server.tags[0]`: a tag of DigitalOcean's is letters, digits, colons, dashes and underscores
      |
    4 |   tags: ["a b", "ship:x"]
      |          ^^^^^

    ship.yml:4:17: `server.tags[1]`: tags that start with `ship` are ship's own
      |
    4 |   tags: ["a b", "ship:x"]
      |                 ^^^^^^^^

    error: ship.yml has 2 problems

    ship.yml:3:9: `server.disk`: 4 is not from 8 to 16384 GiB
      |
    3 |   disk: 4
      |         ^

    ship.yml:4:16: `server.tags.Name`: this tag is AWS's or ship's own
      |
    4 |   tags: {Name: x}
      |                ^

    error: ship.yml:2:1: `dns`: there are no `domains` to keep records of
      |
    2 | dns: route53
      | ^^^

    error: ship.yml:3:1: `dns`: a Vagrant machine has no address that others could reach
      |
    3 | dns: digitalocean
      | ^^^

    error: ship.yml:3:6: `dns`: expected `digitalocean`, `route53` or `none`, or a map with `provider`, found the text `aws`
      |
    3 | dns: aws
      |      ^^^
    hint: did you mean `route53`?

    error: ship.yml:2:16: `environments.default`: `default` is the name of what is outside the environments
      |
    2 | environments: {default: {}}
      |                ^^^^^^^
    hint: such as `production`
    "#);
}

#[test]
fn networks_are_written_as_clouds_write_them() {
    let text = "server: {provider: ec2, ssh_from: [203.0.113.77/24, 203.0.113.9, \"2001:db8::7/64\", 203.0.113.9/32]}";
    let Server::Ec2(server) = load_in(text, None).unwrap().server else { panic!("not EC2") };
    assert_eq!(server.common.ssh_from, ["2001:db8::/64", "203.0.113.0/24", "203.0.113.9/32"]);
}

#[test]
fn domains() {
    assert_snapshot!(refused("server: {provider: vagrant}\ndomains:\n  - ok.example.com\n  - https://example.com/\n"), @r"
    error: ship.yml:4:5: `domains[1]`: `https://example.com/` is more than a host name
      |
    4 |   - https://example.com/
      |     ^^^^^^^^^^^^^^^^^^^^
    hint: write `example.com`
    ");
    let long = format!("domains: [{}.example.com]", "a".repeat(64));
    for (line, expected) in [
        ("domains: [Example.COM, localhost, a-b.example.com, xn--bcher-kva.example]", "fine"),
        ("domains: [exa_mple.com]", "`domains[0]`: `exa_mple.com` is not a host name"),
        ("domains: [-a.com]", "`domains[0]`: `-a.com` is not a host name"),
        ("domains: [a..com]", "`domains[0]`: `a..com` is not a host name"),
        ("domains: ['']", "`domains[0]`: `` is empty"),
        (
            "domains: ['*.example.com']",
            "`domains[0]`: `*.example.com` is a wildcard, which is not in this version",
        ),
        ("domains: [bücher.example]", "`domains[0]`: `bücher.example` has letters beyond ASCII"),
        ("domains: [a.com, A.com]", "`domains[1]`: `a.com` is there twice"),
        ("domains: [192.0.2.1]", "`domains[0]`: `192.0.2.1` is an address, not a name"),
        ("domains: ['a.com:8000']", "`domains[0]`: `a.com:8000` is more than a host name"),
        ("domains: ['a b.com; rm']", "`domains[0]`: `a b.com; rm` is not a host name"),
        (long.as_str(), &format!("`domains[0]`: `{}.example.com` is not a host name", "a".repeat(64))),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
}

#[test]
fn python_without_quotes() {
    assert_eq!(with("python: 3.10").python, with("python: \"3.10\"").python);
    assert_snapshot!(refused("server: {provider: vagrant}\npython: 3.1\n"), @r#"
    error: ship.yml:2:9: `python`: Python 3.1 is too old for Django
      |
    2 | python: 3.1
      |         ^^^
    hint: write `python: "3.10"` if you meant 3.10: without quotes YAML tools turn 3.10 into 3.1
    "#);
    assert_snapshot!(refused("server: {provider: vagrant}\npython: python3\n"), @r#"
    error: ship.yml:2:9: `python`: `python3` is not a version
      |
    2 | python: python3
      |         ^^^^^^^
    hint: such as `python: "3.11"` or `python: "3.11.4"`
    "#);
    assert_eq!(message("python: 2.7"), "`python`: Python 2.7 can't be installed");
    assert_eq!(message("python:"), "fine");
}

#[test]
fn names_of_environment_variables() {
    assert_snapshot!(refused("server: {provider: vagrant}\nenv:\n  DATABASE_URL: postgres://x\n"), @r"
    error: ship.yml:3:3: `env.DATABASE_URL`: ship sets this one itself
      |
    3 |   DATABASE_URL: postgres://x
      |   ^^^^^^^^^^^^
    hint: `database: external` if the database is elsewhere
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nenv: {TOKEN: x}\nsecrets: [OTHER, TOKEN]\n"), @r"
    error: ship.yml:3:18: `secrets[1]`: `TOKEN` is both a secret and in `env.TOKEN`
      |
    3 | secrets: [OTHER, TOKEN]
      |                  ^^^^^
    hint: keep it in one of them
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nsecrets: [TOKEN=hunter2]\n"), @r"
    error: ship.yml:2:11: `secrets[0]`: only the names of secrets stand here, never a value
    hint: `secrets: [TOKEN]`, and `ship config set TOKEN=…` for the value
    ");
    assert_snapshot!(refused("server: {provider: vagrant}\nsecrets:\n  TOKEN: hunter2\n"), @r"
    error: ship.yml:3:3: `secrets`: expected a list, found a map
    hint: only names stand here: `secrets: [NAME]`; `ship config set NAME=…` sets the value
    ");
    for (line, expected) in [
        ("env: {SECRET_KEY: x, PORT: 1, DJANGO_SETTINGS_MODULE: y, _x: z}", "fine"),
        (
            "env: {LISTEN_FDS: 1}",
            "`env.LISTEN_FDS`: systemd sets this one for each process; a value here would break the start",
        ),
        (
            "secrets: [NOTIFY_SOCKET]",
            "`secrets[0]`: `NOTIFY_SOCKET` systemd sets this one for each process; a value here would break the start",
        ),
        (
            "env: {A-B: 1}",
            "`env.A-B`: an environment variable is named with letters, digits and `_`, not starting with a digit",
        ),
        (
            "env: {1A: 1}",
            "`env.1A`: an environment variable is named with letters, digits and `_`, not starting with a digit",
        ),
        ("env: {A: }", "`env.A`: expected text, found nothing"),
        ("env: {A: [x]}", "`env.A`: expected text, found a list"),
        ("env: {A: \"\\0\"}", "`env.A`: a value can't hold a NUL"),
        ("database: external\nenv: {DATABASE_URL: postgres://x}", "fine"),
        ("secrets: [A, A]", "`secrets[1]`: `A` is there twice"),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
}

#[test]
fn the_rest() {
    for (line, expected) in [
        (
            "app: Library",
            "`app`: `Library` is not a name of lowercase letters, digits and dashes, starting with a letter, at most 30 long",
        ),
        ("app: postgres", "`app`: `postgres` is a user or service of the server itself"),
        ("keep: 1", "`keep`: 1 is not from 2 to 100 releases"),
        ("server: {provider: ssh, host: a, port: 70000}", "`server` is there twice"),
        ("keep: -1", "`keep`: expected a whole number from 0 up, found the number -1"),
        ("upload_limit: 0", "`upload_limit`: 0 is not from 1 to 10240 MiB"),
        (
            "processes: {web: {workers: 0}}",
            "`processes.web.workers`: expected `auto` or a number from 1 to 256, found the number 0",
        ),
        ("processes: {web: }", "fine"),
        (
            "processes: {Beat: x}",
            "`processes.Beat`: a process is named with lowercase letters, digits and dashes, starting with a letter, at most 30 long",
        ),
        ("processes: {beat: ' '}", "`processes.beat`: the command is empty"),
        ("processes: {beat: \"a\\nb\"}", "`processes.beat`: the command must be one line"),
        ("django: {health: up}", "`django.health`: `up` does not start with `/`"),
        ("django: {health: {path: up}}", "`django.health.path`: `up` does not start with `/`"),
        ("django: {health: {timeout: 0}}", "`django.health.timeout`: 0 is not from 1 to 600 seconds"),
        (
            "processes: {web: {boot_timeout: 0}}",
            "`processes.web.boot_timeout`: 0 is not from 1 to 3600 seconds",
        ),
        ("processes: {beat: {command: ' '}}", "`processes.beat.command`: the command is empty"),
        (
            "processes: {beat: {command: a, settle: 601}}",
            "`processes.beat.settle`: 601 is not from 0 to 600 seconds",
        ),
        (
            "processes: {beat: {command: a, stop_timeout: 0}}",
            "`processes.beat.stop_timeout`: 0 is not from 1 to 86400 seconds",
        ),
        (
            "processes: {beat: [a]}",
            "`processes.beat`: expected a command, or a map with `command`, found a list",
        ),
        ("processes: {beat: {settle: 1}}", "`command` is missing in `processes.beat`"),
        (
            "processes: {beat: {command: a, settel: 1}}",
            "`processes.beat`: unknown field `settel`, expected one of `command`, `settle`, `stop_timeout`, `replicas`, `singleton`, `memory`, `network`, `sandbox`, `writable`",
        ),
        (
            "django: {health: [/]}",
            "`django.health`: expected a path such as `/`, or a map (path, timeout), found a list",
        ),
        (
            "django: {health: /a b}",
            "`django.health`: spaces, quotes and letters beyond ASCII are written as %XX in a path",
        ),
        (
            "django: {settings: library.prod}",
            "`django.settings`: the settings module `library.prod` does not exist as a file below the project's folder",
        ),
        (
            "django: {settings: library/settings}",
            "`django.settings`: the settings module `library/settings` does not exist as a file below the project's folder",
        ),
        (
            "django: {wsgi: library.wsgi.application}",
            "`django.wsgi`: `library.wsgi.application` is not a module of the project",
        ),
        ("django: {root: ../x}", "`django.root`: must be inside the project"),
        ("django: {root: web}", "`django.root`: the folder `web` has no manage.py of a Django project"),
        ("requirements: deploy/extra.txt", "fine"),
        ("requirements: [nope.txt]", "`requirements[0]`: `nope.txt` is not a file of the project"),
        ("requirements: nope.txt", "`requirements`: `nope.txt` is not a file of the project"),
        ("requirements: []", "`requirements`: the list is empty"),
        ("playbooks: [radis]", "`playbooks[0]`: no playbook `radis`"),
        ("playbooks: [./ops/costum.yml]", "`playbooks[0]`: `ops/costum.yml` is not a file of the project"),
        ("playbooks: [/etc/x.yml]", "`playbooks[0]`: `/etc/x.yml` must be relative to the project"),
        (
            "database: oracle",
            "`database`: expected `postgres`, `sqlite`, `mysql` or `external`, or a map (engine, extensions), found the text `oracle`",
        ),
        ("environments: {staging: }", "`environments.staging`: expected a map of the keys that differ"),
        (
            "environments: {staging: {environments: {}}}",
            "`environments.staging.environments`: environments can't hold environments",
        ),
    ] {
        assert_eq!(message(line), expected, "{line}");
    }
}

#[test]
fn the_environment_itself() {
    let text = "server: {provider: vagrant}\nenvironments:\n  staging: {}\n  production: {}\n";
    let fail = |name, text| Failure::from(load_in(text, Some(name)).unwrap_err()).to_string();
    assert_snapshot!(fail("stagign", text), @r"
    error: ship.yml:2:1: no environment `stagign`
      |
    2 | environments:
      | ^^^^^^^^^^^^
    hint: did you mean `-e staging`?
    hint: ship.yml has staging, production
    ");
    assert_snapshot!(fail("staging", "server: {provider: vagrant}\n"), @r"
    error: ship.yml:1:1: no environment `staging`
    hint: ship.yml has no `environments`; run without `-e`
    ");
}

#[test]
fn a_problem_inside_an_environment() {
    let text = "server: {provider: ssh, host: a}\nenvironments:\n  staging:\n    server:\n      prot: 22\n";
    assert_snapshot!(refused(text), @r"
    error: ship.yml:5:7: unknown key `prot` in `environments.staging.server`
      |
    5 |       prot: 22
      |       ^^^^
    hint: did you mean `port`?
    hint: `environments.staging.server` takes provider, host, user, port, key
    ");
    assert_snapshot!(
        refused("server: {provider: ssh, host: a}\nenvironments:\n  staging:\n    domains: [a_b]\n    keep: x\n"),
        @r"
    error: ship.yml:5:11: `environments.staging.keep`: expected a whole number, found `x`
      |
    5 |     keep: x
      |           ^
    "
    );
}

#[test]
fn text_that_is_not_yaml() {
    assert_snapshot!(refused("app: x\nserver: {provider: vagrant}\napp: y\n"), @r"
    error: ship.yml:3:1: `app` is there twice
      |
    3 | app: y
      | ^^^
    hint: the first is on line 1; keep one
    ");
    assert_snapshot!(refused("app: \"x\nserver: {provider: vagrant}\n"), @r"
    error: ship.yml:2:1: not valid YAML: invalid indentation in multiline quoted scalar
      |
    2 | server: {provider: vagrant}
      | ^
    hint: a quote before this place may not be closed
    ");
    assert_snapshot!(refused("server: {provider: vagrant\napp: x\n"), @r"
    error: ship.yml:2:4: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'
      |
    2 | app: x
      |    ^
    hint: a `{` before this place may not be closed
    ");
    assert_snapshot!(refused("server:\n\tprovider: vagrant\n"), @r"
    error: ship.yml:2:1: not valid YAML: a tab indents this line
      |
    2 |     provider: vagrant
      | ^^^^
    hint: indent with spaces
    ");
    assert_snapshot!(refused("app: x\n  server: y\n"), @r"
    error: ship.yml:2:9: not valid YAML: mapping values are not allowed in this context
      |
    2 |   server: y
      |         ^
    hint: the line may be indented too far; a value with `: ` in it needs quotes
    ");
    assert_snapshot!(refused("domains: *nope\n"), @r"
    error: ship.yml:1:10: not valid YAML: while parsing node, found unknown anchor
      |
    1 | domains: *nope
      |          ^
    hint: a value that starts with `*` needs quotes
    ");
    assert_snapshot!(refused(""), @"error: ship.yml:1:1: the file is empty");
    assert_snapshot!(refused("# nothing\n"), @"error: ship.yml:1:1: the file is empty");
    assert_snapshot!(refused("just words\n"), @r"
    error: ship.yml:1:1: expected keys and values, such as `app: library`
      |
    1 | just words
      | ^^^^^^^^^^
    ");
    assert_snapshot!(refused("a: 1\n---\nb: 2\n"), @r"
    error: ship.yml:2:1: a second document (`---`) in the file
      |
    2 | ---
      | ^^^
    hint: one file holds one document; environments go under `environments`
    ");
    assert_snapshot!(refused("domains: [*.example.com]\n"), @r"
    error: ship.yml:1:11: not valid YAML: while parsing node, found unknown anchor
      |
    1 | domains: [*.example.com]
      |           ^
    hint: a value that starts with `*` needs quotes
    ");
    assert_snapshot!(refused("app: @x\n"), @r"
    error: ship.yml:1:6: not valid YAML: unexpected character: `@'
      |
    1 | app: @x
      |      ^
    ");
    assert!(refused(&"[".repeat(5000)).contains("not valid YAML"));
    assert!(refused(&"a: [".repeat(200)).contains("levels deep"));
    assert!(refused(&("[".repeat(200) + &"]".repeat(200))).contains("levels deep"));
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\n";
    assert!(refused(bomb).contains("too large"));
    assert_snapshot!(refused("server: !vault x\n"), @r"
    error: ship.yml:1:9: tags such as `!name` mean nothing here
      |
    1 | server: !vault x
      |         ^^^^^^
    ");
}

#[test]
fn several_problems_at_once() {
    assert_snapshot!(
        refused("server: {provider: vagrant}\ndomian: x\ndomains: [a_b, ok.example]\nkeep: 0\n"),
        @r"
        error: ship.yml has 3 problems

        ship.yml:2:1: unknown key `domian`
          |
        2 | domian: x
          | ^^^^^^
        hint: did you mean `domains`?
        hint: the file takes app, server, domains, dns, tls, python, python_mirror, node, django, requirements, database, processes, schedule, services, hardening, port, rate_limit, upload_limit, env, secrets, files, playbooks, keep, dump_limit, backups, environments

        ship.yml:3:11: `domains[0]`: `a_b` is not a host name
          |
        3 | domains: [a_b, ok.example]
          |           ^^^
        hint: such as `library.example.com`

        ship.yml:4:7: `keep`: 0 is not from 2 to 100 releases
          |
        4 | keep: 0
          |       ^
        "
    );
}

#[test]
fn a_project_that_lacks_something() {
    let refused = |project: &Project, text: &str| {
        Failure::from(load("ship.yml", text, None, project, &DEFAULTS).unwrap_err()).to_string()
    };
    let bare = tree(&[]);
    assert_snapshot!(refused(&bare, "server: {provider: vagrant}"), @r"
    error: no manage.py of a Django project in this folder or below it (0 files searched)
    hint: run ship in the project's folder, or name it with `-C DIR`
    hint: virtual environments, node_modules and hidden folders are not searched, nor what git ignores
    ");
    let poetry = tree(&[
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'x.settings') # django"),
        ("x/settings.py", ""),
        ("x/wsgi.py", ""),
        ("poetry.lock", ""),
    ]);
    assert_snapshot!(refused(&poetry, "server: {provider: vagrant}"), @r"
    error: the project has no requirements file: nothing says that it needs Django
    hint: `pip freeze > requirements.txt` in its virtual environment writes one
    hint: if it is called otherwise: `requirements: path/to/file.txt`
    ");
    assert_snapshot!(refused(&library(), "server: {provider: vagrant}\ndjango: {settings: library.setting}\n"), @r"
    error: ship.yml:2:20: `django.settings`: the settings module `library.setting` does not exist as a file below the project's folder
      |
    2 | django: {settings: library.setting}
      |                    ^^^^^^^^^^^^^^^
    hint: did you mean `library.settings`?
    hint: settings modules here: library.settings, library.settings_prod
    ");
}

#[test]
fn a_project_of_mysql_keeps_it_unless_asked_otherwise() {
    let check = |settings: &str, packages: &str, lines: &str| {
        let project = tree(&[
            ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'x.settings') # django"),
            ("x/settings.py", settings),
            ("x/wsgi.py", ""),
            ("requirements.txt", packages),
        ]);
        let text = init::render(&project, "x");
        let written = text.lines().find(|line| line.starts_with("database:")).unwrap().to_owned();
        let text = format!("server: {{provider: ssh, host: h}}\n{lines}");
        let config = load("ship.yml", &text, None, &project, &DEFAULTS).unwrap();
        (written, config.database, config.database_why, config.speaks_mysql)
    };
    let engine = "DATABASES = {'default': {'ENGINE': 'django.db.backends.mysql'}}\n";
    let why = "x/settings.py names backends.mysql, and mysqlclient is among the packages";
    let mysql = || "database: mysql".to_owned();
    assert_eq!(check(engine, "mysqlclient", ""), (mysql(), Database::Mysql, why.into(), true));
    let asked = check(engine, "mysqlclient", "database: postgres");
    assert_eq!(asked, (mysql(), Database::Postgres, String::new(), false));
    assert_eq!(check(engine, "", "database: external"), (mysql(), Database::External, String::new(), true));
    let postgres = || "database: postgres".to_owned();
    let found = check("", "psycopg", "database: mariadb");
    assert_eq!(found, (postgres(), Database::Mysql, String::new(), true));
    let elsewhere = "database: external\nenv: {DATABASE_URL: \"mysql://u@h/n\"}";
    assert_eq!(check("", "", elsewhere), (postgres(), Database::External, String::new(), true));
    assert_eq!(check("", "", ""), (postgres(), Database::Postgres, String::new(), false));
}

#[test]
fn what_init_writes_loads() {
    let two = tree(&[
        ("b/manage.py", "django"),
        ("b/x/settings.py", ""),
        ("b/y/settings.py", ""),
        ("b/x/wsgi.py", ""),
        ("b/y/wsgi.py", ""),
        ("a#: b/c/manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'x.settings') # django"),
        ("a#: b/c/x/settings.py", ""),
        ("a#: b/c/x/wsgi.py", ""),
        ("requirements.txt", ""),
    ]);
    let odd = tree(&[
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'x.settings') # django"),
        ("x/settings.py", ""),
        ("x/wsgi.py", ""),
        ("requirements.txt", ""),
        ("Procfile", "celery_beat: celery -A x beat --schedule \"a: b\" # {\nweb: x"),
    ]);
    let heroku = tree(&[
        ("manage.py", "setdefault('DJANGO_SETTINGS_MODULE', 'x.settings') # django"),
        ("x/settings.py", ""),
        ("x/wsgi.py", ""),
        ("pyproject.toml", "[project]\nname = 'x'\ndependencies = ['django']\n"),
        (
            "app.json",
            r#"{"env": {"A: b": "1", "TZ": "a: \"b\" # {", "DATABASE_URL": {}, "KEY": {}, "MAY": {"required": false}}}"#,
        ),
    ]);
    assert_snapshot!(init::render(&heroku, "My Site_2"), @r#"
    # yaml-language-server: $schema=.ship/schema.json
    # Every key: `ship schema`. Only `server` is required.

    app: my-site-2

    # Where the site runs. A local machine to try it on:
    server: {provider: vagrant}
    # A server that `ship up` makes, with DIGITALOCEAN_TOKEN set, or with your AWS credentials:
    # server: {provider: digitalocean, region: fra1, size: s-1vcpu-1gb}
    # server: {provider: ec2, region: eu-central-1, size: t3.small}
    # A Debian or Ubuntu server of yours, with a key that ssh uses by itself, or `key: ~/.ssh/id_ed25519`:
    # server: {provider: ssh, host: 203.0.113.7, user: root}

    # The names that the site answers to; without them, any.
    # domains: [example.com, www.example.com]
    # Who keeps their records: digitalocean, route53, or none, and ship says what to set.
    # dns: digitalocean
    # With domains, a server in the world gets a certificate of Let's Encrypt's. For a local machine:
    # tls: self-signed

    # python: "3.11"    # without it, the distribution's
    # django: {root: ., settings: x.settings, wsgi: x.wsgi}    # found in manage.py
    # Packages are installed from pyproject.toml.

    # postgres, mysql, sqlite, or external (the secret DATABASE_URL says where).
    database: postgres
    # Backups every night; `to` sends them to a bucket, encrypted.
    # backups: {at: "03:30", to: s3://my-backups}

    # gunicorn is sized by itself; other names are long-running commands.
    # processes:
    #   web: {workers: auto, timeout: 30}
    #   worker: celery -A project worker
    # Commands that run at set times.
    # schedule: {clearsessions: {command: python manage.py clearsessions, at: daily}}

    # Environment variables that are no secret, as text.
    env: {TZ: "a: \"b\" # {"}    # found in app.json
    # Names only; `ship config set NAME=VALUE` sets their values on the server.
    secrets: [KEY]    # found in app.json
    "#);
    for project in [&library(), &two, &odd, &heroku] {
        for folder in ["library", "", "on", "null", "Ünï cödé", "3.10", "a: b # {c", "\n- x", "'\"", "root"]
        {
            let text = init::render(project, folder);
            let defaults = Defaults { folder_name: folder, playbooks: &[] };
            let loaded = load("ship.yml", &text, None, project, &defaults);
            assert!(loaded.is_ok(), "{folder:?}\n{}\n{text}", Failure::from(loaded.unwrap_err()));
            // Every commented key is valid too when its `# ` is taken away.
            let active = text
                .lines()
                .skip(1)
                .filter(|line| !line.starts_with("# server:") && !line.starts_with("# dns:"))
                .map(|line| match line.strip_prefix("# ") {
                    Some(key)
                        if key.split_once(':').is_some_and(|(k, _)| !k.contains([' ', '`', ',']))
                            || key.starts_with("  ") =>
                    {
                        key
                    }
                    _ => line,
                })
                .collect::<Vec<_>>()
                .join("\n");
            let loaded = load("ship.yml", &active, None, project, &defaults);
            assert!(loaded.is_ok(), "{folder:?}\n{}\n{active}", Failure::from(loaded.unwrap_err()));
        }
    }
    // Each of the servers that it offers is one, and has names.
    let text = init::render(&library(), "library");
    let offers: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# server:")).collect();
    assert_eq!(offers.len(), 3);
    for server in offers {
        let text = format!("server:{server}\ndomains: [example.com]\ndns: digitalocean\n");
        assert!(load_in(&text, None).is_ok(), "{text}");
    }
    assert_snapshot!(init::render(&library(), "local_library"), @r#"
    # yaml-language-server: $schema=.ship/schema.json
    # Every key: `ship schema`. Only `server` is required.

    app: local-library

    # Where the site runs. A local machine to try it on:
    server: {provider: vagrant}
    # A server that `ship up` makes, with DIGITALOCEAN_TOKEN set, or with your AWS credentials:
    # server: {provider: digitalocean, region: fra1, size: s-1vcpu-1gb}
    # server: {provider: ec2, region: eu-central-1, size: t3.small}
    # A Debian or Ubuntu server of yours, with a key that ssh uses by itself, or `key: ~/.ssh/id_ed25519`:
    # server: {provider: ssh, host: 203.0.113.7, user: root}

    # The names that the site answers to; without them, any.
    # domains: [example.com, www.example.com]
    # Who keeps their records: digitalocean, route53, or none, and ship says what to set.
    # dns: digitalocean
    # With domains, a server in the world gets a certificate of Let's Encrypt's. For a local machine:
    # tls: self-signed

    # python: "3.10.2"    # found in runtime.txt
    # django: {root: ., settings: library.settings, wsgi: library.wsgi}    # found in manage.py
    # requirements: requirements.txt    # found

    # postgres, mysql, sqlite, or external (the secret DATABASE_URL says where).
    database: postgres
    # Backups every night; `to` sends them to a bucket, encrypted.
    # backups: {at: "03:30", to: s3://my-backups}

    # gunicorn is sized by itself; other names are long-running commands.
    # processes:
    #   web: {workers: auto, timeout: 30}
    #   worker: celery -A project worker
    # Commands that run at set times.
    # schedule: {clearsessions: {command: python manage.py clearsessions, at: daily}}

    # Environment variables that are no secret, as text.
    # env: {TIME_ZONE: UTC}
    # Names only; `ship config set NAME=VALUE` sets their values on the server.
    # secrets: [EMAIL_HOST_PASSWORD]
    "#);
    assert_snapshot!(init::render(&two, "two"), @r#"
    # yaml-language-server: $schema=.ship/schema.json
    # Every key: `ship schema`. Only `server` is required.

    app: two

    # Where the site runs. A local machine to try it on:
    server: {provider: vagrant}
    # A server that `ship up` makes, with DIGITALOCEAN_TOKEN set, or with your AWS credentials:
    # server: {provider: digitalocean, region: fra1, size: s-1vcpu-1gb}
    # server: {provider: ec2, region: eu-central-1, size: t3.small}
    # A Debian or Ubuntu server of yours, with a key that ssh uses by itself, or `key: ~/.ssh/id_ed25519`:
    # server: {provider: ssh, host: 203.0.113.7, user: root}

    # The names that the site answers to; without them, any.
    # domains: [example.com, www.example.com]
    # Who keeps their records: digitalocean, route53, or none, and ship says what to set.
    # dns: digitalocean
    # With domains, a server in the world gets a certificate of Let's Encrypt's. For a local machine:
    # tls: self-signed

    # python: "3.11"    # without it, the distribution's
    # manage.py is in a#: b/c too; `root` says which one is deployed.
    # b/manage.py does not say plainly which settings module it uses: check `settings`.
    django: {root: b, settings: x.settings}
    # requirements: requirements.txt    # found

    # postgres, mysql, sqlite, or external (the secret DATABASE_URL says where).
    database: postgres
    # Backups every night; `to` sends them to a bucket, encrypted.
    # backups: {at: "03:30", to: s3://my-backups}

    # gunicorn is sized by itself; other names are long-running commands.
    # processes:
    #   web: {workers: auto, timeout: 30}
    #   worker: celery -A project worker
    # Commands that run at set times.
    # schedule: {clearsessions: {command: python manage.py clearsessions, at: daily}}

    # Environment variables that are no secret, as text.
    # env: {TIME_ZONE: UTC}
    # Names only; `ship config set NAME=VALUE` sets their values on the server.
    # secrets: [EMAIL_HOST_PASSWORD]
    "#);
}

#[test]
fn other_files_are_read_with_the_same_errors() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    enum Task {
        Package { name: String },
        Apt(Vec<String>),
        Nothing,
    }
    let read = |text| from_str::<Vec<Task>>("redis.yml", text);
    assert_eq!(
        read("- package: {name: redis}\n- apt: [a, b]\n- nothing\n").unwrap(),
        [Task::Package { name: "redis".into() }, Task::Apt(vec!["a".into(), "b".into()]), Task::Nothing]
    );
    let refused = |text| Failure::from(read(text).unwrap_err()).to_string();
    assert_snapshot!(refused("- package: {nam: redis}\n"), @r"
    error: redis.yml has 2 problems

    redis.yml:1:3: `name` is missing in `[0].package`
      |
    1 | - package: {nam: redis}
      |   ^^^^^^^

    redis.yml:1:13: unknown key `nam` in `[0].package`
      |
    1 | - package: {nam: redis}
      |             ^^^
    hint: did you mean `name`?
    hint: `[0].package` takes name
    ");
    assert_snapshot!(refused("- packge: {name: redis}\n"), @r"
    error: redis.yml:1:3: unknown key `packge`
      |
    1 | - packge: {name: redis}
      |   ^^^^^^
    hint: did you mean `package`?
    hint: one of package, apt, nothing
    ");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "[ -~\n\té世]{0,120}") {
        if let Err(error) = load_in(&text, None) {
            let _ = Failure::from(error).to_string();
        }
    }

    #[test]
    fn any_mutilated_file_is_read_without_a_panic(at in 0..FULL.len(), junk in "[\\[\\]{}:,#&*!|>'\"%@`\\-?~ \n\t]{0,3}", skip in 0usize..6) {
        let mut text = FULL.get(..at).unwrap_or("").to_owned();
        text.push_str(&junk);
        text.push_str(FULL.get(at + skip..).unwrap_or(""));
        if let Err(error) = load_in(&text, Some("staging")) {
            let _ = Failure::from(error).to_string();
        }
    }
}

mod schema_agrees {
    //! The schema and the reader must take the same files; a validator of the keywords in use is enough.

    use serde_json::Value;

    use super::*;

    fn takes(schema: &Value, value: &Value) -> bool {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let Value::Object(keywords) = schema else { return schema != &Value::Bool(false) };
        keywords.iter().all(|(keyword, rule)| match keyword.as_str() {
            "type" => {
                let is = |name: &Value| name == kind || (name == "number" && kind == "integer");
                rule.as_array().map_or_else(|| is(rule), |names| names.iter().any(is))
            }
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "oneOf" => rule.as_array().unwrap().iter().filter(|rule| takes(rule, value)).count() == 1,
            "anyOf" => rule.as_array().unwrap().iter().any(|rule| takes(rule, value)),
            "required" => value.as_object().is_none_or(|map| {
                rule.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            }),
            "items" => value.as_array().is_none_or(|items| items.iter().all(|item| takes(rule, item))),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "minimum" => value.as_f64().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "properties" => value.as_object().is_none_or(|map| {
                rule.as_object()
                    .unwrap()
                    .iter()
                    .all(|(key, rule)| map.get(key).is_none_or(|value| takes(rule, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|map| {
                let own = keywords.get("properties").and_then(Value::as_object);
                map.iter()
                    .filter(|(key, _)| own.is_none_or(|own| !own.contains_key(*key)))
                    .all(|(_, value)| takes(rule, value))
            }),
            "pattern" | "propertyNames" | "format" => true,
            "$schema" | "title" | "description" | "default" | "examples" => true,
            other => panic!("the keyword `{other}` is new: teach it to this test"),
        })
    }

    #[test]
    fn on_what_is_a_valid_file() {
        let schema: Value = serde_json::from_str(&schema::json_schema()).unwrap();
        for (text, valid) in [
            (FULL, true),
            ("server: {provider: vagrant}", true),
            ("server: {provider: ssh, host: a}", true),
            ("server: {provider: vagrant}\ndomains:\n", true),
            ("server: {provider: vagrant}\nrequirements: requirements.txt", true),
            ("server: {provider: vagrant}\nprocesses: {web: {workers: auto}, beat: celery beat}", true),
            ("server: {provider: vagrant}\nenvironments: {a: {server: {memory: 512}}}", true),
            ("app: x", false),
            ("server: {provider: ssh}", false),
            ("server: {provider: ssh, host: a, box: b}", false),
            ("server: {provider: vagrant, host: b}", false),
            ("server: {provider: gce}", false),
            ("server: {provider: ec2}", true),
            ("server: {provider: digitalocean, region: fra1}\ndomains: [a.example]\ndns: digitalocean", true),
            ("server: {provider: ssh, host: h}\ndjango: {health: /up/}", true),
            ("server: {provider: ssh, host: h}\ndjango: {health: {path: /up/, timeout: 3}}", true),
            (
                "server: {provider: ssh, host: h}\nprocesses: {web: {boot_timeout: 9}, beat: {command: a, settle: 0}}",
                true,
            ),
            ("server: {provider: ssh, host: h}\ndjango: {health: {timeuot: 3}}", false),
            ("server: {provider: ssh, host: h}\nprocesses: {beat: {settle: 0}}", false),
            ("server: {provider: ec2}\ndomains: [a.example]\ndns: {provider: route53, ttl: 60}", true),
            ("server: {provider: digitalocean}", false),
            ("server: {provider: ec2, disk: 1}", false),
            ("server: {provider: ec2}\ndns: cloudflare", false),
            ("server: {provider: ec2}\ndomains: [a.example]\ndns: {provider: route53, tll: 60}", false),
            ("server: {provider: vagrant, memory: 1}", false),
            ("server: {provider: vagrant}\ndomains: x", false),
            ("server: {provider: vagrant}\ncolour: x", false),
            ("server: {provider: vagrant}\nenv: {A: [x]}", false),
            ("server: {provider: vagrant}\nenv: {A: }", false),
            ("server: {provider: vagrant}\nprocesses: {web: {workers: none}}", false),
            ("server: {provider: vagrant}\nprocesses: {beat: [x]}", false),
            ("server: {provider: vagrant}\nprocesses: {web: gunicorn}", false),
            ("server: {provider: vagrant}\ndatabase: mysql", true),
            ("server: {provider: vagrant}\ndatabase: {engine: mariadb}", true),
            ("server: {provider: vagrant}\ndatabase: oracle", false),
            ("server: {provider: vagrant}\nenvironments: {a: {server: {colour: 512}}}", false),
            ("server: {provider: vagrant}\nenvironments: {a: {colour: red}}", false),
        ] {
            let value: Value = from_str("ship.yml", text).unwrap();
            let loaded = load_in(text, None);
            assert_eq!(loaded.is_ok(), valid, "ship: {text} {loaded:?}");
            assert_eq!(takes(&schema, &value), valid, "schema: {text}\n{schema:#}");
        }
    }

    #[test]
    fn on_every_key() {
        let schema: Value = serde_json::from_str(&schema::json_schema()).unwrap();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut fields: Vec<&str> = de::fields_of::<Spec>().to_vec();
        fields.sort_unstable();
        let mut properties = names(&schema["properties"]);
        properties.sort();
        assert_eq!(properties, fields);
        assert_eq!(schema["required"], serde_json::json!(["server"]));
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "`{name}` has no description");
        }
    }
}

#[test]
fn certificates_come_from_where_tls_says() {
    let server = "server: {provider: ssh, host: 203.0.113.7}\n";
    let tls = |lines: &str| load_in(&format!("{server}{lines}\n"), None).unwrap().tls;
    let hour = Some(tls::Hsts { max_age_s: 3600, subdomains: false, preload: false });
    let acme = |directory: &str| tls::Acme { directory: directory.into(), email: None, ca: None };
    assert_eq!(tls(""), Tls::NONE);
    assert_eq!(with("domains: [a.example]").tls, Tls::NONE, "nobody reaches a Vagrant machine");
    let usual = Tls { origin: tls::Origin::Acme(acme(tls::LETS_ENCRYPT)), hsts: hour };
    for lines in ["", "tls: letsencrypt", "tls: {}"] {
        assert_eq!(tls(&format!("domains: [a.example]\n{lines}")), usual);
    }
    assert_eq!(tls("domains: [a.example]\ntls: none"), Tls::NONE);
    let staging = Tls { origin: tls::Origin::Acme(acme(tls::STAGING)), hsts: None };
    assert_eq!(tls("domains: [a.example]\ntls: {staging: true, hsts: 60}"), staging);
    assert_eq!(tls("tls: self-signed"), Tls { origin: tls::Origin::SelfSigned, hsts: None });
    let other = tls(
        "domains: [a.example]\ntls: {directory: 'https://ca.example.com/dir', ca: ops/ca.pem, email: a+b@example.com, hsts: 0}",
    );
    let other_acme = tls::Acme {
        directory: "https://ca.example.com/dir".into(),
        email: Some("a+b@example.com".into()),
        ca: Some("ops/ca.pem".into()),
    };
    assert_eq!(other, Tls { origin: tls::Origin::Acme(other_acme), hsts: None });
    let own = tls(
        "tls: {certificate: c.pem, key: k.pem, hsts: {max_age: 31536000, subdomains: true, preload: true}}",
    );
    assert_eq!(own.origin, tls::Origin::Own { certificate: "c.pem".into(), key: "k.pem".into() });
    assert_eq!(own.hsts.unwrap().to_string(), "max-age=31536000; includeSubDomains; preload");
}

#[test]
fn wrong_certificates() {
    let all = [
        "tls: letsencrypt",
        "domains: [a.example]\ntls: on",
        "domains: [a.example]\ntls: lets-encrypt",
        "domains: [a.example]\ntls: letsencrypt",
        "domains: [a.example]\ntls: {staging: true, directory: 'http://ca', ca: x, email: nobody}",
        "domains: [a.example]\ntls: {ca: x}",
        "tls: {certificate: a}",
        "tls: {key: a, email: a@example.com}",
        "tls: {certificate: a, key: b, hsts: {preload: true}}",
        "tls: {certificate: a, key: b, hsts: 99999999999}",
        "tls: {certificate: a, key: b, hsts: soon}",
        "tls: {emial: a}",
    ];
    let told: Vec<String> =
        all.iter().map(|lines| refused(&format!("server: {{provider: vagrant}}\n{lines}\n"))).collect();
    assert_snapshot!(told.join("\n\n"), @r"
    error: ship.yml:2:1: `tls`: there are no `domains` that a certificate could be for
      |
    2 | tls: letsencrypt
      | ^^^
    hint: `domains: [library.example.com]`, or `tls: self-signed`

    error: ship.yml:3:6: `tls`: expected `letsencrypt`, `self-signed` or `none`, or a map (email, staging, directory, ca, certificate, key, hsts), found the text `on`
      |
    3 | tls: on
      |      ^^
    hint: did you mean `letsencrypt`?

    error: ship.yml:3:6: `tls`: expected `letsencrypt`, `self-signed` or `none`, or a map (email, staging, directory, ca, certificate, key, hsts), found the text `lets-encrypt`
      |
    3 | tls: lets-encrypt
      |      ^^^^^^^^^^^^
    hint: did you mean `letsencrypt`?

    error: ship.yml:3:1: `tls`: Let's Encrypt can't reach a Vagrant machine
      |
    3 | tls: letsencrypt
      | ^^^
    hint: `tls: self-signed`

    error: ship.yml has 3 problems

    ship.yml:3:7: `tls.staging`: it stands for a `directory` of Let's Encrypt's
      |
    3 | tls: {staging: true, directory: 'http://ca', ca: x, email: nobody}
      |       ^^^^^^^
    hint: leave out one of them

    ship.yml:3:33: `tls.directory`: `http://ca` is not an address that starts with https://
      |
    3 | tls: {staging: true, directory: 'http://ca', ca: x, email: nobody}
      |                                 ^^^^^^^^^^^
    hint: such as `directory: https://acme.example.com/directory`

    ship.yml:3:60: `tls.email`: `nobody` is not an email address
      |
    3 | tls: {staging: true, directory: 'http://ca', ca: x, email: nobody}
      |                                                            ^^^^^^
    hint: such as `email: ops@example.com`

    error: ship.yml has 2 problems

    ship.yml:3:1: `tls`: Let's Encrypt can't reach a Vagrant machine
      |
    3 | tls: {ca: x}
      | ^^^
    hint: `tls: self-signed`

    ship.yml:3:7: `tls.ca`: Let's Encrypt's own server needs none
      |
    3 | tls: {ca: x}
      |       ^^
    hint: it is for a `directory` of one's own

    error: ship.yml:2:7: `tls.certificate`: its `key` is missing
      |
    2 | tls: {certificate: a}
      |       ^^^^^^^^^^^
    hint: `key: certs/site.key`

    error: ship.yml has 2 problems

    ship.yml:2:7: `tls.key`: its `certificate` is missing
      |
    2 | tls: {key: a, email: a@example.com}
      |       ^^^
    hint: `certificate: certs/site.pem`

    ship.yml:2:15: `tls.email`: a certificate of one's own comes from no authority that ship asks
      |
    2 | tls: {key: a, email: a@example.com}
      |               ^^^^^

    error: ship.yml:2:38: `tls.hsts.preload`: browsers' list takes only sites that promise a year, for all names below theirs
      |
    2 | tls: {certificate: a, key: b, hsts: {preload: true}}
      |                                      ^^^^^^^
    hint: `hsts: {max_age: 31536000, subdomains: true, preload: true}`, once you are sure

    error: ship.yml:2:37: `tls.hsts`: expected a number of seconds, or a map (max_age, subdomains, preload), found the number 99999999999
      |
    2 | tls: {certificate: a, key: b, hsts: 99999999999}
      |                                     ^^^^^^^^^^^

    error: ship.yml:2:37: `tls.hsts`: expected a number of seconds, or a map (max_age, subdomains, preload), found the text `soon`
      |
    2 | tls: {certificate: a, key: b, hsts: soon}
      |                                     ^^^^

    error: ship.yml:2:6: `tls`: unknown field `emial`, expected one of `email`, `staging`, `directory`, `ca`, `certificate`, `key`, `hsts`
      |
    2 | tls: {emial: a}
      |      ^^^^^^^^^^
    ");
}
