//! EC2's answers as data.

use aws_sdk_ec2::types::builders::InstanceBuilder;
use aws_sdk_ec2::types::{
    Address, ArchitectureValues, EbsInstanceBlockDevice, GroupIdentifier, Instance,
    InstanceBlockDeviceMapping, InstanceState, InstanceStateName, InstanceType, SecurityGroup, StateReason,
    Volume, VolumeAttachment, VolumeAttachmentState,
};

use super::*;
use crate::cloud::State;
use crate::config::{Defaults, load};
use crate::project::{Tree, detect};

/// The wish of a configuration.
pub(super) fn wish(server: &str) -> Wish {
    let files = ["manage.py", "library/settings.py", "library/wsgi.py", "requirements.txt"];
    let read = |path: &str| {
        let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'library.settings')";
        Some(if path == "manage.py" { manage.to_owned() } else { "django".to_owned() })
    };
    let project = detect(&Tree::new(files, read));
    let text = format!("app: library\nserver: {{provider: ec2, {server}}}\n");
    let config = load("ship.yml", &text, None, &project, &Defaults::default()).unwrap();
    Wish::of(&config, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGg dev@laptop").unwrap()
}

fn instance(id: &str) -> InstanceBuilder {
    let disk = EbsInstanceBlockDevice::builder().volume_id("vol-root").build();
    Instance::builder()
        .instance_id(id)
        .state(InstanceState::builder().name(InstanceStateName::Running).build())
        .instance_type(InstanceType::T3Small)
        .architecture(ArchitectureValues::X8664)
        .vpc_id("vpc-1")
        .subnet_id("subnet-1")
        .public_ip_address("203.0.113.7")
        .root_device_name("/dev/xvda")
        .block_device_mappings(
            InstanceBlockDeviceMapping::builder().device_name("/dev/xvda").ebs(disk).build(),
        )
        .tags(names::tag("ship", "library/default"))
        .tags(names::tag("Name", "library"))
        .tags(names::tag("ship-image", "debian-12"))
        .tags(names::tag("ship-birth-key", "00ff"))
        .tags(names::tag("ship-host-key", ""))
        .tags(names::tag("team", "web"))
}

#[test]
fn an_instance_is_read() {
    let server = look::server(&instance("i-1").build(), "eu-central-1").unwrap();
    assert_eq!(
        (server.id.as_str(), server.region.as_str(), server.size.as_str()),
        ("i-1", "eu-central-1", "t3.small")
    );
    assert_eq!(server.image.as_deref(), Some("debian-12"));
    assert_eq!(server.ipv4.unwrap().to_string(), "203.0.113.7");
    assert_eq!((server.birth_key.as_deref(), server.host_key), (Some("00ff"), None));
    assert_eq!(server.settings.labels, [("team".to_owned(), "web".to_owned())].into());
    let in_state = |state: InstanceStateName| {
        let state = InstanceState::builder().name(state).build();
        look::state(&instance("i-1").state(state).build())
    };
    assert_eq!(in_state(InstanceStateName::Pending), Some(State::Starting));
    assert_eq!(in_state(InstanceStateName::Stopping), Some(State::Stopping));
    assert_eq!(in_state(InstanceStateName::Stopped), Some(State::Stopped));
    assert_eq!(in_state(InstanceStateName::ShuttingDown), None);
    assert_eq!(in_state(InstanceStateName::Terminated), None);
}

#[test]
fn two_servers_are_named() {
    let owner = wish("").owner;
    let two = vec![instance("i-1").build(), instance("i-2").build()];
    let error = look::one(&owner, "instances", two, Instance::instance_id).unwrap_err();
    assert_eq!(error.to_string(), "2 instances carry the tag `ship` = `library/default`: i-1, i-2");
    let none = look::one(&owner, "instances", Vec::<Instance>::new(), Instance::instance_id);
    assert_eq!(none, Ok(None));
}

#[test]
fn the_group_of_the_servers_own_vpc() {
    let group = |id: &str, vpc: &str| SecurityGroup::builder().group_id(id).vpc_id(vpc).build();
    let groups = [group("sg-2", "vpc-2"), group("sg-1", "vpc-1")];
    let id = |found: Option<&SecurityGroup>| found.and_then(|group| group.group_id()).map(str::to_owned);
    let there = instance("i-1").build();
    assert_eq!(id(look::group_for(&wish("vpc: vpc-2"), Some(&there), &groups)).as_deref(), Some("sg-1"));
    assert_eq!(id(look::group_for(&wish("vpc: vpc-1"), None, &groups)).as_deref(), Some("sg-1"));
    assert_eq!(id(look::group_for(&wish("vpc: vpc-3"), None, &groups)), None);
    assert_eq!(id(look::group_for(&wish(""), None, &groups)).as_deref(), Some("sg-2"));

    assert!(look::firewall(&groups[1], None).applied, "the next server will be behind it");
    assert!(!look::firewall(&groups[1], Some(&there)).applied);
    let behind = instance("i-1").security_groups(GroupIdentifier::builder().group_id("sg-1").build()).build();
    assert!(look::firewall(&groups[1], Some(&behind)).applied);
}

#[test]
fn the_address_that_leads_to_the_server_is_the_servers() {
    let address = |id: &str, server: Option<&str>| {
        let address = Address::builder().allocation_id(id).public_ip("203.0.113.9");
        address.set_instance_id(server.map(str::to_owned)).build()
    };
    let both = [address("eipalloc-1", None), address("eipalloc-2", Some("i-1"))];
    assert_eq!(look::pick_address(&both, Some("i-1")).unwrap().id, "eipalloc-2");
    let other = look::pick_address(&both, Some("i-9")).unwrap();
    assert_eq!((other.id.as_str(), other.server), ("eipalloc-1", None));
    assert_eq!(look::pick_address(&[], Some("i-1")), None);
}

