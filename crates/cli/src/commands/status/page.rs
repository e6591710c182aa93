//! The status as a page for people, at most 80 columns wide.

use std::time::{Duration, SystemTime};

use evermesh_event::{Offset, Sequence};
use evermesh_proto::v1;

use super::json::hex;

/// What a terminal shows without wrapping.
const COLUMNS: usize = 80;

/// The whole page, with its last newline.
pub(super) fn page(status: &v1::GetStatusResponse, now: SystemTime) -> String {
    let mut page = Page(String::new());
    let v1::GetStatusResponse { node, version, process, .. } = status;
    let up = status.started.and_then(|at| SystemTime::try_from(at).ok());
    let up = up.and_then(|at| now.duration_since(at).ok()).map(age);
    let up = up.map_or_else(String::new, |up| format!(", up {up}"));
    page.line(&format!("{node}: evermesh {version}, process {process}{up}"));
    if let Some(journal) = &status.journal {
        page.journal(journal);
    }
    page.members(&status.members);
    page.subscriptions(&status.subscriptions);
    if let Some(connections) = &status.connections {
        page.connections(connections);
    }
    if let Some(ends) = status.certificate_ends.and_then(|at| SystemTime::try_from(at).ok()) {
        page.line("");
        let left = ends.duration_since(now).map(age);
        page.line(&match left {
            Ok(left) => format!("Certificate: ends in {left}"),
            Err(_) => "Certificate: has ended".to_owned(),
        });
    }
    page.0
}

/// Lines, one after another.
struct Page(String);

impl Page {
    /// A line; what does not fit is left out, and that shows.
    fn line(&mut self, line: &str) {
        self.0.push_str(fit(line.trim_end(), COLUMNS).as_str());
        self.0.push('\n');
    }

    fn journal(&mut self, journal: &v1::JournalStatus) {
        let id = journal.origin.as_ref().map_or_else(String::new, |origin| hex(&origin.journal));
        let offset = |value| Offset::from_u64(value).to_string();
        let sequence = |value| Sequence::from_u64(value).to_string();
        self.line("");
        self.line(&format!("Journal {id}, epoch {}", journal.epoch));
        if journal.in_memory {
            self.line("  memory: nothing is stored");
        }
        let kept = if journal.in_memory { "in memory" } else { "on disk" };
        self.row("offset", &offset(journal.head), kept, &offset(journal.durable));
        self.row("own sequence", &sequence(journal.own_head), kept, &sequence(journal.own_durable));
        let (published, received) = (journal.events_published, journal.events_received);
        self.row("published", &published.to_string(), "received", &received.to_string());
        let place = if journal.in_memory { "memory" } else { "disk" };
        self.row(place, &size(journal.disk_bytes), "syncs", &journal.syncs.to_string());
        let window = journal.window_age_max.and_then(|age| Duration::try_from(age).ok());
        let window = window.map_or_else(String::new, |window| format!("at most {}", age(window)));
        self.row("remembered ids", &journal.window_ids.to_string(), "for", &window);
        let own = journal.origin.as_ref();
        let others = journal.frontier.iter().filter(|position| position.origin.as_ref() != own);
        for position in others {
            let origin = position.origin.as_ref().map_or("?", |origin| &origin.node);
            self.line(&format!("  has {origin} through {}", sequence(position.sequence)));
        }
    }

    /// Two facts in one line.
    fn row(&mut self, label: &str, value: &str, second_label: &str, second: &str) {
        self.line(&format!("  {label:<16}{value:<20}  {second_label:<10}{second}"));
    }

    fn members(&mut self, members: &[v1::MemberStatus]) {
        self.line("");
        if members.is_empty() {
            return self.line("Members: none, this node is alone");
        }
        self.line(&format!(
            "{:<22} {:<5} {:<5} {:<10} STORED THERE",
            "MEMBER", "PULL", "FEED", "LAST PING"
        ));
        for member in members {
            let name = if member.node.is_empty() { &member.address } else { &member.node };
            let ping = member.last_ping.and_then(|since| Duration::try_from(since).ok());
            let ping = ping.map_or_else(|| "never".to_owned(), |since| format!("{since:.1?}"));
            let yes = |yes| if yes { "yes" } else { "no" };
            self.line(&format!(
                "{:<22} {:<5} {:<5} {ping:<10} {}{}{}",
                fit(name, 22),
                yes(member.pulling),
                yes(member.feeding),
                Sequence::from_u64(member.stored),
                if member.in_memory { "  in memory" } else { "" },
                match (member.left, member.suspended) {
                    (true, _) => "  left",
                    (false, true) => "  suspended",
                    (false, false) => "",
                },
            ));
            if !member.trouble.is_empty() {
                self.wrapped(&member.trouble);
            }
        }
    }

