//! Client: one node, and the connection to it.
//!
//! Publisher and subscriber stand on it. The connection is dialled at the first call and again at
//! the next call after it broke; calls share it. Deliberately absent: trying a call again, which is
//! up to who knows what the call means.

use std::sync::Arc;
use std::time::Duration;

use evermesh_event::limits::MESSAGE_BYTES_MAX;
use evermesh_proto::v1::admin_service_client::AdminServiceClient;
use evermesh_proto::v1::event_replication_client::EventReplicationClient;
use http::Uri;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::dialing::{Dialer, Line};
use crate::{Address, Credentials, Error, World};

/// What one subscription may have unread on its way: several of the node's largest batches.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// And all of them together. HTTP/2 libraries count small unread frames against half of it, so it
/// leaves room for every event that may be unacknowledged, were each alone in a frame.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// How often a connection over the network is probed: firewalls forget idle ones after minutes.
const PROBE_EVERY: Duration = Duration::from_secs(20);
/// How long a probe may stay unanswered before the connection counts as broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// One node, for publishing, subscribing and asking. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// The connection, which the transport keeps.
    channel: Channel,
    line: Arc<Line>,
    world: World,
}

impl Client {
    /// A client of the node there. Credentials are read now; nothing is dialled before the first
    /// call.
    ///
    /// # Errors
    /// If credentials are incomplete or cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which the connection lives.
    pub fn connect(address: &Address, credentials: &Credentials) -> Result<Self, Error> {
        Self::connect_in(World::system()?, address, credentials)
    }

    /// The same, with clock and randomness given.
    ///
    /// # Errors
    /// If credentials are incomplete or cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, on which the connection lives.
    pub fn connect_in(
        world: World,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<Self, Error> {
        let tls = credentials.load(address)?;
        let line = Arc::new(Line::new(address.clone()));
        let uri = |scheme: &str| {
            let uri = Uri::builder().scheme(scheme).authority(address.authority());
            uri.path_and_query("/").build().map_err(|_| Error::Address("the host is not a name"))
        };
        // TLS is the dialer's business: the transport is told `http`, and the node the truth.
        let mut endpoint = Endpoint::from(uri("http")?)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if tls.is_some() {
            endpoint = endpoint
                .origin(uri("https")?)
                .http2_keep_alive_interval(PROBE_EVERY)
                .keep_alive_timeout(PROBE_TIMEOUT)
                .keep_alive_while_idle(true);
        }
        let dialer = Dialer::new(Arc::clone(&line), tls);
        let channel = endpoint.connect_with_connector_lazy(dialer);
        Ok(Self { channel, line, world })
    }

    /// Where the node is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.line.address
    }

    /// The connection, for services that this crate does not know, such as health.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The generated client of applications, with the message limits of every node.
    #[must_use]
    pub fn events(&self) -> EventReplicationClient<Channel> {
        EventReplicationClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The generated client of operators.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel())
    }

    /// How many connections were opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.line.opened()
    }

    /// What a status that one of the generated clients returned means.
    #[must_use]
    pub fn error(&self, status: &Status) -> Error {
        Error::of(&self.line, status)
    }

    pub(crate) const fn world(&self) -> &World {
        &self.world
    }
}
