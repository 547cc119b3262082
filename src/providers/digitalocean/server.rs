//! The droplet's life: ordered, started, changed, destroyed.

use serde_json::{Value, json};

use crate::cloud::{DIGITALOCEAN, Found, Owner, Server, Setting, State, Wish};
use crate::providers::cloud::{Birth, Progress};
use crate::providers::error::CloudError;

use super::api::{Droplet, Ordered, filled};
use super::client::Call;
use super::tags::{self, Mark};
use super::{DigitalOcean, Wait, scopes};

impl DigitalOcean {
    /// Makes the droplet. A droplet has no token by which DigitalOcean would know an order that comes twice, so the
    /// owner's tag stands for one: it is made before the first order, and whoever finds it there without a droplet waits
    /// until the order of an earlier run would have shown.
    pub(super) async fn create_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        birth: &Birth,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let owner = &wish.owner;
        let name = owner.host_name();
        self.ensure_owner_tag(owner).await?;
        if found.firewall.as_ref().is_some_and(|firewall| !firewall.applied) {
            self.set_firewall(wish, found).await?;
        }
        let ordered = match self.earlier_order(owner, progress).await? {
            Some(droplet) => droplet,
            None => {
                let doing = format!("create the droplet {name}");
                let mut call = Call::post(&["droplets"], order(wish, found.key.as_deref(), birth), doing);
                if wish.network.is_some() {
                    call = call.needing(scopes::IN_NETWORK);
                }
                let wait = Wait {
                    limit: self.waits().settle,
                    shown: "waiting for the SSH key to come round".into(),
                    late: String::new(),
                    progress,
                };
                let find = || async { Ok(self.droplet_of(owner).await?.map(Ordered::from)) };
                self.make(find, || self.in_turn(&wait, || self.client.whole::<Ordered>(&call))).await?
            }
        };
        let id = ordered.droplet.id.to_string();
        let droplet = self.started(&id, &name, ordered.links.action().as_deref(), progress).await?;
        let mut server = droplet.server(owner, &[]);
        super::api::spell(&mut server.settings.labels, &wish.settings.labels);
        found.server = Some(server);
        if let Some(firewall) = &mut found.firewall {
            firewall.applied = true;
        }
        match &wish.settings.project {
            Some(project) => self.set(&Setting::Project(project.clone()), wish, found, progress).await,
            None => Ok(()),
        }
    }

    async fn earlier_order(
        &self,
        owner: &Owner,
        progress: Progress<'_>,
    ) -> Result<Option<Ordered>, CloudError> {
        let tag = tags::owner(owner);
        if self.is_settled(&tag) {
            return Ok(None);
        }
        let wait = Wait {
            limit: self.waits().settle,
            shown: "making sure that no earlier run has ordered the droplet".into(),
            late: String::new(),
            progress,
        };
        let look = || async { Ok(self.droplet_of(owner).await?.map(Ordered::from)) };
        match self.until(&wait, look).await {
            Ok(ordered) => Ok(Some(ordered)),
            Err(CloudError::Late { .. }) => {
                self.settle(&tag);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until a droplet that was ordered runs.
    async fn started(
        &self,
        id: &str,
        name: &str,
        action: Option<&str>,
        progress: Progress<'_>,
    ) -> Result<Droplet, CloudError> {
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the droplet {name} to start"),
            late: format!("the droplet {name} is still starting"),
            progress,
        };
        let ordered = Call::get(&["droplets", id], format!("create the droplet {name}"));
        let start = std::time::Instant::now();
        let look = || async {
            if let Some(action) = action {
                self.check_action(&ordered, &["droplets", id, "actions"], action).await?;
            }
            match self.droplet(id).await? {
                Some(droplet) => Ok(Some(droplet).filter(|droplet| droplet.is_up() && !droplet.locked)),
                None if start.elapsed() < self.waits().settle => Ok(None),
                None => Err(vanished(name)),
            }
        };
        self.until(&wait, look).await
    }

    pub(super) async fn start_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (id, _) = droplet_id(found)?;
        let name = wish.owner.host_name();
        let droplet = match &found.server {
            Some(Server { state: State::Starting, .. }) => self.started(&id, &name, None, progress).await?,
            Some(_) | None => self.power_on(&id, &name, progress).await?,
        };
        refresh(found, &wish.owner, &droplet);
        Ok(())
    }

    async fn power_on(&self, id: &str, name: &str, progress: Progress<'_>) -> Result<Droplet, CloudError> {
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the droplet {name} to start"),
            late: format!("the droplet {name} has not started"),
            progress,
        };
        let action = Action { id, name, body: json!({"type": "power_on"}), doing: "power on" };
        self.change(&wait, &action, Droplet::is_up).await
    }

    /// Powers off, first gently.
    async fn power_off(&self, id: &str, name: &str, progress: Progress<'_>) -> Result<(), CloudError> {
        let wait = |limit| Wait {
            limit,
            shown: format!("waiting for the droplet {name} to shut down"),
            late: format!("the droplet {name} is still running"),
            progress,
        };
        let action = Action { id, name, body: json!({"type": "shutdown"}), doing: "shut down" };
        match self.change(&wait(self.waits().shutdown), &action, Droplet::is_off).await {
            Ok(_) => return Ok(()),
            // A shutdown is a request to the system on the droplet, which may not follow it.
            Err(CloudError::Late { .. }) => {}
            Err(CloudError::Refused { code, .. }) if code == "errored" => {}
            Err(error) => return Err(error),
        }
        let action = Action { id, name, body: json!({"type": "power_off"}), doing: "power off" };
        self.change(&wait(self.waits().droplet), &action, Droplet::is_off).await.map(drop)
    }

    pub(super) async fn resize_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (id, _) = droplet_id(found)?;
        let name = wish.owner.host_name();
        self.power_off(&id, &name, progress).await?;
        let wait = Wait {
            limit: self.waits().resize,
            shown: format!("waiting for the droplet {name} to become {}", wish.size),
            late: format!("the droplet {name} has not become {}", wish.size),
            progress,
        };
        // The disk stays as it is, so that the way back to a smaller size stays open.
        let body = json!({"type": "resize", "size": wish.size, "disk": false});
        let action = Action { id: &id, name: &name, body, doing: "resize" };
        let resized = self.change(&wait, &action, |droplet| droplet.size_slug == wish.size).await;
        // Of whatever size, the site is to come back.
        let droplet = self.power_on(&id, &name, progress).await;
        resized?;
        refresh(found, &wish.owner, &droplet?);
        Ok(())
    }

    pub(super) async fn set(
        &self,
        setting: &Setting,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let (id, _) = droplet_id(found)?;
        let name = wish.owner.host_name();
        let wait = |what: &str| Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for {what} of the droplet {name}"),
            late: format!("{what} of the droplet {name} have not changed"),
            progress,
        };
        let droplet = match setting {
            Setting::Backups(on) => {
                let (kind, doing) = if *on {
                    ("enable_backups", "turn on the backups of")
                } else {
                    ("disable_backups", "turn off the backups of")
                };
                let action = Action { id: &id, name: &name, body: json!({"type": kind}), doing };
                self.change(&wait("the backups"), &action, |droplet| droplet.has_backups() == *on).await?
            }
            Setting::Ipv6 => {
                let body = json!({"type": "enable_ipv6"});
                let action = Action { id: &id, name: &name, body, doing: "give an IPv6 address to" };
                self.change(&wait("the addresses"), &action, Droplet::has_ipv6).await?
            }
            Setting::Label(label, _) => {
                self.tag_droplet(&id, label).await?;
                if let Some(server) = &mut found.server {
                    server.settings.labels.insert(label.clone(), String::new());
                }
                return Ok(());
            }
            Setting::Project(project) => {
                self.assign(&id, project).await?;
                if let Some(server) = &mut found.server {
                    server.settings.project = Some(project.clone());
                }
                return Ok(());
            }
            Setting::Protected(_) => {
                return Err(CloudError::Impossible {
                    message: "DigitalOcean has no protection against destroying a droplet".into(),
                    hints: Vec::new(),
                });
            }
        };
        refresh(found, &wish.owner, &droplet);
        Ok(())
    }

    async fn assign(&self, droplet: &str, project: &str) -> Result<(), CloudError> {
        let (id, _) = self.project(project).await?;
        let body = json!({"resources": [super::look::urn(droplet)]});
        let doing = format!("show the droplet in the project {project}");
        self.client.send(&Call::post(&["projects", &id, "resources"], body, doing).repeatable()).await
    }

    /// Has one action done to a droplet.
    async fn change(
        &self,
        wait: &Wait<'_>,
        action: &Action<'_>,
        done: impl Fn(&Droplet) -> bool,
    ) -> Result<Droplet, CloudError> {
        let actions = ["droplets", action.id, "actions"];
        let doing = format!("{} the droplet {}", action.doing, action.name);
        let mut call = Call::post(&actions, action.body.clone(), doing);
        if action.doing == "resize" {
            call = call.needing(scopes::RESIZE);
        }
        let look = || async {
            let droplet = self.droplet(action.id).await?.ok_or_else(|| vanished(action.name))?;
            Ok(Some(droplet).filter(|droplet| done(droplet) && !droplet.locked))
        };
        self.bring_about(wait, &call, &actions, None, look).await
    }

    pub(super) async fn destroy_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let owner = &wish.owner;
        let (id, _) = droplet_id(found)?;
        self.destroy_droplet(owner, &id, &owner.host_name(), progress).await?;
        // No order can be on its way: this process has seen the only droplet there was.
        self.settle(&tags::owner(owner));
        found.server = None;
        if let Some(address) = &mut found.address {
            address.tagged |= address.server.as_ref() == Some(&id);
            address.server = None;
        }
        if let Some(volume) = &mut found.volume {
            volume.server = volume.server.take().filter(|server| *server != id);
        }
        Ok(())
    }

    /// Destroys a droplet, waits until it is gone, and forgets its marks.
    pub(super) async fn destroy_droplet(
        &self,
        owner: &Owner,
        id: &str,
        label: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        self.remember_addresses(owner, id).await?;
        let marks: Vec<String> = self.droplet(id).await?.map(|droplet| droplet.tags).unwrap_or_default();
        let wait = Wait {
            limit: self.waits().droplet,
            shown: format!("waiting for the droplet {label} to go"),
            late: format!("the droplet {label} is still there"),
            progress,
        };
        let call = Call::delete(&["droplets", id], format!("destroy the droplet {label}"));
        self.in_turn(&wait, || self.client.delete(&call)).await?;
        // The list by tag is where the next droplet is looked for: the old one must be gone there, too.
        let gone = || async {
            let listed = self.droplets_of(owner).await?.iter().any(|droplet| droplet.id.to_string() == id);
            Ok((!listed && self.droplet(id).await?.is_none()).then_some(()))
        };
        self.until(&wait, gone).await?;
        for tag in marks {
            match tags::read(owner, &tag) {
                Some(Mark::Image(_) | Mark::BirthKey(_) | Mark::HostKey(_)) => self.delete_tag(&tag).await?,
                Some(Mark::Address(_)) | None => {}
            }
        }
        Ok(())
    }
}

