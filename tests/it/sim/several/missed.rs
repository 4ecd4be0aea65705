//! What the initiator asks for again (RFC 7143 §7.8, §11.16).

use lunette_initiator::Serial;
use lunette_initiator::pdu::NO_TAG;
use lunette_initiator::pdu::request::{NopOut, Snack};

use super::Several;
use crate::sim::oracle::Step;

/// After so many steps it asks once more, and after many more for what it cannot know of.
const PATIENCE: Step = 120;
const LONG_PATIENCE: Step = 600;

impl Several {
    fn snack(&mut self, line: usize, snack: &Snack) {
        self.counts.snacks[usize::from(snack.kind)] += 1;
        self.send(line, &snack.with([]));
    }

    /// Asks for Data-In PDUs of a READ, or R2Ts; now and then for all data of a READ anew.
    pub(super) fn ask_data(&mut self, itt: u32, begin: u32, run: u32) {
        let is_anew = self.world.rng.one_in(4);
        let Some(op) = self.ops.get_mut(&itt) else { return };
        op.asked_at = self.world.step;
        let line = op.line;
        if op.is_write || !is_anew || op.is_refused {
            return self.snack(line, &Snack { kind: 0, itt, ttt: NO_TAG, begin, run, ..Snack::default() });
        }
        op.snack_tag += 0x0100;
        op.held = None;
        op.heard.clear();
        let ttt = op.snack_tag;
        self.snack(line, &Snack { kind: 3, itt, ttt, ..Snack::default() });
    }

    /// Asks on a connection for what is known to be missing, and for what may be.
    pub(super) fn ask(&mut self, line: usize) {
        if self.is_up(line) {
            self.ask_responses(line);
            self.ask_data_and_r2ts(line);
            self.acknowledge(line);
        }
    }

    /// Says what was heard where nothing else does. A fence (RFC 7143 §4.2.2.3) waits for that.
    fn acknowledge(&mut self, line: usize) {
        let target = &self.lines[line];
        if target.acknowledged < target.heard && self.world.step >= target.sent_at + PATIENCE {
            let (itt, cmd_sn) = (NO_TAG, self.cmd_sn);
            let nop = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
            self.send(line, &nop.with([]));
        }
    }

    fn ask_responses(&mut self, line: usize) {
        let now = self.world.step;
        let held: Vec<usize> = self
            .ops
            .values()
            .filter(|op| op.line == line)
            .filter_map(|op| op.held.as_ref().map(|held| held.number))
            .collect();
        let target = &mut self.lines[line];
        let is_missing = |number: &usize| !target.heard_ahead.contains(number) && !held.contains(number);
        let mut missing = (target.heard..target.known).skip_while(|number| !is_missing(number));
        let Some(first) = missing.next().filter(|_| now >= target.ask_at) else { return };
        let run = 1 + u32::try_from(missing.take_while(is_missing).count()).unwrap_or(0);
        let begin = target.stat_sn(first);
        target.ask_at = now + PATIENCE;
        self.snack(line, &Snack { kind: 1, itt: NO_TAG, ttt: NO_TAG, begin, run, ..Snack::default() });
    }

    fn ask_data_and_r2ts(&mut self, line: usize) {
        let now = self.world.step;
        let mut missing = Vec::new();
        for (itt, op) in self.ops.iter().filter(|(_, op)| op.line == line && !op.is_refused) {
            let first = op.exp_data_sn();
            let known = op.heard.last().map_or(0, |last| last + 1);
            let upto = op.held.as_ref().map_or(known, |held| held.exp_data_sn);
            let run = (first..upto).take_while(|sn| !op.heard.contains(sn)).count();
            let is_had = Serial(op.cmd_sn).precedes(Serial(self.exp_cmd_sn));
            if run > 0 && now >= op.asked_at + PATIENCE {
                missing.push((*itt, first, u32::try_from(run).unwrap_or(0)));
            } else if op.is_write && is_had && now >= op.asked_at + LONG_PATIENCE {
                // An R2T behind which nothing comes.
                missing.push((*itt, first, 0));
            }
        }
        missing.into_iter().for_each(|(itt, begin, run)| self.ask_data(itt, begin, run));
    }
}
