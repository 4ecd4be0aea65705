//! IOs that take no time: blocks that a device lends or copies at once, and blocks that it stores as they come.
//!
//! Both pass by everything that waits: no record, no completion. So they are for units at which nothing waits and nothing
//! is held. What is lent is sent in the same turn or copied at its end; until then whoever changes the blocks on this
//! reactor has the copy made first, so that a READ gives what was there when it was carried out.

use crate::id::UnitId;
use crate::iscsi::conn::Went;
use crate::iscsi::tx::Data;
use crate::net::Net;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::scsi::{Access, Extent};
use crate::slab::Key;
use crate::time::Tick;

/// Ranges lent at once; what is asked for beyond is copied.
const LENT_MAX: usize = 1024;

/// Blocks that are lent.
#[derive(Clone, Copy, Debug)]
struct Out {
    unit: UnitId,
    first: u64,
    end: u64,
    /// To whom.
    conn: Key,
}

/// What is lent in this turn.
#[derive(Debug)]
pub(super) struct Lending {
    /// Between the first receive and the first send of a turn.
    is_open: bool,
    out: Vec<Out>,
}

impl Lending {
    pub(super) fn new() -> Lending {
        Lending { is_open: false, out: Vec::with_capacity(LENT_MAX) }
    }

    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// From now on things are sent, and what is lent goes back.
    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.out.clear();
    }

    /// To whom any of these blocks is lent.
    fn find(&self, unit: UnitId, lba: u64, blocks: u32) -> Option<Key> {
        let end = lba.saturating_add(u64::from(blocks));
        let found = self.out.iter().find(|out| out.unit == unit && out.first < end && lba < out.end);
        found.map(|out| out.conn)
    }
}

impl<N: Net> Reactor<N> {
    /// Carries out the commands at the front of the input for as long as they may go the short way. Gives back the input from the
    /// first one on that may not.
    pub(super) fn shorts<'a>(&mut self, conn: Key, mut input: &'a [u8], now: Tick) -> &'a [u8] {
        if !self.holds.is_any() {
            while let Some((unit, extent)) = self.carry_out(conn, &mut input, now) {
                self.recall(unit, extent.lba, extent.blocks);
            }
        }
        input
    }

    /// As [`Reactor::shorts`], but ends also before a WRITE to blocks that are lent: tells which.
    fn carry_out(&mut self, conn: Key, input: &mut &[u8], now: Tick) -> Option<(UnitId, Extent)> {
        let drops_fua = planted!(self, FuaDropped);
        let Reactor { id, conns, tables, units, lending, meter, .. } = self;
        let link = conns.get_mut(conn)?;
        let may_borrow = lending.is_open && link.is_writable && !link.conn.params().data_digest;
        let mut cx = tables.cx(link.conn.session_key(), now);
        if !link.conn.may_go_short(cx.session) {
            return None;
        }
        let (mut went, mut in_the_way) = (Went::default(), None);
        while let Some(short) = link.conn.short(cx.session, input, cx.units) {
            let (unit, extent) = (short.unit, short.extent);
            let Some(slot) = unit::of(units, unit).filter(|slot| !slot.needs_room()) else { break };
            let channel = slot.channel(*id);
            if !channel.does_at_once() {
                break;
            }
            let data = match short.access {
                Access::Read if link.conn.is_clogged() => break,
                Access::Read => {
                    let may_borrow = may_borrow && lending.out.len() < LENT_MAX;
                    let lent = if may_borrow { channel.lend(extent.lba, extent.blocks, now) } else { None };
                    if let Some(lent) = lent.filter(|_| cx.solicited.set_aside(short.bytes)) {
                        let end = extent.lba.saturating_add(u64::from(extent.blocks));
                        lending.out.push(Out { unit, first: extent.lba, end, conn });
                        Some(Data::Lent(lent))
                    } else {
                        let Some(mut buf) = cx.solicited.take(short.bytes) else { break };
                        if !channel.load(extent.lba, &mut buf, now) {
                            break;
                        }
                        Some(Data::Own(buf))
                    }
                }
                Access::Write => {
                    if lending.find(unit, extent.lba, extent.blocks).is_some() {
                        in_the_way = Some((unit, extent));
                        break;
                    }
                    let fua = extent.fua && !drops_fua;
                    if !channel.store(extent.lba, short.data, fua, now) {
                        break;
                    }
                    None
                }
            };
            link.conn.answer_short(&short, data, &mut went, &mut cx);
            *input = short.rest;
        }
        if went.reads + went.writes > 0 {
            meter.short.add(u64::from(went.reads + went.writes));
            link.conn.went_short(&went, &mut cx);
            self.activate(conn);
        }
        in_the_way
    }

    /// Blocks are about to change: what is lent of them is copied.
    pub(super) fn recall(&mut self, unit: UnitId, lba: u64, blocks: u32) {
        while let Some(conn) = self.lending.find(unit, lba, blocks) {
            if let Some(link) = self.conns.get_mut(conn)
                && !planted!(self, LentNotKept)
            {
                link.conn.keep_lent(&mut self.tables.tx, &self.tables.solicited);
            }
            self.lending.out.retain(|out| out.conn != conn);
        }
    }
}
