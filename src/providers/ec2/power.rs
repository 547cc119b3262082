//! The instance's power: on, off, on with another size, gone for good.
//!
//! Invariant: an instance is not stopped for a size that it can't have, and a protected one is not terminated.

use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_ec2::types::{AttributeValue, Instance, InstanceStateName};

use super::size::Architecture;
use super::{Ec2, actions, look};
use crate::aws;
use crate::cloud::{Found, Owner, Server, State, Wish};
use crate::providers::cloud::Progress;
use crate::providers::error::CloudError;

impl Ec2 {
    /// Waits until the instance runs, and a little longer for its public address.
    pub(super) async fn until_running(
        &self,
        id: &str,
        progress: Progress<'_>,
    ) -> Result<Instance, CloudError> {
        progress(&format!("waiting for {id} to start"));
        // What was just started may be shown as stopped for a moment; once it was seen to start, that is another thing.
        let started = AtomicBool::new(false);
        let running = aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} does not run"),
            || async {
                let Some(instance) = self.instance(id).await? else { return Ok(None) };
                match look::state(&instance) {
                    Some(State::Running) => Ok(Some(instance)),
                    Some(State::Starting | State::Stopping) => {
                        started.store(true, Ordering::Relaxed);
                        Ok(None)
                    }
                    Some(State::Stopped) if !started.load(Ordering::Relaxed) => Ok(None),
                    Some(State::Stopped) | None => Err(failed_to_start(&instance)),
                }
            },
        )
        .await?;
        let addressed = self
            .shown(|| async {
                let instance = self.instance(id).await?;
                Ok(instance.filter(|instance| instance.public_ip_address().is_some()))
            })
            .await?;
        Ok(addressed.unwrap_or(running))
    }

    async fn until_stopped(&self, id: &str, progress: Progress<'_>) -> Result<(), CloudError> {
        progress(&format!("waiting for {id} to stop"));
        aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} does not stop"),
            || async {
                let instance = self.instance(id).await?;
                let state = instance.as_ref().and_then(look::state);
                Ok((state == Some(State::Stopped)).then_some(()))
            },
        )
        .await
    }

    /// Powers the instance on, unless it is starting already.
    pub(super) async fn start_server(
        &self,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &mut found.server else { return Ok(()) };
        if server.state == State::Stopping {
            self.until_stopped(&server.id, progress).await?;
        }
        if server.state != State::Starting {
            self.start(&server.id).await?;
        }
        let instance = self.until_running(&server.id, progress).await?;
        self.refresh(server, &instance)
    }

    async fn start(&self, id: &str) -> Result<(), CloudError> {
        let call = self.writes(actions::START_INSTANCES, format!("start the instance {id}"));
        let sent = self.client.start_instances().instance_ids(id).send().await;
        sent.map_err(|error| call.fail(&error)).map(|_| ())
    }

    fn refresh(&self, server: &mut Server, instance: &Instance) -> Result<(), CloudError> {
        let seen = look::server(instance, &self.region)?;
        server.state = seen.state;
        server.size = seen.size;
        server.ipv4 = seen.ipv4;
        Ok(())
    }

    /// Powers the instance off, gives it another size, powers it on.
    pub(super) async fn resize(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &mut found.server else { return Ok(()) };
        let id = server.id.clone();
        let size = self.size(&wish.size).await?;
        let Some(instance) = self.instance(&id).await? else { return Ok(()) };
        if let Some(obstacle) = obstacle(&instance, wish, size.architecture) {
            return Err(CloudError::Impossible { message: obstacle, hints: vec![OTHER_ARCHITECTURE.into()] });
        }
        let old = server.size.clone();
        if look::state(&instance) == Some(State::Starting) {
            self.until_running(&id, progress).await?;
        }
        if look::state(&instance) != Some(State::Stopped) {
            let call = self.writes(actions::STOP_INSTANCES, format!("stop the instance {id}"));
            let sent = self.client.stop_instances().instance_ids(&id).send().await;
            sent.map_err(|error| call.fail(&error))?;
            self.until_stopped(&id, progress).await?;
        }
        if let Err(error) = self.start_as(&id, &wish.size).await {
            // A clear no: the site is to be back as it was. Anything else is for the next run to look at.
            if matches!(error, CloudError::Refused { .. }) {
                progress(&format!("{} can't be had; starting {id} as {old} again", wish.size));
                self.start_as(&id, &old).await?;
                let instance = self.until_running(&id, progress).await?;
                self.refresh(server, &instance)?;
            }
            return Err(error);
        }
        let instance = self.until_running(&id, progress).await?;
        self.refresh(server, &instance)
    }

    async fn start_as(&self, id: &str, size: &str) -> Result<(), CloudError> {
        let call =
            self.writes(actions::MODIFY_INSTANCE_ATTRIBUTE, format!("make {size} of the instance {id}"));
        let sent = self
            .client
            .modify_instance_attribute()
            .instance_id(id)
            .instance_type(AttributeValue::builder().value(size).build())
            .send()
            .await;
        sent.map_err(|error| call.fail(&error))?;
        self.start(id).await
    }

    /// Terminates the instance, unless it is protected, and waits until it is gone.
    pub(super) async fn terminate(
        &self,
        owner: &Owner,
        id: &str,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        if self.is_protected(id).await? {
            return Err(CloudError::Impossible {
                message: format!(
                    "the instance {} ({id}) is protected against termination",
                    owner.host_name()
                ),
                hints: vec![
                    "`server.termination_protection: false` in ship.yml and `ship up` lift that; then again"
                        .into(),
                ],
            });
        }
        let call = self
            .writes(actions::TERMINATE_INSTANCES, format!("terminate the instance {}", owner.host_name()));
        let sent = self.client.terminate_instances().instance_ids(id).send().await;
        match sent.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => return Ok(()),
            end => drop(end?),
        }
        progress(&format!("waiting for {id} to be gone"));
        aws::until(
            &self.patience,
            self.patience.change,
            || format!("the instance {id} is not gone"),
            || async {
                let instance = self.instance(id).await?;
                let state = instance.as_ref().and_then(|instance| instance.state()?.name().cloned());
                Ok((instance.is_none() || state == Some(InstanceStateName::Terminated)).then_some(()))
            },
        )
        .await
    }

    /// Terminates the server, to make another.
    pub(super) async fn destroy_server(
        &self,
        wish: &Wish,
        found: &mut Found,
        progress: Progress<'_>,
    ) -> Result<(), CloudError> {
        let Some(server) = &found.server else { return Ok(()) };
        self.terminate(&wish.owner, &server.id, progress).await?;
        let gone = Some(server.id.clone());
        found.server = None;
        if let Some(firewall) = &mut found.firewall {
            firewall.applied = true;
        }
        if let Some(address) = found.address.as_mut().filter(|address| address.server == gone) {
            address.server = None;
        }
        if let Some(volume) = found.volume.as_mut().filter(|volume| volume.server == gone) {
            volume.server = None;
        }
        Ok(())
    }
}

