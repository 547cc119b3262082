//! What all services of AWS have in common: credentials, region, patience, and what the end of a call means.
//!
//! Invariants: a call that creates something and carries no token of ours is sent once and never repeated by the SDK;
//! no secret enters a message.

mod refusal;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::providers::error::CloudError;

/// How long, and how often.
#[derive(Debug, Clone)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For one answer.
    pub attempt: Duration,
    /// For a call with all its repetitions.
    pub operation: Duration,
    /// How often a call is sent that may be sent again.
    pub attempts: u32,
    /// Before a call is sent again for the first time; then twice as long each time.
    pub backoff: Duration,
    /// Before each look for what a call of unclear end may have made.
    pub looks: Vec<Duration>,
    /// Between two looks at what is being waited for.
    pub poll: Duration,
    /// How long something made just now may be missing from AWS's answers.
    pub visible: Duration,
    /// For a server or a volume to get from one state to another.
    pub change: Duration,
    /// For what depends on something to let it go.
    pub release: Duration,
    /// For all name servers of Route 53 to know a change.
    pub insync: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            attempt: seconds(30),
            operation: seconds(90),
            attempts: 5,
            backoff: seconds(1),
            looks: [500, 1000, 2000, 4000, 8000].map(Duration::from_millis).into(),
            poll: seconds(2),
            visible: seconds(60),
            change: seconds(600),
            release: seconds(180),
            insync: seconds(300),
        }
    }
}

impl Patience {
    /// How often and how long the SDK tries.
    pub fn retries(&self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(self.attempts).with_initial_backoff(self.backoff)
    }

    /// How long the SDK waits.
    pub fn timeouts(&self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }
}

/// Credentials, region and endpoints as every AWS tool takes them: environment, profiles, SSO, the instance's role.
pub async fn config(region: Option<&str>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    loader.load().await
}

/// One of AWS's actions as IAM names it: `ec2:RunInstances`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Action(pub &'static str);

/// A call, for telling what its end means.
#[derive(Debug, Clone)]
pub struct Call {
    /// The service.
    pub cloud: &'static str,
    /// The action.
    pub action: Action,
    /// What is wanted: `create the instance library`.
    pub doing: String,
    /// Whether it changes anything.
    pub writes: bool,
}

/// What is known of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// AWS said no, in its own words.
    Refused { code: String, message: String },
    /// Nobody knows whether it happened.
    Lost(String),
    /// It was never sent.
    Unsent(String),
    /// There are no credentials to send it with.
    NoCredentials { missing: bool, why: String },
}

impl Call {
    /// Tells what the error means.
    pub fn fail<E>(&self, error: &SdkError<E>) -> CloudError
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        self.meaning(end(error))
    }

    fn meaning(&self, end: End) -> CloudError {
        let (cloud, doing) = (self.cloud, self.doing.clone());
        match end {
            End::Refused { code, message } => refusal::explain(self, code, &message),
            End::Lost(why) if self.writes => CloudError::Unclear { cloud, doing, why },
            End::Lost(why) | End::Unsent(why) => CloudError::Unreachable { cloud, doing, why },
            End::NoCredentials { missing, why } => refusal::no_credentials(missing, &why),
        }
    }

    /// An answer that lacks what it must have.
    pub fn senseless(&self, lacks: &str) -> CloudError {
        self.meaning(End::Lost(format!("the answer has no {lacks}")))
    }
}

