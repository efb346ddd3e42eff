//! Subscriptions: what is asked for, and what came.

use std::task::Poll;
use std::time::Duration;

use moq_net::track::{Ordered, Subscriber};
use moq_net::{Datagram, Error, Timestamp, broadcast, group, kio, origin, track};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::content;
use crate::failure::{Failure, Outcome, ending};

/// "As long as you have it", in the units of the wire.
const FOREVER: Duration = Duration::from_millis(1 << 50);

/// What a subscriber wants of a track.
#[derive(Deserialize, Clone, Default)]
pub struct Wishes {
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    ordered: bool,
    /// Seconds; without it, there is no limit.
    max_latency: Option<f64>,
    start: Option<u64>,
    /// Inclusive.
    end: Option<u64>,
}

impl Wishes {
    fn subscription(&self) -> moq_net::track::Subscription {
        let max_age = self.max_latency.map_or(FOREVER, Duration::from_secs_f64);
        let wishes = moq_net::track::Subscription::default().with_priority(self.priority).with_max_age(max_age);
        match (self.start, self.end) {
            (Some(start), Some(end)) => wishes.with_groups(start..=end),
            (Some(start), None) => wishes.with_groups(start..),
            (None, Some(end)) => wishes.with_groups(..=end),
            (None, None) => wishes,
        }
    }
}

/// How much to read.
#[derive(Deserialize)]
pub struct Amount {
    /// Groups; without it, until the track ends.
    groups: Option<usize>,
    /// Seconds to wait after each group.
    #[serde(default)]
    delay: f64,
    /// Stop in the middle of a group, after so many frames.
    frames: Option<usize>,
    /// Read groups beside each other, and report them as they end.
    #[serde(default)]
    together: bool,
}

/// What a subscription gives: groups, and one end.
type Next = Result<Option<group::Consumer>, Error>;

pub struct Subscription {
    control: Mutex<Control>,
    groups: Mutex<Groups>,
    datagrams: Mutex<mpsc::UnboundedReceiver<Datagram>>,
    task: JoinHandle<()>,
}

/// The way to change what is asked for, once the publisher has answered.
enum Control {
    Asking(oneshot::Receiver<track::Control>),
    Known(track::Control),
}

struct Groups {
    next: mpsc::Receiver<Next>,
    current: Option<Progress>,
}

impl Subscription {
    /// Asks for a track as soon as its broadcast is announced.
    pub fn start(origin: origin::Consumer, broadcast: String, track: String, wishes: Wishes) -> Self {
        let (control_told, control) = oneshot::channel();
        let (next_told, next) = mpsc::channel(1);
        let (datagrams_told, datagrams) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            match ask(origin, &broadcast, &track, &wishes).await {
                // The broadcast ends for us when its handle is dropped.
                Ok((_broadcast, subscriber)) => {
                    // Nobody may want to change anything.
                    let _ = control_told.send(subscriber.control());
                    let reader = if wishes.ordered {
                        Reader::InOrder(subscriber.ordered())
                    } else {
                        Reader::ByArrival(subscriber)
                    };
                    reader.run(next_told, datagrams_told).await;
                }
                Err(error) => {
                    let _ = next_told.send(Err(error)).await;
                }
            }
        });
        Self {
            control: Mutex::new(Control::Asking(control)),
            groups: Mutex::new(Groups { next, current: None }),
            datagrams: Mutex::new(datagrams),
            task,
        }
    }

    /// Reads groups and reports each; the last field says how the track ended, if it did.
    pub async fn read(&self, amount: Amount) -> Outcome {
        let mut state = self.groups.lock().await;
        if amount.together {
            return Ok(state.read_together(amount.groups.unwrap_or(usize::MAX)).await);
        }
        let mut groups = Vec::new();
        let mut left = amount.frames;
        while amount.groups.is_none_or(|wanted| groups.len() < wanted) {
            let mut progress = match state.current.take() {
                Some(progress) => progress,
                None => match state.next().await {
                    Ok(Some(group)) => Progress::new(group),
                    Ok(None) => return Ok(json!({"groups": groups, "end": "finished"})),
                    Err(error) => return Ok(json!({"groups": groups, "end": ending(&error)})),
                },
            };
            let whole = progress.read(&mut left).await;
            groups.push(progress.report());
            if !whole {
                state.current = Some(progress);
                break;
            }
            if amount.delay > 0.0 {
                tokio::time::sleep(Duration::from_secs_f64(amount.delay)).await;
            }
        }
        Ok(json!({"groups": groups, "end": null}))
    }

    pub async fn read_datagrams(&self, count: usize) -> Outcome {
        let mut datagrams = self.datagrams.lock().await;
        let mut all = Vec::new();
        while all.len() < count {
            let Some(datagram) = datagrams.recv().await else { break };
            all.push(json!({
                "sequence": datagram.sequence,
                "bytes": datagram.payload.len(),
                "right": content::is_right(datagram.sequence, 0, &datagram.payload),
                "timestamp": seconds(datagram.timestamp),
            }));
        }
        Ok(json!({"datagrams": all}))
    }

    /// Changes what is asked for.
    pub async fn update(&self, wishes: Wishes) -> Outcome {
        let mut control = self.control.lock().await;
        if let Control::Asking(asking) = &mut *control {
            *control = Control::Known(asking.await.map_err(|_| Failure::usage("the subscription has failed"))?);
        }
        if let Control::Known(control) = &*control {
            control.update(wishes.subscription())?;
        }
        Ok(json!({}))
    }
}

