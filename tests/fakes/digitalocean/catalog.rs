//! What DigitalOcean offers to everyone: regions, sizes with their prices, images.
//!
//! Small on purpose, with one of each kind of refusal: a region that is closed, a size that is not sold any more, and a
//! size that one region lacks.

use serde_json::{Value, json};

use crate::boxes::Suite;

/// The regions: slug, name, open for new droplets.
pub const REGIONS: [(&str, &str, bool); 8] = [
    ("nyc1", "New York 1", true),
    ("nyc2", "New York 2", false),
    ("nyc3", "New York 3", true),
    ("sfo3", "San Francisco 3", true),
    ("ams3", "Amsterdam 3", true),
    ("fra1", "Frankfurt 1", true),
    ("lon1", "London 1", true),
    ("sgp1", "Singapore 1", true),
];

/// A size: what a droplet has, and what it costs in US dollars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// `s-1vcpu-1gb`
    pub slug: &'static str,
    /// Megabytes.
    pub memory: u64,
    /// Number of CPUs.
    pub vcpus: u64,
    /// Gigabytes.
    pub disk: u64,
    /// Terabytes a month.
    pub transfer: f64,
    /// A month.
    pub monthly: f64,
    /// An hour.
    pub hourly: f64,
    /// Whether it is sold at all.
    pub available: bool,
    /// An open region that lacks it.
    pub lacking: Option<&'static str>,
}

const SOLD: Size = Size {
    slug: "s-1vcpu-1gb",
    memory: 1024,
    vcpus: 1,
    disk: 25,
    transfer: 1.0,
    monthly: 6.0,
    hourly: 0.00893,
    available: true,
    lacking: None,
};

/// The sizes, smallest first.
pub const SIZES: [Size; 7] = [
    Size {
        slug: "s-1vcpu-512mb-10gb",
        memory: 512,
        disk: 10,
        transfer: 0.5,
        monthly: 4.0,
        hourly: 0.00595,
        ..SOLD
    },
    SOLD,
    Size {
        slug: "s-1vcpu-2gb",
        memory: 2048,
        disk: 50,
        transfer: 2.0,
        monthly: 12.0,
        hourly: 0.01786,
        ..SOLD
    },
    Size {
        slug: "s-2vcpu-2gb",
        memory: 2048,
        vcpus: 2,
        disk: 60,
        transfer: 3.0,
        monthly: 18.0,
        hourly: 0.02679,
        lacking: Some("ams3"),
        ..SOLD
    },
    Size {
        slug: "s-1vcpu-3gb",
        memory: 3072,
        disk: 60,
        transfer: 3.0,
        monthly: 18.0,
        hourly: 0.02679,
        available: false,
        ..SOLD
    },
    Size {
        slug: "s-2vcpu-4gb",
        memory: 4096,
        vcpus: 2,
        disk: 80,
        transfer: 4.0,
        monthly: 24.0,
        hourly: 0.03571,
        ..SOLD
    },
    Size {
        slug: "s-4vcpu-8gb",
        memory: 8192,
        vcpus: 4,
        disk: 160,
        transfer: 5.0,
        monthly: 48.0,
        hourly: 0.07143,
        ..SOLD
    },
];

/// The images: number, slug, distribution, name, and what a box boots for it.
pub const IMAGES: [(u64, &str, &str, &str, Suite); 2] = [
    (133_972_345, "debian-12-x64", "Debian", "12 x64", Suite::Bookworm),
    (194_772_518, "debian-13-x64", "Debian", "13 x64", Suite::Trixie),
];

impl Size {
    /// That size, if there is one.
    pub fn find(slug: &str) -> Option<&'static Self> {
        SIZES.iter().find(|size| size.slug == slug)
    }

    /// Whether a droplet of this size can be made in that region.
    pub fn is_in(&self, region: &str) -> bool {
        self.regions().contains(&region)
    }

    fn regions(&self) -> Vec<&'static str> {
        let offered =
            |&&(slug, _, open): &&(&str, &str, bool)| self.available && open && self.lacking != Some(slug);
        REGIONS.iter().filter(offered).map(|(slug, _, _)| *slug).collect()
    }

    /// As the API shows it.
    pub fn json(&self) -> Value {
        json!({
            "slug": self.slug, "memory": self.memory, "vcpus": self.vcpus, "disk": self.disk,
            "transfer": self.transfer, "price_monthly": self.monthly, "price_hourly": self.hourly,
            "regions": self.regions(), "available": self.available, "description": "Basic",
            "disk_info": disk_info(self.disk),
        })
    }
}

/// A disk of that many gigabytes, as the API shows it.
pub fn disk_info(gigabytes: u64) -> Value {
    json!([{"type": "local", "size": {"amount": gigabytes, "unit": "gib"}}])
}

/// A region as the API shows it.
pub fn region(slug: &str) -> Value {
    let found = REGIONS.iter().find(|(has, _, _)| *has == slug);
    let (slug, name, open) = found.unwrap_or_else(|| panic!("there is no region {slug}"));
    let sizes: Vec<_> = SIZES.iter().filter(|size| size.is_in(slug)).map(|size| size.slug).collect();
    json!({
        "name": name, "slug": slug, "available": open, "sizes": sizes,
        "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
    })
}

/// Whether droplets and addresses can be made there.
pub fn is_open(region: &str) -> bool {
    REGIONS.iter().any(|(slug, _, open)| *slug == region && *open)
}

/// The image with that slug or number.
pub fn image(identifier: &str) -> Option<&'static (u64, &'static str, &'static str, &'static str, Suite)> {
    IMAGES.iter().find(|(id, slug, ..)| *slug == identifier || id.to_string() == identifier)
}

/// An image as the API shows it.
pub fn image_json(identifier: &str) -> Value {
    let (id, slug, distribution, name, _) = image(identifier).expect("an image of the catalog");
    let regions: Vec<_> = REGIONS.iter().map(|(slug, _, _)| *slug).collect();
    json!({
        "id": id, "name": name, "distribution": distribution, "slug": slug, "public": true, "regions": regions,
        "created_at": "2026-02-11T22:00:25Z", "type": "base", "min_disk_size": 7, "size_gigabytes": 0.75,
        "description": format!("{distribution} {name} image"), "tags": [], "status": "available", "error_message": "",
    })
}
