//! From `debian-12` to an AMI.

use aws_sdk_ec2::types::{ArchitectureValues, DeviceType, Image, ImageState, PlatformValues};

use super::size::Architecture;
use super::{Ec2, actions, names};
use crate::nearest::nearest;
use crate::providers::error::CloudError;

/// Images by the name that ship.yml has for them.
const KNOWN: [Known; 4] = [
    Known::debian("debian-12", "debian-12-ARCH-*"),
    Known::debian("debian-13", "debian-13-ARCH-*"),
    Known::ubuntu("ubuntu-22.04", "ubuntu/images/hvm-ssd*/ubuntu-*-22.04-ARCH-server-*"),
    Known::ubuntu("ubuntu-24.04", "ubuntu/images/hvm-ssd*/ubuntu-*-24.04-ARCH-server-*"),
];

#[derive(Debug, Clone, Copy)]
struct Known {
    name: &'static str,
    /// The account that publishes it.
    publisher: &'static str,
    /// Names of its builds; `ARCH` stands for the architecture.
    builds: &'static str,
}

impl Known {
    /// Published as <https://wiki.debian.org/Cloud/AmazonEC2Image> says.
    const fn debian(name: &'static str, builds: &'static str) -> Self {
        Self { name, publisher: "136693071363", builds }
    }

    /// Published as <https://documentation.ubuntu.com/aws/en/latest/aws-how-to/instances/find-ubuntu-images/> says.
    const fn ubuntu(name: &'static str, builds: &'static str) -> Self {
        Self { name, publisher: "099720109477", builds }
    }
}

/// An AMI that a server can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its id.
    pub(super) ami: String,
    /// What its root disk is called.
    pub(super) root_device: String,
    /// The smallest root disk that holds it, in GiB.
    pub(super) least_gb: u32,
}

impl Ec2 {
    /// Finds the newest build of an image, or checks the AMI that is named.
    pub(super) async fn image(&self, wished: &str, on: Architecture) -> Result<Chosen, CloudError> {
        let call = self.reads(actions::DESCRIBE_IMAGES, format!("look for the image {wished}"));
        let ask = self.client.describe_images();
        let ask = if wished.starts_with("ami-") {
            ask.image_ids(wished)
        } else {
            let known = known(wished)?;
            let builds = known.builds.replace("ARCH", on.word());
            ask.owners(known.publisher)
                .filters(names::filter("name", [builds.as_str()]))
                .filters(names::filter("architecture", [on.ec2().as_str()]))
                .filters(names::filter("state", ["available"]))
        };
        let all: Result<Vec<Image>, _> = ask.into_paginator().items().send().try_collect().await;
        choose(wished, on, &self.region, &all.map_err(|error| call.fail(&error))?)
    }
}

fn known(wished: &str) -> Result<Known, CloudError> {
    KNOWN.into_iter().find(|known| known.name == wished).ok_or_else(|| {
        let names = KNOWN.map(|known| known.name);
        let meant = nearest(wished, names).map(|name| format!("did you mean `{name}`?"));
        CloudError::Impossible {
            message: format!("`server.image: {wished}` is no image that ship knows at EC2"),
            hints: meant.into_iter().chain([format!("{}, or the id of an AMI", names.join(", "))]).collect(),
        }
    })
}

fn choose(wished: &str, on: Architecture, region: &str, images: &[Image]) -> Result<Chosen, CloudError> {
    let impossible =
        |message: String, hint: &str| CloudError::Impossible { message, hints: vec![hint.into()] };
    let newest = images
        .iter()
        .filter(|image| image.state() == Some(&ImageState::Available))
        .max_by_key(|image| (image.creation_date(), image.image_id()));
    let Some(image) = newest else {
        return Err(impossible(
            format!("there is no image {wished} for {} in {region}", on.word()),
            "another `server.image`, or the id of an AMI of this region",
        ));
    };
    if image.architecture() != Some(&on.ec2()) {
        let is = image.architecture().map_or("unknown", ArchitectureValues::as_str);
        return Err(impossible(
            format!(
                "the image {wished} is for {is}, and `server.size` is a machine with {}",
                on.ec2().as_str()
            ),
            "t3, m6i and the like are x86_64; t4g, m7g and the like are arm64",
        ));
    }
    if image.platform() == Some(&PlatformValues::Windows) {
        return Err(impossible(format!("the image {wished} is Windows"), "ship needs Debian or Ubuntu"));
    }
    if image.root_device_type().is_some_and(|kind| *kind != DeviceType::Ebs) {
        return Err(impossible(
            format!("the image {wished} has no root disk that stays"),
            "take an image whose root device is EBS",
        ));
    }
    let (Some(ami), Some(root)) = (image.image_id(), image.root_device_name()) else {
        return Err(impossible(
            format!("EC2 does not tell what the image {wished} is made of"),
            "try another",
        ));
    };
    let disk = image.block_device_mappings().iter().find(|disk| disk.device_name() == Some(root));
    let least = disk.and_then(|disk| disk.ebs()).and_then(|ebs| ebs.volume_size()).unwrap_or_default();
    Ok(Chosen {
        ami: ami.to_owned(),
        root_device: root.to_owned(),
        least_gb: u32::try_from(least).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::builders::ImageBuilder;
    use aws_sdk_ec2::types::{BlockDeviceMapping, EbsBlockDevice};

    use super::*;

    fn image(id: &str, created: &str) -> ImageBuilder {
        let ebs = EbsBlockDevice::builder().volume_size(8).build();
        Image::builder()
            .image_id(id)
            .creation_date(created)
            .state(ImageState::Available)
            .architecture(ArchitectureValues::X8664)
            .root_device_type(DeviceType::Ebs)
            .root_device_name("/dev/xvda")
            .block_device_mappings(BlockDeviceMapping::builder().device_name("/dev/xvda").ebs(ebs).build())
    }

    fn pick(images: Vec<ImageBuilder>) -> Result<Chosen, String> {
        let images: Vec<Image> = images.into_iter().map(ImageBuilder::build).collect();
        choose("debian-12", Architecture::Amd64, "eu-central-1", &images).map_err(|error| error.to_string())
    }

    #[test]
    fn the_newest_build_that_is_available() {
        let chosen = pick(vec![
            image("ami-old", "2025-01-01T00:00:00.000Z"),
            image("ami-new", "2026-08-01T00:00:00.000Z"),
            image("ami-gone", "2026-09-01T00:00:00.000Z").state(ImageState::Deregistered),
            image("ami-mid", "2026-07-31T23:59:59.000Z"),
        ]);
        let expected = Chosen { ami: "ami-new".into(), root_device: "/dev/xvda".into(), least_gb: 8 };
        assert_eq!(chosen, Ok(expected));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let says = |images, words: &str| {
            let error = pick(images).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        let date = "2026-01-01T00:00:00.000Z";
        says(vec![], "there is no image debian-12 for amd64 in eu-central-1");
        says(vec![image("ami-1", date).state(ImageState::Pending)], "there is no image");
        says(
            vec![image("ami-1", date).architecture(ArchitectureValues::Arm64)],
            "is for arm64, and `server.size` is a machine with x86_64",
        );
        says(vec![image("ami-1", date).platform(PlatformValues::Windows)], "is Windows");
        says(
            vec![image("ami-1", date).root_device_type(DeviceType::InstanceStore)],
            "no root disk that stays",
        );
        assert_eq!(known("debian-12").unwrap().publisher, "136693071363");
        let CloudError::Impossible { hints, .. } = known("debain-12").unwrap_err() else { panic!() };
        assert_eq!(hints[0], "did you mean `debian-12`?");
    }
}
