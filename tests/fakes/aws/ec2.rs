//! What EC2 does and moto doesn't: client tokens, limits, states that take a while, things that are there but don't show
//! yet, what depends on what, and public addresses that belong to nobody.
//!
//! Invariant: no answer shows an address that moto made up. One request at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use roxmltree::{Document, Node};

use super::addresses::Addresses;
use super::answer::{Edits, child, child_text, items, parse, texts};
use super::call::{Call, Refusal, Service};
use super::machines::Machines;
use super::upstream::Upstream;
use crate::fakes::http::Response;

/// Bytes of user data, as it is and as base64.
const USER_DATA: usize = 16_384;
const USER_DATA_ENCODED: usize = 25_600;

/// EC2, in front of moto.
#[derive(Debug)]
pub struct Ec2 {
    moto: Upstream,
    tokens: HashMap<Token, First>,
    /// Looks that a state takes to pass.
    pub lag: u32,
    pub(super) states: HashMap<String, Passing>,
    unseen: HashMap<String, u32>,
    pub(super) addresses: Addresses,
    /// Real servers behind those that are made with user data.
    pub machines: Option<Machines>,
    pub(super) keys: HashMap<String, String>,
    pub(super) held: BTreeMap<Ipv4Addr, String>,
}

/// What a client token stands for: it is good for one action in one region, or one zone where the request names one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Token {
    action: String,
    place: String,
    token: String,
}

/// The request that a token first came with, and what became of it.
#[derive(Debug, Clone)]
struct First {
    parameters: BTreeMap<String, String>,
    answer: Response,
    instances: Vec<String>,
}

/// A state on the way to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing {
    code: &'static str,
    name: &'static str,
    pub(super) looks: u32,
}

