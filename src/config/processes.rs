//! What runs, checked: how the site is served, the processes beside it, jobs, services.
//!
//! Invariant: where ship.yml says nothing, the project's own files do; each of those says what said so.

use std::collections::BTreeMap;

use super::hardening::{Limits, LimitsSpec};
use super::spec::{JobSpec, ProcessesSpec, ServicesSpec, SwitchSpec, WebServerSpec, WebSpec, Workers};
use super::validate::{Check, LONGEST_NAME, May, is_name};
use super::{Django, Job, PlaybookRef, Web, Worker, app_name};
use crate::process::services::{self, Service};
use crate::process::serving::{Interface, Server, Serving, WebLine, read};
use crate::process::{command, release_line, schedule};
use crate::project::{Project, ProjectError, Root, is_dotted};

/// The command line of the site and what says so.
pub(super) struct Line {
    line: Option<WebLine>,
    origin: String,
    /// Whether the server itself was named in ship.yml.
    server: Option<WebServerSpec>,
}

/// The application that is served by ASGI.
pub(super) struct Asgi {
    /// `module` or `module:callable`.
    pub(super) application: String,
    origin: String,
}

impl Check<'_> {
    /// How the project starts its server.
    pub(super) fn web_line(&mut self, spec: Option<&WebSpec>, project: &Project) -> Line {
        let server = spec.and_then(|web| web.server).filter(|server| *server != WebServerSpec::Auto);
        if let Some(text) = spec.and_then(|web| web.command.as_deref()) {
            let path = ["processes", "web", "command"];
            if text.trim().is_empty() || text.contains(char::is_control) {
                self.value(&path, "the command must be one line that is not empty", []);
            }
            if server.is_some() {
                self.key(
                    &path,
                    "`server` says already which one it is",
                    ["leave out one of them".to_owned()],
                );
            }
            return Line { line: Some(read(text)), origin: "ship.yml".into(), server: None };
        }
        let line = project.procfile.get("web").map(|text| read(text));
        match server {
            // What it serves is still what the Procfile says.
            Some(_) => Line { line, origin: "ship.yml".into(), server },
            None => {
                let origin = line.as_ref().map(|_| "Procfile".to_owned()).unwrap_or_default();
                Line { line, origin, server: None }
            }
        }
    }

    /// Whether the site is served by ASGI, and what.
    pub(super) fn asgi(
        &mut self,
        written: Option<String>,
        settings: Option<&str>,
        line: &Line,
        root: &Root,
        project: &Project,
    ) -> Option<Asgi> {
        let path = ["django", "asgi"];
        if let Some(text) = written {
            let (module, callable) = text.split_once(':').unwrap_or((&text, "application"));
            if !is_dotted(module) || !is_dotted(callable) || !project.has_module(root, module) {
                let hint = match project.signs.asgi_modules.as_slice() {
                    [] => None,
                    modules => Some(format!("ASGI modules here: {}", modules.join(", "))),
                };
                self.value(&path, format!("`{text}` is not a module of the project"), hint);
            }
            return Some(Asgi { application: text, origin: "ship.yml".into() });
        }
        let web = line.line.as_ref();
        let declared = settings.and_then(|settings| project.signs.asgi.get(settings));
        let declared = declared.and_then(|text| text.rsplit_once('.'));
        let wanted = match (line.server, web) {
            (Some(WebServerSpec::Uvicorn | WebServerSpec::Daphne | WebServerSpec::Hypercorn), _) => true,
            (Some(WebServerSpec::Waitress), _) => return None,
            (Some(_), None) => false,
            (_, Some(WebLine { interface: Some(interface), .. })) => *interface == Interface::Asgi,
            // Who names the WSGI application means it.
            (_, Some(WebLine { application: Some(_), .. })) => false,
            (_, Some(WebLine { server: Server::Alone { .. }, .. })) => false,
            (_, _) => false,
        };
        let client = ["channels", "daphne"].into_iter().find(|name| project.packages.contains(*name));
        let origin = match (wanted, client) {
            (true, _) => line.origin.clone(),
            (false, Some(client)) if declared.is_some() && web.is_none() => {
                format!("{client} is required and the settings have ASGI_APPLICATION")
            }
            (false, _) => return None,
        };
        let module_there = |text: &String| {
            let module = text.split(':').next().unwrap_or(text);
            project.has_module(root, module)
        };
        let of_line = web.and_then(|line| line.application.clone()).filter(module_there);
        let of_settings =
            declared.filter(|(module, _)| project.has_module(root, module)).map(|(module, callable)| {
                if callable == "application" { module.to_owned() } else { format!("{module}:{callable}") }
            });
        let beside = settings.and_then(|settings| {
            let modules = &project.signs.asgi_modules;
            let near =
                std::iter::successors(Some(settings), |name| name.rsplit_once('.').map(|(parent, _)| parent))
                    .map(|package| format!("{package}.asgi"))
                    .find(|module| modules.contains(module));
            near.or_else(|| match modules.as_slice() {
                [only] => Some(only.clone()),
                [..] => None,
            })
        });
        let application = of_line.or(of_settings).or(beside);
        if application.is_none() {
            let error = ProjectError {
                message: format!("{origin} wants an ASGI application, and none is found"),
                hints: vec!["name it with `django: {asgi: package.asgi}`".to_owned()],
            };
            self.project(&path, false, error);
        }
        Some(Asgi { application: application?, origin })
    }

    /// How the site is served.
    pub(super) fn web(
        &mut self,
        spec: WebSpec,
        upload_limit: Option<u32>,
        line: Line,
        django: &Django,
        asgi: Option<Asgi>,
        may: May,
    ) -> Web {
        let WebSpec { memory, network, sandbox, ref writable, .. } = spec;
        let limits = LimitsSpec { memory, network, sandbox, writable: writable.clone() };
        let limits = self.limits(&["processes", "web"], limits, may);
        let gunicorn = || Server::Gunicorn { class: None, flags: String::new() };
        let Line { line, origin, server } = line;
        let (workers, timeout) = line.as_ref().map_or((None, None), |line| (line.workers, line.timeout_s));
        let named = line.as_ref().and_then(|line| line.application.clone());
        let server = match (server, line) {
            (None | Some(WebServerSpec::Auto), Some(line)) => line.server,
            (None | Some(WebServerSpec::Auto), None) | (Some(WebServerSpec::Gunicorn), _) => gunicorn(),
            (Some(WebServerSpec::Uvicorn), _) => read("uvicorn").server,
            (Some(WebServerSpec::Daphne), _) => read("daphne").server,
            (Some(WebServerSpec::Hypercorn), _) => read("hypercorn").server,
            (Some(WebServerSpec::Waitress), _) => {
                read(&format!("waitress-serve {}", waitress(&django.wsgi))).server
            }
        };
        let serving = match asgi {
            Some(Asgi { application, origin }) => {
                Serving { interface: Interface::Asgi, application, server, origin }
            }
            None => {
                // A Procfile may name another callable of the same module.
                let module = |text: &str| text.split(':').next().unwrap_or(text).to_owned();
                let application = named.filter(|app| module(app) == module(&django.wsgi));
                let application = application.unwrap_or_else(|| django.wsgi.clone());
                Serving { interface: Interface::Wsgi, application, server, origin }
            }
        };
        let mut seconds = |key, written, default, most| {
            self.number(&["processes", "web", key], written, default, 1..=most, "seconds")
        };
        let timeout_s =
            seconds("timeout", spec.timeout.or(timeout.filter(|s| (1..=3600).contains(s))), 30, 3600);
        let drain = if serving.interface == Interface::Asgi { 300 } else { timeout_s };
        Web {
            workers: match spec.workers {
                Some(Workers::Auto) => None,
                Some(Workers::Exactly(number)) => Some(number),
                None => workers.filter(|number| (1..=256).contains(number)),
            },
            timeout_s,
            boot_timeout_s: seconds("boot_timeout", spec.boot_timeout, 120, 3600),
            preload: preloads(&serving) && spec.preload.is_none_or(|switch| switch.0),
            drain_s: seconds("drain", spec.drain, drain, 86_400),
            max_upload_mb: self.number(&["upload_limit"], upload_limit, 20, 1..=10_240, "MiB"),
            limits,
            serving,
        }
    }

    /// Every process beside the site, replicas each by a name of its own, and what runs once for each release.
    pub(super) fn processes(
        &mut self,
        spec: &ProcessesSpec,
        app: &str,
        project: &Project,
        may: May,
    ) -> (BTreeMap<String, Worker>, Option<(String, String)>) {
        let mut workers = BTreeMap::new();
        let all = &spec.workers;
        for (name, spec) in all {
            let path = ["processes", name.as_str()];
            let inner = ["processes", name.as_str(), "command"];
            let at: &[&str] = if spec.word { &path } else { &inner };
            if !is_name(name) {
                self.key(
                    &path,
                    format!("a process is named with lowercase letters, digits and dashes, starting with a letter, at most {LONGEST_NAME} long"),
                    [format!("such as `{}`", app_name(name))],
                );
            }
            if name == "job" || name.starts_with("job-") {
                self.key(&path, "units of that name belong to `schedule`", []);
            }
            if spec.command.trim().is_empty() {
                self.value(at, "the command is empty", []);
            } else if spec.command.contains(char::is_control) {
                self.value(at, "the command must be one line", []);
            }
            let mut number = |key, written, default, range, unit| {
                self.number(&["processes", name, key], written, default, range, unit)
            };
            let settle_s = number("settle", spec.settle, 5, 0..=600, "seconds");
            let stop_timeout_s = number("stop_timeout", spec.stop_timeout, 300, 1..=86_400, "seconds");
            let replicas = number("replicas", spec.replicas, 1, 0..=64, "processes");
            let singleton = spec.singleton.unwrap_or_else(|| command::is_singleton(name, &spec.command));
            if singleton && replicas > 1 {
                let hints = ["`singleton: false` if two of it may run at once".to_owned()];
                self.value(&["processes", name, "replicas"], "what must be alone has no replicas", hints);
            }
            let limits = self.limits(&path, spec.limits.clone(), may);
            if spec.command == "off" && spec.word {
                continue;
            }
            for index in 1..=replicas {
                let worker = Worker {
                    command: self::command(&spec.command, app),
                    settle_s,
                    stop_timeout_s,
                    process: name.clone(),
                    singleton,
                    origin: "one instance a release".into(),
                    limits: limits.clone(),
                };
                let own = if index == 1 { name.clone() } else { format!("{name}-{index}") };
                let another = index > 1 && all.contains_key(&own);
                if workers.insert(own.clone(), worker).is_some() || another {
                    self.key(
                        &path,
                        format!("one of its replicas would be called `{own}`, as another process is"),
                        [],
                    );
                }
            }
        }
        if spec.workers.is_empty() {
            workers = found(project, app, may);
        }
        (workers, self.release_command(spec, project))
    }

    fn release_command(&mut self, spec: &ProcessesSpec, project: &Project) -> Option<(String, String)> {
        let path = ["processes", "release"];
        match spec.release.as_deref() {
            Some(text) if text.trim().is_empty() || text.contains(char::is_control) => {
                self.value(&path, "the command must be one line that is not empty", []);
                None
            }
            Some("off") => None,
            Some(text) => Some((release_line::rest(text)?, "ship.yml".into())),
            None => Some((release_line::rest(project.procfile.get("release")?)?, "Procfile".into())),
        }
    }

    /// Commands that run at set times.
    pub(super) fn jobs(&mut self, spec: BTreeMap<String, JobSpec>, may: May) -> BTreeMap<String, Job> {
        let mut jobs = BTreeMap::new();
        for (name, spec) in spec {
            if !is_name(&name) {
                self.key(
                    &["schedule", &name],
                    format!("a job is named with lowercase letters, digits and dashes, starting with a letter, at most {LONGEST_NAME} long"),
                    [format!("such as `{}`", app_name(&name))],
                );
            }
            if spec.command.trim().is_empty() || spec.command.contains(char::is_control) {
                let path = ["schedule", name.as_str(), "command"];
                self.value(&path, "the command must be one line that is not empty", []);
            }
            let calendar = schedule::calendar(&spec.at).unwrap_or_else(|refused| {
                self.value(&["schedule", &name, "at"], refused.message, refused.hint);
                String::new()
            });
            let timeout_s =
                self.number(&["schedule", &name, "timeout"], spec.timeout, 3600, 1..=604_800, "seconds");
            let command = command::without_runner(&spec.command).to_owned();
            let JobSpec { memory, network, sandbox, writable, .. } = spec;
            let limits = LimitsSpec { memory, network, sandbox, writable };
            let limits = self.limits(&["schedule", &name], limits, may);
            jobs.insert(name, Job { command, calendar, timeout_s, limits });
        }
        jobs
    }

    /// Services on the same server. What a playbook of that name brings needs no second one.
    pub(super) fn services(
        &mut self,
        spec: Option<ServicesSpec>,
        playbooks: &[PlaybookRef],
        project: &Project,
        set: &dyn Fn(&str) -> bool,
    ) -> BTreeMap<Service, String> {
        let spec = spec.unwrap_or_default();
        let mut found = services::wanted(&project.signs, &project.packages, set);
        for service in Service::ALL {
            let switch = match service {
                Service::Redis => spec.redis,
                Service::Memcached => spec.memcached,
            };
            let named = PlaybookRef::Builtin(service.name().to_owned());
            if switch == Some(SwitchSpec::Off) {
                found.remove(&service);
            } else if switch == Some(SwitchSpec::On) || playbooks.contains(&named) {
                found.insert(service, "ship.yml names it".to_owned());
            }
        }
        found
    }
}

