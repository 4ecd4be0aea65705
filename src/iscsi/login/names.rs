//! Who logs in to what: the keys InitiatorName, InitiatorAlias, TargetName and SessionType.

use super::{End, Refusal, Why};

/// iSCSI names, at most (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;

/// An iSCSI name in lower case, or none where it is not one: `iqn.` and something, `eui.` and 16 hexadecimal digits,
/// `naa.` and 16 or 32 (RFC 7143 §4.2.7). Which characters an `iqn.` may have is taken liberally, as hypervisors put
/// the names of their machines there; white space and control characters it may not.
pub fn iscsi_name(name: &str) -> Option<String> {
    if name.len() > NAME_BYTES_MAX || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let name = name.to_lowercase();
    let (kind, rest) = name.split_at_checked(4)?;
    let is_hex = rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_name = match kind {
        "iqn." => !rest.is_empty(),
        "eui." => is_hex && rest.len() == 16,
        "naa." => is_hex && matches!(rest.len(), 16 | 32),
        _ => false,
    };
    // Lower case can be longer than what it was made from.
    (is_name && name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// The naming keys as they came. Saying one again is tolerated (a well-known initiator does in the operational
/// stage), changing it is not (RFC 7143 §6.3).
#[derive(Debug, Default)]
pub(super) struct Names {
    initiator: Option<String>,
    alias: Option<String>,
    target: Option<String>,
    session_type: Option<String>,
}

/// What the first request says.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) initiator: String,
    /// None for a discovery session.
    pub(super) target: Option<String>,
}

impl Names {
    /// Takes the naming keys of a request.
    pub(super) fn receive(&mut self, keys: &[(&str, &str)]) -> Result<(), End> {
        for &(name, value) in keys {
            let slot = match name {
                "InitiatorName" => &mut self.initiator,
                "InitiatorAlias" => &mut self.alias,
                "TargetName" => &mut self.target,
                "SessionType" => &mut self.session_type,
                _ => continue,
            };
            if slot.as_ref().is_some_and(|known| known != value) {
                return Err(End::Refuse(Refusal::InitiatorError, Why::Repeated(name.to_owned())));
            }
            *slot = Some(value.to_owned());
        }
        Ok(())
    }

    /// What the first complete request has to tell (RFC 7143 §6.3): the initiator's name, and in a normal session the
    /// target's.
    pub(super) fn asked(&mut self) -> Result<Asked, End> {
        let missing = |key| End::Refuse(Refusal::MissingParameter, Why::Missing(key));
        let initiator = self.initiator.as_deref().ok_or(missing("InitiatorName"))?;
        let initiator =
            iscsi_name(initiator).ok_or(End::Refuse(Refusal::InitiatorError, Why::InitiatorName))?;
        let target = match self.session_type.get_or_insert("Normal".to_owned()).as_str() {
            "Discovery" => None,
            "Normal" => {
                let target = self.target.as_deref().ok_or(missing("TargetName"))?;
                Some(iscsi_name(target).ok_or(End::from(Refusal::NotFound))?)
            }
            _ => return Err(End::Refuse(Refusal::SessionTypeNotSupported, Why::SessionType)),
        };
        Ok(Asked { initiator, target })
    }

    pub(super) fn into_alias(self) -> Option<String> {
        self.alias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = format!("iqn.{}", "a".repeat(219));
        let longer = format!("iqn.{}", "a".repeat(220));
        for (name, outcome) in [
            ("iqn.2001-04.com.Example:Disk", Some("iqn.2001-04.com.example:disk")),
            ("iqn.2008-11.org.linux-kvm:vm_1", Some("iqn.2008-11.org.linux-kvm:vm_1")),
            ("EUI.02004567A425678D", Some("eui.02004567a425678d")),
            ("naa.52004567BA64678D", Some("naa.52004567ba64678d")),
            ("naa.62004567BA64678D0123456789ABCDEF", Some("naa.62004567ba64678d0123456789abcdef")),
            (&long, Some(&*long)),
            (&longer, None),
            ("iqn.", None),
            ("iqn", None),
            ("", None),
            ("eui.02004567A425678", None),
            ("eui.02004567A425678G", None),
            ("naa.52004567BA64678D0", None),
            ("disk", None),
            ("iqn.2001-04.com.example: disk", None),
            ("iqn.2001-04.com.example:\ndisk", None),
        ] {
            assert_eq!(iscsi_name(name).as_deref(), outcome, "{name}");
        }
    }
}
