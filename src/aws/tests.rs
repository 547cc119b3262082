use std::fmt;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ConnectorError, ErrorMetadata};
use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use insta::assert_snapshot;

use super::*;
use crate::error::Failure;

fn call(writes: bool) -> Call {
    Call {
        cloud: "EC2",
        action: Action("ec2:RunInstances"),
        doing: "create the instance library".into(),
        writes,
    }
}

fn response(status: u16, body: &str) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.as_bytes().to_vec().into())
}

fn service(status: u16, code: Option<&str>, message: &str) -> SdkError<RunInstancesError> {
    let mut meta = ErrorMetadata::builder().message(message);
    if let Some(code) = code {
        meta = meta.code(code);
    }
    SdkError::service_error(RunInstancesError::generic(meta.build()), response(status, ""))
}

/// As the user reads it.
fn shown(code: &str, message: &str) -> String {
    Failure::from(call(true).fail(&service(400, Some(code), message))).to_string()
}

#[test]
fn a_clear_no_is_never_taken_for_unclear() {
    for (status, code) in [
        (400, "VcpuLimitExceeded"),
        (403, "UnauthorizedOperation"),
        (500, "InsufficientInstanceCapacity"),
        (503, "RequestLimitExceeded"),
    ] {
        let error = call(true).fail(&service(status, Some(code), "no"));
        assert_eq!(error.code(), Some(code), "{status} {code}");
    }
}

#[test]
fn what_may_have_happened_is_unclear_when_it_writes_and_unreachable_when_it_asks() {
    let reset = || SdkError::dispatch_failure(ConnectorError::io("connection reset".into()));
    let ends: [fn() -> SdkError<RunInstancesError>; 5] = [
        || service(500, Some("InternalError"), "An internal error has occurred"),
        || service(503, Some("Unavailable"), "Please try again"),
        || service(200, None, ""),
        || SdkError::timeout_error("30 s"),
        || SdkError::response_error("unexpected end of file", response(200, "<RunInst")),
    ];
    for error in ends.iter().map(|end| end()).chain([reset()]) {
        assert!(call(true).fail(&error).is_unclear(), "{error:?}");
        let asked = call(false).fail(&error);
        assert!(matches!(asked, CloudError::Unreachable { .. }), "{asked:?}");
    }
    let never_sent = SdkError::<RunInstancesError>::construction_failure("no endpoint");
    assert!(matches!(call(true).fail(&never_sent), CloudError::Unreachable { .. }));
    assert_eq!(
        call(true).fail(&reset()).to_string(),
        "no telling whether EC2 managed to create the instance library: connection reset"
    );
}

#[test]
fn a_refusal_named_by_its_document_is_read() {
    let body = "<?xml version=\"1.0\"?>\n<InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                <Messages><Message>a</Message><Message>b</Message></Messages></InvalidChangeBatch>";
    assert_eq!(bare(body.as_bytes()), Some(("InvalidChangeBatch".into(), "a; b".into())));
    assert_eq!(bare(b"<html><body>Forbidden</body></html>"), None);
    assert_eq!(bare(b""), None);
}

