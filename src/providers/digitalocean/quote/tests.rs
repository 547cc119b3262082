use serde_json::json;

use super::*;
use crate::error::Failure;

fn wish(region: &str, size: &str, image: &str) -> Wish {
    cloud::tests::wish(&format!("provider: digitalocean, region: {region}, size: {size}, image: {image}"))
}

fn size(slug: &str, memory: u64, vcpus: u32, disk: u32, price: f64, regions: &[&str]) -> Size {
    Size {
        slug: slug.into(),
        memory,
        vcpus,
        disk,
        price_monthly: price,
        regions: regions.iter().map(|region| (*region).to_owned()).collect(),
        available: true,
    }
}

fn market() -> Market {
    Market {
        account: serde_json::from_value(json!({"droplet_limit": 10, "status": "active"})).unwrap(),
        sizes: vec![
            size("s-1vcpu-512mb-10gb", 512, 1, 10, 4.0, &["fra1", "nyc3"]),
            size("s-1vcpu-1gb", 1024, 1, 25, 6.0, &["fra1", "nyc3"]),
            size("s-1vcpu-2gb", 2048, 1, 50, 12.0, &["fra1"]),
            size("s-2vcpu-2gb", 2048, 2, 60, 18.0, &["nyc3"]),
            size("s-2vcpu-4gb", 4096, 2, 80, 24.0, &["fra1", "nyc3"]),
            Size { available: false, ..size("s-1vcpu-3gb", 3072, 1, 60, 18.0, &[]) },
        ],
        image: serde_json::from_value(
            json!({"regions": ["fra1"], "min_disk_size": 15, "status": "available"}),
        )
        .ok(),
        droplets: 3,
        droplet: None,
    }
}

fn droplet(image: &str, disk: u32) -> Option<Droplet> {
    let tags = ["ship:library:default".to_owned(), format!("ship:library:default:image:{image}")];
    serde_json::from_value(json!({
        "id": 17, "region": {"slug": "fra1"}, "tags": tags, "disk": disk, "size_slug": "s-1vcpu-1gb",
    }))
    .ok()
}

fn refusal(wish: &Wish, market: &Market) -> String {
    Failure::from(judge(wish, market).unwrap_err()).to_string()
}

#[test]
fn a_size_has_a_price() {
    let quote = judge(&wish("fra1", "s-1vcpu-1gb", "debian-12"), &market()).unwrap();
    assert_eq!(quote, Quote { memory_mb: 1024, cores: 1, monthly: Some("6.00 USD".into()), obstacle: None });
}

#[test]
fn what_can_not_be_had_is_said_with_what_can() {
    let locked = serde_json::from_value(json!({"status": "locked", "status_message": "unpaid"})).unwrap();
    let retired = serde_json::from_value(json!({"status": "retired"})).ok();
    let all = [
        refusal(&wish("fra1", "s-1vpcu-1gb", "debian-12"), &market()),
        refusal(&wish("fra9", "s-1vcpu-1gb", "debian-12"), &market()),
        refusal(&wish("fra1", "s-2vcpu-2gb", "debian-12"), &market()),
        refusal(&wish("fra1", "s-1vcpu-3gb", "debian-12"), &market()),
        refusal(&wish("nyc3", "s-1vcpu-1gb", "debian-12"), &market()),
        refusal(&wish("fra1", "s-1vcpu-512mb-10gb", "debian-12"), &market()),
        refusal(&wish("fra1", "s-1vcpu-1gb", "debian-1"), &Market { image: None, ..market() }),
        refusal(&wish("fra1", "s-1vcpu-1gb", "debian-9"), &Market { image: retired, ..market() }),
        refusal(&wish("fra1", "s-1vcpu-1gb", "debian-12"), &Market { account: locked, ..market() }),
        refusal(&wish("fra1", "s-1vcpu-1gb", "debian-12"), &Market { droplets: 10, ..market() }),
    ];
    insta::assert_snapshot!(all.join("\n\n"), @r#"
        error: `server.size`: DigitalOcean has no size `s-1vpcu-1gb`
        hint: did you mean `s-1vcpu-1gb`?
        hint: `doctl compute size list` lists them

        error: `server.region`: DigitalOcean has no region `fra9` that takes new droplets
        hint: did you mean `fra1`?
        hint: there are fra1, nyc3

        error: `server.size`: s-2vcpu-2gb is not to be had in fra1 now
        hint: s-2vcpu-2gb is to be had in nyc3
        hint: fra1 has s-1vcpu-2gb (12.00 USD a month), s-1vcpu-1gb (6.00 USD a month), s-1vcpu-512mb-10gb (4.00 USD a month)

        error: `server.size`: s-1vcpu-3gb is not to be had in fra1 now
        hint: fra1 has s-1vcpu-2gb (12.00 USD a month), s-2vcpu-4gb (24.00 USD a month), s-1vcpu-1gb (6.00 USD a month)

        error: `server.image`: debian-12 is not in nyc3, only in fra1
        hint: such as debian-12, debian-13, ubuntu-22.04, ubuntu-24.04

        error: `server.image`: debian-12 needs a disk of 15 GiB; s-1vcpu-512mb-10gb has 10 GiB
        hint: such as debian-12, debian-13, ubuntu-22.04, ubuntu-24.04

        error: `server.image`: debian-1 is no image that this account has at DigitalOcean
        hint: such as debian-12, debian-13, ubuntu-22.04, ubuntu-24.04

        error: `server.image`: debian-9 is retired: no new droplets are made from it
        hint: such as debian-12, debian-13, ubuntu-22.04, ubuntu-24.04

        error: the DigitalOcean account is locked: unpaid
        hint: see https://cloud.digitalocean.com, or write to its support

        error: the DigitalOcean account has 10 droplets and may have 10
        hint: remove a droplet, or ask for more at https://cloud.digitalocean.com/account/team/droplet_limit_increase
        "#);
}

#[test]
fn another_size_needs_neither_image_nor_a_further_droplet() {
    let there = Market { droplets: 10, image: None, droplet: droplet("debian-12", 25), ..market() };
    assert_eq!(judge(&wish("fra1", "s-1vcpu-2gb", "debian-12"), &there).unwrap().obstacle, None);
}

#[test]
fn a_smaller_disk_takes_another_droplet() {
    let there = Market { droplets: 10, droplet: droplet("debian-12", 80), ..market() };
    let quote = judge(&wish("fra1", "s-1vcpu-2gb", "debian-12"), &there).unwrap();
    assert_eq!(
        quote.obstacle.as_deref(),
        Some("s-1vcpu-2gb has a disk of 50 GiB, and the droplet's of 80 GiB can't shrink")
    );
    let there = Market { image: None, ..there };
    assert!(refusal(&wish("fra1", "s-1vcpu-2gb", "debian-12"), &there).contains("is no image"));
}

#[test]
fn a_droplet_in_place_of_another_needs_its_image() {
    let there = Market { droplets: 10, droplet: droplet("debian-12", 25), ..market() };
    assert!(
        judge(&wish("fra1", "s-1vcpu-1gb", "debian-13"), &there).is_ok(),
        "the limit does not matter: one goes"
    );
    let there = Market { image: None, ..there };
    assert!(refusal(&wish("fra1", "s-1vcpu-1gb", "debian-13"), &there).contains("is no image"));
}
