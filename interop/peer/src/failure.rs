//! What can go wrong with a command, and how it is told.

use serde_json::{Value, json};

/// Why a command failed. `code` is the code on the wire, of a stream or of a session.
#[derive(Debug, Clone)]
pub struct Failure {
    kind: &'static str,
    code: Option<u64>,
    text: String,
}

pub type Outcome = Result<Value, Failure>;

impl Failure {
    /// The command itself makes no sense.
    pub fn usage(text: impl ToString) -> Self {
        Self { kind: "usage", code: None, text: text.to_string() }
    }

    /// A connection could not be made, or was lost.
    pub fn connection(error: impl std::fmt::Debug) -> Self {
        Self { kind: "connection", code: None, text: format!("{error:?}") }
    }

    pub fn to_json(&self) -> Value {
        json!({"kind": self.kind, "code": self.code, "text": self.text})
    }
}

impl From<moq_net::Error> for Failure {
    fn from(error: moq_net::Error) -> Self {
        Self { kind: "moq", code: Some(code_of(&error)), text: error.to_string() }
    }
}

/// The code that stands for an error on the wire.
pub fn code_of(error: &moq_net::Error) -> u64 {
    moq_net::StreamError::from(error).to_code().into()
}

/// How a track or group ended, for a report.
pub fn ending(error: &moq_net::Error) -> Value {
    json!({"code": code_of(error), "text": error.to_string()})
}

/// The error that puts a code on the wire.
pub fn error_of(code: u32) -> moq_net::Error {
    match code.checked_sub(64).map(u16::try_from) {
        Some(Ok(app)) => moq_net::Error::App(app),
        _ => moq_net::Error::Stream(moq_net::StreamError::from_code(code)),
    }
}
