//! Quantities as people write them: durations and sizes, always with a unit.

use std::time::Duration;

/// `250ms`, `10s`, `2m`, `1h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (count, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    count.checked_mul(milliseconds).map(Duration::from_millis)
}

/// `512KiB`, `64MiB`, `4GiB`, `1TiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    let shift = match unit {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    count.checked_mul(1 << shift)
}

/// A whole number and what follows it; one space may stand between.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(digits)?;
    Some((count.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2 m"), Some(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        assert_eq!(bytes("512KiB"), Some(512 * 1024));
        assert_eq!(bytes("4GiB"), Some(4 << 30));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10x", "10  s", "1s ", "99999999999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for wrong in ["", "10", "GiB", "4GB", "4gib", "99999999999TiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
