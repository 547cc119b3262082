//! AWS: EC2, Route 53 and STS, for clients that take their endpoints from the environment.
//!
//!     client ─→ here: remembers, fails on request, adds what the servers behind it don't do
//!                ├─ EC2 ──────→ moto        images, types, key pairs, groups, servers, addresses, tags
//!                └─ Route 53, STS, signatures and policies ─→ ministack
//!
//! Over moto: client tokens, limits of user data, states that take a look to pass, groups and addresses that depend on
//! servers, filters by state and token ([`ec2`]). Public addresses are those of documentation (203.0.113.x).
//!
//! What differs from AWS: Route 53 sorts and pages `ListHostedZonesByName` by the plain name, checks neither a record's
//! value nor what may stand beside a CNAME, and lists a wildcard as `*`, not as `\052`. Policies are judged by one resource a
//! request, and without the tags of things that are there already.
//!
//! Invariant: only [`Aws`] and clients talk to the servers behind, and both stay on the loopback interface.

mod access;
mod answer;
mod call;
mod ec2;
mod proofs;
mod servers;
mod upstream;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use self::access::Access;
use self::ec2::Ec2;
use self::servers::PythonServer;
use super::http::{Delivery, Request, Response, Server};

pub use self::access::{ACCOUNT, Keys, ROOT, actions, without};
pub use self::answer::texts;
pub use self::call::{Call, Refusal, Service};

/// Where everything is, unless a request says otherwise.
pub const REGION: &str = "eu-central-1";

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refused: too many requests, in the service's own words.
    Throttled,
    /// Refused with 503.
    Unavailable,
    /// Refused with 500.
    Internal,
    /// Refused like this.
    Refused(Refusal),
    /// The connection is reset, and nothing was done.
    Reset,
    /// It was done, but the connection is reset before the answer.
    Lost,
    /// It was done, and half of the answer arrives.
    Truncated,
    /// It was done, but the answer takes that long.
    Slow(Duration),
}

/// A request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request.
    pub call: Call,
    /// Whether it reached the service; a fault may have kept it from there.
    pub processed: bool,
    /// The status that the client was sent; nothing when the connection ended instead.
    pub status: Option<u16>,
    /// The error's code, with a status of 400 or more.
    pub error: Option<String>,
}

/// A running AWS; dropping it ends it.
#[derive(Debug)]
pub struct Aws {
    shared: Arc<Shared>,
    ec2: Server,
    route53: Server,
    moto: PythonServer,
    ministack: PythonServer,
}

#[derive(Debug)]
struct Shared {
    ministack: std::net::SocketAddr,
    moto: std::net::SocketAddr,
    access: Access,
    ec2: Mutex<Ec2>,
    exchanges: Mutex<Vec<Exchange>>,
    faults: Mutex<Vec<Planned>>,
}

#[derive(Debug)]
struct Planned {
    action: String,
    times: usize,
    fault: Fault,
}

impl Aws {
    /// Starts one of one's own; installs what it needs the first time. Servers are entries in a list: none boots.
    pub fn start() -> Self {
        let pythons = servers::pythons();
        let python = |name: &str| &pythons[name];
        let (moto, ministack) = std::thread::scope(|scope| {
            let moto = scope.spawn(|| PythonServer::moto(python("moto")));
            let ministack = PythonServer::ministack(python("ministack"));
            (moto.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ministack)
        });
        let shared = Arc::new(Shared {
            ministack: ministack.address,
            moto: moto.address,
            access: Access::new(ministack.address),
            ec2: Mutex::new(Ec2::new(moto.address)),
            exchanges: Mutex::default(),
            faults: Mutex::default(),
        });
        let server = |default: Service| {
            let shared = Arc::clone(&shared);
            Server::start(move |request| shared.serve(&request, default.clone()))
        };
        Self { ec2: server(Service::Ec2), route53: server(Service::Route53), shared, moto, ministack }
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
        self.env_of(&Keys { id: ROOT.0.to_owned(), secret: ROOT.1.to_owned() })
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

    /// Makes the next requests for an action fail; several plans for one action follow each other.
    pub fn fail(&self, action: &str, times: usize, fault: Fault) {
        let planned = Planned { action: action.to_owned(), times, fault };
        self.shared.faults.lock().unwrap().push(planned);
    }

    /// What an action makes can't be seen for that many looks: a request that names it fails, a list leaves it out.
    pub fn appears_late(&self, action: &str, looks: u32) {
        self.shared.ec2.lock().unwrap().late.insert(action.to_owned(), looks);
    }

    /// A server is `pending` or `shutting-down` for that many looks instead of one.
    pub fn lags(&self, looks: u32) {
        self.shared.ec2.lock().unwrap().lag = looks;
    }

    /// Every request so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.lock().unwrap().clone()
    }

