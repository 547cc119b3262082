use serde_json::json;

use super::*;

fn library() -> Owner {
    Owner { app: "library".into(), environment: "default".into() }
}

fn wish() -> Wish {
    cloud::tests::wish("provider: digitalocean, region: fra1")
}

fn droplet(id: i64, ip: &str) -> Droplet {
    serde_json::from_value(json!({
        "id": id, "name": "library", "region": {"slug": "fra1"},
        "networks": {"v4": [{"ip_address": ip, "type": "public"}]},
    }))
    .unwrap()
}

fn reserved(ip: &str, droplet: Option<i64>) -> ReservedIp {
    let droplet = droplet.map(|id| json!({"id": id}));
    serde_json::from_value(json!({"ip": ip, "droplet": droplet, "region": {"slug": "fra1"}})).unwrap()
}

#[test]
fn two_droplets_are_one_too_many() {
    assert!(only_one(&library(), Vec::new()).unwrap().is_none());
    assert_eq!(
        only_one(&library(), vec![droplet(17, "203.0.113.1")]).unwrap().map(|droplet| droplet.id),
        Some(17)
    );
    let error = only_one(&library(), vec![droplet(17, "203.0.113.1"), droplet(18, "")]).unwrap_err();
    insta::assert_snapshot!(error, @"2 droplets carry the tag ship:library:default: library (id 17 at 203.0.113.1), library (id 18)");
}

#[test]
fn an_address_is_known_by_its_droplet_or_its_tag() {
    let all = [
        reserved("203.0.113.9", None),
        reserved("203.0.113.8", Some(4)),
        reserved("203.0.113.7", Some(17)),
        reserved("203.0.113.6", None),
    ];
    let seen = |wish: &Wish, droplet, tags: &[&str]| {
        let tags: Vec<String> = tags.iter().map(|tag| format!("ship:library:default:ip:{tag}")).collect();
        address_of(wish, droplet, &all, &tags)
            .map(|address| (address.ip.to_string(), address.server, address.tagged))
    };
    let of = |droplet, tags: &[&str]| seen(&wish(), droplet, tags);
    assert_eq!(of(None, &[]), None, "those of others are theirs");
    assert_eq!(of(Some("17"), &[]), Some(("203.0.113.7".into(), Some("17".into()), false)));
    assert_eq!(of(Some("17"), &["203-0-113-7"]), Some(("203.0.113.7".into(), Some("17".into()), true)));
    assert_eq!(of(None, &["203-0-113-9"]), Some(("203.0.113.9".into(), None, true)));
    assert_eq!(
        of(Some("17"), &["203-0-113-6"]).unwrap().0,
        "203.0.113.7",
        "the way to the droplet counts more"
    );
    assert_eq!(
        of(Some("5"), &["203-0-113-9", "203-0-113-6"]).unwrap().0,
        "203.0.113.6",
        "always the same one"
    );
    assert_eq!(
        of(None, &["203-0-113-8"]),
        Some(("203.0.113.8".into(), Some("4".into()), true)),
        "led away by hand"
    );
    assert_eq!(of(None, &["203-0-113-99"]), None, "given back already");

    let unwanted = Wish { fixed_address: false, ..wish() };
    assert_eq!(seen(&unwanted, Some("17"), &[]), None, "put there by hand");
    assert!(seen(&unwanted, Some("17"), &["203-0-113-7"]).is_some(), "put there by ship");
    let elsewhere = Wish { region: Some("ams3".into()), ..wish() };
    assert_eq!(seen(&elsewhere, None, &["203-0-113-9"]), None, "it can't come along");
}

#[test]
fn a_project_has_one_name() {
    let project = |id: &str, name: &str| Project { id: id.into(), name: name.into() };
    let projects = [project("p1", "web"), project("p2", "web"), project("p3", "shop")];
    assert_eq!(project_named("shop", &projects), Ok("p3".into()));
    let error = |name| crate::error::Failure::from(project_named(name, &projects).unwrap_err()).to_string();
    insta::assert_snapshot!(format!("{}\n{}", error("web"), error("Shop")), @r#"
        error: there are 2 projects named web at DigitalOcean
        hint: write its id in `server.project`: p1 or p2
        error: there is no project Shop at DigitalOcean
        hint: `server.project` may be web, web, shop
        "#);
}

#[test]
fn an_id_is_no_name() {
    assert!(
        is_uuid("4e1bfbc3-dc3e-41f2-a18f-1b4d7ba71679") && is_uuid("4E1BFBC3-dc3e-41f2-a18f-1b4d7ba71679")
    );
    for name in [
        "web",
        "4e1bfbc3-dc3e-41f2-a18f-1b4d7ba7167",
        "4e1bfbc3_dc3e-41f2-a18f-1b4d7ba71679",
        "zzzzzzzz-dc3e-41f2-a18f-1b4d7ba71679",
    ] {
        assert!(!is_uuid(name), "{name}");
    }
}
