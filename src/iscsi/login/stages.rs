//! The stages of a login: which requests may come when, what leads to the next stage, and the responses.

use super::{
    Authority, Claim, End, Established, Gate, Login, Names, Opened, Progress, Proven, Refusal, Security,
    Stage, Why, initiator_error,
};
use crate::iscsi::frames;
use crate::iscsi::negotiate::{LOGIN_SEGMENT_BYTES_MAX, Negotiation, Offer};
use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::iscsi::text;
use crate::iscsi::wire::{LoginRequest, LoginResponse, TAG_NONE, stamp};

/// Requests of one login, at most; the longest honest one takes under ten.
pub(super) const REQUESTS_MAX: u32 = 64;

/// Stages on the wire (RFC 7143 §11.12.3).
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// The variable fields of a response.
struct Reply {
    /// T bit and the next stage.
    transit: Option<u8>,
    is_continued: bool,
    tsih: u16,
    status: [u8; 2],
    exp_cmd_sn: Sn,
    max_cmd_sn: Sn,
}

impl Reply {
    /// In the middle of a login: no session yet, and no command may be sent.
    const fn staying(first: &LoginRequest) -> Reply {
        Reply {
            transit: None,
            is_continued: false,
            tsih: first.tsih,
            status: [0, 0],
            exp_cmd_sn: first.cmd_sn,
            max_cmd_sn: first.cmd_sn,
        }
    }
}

impl Login {
    /// The rules that a header alone can break.
    pub(super) fn check(&self, first: &LoginRequest, request: &LoginRequest, flags: u8) -> Result<(), End> {
        if self.requests > REQUESTS_MAX {
            return Err(initiator_error(Why::TooManyRequests));
        }
        if !request.immediate {
            return Err(initiator_error(Why::NotImmediate));
        }
        // RFC 7143 §11.12.4: there is version 0 only, so Version-max cannot be too low.
        if request.version_min > 0 {
            return Err(End::Refuse(Refusal::UnsupportedVersion, Why::Version(request.version_min)));
        }
        let (current, next) = (request.current_stage, request.next_stage);
        // RFC 7143 §11.12.3: these are all the transits there are.
        let is_transit =
            matches!((current, next), (SECURITY, OPERATIONAL | FULL_FEATURE) | (OPERATIONAL, FULL_FEATURE));
        // §11.12.2: C needs T to be 0.
        if !matches!(current, SECURITY | OPERATIONAL)
            || (request.transit && (request.is_continued || !is_transit))
            || current != self.stage_due(first)
        {
            return Err(initiator_error(Why::Stage(flags)));
        }
        // CmdSN must not change either (§11.12.8), but as the requests are immediate it does no harm: the first counts.
        if (request.isid, request.tsih, request.itt, request.cid)
            != (first.isid, first.tsih, first.itt, first.cid)
            || request.itt == TAG_NONE
        {
            return Err(initiator_error(Why::Changed));
        }
        Ok(())
    }

    /// The stage we are in, whatever the initiator says; only before anything was decided does it choose.
    const fn stage_due(&self, first: &LoginRequest) -> u8 {
        match self.stage {
            Stage::Opening => first.current_stage,
            Stage::Negotiating(_, Gate::Closed(_)) => SECURITY,
            _ => OPERATIONAL,
        }
    }

    /// Takes the keys of a request that is complete.
    pub(super) fn keys(
        &mut self,
        request: &LoginRequest,
        keys: &[(&str, &str)],
        authority: &mut dyn Authority,
    ) -> Result<(), End> {
        let out = self.outbox.text();
        if let Stage::Opening = self.stage {
            let mut names = Names::default();
            names.receive(keys)?;
            let asked = self.asked.insert(names.asked()?);
            let (access, offer, target) = match &asked.target {
                None => (authority.discovery(&asked.initiator)?, Offer::DISCOVERY, None),
                Some(name) => {
                    let found = authority.target(name, &asked.initiator)?;
                    (found.access, found.offer, Some(found.target))
                }
            };
            // RFC 7143 §13.9: it belongs into the first response of the leading login.
            if let Some(target) = &target {
                text::push(out, "TargetPortalGroupTag", &target.portal_group.to_string());
            }
            let negotiation = Negotiation::new(offer, target.is_none(), request.tsih == 0);
            let opened = Opened { names, initiator: asked.initiator.clone(), target, negotiation };
            // RFC 7143 §6.3: to begin in the operational stage is to offer no proof.
            let gate = match request.current_stage {
                SECURITY => Gate::Closed(Security::new(access)),
                _ => Gate::Open(
                    Proven::without_chap(&access)
                        .ok_or(End::Refuse(Refusal::AuthenticationFailure, Why::NotAuthenticated))?,
                ),
            };
            self.stage = Stage::Negotiating(Box::new(opened), gate);
        }
        let Stage::Negotiating(opened, gate) = &mut self.stage else { return Ok(()) };
        opened.names.receive(keys)?;
        match gate {
            Gate::Closed(security) => {
                security.receive(keys, &mut |bytes| authority.random(bytes), out)?;
                opened.negotiation.receive(keys, true, out)?;
            }
            Gate::Open(_) => {
                if opened.negotiation.declare(out)
                    && let Some(target) = opened.target.as_ref().filter(|target| !target.alias.is_empty())
                {
                    text::push(out, "TargetAlias", &target.alias);
                }
                opened.negotiation.receive(keys, false, out)?;
            }
        }
        Ok(())
    }

