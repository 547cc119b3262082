//! Which server serves the site, and on which socket, from the command line that a project starts it with.
//!
//! Invariant: the address is ship's. What says where to listen, where to log or whom to run as is left out of a
//! command line that is understood; every other flag stays as it is written.

use super::command::{Word, without_runner, words};

/// The language between the server and the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// One request at a time and thread.
    Wsgi,
    /// Coroutines, and websockets.
    Asgi,
}

/// What serves the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// gunicorn with ship's settings.
    Gunicorn {
        /// A worker class of the project's own.
        class: Option<String>,
        /// Further flags, as a shell reads them.
        flags: String,
    },
    /// Takes over the listening socket, so that two releases can answer at once.
    Inherits {
        /// Its name.
        name: String,
        /// Its command line, with `{app}` for the application.
        command: String,
    },
    /// Listens by itself: one instance at a time.
    Alone {
        /// Its name.
        name: String,
        /// Its command line.
        command: String,
    },
}

/// How the site is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// What the application speaks.
    pub interface: Interface,
    /// `module` or `module:callable`.
    pub application: String,
    /// The server.
    pub server: Server,
    /// What says so.
    pub origin: String,
}

impl Serving {
    /// Whether a release waits for the one before to leave the port.
    pub fn is_alone(&self) -> bool {
        matches!(self.server, Server::Alone { .. })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        match &self.server {
            Server::Gunicorn { .. } => "gunicorn",
            Server::Inherits { name, .. } | Server::Alone { name, .. } => name,
        }
    }

    /// Packages that it needs besides the project's own.
    pub fn packages(&self) -> &'static [&'static str] {
        match (&self.server, self.interface) {
            (Server::Gunicorn { class: None, .. }, Interface::Asgi) => {
                &["gunicorn", "uvicorn-worker", "uvicorn[standard]"]
            }
            (Server::Gunicorn { .. }, _) => &["gunicorn"],
            (Server::Inherits { name, .. } | Server::Alone { name, .. }, _) => match name.as_str() {
                "uvicorn" => &["uvicorn[standard]"],
                "daphne" => &["daphne"],
                "hypercorn" => &["hypercorn"],
                "waitress" => &["waitress"],
                _ => &[],
            },
        }
    }
}

/// Stands for the port in a command line, until the server has told which one is free.
pub const PORT: &str = "{port}";

/// What a command line says of how the site is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebLine {
    /// The server.
    pub server: Server,
    /// The application, if it is named.
    pub application: Option<String>,
    /// What it speaks, if that is certain.
    pub interface: Option<Interface>,
    /// Worker processes.
    pub workers: Option<u32>,
    /// Seconds for a request.
    pub timeout_s: Option<u32>,
}

/// A server whose flags are known.
struct Known {
    name: &'static str,
    /// How its program and its module are called.
    programs: &'static [&'static str],
    /// Flags that are ship's business, those with a value first.
    dropped: &'static [&'static str],
    dropped_alone: &'static [&'static str],
    /// Flags with a value that might look like an application.
    valued: &'static [&'static str],
}

