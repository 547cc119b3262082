//! HTTP with DigitalOcean's API: one connection pool, patience with its limits and faults, its errors in plain words.
//!
//! Invariant: a call that makes something is sent again only when the API can't have seen it or has said that it was
//! too much; every other doubt is [`CloudError::Unclear`]. The token is in one header and nowhere else.

mod access;
mod refusal;

use std::fmt;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cloud::DIGITALOCEAN;
use crate::providers::error::CloudError;

pub use self::access::{Access, TOKENS, Waits};
use self::refusal::{Limit, Words, limited, refused};
pub use self::refusal::{is_busy, is_missing, limit_hint};
use super::scopes;

const CLOUD: &str = DIGITALOCEAN.cloud;
/// The most that a list has on one page.
const PER_PAGE: usize = 200;

/// One call.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    doing: String,
    repeatable: bool,
    further: &'static [&'static str],
}

/// Without the body: a droplet's has a private key in it.
impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /{}", self.method, self.path.join("/"))
    }
}

impl Call {
    fn new(method: Method, path: &[&str], doing: impl Into<String>) -> Self {
        let repeatable = method != Method::POST;
        let path = std::iter::once("v2").chain(path.iter().copied()).map(str::to_owned).collect();
        Self { method, path, query: Vec::new(), body: None, doing: doing.into(), repeatable, further: &[] }
    }

    /// A question. `path` comes in parts, below `/v2`; `doing` ends the sentence "DigitalOcean refused to…".
    pub fn get(path: &[&str], doing: impl Into<String>) -> Self {
        Self::new(Method::GET, path, doing)
    }

    /// Something new, or an action.
    pub fn post(path: &[&str], body: Value, doing: impl Into<String>) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path, doing) }
    }

    /// Something as a whole.
    pub fn put(path: &[&str], body: Value, doing: impl Into<String>) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path, doing) }
    }

    /// An end.
    pub fn delete(path: &[&str], doing: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, doing)
    }

    /// Adds a parameter.
    pub fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Says of a POST that doing it twice is doing it once.
    pub fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Says that this call takes further scopes than others of its kind.
    pub fn needing(mut self, scopes: &'static [&'static str]) -> Self {
        self.further = scopes;
        self
    }

    /// What is being done, for people.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    fn url(&self, api: &Url) -> Url {
        let mut url = api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }

    fn scopes(&self) -> Vec<&'static str> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let usual = scopes::of(self.method.as_str(), &path).map_or(&[][..], |endpoint| endpoint.scopes);
        [usual, self.further].concat()
    }
}

/// An attempt that failed.
#[derive(Debug)]
struct Fault {
    kind: FaultKind,
    error: CloudError,
}

/// What an attempt's failure means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// The API has not seen it.
    NotSent,
    /// The API may have seen it, and done it.
    Broken,
    /// The API has not done it, because it was asked too often; it says how long to wait, or not.
    Limited(Option<Duration>),
    /// The API has answered.
    Answered,
}

impl FaultKind {
    fn again(self, repeatable: bool) -> bool {
        match self {
            FaultKind::NotSent | FaultKind::Limited(_) => true,
            FaultKind::Broken => repeatable,
            FaultKind::Answered => false,
        }
    }

    /// How long to wait before the next attempt, if there is to be one. `own` is the wait that is due without word
    /// from the API, `spent` the time since the first attempt.
    fn wait(self, own: Option<Duration>, spent: Duration, waits: &Waits) -> Option<Duration> {
        let own = own?;
        let (wait, limit) = match self {
            FaultKind::NotSent => (own, waits.offline),
            FaultKind::Broken | FaultKind::Limited(None) => (own, waits.attempts),
            // The jitter of our own keeps several of us from coming back at the same moment.
            FaultKind::Limited(Some(asked)) => (asked + own / 8, waits.attempts),
            FaultKind::Answered => return None,
        };
        // Whoever asks for an hour gets no visits meanwhile.
        (spent + wait <= limit).then(|| wait.min(waits.longest))
    }
}

/// The API.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    api: Url,
    waits: Waits,
}

