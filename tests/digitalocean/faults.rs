//! What goes wrong between ship and the API: whatever it is and whenever it happens, the next run finds one of everything.

use super::*;

/// The calls that a run makes, each once: method and path with `*` for what names a thing.
fn kinds_of_calls(fake: &Fake) -> Vec<(String, String)> {
    let mut kinds = Vec::new();
    for exchange in fake.requests() {
        let parts: Vec<&str> = exchange.path.split('/').skip(1).collect();
        let endpoint = scopes::of(&exchange.method, &parts)
            .unwrap_or_else(|| panic!("{} is in no table of calls", exchange.line()));
        let pattern: Vec<&str> =
            endpoint.path.split('/').map(|part| if part.starts_with('{') { "*" } else { part }).collect();
        let kind = (endpoint.method.to_owned(), pattern.join("/"));
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The calls of a first run, and those of an end.
fn all_calls() -> [Vec<(String, String)>; 2] {
    let fake = fake();
    let run = Run::new(&fake);
    run.up(&everything());
    let up = kinds_of_calls(&fake);
    fake.forget_requests();
    run.destroy(&owner());
    [up, kinds_of_calls(&fake)]
}

/// Runs until it ends well; a run that fails is followed by another, as a person would do.
#[track_caller]
fn up_in_the_end(fake: &Fake, what: &str) -> usize {
    let mut errors = Vec::new();
    for attempt in 1..=4 {
        match Run::new(fake).try_up(&everything()) {
            Ok(_) => return attempt,
            Err(error) => errors.push(error),
        }
    }
    panic!("{what}: {errors:#?}")
}

type Harm = (&'static str, fn(Fault) -> Fault);

/// What may happen to one call, and must not even be noticed.
const PASSING: [Harm; 9] = [
    ("the answer is lost", Fault::lose_answer),
    ("the answer is cut short", Fault::truncate),
    ("reset", Fault::reset),
    ("429", |fault| fault.status(429)),
    ("429 with a wait", |fault| fault.too_many_requests(0)),
    ("500", |fault| fault.status(500)),
    ("502", |fault| fault.status(502)),
    ("503 twice", |fault| fault.status(503).times(2)),
    ("missing from lists", |fault| fault.missing_from_lists(2)),
];

#[test]
fn whatever_goes_wrong_there_is_one_of_everything() {
    let [up, _] = all_calls();
    assert!(up.len() > 20, "{up:?}");
    for (method, path) in &up {
        for (name, harm) in PASSING {
            if name == "missing from lists" && (method != "POST" || path.ends_with("/actions")) {
                continue;
            }
            let what = format!("{method} {path}: {name}");
            let fake = fake();
            let before = others(&fake);
            fake.fault(harm(Fault::on(method, path)));
            let runs = up_in_the_end(&fake, &what);
            assert_eq!(runs, 1, "{what}: not even noticed");
            assert_eq!(fake.faults_left().len(), 0, "{what}: it did happen");
            assert_all_there_once(&fake, &what);
            if name == "missing from lists" {
                // A plan made now takes it for missing; whoever carries that out finds it.
                up_in_the_end(&fake, &what);
                assert_all_there_once(&fake, &what);
            }
            assert_eq!(Run::new(&fake).plan(&everything()), [], "{what}");
            assert_eq!(others(&fake).droplets, before.droplets, "{what}");
        }
    }
}

#[test]
fn whatever_goes_wrong_the_end_is_complete() {
    let [_, end] = all_calls();
    assert!(end.len() > 10, "{end:?}");
    for (method, path) in &end {
        for (name, harm) in PASSING.iter().filter(|(name, _)| *name != "missing from lists") {
            let what = format!("{method} {path}: {name}");
            let fake = fake();
            let before = others(&fake);
            Run::new(&fake).up(&everything());
            fake.fault(harm(Fault::on(method, path)));
            let run = Run::new(&fake);
            run.destroy(&owner());
            assert_eq!(fake.faults_left().len(), 0, "{what}: it did happen");
            assert_eq!(run.runtime.block_on(run.account.things(&owner())), Ok(Vec::new()), "{what}");
            let after = others(&fake);
            assert_eq!(
                (after.droplets, after.addresses, after.volumes),
                (before.droplets, before.addresses, before.volumes),
                "{what}"
            );
        }
    }
}

/// The process dies just when the API has done something, at each call that does.
#[test]
fn whenever_ship_is_killed_the_next_run_carries_on() {
    let [up, _] = all_calls();
    for (method, path) in up.iter().filter(|(method, _)| method != "GET") {
        for nth in 0..2 {
            let what = format!("killed at {method} {path}, number {nth}");
            let fake = fake();
            fake.fault(Fault::on(method, path).after(nth).hold(Duration::from_secs(60)));
            let run = Run::with(&fake, &fake.token(), Waits { answer: Duration::from_secs(60), ..waits() });
            let wish = everything();
            let happened = async {
                while !fake.faults_left().is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let ended = run.runtime.block_on(async {
                tokio::select! {
                    ended = run.converge(&wish, false) => Some(ended.is_ok()),
                    () = happened => None,
                }
            });
            drop(run);
            if ended.is_some() {
                // There is no second call of this kind.
                assert_eq!((nth, ended), (1, Some(true)), "{what}");
                continue;
            }
            assert_eq!(up_in_the_end(&fake, &what), 1, "{what}");
            assert_all_there_once(&fake, &what);
            assert_eq!(Run::new(&fake).plan(&everything()), [], "{what}");
        }
    }
}

#[test]
fn an_answer_that_takes_too_long_is_none() {
    for (method, path) in
        [("GET", "/v2/reserved_ips"), ("POST", "/v2/droplets"), ("POST", "/v2/reserved_ips")]
    {
        let fake = fake();
        fake.fault(Fault::on(method, path).hold(Duration::from_secs(5)));
        let run = Run::with(&fake, &fake.token(), Waits { answer: Duration::from_millis(300), ..waits() });
        let begin = Instant::now();
        run.up(&everything());
        assert!(begin.elapsed() < Duration::from_secs(4), "{method} {path}");
        assert_all_there_once(&fake, path);
    }
}

#[test]
fn a_new_key_comes_round_late() {
    let fake = fake();
    fake.fault(Fault::on("POST", "/v2/account/keys").unknown_to_droplets(3));
    Run::with(&fake, &fake.token(), Waits { settle: Duration::from_secs(2), ..waits() }).up(&everything());
    assert_all_there_once(&fake, "a late key");
}

/// An order whose answer was lost, in a run that died, shows in no list when the next run begins.
#[test]
fn an_order_of_an_earlier_run_is_waited_for() {
    let fake = fake();
    fake.fault(Fault::on("POST", "/v2/droplets").lose_answer());
    fake.fault(Fault::on("POST", "/v2/droplets").missing_from_lists(3));
    let impatient = Run::with(&fake, &fake.token(), Waits { looks: Vec::new(), ..waits() });
    let mut found = impatient.look(&everything());
    let wish = everything();
    impatient.runtime.block_on(async {
        for act in [Act::AddKey, Act::AddFirewall] {
            impatient.act(&act, &wish, &mut found).await.unwrap();
        }
        // Killed while it waits for the answer.
        let mut order = std::pin::pin!(impatient.act(&Act::CreateServer, &wish, &mut found));
        while fake.droplets().len() < 2 {
            tokio::select! {
                _ = &mut order => panic!("it came to an end"),
                () = tokio::task::yield_now() => {}
            }
        }
    });
    assert!(fake.droplets().iter().any(|droplet| droplet.name == "library"));
    assert!(
        Run::new(&fake).plan(&everything()).iter().any(|step| step.act == Act::CreateServer),
        "it does not show yet"
    );
    let run = Run::with(&fake, &fake.token(), Waits { settle: Duration::from_secs(2), ..waits() });
    run.up(&everything());
    assert_all_there_once(&fake, "an earlier order");
}

#[test]
fn a_wait_that_is_asked_for_is_kept() {
    let fake = fake();
    fake.fault(Fault::on("GET", "/v2/tags").too_many_requests(1));
    let begin = Instant::now();
    Run::new(&fake).look(&everything());
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    fake.fault(Fault::on("GET", "/v2/tags").too_many_requests(3600));
    let begin = Instant::now();
    let error = Run::new(&fake).try_up(&everything()).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(30), "an hour is too long, and it is known at once");
    let text = error.to_string();
    assert!(
        text.starts_with("DigitalOcean refused to list tags: the account's calls are rate limited, until "),
        "{text}"
    );
    assert!(text.ends_with(" UTC"), "{text}");
}

#[test]
fn an_api_that_stays_broken_is_given_up_in_plain_words() {
    let brief = Waits { attempts: Duration::from_millis(60), ..waits() };
    let said = |harm: fn(Fault) -> Fault, method: &str, path: &str| {
        let fake = fake();
        fake.fault(harm(Fault::on(method, path)).times(1000));
        let error = Run::with(&fake, &fake.token(), brief.clone()).try_up(&everything()).unwrap_err();
        let failure = Failure::from(error);
        format!("{} {failure}", failure.exit as u8)
    };
    let mut all = vec![
        said(|fault| fault.status(503), "GET", "/v2/droplets"),
        said(Fault::truncate, "GET", "/v2/droplets"),
        said(Fault::reset, "POST", "/v2/firewalls"),
        said(|fault| fault.status(500), "POST", "/v2/droplets"),
        said(|fault| fault.status(429), "POST", "/v2/droplets"),
    ];
    let hide = |text: &String| {
        let text = text.split("(request ").enumerate().map(|(at, part)| match part.split_once(')') {
            Some((_, rest)) if at > 0 => format!("(request …){rest}"),
            _ => part.to_owned(),
        });
        let text: String = text.collect();
        match text.split_once(", until ") {
            Some((before, after)) => format!("{before}, until …{}", &after[8..]),
            None => text,
        }
    };
    all = all.iter().map(hide).collect();
    insta::assert_snapshot!(all.join("\n\n"), @r#"
        4 error: can't list droplets: it answers 503 Service Unavailable: Service unavailable (request …)

        4 error: can't list droplets: the connection to 127.0.0.1 broke: end of file before message length reached

        1 error: no telling whether DigitalOcean managed to create the firewall ship.library.default: the connection to 127.0.0.1 broke: Connection reset by peer (os error 104)
        hint: run `ship up` again: it looks first, and never makes a second one

        1 error: no telling whether DigitalOcean managed to create the droplet library: it answers 500 Internal Server Error: Server Error (request …)
        hint: run `ship up` again: it looks first, and never makes a second one

        1 error: DigitalOcean refused to create the droplet library: the account's calls are rate limited, until … UTC
        hint: 250 calls a minute and 5,000 an hour are allowed, for all programs that use the token
        "#);
}

#[test]
fn nobody_there_is_said_soon() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let access = Access::new(&format!("http://{address}"), Secret::new("t")).unwrap();
    let account = DigitalOcean::new(&access, waits()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = Instant::now();
    let error = runtime.block_on(account.find(&owner())).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(30));
    assert_eq!(error.to_string(), "can't list droplets: 127.0.0.1: Connection refused (os error 111)");
    assert_eq!(Failure::from(error).exit as u8, 4);
}

/// Everything that a token must be allowed for all of this, and nothing more; and the error for each that is missing.
#[test]
fn a_token_needs_what_the_table_says_and_no_more() {
    use Feature::{Address, Destroy, Network, Project, Server, Volume};
    let needed = scopes::needed(&[Server, Address, Volume, Project, Network, Destroy]);
    let vpc = |fake: &Fake| {
        let vpc = fake
            .with(|account| account.vpcs.iter().find(|vpc| vpc.region == "fra1").map(|vpc| vpc.id.clone()));
        Wish { network: vpc, ..everything() }
    };
    // Making, changing, replacing and destroying: every call that there is.
    let all = |fake: &Fake, scopes: &[&str]| {
        let run = Run::with(fake, &fake.scoped_token(scopes), waits());
        let wish = Wish { size: "s-1vcpu-2gb".into(), volume_gb: Some(20), ..vpc(fake) };
        run.runtime.block_on(async {
            run.converge(&vpc(fake), false).await?;
            run.converge(
                &Wish { rules: BTreeSet::from([Rule::new(Traffic::Tcp(22), "::/0")]), ..wish.clone() },
                false,
            )
            .await?;
            let found = run.converge(&Wish { image: "debian-13".into(), ..wish }, true).await?;
            let server = found.server.unwrap();
            run.account.add_host_key(&owner(), &server, &"ab".repeat(32)).await?;
            run.account.drop_birth_key(&owner(), &server).await?;
            run.remove_all(&owner()).await
        })
    };
    let complete = fake();
    assert!(all(&complete, &needed).unwrap() > 5);
    let used: BTreeSet<&str> = complete
        .requests()
        .iter()
        .flat_map(|exchange| {
            let parts: Vec<&str> = exchange.path.split('/').skip(1).collect();
            scopes::of(&exchange.method, &parts).map(|endpoint| endpoint.scopes).unwrap_or_default()
        })
        .copied()
        .collect();
    assert!(used.iter().all(|scope| needed.contains(scope)));

    for missing in &needed {
        let rest: Vec<&str> = needed.iter().filter(|scope| *scope != missing).copied().collect();
        let fake = fake();
        let error = match all(&fake, &rest) {
            Err(error) => error,
            Ok(_) => panic!("{missing} is not needed"),
        };
        let failure = Failure::from(error).to_string();
        let hint = failure
            .lines()
            .find(|line| line.contains("the token needs"))
            .unwrap_or_else(|| panic!("{missing}: {failure}"));
        assert!(hint.contains(missing), "{missing}: {failure}");
        assert!(!failure.contains("dop_v1_"), "{failure}");
    }
}

#[test]
fn a_wrong_token_is_named_as_that() {
    let fake = fake();
    let run = Run::with(&fake, "dop_v1_wrong", waits());
    let failure = Failure::from(run.runtime.block_on(run.account.find(&owner())).unwrap_err());
    assert_eq!(failure.exit as u8, 3);
    insta::assert_snapshot!(failure, @r"
    error: DigitalOcean refused to list droplets: Unable to authenticate you.
    hint: the token is wrong, expired or revoked: make another at https://cloud.digitalocean.com/account/api/tokens
    ");
}
