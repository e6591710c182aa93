//! The environment as an argument: the process's own in production, a given one in tests.
//!
//! `EVERMESH_SECTION__KEY` stands over the file. Two underscores tell such a variable from others
//! of evermesh, such as `EVERMESH_LOG`. An empty variable counts as not set.

use std::collections::BTreeMap;
use std::ffi::OsString;

/// Variables by name.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// These variables.
    pub fn new<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// As the operating system gives them, of which those that are not text are left out.
    pub fn of_process(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(variables.into_iter().filter_map(text).collect())
    }

    /// The value of a variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What stands over the file: name, section, key, value.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, String, String, &str)> {
        self.0.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, value)| {
            let (section, key) = name.strip_prefix("EVERMESH_")?.split_once("__")?;
            Some((name.as_str(), section.to_lowercase(), key.to_lowercase(), value.as_str()))
        })
    }
}
