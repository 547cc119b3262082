//! What a request to AWS asks for, whichever protocol it is in.
//!
//! Invariant: pure. Names are AWS's own: the action as a policy spells it, parameters as the query protocol does.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fakes::http::{Request, Response};

/// The service that a request is signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Query protocol.
    Ec2,
    /// REST with XML.
    Route53,
    /// Query protocol.
    Sts,
    /// Whatever else, by its name in signatures.
    Other(String),
}

/// One request, read.
#[derive(Debug, Clone)]
pub struct Call {
    /// Whom it is for.
    pub service: Service,
    /// `RunInstances`, `ChangeResourceRecordSets`
    pub action: String,
    /// The region that it is signed for.
    pub region: String,
    /// The access key that it is signed with.
    pub key: String,
    /// POST, GET…
    pub method: String,
    /// The path as sent, without the query.
    pub path: String,
    /// Decoded: of the form, or with Route 53 of the query.
    pub parameters: BTreeMap<String, String>,
    /// As sent.
    pub body: String,
}

impl Call {
    /// Reads a request; `default` is the service of one that isn't signed.
    pub fn read(request: &Request, default: Service) -> Self {
        let scope = Scope::read(request.header("Authorization"));
        let service = match scope.service {
            "ec2" => Service::Ec2,
            "route53" => Service::Route53,
            "sts" => Service::Sts,
            "" => default,
            other => Service::Other(other.to_owned()),
        };
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let form = request.header("Content-Type").starts_with("application/x-www-form-urlencoded");
        let encoded = if form { request.body.as_slice() } else { request.query.as_bytes() };
        let parameters: BTreeMap<_, _> = form_urlencoded::parse(encoded).into_owned().collect();
        let action = match &service {
            Service::Route53 => route53_action(&request.method, &request.path),
            Service::Ec2 | Service::Sts | Service::Other(_) => {
                let target = request.header("X-Amz-Target").rsplit('.').next().map(str::to_owned);
                parameters.get("Action").cloned().or(target).unwrap_or_default()
            }
        };
        Self {
            service,
            action,
            region: scope.region.to_owned(),
            key: scope.key.to_owned(),
            method: request.method.clone(),
            path: request.path.clone(),
            parameters,
            body,
        }
    }

    /// A parameter, or nothing.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// `NAME.1`, `NAME.2`…
    pub fn list(&self, name: &str) -> Vec<&str> {
        (1..).map_while(|n| self.parameters.get(&format!("{name}.{n}"))).map(String::as_str).collect()
    }

    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !["Describe", "Get", "List"].iter().any(|verb| self.action.starts_with(verb))
    }

    /// What a server that this starts is given to boot with; nothing if that isn't base64, either.
    pub fn user_data(&self) -> Option<Vec<u8>> {
        self.parameters.get("UserData").and_then(|data| STANDARD.decode(data).ok())
    }

    /// The kinds of things that this tags as it makes them.
    pub fn tagged(&self) -> Vec<&str> {
        let kind = |n| self.parameters.get(&format!("TagSpecification.{n}.ResourceType"));
        (1..).map_while(kind).map(String::as_str).collect()
    }

    /// The tags that things of a kind (`instance`) are made with.
    pub fn tags(&self, kind: &str) -> BTreeMap<&str, &str> {
        let mut tags = BTreeMap::new();
        for (index, _) in self.tagged().iter().enumerate().filter(|(_, tagged)| **tagged == kind) {
            let part = |n: usize, part: &str| {
                let name = format!("TagSpecification.{}.Tag.{n}.{part}", index + 1);
                self.parameters.get(&name).map(String::as_str)
            };
            tags.extend((1..).map_while(|n| Some((part(n, "Key")?, part(n, "Value").unwrap_or("")))));
        }
        tags
    }
}

/// Encodes parameters as a form.
pub fn form(parameters: &BTreeMap<String, String>) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish().into_bytes()
}

