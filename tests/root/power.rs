//! P1, P11: power cuts. What was assured before is there afterwards.
//!
//! A node writes to an ext4 file system in a file. At a cut its process is stopped, and the file is
//! copied: the copy has what reached the device, and nothing of what only lay in the page cache.
//! The node is killed and goes on with the copy, whose file system replays its own journal, so that
//! cut follows cut on one history. Two files beside the journal, one synced and one not, say
//! whether a cut was one. Not shown here: a device that reorders or drops what it was given; the
//! simulated disk of the journal's own tests does that.

use std::fs::{self, File};
use std::io::Write as _;

use evermesh_event::verdict::Verdict;
use rustix::process::Signal;

use crate::dice::Dice;
use crate::history::{Publisher, Subscriber};
use crate::mount::Ext4;
use crate::needs::{self, Need, count};
use crate::node::{Node, until};
use crate::strace::Strace;

const NEEDS: &[Need] = &[Need::Mounting, Need::Ext4];
/// Cuts, if nobody says how many.
const CUTS: usize = 20;
/// Cuts of one history: each is read from its beginning after each cut.
const CUTS_OF_A_HISTORY: usize = 20;
/// Handed in by each publisher around each cut.
const EVENTS: usize = 600;
/// What the device has: the largest journal, and room for what the file system keeps.
const DEVICE_BYTES: u64 = 192 * 1024 * 1024;

/// A node on a device, and publishers under way.
struct Powered {
    node: Node,
    publishers: Vec<Publisher>,
    disk: Option<Ext4>,
    /// Goes after what is mounted in it.
    directory: tempfile::TempDir,
    dice: Dice,
    cuts: usize,
    /// How often all of it was heard.
    read: usize,
    /// Cuts that took a file nobody had synced.
    unsynced_lost: usize,
}

impl Powered {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let disk = Ext4::make(path("disk-0"), path("disk"), DEVICE_BYTES);
        let data = format!("{}/data", disk.path().display());
        // The smallest journal has the smallest segments: cuts fall on their ends, too.
        let mut node = Node::new(directory.path(), "web-1", "[journal]\nmax_bytes = \"64MiB\"\n");
        node.set("EVERMESH_NODE__DATA_DIR", &data);
        node.start();
        let publisher = |prefix| {
            Publisher::start_as(prefix, &node.at(), path(&format!("published-{prefix}.jsonl")))
        };
        let publishers = ["a", "b", "c"].map(publisher).into();
        let dice = Dice::new();
        let disk = Some(disk);
        Self { directory, disk, node, publishers, dice, cuts: 0, read: 0, unsynced_lost: 0 }
    }

    /// Everybody publishes; returns somewhere in between.
    fn under_way(&mut self) {
        let assured =
            |publishers: &[Publisher]| -> usize { publishers.iter().map(Publisher::assured).sum() };
        let before = assured(&self.publishers);
        self.publishers.iter_mut().for_each(|publisher| publisher.hand_in(EVENTS));
        let more = 1 + self.dice.below(2 * EVENTS);
        until("publishing goes on", || assured(&self.publishers) >= before + more);
    }

    /// Cuts the power: the node goes on with what reached the device.
    fn cut(&mut self) {
        self.cuts += 1;
        let disk = self.disk.take().unwrap();
        // Names that are new: ext4 writes early what is written over.
        let [synced, unsynced] =
            ["synced", "unsynced"].map(|name| disk.path().join(format!("{name}-{}", self.cuts)));
        let write = |path| {
            let mut file = File::create(path).unwrap();
            write!(file, "{}", self.cuts).unwrap();
            file
        };
        drop(write(&unsynced));
        self.node.signal(Signal::STOP);
        until("every thread is stopped", || stopped(self.node.pid()));
        // At every second cut the file system's own journal was written a moment before: names and
        // sizes are then there whose contents may not be.
        let sync = self.cuts.is_multiple_of(2);
        if sync {
            write(&synced).sync_all().unwrap();
        }
        let image = self.directory.path().join(format!("disk-{}", self.cuts));
        disk.copy(&image);
        self.node.end(Signal::KILL);
        drop(disk);
        let former = self.directory.path().join(format!("disk-{}", self.cuts - 1));
        fs::remove_file(former).unwrap();
        let disk = Ext4::mount(image, self.directory.path().join("disk"));
        let written = |path| fs::read_to_string(path).is_ok_and(|at| at == self.cuts.to_string());
        assert!(!sync || written(&synced), "what was synced is on the device");
        self.unsynced_lost += usize::from(!written(&unsynced));
        self.disk = Some(disk);
    }

    /// What a subscriber hears from the beginning, against what was assured until it began.
    fn verdict(&mut self) -> Verdict {
        let mut published = self.publishers[0].published().clone();
        self.publishers[1..].iter().for_each(|more| published.extend(&more.published()));
        self.read += 1;
        let file = self.directory.path().join(format!("heard-{}.jsonl", self.read));
        let subscriber = Subscriber::start(&self.node.at(), file);
        until("the subscriber has caught up", || subscriber.caught_up() > 0);
        for publisher in ["a", "b", "c"] {
            let ids = subscriber.ids().into_iter();
            let numbers = ids.filter_map(|id| id.strip_prefix(publisher)?.parse::<usize>().ok());
            let numbers: Vec<_> = numbers.collect();
            assert!(numbers.is_sorted(), "the order in which they were published");
        }
        Verdict::of(&published, &subscriber.history())
    }

    fn finish(&mut self) {
        self.publishers.iter_mut().for_each(Publisher::finish);
        let verdict = self.verdict();
        assert_eq!(verdict, Verdict::default(), "after {} cuts", self.cuts);
        assert_eq!(self.node.end(Signal::TERM).code(), Some(0));
    }
}

