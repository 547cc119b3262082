//! Reading and mending the XML that moto answers.
//!
//! Invariant: pure. What isn't mended stays as it came, byte for byte.

use std::net::Ipv4Addr;
use std::ops::Range;

use roxmltree::{Document, Node};

use super::call::escape;

/// Parts of a document to replace.
#[derive(Debug, Default)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Leaves an element out.
    pub fn remove(&mut self, node: Node) {
        self.0.push((node.range(), String::new()));
    }

    /// Gives an element another text, if it is there.
    pub fn text(&mut self, node: Option<Node>, text: &str) {
        let Some(node) = node else { return };
        let name = node.tag_name().name();
        self.0.push((node.range(), format!("<{name}>{}</{name}>", escape(text))));
    }

    /// The document with all of it done; what lies in a part that goes goes with it.
    pub fn apply(mut self, xml: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let mut mended = String::with_capacity(xml.len());
        let mut done = 0;
        for (range, text) in self.0.iter().filter(|(range, _)| !range.is_empty()) {
            if range.start >= done {
                mended.push_str(&xml[done..range.start]);
                mended.push_str(text);
                done = range.end;
            }
        }
        mended.push_str(&xml[done..]);
        mended
    }
}

/// Reads a document; panics if it isn't one, because then nobody would check what a client is shown.
pub fn parse(xml: &str) -> Document<'_> {
    Document::parse(xml).unwrap_or_else(|error| panic!("not XML: {error}:\n{xml}"))
}

/// An element's child of that name.
pub fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name_anyhow(name))
}

/// The text of a child, or nothing.
pub fn child_text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default()
}

/// The `item`s of a child.
pub fn items<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> + use<'a, 'i> {
    child(node, name).into_iter().flat_map(|set| items_named(set, "item"))
}

/// The children of that name.
pub fn items_named<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> + use<'a, 'i> {
    node.children().filter(move |item| item.has_tag_name_anyhow(name))
}

/// The texts of all elements of that name.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let document = parse(xml);
    let all = document.descendants().filter(|node| node.has_tag_name_anyhow(name));
    all.map(|node| node.text().unwrap_or_default().to_owned()).collect()
}

/// The error that an answer is about, if it is one in XML.
pub fn error_code(body: &[u8]) -> Option<String> {
    let document = std::str::from_utf8(body).ok().and_then(|body| Document::parse(body).ok())?;
    let code = document.descendants().find(|node| node.has_tag_name_anyhow("Code"))?;
    code.text().map(str::to_owned)
}

/// The nearest server that an element belongs to.
pub fn instance_of<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let id = |node: Node<'a, '_>| {
        let direct = child_text(node, "instanceId");
        let attached =
            child(node, "attachment").map_or("", |attachment| child_text(attachment, "instanceId"));
        [direct, attached].into_iter().find(|id| !id.is_empty())
    };
    node.ancestors().find_map(id)
}

/// Whether moto made that address up. They belong to someone on the internet.
pub fn invented(address: Ipv4Addr) -> bool {
    address.octets()[..2] == [54, 214]
}

/// The address in a name such as `ec2-54-214-1-2.eu-central-1.compute.amazonaws.com`.
pub fn address_in_name(name: &str) -> Option<Ipv4Addr> {
    let (label, _) = name.split_once('.')?;
    let (_, address) = label.split_once('-')?;
    address.replace('-', ".").parse().ok()
}

/// A namespace is of no interest here.
trait AnyNamespace {
    fn has_tag_name_anyhow(&self, name: &str) -> bool;
}

impl AnyNamespace for Node<'_, '_> {
    fn has_tag_name_anyhow(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<?xml version=\"1.0\"?>\n<R xmlns=\"http://ec2\"><set><item><id>1</id><state>a</state></item>\
                       <item><id>2</id><state>b</state></item></set><after/></R>";

    #[test]
    fn edits_leave_the_rest_alone() {
        let document = parse(XML);
        let mut edits = Edits::default();
        let mut all = items(document.root_element(), "set");
        let (first, second) = (all.next().unwrap(), all.next().unwrap());
        edits.text(child(second, "state"), "c & d");
        edits.text(child(first, "state"), "lost with its item");
        edits.text(child(first, "no such child"), "");
        edits.remove(first);
        let mended = edits.apply(XML);
        let wanted = XML.replace("<item><id>1</id><state>a</state></item>", "").replace(">b<", ">c &amp; d<");
        assert_eq!(mended, wanted);
        assert_eq!(Edits::default().apply(XML), XML);
    }

    #[test]
    fn addresses_are_known_by_name_too() {
        let check =
            |name, address: Option<[u8; 4]>| assert_eq!(address_in_name(name), address.map(Into::into));
        check("ec2-54-214-1-2.eu-central-1.compute.amazonaws.com", Some([54, 214, 1, 2]));
        check("ip-203-0-113-9.ec2.internal", Some([203, 0, 113, 9]));
        check("example.com", None);
        check("", None);
    }
}
