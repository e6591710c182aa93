//! Nodes in networks of their own, joined by a switch, and packets that do not arrive.
//!
//! Nothing of it is in the network of this machine: the switch has a namespace, too. With the
//! namespaces go all links and rules.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::mount::system;

/// Where a node is, by its number.
pub(crate) fn host(node: usize) -> String {
    format!("10.77.0.{}", node + 1)
}

/// The namespaces, until this is dropped.
pub(crate) struct Network {
    switch: String,
    names: Vec<String>,
}

impl Network {
    /// Networks for so many nodes, which reach each other.
    pub(crate) fn new(count: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let prefix =
            format!("evermesh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let names = (0..count).map(|node| format!("{prefix}-{node}")).collect();
        let network = Self { switch: format!("{prefix}-switch"), names };
        system("ip", &["netns", "add", &network.switch]);
        network.switch(&["link", "add", "bridge", "type", "bridge"]);
        network.switch(&["link", "set", "bridge", "up"]);
        for (node, name) in network.names.iter().enumerate() {
            let port = format!("port-{node}");
            system("ip", &["netns", "add", name]);
            let own = ["peer", "name", "eth0", "netns", name];
            network.switch(&[&["link", "add", &port, "type", "veth"][..], &own].concat());
            network.switch(&["link", "set", &port, "master", "bridge", "up"]);
            let address = format!("{}/24", host(node));
            system("ip", &["-n", name, "address", "add", &address, "dev", "eth0"]);
            for device in ["eth0", "lo"] {
                system("ip", &["-n", name, "link", "set", device, "up"]);
            }
            network.rule(node, &["add", "table", "inet", "evermesh"]);
            let input = "{ type filter hook input priority 0; }";
            network.rule(node, &["add", "chain", "inet", "evermesh", "input", input]);
        }
        network
    }

    /// The command that runs another in the network of a node.
    pub(crate) fn within(&self, node: usize) -> [&str; 4] {
        ["ip", "netns", "exec", &self.names[node]]
    }

    /// From now on a node hears nothing of another.
    pub(crate) fn deafen(&self, node: usize, from: usize) {
        let from = host(from);
        self.rule(
            node,
            &["add", "rule", "inet", "evermesh", "input", "ip", "saddr", &from, "drop"],
        );
    }

    /// Neither hears the other.
    pub(crate) fn part(&self, one: usize, other: usize) {
        self.deafen(one, other);
        self.deafen(other, one);
    }

    /// Everybody hears everybody.
    pub(crate) fn heal(&self) {
        for node in 0..self.names.len() {
            self.rule(node, &["flush", "chain", "inet", "evermesh", "input"]);
        }
    }

    fn switch(&self, arguments: &[&str]) {
        system("ip", &[&["-n", &self.switch], arguments].concat());
    }

    fn rule(&self, node: usize, arguments: &[&str]) {
        let command = [&self.within(node)[1..], &["nft"], arguments].concat();
        system("ip", &command);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names.iter().chain([&self.switch]) {
            // One that was not made yet is not there.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
