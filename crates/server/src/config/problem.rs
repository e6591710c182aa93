//! Problems of a configuration: each says where it is and shows the line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How much of a line is shown; the rest of a longer one would only wrap.
const SHOWN_MAX: usize = 120;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: Option<Place>,
    message: String,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In a file as a whole.
    File(PathBuf),
    /// In a line of a file.
    Line(Line),
    /// In a variable of the environment.
    Variable(String),
}

/// A line of the file, and which part of it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    file: PathBuf,
    /// Counted from 1.
    number: usize,
    text: String,
    /// In characters.
    marked: Range<usize>,
}

impl Problem {
    /// A problem whose message says where it is.
    pub(super) fn new(message: String) -> Self {
        Self { place: None, message }
    }

    /// A problem of the whole file.
    pub(super) fn in_file(file: &Path, message: String) -> Self {
        Self { place: Some(Place::File(file.to_owned())), message }
    }

    /// A problem of a variable.
    pub(super) fn in_variable(name: &str, message: String) -> Self {
        Self { place: Some(Place::Variable(name.to_owned())), message }
    }

    /// A problem at these bytes of the file's text.
    pub(super) fn at(file: &Path, text: &str, span: &Range<usize>, message: String) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let column = before.get(start..).unwrap_or_default().chars().count();
        let marked = text.get(span.clone()).and_then(|part| part.lines().next());
        let width = marked.unwrap_or_default().trim_end().chars().count().max(1);
        let place = Place::Line(Line {
            file: file.to_owned(),
            number: before.matches('\n').count() + 1,
            text: line.chars().take(SHOWN_MAX).map(visible).collect(),
            marked: column..column + width,
        });
        Self { place: Some(place), message }
    }
}

/// What stands for a character in the line as it is shown: each takes one column.
fn visible(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, message } = self;
        match place {
            None => f.write_str(message),
            Some(Place::File(file)) => write!(f, "{}: {message}", file.display()),
            Some(Place::Variable(name)) => write!(f, "environment variable {name}: {message}"),
            Some(Place::Line(line)) => {
                let Line { file, number, text, marked } = line;
                write!(f, "{}, line {number}: {message}", file.display())?;
                write!(f, "\n{number:5} | {text}")?;
                let end = marked.end.min(SHOWN_MAX);
                if marked.start < end {
                    let (before, under) = (marked.start, "^".repeat(end - marked.start));
                    write!(f, "\n      | {:before$}{under}", "")?;
                }
                Ok(())
            }
        }
    }
}

/// Everything that is wrong with a configuration; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// This one.
    pub(super) fn of(problem: Problem) -> Self {
        Self(vec![problem])
    }

    /// These, or nothing if there are none.
    pub(super) fn found(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// One by one, in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