/// Whether no thread of a process runs, nor waits for a disk.
fn stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let state = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        // Small where it is traced.
        rest.trim_start().starts_with(['T', 't'])
    };
    threads.map(Result::unwrap).all(state)
}

#[test]
fn what_was_assured_outlives_a_power_cut() {
    if !needs::are_there(NEEDS) {
        return;
    }
    let (mut left, mut unsynced_lost) = (count("EVERMESH_POWER_CUTS", CUTS), 0);
    let cuts = left;
    while left > 0 {
        let mut powered = Powered::new();
        for _ in 0..left.min(CUTS_OF_A_HISTORY) {
            powered.under_way();
            powered.cut();
            powered.node.start();
            let verdict = powered.verdict();
            assert!(verdict.is_clean(), "after cut {}: {verdict:?}", powered.cuts);
            assert_eq!(verdict.renumbered, 0, "nobody saw what was lost");
        }
        powered.finish();
        left -= powered.cuts;
        unsynced_lost += powered.unsynced_lost;
    }
    assert!(
        unsynced_lost * 2 > cuts,
        "the cuts were none: {unsynced_lost} of {cuts} lost anything"
    );
    eprintln!("{cuts} power cuts, of which {unsynced_lost} took a file that nobody had synced");
}

/// The test above would notice.
#[test]
fn a_disk_that_only_says_so_is_found_out() {
    if !needs::are_there(NEEDS) || !needs::are_there(&[Need::Injection]) {
        return;
    }
    let mut powered = Powered::new();
    powered.under_way();
    // Nothing that was synced before counts for what comes.
    let all = |publisher: &Publisher| publisher.assured() == publisher.handed_in();
    until("everything is assured", || powered.publishers.iter().all(all));
    let lying = Strace::attach(powered.node.pid(), "fdatasync:retval=0");
    powered.under_way();
    powered.cut();
    drop(lying);
    powered.node.start();
    let verdict = powered.verdict();
    assert!(verdict.lost > 0, "{verdict:?}");
}
