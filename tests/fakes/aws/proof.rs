//! The fake proved with AWS's own client for Python, which knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::servers::{PythonServer, Servers};
use super::{Aws, Exchange, Fault, Keys, Refusal, actions, texts, without};
use crate::support::wait_for;

/// `client` never tries again, `patient` does; `refused` is a call's status, code and message.
const PRELUDE: &str = r#"
import json, sys, time
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

def client(name, attempts=1, **more):
    return boto3.client(name, config=Config(retries={"mode": "standard", "total_max_attempts": attempts}), **more)

def refused(call, **parameters):
    try:
        return call(**parameters)
    except ClientError as error:
        return [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"],
                error.response["Error"]["Message"]]

def code(call, **parameters):
    answer = refused(call, **parameters)
    return answer[1] if isinstance(answer, list) else "OK"

def server(**more):
    return {**dict(ImageId="ami-0deb0000000000012", InstanceType="t3.micro", MinCount=1, MaxCount=1), **more}

def tags(kind="instance", **tags):
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]

def ids(answer):
    return [instance["InstanceId"] for instance in answer["Instances"]]

def instances(answer):
    return [instance for reservation in answer["Reservations"] for instance in reservation["Instances"]]

def show(**values):
    print(json.dumps(values, default=str))
"#;

/// Runs a script as someone who may do everything; the object that it shows.
fn boto(aws: &Aws, script: &str) -> Value {
    boto_with(aws, script, "")
}

fn boto_with(aws: &Aws, script: &str, stdin: &str) -> Value {
    let mut command = Command::new(&Servers::get().pythons["moto"]);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(aws.env())
        .args(["-c", &format!("{PRELUDE}\n{script}")]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run Python");
    child.stdin.take().expect("piped").write_all(stdin.as_bytes()).expect("write to Python");
    let output = child.wait_with_output().expect("wait for Python");
    let said = String::from_utf8_lossy(&output.stderr);
    let line = |exchange: &Exchange| {
        format!("{} {:?} {:?}\n", exchange.call.action, exchange.status, exchange.error)
    };
    let asked: String = aws.requests().iter().map(line).collect();
    assert!(output.status.success(), "{said}\n--- asked\n{asked}--- moto\n{}", Servers::get().moto.log());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn a_client_token_stands_for_one_request() {
    let aws = Aws::start();
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
data = "#cloud-config\n# ä\n"
first = ec2.run_instances(**server(ClientToken="one", UserData=data))
again = ec2.run_instances(**server(ClientToken="one", UserData=data))
other = refused(ec2.run_instances, **server(ClientToken="one", UserData=data, InstanceType="t3.small"))
second = ec2.run_instances(**server(ClientToken="two"))
zone = ec2.run_instances(**server(ClientToken="one", Placement={"AvailabilityZone": "eu-central-1b"}))
dry = code(ec2.run_instances, **server(ClientToken="three", DryRun=True))
third = ec2.run_instances(**server(ClientToken="three"))
before = len(instances(ec2.describe_instances()))
found = instances(ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["two"]}]))
ec2.terminate_instances(InstanceIds=ids(first))
gone = refused(ec2.run_instances, **server(ClientToken="one", UserData=data))
long = code(ec2.run_instances, **server(ClientToken="x" * 65))
show(first=ids(first), again=ids(again), other=other, second=ids(second), zone=ids(zone), dry=dry, third=ids(third),
     before=before, found=[one["InstanceId"] for one in found], gone=gone, long=long)
