//! AWS: EC2, Route 53 and STS, for clients that take their endpoints from the environment.
//!
//!     client ─→ here: remembers, fails on request, adds what the servers behind it don't do
//!                ├─ EC2 ──────→ moto        images, types, key pairs, groups, servers, addresses, tags
//!                └─ Route 53, STS, signatures and policies ─→ ministack
//!
//! ```ignore
//! let aws = Aws::start();
//! aws.fault(Fault::on("RunInstances").lose_answer());
//! // … run ship with aws.env() …
//! assert_eq!(aws.instances().len(), 1);
//! assert_eq!(aws.writes()[0].call.parameter("ClientToken"), token);
//! ```
//!
//! [`Aws::booting`] puts a real server behind each that is made with user data. Public addresses are otherwise those of
//! documentation (203.0.113.x): never connect to them.
//!
//! Over moto: client tokens, limits of user data, states that take a look to pass, groups and addresses that depend on
//! servers, filters by state and token ([`ec2`]). Over ministack: what may stand in a zone, zones by name ([`route53`]).
//!
//! What differs from AWS: Route 53 lists a wildcard as `*`, not as `\052`. Policies are judged by one resource a request,
//! without the tags of things that are there already, and only for EC2, Route 53 and STS; other services are moto's own.
//! A server that was stopped keeps its public address.
//!
//! Invariant: only [`Aws`] and clients talk to the servers behind, and both stay on the loopback interface.

mod access;
mod addresses;
mod answer;
mod call;
mod ec2;
mod machines;
mod proof;
mod route53;
pub mod servers;
mod upstream;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use self::access::Access;
use self::ec2::Ec2;
use self::machines::Machines;
use self::servers::{PythonServer, Servers};
use self::upstream::Upstream;
use super::http::{Delivery, Request, Response, Server, fail_with};
use crate::boxes::TestBox;
use crate::support::wait_for;

pub use self::access::{Keys, actions, without};
pub use self::answer::texts;
pub use self::call::{Call, Refusal, Service};
pub use self::ec2::Instance;
pub use self::route53::RecordSet;

/// Where everything is, unless a request says otherwise.
pub const REGION: &str = "eu-central-1";

/// Something that goes wrong with the next requests for an action; see [`Aws::fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    action: String,
    after: u32,
    times: u32,
    what: Harm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Harm {
    None,
    Throttled,
    Unavailable,
    Internal,
    Refused(Refusal),
    Reset,
    LoseAnswer,
    Truncate,
    Hold(Duration),
    Unseen(u32),
}

impl Harm {
    /// What is answered instead of doing anything, if that is the harm.
    fn refusal(&self, service: &Service) -> Option<Refusal> {
        match self {
            Self::Throttled => Some(Refusal::throttled(service)),
            Self::Unavailable => Some(Refusal::unavailable(service)),
            Self::Internal => Some(Refusal::internal(service)),
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::None
            | Self::Reset
            | Self::LoseAnswer
            | Self::Truncate
            | Self::Hold(_)
            | Self::Unseen(_) => None,
        }
    }
}

impl Fault {
    /// A fault of requests for `RunInstances`, `ChangeResourceRecordSets`…
    pub fn on(action: &str) -> Self {
        Self { action: action.to_owned(), after: 0, times: 1, what: Harm::None }
    }

    /// Lets that many such requests pass first.
    pub fn after(mut self, passed: u32) -> Self {
        self.after = passed;
        self
    }

    /// Happens that often, not once.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Refuses because of too many requests, in the service's own words, and does nothing.
    pub fn throttle(self) -> Self {
        self.doing(Harm::Throttled)
    }

    /// Refuses with 503 and does nothing.
    pub fn unavailable(self) -> Self {
        self.doing(Harm::Unavailable)
    }

    /// Refuses with 500 and does nothing.
    pub fn internal(self) -> Self {
        self.doing(Harm::Internal)
    }

    /// Refuses in these words and does nothing.
    pub fn refuse(self, refusal: Refusal) -> Self {
        self.doing(Harm::Refused(refusal))
    }

    /// Resets the connection instead of doing anything.
    pub fn reset(self) -> Self {
        self.doing(Harm::Reset)
    }

    /// Does what is asked, and resets the connection instead of answering.
    pub fn lose_answer(self) -> Self {
        self.doing(Harm::LoseAnswer)
    }

    /// Does what is asked, and closes the connection after half of the answer.
    pub fn truncate(self) -> Self {
        self.doing(Harm::Truncate)
    }

