//! The subscribers' part.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iroh::Endpoint;
use moq_net::frame::Buffer;
use moq_net::track::Subscriber;
use moq_net::{broadcast, group};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::acknowledged::Acknowledging;
use super::clock;
use super::content::Content;
use super::stamped::{Seen, Stamps};
use super::writing::BATCH;
use crate::failure::{Failure, Outcome};
use crate::peer::{self, Remote};
use crate::publishing::new_origin;
use crate::reading::{Wishes, ask};
use crate::session::{Session, Side};

/// How often to look whether everything is there. When it came is known exactly all the same.
const LOOK: Duration = Duration::from_millis(1);
/// Within which a subscription must bring group 0.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without anything arriving, the rest is taken for lost after this.
const STALLED: Duration = Duration::from_secs(5);
const BIND: &str = "127.0.0.1:0";

/// What to read, and what to expect there.
#[derive(Deserialize)]
pub struct ReadersSpec {
    #[serde(flatten)]
    remote: Remote,
    version: String,
    broadcast: String,
    tracks: Vec<String>,
    readers: usize,
    /// Groups of frames as a flood writes them; without it, of such as are written at a pace.
    flood: Option<FloodSpec>,
}

#[derive(Deserialize)]
struct FloodSpec {
    frames: usize,
    size: usize,
    window: u64,
    acknowledge: SocketAddr,
}

/// Many subscribers, each with an endpoint and a session of its own.
pub struct Readers {
    arrivals: Vec<(String, Arc<Arrivals>)>,
    failure: Arc<Mutex<Option<Failure>>>,
    connected: Vec<Connected>,
    tasks: Vec<JoinHandle<()>>,
}

/// What one subscriber has got of one track, group 0 left out.
#[derive(Default)]
struct Arrivals {
    count: AtomicU64,
    /// When the latest came.
    last: AtomicU64,
    ready: AtomicU64,
    delays: Mutex<Vec<f64>>,
}

impl Arrivals {
    fn arrived(&self) -> u64 {
        self.last.store(clock::now(), Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Release) + 1
    }

    fn ready(&self) {
        self.ready.store(1, Ordering::Release);
    }
}

