use std::collections::BTreeMap;

use super::x509::{PairError, pair};
use super::*;
use crate::config::{Defaults, load};
use crate::project::{Tree, detect};

const EC: &[u8] = include_bytes!("../../tests/fixtures/tls/ec.pem");
const EC_KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/ec.key");
const RSA: &[u8] = include_bytes!("../../tests/fixtures/tls/rsa.pem");
const RSA_KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/rsa.key");
const ENCRYPTED_KEY: &[u8] = include_bytes!("../../tests/fixtures/tls/encrypted.key");

const NOW: i64 = 1_800_000_000;

fn config(lines: &str) -> Config {
    let files = [
        ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings') # django"),
        ("shop/settings.py", ""),
        ("shop/wsgi.py", ""),
        ("requirements.txt", "Django"),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let project = detect(&Tree::from_map(BTreeMap::from(files)));
    let text = format!("app: shop\nserver: {{provider: ssh, host: 203.0.113.7}}\n{lines}\n");
    load("ship.yml", &text, None, &project, &Defaults::default()).unwrap()
}

fn two() -> Config {
    config("domains: [a.example.com, b.example.com]")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A certificate of ninety days, `left` of them to come.
fn leaf(names: &[&str], left: i64) -> Leaf {
    Leaf {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        issuer: "Let's Encrypt".into(),
        not_before_s: NOW - (90 - left) * DAY_S,
        not_after_s: NOW + left * DAY_S,
        key: "EC 256".into(),
        ocsp: false,
    }
}

fn has(leaf: Option<Leaf>) -> Certificate {
    Certificate {
        now_s: NOW,
        has_key: leaf.is_some(),
        directory: leaf.is_some().then(|| LETS_ENCRYPT.to_owned()),
        leaf,
        addresses: BTreeSet::from([ip("10.0.0.5")]),
        tried: Some(format!("{LETS_ENCRYPT} a.example.com b.example.com")),
        ..Certificate::default()
    }
}

fn leads(mut found: Certificate, name: &str, addresses: &[&str]) -> Certificate {
    found.leads_to.insert(name.into(), addresses.iter().map(|one| ip(one)).collect());
    found
}

/// What follows, as words.
fn follows(config: &Config, found: &Certificate) -> String {
    let state = look(config, &[ip("203.0.113.7")], found, None);
    let served =
        state.served.as_ref().map_or("HTTP".into(), |served| format!("HTTPS {}", served.names.join(" ")));
    let due = state.due.as_ref().map(|(names, why)| format!(" · due: {} ({why})", names.join(" ")));
    let try_it = if state.try_renewal { " · try" } else { "" };
    let obstacles: String = state.obstacles().iter().map(|line| format!("\n  {line}")).collect();
    format!("{served}{}{try_it}{obstacles}", due.unwrap_or_default())
}

#[test]
fn a_certificate_is_had_for_what_leads_here() {
    let config = two();
    let here = |found| {
        leads(leads(found, "a.example.com", &["203.0.113.7"]), "b.example.com", &["203.0.113.7", "10.0.0.5"])
    };
    let a = "a.example.com";
    let b = "b.example.com";
    let mut passed_on = leads(has(Some(leaf(&[a], 80))), b, &["198.51.100.1"]);
    passed_on.passed_on.insert(b.into());
    let mut elsewhere = has(Some(leaf(&[a, b], 80)));
    elsewhere.directory = Some("https://acme-staging-v02.api.letsencrypt.org/directory".into());
    let mut limited = here(has(None));
    limited.failed =
        Some((NOW, "too many certificates already issued, retry after 2027-01-15 08:10:00 UTC: see".into()));
    let mut was_limited = limited.clone();
    was_limited.now_s += 3600;
    let mut keyless = here(has(Some(leaf(&[a, b], 80))));
    keyless.has_key = false;
    let mut untried = has(Some(leaf(&[a, b], 80)));
    untried.tried = None;
    let cases = [
        ("nothing known yet", has(None)),
        ("the first one", here(has(None))),
        ("one name is not there yet", leads(leads(has(None), a, &["203.0.113.7"]), b, &[])),
        // An authority prefers IPv6.
        (
            "half of it leads elsewhere",
            leads(leads(has(None), a, &["203.0.113.7", "2001:db8::1"]), b, &["198.51.100.9"]),
        ),
        ("all is well", has(Some(leaf(&[a, b], 80)))),
        ("a name is new", leads(has(Some(leaf(&[a], 80))), b, &["203.0.113.7"])),
        ("a name is new and leads elsewhere", leads(has(Some(leaf(&[a], 80))), b, &["198.51.100.1"])),
        ("behind a proxy", passed_on),
        ("a name is gone", has(Some(leaf(&[a, b, "old.example.com"], 80)))),
        ("it has ended", here(has(Some(leaf(&[a, b], -3))))),
        ("it ends soon", here(has(Some(leaf(&[a, b], 14))))),
        ("it ends in a month", has(Some(leaf(&[a, b], 29)))),
        ("another authority", elsewhere),
        ("no key", keyless),
        ("for others", here(has(Some(leaf(&["x.example.com"], 80))))),
        ("too many", limited),
        ("that is over", was_limited),
        ("never renewed", untried),
    ];
    let lines: Vec<String> =
        cases.iter().map(|(what, found)| format!("{what}: {}", follows(&config, found))).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    nothing known yet: HTTP
    the first one: HTTP · due: a.example.com b.example.com (the first one)
    one name is not there yet: HTTP · due: a.example.com (the first one)
      no certificate yet: b.example.com has no address yet, and must lead to 203.0.113.7
    half of it leads elsewhere: HTTP
      no certificate yet: a.example.com leads to 203.0.113.7 and 2001:db8::1, and must lead to 203.0.113.7
      no certificate yet: b.example.com leads to 198.51.100.9, and must lead to 203.0.113.7
    all is well: HTTPS a.example.com b.example.com
    a name is new: HTTPS a.example.com · due: a.example.com b.example.com (it lacks b.example.com)
    a name is new and leads elsewhere: HTTPS a.example.com · try
      no certificate yet: b.example.com leads to 198.51.100.1, and must lead to 203.0.113.7
    behind a proxy: HTTPS a.example.com · due: a.example.com b.example.com (it lacks b.example.com)
    a name is gone: HTTPS a.example.com b.example.com · due: a.example.com b.example.com (it is still for old.example.com)
    it has ended: HTTPS a.example.com b.example.com · due: a.example.com b.example.com (it ended 3 days ago)
    it ends soon: HTTPS a.example.com b.example.com · due: a.example.com b.example.com (it ends in 14 days, and the timer has not renewed it)
    it ends in a month: HTTPS a.example.com b.example.com
    another authority: HTTPS a.example.com b.example.com · due: a.example.com b.example.com (it is one of Let's Encrypt's)
    no key: HTTP · due: a.example.com b.example.com (its key is missing)
    for others: HTTP · due: a.example.com b.example.com (it lacks a.example.com, b.example.com)
    too many: HTTP
      the certificate could not be had: acme-v02.api.letsencrypt.org gives no more for now: too many certificates already issued (until 2027-01-15 08:10 UTC); `ship up` asks again after that
    that is over: HTTP · due: a.example.com b.example.com (the first one)
      the certificate could not be had: acme-v02.api.letsencrypt.org gives no more for now: too many certificates already issued (until 2027-01-15 08:10 UTC); `ship up` asks again after that
    never renewed: HTTPS a.example.com b.example.com · try
    ");
    assert_eq!(follows(&super::tests::config("domains: [a.example.com]\ntls: none"), &has(None)), "HTTP");
}

#[test]
fn stapling_is_for_who_has_a_responder() {
    let own = config("domains: [shop.example.com]\ntls: {certificate: c, key: k}");
    let mut mine = Leaf::parse(EC).unwrap();
    let stapling =
        |leaf: &Leaf| look(&own, &[], &Certificate::default(), Some(leaf)).served.unwrap().stapling;
    assert!(stapling(&mine));
    mine.ocsp = false;
    assert!(!stapling(&mine));
}

#[test]
fn certificates_and_keys_are_read() {
    let ec = pair(EC, EC_KEY).unwrap();
    assert_eq!(Vec::from_iter(&ec.names), ["*.shop.example.com", "203.0.113.7", "shop.example.com"]);
    assert_eq!((ec.issuer.as_str(), ec.key.as_str(), ec.ocsp), ("Example Authority", "EC 256", true));
    assert!(ec.not_before_s < ec.not_after_s && ec.not_after_s > 4_900_000_000);
    assert!(ec.covers("www.shop.example.com") && ec.covers("shop.example.com"));
    assert!(!ec.covers("a.b.shop.example.com") && !ec.covers("example.com"));
    let rsa = pair(RSA, RSA_KEY).unwrap();
    assert_eq!((rsa.key.as_str(), rsa.ocsp), ("RSA 2048", false));
    for (certificate, key, wrong) in [
        (EC, RSA_KEY, PairError::OtherKey),
        (RSA, EC_KEY, PairError::OtherKey),
        (EC, ENCRYPTED_KEY, PairError::Encrypted),
        (EC, EC, PairError::NoKey),
        (EC_KEY, EC_KEY, PairError::NoCertificate),
        (b"", EC_KEY, PairError::NoCertificate),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", EC_KEY, PairError::Damaged),
        (EC, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", PairError::OddKey),
    ] {
        assert_eq!(pair(certificate, key), Err(wrong));
    }
    assert_eq!(Leaf::parse(b"nothing"), None);
}

#[test]
fn certbot_is_asked_for_all_names_and_tells_when_it_failed() {
    let config = config(
        "domains: [a.example.com, b.example.com]\ntls: {directory: 'https://ca.example.com/dir', ca: ca.pem, email: ops@example.com}",
    );
    let found = leads(leads(has(None), "a.example.com", &["203.0.113.7"]), "b.example.com", &["203.0.113.7"]);
    let state = look(&config, &[ip("203.0.113.7")], &found, None);
    let changes = changes(&config, &state);
    let [change] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(
        (change.id.kind, change.title().as_str()),
        (KIND, "get a certificate for a.example.com, b.example.com")
    );
    let text = format!("{:?}", change.steps);
    for part in [
        "--server https://ca.example.com/dir --cert-name ship-shop",
        "--email ops@example.com --domain a.example.com --domain b.example.com",
        "REQUESTS_CA_BUNDLE=/run/ship-acme-ca.pem",
        "exit 0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn sites_have_a_server_for_each_kind_of_name() {
    let config = two();
    let found = leads(has(Some(leaf(&["a.example.com"], 80))), "b.example.com", &["198.51.100.1"]);
    let state = look(&config, &[ip("203.0.113.7")], &found, None);
    let debian = |version: &str| Host { os: "debian".into(), os_version: version.into(), ..Host::default() };
    let vars = vars(&config, &state, None, Some(&debian("12")), false);
    insta::assert_snapshot!(format!("{}\n{}", vars["servers"], vars["tls"]), @r"
    [{'https': True, 'names': ['a.example.com']}, {'https': False, 'names': ['b.example.com']}]
    {'acme': True, 'ca': None, 'certbot': True, 'certificate': '/etc/letsencrypt/live/ship-shop/fullchain.pem', 'hsts': 'max-age=3600', 'http2_directive': False, 'key': '/etc/letsencrypt/live/ship-shop/privkey.pem', 'listen': ['listen 443 ssl http2', 'listen [::]:443 ssl http2'], 'on': True, 'redirected': True, 'redirected_names': ['a.example.com'], 'self_signed': False, 'stapling': False, 'webroot': '/var/lib/ship/acme'}
    ");
    assert!(has_http2_directive(&debian("13")) && !has_http2_directive(&debian("12")));
    let ubuntu = |version: &str| Host { os: "ubuntu".into(), os_version: version.into(), ..Host::default() };
    assert!(has_http2_directive(&ubuntu("26.04")) && !has_http2_directive(&ubuntu("24.04")));
}

#[test]
fn time_is_for_people() {
    assert_eq!(
        [span(5), span(600), span(86_400), span(30 * DAY_S)],
        ["5 seconds", "10 minutes", "24 hours", "30 days"]
    );
    assert_eq!(moment(1_777_863_721), "2026-05-04 03:02 UTC");
}