"##,
    );
    assert_eq!(told["first"], told["again"]);
    let different = ["first", "second", "zone", "third"].map(|name| told[name].to_string());
    assert_eq!(BTreeSet::from(different).len(), 4, "{told}");
    assert_eq!(told["before"], 4, "servers");
    assert_eq!(told["found"], told["second"]);
    let mismatch =
        "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
    assert_eq!(told["other"], json!([400, "IdempotentParameterMismatch", mismatch]));
    assert_eq!(told["gone"][1], "IdempotentInstanceTerminated");
    assert_eq!((&told["dry"], &told["long"]), (&json!("DryRunOperation"), &json!("InvalidParameterValue")));

    let writes = aws.writes();
    let tokens: Vec<&str> = writes.iter().map(|write| write.call.parameter("ClientToken")).collect();
    assert_eq!(tokens[..4], ["one", "one", "one", "two"]);
    assert_eq!(writes[0].call.user_data().unwrap(), "#cloud-config\n# ä\n".as_bytes());
    assert_eq!(
        (writes[2].status, writes[2].error.as_deref()),
        (Some(400), Some("IdempotentParameterMismatch"))
    );
    assert_eq!(writes.iter().filter(|write| write.call.action == "TerminateInstances").count(), 1);
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn limits_are_refused_in_the_words_of_aws() {
    let aws = Aws::start();
    aws.fault(Fault::on("AllocateAddress").times(9).refuse(Refusal::address_limit()));
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
full = code(ec2.run_instances, **server(UserData="x" * 16384))
over = refused(ec2.run_instances, **server(UserData="x" * 16385))
far = refused(ec2.run_instances, **server(UserData="x" * 20000))
arm = refused(ec2.run_instances, **server(ImageId="ami-0deb0000000000064"))
right = code(ec2.run_instances, **server(ImageId="ami-0deb0000000000064", InstanceType="t4g.micro"))
image = code(ec2.run_instances, **server(ImageId="ami-0deb0000000000099"))
kind = code(ec2.run_instances, **server(InstanceType="t9.micro"))
key = code(ec2.run_instances, **server(KeyName="nobody"))
address = refused(ec2.allocate_address)
show(full=full, over=over, far=far, arm=arm, right=right, image=image, kind=kind, key=key, address=address)
"##,
    );
    let refused = |text| json!([400, "InvalidParameterValue", text]);
    assert_eq!(told["full"], "OK");
    assert_eq!(told["over"], refused("User data is limited to 16384 bytes"));
    assert_eq!(told["far"], refused("Encoded User data is limited to 25600 bytes"));
    assert_eq!(told["arm"][1], "InvalidParameterValue");
    assert!(
        told["arm"][2].as_str().unwrap().starts_with("The architecture 'x86_64' of the specified"),
        "{told}"
    );
    assert_eq!(told["right"], "OK");
    assert_eq!(told["image"], "InvalidAMIID.NotFound");
    assert_eq!(told["kind"], "InvalidInstanceType.NotFound");
    assert_eq!(told["key"], "InvalidKeyPair.NotFound");
    let full = json!([400, "AddressLimitExceeded", "The maximum number of addresses has been reached."]);
    assert_eq!(told["address"], full);
    assert!(aws.requests_for("AllocateAddress").iter().all(|call| call.faulty));
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn a_server_lives_as_at_ec2() {
    let aws = Aws::start();
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
def look(**parameters):
    found = instances(ec2.describe_instances(**parameters))
    return [[one["State"]["Name"], one.get("PublicIpAddress"), one.get("PublicDnsName")] for one in found]
def alive():
    states = ["pending", "running", "stopping", "stopped"]
    return look(Filters=[{"Name": "instance-state-name", "Values": states}, {"Name": "tag:app", "Values": ["library"]}])

group = ec2.create_security_group(GroupName="library", Description="web")["GroupId"]
made = ec2.run_instances(**server(SecurityGroupIds=[group], TagSpecifications=tags(app="library")))["Instances"][0]
server_id = made["InstanceId"]
first, second, third = alive(), alive(), look(InstanceIds=[server_id])
allocated = ec2.allocate_address(Domain="vpc")
ec2.associate_address(InstanceId=server_id, AllocationId=allocated["AllocationId"])
elastic = look(InstanceIds=[server_id])
address = ec2.describe_addresses()["Addresses"][0]
interfaces = ec2.describe_network_interfaces()["NetworkInterfaces"]
busy = refused(ec2.delete_security_group, GroupId=group)
busy_by_name = code(ec2.delete_security_group, GroupName="library")
ec2.terminate_instances(InstanceIds=[server_id])
going = code(ec2.delete_security_group, GroupId=group)
shutting, terminated, listed = look(InstanceIds=[server_id]), look(InstanceIds=[server_id]), alive()
left = ec2.describe_addresses()["Addresses"][0]
ec2.release_address(AllocationId=allocated["AllocationId"])
gone = code(ec2.delete_security_group, GroupId=group)
show(made=[made["State"]["Name"], made.get("PublicIpAddress"), made.get("PublicDnsName")], first=first, second=second,
     third=third, allocated=allocated["PublicIp"], elastic=elastic, address=[address["PublicIp"], address["InstanceId"]],
     interface=interfaces[0]["Association"]["PublicIp"], busy=busy, busy_by_name=busy_by_name, going=going,
     shutting=shutting, terminated=terminated, listed=listed, left=left.get("InstanceId"), gone=gone, server=server_id)
"##,
    );
    assert_eq!(told["made"], json!(["pending", null, ""]));
    assert_eq!(told["first"], json!([["pending", null, ""]]));
    let running = json!([["running", "203.0.113.1", "ec2-203-0-113-1.example.com"]]);
    assert_eq!((&told["second"], &told["third"]), (&running, &running));
    let elastic = json!([["running", "203.0.113.2", "ec2-203-0-113-2.example.com"]]);
    assert_eq!(told["elastic"], elastic);
    assert_eq!((&told["allocated"], &told["interface"]), (&json!("203.0.113.2"), &json!("203.0.113.2")));
    assert_eq!(told["address"], json!(["203.0.113.2", told["server"]]));
    assert_eq!(told["busy"][1], "DependencyViolation");
    assert!(told["busy"][2].as_str().unwrap().ends_with("has a dependent object"), "{told}");
    assert_eq!((&told["busy_by_name"], &told["going"]), (&told["busy"][1], &told["busy"][1]));
    assert_eq!(told["shutting"][0][0], "shutting-down");
    assert_eq!((&told["terminated"][0][0], &told["terminated"][0][1]), (&json!("terminated"), &json!(null)));
    assert_eq!((&told["listed"], &told["gone"]), (&json!([]), &json!("OK")));
    assert_eq!(told["left"], json!(null), "a server that goes leaves its address");
    assert_eq!(aws.requests_for("RunInstances")[0].call.tags("instance").get("app"), Some(&"library"));
    let server = &aws.instances()[0];
    assert_eq!((server.state.as_str(), server.tags["app"].as_str()), ("terminated", "library"));
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn things_appear_late_where_a_test_says_so() {
    let aws = Aws::start();
    for action in ["RunInstances", "CreateSecurityGroup", "AllocateAddress", "ImportKeyPair"] {
        aws.fault(Fault::on(action).unseen(2));
    }
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
made = ids(ec2.run_instances(**server()))[0]
named = refused(ec2.describe_instances, InstanceIds=[made])
listed = [len(instances(ec2.describe_instances())) for _ in range(2)]
group = ec2.create_security_group(GroupName="library", Description="web")["GroupId"]
rule = dict(IpProtocol="tcp", FromPort=22, ToPort=22, IpRanges=[{"CidrIp": "0.0.0.0/0"}])
rules = [code(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=[rule]) for _ in range(3)]
address = ec2.allocate_address()["AllocationId"]
addresses = [len(ec2.describe_addresses()["Addresses"]) for _ in range(3)]
import base64, struct
blob = b"".join(struct.pack(">I", len(part)) + part for part in [b"ssh-ed25519", b"k" * 32])
public = b"ssh-ed25519 " + base64.b64encode(blob)
ec2.import_key_pair(KeyName="library", PublicKeyMaterial=public)
keys = [code(ec2.describe_key_pairs, KeyNames=["library"]) for _ in range(3)]
show(made=made, named=named, listed=listed, rules=rules, addresses=addresses, keys=keys)
"##,
    );
    let message = format!("The instance ID '{}' does not exist", told["made"].as_str().unwrap());
    assert_eq!(told["named"], json!([400, "InvalidInstanceID.NotFound", message]));
    assert_eq!(told["listed"], json!([0, 1]));
    assert_eq!(told["rules"], json!(["InvalidGroup.NotFound", "InvalidGroup.NotFound", "OK"]));
    assert_eq!(told["addresses"], json!([0, 0, 1]));
    assert_eq!(told["keys"], json!(["InvalidKeyPair.NotFound", "InvalidKeyPair.NotFound", "OK"]));
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn faults_come_as_often_as_planned() {
    let aws = Aws::start();
    aws.fault(Fault::on("DescribeImages").times(2).throttle());
    aws.fault(Fault::on("DescribeImages").internal());
    aws.fault(Fault::on("DescribeVpcs").unavailable());
    aws.fault(Fault::on("RunInstances").reset());
    aws.fault(Fault::on("RunInstances").lose_answer());
    aws.fault(Fault::on("DescribeSubnets").truncate());
    aws.fault(Fault::on("DescribeKeyPairs").hold(Duration::from_millis(300)));
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
def broken(call, **parameters):
    try:
        return call(**parameters) and "OK"
    except Exception as error:
        return type(error).__name__
throttled = [refused(ec2.describe_images), code(ec2.describe_images), code(ec2.describe_images), code(ec2.describe_images)]
unavailable = refused(ec2.describe_vpcs)
reset = broken(ec2.run_instances, **server(ClientToken="one"))
after_reset = len(instances(ec2.describe_instances()))
lost = broken(ec2.run_instances, **server(ClientToken="one"))
after_lost = [one["InstanceId"] for one in instances(ec2.describe_instances())]
again = ids(ec2.run_instances(**server(ClientToken="one")))
truncated = broken(ec2.describe_subnets)
began = time.monotonic()
ec2.describe_key_pairs()
slow = time.monotonic() - began
show(throttled=[throttled[0], *throttled[1:]], unavailable=unavailable, reset=reset, after_reset=after_reset, lost=lost,
     after_lost=after_lost, again=again, truncated=truncated, slow=slow)
"##,
    );
    assert_eq!(told["throttled"][0], json!([503, "RequestLimitExceeded", "Request limit exceeded."]));
    assert_eq!(told["throttled"].as_array().unwrap()[1..], ["RequestLimitExceeded", "InternalError", "OK"]);
    assert_eq!((&told["unavailable"][0], &told["unavailable"][1]), (&json!(503), &json!("Unavailable")));
    for name in ["reset", "lost"] {
        assert!(
            ["ConnectionClosedError", "ConnectionError", "HTTPClientError"]
                .contains(&told[name].as_str().unwrap())
        );
    }
    assert_eq!(told["after_reset"], 0, "nothing was done");
    assert_eq!(told["after_lost"], told["again"], "it was done once");
    assert_eq!(told["truncated"], "ResponseParserError");
    assert!(told["slow"].as_f64().unwrap() >= 0.3, "{told}");
    let runs: Vec<_> = aws.requests_for("RunInstances").iter().map(|run| (run.faulty, run.status)).collect();
    assert_eq!(runs, [(true, None), (true, Some(200)), (false, Some(200))]);
    assert_eq!(aws.faults_left(), []);
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn other_peoples_servers_fill_pages() {
    let aws = Aws::start();
    aws.others(250, |n| vec![("Name".into(), format!("library-{n}")), ("app".into(), "library2".into())]);
    let told = boto(
        &aws,
        r##"
ec2 = client("ec2")
ec2.run_instances(**server(TagSpecifications=tags(app="library")))
page = ec2.describe_instances()
pages = [len(page["Reservations"]) for page in ec2.get_paginator("describe_instances").paginate()]
small = [len(page["Reservations"]) for page in
         ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 90})]
