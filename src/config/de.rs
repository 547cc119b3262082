//! Reads a [`Node`] tree into serde types, and says where and how it doesn't fit.
//!
//! Invariant: every unknown key of a file is reported at once; a wrong type stops the reading.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::Problem;
use super::yaml::{Kind, Node, keyed};
use crate::nearest::nearest;

/// What a type knows about names that are not its own.
pub(crate) trait Advice {
    /// What to tell about the unknown `key` of the map at `path` (as written), or nothing.
    fn unknown_key(&self, path: &str, node: &Node, key: &str) -> Option<String>;
    /// What to tell about the missing `key` of the map at `path`, or nothing.
    fn missing_key(&self, path: &str, key: &str) -> Option<String>;
    /// What to tell about a value that `path` can't take, or nothing.
    fn bad_value(&self, path: &str, node: &Node) -> Option<String>;
}

/// No advice.
pub(crate) struct NoAdvice;

impl Advice for NoAdvice {
    fn unknown_key(&self, _: &str, _: &Node, _: &str) -> Option<String> {
        None
    }
    fn missing_key(&self, _: &str, _: &str) -> Option<String> {
        None
    }
    fn bad_value(&self, _: &str, _: &Node) -> Option<String> {
        None
    }
}

/// Reads a tree into `T`. There may be problems beside a value: keys that were passed over.
pub(crate) fn read<T: DeserializeOwned>(root: &Node, advice: &dyn Advice) -> (Option<T>, Vec<Problem>) {
    let context = Context { advice, problems: RefCell::default(), scopes: RefCell::default() };
    let value = T::deserialize(De::new(root, &context)).map_err(|fault| fault.placed(root, &context));
    let mut problems = context.problems.into_inner();
    match value {
        Ok(value) => (Some(value), problems),
        Err(fault) => {
            problems.push(fault.0);
            (None, problems)
        }
    }
}

/// The names of a struct's fields, as serde knows them.
pub(crate) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let names = RefCell::new(&[][..]);
    // The probe never gives a value; only what it was asked for counts.
    drop(T::deserialize(Probe(&names)));
    names.into_inner()
}

struct Context<'a> {
    advice: &'a dyn Advice,
    problems: RefCell<Vec<Problem>>,
    /// The fields of the structs that are being read, outermost first.
    scopes: RefCell<Vec<&'static [&'static str]>>,
}

/// A serde error: a problem whose place is filled in by the innermost node that knows it.
#[derive(Debug)]
pub(crate) struct Fault(Problem);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Problem::new(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => format!("the text `{text}`"),
            Unexpected::Bool(value) => format!("`{value}`"),
            Unexpected::Unsigned(value) => format!("the number {value}"),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a map".to_owned(),
            other => other.to_string(),
        };
        let expected = match expected.to_string().as_str() {
            "u8" => "a whole number up to 255".to_owned(),
            "u16" => "a whole number up to 65535".to_owned(),
            "u32" | "u64" | "usize" => "a whole number from 0 up".to_owned(),
            "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
            "a sequence" => "a list".to_owned(),
            other => other.to_owned(),
        };
        Self(Problem::new(format!("expected {expected}, found {found}")))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Problem { missing: true, ..Problem::new(field) })
    }
}

impl Fault {
    fn expected(what: &str, node: &Node) -> Self {
        Self(Problem::new(format!("expected {what}, found {}", describe(node))))
    }

    /// Gives a fault without a place the place of `node`.
    fn placed(self, node: &Node, context: &Context<'_>) -> Self {
        let mut problem = self.0;
        if problem.place.is_some() {
            return Self(problem);
        }
        if problem.missing {
            let key = problem.message;
            let holder = if node.path.is_empty() { String::new() } else { format!(" in `{}`", node.path) };
            problem = Problem { missing: true, ..Problem::new(format!("`{key}` is missing{holder}")) };
            problem.hints.extend(context.advice.missing_key(&node.path, &key));
            let span = if node.path.is_empty() { 0..0 } else { node.key_span.clone() };
            return Self(problem.at(span, node.path.clone()));
        }
        if !node.path.is_empty() {
            problem.message = format!("`{}`: {}", node.path, problem.message);
        }
        problem.hints.extend(context.advice.bad_value(&node.path, node));
        let span = if node.is_null() { node.key_span.clone() } else { node.span.clone() };
        Self(problem.at(span, node.path.clone()))
    }
}

