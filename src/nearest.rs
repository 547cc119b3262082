//! The valid name a mistyped one was probably meant to be.

/// Finds the candidate closest to `name`, if one is close enough to be what was meant.
///
/// Case, `-` and `_` count as equal; otherwise about a third of the letters may differ.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(far, _)| *far <= allowed)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// A name that the other merely continues counts as near: `work` means `workers`.
fn distance(wanted: &str, candidate: &str) -> usize {
    let shorter = wanted.len().min(candidate.len());
    if shorter >= 4 && (candidate.starts_with(wanted) || wanted.starts_with(candidate)) {
        return wanted.len().abs_diff(candidate.len()).min(1);
    }
    strsim::damerau_levenshtein(wanted, candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["app", "server", "domains", "requirements", "upload_limit", "vagrant_provider"];
        for (typed, meant) in [
            ("domain", Some("domains")),
            ("sevrer", Some("server")),
            ("Server", Some("server")),
            ("upload-limit", Some("upload_limit")),
            ("requirement", Some("requirements")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(typed, names), meant, "{typed}");
        }
    }
}
