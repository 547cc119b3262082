//! The real servers behind EC2's: one box each, booted with what the server was made with.
//!
//! Invariant: one thread does everything that takes a server's time, in the order in which it was asked for.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

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
