//! The document: what the file and the environment say for each key, and where they say it.
//!
//! Comes before `read`, which takes the values out by the table of keys. Here a key is known or
//! refused, and a section is a section. Values keep their place, so that whatever is found wrong
//! with one later can be shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::keys::{self, ALLOW, Key};
use super::problem::{Problem, Problems};

/// How much of a value is quoted in a message.
const QUOTED_MAX: usize = 60;

/// What is said for the keys of the configuration.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    /// By section and name. The environment's values have taken the place of the file's.
    values: BTreeMap<(&'static str, &'static str), Value>,
    /// The sections that stand in the file or the environment, and where.
    sections: BTreeMap<&'static str, Place>,
    /// One for each `[[allow]]` or `[[push]]`.
    rules: BTreeMap<&'static str, Vec<Rule>>,
    problems: Vec<Problem>,
}

/// One section of those that may stand several times.
pub(super) struct Rule {
    pub(super) place: Place,
    values: BTreeMap<&'static str, Value>,
}

/// A value, and where it stands.
#[derive(Clone)]
pub(super) struct Value {
    pub(super) raw: Raw,
    pub(super) place: Place,
}

/// What a value is, as far as any key takes it.
#[derive(Clone)]
pub(super) enum Raw {
    Text(String),
    Integer(String),
    List(Vec<Value>),
    /// Nothing that any key takes.
    Other,
}

/// Where a value stands.
#[derive(Clone)]
pub(super) enum Place {
    /// These bytes of the file.
    Span(Range<usize>),
    /// This variable of the environment.
    Variable(String),
}

impl<'a> Document<'a> {
    /// Sorts the file's text and the environment by key.
    pub(super) fn new(
        text: &'a str,
        file: &'a Path,
        environment: &Environment,
    ) -> Result<Self, Problems> {
        let table = DeTable::parse(text).map_err(|error| {
            let (message, end) = (error.message().to_owned(), text.len()..text.len());
            Problems::of(Problem::at(file, text, &error.span().unwrap_or(end), message))
        })?;
        let (values, sections) = (BTreeMap::new(), BTreeMap::new());
        let mut document =
            Self { file, text, values, sections, rules: BTreeMap::new(), problems: Vec::new() };
        for (name, value) in table.get_ref() {
            document.take_section(name, value);
        }
        for (variable, section, key, value) in environment.overrides() {
            document.take_variable(variable, &section, &key, value);
        }
        Ok(document)
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.values.get(&(key.section, key.name))
    }

    /// Takes the sections of a name that may stand several times.
    pub(super) fn take_rules(&mut self, section: &str) -> Vec<Rule> {
        self.rules.remove(section).unwrap_or_default()
    }