mine = instances(ec2.describe_instances(Filters=[{"Name": "tag:app", "Values": ["library"]}]))
addresses = {one.get("PublicIpAddress") for page in ec2.get_paginator("describe_instances").paginate()
             for one in instances(page)}
show(first=[len(page["Reservations"]), "NextToken" in page], pages=pages, small=small, mine=len(mine),
     addresses=len(addresses), prefixes=sorted({address.rsplit(".", 1)[0] for address in addresses}))
"##,
    );
    assert_eq!(told["first"], json!([100, true]), "one page is not all");
    assert_eq!(told["pages"], json!([100, 100, 51]));
    assert_eq!(told["small"], json!([90, 90, 71]));
    assert_eq!(told["mine"], 1);
    let all = aws.instances();
    assert_eq!(all.len(), 251);
    assert!(all.iter().any(|one| one.tags.get("Name").is_some_and(|name| name == "library-249")));
    assert_eq!((&told["addresses"], &told["prefixes"]), (&json!(251), &json!(["203.0.113"])));
}

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn records_change_and_settle() {
    let aws = Aws::start();
    let zone = aws.zone("example.com");
    for name in ["example.com.au", "a.example.com", "example.net", "example.com"] {
        aws.zone(name);
    }
    aws.fault(Fault::on("ChangeResourceRecordSets").throttle());
    aws.fault(Fault::on("ChangeResourceRecordSets").refuse(Refusal::prior_request()));
    aws.fault(Fault::on("ChangeResourceRecordSets").lose_answer());
    let script = r##"
r53 = client("route53")
zone = "ZONE"
def change(action, name, value, kind="A", ttl=300):
    record = {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": [{"Value": value}]}
    changes = [{"Action": action, "ResourceRecordSet": record}]
    return dict(HostedZoneId=zone, ChangeBatch={"Changes": changes})
zones = [one["Name"] for one in r53.list_hosted_zones()["HostedZones"]]
throttled = refused(r53.change_resource_record_sets, **change("CREATE", "www.example.com", "203.0.113.5"))
prior = refused(r53.change_resource_record_sets, **change("CREATE", "www.example.com", "203.0.113.5"))
patient = client("route53", attempts=3)
again = code(patient.change_resource_record_sets, **change("CREATE", "www.example.com", "203.0.113.5"))
made = r53.change_resource_record_sets(**change("UPSERT", "www.example.com", "203.0.113.6"))["ChangeInfo"]
status = [made["Status"]] + [r53.get_change(Id=made["Id"])["ChangeInfo"]["Status"] for _ in range(2)]
r53.get_waiter("resource_record_sets_changed").wait(Id=made["Id"], WaiterConfig={"Delay": 1, "MaxAttempts": 3})
wrong = code(r53.change_resource_record_sets, **change("DELETE", "www.example.com", "203.0.113.5"))
for n in range(5):
    r53.change_resource_record_sets(**change("CREATE", f"n{n}.example.com", "203.0.113.7"))
pages = r53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone, PaginationConfig={"PageSize": 3})
records = [[record["Name"], record["Type"]] for page in pages for record in page["ResourceRecordSets"]]
nowhere = code(r53.list_resource_record_sets, HostedZoneId="ZNOWHERE")
taken = refused(r53.change_resource_record_sets, **change("CREATE", "www.example.com", "example.org", kind="CNAME"))
outside = code(r53.change_resource_record_sets, **change("CREATE", "www.example.org", "203.0.113.7"))
by_name, start = [], {"DNSName": "example.com"}
while start:
    page = r53.list_hosted_zones_by_name(MaxItems="1", **start)
    by_name += [zone["Name"] for zone in page["HostedZones"]]
    start = page["IsTruncated"] and {"DNSName": page["NextDNSName"], "HostedZoneId": page["NextHostedZoneId"]}
show(taken=taken, outside=outside, by_name=by_name, zones=sorted(zones), throttled=throttled, prior=prior, again=again, status=status, wrong=wrong, records=records,
     nowhere=nowhere)
"##;
    let told = boto(&aws, &script.replace("ZONE", &zone));
    assert_eq!(told["zones"].as_array().unwrap().len(), 5);
    // Sorted from the end of the name, and so without what comes before (example.com.au).
    assert_eq!(told["by_name"], json!(["example.com.", "example.com.", "a.example.com.", "example.net."]));
    assert_eq!(told["taken"][1], "InvalidChangeBatch");
    assert!(
        told["taken"][2]
            .as_str()
            .unwrap()
            .starts_with("[RRSet of type CNAME with DNS name www.example.com. is not")
    );
    assert_eq!(told["outside"], "InvalidChangeBatch");
    assert_eq!(told["throttled"], json!([400, "Throttling", "Rate exceeded"]));
    assert_eq!(told["prior"][1], "PriorRequestNotComplete");
    // The answer was lost, so a client that tries again hears that the record is there.
    assert_eq!(told["again"], "InvalidChangeBatch");
    assert_eq!(told["status"], json!(["PENDING", "PENDING", "INSYNC"]));
    assert_eq!(
        (&told["wrong"], &told["nowhere"]),
        (&json!("InvalidChangeBatch"), &json!("NoSuchHostedZone"))
    );
    let mut names: Vec<String> = (0..5).map(|n| format!("n{n}.example.com.")).collect();
    names.push("www.example.com.".into());
    let mut records = vec![json!(["example.com.", "NS"]), json!(["example.com.", "SOA"])];
    records.extend(names.iter().map(|name| json!([name, "A"])));
    assert_eq!(told["records"], json!(records));

    let changes = aws.requests_for("ChangeResourceRecordSets");
    assert_eq!(changes[0].call.path.trim_end_matches('/'), format!("/2013-04-01/hostedzone/{zone}/rrset"));
    assert_eq!(texts(&changes[0].call.body, "Value"), ["203.0.113.5"]);
    let statuses: Vec<_> = changes[..4].iter().map(|change| (change.faulty, change.status)).collect();
    assert_eq!(statuses, [(true, Some(400)), (true, Some(400)), (true, Some(200)), (false, Some(400))]);
    let records = aws.records(&zone);
    assert_eq!(records.len(), 6, "{records:?}");
    let www = records.iter().find(|record| record.name == "www.example.com.").unwrap();
    assert_eq!(
        (www.kind.as_str(), www.ttl.as_str(), &*www.values),
        ("A", "300", &["203.0.113.6".to_owned()][..])
    );
}

