//! What is transferred, and the check that it all arrived: as `benchmarks/content.py` does it.

use bytes::{BufMut, Bytes, BytesMut};

use crate::failure::Failure;

/// How many different groups there are: primes, so that no power of two of lost groups goes unseen.
const VARIETY: usize = 7;
const VARIETY_OF_LARGE: usize = 3;
const LARGE: usize = 1 << 20;

const NUMBER: usize = 4;
const STEP: usize = 8;

/// Groups of so many frames of a size. They follow from their sequence, and no two frames of a group are alike.
pub struct Content {
    groups: Vec<Vec<Bytes>>,
}

impl Content {
    pub fn new(size: usize, frames: usize) -> Result<Self, Failure> {
        if size < NUMBER || frames == 0 {
            return Err(Failure::usage("frames without room for their number"));
        }
        let variety = if size * frames < LARGE { VARIETY } else { VARIETY_OF_LARGE };
        let noise = noise(size + 64 * 1024);
        let frame = |number: usize| {
            let start = number * STEP % (noise.len() - size);
            let mut out = BytesMut::with_capacity(size);
            out.put_u32(number as u32);
            out.put_slice(&noise[start..start + size - NUMBER]);
            out.freeze()
        };
        let group = |group: usize| (0..frames).map(|index| frame(group * frames + index)).collect();
        Ok(Self { groups: (0..variety).map(group).collect() })
    }

    /// The frames of a group.
    pub fn group(&self, sequence: u64) -> &[Bytes] {
        &self.groups[(sequence % self.groups.len() as u64) as usize]
    }
}

/// Bytes without a pattern, the same each time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.put_u64(state);
    }
    out.truncate(length);
    out
}
