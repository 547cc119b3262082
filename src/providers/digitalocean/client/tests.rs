use super::access::DEFAULT_API;
use super::*;
use crate::shell::Secret;

fn env<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| set.iter().find(|(has, _)| *has == name).map(|(_, value)| (*value).to_owned())
}

fn call() -> Call {
    Call::post(&["droplets"], Value::Null, "create the droplet library")
}

fn words(code: &str, message: &str) -> Words {
    Words { code: code.into(), message: message.into() }
}

#[test]
fn the_token_comes_from_the_environment() {
    let token = |set| Access::of(env(set)).map(|access| access.token.reveal().to_owned());
    assert_eq!(
        token(&[("DIGITALOCEAN_TOKEN", "one"), ("DIGITALOCEAN_ACCESS_TOKEN", "two")]),
        Ok("one".into())
    );
    assert_eq!(
        token(&[("DIGITALOCEAN_TOKEN", " "), ("DIGITALOCEAN_ACCESS_TOKEN", "two\n")]),
        Ok("two".into())
    );
    let failure: crate::error::Failure = token(&[]).unwrap_err().into();
    assert_eq!(failure.exit, crate::error::Exit::Input);
    insta::assert_snapshot!(failure, @r#"
        error: there is no DigitalOcean token: set DIGITALOCEAN_TOKEN
        hint: make one at https://cloud.digitalocean.com/account/api/tokens, with full access or these scopes: account:read block_storage:delete block_storage:read droplet:create droplet:delete droplet:read droplet:update firewall:create firewall:delete firewall:read firewall:update image:read regions:read reserved_ip:create reserved_ip:delete reserved_ip:read reserved_ip:update sizes:read ssh_key:create ssh_key:delete ssh_key:read tag:create tag:delete tag:read
        hint: docs/digitalocean.md has the scopes for volumes, projects and DNS
        "#);
}

#[test]
fn a_token_never_travels_in_the_clear() {
    let api = |url| {
        Access::of(env(&[("DIGITALOCEAN_TOKEN", "t"), ("DIGITALOCEAN_API_URL", url)]))
            .map(|access| access.api.to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(api(""), Ok("https://api.digitalocean.com/".into()));
    assert_eq!(api("http://127.0.0.1:99"), Ok("http://127.0.0.1:99/".into()));
    assert_eq!(api("http://[::1]:99"), Ok("http://[::1]:99/".into()));
    for bad in ["http://api.example.com", "api.example.com", "http://127.0.0.1.example.com", "data:x"] {
        assert!(api(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_token_is_nowhere_to_be_seen() {
    let access = Access::new(DEFAULT_API, Secret::new("hunter2")).unwrap();
    let client = Client::new(&access, Waits::default()).unwrap();
    let shown = format!("{access:?} {client:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let error = Access::new(DEFAULT_API, Secret::new("hunter 2")).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter"), "{error:?}");
}

#[test]
fn a_call_does_not_show_what_it_carries() {
    let call = Call::post(&["droplets"], serde_json::json!({"user_data": "hunter2"}), "create the droplet");
    assert_eq!(format!("{call:?}"), "POST /v2/droplets");
}

#[test]
fn an_address_is_put_together() {
    let url = |call: &Call, api: &str| call.url(&Url::parse(api).unwrap()).to_string();
    let call = Call::get(&["tags", "ship:library:default"], "").query("tag_name", "a:b&c");
    assert_eq!(
        url(&call, DEFAULT_API),
        "https://api.digitalocean.com/v2/tags/ship:library:default?tag_name=a%3Ab%26c"
    );
    assert_eq!(
        url(&Call::get(&["images", "a/../b?c"], ""), "http://127.0.0.1:9/do/"),
        "http://127.0.0.1:9/do/v2/images/a%2F..%2Fb%3Fc"
    );
}

#[test]
fn only_what_is_safe_is_tried_again() {
    use FaultKind::{Answered, Broken, Limited, NotSent};
    for (kind, post, get) in
        [(NotSent, true, true), (Limited(None), true, true), (Broken, false, true), (Answered, false, false)]
    {
        assert_eq!(
            (kind.again(call().repeatable), kind.again(Call::get(&[], "").repeatable)),
            (post, get),
            "{kind:?}"
        );
    }
    assert!(Call::delete(&[], "").repeatable && Call::put(&[], Value::Null, "").repeatable);
    assert!(call().repeatable().repeatable);
}

#[test]
fn patience_ends() {
    use FaultKind::{Broken, Limited, NotSent};
    let s = Duration::from_secs;
    let wait = |kind: FaultKind, own, spent| kind.wait(Some(s(own)), s(spent), &Waits::default());
    assert_eq!(wait(Broken, 8, 10), Some(s(8)));
    assert_eq!(wait(Broken, 8, 85), None);
    assert_eq!(wait(NotSent, 8, 10), None, "no network: nobody wants to wait for long");
    assert_eq!(wait(NotSent, 4, 10), Some(s(4)));
    assert_eq!(wait(Limited(Some(s(7))), 8, 0), Some(s(8)), "as long as asked, and a little more");
    assert_eq!(wait(Limited(Some(s(60))), 8, 0), Some(s(30)), "but it shows signs of life");
    assert_eq!(wait(Limited(Some(s(1800))), 8, 0), None, "nobody waits for half an hour");
    assert_eq!(wait(Limited(None), 16, 80), None);
    assert_eq!(FaultKind::Answered.wait(Some(s(1)), s(0), &Waits::default()), None);
}

#[test]
fn the_api_says_how_long_to_wait() {
    let now = jiff::Timestamp::from_second(1_444_931_833).unwrap();
    let limit = |headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse::<reqwest::header::HeaderName>().unwrap(), HeaderValue::from_static(value))
        });
        let limit = Limit::of(&headers.collect(), now);
        (limit.wait.map(|wait| wait.as_secs()), limit.until.map(|until| until.to_string()))
    };
    assert_eq!(limit(&[("retry-after", "7")]), (Some(7), Some("2015-10-15T17:57:20Z".into())));
    let both = limit(&[("retry-after", "7"), ("ratelimit-reset", "1444935433")]);
    assert_eq!(both, (Some(7), Some("2015-10-15T17:57:20Z".into())));
    assert_eq!(limit(&[("ratelimit-reset", "1444931893")]), (None, Some("2015-10-15T17:58:13Z".into())));
    assert_eq!(limit(&[("ratelimit-reset", "1")]), (None, Some("2015-10-15T17:57:13Z".into())), "long ago");
    assert_eq!(limit(&[("retry-after", "-7")]).0, Some(0));
    assert_eq!(limit(&[("retry-after", "soon")]), (None, None));
    let limit = Limit { wait: None, until: Some(now) };
    insta::assert_snapshot!(limited(&call(), &words("too_many_requests", "API Rate limit exceeded."), &limit), @"DigitalOcean refused to create the droplet library: the account's calls are rate limited, until 17:57:13 UTC");
}

#[test]
fn what_the_api_says_is_passed_on() {
    let of = |status, body: &str| {
        let words = Words::of(status, body.as_bytes());
        (words.code, words.message)
    };
    let text = r#"{"id":"not_found","message":"Not there.","request_id":"r1"}"#;
    assert_eq!(of(StatusCode::NOT_FOUND, text), ("not_found".into(), "Not there.".into()));
    assert_eq!(of(StatusCode::BAD_GATEWAY, text), ("not_found".into(), "Not there. (request r1)".into()));
    assert_eq!(of(StatusCode::BAD_GATEWAY, "<html>"), ("502".into(), "Bad Gateway".into()));
    assert_eq!(of(StatusCode::FORBIDDEN, r#"{"id":"","message":null}"#), ("403".into(), "Forbidden".into()));
}

#[test]
fn a_refusal_says_what_helps() {
    let shown = |status, code: &str, message: &str| {
        let failure: crate::error::Failure = refused(&call(), status, words(code, message)).into();
        format!("{} {failure}", failure.exit as u8)
    };
    let all = [
        shown(StatusCode::UNAUTHORIZED, "unauthorized", "Unable to authenticate you."),
        shown(StatusCode::FORBIDDEN, "forbidden", "You are not authorized to perform this operation"),
        shown(StatusCode::FORBIDDEN, "403", "Forbidden"),
        shown(StatusCode::PAYMENT_REQUIRED, "payment_required", "Payment is required."),
        shown(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable_entity",
            "creating this/these droplet(s) will exceed your droplet limit",
        ),
        shown(StatusCode::FORBIDDEN, "forbidden", "failed to create volume: volume limit exceeded"),
        shown(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_entity", "You specified an invalid size."),
        shown(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unprocessable_entity",
            "Droplet already has a pending event.",
        ),
        shown(StatusCode::CONFLICT, "conflict", "duplicate name"),
    ];
    insta::assert_snapshot!(all.join("\n\n"), @r#"
        3 error: DigitalOcean refused to create the droplet library: Unable to authenticate you.
        hint: the token is wrong, expired or revoked: make another at https://cloud.digitalocean.com/account/api/tokens

        3 error: DigitalOcean refused to create the droplet library: You are not authorized to perform this operation
        hint: the token needs droplet:create, image:read, ssh_key:read, tag:create for this: make one that has it at https://cloud.digitalocean.com/account/api/tokens
        hint: docs/digitalocean.md lists the scopes for each feature

        1 error: DigitalOcean refused to create the droplet library: Forbidden

        1 error: DigitalOcean refused to create the droplet library: Payment is required.
        hint: see https://cloud.digitalocean.com/account/billing

        1 error: DigitalOcean refused to create the droplet library: creating this/these droplet(s) will exceed your droplet limit
        hint: remove a droplet, or ask for more at https://cloud.digitalocean.com/account/team/droplet_limit_increase

        1 error: DigitalOcean refused to create the droplet library: failed to create volume: volume limit exceeded
        hint: remove one, or ask for more at https://cloudsupport.digitalocean.com

        3 error: DigitalOcean refused to create the droplet library: You specified an invalid size.

        1 error: DigitalOcean refused to create the droplet library: Droplet already has a pending event.

        1 error: DigitalOcean refused to create the droplet library: duplicate name
        "#);
}

#[test]
fn a_token_that_may_not_is_told_all_that_it_takes() {
    let refused = |call: &Call| match refused(call, StatusCode::FORBIDDEN, words("forbidden", "No.")) {
        CloudError::Refused { hints, .. } => hints.first().cloned().unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    let hint = refused(&call().needing(scopes::IN_NETWORK));
    assert!(hint.contains("droplet:create, image:read, ssh_key:read, tag:create, vpc:read"), "{hint}");
    for endpoint in scopes::ENDPOINTS {
        let path: Vec<&str> = endpoint
            .path
            .split('/')
            .skip(2)
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect();
        let call = Call::new(endpoint.method.parse().unwrap(), &path, "try");
        let hint = refused(&call);
        assert!(endpoint.scopes.iter().all(|scope| hint.contains(scope)), "{endpoint:?} {hint}");
    }
}
