//! AWS's codes for "no" in words that help. Pure.

use super::Call;
use crate::providers::error::CloudError;

/// The page that shows an account's limits and raises them.
const QUOTAS: &str = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas";

/// Codes with which AWS asks for fewer calls.
const THROTTLING: [&str; 8] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
];

/// Whether the code asks for fewer calls.
pub(super) fn is_throttling(code: &str) -> bool {
    THROTTLING.contains(&code)
}

/// Whether the code says that nothing was done although it comes as a failure of the server's.
pub(super) fn is_clear(code: &str) -> bool {
    is_throttling(code) || code.starts_with("Insufficient")
}

/// No credentials, or none that work.
pub(super) fn no_credentials(missing: bool, why: &str) -> CloudError {
    let profile = "`AWS_PROFILE` chooses a profile of ~/.aws/config; \
                   AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY count before all profiles";
    if missing {
        return CloudError::Impossible {
            message: "there are no AWS credentials: not in the environment, in ~/.aws, or on this machine as a role"
                .into(),
            hints: vec![
                "`aws configure` keeps an access key, `aws configure sso` and `aws sso login` a session".into(),
                profile.into(),
                "after `aws login`: `eval \"$(aws configure export-credentials --format env)\"`".into(),
            ],
        };
    }
    let lower = why.to_lowercase();
    let mut hints = Vec::new();
    if lower.contains("sso") || lower.contains("expired") || lower.contains("token") {
        hints.push("`aws sso login` begins a new session".to_owned());
    }
    if lower.contains("login") {
        hints.push("after `aws login`: `eval \"$(aws configure export-credentials --format env)\"`".into());
    }
    hints.push(profile.into());
    CloudError::Impossible { message: format!("the AWS credentials can't be had: {why}"), hints }
}

/// What helps against a refusal.
struct Help {
    /// In place of AWS's own words.
    message: Option<String>,
    hints: Vec<String>,
    /// Whether what the user wrote or set is the reason.
    input: bool,
}

/// Puts a refusal in words.
pub(super) fn explain(call: &Call, code: String, message: &str) -> CloudError {
    let help = help(call, &code, message);
    let own = if message.is_empty() { code.clone() } else { plain(message) };
    CloudError::Refused {
        cloud: call.cloud,
        doing: call.doing.clone(),
        message: help.message.unwrap_or(own),
        hints: help.hints,
        input: help.input,
        code,
    }
}

/// AWS's words without the encoded blob that only its own API can read, and without the last dot.
fn plain(message: &str) -> String {
    let end = message.find("Encoded authorization failure message").unwrap_or(message.len());
    let text = message.get(..end).unwrap_or(message).trim();
    text.trim_end_matches('.').to_owned()
}