fn end<E>(error: &SdkError<E>) -> End
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let Some(credentials) = sources(error).find_map(|source| source.downcast_ref::<CredentialsError>()) {
        let missing = matches!(credentials, CredentialsError::CredentialsNotLoaded(_));
        return End::NoCredentials { missing, why: chain(credentials) };
    }
    match error {
        SdkError::ConstructionFailure(_) => End::Unsent(chain(error)),
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let message = context.err().message().unwrap_or_default().to_owned();
            match context.err().code() {
                Some(code) if status < 500 || refusal::is_clear(code) => {
                    End::Refused { code: code.to_owned(), message }
                }
                Some(code) => End::Lost(format!("HTTP {status}, {code}: {message}")),
                None if (400..500).contains(&status)
                    && let Some((code, message)) = context.raw().body().bytes().and_then(bare) =>
                {
                    End::Refused { code, message }
                }
                None => End::Lost(format!("HTTP {status} with an answer that makes no sense")),
            }
        }
        SdkError::TimeoutError(_) => End::Lost("no answer in time".into()),
        error if chain(error).contains("dns error") => {
            End::Lost("no such host: is this computer online, and is there such a region?".into())
        }
        // Dispatch failures, truncated answers, and what a later SDK may add.
        _ => End::Lost(chain(error)),
    }
}

/// A refusal whose code is the name of the document itself, as Route 53 sends some: `<InvalidChangeBatch>`.
fn bare(body: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(body).ok()?;
    let text = text.split_once("?>").map_or(text, |(_, text)| text).trim_start();
    let name: String = text.strip_prefix('<')?.chars().take_while(char::is_ascii_alphanumeric).collect();
    let messages: Vec<&str> =
        text.split("<Message>").skip(1).filter_map(|part| Some(part.split_once("</Message>")?.0)).collect();
    (!messages.is_empty()).then(|| (name, messages.join("; ")))
}

fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The words of an error and its causes, without those that say nothing.
fn chain(error: &(dyn Error + 'static)) -> String {
    const EMPTY: [&str; 9] = [
        "dispatch failure",
        "response error",
        "request has timed out",
        "io error",
        "other",
        "timeout",
        "unhandled error",
        "failed to construct request",
        "an error occurred while loading credentials",
    ];
    let mut words: Vec<String> = Vec::new();
    for source in sources(error) {
        let text = source.to_string();
        let said = words.last().is_some_and(|last| last.ends_with(&text));
        if !said && !EMPTY.contains(&text.as_str()) {
            words.push(text);
        }
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

/// Repeats a call that the SDK must not repeat, as long as AWS says clearly that it did nothing but throttle.
pub async fn unthrottled<T, Fut>(patience: &Patience, mut call: impl FnMut() -> Fut) -> Result<T, CloudError>
where
    Fut: Future<Output = Result<T, CloudError>>,
{
    let mut pause = patience.backoff;
    for _ in 1..patience.attempts {
        match call().await {
            Err(CloudError::Refused { code, .. }) if refusal::is_throttling(&code) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(20));
            }
            end => return end,
        }
    }
    call().await
}

/// Looks again and again until there is something, at most for `limit`; `late` says what there isn't.
pub async fn until<T, Fut>(
    patience: &Patience,
    limit: Duration,
    late: impl FnOnce() -> String,
    mut look: impl FnMut() -> Fut,
) -> Result<T, CloudError>
where
    Fut: Future<Output = Result<Option<T>, CloudError>>,
{
    let began = tokio::time::Instant::now();
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if began.elapsed() >= limit {
            return Err(CloudError::Late { what: late(), seconds: limit.as_secs() });
        }
        tokio::time::sleep(patience.poll).await;
    }
}

/// Repeats a call as long as AWS refuses it with one of `codes`, which pass by themselves, at most for `limit`.
pub async fn patiently<T, Fut>(
    patience: &Patience,
    limit: Duration,
    codes: &[&str],
    mut call: impl FnMut() -> Fut,
) -> Result<T, CloudError>
where
    Fut: Future<Output = Result<T, CloudError>>,
{
    let began = tokio::time::Instant::now();
    loop {
        match call().await {
            Err(error) if error.code().is_some_and(|code| codes.contains(&code)) => {
                if began.elapsed() >= limit {
                    return Err(error);
                }
            }
            end => return end,
        }
        tokio::time::sleep(patience.poll).await;
    }
}

#[cfg(test)]
mod tests;