fn volume(id: &str, disk: &str, server: Option<(&str, VolumeAttachmentState)>) -> Volume {
    let mut volume = Volume::builder().volume_id(id).size(10).tags(names::tag(names::DISK, disk));
    if let Some((server, state)) = server {
        volume = volume.attachments(VolumeAttachment::builder().instance_id(server).state(state).build());
    }
    volume.build()
}

#[test]
fn a_root_disk_is_no_data_volume_and_two_data_volumes_are_not_guessed_about() {
    let owner = wish("").owner;
    let root = volume("vol-root", "root", Some(("i-1", VolumeAttachmentState::Attached)));
    assert!(look::is_root_of(&root, &instance("i-1").build()));
    let data = |server| volume("vol-0abc", "data", server);
    let picked = look::pick_volume(&owner, &[root.clone(), data(None)], Some("i-1")).unwrap().unwrap();
    assert_eq!(picked.device, "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0abc");
    assert_eq!((picked.size_gb, picked.server), (10, None));
    assert_eq!(look::pick_volume(&owner, std::slice::from_ref(&root), Some("i-1")), Ok(None));

    let leaving = data(Some(("i-1", VolumeAttachmentState::Detaching)));
    assert_eq!(look::attached_to(&leaving), None);
    let here = data(Some(("i-1", VolumeAttachmentState::Attaching)));
    let other = volume("vol-2", "data", None);
    let both = [root, other.clone(), here];
    assert_eq!(look::pick_volume(&owner, &both, Some("i-1")).unwrap().unwrap().id, "vol-0abc");
    let error = look::pick_volume(&owner, &[other, data(None)], Some("i-1")).unwrap_err();
    assert!(error.to_string().contains("vol-2, vol-0abc"), "{error}");
}

#[test]
fn another_architecture_is_an_obstacle() {
    let there = instance("i-1").build();
    let obstacle = |architecture| power::obstacle(&there, &wish("size: t4g.small"), architecture);
    assert_eq!(obstacle(size::Architecture::Amd64), None);
    let words = obstacle(size::Architecture::Arm64).unwrap();
    assert_eq!(words, "t3.small is x86_64, t4g.small is arm64: no server changes its architecture");
}

#[test]
fn an_instance_that_stops_again_says_why() {
    let reason =
        StateReason::builder().code("Client.InvalidKMSKey").message("The KMS key is disabled").build();
    let error = power::failed_to_start(&instance("i-1").state_reason(reason).build());
    assert_eq!(error.to_string(), "EC2 refused to start the instance i-1: The KMS key is disabled");
}

#[test]
fn user_data_is_packed_only_when_it_is_long() {
    use base64::Engine as _;
    let decode = |text: String| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let short = "#cloud-config\n".to_owned();
    assert_eq!(decode(server::user_data(&short).unwrap()), short.as_bytes());
    let fits = "x".repeat(16 * 1024);
    assert_eq!(decode(server::user_data(&fits).unwrap()), fits.as_bytes());
    let packed = decode(server::user_data(&"x".repeat(16 * 1024 + 1)).unwrap());
    assert_eq!(packed[..2], [0x1f, 0x8b]);
    // Noise does not pack.
    let noise: String = (0..700_u32).map(|n| crate::resources::file::sha256(&n.to_be_bytes())).collect();
    let error = server::user_data(&noise).unwrap_err();
    assert!(error.to_string().contains("EC2 takes 16384"), "{error}");
    assert!(!error.to_string().contains(&noise[..8]));
}

/// Remembers where calls go, and lets none of them leave.
#[derive(Debug, Clone, Default)]
struct Border(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl aws_sdk_ec2::config::Intercept for Border {
    fn name(&self) -> &'static str {
        "border"
    }

    fn read_before_transmit(
        &self,
        context: &aws_sdk_ec2::config::interceptors::BeforeTransmitInterceptorContextRef<'_>,
        _: &aws_sdk_ec2::config::RuntimeComponents,
        _: &mut aws_sdk_ec2::config::ConfigBag,
    ) -> Result<(), aws_sdk_ec2::error::BoxError> {
        let request = context.request();
        let signed = request.headers().get("authorization").unwrap_or_default();
        let scope = signed.split('/').nth(2).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{} {scope}", request.uri()));
        Err("nothing leaves".into())
    }
}

#[tokio::test]
async fn another_region_is_asked_where_it_is() {
    let border = Border::default();
    let credentials = aws_sdk_ec2::config::Credentials::new("id", "secret", None, None, "test");
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(aws_sdk_ec2::config::BehaviorVersion::latest())
        .region(aws_sdk_ec2::config::Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .interceptor(border.clone())
        .build();
    let ec2 = Ec2 {
        client: Client::from_conf(config),
        region: "eu-central-1".into(),
        patience: Patience::default(),
    };
    let owner = wish("").owner;
    assert!(ec2.instances_in(None, &owner, Vec::new()).await.is_err());
    assert!(ec2.instances_in(Some("eu-west-1"), &owner, Vec::new()).await.is_err());
    let asked = border.0.lock().unwrap().clone();
    let here = |region: &str| format!("https://ec2.{region}.amazonaws.com/ {region}");
    assert_eq!(asked, [here("eu-central-1"), here("eu-west-1")]);
}