    /// Does what is asked, and answers that much later.
    pub fn hold(self, how_long: Duration) -> Self {
        self.doing(Harm::Hold(how_long))
    }

    /// What the request makes can't be seen for that many looks: a request that names it fails, a list leaves it out.
    pub fn unseen(self, looks: u32) -> Self {
        self.doing(Harm::Unseen(looks))
    }

    fn doing(mut self, what: Harm) -> Self {
        self.what = what;
        self
    }
}

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request.
    pub call: Call,
    /// The status that was answered, or would have been had the answer not been lost; none after a reset that kept it from
    /// being done.
    pub status: Option<u16>,
    /// The error's code, with a status of 400 or more.
    pub error: Option<String>,
    /// Whether a fault befell it.
    pub faulty: bool,
}

/// A running AWS; dropping it ends it.
#[derive(Debug)]
pub struct Aws {
    shared: Arc<Shared>,
    ec2: Server,
    route53: Server,
}

#[derive(Debug)]
struct Shared {
    moto: Upstream,
    ministack: Upstream,
    access: Access,
    ec2: Mutex<Ec2>,
    log: Mutex<Vec<Exchange>>,
    faults: Mutex<Vec<Fault>>,
}

impl Aws {
    /// Starts one with an account of its own; installs what it needs the first time. Nothing boots: never connect to the
    /// addresses that servers have here.
    pub fn start() -> Self {
        let servers = Servers::get();
        let account = Servers::account();
        let upstream = |server: &PythonServer| Upstream { address: server.address, account: account.clone() };
        let (moto, ministack) = (upstream(&servers.moto), upstream(&servers.ministack));
        let shared = Arc::new(Shared {
            access: Access::new(ministack.clone()),
            ec2: Mutex::new(Ec2::new(moto.clone())),
            moto,
            ministack,
            log: Mutex::default(),
            faults: Mutex::default(),
        });
        let server = |default: Service| {
            let shared = Arc::clone(&shared);
            Server::start(move |request| shared.serve(&request, default.clone()))
        };
        Self { ec2: server(Service::Ec2), route53: server(Service::Route53), shared }
    }

    /// The same, but a server that is made with user data is a real one, so that this needs root or sudo. Its public
    /// address is its box's. Eight elastic addresses at most.
    pub fn booting() -> Self {
        let aws = Self::start();
        aws.boot(false);
        aws
    }

    /// The same with nginx, PostgreSQL and python3-venv in the servers already: for tests that are not about installing.
    pub fn booting_with_packages() -> Self {
        let aws = Self::start();
        aws.boot(true);
        aws
    }

    fn boot(&self, packages: bool) {
        // No two fakes of this machine have the same port, so no two have the same addresses.
        let [high, low] = self.ec2.address().port().to_be_bytes();
        let elastic = (232..240).map(|net| Ipv4Addr::new(10, net, high, low)).collect();
        lock(&self.shared.ec2).boot(packages, elastic);
    }

    /// The box behind a server; waits until it boots. Its own `key` opens nothing: the user data says who logs in.
    pub fn server(&self, instance: &str) -> Arc<TestBox> {
        let mut server = None;
        wait_for(&format!("the box of {instance}"), 300, || {
            server = lock(&self.shared.ec2).machines.as_ref().and_then(|all| all.get(instance));
            server.is_some()
        });
        server.expect("waited for it")
    }

    /// The account's number.
    pub fn account(&self) -> &str {
        &self.shared.moto.account
    }

