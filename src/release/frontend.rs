//! The front end of a release: `npm ci` and `npm run build`, as the build user, before anything asks for its files.
//!
//! Invariant: what was built is added to the release's own files, which stay as they are, and `node_modules` never is.

use crate::plan::Change;
use crate::project::Node;
use crate::resources::file::sha256;
use crate::shell::{Cmd, Script};

use super::Source;
use super::steps::Steps;

use crate::apply::heredoc;

/// Names the installed packages of a front end by what decides about them.
fn hash(node: &Node, source: &Source) -> String {
    let mut text = node.install().join(" ");
    for entry in source.tree.entries().iter().filter(|entry| node.inputs().contains(&entry.path)) {
        text.push_str(&format!("\n{} {}", entry.sha256, entry.path));
    }
    sha256(text.as_bytes()).chars().take(12).collect()
}

impl Steps<'_> {
    /// Builds the front end, if there is one and this release has not got it yet.
    pub(super) fn frontend(&self) -> Option<Change> {
        let node = self.context.config.node.as_ref()?;
        let install = Cmd::new("run").args(node.install());
        let body = self
            .prelude()
            .set("folder", &node.folder)
            .set("modules", hash(node, self.context.source))
            .then(&Script::fixed(PREPARE))
            .line("rm -rf node_modules")
            .line("if [ -d \"$cache/$modules/node_modules\" ]; then")
            .line("  mv \"$cache/$modules/node_modules\" .")
            .line("else")
            .cmd(install)
            .line("  mkdir -p \"$cache/$modules\" node_modules")
            .line("fi")
            .line("trap keep EXIT")
            .line("export NODE_ENV=production")
            .line("run npm run build")
            .then(&Script::fixed(COLLECT));
        let script = self
            .guarded("build the front end")
            .line("if [ ! -e \"$state/frontend\" ]; then")
            .line("install -d -o \"$app-build\" -g \"$app-build\" -m 0750 \"/var/cache/ship/$app\" \"/var/cache/ship/$app/node\"")
            .then(&heredoc("runuser -u \"$app-build\" -- sh -eu", body))
            .then(&Script::fixed(ADD))
            .line("fi");
        let why = format!("npm run build, {}", node.shown());
        Some(self.change("build the front end", why, script))
    }
}

/// Copies the release to where the build user may write.
const PREPARE: &str = r#"umask 022
cache=/var/cache/ship/$app/node
export HOME="/var/cache/ship/$app" npm_config_cache="/var/cache/ship/$app/npm" npm_config_update_notifier=false CI=1 \
  NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
run() {
  if ! "$@" >"$cache/log" 2>&1 </dev/null; then
    tail -n 40 "$cache/log"
    why=$(grep -i -m 1 -E '(^|[^a-z])error([: ]|$)' "$cache/log" | sed 's/^[[:space:]]*//' | cut -c1-200)
    case "$*" in "npm run build") what='`npm run build`' ;; *) what='installing the packages of the front end' ;; esac
    echo "ship-cause: $what failed${why:+: $why}"
    exit 1
  fi
}
rm -rf "$cache/build" "$cache/built.tar"
cp -r "$release" "$cache/build"
cd "$cache/build/./$folder"
touch "$cache/began"
# What was installed serves the next release, too, whether or not this one can be built.
keep() {
  [ ! -d "$cache/build/./$folder/node_modules" ] || mv "$cache/build/./$folder/node_modules" "$cache/$modules/"
}
"#;

/// Packs what is new. By the time of change, which unlike the time of modification no copy sets back.
const COLLECT: &str = r#"keep
cd "$cache/build"
find . -name node_modules -prune -o \( -type f -o -type l \) -cnewer "$cache/began" -print0 >"$cache/list"
tar --null --verbatim-files-from -T "$cache/list" -cf "$cache/built.tar"
cd "$cache"
rm -rf build list log
find . -mindepth 1 -maxdepth 1 -type d ! -name "$modules" -exec rm -rf {} +
"#;

/// Adds it to the release. Its files are links that other releases share, so none is written to in its place.
const ADD: &str = r#"built=/var/cache/ship/$app/node/built.tar
tar -xf "$built" -C "$release" --no-same-owner --no-same-permissions --unlink-first
rm -f "$built"
sync -f "$release"
touch "$state/frontend"
"#;
