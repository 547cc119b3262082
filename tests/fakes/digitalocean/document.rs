//! DigitalOcean's OpenAPI document: which operations there are, and which token scopes they and their fields need.
//!
//! The document says so in three places: `security` of an operation; prose of the form "Requires `tag:create` scope" in
//! the description of a field, a query parameter or an operation; and a table of droplet actions. All three are read.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

/// The document that all fakes share.
pub static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let text = include_str!("../../fixtures/digitalocean/openapi.json");
    Document { root: serde_json::from_str(text).expect("the document is JSON") }
});

/// The scopes that a token has; `None` is full access.
pub type Scopes = Option<BTreeSet<String>>;

/// DigitalOcean's OpenAPI document.
#[derive(Debug)]
pub struct Document {
    root: Value,
}

/// One operation of the document, as matched by a request.
#[derive(Debug)]
pub struct Operation {
    /// `/v2/droplets/{droplet_id}`
    pub path: String,
    /// What the request has in place of `{…}`, in order.
    pub parameters: Vec<String>,
    value: &'static Value,
}

impl Document {
    /// The operation that a request is for: of several, the one with fewest parameters (`/default` before `/{id}`).
    pub fn operation(&'static self, method: &str, path: &str) -> Option<Operation> {
        let paths = self.root["paths"].as_object().expect("paths");
        let found = paths.iter().filter_map(|(template, item)| {
            let parameters = matches(template, path)?;
            let value = item.get(method.to_lowercase())?;
            Some(Operation { path: template.clone(), parameters, value })
        });
        found.min_by_key(|operation| operation.parameters.len())
    }

    /// All operations: method and path.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.root["paths"].as_object().expect("paths");
        let methods = |item: &Value| item.as_object().expect("a path").keys().cloned().collect::<Vec<_>>();
        let of = |(path, item): (&String, &Value)| {
            let path = path.clone();
            let operations =
                methods(item).into_iter().filter(|method| item[method.as_str()]["operationId"].is_string());
            operations.map(move |method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    /// What a token lacks for a request; nothing if it may go ahead.
    pub fn lacks(
        &'static self,
        operation: &Operation,
        query: &[(String, String)],
        body: &Value,
        scopes: &Scopes,
    ) -> Option<String> {
        let Some(scopes) = scopes else { return None };
        let has = |needed: &Vec<String>| needed.iter().all(|scope| scopes.contains(scope));
        let alternatives = operation.scopes();
        if !alternatives.iter().any(has) {
            return Some(format!("one of {alternatives:?}"));
        }
        let mut needed: Vec<String> = operation.in_prose();
        for parameter in operation.value["parameters"].as_array().into_iter().flatten() {
            let parameter = self.resolve(parameter);
            if query.iter().any(|(name, _)| parameter["name"] == name.as_str()) {
                needed.extend(required_by(&parameter["description"]));
            }
        }
        let schema = &operation.value["requestBody"]["content"]["application/json"]["schema"];
        for (name, value) in body.as_object().into_iter().flatten() {
            let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                needed
                    .extend(self.field(schema, name).into_iter().flat_map(|field| self.field_scopes(field)));
            }
        }
        if let Some(action) = body["type"].as_str() {
            needed.extend(operation.action_scopes(action));
        }
        needed.into_iter().find(|scope| !scopes.contains(scope))
    }

    /// Removes from an answer what the token may not see.
    pub fn veil(&'static self, operation: &Operation, status: u16, answer: &mut Value, scopes: &Scopes) {
        let Some(scopes) = scopes else { return };
        let response = self.resolve(&operation.value["responses"][status.to_string()]);
        self.veil_value(&response["content"]["application/json"]["schema"], answer, scopes);
    }

    fn veil_value(&'static self, schema: &'static Value, value: &mut Value, scopes: &BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, field| {
                    let Some(schema) = self.field(schema, name) else { return true };
                    let needed = self.field_scopes(schema);
                    if needed.iter().any(|scope| scope.ends_with(":read") && !scopes.contains(scope)) {
                        return false;
                    }
                    self.veil_value(schema, field, scopes);
                    true
                });
            }
            Value::Array(items) => {
                let Some(schema) = self.items(schema) else { return };
                items.iter_mut().for_each(|item| self.veil_value(schema, item, scopes));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn resolve(&'static self, value: &'static Value) -> &'static Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        self.resolve(self.root.pointer(&reference[1..]).expect("a reference leads somewhere"))
    }

