//! `backups` of `ship.yml`: when, how many are kept, where, and how often one is proved to be good.
//!
//! Invariant: pure. What is refused here would have failed at night, when nobody looks.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::validate::Check;
use crate::process::schedule;

/// Backups by the clock, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backups {
    /// When, as systemd writes it.
    pub calendar: String,
    /// How many stay.
    pub keep: Keep,
    /// Where they are.
    pub store: Store,
    /// When the newest one is restored for trial, as systemd writes it; `None` is never.
    pub drill: Option<String>,
    /// Whether uploaded files are part of them.
    pub media: bool,
}

/// How many backups stay: the newest of each of so many days, weeks and months, and all of the last 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Days.
    pub daily: u32,
    /// Weeks.
    pub weekly: u32,
    /// Months.
    pub monthly: u32,
}

impl Keep {
    /// The same as restic takes it.
    pub fn flags(self) -> String {
        let Keep { daily, weekly, monthly } = self;
        let flag = |name: &str, number: u32| match number {
            0 => String::new(),
            number => format!(" --keep-{name} {number}"),
        };
        let [days, weeks, months] = [flag("daily", daily), flag("weekly", weekly), flag("monthly", monthly)];
        format!("--keep-within 1d{days}{weeks}{months}")
    }
}

/// Where backups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// On the server itself.
    Server,
    /// In a bucket of S3 or of what speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// The path in it; empty for one named after the site.
        prefix: String,
        /// The service's address, with `https://`.
        endpoint: String,
        /// The region, if the service wants to know.
        region: Option<String>,
    },
}

impl Store {
    /// The repository as restic names it; `name` is the site's, for a bucket that several share.
    pub fn repository(&self, app: &str, name: &str) -> String {
        match self {
            Store::Server => format!("/var/backups/ship/{app}/store"),
            Store::S3 { bucket, prefix, endpoint, .. } => {
                let prefix = if prefix.is_empty() { name } else { prefix };
                format!("s3:{endpoint}/{bucket}/{prefix}")
            }
        }
    }

    /// The same for a person.
    pub fn text(&self) -> String {
        match self {
            Store::Server => "on the server itself".into(),
            Store::S3 { bucket, prefix, .. } if prefix.is_empty() => format!("in s3://{bucket}"),
            Store::S3 { bucket, prefix, .. } => format!("in s3://{bucket}/{prefix}"),
        }
    }
}

/// `backups` as written.
#[derive(Debug, Clone, Default)]
pub struct BackupsSpec {
    on: bool,
    map: BackupsMap,
    word: bool,
}

/// Backups by the clock.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BackupSettings")]
struct BackupsMap {
    /// When: cron's five fields or a calendar of systemd's, by the server's clock. Default: 03:30.
    #[schemars(example = &"03:30", extend("default" = "03:30"))]
    at: Option<String>,
    /// How many stay: the newest of each day, week and month. Default: 7, 4 and 6.
    keep: Option<KeepMap>,
    /// Where they go, encrypted. Default: to the server's own disk, which helps against mistakes, not against its loss.
    #[schemars(regex(pattern = r"^s3://[a-z0-9.-]+(/\S*)?$"), example = &"s3://my-backups/library")]
    to: Option<String>,
    /// Address of the service, if the bucket is not at Amazon.
    #[schemars(example = &"https://fra1.digitaloceanspaces.com")]
    endpoint: Option<String>,
    /// Region of the bucket.
    #[schemars(example = &"eu-central-1")]
    region: Option<String>,
    /// When the newest one is restored into a database of its own, compared and dropped; or off. Default: weekly.
    #[schemars(extend("default" = "weekly"))]
    drill: Option<DrillSpec>,
    /// Whether uploaded files are part of them. Default: true.
    #[schemars(extend("default" = true))]
    media: Option<bool>,
}

/// How many backups stay.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BackupsKept")]
struct KeepMap {
    /// Days. Default: 7.
    #[schemars(range(max = 3650), extend("default" = 7))]
    daily: Option<u32>,
    /// Weeks. Default: 4.
    #[schemars(range(max = 520), extend("default" = 4))]
    weekly: Option<u32>,
    /// Months. Default: 6.
    #[schemars(range(max = 120), extend("default" = 6))]
    monthly: Option<u32>,
}

/// When there is a drill.
#[derive(Debug, Clone)]
struct DrillSpec(Option<String>);

impl<'de> Deserialize<'de> for DrillSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrCalendar;
        impl Visitor<'_> for OffOrCalendar {
            type Value = DrillSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a calendar such as `weekly`")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<DrillSpec, E> {
                Ok(DrillSpec(on.then(|| "weekly".to_owned())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DrillSpec, E> {
                Ok(DrillSpec(match text {
                    "off" => None,
                    "on" => Some("weekly".to_owned()),
                    calendar => Some(calendar.to_owned()),
                }))
            }
        }
        deserializer.deserialize_any(OffOrCalendar)
    }
}

impl JsonSchema for DrillSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Drill".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "off"}, {"type": "string"}, {"type": "boolean"}]})
    }
}

