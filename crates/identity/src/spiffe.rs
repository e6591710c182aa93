//! SPIFFE ids: how a URI name of a certificate reads, strictly.
//!
//! A first step of [`crate::Identity::from_certificate`]. What is not exactly as the SPIFFE
//! standard writes it (upper case in the domain, ports, queries, `%`, `..`, empty segments) is
//! refused, so that two different texts never mean the same workload.

/// As the standard bounds it.
const ID_BYTES_MAX: usize = 2048;
/// As the standard bounds it.
const DOMAIN_BYTES_MAX: usize = 255;

/// A parsed id of a workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SpiffeId<'a> {
    /// The trust domain: whose authority vouches for it.
    pub(crate) domain: &'a str,
    /// The path's segments, at least one.
    pub(crate) segments: Vec<&'a str>,
}

/// Reads a URI. `None` means another scheme, which says nothing about who it is.
pub(crate) fn parse(uri: &str) -> Result<Option<SpiffeId<'_>>, &'static str> {
    if !uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:")) {
        return Ok(None);
    }
    if uri.len() > ID_BYTES_MAX {
        return Err("it is longer than 2048 bytes");
    }
    let rest = uri.strip_prefix("spiffe://").ok_or("it does not begin with spiffe://")?;
    let (domain, path) = rest.split_once('/').ok_or("it names a trust domain and nobody in it")?;
    check_domain(domain)?;
    let segments: Vec<_> = path.split('/').collect();
    segments.iter().try_for_each(|segment| check_segment(segment))?;
    Ok(Some(SpiffeId { domain, segments }))
}

/// Whether this can be a trust domain.
pub(crate) fn check_domain(domain: &str) -> Result<(), &'static str> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if domain.is_empty() || domain.len() > DOMAIN_BYTES_MAX || !domain.bytes().all(valid) {
        return Err("a trust domain is 1 to 255 of a-z, 0-9, '-', '.' and '_'");
    }
    Ok(())
}

/// Whether this can be one segment of a path.
pub(crate) fn check_segment(segment: &str) -> Result<(), &'static str> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if segment.is_empty() || !segment.bytes().all(valid) {
        return Err("each part of a path is one or more of a-z, A-Z, 0-9, '-', '.' and '_'");
    }
    if segment == "." || segment == ".." {
        return Err("no part of a path is '.' or '..'");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn well_formed_ids_are_read() {
        let id = parse("spiffe://mesh.internal/node/web-1").unwrap().unwrap();
        assert_eq!((id.domain, id.segments), ("mesh.internal", vec!["node", "web-1"]));
        assert_eq!(parse("https://mesh.internal/node/web-1"), Ok(None));
        assert_eq!(parse("tag:x,2022-09-14:sid:S-1-5"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn everything_else_with_this_scheme_is_refused() {
        for bad in [
            "spiffe:",
            "spiffe:mesh/node/web-1",
            "SPIFFE://mesh/node/web-1",
            "spiffe://",
            "spiffe://mesh",
            "spiffe://mesh/",
            "spiffe:///node/web-1",
            "spiffe://Mesh/node/web-1",
            "spiffe://mesh:80/node/web-1",
            "spiffe://user@mesh/node/web-1",
            "spiffe://mesh/node/web-1/",
            "spiffe://mesh/node//web-1",
            "spiffe://mesh/app/../node/web-1",
            "spiffe://mesh/./node/web-1",
            "spiffe://mesh/node/web%2d1",
            "spiffe://mesh/node/web-1?x",
            "spiffe://mesh/node/web-1#x",
            "spiffe://mesh/node/web-1\n",
            "spiffe://mesh/node/web-1\0",
            "spiffe://mesh/node/wéb",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let long = format!("spiffe://mesh/node/{}", "x".repeat(ID_BYTES_MAX));
        assert!(parse(&long).is_err());
    }
}
