//! Calls of a [`Client`] that ask one thing and wait for its answer.

use std::net::ToSocketAddrs;
use std::time::Instant;

use super::{Client, Result, SocketError};
use crate::config::Config;
use crate::login::LoginError;
use crate::pdu::length;
use crate::scsi::{Capacity, Sense, cdb, sense_key};
use crate::session::{Command, Completion, Data, Event, Tmf};
use crate::text;

impl Client {
    /// Lists the targets of a portal in a discovery session and logs out.
    ///
    /// # Errors
    /// As [`Client::connect`] and [`Client::send_targets`].
    pub fn discover(address: impl ToSocketAddrs, config: Config) -> Result<Vec<(String, String)>> {
        let mut client = Self::connect(address, Config { target_name: None, ..config })?;
        let targets = client.send_targets("All")?;
        client.logout()?;
        Ok(targets)
    }

    /// Runs one command to its end, whatever the status.
    ///
    /// # Errors
    /// No completion came.
    pub fn run(&mut self, command: Command) -> Result<Completion> {
        let itt = self.initiator.command(command)?;
        self.completion(itt)
    }

    /// Waits for the end of a command that was queued on the session.
    ///
    /// # Errors
    /// No completion came.
    pub fn completion(&mut self, itt: u32) -> Result<Completion> {
        let is_it = |event: &Event| match event {
            Event::Completed(completion) => completion.itt == itt,
            Event::Aborted { itt: aborted, .. } => *aborted == itt,
            _ => false,
        };
        let there = self.aside.iter().position(is_it).and_then(|index| self.aside.remove(index));
        let deadline = Instant::now() + self.timeout;
        let event = match there {
            Some(event) => event,
            None => self.wait_for(deadline, |event| if is_it(&event) { Ok(event) } else { Err(event) })?,
        };
        match event {
            Event::Completed(completion) => Ok(completion),
            _ => Err(SocketError::Aborted),
        }
    }

    /// Runs a command that is to end GOOD; a unit attention is taken and the command run again.
    ///
    /// # Errors
    /// No completion, or one with another status.
    pub fn command(&mut self, cdb: [u8; 16], data: Data) -> Result<Completion> {
        let command = Command::new(self.lun, cdb, data);
        let mut attentions_left = 8;
        loop {
            let completion = self.run(command.clone())?;
            if completion.is_good() {
                return Ok(completion);
            }
            let key = Sense::decode(&completion.sense).map(|sense| sense.key);
            if key != Some(sense_key::UNIT_ATTENTION) || attentions_left == 0 {
                return Err(SocketError::Status(Box::new(completion)));
            }
            attentions_left -= 1;
        }
    }

    /// READ CAPACITY (16); asked once and remembered.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn capacity(&mut self) -> Result<Capacity> {
        if let Some(capacity) = self.capacity {
            return Ok(capacity);
        }
        let answer = self.command(cdb::read_capacity_16(32), Data::In(32))?;
        let capacity = Capacity::decode_16(&answer.data);
        self.capacity = capacity;
        capacity.ok_or_else(|| SocketError::Unexpected(format!("capacity {:02x?}", answer.data)))
    }

    /// READ (16).
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn read(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>> {
        let bytes = blocks.saturating_mul(self.capacity()?.block_bytes);
        Ok(self.command(cdb::read_16(lba, blocks, cdb::Flags::default()), Data::In(bytes))?.data)
    }

    /// WRITE (16); the data are whole blocks.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn write(&mut self, lba: u64, data: &[u8]) -> Result<()> {
        let blocks = length(data.len()) / self.capacity()?.block_bytes.max(1);
        let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
        self.command(cdb, Data::Out(data.to_vec().into()))?;
        Ok(())
    }

    /// Runs a task management function and returns its response code.
    ///
    /// # Errors
    /// No response came.
    pub fn task_management(&mut self, request: Tmf) -> Result<u8> {
        let wanted = self.initiator.task_management(request)?;
        self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::TmfResponse { itt, response } if itt == wanted => Ok(response),
            other => Err(other),
        })
    }

    /// Sends a NOP-Out and waits for its echo.
    ///
    /// # Errors
    /// No echo came.
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let wanted = self.initiator.ping(0, data, false)?;
        self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::NopIn { itt, data, .. } if itt == wanted => Ok(data),
            other => Err(other),
        })
    }

    /// Sends text and waits for the whole answer, as pairs.
    ///
    /// # Errors
    /// No answer came, or no text.
    pub fn text(&mut self, question: &[u8]) -> Result<Vec<(String, String)>> {
        let wanted = self.initiator.text(question)?;
        let answer = self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::TextResponse { itt, text } if itt == wanted => Ok(text),
            other => Err(other),
        })?;
        text::decode(&answer).map_err(|error| LoginError::from(error).into())
    }

    /// SendTargets; the answer's pairs in order: TargetName, then its TargetAddresses.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn send_targets(&mut self, which: &str) -> Result<Vec<(String, String)>> {
        self.text(&text::encode([("SendTargets", which)]))
    }

    /// Logs out and waits for the target to close.
    ///
    /// # Errors
    /// No response, or not response 0.
    pub fn logout(&mut self) -> Result<()> {
        self.initiator.logout(0, true)?;
        let response = self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::LogoutResponse(response) => Ok(response.response),
            other => Err(other),
        })?;
        if response == 0 {
            Ok(())
        } else {
            Err(SocketError::Unexpected(format!("logout response {response}")))
        }
    }
}