/// Asks for a track as soon as its broadcast is announced. The broadcast ends for us when its handle is dropped.
pub async fn ask(
    origin: origin::Consumer,
    broadcast: &str,
    track: &str,
    wishes: &Wishes,
) -> Result<(broadcast::Consumer, Subscriber), Error> {
    let broadcast = origin.routed_broadcast(broadcast).await?;
    let mut subscriber = broadcast.track(track)?.subscribe(wishes.subscription()).await?;
    if let Some(start) = wishes.start {
        subscriber.set_groups(start..);
    }
    Ok((broadcast, subscriber))
}

impl Groups {
    async fn next(&mut self) -> Next {
        self.next.recv().await.unwrap_or(Err(Error::Cancel))
    }

    async fn read_together(&mut self, count: usize) -> Value {
        let mut reading = JoinSet::new();
        let mut groups = Vec::new();
        let mut begun = 0;
        let mut end = Value::Null;
        while groups.len() < count {
            tokio::select! {
                next = self.next(), if begun < count && end.is_null() => match next {
                    Ok(Some(group)) => {
                        begun += 1;
                        reading.spawn(whole_group(group));
                    }
                    Ok(None) => end = json!("finished"),
                    Err(error) => end = ending(&error),
                },
                Some(report) = reading.join_next() => groups.extend(report.ok()),
                else => break,
            }
        }
        json!({"groups": groups, "end": end})
    }
}

enum Reader {
    ByArrival(Subscriber),
    InOrder(Ordered),
}

enum Event {
    Group(Next),
    Datagram(Result<Option<Datagram>, Error>),
}

impl Reader {
    /// Hands over what comes. A subscription reaches the publisher only when it is polled, so this looks one group
    /// ahead of whoever reads.
    async fn run(mut self, groups: mpsc::Sender<Next>, datagrams: mpsc::UnboundedSender<Datagram>) {
        let mut room = None;
        let mut listening = true;
        loop {
            let wanted = room.is_some();
            tokio::select! {
                permit = groups.clone().reserve_owned(), if !wanted => match permit {
                    Ok(permit) => room = Some(permit),
                    Err(_) => return,
                },
                event = kio::wait(|waiter| self.poll(waiter, wanted, listening)), if wanted || listening => match event {
                    Event::Group(next) => {
                        let over = !matches!(next, Ok(Some(_)));
                        if let Some(permit) = room.take() {
                            permit.send(next);
                        }
                        if over {
                            return;
                        }
                    }
                    Event::Datagram(Ok(Some(datagram))) => {
                        // If nobody wants datagrams, they are lost, as they may be.
                        let _ = datagrams.send(datagram);
                    }
                    Event::Datagram(_) => listening = false,
                },
            }
        }
    }

    fn poll(&mut self, waiter: &kio::Waiter, groups: bool, datagrams: bool) -> Poll<Event> {
        if groups && let Poll::Ready(next) = self.poll_group(waiter) {
            return Poll::Ready(Event::Group(next));
        }
        if datagrams && let Poll::Ready(next) = self.poll_datagram(waiter) {
            return Poll::Ready(Event::Datagram(next));
        }
        Poll::Pending
    }

    fn poll_group(&mut self, waiter: &kio::Waiter) -> Poll<Next> {
        match self {
            Self::ByArrival(reader) => reader.poll_recv_group(waiter),
            Self::InOrder(reader) => reader.poll_next_group(waiter),
        }
    }

    fn poll_datagram(&mut self, waiter: &kio::Waiter) -> Poll<Result<Option<Datagram>, Error>> {
        match self {
            Self::ByArrival(reader) => reader.poll_recv_datagram(waiter),
            Self::InOrder(reader) => reader.poll_recv_datagram(waiter),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A group as far as it has been read.
struct Progress {
    group: group::Consumer,
    frames: u64,
    bytes: u64,
    wrong: u64,
    stamps: (Option<Timestamp>, Option<Timestamp>),
    end: Value,
}

impl Progress {
    fn new(group: group::Consumer) -> Self {
        Self { group, frames: 0, bytes: 0, wrong: 0, stamps: (None, None), end: Value::Null }
    }

    /// Reads to the end of the group, or until no frames are left to be read; whether it was the end.
    async fn read(&mut self, left: &mut Option<usize>) -> bool {
        loop {
            if *left == Some(0) {
                return false;
            }
            match self.group.read_frame().await {
                Ok(Some(frame)) => {
                    if !content::is_right(self.group.sequence, self.frames, &frame.payload) {
                        self.wrong += 1;
                    }
                    self.frames += 1;
                    self.bytes += frame.payload.len() as u64;
                    self.stamps = (self.stamps.0.or(Some(frame.timestamp)), Some(frame.timestamp));
                    *left = left.map(|left| left - 1);
                }
                Ok(None) => {
                    self.end = json!("finished");
                    return true;
                }
                Err(error) => {
                    self.end = ending(&error);
                    return true;
                }
            }
        }
    }

    fn report(&self) -> Value {
        json!({
            "sequence": self.group.sequence,
            "frames": self.frames,
            "bytes": self.bytes,
            "wrong": self.wrong,
            "first_timestamp": self.stamps.0.map(seconds),
            "last_timestamp": self.stamps.1.map(seconds),
            "end": self.end,
        })
    }
}

fn seconds(timestamp: Timestamp) -> f64 {
    timestamp.value() as f64 / timestamp.scale().as_u64() as f64
}

/// A report of one group, read to its end.
pub async fn whole_group(group: group::Consumer) -> Value {
    let mut progress = Progress::new(group);
    progress.read(&mut None).await;
    progress.report()
}
