//! `[[push]]`: subscriptions that make a request of each event.

use std::collections::BTreeSet;
use std::time::Duration;

use evermesh_door::{Push, Target, Template};
use evermesh_event::check_site;
use http::{HeaderName, Method};
use tonic::transport::Uri;

use super::super::document::{Rule, Value};
use super::super::keys::{self, Key};
use super::super::quantity;
use super::{Reading, lacks};

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Each is a subscription of its own; a machine has a few things that speak HTTP.
const PUSHES_MAX: usize = 16;

impl Reading<'_> {
    pub(super) fn pushes(&mut self) -> Vec<Push> {
        let rules = self.document.take_rules(keys::PUSH);
        let mut names = BTreeSet::new();
        let mut pushes = Vec::new();
        for (number, rule) in rules.iter().enumerate() {
            if number == PUSHES_MAX {
                let message = format!("[[push]]: there are {}, at most {PUSHES_MAX}", rules.len());
                self.document.refuse(&rule.place, message);
            }
            let Some(push) = self.push(rule) else { continue };
            if !names.insert(push.name.clone()) {
                let message = format!("{}: `{}` stands twice", keys::PUSH_NAME, push.name);
                self.document.refuse(&rule.place, message);
            }
            pushes.push(push);
        }
        pushes
    }

    fn push(&mut self, rule: &Rule) -> Option<Push> {
        let name = self.taken(rule, &keys::PUSH_NAME, None, |value| {
            let name = value.text()?;
            let printable = name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            (printable && (1..=128).contains(&name.len())).then(|| name.to_owned())
        });
        let sites = self.list(rule, &keys::PUSH_SITES);
        if let Some(wrong) = sites.iter().flatten().find_map(|site| check_site(site).err()) {
            let message = format!("{}: {wrong}", keys::PUSH_SITES);
            self.document.refuse(&rule.place, message);
        }
        let types = self.list(rule, &keys::PUSH_TYPES);
        let keys = [&keys::PUSH_URL, &keys::PUSH_METHOD, &keys::PUSH_HEADERS];
        let event = self.target(rule, keys, Some(&keys::PUSH_BODY));
        let keys = [&keys::PUSH_MISSED_URL, &keys::PUSH_MISSED_METHOD, &keys::PUSH_MISSED_HEADERS];
        let missed = self.target(rule, keys, None);
        let timeout = self.taken(rule, &keys::PUSH_TIMEOUT, Some(TIMEOUT_DEFAULT), |value| {
            let allowed = TIMEOUT_MIN..=TIMEOUT_MAX;
            quantity::duration(value.text()?).filter(|read| allowed.contains(read))
        });
        let (sites, types, event, missed) = (sites?, types?, event?, missed?);
        Some(Push { name: name?, sites, types, event, missed, timeout: timeout? })
    }

    /// A request. Where no event is, its texts are fixed.
    fn target(&mut self, rule: &Rule, keys: [&Key; 3], body: Option<&Key>) -> Option<Target> {
        let [url, method, headers] = keys;
        let fixed = body.is_none();
        let place = self.taken(rule, url, None, |value| local(value.text()?));
        let method = self.taken(rule, method, None, |value| {
            let method = value.text()?;
            let capitals = method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
            Method::from_bytes(method.as_bytes()).ok().filter(|_| capitals)
        });
        let lines = self.list(rule, headers)?;
        let mut read = Vec::new();
        for line in &lines {
            let Some((name, value)) = line.split_once(':') else {
                self.refuse_in(rule, headers);
                return None;
            };
            let Ok(name) = HeaderName::from_bytes(name.trim().as_bytes()) else {
                self.refuse_in(rule, headers);
                return None;
            };
            read.push((name, self.template(rule, headers, value.trim(), fixed)?));
        }
        let text = match body {
            Some(key) => {
                self.taken(rule, key, Some(String::new()), |value| value.text().map(str::to_owned))?
            }
            None => String::new(),
        };
        let body = self.template(rule, body.unwrap_or(&keys::PUSH_BODY), &text, false)?;
        let (authority, path) = place?;
        let path = self.template(rule, url, &path, fixed)?;
        Some(Target { authority, method: method?, path, headers: read, body })
    }

    fn template(&mut self, rule: &Rule, key: &Key, text: &str, fixed: bool) -> Option<Template> {
        let trouble = match Template::parse(text) {
            Ok(template) if !fixed || template.is_fixed() => return Some(template),
            Ok(_) => "there is no event of which anything could stand here".to_owned(),
            Err(error) => error,
        };
        let value = self.document.get_in(rule, key).map(|value| value.place.clone());
        let place = value.unwrap_or_else(|| rule.place.clone());
        self.document.refuse(&place, format!("{key}: {trouble}"));
        None
    }

    /// The value of a key, or the default; without one it must be there.
    fn taken<T>(
        &mut self,
        rule: &Rule,
        key: &Key,
        default: Option<T>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.document.get_in(rule, key).cloned() else {
            if default.is_none() {
                self.document.lacks(Some(&rule.place), lacks(key));
            }
            return default;
        };
        let taken = read(&value);
        if taken.is_none() {
            self.document.refuse_value(key, &value);
        }
        taken
    }

    fn list(&mut self, rule: &Rule, key: &Key) -> Option<Vec<String>> {
        let value = self.document.get_in(rule, key).cloned();
        value.map_or(Some(Vec::new()), |value| self.texts_of(key, &value))
    }

    fn refuse_in(&mut self, rule: &Rule, key: &Key) {
        if let Some(value) = self.document.get_in(rule, key).cloned() {
            self.document.refuse_value(key, &value);
        }
    }
}

/// Authority and path of a URL of this machine. Pushing carries no identity, so it goes nowhere
/// else.
fn local(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let parsed: Uri = format!("http://{authority}/").parse().ok()?;
    let parsed = parsed.authority()?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let plain = here && parsed.port_u16().is_some() && !authority.contains('@');
    let path = if path.is_empty() { "/" } else { path };
    plain.then(|| (authority.to_owned(), path.to_owned()))
}