impl Client {
    /// Prepares; nothing is sent.
    pub fn new(access: &Access, waits: Waits) -> Result<Self, CloudError> {
        let unusable = |why: &str| CloudError::Impossible {
            message: format!("can't prepare calls to {CLOUD}: {why}"),
            hints: Vec::new(),
        };
        let mut token = HeaderValue::from_str(&format!("Bearer {}", access.token.reveal()))
            .map_err(|_| unusable("the token is no header"))?;
        token.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("ship/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, token)]))
            .connect_timeout(waits.connect)
            .timeout(waits.answer)
            .redirect(reqwest::redirect::Policy::none());
        if access.is_local() {
            http = http.no_proxy();
        }
        if access.api.scheme() == "http" {
            // Reading the system's certificates takes longer than a call.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|error| unusable(&innermost(&error)))?;
        Ok(Self { http, api: access.api.clone(), waits })
    }

    /// How long it waits.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Calls, and takes what the answer has under `key`.
    pub async fn call<T: DeserializeOwned>(&self, call: &Call, key: &str) -> Result<T, CloudError> {
        let answer: Option<T> = self.attempts(call, Some(key)).await?;
        answer.ok_or_else(|| self.doubt(call, format!("the answer has no `{key}`")))
    }

    /// Calls, and takes all of the answer.
    pub async fn whole<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CloudError> {
        let answer: Option<T> = self.attempts(call, None).await?;
        answer.ok_or_else(|| self.doubt(call, "the answer is empty".into()))
    }

    /// Asks for something that may not be there.
    pub async fn find<T: DeserializeOwned>(&self, call: &Call, key: &str) -> Result<Option<T>, CloudError> {
        match self.call(call, key).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Calls; the answer says nothing.
    pub async fn send(&self, call: &Call) -> Result<(), CloudError> {
        self.attempts::<Value>(call, None).await.map(drop)
    }

    /// Makes an end of something. Gone already is gone.
    pub async fn delete(&self, call: &Call) -> Result<(), CloudError> {
        match self.send(call).await {
            Err(error) if is_missing(&error) => Ok(()),
            result => result,
        }
    }

    /// All pages of a list.
    pub async fn list<T: DeserializeOwned>(&self, call: &Call, key: &str) -> Result<Vec<T>, CloudError> {
        let mut all = Vec::new();
        for page in 1.. {
            let mut call = call.clone().query("per_page", PER_PAGE.to_string());
            // The next page is counted, not followed: an address in an answer never gets the token.
            if page > 1 {
                call = call.query("page", page.to_string());
            }
            let mut answer: Value = self.whole(&call).await?;
            let items = answer.get_mut(key).map(Value::take).unwrap_or_default();
            let items: Option<Vec<T>> = serde_json::from_value(items).map_err(|error| {
                self.doubt(&call, format!("`{key}` in the answer makes no sense: {error}"))
            })?;
            let items = items.unwrap_or_default();
            let more = !items.is_empty() && answer.pointer("/links/pages/next").is_some_and(Value::is_string);
            all.extend(items);
            if !more {
                break;
            }
        }
        Ok(all)
    }

    async fn attempts<T: DeserializeOwned>(
        &self,
        call: &Call,
        key: Option<&str>,
    ) -> Result<Option<T>, CloudError> {
        let start = Instant::now();
        let backoff = ExponentialBuilder::new()
            .with_min_delay(self.waits.first)
            .with_max_delay(self.waits.longest)
            .without_max_times()
            .with_jitter();
        (|| self.attempt(call, key))
            .retry(backoff)
            .when(|fault: &Fault| fault.kind.again(call.repeatable))
            .adjust(|fault: &Fault, own| fault.kind.wait(own, start.elapsed(), &self.waits))
            .await
            .map_err(|fault| fault.error)
    }

    async fn attempt<T: DeserializeOwned>(&self, call: &Call, key: Option<&str>) -> Result<Option<T>, Fault> {
        let mut request = self.http.request(call.method.clone(), call.url(&self.api));
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.no_answer(call, &error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refusal(call, response).await);
        }
        let body = response.bytes().await.map_err(|error| self.no_answer(call, &error))?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let broken = |what: &str, error: &dyn std::fmt::Display| Fault {
            kind: FaultKind::Broken,
            error: self.doubt(call, format!("{what}: {error}")),
        };
        let mut answer: Value =
            serde_json::from_slice(&body).map_err(|error| broken("the answer is no JSON", &error))?;
        let part = match key {
            Some(key) => answer.get_mut(key).map(Value::take).unwrap_or_default(),
            None => answer,
        };
        serde_json::from_value(part).map_err(|error| broken("the answer makes no sense", &error))
    }

    fn no_answer(&self, call: &Call, error: &reqwest::Error) -> Fault {
        let host = self.api.host_str().unwrap_or_default();
        if error.is_connect() {
            let why = if error.is_timeout() {
                format!("{host} did not answer within {} s", self.waits.connect.as_secs_f64())
            } else {
                format!("{host}: {}", innermost(error))
            };
            let error = CloudError::Unreachable { cloud: CLOUD, doing: call.doing.clone(), why };
            return Fault { kind: FaultKind::NotSent, error };
        }
        let why = if error.is_timeout() {
            format!("{host} did not answer within {} s", self.waits.answer.as_secs_f64())
        } else {
            format!("the connection to {host} broke: {}", innermost(error))
        };
        Fault { kind: FaultKind::Broken, error: self.doubt(call, why) }
    }

    /// A question that nobody answered is only that; anything else may have been done.
    fn doubt(&self, call: &Call, why: String) -> CloudError {
        let doing = call.doing.clone();
        if call.method == Method::GET {
            CloudError::Unreachable { cloud: CLOUD, doing, why }
        } else {
            CloudError::Unclear { cloud: CLOUD, doing, why }
        }
    }

    async fn refusal(&self, call: &Call, response: Response) -> Fault {
        let status = response.status();
        let limit = Limit::of(response.headers(), jiff::Timestamp::now());
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return self.no_answer(call, &error),
        };
        let words = Words::of(status, &body);
        if status == StatusCode::TOO_MANY_REQUESTS {
            let error = limited(call, &words, &limit);
            return Fault { kind: FaultKind::Limited(limit.wait), error };
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            let why = format!("it answers {status}: {}", words.message);
            return Fault { kind: FaultKind::Broken, error: self.doubt(call, why) };
        }
        Fault { kind: FaultKind::Answered, error: refused(call, status, words) }
    }
}

/// The reason below all the layers; the others say no more than that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests;
