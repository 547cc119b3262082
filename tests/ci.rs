//! The recipes of docs/ci.md, run as their CI would run them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::boxes::TestBox;
use crate::support::Project;

#[derive(Debug, Deserialize)]
struct Workflow {
    jobs: BTreeMap<String, Job>,
}

#[derive(Debug, Deserialize)]
struct Job {
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
struct Step {
    name: Option<String>,
    run: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pipeline {
    default: Scripts,
    plan: Scripts,
    deploy: Scripts,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Scripts {
    before_script: Vec<String>,
    script: Vec<String>,
    after_script: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of YAML of docs/ci.md.
fn recipes() -> (Workflow, Pipeline) {
    let text = std::fs::read_to_string(root().join("docs/ci.md")).unwrap();
    let blocks: Vec<&str> =
        text.split("\n```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    let [github, gitlab] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    (serde_yaml::from_str(github).unwrap(), serde_yaml::from_str(gitlab).unwrap())
}

/// `gh` and `curl` that keep one comment, and write down what was asked of them.
const GH: &str = r##"#!/bin/sh
case " $* " in *' -X POST '*) echo POST >>"$STORE/calls" ;; *' -X PATCH '*) echo PATCH >>"$STORE/calls" ;;
*) [ ! -e "$STORE/comment" ] || printf '3\thello\n7\t%s\n' "$(jq -Rrs '[.] | @tsv' "$STORE/comment")"; exit ;; esac
for word; do case $word in body=@*) cp "${word#body=@}" "$STORE/comment" ;; esac; done
"##;
const CURL: &str = r##"#!/bin/sh
case " $* " in *' -X POST '*) echo POST >>"$STORE/calls" ;; *' -X PUT '*) echo PUT >>"$STORE/calls" ;;
*) if [ -e "$STORE/comment" ]; then jq -Rs '[{id: 3, body: "hello"}, {id: 7, body: .}]' "$STORE/comment"; else echo '[]'; fi; exit ;; esac
for word; do case $word in body@*) cp "${word#body@}" "$STORE/comment" ;; esac; done
"##;

/// What runs the scripts.
struct Runner<'a> {
    project: &'a Project,
    store: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Runner<'_> {
    fn runs(&self, what: &str, script: &str) -> String {
        // What is outside the project's folder there, is in a folder of this test.
        let script = script.replace("/tmp/", &format!("{}/", self.store.display()));
        let path = format!("{}:{}", self.store.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", &script])
            .current_dir(&self.project.dir)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("PATH", path)
            .env("HOME", &self.project.home)
            .env("STORE", &self.store)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{what}\n{}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.store.join(name)).unwrap_or_default()
    }
}

#[test]
#[ignore = "needs root and systemd-nspawn: scripts/test runs it"]
fn the_recipes_plan_comment_and_deploy() {
    let server = TestBox::builder().packages(true).boot();
    let project = Project::new(&server);
    // The key is where CI puts it.
    project.write(
        "ship.yml",
        &format!("server: {{provider: ssh, host: {:?}, port: {}, user: root}}\n", server.host, server.port),
    );
    project.commit("The site");
    let store = tempfile::tempdir().unwrap();
    for (name, text) in [("gh", GH), ("curl", CURL)] {
        let file = store.path().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ship"), store.path().join("ship")).unwrap();
    let key = std::fs::read_to_string(&server.key).unwrap();
    let host_key = std::fs::read_to_string(&server.known_hosts).unwrap();
    let (github, gitlab) = recipes();

    let mut runner = Runner { project: &project, store: store.path().to_owned(), variables: Vec::new() };
    let here = |name: &str| store.path().join(name).display().to_string();
    runner.variables = vec![
        ("SHIP_KEY", key.trim_end().to_owned()),
        ("SHIP_HOST_KEYS", host_key.clone()),
        ("RUNNER_TEMP", here("")),
        ("GITHUB_STEP_SUMMARY", here("summary")),
        ("GITHUB_REPOSITORY", "example/library".into()),
        ("NUMBER", "12".into()),
    ];
    let steps = &github.jobs["ship"].steps;
    let step = |name: &str| {
        let step = steps.iter().find(|step| step.name.as_deref() == Some(name)).unwrap();
        runner.runs(name, step.run.as_deref().unwrap())
    };
    step("Key and host key");
    step("Plan");
    step("Comment");
    let comment = runner.read("comment");
    assert!(comment.starts_with("<!-- ship plan: library default -->\n"), "{comment}");
    assert!(comment.contains("to create") && comment.contains("<details>"), "{comment}");
    step("Plan");
    step("Comment");
    assert_eq!(runner.read("calls"), "POST\nPATCH\n");
    step("Deploy");
    step("Summary");
    assert!(runner.read("summary").contains("serves"), "{}", runner.read("summary"));
    step("Plan");
    step("Comment");
    assert!(runner.read("comment").contains("Nothing to change: v1 is live."), "{}", runner.read("comment"));

    // GitLab's, by the same server.
    for name in ["comment", "calls"] {
        std::fs::remove_file(store.path().join(name)).unwrap();
    }
    std::fs::remove_dir_all(project.home.join(".ssh")).unwrap();
    std::fs::remove_dir_all(project.dir.join(".ship")).unwrap();
    std::fs::write(store.path().join("key"), &key).unwrap();
    std::fs::write(store.path().join("hosts"), &host_key).unwrap();
    project.put_on_page("from a branch");
    project.commit("A change");
    std::fs::create_dir_all(project.dir.join(".cargo/bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ship"), project.dir.join(".cargo/bin/ship")).unwrap();
    runner.variables = vec![
        ("SHIP_KEY", here("key")),
        ("SHIP_HOST_KEYS", here("hosts")),
        ("CI_API_V4_URL", "https://gitlab.example.com/api/v4".into()),
        ("CI_PROJECT_ID", "5".into()),
        ("CI_MERGE_REQUEST_IID", "12".into()),
        ("SHIP_COMMENTS", "token".into()),
    ];
    // An image has them, or gets them there.
    let before = gitlab.default.before_script.iter().filter(|line| !line.starts_with("apt-get"));
    let before: String = before.map(|line| format!("{line}\n")).collect();
    let job = |job: &Scripts| format!("{before}{}", job.script.join("\n"));
    runner.runs("plan", &job(&gitlab.plan));
    runner.runs("plan", &job(&gitlab.plan));
    assert_eq!(runner.read("calls"), "POST\nPUT\n");
    assert!(runner.read("comment").contains("to run"), "{}", runner.read("comment"));
    assert!(runner.runs("deploy", &job(&gitlab.deploy)).contains("v2"));
    runner.runs("afterwards", &gitlab.deploy.after_script.join("\n"));
    assert!(project.dir.join("ship.jsonl").exists());
    assert!(!server.exec("ls -A /srv/library/current").contains("cargo"), "nothing of CI is uploaded");
}
