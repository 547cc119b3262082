//! The real servers behind droplets: one box each, booted with what the droplet was made with.
//!
//! Invariant: one thread does everything that takes a server's time, in the order in which it was asked for, and never
//! while it holds the account.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Core;
use super::account::{Account, Progress, Status, Work};
use super::catalog;
use crate::boxes::{CloudInit, TestBox};
use crate::fakes::http::panic_message;

/// What DigitalOcean's images say of themselves: root logs in, with the keys that the droplet was made with.
const VENDOR_DATA: &str = "#cloud-config\ndisable_root: false\nmanage_etc_hosts: true\n";

/// Work, and the action that waits for it.
type Job = (Option<u64>, Work);

/// The servers of an account.
#[derive(Debug, Default)]
pub struct Servers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    packages: bool,
    impostor: bool,
    boxes: HashMap<u64, Arc<TestBox>>,
    worker: Option<(Sender<Job>, JoinHandle<()>)>,
    failures: Vec<String>,
    stopping: bool,
}

impl Servers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on droplets have nginx, PostgreSQL and python3-venv, as if their image had.
    pub fn with_impostor(&self) {
        self.lock().impostor = true;
    }

    /// Boots servers from an image that has the packages.
    pub fn with_packages(&self) {
        self.lock().packages = true;
    }

    /// The droplet's server, if it has one by now.
    pub fn get(&self, droplet: u64) -> Option<Arc<TestBox>> {
        self.lock().boxes.get(&droplet).cloned()
    }

    /// Droplets whose servers were switched on or off behind the API's back show it.
    pub fn refresh(&self, account: &mut Account) {
        let boxes = self.lock().boxes.clone();
        for (id, server) in boxes {
            let busy = account.is_busy(id);
            let Some(droplet) =
                account.droplet_mut(id).filter(|droplet| droplet.status != Status::New && !busy)
            else {
                continue;
            };
            droplet.status = if server.is_running() { Status::Active } else { Status::Off };
        }
    }

    /// Hands over work, to be done soon.
    pub fn hand_over(&self, core: &Arc<Core>, work: Vec<Job>) {
        let mut state = self.lock();
        for work in work {
            let start = || {
                let (sender, receiver) = channel();
                let core = Arc::clone(core);
                (sender, std::thread::spawn(move || core.servers.work(&core, &receiver)))
            };
            let (sender, _) = state.worker.get_or_insert_with(start);
            // Fails only when the thread is gone, which it is after a failure that the end reports.
            drop(sender.send(work));
        }
    }

    fn work(&self, core: &Core, receiver: &Receiver<Job>) {
        while let Ok((action, work)) = receiver.recv() {
            if self.lock().stopping {
                continue;
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(core, &work)));
            let mut inner = core.lock();
            let action = inner.account.actions.iter_mut().find(|has| Some(has.id) == action);
            if let Err(panic) = &done {
                self.lock().failures.push(format!("{work:?}: {}", panic_message(panic.as_ref())));
            }
            if let Some(action) = action {
                action.working = false;
                action.progress = if done.is_ok() { action.progress } else { Progress::Errored };
            }
        }
    }

    fn carry_out(&self, core: &Core, work: &Work) {
        let address = |droplet: &Option<u64>| droplet.and_then(|id| self.get(id));
        match work {
            Work::Boot(id) => self.boot(core, *id),
            Work::Start(id) => self.get(*id).into_iter().for_each(|server| server.power_on()),
            Work::Stop(id, properly) => {
                let server = self.get(*id).filter(|server| server.is_running());
                server.into_iter().for_each(|server| if *properly { server.stop() } else { server.kill() });
            }
            Work::Move(ip, from, to) => {
                address(from).into_iter().for_each(|server| server.remove_address(*ip));
                address(to).into_iter().for_each(|server| server.add_address(*ip));
            }
            Work::Remove(id) => {
                let server = self.lock().boxes.remove(id);
                server.into_iter().for_each(|server| server.remove());
            }
        }
    }

    /// What the server is told to be. An impostor has everything but the host key.
    fn told(&self, user_data: &str) -> String {
        if !self.lock().impostor {
            return user_data.to_owned();
        }
        let lines = user_data.lines().filter(|line| !line.trim_start().starts_with("ed25519_"));
        lines
            .map(|line| if line == "ssh_keys:" { "ssh_quiet_keygen: true" } else { line })
            .map(|line| format!("{line}\n"))
            .collect()
    }

    fn boot(&self, core: &Core, id: u64) {
        let wanted = core.lock().account.droplet(id).cloned();
        let Some(droplet) = wanted else { return }; // deleted meanwhile
        let keys = core.lock().account.keys.clone();
        let keys =
            keys.into_iter().filter(|key| droplet.ssh_keys.contains(&key.id)).map(|key| key.public_key);
        let told = CloudInit {
            user_data: self.told(&droplet.user_data.clone().unwrap_or_default()),
            vendor_data: Some(VENDOR_DATA.into()),
            hostname: droplet.name.clone(),
            keys: keys.collect(),
        };
        let (.., suite) = catalog::image(&droplet.image).expect("an image of the catalog");
        let packages = self.lock().packages;
        let server = TestBox::builder().suite(*suite).packages(packages).cloud_init(told).boot();
        let address: Ipv4Addr = server.host.parse().expect("boxes have IPv4 addresses");
        self.lock().boxes.insert(id, Arc::new(server));
        if let Some(droplet) = core.lock().account.droplet_mut(id) {
            droplet.address = Some(address);
        }
    }

    /// Finishes what is being done, forgets the rest, and removes all servers; says what went wrong with them.
    pub fn stop(&self) -> Vec<String> {
        let worker = {
            let mut state = self.lock();
            state.stopping = true;
            state.worker.take()
        };
        if let Some((sender, thread)) = worker {
            drop(sender);
            thread.join().expect("the servers' thread ends");
        }
        let boxes = std::mem::take(&mut self.lock().boxes);
        let removals: Vec<_> =
            boxes.into_values().map(|server| std::thread::spawn(move || drop(server))).collect();
        let failed = removals.into_iter().filter_map(|removal| removal.join().err());
        let failed: Vec<_> = failed.map(|panic| panic_message(panic.as_ref())).collect();
        let mut failures = std::mem::take(&mut self.lock().failures);
        failures.extend(failed);
        failures
    }
}