fn help(call: &Call, code: &str, message: &str) -> Help {
    let hint = |text: &str| vec![text.to_owned()];
    let theirs = |hints| Help { message: None, hints, input: false };
    let ours = |hints| Help { message: None, hints, input: true };
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => not_allowed(call, message),
        "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            ours(vec![
                "AWS does not know these credentials: `aws sts get-caller-identity` tells whose they are"
                    .into(),
                "a region that must be enabled first answers like this, too: \
                 https://console.aws.amazon.com/billing/home#/account"
                    .into(),
            ])
        }
        "SignatureDoesNotMatch" | "IncompleteSignature" | "MissingAuthenticationToken" => ours(hint(
            "the secret access key does not fit the access key id, or this computer's clock is wrong",
        )),
        "ExpiredToken" | "ExpiredTokenException" => {
            ours(hint("the session is over: `aws sso login`, or take new temporary credentials"))
        }
        "RequestExpired" => {
            ours(hint("the session is over (`aws sso login`), or this computer's clock is wrong"))
        }
        "OptInRequired" => ours(hint(
            "the account must be signed up for this service, region or image first; AWS's words name the page",
        )),
        "PendingVerification" | "Blocked" => {
            theirs(hint("AWS is still checking this account: https://support.console.aws.amazon.com"))
        }
        "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "VolumeLimitExceeded"
        | "SecurityGroupLimitExceeded"
        | "RulesPerSecurityGroupLimitExceeded"
        | "SecurityGroupsPerInterfaceLimitExceeded"
        | "SecurityGroupsPerInstanceLimitExceeded"
        | "MaxIOPSLimitExceeded" => {
            theirs(vec![format!("the account's limits are shown and raised at {QUOTAS}")])
        }
        "AddressLimitExceeded" => theirs(vec![
            format!("release one that nobody uses, or raise the account's limit: {QUOTAS}"),
            "`server.elastic_ip: false` does without: the address changes when the instance stops".into(),
        ]),
        "InsufficientInstanceCapacity" | "InsufficientCapacity" | "InsufficientHostCapacity" => theirs(hint(
            "AWS has no such machine free in this zone: try again later, or another `server.size`, \
             or a `server.subnet` in another zone",
        )),
        "InsufficientAddressCapacity" | "InsufficientVolumeCapacity" => {
            theirs(hint("AWS has none free at the moment: try again later"))
        }
        "InsufficientFreeAddressesInSubnet" => ours(hint("name another `server.subnet`")),
        "Unsupported" | "UnsupportedOperation" | "InvalidParameterCombination" => ours(hint(
            "this `server.size` can't do that, or not in this zone: try another, or another `server.subnet`",
        )),
        "InvalidInstanceType" => ours(hint(
            "sizes by region: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-regions.html",
        )),
        "InvalidAMIID.NotFound" | "InvalidAMIID.Malformed" | "InvalidAMIID.Unavailable" => ours(hint(
            "an AMI belongs to one region; `server.image: debian-12` finds the right one everywhere",
        )),
        "InvalidSubnetID.NotFound"
        | "InvalidSubnetId.NotFound"
        | "InvalidVpcID.NotFound"
        | "InvalidVpcId.NotFound"
        | "InvalidSubnetID.Malformed"
        | "InvalidVpcId.Malformed" => {
            ours(hint("is `server.region` the region of `server.vpc` and `server.subnet`?"))
        }
        "Gateway.NotAttached" => ours(hint("the VPC has no internet gateway: name another `server.vpc`")),
        "InvalidKey.Format" => ours(hint("EC2 takes Ed25519 and RSA keys: name one in `server.key`")),
        "OperationNotPermitted" => {
            theirs(hint("if it is protected: `server.termination_protection: false` and `ship up` lift that"))
        }
        "VolumeModificationRateExceeded" | "IncorrectModificationState" => {
            theirs(hint("AWS lets a volume be changed again some hours after the last change"))
        }
        "DependencyViolation" => theirs(hint("something else in the account still uses it")),
        "HostedZoneAlreadyExists" | "ConflictingDomainExists" | "DelegationSetNotAvailable" => {
            theirs(hint("Route 53 has a zone of that name already, maybe in another account"))
        }
        "InvalidDomainName" => ours(hint("is it a domain that can be registered?")),
        "NoSuchHostedZone" => theirs(hint("was the zone deleted just now?")),
        "TooManyHostedZones" => {
            theirs(hint("limits: https://console.aws.amazon.com/servicequotas/home/services/route53/quotas"))
        }
        code if is_throttling(code) => {
            theirs(hint("too many calls to AWS from this account, not only ship's: try again in a minute"))
        }
        _ => Help { message: Some(format!("{code}: {}", plain(message))), hints: Vec::new(), input: false },
    }
}

/// Names the missing permission and says why, as far as AWS tells.
fn not_allowed(call: &Call, message: &str) -> Help {
    let after = |mark: &str| {
        let rest = message.split_once(mark)?.1;
        rest.split_whitespace().next().map(|word| word.trim_end_matches(['.', ',']))
    };
    let action = after("to perform: ").filter(|word| word.contains(':')).unwrap_or(call.action.0);
    let who = after("User: ").map(|who| format!("{who} ")).unwrap_or_else(|| "these credentials ".into());
    let reason = message.split_once(" because ").map(|(_, reason)| format!(" (because {})", plain(reason)));
    let hint = if message.contains("explicit deny") {
        "the organisation forbids it: ask whoever runs the account".to_owned()
    } else {
        format!(
            "allow `{action}`: docs/ec2-policy.json in ship's repository is the least it needs, docs/aws.md tells how"
        )
    };
    Help {
        message: Some(format!("{who}may not do `{action}`{}", reason.unwrap_or_default())),
        hints: vec![hint],
        input: false,
    }
}
