//! Quantities as people write them in arguments.

use std::time::Duration;

/// `10s`, `500ms`, `1m 30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>();
    duration
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write a duration such as 10s, 500ms or `1m 30s`".to_owned())
}