impl Ec2 {
    /// With nothing in it but what moto starts with.
    pub fn new(moto: Upstream) -> Self {
        Self {
            moto,
            tokens: HashMap::new(),
            lag: 1,
            states: HashMap::new(),
            unseen: HashMap::new(),
            addresses: Addresses::default(),
            machines: None,
            keys: HashMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// From now on servers that are made with user data boot. Elastic addresses are what a box can really have then.
    pub fn boot(&mut self, packages: bool, elastic: Vec<Ipv4Addr>) {
        self.machines = Some(Machines::new(packages));
        self.addresses = Addresses::with_elastic(elastic);
    }

    /// Answers a request that is allowed; what it makes can't be seen for that many looks.
    pub fn answer(&mut self, call: &Call, unseen: u32) -> Response {
        self.attempt(call, unseen).unwrap_or_else(|refusal| refusal.response(&Service::Ec2))
    }

    fn attempt(&mut self, call: &Call, unseen: u32) -> Result<Response, Refusal> {
        limits(call)?;
        self.look_for(call)?;
        let dry = call.parameter("DryRun") == "true";
        let token = self.token(call).filter(|_| !dry);
        if let Some(token) = &token
            && let Some(first) = self.tokens.get(token).cloned()
        {
            self.same_again(call, &first)?;
            return Ok(self.shown(call, first.answer, &Wanted::default()));
        }
        match call.action.as_str() {
            "RunInstances" => self.fits(call)?,
            "DeleteSecurityGroup" => self.unused(call)?,
            _ => {}
        }
        let mut parameters = call.parameters.clone();
        let wanted = if call.action == "DescribeInstances" {
            Wanted::take(&mut parameters)
        } else {
            Wanted::default()
        };
        if call.action == "AllocateAddress" && call.parameter("Address").is_empty() {
            parameters.insert("Address".into(), self.addresses.elastic().to_string());
        }
        let answer = self.ask(&call.region, &parameters);
        if answer.status == 200 && !dry {
            self.happened(call, &answer, unseen);
            if let Some(token) = token {
                let instances = texts(&text(&answer), "instanceId");
                let first = First { parameters: call.parameters.clone(), answer: answer.clone(), instances };
                self.tokens.insert(token, first);
            }
        }
        Ok(self.shown(call, answer, &wanted))
    }

    /// Asks moto itself; panics when it stumbles, because a client would only try again.
    pub fn ask(&self, region: &str, parameters: &BTreeMap<String, String>) -> Response {
        let answer = self.moto.query("ec2", region, parameters);
        assert!(answer.status < 500, "moto can't do {parameters:?}: {}", text(&answer));
        answer
    }

    /// The same; what it says.
    pub(super) fn ask_for(&self, region: &str, parameters: &[(&str, &str)]) -> String {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        text(&self.ask(region, &parameters.iter().map(pair).collect()))
    }

    fn token(&self, call: &Call) -> Option<Token> {
        let token = call.parameters.get("ClientToken").filter(|token| !token.is_empty())?;
        let zone = [call.parameter("Placement.AvailabilityZone"), call.parameter("AvailabilityZone")];
        let zone = zone.into_iter().find(|zone| !zone.is_empty()).map(str::to_owned);
        let subnets = ["SubnetId", "NetworkInterface.1.SubnetId"].map(|name| call.parameter(name));
        let subnet = subnets.into_iter().find(|subnet| !subnet.is_empty());
        let of_subnet = || {
            let answer =
                self.ask_for(&call.region, &[("Action", "DescribeSubnets"), ("SubnetId.1", subnet?)]);
            texts(&answer, "availabilityZone").pop()
        };
        let place = zone.or_else(of_subnet).unwrap_or_else(|| call.region.clone());
        Some(Token { action: call.action.clone(), place, token: token.clone() })
    }

    /// A token comes a second time.
    fn same_again(&self, call: &Call, first: &First) -> Result<(), Refusal> {
        if call.parameters != first.parameters {
            let message = "Arguments on this idempotent request are inconsistent with arguments used in previous \
                           request(s).";
            return Err(Refusal::new(400, "IdempotentParameterMismatch", message));
        }
        for instance in &first.instances {
            if self.moto_state(&call.region, instance) == "terminated" {
                let message = "The client token you have provided is associated with a terminated instance. Please \
                               use a different client token.";
                return Err(Refusal::new(400, "IdempotentInstanceTerminated", message));
            }
        }
        Ok(())
    }

    fn moto_state(&self, region: &str, instance: &str) -> String {
        let answer = self.ask_for(region, &[("Action", "DescribeInstances"), ("InstanceId.1", instance)]);
        let document = parse(&answer);
        let mut states = document.descendants().filter(|node| node.tag_name().name() == "instanceState");
        states.next().map_or("", |state| child_text(state, "name")).to_owned()
    }

    /// A type's processor must be the image's.
    fn fits(&self, call: &Call) -> Result<(), Refusal> {
        let image = [("Action", "DescribeImages"), ("ImageId.1", call.parameter("ImageId"))];
        let kind = [("Action", "DescribeInstanceTypes"), ("InstanceType.1", call.parameter("InstanceType"))];
        let Some(image) = texts(&self.ask_for(&call.region, &image), "architecture").pop() else {
            return Ok(());
        };
        let kinds = self.ask_for(&call.region, &kind);
        let document = parse(&kinds);
        let of_kind: Vec<&str> = document
            .descendants()
            .filter(|node| node.tag_name().name() == "supportedArchitectures")
            .flat_map(|set| set.descendants().filter_map(|item| item.text()))
            .collect();
        let Some(first) = of_kind.first().filter(|_| !of_kind.contains(&image.as_str())) else {
            return Ok(());
        };
        let message = format!(
            "The architecture '{first}' of the specified instance type does not match the architecture '{image}' of \
             the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again. \
             You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the instance \
             type or AMI."
        );
        Err(Refusal::new(400, "InvalidParameterValue", message))
    }

    /// A group can't go while a server that isn't gone itself is in it.
    fn unused(&self, call: &Call) -> Result<(), Refusal> {
        let mut group = call.parameter("GroupId").to_owned();
        if group.is_empty() {
            let by_name = [
                ("Action", "DescribeSecurityGroups"),
                ("Filter.1.Name", "group-name"),
                ("Filter.1.Value.1", call.parameter("GroupName")),
            ];
            group = texts(&self.ask_for(&call.region, &by_name), "groupId")
                .into_iter()
                .next()
                .unwrap_or_default();
        }
        let members = [
            ("Action", "DescribeInstances"),
            ("Filter.1.Name", "instance.group-id"),
            ("Filter.1.Value.1", &group),
        ];
        let answer = self.ask_for(&call.region, &members);
        let document = parse(&answer);
        let here = instances(&document).any(|(_, instance)| {
            let going =
                self.states.get(child_text(instance, "instanceId")).is_some_and(|state| state.looks > 0);
            state_of(instance) != "terminated" || going
        });
        if here {
            let message = format!("resource {group} has a dependent object");
            return Err(Refusal::new(400, "DependencyViolation", message));
        }
        Ok(())
    }

    /// Something that can't be seen yet is asked for by name.
    fn look_for(&mut self, call: &Call) -> Result<(), Refusal> {
        // A group may have the name of a key.
        let names = |name: &str| !name.starts_with("Filter.") && name != "GroupName";
        let named = call.parameters.iter().filter(|(name, _)| names(name));
        let missing = named.map(|(_, value)| value).find(|value| self.unseen.contains_key(*value));
        let Some(id) = missing.cloned() else { return Ok(()) };
        self.looked(&id);
        Err(not_found(&id))
    }

    /// Counts a look at something; whether it can't be seen yet.
    fn looked(&mut self, id: &str) -> bool {
        let Some(looks) = self.unseen.get_mut(id) else { return false };
        *looks -= 1;
        if *looks == 0 {
            self.unseen.remove(id);
        }
        true
    }

    /// A request succeeded.
    fn happened(&mut self, call: &Call, answer: &Response, unseen: u32) {
        let xml = text(answer);
        if unseen > 0 {
            let id = match call.action.as_str() {
                "RunInstances" => "instanceId",
                "AllocateAddress" => "allocationId",
                "CreateSecurityGroup" => "groupId",
                "ImportKeyPair" | "CreateKeyPair" => "keyName",
                other => panic!("the fake doesn't know what {other} makes"),
            };
            self.unseen.extend(texts(&xml, id).into_iter().map(|id| (id, unseen)));
        }
        self.tell_machines(call, &xml);
        let passing = |code, name| Passing { code, name, looks: self.lag };
        let passing = match call.action.as_str() {
            "RunInstances" | "StartInstances" => passing("0", "pending"),
            "StopInstances" => passing("64", "stopping"),
            "TerminateInstances" => passing("32", "shutting-down"),
            _ => return,
        };
        let instances: BTreeSet<String> = texts(&xml, "instanceId").into_iter().collect();
        for instance in instances {
            match call.action.as_str() {
                "TerminateInstances" => self.leave_addresses(&call.region, &instance),
                "RunInstances" => self.complete(call, &instance),
                _ => {}
            }
            self.states.insert(instance, passing);
        }
        self.move_addresses(&call.region);
    }

    /// moto forgets a new server's protection, and the groups of an interface that the request describes.
    fn complete(&self, call: &Call, instance: &str) {
        let mut attributes = Vec::new();
        let groups = call.list("NetworkInterface.1.SecurityGroupId");
        if !groups.is_empty() {
            let name = |n: usize| format!("GroupId.{}", n + 1);
            attributes
                .push(groups.iter().enumerate().map(|(n, group)| (name(n), *group)).collect::<Vec<_>>());
        }
        if call.parameter("DisableApiTermination") == "true" {
            attributes.push(vec![("DisableApiTermination.Value".to_owned(), "true")]);
        }
        for attribute in attributes {
            let fixed = [("Action", "ModifyInstanceAttribute"), ("InstanceId", instance)];
            let named = attribute.iter().map(|(name, value)| (name.as_str(), *value));
            self.ask_for(&call.region, &fixed.into_iter().chain(named).collect::<Vec<_>>());
        }
    }

    /// A server that goes leaves its addresses to their owner.
    fn leave_addresses(&self, region: &str, instance: &str) {
        let of_instance = [
            ("Action", "DescribeAddresses"),
            ("Filter.1.Name", "instance-id"),
            ("Filter.1.Value.1", instance),
        ];
        for association in texts(&self.ask_for(region, &of_instance), "associationId") {
            self.ask_for(region, &[("Action", "DisassociateAddress"), ("AssociationId", &association)]);
        }
    }

    /// moto's answer as the client is to see it.
    fn shown(&mut self, call: &Call, answer: Response, wanted: &Wanted) -> Response {
        let xml = text(&answer);
        let document = parse(&xml);
        let mut edits = Edits::default();
        match call.action.as_str() {
            "RunInstances" => instances(&document).for_each(|(_, instance)| newborn(instance, &mut edits)),
            "DescribeInstances" => self.describe(&document, wanted, &mut edits),
            action => {
                if let Some((set, id)) = listed(action) {
                    let unseen = |item: &Node| self.looked(child_text(*item, id));
                    items(document.root_element(), set).filter(unseen).for_each(|item| edits.remove(item));
                }
            }
        }
        if call.action == "DescribeAddresses" {
            // moto says that a free address belongs to the server named nothing.
            let parts = items(document.root_element(), "addressesSet").flat_map(|item| item.children());
            parts
                .filter(|part| part.is_element() && !part.has_children())
                .for_each(|part| edits.remove(part));
        }
        self.addresses.mend(&document, &mut edits);
        let body = edits.apply(&xml);
        for trace in ["54.214.", "54-214-"] {
            assert!(!body.contains(trace), "an address that moto made up would be shown:\n{body}");
        }
        Response { body: body.into_bytes(), ..answer }
    }

    fn describe(&mut self, document: &Document, wanted: &Wanted, edits: &mut Edits) {
        let mut left: BTreeMap<usize, usize> = BTreeMap::new();
        for (reservation, instance) in instances(document) {
            let id = child_text(instance, "instanceId");
            let mut state = state_of(instance);
            let hidden = self.looked(id);
            self.await_machine(id);
            if let Some(passing) = self.states.get_mut(id).filter(|passing| !hidden && passing.looks > 0) {
                passing.looks -= 1;
                state = passing.name;
                if state == "pending" {
                    newborn(instance, edits);
                }
                let shown = child(instance, "instanceState");
                edits.text(shown.and_then(|shown| child(shown, "code")), passing.code);
                edits.text(shown.and_then(|shown| child(shown, "name")), passing.name);
            }
            let count = left.entry(reservation.range().start).or_default();
            if hidden || !wanted.allows(state, child_text(instance, "clientToken")) {
                edits.remove(instance);
            } else {
                *count += 1;
            }
        }
        for reservation in items(document.root_element(), "reservationSet") {
            if left.get(&reservation.range().start) == Some(&0) {
                edits.remove(reservation);
            }
        }
    }
}

/// Filters that moto doesn't know, or that must look at the states shown and not at moto's.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    states: Option<Vec<String>>,
    tokens: Option<Vec<String>>,
}

impl Wanted {
    /// Takes them out of a request.
    fn take(parameters: &mut BTreeMap<String, String>) -> Self {
        let mut wanted = Self::default();
        let filters: Vec<(String, Vec<String>)> = (1..)
            .map_while(|n| {
                let name = parameters.get(&format!("Filter.{n}.Name"))?.clone();
                let value = |m: usize| parameters.get(&format!("Filter.{n}.Value.{m}")).cloned();
                Some((name, (1..).map_while(value).collect()))
            })
            .collect();
        parameters.retain(|name, _| !name.starts_with("Filter."));
        let mut n = 0;
        for (name, values) in filters {
            match name.as_str() {
                "instance-state-name" => wanted.states = Some(values),
                "client-token" => wanted.tokens = Some(values),
                _ => {
                    n += 1;
                    parameters.insert(format!("Filter.{n}.Name"), name);
                    for (m, value) in values.into_iter().enumerate() {
                        parameters.insert(format!("Filter.{n}.Value.{}", m + 1), value);
                    }
                }
            }
        }
        wanted
    }