fn describe(node: &Node) -> String {
    match &node.kind {
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a map".to_owned(),
        Kind::Scalar { .. } if node.is_null() => "nothing".to_owned(),
        Kind::Scalar { text, plain: true } => format!("`{text}`"),
        Kind::Scalar { text, plain: false } => format!("the text `{text}`"),
    }
}

#[derive(Clone, Copy)]
struct De<'n, 'c> {
    node: &'n Node,
    context: &'c Context<'c>,
    /// A key that was used up already: the tag of an enum.
    tag: Option<&'static str>,
}

impl<'n, 'c> De<'n, 'c> {
    fn new(node: &'n Node, context: &'c Context<'c>) -> Self {
        Self { node, context, tag: None }
    }

    fn scalar(&self, what: &str) -> Result<&'n str, Fault> {
        match &self.node.kind {
            Kind::Scalar { text, .. } if !self.node.is_null() => Ok(text),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => Err(Fault::expected(what, self.node)),
        }
    }

    fn entries(&self, what: &str) -> Result<&'n [(String, Node)], Fault> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Scalar { .. } | Kind::List(_) => Err(Fault::expected(what, self.node)),
        }
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let wrong = || Fault::expected("a whole number", self.node);
        match &self.node.kind {
            Kind::Scalar { text, plain: true } => match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => visitor.visit_u64(number),
                (Err(_), Ok(number)) => visitor.visit_i64(number),
                (Err(_), Err(_)) => Err(wrong()),
            },
            Kind::Scalar { text, plain: false } if text.parse::<u64>().is_ok() => {
                Err(Fault(wrong().0.hint("write the number without quotes")))
            }
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => Err(wrong()),
        }
    }

    /// Reads a map; with `fields`, keys that are not among them are reported and passed over.
    fn map<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let entries = self.entries(&self.takes(fields))?;
        if let Some(fields) = fields {
            for (key, value) in entries {
                if !fields.contains(&key.as_str()) && self.tag != Some(key.as_str()) {
                    self.context.problems.borrow_mut().push(self.unknown_key(key, value, fields));
                }
            }
        }
        self.context.scopes.borrow_mut().push(fields.unwrap_or_default());
        let value = visitor.visit_map(Entries {
            rest: entries.iter(),
            value: None,
            context: self.context,
            fields,
            tag: self.tag,
        });
        self.context.scopes.borrow_mut().pop();
        value.map_err(|fault| fault.placed(self.node, self.context))
    }

    fn takes(&self, fields: Option<&[&str]>) -> String {
        match fields {
            Some(fields) => format!("a map ({})", fields.join(", ")),
            None => "a map".to_owned(),
        }
    }

    fn unknown_key(&self, key: &str, value: &Node, fields: &[&str]) -> Problem {
        let path = &self.node.path;
        // A key laid over by an environment belongs where it was written, not where it was laid.
        let holder =
            value.path.strip_suffix(key).map_or(path.as_str(), |parent| parent.trim_end_matches('.'));
        let (within, owner) = if holder.is_empty() {
            (String::new(), "the file".to_owned())
        } else {
            (format!(" in `{holder}`"), format!("`{holder}`"))
        };
        let problem = Problem::new(format!("unknown key `{key}`{within}"))
            .at(value.key_span.clone(), keyed(holder, key));
        let problem = match self.context.advice.unknown_key(path, self.node, key) {
            Some(advice) => problem.hint(advice),
            None => match self.meant(key, fields) {
                Some(meant) => problem.hint(meant),
                None => problem,
            },
        };
        let all: Vec<&str> = self.tag.into_iter().chain(fields.iter().copied()).collect();
        problem.hint(format!("{owner} takes {}", all.join(", ")))
    }

    fn meant(&self, key: &str, fields: &[&str]) -> Option<String> {
        if let Some(near) = nearest(key, fields.iter().copied()) {
            return Some(format!("did you mean `{near}`?"));
        }
        let scopes = self.context.scopes.borrow();
        scopes.iter().rev().enumerate().find_map(|(at, fields)| {
            let near = nearest(key, fields.iter().copied())?;
            let levels = match at {
                0 => "one level up".to_owned(),
                more => format!("{} levels up", more + 1),
            };
            Some(format!("did you mean `{near}` ({levels})?"))
        })
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.integer(visitor).map_err(|fault| fault.placed(self.node, self.context))
        })*
    };
}

