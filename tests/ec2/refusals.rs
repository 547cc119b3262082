//! What can't be, said before anything is made; and what is not ship's, left alone.

use super::*;

/// The plan's quote refuses, and nothing has been written.
#[track_caller]
fn refuses(aws: &Aws, wish: &Wish, words: &[&str]) {
    aws.forget_requests();
    let run = Run::new(aws);
    let error = run.try_up(wish).expect_err("this can't be");
    assert!(
        matches!(error, CloudError::Impossible { .. } | CloudError::Refused { input: true, .. }),
        "{error:?}"
    );
    says(error, words);
    assert!(aws.writes().is_empty(), "{:?}", aws.writes());
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn wrong_input_is_refused_before_anything_is_made() {
    let aws = Aws::start();
    let with = |change: fn(&mut Wish)| {
        let mut wish = little();
        change(&mut wish);
        wish
    };
    refuses(
        &aws,
        &with(|wish| wish.size = "t3.smal".into()),
        &["`server.size: t3.smal` is no size that eu-central-1 offers", "did you mean `t3.small`?"],
    );
    refuses(
        &aws,
        &with(|wish| wish.image = "debian-21".into()),
        &["`server.image: debian-21` is no image", "did you mean `debian-12`?"],
    );
    refuses(
        &aws,
        &with(|wish| wish.image = "ubuntu-22.04".into()),
        &["there is no image ubuntu-22.04 for amd64 in eu-central-1"],
    );
    refuses(
        &aws,
        &with(|wish| wish.image = "ami-0deb0000000000099".into()),
        &["ami-0deb0000000000099", "an AMI belongs to one region"],
    );
    refuses(
        &aws,
        &with(|wish| wish.image = "ami-0deb0000000000064".into()),
        &["is for arm64, and `server.size` is a machine with x86_64"],
    );
    refuses(
        &aws,
        &with(|wish| wish.subnet = Some("subnet-0123456789abcdef0".into())),
        &["subnet-0123456789abcdef0", "is `server.region` the region"],
    );
    refuses(
        &aws,
        &with(|wish| wish.network = Some("vpc-0123456789abcdef0".into())),
        &["the VPC vpc-0123456789abcdef0 has no subnet in eu-central-1"],
    );
    let old = with(|wish| {
        wish.size = "t2.small".into();
        wish.volume_gb = Some(10);
    });
    refuses(&aws, &old, &["`server.size: t2.small` gives volumes no names"]);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_vpc_that_the_internet_does_not_reach_is_refused_and_one_that_it_reaches_is_taken() {
    let aws = Aws::start();
    let (vpc, subnet) = private_vpc(&aws);
    let wish = Wish { network: Some(vpc.clone()), ..little() };
    refuses(&aws, &wish, &["the internet does not reach the VPC", "no route to an internet gateway"]);

    lead_to_the_internet(&aws, &vpc, &subnet);
    let run = Run::new(&aws);
    run.up(&wish);
    let server = run.look(&wish).server.unwrap();
    assert_eq!((server.network, server.subnet), (Some(vpc), Some(subnet)));
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn an_account_without_a_default_vpc_is_told_how_to_get_one() {
    let aws = Aws::start();
    for subnet in texts(&aws.ec2("DescribeSubnets", &[]), "subnetId") {
        aws.ec2("DeleteSubnet", &[("SubnetId", &subnet)]);
    }
    refuses(
        &aws,
        &little(),
        &["no default VPC with subnets in eu-central-1", "aws ec2 create-default-vpc --region eu-central-1"],
    );
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_server_in_another_region_is_not_made_twice() {
    let aws = Aws::start();
    let ireland = Run::with(&aws, "eu-west-1", patience());
    let wish = Wish { region: Some("eu-west-1".into()), image: "ami-0deb0000000000012".into(), ..little() };
    ireland.up(&wish);
    refuses(
        &aws,
        &little(),
        &[
            "the server of library/default is in eu-west-1",
            "a second one in eu-central-1",
            "`server.region: eu-west-1`",
        ],
    );
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn two_servers_with_the_tag_are_an_error_that_names_both() {
    let aws = Aws::start();
    let ours = |_| vec![("ship".to_owned(), "library/default".to_owned())];
    aws.others(2, ours);
    let error = Run::new(&aws).try_up(&little()).unwrap_err();
    let ids: Vec<String> = aws.instances().into_iter().map(|instance| instance.id).collect();
    says(error, &["2 instances carry the tag `ship` = `library/default`", &ids[0], &ids[1]]);
}

/// Other people's servers, some with tags that look like ours.
#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_full_account_stays_as_it_is() {
    let aws = Aws::start();
    let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    aws.others(250, |n| match n % 6 {
        0 => pair("ship", "library/staging"),
        1 => pair("ship", "library/default2"),
        2 => pair("Ship", "library/default"),
        3 => pair("Name", "library"),
        4 => pair("ship", "xlibrary/default"),
        _ => pair("team", "web"),
    });
    let before: BTreeSet<String> = aws.instances().into_iter().map(|instance| instance.id).collect();
    aws.ec2("CreateSecurityGroup", &[("GroupName", "library"), ("GroupDescription", "theirs")]);
    aws.ec2("AllocateAddress", &[("Domain", "vpc")]);
    let tagged = [
        ("AvailabilityZone", "eu-central-1a"),
        ("Size", "8"),
        ("TagSpecification.1.ResourceType", "volume"),
        ("TagSpecification.1.Tag.1.Key", "ship"),
        ("TagSpecification.1.Tag.1.Value", "library/staging"),
    ];
    aws.ec2("CreateVolume", &tagged);
    let theirs = |action: &str, id: &str| -> BTreeSet<String> {
        texts(&aws.ec2(action, &[]), id).into_iter().collect()
    };
    let rest = || {
        [
            theirs("DescribeSecurityGroups", "groupId"),
            theirs("DescribeAddresses", "allocationId"),
            theirs("DescribeKeyPairs", "keyPairId"),
        ]
    };
    let (groups, volumes) = (rest(), theirs("DescribeVolumes", "volumeId"));

    let run = Run::new(&aws);
    let wish = Wish { settings: Settings::default(), ..everything() };
    run.up(&wish);
    assert_one_of_each(&aws);
    assert_eq!(run.things().len(), 5, "{:?}", run.things());
    aws.forget_requests();
    run.destroy();
    let gone: BTreeSet<String> = aws
        .instances()
        .into_iter()
        .filter(|instance| matches!(instance.state.as_str(), "terminated" | "shutting-down"))
        .map(|instance| instance.id)
        .collect();
    assert_eq!(gone.intersection(&before).count(), 0);
    assert_eq!(rest(), groups);
    assert!(volumes.is_subset(&theirs("DescribeVolumes", "volumeId")));
    assert_eq!(aws.requests_for("TerminateInstances").len(), 1);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn what_is_protected_is_not_destroyed() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = Wish { settings: Settings { protected: true, ..Settings::default() }, ..little() };
    run.up(&wish);
    let server = run.things().into_iter().next().unwrap();
    let words = ["is protected against termination", "`server.termination_protection: false`"];
    says(run.try_remove(&server).unwrap_err(), &words);
    let other = Wish { image: "ubuntu-24.04".into(), ..wish.clone() };
    says(run.runtime.block_on(run.converge(&other, true)).unwrap_err(), &words);
    assert_eq!(census(&aws)["instances"].len(), 1);
    run.up(&Wish { settings: Settings::default(), ..wish });
    run.destroy();
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn only_what_carries_exactly_the_tag_is_removed() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    run.up(&little());
    let server = run.things().into_iter().next().unwrap();
    let retag =
        [("ResourceId.1", server.id.as_str()), ("Tag.1.Key", "ship"), ("Tag.1.Value", "library/staging")];
    aws.ec2("CreateTags", &retag);
    aws.forget_requests();
    run.try_remove(&server).unwrap();
    assert!(aws.writes().is_empty(), "it is somebody else's now");
    // What is gone already is no error.
    let gone = Thing { id: "i-0123456789abcdef0".into(), ..server };
    run.try_remove(&gone).unwrap();
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_name_that_somebody_else_has_is_not_taken_over() {
    let aws = Aws::start();
    let name = ("GroupName", "ship.library.default");
    aws.ec2("CreateSecurityGroup", &[name, ("GroupDescription", "theirs")]);
    let error = Run::new(&aws).try_up(&little()).unwrap_err();
    says(error, &["a security group ship.library.default is in vpc-", "not with ship's tag"]);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn host_keys_come_and_go_in_tags() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    run.up(&little());
    let server = run.look(&little()).server.unwrap();
    let own = "ab".repeat(32);
    run.runtime.block_on(run.ec2.add_host_key(&owner(), &server, &own)).unwrap();
    let both = run.look(&little()).server.unwrap();
    assert_eq!((both.birth_key, both.host_key), (server.birth_key.clone(), Some(own.clone())));
    run.runtime.block_on(run.ec2.drop_birth_key(&owner(), &server)).unwrap();
    let one = run.look(&little()).server.unwrap();
    assert_eq!((one.birth_key, one.host_key), (None, Some(own)));
    assert_eq!(run.plan(&little()), []);
}

#[test]
#[ignore = "needs moto: scripts/test runs it"]
fn a_volume_that_somebody_attached_elsewhere_stays_there() {
    let aws = Aws::start();
    let run = Run::new(&aws);
    let wish = Wish { volume_gb: Some(10), ..little() };
    run.up(&wish);
    let found = run.look(&wish);
    let (server, volume) = (found.server.unwrap().id, found.volume.unwrap().id);
    aws.others(1, |_| Vec::new());
    let other = aws.instances().into_iter().find(|instance| instance.id != server).unwrap().id;
    let device = [("VolumeId", volume.as_str()), ("Device", "/dev/sdf")];
    aws.ec2("DetachVolume", &[&device[..], &[("InstanceId", server.as_str())]].concat());
    aws.ec2("AttachVolume", &[&device[..], &[("InstanceId", other.as_str())]].concat());
    aws.forget_requests();
    let error = run.try_up(&wish).unwrap_err();
    says(error, &["is attached to", &other, "aws ec2 detach-volume --region eu-central-1"]);
    assert!(aws.writes().is_empty());
}