    fn allows(&self, state: &str, token: &str) -> bool {
        let allows = |wanted: &Option<Vec<String>>, is: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|wanted| wanted == is))
        };
        allows(&self.states, state) && allows(&self.tokens, token)
    }
}

/// What AWS refuses without a look at anything else.
fn limits(call: &Call) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(400, "InvalidParameterValue", message));
    let page = call.parameters.get("MaxResults").and_then(|page| page.parse::<u32>().ok());
    if let Some(page) = page.filter(|page| call.action == "DescribeInstances" && *page < 5) {
        return invalid(format!(
            "Value ( {page} ) for parameter maxResults is invalid. Expecting a value greater than 5."
        ));
    }
    let token = call.parameter("ClientToken");
    if token.len() > 64 {
        return invalid(format!(
            "Value ({token}) for parameter clientToken is invalid. It must have no more than 64 characters"
        ));
    }
    let Some(encoded) = call.parameters.get("UserData") else { return Ok(()) };
    let Some(data) = call.user_data() else { return invalid("Invalid BASE64 encoding of user data.".into()) };
    if encoded.len() > USER_DATA_ENCODED {
        return invalid(format!("Encoded User data is limited to {USER_DATA_ENCODED} bytes"));
    }
    if data.len() > USER_DATA {
        return invalid(format!("User data is limited to {USER_DATA} bytes"));
    }
    Ok(())
}

