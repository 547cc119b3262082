//! The real servers behind EC2's: one box each, booted with what the server was made with.
//!
//! Invariant: one thread does everything that takes a server's time, in the order in which it was asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{child_text, items, parse, texts};
use super::call::Call;
use super::ec2::{Ec2, instances};
use crate::boxes::{CloudInit, Suite, TestBox};
use crate::fakes::http::panic_message;

/// Something to do with a server.
#[derive(Debug, Clone)]
pub enum Work {
    /// Made, with that system, told that.
    Boot(Suite, CloudInit),
    /// Power on, off, and both.
    Start,
    Stop,
    Reboot,
    /// A further address comes or goes.
    Add(Ipv4Addr),
    Take(Ipv4Addr),
    /// Terminated.
    Remove,
}

/// Work, and for which server.
type Task = (String, Work);

/// The servers of an account.
#[derive(Debug)]
pub struct Machines {
    shared: Arc<Mutex<State>>,
    worker: Option<(Sender<Task>, JoinHandle<()>)>,
}

#[derive(Debug, Default)]
struct State {
    packages: bool,
    boxes: HashMap<String, Arc<TestBox>>,
    expected: BTreeSet<String>,
    failures: Vec<String>,
    stopping: bool,
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machines {
    /// None yet; with or without nginx, PostgreSQL and python3-venv in their images.
    pub fn new(packages: bool) -> Self {
        let shared = Arc::new(Mutex::new(State { packages, ..State::default() }));
        let (sender, receiver) = channel();
        let working = Arc::clone(&shared);
        let thread = std::thread::spawn(move || work(&working, &receiver));
        Self { shared, worker: Some((sender, thread)) }
    }

    /// Hands over work, to be done soon.
    pub fn hand_over(&self, instance: &str, work: Work) {
        let (sender, _) = self.worker.as_ref().expect("not stopped yet");
        if let Work::Boot(..) = &work {
            lock(&self.shared).expected.insert(instance.to_owned());
        }
        // Fails only when the thread is gone, and the end reports why.
        drop(sender.send((instance.to_owned(), work)));
    }

    /// The box behind a server, once it boots.
    pub fn get(&self, instance: &str) -> Option<Arc<TestBox>> {
        lock(&self.shared).boxes.get(instance).cloned()
    }

    /// Whether a server will have a box, but has none yet.
    pub fn expects(&self, instance: &str) -> bool {
        lock(&self.shared).expected.contains(instance)
    }

    /// Finishes what is being done, forgets the rest, and removes all boxes; says what went wrong with them.
    pub fn stop(&mut self) -> Vec<String> {
        let Some((sender, thread)) = self.worker.take() else { return Vec::new() };
        lock(&self.shared).stopping = true;
        drop(sender);
        thread.join().expect("the machines' thread ends");
        let boxes = std::mem::take(&mut lock(&self.shared).boxes);
        let removals: Vec<_> =
            boxes.into_values().map(|gone| std::thread::spawn(move || drop(gone))).collect();
        let failed = removals.into_iter().filter_map(|removal| removal.join().err());
        let failed: Vec<String> = failed.map(|panic| panic_message(panic.as_ref())).collect();
        let mut failures = std::mem::take(&mut lock(&self.shared).failures);
        failures.extend(failed);
        failures
    }
}

fn work(shared: &Mutex<State>, receiver: &Receiver<Task>) {
    while let Ok((instance, work)) = receiver.recv() {
        if lock(shared).stopping {
            continue;
        }
        let done = catch_unwind(AssertUnwindSafe(|| carry_out(shared, &instance, &work)));
        if let Err(panic) = done {
            lock(shared).failures.push(format!("{instance}: {work:?}: {}", panic_message(panic.as_ref())));
        }
    }
}

fn carry_out(shared: &Mutex<State>, instance: &str, work: &Work) {
    let server = lock(shared).boxes.get(instance).cloned();
    match (work, server) {
        (Work::Boot(suite, told), _) => {
            let packages = lock(shared).packages;
            let booting = TestBox::builder().suite(*suite).packages(packages).cloud_init(told.clone()).boot();
            let mut state = lock(shared);
            state.boxes.insert(instance.to_owned(), Arc::new(booting));
            state.expected.remove(instance);
        }
        (Work::Start, Some(server)) => server.power_on(),
        (Work::Stop, Some(server)) => server.stop(),
        (Work::Reboot, Some(server)) => server.reboot(),
        (Work::Add(address), Some(server)) => server.add_address(*address),
        (Work::Take(address), Some(server)) => server.remove_address(*address),
        (Work::Remove, Some(server)) => {
            lock(shared).boxes.remove(instance);
            server.remove();
        }
        // Not every server has a box.
        (Work::Start | Work::Stop | Work::Reboot | Work::Add(_) | Work::Take(_) | Work::Remove, None) => {}
    }
}

impl Ec2 {
    /// What happened to servers happens to the boxes behind them.
    pub(super) fn tell_machines(&mut self, call: &Call, xml: &str) {
        let Some(machines) = &self.machines else { return };
        let all = |work: &Work| {
            call.list("InstanceId")
                .into_iter()
                .for_each(|instance| machines.hand_over(instance, work.clone()));
        };
        match call.action.as_str() {
            "ImportKeyPair" => {
                let material = STANDARD.decode(call.parameter("PublicKeyMaterial")).unwrap_or_default();
                let public = String::from_utf8_lossy(&material).trim().to_owned();
                self.keys.insert(call.parameter("KeyName").to_owned(), public);
            }
            "RunInstances" => {
                let Some(user_data) = call.user_data() else { return };
                let image = [("Action", "DescribeImages"), ("ImageId.1", call.parameter("ImageId"))];
                let image =
                    texts(&self.ask_for(&call.region, &image), "imageLocation").pop().unwrap_or_default();
                let told = CloudInit {
                    user_data: String::from_utf8(user_data).expect("user data in UTF-8"),
                    vendor_data: Some(vendor_data(self.keys.get(call.parameter("KeyName")))),
                    ..CloudInit::default()
                };
                for (_, instance) in instances(&parse(xml)) {
                    let name = child_text(instance, "privateDnsName").split('.').next().unwrap_or_default();
                    let told = CloudInit { hostname: name.to_owned(), ..told.clone() };
                    machines.hand_over(child_text(instance, "instanceId"), Work::Boot(suite(&image), told));
                }
            }
            "StartInstances" => all(&Work::Start),
            "StopInstances" => all(&Work::Stop),
            "RebootInstances" => all(&Work::Reboot),
            "TerminateInstances" => all(&Work::Remove),
            "AssociateAddress" | "DisassociateAddress" | "ReleaseAddress" => {
                self.move_addresses(&call.region)
            }
            _ => {}
        }
    }

