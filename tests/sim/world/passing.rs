//! What outlives a start, or ends it for good: disks that are exchanged, members that come and go.

use super::*;

impl Run<'_> {
    /// Whoever runs on a copy is told so by all who know better.
    pub(super) fn unnoticed(&mut self) {
        let journals: Vec<_> = self.nodes.iter().map(|held| held.strings.journal()).collect();
        for (node, journal) in journals.iter().enumerate() {
            let Some(journal) = journal else { continue };
            for (other, knows) in journals.iter().enumerate().filter(|(other, _)| *other != node) {
                let seen = knows.as_ref().and_then(|it| it.seen_starts().remove(journal.origin()));
                if let Some(why) = seen.and_then(|seen| journal.disowned(&seen)) {
                    let (node, other) = (name(node), name(other));
                    self.broken.push(format!("{other} knows, and {node} does not: {why}"));
                }
            }
        }
    }

    /// A node that keeps no disk ended in order: under its origin nothing is numbered any more, and
    /// who heard its last word knows that.
    pub(super) fn last_of_memory(&self, node: usize) {
        let held = &self.nodes[node];
        let Some(journal) = held.strings.journal().filter(|_| held.in_memory) else { return };
        let (origin, head) = (journal.origin(), journal.own_head());
        let heard = |other: &Node| {
            let listed = other.strings.journal().and_then(|other| other.member(&origin.node));
            listed.is_some_and(|listed| listed.ended.contains(&(origin.journal, head)))
        };
        let others = self.nodes.iter().enumerate().filter(|(at, _)| *at != node);
        let lack = others.filter(|(_, other)| !heard(other)).map(|(at, _)| name(at)).collect();
        let number = Number { origin: origin.text(), sequence: head.as_u64() };
        self.say(What::Leaving { node: name(node), number, lack });
    }

    /// A node that is down has another disk, or another name.
    pub(super) fn exchange(
        &mut self,
        node: usize,
        change: impl FnOnce(&mut Self) -> Option<Exchange>,
    ) {
        if self.nodes[node].gone {
            return;
        }
        if self.nodes[node].up {
            self.power_loss(node);
        }
        if let Some(by) = change(self) {
            self.nodes[node].exchanged |= by != Exchange::Renamed;
            self.bear_witness(node, by);
        }
    }

    /// What is left of a node's events, and who knows that there were more.
    pub(super) fn bear_witness(&self, node: usize, by: Exchange) {
        let (limits, hosts) = (self.limits.clone(), self.hosts.clone());
        let open = |disk, at: usize| evidence::open(disk, &hosts.name_of(&name(at)), &limits);
        let others = 0..self.nodes.len();
        let others = others.filter(|other| *other != node && !self.nodes[*other].gone);
        let knows = |at: usize| {
            let other = &self.nodes[at];
            // What is in memory stands for as long as its node is up, and for no longer.
            if other.in_memory {
                return other.strings.journal();
            }
            open(other.disk.durable_copy(), at)
        };
        let others = others.filter_map(|at| Some((name(at), knows(at)?)));
        let others: Vec<_> = others.collect();
        let held = &self.nodes[node];
        let is = if held.gone { None } else { open(held.disk.copy(), node) };
        let origins = evidence::remains(&held.origins, is.as_ref(), &others);
        self.say(What::Exchanged { node: name(node), by, origins });
    }

    pub(super) fn new_disk(&mut self, node: usize, new: NewDisk) -> Option<Exchange> {
        let held = &mut self.nodes[node];
        match new {
            NewDisk::Empty => held.disk.exchange(&MemoryDisk::new()),
            NewDisk::Saved => held.disk.exchange(&held.saved.as_ref()?.copy()),
            NewDisk::Swapped => {
                let saved = held.saved.take()?;
                held.saved = Some(held.disk.copy());
                held.disk.exchange(&saved);
            }
        }
        Some(if new == NewDisk::Empty { Exchange::Emptied } else { Exchange::Restored })
    }

    pub(super) fn flip(&self, node: usize, times: u32) -> Option<Exchange> {
        let flip = |_| self.nodes[node].disk.flip(self.random.as_ref());
        let flipped: Vec<_> = (0..times).filter_map(flip).collect();
        let of_state = flipped.contains(&Flipped::State);
        let by = if of_state { Exchange::FlippedState } else { Exchange::Flipped };
        (!flipped.is_empty()).then_some(by)
    }

    /// It left the mesh, and its applications with it.
    pub(super) fn left(&mut self, node: usize) {
        self.last_of_memory(node);
        self.down(node, End::Goodbye);
        self.gone(node);
        self.departed.insert(self.hosts.name_of(&name(node)), self.sim.elapsed() + KNOWN_WITHIN);
    }

    /// It never comes back.
    pub(super) fn gone(&mut self, node: usize) {
        self.nodes[node].gone = true;
        self.hosts.remove(&name(node));
        self.sim.crash(host(Machine::Applications(node)));
        self.say(What::Gone { node: name(node) });
        self.bear_witness(node, Exchange::Gone);
        let there = name(node);
        let ended: Vec<_> = self.wants.iter().filter(|(_, (at, _))| *at == there).collect();
        let ended: Vec<_> = ended.into_iter().map(|(subscription, _)| *subscription).collect();
        for subscription in ended {
            self.wants.remove(&subscription);
            self.say(What::Closed { subscription });
        }
    }

    /// As an operator does it at any node, as soon as it is possible.
    pub(super) fn forget(&mut self) {
        let now = self.sim.elapsed();
        let late: Vec<_> = self.departed.extract_if(.., |_, until| *until <= now).collect();
        // Who was cut off when it left is forgotten by hand, where nobody heard it.
        self.forget.extend(late.into_iter().map(|(name, _)| name));
        let names: Vec<_> = self.forget.iter().cloned().collect();
        for name in names {
            let gone = NodeName::new(&name).unwrap();
            let there: Vec<_> = self.nodes.iter().filter(|held| held.up).collect();
            let mut known = there.iter().filter_map(|held| held.strings.journal()?.member(&gone));
            if known.any(|known| known.left) {
                self.forget.remove(&name);
                continue;
            }
            let mut peers = there.iter().filter_map(|held| held.strings.peers());
            if peers.any(|peers| peers.forget(&gone).is_ok()) {
                self.forget.remove(&name);
                self.say(What::Forgotten { name });
            }
        }
    }

    /// A node that knows the address of the first one only.
    pub(super) fn join(&mut self, node: usize) {
        let random = self.random.branch();
        self.node(&random, node, vec![name(0)]);
        self.applications(&random, node, node + 1);
    }

    /// A node whose disk is empty waits for whoever is configured, and cannot know that one of them
    /// left before they met: its operator removes that address, and starts it anew.
    pub(super) fn configure(&mut self) {
        for node in 0..self.nodes.len() {
            let peers = self.nodes[node].strings.peers().filter(|_| self.nodes[node].up);
            let status = peers.map(|peers| peers.status()).unwrap_or_default();
            let gone = (0..self.nodes.len()).filter(|other| self.nodes[*other].gone);
            let gone: Vec<_> =
                gone.map(|other| format!("https://{}:{PORT}", name(other))).collect();
            let unmet =
                |member: &PeerStatus| member.node.is_none() && gone.contains(&member.address);
            if status.iter().any(unmet) {
                self.inflict(&Fault::Stop(node));
                self.nodes[node].begins = true;
            }
        }
    }
}
