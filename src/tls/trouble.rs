//! Why a certificate was not to be had: what certbot printed, in words that say what to do.
//!
//! Invariant: pure; what is not understood is quoted, never swallowed.

/// Why a certificate was not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, one line.
    pub cause: String,
    /// What to do about it.
    pub hint: String,
    /// Until when it is no use to try again, in seconds since 1970.
    pub until_s: Option<i64>,
}

impl Trouble {
    /// Reads what certbot printed. `domains` are the names that were asked for.
    pub fn read(said: &str, directory: &str) -> Self {
        let host = directory.split('/').nth(2).unwrap_or(directory);
        let again = "the next `ship up` tries again".to_owned();
        let one = |cause: String, hint: String| Self { cause, hint, until_s: None };
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let field = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if said.contains("rateLimited") || said.contains("too many ") {
            let line = lines.iter().find(|line| line.contains("too many ")).unwrap_or(&"");
            let what = line.split("too many ").nth(1).map(|rest| {
                let what = rest.split(", retry after").next().unwrap_or(rest);
                format!("too many {what}")
            });
            let until_s = after(said, "retry after ").and_then(moment);
            let hint = match until_s {
                Some(_) => "`ship up` asks again after that".to_owned(),
                None => again,
            };
            return Self {
                cause: format!(
                    "{host} gives no more for now: {}",
                    what.unwrap_or_else(|| "too many requests".into())
                ),
                hint,
                until_s,
            };
        }
        if let Some(detail) = field("Detail:") {
            let name = field("Domain:").unwrap_or("the name");
            let kind = field("Type:").unwrap_or_default();
            let hint = match kind {
                "dns" => format!("set the records of {name}; {again}"),
                "caa" => format!(
                    "the zone's CAA records must name the authority, as `0 issue \"letsencrypt.org\"`; {again}"
                ),
                "connection" if detail.contains("resolve") || detail.contains("NXDOMAIN") => {
                    format!("set the records of {name}; {again}")
                }
                "connection" => format!(
                    "port 80 of this server must be open to the world: look at the cloud's firewall, then at the \
                     server's (`ship ssh -- nft list ruleset`); {again}"
                ),
                "unauthorized" => {
                    format!("{name} leads to another server, or something answers before nginx does; {again}")
                }
                _ => again,
            };
            return one(format!("{host} could not verify {name}: {}", shortened(detail)), hint);
        }
        let last = || {
            let told = lines.iter().rev().find(|line| {
                !line.is_empty()
                    && !line.starts_with("Ask for help")
                    && !line.starts_with("Saving debug log")
                    && !line.starts_with("Some challenges")
                    && !line.starts_with("- - -")
            });
            shortened(told.unwrap_or(&"certbot said nothing"))
        };
        if said.contains("CERTIFICATE_VERIFY_FAILED") {
            return one(
                format!("{host} shows a certificate that the server doesn't trust"),
                "name the root of a private authority: `tls: {directory: …, ca: FILE}`".to_owned(),
            );
        }
        let away = [
            "Connection refused",
            "Max retries exceeded",
            "timed out",
            "Name or service not known",
            "Temporary failure in name resolution",
            "Connection aborted",
            "Connection reset",
            "Network is unreachable",
        ];
        if let Some(sign) = away.into_iter().find(|sign| said.contains(sign)) {
            let sign = if sign.starts_with("Max") { "no connection" } else { sign };
            return one(format!("{host} can't be reached from the server: {sign}"), again);
        }
        if said.contains("serverInternal") || said.contains("503") && said.contains("urn:ietf:params:acme") {
            return one(format!("{host} has trouble of its own: {}", last()), again);
        }
        if said.contains("rejectedIdentifier") {
            return one(
                format!("{host} gives none for such names: {}", last()),
                "correct `domains`".to_owned(),
            );
        }
        if said.contains("externalAccountRequired") || said.contains("external account") {
            return one(
                format!("{host} wants an account that was made elsewhere"),
                "ship can't bind one; take another `directory`, or `tls: {certificate: FILE, key: FILE}`"
                    .to_owned(),
            );
        }
        one(last(), format!("/var/log/letsencrypt/letsencrypt.log on the server has all of it; {again}"))
    }
}

fn after<'t>(text: &'t str, beginning: &str) -> Option<&'t str> {
    text.split(beginning).nth(1)
}