/// What a deployer needs, in two statements as documentation would give it.
fn policy(zone: &str) -> Value {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Resource": "*", "Action": [
            "ec2:DescribeInstances", "ec2:RunInstances", "ec2:TerminateInstances", "ec2:AllocateAddress",
            "route53:ListHostedZonesByName", "route53:GetChange",
        ]},
        {"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:instance/*",
         "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}}},
        {"Effect": "Allow", "Action": ["route53:ListResourceRecordSets", "route53:ChangeResourceRecordSets"],
         "Resource": format!("arn:aws:route53:::hostedzone/{zone}")},
    ]})
}

/// Everything that the policy is for, as each of some users; what is refused, in whose words.
const DEPLOY: &str = r##"
def deploy(id, secret, zone, instance):
    keys = {"aws_access_key_id": id, "aws_secret_access_key": secret}
    ec2, r53, sts = (client(name, **keys) for name in ["ec2", "route53", "sts"])
    record = {"Name": "www.example.com", "Type": "A", "TTL": 300, "ResourceRecords": [{"Value": "203.0.113.5"}]}
    batch = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    calls = {
        "sts:GetCallerIdentity": (sts.get_caller_identity, {}),
        "ec2:DescribeInstances": (ec2.describe_instances, dict(Filters=[{"Name": "tag:ship:app", "Values": ["a b/ü*"]}])),
        "ec2:RunInstances": (ec2.run_instances, server(UserData="#cloud-config\nä")),
        "ec2:CreateTags": (ec2.run_instances, server(TagSpecifications=tags(app="library"))),
        "ec2:TerminateInstances": (ec2.terminate_instances, dict(InstanceIds=[instance])),
        "ec2:AllocateAddress": (ec2.allocate_address, {}),
        "route53:ListHostedZonesByName": (r53.list_hosted_zones_by_name, dict(DNSName="example.com")),
        "route53:ListResourceRecordSets": (r53.list_resource_record_sets, dict(HostedZoneId=zone, StartRecordName="*.example.com", StartRecordType="A")),
        "route53:ChangeResourceRecordSets": (r53.change_resource_record_sets, dict(HostedZoneId=zone, ChangeBatch=batch)),
        "route53:GetChange": (r53.get_change, dict(Id=CHANGE)),
    }
    answers = {name: refused(call, **parameters) for name, (call, parameters) in calls.items()}
    return {name: answer for name, answer in answers.items() if isinstance(answer, list)}

