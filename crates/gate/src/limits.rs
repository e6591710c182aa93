//! The bounds of one port: how many, how long.
//!
//! They hold per listener, so that a flood on the shared port cannot lock out the local socket.
//! Windows and resets of HTTP/2 are constants in `connection`.

use std::time::Duration;

/// How many connections, handshakes and calls one listener takes, and how long it waits for them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections, those still in their handshake included. More are closed as they come.
    /// 1 024 leaves most of the usual limit of open files to the journal and the links.
    pub connections_max: usize,
    /// Handshakes at the same time. More are closed as they come; 64 keep two cores busy for a
    /// small part of `handshake_deadline`, so an honest caller's next try finds room.
    pub handshakes_max: usize,
    /// From accept to the end of the HTTP/2 preface: two round trips, a signature each.
    pub handshake_deadline: Duration,
    /// Calls at the same time on one connection; the client queues what is above. A stream that
    /// stays open is one call.
    pub streams_max: u32,
    /// Calls whose response has not begun, on all connections. More are answered OVERLOADED.
    /// Twice the depth (4 096) at which the reference workload publishes.
    pub in_flight_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            handshakes_max: 64,
            handshake_deadline: Duration::from_secs(5),
            streams_max: 100,
            in_flight_max: 8_192,
        }
    }
}