    /// Where EC2 and STS are.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.ec2.address())
    }

    /// Where Route 53 is.
    pub fn route53_endpoint(&self) -> String {
        format!("http://{}", self.route53.address())
    }

    /// The environment for a client that may do everything.
    pub fn env(&self) -> Vec<(String, String)> {
        self.env_of(&Keys { id: self.account().to_owned(), secret: "wJalrXUtnFEMI/K7MDENG".to_owned() })
    }

    /// The environment for a client with those keys, and without anything that this machine's user has set up.
    pub fn env_of(&self, keys: &Keys) -> Vec<(String, String)> {
        let (endpoint, route53) = (self.endpoint(), self.route53_endpoint());
        let env = [
            ("AWS_ACCESS_KEY_ID", keys.id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &keys.secret),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_ENDPOINT_URL_EC2", &endpoint),
            ("AWS_ENDPOINT_URL_STS", &endpoint),
            ("AWS_ENDPOINT_URL_ROUTE_53", &route53),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Gives a command the environment of [`Aws::env_of`], and nothing else of AWS's.
    pub fn set(&self, command: &mut Command, keys: &Keys) {
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
            command.env_remove(name);
        }
        command.envs(self.env_of(keys));
    }

    /// Arranges for something to go wrong. Several may befall one request, but only one that concerns its answer.
    pub fn fault(&self, fault: Fault) {
        assert_ne!(fault.what, Harm::None, "what shall go wrong? {fault:?}");
        lock(&self.shared.faults).push(fault);
    }

    /// The faults that have not happened as often as they should.
    pub fn faults_left(&self) -> Vec<Fault> {
        lock(&self.shared.faults).clone()
    }

    /// A server is `pending` or `shutting-down` for that many looks instead of one.
    pub fn lags(&self, looks: u32) {
        lock(&self.shared.ec2).lag = looks;
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Exchange> {
        lock(&self.shared.log).clone()
    }

    /// The requests for an action.
    pub fn requests_for(&self, action: &str) -> Vec<Exchange> {
        self.requests().into_iter().filter(|exchange| exchange.call.action == action).collect()
    }

    /// The requests that were to change something, whether they did or not: all but `Describe…`, `Get…` and `List…`.
    pub fn writes(&self) -> Vec<Exchange> {
        self.requests().into_iter().filter(|exchange| exchange.call.writes()).collect()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        lock(&self.shared.log).clear();
    }

    /// Makes a user who may do what a policy says and nothing else.
    pub fn user(&self, name: &str, policy: &Value) -> Keys {
        self.shared.access.user(name, policy)
    }

    /// Asks EC2 as someone who may do everything, past faults and the record; panics unless it succeeds.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut parameters: BTreeMap<_, _> = parameters.iter().map(owned).collect();
        parameters.insert("Action".into(), action.into());
        let answer = lock(&self.shared.ec2).ask(REGION, &parameters);
        let body = String::from_utf8(answer.body).expect("XML");
        assert_eq!(answer.status, 200, "{action}: {body}");
        body
    }

    /// The servers, whether they still run or not.
    pub fn instances(&self) -> Vec<Instance> {
        // moto gives a hundred at a time.
        let mut all = Vec::new();
        let mut token = String::new();
        loop {
            let more = [("NextToken", token.as_str())];
            let answer = self.ec2("DescribeInstances", if token.is_empty() { &[] } else { &more });
            all.extend(Instance::read(&answer));
            match texts(&answer, "nextToken").pop() {
                Some(next) if !next.is_empty() => token = next,
                _ => return all,
            }
        }
    }

    /// A zone's records without those that every zone has (SOA and NS at its top).
    pub fn records(&self, zone: &str) -> Vec<RecordSet> {
        let mut records = route53::records(&self.shared.ministack, zone);
        let top = records.iter().find(|record| record.kind == "SOA").map(|soa| soa.name.clone());
        records
            .retain(|record| Some(&record.name) != top.as_ref() || !["SOA", "NS"].contains(&&*record.kind));
        records
    }

    /// A look at a zone's records for who answers questions about them on a thread of its own.
    pub fn records_later(&self, zone: &str) -> impl Fn() -> Vec<RecordSet> + Send + use<> {
        let (shared, zone) = (Arc::clone(&self.shared), zone.to_owned());
        move || route53::records(&shared.ministack, &zone)
    }

    /// Puts other people's servers into the account, each with the tags that `tags` gives for its number.
    pub fn others(&self, count: usize, tags: impl Fn(usize) -> Vec<(String, String)> + Sync) {
        let make = |n: usize| {
            let image = [("ImageId", "ami-0deb0000000000012"), ("InstanceType", "t3.micro")];
            let fixed =
                [&image[..], &[("Action", "RunInstances"), ("MinCount", "1"), ("MaxCount", "1")]].concat();
            let mut parameters: BTreeMap<_, _> = fixed.iter().map(owned).collect();
            for (index, (key, value)) in tags(n).into_iter().enumerate() {
                parameters.insert("TagSpecification.1.ResourceType".into(), "instance".into());
                parameters.insert(format!("TagSpecification.1.Tag.{}.Key", index + 1), key);
                parameters.insert(format!("TagSpecification.1.Tag.{}.Value", index + 1), value);
            }
            let answer = self.shared.moto.query("ec2", REGION, &parameters);
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        };
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || (worker..count).step_by(4).for_each(make));
            }
        });
    }

    /// Makes a public zone and returns its id (`Z…`).
    pub fn zone(&self, name: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let reference = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}</Name>\
             <CallerReference>{reference}</CallerReference></CreateHostedZoneRequest>"
        );
        let made = self.route53("POST", "/2013-04-01/hostedzone", &body);
        let id = texts(&made, "Id").into_iter().next().unwrap_or_default();
        id.trim_start_matches("/hostedzone/").to_owned()
    }

    /// Asks Route 53 as someone who may do everything, past faults and the record; panics unless it succeeds.
    pub fn route53(&self, method: &str, path: &str, body: &str) -> String {
        let answer = self.shared.ministack.ask("route53", "us-east-1", method, path, body.as_bytes());
        let body = String::from_utf8(answer.body).expect("XML");
        assert!(answer.status < 300, "{method} {path}: {body}");
        body
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let mut failures = self.ec2.stop();
        failures.extend(self.route53.stop());
        let mut machines = lock(&self.shared.ec2).machines.take();
        failures.extend(machines.iter_mut().flat_map(Machines::stop));
        fail_with(&failures);
    }
}

