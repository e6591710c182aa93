//! Lines become batches: read on a thread of their own while the batch before is published.
//!
//! What is there is taken at once, so that a key that is typed is published when its line ends;
//! batches grow by themselves while the node is busy. Always: the order of the lines, and bounded
//! memory however fast the input is.

use std::io::{self, BufRead, BufReader, Read};
use std::thread;

use evermesh_proto::v1;
use tokio::sync::mpsc;

use super::line::{self, Defaults};
use crate::failure::Failure;

/// Events in one call: enough that a call's cost and its fdatasync do not matter.
const BATCH_EVENTS_MAX: usize = 256;
/// And their bytes: half of what a message may have.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// What an event takes on the wire besides its texts: tags, lengths, id and time.
const EVENT_FRAME_BYTES: usize = 128;
/// Chunks that are read ahead: with their bytes, at most 4 MiB.
const CHUNKS_AHEAD_MAX: usize = 8;
/// The longest line: the largest event, were every byte of it escaped as `\u00XX`.
const LINE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What is read at once.
const READ_BYTES: usize = 128 * 1024;

/// What comes next of the input.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Events.
    Events(Batch),
    /// A line that is none, or input that cannot be read; nothing follows.
    Bad {
        /// Counted from 1.
        line: u64,
        /// In words.
        why: String,
    },
}

/// Events with the lines that they came from.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<v1::Event>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    /// The line of an event.
    pub(super) fn line(&self, index: usize) -> u64 {
        self.lines.get(index).copied().unwrap_or_default()
    }

    fn push(&mut self, line: u64, event: v1::Event) {
        self.bytes += line::bytes(&event) + EVENT_FRAME_BYTES;
        self.events.push(event);
        self.lines.push(line);
    }

    /// Whether so much more fits.
    const fn fits(&self, events: usize, bytes: usize) -> bool {
        self.events.len() + events <= BATCH_EVENTS_MAX && self.bytes + bytes <= BATCH_BYTES_MAX
    }

    fn append(&mut self, mut more: Self) {
        self.events.append(&mut more.events);
        self.lines.append(&mut more.lines);
        self.bytes += more.bytes;
    }
}

/// The batches of an input.
#[derive(Debug)]
pub(super) struct Batches {
    /// The thread that reads is at the other end.
    chunks: mpsc::Receiver<Chunk>,
    /// It did not fit the batch before.
    kept: Option<Chunk>,
}

impl Batches {
    /// Begins to read. The thread is not waited for at the end: nobody can wake it from a terminal.
    pub(super) fn read(
        input: impl Read + Send + 'static,
        defaults: Defaults,
    ) -> Result<Self, Failure> {
        let (say, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
        thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || Reading::new(input, defaults, say).run())
            .map_err(|error| Failure::io("start a thread", &error))?;
        Ok(Self { chunks, kept: None })
    }

    /// The next batch: all that is there, as far as it fits.
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        let chunk = match self.kept.take() {
            Some(chunk) => chunk,
            None => self.chunks.recv().await?,
        };
        let mut batch = match chunk {
            Chunk::Events(batch) => batch,
            bad @ Chunk::Bad { .. } => return Some(bad),
        };
        while batch.fits(1, 0)
            && let Ok(chunk) = self.chunks.try_recv()
        {
            match chunk {
                Chunk::Events(more) if batch.fits(more.events.len(), more.bytes) => {
                    batch.append(more);
                }
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        Some(Chunk::Events(batch))
    }
}

/// The thread that reads.
struct Reading<R> {
    input: BufReader<R>,
    defaults: Defaults,
    /// The publishing loop is at the other end.
    say: mpsc::Sender<Chunk>,
    batch: Batch,
}

impl<R: Read> Reading<R> {
    fn new(input: R, defaults: Defaults, say: mpsc::Sender<Chunk>) -> Self {
        let input = BufReader::with_capacity(READ_BYTES, input);
        Self { input, defaults, say, batch: Batch::default() }
    }

    fn run(mut self) {
        let mut text = Vec::new();
        for line in 1.. {
            let read = match self.line(&mut text) {
                Ok(false) => break,
                Ok(true) => line::parse(&text, &self.defaults),
                Err(why) => Err(why),
            };
            let taken = match read {
                Ok(Some(event)) => self.take(line, event),
                Ok(None) => Some(()),
                Err(why) => {
                    let _ = self.hand_over();
                    // The publishing loop may have ended for another reason.
                    let _ = self.say.blocking_send(Chunk::Bad { line, why });
                    return;
                }
            };
            // What may be waited for is not kept back.
            let waits = !self.input.buffer().contains(&b'\n');
            if taken.is_none() || (waits && self.hand_over().is_none()) {
                return;
            }
        }
        let _ = self.hand_over();
    }

