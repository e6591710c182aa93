//! Progress of a subscription, pure: what was delivered, what was acknowledged, where to resume.
//!
//! An acknowledgement may name a place that only an earlier stream delivered, because the
//! application still had it when the connection broke. It counts for resuming at once, and is told
//! to the node only as far as the present stream has delivered, beyond which the node would refuse.

use evermesh_event::{Offset, ResumeToken, Run};
use evermesh_proto::v1;
use v1::subscribe_response::Message;

use super::{Begin, Item};

#[derive(Debug)]
pub(super) struct Progress {
    /// Everything through here was acknowledged, or was there before the first stream began.
    token: Option<ResumeToken>,
    /// The present stream, once one was opened.
    here: Option<Here>,
}

/// The present stream.
#[derive(Debug)]
struct Here {
    run: Run,
    /// The last offset that it delivered, or passed.
    delivered: Offset,
    /// The last offset of its run that the application acknowledged.
    acknowledged: Option<Offset>,
    /// The last that was told to the node.
    told: Option<Offset>,
    /// This was rejected, and did not come again yet.
    rejected: Option<Offset>,
    /// What the stream delivered before a reject: all of that comes again.
    again: Option<Offset>,
    /// The node says only once that this has caught up. Where that was on its way when something
    /// was rejected, it is true once everything through here has come again.
    held: Option<(Offset, v1::CaughtUp)>,
}

impl Progress {
    pub(super) const fn new(from: &Begin) -> Self {
        let token = match from {
            Begin::After(token) => Some(*token),
            Begin::Live | Begin::Beginning | Begin::Name(_) => None,
        };
        Self { token, here: None }
    }

    /// Where to resume.
    pub(super) const fn token(&self) -> Option<ResumeToken> {
        self.token
    }

    /// A stream was opened. The token of earlier streams stays until something of this one is
    /// acknowledged: if the node did not know it and this stream breaks before its `missed` was
    /// taken, the next stream must be told again.
    pub(super) fn opened(&mut self, opened: &v1::SubscribeOpened) -> Result<ResumeToken, String> {
        let run = Run::from_slice(&opened.run).map_err(|error| error.to_string())?;
        let begins = ResumeToken { run, offset: Offset::from_u64(opened.offset) };
        let token = *self.token.get_or_insert(begins);
        let acknowledged = Some(token.offset).filter(|_| token.run == run);
        let delivered = begins.offset;
        let told = acknowledged.filter(|offset| *offset <= delivered);
        self.here = Some(Here {
            run,
            delivered,
            acknowledged,
            told,
            rejected: None,
            again: None,
            held: None,
        });
        Ok(begins)
    }

    /// Something came on the present stream; `None`: it will come again.
    pub(super) fn heard(&mut self, message: Message) -> Result<Option<Item>, String> {
        let here = self.here.as_mut().ok_or("a message before the stream was open")?;
        let first = match &message {
            Message::Delivery(delivery) => Some(delivery.first_offset),
            Message::Missed(notice) => Some(notice.offset),
            Message::CaughtUp(caught_up) => Some(caught_up.offset),
            _ => None,
        };
        if let (Some(first), Some(rejected)) = (first, here.rejected) {
            let first = Offset::from_u64(first);
            match message {
                // Said of what was rejected since.
                Message::CaughtUp(caught_up) if first >= rejected => {
                    here.held = Some((here.again.unwrap_or(rejected), caught_up));
                    return Ok(None);
                }
                Message::Delivery(delivery) if first > rejected => {
                    here.again = here.again.max(Some(last_offset(&delivery)?));
                    return Ok(None);
                }
                _ if first > rejected => return Ok(None),
                _ => here.rejected = None,
            }
        }
        Ok(Some(match message {
            Message::Opened(_) => return Err("the stream was opened twice".to_owned()),
            Message::Delivery(delivery) => {
                let through = here.pass(last_offset(&delivery)?);
                Item::Delivery { delivery, through }
            }
            Message::Missed(notice) => {
                let missed = notice.missed.unwrap_or_default();
                if here.acknowledged >= Some(Offset::from_u64(notice.offset)) {
                    // It is told again: the node did not hear that it was acknowledged.
                    (here.acknowledged, here.told) = (None, None);
                }
                Item::Missed { missed, through: here.pass(Offset::from_u64(notice.offset)) }
            }
            Message::CaughtUp(caught_up) => {
                let through = here.pass(Offset::from_u64(caught_up.offset));
                Item::CaughtUp { caught_up, through }
            }
            Message::Freshness(freshness) => Item::Freshness(freshness),
            Message::TakenOver(taken_over) => Item::TakenOver(taken_over),
        }))
    }

    /// That it has caught up, once what was rejected meanwhile has come again.
    pub(super) fn late(&mut self) -> Option<Item> {
        let here = self.here.as_mut()?;
        let delivered = here.delivered;
        let (_, caught_up) = here.held.take_if(|(through, _)| *through <= delivered)?;
        let through = ResumeToken { run: here.run, offset: delivered };
        Some(Item::CaughtUp { caught_up, through })
    }

    /// An event of the present stream was rejected. False if it is not of that, or if something
    /// before it is.
    pub(super) fn reject(&mut self, place: ResumeToken) -> bool {
        let Some(here) = self.here.as_mut().filter(|here| here.run == place.run) else {
            return false;
        };
        if place.offset > here.delivered || here.rejected.is_some_and(|at| at <= place.offset) {
            return false;
        }
        let before = Offset::from_u64(place.offset.as_u64().saturating_sub(1));
        here.rejected = Some(place.offset);
        here.again = here.again.max(Some(here.delivered));
        here.delivered = before;
        here.acknowledged = here.acknowledged.map(|at| at.min(before));
        true
    }

    /// The application applied everything through here.
    pub(super) fn acknowledge(&mut self, through: ResumeToken) {
        let present = self.here.as_mut().filter(|here| here.run == through.run);
        if let Some(here) = present {
            here.acknowledged = here.acknowledged.max(Some(through.offset));
        } else if self.token.is_none_or(|token| token.run != through.run) {
            // Of a stream that two later ones have made meaningless.
            return;
        }
        let before = self.token.filter(|token| token.run == through.run);
        if before.is_none_or(|token| token.offset < through.offset) {
            self.token = Some(through);
        }
    }

    /// What the node is to be told now, if anything; counts as told.
    pub(super) fn untold(&mut self) -> Option<Offset> {
        let here = self.here.as_mut()?;
        let through = here.acknowledged?.min(here.delivered);
        if here.told.is_some_and(|told| told >= through) {
            return None;
        }
        here.told = Some(through);
        Some(through)
    }
}

impl Here {
    fn pass(&mut self, offset: Offset) -> ResumeToken {
        self.delivered = self.delivered.max(offset);
        ResumeToken { run: self.run, offset }
    }
}

/// The offset of a delivery's last entry.
fn last_offset(delivery: &v1::Delivery) -> Result<Offset, String> {
    let count = delivery.encoded_entries().count() as u64;
    let last = match (delivery.offsets.last(), count.checked_sub(1)) {
        (_, None) => return Err("a delivery without events".to_owned()),
        (Some(last), _) if delivery.offsets.len() as u64 == count => Some(Offset::from_u64(*last)),
        (Some(_), _) => None,
        (None, Some(more)) => Offset::from_u64(delivery.first_offset).plus(more),
    };
    last.ok_or_else(|| "a delivery whose offsets do not fit its events".to_owned())
}

#[cfg(test)]
mod tests;
