//! Where a subscription begins, as people write it.

use evermesh_client::Begin;

/// Reads `live`, `beginning` or a resume token.
pub(super) fn parse(text: &str) -> Result<Begin, String> {
    match text {
        "live" => Ok(Begin::Live),
        "beginning" => Ok(Begin::Beginning),
        token if token.contains('.') => {
            token.parse().map(Begin::After).map_err(|error| format!("{error}"))
        }
        _ => Err("write live, beginning, or a resume_token that was printed (er1.…)".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evermesh_event::{FenceToken, JournalId, NodeName, Origin, Run, Sequence, StartId};

    use super::*;

    #[test]
    fn every_form_and_what_is_none() {
        assert_eq!(parse("live"), Ok(Begin::Live));
        assert_eq!(parse("beginning"), Ok(Begin::Beginning));
        let run = Run { journal: JournalId::new([1; 16]), start: StartId::new([2; 16]) };
        let token = evermesh_event::ResumeToken { run, offset: "3:17".parse().unwrap() };
        assert_eq!(parse(&token.to_string()), Ok(Begin::After(token)));
        let origin = Origin { node: NodeName::new("web-1").unwrap(), journal: run.journal };
        let fence = FenceToken { origin, sequence: Sequence::ZERO, site: "shop".into() };
        let error = parse(&fence.to_string()).unwrap_err();
        assert_eq!(error, "this is a fence token; a resume token is expected here");
        assert!(parse("now").unwrap_err().starts_with("write live, beginning"));
    }
}