    /// The requests that would change something: whatever isn't `Describe…`, `Get…` or `List…`.
    pub fn writes(&self) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.call.writes()).collect()
    }

    /// The requests for an action.
    pub fn calls(&self, action: &str) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.call.action == action).collect()
    }

    /// Makes a user who may do what a policy says and nothing else.
    pub fn user(&self, name: &str, policy: &Value) -> Keys {
        self.shared.access.user(name, policy)
    }

    /// Asks EC2 as someone who may do everything, past faults and the record; panics unless it succeeds.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut parameters: BTreeMap<_, _> = parameters.iter().map(owned).collect();
        parameters.insert("Action".into(), action.into());
        let answer = self.shared.ec2.lock().unwrap().ask(REGION, &parameters);
        let body = String::from_utf8(answer.body).expect("XML");
        assert_eq!(answer.status, 200, "{action}: {body}");
        body
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
            let answer = upstream::query(self.shared.moto, "ec2", REGION, &parameters);
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
        let reference = format!("{name} {}", self.zones());
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}</Name>\
             <CallerReference>{reference}</CallerReference></CreateHostedZoneRequest>"
        );
        let made = self.route53("POST", "/2013-04-01/hostedzone", &body);
        let id = texts(&made, "Id").into_iter().next().unwrap_or_default();
        id.trim_start_matches("/hostedzone/").to_owned()
    }

    fn zones(&self) -> usize {
        texts(&self.route53("GET", "/2013-04-01/hostedzone?maxitems=100", ""), "HostedZone").len()
    }

    /// Asks Route 53 as someone who may do everything, past faults and the record; panics unless it succeeds.
    pub fn route53(&self, method: &str, path: &str, body: &str) -> String {
        let answer =
            upstream::ask(self.shared.ministack, "route53", "us-east-1", method, path, body.as_bytes());
        let body = String::from_utf8(answer.body).expect("XML");
        assert!(answer.status < 300, "{method} {path}: {body}");
        body
    }
}

impl Shared {
    fn serve(&self, request: &Request, default: Service) -> Delivery {
        let call = Call::read(request, default);
        let at = {
            let mut exchanges = self.exchanges.lock().unwrap();
            exchanges.push(Exchange { call: call.clone(), processed: false, status: None, error: None });
            exchanges.len() - 1
        };
        let fault = self.fault(&call);
        let refused = match &fault {
            Some(Fault::Throttled) => Some(Refusal::throttled(&call.service)),
            Some(Fault::Unavailable) => Some(Refusal::unavailable(&call.service)),
            Some(Fault::Internal) => Some(Refusal::internal(&call.service)),
            Some(Fault::Refused(refusal)) => Some(refusal.clone()),
            Some(Fault::Reset) => return Delivery::Reset,
            Some(Fault::Lost | Fault::Truncated | Fault::Slow(_)) | None => None,
        };
        let processed = refused.is_none();
        let answer =
            refused.map_or_else(|| self.process(&call, request), |refusal| refusal.response(&call.service));
        let error = (answer.status >= 400)
            .then(|| texts(&String::from_utf8_lossy(&answer.body), "Code").pop().unwrap_or_default());
        let mut exchanges = self.exchanges.lock().unwrap();
        let exchange = &mut exchanges[at];
        exchange.processed = processed;
        exchange.error = error;
        if fault != Some(Fault::Lost) {
            exchange.status = Some(answer.status);
        }
        drop(exchanges);
        match fault {
            Some(Fault::Lost) => Delivery::Reset,
            Some(Fault::Truncated) => Delivery::Truncated(answer),
            Some(Fault::Slow(late)) => Delivery::Whole(answer, late),
            _ => Delivery::Whole(answer, Duration::ZERO),
        }
    }

    /// Uses up one time of the first plan for an action.
    fn fault(&self, call: &Call) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let planned = faults.iter_mut().find(|planned| planned.times > 0 && planned.action == call.action)?;
        planned.times -= 1;
        Some(planned.fault.clone())
    }

    fn process(&self, call: &Call, request: &Request) -> Response {
        match &call.service {
            Service::Ec2 => match self.access.judge(call, request) {
                Ok(()) => self.ec2.lock().unwrap().answer(call),
                Err(refusal) => refusal.response(&call.service),
            },
            Service::Route53 | Service::Sts => {
                let answer = upstream::forward(self.ministack, request);
                if !matches!(answer.status, 401 | 403) {
                    return answer;
                }
                // ministack leaves out the element around an error that every client looks for.
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                access::refusal(call, answer.status, &body).response(&call.service)
            }
            Service::Other(_) => upstream::forward(self.moto, request),
        }
    }
}

fn owned((name, value): &(&str, &str)) -> (String, String) {
    ((*name).to_owned(), (*value).to_owned())
}
