//! DigitalOcean's API v2, as much of it as ship uses, with an account behind it.
//!
//! ```ignore
//! let cloud = DigitalOcean::start();
//! cloud.fault(Fault::on("POST", "/v2/droplets").lose_answer());
//! // … run ship with cloud.url() and cloud.token() …
//! assert_eq!(cloud.droplets().len(), 1);
//! assert_eq!(cloud.writes().len(), 2);
//! ```
//!
//! [`DigitalOcean::start`] gives droplets made-up addresses of the ranges for documentation: never connect to them.
//! With [`DigitalOcean::booting`] each droplet is a box that boots with the user data that it was made with; its
//! address is the box's, and a reserved address is one that the box has besides. IPv6 addresses are always made up.
//!
//! Invariant: routes, and the token scopes that they need, come from DigitalOcean's own document. What ship has no use
//! for is not served, and a request for it fails the test.

mod account;
mod api;
mod catalog;
mod dns;
mod document;
mod droplets;
mod network;
pub mod proof;
mod resources;
mod servers;
mod tests;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::account::Unsettled;
#[allow(unused_imports, reason = "for tests that name them")]
pub use self::account::{
    Account, Action, Domain, Droplet, Effect, Firewall, Key, Progress, Project, Record, ReservedIp, Status,
    Target, Volume, Vpc,
};
use self::api::{Answer, Call, Refusal};
use self::document::{DOCUMENT, Scopes};
use self::servers::Servers;
use super::http::{Delivery, Request, Response, Server, fail_with};
use crate::boxes::TestBox;

/// A fake DigitalOcean with one account, on a port of its own.
#[derive(Debug)]
pub struct DigitalOcean {
    core: Arc<Core>,
    server: Server,
}

#[derive(Debug)]
struct Core {
    inner: Mutex<Inner>,
    servers: Servers,
}

#[derive(Debug)]
struct Inner {
    account: Account,
    tokens: HashMap<String, Scopes>,
    log: Vec<Exchange>,
    faults: Vec<Fault>,
}

/// A request that was made, and what came of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// GET, POST…
    pub method: String,
    /// `/v2/droplets`, decoded.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The body; null if there was none.
    pub body: Value,
    /// The status that was answered, or would have been had the answer not been lost; none if nothing was processed.
    pub status: Option<u16>,
    /// When it came in.
    pub at: Instant,
    /// Whether a fault befell it.
    pub faulty: bool,
}

impl Exchange {
    /// `POST /v2/droplets 202`
    pub fn line(&self) -> String {
        let query: Vec<_> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let status = self.status.map_or_else(|| "-".into(), |status| status.to_string());
        format!("{} {}{query} {status}", self.method, self.path)
    }
}

/// Something that goes wrong with the next request of its kind; see [`DigitalOcean::fault`].
#[derive(Debug, Clone)]
pub struct Fault {
    method: String,
    pattern: String,
    after: u32,
    times: u32,
    what: Harm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Harm {
    None,
    Status(u16, Option<u32>),
    Reset,
    LoseAnswer,
    Hold(Duration),
    Truncate,
    MissingFromLists(u32),
    UnknownToDroplets(u32),
}

impl Fault {
    /// A fault of requests with that method (`*`: any) and path, where `*` stands for one part of it.
    pub fn on(method: &str, pattern: &str) -> Self {
        Self { method: method.into(), pattern: pattern.into(), after: 0, times: 1, what: Harm::None }
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

    /// Answers with an error instead of doing anything.
    pub fn status(self, status: u16) -> Self {
        self.doing(Harm::Status(status, None))
    }

    /// Answers 429 and says how many seconds to wait.
    pub fn too_many_requests(self, retry_after: u32) -> Self {
        self.doing(Harm::Status(429, Some(retry_after)))
    }

    /// Resets the connection instead of doing anything.
    pub fn reset(self) -> Self {
        self.doing(Harm::Reset)
    }

    /// Does what is asked, and closes the connection instead of answering.
    pub fn lose_answer(self) -> Self {
        self.doing(Harm::LoseAnswer)
    }

    /// Does what is asked, and answers that much later.
    pub fn hold(self, how_long: Duration) -> Self {
        self.doing(Harm::Hold(how_long))
    }

    /// Does what is asked, and closes the connection after half of the answer.
    pub fn truncate(self) -> Self {
        self.doing(Harm::Truncate)
    }

    /// What the request makes is missing from the next lists of its kind, though it can be got by its identifier.
    pub fn missing_from_lists(self, lists: u32) -> Self {
        self.doing(Harm::MissingFromLists(lists))
    }

    /// The next droplets can't be made with the SSH key that the request uploads, as happens for a few seconds.
    pub fn unknown_to_droplets(self, creations: u32) -> Self {
        self.doing(Harm::UnknownToDroplets(creations))
    }

    fn doing(mut self, what: Harm) -> Self {
        self.what = what;
        self
    }

    fn is_for(&self, method: &str, path: &str) -> bool {
        let (pattern, path): (Vec<_>, Vec<_>) =
            (self.pattern.split('/').collect(), path.split('/').collect());
        let fits = |(pattern, part): (&&str, &&str)| *pattern == "*" || pattern == part;
        (self.method == "*" || self.method == method)
            && pattern.len() == path.len()
            && pattern.iter().zip(&path).all(fits)
    }
}

impl DigitalOcean {
    /// A fake whose droplets are data: each becomes active after some looks, at a made-up address.
    pub fn start() -> Self {
        let free_ips = (1..=254).rev().map(|last| Ipv4Addr::new(198, 51, 100, last)).collect();
        Self::with_account(Account::new(false, free_ips))
    }

