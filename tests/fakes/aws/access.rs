//! Who may do what: ministack checks signatures and policies, for its own Route 53 and for the EC2 that moto plays.
//!
//! moto has checks of its own, but no use for them: they take every signed GET for forged (so Route 53 can't be read),
//! look at actions only (a policy with a `Resource` other than `*` allows nothing), and answer `AccessDenied` where EC2
//! says `UnauthorizedOperation`.
//!
//! Invariant: only the account's own key is never asked. Everyone else's requests reach ministack as the client signed
//! them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::answer::texts;
use super::call::{Call, Refusal};
use super::upstream::Upstream;
use crate::fakes::http::Request;

/// An access key with its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// `AKIA…`
    pub id: String,
    /// What requests are signed with.
    pub secret: String,
}

#[derive(Debug, Clone)]
struct User {
    arn: String,
    policy: Value,
}

/// The judge.
#[derive(Debug)]
pub struct Access {
    ministack: Upstream,
    users: Mutex<HashMap<String, User>>,
}

impl Access {
    /// Of an account without users.
    pub fn new(ministack: Upstream) -> Self {
        Self { ministack, users: Mutex::default() }
    }

    /// Makes a user who may do what a policy says.
    pub fn user(&self, name: &str, policy: &Value) -> Keys {
        let document = policy.to_string();
        self.iam(&[("Action", "CreateUser"), ("UserName", name)]);
        let put = [("UserName", name), ("PolicyName", "test"), ("PolicyDocument", &document)];
        self.iam(&[&[("Action", "PutUserPolicy")], put.as_slice()].concat());
        let made = self.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]);
        let text = |tag| texts(&made, tag).pop().unwrap_or_else(|| panic!("no {tag} in {made}"));
        let keys = Keys { id: text("AccessKeyId"), secret: text("SecretAccessKey") };
        let user = User {
            arn: format!("arn:aws:iam::{}:user/{name}", self.ministack.account),
            policy: policy.clone(),
        };
        self.users.lock().unwrap().insert(keys.id.clone(), user);
        keys
    }

    /// Whether EC2 does what is asked of it, or how it refuses.
    pub fn judge(&self, call: &Call, request: &Request) -> Result<(), Refusal> {
        if call.key == self.ministack.account {
            return Ok(());
        }
        // What ministack does with it, and what of it fails there, is of no interest.
        let answer = self.ministack.forward(request);
        if matches!(answer.status, 401 | 403) {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            return Err(refusal(call, answer.status, &body));
        }
        let user = self.users.lock().unwrap().get(&call.key).cloned();
        let user = user.unwrap_or_else(|| panic!("a user that the fake did not make: {}", call.key));
        for kind in call.tagged() {
            let resource = format!("arn:aws:ec2:{}:{}:{kind}/*", call.region, self.ministack.account);
            let decision =
                self.simulate(&as_part_of(&user.policy, &call.action), "ec2:CreateTags", &resource);
            if decision != "allowed" {
                let message = format!(
                    "You are not authorized to perform this operation. User: {} is not authorized to perform: \
                     ec2:CreateTags on resource: {resource} because no identity-based policy allows the \
                     ec2:CreateTags action.{ENCODED}",
                    user.arn
                );
                return Err(Refusal::new(403, "UnauthorizedOperation", message));
            }
        }
        Ok(())
    }

    fn simulate(&self, policy: &Value, action: &str, resource: &str) -> String {
        let answer = self.iam(&[
            ("Action", "SimulateCustomPolicy"),
            ("PolicyInputList.member.1", &policy.to_string()),
            ("ActionNames.member.1", action),
            ("ResourceArns.member.1", resource),
        ]);
        texts(&answer, "EvalDecision").pop().unwrap_or_else(|| panic!("no decision in {answer}"))
    }

    fn iam(&self, parameters: &[(&str, &str)]) -> String {
        let mut all: BTreeMap<_, _> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert("Version".into(), "2010-05-08".into());
        let answer = self.ministack.query("iam", "us-east-1", &all);
        let body = String::from_utf8(answer.body).expect("XML");
        assert_eq!(answer.status, 200, "IAM refuses {parameters:?}: {body}");
        body
    }
}