const SERVERS: [Known; 6] = [
    Known {
        name: "gunicorn",
        programs: &["gunicorn"],
        dropped: &[
            "-b",
            "--bind",
            "-c",
            "--config",
            "-p",
            "--pid",
            "-u",
            "--user",
            "-g",
            "--group",
            "--chdir",
            "--log-file",
            "--error-logfile",
            "--access-logfile",
            "--worker-tmp-dir",
            "-w",
            "--workers",
            "-t",
            "--timeout",
            "-k",
            "--worker-class",
        ],
        dropped_alone: &["-D", "--daemon", "--reload", "--capture-output", "--enable-stdio-inheritance"],
        valued: &[
            "--log-level",
            "--threads",
            "-n",
            "--name",
            "--env",
            "-e",
            "--pythonpath",
            "--log-config",
            "--statsd-host",
            "--paste",
            "--logger-class",
        ],
    },
    Known {
        name: "uvicorn",
        programs: &["uvicorn"],
        dropped: &["--host", "--port", "--uds", "--fd", "--app-dir", "--reload-dir"],
        dropped_alone: &["--reload"],
        valued: &[
            "--log-level",
            "--log-config",
            "--env-file",
            "--workers",
            "--loop",
            "--http",
            "--ws",
            "--root-path",
            "--forwarded-allow-ips",
        ],
    },
    Known {
        name: "daphne",
        programs: &["daphne"],
        dropped: &[
            "-b",
            "--bind",
            "-p",
            "--port",
            "-u",
            "--unix-socket",
            "--fd",
            "-e",
            "--endpoint",
            "--access-log",
        ],
        dropped_alone: &[],
        valued: &[
            "-v",
            "--verbosity",
            "-t",
            "--http-timeout",
            "--ping-interval",
            "--ping-timeout",
            "--root-path",
            "--server-name",
        ],
    },
    Known {
        name: "hypercorn",
        programs: &["hypercorn"],
        dropped: &[
            "-b",
            "--bind",
            "--insecure-bind",
            "--quic-bind",
            "-p",
            "--pid",
            "-u",
            "--user",
            "-g",
            "--group",
            "--access-logfile",
            "--access-log",
            "--error-logfile",
            "--error-log",
        ],
        dropped_alone: &["-D", "--daemon", "--reload"],
        valued: &["-c", "--config", "-k", "--worker-class", "-w", "--workers", "--log-level", "--root-path"],
    },
    Known {
        name: "uwsgi",
        programs: &["uwsgi", "pyuwsgi"],
        dropped: &[
            "--http",
            "--http-socket",
            "--socket",
            "-s",
            "--protocol",
            "--uid",
            "--gid",
            "--daemonize",
            "-d",
            "--daemonize2",
            "--pidfile",
            "--module",
            "-w",
            "--wsgi",
            "-H",
            "--home",
            "--virtualenv",
            "--venv",
            "--chdir",
        ],
        dropped_alone: &["--master", "-M", "--die-on-term"],
        valued: &[
            "-p",
            "--processes",
            "--workers",
            "--threads",
            "--harakiri",
            "--max-requests",
            "--buffer-size",
            "-b",
        ],
    },
    Known {
        name: "waitress",
        programs: &["waitress-serve", "waitress"],
        dropped: &["--listen", "--host", "--port", "--unix-socket", "--unix-socket-perms"],
        dropped_alone: &["--no-ipv4", "--no-ipv6", "--ipv4", "--ipv6"],
        valued: &["--threads", "--url-scheme", "--url-prefix", "--ident"],
    },
];

/// Reads the command line of the site.
pub fn read(command: &str) -> WebLine {
    let command = without_runner(command);
    understood(command).unwrap_or_else(|| WebLine {
        server: Server::Alone { name: program_of(command), command: command.to_owned() },
        application: None,
        interface: None,
        workers: None,
        timeout_s: None,
    })
}

