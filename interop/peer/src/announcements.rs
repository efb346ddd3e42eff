//! What a peer has announced and taken back, in the order in which it was seen.

use moq_net::origin;
use serde_json::{Value, json};
use tokio::sync::watch;

pub struct Announcements {
    seen: watch::Receiver<Vec<Value>>,
}

impl Announcements {
    /// Follows an origin from now on.
    pub fn follow(origin: &origin::Consumer) -> Self {
        let mut updates = origin.announced();
        let (sender, seen) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Some(update) = updates.next().await {
                let entry = json!({
                    "name": update.prefix.as_str(),
                    "active": update.kind.is_active(),
                    "hops": update.route.hops.len(),
                });
                sender.send_modify(|seen| seen.push(entry));
            }
        });
        Self { seen }
    }

    /// All of it, as soon as there are so many.
    pub async fn wait(&self, count: usize) -> Value {
        let mut seen = self.seen.clone();
        // Once the origin has gone there will be no more.
        let _ = seen.wait_for(|seen| seen.len() >= count).await;
        let all = seen.borrow().clone();
        json!({"news": all})
    }
}