/// A server as moto keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// `running`, `terminated`…; those in between don't show here.
    pub state: String,
    /// `t3.micro`
    pub kind: String,
    /// `ami-…`
    pub image: String,
    /// All of its tags.
    pub tags: BTreeMap<String, String>,
    /// The names of the groups that it is in.
    pub groups: Vec<String>,
}

impl Instance {
    /// Reads all servers in an answer.
    pub fn read(xml: &str) -> Vec<Self> {
        let text = |node: Node, name: &str| child_text(node, name).to_owned();
        let read = |(_, node): (Node, Node)| Self {
            id: text(node, "instanceId"),
            state: state_of(node).to_owned(),
            kind: text(node, "instanceType"),
            image: text(node, "imageId"),
            tags: items(node, "tagSet").map(|tag| (text(tag, "key"), text(tag, "value"))).collect(),
            groups: items(node, "groupSet").map(|group| text(group, "groupName")).collect(),
        };
        instances(&parse(xml)).map(read).collect()
    }
}

/// How AWS says that something isn't there.
fn not_found(id: &str) -> Refusal {
    let (code, message) = match id.split_once('-').map_or("", |(kind, _)| kind) {
        "i" => ("InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist")),
        "sg" => ("InvalidGroup.NotFound", format!("The security group '{id}' does not exist")),
        "eipalloc" => ("InvalidAllocationID.NotFound", format!("The allocation ID '{id}' does not exist")),
        _ => ("InvalidKeyPair.NotFound", format!("The key pair '{id}' does not exist")),
    };
    Refusal::new(400, code, message)
}

