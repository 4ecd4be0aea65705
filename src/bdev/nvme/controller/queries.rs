//! What the rest of the process asks the controller.

use std::mem;

use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::logs::{Health, page};
use super::shared::{Answer, Order, Query};
use super::{Controller, State, command};

/// Questions that wait, at most.
const QUERIES_MAX: usize = 64;
/// Why nothing is asked of it, or too much is.
const NOT_RUNNING: &str = "the controller does not work at the moment";

impl Controller {
    /// New orders.
    pub(super) fn take_orders(&mut self) {
        while let Some(order) = self.shared.orders.pop() {
            self.has_progress = true;
            match order {
                Order::Query(query, answer)
                    if self.state == State::Running && self.queries.len() < QUERIES_MAX =>
                {
                    self.queries.push_back((query, answer));
                }
                Order::Query(_, answer) => {
                    let _ = answer.send(Err(NOT_RUNNING.to_owned()));
                }
                Order::Erase(wanted, teller) if self.state == State::Running => {
                    self.want_erased(wanted, teller);
                }
                Order::Erase(_, teller) => {
                    let _ = teller.send(Err(NOT_RUNNING.to_owned()));
                }
                Order::Rescan if self.state == State::Running => self.begin_scan(),
                Order::Reset if self.state == State::Running => {
                    self.is_reset_asked |= !self.has_trouble();
                    self.trouble("the operator asked for a reset");
                }
                Order::Rescan | Order::Reset => {}
                Order::Detach => self.detach(),
            }
        }
    }

    /// Asks what others want to know.
    pub(super) fn drive_queries(&mut self) {
        let Some((query, _)) = self.queries.front() else { return };
        if self.admin.count(Purpose::Query) == 0 {
            let command = match query {
                Query::Health => command::log_page(page::HEALTH, 512, true),
                Query::Errors => self.error_log.command(&self.identity),
            };
            self.send(Purpose::Query, &command, AdminData::In);
        }
    }

    pub(super) fn answer(&mut self, data: Option<&[u8; ADMIN_DATA_BYTES]>) {
        if let (Some((Query::Errors, _)), Some(data)) = (self.queries.front(), data)
            && !self.error_log.take(&self.identity, data)
        {
            return;
        }
        let Some((query, answer)) = self.queries.pop_front() else { return };
        let errors = mem::take(&mut self.error_log).entries;
        let _ = answer.send(match (query, data) {
            (_, None) => Err("the controller does not say".to_owned()),
            (Query::Health, Some(data)) => Ok(Answer::Health(Health::decode(data))),
            (Query::Errors, Some(_)) => Ok(Answer::Errors(errors)),
        });
    }
}
