//! Every action that ship asks of EC2: the one list behind the calls, the messages and docs/ec2-policy.json.

use crate::aws::Action;

macro_rules! actions {
    ($($name:ident = $action:literal;)*) => {
        $(pub(super) const $name: Action = Action(concat!("ec2:", $action));)*

        /// All of them.
        pub const ALL: &[Action] = &[$($name),*];
    };
}

actions! {
    ALLOCATE_ADDRESS = "AllocateAddress";
    ASSOCIATE_ADDRESS = "AssociateAddress";
    ATTACH_VOLUME = "AttachVolume";
    AUTHORIZE_INGRESS = "AuthorizeSecurityGroupIngress";
    CREATE_SECURITY_GROUP = "CreateSecurityGroup";
    CREATE_TAGS = "CreateTags";
    CREATE_VOLUME = "CreateVolume";
    DELETE_KEY_PAIR = "DeleteKeyPair";
    DELETE_SECURITY_GROUP = "DeleteSecurityGroup";
    DELETE_TAGS = "DeleteTags";
    DELETE_VOLUME = "DeleteVolume";
    DESCRIBE_ADDRESSES = "DescribeAddresses";
    DESCRIBE_IMAGES = "DescribeImages";
    DESCRIBE_INSTANCE_ATTRIBUTE = "DescribeInstanceAttribute";
    DESCRIBE_INSTANCE_TYPES = "DescribeInstanceTypes";
    DESCRIBE_INSTANCE_TYPE_OFFERINGS = "DescribeInstanceTypeOfferings";
    DESCRIBE_INSTANCES = "DescribeInstances";
    DESCRIBE_KEY_PAIRS = "DescribeKeyPairs";
    DESCRIBE_REGIONS = "DescribeRegions";
    DESCRIBE_ROUTE_TABLES = "DescribeRouteTables";
    DESCRIBE_SECURITY_GROUPS = "DescribeSecurityGroups";
    DESCRIBE_SUBNETS = "DescribeSubnets";
    DESCRIBE_VOLUMES = "DescribeVolumes";
    DISASSOCIATE_ADDRESS = "DisassociateAddress";
    IMPORT_KEY_PAIR = "ImportKeyPair";
    MODIFY_INSTANCE_ATTRIBUTE = "ModifyInstanceAttribute";
    MODIFY_VOLUME = "ModifyVolume";
    RELEASE_ADDRESS = "ReleaseAddress";
    REVOKE_INGRESS = "RevokeSecurityGroupIngress";
    RUN_INSTANCES = "RunInstances";
    START_INSTANCES = "StartInstances";
    STOP_INSTANCES = "StopInstances";
    TERMINATE_INSTANCES = "TerminateInstances";
}