impl<'de> Deserialize<'de> for BackupsSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = BackupsSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`on`, `off`, when, or a map (at, keep, to, endpoint, region, drill, media)")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<BackupsSpec, E> {
                Ok(BackupsSpec { on, word: true, map: BackupsMap::default() })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BackupsSpec, E> {
                let at = (!matches!(text, "on" | "off" | "daily")).then(|| text.to_owned());
                let map = BackupsMap { at, ..BackupsMap::default() };
                Ok(BackupsSpec { on: text != "off", word: true, map })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BackupsSpec, A::Error> {
                let map = BackupsMap::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(BackupsSpec { on: true, map, word: false })
            }
        }
        deserializer.deserialize_any(WordOrMap)
    }
}

impl JsonSchema for BackupsSpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Backups".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<BackupsMap>();
        json_schema!({
            "anyOf": [{"enum": ["on", "off", "daily", true, false]}, {"type": "string"}, map],
            "default": "off",
        })
    }
}

impl Check<'_> {
    pub(super) fn backups(&mut self, written: Option<BackupsSpec>) -> Option<Backups> {
        let BackupsSpec { on, map, word } = written.unwrap_or_default();
        if !on {
            return None;
        }
        let at: &[&str] = if word { &["backups"] } else { &["backups", "at"] };
        let calendar = self.calendar(at, map.at.as_deref().unwrap_or("03:30"));
        let drill = map.drill.map_or(Some("weekly".to_owned()), |DrillSpec(drill)| drill);
        let drill = drill.map(|drill| self.calendar(&["backups", "drill"], &drill));
        let kept = map.keep.unwrap_or_default();
        let keep = Keep {
            daily: self.number(&["backups", "keep", "daily"], kept.daily, 7, 0..=3650, "days"),
            weekly: self.number(&["backups", "keep", "weekly"], kept.weekly, 4, 0..=520, "weeks"),
            monthly: self.number(&["backups", "keep", "monthly"], kept.monthly, 6, 0..=120, "months"),
        };
        if keep == (Keep { daily: 0, weekly: 0, monthly: 0 }) {
            self.value(&["backups", "keep"], "no backup would be older than a day", []);
        }
        let store = self.store(map.to, map.endpoint, map.region);
        Some(Backups { calendar, keep, store, drill, media: map.media.unwrap_or(true) })
    }

    fn calendar(&mut self, path: &[&str], text: &str) -> String {
        schedule::calendar(text).unwrap_or_else(|refused| {
            self.value(path, refused.message, refused.hint);
            String::new()
        })
    }

    fn store(&mut self, to: Option<String>, endpoint: Option<String>, region: Option<String>) -> Store {
        let Some(to) = to else {
            for (key, written) in [("endpoint", &endpoint), ("region", &region)] {
                if written.is_some() {
                    self.key(
                        &["backups", key],
                        "says nothing without a bucket",
                        ["such as `to: s3://my-backups/library`".to_owned()],
                    );
                }
            }
            return Store::Server;
        };
        let plain = |text: &str| {
            text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'))
        };
        let (bucket, prefix) = match to.strip_prefix("s3://") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", ""),
        };
        let named =
            !bucket.is_empty() && bucket.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-'));
        if !named || !plain(prefix) || prefix.split('/').any(|part| part == "..") {
            self.value(
                &["backups", "to"],
                format!("`{to}` is not a bucket and a path in it"),
                ["such as `s3://my-backups/library`".to_owned()],
            );
        }
        if region.as_ref().is_some_and(|region| region.is_empty() || !plain(region)) {
            self.value(&["backups", "region"], "not the name of a region", []);
        }
        let host = |text: &str| {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '$' | '`' | '\\'))
        };
        let endpoint = match endpoint {
            None => match &region {
                Some(region) => format!("https://s3.{region}.amazonaws.com"),
                None => "https://s3.amazonaws.com".to_owned(),
            },
            Some(endpoint) => {
                let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
                if !rest.is_some_and(host) {
                    self.value(
                        &["backups", "endpoint"],
                        format!("`{endpoint}` is not an address"),
                        ["such as `https://fra1.digitaloceanspaces.com`".to_owned()],
                    );
                }
                endpoint.trim_end_matches('/').to_owned()
            }
        };
        Store::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned(), endpoint, region }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_said_as_restic_takes_it() {
        let flags = |daily, weekly, monthly| Keep { daily, weekly, monthly }.flags();
        assert_eq!(flags(7, 4, 6), "--keep-within 1d --keep-daily 7 --keep-weekly 4 --keep-monthly 6");
        assert_eq!(flags(3, 0, 0), "--keep-within 1d --keep-daily 3");
    }

    #[test]
    fn a_bucket_that_several_share_has_a_path_for_each() {
        let store = |prefix: &str| Store::S3 {
            bucket: "b".into(),
            prefix: prefix.into(),
            endpoint: "https://s3.example.com".into(),
            region: None,
        };
        assert_eq!(
            store("").repository("library", "library-staging"),
            "s3:https://s3.example.com/b/library-staging"
        );
        assert_eq!(store("a/b").repository("library", "library"), "s3:https://s3.example.com/b/a/b");
        assert_eq!(Store::Server.repository("library", "x"), "/var/backups/ship/library/store");
    }
}