#[derive(Debug)]
struct Outer(CredentialsError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error occurred while loading credentials")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn missing_credentials_are_the_users_to_set_up() {
    let fail = |credentials: CredentialsError| {
        let source = ConnectorError::other(Box::new(Outer(credentials)), None);
        let error = SdkError::<RunInstancesError>::dispatch_failure(source);
        Failure::from(call(true).fail(&error)).to_string()
    };
    assert_snapshot!(fail(CredentialsError::not_loaded("no providers in chain provided credentials")), @r#"
    error: there are no AWS credentials: not in the environment, in ~/.aws, or on this machine as a role
    hint: `aws configure` keeps an access key, `aws configure sso` and `aws sso login` a session
    hint: `AWS_PROFILE` chooses a profile of ~/.aws/config; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY count before all profiles
    hint: after `aws login`: `eval "$(aws configure export-credentials --format env)"`
    "#);
    assert_snapshot!(fail(CredentialsError::provider_error("the SSO token has expired")), @r#"
    error: the AWS credentials can't be had: the SSO token has expired
    hint: `aws sso login` begins a new session
    hint: `AWS_PROFILE` chooses a profile of ~/.aws/config; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY count before all profiles
    "#);
}

#[test]
fn refusals_say_what_helps() {
    let denied = "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/dev is not \
                  authorized to perform: ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:123456789012:instance/* \
                  because no identity-based policy allows the ec2:CreateTags action. Encoded authorization failure \
                  message: 4Xh7CzbMu0vX";
    let forbidden = denied.replace(
        "no identity-based policy allows the ec2:CreateTags action",
        "of an explicit deny in a service control policy",
    );
    let all = [
        ("UnauthorizedOperation", denied),
        ("UnauthorizedOperation", &forbidden),
        ("UnauthorizedOperation", "You are not authorized to perform this operation."),
        ("AuthFailure", "AWS was not able to validate the provided access credentials"),
        ("ExpiredToken", "The security token included in the request is expired"),
        (
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit of 16 allows.",
        ),
        ("AddressLimitExceeded", "The maximum number of addresses has been reached."),
        ("InsufficientInstanceCapacity", "We currently do not have sufficient t3.small capacity."),
        ("InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist"),
        ("RequestLimitExceeded", "Request limit exceeded."),
        ("SomethingNew", "Words that nobody has seen yet."),
    ]
    .map(|(code, message)| shown(code, message));
    assert_snapshot!(all.join("\n\n"), @r#"
    error: EC2 refused to create the instance library: arn:aws:iam::123456789012:user/dev may not do `ec2:CreateTags` (because no identity-based policy allows the ec2:CreateTags action)
    hint: allow `ec2:CreateTags`: docs/ec2-policy.json in ship's repository is the least it needs, docs/aws.md tells how

    error: EC2 refused to create the instance library: arn:aws:iam::123456789012:user/dev may not do `ec2:CreateTags` (because of an explicit deny in a service control policy)
    hint: the organisation forbids it: ask whoever runs the account

    error: EC2 refused to create the instance library: these credentials may not do `ec2:RunInstances`
    hint: allow `ec2:RunInstances`: docs/ec2-policy.json in ship's repository is the least it needs, docs/aws.md tells how

    error: EC2 refused to create the instance library: AWS was not able to validate the provided access credentials
    hint: AWS does not know these credentials: `aws sts get-caller-identity` tells whose they are
    hint: a region that must be enabled first answers like this, too: https://console.aws.amazon.com/billing/home#/account

    error: EC2 refused to create the instance library: The security token included in the request is expired
    hint: the session is over: `aws sso login`, or take new temporary credentials

    error: EC2 refused to create the instance library: You have requested more vCPU capacity than your current vCPU limit of 16 allows
    hint: the account's limits are shown and raised at https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas

    error: EC2 refused to create the instance library: The maximum number of addresses has been reached
    hint: release one that nobody uses, or raise the account's limit: https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas
    hint: `server.elastic_ip: false` does without: the address changes when the instance stops

    error: EC2 refused to create the instance library: We currently do not have sufficient t3.small capacity
    hint: AWS has no such machine free in this zone: try again later, or another `server.size`, or a `server.subnet` in another zone

    error: EC2 refused to create the instance library: The subnet ID 'subnet-1' does not exist
    hint: is `server.region` the region of `server.vpc` and `server.subnet`?

    error: EC2 refused to create the instance library: Request limit exceeded
    hint: too many calls to AWS from this account, not only ship's: try again in a minute

    error: EC2 refused to create the instance library: SomethingNew: Words that nobody has seen yet
    "#);
}

#[test]
fn wrong_input_and_a_full_account_have_different_exit_codes() {
    use crate::error::Exit;
    let exit = |code: &str| Failure::from(call(true).fail(&service(400, Some(code), "no"))).exit;
    for code in ["InvalidAMIID.NotFound", "AuthFailure", "InvalidSubnetID.NotFound", "InvalidKey.Format"] {
        assert_eq!(exit(code), Exit::Input, "{code}");
    }
    for code in ["VcpuLimitExceeded", "UnauthorizedOperation", "InsufficientInstanceCapacity", "Whatever"] {
        assert_eq!(exit(code), Exit::Failed, "{code}");
    }
}

fn policy() -> Vec<serde_json::Value> {
    let policy: serde_json::Value = serde_json::from_str(include_str!("../../docs/ec2-policy.json")).unwrap();
    policy["Statement"].as_array().unwrap().clone()
}

fn strings(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().map_or_else(
        || value.as_str().into_iter().collect(),
        |all| all.iter().filter_map(|one| one.as_str()).collect(),
    )
}

/// The policy in docs/ is what the code asks for, action by action.
#[test]
fn the_documented_policy_has_every_action_and_no_other() {
    use std::collections::BTreeSet;
    let policy = policy();
    assert!(policy.iter().all(|statement| statement["Effect"] == "Allow"));
    let allowed: BTreeSet<&str> = policy.iter().flat_map(|statement| strings(&statement["Action"])).collect();
    let asked: BTreeSet<&str> = crate::providers::ec2::actions::ALL
        .iter()
        .chain(crate::dns::route53::ACTIONS)
        .map(|action| action.0)
        .collect();
    assert_eq!(allowed, asked);
}

/// Whose a resource is when an action touches it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Whose {
    /// It is made by this call, with the tag.
    Made,
    /// It carries the tag.
    Ours,
    /// It doesn't.
    Theirs,
}

/// Whether the documented policy lets an action touch a resource, as IAM reads it.
fn allows(action: &str, kind: &str, whose: Whose) -> bool {
    let account = if kind == "image" { "" } else { "123456789012" };
    let arn = format!("arn:aws:ec2:eu-central-1:{account}:{kind}/x-1");
    let covers = |pattern: &str| {
        let wild = pattern.replace("eu-central-1", "*");
        let (pattern, arn): (Vec<&str>, Vec<&str>) =
            (wild.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
        let parts = |(want, is): (&&str, &&str)| {
            want == is
                || *want == "*"
                || *want == "*/*"
                || want.strip_suffix('*').is_some_and(|start| is.starts_with(start))
        };
        wild == "*" || pattern.iter().zip(&arn).all(parts)
    };
    policy().iter().any(|statement| {
        let condition = statement["Condition"].to_string();
        strings(&statement["Action"]).contains(&action)
            && strings(&statement["Resource"]).into_iter().any(covers)
            && (!condition.contains("aws:RequestTag/ship") || whose == Whose::Made)
            && (!condition.contains("ec2:CreateAction") || whose == Whose::Made)
            && (!condition.contains("aws:ResourceTag/ship") || whose == Whose::Ours)
    })
}

/// What each action touches when ship calls it:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html>.
#[test]
fn the_conditions_of_the_documented_policy_fit_what_ship_does() {
    use Whose::{Made, Ours, Theirs};
    let touched: &[(&str, &[(&str, Whose)])] = &[
        (
            "RunInstances",
            &[
                ("instance", Made),
                ("volume", Made),
                ("network-interface", Theirs),
                ("image", Theirs),
                ("subnet", Theirs),
                ("security-group", Ours),
                ("key-pair", Ours),
            ],
        ),
        ("CreateVolume", &[("volume", Made)]),
        ("CreateSecurityGroup", &[("security-group", Made), ("vpc", Theirs)]),
        ("AllocateAddress", &[("elastic-ip", Made)]),
        ("ImportKeyPair", &[("key-pair", Made)]),
        (
            "CreateTags",
            &[
                ("instance", Made),
                ("volume", Made),
                ("security-group", Made),
                ("elastic-ip", Made),
                ("key-pair", Made),
                ("instance", Ours),
            ],
        ),
        ("DeleteTags", &[("instance", Ours)]),
        ("AssociateAddress", &[("elastic-ip", Ours), ("instance", Ours), ("network-interface", Theirs)]),
        ("DisassociateAddress", &[("elastic-ip", Ours), ("network-interface", Theirs)]),
        ("ReleaseAddress", &[("elastic-ip", Ours)]),
        ("AttachVolume", &[("instance", Ours), ("volume", Ours)]),
        ("ModifyVolume", &[("volume", Ours)]),
        ("DeleteVolume", &[("volume", Ours)]),
        ("AuthorizeSecurityGroupIngress", &[("security-group", Ours)]),
        ("RevokeSecurityGroupIngress", &[("security-group", Ours)]),
        ("DeleteSecurityGroup", &[("security-group", Ours)]),
        // The groups that somebody else put the instance in are named again when ours is added.
        (
            "ModifyInstanceAttribute",
            &[("instance", Ours), ("security-group", Ours), ("security-group", Theirs)],
        ),
        ("StartInstances", &[("instance", Ours)]),
        ("StopInstances", &[("instance", Ours)]),
        ("TerminateInstances", &[("instance", Ours)]),
        ("DeleteKeyPair", &[("key-pair", Ours)]),
    ];
    for (action, resources) in touched {
        for (kind, whose) in *resources {
            assert!(allows(&format!("ec2:{action}"), kind, *whose), "{action} of {kind}, {whose:?}");
        }
    }
    // Nothing of anybody else's can be changed, and nothing be made without the tag.
    for (action, resources) in touched {
        let (kind, _) = resources.first().unwrap();
        assert!(!allows(&format!("ec2:{action}"), kind, Theirs), "{action} of anybody's {kind}");
    }
    let listed =
        crate::providers::ec2::actions::ALL.iter().filter(|action| !action.0.starts_with("ec2:Describe"));
    assert_eq!(listed.count(), touched.len());
}

fn hasty() -> Patience {
    let short = Duration::from_millis;
    Patience { attempts: 3, backoff: short(1), poll: short(1), ..Patience::default() }
}

fn refused(code: &str) -> CloudError {
    call(true).fail(&service(400, Some(code), "no"))
}

#[tokio::test]
async fn only_throttling_is_sent_again_without_a_look() {
    let mut sent = 0;
    let end = unthrottled(&hasty(), || {
        sent += 1;
        let end = if sent < 3 { Err(refused("RequestLimitExceeded")) } else { Ok(sent) };
        async { end }
    })
    .await;
    assert_eq!(end, Ok(3));
    for error in [refused("VcpuLimitExceeded"), call(true).fail(&service(500, Some("InternalError"), ""))] {
        let mut sent = 0;
        let end = unthrottled(&hasty(), || {
            sent += 1;
            let error = error.clone();
            async { Err::<(), _>(error) }
        })
        .await;
        assert_eq!((end, sent), (Err(error), 1));
    }
}

#[tokio::test]
async fn waiting_ends() {
    let patience = hasty();
    let late = until(
        &patience,
        Duration::from_millis(5),
        || "the instance does not run".into(),
        || async { Ok(None::<()>) },
    );
    assert!(matches!(late.await, Err(CloudError::Late { .. })));
    let codes = ["InvalidGroup.NotFound"];
    let never = patiently(&patience, Duration::from_millis(5), &codes, || async {
        Err::<(), _>(refused("InvalidGroup.NotFound"))
    });
    assert_eq!(never.await.unwrap_err().code(), Some("InvalidGroup.NotFound"));
}
