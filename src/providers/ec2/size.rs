//! What an instance type is, and whether it can be had.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{
    ArchitectureType, ArchitectureValues, EbsNvmeSupport, InstanceType, InstanceTypeInfo, LocationType,
};

use super::{Ec2, actions, names};
use crate::nearest::nearest;
use crate::providers::error::CloudError;

/// What a machine's programs are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Intel and AMD.
    Amd64,
    /// Graviton.
    Arm64,
}

impl Architecture {
    /// Debian's word, which image names use.
    pub(super) fn word(self) -> &'static str {
        match self {
            Architecture::Amd64 => "amd64",
            Architecture::Arm64 => "arm64",
        }
    }

    /// EC2's word.
    pub(super) fn ec2(self) -> ArchitectureValues {
        match self {
            Architecture::Amd64 => ArchitectureValues::X8664,
            Architecture::Arm64 => ArchitectureValues::Arm64,
        }
    }
}

/// An instance type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) architecture: Architecture,
    /// Memory in MiB.
    pub(super) memory_mb: u64,
    /// Virtual processors.
    pub(super) cores: u32,
    /// Whether volumes have names below `/dev/disk/by-id`.
    pub(super) nvme: bool,
}

impl Ec2 {
    /// Looks up what a size is.
    pub(super) async fn size(&self, name: &str) -> Result<Size, CloudError> {
        let call = self.reads(actions::DESCRIBE_INSTANCE_TYPES, format!("look up the size {name}"));
        let kind = InstanceType::from(name);
        let answer = self.client.describe_instance_types().instance_types(kind).send().await;
        let answer = match answer.map_err(|error| call.fail(&error)) {
            Err(error) if error.code() == Some("InvalidInstanceType") => {
                return Err(self.unknown(name).await);
            }
            answer => answer?,
        };
        let Some(info) = answer.instance_types().first() else { return Err(self.unknown(name).await) };
        read(name, info)
    }

    /// The zones of the region that offer a size.
    pub(super) async fn zones(&self, size: &str) -> Result<BTreeSet<String>, CloudError> {
        let call = self
            .reads(actions::DESCRIBE_INSTANCE_TYPE_OFFERINGS, format!("look up which zones offer {size}"));
        let answer = self
            .client
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(names::filter("instance-type", [size]))
            .send()
            .await
            .map_err(|error| call.fail(&error))?;
        let zones = answer.instance_type_offerings().iter().filter_map(|offer| offer.location());
        Ok(zones.map(str::to_owned).collect())
    }

    /// Says that the region doesn't offer the size, and which one was probably meant.
    async fn unknown(&self, name: &str) -> CloudError {
        let mut hints = Vec::new();
        // An aid for the message: when this fails, the message is still right.
        if let Ok(offered) = self.offered().await
            && let Some(meant) = nearest(name, offered.iter().map(String::as_str))
        {
            hints.push(format!("did you mean `{meant}`?"));
        }
        hints.push("sizes: https://aws.amazon.com/ec2/instance-types/".to_owned());
        let region = &self.region;
        CloudError::Impossible {
            message: format!("`server.size: {name}` is no size that {region} offers"),
            hints,
        }
    }

    async fn offered(&self) -> Result<Vec<String>, CloudError> {
        let call = self.reads(actions::DESCRIBE_INSTANCE_TYPE_OFFERINGS, "list the sizes".to_owned());
        let mut pages = self.client.describe_instance_type_offerings().into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(offer) = pages.next().await {
            let offer = offer.map_err(|error| call.fail(&error))?;
            names.extend(offer.instance_type().map(|kind| kind.as_str().to_owned()));
        }
        Ok(names)
    }
}

fn read(name: &str, info: &InstanceTypeInfo) -> Result<Size, CloudError> {
    let architectures = info.processor_info().map(|info| info.supported_architectures()).unwrap_or_default();
    let architecture = if architectures.contains(&ArchitectureType::X8664) {
        Architecture::Amd64
    } else if architectures.contains(&ArchitectureType::Arm64) {
        Architecture::Arm64
    } else {
        return Err(CloudError::Impossible {
            message: format!("`server.size: {name}` is a machine that neither Debian nor Ubuntu run on"),
            hints: vec!["t3, m6i and the like are x86_64; t4g, m7g and the like are arm64".into()],
        });
    };
    let memory = info.memory_info().and_then(|memory| memory.size_in_mib()).unwrap_or_default();
    let cores = info.v_cpu_info().and_then(|cpus| cpus.default_v_cpus()).unwrap_or_default();
    let nvme = info.ebs_info().and_then(|ebs| ebs.nvme_support());
    Ok(Size {
        architecture,
        memory_mb: u64::try_from(memory).unwrap_or_default(),
        cores: u32::try_from(cores).unwrap_or_default(),
        nvme: nvme.is_none_or(|support| *support != EbsNvmeSupport::Unsupported),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{EbsInfo, MemoryInfo, ProcessorInfo, VCpuInfo};

    use super::*;

    fn info(architecture: ArchitectureType) -> InstanceTypeInfo {
        InstanceTypeInfo::builder()
            .processor_info(
                ProcessorInfo::builder()
                    .supported_architectures(ArchitectureType::I386)
                    .supported_architectures(architecture)
                    .build(),
            )
            .memory_info(MemoryInfo::builder().size_in_mib(2048).build())
            .v_cpu_info(VCpuInfo::builder().default_v_cpus(2).build())
            .ebs_info(EbsInfo::builder().nvme_support(EbsNvmeSupport::Required).build())
            .build()
    }

    #[test]
    fn an_instance_type_is_read() {
        let size = read("t3.small", &info(ArchitectureType::X8664)).unwrap();
        let expected = Size { architecture: Architecture::Amd64, memory_mb: 2048, cores: 2, nvme: true };
        assert_eq!(size, expected);
        let size = read("t4g.small", &info(ArchitectureType::Arm64)).unwrap();
        assert_eq!(size.architecture, Architecture::Arm64);
        let error = read("mac1.metal", &info(ArchitectureType::X8664Mac)).unwrap_err();
        assert!(error.to_string().contains("neither Debian nor Ubuntu"), "{error}");
    }
}
