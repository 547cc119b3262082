//! DigitalOcean's refusals: what they say, what they mean, what helps.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::access::TOKENS;
use super::{CLOUD, Call};
use crate::providers::error::CloudError;

/// What the API says in an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) code: String,
    pub(super) message: String,
}

impl Words {
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let message =
            text("message").unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given"));
        let message = match text("request_id") {
            Some(request) if status.is_server_error() => format!("{message} (request {request})"),
            Some(_) | None => message.to_owned(),
        };
        Self { code: text("id").unwrap_or(status.as_str()).to_owned(), message }
    }
}

/// How long the API wants to be left alone, as it says by the first of its headers; and until when, by either.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) wait: Option<Duration>,
    pub(super) until: Option<jiff::Timestamp>,
}

impl Limit {
    pub(super) fn of(headers: &HeaderMap, now: jiff::Timestamp) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let wait = number(RETRY_AFTER.as_str()).map(seconds);
        // When the hourly count begins to sink: whoever only called too often in a minute is let in long before.
        let reset = number("ratelimit-reset").map(|reset| seconds(reset - now.as_second()));
        Self { wait, until: wait.or(reset).and_then(|wait| now.checked_add(wait).ok()) }
    }
}

pub(super) fn limited(call: &Call, words: &Words, limit: &Limit) -> CloudError {
    let until =
        limit.until.map(|until| format!(", until {}", until.strftime("%H:%M:%S UTC"))).unwrap_or_default();
    CloudError::Refused {
        cloud: CLOUD,
        doing: call.doing.clone(),
        code: words.code.clone(),
        message: format!("the account's calls are rate limited{until}"),
        hints: vec![
            "250 calls a minute and 5,000 an hour are allowed, for all programs that use the token".into(),
        ],
        input: false,
    }
}

pub(super) fn refused(call: &Call, status: StatusCode, words: Words) -> CloudError {
    let lower = words.message.to_ascii_lowercase();
    let mut hints = Vec::new();
    let mut input = false;
    match status {
        StatusCode::UNAUTHORIZED => {
            input = true;
            hints.push(format!("the token is wrong, expired or revoked: make another at {TOKENS}"));
        }
        _ if is_quota(&lower) => hints.push(limit_hint(&lower)),
        // A proxy's 403 has no code of the API's.
        StatusCode::FORBIDDEN if words.code != status.as_str() => {
            input = true;
            let scopes = call.scopes().join(", ");
            hints.push(format!("the token needs {scopes} for this: make one that has it at {TOKENS}"));
            hints.push("docs/digitalocean.md lists the scopes for each feature".into());
        }
        StatusCode::PAYMENT_REQUIRED => {
            hints.push("see https://cloud.digitalocean.com/account/billing".into());
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => input = !is_busy_text(&lower),
        _ => {}
    }
    CloudError::Refused {
        cloud: CLOUD,
        doing: call.doing.clone(),
        code: words.code,
        message: words.message,
        hints,
        input,
    }
}

/// Where a quota is raised.
pub fn limit_hint(message: &str) -> String {
    if message.contains("droplet") {
        "remove a droplet, or ask for more at https://cloud.digitalocean.com/account/team/droplet_limit_increase".into()
    } else {
        "remove one, or ask for more at https://cloudsupport.digitalocean.com".into()
    }
}

fn is_quota(lower: &str) -> bool {
    lower.contains("quota")
        || lower.contains("limit") && (lower.contains("exceed") || lower.contains("reach"))
}

fn is_busy_text(lower: &str) -> bool {
    // The last is what droplets are refused with while the account's new key has not come round.
    ["pending event", "event is pending", "in progress", "being processed", "invalid key identifiers"]
        .iter()
        .any(|text| lower.contains(text))
}

/// Whether the API says that the thing is not there.
pub fn is_missing(error: &CloudError) -> bool {
    matches!(error, CloudError::Refused { code, .. } if code.eq_ignore_ascii_case("not_found"))
}

/// Whether the API says that something else has to end first.
pub fn is_busy(error: &CloudError) -> bool {
    matches!(error, CloudError::Refused { message, .. } if is_busy_text(&message.to_ascii_lowercase()))
}