/// What to do about two architectures.
pub(super) const OTHER_ARCHITECTURE: &str =
    "t3, m6i and the like are x86_64; t4g, m7g and the like are arm64: a server stays what it was made as";

/// Why the instance can't take the wished size.
pub(super) fn obstacle(instance: &Instance, wish: &Wish, architecture: Architecture) -> Option<String> {
    let is = instance.architecture()?;
    let wants = architecture.ec2();
    let old = instance.instance_type().map(|size| size.as_str().to_owned()).unwrap_or_default();
    (*is != wants).then(|| {
        format!(
            "{old} is {}, {} is {}: no server changes its architecture",
            is.as_str(),
            wish.size,
            wants.as_str()
        )
    })
}

pub(super) fn failed_to_start(instance: &Instance) -> CloudError {
    let id = instance.instance_id().unwrap_or_default();
    let reason = instance.state_reason().and_then(|reason| reason.message());
    let reason = reason.or(instance.state_transition_reason()).filter(|reason| !reason.is_empty());
    CloudError::Refused {
        cloud: super::CLOUD,
        doing: format!("start the instance {id}"),
        code: instance.state_reason().and_then(|reason| reason.code()).unwrap_or_default().to_owned(),
        message: reason.unwrap_or("it stopped again, and EC2 gives no reason").to_owned(),
        hints: vec!["`ship up` tries again; another `server.size` or zone may help".into()],
        input: false,
    }
}