impl Readers {
    /// Opens all sessions, subscribes, and waits until each has group 0 of each track.
    pub async fn open(spec: ReadersSpec) -> Result<Self, Failure> {
        let content = match &spec.flood {
            Some(flood) => Some(Arc::new(Content::new(flood.size, flood.frames)?)),
            None => None,
        };
        let stamps = Arc::new(Stamps::new());
        let failure = Arc::new(Mutex::new(None));
        let mut readers =
            Self { arrivals: Vec::new(), failure: failure.clone(), connected: Vec::new(), tasks: Vec::new() };
        for _ in 0..spec.readers {
            let connected = Connected::dial(peer::endpoint(&[&spec.version], BIND, None).await?, &spec).await?;
            for track in &spec.tracks {
                let (broadcast, subscriber) = connected.subscribe(&spec.broadcast, track).await?;
                let arrivals = Arc::new(Arrivals::default());
                readers.arrivals.push((track.clone(), arrivals.clone()));
                let task = match (&spec.flood, &content) {
                    (Some(flood), Some(content)) => {
                        let acknowledging = Acknowledging::connect(flood.acknowledge, flood.window).await?;
                        let reading = read_groups(broadcast, subscriber, content.clone(), arrivals, acknowledging);
                        tokio::spawn(told(reading, failure.clone()))
                    }
                    _ => {
                        let reading = read_frames(broadcast, subscriber, stamps.clone(), arrivals);
                        tokio::spawn(told(reading, failure.clone()))
                    }
                };
                readers.tasks.push(task);
            }
            readers.connected.push(connected);
        }
        let begun = Instant::now();
        while !readers.arrivals.iter().all(|(_, each)| each.ready.load(Ordering::Acquire) == 1) {
            readers.look()?;
            if begun.elapsed() > PATIENCE {
                return Err(Failure::usage("a subscription brought nothing"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(readers)
    }

    /// Waits until a reader fails.
    pub async fn watch(&self) -> Outcome {
        loop {
            self.look()?;
            tokio::time::sleep(20 * LOOK).await;
        }
    }

    /// Waits until every reader has so many groups, or frames, of each track.
    pub async fn arrived(&self, expected: &HashMap<String, u64>) -> Outcome {
        let wanted: u64 = self.arrivals.iter().map(|(track, _)| expected[track]).sum();
        let (mut before, mut since) = (0, Instant::now());
        loop {
            self.look()?;
            let counts = self.arrivals.iter().map(|(_, each)| each.count.load(Ordering::Acquire));
            let count: u64 = counts.clone().sum();
            if self.arrivals.iter().zip(counts).all(|((track, _), count)| count == expected[track]) {
                return Ok(self.report());
            }
            if count != before {
                (before, since) = (count, Instant::now());
            } else if since.elapsed() > STALLED {
                return Err(Failure::usage(format!("{} of {wanted} never arrived", wanted.saturating_sub(count))));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn report(&self) -> Value {
        let processor = clock::processor();
        let end = self.arrivals.iter().map(|(_, each)| each.last.load(Ordering::Relaxed)).max();
        let delays = self.arrivals.iter().flat_map(|(_, each)| each.delays.lock().unwrap().clone());
        json!({"end": end, "delays": delays.collect::<Vec<_>>(), "processor": processor})
    }

    fn look(&self) -> Result<(), Failure> {
        self.failure.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Reads until the task is ended; to end by itself is a failure.
async fn told(reading: impl Future<Output = Result<(), Failure>>, failure: Arc<Mutex<Option<Failure>>>) {
    let why = match reading.await {
        Ok(()) => Failure::usage("a track ended while it was read"),
        Err(why) => why,
    };
    failure.lock().unwrap().get_or_insert(why);
}

/// An endpoint with one session.
struct Connected {
    session: Session,
    endpoint: Endpoint,
}

impl Connected {
    async fn dial(endpoint: Endpoint, spec: &ReadersSpec) -> Result<Self, Failure> {
        let address = spec.remote.address()?;
        let connection = endpoint.connect(address, spec.version.as_bytes()).await.map_err(Failure::connection)?;
        let session = Session::start(Side::Dialling, connection, &new_origin(), false).await?;
        Ok(Self { session, endpoint })
    }

    async fn subscribe(&self, broadcast: &str, track: &str) -> Result<(broadcast::Consumer, Subscriber), Failure> {
        Ok(ask(self.session.origin(), broadcast, track, &Wishes::default()).await?)
    }
}

/// Reads whole groups as they arrive, and compares them with what was sent.
async fn read_groups(
    _broadcast: broadcast::Consumer,
    mut subscriber: Subscriber,
    content: Arc<Content>,
    arrivals: Arc<Arrivals>,
    mut acknowledging: Acknowledging,
) -> Result<(), Failure> {
    let mut buffer = Buffer::<BATCH>::new();
    let mut seen = HashSet::new();
    while let Some(mut group) = subscriber.recv_group().await? {
        if group.sequence == 0 {
            while group.read_frame().await?.is_some() {}
            arrivals.ready();
            continue;
        }
        let sent = content.group(group.sequence);
        let mut index = 0;
        loop {
            let frames = group.read_frames(&mut buffer).await?;
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                if sent.get(index) != Some(&frame.payload) {
                    return Err(differs(&group, &format!("frame {index} differs")));
                }
                index += 1;
            }
        }
        if index != sent.len() {
            return Err(differs(&group, &format!("{index} frames of {}", sent.len())));
        }
        if !seen.insert(group.sequence) {
            return Err(Failure::usage(format!("group {} came twice", group.sequence)));
        }
        acknowledging.note(arrivals.arrived()).await?;
    }
    Ok(())
}

fn differs(group: &group::Consumer, how: &str) -> Failure {
    Failure::usage(format!("group {} is not as it was sent: {how}", group.sequence))
}

/// Reads frames as they arrive, and how long they took.
async fn read_frames(
    _broadcast: broadcast::Consumer,
    mut subscriber: Subscriber,
    stamps: Arc<Stamps>,
    arrivals: Arc<Arrivals>,
) -> Result<(), Failure> {
    let mut seen = Seen::default();
    while let Some(mut group) = subscriber.recv_group().await? {
        while let Some(frame) = group.read_frame().await? {
            if group.sequence == 0 {
                arrivals.ready();
                continue;
            }
            let delay = seen.take(&stamps, group.sequence, &frame.payload)?;
            arrivals.delays.lock().unwrap().push(delay);
            arrivals.arrived();
        }
    }
    Ok(())
}

/// The seconds from dialling to the first frame of the first track, for so many sessions, one after the other.
pub async fn first_frame(spec: ReadersSpec) -> Outcome {
    let track = spec.tracks.first().ok_or_else(|| Failure::usage("no track"))?;
    let mut times = Vec::new();
    for _ in 0..spec.readers {
        let endpoint = peer::endpoint(&[&spec.version], BIND, None).await?;
        let start = Instant::now();
        let connected = Connected::dial(endpoint, &spec).await?;
        let (_broadcast, mut subscriber) = connected.subscribe(&spec.broadcast, track).await?;
        let nothing = || Failure::usage("a subscription brought nothing");
        let mut group = subscriber.recv_group().await?.ok_or_else(nothing)?;
        group.read_frame().await?.ok_or_else(nothing)?;
        times.push(start.elapsed().as_secs_f64());
        connected.endpoint.close().await;
    }
    Ok(json!({"times": times}))
}
