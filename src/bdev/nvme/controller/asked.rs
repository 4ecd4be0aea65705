//! What lanes want to know of failed commands, and commands of theirs that are to be aborted.

use std::collections::VecDeque;
use std::mem;

use super::super::port::Reply;
use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::logs::{ErrorLog, lba_of};
use super::{Controller, State, command};

/// Questions for a failed block that wait, at most; what is more is answered with "unknown".
const BLOCKS_MAX: usize = 4096;
/// Aborts that wait, at most; what is more is dropped: they are hints.
const ABORTS_MAX: usize = 1024;
/// Aborts that a controller is given at once, at most.
const ABORTS_SENT_MAX: u16 = 8;

/// Questions for failed blocks, and commands to be aborted: lane, queue, command.
#[derive(Debug, Default)]
pub(super) struct Asked {
    blocks: VecDeque<(u64, u16, u16)>,
    /// So many of them the log that is being read may answer.
    blocks_sent: usize,
    /// As far as it was read.
    log: ErrorLog,
    aborts: VecDeque<(u64, u16, u16)>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.aborts.is_empty()
    }
}

impl Controller {
    /// A lane wants a command aborted.
    pub(super) fn want_abort(&mut self, index: usize, cid: u16) {
        let lane = &self.lanes[index];
        if let Some(id) = lane.open_queue()
            && self.asked.aborts.len() < ABORTS_MAX
        {
            self.asked.aborts.push_back((lane.number, id, cid));
        }
    }

    /// A lane wants to know where a command failed.
    pub(super) fn want_block(&mut self, index: usize, cid: u16) {
        let lane = &mut self.lanes[index];
        match lane.open_queue() {
            Some(id) if self.state == State::Running && self.asked.blocks.len() < BLOCKS_MAX => {
                self.asked.blocks.push_back((lane.number, id, cid));
            }
            _ => lane.answer(Reply::Lba { cid, lba: None }),
        }
    }

    /// Sends aborts, and asks for the error log.
    pub(super) fn drive_asked(&mut self) {
        let most = usize::from(self.identity.aborts.min(ABORTS_SENT_MAX));
        while self.admin.count(Purpose::Abort) < most {
            let Some(&(number, id, cid)) = self.asked.aborts.front() else { break };
            let is_open =
                self.lanes.iter().any(|lane| (lane.number, lane.open_queue()) == (number, Some(id)));
            if is_open && !self.send(Purpose::Abort, &command::abort(id, cid), AdminData::None) {
                break;
            }
            self.asked.aborts.pop_front();
        }
        if !self.asked.blocks.is_empty() && self.admin.count(Purpose::Blocks) == 0 {
            let command = self.asked.log.command(&self.identity);
            let is_first = self.asked.blocks_sent == 0;
            if self.send(Purpose::Blocks, &command, AdminData::In) && is_first {
                self.asked.blocks_sent = self.asked.blocks.len();
            }
        }
    }

    /// The error log was read a bit further, where it could be.
    pub(super) fn blocks_found(&mut self, data: Option<&[u8; ADMIN_DATA_BYTES]>) {
        if let Some(data) = data
            && !self.asked.log.take(&self.identity, data)
        {
            let log = &self.asked.log.entries;
            let mut sent = self.asked.blocks.iter().take(self.asked.blocks_sent);
            if sent.any(|(_, id, cid)| lba_of(log, *id, *cid).is_none()) {
                return;
            }
        }
        let entries = mem::take(&mut self.asked.log).entries;
        for _ in 0..mem::take(&mut self.asked.blocks_sent) {
            let Some((number, id, cid)) = self.asked.blocks.pop_front() else { break };
            let mut lanes = self.lanes.iter_mut();
            if let Some(lane) = lanes.find(|lane| (lane.number, lane.open_queue()) == (number, Some(id))) {
                lane.answer(Reply::Lba { cid, lba: lba_of(&entries, id, cid) });
            }
        }
    }

    /// The controller is being reset: what it was asked is not answered any more. Lanes are told before they hear that their
    /// pairs are gone.
    pub(super) fn forget_asked(&mut self) {
        self.asked.blocks_sent = self.asked.blocks.len();
        self.blocks_found(None);
        self.asked.aborts.clear();
    }
}
