//! What goes wrong on the way: lost answers, throttling, failures of the server's, things that show late.

use std::time::{Duration, Instant};

use super::*;

/// What makes something.
const MAKING: [&str; 5] =
    ["ImportKeyPair", "CreateSecurityGroup", "RunInstances", "AllocateAddress", "CreateVolume"];

/// What changes something that is there.
const CHANGING: [&str; 3] = ["AuthorizeSecurityGroupIngress", "AssociateAddress", "AttachVolume"];

/// What a first run asks.
const ASKING: [&str; 11] = [
    "DescribeAddresses",
    "DescribeImages",
    "DescribeInstanceAttribute",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInstances",
    "DescribeKeyPairs",
    "DescribeRegions",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeVolumes",
];

fn unprotected() -> Wish {
    Wish { settings: Settings::default(), ..everything() }
}

/// Runs with the same fault of each action, and expects one of everything.
#[track_caller]
fn survives(actions: &[&str], fault: impl Fn(Fault) -> Fault) -> Aws {
    survives_with(patience().attempt, actions, fault)
}

#[track_caller]
fn survives_with(attempt: Duration, actions: &[&str], fault: impl Fn(Fault) -> Fault) -> Aws {
    let aws = Aws::start();
    let run = Run::with(&aws, REGION, Patience { attempt, ..patience() });
    for action in actions {
        aws.fault(fault(Fault::on(action)));
    }
    run.up(&unprotected());
    assert_one_of_each(&aws);
    assert_eq!(aws.faults_left(), []);
    let tokens: BTreeSet<String> = aws
        .requests_for("RunInstances")
        .iter()
        .map(|sent| sent.call.parameter("ClientToken").to_owned())
        .collect();
    assert_eq!(tokens.len(), 1, "one token however often it was sent: {tokens:?}");
    aws
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_lost_answer_makes_no_second_one() {
    let aws = survives(&MAKING, Fault::lose_answer);
    for action in ["ImportKeyPair", "CreateSecurityGroup", "AllocateAddress"] {
        assert_eq!(aws.requests_for(action).len(), 1, "{action} is looked for, not sent again");
    }
    survives(&CHANGING, Fault::lose_answer);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_truncated_answer_makes_no_second_one() {
    let aws = survives(&MAKING, Fault::truncate);
    for action in ["ImportKeyPair", "CreateSecurityGroup", "AllocateAddress"] {
        assert_eq!(aws.requests_for(action).len(), 1, "{action}");
    }
    survives(&CHANGING, Fault::truncate);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_late_answer_makes_no_second_one() {
    let later = |fault: Fault| fault.hold(Duration::from_secs(4));
    let aws = survives_with(Duration::from_secs(2), &MAKING, later);
    for action in ["ImportKeyPair", "CreateSecurityGroup", "AllocateAddress"] {
        assert_eq!(aws.requests_for(action).len(), 1, "{action}");
    }
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_call_that_never_arrived_is_sent_again_after_a_look() {
    let aws = survives(&MAKING, Fault::reset);
    for action in ["ImportKeyPair", "CreateSecurityGroup", "AllocateAddress"] {
        assert_eq!(aws.requests_for(action).len(), 2, "{action}");
    }
    survives(&CHANGING, Fault::reset);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn throttling_and_failures_of_the_servers_pass() {
    let all = [&MAKING[..], &CHANGING[..], &ASKING[..]].concat();
    survives(&all, |fault| fault.throttle().times(2));
    survives(&all, Fault::unavailable);
    survives(&all, Fault::internal);
    survives(&ASKING, Fault::reset);
    survives(&ASKING, Fault::truncate);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn what_was_made_may_show_late() {
    // The fake knows no volumes that show late.
    survives(&MAKING[..4], |fault| fault.unseen(3));
    // And its answer may be lost, too.
    let aws = Aws::start();
    let run = Run::new(&aws);
    for action in &MAKING[..4] {
        aws.fault(Fault::on(action).unseen(2));
        aws.fault(Fault::on(action).lose_answer());
    }
    run.up(&unprotected());
    assert_one_of_each(&aws);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn slow_states_are_waited_for() {
    let aws = Aws::start();
    aws.lags(20);
    let run = Run::new(&aws);
    run.up(&unprotected());
    run.up(&Wish { size: "t3.medium".into(), ..unprotected() });
    assert!(run.said.lock().unwrap().iter().any(|text| text.starts_with("waiting for i-")));
    run.destroy();
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn what_nobody_knows_is_said_and_the_next_run_finds_it() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    // Made, but neither answered nor shown for long; and nothing gets through after that.
    aws.fault(Fault::on("AllocateAddress").unseen(99));
    aws.fault(Fault::on("AllocateAddress").lose_answer());
    aws.fault(Fault::on("AllocateAddress").times(9).reset());
    let error = run.try_up(&unprotected()).unwrap_err();
    assert!(error.is_unclear(), "{error:?}");
    says(error, &["no telling whether EC2 managed to take an elastic IP", "run `ship up` again"]);
    assert_eq!(census(&aws)["addresses"].len(), 1);

    let aws = Aws::start();
    let run = Run::new(&aws);
    aws.fault(Fault::on("RunInstances").times(99).reset());
    let error = run.try_up(&unprotected()).unwrap_err();
    assert!(error.is_unclear(), "{error:?}");
    assert_eq!(census(&aws)["instances"].len(), 0);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_cloud_out_of_reach_is_said_once_and_soon() {
    let began = Instant::now();
    let gone =
        Run::of(Ec2::with(&config("http://127.0.0.1:9", ("id", "secret"), REGION), patience()).unwrap());
    let error = gone.try_up(&little()).unwrap_err();
    assert!(matches!(error, CloudError::Unreachable { .. }), "{error:?}");
    says(error, &["can't look for", "onnection refused"]);
    assert!(began.elapsed() < Duration::from_secs(5));

    let aws = Aws::start();
    aws.fault(Fault::on("DescribeInstances").times(99).internal());
    let error = Run::new(&aws).try_up(&little()).unwrap_err();
    says(error, &["can't look for the instance of library/default", "HTTP 500, InternalError"]);
    assert_eq!(aws.requests_for("DescribeInstances").len(), 4, "as often as patience says");
}

/// An interrupted run, at every place where it could be.
#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_run_that_is_cut_off_anywhere_is_carried_on() {
    let aws = Aws::start();
    let wish = unprotected();
    for step in 1..=5 {
        let run = Run::new(&aws).born(&format!("{step:02x}"));
        run.runtime.block_on(async {
            let mut found = run.ec2.look(&wish).await.unwrap();
            let plan = acts(&cloud::plan(&wish, &found, None, false));
            let next = plan.first().unwrap();
            run.act(next, &wish, &mut found).await.unwrap();
        });
    }
    let run = Run::new(&aws);
    assert_eq!(run.plan(&wish), []);
    assert_one_of_each(&aws);
    run.destroy();
    let left = census(&aws);
    assert!(left.values().all(BTreeSet::is_empty), "{left:?}");
}
