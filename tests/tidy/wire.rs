//! Rule: every word of the wire has a comment, and is named as buf's STANDARD category asks.
//!
//! One service is named by agreement and not by the standard: `EventReplication`.

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};

/// The package of the wire, and the folder that it must lie in.
const PACKAGE: &str = "evermesh.v1";
const FOLDER: &str = "evermesh/v1/";
/// The service that keeps the name it is known by.
const GIVEN: &str = "EventReplication";

/// The files of evermesh in the descriptor set that reflection serves.
pub(crate) fn described() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(evermesh_proto::DESCRIPTOR_SET).unwrap();
    let files: Vec<_> =
        set.file.into_iter().filter(|file| !file.name().starts_with("google/")).collect();
    assert!(!files.is_empty(), "the descriptor set is empty");
    files
}

/// What is not commented or not named as it must be.
pub(crate) fn findings(files: &[FileDescriptorProto]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        let mut judge = Judge { file, place: Vec::new(), findings: &mut findings };
        judge.file();
    }
    same_options(files, &mut findings);
    unique_messages(files, &mut findings);
    findings
}

/// Walks one file.
struct Judge<'a> {
    file: &'a FileDescriptorProto,
    /// Where the walk is, in the numbers that source locations are kept by.
    place: Vec<i32>,
    findings: &'a mut Vec<String>,
}

impl<'a> Judge<'a> {
    fn file(&mut self) {
        let file = self.file;
        let (name, package) = (file.name(), file.package());
        let stem = name.strip_prefix(FOLDER).and_then(|name| name.strip_suffix(".proto"));
        self.expect(package == PACKAGE, name, "its package must be evermesh.v1");
        self.expect(stem.is_some_and(is_lower_snake), name, "must lie as evermesh/v1/lower_snake");
        self.expect(file.syntax() == "proto3", name, "its syntax must be proto3");
        let imports = file.public_dependency.len() + file.weak_dependency.len();
        self.expect(imports == 0, name, "imports must be neither public nor weak");
        for (index, message) in (0..).zip(&file.message_type) {
            self.inside(4, index, |judge| judge.message(message));
        }
        for (index, words) in (0..).zip(&file.enum_type) {
            self.inside(5, index, |judge| judge.enumeration(words));
        }
        for (index, service) in (0..).zip(&file.service) {
            self.inside(6, index, |judge| judge.service(service));
        }
    }

