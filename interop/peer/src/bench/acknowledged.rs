//! How far the readers are. moq-net never holds a writer back and keeps only some seconds of a track, so that to lose
//! nothing is to be no further ahead than a window: each reader counts its groups over a socket of its own, beside the
//! transfer, straight to the publisher.

use std::net::SocketAddr;
use std::sync::Mutex;

use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::failure::Failure;

/// How many times in each window a reader says how far it is.
const PER_WINDOW: u64 = 4;

/// The publisher's end.
pub struct Acknowledged {
    address: SocketAddr,
    by_all: watch::Receiver<u64>,
}

impl Acknowledged {
    /// Listens for so many readers.
    pub async fn listen(readers: usize) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::connection)?;
        let address = listener.local_addr().map_err(Failure::connection)?;
        let (told, by_all) = watch::channel(0);
        let counts = Arc::new(Counts { groups: Mutex::new(vec![0; readers]), told });
        tokio::spawn(async move {
            for reader in 0..readers {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(counts.clone().follow(reader, stream));
            }
        });
        Ok(Self { address, by_all })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every reader has so many groups.
    pub async fn reach(&mut self, groups: u64) -> Result<(), Failure> {
        let reached = self.by_all.wait_for(|count| *count >= groups).await;
        reached.map(|_| ()).map_err(|_| Failure::usage("the readers have gone"))
    }
}

struct Counts {
    groups: Mutex<Vec<u64>>,
    told: watch::Sender<u64>,
}

impl Counts {
    async fn follow(self: Arc<Self>, reader: usize, mut stream: TcpStream) {
        while let Ok(count) = stream.read_u64().await {
            let mut groups = self.groups.lock().unwrap();
            groups[reader] = count;
            let by_all = groups.iter().copied().min().unwrap_or(0);
            self.told.send_if_modified(|told| std::mem::replace(told, by_all) != by_all);
        }
    }
}

/// One reader's end.
pub struct Acknowledging {
    stream: TcpStream,
    every: u64,
}

impl Acknowledging {
    pub async fn connect(address: SocketAddr, window: u64) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await.map_err(Failure::connection)?;
        stream.set_nodelay(true).map_err(Failure::connection)?;
        Ok(Self { stream, every: (window / PER_WINDOW).max(1) })
    }

    /// Says, now and then, how many groups there are.
    pub async fn note(&mut self, groups: u64) -> Result<(), Failure> {
        if groups.is_multiple_of(self.every) {
            self.stream.write_u64(groups).await.map_err(Failure::connection)?;
        }
        Ok(())
    }
}