/// A signature's scope: `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
struct Scope<'a> {
    key: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn read(authorization: &'a str) -> Self {
        let (_, scope) = authorization.split_once("Credential=").unwrap_or_default();
        let mut parts = scope.split([',', ' ']).next().unwrap_or_default().split('/');
        let mut part = || parts.next().unwrap_or_default();
        let (key, _date, region, service) = (part(), part(), part(), part());
        Self { key, region, service }
    }
}

/// The action behind a method and a path; both if there is none.
fn route53_action(method: &str, path: &str) -> String {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).skip(1).collect();
    let action = match (method, words.as_slice()) {
        ("GET", ["hostedzone"]) => "ListHostedZones",
        ("POST", ["hostedzone"]) => "CreateHostedZone",
        ("GET", ["hostedzone", _]) => "GetHostedZone",
        ("POST", ["hostedzone", _]) => "UpdateHostedZoneComment",
        ("DELETE", ["hostedzone", _]) => "DeleteHostedZone",
        ("GET", ["hostedzone", _, "rrset"]) => "ListResourceRecordSets",
        ("POST", ["hostedzone", _, "rrset"]) => "ChangeResourceRecordSets",
        ("GET", ["hostedzonesbyname"]) => "ListHostedZonesByName",
        ("GET", ["hostedzonecount"]) => "GetHostedZoneCount",
        ("GET", ["change", _]) => "GetChange",
        ("GET", ["tags", _, _]) => "ListTagsForResource",
        ("POST", ["tags", _, _]) => "ChangeTagsForResource",
        _ => return format!("{method} {path}"),
    };
    action.to_owned()
}

/// An error as AWS words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `RequestLimitExceeded`
    pub code: String,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// Any error.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }

    /// Too many requests.
    pub fn throttled(service: &Service) -> Self {
        match service {
            Service::Ec2 => Self::new(503, "RequestLimitExceeded", "Request limit exceeded."),
            Service::Route53 | Service::Sts | Service::Other(_) => {
                Self::new(400, "Throttling", "Rate exceeded")
            }
        }
    }

    /// Out of order for a moment.
    pub fn unavailable(service: &Service) -> Self {
        match service {
            Service::Ec2 => {
                Self::new(503, "Unavailable", "The service is unavailable. Please try again shortly.")
            }
            Service::Route53 | Service::Sts | Service::Other(_) => {
                Self::new(503, "ServiceUnavailable", "Service is unable to handle request.")
            }
        }
    }

    /// An error of AWS's own.
    pub fn internal(service: &Service) -> Self {
        let code = match service {
            Service::Ec2 => "InternalError",
            Service::Route53 | Service::Sts | Service::Other(_) => "InternalFailure",
        };
        Self::new(500, code, "An internal error has occurred")
    }

    /// RunInstances with an account's limit of virtual processors reached.
    pub fn vcpu_limit(limit: u32) -> Self {
        let message = format!(
            "You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance \
             bucket that the specified instance type belongs to. Please visit \
             http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
        );
        Self::new(400, "VcpuLimitExceeded", message)
    }

    /// RunInstances with an account's limit of servers reached.
    pub fn instance_limit(limit: u32) -> Self {
        let message = format!(
            "You have requested more instances (1) than your current instance limit of {limit} allows for the \
             specified instance type. Please visit http://aws.amazon.com/contact-us/ec2-request to request an \
             adjustment to this limit."
        );
        Self::new(400, "InstanceLimitExceeded", message)
    }

    /// AllocateAddress with an account's limit of addresses reached.
    pub fn address_limit() -> Self {
        Self::new(400, "AddressLimitExceeded", "The maximum number of addresses has been reached.")
    }

    /// Route 53 while it still works on an earlier request.
    pub fn prior_request() -> Self {
        let message = "The request was rejected because Route 53 was still processing a prior request.";
        Self::new(400, "PriorRequestNotComplete", message)
    }

    /// As the service sends it.
    pub fn response(&self, service: &Service) -> Response {
        let (code, message) = (escape(&self.code), escape(&self.message));
        let id = "59dbff89-35bd-4eac-99ed-be587ed00825";
        let body = match service {
            Service::Ec2 => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>{id}</RequestID></Response>"
            ),
            Service::Route53 | Service::Sts | Service::Other(_) => {
                let namespace = match service {
                    Service::Route53 => "https://route53.amazonaws.com/doc/2013-04-01/",
                    Service::Ec2 | Service::Sts | Service::Other(_) => {
                        "https://sts.amazonaws.com/doc/2011-06-15/"
                    }
                };
                let side = if self.status < 500 { "Sender" } else { "Receiver" };
                format!(
                    "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{side}</Type><Code>{code}</Code>\
                     <Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
                )
            }
        };
        let headers = vec![("Content-Type".to_owned(), "text/xml;charset=UTF-8".to_owned())];
        let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
        Response { status: self.status, headers, body: format!("{declaration}{body}").into_bytes() }
    }
}

