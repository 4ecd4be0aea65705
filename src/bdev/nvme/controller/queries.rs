//! What the rest of the process asks the controller.

use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::logs::{ERRORS_MAX, Health, errors, page};
use super::shared::{Answer, Order, Query};
use super::{Controller, State, command};

/// Questions that wait, at most.
const QUERIES_MAX: usize = 64;

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
                    let _ = answer.send(Err("the controller does not work at the moment".to_owned()));
                }
                Order::Rescan if self.state == State::Running => self.begin_scan(),
                Order::Reset if self.state == State::Running => {
                    self.trouble("the operator asked for a reset")
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
                Query::Errors => command::log_page(page::ERRORS, self.log_bytes(), true),
            };
            self.send(Purpose::Query, &command, AdminData::In);
        }
    }

    pub(super) fn answer(&mut self, data: Option<&[u8; ADMIN_DATA_BYTES]>) {
        let Some((query, answer)) = self.queries.pop_front() else { return };
        let _ = answer.send(match (query, data) {
            (_, None) => Err("the controller does not say".to_owned()),
            (Query::Health, Some(data)) => Ok(Answer::Health(Health::decode(data))),
            (Query::Errors, Some(data)) => Ok(Answer::Errors(errors(data, self.identity.error_entries))),
        });
    }

    /// Length of what is read of the error log.
    pub(super) fn log_bytes(&self) -> u16 {
        self.identity.error_entries.clamp(1, ERRORS_MAX) * 64
    }
}