/// `2026-05-04 03:02:01 UTC …` or `2026-05-04T03:02:01Z` in seconds since 1970.
fn moment(text: &str) -> Option<i64> {
    let digits: String = text.chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect();
    let (date, time) = digits.split_once(' ')?;
    let time: jiff::civil::Time = time.parse().ok()?;
    let date: jiff::civil::Date = date.parse().ok()?;
    Some(date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= 240 { text } else { text.chars().take(239).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LE: &str = "https://acme-v02.api.letsencrypt.org/directory";

    #[test]
    fn what_certbot_says_is_told_with_what_helps() {
        let read = |said: &str| {
            let Trouble { cause, hint, until_s } = Trouble::read(said, LE);
            format!("{cause}\n  {hint}{}", until_s.map(|at| format!("\n  {at}")).unwrap_or_default())
        };
        // As certbot 2.1 and Boulder print it.
        let limit = "An unexpected error occurred:\nError creating new order :: too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-05-04 03:02:01 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers\nAsk for help or search for solutions at https://community.letsencrypt.org. See the logfile /var/log/letsencrypt/letsencrypt.log or re-run Certbot with -v for more details.";
        let challenge = |kind: &str, detail: &str| {
            format!(
                "Requesting a certificate for a.example.com\n\nCertbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:\n  Domain: a.example.com\n  Type:   {kind}\n  Detail: {detail}\n\nHint: The Certificate Authority failed …\n\nSome challenges have failed."
            )
        };
        let said = [
            read(limit),
            read(&challenge(
                "unauthorized",
                "203.0.113.9: Invalid response from http://a.example.com/.well-known/acme-challenge/x: 404",
            )),
            read(&challenge(
                "connection",
                "203.0.113.7: Fetching http://a.example.com/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)",
            )),
            read(&challenge(
                "dns",
                "DNS problem: NXDOMAIN looking up A for a.example.com - check that a DNS record exists for this domain",
            )),
            read(&challenge("caa", "CAA record for a.example.com prevents issuance")),
            read(
                "An unexpected error occurred:\nValueError: Requesting acme-v02.api.letsencrypt.org/directory: Connection refused\nAsk for help or search",
            ),
            read(
                "requests.exceptions.SSLError: HTTPSConnectionPool(host='10.0.0.1', port=14000): Max retries exceeded with url: /dir (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'",
            ),
            read("Saving debug log\nSomething odd\nAsk for help or search"),
            read(""),
        ];
        insta::assert_snapshot!(said.join("\n"), @r#"
                acme-v02.api.letsencrypt.org gives no more for now: too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s
                  `ship up` asks again after that
                  1777863721
                acme-v02.api.letsencrypt.org could not verify a.example.com: 203.0.113.9: Invalid response from http://a.example.com/.well-known/acme-challenge/x: 404
                  a.example.com leads to another server, or something answers before nginx does; the next `ship up` tries again
                acme-v02.api.letsencrypt.org could not verify a.example.com: 203.0.113.7: Fetching http://a.example.com/.well-known/acme-challenge/x: Timeout during connect (likely firewall problem)
                  port 80 of this server must be open to the world: look at the cloud's firewall, then at the server's (`ship ssh -- nft list ruleset`); the next `ship up` tries again
                acme-v02.api.letsencrypt.org could not verify a.example.com: DNS problem: NXDOMAIN looking up A for a.example.com - check that a DNS record exists for this domain
                  set the records of a.example.com; the next `ship up` tries again
                acme-v02.api.letsencrypt.org could not verify a.example.com: CAA record for a.example.com prevents issuance
                  the zone's CAA records must name the authority, as `0 issue "letsencrypt.org"`; the next `ship up` tries again
                acme-v02.api.letsencrypt.org can't be reached from the server: Connection refused
                  the next `ship up` tries again
                acme-v02.api.letsencrypt.org shows a certificate that the server doesn't trust
                  name the root of a private authority: `tls: {directory: …, ca: FILE}`
                Something odd
                  /var/log/letsencrypt/letsencrypt.log on the server has all of it; the next `ship up` tries again
                certbot said nothing
                  /var/log/letsencrypt/letsencrypt.log on the server has all of it; the next `ship up` tries again
                "#);
    }
}
