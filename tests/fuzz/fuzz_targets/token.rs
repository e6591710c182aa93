//! A token from anywhere: never a panic, never both kinds.
#![no_main]

use evermesh_event::{FenceToken, Offset, ResumeToken, Sequence};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (resume, fence) = (text.parse::<ResumeToken>(), text.parse::<FenceToken>());
    assert!(resume.is_err() || fence.is_err());
    if let Ok(token) = resume {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    if let Ok(token) = fence {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    let _ = (text.parse::<Offset>(), text.parse::<Sequence>());
});
