//! Measuring: a whole transfer, or a whole run at a steady pace, for one command to each of the two processes.

mod acknowledged;
mod clock;
mod content;
mod reading;
mod stamped;
mod writing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::failure::{Failure, Outcome};

use acknowledged::Acknowledged;
use reading::Readers;
pub use reading::{ReadersSpec, first_frame};
pub use writing::{Flood, Pace, flood, paced};

/// The processor time that this process has used so far.
pub fn usage() -> Outcome {
    Ok(json!({"processor": clock::processor()}))
}

/// What measurements leave between one command and the next.
#[derive(Default)]
pub struct Benching {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    numbers: u64,
    acknowledged: HashMap<u64, Acknowledged>,
    readers: HashMap<u64, Arc<Readers>>,
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Benching {
    /// Listens for how far so many readers are.
    pub async fn listen(&self, readers: usize) -> Outcome {
        let acknowledged = Acknowledged::listen(readers).await?;
        let address = acknowledged.address();
        let mut state = self.state.lock().unwrap();
        let number = state.number();
        state.acknowledged.insert(number, acknowledged);
        Ok(json!({"acknowledged": number, "address": address}))
    }

    /// How far they are; for one transfer.
    pub fn acknowledged(&self, number: u64) -> Result<Acknowledged, Failure> {
        let taken = self.state.lock().unwrap().acknowledged.remove(&number);
        taken.ok_or_else(|| Failure::usage(format!("nobody acknowledges as {number}")))
    }

    /// Opens many subscribers.
    pub async fn open(&self, spec: ReadersSpec) -> Outcome {
        let readers = Arc::new(Readers::open(spec).await?);
        let processor = clock::processor();
        let mut state = self.state.lock().unwrap();
        let number = state.number();
        state.readers.insert(number, readers);
        Ok(json!({"readers": number, "processor": processor}))
    }

    pub fn readers(&self, number: u64) -> Result<Arc<Readers>, Failure> {
        let readers = self.state.lock().unwrap().readers.get(&number).cloned();
        readers.ok_or_else(|| Failure::usage(format!("no readers {number}")))
    }
}