    /// A schema and all that it is put together from.
    fn parts(&'static self, schema: &'static Value) -> Vec<&'static Value> {
        let schema = self.resolve(schema);
        let together =
            ["allOf", "oneOf", "anyOf"].iter().flat_map(|key| schema[*key].as_array().into_iter().flatten());
        std::iter::once(schema).chain(together.flat_map(|part| self.parts(part))).collect()
    }

    fn field(&'static self, schema: &'static Value, name: &str) -> Option<&'static Value> {
        self.parts(schema).into_iter().find_map(|part| part["properties"].get(name))
    }

    fn items(&'static self, schema: &'static Value) -> Option<&'static Value> {
        self.parts(schema).into_iter().find_map(|part| part.get("items"))
    }

    fn field_scopes(&'static self, schema: &'static Value) -> Vec<String> {
        // An object's own description speaks of its fields ("requires `droplet:read` to see …").
        let alternatives = self.resolve(schema)["oneOf"].is_array();
        let parts = if alternatives { vec![self.resolve(schema)] } else { self.parts(schema) };
        parts.into_iter().flat_map(|part| required_by(&part["description"])).collect()
    }
}

impl Operation {
    /// Sets of scopes, any of which will do. `api:read` and `api:write` stand for read-only and full access, which no
    /// list of scopes can contain.
    fn scopes(&self) -> Vec<Vec<String>> {
        let granular = |scope: &Value| {
            let scope = scope.as_str().expect("a scope");
            (!scope.starts_with("api:")).then(|| scope.to_owned())
        };
        let alternatives = self.value["security"].as_array().expect("every operation has its scopes");
        let set = |alternative: &Value| {
            alternative["bearer_auth"].as_array().into_iter().flatten().filter_map(granular).collect()
        };
        let mut sets: Vec<Vec<String>> = alternatives.iter().map(set).collect();
        if self.value["description"]
            .as_str()
            .unwrap_or_default()
            .contains("`project:update` scope also grants")
        {
            sets.push(vec!["project:update".into()]);
        }
        sets
    }

    fn in_prose(&self) -> Vec<String> {
        required_by(&self.value["description"])
    }

    /// What the table of droplet actions asks for one of them.
    fn action_scopes(&self, action: &str) -> Vec<String> {
        let rows = self.value["description"].as_str().unwrap_or_default().lines();
        let row = rows
            .filter(|line| line.starts_with('|'))
            .find(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{action}`"))));
        row.and_then(|row| row.split('|').nth(3)).map(quoted_scopes).unwrap_or_default()
    }
}

/// The scopes in "Requires `a:b` and `c:d` scopes" and in "a:b is required to view".
fn required_by(description: &Value) -> Vec<String> {
    let text = description.as_str().unwrap_or_default();
    if let Some((before, _)) = text.split_once(" is required to view") {
        return before.split(' ').next_back().map(str::to_owned).into_iter().collect();
    }
    let Some((_, rest)) = text.split_once("equires `") else { return Vec::new() };
    quoted_scopes(&format!("`{}", rest.split(['.', '\n']).next().unwrap_or(rest)))
}

fn quoted_scopes(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).filter(|word| word.contains(':')).map(str::to_owned).collect()
}

/// What a path has in place of a template's parameters.
fn matches(template: &str, path: &str) -> Option<Vec<String>> {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    if template.len() != path.len() {
        return None;
    }
    let mut parameters = Vec::new();
    for (expected, found) in template.into_iter().zip(path) {
        if expected.starts_with('{') && !found.is_empty() {
            parameters.push(found.to_owned());
        } else if expected != found {
            return None;
        }
    }
    Some(parameters)
}
