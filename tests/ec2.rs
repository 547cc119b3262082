//! EC2 through a stand-in for its API: every act, every answer lost once, and nobody else's things touched.
//!
//! Nothing boots here; what an instance does with its user-data is the business of tests that need boxes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use ship::aws::Patience;
use ship::cloud::{self, Act, EC2, Found, Owner, Rule, Settings, State, Thing, Traffic, Wish};
use ship::error::Failure;
use ship::providers::cloud::{Birth, Cloud};
use ship::providers::ec2::Ec2;
use ship::providers::error::CloudError;

use crate::fakes::aws::{Aws, Fault, REGION, texts};
use crate::support::Project;

mod access;
mod faults;
mod refusals;
mod zones;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIw8MkBv0ScRC4gk1x3FwZ9D9OQ1+C5T0Jc7z8rFKY2G me@example.com";
const OTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPn0kTSbDWRSTqbPx1XW4kgM0wNhKZpJ0B8MxUvPuG3i me@example.com";

/// Patience for tests: an API on this computer answers within milliseconds.
fn patience() -> Patience {
    let ms = Duration::from_millis;
    Patience {
        connect: ms(5000),
        attempt: ms(10_000),
        operation: ms(60_000),
        attempts: 4,
        backoff: ms(2),
        looks: [1, 2, 4, 8, 16].map(ms).into(),
        poll: ms(2),
        visible: ms(2000),
        change: ms(10_000),
        release: ms(5000),
        insync: ms(10_000),
    }
}

