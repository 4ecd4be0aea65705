use super::*;
use crate::scsi::view::TargetView;

/// Sends text in the operational stage; gives the answers, NUL shown as `;`.
fn say(negotiation: &mut Negotiation, text: &str) -> Result<String, String> {
    let text = text.replace(';', "\0");
    let keys: Vec<_> = text::pairs(text.as_bytes()).map(Result::unwrap).collect();
    let mut out = vec![];
    negotiation.receive(&keys, false, &mut out).map_err(|offence| format!("{offence:?}"))?;
    Ok(String::from_utf8(out).unwrap().replace('\0', ";"))
}

fn normal() -> Negotiation {
    Negotiation::new(Offer::DEFAULT, false, true)
}

#[test]
fn an_answer_for_each_key() {
    for (asked, answered) in [
        ("HeaderDigest=CRC32C,None;", "HeaderDigest=CRC32C;"),
        ("HeaderDigest=None,CRC32C;", "HeaderDigest=None;"),
        ("DataDigest=X-fast,CRC32C;", "DataDigest=CRC32C;"),
        ("DataDigest=X-fast;", "DataDigest=Reject;"),
        ("MaxConnections=8;", "MaxConnections=2;"),
        ("MaxConnections=0;", "MaxConnections=Reject;"),
        ("MaxConnections=65536;", "MaxConnections=Reject;"),
        ("InitialR2T=No;", "InitialR2T=No;"),
        ("InitialR2T=Yes;", "InitialR2T=Yes;"),
        ("InitialR2T=yes;", "InitialR2T=Reject;"),
        ("ImmediateData=Yes;", "ImmediateData=Yes;"),
        ("ImmediateData=No;", "ImmediateData=No;"),
        ("MaxRecvDataSegmentLength=65536;", ""),
        ("MaxRecvDataSegmentLength=511;", "MaxRecvDataSegmentLength=Reject;"),
        ("MaxRecvDataSegmentLength=16777216;", "MaxRecvDataSegmentLength=Reject;"),
        ("MaxBurstLength=16776192;", "MaxBurstLength=1048576;"),
        ("MaxBurstLength=0x1000;", "MaxBurstLength=4096;"),
        ("FirstBurstLength=262145;", "FirstBurstLength=262144;"),
        ("DefaultTime2Wait=0;", "DefaultTime2Wait=2;"),
        ("DefaultTime2Wait=3600;", "DefaultTime2Wait=3600;"),
        ("DefaultTime2Wait=3601;", "DefaultTime2Wait=Reject;"),
        ("DefaultTime2Retain=20;", "DefaultTime2Retain=0;"),
        ("MaxOutstandingR2T=65535;", "MaxOutstandingR2T=16;"),
        ("DataPDUInOrder=No;", "DataPDUInOrder=Yes;"),
        ("DataSequenceInOrder=No;", "DataSequenceInOrder=Yes;"),
        ("ErrorRecoveryLevel=2;", "ErrorRecoveryLevel=0;"),
        ("ErrorRecoveryLevel=3;", "ErrorRecoveryLevel=Reject;"),
        ("TaskReporting=FastAbort,ResponseFence,RFC3720;", "TaskReporting=FastAbort;"),
        ("TaskReporting=ResponseFence,FastAbort;", "TaskReporting=ResponseFence;"),
        ("TaskReporting=RFC3720,FastAbort;", "TaskReporting=RFC3720;"),
        ("TaskReporting=SlowAbort;", "TaskReporting=Reject;"),
        ("iSCSIProtocolLevel=31;", "iSCSIProtocolLevel=2;"),
        ("IFMarker=Yes;OFMarker=No;", "IFMarker=No;OFMarker=No;"),
        ("OFMarkInt=1~2;", "OFMarkInt=Reject;"),
        (
            "X-com.example.key=1;Y-#1=2;Foo=;",
            "X-com.example.key=NotUnderstood;Y-#1=NotUnderstood;Foo=NotUnderstood;",
        ),
        ("X-a=Reject;X-b=NotUnderstood;", ""),
        ("TargetAlias=a;", "TargetAlias=Reject;"),
        ("TargetAlias=NotUnderstood;", ""),
        ("TargetPortalGroupTag=1;", "TargetPortalGroupTag=Reject;"),
        ("SendTargets=All;", "SendTargets=Reject;"),
        ("AuthMethod=None;", "AuthMethod=Reject;"),
        ("InitiatorAlias=a;SessionType=Normal;NodeArchitecture=x;", ""),
    ] {
        assert_eq!(say(&mut normal(), asked).as_deref(), Ok(answered), "{asked}");
    }
}

