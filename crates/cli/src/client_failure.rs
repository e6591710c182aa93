//! What the client could not do, as the end of a command.

use evermesh_client::{Error, Fault};
use tonic::Code;

use crate::failure::{Failure, NOT_ALLOWED, UNAVAILABLE, USAGE};

/// The input is not as it must be.
pub(crate) const INPUT: u8 = 65;
/// An error of evermesh.
const SOFTWARE: u8 = 70;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Address(_) | Error::Credentials(_) | Error::Incomplete { .. } => USAGE,
            Error::Unwelcome { .. } => NOT_ALLOWED,
            Error::Unexpected { .. } => SOFTWARE,
            Error::Refused(refusal) => match refusal.code {
                Code::PermissionDenied | Code::Unauthenticated => NOT_ALLOWED,
                Code::Unimplemented => UNAVAILABLE,
                _ if error.fault() == Fault::Application => INPUT,
                _ => UNAVAILABLE,
            },
            _ if error.fault() == Fault::Application => INPUT,
            _ => UNAVAILABLE,
        };
        Self::new(code, error.to_string())
    }
}
