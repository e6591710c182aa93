//! The path of a call: refused if it tries a trick, else split into service and the rest.
//!
//! Comes before `routes`, which matches exactly and therefore must never see two spellings of one
//! path. Nothing is normalised or decoded here: what is not plain is refused, so no later stage
//! can read a path differently. Deliberately absent: which paths exist.

/// Longest piece of a caller's path that an answer or a log line repeats. Service and method names
/// fit; 16 KiB of header do not.
const EXCERPT_MAX: usize = 120;

/// Why a path is refused, as a fragment for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trick(pub(crate) &'static str);

/// The service that a path names: `/SERVICE/…` gives `SERVICE`. A path of one segment gives that
/// segment, though it names no method of it.
pub(crate) fn service(path: &str) -> Result<&str, Trick> {
    let rest = path.strip_prefix('/').ok_or(Trick("does not begin with a slash"))?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Trick("has characters other than printable ASCII"));
    }
    if path.contains('\\') {
        return Err(Trick("has a backslash"));
    }
    if path.contains("//") {
        return Err(Trick("has an empty segment"));
    }
    if path.split('/').any(is_dots) {
        return Err(Trick("has a dot segment"));
    }
    escapes(path)?;
    Ok(rest.split_once('/').map_or(rest, |(service, _)| service))
}

/// Whether a segment is `.` or `..`, also with a parameter (`..;a`), which some servers cut off.
fn is_dots(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

/// Refuses escapes that hide a character which means something in a path, or that are not escapes.
fn escapes(path: &str) -> Result<(), Trick> {
    for after in path.split('%').skip(1) {
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            None => return Err(Trick("has a broken escape")),
            Some(b'/' | b'\\' | b'.' | b'%' | b';') => {
                return Err(Trick("hides a separator in an escape"));
            }
            Some(byte) if byte.is_ascii_control() => {
                return Err(Trick("hides a control character in an escape"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The path as an answer or a log line may repeat it: bounded, and printable whatever came in.
pub(crate) fn excerpt(path: &str) -> String {
    let mut text = String::with_capacity(path.len().min(EXCERPT_MAX));
    for character in path.chars().flat_map(char::escape_default) {
        if text.len() >= EXCERPT_MAX {
            text.push_str("...");
            break;
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests;
