//! Why a call is refused: SPDK's codes and messages, so that scripts that test for them go on working.
//!
//! What SPDK leaves unsaid (which parameter, which name) follows "Invalid parameters" in the message; beside the text of
//! an errno, which clients compare, it is `data`.

use rustix::io::Errno;

use super::json::{Json, object};

/// An error answer (JSON-RPC 2.0 §5.1).
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// JSON-RPC's or SPDK's own, or a negative errno.
    pub code: i32,
    /// SPDK's words, perhaps with more behind them.
    pub message: String,
    /// What to do about it, where the message cannot say so.
    pub detail: Option<String>,
}

impl Fault {
    /// What came is no JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// It is JSON but no request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The method cannot be called like this.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Something failed here.
    pub const INTERNAL: i32 = -32603;
    /// Not before, or not after, `framework_start_init`.
    pub const INVALID_STATE: i32 = -1;

    pub(super) fn new(code: i32, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), detail: None }
    }

    /// The parameters are wrong; `why` says which and how.
    pub(super) fn params(why: impl std::fmt::Display) -> Fault {
        Fault::new(Fault::INVALID_PARAMS, format!("Invalid parameters: {why}"))
    }

    /// It failed here.
    pub(super) fn internal(why: impl std::fmt::Display) -> Fault {
        Fault::new(Fault::INTERNAL, format!("Internal error: {why}"))
    }

    /// SPDK answers with this errno.
    pub(super) fn errno(errno: Errno, detail: impl std::fmt::Display) -> Fault {
        let text = std::io::Error::from(errno).to_string();
        let message = text.split(" (os error").next().unwrap_or_default();
        Fault { code: -errno.raw_os_error(), message: message.to_owned(), detail: Some(detail.to_string()) }
    }

    /// The daemon has stopped or is about to.
    pub(super) fn stopped() -> Fault {
        Fault::internal("the daemon is stopping")
    }

    /// The `error` member of an answer.
    pub fn json(&self) -> Json {
        let Fault { code, message, detail } = self;
        match detail {
            Some(detail) => object! { "code": *code, "message": message, "data": detail },
            None => object! { "code": *code, "message": message },
        }
    }

    /// All it says, in one line.
    pub fn text(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.message),
            None => self.message.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_are_worded_as_strerror_does() {
        assert_eq!(
            Fault::errno(Errno::EXIST, "x").json().to_string(),
            r#"{"code":-17,"message":"File exists","data":"x"}"#
        );
        assert_eq!(Fault::errno(Errno::NODEV, "").message, "No such device");
        assert_eq!(
            Fault::params("no parameter tga").json().to_string(),
            r#"{"code":-32602,"message":"Invalid parameters: no parameter tga"}"#
        );
    }
}
