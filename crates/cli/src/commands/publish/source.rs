//! Where the input comes from: a file, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::client_failure::INPUT;
use crate::failure::Failure;

/// What people write for standard input.
const STANDARD: &str = "-";

/// The input's name in messages.
pub(super) fn name(path: &Path) -> String {
    if path == Path::new(STANDARD) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Opens the input.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path);
    let file = file.map_err(|error| Failure::io(&format!("read {}", path.display()), &error))?;
    Ok(Box::new(file))
}

/// Reads a payload, which may have so many bytes.
pub(super) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    let limit = bytes_max as u64 + 1;
    let read = open(path)?.take(limit).read_to_end(&mut data);
    read.map_err(|error| Failure::io(&format!("read {}", name(path)), &error))?;
    if data.len() > bytes_max {
        let text = format!(
            "{} has more than {bytes_max} bytes, which no event may have; put large content into a \
             store and name it in the key",
            name(path)
        );
        return Err(Failure::new(INPUT, text));
    }
    Ok(data)
}
