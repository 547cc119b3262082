use super::*;
use crate::cloud::{self, Settings};

fn wish() -> Wish {
    let wish = cloud::tests::wish("provider: digitalocean, region: fra1, image: ubuntu-24.04, tags: [web]");
    Wish { owner: Owner { environment: "staging".into(), ..wish.owner }, ..wish }
}

fn birth() -> Birth {
    Birth { user_data: "#cloud-config\n".into(), host_key: "0f".repeat(32) }
}

#[test]
fn a_droplet_is_ordered_with_all_that_finds_it_again() {
    let order = order(&wish(), Some("512189"), &birth());
    insta::assert_snapshot!(serde_json::to_string_pretty(&order).unwrap(), @r##"
        {
          "backups": false,
          "image": "ubuntu-24-04-x64",
          "ipv6": true,
          "monitoring": true,
          "name": "library-staging",
          "region": "fra1",
          "size": "s-1vcpu-1gb",
          "ssh_keys": [
            512189
          ],
          "tags": [
            "ship:library:staging",
            "ship:library:staging:image:ubuntu-24_2e04",
            "ship:library:staging:birthkey:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
            "web"
          ],
          "user_data": "#cloud-config\n",
          "with_droplet_agent": false
        }
        "##);
}

#[test]
fn what_is_not_asked_for_is_left_out() {
    let plain = order(&Wish { region: None, ..wish() }, None, &birth());
    for absent in ["region", "ssh_keys", "vpc_uuid"] {
        assert_eq!(plain.get(absent), None);
    }
    let full = order(
        &Wish {
            network: Some("v1".into()),
            settings: Settings { backups: true, ..Settings::default() },
            ..wish()
        },
        Some("3b:16:e4"),
        &birth(),
    );
    assert_eq!(
        (&full["vpc_uuid"], &full["backups"], &full["ipv6"]),
        (&json!("v1"), &json!(true), &json!(false))
    );
    assert_eq!(full["ssh_keys"], json!(["3b:16:e4"]));
    assert!(full.as_object().unwrap().values().all(|value| !value.is_null()));
}

#[test]
fn images_have_digitaloceans_names() {
    let image = |written| image(written).to_string();
    assert_eq!(
        ["debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "fedora-42-x64", "133972345"].map(image),
        [
            r#""debian-12-x64""#,
            r#""debian-13-x64""#,
            r#""ubuntu-22-04-x64""#,
            r#""ubuntu-24-04-x64""#,
            r#""fedora-42-x64""#,
            "133972345"
        ]
    );
}

#[test]
fn nothing_is_done_with_a_droplet_that_is_not_there() {
    assert!(droplet_id(&Found::default()).is_err());
}