who = client("sts", aws_access_key_id=USERS[0][0], aws_secret_access_key=USERS[0][1]).get_caller_identity()["Arn"]
root = client("sts").get_caller_identity()["Account"]
show(who=who, root=root, refused=[deploy(*user) for user in USERS])
"##;

#[test]
#[ignore = "needs moto and ministack: scripts/test runs it"]
fn a_policy_allows_what_it_names_and_nothing_else() {
    let aws = Aws::start();
    let (zone, other) = (aws.zone("example.com"), aws.zone("example.org"));
    let body = "<R><Name>example.net</Name><CallerReference>c</CallerReference></R>";
    let change = &texts(&aws.route53("POST", "/2013-04-01/hostedzone", body), "Id")[1];
    aws.others(14, |_| Vec::new());
    let servers = texts(&aws.ec2("DescribeInstances", &[]), "instanceId");

    let policy = policy(&zone);
    let deployer = aws.user("deployer", &policy);
    let forged = Keys { secret: "wrong".into(), ..deployer.clone() };
    let unknown = Keys { id: "AKIAI44QH8DHBEXAMPLE".into(), secret: "wrong".into() };
    let mut users = vec![(deployer.clone(), &zone), (deployer, &other), (forged, &zone), (unknown, &zone)];
    let all = actions(&policy);
    for (n, action) in all.iter().enumerate() {
        users.push((aws.user(&format!("without-{n}"), &without(&policy, action)), &zone));
    }
    let users =
        users.iter().zip(&servers).map(|((keys, zone), server)| json!([keys.id, keys.secret, zone, server]));
    let told = boto(&aws, &format!("CHANGE, USERS = {change:?}, {}\n{DEPLOY}", users.collect::<Value>()));

    assert_eq!(told["who"], format!("arn:aws:iam::{}:user/deployer", aws.account()));
    assert_eq!(told["root"], aws.account());
    let refused: Vec<BTreeMap<String, (u16, String, String)>> =
        serde_json::from_value(told["refused"].clone()).unwrap();
    let names = |refused: &BTreeMap<String, _>| refused.keys().cloned().collect::<Vec<String>>();
    assert_eq!(refused[0], BTreeMap::new());
    assert_eq!(names(&refused[1]), ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"]);
    let error = |user: usize, name: &str| (refused[user][name].0, refused[user][name].1.as_str());
    assert_eq!(error(2, "ec2:DescribeInstances"), (401, "AuthFailure"));
    assert_eq!(error(2, "route53:GetChange"), (403, "SignatureDoesNotMatch"));
    assert_eq!(error(2, "sts:GetCallerIdentity"), (403, "SignatureDoesNotMatch"));
    assert_eq!(error(3, "ec2:DescribeInstances"), (401, "AuthFailure"));
    assert_eq!(error(3, "route53:ListHostedZonesByName"), (403, "InvalidClientTokenId"));
    assert_eq!((refused[2].len(), refused[3].len()), (10, 10));

    for (action, refused) in all.iter().zip(&refused[4..]) {
        // The deployer tags a server as it makes one.
        let with = (action == "ec2:RunInstances").then_some("ec2:CreateTags");
        let wanted: BTreeSet<&str> = with.into_iter().chain([action.as_str()]).collect();
        assert_eq!(names(refused), wanted.into_iter().collect::<Vec<_>>());
        let (status, code, message) = &refused[action];
        let ec2 = action.starts_with("ec2");
        assert_eq!(
            (*status, code.as_str()),
            (403, if ec2 { "UnauthorizedOperation" } else { "AccessDenied" })
        );
        assert!(message.contains(&format!("is not authorized to perform: {action}")), "{message}");
        let encoded = message.contains("Encoded authorization failure message: ");
        assert_eq!(encoded, ec2 && !action.contains("Describe"), "{message}");
    }
}

#[test]
#[ignore = "needs moto, ministack and microburst: scripts/test runs it"]
fn microburst_may_stand_in_between() {
    let aws = Aws::start();
    let microburst = PythonServer::microburst(&Servers::get().pythons["microburst"], &aws.endpoint());
    let script = r##"
import urllib.request
rules = [{"service": "ec2", "operation": "DescribeInstances", "times": 2,
          "error": {"code": "RequestLimitExceeded", "status": 503}}]
request = urllib.request.Request("BURST/_microburst/rules", json.dumps(rules).encode(),
                                 {"Content-Type": "application/json"}, method="POST")
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()
ec2 = client("ec2", attempts=4, endpoint_url="BURST")
answer = ec2.describe_instances()
show(retries=answer["ResponseMetadata"]["RetryAttempts"], made=len(ids(ec2.run_instances(**server()))))
"##;
    let told = boto(&aws, &script.replace("BURST", &format!("http://{}", microburst.address)));
    assert_eq!(told, json!({"retries": 2, "made": 1}));
    assert_eq!(aws.requests_for("DescribeInstances").len(), 1, "two of three got no further than microburst");
}

#[test]
#[ignore = "needs ministack: scripts/test runs it"]
fn a_server_ends_when_the_test_does() {
    let mut server = PythonServer::ministack(&Servers::get().pythons["ministack"]);
    let began = Instant::now();
    server.abandon();
    wait_for("ministack to leave", 10, || server.ended());
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
#[ignore = "needs root, moto and ministack: scripts/test runs it"]
fn a_server_boots_with_what_it_was_made_with() {
    let aws = Aws::booting();
    let dir = tempfile::tempdir().unwrap();
    let pair = |name: &str| {
        let path = dir.path().join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
    };
    let (login, key_pair, host) = (pair("login"), pair("key_pair"), pair("host"));
    let private = std::fs::read_to_string(dir.path().join("host")).unwrap();
    let user_data = json!({
        "ssh_deletekeys": true,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": host},
        "users": [{"name": "ship", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [login]}],
        "write_files": [{"path": "/etc/told", "content": "ä\n"}],
    });
    let user_data = format!("#cloud-config\n{user_data}\n");
    let script = format!(
        r##"
ec2 = client("ec2")
ec2.import_key_pair(KeyName="library", PublicKeyMaterial={key_pair:?}.encode())
def address(instance):
    return instances(ec2.describe_instances(InstanceIds=[instance]))[0].get("PublicIpAddress")
made = ids(ec2.run_instances(**server(UserData=json.loads(sys.stdin.read()), KeyName="library")))[0]
plain = ids(ec2.run_instances(**server(KeyName="library", UserData="#cloud-config\n")))[0]
ec2.get_waiter("instance_running").wait(InstanceIds=[made, plain], WaiterConfig={{"Delay": 1, "MaxAttempts": 60}})
allocated = ec2.allocate_address()
own = address(made)
ec2.associate_address(InstanceId=made, AllocationId=allocated["AllocationId"])
show(made=made, plain=[plain, address(plain)], own=own, elastic=allocated["PublicIp"], now=address(made))
"##
    );
    let told = boto_with(&aws, &script, &json!(user_data).to_string());
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let server = aws.server(&text("made"));
    assert_eq!(text("own"), server.host, "its address is the box's");
    assert_eq!(told["now"], told["elastic"]);
    let seed = server.exec("cat /var/lib/cloud/seed/nocloud/user-data");
    assert_eq!(seed, user_data);

    let known = dir.path().join("known_hosts");
    let ssh = |user: &str, key: &str, address: &str, script: &str| {
        let output = Command::new("ssh")
            .args([
                "-F",
                "/dev/null",
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "ConnectTimeout=5",
            ])
            .args(["-o", "StrictHostKeyChecking=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(dir.path().join(key))
            .arg(format!("{user}@{address}"))
            .arg(script)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (type_, rest) = host.split_once(' ').unwrap();
    let host = format!("{type_} {}", rest.split(' ').next().unwrap());
    for address in [text("own"), text("elastic")] {
        std::fs::write(&known, format!("{address} {host}\n")).unwrap();
        let mut said = String::new();
        wait_for("the server to let its user in", 60, || {
            said = ssh("ship", "login", &address, "cat /etc/told; hostname; sudo -n id -u");
            !said.is_empty()
        });
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines[0] == "ä" && lines[1].starts_with("ip-") && lines[2] == "0", "{said}");
    }

    let plain = told["plain"][1].as_str().unwrap();
    assert_eq!(aws.server(told["plain"][0].as_str().unwrap()).host, plain);
    wait_for("the image's own user to be let in with the key pair", 60, || {
        let scan = Command::new("ssh-keyscan").args(["-t", "ed25519", plain]).output().unwrap();
        std::fs::write(&known, scan.stdout).unwrap();
        ssh("admin", "key_pair", plain, "id -un").trim() == "admin"
    });

    boto(
        &aws,
        &format!("ec2 = client('ec2')\nec2.terminate_instances(InstanceIds=[{:?}])\nshow()", text("made")),
    );
    wait_for("the box to be gone", 30, || !server.is_running());
}