    /// The value of a key of a rule.
    pub(super) fn get_in<'r>(&self, rule: &'r Rule, key: &Key) -> Option<&'r Value> {
        rule.values.get(key.name)
    }

    /// Where a section stands, if anything in it does.
    pub(super) fn section(&self, name: &str) -> Option<&Place> {
        self.sections.get(name)
    }

    /// Remembers that something is wrong at this place.
    pub(super) fn refuse(&mut self, place: &Place, message: String) {
        self.problems.push(match place {
            Place::Span(span) => Problem::at(self.file, self.text, span, message),
            Place::Variable(name) => Problem::in_variable(name, message),
        });
    }

    /// Remembers that this value is not what the key takes.
    pub(super) fn refuse_value(&mut self, key: &Key, value: &Value) {
        let message = match &value.place {
            Place::Span(span) => {
                let quoted = self.text.get(span.clone()).unwrap_or_default();
                format!("{key} = {} cannot be used: it must be {}", shortened(quoted), key.form)
            }
            Place::Variable(_) => {
                let quoted = match &value.raw {
                    Raw::Text(text) => format!("{text:?}"),
                    _ => "this".to_owned(),
                };
                format!("{} cannot be used for {key}: it must be {}", shortened(&quoted), key.form)
            }
        };
        self.refuse(&value.place, message);
    }

    /// Remembers that something is not there.
    pub(super) fn lacks(&mut self, place: Option<&Place>, message: String) {
        match place {
            Some(place) => self.refuse(place, message),
            None => self.problems.push(Problem::in_file(self.file, message)),
        }
    }

    /// Whether nothing was found wrong yet.
    pub(super) fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// Everything that was found wrong.
    pub(super) fn finish(self) -> Result<(), Problems> {
        Problems::found(self.problems)
    }

    fn take_section(&mut self, name: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let (place, text) = (Place::Span(name.span()), name.get_ref().as_ref());
        if !keys::is_section(text) {
            let (what, like) = match value.get_ref() {
                DeValue::Table(_) | DeValue::Array(_) => ("section", keys::section_like(text)),
                _ => ("key", keys::key_like(None, text)),
            };
            return self.refuse(&place, format!("unknown {what} `{text}`{like}"));
        }
        let repeated = keys::REPEATED.into_iter().find(|section| *section == text);
        match value.get_ref() {
            DeValue::Table(table) if repeated.is_none() => {
                for (key, value) in table {
                    if let Some(key) = self.known(text, key) {
                        self.sections.entry(key.section).or_insert_with(|| place.clone());
                        self.values.insert((key.section, key.name), own(value));
                    }
                }
                if let Some(key) = keys::KEYS.iter().find(|key| key.section == text) {
                    self.sections.entry(key.section).or_insert(place);
                }
            }
            DeValue::Array(rules) if let Some(section) = repeated => {
                for rule in rules {
                    self.take_rule(section, rule);
                }
            }
            _ if repeated.is_some() => {
                let message = format!(
                    "`{text}` may stand several times: write [[{text}]], with two brackets"
                );
                self.refuse(&place, message);
            }
            _ => self.refuse(&place, format!("`{text}` is a section: write [{text}], once")),
        }
    }

    fn take_rule(&mut self, section: &'static str, rule: &Spanned<DeValue<'_>>) {
        let place = Place::Span(rule.span());
        let DeValue::Table(table) = rule.get_ref() else {
            let what = if section == ALLOW { "a rule" } else { "a push" };
            return self.refuse(&place, format!("{what} is a section: write [[{section}]]"));
        };
        let mut values = BTreeMap::new();
        for (key, value) in table {
            if let Some(key) = self.known(section, key) {
                values.insert(key.name, own(value));
            }
        }
        self.rules.entry(section).or_default().push(Rule { place, values });
    }

    fn known(&mut self, section: &str, key: &Spanned<Cow<'_, str>>) -> Option<&'static Key> {
        let found = keys::find(section, key.get_ref());
        if found.is_none() {
            let like = keys::key_like(Some(section), key.get_ref());
            let message = format!("unknown key `{}` in [{section}]{like}", key.get_ref());
            self.refuse(&Place::Span(key.span()), message);
        }
        found
    }

    fn take_variable(&mut self, variable: &str, section: &str, key: &str, value: &str) {
        let place = Place::Variable(variable.to_owned());
        if keys::REPEATED.contains(&section) {
            let what = if section == ALLOW { "rules" } else { "pushes" };
            let message =
                format!("{what} cannot come from the environment: write [[{section}]] in the file");
            return self.refuse(&place, message);
        }
        if !keys::is_section(section) {
            let like = keys::section_like(section);
            return self.refuse(&place, format!("unknown section `{section}`{like}"));
        }
        let Some(key) = keys::find(section, key) else {
            let like = keys::key_like(Some(section), key);
            return self.refuse(&place, format!("unknown key `{key}` in [{section}]{like}"));
        };
        self.sections.entry(key.section).or_insert_with(|| place.clone());
        let value = Value { raw: Raw::Text(value.to_owned()), place };
        self.values.insert((key.section, key.name), value);
    }
}

impl Value {
    /// As text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.raw {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As a list. The environment has no brackets: there commas stand between.
    pub(super) fn list(&self) -> Option<Vec<Self>> {
        match (&self.raw, &self.place) {
            (Raw::List(values), _) => Some(values.clone()),
            (Raw::Text(text), Place::Variable(_)) => {
                let part = |part: &str| Self {
                    raw: Raw::Text(part.trim().to_owned()),
                    place: self.place.clone(),
                };
                Some(text.split(',').map(part).collect())
            }
            _ => None,
        }
    }
}

fn own(value: &Spanned<DeValue<'_>>) -> Value {
    let raw = match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.clone().into_owned()),
        DeValue::Integer(integer) if integer.radix() == 10 => {
            Raw::Integer(integer.as_str().to_owned())
        }
        DeValue::Array(values) => Raw::List(values.iter().map(own).collect()),
        _ => Raw::Other,
    };
    Value { raw, place: Place::Span(value.span()) }
}

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None if line.len() < text.len() => format!("{line} …"),
        None => line.to_owned(),
    }
}