/// What AWS adds to a refusal, for `sts:DecodeAuthorizationMessage`.
const ENCODED: &str = " Encoded authorization failure message: \
                       4Xh7CzbMu0vXJ3pWvTJsxyB5mQeHcXwCqv2n8q0Z1aYkYq7gkqYwWm3nQy6G2b0";

/// ministack's refusal as AWS would send it.
pub fn refusal(call: &Call, status: u16, body: &str) -> Refusal {
    let text = |tag| texts(body, tag).pop().unwrap_or_default();
    let (code, mut message) = (text("Code"), text("Message"));
    if code == "UnauthorizedOperation" {
        message = format!("You are not authorized to perform this operation. {message}");
        if call.writes() {
            message = format!("{}.{ENCODED}", message.trim_end_matches('.'));
        }
    }
    Refusal::new(status, &code, message)
}

/// A policy as it applies to what an action does on the way: conditions on `ec2:CreateAction` are decided.
fn as_part_of(policy: &Value, action: &str) -> Value {
    let mut statements = statements(policy);
    statements.retain_mut(|statement| {
        let Some(condition) = statement.get_mut("Condition").and_then(Value::as_object_mut) else {
            return true;
        };
        for keys in condition.values_mut().filter_map(Value::as_object_mut) {
            let key = keys.keys().find(|key| key.eq_ignore_ascii_case("ec2:CreateAction")).cloned();
            let Some(allowed) = key.and_then(|key| keys.remove(&key)) else { continue };
            if !strings(&allowed).iter().any(|allowed| allowed == action) {
                return false;
            }
        }
        condition.retain(|_, keys| keys.as_object().is_none_or(|keys| !keys.is_empty()));
        true
    });
    json!({"Version": "2012-10-17", "Statement": statements})
}

fn statements(policy: &Value) -> Vec<Value> {
    match &policy["Statement"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    }
}

/// One string, or a list of them.
fn strings(value: &Value) -> Vec<String> {
    let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Every action that a policy names, once.
pub fn actions(policy: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        statements(policy).iter().flat_map(|statement| strings(&statement["Action"])).collect();
    all.sort();
    all.dedup();
    all
}

/// A policy without one of the actions that it names.
pub fn without(policy: &Value, action: &str) -> Value {
    let mut statements = statements(policy);
    for statement in &mut statements {
        let left: Vec<String> =
            strings(&statement["Action"]).into_iter().filter(|named| named != action).collect();
        statement["Action"] = json!(left);
    }
    statements.retain(|statement| statement["Action"].as_array().is_none_or(|left| !left.is_empty()));
    json!({"Version": "2012-10-17", "Statement": statements})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Value {
        json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:DescribeInstances"], "Resource": "*"},
            {"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:instance/*",
             "Condition": {"StringEquals": {"ec2:CreateAction": ["RunInstances"]}}},
        ]})
    }

    #[test]
    fn a_policy_loses_one_action_at_a_time() {
        assert_eq!(actions(&policy()), ["ec2:CreateTags", "ec2:DescribeInstances", "ec2:RunInstances"]);
        let less = without(&policy(), "ec2:RunInstances");
        assert_eq!(actions(&less), ["ec2:CreateTags", "ec2:DescribeInstances"]);
        assert_eq!(without(&less, "ec2:CreateTags")["Statement"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_condition_on_the_creating_action_is_decided() {
        let allowed = as_part_of(&policy(), "RunInstances");
        assert_eq!(allowed["Statement"][1]["Condition"], json!({}));
        assert_eq!(as_part_of(&policy(), "AllocateAddress")["Statement"].as_array().unwrap().len(), 1);
    }
}