    /// A fake whose droplets are real servers, so that it needs root or sudo. Eight reserved addresses at most.
    pub fn booting() -> Self {
        let cloud = Self::with_account(Account::new(true, Vec::new()));
        // No two fakes of this machine have the same port, so no two have the same addresses.
        let [high, low] = cloud.server.address().port().to_be_bytes();
        cloud.with(|account| {
            account.free_ips = (232..240).map(|net| Ipv4Addr::new(10, net, high, low)).collect()
        });
        cloud
    }

    /// From now on droplets have nginx, PostgreSQL and python3-venv already: for tests that are not about installing.
    pub fn with_impostor(self) -> Self {
        self.core.servers.with_impostor();
        self
    }

    /// The same with servers that have the packages of a site already.
    pub fn with_packages(self) -> Self {
        self.core.servers.with_packages();
        self
    }

    fn with_account(account: Account) -> Self {
        let tokens = HashMap::from([(token(0), None)]);
        let inner = Inner { account, tokens, log: Vec::new(), faults: Vec::new() };
        let core = Arc::new(Core { inner: Mutex::new(inner), servers: Servers::default() });
        let handling = Arc::clone(&core);
        Self { core, server: Server::start(move |request| handling.handle(&request)) }
    }

    /// Where the API is: `http://127.0.0.1:PORT`, to which `/v2/…` is added.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// A token with full access.
    pub fn token(&self) -> String {
        token(0)
    }

    /// A new token that may do just that: `droplet:read`, `domain:update`… DigitalOcean's control panel gives some
    /// scopes along with others (`droplet:read` brings `regions:read`, `sizes:read`, `actions:read` and `image:read`);
    /// here nothing is added.
    pub fn scoped_token(&self, scopes: &[&str]) -> String {
        let mut inner = self.core.lock();
        let token = token(inner.tokens.len());
        inner.tokens.insert(token.clone(), Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()));
        token
    }

    /// Makes a token invalid.
    pub fn revoke(&self, token: &str) {
        self.core.lock().tokens.remove(token);
    }

    /// Looks into the account or changes it behind ship's back: limits, other people's resources, drift.
    pub fn with<T>(&self, look: impl FnOnce(&mut Account) -> T) -> T {
        look(&mut self.core.lock().account)
    }

    /// Fills the account with other people's droplets, `other-1` and so on, which carry the tag `theirs`.
    pub fn preload_droplets(&self, count: usize) {
        self.with(|account| {
            for number in 1..=count {
                account.add_droplet(&format!("other-{number}"), "fra1", &["theirs"]);
            }
        });
    }

    /// Fills a domain, which is made if there is none, with A records: `NAME-1`, `NAME-2`…
    pub fn preload_records(&self, domain: &str, name: &str, count: usize) {
        self.with(|account| {
            if !account.domains.iter().any(|has| has.name == domain) {
                account.add_domain(domain);
            }
            for number in 1..=count {
                account.add_record(domain, "A", &format!("{name}-{number}"), "192.0.2.1");
            }
        });
    }

    /// The droplets, oldest first.
    pub fn droplets(&self) -> Vec<Droplet> {
        self.with(|account| account.droplets.clone())
    }

