//! How to reach what is served, in lines to be copied.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The lines for a target with so many LUNs, at its first portal.
pub(super) fn connect(portal: SocketAddr, target: &str, luns: usize, chap_user: Option<&str>) -> String {
    let portal = reachable(portal);
    let user = chap_user.map(|user| format!("{user}%SECRET@")).unwrap_or_default();
    let mut text = format!("  iscsi-ls -s iscsi://{user}{portal}\n");
    for lun in 0..luns {
        // String never fails to grow.
        let _ = writeln!(text, "  qemu-img info iscsi://{user}{portal}/{target}/{lun}");
    }
    let _ = writeln!(text, "  iscsiadm -m discovery -t sendtargets -p {portal}");
    if let Some(user) = chap_user {
        for (name, value) in [("authmethod", "CHAP"), ("username", user), ("password", "SECRET")] {
            let _ = writeln!(
                text,
                "  iscsiadm -m node -T {target} -p {portal} --op update -n node.session.auth.{name} -v {value}"
            );
        }
    }
    let _ = writeln!(text, "  iscsiadm -m node -T {target} -p {portal} --login");
    text
}

/// An address that can be connected to from here.
fn reachable(portal: SocketAddr) -> SocketAddr {
    let ip = match portal.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, portal.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_the_real_address_target_and_lun() {
        let text = connect("0.0.0.0:3261".parse().unwrap(), "iqn.a:b", 2, None);
        assert_eq!(
            text,
            "  iscsi-ls -s iscsi://127.0.0.1:3261\n\
             \x20 qemu-img info iscsi://127.0.0.1:3261/iqn.a:b/0\n\
             \x20 qemu-img info iscsi://127.0.0.1:3261/iqn.a:b/1\n\
             \x20 iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3261\n\
             \x20 iscsiadm -m node -T iqn.a:b -p 127.0.0.1:3261 --login\n"
        );
    }

    #[test]
    fn with_chap_the_user_is_named_and_the_secret_is_not() {
        let text = connect("[::1]:3260".parse().unwrap(), "iqn.a:b", 1, Some("joe"));
        assert!(text.contains("iscsi-ls -s iscsi://joe%SECRET@[::1]:3260\n"), "{text}");
        assert!(text.contains("-n node.session.auth.username -v joe\n"), "{text}");
    }
}