/// The application as waitress takes it.
fn waitress(wsgi: &str) -> String {
    if wsgi.contains(':') { wsgi.to_owned() } else { format!("{wsgi}:application") }
}

/// A command line as a unit gets it.
fn command(text: &str, app: &str) -> String {
    command::with_schedule_file(command::without_runner(text), &format!("/srv/{app}/shared"))
}

/// The processes that the project's files call for.
fn found(project: &Project, app: &str, may: May) -> BTreeMap<String, Worker> {
    let worker = |name: &str, text: &str, origin: String| {
        let name = app_name(name);
        let worker = Worker {
            command: command(text, app),
            settle_s: 5,
            stop_timeout_s: 300,
            process: name.clone(),
            singleton: command::is_singleton(&name, text),
            origin,
            limits: Limits { sandbox: may.locked, ..Limits::default() },
        };
        (name, worker)
    };
    let procfile: BTreeMap<String, Worker> = project
        .worker_candidates()
        .map(|(name, text)| worker(name, text, "the Procfile's".to_owned()))
        .collect();
    if !procfile.is_empty() || project.procfile.contains_key("web") {
        return procfile;
    }
    let proposals = services::proposals(&project.signs, &project.packages);
    proposals.iter().map(|proposal| worker(proposal.name, &proposal.command, proposal.why.clone())).collect()
}

