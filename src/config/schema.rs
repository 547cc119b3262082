//! `ship.yml` as a JSON Schema, for the completion and the checks of editors.
//!
//! Invariant: the schema comes from the types that read the file, so it can't drift from them.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::spec::Spec;

/// The JSON Schema of `ship.yml`, indented, with a final newline.
pub fn json_schema() -> String {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<Spec>());
    unwrap_descriptions(&mut schema);
    let environment = environment(&schema);
    if let Some(Value::Object(environments)) = schema.pointer_mut("/properties/environments") {
        environments.insert("additionalProperties".to_owned(), environment);
    }
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// One entry of `environments`: the same keys, none of them required.
fn environment(schema: &Value) -> Value {
    let mut entry = Map::new();
    entry.insert("type".to_owned(), "object".into());
    entry.insert("additionalProperties".to_owned(), false.into());
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let mut properties = properties.clone();
        properties.remove("environments");
        let mut properties = Value::Object(properties);
        relax(&mut properties);
        entry.insert("properties".to_owned(), properties);
    }
    Value::Object(entry)
}

/// Drops what is required: it may stand at the top level. A `server` without a `provider` may then
/// be of either kind, so one that fits is enough.
fn relax(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("required");
            if let Some(choices) = map.remove("oneOf") {
                map.insert("anyOf".to_owned(), choices);
            }
            map.values_mut().for_each(relax);
        }
        Value::Array(items) => items.iter_mut().for_each(relax),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Makes one line of each description: where the source breaks it means nothing to an editor.
fn unwrap_descriptions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            map.values_mut().for_each(unwrap_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_descriptions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