    /// Makes the response to a request whose keys, if it was complete, have been taken.
    pub(super) fn answer(
        &mut self,
        first: &LoginRequest,
        request: &LoginRequest,
        authority: &mut dyn Authority,
    ) -> Result<(), End> {
        let data = self.outbox.take(LOGIN_SEGMENT_BYTES_MAX as usize).to_vec();
        let staying = Reply { is_continued: !self.outbox.is_empty(), ..Reply::staying(first) };
        if !request.transit || staying.is_continued {
            self.respond(first, request.current_stage, &staying, &data);
            return Ok(());
        }
        let Stage::Negotiating(opened, gate) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            return Err(initiator_error(Why::Interrupted));
        };
        let proven = match gate {
            Gate::Open(proven) => proven,
            Gate::Closed(security) => match security.leave()? {
                Ok(proven) => proven,
                Err(security) => {
                    self.stage = Stage::Negotiating(opened, Gate::Closed(security));
                    self.respond(first, SECURITY, &staying, &data);
                    return Ok(());
                }
            },
        };
        if request.next_stage == OPERATIONAL {
            self.stage = Stage::Negotiating(opened, Gate::Open(proven));
            self.respond(first, SECURITY, &Reply { transit: Some(OPERATIONAL), ..staying }, &data);
            return Ok(());
        }
        self.establish(first, request.current_stage, *opened, proven, &data, authority)
    }

    /// The last response. From here on nothing can fail.
    fn establish(
        &mut self,
        first: &LoginRequest,
        stage: u8,
        opened: Opened,
        proven: Proven,
        data: &[u8],
        authority: &mut dyn Authority,
    ) -> Result<(), End> {
        let Opened { names, initiator, target, negotiation } = opened;
        let params = negotiation.finish()?;
        let granted = authority.claim(&Claim {
            initiator: &initiator,
            isid: first.isid,
            tsih: first.tsih,
            cid: first.cid,
            cmd_sn: first.cmd_sn,
            target: target.as_ref(),
            params: &params,
        })?;
        let (params, exp_cmd_sn) = match granted.joined {
            None => (params, first.cmd_sn),
            Some(joined) => (of_connection(&params, joined.params), joined.exp_cmd_sn),
        };
        let reply = Reply {
            transit: Some(FULL_FEATURE),
            tsih: granted.tsih,
            exp_cmd_sn,
            max_cmd_sn: exp_cmd_sn.plus(granted.window).previous(),
            ..Reply::staying(first)
        };
        self.respond(first, stage, &reply, data);
        self.stage = Stage::Established(Box::new(Established {
            initiator,
            alias: names.into_alias(),
            isid: first.isid,
            cid: first.cid,
            target,
            params,
            proof: proven.into_proof(),
            granted,
            stat_sn: self.stat_sn,
            exp_stat_sn: first.exp_stat_sn,
            exp_cmd_sn,
            leftover: std::mem::take(&mut self.frames).into_rest(),
        }));
        self.outcome = Progress::Established;
        Ok(())
    }

    /// Ends the login without success.
    pub(super) fn end(&mut self, end: End) {
        self.stage = Stage::Failed;
        self.outcome = match (end, self.first) {
            (End::Refuse(refusal, why), Some(first)) => {
                let mut data = Vec::new();
                if let Refusal::MovedTemporarily(address) | Refusal::MovedPermanently(address) = &refusal {
                    text::push(&mut data, "TargetAddress", address);
                }
                let reply = Reply { status: refusal.status(), ..Reply::staying(&first) };
                self.respond(&first, self.current_stage, &reply, &data);
                Progress::Refused(why)
            }
            (End::Refuse(_, why) | End::Close(why), _) => Progress::Closed(why),
        };
    }

    fn respond(&mut self, first: &LoginRequest, current_stage: u8, reply: &Reply, data: &[u8]) {
        let mut bhs = LoginResponse {
            transit: reply.transit.is_some(),
            is_continued: reply.is_continued,
            current_stage,
            next_stage: reply.transit.unwrap_or(0),
            isid: first.isid,
            tsih: reply.tsih,
            itt: first.itt,
            status: reply.status,
        }
        .encode();
        stamp(&mut bhs, Some(self.stat_sn), reply.exp_cmd_sn, reply.max_cmd_sn);
        self.stat_sn = self.stat_sn.plus(1);
        frames::write(&mut self.outgoing, bhs, data, false, false);
    }
}

/// The session's parameters with those that each connection has for itself (RFC 7143 §13: scope CO).
const fn of_connection(own: &Params, session: Params) -> Params {
    Params {
        header_digest: own.header_digest,
        data_digest: own.data_digest,
        send_segment_bytes_max: own.send_segment_bytes_max,
        recv_segment_bytes_max: own.recv_segment_bytes_max,
        ..session
    }
}
