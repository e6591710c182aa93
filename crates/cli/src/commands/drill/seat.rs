//! What one subscription of a drill is and has heard. The task that hears writes it; a prober looks
//! at it when a fence is done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use evermesh_client::Freshness;
use evermesh_event::Sequence;
use evermesh_event::verdict::History;
use evermesh_proto::v1;

use super::Plant;
use super::book::SITES;

/// A planted fault waits for so many events: mistakes hide after the beginning.
const PLANTED_AFTER: u64 = 100;

/// How a subscription goes on when its application or its node was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One application that lives as long as the drill.
    Live,
    /// Applications that follow each other and hand a resume token on.
    Token,
    /// The same under a durable name, which hears the first site only.
    Name,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Live, Self::Token, Self::Name];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Token => "by token",
            Self::Name => "by name",
        }
    }

    /// Whether it hears both sites.
    pub(super) fn both_sites(self) -> bool {
        self != Self::Name
    }

    pub(super) fn sites(self) -> Vec<String> {
        let count = if self.both_sites() { SITES.len() } else { 1 };
        SITES.iter().take(count).map(ToString::to_string).collect()
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) node: usize,
    pub(super) kind: Kind,
    /// Such as `web-2 by token`.
    pub(super) label: String,
    heard: Mutex<Heard>,
}

/// What was heard, and whether it can be trusted.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) history: History,
    /// Of the application that is there now. `None`: none is.
    pub(super) freshness: Option<Freshness>,
    planted: Option<Planted>,
}

#[derive(Debug)]
struct Planted {
    plant: Plant,
    after: u64,
    /// An event, with its origin, that is told after the next one of that.
    held: Option<(String, Sequence, String)>,
}

impl Seat {
    pub(super) fn new(node: usize, name: &str, kind: Kind, plant: Option<Plant>) -> Self {
        let planted = plant.map(|plant| Planted { plant, after: PLANTED_AFTER, held: None });
        let heard = Heard { planted, ..Heard::default() };
        Self { node, kind, label: format!("{name} {}", kind.label()), heard: Mutex::new(heard) }
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// The application applies events of one origin. False: something came that is no event.
    pub(super) fn apply(&mut self, delivery: &v1::Delivery) -> bool {
        let Some(origin) = &delivery.origin else { return false };
        for entry in delivery.entries() {
            let Ok(v1::Entry { sequence, event: Some(event), .. }) = entry else { return false };
            let sequence = Sequence::from_u64(sequence);
            if event.data == event.id.as_bytes() {
                self.one(&origin.node, sequence, event.id);
            } else {
                // Nobody published an event of this content.
                self.history.heard(&origin.node, sequence, &format!("changed: {}", event.id));
            }
        }
        true
    }

    fn one(&mut self, origin: &str, sequence: Sequence, id: String) {
        let due = self.planted.as_mut().is_some_and(|planted| {
            planted.after = planted.after.saturating_sub(1);
            planted.after == 0
        });
        if !due {
            return self.history.heard(origin, sequence, &id);
        }
        let Some(mut planted) = self.planted.take() else { return };
        match planted.plant {
            Plant::DropOne => {}
            Plant::SwapTwo => match planted.held.take() {
                Some((of, before, other)) if of == origin => {
                    self.history.heard(origin, sequence, &id);
                    self.history.heard(origin, before, &other);
                }
                Some(held) => {
                    self.history.heard(origin, sequence, &id);
                    self.planted = Some(Planted { held: Some(held), ..planted });
                }
                None => {
                    let held = Some((origin.to_owned(), sequence, id));
                    self.planted = Some(Planted { held, ..planted });
                }
            },
            Plant::HearAgain => {
                self.history.heard(origin, sequence, &id);
                let mark = self.history.mark();
                self.history.secured(&mark);
                self.history.opened();
                self.history.heard(origin, sequence, &id);
            }
            Plant::NeedlessMissed => {
                self.history.missed();
                self.history.heard(origin, sequence, &id);
            }
            Plant::SkipFence => self.history.heard(origin, sequence, &id),
        }
    }
}

#[cfg(test)]
mod tests {
    use evermesh_event::verdict::{Fate, Published, Verdict};

    use super::*;

    /// 200 events of two origins in turn, with something planted.
    fn verdict(plant: Option<Plant>) -> Verdict {
        let seat = Seat::new(0, "web-1", Kind::Live, plant);
        let (mut heard, mut published) = (seat.heard(), Published::default());
        heard.history.opened();
        for n in 1..=200 {
            let origin = if n % 2 == 0 { "web-1" } else { "web-2" };
            published.note(&n.to_string(), Fate::Assured);
            heard.one(origin, Sequence::from_u64(n), n.to_string());
        }
        Verdict::of(&published, &heard.history)
    }

    #[test]
    fn each_planted_fault_is_one_fault_of_its_kind() {
        let clean = verdict(None);
        assert_eq!(clean, Verdict::default());
        assert_eq!(verdict(Some(Plant::SkipFence)), clean);
        let lost = verdict(Some(Plant::DropOne));
        assert_eq!((lost.lost, lost.reordered), (1, 0));
        let swapped = verdict(Some(Plant::SwapTwo));
        assert_eq!((swapped.lost, swapped.reordered), (0, 1));
        let again = verdict(Some(Plant::HearAgain));
        assert_eq!((again.lost, again.repeated), (0, 1));
        assert_eq!(verdict(Some(Plant::NeedlessMissed)), Verdict { missed: 1, ..clean });
    }
}