    /// A text under what it belongs to, in as many lines as it takes.
    fn wrapped(&mut self, text: &str) {
        let mut line = String::from("   ");
        for word in text.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.trim() != "" {
                self.line(&line);
                line = String::from("   ");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn subscriptions(&mut self, subscriptions: &[v1::SubscriptionStatus]) {
        self.line("");
        if subscriptions.is_empty() {
            return self.line("Subscriptions: none");
        }
        self.line(&format!("{:<12} {:<12} {:<6} SITES, WHO", "DELIVERED", "ACKNOWL.", "UNACK."));
        for subscription in subscriptions {
            let sites = match subscription.sites.as_slice() {
                [] => "all".to_owned(),
                sites => sites.join(","),
            };
            self.line(&format!(
                "{:<12} {:<12} {:<6} {}, {}",
                Offset::from_u64(subscription.delivered).to_string(),
                Offset::from_u64(subscription.acknowledged).to_string(),
                subscription.unacknowledged,
                fit(&sites, 24),
                subscription.identity,
            ));
        }
    }

    fn connections(&mut self, connections: &v1::ConnectionStatus) {
        let v1::ConnectionStatus { shared_accepted, local_accepted, open, dialled, refused } =
            connections;
        self.line("");
        self.line(&format!(
            "Connections: {open} open; accepted {shared_accepted} shared, {local_accepted} local; \
             dialled {dialled}; refused {refused}"
        ));
    }
}

/// The beginning of a text that is too long, with a sign that it is.
fn fit(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

/// How long, in the two largest units.
fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        (1, _, _) => format!("1 day {} h", hours % 24),
        _ => format!("{days} days"),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn status() -> v1::GetStatusResponse {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let position = |counter: u64| (3 << 40) | counter;
        let origin =
            |node: &str| v1::Origin { node: node.to_owned(), journal: vec![0xab; 16].into() };
        let seconds = |seconds| Some(Duration::from_secs(seconds).try_into().unwrap());
        v1::GetStatusResponse {
            node: "web-1".to_owned(),
            version: "0.1.0".to_owned(),
            process: 4711,
            started: Some(begun.into()),
            journal: Some(v1::JournalStatus {
                origin: Some(origin("web-1")),
                epoch: 3,
                head: position(17),
                durable: position(17),
                own_head: position(12),
                own_durable: position(11),
                disk_bytes: 64 << 20,
                syncs: 9,
                events_published: 12,
                events_received: 5,
                window_ids: 12,
                window_age_max: seconds(600),
                frontier: vec![
                    v1::OriginPosition { origin: Some(origin("web-1")), sequence: position(12) },
                    v1::OriginPosition { origin: Some(origin("web-2")), sequence: position(5) },
                ],
                in_memory: false,
            }),
            members: vec![
                v1::MemberStatus {
                    node: "web-2".to_owned(),
                    address: "https://web-2.internal:7443".to_owned(),
                    pulling: true,
                    feeding: true,
                    last_ping: seconds(1),
                    stored: position(11),
                    ..Default::default()
                },
                v1::MemberStatus {
                    address: "https://web-3.internal:7443".to_owned(),
                    suspended: true,
                    trouble: "cannot connect to https://web-3.internal:7443: connection refused; \
                              dialled again within 1 s"
                        .to_owned(),
                    ..Default::default()
                },
            ],
            subscriptions: vec![v1::SubscriptionStatus {
                identity: "local:uid=33".to_owned(),
                sites: vec!["shop".to_owned()],
                delivered: position(17),
                acknowledged: position(16),
                unacknowledged: 1,
                ..Default::default()
            }],
            connections: Some(v1::ConnectionStatus {
                shared_accepted: 2,
                local_accepted: 4,
                open: 3,
                dialled: 1,
                refused: 0,
            }),
            certificate_ends: Some((begun + Duration::from_secs(90 * 86_400)).into()),
        }
    }

    #[test]
    fn the_page_is_readable_and_narrow() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_011_640);
        let page = page(&status(), now);
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        let expected = "\
web-1: evermesh 0.1.0, process 4711, up 3 h 14 min

Journal abababababababababababababababab, epoch 3
  offset          3:17                  on disk   3:17
  own sequence    3:12                  on disk   3:11
  published       12                    received  5
  disk            64 MiB                syncs     9
  remembered ids  12                    for       at most 10 min
  has web-2 through 3:5

MEMBER                 PULL  FEED  LAST PING  STORED THERE
web-2                  yes   yes   1.0s       3:11
https://web-3.interna… no    no    never      0:0  suspended
    cannot connect to https://web-3.internal:7443: connection refused; dialled
    again within 1 s

DELIVERED    ACKNOWL.     UNACK. SITES, WHO
3:17         3:16         1      shop, local:uid=33

Connections: 3 open; accepted 2 shared, 4 local; dialled 1; refused 0

Certificate: ends in 89 days
";
        assert_eq!(page, expected);
    }

    #[test]
    fn a_node_without_a_disk_says_so() {
        let mut status = status();
        status.journal.as_mut().unwrap().in_memory = true;
        status.members.first_mut().unwrap().in_memory = true;
        let page = page(&status, SystemTime::UNIX_EPOCH);
        assert!(page.lines().all(|line| line.chars().count() <= COLUMNS), "{page}");
        assert!(page.contains("\n  memory: nothing is stored\n"), "{page}");
        assert!(page.contains("  memory          64 MiB"), "{page}");
        assert!(page.contains("3:11  in memory\n") && !page.contains("disk"), "{page}");
    }

    #[test]
    fn ages_have_two_units() {
        let of = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(of(59), "59 s");
        assert_eq!(of(60 * 59), "59 min");
        assert_eq!(of(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(of(86_400 + 7200), "1 day 2 h");
        assert_eq!(of(86_400 * 90), "90 days");
    }
}