/// What the SDK is told in tests.
fn config(endpoint: &str, keys: (&str, &str), region: &str) -> aws_config::SdkConfig {
    let credentials = Credentials::new(keys.0, keys.1, None, None, "test");
    aws_config::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// What one run of ship does with the stand-in.
struct Run {
    runtime: tokio::runtime::Runtime,
    ec2: Ec2,
    birth: Birth,
    said: Mutex<Vec<String>>,
}

impl Run {
    fn new(aws: &Aws) -> Self {
        Self::with(aws, REGION, patience())
    }

    fn with(aws: &Aws, region: &str, patience: Patience) -> Self {
        Self::of(Ec2::with(&config(&aws.endpoint(), (aws.account(), "secret"), region), patience).unwrap())
    }

    fn of(ec2: Ec2) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, ec2, birth: birth("0f"), said: Mutex::default() }
    }

    /// The same run with the host key of another one: other user-data.
    fn born(self, byte: &str) -> Self {
        Self { birth: birth(byte), ..self }
    }

    fn look(&self, wish: &Wish) -> Found {
        self.runtime.block_on(self.ec2.look(wish)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// What is to be done.
    fn plan(&self, wish: &Wish) -> Vec<Act> {
        acts(&cloud::plan(wish, &self.look(wish), None, false))
    }

    /// Looks, plans and does it, as `ship up` would.
    async fn converge(&self, wish: &Wish, replace: bool) -> Result<Vec<Act>, CloudError> {
        let mut found = self.ec2.look(wish).await?;
        let mut plan = cloud::plan(wish, &found, None, replace);
        if plan.steps.iter().any(|step| matches!(step.act, Act::CreateServer | Act::Resize)) {
            let quote = self.ec2.quote(wish).await?;
            plan = cloud::plan(wish, &found, Some(&quote), replace);
        }
        let acts = acts(&plan);
        for act in &acts {
            self.act(act, wish, &mut found).await?;
        }
        Ok(acts)
    }

    async fn act(&self, act: &Act, wish: &Wish, found: &mut Found) -> Result<(), CloudError> {
        let progress = |text: &str| self.said.lock().unwrap().push(text.to_owned());
        self.ec2.act(act, wish, found, &self.birth, &progress).await
    }

    fn try_up(&self, wish: &Wish) -> Result<Vec<Act>, CloudError> {
        self.runtime.block_on(self.converge(wish, false))
    }

    /// Converges; then nothing is left to do.
    #[track_caller]
    fn up(&self, wish: &Wish) -> Vec<Act> {
        let done = self.try_up(wish).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(self.plan(wish), [], "after {done:?}: {:#?}", self.look(wish));
        done
    }

    fn things(&self) -> Vec<Thing> {
        self.runtime.block_on(self.ec2.things(&owner())).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn try_remove(&self, thing: &Thing) -> Result<(), CloudError> {
        self.runtime.block_on(self.ec2.remove(&owner(), thing, &|_| ()))
    }

    #[track_caller]
    fn destroy(&self) {
        for thing in self.things() {
            self.try_remove(&thing).unwrap_or_else(|error| panic!("{thing:?}: {error:?}"));
        }
        assert_eq!(self.things(), []);
    }
}

fn acts(plan: &cloud::Plan) -> Vec<Act> {
    plan.steps.iter().map(|step| step.act.clone()).collect()
}

fn owner() -> Owner {
    Owner { app: "library".into(), environment: "default".into() }
}

fn birth(byte: &str) -> Birth {
    Birth { user_data: format!("#cloud-config\n# {byte}\n"), host_key: byte.repeat(32) }
}

/// Everything that there is to wish for.
fn everything() -> Wish {
    let anywhere = |traffic| ["0.0.0.0/0", "::/0"].map(|source| Rule::new(traffic, source));
    let rules = [Traffic::Tcp(80), Traffic::Tcp(443), Traffic::Icmp].into_iter().flat_map(anywhere);
    Wish {
        owner: owner(),
        words: EC2,
        region: Some(REGION.into()),
        size: "t3.small".into(),
        image: "debian-12".into(),
        disk_gb: Some(20),
        network: None,
        subnet: None,
        monitoring: false,
        settings: Settings {
            protected: true,
            labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
            ..Settings::default()
        },
        rules: rules.chain([Rule::new(Traffic::Tcp(22), "203.0.113.0/24")]).collect(),
        fixed_address: true,
        volume_gb: Some(10),
        user: "deploy".into(),
        public_key: KEY.into(),
    }
}

/// As little as possible.
fn little() -> Wish {
    Wish { settings: Settings::default(), fixed_address: false, volume_gb: None, ..everything() }
}

/// Ids of what the account has of the owner's, by kind; what is gone is not counted.
fn census(aws: &Aws) -> BTreeMap<&'static str, BTreeSet<String>> {
    let tagged = [("Filter.1.Name", "tag:ship"), ("Filter.1.Value.1", "library/default")];
    let of = |action: &str, id: &str| texts(&aws.ec2(action, &tagged), id).into_iter().collect();
    let alive = aws.instances().into_iter().filter(|instance| {
        let ours = instance.tags.get("ship").is_some_and(|owner| owner == "library/default");
        ours && !matches!(instance.state.as_str(), "terminated" | "shutting-down")
    });
    let data = [&tagged[..], &[("Filter.2.Name", "tag:ship-disk"), ("Filter.2.Value.1", "data")]].concat();
    BTreeMap::from([
        ("instances", alive.map(|instance| instance.id).collect()),
        ("keys", of("DescribeKeyPairs", "keyPairId")),
        ("groups", of("DescribeSecurityGroups", "groupId")),
        ("addresses", of("DescribeAddresses", "allocationId")),
        ("volumes", texts(&aws.ec2("DescribeVolumes", &data), "volumeId").into_iter().collect()),
    ])
}

/// A VPC with a subnet that nothing leads to.
fn private_vpc(aws: &Aws) -> (String, String) {
    let vpc = first(&aws.ec2("CreateVpc", &[("CidrBlock", "10.9.0.0/16")]), "vpcId");
    let make = [("VpcId", vpc.as_str()), ("CidrBlock", "10.9.1.0/24"), ("AvailabilityZone", "eu-central-1b")];
    let subnet = first(&aws.ec2("CreateSubnet", &make), "subnetId");
    (vpc, subnet)
}

fn lead_to_the_internet(aws: &Aws, vpc: &str, subnet: &str) {
    let gateway = first(&aws.ec2("CreateInternetGateway", &[]), "internetGatewayId");
    aws.ec2("AttachInternetGateway", &[("InternetGatewayId", &gateway), ("VpcId", vpc)]);
    let table = first(&aws.ec2("CreateRouteTable", &[("VpcId", vpc)]), "routeTableId");
    let route = [("DestinationCidrBlock", "0.0.0.0/0"), ("GatewayId", gateway.as_str())];
    aws.ec2("CreateRoute", &[&[("RouteTableId", table.as_str())], &route[..]].concat());
    aws.ec2("AssociateRouteTable", &[("RouteTableId", &table), ("SubnetId", subnet)]);
}

fn public_vpc(aws: &Aws) -> (String, String) {
    let (vpc, subnet) = private_vpc(aws);
    lead_to_the_internet(aws, &vpc, &subnet);
    (vpc, subnet)
}

fn first(answer: &str, name: &str) -> String {
    texts(answer, name).into_iter().next().unwrap()
}

/// Exactly one of everything.
#[track_caller]
fn assert_one_of_each(aws: &Aws) {
    let census = census(aws);
    for (kind, ids) in &census {
        assert_eq!(ids.len(), 1, "{kind}: {census:?}");
    }
}

#[track_caller]
fn says(error: CloudError, words: &[&str]) {
    let text = Failure::from(error).to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn an_empty_account_gets_everything_and_a_second_run_writes_nothing() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = everything();
    let plan = run.plan(&wish);
    assert!(aws.writes().is_empty(), "looking writes nothing");
    assert_eq!(run.up(&wish), plan);
    assert_one_of_each(&aws);

    let sent = aws.requests_for("RunInstances");
    assert_eq!(sent.len(), 1);
    let call = &sent[0].call;
    for (name, value) in [
        ("MinCount", "1"),
        ("MaxCount", "1"),
        ("ClientToken", "2910854fa52aa367d6be0a2721f127ecddbc17683fc64a5e3df9417fb4c81340"),
        ("ImageId", "ami-0deb0000000000012"),
        ("InstanceType", "t3.small"),
        ("KeyName", "ship.library.default"),
        ("DisableApiTermination", "true"),
        ("MetadataOptions.HttpTokens", "required"),
        ("MetadataOptions.HttpPutResponseHopLimit", "1"),
        ("NetworkInterface.1.AssociatePublicIpAddress", "true"),
        ("BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
        ("BlockDeviceMapping.1.Ebs.VolumeType", "gp3"),
        ("BlockDeviceMapping.1.Ebs.VolumeSize", "20"),
        ("BlockDeviceMapping.1.Ebs.Encrypted", "true"),
    ] {
        assert_eq!(call.parameter(name), value, "{name}");
    }
    assert_eq!(call.user_data().unwrap(), run.birth.user_data.as_bytes());
    let tags = BTreeMap::from([
        ("Name", "library"),
        ("ship", "library/default"),
        ("ship-ami", "ami-0deb0000000000012"),
        ("ship-birth-key", run.birth.host_key.as_str()),
        ("ship-image", "debian-12"),
        ("team", "web"),
    ]);
    assert_eq!(call.tags("instance"), tags);
    assert_eq!(call.tags("volume").get("ship-disk"), Some(&"root"));

    let volume = aws.requests_for("CreateVolume");
    let zone = aws.instances()[0].id.clone();
    assert_eq!((volume.len(), volume[0].call.parameter("Encrypted")), (1, "true"), "{zone}");
    assert_eq!(volume[0].call.parameter("ClientToken").len(), 64);

    aws.forget_requests();
    assert_eq!(run.up(&wish), []);
    assert!(aws.writes().is_empty());
    let found = run.look(&wish);
    let server = found.server.unwrap();
    assert_eq!((server.state, server.settings.protected, server.disk_gb), (State::Running, true, Some(20)));
    assert_eq!(server.birth_key, Some(run.birth.host_key.clone()));
    assert_eq!((server.ipv4, found.address.unwrap().server), (server.ipv4, Some(server.id.clone())));
    assert!(found.volume.unwrap().device.starts_with("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol"));

    aws.forget_requests();
    let again = run.runtime.block_on(run.ec2.find(&owner())).unwrap().unwrap();
    assert_eq!((again.id, again.ipv4), (server.id, server.ipv4));
    assert_eq!(aws.requests().len(), 1, "one call");
}

/// What happens to an account behind ship's back, and what the next run does about it.
#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn what_was_changed_by_hand_is_found_and_repaired() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = everything();
    run.up(&wish);
    let found = run.look(&wish);
    let server = found.server.clone().unwrap().id;
    let group = found.firewall.unwrap().id;
    let (address, volume) = (found.address.unwrap(), found.volume.unwrap());
    let by_hand = |action: &str, parameters: &[(&str, &str)]| drop(aws.ec2(action, parameters));
    let open = |action: &str, port: &str, from: &str| {
        by_hand(
            action,
            &[
                ("GroupId", &group),
                ("IpPermissions.1.IpProtocol", "tcp"),
                ("IpPermissions.1.FromPort", port),
                ("IpPermissions.1.ToPort", port),
                ("IpPermissions.1.IpRanges.1.CidrIp", from),
            ],
        );
    };

    open("AuthorizeSecurityGroupIngress", "5432", "0.0.0.0/0");
    open("RevokeSecurityGroupIngress", "443", "0.0.0.0/0");
    aws.forget_requests();
    assert_eq!(run.up(&wish), [Act::SetFirewall]);
    let order: Vec<String> = aws.writes().into_iter().map(|write| write.call.action).collect();
    assert_eq!(order, ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"], "first in, then out");

    let made = aws.ec2("CreateSecurityGroup", &[("GroupName", "theirs"), ("GroupDescription", "theirs")]);
    let theirs = texts(&made, "groupId").pop().unwrap();
    by_hand("ModifyInstanceAttribute", &[("InstanceId", &server), ("GroupId.1", &theirs)]);
    assert_eq!(run.up(&wish), [Act::SetFirewall]);
    let shown = aws.ec2("DescribeInstances", &[("InstanceId.1", &server)]);
    let groups: BTreeSet<String> = texts(&shown, "groupId").into_iter().collect();
    assert!(groups.contains(&theirs) && groups.contains(&group), "{groups:?}");

    by_hand("StopInstances", &[("InstanceId.1", &server)]);
    assert_eq!(run.up(&wish), [Act::StartServer]);

    let association =
        texts(&aws.ec2("DescribeAddresses", &[("AllocationId.1", &address.id)]), "associationId");
    by_hand("DisassociateAddress", &[("AssociationId", &association[0])]);
    assert_eq!(run.up(&wish), [Act::AttachAddress]);

    by_hand("DetachVolume", &[("VolumeId", &volume.id), ("InstanceId", &server), ("Device", "/dev/sdf")]);
    assert_eq!(run.up(&wish), [Act::AttachVolume]);

    let off = [("InstanceId", server.as_str()), ("DisableApiTermination.Value", "false")];
    by_hand("ModifyInstanceAttribute", &off);
    by_hand("DeleteTags", &[("ResourceId.1", &server), ("Tag.1.Key", "team")]);
    let label = cloud::Setting::Label("team".into(), "web".into());
    let acts = [Act::Set(cloud::Setting::Protected(true)), Act::Set(label)];
    assert_eq!(run.up(&wish), acts);

    by_hand("ModifyInstanceAttribute", &off);
    by_hand("TerminateInstances", &[("InstanceId.1", &server)]);
    assert_eq!(run.up(&wish), [Act::CreateServer, Act::AttachAddress, Act::AttachVolume]);
    let again = run.look(&wish);
    assert_eq!((again.address.unwrap().ip, again.volume.unwrap().id), (address.ip, volume.id));
    assert_ne!(again.server.unwrap().id, server);
    assert_one_of_each(&aws);
}

/// What the user changes in ship.yml.
#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn what_was_changed_in_the_configuration_is_done() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let mut wish = little();
    assert_eq!(run.up(&wish), [Act::AddKey, Act::AddFirewall, Act::CreateServer]);
    let server = run.look(&wish).server.unwrap();
    assert!(server.ipv4.is_some());

    wish.size = "t3.medium".into();
    aws.forget_requests();
    assert_eq!(run.up(&wish), [Act::Resize]);
    let order: Vec<String> = aws.writes().into_iter().map(|write| write.call.action).collect();
    assert_eq!(order, ["StopInstances", "ModifyInstanceAttribute", "StartInstances"]);
    assert_eq!(run.look(&wish).server.unwrap().id, server.id);

    wish.fixed_address = true;
    assert_eq!(run.up(&wish), [Act::AddAddress]);
    let fixed = run.look(&wish).address.unwrap();
    assert_eq!(run.look(&wish).reachable_at(), Some(fixed.ip));

    wish.volume_gb = Some(10);
    assert_eq!(run.up(&wish), [Act::AddVolume]);
    wish.volume_gb = Some(20);
    assert_eq!(run.up(&wish), [Act::GrowVolume]);
    assert_eq!(run.look(&wish).volume.unwrap().size_gb, 20);

    wish.rules.insert(Rule::new(Traffic::Tcp(22), "2001:db8::/32"));
    wish.rules.remove(&Rule::new(Traffic::Icmp, "0.0.0.0/0"));
    assert_eq!(run.up(&wish), [Act::SetFirewall]);

    wish.settings.protected = true;
    assert_eq!(run.up(&wish), [Act::Set(cloud::Setting::Protected(true))]);
    wish.settings.protected = false;
    assert_eq!(run.up(&wish), [Act::Set(cloud::Setting::Protected(false))]);

    // Another image is another server; the address and the data stay.
    wish.image = "ubuntu-24.04".into();
    assert_eq!(run.plan(&wish), [], "not without being told to");
    let replaced = run.runtime.block_on(run.converge(&wish, true)).unwrap();
    let acts = [Act::DestroyServer, Act::CreateServer, Act::AttachAddress, Act::AttachVolume];
    assert_eq!(replaced, acts);
    assert_eq!(run.plan(&wish), []);
    let found = run.look(&wish);
    assert_eq!(
        (found.address.unwrap().ip, found.server.unwrap().image),
        (fixed.ip, Some("ubuntu-24.04".into()))
    );
    assert_one_of_each(&aws);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn another_public_key_takes_the_place_of_the_first() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = little();
    run.up(&wish);
    let server = run.look(&wish).server.unwrap().id;
    aws.ec2("TerminateInstances", &[("InstanceId.1", &server)]);
    let other = Wish { public_key: OTHER_KEY.into(), ..wish.clone() };
    assert_eq!(run.up(&other), [Act::AddKey, Act::CreateServer]);
    assert_eq!(census(&aws)["keys"].len(), 1);
    // EC2 takes no such keys; the user-data has them.
    aws.ec2("TerminateInstances", &[("InstanceId.1", &run.look(&other).server.unwrap().id)]);
    let ecdsa = Wish { public_key: "ecdsa-sha2-nistp256 AAAAE2VjZHNh me".into(), ..wish };
    assert_eq!(run.up(&ecdsa), [Act::CreateServer]);
    assert_eq!(aws.requests_for("RunInstances").last().unwrap().call.parameter("KeyName"), "");
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_server_stays_what_it_was_made_as() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = little();
    run.up(&wish);
    let arm = Wish { size: "t4g.small".into(), ..wish.clone() };
    let quote = run.runtime.block_on(run.ec2.quote(&arm)).unwrap();
    assert!(quote.obstacle.unwrap().contains("t3.small is x86_64, t4g.small is arm64"));
    // Even if somebody asks for it, nothing is stopped.
    aws.forget_requests();
    let mut found = run.look(&wish);
    let error = run.runtime.block_on(run.act(&Act::Resize, &arm, &mut found)).unwrap_err();
    says(error, &["no server changes its architecture", "t4g, m7g and the like are arm64"]);
    assert!(aws.writes().is_empty());

    let replaced = run.runtime.block_on(run.converge(&arm, true)).unwrap();
    assert_eq!(replaced, [Act::DestroyServer, Act::CreateServer]);
    let last = aws.requests_for("RunInstances").pop().unwrap();
    assert_eq!(last.call.parameter("ImageId"), "ami-0deb0000000000064");
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_size_that_can_not_be_had_leaves_the_site_as_it_was() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let mut wish = little();
    run.up(&wish);
    wish.size = "t3.medium".into();
    aws.fault(Fault::on("StartInstances").refuse(crate::fakes::aws::Refusal::new(
        400,
        "InsufficientInstanceCapacity",
        "We currently do not have sufficient t3.medium capacity.",
    )));
    says(run.try_up(&wish).unwrap_err(), &["sufficient t3.medium capacity", "another `server.size`"]);
    let server = run.look(&wish).server.unwrap();
    assert_eq!((server.state, server.size.as_str()), (State::Running, "t3.small"));
    assert!(run.said.lock().unwrap().iter().any(|text| text.contains("as t3.small again")));
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_destroyed_server_can_be_made_again() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = Wish { settings: Settings::default(), ..everything() };
    let mut tokens = BTreeSet::new();
    for _ in 0..3 {
        run.up(&wish);
        assert_one_of_each(&aws);
        tokens.insert(
            aws.requests_for("RunInstances").last().unwrap().call.parameter("ClientToken").to_owned(),
        );
        run.destroy();
    }
    assert_eq!(tokens.len(), 3, "a generation each");
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn two_runs_at_once_make_one_server() {
    let aws = Aws::start();
    let wish = Wish { settings: Settings::default(), ..everything() };
    let firsts = [Run::new(&aws), Run::new(&aws).born("a1"), Run::new(&aws).born("b2")];
    std::thread::scope(|scope| {
        for run in firsts {
            let wish = &wish;
            scope.spawn(move || run.try_up(wish));
        }
    });
    let run = Run::new(&aws);
    assert_eq!(census(&aws)["instances"].len(), 1, "{:?}", census(&aws));
    let addresses = census(&aws)["addresses"].len();
    assert!(addresses >= 1);
    run.try_up(&wish).unwrap();
    let server = run.look(&wish).server.unwrap();
    let keys = ["0f", "a1", "b2"].map(|byte| Some(birth(byte).host_key));
    assert!(keys.contains(&server.birth_key), "the key of the run whose user-data it got");
}

/// A project in a folder, whose user has set up AWS the way every tool takes it.
fn project(server: &str) -> Project {
    let project = Project::elsewhere(server);
    project.make_key();
    project
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn the_environment_is_taken_as_every_aws_tool_takes_it() {
    let aws = Aws::start();
    let mut project = project("{provider: ec2}");
    for (name, value) in aws.env() {
        project.set(&name, value);
    }
    let plan = project.ship(&["plan"]).exits(2);
    for text in [
        "key pair",
        "security group",
        "instance library",
        "elastic IP",
        "size t3.small: 2 cores, 2.0 GiB memory",
    ] {
        assert!(plan.stdout.contains(text), "{text:?} in\n{}", plan.stdout);
    }
    assert!(!aws.requests().is_empty() && aws.writes().is_empty(), "a plan writes nothing");
    let known: BTreeSet<String> = aws.requests().into_iter().map(|exchange| exchange.call.region).collect();
    assert!(known.contains(REGION) && known.contains("eu-west-1"), "looked in the other regions: {known:?}");

    project.set("AWS_ACCESS_KEY_ID", "");
    project.set("AWS_SECRET_ACCESS_KEY", "");
    let none = project.ship(&["plan"]).exits(3);
    assert!(none.stderr.contains("there are no AWS credentials"), "{}", none.stderr);
    project.set("AWS_REGION", "");
    project.set("AWS_DEFAULT_REGION", "");
    let nowhere = project.ship(&["plan"]).exits(3);
    assert!(nowhere.stderr.contains("no AWS region is set"), "{}", nowhere.stderr);

    // From files.
    let mut project = self::project("{provider: ec2}");
    let home = project.home.join(".aws");
    std::fs::create_dir_all(&home).unwrap();
    let credentials =
        format!("[work]\naws_access_key_id = {}\naws_secret_access_key = secret\n", aws.account());
    std::fs::write(home.join("credentials"), credentials).unwrap();
    std::fs::write(home.join("config"), "[profile work]\nregion = eu-west-1\n").unwrap();
    project.set("AWS_PROFILE", "work");
    project.set("AWS_ENDPOINT_URL", aws.endpoint());
    project.set("AWS_EC2_METADATA_DISABLED", "true");
    aws.forget_requests();
    project.ship(&["plan"]).exits(2);
    assert!(
        aws.requests()
            .iter()
            .all(|exchange| exchange.call.region != REGION || exchange.call.action == "DescribeInstances")
    );
    assert_eq!(aws.requests()[0].call.region, "eu-west-1");

    let process = "[profile work]\nregion = eu-west-1\ncredential_process = /bin/false\n";
    std::fs::write(home.join("config"), process).unwrap();
    std::fs::write(home.join("credentials"), "").unwrap();
    let broken = project.ship(&["plan"]).exits(3);
    assert!(broken.stderr.contains("the AWS credentials can't be had"), "{}", broken.stderr);
}