#[test]
fn the_outcome() {
    let mut negotiation = normal();
    assert_eq!(negotiation.finish(), Ok(DEFAULTS));
    let asked = "FirstBurstLength=262144;HeaderDigest=CRC32C;DataDigest=CRC32C;InitialR2T=No;ImmediateData=No;\
        MaxRecvDataSegmentLength=131072;MaxBurstLength=524288;MaxOutstandingR2T=4;DefaultTime2Wait=5;\
        DefaultTime2Retain=0;TaskReporting=RFC3720;";
    say(&mut negotiation, asked).unwrap();
    let mut out = vec![];
    assert!(negotiation.declare(&mut out));
    assert!(!negotiation.declare(&mut out));
    assert_eq!(out, b"MaxRecvDataSegmentLength=262144\0");
    let expected = Params {
        header_digest: true,
        data_digest: true,
        initial_r2t: false,
        immediate_data: false,
        max_burst_bytes: 524_288,
        first_burst_bytes: 262_144,
        send_segment_bytes_max: 131_072,
        recv_segment_bytes_max: 262_144,
        outstanding_r2t_max: 4,
        fast_abort: false,
        protocol_level: 1,
        connections_max: 1,
        error_recovery_level: 0,
        time2wait: 5,
        time2retain: 0,
    };
    assert_eq!(negotiation.finish(), Ok(expected));
}

#[test]
fn first_burst_depends_on_others() {
    assert_eq!(
        say(&mut normal(), "FirstBurstLength=65536;MaxBurstLength=8192;").as_deref(),
        Ok("MaxBurstLength=8192;FirstBurstLength=8192;")
    );
    assert_eq!(
        say(&mut normal(), "FirstBurstLength=65536;InitialR2T=Yes;ImmediateData=No;").as_deref(),
        Ok("InitialR2T=Yes;ImmediateData=No;FirstBurstLength=Irrelevant;")
    );
    // MaxBurstLength alone, and after the fact.
    let mut negotiation = normal();
    say(&mut negotiation, "MaxBurstLength=4096;").unwrap();
    assert_eq!(negotiation.finish().unwrap().first_burst_bytes, 4096);
    let mut negotiation = normal();
    say(&mut negotiation, "FirstBurstLength=65536;").unwrap();
    say(&mut negotiation, "MaxBurstLength=1024;").unwrap();
    assert_eq!(negotiation.finish().unwrap().first_burst_bytes, 1024);
}

#[test]
fn discovery_and_later_connections() {
    let mut discovery = Negotiation::new(Offer::DISCOVERY, true, true);
    assert_eq!(
        say(&mut discovery, "MaxBurstLength=8192;InitialR2T=No;DefaultTime2Wait=0;HeaderDigest=CRC32C;")
            .as_deref(),
        Ok("MaxBurstLength=Irrelevant;InitialR2T=Irrelevant;DefaultTime2Wait=2;HeaderDigest=CRC32C;")
    );
    let mut later = Negotiation::new(Offer::DEFAULT, false, false);
    assert_eq!(
        say(&mut later, "MaxBurstLength=8192;HeaderDigest=CRC32C;").as_deref(),
        Ok("MaxBurstLength=Reject;HeaderDigest=CRC32C;")
    );
}

#[test]
fn twice_is_an_offence() {
    let mut negotiation = normal();
    say(&mut negotiation, "InitialR2T=No;").unwrap();
    assert_eq!(say(&mut negotiation, "InitialR2T=No;"), Err("Repeated(\"InitialR2T\")".into()));
    let twice = "MaxRecvDataSegmentLength=512;MaxRecvDataSegmentLength=512;";
    assert_eq!(say(&mut normal(), twice), Err("Repeated(\"MaxRecvDataSegmentLength\")".into()));
}

