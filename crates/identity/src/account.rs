//! Accounts of this machine: user names and numbers of those who may use the local socket.

use serde::Deserialize;

use crate::Error;

/// An account, as the configuration names it: a user name, or a number (also as text).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub enum Account {
    /// A user name, looked up when the rules are made.
    User(String),
    /// A user's number.
    Uid(u32),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

impl From<Written> for Account {
    fn from(written: Written) -> Self {
        match written {
            Written::Number(uid) => Self::Uid(uid),
            Written::Text(text) => Self::from(text.as_str()),
        }
    }
}

impl From<&str> for Account {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::User(text.to_owned()), Self::Uid)
    }
}

impl Account {
    /// The user's number.
    pub(crate) fn uid(&self) -> Result<u32, Error> {
        match self {
            Self::Uid(uid) => Ok(*uid),
            Self::User(name) => uid_of(name).ok_or_else(|| Error::Account(name.clone())),
        }
    }
}

/// The number of a user of this machine. A name that no system can know is not looked up.
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    if name.is_empty() || name.contains('\0') {
        return None;
    }
    uzers::get_user_by_name(name).map(|user| user.uid())
}

/// The name of a user of this machine. Asks the system's user database, which may block.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    uzers::get_user_by_uid(uid)?.name().to_str().map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_numbers_or_known_names() {
        assert_eq!(Account::from("1000"), Account::Uid(1000));
        assert_eq!(Account::from("root").uid().unwrap(), 0);
        assert_eq!(user_name(0).as_deref(), Some("root"));
        for unknown in ["", "no-such-user-here", "ro\0ot", "-1"] {
            let refused = Account::from(unknown).uid().unwrap_err();
            assert!(matches!(refused, Error::Account(name) if name == unknown));
        }
    }
}