    /// The server of a droplet; waits until it boots. Its own `key` opens nothing: what ship sent says who logs in.
    pub fn server(&self, droplet: u64) -> Arc<TestBox> {
        let mut server = None;
        crate::support::wait_for(&format!("the server of droplet {droplet}"), 300, || {
            server = self.core.servers.get(droplet);
            server.is_some()
        });
        server.expect("waited for it")
    }

    /// The SSH keys.
    pub fn keys(&self) -> Vec<Key> {
        self.with(|account| account.keys.clone())
    }

    /// The tags.
    pub fn tags(&self) -> Vec<String> {
        self.with(|account| account.tags.clone())
    }

    /// The firewalls.
    pub fn firewalls(&self) -> Vec<Firewall> {
        self.with(|account| account.firewalls.clone())
    }

    /// The reserved addresses.
    pub fn reserved_ips(&self) -> Vec<ReservedIp> {
        self.with(|account| account.reserved_ips.clone())
    }

    /// The volumes.
    pub fn volumes(&self) -> Vec<Volume> {
        self.with(|account| account.volumes.clone())
    }

    /// The projects; the first is the default one.
    pub fn projects(&self) -> Vec<Project> {
        self.with(|account| account.projects.clone())
    }

    /// A domain's records without those that every domain has (SOA and NS); none if there is no such domain.
    pub fn records(&self, domain: &str) -> Vec<Record> {
        self.with(|account| {
            let domain = account.domains.iter().find(|has| has.name == domain);
            let records = domain.into_iter().flat_map(|domain| domain.records.clone());
            records.filter(|record| !matches!(record.kind.as_str(), "SOA" | "NS")).collect()
        })
    }

    /// A look at the records that outlives no one, for who answers questions about them on a thread of its own.
    pub fn records_later(&self) -> impl Fn(&str) -> Vec<Record> + Send + use<> {
        let core = Arc::clone(&self.core);
        move |domain| {
            let inner = core.lock();
            let domain = inner.account.domains.iter().find(|has| has.name == domain);
            domain.map(|domain| domain.records.clone()).unwrap_or_default()
        }
    }