impl<'de, 'n, 'c> Deserializer<'de> for De<'n, 'c> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = match &self.node.kind {
            Kind::Map(_) => return self.map(None, visitor),
            Kind::List(_) => return self.deserialize_seq(visitor),
            Kind::Scalar { .. } if self.node.is_null() => visitor.visit_unit(),
            Kind::Scalar { text, plain: false } => visitor.visit_str(text),
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => visitor.visit_bool(true),
                "false" | "False" | "FALSE" => visitor.visit_bool(false),
                text => match (text.parse::<u64>(), text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(number), _, _) => visitor.visit_u64(number),
                    (Err(_), Ok(number), _) => visitor.visit_i64(number),
                    (Err(_), Err(_), Ok(number)) if text.contains(|c: char| c.is_ascii_digit()) => {
                        visitor.visit_f64(number)
                    }
                    (Err(_), Err(_), _) => visitor.visit_str(text),
                },
            },
        };
        value.map_err(|fault: Fault| fault.placed(self.node, self.context))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } if text == "true" => visitor.visit_bool(true),
            Kind::Scalar { text, plain: true } if text == "false" => visitor.visit_bool(false),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {
                Err(Fault::expected("true or false", self.node).placed(self.node, self.context))
            }
        }
    }

    integers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
              deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.text().and_then(|text| text.parse::<f64>().ok()) {
            Some(number) => visitor.visit_f64(number),
            None => Err(Fault::expected("a number", self.node).placed(self.node, self.context)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.scalar("text")
            .and_then(|text| visitor.visit_str(text))
            .map_err(|fault| fault.placed(self.node, self.context))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.is_null() {
            visitor.visit_unit()
        } else {
            Err(Fault::expected("nothing", self.node).placed(self.node, self.context))
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = match &self.node.kind {
            Kind::List(items) => visitor.visit_seq(Items { rest: items.iter(), context: self.context }),
            Kind::Scalar { .. } | Kind::Map(_) => Err(Fault::expected("a list", self.node)),
        };
        value.map_err(|fault| fault.placed(self.node, self.context))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.map(None, visitor).map_err(|fault| fault.placed(self.node, self.context))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.map(Some(fields), visitor).map_err(|fault| fault.placed(self.node, self.context))
    }

    /// A name such as `@provider` says that the key `provider` of the map names the variant, and
    /// the rest of the map is the variant's; serde's own way to do so loses every position.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let chosen = match (name.strip_prefix('@'), &self.node.kind) {
            (Some(tag), _) => {
                self.entries("a map").map_err(|fault| fault.placed(self.node, self.context))?;
                let Some(choice) = self.node.get(tag).filter(|node| !node.is_null()) else {
                    return Err(<Fault as de::Error>::missing_field(tag).placed(self.node, self.context));
                };
                Variant { choice, content: Self { tag: Some(tag), ..self }, variants }
            }
            (None, Kind::Map(entries)) if entries.len() == 1 => {
                let Some((key, value)) = entries.first() else { return self.deserialize_any(visitor) };
                let variant = Key { key, node: value, context: self.context, variants };
                return visitor.visit_enum(variant).map_err(|fault| fault.placed(self.node, self.context));
            }
            (None, Kind::Map(_) | Kind::Scalar { .. } | Kind::List(_)) => {
                Variant { choice: self.node, content: self, variants }
            }
        };
        visitor.visit_enum(chosen).map_err(|fault| fault.placed(self.node, self.context))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

struct Items<'n, 'c> {
    rest: std::slice::Iter<'n, Node>,
    context: &'c Context<'c>,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        seed.deserialize(De::new(node, self.context))
            .map(Some)
            .map_err(|fault| fault.placed(node, self.context))
    }
}

