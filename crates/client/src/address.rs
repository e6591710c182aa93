//! Address: where a node is, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// What a unix socket's path may have on Linux: `sun_path` less its end.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Its local socket: plain HTTP/2, and the caller is who the kernel says it is.
    Unix(PathBuf),
    /// Its shared port: TLS, and the caller is who its certificate says it is.
    Https {
        /// A name or an IP address, without brackets. The node's certificate must be for it.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for Address {
    type Err = Error;

    /// Reads `unix:/PATH`, `/PATH` or `https://HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("https://") {
            return https(rest);
        }
        let path = match text.strip_prefix("unix:") {
            // Other gRPC clients write an absolute path with an empty authority: `unix:///run/…`.
            Some(path) => path.strip_prefix("//").filter(|p| p.starts_with('/')).unwrap_or(path),
            None if text.starts_with('/') => text,
            None if text.is_empty() => return Err(Error::Address("it is empty")),
            None if text.starts_with("http://") => {
                return Err(Error::Address("the shared port speaks TLS only"));
            }
            None => return Err(Error::Address("it begins with neither `unix:` nor `https://`")),
        };
        match path {
            "" => Err(Error::Address("the path of the socket is missing")),
            path if path.contains('\0') => Err(Error::Address("the path contains a NUL")),
            path if path.len() > SOCKET_PATH_BYTES_MAX => {
                Err(Error::Address("the path has more than the 107 bytes that a socket's may have"))
            }
            path => Ok(Self::Unix(path.into())),
        }
    }
}

fn https(rest: &str) -> Result<Address, Error> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(Error::Address("it has more than a host and a port"));
    }
    let (host, port) = rest.rsplit_once(':').ok_or(Error::Address("the port is missing"))?;
    let host = match host.strip_prefix('[') {
        Some(host) => host
            .strip_suffix(']')
            .filter(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
            .ok_or(Error::Address("what stands in brackets is not an IPv6 address"))?,
        None if host.contains(':') => {
            return Err(Error::Address("an IPv6 address stands in brackets: https://[::1]:7443"));
        }
        None => host,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(Error::Address("the host is not a name"));
    }
    match port.parse() {
        Ok(port) if port > 0 => Ok(Address::Https { host: host.to_owned(), port }),
        _ => Err(Error::Address("the port is not a number from 1 to 65535")),
    }
}

impl Address {
    /// Host and port as HTTP names them.
    pub(crate) fn authority(&self) -> String {
        match self {
            // HTTP/2 libraries refuse a path as authority.
            Self::Unix(_) => "localhost".to_owned(),
            Self::Https { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Https { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https { .. } => write!(f, "https://{}", self.authority()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_is_taken() {
        for (text, shown) in [
            ("unix:/run/evermesh/web-1.sock", "unix:/run/evermesh/web-1.sock"),
            ("unix:///run/evermesh/web-1.sock", "unix:/run/evermesh/web-1.sock"),
            ("/run/evermesh/web-1.sock", "unix:/run/evermesh/web-1.sock"),
            ("unix:web-1.sock", "unix:web-1.sock"),
            ("https://web-1.internal:7443", "https://web-1.internal:7443"),
            ("https://10.0.0.1:7443/", "https://10.0.0.1:7443"),
            ("https://[fd00::1]:7443", "https://[fd00::1]:7443"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, why) in [
            ("", "it is empty"),
            ("web-1", "neither"),
            ("http://web-1:7443", "TLS only"),
            ("unix:", "path of the socket is missing"),
            (&long, "107 bytes"),
            ("https://web-1", "port is missing"),
            ("https://web-1:0", "1 to 65535"),
            ("https://web-1:x", "1 to 65535"),
            ("https://:7443", "host is not a name"),
            ("https://a b:7443", "host is not a name"),
            ("https://::1:7443", "brackets"),
            ("https://[web]:7443", "not an IPv6 address"),
            ("https://web-1:7443/shop", "more than a host and a port"),
            ("https://me@web-1:7443", "more than a host and a port"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(error.contains("unix:/PATH"), "{text}: {error}");
        }
    }
}
