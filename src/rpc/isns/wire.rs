//! iSNS messages as a client sends them (RFC 4171 §5): registration and deregistration of a network entity with its portals,
//! targets and the portal groups between them, and the status of an answer.

use std::net::{IpAddr, SocketAddr};

/// Functions (§4.1).
const DEV_ATTR_REG: u16 = 0x0001;
const DEV_DEREG: u16 = 0x0004;
/// Set in the function of an answer.
const RESPONSE: u16 = 0x8000;

/// Flags (§5.1.4): from a client, the first PDU of a message and the last.
const CLIENT: u16 = 0x8000 | 0x0800 | 0x0400;
/// What was registered of the entity before is replaced.
const REPLACE: u16 = 0x1000;

/// Before the payload (§5.1).
pub(super) const HEAD_BYTES: usize = 12;
const VERSION: u16 = 1;
/// ENTITY PROTOCOL: iSCSI (§6.2.2).
const ISCSI: u32 = 2;
/// iSCSI NODE TYPE: target (§6.4.2).
const TARGET: u32 = 1;

/// Attributes (§6).
mod tag {
    pub(super) const DELIMITER: u32 = 0;
    pub(super) const ENTITY: u32 = 1;
    pub(super) const PROTOCOL: u32 = 2;
    pub(super) const PERIOD: u32 = 6;
    pub(super) const PORTAL_ADDRESS: u32 = 16;
    pub(super) const PORTAL_PORT: u32 = 17;
    pub(super) const NODE: u32 = 32;
    pub(super) const NODE_TYPE: u32 = 33;
    pub(super) const ALIAS: u32 = 34;
    pub(super) const GROUP_NODE: u32 = 48;
    pub(super) const GROUP_ADDRESS: u32 = 49;
    pub(super) const GROUP_PORT: u32 = 50;
    pub(super) const GROUP_TAG: u32 = 51;
}

/// A target, and by which portals it can be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) alias: String,
    /// Portals, each with the tag of its group.
    pub(super) portals: Vec<(SocketAddr, u16)>,
}

/// All that is registered.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Entity {
    pub(super) name: String,
    pub(super) nodes: Vec<Node>,
}

/// Why an answer is no good.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Bad {
    #[error("the server does not answer in iSNS")]
    Garbage,
    #[error("the server refuses: status {0} (RFC 4171 §5.3)")]
    Status(u32),
}

/// A message in the making.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(function: u16, flags: u16, transaction: u16) -> Message {
        let head = [VERSION, function, 0, flags, transaction, 0];
        Message { bytes: head.iter().flat_map(|field| field.to_be_bytes()).collect() }
    }

    /// An attribute; its value is filled up to a multiple of four.
    fn put(&mut self, tag: u32, value: &[u8]) {
        let padded = value.len().next_multiple_of(4);
        self.bytes.extend(tag.to_be_bytes());
        self.bytes.extend(u32::try_from(padded).unwrap_or(u32::MAX).to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len() + padded - value.len(), 0);
    }

    /// Text, ended by a NUL.
    fn text(&mut self, tag: u32, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(tag, &value);
    }

    fn word(&mut self, tag: u32, word: u32) {
        self.put(tag, &word.to_be_bytes());
    }

    /// Address and TCP port, under these tags.
    fn portal(&mut self, address: u32, port: u32, portal: SocketAddr) {
        let ip = match portal.ip() {
            // §6.3.1: IPv4 addresses are mapped.
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.put(address, &ip.octets());
        self.word(port, portal.port().into());
    }

    /// None where it is too long for one PDU.
    fn finish(mut self) -> Option<Vec<u8>> {
        let payload = u16::try_from(self.bytes.len() - HEAD_BYTES).ok()?;
        self.bytes[4..6].copy_from_slice(&payload.to_be_bytes());
        Some(self.bytes)
    }
}

impl Entity {
    /// Every portal, once.
    fn portals(&self) -> Vec<SocketAddr> {
        let mut portals: Vec<SocketAddr> =
            self.nodes.iter().flat_map(|node| &node.portals).map(|(portal, _)| *portal).collect();
        portals.sort_unstable();
        portals.dedup();
        portals
    }

    /// DevAttrReg (§5.6.5.1) of all of it, in place of what was there; it lapses after `period_seconds`. None where there is
    /// nothing to register, or too much for one PDU.
    pub(super) fn registration(&self, period_seconds: u32, transaction: u16) -> Option<Vec<u8>> {
        // The source: one of the entity's own nodes.
        let source = self.nodes.first()?;
        let mut message = Message::new(DEV_ATTR_REG, CLIENT | REPLACE, transaction);
        message.text(tag::NODE, &source.name);
        message.text(tag::ENTITY, &self.name);
        message.put(tag::DELIMITER, &[]);
        message.text(tag::ENTITY, &self.name);
        message.word(tag::PROTOCOL, ISCSI);
        message.word(tag::PERIOD, period_seconds);
        let portals = self.portals();
        for portal in &portals {
            message.portal(tag::PORTAL_ADDRESS, tag::PORTAL_PORT, *portal);
        }
        for node in &self.nodes {
            message.text(tag::NODE, &node.name);
            message.word(tag::NODE_TYPE, TARGET);
            if !node.alias.is_empty() {
                message.text(tag::ALIAS, &node.alias);
            }
        }
        for node in &self.nodes {
            for portal in &portals {
                message.text(tag::GROUP_NODE, &node.name);
                message.portal(tag::GROUP_ADDRESS, tag::GROUP_PORT, *portal);
                match node.portals.iter().find(|(known, _)| known == portal) {
                    Some((_, group)) => message.word(tag::GROUP_TAG, (*group).into()),
                    // §3.4: without a tag there is no way from this portal to this node; left out it would be 1.
                    None => message.put(tag::GROUP_TAG, &[]),
                }
            }
        }
        message.finish()
    }