    /// Reads a line without its end; false at the end of the input.
    fn line(&mut self, text: &mut Vec<u8>) -> Result<bool, String> {
        text.clear();
        let read = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', text);
        let read = read.map_err(|error: io::Error| format!("it cannot be read: {error}"))?;
        if read > LINE_BYTES_MAX {
            return Err(format!("it is longer than {LINE_BYTES_MAX} bytes"));
        }
        if text.pop_if(|byte| *byte == b'\n').is_some() {
            text.pop_if(|byte| *byte == b'\r');
        }
        Ok(read > 0)
    }

    fn take(&mut self, line: u64, event: v1::Event) -> Option<()> {
        if !self.batch.fits(1, line::bytes(&event) + EVENT_FRAME_BYTES) {
            self.hand_over()?;
        }
        self.batch.push(line, event);
        Some(())
    }

    /// Hands over what was read; `None` if nobody takes it any more.
    fn hand_over(&mut self) -> Option<()> {
        if self.batch.events.is_empty() {
            return Some(());
        }
        self.say.blocking_send(Chunk::Events(std::mem::take(&mut self.batch))).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn batches(input: impl Read + Send + 'static) -> Batches {
        let event = v1::Event { site: "s".into(), r#type: "t".into(), ..Default::default() };
        Batches::read(input, Defaults(event)).unwrap()
    }

    /// Everything: keys in order, the sizes of batches, and the bad line.
    async fn all(input: Vec<u8>) -> (Vec<String>, Vec<usize>, Option<(u64, String)>) {
        let mut batches = batches(io::Cursor::new(input));
        let (mut keys, mut sizes) = (vec![], vec![]);
        while let Some(chunk) = batches.next().await {
            match chunk {
                Chunk::Events(batch) => {
                    sizes.push(batch.events.len());
                    keys.extend(batch.events.into_iter().map(|event| event.key));
                }
                Chunk::Bad { line, why } => return (keys, sizes, Some((line, why))),
            }
        }
        (keys, sizes, None)
    }

    #[tokio::test]
    async fn lines_come_in_order_and_in_bounded_batches() {
        let text: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let (keys, sizes, bad) = all(text.into_bytes()).await;
        assert_eq!(keys, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(sizes.iter().all(|size| *size <= BATCH_EVENTS_MAX), "{sizes:?}");
        assert_eq!(bad, None);
    }

    #[tokio::test]
    async fn large_events_make_small_batches() {
        let line = format!("{{\"data\":\"{}\"}}\n", "x".repeat(200 * 1024));
        let (_, sizes, bad) = all(line.repeat(5).into_bytes()).await;
        assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
        assert_eq!((sizes.iter().sum::<usize>(), bad), (5, None));
    }

    #[tokio::test]
    async fn a_bad_line_is_named_and_ends_it() {
        let (keys, _, bad) = all(b"a\r\n\n{\"key\":\"b\"}\n{x}\nc\n".to_vec()).await;
        assert_eq!(keys, ["a", "b"]);
        let (line, why) = bad.unwrap();
        assert_eq!(line, 4);
        assert!(why.starts_with("key must be a string"), "{why}");
        let (keys, _, bad) = all(vec![b'x'; LINE_BYTES_MAX + 1]).await;
        assert_eq!((keys.len(), bad.unwrap().1), (0, "it is longer than 2097152 bytes".to_owned()));
    }

    #[tokio::test]
    async fn a_line_is_handed_over_though_the_next_is_not_there() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut batches = batches(reader);
        for key in ["first", "second"] {
            io::Write::write_all(&mut writer, format!("{key}\nand a pa").as_bytes()).unwrap();
            let Some(Chunk::Events(batch)) = batches.next().await else { panic!("no events") };
            assert!(batch.events[0].key.ends_with(key));
        }
        drop(writer);
        let Some(Chunk::Events(batch)) = batches.next().await else { panic!("no events") };
        assert_eq!((batch.events[0].key.as_str(), batch.line(0)), ("and a pa", 3));
        assert!(batches.next().await.is_none());
    }
}