struct Action<'a> {
    id: &'a str,
    name: &'a str,
    body: Value,
    doing: &'a str,
}

impl From<Droplet> for Ordered {
    fn from(droplet: Droplet) -> Self {
        Self { droplet, links: super::api::Links::default() }
    }
}

/// What a droplet is ordered with.
fn order(wish: &Wish, key: Option<&str>, birth: &Birth) -> Value {
    let owner = &wish.owner;
    let marks = [Mark::Image(wish.image.clone()), Mark::BirthKey(birth.host_key.clone())];
    let tags: Vec<String> = std::iter::once(tags::owner(owner))
        .chain(marks.iter().map(|mark| tags::mark(owner, mark)))
        .chain(wish.settings.labels.keys().cloned())
        .collect();
    filled(json!({
        "name": owner.host_name(),
        "region": wish.region,
        "size": wish.size,
        "image": image(&wish.image),
        "ssh_keys": key.map(|key| [number_or_text(key)]),
        "tags": tags,
        "monitoring": wish.monitoring,
        "ipv6": wish.settings.ipv6,
        "backups": wish.settings.backups,
        "vpc_uuid": wish.network,
        "user_data": birth.user_data,
        "with_droplet_agent": false,
    }))
}

/// DigitalOcean's name of an image.
pub(super) fn image(written: &str) -> Value {
    match written {
        "debian-12" => "debian-12-x64".into(),
        "debian-13" => "debian-13-x64".into(),
        "ubuntu-22.04" => "ubuntu-22-04-x64".into(),
        "ubuntu-24.04" => "ubuntu-24-04-x64".into(),
        other => number_or_text(other),
    }
}

