//! Dead letters, for operators: look at them, publish them anew, drop them.

use evermesh_event::Sequence;
use evermesh_identity::Identity;
use evermesh_journal::Letter;
use evermesh_proto::v1;
use evermesh_telemetry::Refusal;
use tonic::{Code, Status};

use super::Admin;

/// Letters in one answer, or named by one request.
const LETTERS_MAX: usize = 256;
/// Letters in one answer if the request does not say.
const LETTERS_DEFAULT: usize = 100;
/// An answer's letters take at most this, so that it fits a message of 1 MiB: the largest event
/// takes a quarter of that.
const LETTERS_BYTES_MAX: usize = 512 * 1024;

impl Admin {
    /// One page of letters.
    pub(super) fn letters(
        &self,
        request: &v1::ListLettersRequest,
    ) -> Result<v1::ListLettersResponse, Status> {
        let letters_max = match usize::try_from(request.letters_max).unwrap_or(usize::MAX) {
            0 => LETTERS_DEFAULT,
            max @ 1..=LETTERS_MAX => max,
            max => {
                let message = format!("letters_max: is {max}, the limit is {LETTERS_MAX}");
                let code = Code::InvalidArgument;
                return Err(self.refuse(Refusal::new(code, "TOO_MANY_LETTERS", message)));
            }
        };
        let name = Some(request.durable_name.as_str()).filter(|name| !name.is_empty());
        let found = self.journal.letters(name, request.after_number, letters_max + 1);
        let mut bytes = 0;
        let page = found.iter().take(letters_max).take_while(|letter| {
            let first = bytes == 0;
            bytes += letter.entry.len() + letter.reason.len();
            first || bytes <= LETTERS_BYTES_MAX
        });
        let letters: Vec<_> = page.map(Letter::to_proto).collect();
        let more = letters.len() < found.len();
        Ok(v1::ListLettersResponse { letters, more })
    }

    /// Publishes letters anew, as the operator, and drops those that are stored.
    pub(super) async fn replay(
        &self,
        who: &Identity,
        numbers: &[u64],
    ) -> Result<v1::ReplayLettersResponse, Status> {
        let mut answer = v1::ReplayLettersResponse::default();
        for number in self.few(numbers)? {
            let Some(letter) = self.journal.letter(*number) else {
                answer.unknown_numbers.push(*number);
                continue;
            };
            let entry = letter.to_proto().entry.unwrap_or_default();
            let mut event = entry.event.unwrap_or_default();
            let first = format!("{}/{}", letter.origin.node, Sequence::from_u64(entry.sequence));
            event.attributes.insert("evermesh.replay_of".to_owned(), first);
            self.local.publish_anew(who, event).await?;
            self.journal.drop_letter(*number);
            answer.replayed += 1;
        }
        Ok(answer)
    }

    /// Drops letters.
    pub(super) fn drop_letters(&self, numbers: &[u64]) -> Result<v1::DropLettersResponse, Status> {
        let mut answer = v1::DropLettersResponse::default();
        for number in self.few(numbers)? {
            if self.journal.drop_letter(*number) {
                answer.dropped += 1;
            } else {
                answer.unknown_numbers.push(*number);
            }
        }
        Ok(answer)
    }

    fn few<'a>(&self, numbers: &'a [u64]) -> Result<&'a [u64], Status> {
        if (1..=LETTERS_MAX).contains(&numbers.len()) {
            return Ok(numbers);
        }
        let count = numbers.len();
        let message = format!("numbers: names {count} letters; it must be 1 to {LETTERS_MAX}");
        Err(self.refuse(Refusal::new(Code::InvalidArgument, "TOO_MANY_LETTERS", message)))
    }
}