/// Text for XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_route53_are_actions() {
        let check =
            |method, path, action| assert_eq!(route53_action(method, path), action, "{method} {path}");
        check("GET", "/2013-04-01/hostedzone", "ListHostedZones");
        check("POST", "/2013-04-01/hostedzone", "CreateHostedZone");
        check("GET", "/2013-04-01/hostedzone/Z1", "GetHostedZone");
        check("DELETE", "/2013-04-01/hostedzone/Z1", "DeleteHostedZone");
        check("POST", "/2013-04-01/hostedzone/Z1/rrset/", "ChangeResourceRecordSets");
        check("GET", "/2013-04-01/hostedzone/Z1/rrset", "ListResourceRecordSets");
        check("GET", "/2013-04-01/hostedzonesbyname", "ListHostedZonesByName");
        check("GET", "/2013-04-01/change/C1", "GetChange");
        check("PUT", "/2013-04-01/change/C1", "PUT /2013-04-01/change/C1");
    }

    fn call(form: &str) -> Call {
        let parameters = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
        Call {
            service: Service::Ec2,
            action: "RunInstances".into(),
            region: "eu-central-1".into(),
            key: String::new(),
            method: "POST".into(),
            path: "/".into(),
            parameters,
            body: form.into(),
        }
    }

    #[test]
    fn lists_tags_and_user_data_are_read() {
        let call = call(
            "SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&UserData=I2Nsb3VkLWNvbmZpZwo%3D\
             &TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=v\
             &TagSpecification.2.ResourceType=instance&TagSpecification.2.Tag.1.Key=ship%3Aapp\
             &TagSpecification.2.Tag.1.Value=a+b&TagSpecification.2.Tag.2.Key=empty",
        );
        assert_eq!(call.list("SecurityGroupId"), ["sg-1", "sg-2"]);
        assert_eq!(call.user_data().unwrap(), b"#cloud-config\n");
        assert_eq!(call.tagged(), ["volume", "instance"]);
        assert_eq!(call.tags("instance"), BTreeMap::from([("ship:app", "a b"), ("empty", "")]));
        assert_eq!(call.tags("key-pair"), BTreeMap::new());
    }

    #[test]
    fn a_scope_names_key_region_and_service() {
        let scope = Scope::read(
            "AWS4-HMAC-SHA256 Credential=AKIA/20261121/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0",
        );
        assert_eq!((scope.key, scope.region, scope.service), ("AKIA", "eu-central-1", "ec2"));
        let none = Scope::read("");
        assert_eq!((none.key, none.region, none.service), ("", "", ""));
    }

    #[test]
    fn an_error_is_in_the_form_of_its_service() {
        let refusal = Refusal::new(400, "InvalidInput", "a < b");
        let body = |service: &Service| String::from_utf8(refusal.response(service).body).unwrap();
        assert!(
            body(&Service::Ec2)
                .contains("<Response><Errors><Error><Code>InvalidInput</Code><Message>a &lt; b<")
        );
        let route53 = body(&Service::Route53);
        assert!(
            route53
                .contains("<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error>")
        );
        assert!(route53.contains("<Type>Sender</Type>"));
    }
}
