//! Who may do what: the documented policy is enough, and each of its actions is missed by name.

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use serde_json::Value;
use ship::providers::ec2::actions;

use super::*;
use crate::fakes::aws::{Keys, without};

/// The documented policy as far as the stand-in can judge it: by action. What it says of resources and tags is checked
/// where the list of actions is (`src/aws/tests.rs`).
pub(super) fn policy() -> Value {
    let mut policy: Value = serde_json::from_str(include_str!("../../docs/ec2-policy.json")).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        statement["Resource"] = "*".into();
        if statement["Condition"].to_string().contains("Tag/ship") {
            statement.as_object_mut().unwrap().remove("Condition");
        }
    }
    policy
}

/// Where the usual places have no credentials.
#[derive(Debug)]
struct Nobody;

impl ProvideCredentials for Nobody {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded_no_source()))
    }
}

fn as_user(aws: &Aws, keys: &Keys) -> Run {
    Run::of(Ec2::with(&config(&aws.endpoint(), (&keys.id, &keys.secret), REGION), patience()).unwrap())
}

/// Everything that ship does at EC2, from an empty account to an empty account.
async fn life(run: &Run, vpc: &str) -> Result<(), CloudError> {
    let mut wish = everything();
    run.converge(&wish, false).await?;
    let elsewhere = Owner { environment: "staging".into(), ..owner() };
    run.ec2.quote(&Wish { owner: elsewhere, network: Some(vpc.into()), ..little() }).await?;
    let server = run.ec2.find(&owner()).await?.unwrap();
    run.ec2.add_host_key(&owner(), &server, &"ab".repeat(32)).await?;
    run.ec2.drop_birth_key(&owner(), &server).await?;
    wish.size = "t3.medium".into();
    wish.volume_gb = Some(20);
    wish.settings.protected = false;
    wish.rules.remove(&Rule::new(Traffic::Tcp(80), "::/0"));
    run.converge(&wish, false).await?;
    wish.fixed_address = false;
    run.converge(&wish, false).await?;
    for thing in run.ec2.things(&owner()).await? {
        run.ec2.remove(&owner(), &thing, &|_| ()).await?;
    }
    Ok(())
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn the_documented_policy_is_enough() {
    let aws = Aws::start();
    let (vpc, _) = public_vpc(&aws);
    let run = as_user(&aws, &aws.user("dev", &policy()));
    run.runtime.block_on(life(&run, &vpc)).unwrap_or_else(|error| panic!("{error:?}"));
    let left = census(&aws);
    assert!(left.values().all(BTreeSet::is_empty), "{left:?}");
    // And each of its actions was taken.
    let taken: BTreeSet<String> =
        aws.requests().into_iter().map(|exchange| format!("ec2:{}", exchange.call.action)).collect();
    let idle: Vec<&str> =
        actions::ALL.iter().map(|action| action.0).filter(|name| !taken.contains(*name)).collect();
    assert_eq!(idle, [] as [&str; 0]);
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn each_missing_permission_is_named() {
    let one = |action: &'static str| {
        let aws = Aws::start();
        let (vpc, _) = public_vpc(&aws);
        let run = as_user(&aws, &aws.user("dev", &without(&policy(), action)));
        let error = run.runtime.block_on(life(&run, &vpc)).expect_err(action);
        assert_eq!(error.code(), Some("UnauthorizedOperation"), "{action}: {error:?}");
        let allow = format!("hint: allow `{action}`");
        says(error, &[&format!("may not do `{action}`"), &allow, "docs/ec2-policy.json"]);
    };
    let names: Vec<&str> = actions::ALL.iter().map(|action| action.0).collect();
    std::thread::scope(|scope| {
        for part in names.chunks(names.len().div_ceil(4)) {
            scope.spawn(move || part.iter().for_each(|action| one(action)));
        }
    });
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn credentials_that_do_not_work_are_the_users_to_mend() {
    let aws = Aws::start();
    let keys = aws.user("dev", &policy());
    let forged = as_user(&aws, &Keys { secret: "forged".into(), ..keys });
    let error = forged.try_up(&little()).unwrap_err();
    assert!(matches!(error, CloudError::Refused { input: true, .. }), "{error:?}");
    let nobody = config(&aws.endpoint(), ("", ""), REGION)
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(Nobody))
        .build();
    let error = Run::of(Ec2::with(&nobody, patience()).unwrap()).try_up(&little()).unwrap_err();
    says(error, &["there are no AWS credentials", "`aws configure`", "AWS_ACCESS_KEY_ID"]);
    let nowhere = aws_config::SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
    says(
        Ec2::with(&nowhere, patience()).unwrap_err(),
        &["no AWS region is set", "`server.region: eu-central-1`"],
    );
}