    /// Boxes have the elastic addresses that their servers have.
    pub(super) fn move_addresses(&mut self, region: &str) {
        let answer = self.ask_for(region, &[("Action", "DescribeAddresses")]);
        let document = parse(&answer);
        let held: BTreeMap<Ipv4Addr, String> = items(document.root_element(), "addressesSet")
            .filter_map(|item| {
                Some((child_text(item, "publicIp").parse().ok()?, child_text(item, "instanceId")))
            })
            .filter(|(_, instance)| !instance.is_empty())
            .map(|(address, instance)| (address, instance.to_owned()))
            .collect();
        let before = std::mem::replace(&mut self.held, held);
        let Some(machines) = &self.machines else { return };
        for (address, instance) in
            before.iter().filter(|(address, had)| self.held.get(*address) != Some(*had))
        {
            machines.hand_over(instance, Work::Take(*address));
        }
        for (address, instance) in
            self.held.iter().filter(|(address, has)| before.get(*address) != Some(*has))
        {
            machines.hand_over(instance, Work::Add(*address));
        }
    }

    /// A server whose box doesn't boot yet stays as it is for another look.
    pub(super) fn await_machine(&mut self, instance: &str) {
        let Some(machines) = &self.machines else { return };
        if let Some(machine) = machines.get(instance)
            && let Ok(address) = machine.host.parse()
        {
            self.addresses.is_real(instance, address);
        } else if machines.expects(instance)
            && let Some(passing) = self.states.get_mut(instance)
        {
            passing.looks = passing.looks.max(1);
        }
    }
}

/// What Debian's images for EC2 say of themselves: `admin` logs in, with the key that the server was made with.
fn vendor_data(key: Option<&String>) -> String {
    let keys: Vec<&String> = key.into_iter().collect();
    let admin = json!({"name": "admin", "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": true,
                       "ssh_authorized_keys": keys});
    // JSON is YAML.
    format!("#cloud-config\n{}\n", json!({"disable_root": true, "users": [admin]}))
}

/// What boots for an image.
fn suite(image: &str) -> Suite {
    let suites = [("debian-12", Suite::Bookworm), ("debian-13", Suite::Trixie)];
    let suite = suites.iter().find(|(name, _)| image.contains(name));
    suite.unwrap_or_else(|| panic!("no box boots {image:?}")).1
}
