//! Making things once, and waiting: for a state, for a turn, for the end of an action.
//!
//! Invariant: after an unclear end nothing is asked for again before a look has shown that it has not happened.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::cloud::DIGITALOCEAN;
use crate::providers::cloud::{Progress, once};
use crate::providers::error::CloudError;

use super::DigitalOcean;
use super::api;
use super::client::{Call, is_busy};

/// Something to wait for. It is shown once, when the waiting begins.
pub(super) struct Wait<'a> {
    pub(super) limit: Duration,
    /// `waiting for the droplet library to start`.
    pub(super) shown: String,
    /// `the droplet library is still starting`.
    pub(super) late: String,
    pub(super) progress: Progress<'a>,
}

impl Wait<'_> {
    fn late(&self) -> CloudError {
        CloudError::Late { what: self.late.clone(), seconds: self.limit.as_secs() }
    }
}

/// The time that a wait has taken so far.
struct Patience<'a> {
    wait: &'a Wait<'a>,
    start: Instant,
    shown: bool,
}

impl<'a> Patience<'a> {
    fn new(wait: &'a Wait<'a>) -> Self {
        Self { wait, start: Instant::now(), shown: false }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() >= self.wait.limit
    }

    async fn pause(&mut self, poll: Duration) {
        if !std::mem::replace(&mut self.shown, true) {
            (self.wait.progress)(&self.wait.shown);
        }
        tokio::time::sleep(poll).await;
    }
}

impl DigitalOcean {
    /// Looks until there is something to see.
    pub(super) async fn until<T, Looking>(
        &self,
        wait: &Wait<'_>,
        mut look: impl FnMut() -> Looking,
    ) -> Result<T, CloudError>
    where
        Looking: Future<Output = Result<Option<T>, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            if patience.is_over() {
                return Err(wait.late());
            }
            patience.pause(self.waits().poll).await;
        }
    }

    /// Calls until nothing else is being done to the thing: DigitalOcean does one thing at a time.
    pub(super) async fn in_turn<T, Calling>(
        &self,
        wait: &Wait<'_>,
        mut call: impl FnMut() -> Calling,
    ) -> Result<T, CloudError>
    where
        Calling: Future<Output = Result<T, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        loop {
            match call().await {
                Err(error) if is_busy(&error) && !patience.is_over() => {
                    patience.pause(self.waits().poll).await;
                }
                result => return result,
            }
        }
    }

    /// Has an action done, until `look` shows what it leads to. The action is asked for again only when a look after an
    /// unclear end has shown that it has led to nothing. `actions` is where its state is told, `running` the id of one
    /// that is under way already.
    pub(super) async fn bring_about<T, Looking>(
        &self,
        wait: &Wait<'_>,
        call: &Call,
        actions: &[&str],
        mut running: Option<String>,
        mut look: impl FnMut() -> Looking,
    ) -> Result<T, CloudError>
    where
        Looking: Future<Output = Result<Option<T>, CloudError>>,
    {
        let mut patience = Patience::new(wait);
        let mut doubt = None;
        loop {
            if let Some(seen) = look().await? {
                return Ok(seen);
            }
            if patience.is_over() {
                return Err(doubt.unwrap_or_else(|| wait.late()));
            }
            match &running {
                None => match self.client.call::<api::Action>(call, "action").await {
                    Ok(action) => {
                        running = Some(action.id.to_string());
                        doubt = None;
                    }
                    Err(error) if is_busy(&error) => {}
                    Err(error) if error.is_unclear() => doubt = Some(error),
                    // What the lost call did may be why there is nothing left to do.
                    Err(error) if doubt.is_some() => return look().await?.ok_or(error),
                    Err(error) => return Err(error),
                },
                Some(id) => self.check_action(call, actions, id).await?,
            }
            patience.pause(self.waits().poll).await;
        }
    }

    pub(super) async fn check_action(
        &self,
        call: &Call,
        actions: &[&str],
        id: &str,
    ) -> Result<(), CloudError> {
        let path = [actions, &[id]].concat();
        let look = Call::get(&path, "look at the action");
        // Some actions are not told of (terraform-provider-digitalocean#1557); then only their effect is.
        let action = self.client.find::<api::Action>(&look, "action").await?;
        match action {
            Some(action) if action.status == "errored" => Err(CloudError::Refused {
                cloud: DIGITALOCEAN.cloud,
                doing: call.doing().to_owned(),
                code: "errored".into(),
                message: format!("its action {id} failed"),
                hints: vec!["run `ship up` again; https://status.digitalocean.com may say more".into()],
                input: false,
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes something once. If DigitalOcean has it already, an earlier call made it whose answer was lost.
    pub(super) async fn make<T, Finding, Making>(
        &self,
        mut find: impl FnMut() -> Finding,
        make: impl FnMut() -> Making,
    ) -> Result<T, CloudError>
    where
        Finding: Future<Output = Result<Option<T>, CloudError>>,
        Making: Future<Output = Result<T, CloudError>>,
    {
        match once(&self.waits().looks, &mut find, make).await {
            Err(error) if is_conflict(&error) => {
                for wait in std::iter::once(&Duration::ZERO).chain(&self.waits().looks) {
                    tokio::time::sleep(*wait).await;
                    if let Some(found) = find().await? {
                        return Ok(found);
                    }
                }
                Err(error)
            }
            result => result,
        }
    }
}

/// Whether the API says that there is one already.
fn is_conflict(error: &CloudError) -> bool {
    let CloudError::Refused { code, message, .. } = error else { return false };
    code.eq_ignore_ascii_case("conflict") || message.to_ascii_lowercase().contains("already")
}