/// The program that a command line starts, for people.
fn program_of(command: &str) -> String {
    let known = words(command).unwrap_or_default();
    let word =
        known.iter().map(|word| word.text.as_str()).find(|word| !is_assignment(word) && *word != "exec");
    word.and_then(|word| word.rsplit('/').next()).unwrap_or("its command").to_owned()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Whether a word names an application: a dotted module, a callable after a colon.
fn is_application(text: &str) -> bool {
    let (module, callable) = text.split_once(':').map_or((text, None), |(m, c)| (m, Some(c)));
    let name = |text: &str| {
        text.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    (module.contains('.') || callable.is_some())
        && module.split('.').all(name)
        && callable.is_none_or(|callable| callable.trim_end_matches("()").split('.').all(name))
}

/// A command line of a server whose flags are known; `None` for any other.
fn understood(command: &str) -> Option<WebLine> {
    let all = words(command)?;
    let mut rest: &[Word] = &all;
    let mut assignments = String::new();
    while let [first, others @ ..] = rest
        && (is_assignment(&first.text) || first.text == "exec")
    {
        if first.text != "exec" {
            assignments.push_str(&first.raw);
            assignments.push(' ');
        }
        rest = others;
    }
    let text = |word: &Word| word.text.rsplit('/').next().unwrap_or_default().to_owned();
    let (program, rest) = match rest {
        [python, dash, module, others @ ..] if text(python).starts_with("python") && dash.text == "-m" => {
            (module.text.clone(), others)
        }
        [program, others @ ..] => (text(program), others),
        [] => return None,
    };
    let known = SERVERS.iter().find(|known| known.programs.contains(&program.as_str()))?;
    let mut kept: Vec<&str> = Vec::new();
    let mut application = None;
    let mut settings = Vec::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.text.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_owned())),
            _ => (word.text.as_str(), None),
        };
        // `-w3` is `-w 3`.
        let (flag, value) = match flag.get(..2).zip(flag.get(2..)) {
            Some((short, rest))
                if !rest.is_empty() && !flag.starts_with("--") && known.dropped.contains(&short) =>
            {
                (short, Some(rest.to_owned()))
            }
            _ => (flag, value),
        };
        if known.dropped.contains(&flag) {
            let value = value.or_else(|| words.next().map(|word| word.text.clone()));
            settings.push((flag.to_owned(), value.unwrap_or_default()));
        } else if known.dropped_alone.contains(&flag) {
        } else if flag.starts_with('-') {
            kept.push(&word.raw);
            if value.is_none() && known.valued.contains(&flag) {
                kept.extend(words.next().map(|word| word.raw.as_str()));
            }
        } else if application.is_none() && is_application(&word.text) {
            application = Some(word.text.clone());
        } else {
            kept.push(&word.raw);
        }
    }
    let setting = |names: [&str; 2]| {
        settings.iter().rev().find(|(flag, _)| names.contains(&flag.as_str())).map(|(_, value)| value.clone())
    };
    let flags = kept.join(" ");
    let tail = if flags.is_empty() { String::new() } else { format!(" {flags}") };
    let inherits = |words: &str| Server::Inherits {
        name: known.name.to_owned(),
        command: format!("{assignments}exec {words}{tail} {{app}}"),
    };
    let class = setting(["-k", "--worker-class"]);
    let (server, interface) = match known.name {
        "gunicorn" => {
            let asgi = class.as_deref().is_some_and(|class| class.contains("uvicorn") || class == "asgi");
            // Those of ship's own, whatever they are called in the project's version.
            let class = class.filter(|class| {
                !matches!(
                    class.as_str(),
                    "sync" | "gthread" | "uvicorn.workers.UvicornWorker" | "uvicorn_worker.UvicornWorker"
                )
            });
            if !assignments.is_empty() {
                return None;
            }
            let interface = if asgi { Some(Interface::Asgi) } else { None };
            (Server::Gunicorn { class, flags }, interface)
        }
        "uvicorn" => (inherits("uvicorn --fd 3"), Some(Interface::Asgi)),
        "daphne" => (inherits("daphne --fd 3 --proxy-headers"), Some(Interface::Asgi)),
        "hypercorn" => (inherits("hypercorn --bind fd://3"), Some(Interface::Asgi)),
        "uwsgi" => {
            application = setting(["--module", "-w"]).or_else(|| setting(["--wsgi", "--wsgi"]));
            let own_file = |word: &&str| {
                let flag = word.split('=').next().unwrap_or_default();
                let files =
                    ["--ini", "--yaml", "--xml", "--json", "--emperor", "--wsgi-file", "--file", "-i"];
                files.contains(&flag) || !word.starts_with('-') && word.contains('.')
            };
            // A file of its own may listen anywhere.
            if application.is_none() || kept.iter().any(own_file) {
                return None;
            }
            // Told to end, it lets its workers finish what they have begun.
            let command = format!(
                "{assignments}exec uwsgi --http-socket fd://3 --master --home \"$VIRTUAL_ENV\" \
                 --hook-master-start 'unix_signal:15 gracefully_kill_them_all'{tail} --module {{app}}"
            );
            (Server::Inherits { name: known.name.to_owned(), command }, Some(Interface::Wsgi))
        }
        _ => {
            let app = application.clone().map(|app| format!(" {app}")).unwrap_or_default();
            let command = format!("{assignments}exec waitress-serve --listen=127.0.0.1:{PORT}{tail}{app}");
            (Server::Alone { name: known.name.to_owned(), command }, Some(Interface::Wsgi))
        }
    };
    // gunicorn with a name only serves WSGI unless the name says otherwise.
    let interface = interface.or_else(|| {
        let named = application.as_deref()?.split(':').next()?.rsplit('.').next()? == "asgi";
        named.then_some(Interface::Asgi)
    });
    Some(WebLine {
        server,
        application,
        interface,
        workers: setting(["-w", "--workers"]).and_then(|text| text.parse().ok()),
        timeout_s: setting(["-t", "--timeout"])
            .filter(|_| known.name == "gunicorn")
            .and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: &str) -> String {
        let line = read(command);
        let server = match line.server {
            Server::Gunicorn { class, flags } => {
                format!("gunicorn class={} flags={flags}", class.unwrap_or_default())
            }
            Server::Inherits { name, command } => format!("{name} inherits: {command}"),
            Server::Alone { name, command } => format!("{name} alone: {command}"),
        };
        let interface = line.interface.map(|interface| format!(" {interface:?}")).unwrap_or_default();
        let application = line.application.map(|app| format!(" app={app}")).unwrap_or_default();
        let number =
            |name: &str, number: Option<u32>| number.map(|n| format!(" {name}={n}")).unwrap_or_default();
        format!(
            "{command}\n  {server}{interface}{application}{}{}\n",
            number("workers", line.workers),
            number("timeout", line.timeout_s)
        )
    }

    #[test]
    fn command_lines_of_the_field() {
        let all: String = [
            "gunicorn locallibrary.wsgi --log-file -",
            "gunicorn proj.wsgi --workers 3 --timeout 60",
            "gunicorn -w4 -b 0.0.0.0:$PORT --threads 2 --preload proj.wsgi:application",
            "python -m gunicorn proj.wsgi:app --bind=:8000 --max-requests=500 -k gevent",
            "gunicorn -k uvicorn.workers.UvicornWorker proj.asgi:application --workers $WEB_CONCURRENCY",
            "gunicorn proj.asgi",
            "uvicorn proj.asgi:application --host 0.0.0.0 --port $PORT --workers 2 --reload",
            "daphne -b 0.0.0.0 -p $PORT proj.asgi:application -v2",
            "A=1 daphne proj.asgi:application --port=8001",
            "hypercorn proj.asgi:application --bind :$PORT",
            "waitress-serve --port=$PORT --threads=8 proj.wsgi:application",
            "poetry run gunicorn proj.wsgi",
            "uwsgi --http :8000 --module proj.wsgi:application --processes 2",
            "uwsgi --ini uwsgi.ini",
            "uwsgi uwsgi.ini",
            "cd site && gunicorn proj.wsgi",
            "newrelic-admin run-program gunicorn proj.wsgi",
            "python manage.py runserver 0.0.0.0:$PORT",
        ]
        .map(said)
        .concat();
        insta::assert_snapshot!(all, @r#"
        gunicorn locallibrary.wsgi --log-file -
          gunicorn class= flags= app=locallibrary.wsgi
        gunicorn proj.wsgi --workers 3 --timeout 60
          gunicorn class= flags= app=proj.wsgi workers=3 timeout=60
        gunicorn -w4 -b 0.0.0.0:$PORT --threads 2 --preload proj.wsgi:application
          gunicorn class= flags=--threads 2 --preload app=proj.wsgi:application workers=4
        python -m gunicorn proj.wsgi:app --bind=:8000 --max-requests=500 -k gevent
          gunicorn class=gevent flags=--max-requests=500 app=proj.wsgi:app
        gunicorn -k uvicorn.workers.UvicornWorker proj.asgi:application --workers $WEB_CONCURRENCY
          gunicorn class= flags= Asgi app=proj.asgi:application
        gunicorn proj.asgi
          gunicorn class= flags= Asgi app=proj.asgi
        uvicorn proj.asgi:application --host 0.0.0.0 --port $PORT --workers 2 --reload
          uvicorn inherits: exec uvicorn --fd 3 --workers 2 {app} Asgi app=proj.asgi:application
        daphne -b 0.0.0.0 -p $PORT proj.asgi:application -v2
          daphne inherits: exec daphne --fd 3 --proxy-headers -v2 {app} Asgi app=proj.asgi:application
        A=1 daphne proj.asgi:application --port=8001
          daphne inherits: A=1 exec daphne --fd 3 --proxy-headers {app} Asgi app=proj.asgi:application
        hypercorn proj.asgi:application --bind :$PORT
          hypercorn inherits: exec hypercorn --bind fd://3 {app} Asgi app=proj.asgi:application
        waitress-serve --port=$PORT --threads=8 proj.wsgi:application
          waitress alone: exec waitress-serve --listen=127.0.0.1:{port} --threads=8 proj.wsgi:application Wsgi app=proj.wsgi:application
        poetry run gunicorn proj.wsgi
          gunicorn class= flags= app=proj.wsgi
        uwsgi --http :8000 --module proj.wsgi:application --processes 2
          uwsgi inherits: exec uwsgi --http-socket fd://3 --master --home "$VIRTUAL_ENV" --hook-master-start 'unix_signal:15 gracefully_kill_them_all' --processes 2 --module {app} Wsgi app=proj.wsgi:application
        uwsgi --ini uwsgi.ini
          uwsgi alone: uwsgi --ini uwsgi.ini
        uwsgi uwsgi.ini
          uwsgi alone: uwsgi uwsgi.ini
        cd site && gunicorn proj.wsgi
          its command alone: cd site && gunicorn proj.wsgi
        newrelic-admin run-program gunicorn proj.wsgi
          newrelic-admin alone: newrelic-admin run-program gunicorn proj.wsgi
        python manage.py runserver 0.0.0.0:$PORT
          python alone: python manage.py runserver 0.0.0.0:$PORT
        "#);
    }
}