impl Shared {
    fn serve(&self, request: &Request, default: Service) -> Delivery {
        let call = Call::read(request, default);
        let faults = self.faults_of(&call.action);
        let entry = Exchange { call: call.clone(), status: None, error: None, faulty: !faults.is_empty() };
        let at = {
            let mut log = lock(&self.log);
            log.push(entry);
            log.len() - 1
        };
        let answer = match faults.iter().find_map(|harm| harm.refusal(&call.service)) {
            Some(refusal) => refusal.response(&call.service),
            None if faults.contains(&Harm::Reset) => return Delivery::Reset,
            None => self.process(&call, request, &faults),
        };
        if let Some(exchange) = lock(&self.log).get_mut(at) {
            exchange.status = Some(answer.status);
            exchange.error = answer::error_code(&answer.body).filter(|_| answer.status >= 400);
        }
        for harm in faults {
            match harm {
                Harm::LoseAnswer => return Delivery::Reset,
                Harm::Truncate => return Delivery::Truncated(answer),
                Harm::Hold(how_long) => return Delivery::Whole(answer, how_long),
                Harm::None | Harm::Throttled | Harm::Unavailable | Harm::Internal | Harm::Refused(_) => {}
                Harm::Reset | Harm::Unseen(_) => {}
            }
        }
        Delivery::Whole(answer, Duration::ZERO)
    }

    /// The faults that befall a request, of each kind one.
    fn faults_of(&self, action: &str) -> Vec<Harm> {
        let mut faults = lock(&self.faults);
        let mut befall: Vec<Harm> = Vec::new();
        let about_making = |harm: &Harm| matches!(harm, Harm::Unseen(_));
        for fault in faults.iter_mut().filter(|fault| fault.action == action) {
            let taken = befall.iter().any(|harm| about_making(harm) == about_making(&fault.what));
            if fault.after > 0 {
                fault.after -= 1;
            } else if !taken {
                fault.times -= 1;
                befall.push(fault.what.clone());
            }
        }
        faults.retain(|fault| fault.times > 0);
        befall
    }

    fn process(&self, call: &Call, request: &Request, faults: &[Harm]) -> Response {
        let looks =
            faults.iter().find_map(|harm| if let Harm::Unseen(looks) = harm { Some(*looks) } else { None });
        match &call.service {
            Service::Ec2 => match self.access.judge(call, request) {
                Ok(()) => lock(&self.ec2).answer(call, looks.unwrap_or(0)),
                Err(refusal) => refusal.response(&call.service),
            },
            Service::Route53 => {
                if call.action == "ChangeResourceRecordSets"
                    && let Err(refusal) = route53::judge(&self.ministack, call)
                {
                    return refusal.response(&call.service);
                }
                let mut answer = self.ask_ministack(call, request);
                if call.action == "ListHostedZonesByName" && answer.status == 200 {
                    answer.body = route53::zones_by_name(&self.ministack, call).into_bytes();
                }
                answer
            }
            Service::Sts => self.ask_ministack(call, request),
            Service::Other(_) => self.moto.forward(request),
        }
    }

    fn ask_ministack(&self, call: &Call, request: &Request) -> Response {
        let answer = self.ministack.forward(request);
        if !matches!(answer.status, 401 | 403) {
            return answer;
        }
        // It leaves out the element around an error that every client looks for.
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        access::refusal(call, answer.status, &body).response(&call.service)
    }
}

/// Locks what a panic may have left, because that fails the test anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owned((name, value): &(&str, &str)) -> (String, String) {
    ((*name).to_owned(), (*value).to_owned())
}