#[test]
fn digests_that_are_required_or_forbidden() {
    let offer =
        Offer { header_digest: DigestOffer::Required, data_digest: DigestOffer::Never, ..Offer::DEFAULT };
    let mut negotiation = Negotiation::new(offer, false, true);
    assert_eq!(negotiation.finish(), Err(Offence::Required("HeaderDigest")));
    assert_eq!(
        say(&mut negotiation, "HeaderDigest=None,CRC32C;DataDigest=CRC32C;").as_deref(),
        Ok("HeaderDigest=CRC32C;DataDigest=Reject;")
    );
    assert!(negotiation.finish().is_ok());
}

#[test]
fn full_feature_phase() {
    let target = TargetView {
        name: "iqn.2026-11.example:disk".into(),
        alias: String::new(),
        relative_port: 1,
        ports: vec![1],
        port_groups: vec![1],
        portal_groups: vec![1],
        histogram: None,
        port_group: 1,
        portal_group: 1,
        lun_map: None,
        portals: vec!["127.0.0.1:3260,1".into()],
        mappings: vec![],
    };
    let record = "TargetName=iqn.2026-11.example:disk;TargetAddress=127.0.0.1:3260,1;";
    let mut out = [0; 256];
    for (asked, answered) in [
        ("SendTargets=;", Ok(record)),
        ("SendTargets=iqn.2026-11.example:disk;", Ok(record)),
        ("SendTargets=iqn.2026-11.example:other;", Ok("")),
        ("SendTargets=All;", Ok("SendTargets=Reject;")),
        ("InitialR2T=No;HeaderDigest=None;", Ok("InitialR2T=Reject;HeaderDigest=Reject;")),
        ("X-a=b;InitiatorAlias=me;", Ok("X-a=NotUnderstood;")),
        ("MaxRecvDataSegmentLength=1;", Ok("MaxRecvDataSegmentLength=Reject;")),
        ("X-a=Reject;InitialR2T=Irrelevant;", Ok("")),
        ("SendTargets=;SendTargets=;", Err(TextOffence::Repeated)),
        ("SendTargets=", Err(TextOffence::Text(text::TextError::Unterminated))),
    ] {
        let mut params = DEFAULTS;
        let got = answer_in_full_feature(asked.replace(';', "\0").as_bytes(), &target, &mut params, &mut out)
            .map(|bytes| str::from_utf8(&out[..bytes]).unwrap().replace('\0', ";"));
        assert_eq!(got.as_deref().map_err(|offence| *offence), answered, "{asked}");
        assert_eq!(params, DEFAULTS, "{asked}");
    }
    let mut params = DEFAULTS;
    let declare = b"MaxRecvDataSegmentLength=4096\0";
    assert_eq!(answer_in_full_feature(declare, &target, &mut params, &mut out), Ok(0));
    assert_eq!(params, Params { send_segment_bytes_max: 4096, ..DEFAULTS });
    // The change waits for an answer that fits.
    let both = b"MaxRecvDataSegmentLength=512\0X-a=b\0";
    assert_eq!(answer_in_full_feature(both, &target, &mut params, &mut out[..17]), Err(TextOffence::NoSpace));
    assert_eq!(params.send_segment_bytes_max, 4096);
}

#[test]
fn recovery_takes_one_r2t_at_a_time() {
    let offer = Offer { error_recovery_level: 2, ..Offer::DEFAULT };
    let mut negotiation = Negotiation::new(offer, false, true);
    assert_eq!(
        say(&mut negotiation, "MaxOutstandingR2T=8;ErrorRecoveryLevel=1;").as_deref(),
        Ok("ErrorRecoveryLevel=1;MaxOutstandingR2T=1;")
    );
    // Where the level is agreed on after it, one is used all the same.
    let mut negotiation = Negotiation::new(offer, false, true);
    say(&mut negotiation, "MaxOutstandingR2T=8;").unwrap();
    say(&mut negotiation, "ErrorRecoveryLevel=2;").unwrap();
    assert_eq!(negotiation.finish().unwrap().outstanding_r2t_max, 1);
}
