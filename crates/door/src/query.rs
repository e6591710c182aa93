//! The query of a path: known keys only, each with its value.

use std::time::Duration;

use crate::answer::Trouble;

/// The keys and values of a query.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query, of which only these keys are known.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Trouble> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key)?, decode(value)?);
            if !known.contains(&key.as_str()) {
                let key: String = key.chars().take(40).collect();
                let message = format!("`{key}` is not known here; known are {}", known.join(", "));
                return Err(Trouble::invalid("QUERY_UNKNOWN", message));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a key; of several the last.
    pub(crate) fn one(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key, parted by commas too.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(name, _)| name == key);
        let values = values.flat_map(|(_, value)| value.split(','));
        values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }

    /// A number.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u32>, Trouble> {
        let number = |text: &str| text.parse().map_err(|_| wrong(key, text, "a whole number"));
        self.one(key).map(number).transpose()
    }

    /// A time such as `500ms` or `2s`.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<prost_types::Duration>, Trouble> {
        let duration = |text: &str| {
            let parsed = text.parse::<jiff::SignedDuration>().ok();
            let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
            let parsed = parsed.and_then(|duration| duration.try_into().ok());
            parsed.ok_or_else(|| wrong(key, text, "a time such as 500ms or 2s"))
        };
        self.one(key).map(duration).transpose()
    }

    /// Yes or no.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, Trouble> {
        match self.one(key) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(text) => Err(wrong(key, text, "true or false")),
        }
    }
}

pub(crate) fn wrong(key: &str, text: &str, wanted: &str) -> Trouble {
    let text: String = text.chars().take(40).collect();
    Trouble::invalid("QUERY_INVALID", format!("{key}: `{text}` is not {wanted}"))
}

/// Percent escapes, and `+` for a space.
fn decode(text: &str) -> Result<String, Trouble> {
    let broken = || wrong("the query", text, "well escaped UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let (digits, after) = rest.split_at_checked(2).ok_or_else(broken)?;
                let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
                rest = after;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_what_is_none() {
        let known = ["site", "wait", "all", "n"];
        let parse = |query| Query::parse(Some(query), &known);
        let query = parse("site=shop,blog&site=a%2Bb&wait=1.5s&all&n=7").unwrap();
        assert_eq!(query.all("site"), ["shop", "blog", "a+b"]);
        let wait = query.duration("wait").unwrap().unwrap();
        assert_eq!((wait.seconds, wait.nanos), (1, 500_000_000));
        assert!(query.flag("all").unwrap() && !query.flag("no").unwrap());
        assert_eq!(query.number("n").unwrap(), Some(7));
        assert!(parse("sites=shop").is_err() && parse("site=%").is_err());
        assert!(parse("site=%ff").is_err() && parse("site=%2").is_err());
        assert!(parse("n=-1").unwrap().number("n").is_err());
        assert!(parse("wait=soon").unwrap().duration("wait").is_err());
        assert!(parse("all=maybe").unwrap().flag("all").is_err());
    }
}