    fn message(&mut self, message: &'a DescriptorProto) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            // Nobody wrote it: it stands for one entry of a map field.
            return;
        }
        let name = message.name();
        self.comment(name);
        self.expect(is_pascal(name), name, "a message is named in PascalCase");
        for (index, field) in (0..).zip(&message.field) {
            let full = format!("{name}.{}", field.name());
            self.inside(2, index, |judge| {
                judge.comment(&full);
                judge.expect(is_lower_snake(field.name()), &full, "a field is lower_snake_case");
            });
        }
        for oneof in message.oneof_decl.iter().filter(|oneof| !oneof.name().starts_with('_')) {
            let full = format!("{name}.{}", oneof.name());
            self.expect(is_lower_snake(oneof.name()), &full, "a oneof is lower_snake_case");
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.inside(3, index, |judge| judge.message(nested));
        }
        for (index, words) in (0..).zip(&message.enum_type) {
            self.inside(4, index, |judge| judge.enumeration(words));
        }
    }

    fn enumeration(&mut self, words: &'a EnumDescriptorProto) {
        let name = words.name();
        self.comment(name);
        self.expect(is_pascal(name), name, "an enum is named in PascalCase");
        let alias = words.options.as_ref().is_some_and(|options| options.allow_alias());
        self.expect(!alias, name, "an enum has no aliases");
        let prefix = format!("{}_", upper_snake(name));
        for (index, value) in (0..).zip(&words.value) {
            let word = value.name();
            self.inside(2, index, |judge| {
                judge.comment(word);
                judge.expect(is_upper_snake(word), word, "an enum value is UPPER_SNAKE_CASE");
                let begins = format!("an enum value begins with {prefix}");
                judge.expect(word.starts_with(&prefix), word, &begins);
                let zero = word.strip_prefix(&prefix) == Some("UNSPECIFIED");
                let named = (value.number() == 0) == zero;
                judge.expect(named, word, "the zero value, and only it, ends in _UNSPECIFIED");
            });
        }
    }

    fn service(&mut self, service: &'a ServiceDescriptorProto) {
        let name = service.name();
        self.comment(name);
        self.expect(is_pascal(name), name, "a service is named in PascalCase");
        let ends = name.ends_with("Service") || name == GIVEN;
        self.expect(ends, name, "a service's name ends in Service");
        for (index, call) in (0..).zip(&service.method) {
            let full = format!("{name}/{}", call.name());
            self.inside(2, index, |judge| {
                judge.comment(&full);
                judge.expect(is_pascal(call.name()), &full, "a call is named in PascalCase");
                for (given, end) in
                    [(call.input_type(), "Request"), (call.output_type(), "Response")]
                {
                    let short = format!("{}{end}", call.name());
                    let long = format!("{name}{short}");
                    let last = given.rsplit('.').next().unwrap_or_default();
                    let asked = format!("{last} must be named {short}");
                    judge.expect(last == short || last == long, &full, &asked);
                }
            });
        }
    }

    /// Walks one level down.
    fn inside(&mut self, field: i32, index: i32, walk: impl FnOnce(&mut Self)) {
        self.place.extend([field, index]);
        walk(self);
        self.place.truncate(self.place.len() - 2);
    }

    /// What is here must have a comment above it.
    fn comment(&mut self, name: &str) {
        let locations = self.file.source_code_info.iter().flat_map(|info| &info.location);
        let here = locations.filter(|location| location.path == self.place);
        let commented =
            here.into_iter().any(|location| !location.leading_comments().trim().is_empty());
        self.expect(commented, name, "needs a comment above it: its unit, bounds and meaning");
    }

    /// Notes what does not hold.
    fn expect(&mut self, holds: bool, name: &str, otherwise: &str) {
        if !holds {
            self.findings.push(format!("{}: {name}: {otherwise}", self.file.name()));
        }
    }
}

/// The options that generated code of other languages goes by must agree within the package.
fn same_options(files: &[FileDescriptorProto], findings: &mut Vec<String>) {
    let options = |file: &FileDescriptorProto| {
        let options = file.options.clone().unwrap_or_default();
        let packages = [options.go_package(), options.java_package(), options.csharp_namespace()];
        (packages.map(str::to_owned), options.java_multiple_files())
    };
    for file in files.iter().skip(1).filter(|file| options(file) != options(&files[0])) {
        let (name, first) = (file.name(), files[0].name());
        findings.push(format!("{name}: its language options differ from those of {first}"));
    }
}

/// A request or response belongs to one call, so that either can change alone.
fn unique_messages(files: &[FileDescriptorProto], findings: &mut Vec<String>) {
    let calls = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let mut used: Vec<&str> =
        calls.flat_map(|call| [call.input_type(), call.output_type()]).collect();
    used.sort_unstable();
    let twice = used.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    findings.extend(twice.map(|name| format!("{name}: used by two calls: give each its own")));
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_lower_snake(name: &str) -> bool {
    is_snake(name, |c| c.is_ascii_lowercase())
}

fn is_upper_snake(name: &str) -> bool {
    is_snake(name, |c| c.is_ascii_uppercase())
}

fn is_snake(name: &str, letter: impl Fn(char) -> bool + Copy) -> bool {
    name.split('_')
        .all(|part| !part.is_empty() && part.chars().all(|c| letter(c) || c.is_ascii_digit()))
        && name.starts_with(letter)
}

/// `MissedCause` → `MISSED_CAUSE`.
fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_uppercase());
    }
    snake
}

/// A file of the wire for trying a rule.
pub(crate) fn planted(body: &str) -> FileDescriptorProto {
    let text = format!("syntax = \"proto3\"; package evermesh.v1;\n{body}\n");
    let file = protox::file::File::from_source("evermesh/v1/planted.proto", &text).unwrap();
    file.file_descriptor_proto().clone()
}

#[cfg(test)]
mod tests;