    /// All actions ever, oldest first.
    pub fn actions(&self) -> Vec<Action> {
        self.with(|account| account.actions.clone())
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Exchange> {
        self.core.lock().log.clone()
    }

    /// Every request that was to change something, whether it did or not.
    pub fn writes(&self) -> Vec<Exchange> {
        self.requests().into_iter().filter(|exchange| exchange.method != "GET").collect()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.core.lock().log.clear();
    }

    /// Arranges for something to go wrong. Several may befall one request, but only one that concerns its answer.
    pub fn fault(&self, fault: Fault) {
        assert_ne!(fault.what, Harm::None, "what shall go wrong? {fault:?}");
        self.core.lock().faults.push(fault);
    }

    /// The faults that have not happened as often as they should.
    pub fn faults_left(&self) -> Vec<Fault> {
        self.core.lock().faults.clone()
    }
}

impl Drop for DigitalOcean {
    fn drop(&mut self) {
        let mut failures = self.server.stop();
        failures.extend(self.core.servers.stop());
        fail_with(&failures);
    }
}

/// What tokens look like.
fn token(number: usize) -> String {
    format!("dop_v1_{number:064x}")
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A handler that panicked fails the test anyway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(self: &Arc<Self>, request: &Request) -> Delivery {
        let path = api::decode(&request.path, false);
        let mut inner = self.lock();
        self.servers.refresh(&mut inner.account);
        let faults = inner.faults_of(&request.method, &path);
        let body = match request.body.as_slice() {
            [] => Ok(Value::Null),
            body => serde_json::from_slice(body),
        };
        inner.log.push(Exchange {
            method: request.method.clone(),
            path: path.clone(),
            query: api::parse_query(&request.query),
            body: body.as_ref().map_or_else(|_| String::from_utf8_lossy(&request.body).into(), Value::clone),
            status: None,
            at: Instant::now(),
            faulty: !faults.is_empty(),
        });
        let number = inner.log.len();
        let mut retry_after = None;
        let answer = match faults.iter().find(|harm| matches!(harm, Harm::Reset | Harm::Status(..))) {
            Some(Harm::Status(status, seconds)) => {
                retry_after = *seconds;
                Err(Refusal { status: *status, message: broken(*status).into() })
            }
            Some(_) => return Delivery::Reset,
            None => match body {
                Ok(body) => inner.process(request, path, body, &faults),
                Err(_) => Err(Refusal { status: 400, message: "error parsing request body".into() }),
            },
        };
        let request_id = format!("{number:08x}-1a2b-4c3d-8e4f-{:012x}", number * 7_919);
        let (status, body) = match answer {
            Ok((status, body)) => (status, body),
            Err(refusal) => (refusal.status, refusal.json(&request_id)),
        };
        inner.log[number - 1].status = Some(status);
        let remaining = if status == 429 { 0 } else { 5_000_usize.saturating_sub(number) };
        self.servers.hand_over(self, std::mem::take(&mut inner.account.work));
        drop(inner);

        let header = |name: &str, value: String| (name.to_owned(), value);
        let reset = jiff::Timestamp::now().as_second() + 3600;
        let mut headers = vec![
            header("Content-Type", "application/json; charset=utf-8".into()),
            header("ratelimit-limit", "5000".into()),
            header("ratelimit-remaining", remaining.to_string()),
            header("ratelimit-reset", reset.to_string()),
            header("x-request-id", request_id),
        ];
        headers.extend(retry_after.map(|seconds| header("retry-after", seconds.to_string())));
        let body = if status == 204 { Vec::new() } else { body.to_string().into_bytes() };
        let response = Response { status, headers, body };
        for harm in faults {
            match harm {
                Harm::LoseAnswer => return Delivery::Closed,
                Harm::Truncate => return Delivery::Truncated(response),
                Harm::Hold(how_long) => return Delivery::Whole(response, how_long),
                Harm::None | Harm::Status(..) | Harm::Reset => {}
                Harm::MissingFromLists(_) | Harm::UnknownToDroplets(_) => {}
            }
        }
        Delivery::Whole(response, Duration::ZERO)
    }
}

/// What the API says when it is in no state to do anything.
fn broken(status: u16) -> &'static str {
    match status {
        401 => "Unable to authenticate you.",
        403 => "You are not authorized to perform this operation",
        404 => "The resource you were accessing could not be found.",
        429 => "API Rate limit exceeded.",
        503 => "Service unavailable",
        _ => "Server Error",
    }
}

impl Inner {
    /// The faults that befall a request, of each kind one.
    fn faults_of(&mut self, method: &str, path: &str) -> Vec<Harm> {
        let mut befall: Vec<Harm> = Vec::new();
        let about_making =
            |harm: &Harm| matches!(harm, Harm::MissingFromLists(_) | Harm::UnknownToDroplets(_));
        for fault in self.faults.iter_mut().filter(|fault| fault.is_for(method, path)) {
            let taken = befall.iter().any(|harm| about_making(harm) == about_making(&fault.what));
            if fault.after > 0 {
                fault.after -= 1;
            } else if !taken {
                fault.times -= 1;
                befall.push(fault.what.clone());
            }
        }
        self.faults.retain(|fault| fault.times > 0);
        befall
    }

    fn process(&mut self, request: &Request, path: String, body: Value, faults: &[Harm]) -> Answer {
        let token = request.header("Authorization").strip_prefix("Bearer ").unwrap_or_default();
        let Some(scopes) = self.tokens.get(token).cloned() else {
            return Err(Refusal { status: 401, message: "Unable to authenticate you.".into() });
        };
        let operation = DOCUMENT.operation(&request.method, &path);
        let operation = operation.unwrap_or_else(|| {
            panic!(
                "tests/fakes/digitalocean does not serve {} {path}: is it a path of the API?",
                request.method
            )
        });
        let mut call = Call {
            account: &mut self.account,
            parameters: operation.parameters.clone(),
            query: api::parse_query(&request.query),
            body,
            scopes: &scopes,
            base: format!("http://{}", request.header("Host")),
            path,
            made: Vec::new(),
        };
        let (status, mut shown) = api::answer(&mut call, &request.method, &operation)?;
        for (list, id) in std::mem::take(&mut call.made) {
            let lists = faults.iter().find_map(|harm| match harm {
                Harm::MissingFromLists(lists) if list != "key identifiers" => Some(*lists),
                Harm::UnknownToDroplets(creations) if list == "key identifiers" => Some(*creations),
                _ => None,
            });
            self.account.unsettled.extend(lists.map(|lists| Unsettled { list, id, lists }));
        }
        DOCUMENT.veil(&operation, status, &mut shown, &scopes);
        Ok((status, shown))
    }
}