    /// DevDereg (§5.6.5.4) of all of it.
    pub(super) fn deregistration(&self, transaction: u16) -> Option<Vec<u8>> {
        let source = self.nodes.first()?;
        let mut message = Message::new(DEV_DEREG, CLIENT, transaction);
        message.text(tag::NODE, &source.name);
        message.put(tag::DELIMITER, &[]);
        message.text(tag::ENTITY, &self.name);
        message.finish()
    }
}

/// How long the payload behind this header is, and the function that is answered.
pub(super) fn answered(head: &[u8; HEAD_BYTES], transaction: u16) -> Result<(u16, usize), Bad> {
    let field = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    if field(0) != VERSION || field(2) & RESPONSE == 0 || field(8) != transaction {
        return Err(Bad::Garbage);
    }
    Ok((field(2) & !RESPONSE, usize::from(field(4))))
}

/// What an answer's payload says.
pub(super) fn status(payload: &[u8]) -> Result<(), Bad> {
    match payload.first_chunk::<4>().map(|status| u32::from_be_bytes(*status)) {
        None => Err(Bad::Garbage),
        Some(0) => Ok(()),
        Some(status) => Err(Bad::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity() -> Entity {
        let portal: SocketAddr = "192.0.2.1:3260".parse().unwrap();
        let other: SocketAddr = "[2001:db8::1]:3261".parse().unwrap();
        let node = |name: &str, alias: &str, portals: &[(SocketAddr, u16)]| Node {
            name: name.to_owned(),
            alias: alias.to_owned(),
            portals: portals.to_vec(),
        };
        let nodes =
            vec![node("iqn.a:b", "", &[(portal, 7)]), node("iqn.a:c", "xyz", &[(portal, 7), (other, 9)])];
        Entity { name: "host".to_owned(), nodes }
    }

    #[test]
    fn a_registration_says_all_of_it() {
        let bytes = entity().registration(300, 5).unwrap();
        let v4: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let v6: &[u8] = &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let attribute = |tag: u8, value: &[u8]| {
            [&[0, 0, 0, tag, 0, 0, 0, u8::try_from(value.len()).unwrap()], value].concat()
        };
        let portal = |address: u8, ip: &[u8], low: u8| {
            [attribute(address, ip), attribute(address + 1, &[0, 0, 0x0c, low])].concat()
        };
        let group = |name: &[u8], ip: &[u8], low: u8, group: &[u8]| {
            [attribute(48, name), portal(49, ip, low), attribute(51, group)].concat()
        };
        let (b, c): (&[u8], &[u8]) = (b"iqn.a:b\0", b"iqn.a:c\0");
        let payload = [
            attribute(32, b),
            attribute(1, b"host\0\0\0\0"),
            attribute(0, b""),
            attribute(1, b"host\0\0\0\0"),
            attribute(2, &[0, 0, 0, 2]),
            attribute(6, &[0, 0, 1, 44]),
            portal(16, v4, 0xbc),
            portal(16, v6, 0xbd),
            attribute(32, b),
            attribute(33, &[0, 0, 0, 1]),
            attribute(32, c),
            attribute(33, &[0, 0, 0, 1]),
            attribute(34, b"xyz\0"),
            group(b, v4, 0xbc, &[0, 0, 0, 7]),
            group(b, v6, 0xbd, &[]),
            group(c, v4, 0xbc, &[0, 0, 0, 7]),
            group(c, v6, 0xbd, &[0, 0, 0, 9]),
        ]
        .concat();
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&[0, 1, 0, 1], length.as_slice(), &[0x9c, 0, 0, 5, 0, 0]].concat();
        assert_eq!(bytes, [head, payload].concat());
    }

    #[test]
    fn a_deregistration_names_the_entity() {
        let expected = b"\0\x01\0\x04\0\x28\x8c\0\0\x06\0\0\0\0\0\x20\0\0\0\x08iqn.a:b\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x08host\0\0\0\0";
        assert_eq!(entity().deregistration(6).unwrap(), expected);
        assert_eq!(Entity::default().registration(1, 1), None, "nothing to say");
    }

    #[test]
    fn answers_are_read_and_nonsense_is_not() {
        let head = [0, 1, 0x80, 1, 0, 12, 0x4c, 0, 0, 5, 0, 0];
        assert_eq!(answered(&head, 5), Ok((1, 12)));
        assert_eq!(answered(&head, 6), Err(Bad::Garbage));
        let mut request = head;
        request[2] = 0;
        assert_eq!(answered(&request, 5), Err(Bad::Garbage));
        assert_eq!(status(&[0, 0, 0, 0, 1]), Ok(()));
        assert_eq!(status(&[0, 0, 0, 4]), Err(Bad::Status(4)));
        assert_eq!(status(&[0, 0]), Err(Bad::Garbage));
    }
}
