//! How a command reaches a node: the arguments that all such commands share.

use std::path::PathBuf;

use evermesh_client::{Address, Client, Credentials};
use evermesh_server::config::LOCAL_DEFAULT;

use crate::failure::{Failure, USAGE};

/// Where the node is, and who is asking.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Connection {
    /// The node: unix:/PATH of its local socket, or https://HOST:PORT
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "EVERMESH_AT",
        default_value_t = format!("unix:{LOCAL_DEFAULT}")
    )]
    pub(crate) at: String,
    /// The certificate to show there, for https
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key_file: Option<PathBuf>,
    /// The authorities to trust, for https
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

impl Connection {
    /// A client of that node. Nothing is dialled before the first call.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let address: Address = self
            .at
            .parse()
            .map_err(|error| Failure::new(USAGE, format!("--at {}: {error}", self.at)))?;
        let credentials = Credentials {
            cert: self.cert.clone(),
            key: self.key_file.clone(),
            ca: self.ca.clone(),
        };
        Ok(Client::connect(&address, &credentials)?)
    }
}