fn number_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

/// The id of the droplet that is there: as text, and as the API wants it in bodies.
pub(super) fn droplet_id(found: &Found) -> Result<(String, i64), CloudError> {
    let id = found.server.as_ref().map(|server| server.id.clone());
    let number = id.as_ref().and_then(|id| id.parse().ok());
    id.zip(number).ok_or_else(|| CloudError::Impossible {
        message: "there is no droplet to do this with".into(),
        hints: vec!["run `ship up` again: it looks first".into()],
    })
}

/// Takes over what changed, and keeps what only a whole look tells.
fn refresh(found: &mut Found, owner: &Owner, droplet: &Droplet) {
    let Some(old) = found.server.take() else { return };
    let fixed: Vec<_> = found.address.iter().map(|address| address.ip).collect();
    let mut server = droplet.server(owner, &fixed);
    server.settings.project = old.settings.project;
    super::api::spell(&mut server.settings.labels, &old.settings.labels);
    found.server = Some(server);
}

fn vanished(name: &str) -> CloudError {
    CloudError::Refused {
        cloud: DIGITALOCEAN.cloud,
        doing: format!("keep the droplet {name}"),
        code: "vanished".into(),
        message: "it is gone".into(),
        hints: vec!["somebody destroyed it, or DigitalOcean could not start it; run `ship up` again".into()],
        input: false,
    }
}

#[cfg(test)]
mod tests;
