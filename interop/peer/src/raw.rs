//! Connections on which the caller writes the bytes: what no honest peer would send.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use iroh::endpoint::{Connection, ReadError, RecvStream, SendStream, VarInt};
use serde::Deserialize;
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::session::why;

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Uni,
    Bi,
}

/// How to end a stream; the codes are those of QUIC, as they are on the wire.
#[derive(Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Ending {
    Finish,
    Reset { code: u64 },
    Stop { code: u64 },
}

#[derive(Default)]
struct Stream {
    send: tokio::sync::Mutex<Option<SendStream>>,
    recv: tokio::sync::Mutex<Option<RecvStream>>,
}

#[derive(Default)]
pub struct Raw {
    numbers: AtomicU64,
    connections: Mutex<HashMap<u64, Connection>>,
    streams: Mutex<HashMap<u64, Arc<Stream>>>,
}

/// A code as QUIC has it. All that are asked for fit.
pub fn varint(code: u64) -> VarInt {
    VarInt::from_u64(code).unwrap_or(VarInt::MAX)
}

impl Raw {
    pub fn add(&self, connection: Connection) -> u64 {
        let number = self.number();
        self.connections.lock().unwrap().insert(number, connection);
        number
    }

    pub async fn open(&self, connection: u64, direction: Direction) -> Outcome {
        let connection = self.connection(connection)?;
        let (send, recv) = match direction {
            Direction::Uni => (connection.open_uni().await.map_err(Failure::connection)?, None),
            Direction::Bi => {
                let (send, recv) = connection.open_bi().await.map_err(Failure::connection)?;
                (send, Some(recv))
            }
        };
        Ok(self.keep(Some(send), recv))
    }

    pub async fn accept(&self, connection: u64, direction: Direction) -> Outcome {
        let connection = self.connection(connection)?;
        let (send, recv) = match direction {
            Direction::Uni => (None, connection.accept_uni().await.map_err(Failure::connection)?),
            Direction::Bi => {
                let (send, recv) = connection.accept_bi().await.map_err(Failure::connection)?;
                (Some(send), recv)
            }
        };
        Ok(self.keep(send, Some(recv)))
    }

    /// Writes bytes, so many times.
    pub async fn write(&self, stream: u64, hex: &str, times: u32) -> Outcome {
        let bytes = from_hex(hex)?;
        let stream = self.stream(stream)?;
        let mut send = stream.send.lock().await;
        let send = send.as_mut().ok_or_else(|| Failure::usage("nothing can be written to it"))?;
        for _ in 0..times {
            send.write_all(&bytes).await.map_err(Failure::connection)?;
        }
        Ok(json!({}))
    }

    pub async fn end(&self, stream: u64, how: Ending) -> Outcome {
        let stream = self.stream(stream)?;
        match how {
            Ending::Finish | Ending::Reset { .. } => {
                let mut send = stream.send.lock().await;
                let send = send.as_mut().ok_or_else(|| Failure::usage("nothing can be written to it"))?;
                match how {
                    Ending::Reset { code } => send.reset(varint(code)),
                    _ => send.finish(),
                }
                .map_err(Failure::connection)?;
            }
            Ending::Stop { code } => {
                let mut recv = stream.recv.lock().await;
                let recv = recv.as_mut().ok_or_else(|| Failure::usage("nothing can be read from it"))?;
                recv.stop(varint(code)).map_err(Failure::connection)?;
            }
        }
        Ok(json!({}))
    }

    /// Reads so many bytes, or to the end, which it tells.
    pub async fn read(&self, stream: u64, limit: Option<usize>) -> Outcome {
        let stream = self.stream(stream)?;
        let mut recv = stream.recv.lock().await;
        let recv = recv.as_mut().ok_or_else(|| Failure::usage("nothing can be read from it"))?;
        let mut all = Vec::new();
        let (end, code) = loop {
            let room = limit.map_or(65536, |limit| limit - all.len());
            if room == 0 {
                break (None, None);
            }
            match recv.read_chunk(room).await {
                Ok(Some(chunk)) => all.extend_from_slice(&chunk),
                Ok(None) => break (Some("finished"), None),
                Err(ReadError::Reset(code)) => break (Some("reset"), Some(code.into_inner())),
                Err(error) => return Err(Failure::connection(error)),
            }
        };
        Ok(json!({"hex": to_hex(&all), "end": end, "code": code}))
    }

    /// Waits until the peer stops the stream, or has all of it (then there is no code).
    pub async fn stopped(&self, stream: u64) -> Outcome {
        let stream = self.stream(stream)?;
        let stopped = {
            let send = stream.send.lock().await;
            send.as_ref().ok_or_else(|| Failure::usage("nothing can be written to it"))?.stopped()
        };
        let code = stopped.await.map_err(Failure::connection)?;
        Ok(json!({"code": code.map(VarInt::into_inner)}))
    }

    pub fn datagram(&self, connection: u64, hex: &str) -> Outcome {
        let bytes = Bytes::from(from_hex(hex)?);
        self.connection(connection)?.send_datagram(bytes).map_err(Failure::connection)?;
        Ok(json!({}))
    }

    pub fn close(&self, connection: u64, code: u32, reason: &str) -> Outcome {
        self.connection(connection)?.close(varint(code.into()), reason.as_bytes());
        Ok(json!({}))
    }

    pub async fn closed(&self, connection: u64) -> Outcome {
        Ok(why(&self.connection(connection)?.closed().await))
    }

    fn keep(&self, send: Option<SendStream>, recv: Option<RecvStream>) -> serde_json::Value {
        let number = self.number();
        let stream = Stream { send: send.into(), recv: recv.into() };
        self.streams.lock().unwrap().insert(number, Arc::new(stream));
        json!({"stream": number})
    }

    fn connection(&self, number: u64) -> Result<Connection, Failure> {
        let connections = self.connections.lock().unwrap();
        connections.get(&number).cloned().ok_or_else(|| Failure::usage(format!("no connection {number}")))
    }

    fn stream(&self, number: u64) -> Result<Arc<Stream>, Failure> {
        let streams = self.streams.lock().unwrap();
        streams.get(&number).cloned().ok_or_else(|| Failure::usage(format!("no stream {number}")))
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect::<Option<_>>()
        .ok_or_else(|| Failure::usage("not hexadecimal"))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