/// Whether a server can fork workers from a loaded application: other worker classes set the process up before.
fn preloads(serving: &Serving) -> bool {
    matches!(serving.server, Server::Gunicorn { class: None, .. }) && serving.interface == Interface::Wsgi
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Config, Defaults, load};
    use super::*;
    use crate::project::{Tree, detect};

    /// A project of these files beside the usual ones.
    fn config(files: &[(&str, &str)], yaml: &str) -> Result<Config, String> {
        let mut all: BTreeMap<String, String> = BTreeMap::from([
            (
                "manage.py".into(),
                "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings') # django".into(),
            ),
            ("site/settings.py".into(), "ASGI_APPLICATION = 'site.asgi.application'\n".into()),
            ("site/wsgi.py".into(), String::new()),
            ("site/asgi.py".into(), String::new()),
            ("requirements.txt".into(), "Django\n".into()),
        ]);
        all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
        all.retain(|_, text| text != "-");
        let project = detect(&Tree::from_map(all));
        let text = format!("app: site\nserver: {{provider: vagrant}}\n{yaml}\n");
        let defaults = Defaults { folder_name: "site", playbooks: &[] };
        let messages = |error: super::super::ConfigError| {
            error.problems().iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
        };
        load("ship.yml", &text, None, &project, &defaults).map_err(messages)
    }

    #[test]
    fn how_a_site_is_served() {
        let procfile = |line: &'static str| vec![("Procfile", line)];
        let channels = vec![("requirements.txt", "channels\n")];
        let cases: [(Vec<(&str, &str)>, &str); 17] = [
            (vec![], ""),
            (vec![], "django: {asgi: site.asgi}"),
            (vec![], "django: {asgi: \"site.nowhere:app\"}"),
            (channels.clone(), ""),
            (vec![("requirements.txt", "channels\n"), ("site/settings.py", "")], ""),
            (vec![("requirements.txt", "channels\n"), ("Procfile", "web: gunicorn site.wsgi")], ""),
            (vec![("requirements.txt", "daphne\n"), ("site/wsgi.py", "-")], ""),
            (procfile("web: gunicorn site.wsgi --workers 3 --timeout 60 --threads 2"), ""),
            (procfile("web: gunicorn site.wsgi -w 3"), "processes: {web: {workers: 5, drain: 9}}"),
            (procfile("web: gunicorn -k uvicorn.workers.UvicornWorker site.asgi:application"), ""),
            (procfile("web: daphne site.asgi:application -p $PORT"), ""),
            (procfile("web: daphne site.asgi:application -p $PORT"), "processes: {web: {server: gunicorn}}"),
            (procfile("web: ./serve"), ""),
            (vec![], "processes: {web: {server: uvicorn}}"),
            (vec![], "processes: {web: {server: waitress}}"),
            (vec![], "processes: {web: {command: \"uvicorn site.asgi:application --port 80\"}}"),
            (vec![], "processes: {web: {command: x, server: uvicorn}}"),
        ];
        let mut said = String::new();
        for (files, yaml) in &cases {
            let files_said: Vec<String> =
                files.iter().map(|(path, text)| format!("{path}={}", text.trim())).collect();
            let web = config(files, yaml).map_or_else(|error| error, |config| {
                let Web { serving: Serving { interface, application, server, origin }, workers, timeout_s, drain_s, .. } =
                    config.web;
                format!("{interface:?} {application} {server:?} from {origin:?} {workers:?} {timeout_s} {drain_s}")
            });
            said += &format!("{} {yaml}\n  {web}\n", files_said.join(" "));
        }
        insta::assert_snapshot!(said, @r#"
         
          Wsgi site.wsgi Gunicorn { class: None, flags: "" } from "" None 30 30
         django: {asgi: site.asgi}
          Asgi site.asgi Gunicorn { class: None, flags: "" } from "ship.yml" None 30 300
         django: {asgi: "site.nowhere:app"}
          `django.asgi`: `site.nowhere:app` is not a module of the project
        requirements.txt=channels 
          Asgi site.asgi Gunicorn { class: None, flags: "" } from "channels is required and the settings have ASGI_APPLICATION" None 30 300
        requirements.txt=channels site/settings.py= 
          Wsgi site.wsgi Gunicorn { class: None, flags: "" } from "" None 30 30
        requirements.txt=channels Procfile=web: gunicorn site.wsgi 
          Wsgi site.wsgi Gunicorn { class: None, flags: "" } from "Procfile" None 30 30
        requirements.txt=daphne site/wsgi.py=- 
          Asgi site.asgi Gunicorn { class: None, flags: "" } from "daphne is required and the settings have ASGI_APPLICATION" None 30 300
        Procfile=web: gunicorn site.wsgi --workers 3 --timeout 60 --threads 2 
          Wsgi site.wsgi Gunicorn { class: None, flags: "--threads 2" } from "Procfile" Some(3) 60 60
        Procfile=web: gunicorn site.wsgi -w 3 processes: {web: {workers: 5, drain: 9}}
          Wsgi site.wsgi Gunicorn { class: None, flags: "" } from "Procfile" Some(5) 30 9
        Procfile=web: gunicorn -k uvicorn.workers.UvicornWorker site.asgi:application 
          Asgi site.asgi:application Gunicorn { class: None, flags: "" } from "Procfile" None 30 300
        Procfile=web: daphne site.asgi:application -p $PORT 
          Asgi site.asgi:application Inherits { name: "daphne", command: "exec daphne --fd 3 --proxy-headers {app}" } from "Procfile" None 30 300
        Procfile=web: daphne site.asgi:application -p $PORT processes: {web: {server: gunicorn}}
          Asgi site.asgi:application Gunicorn { class: None, flags: "" } from "ship.yml" None 30 300
        Procfile=web: ./serve 
          Wsgi site.wsgi Alone { name: "serve", command: "./serve" } from "Procfile" None 30 30
         processes: {web: {server: uvicorn}}
          Asgi site.asgi Inherits { name: "uvicorn", command: "exec uvicorn --fd 3 {app}" } from "ship.yml" None 30 300
         processes: {web: {server: waitress}}
          Wsgi site.wsgi Alone { name: "waitress", command: "exec waitress-serve --listen=127.0.0.1:{port} site.wsgi:application" } from "ship.yml" None 30 30
         processes: {web: {command: "uvicorn site.asgi:application --port 80"}}
          Asgi site.asgi:application Inherits { name: "uvicorn", command: "exec uvicorn --fd 3 {app}" } from "ship.yml" None 30 300
         processes: {web: {command: x, server: uvicorn}}
          `processes.web.command`: `server` says already which one it is
        "#);
    }

    #[test]
    fn what_runs_beside_the_site() {
        let heroku = "web: gunicorn site.wsgi\nrelease: python manage.py migrate && ./warm\nclock: python clock.py\n\
                      Celery_Worker: poetry run celery -A site worker\nbeat: celery -A site beat\n";
        let celery = "from celery import Celery\napp = Celery('site')\napp.conf.beat_schedule = {}\n";
        let cases: [(Vec<(&str, &str)>, &str); 11] = [
            (vec![("Procfile", heroku)], ""),
            (vec![("Procfile", heroku)], "processes: {web: {workers: 2}, release: off}"),
            (vec![("Procfile", heroku)], "processes: {worker: {command: python w.py, replicas: 3}}"),
            (vec![("Procfile", heroku)], "processes: {worker: off, release: ./other}"),
            (vec![("site/celery.py", celery), ("requirements.txt", "celery\n")], ""),
            (vec![], "processes: {worker: {command: x, replicas: 2}, worker-2: y}"),
            (vec![], "processes: {beat: {command: x, replicas: 2}}"),
            (vec![], "processes: {job-x: y}"),
            (vec![], "schedule: {clear: {command: python manage.py clearsessions, at: daily}}"),
            (vec![], "schedule: {clear: {command: x, at: \"0 0 1 * 1\"}}"),
            (vec![], "schedule: {Clear: {command: \"\", at: never, timeout: 0}}"),
        ];
        let mut said = String::new();
        for (files, yaml) in &cases {
            let names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
            said += &format!("{} {yaml}\n", names.join(" "));
            match config(files, yaml) {
                Err(error) => said += &format!("  {error}\n"),
                Ok(config) => {
                    for (name, worker) in &config.workers {
                        let alone = if worker.singleton { " (alone)" } else { "" };
                        said += &format!(
                            "  {name} of {}{alone}: {} [{}]\n",
                            worker.process, worker.command, worker.origin
                        );
                    }
                    for (name, Job { command, calendar, timeout_s, .. }) in &config.jobs {
                        said += &format!("  job {name}: {command} at {calendar}, {timeout_s} s\n");
                    }
                    if let Some((command, origin)) = &config.release_command {
                        said += &format!("  release: {command} [{origin}]\n");
                    }
                }
            }
        }
        insta::assert_snapshot!(said, @r#"
        Procfile 
          beat of beat (alone): celery -A site beat -s /srv/site/shared/celerybeat-schedule [the Procfile's]
          celery-worker of celery-worker: celery -A site worker [the Procfile's]
          clock of clock (alone): python clock.py [the Procfile's]
          release: ./warm [Procfile]
        Procfile processes: {web: {workers: 2}, release: off}
          beat of beat (alone): celery -A site beat -s /srv/site/shared/celerybeat-schedule [the Procfile's]
          celery-worker of celery-worker: celery -A site worker [the Procfile's]
          clock of clock (alone): python clock.py [the Procfile's]
        Procfile processes: {worker: {command: python w.py, replicas: 3}}
          worker of worker: python w.py [one instance a release]
          worker-2 of worker: python w.py [one instance a release]
          worker-3 of worker: python w.py [one instance a release]
          release: ./warm [Procfile]
        Procfile processes: {worker: off, release: ./other}
          release: ./other [ship.yml]
        site/celery.py requirements.txt 
          beat of beat (alone): celery -A site beat --loglevel INFO -s /srv/site/shared/celerybeat-schedule [a schedule in site/celery.py]
          worker of worker: celery -A site worker --loglevel INFO -n "$SHIP_PROCESS-$SHIP_RELEASE@%h" [Celery in site/celery.py]
         processes: {worker: {command: x, replicas: 2}, worker-2: y}
          `processes.worker`: one of its replicas would be called `worker-2`, as another process is; `processes.worker-2`: one of its replicas would be called `worker-2`, as another process is
         processes: {beat: {command: x, replicas: 2}}
          `processes.beat.replicas`: what must be alone has no replicas
         processes: {job-x: y}
          `processes.job-x`: units of that name belong to `schedule`
         schedule: {clear: {command: python manage.py clearsessions, at: daily}}
          job clear: python manage.py clearsessions at daily, 3600 s
         schedule: {clear: {command: x, at: "0 0 1 * 1"}}
          `schedule.clear.at`: cron runs it on days that match either the day of the month or the day of the week, systemd only on those that match both
         schedule: {Clear: {command: "", at: never, timeout: 0}}
          `schedule.Clear`: a job is named with lowercase letters, digits and dashes, starting with a letter, at most 30 long; `schedule.Clear.command`: the command must be one line that is not empty; `schedule.Clear.at`: `never` is neither cron's five fields nor a calendar of systemd's; `schedule.Clear.timeout`: 0 is not from 1 to 604800 seconds
        "#);
    }

    #[test]
    fn services_follow_the_settings_unless_told_otherwise() {
        let files = [
            ("requirements.txt", "django-redis\n"),
            ("site/settings.py", "REDIS = os.environ['REDIS_URL']\n"),
        ];
        let cases = [
            "",
            "services: {redis: off}",
            "services: {memcached: on}",
            "secrets: [REDIS_URL]",
            "playbooks: [memcached]",
        ];
        let mut said = String::new();
        for yaml in cases {
            let config = config(&files, yaml).unwrap();
            said += &format!("{yaml}: {:?} {:?}\n", config.services, config.service_variables);
        }
        insta::assert_snapshot!(said, @r#"
        : {Redis: "site/settings.py reads REDIS_URL, and django-redis is required"} {"REDIS_URL": "redis://127.0.0.1:6379/0"}
        services: {redis: off}: {} {}
        services: {memcached: on}: {Redis: "site/settings.py reads REDIS_URL, and django-redis is required", Memcached: "ship.yml names it"} {"REDIS_URL": "redis://127.0.0.1:6379/0"}
        secrets: [REDIS_URL]: {} {}
        playbooks: [memcached]: {Redis: "site/settings.py reads REDIS_URL, and django-redis is required", Memcached: "ship.yml names it"} {"REDIS_URL": "redis://127.0.0.1:6379/0"}
        "#);
    }
}
