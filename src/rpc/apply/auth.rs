//! What initiators have to prove, before and after: whether that keeps somebody out, or lets somebody in.

use super::things::text;
use crate::rpc::json::Json;

/// What says it.
pub(super) const SWITCHES: [&str; 4] = ["disable_chap", "require_chap", "mutual_chap", "chap_group"];
/// Of a target.
pub(super) const SET_AUTH: &str = "iscsi_target_node_set_auth";
/// Of a target at a portal group.
pub(super) const SET_PORT_AUTH: &str = "lunette_target_node_set_portal_group_auth";

/// The switches that `value` gives; those without a value are left out.
pub(super) fn switches(value: impl Fn(&'static str) -> Option<Json>) -> Vec<(String, Json)> {
    SWITCHES.iter().filter_map(|switch| Some(((*switch).to_owned(), value(switch)?))).collect()
}

/// Such that nobody can prove who he is.
pub(super) fn closed(switch: &'static str) -> Option<Json> {
    (switch == "require_chap").then_some(Json::Bool(true))
}

/// What has to be proved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Proof {
    is_required: bool,
    is_mutual: bool,
    /// The authentication group's tag.
    group: String,
}

/// What another proof does to who gets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shift {
    /// Nobody gets in who did not before.
    Tighter,
    /// Everybody gets in who did before.
    Looser,
    /// Others do.
    Others,
}

impl Proof {
    /// Of a call's parameters.
    pub(super) fn of(params: &Json) -> Proof {
        let is_set = |name| params.member(name) == Some(&Json::Bool(true));
        let group = params.member("chap_group").map(text).filter(|tag| tag != "0").unwrap_or_default();
        Proof { is_required: is_set("require_chap"), is_mutual: is_set("mutual_chap"), group }
    }

    /// Whether the call leaves it to the target, where it is of a portal group.
    pub(super) fn is_none(params: &Json) -> bool {
        let is_off = params.member("disable_chap") == Some(&Json::Bool(true));
        !is_off && Proof::of(params) == Proof { is_required: false, is_mutual: false, group: String::new() }
    }

    /// Everybody, who proves himself, who proves himself and asks for ours, nobody.
    fn rank(&self) -> u8 {
        match (self.is_required, self.group.is_empty()) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => 1 + u8::from(self.is_mutual),
        }
    }

    pub(super) fn shift_to(&self, next: &Proof) -> Shift {
        let (before, after) = (self.rank(), next.rank());
        let asks = |rank| rank == 1 || rank == 2;
        if asks(before) && asks(after) && self.group != next.group {
            Shift::Others
        } else if after < before {
            Shift::Looser
        } else {
            Shift::Tighter
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::json::object;

    #[test]
    fn who_gets_in_is_fewer_more_or_others() {
        let proof = |require: bool, mutual: bool, group: u64| {
            Proof::of(&object! { "require_chap": require, "mutual_chap": mutual, "chap_group": group })
        };
        let (all, one, both) = (proof(false, false, 3), proof(true, false, 3), proof(true, true, 3));
        let (nobody, other) = (proof(true, false, 0), proof(true, false, 4));
        for (before, after, shift) in [
            (&all, &one, Shift::Tighter),
            (&one, &both, Shift::Tighter),
            (&both, &nobody, Shift::Tighter),
            (&one, &one, Shift::Tighter),
            (&nobody, &one, Shift::Looser),
            (&both, &one, Shift::Looser),
            (&one, &all, Shift::Looser),
            (&other, &all, Shift::Looser),
            (&one, &other, Shift::Others),
            (&both, &other, Shift::Others),
            (&all, &other, Shift::Tighter),
        ] {
            assert_eq!(before.shift_to(after), shift, "{before:?} {after:?}");
        }
    }
}