struct Entries<'n, 'c> {
    rest: std::slice::Iter<'n, (String, Node)>,
    value: Option<&'n Node>,
    context: &'c Context<'c>,
    fields: Option<&'static [&'static str]>,
    tag: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        for (key, value) in self.rest.by_ref() {
            let known = self.fields.is_none_or(|fields| fields.contains(&key.as_str()));
            if known && self.tag != Some(key.as_str()) {
                self.value = Some(value);
                let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some(node) = self.value.take() else {
            return Err(<Fault as de::Error>::custom("a value was read before its key"));
        };
        seed.deserialize(De::new(node, self.context)).map_err(|fault| fault.placed(node, self.context))
    }
}

fn variant_name(choice: &Node, text: &str, variants: &[&str], context: &Context<'_>) -> Result<(), Fault> {
    if variants.contains(&text) {
        return Ok(());
    }
    let problem = Problem::new(format!("`{}` can't be `{text}`", choice.path))
        .at(choice.span.clone(), choice.path.clone());
    let problem = match context.advice.bad_value(&choice.path, choice) {
        Some(advice) => problem.hint(advice),
        None => match nearest(text, variants.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        },
    };
    Err(Fault(problem.hint(format!("it takes {}", variants.join(", ")))))
}

/// A variant named by a scalar: the value itself, or the tag inside the map.
struct Variant<'n, 'c> {
    choice: &'n Node,
    content: De<'n, 'c>,
    variants: &'static [&'static str],
}

impl<'de, 'n, 'c> EnumAccess<'de> for Variant<'n, 'c> {
    type Error = Fault;
    type Variant = Content<'n, 'c>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), Fault> {
        let context = self.content.context;
        let text = De::new(self.choice, context)
            .scalar(&format!("one of {}", self.variants.join(", ")))
            .map_err(|fault| fault.placed(self.choice, context))?;
        variant_name(self.choice, text, self.variants, context)?;
        let name: StrDeserializer<'_, Fault> = text.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

/// A variant named by the only key of a map.
struct Key<'n, 'c> {
    key: &'n str,
    node: &'n Node,
    context: &'c Context<'c>,
    variants: &'static [&'static str],
}

impl<'de, 'n, 'c> EnumAccess<'de> for Key<'n, 'c> {
    type Error = Fault;
    type Variant = Content<'n, 'c>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), Fault> {
        if !self.variants.contains(&self.key) {
            let problem = Problem::new(format!("unknown key `{}`", self.key))
                .at(self.node.key_span.clone(), self.node.path.clone());
            let problem = match nearest(self.key, self.variants.iter().copied()) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem,
            };
            return Err(Fault(problem.hint(format!("one of {}", self.variants.join(", ")))));
        }
        let name: StrDeserializer<'_, Fault> = self.key.into_deserializer();
        Ok((seed.deserialize(name)?, Content(De::new(self.node, self.context))))
    }
}

/// What a variant holds.
struct Content<'n, 'c>(De<'n, 'c>);

impl<'de> VariantAccess<'de> for Content<'_, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.map(Some(fields), visitor)
    }
}

/// A deserializer that only takes note of the fields it is asked for.
struct Probe<'p>(&'p RefCell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(<Fault as de::Error>::custom("a probe"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        *self.0.borrow_mut() = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
