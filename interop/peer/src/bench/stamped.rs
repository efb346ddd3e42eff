//! Frames that say when they were written, and how long they took: as `benchmarks/stamped.py` does it.

use std::collections::HashSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::clock;
use super::content::noise;
use crate::failure::Failure;

const HEADER: usize = 16;
const LONGEST: usize = 1 << 20;

/// Makes the frames, and checks them.
pub struct Stamps {
    noise: Vec<u8>,
}

impl Stamps {
    pub fn new() -> Self {
        Self { noise: noise(LONGEST) }
    }

    /// The frame of that number in its track, written now.
    pub fn frame(&self, index: u64, size: usize) -> Bytes {
        let mut out = BytesMut::with_capacity(size);
        out.put_u64(clock::now());
        out.put_u64(index);
        out.put_slice(&self.noise[..size - HEADER]);
        out.freeze()
    }

    fn open(&self, mut frame: &[u8]) -> Option<(u64, u64)> {
        if frame.len() < HEADER {
            return None;
        }
        let (written, index) = (frame.get_u64(), frame.get_u64());
        (frame == &self.noise[..frame.len()]).then_some((written, index))
    }
}

/// What one subscriber has got of one track.
#[derive(Default)]
pub struct Seen {
    indexes: HashSet<u64>,
    /// The group and the number of the latest frame.
    latest: (u64, u64),
}

impl Seen {
    /// Notes a frame; gives the seconds from its write to its read.
    pub fn take(&mut self, stamps: &Stamps, sequence: u64, frame: &[u8]) -> Result<f64, Failure> {
        let now = clock::now();
        let Some((written, index)) = stamps.open(frame) else {
            return Err(Failure::usage(format!("a frame of group {sequence} is not as it was sent")));
        };
        if !self.indexes.insert(index) {
            return Err(Failure::usage(format!("frame {index} came twice")));
        }
        if self.latest.0 == sequence && index < self.latest.1 {
            let before = self.latest.1;
            return Err(Failure::usage(format!("frame {index} came after frame {before} of its group")));
        }
        self.latest = (sequence, index);
        Ok(now.saturating_sub(written) as f64 / 1e9)
    }
}