/// Where an action lists things, and by what they are known there.
fn listed(action: &str) -> Option<(&'static str, &'static str)> {
    match action {
        "DescribeInstanceStatus" => Some(("instanceStatusSet", "instanceId")),
        "DescribeAddresses" => Some(("addressesSet", "allocationId")),
        "DescribeSecurityGroups" => Some(("securityGroupInfo", "groupId")),
        "DescribeSecurityGroupRules" => Some(("securityGroupRuleSet", "groupId")),
        "DescribeKeyPairs" => Some(("keySet", "keyName")),
        "DescribeTags" => Some(("tagSet", "resourceId")),
        _ => None,
    }
}

/// Every server in an answer, after the reservation that it is in.
pub(super) fn instances<'a, 'i>(
    document: &'a Document<'i>,
) -> impl Iterator<Item = (Node<'a, 'i>, Node<'a, 'i>)> {
    let root = document.root_element();
    let reservations: Vec<Node> = match root.tag_name().name() {
        "DescribeInstancesResponse" => items(root, "reservationSet").collect(),
        _ => vec![root],
    };
    reservations.into_iter().flat_map(|reservation| {
        items(reservation, "instancesSet").map(move |instance| (reservation, instance))
    })
}

fn state_of<'a>(instance: Node<'a, '_>) -> &'a str {
    child(instance, "instanceState").map_or("", |state| child_text(state, "name"))
}

/// A server that has just been asked for has no public address yet.
fn newborn(instance: Node, edits: &mut Edits) {
    for node in instance.descendants().filter(|node| node.is_element()) {
        match node.tag_name().name() {
            "ipAddress" | "association" => edits.remove(node),
            "dnsName" => edits.text(Some(node), ""),
            _ => {}
        }
    }
}

fn text(answer: &Response) -> String {
    String::from_utf8(answer.body.clone()).expect("XML in UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_filters_are_taken_out_and_the_rest_moves_up() {
        let parameters = [
            ("Action", "DescribeInstances"),
            ("Filter.1.Name", "instance-state-name"),
            ("Filter.1.Value.1", "pending"),
            ("Filter.1.Value.2", "running"),
            ("Filter.2.Name", "tag:app"),
            ("Filter.2.Value.1", "library"),
            ("Filter.3.Name", "client-token"),
            ("Filter.3.Value.1", "t"),
        ];
        let mut parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let wanted = Wanted::take(&mut parameters);
        let left: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            left,
            [("Action", "DescribeInstances"), ("Filter.1.Name", "tag:app"), ("Filter.1.Value.1", "library")]
        );
        assert!(
            wanted.allows("pending", "t")
                && !wanted.allows("terminated", "t")
                && !wanted.allows("running", "u")
        );
        assert!(Wanted::default().allows("terminated", ""));
    }
}
