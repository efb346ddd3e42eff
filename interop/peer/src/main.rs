//! A Rust peer of iroh-moq for Python, driven over standard input and output.
//!
//! Each line on standard input is one command, a JSON object: `id` is the caller's, `do` names the command, and the
//! rest are its arguments. Commands run at the same time, and each is answered by one line with the same `id` and
//! either `ok` or `error`. The process ends when its input does.
//!
//! `bind` begins anew, with another endpoint; what there was before is closed. The suite has a Python peer that understands the same commands, so that every case is written once.

mod announcements;
mod bench;
mod command;
mod content;
mod failure;
mod peer;
mod publishing;
mod raw;
mod reading;
mod relay_server;
mod session;
mod transport;

use std::sync::{Arc, RwLock};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

use crate::command::{Command, Request};
use crate::failure::Failure;
use crate::peer::Peer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let (answers, printed) = mpsc::unbounded_channel();
    let printer = tokio::task::spawn_blocking(move || print(printed));
    let current = Arc::new(RwLock::new(Arc::new(Peer::default())));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let current = current.clone();
        let answers = answers.clone();
        tokio::spawn(async move {
            // Whoever reads the answers may have gone; then nobody misses this one.
            let _ = answers.send(answer(&current, &line).await);
        });
    }
    let last = current.read().unwrap().clone();
    last.shutdown().await;
    // Commands that still wait for something keep the printer alive; the caller wants none of it any more.
    printer.abort();
    std::process::exit(0)
}

/// Writes each answer as a line of its own.
fn print(mut answers: mpsc::UnboundedReceiver<Value>) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    while let Some(answer) = answers.blocking_recv() {
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Runs one command.
async fn answer(current: &RwLock<Arc<Peer>>, line: &str) -> Value {
    let id = serde_json::from_str::<Value>(line).map_or(Value::Null, |value| value["id"].clone());
    let result = match serde_json::from_str::<Request>(line) {
        Ok(request) => {
            if matches!(request.command, Command::Bind { .. }) {
                let before = std::mem::take(&mut *current.write().unwrap());
                before.shutdown().await;
            }
            let peer = current.read().unwrap().clone();
            command::run(&peer, request.command).await
        }
        Err(error) => Err(Failure::usage(format!("not a command: {error}: {line}"))),
    };
    match result {
        Ok(value) => json!({"id": id, "ok": value}),
        Err(failure) => json!({"id": id, "error": failure.to_json()}),
    }
}
