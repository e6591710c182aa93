//! A pass over the records of one segment, with a window of it in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::format::{self, ALIGNMENT, DecodeError, Decoded, PREAMBLE_BYTES};
use crate::storage::SegmentFile;

/// How much is read at a time: several records of the largest size.
const WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// Reads records one after the other.
#[derive(Debug)]
pub(crate) struct Scan {
    file: Arc<dyn SegmentFile>,
    marker: u32,
    /// Nothing is read at or behind it.
    end: u64,
    window: Bytes,
    window_at: u64,
    window_bytes: u64,
}

impl Scan {
    pub(crate) fn new(file: Arc<dyn SegmentFile>, marker: u32, end: u64) -> Self {
        let window_bytes = WINDOW_BYTES;
        Self { file, marker, end, window: Bytes::new(), window_at: 0, window_bytes }
    }

    /// The same with a window of another size: a reader asks for little.
    pub(crate) const fn with_window(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// The record at a place.
    pub(crate) fn record_at(&mut self, position: u64) -> io::Result<Result<Decoded, DecodeError>> {
        let front = self.bytes_at(position, PREAMBLE_BYTES as u64)?;
        let length = match format::measure(&front, self.marker) {
            Ok(length) => length,
            Err(error) => return Ok(Err(error)),
        };
        let bytes = self.bytes_at(position, length as u64)?;
        Ok(format::decode(&bytes, self.marker))
    }

    /// The first place at or behind this one that is not zero; `None`: zeros to the end.
    pub(crate) fn not_zero_from(&mut self, mut position: u64) -> io::Result<Option<u64>> {
        while position < self.end {
            let bytes = self.bytes_at(position, self.window_bytes)?;
            if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
                return Ok(Some(position + at as u64));
            }
            position += bytes.len() as u64;
        }
        Ok(None)
    }

    /// The first whole record at or behind a place, and where.
    pub(crate) fn record_from(&mut self, position: u64) -> io::Result<Option<(u64, Decoded)>> {
        let mut at = position.next_multiple_of(ALIGNMENT as u64);
        let marker = self.marker.to_le_bytes();
        while at < self.end {
            let bytes = self.bytes_at(at, self.window_bytes)?;
            let begins = |chunk: &[u8]| chunk.starts_with(&marker);
            match bytes.chunks(ALIGNMENT).position(begins) {
                None => at += (bytes.len() as u64).next_multiple_of(ALIGNMENT as u64),
                Some(chunk) => {
                    at += (chunk * ALIGNMENT) as u64;
                    if let Ok(decoded) = self.record_at(at)? {
                        return Ok(Some((at, decoded)));
                    }
                    at += ALIGNMENT as u64;
                }
            }
        }
        Ok(None)
    }

    /// Up to so many bytes from a place; fewer only where the segment ends.
    fn bytes_at(&mut self, position: u64, count: u64) -> io::Result<Bytes> {
        let until = position.saturating_add(count).min(self.end).max(position);
        let held = self.window_at..self.window_at + self.window.len() as u64;
        if position < held.start || until > held.end {
            let length = self.window_bytes.max(count).min(self.end.saturating_sub(position));
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let mut window = vec![0; length];
            self.file.read_exact_at(&mut window, position)?;
            self.window = window.into();
            self.window_at = position;
        }
        let begin = usize::try_from(position - self.window_at).map_err(io::Error::other)?;
        let length = usize::try_from(until - position).map_err(io::Error::other)?;
        Ok(self.window.slice(begin..begin + length))
    }
}
