//! The text, of a sample in which everything has happened.

use super::*;
use crate::bdev::count::Figure;
use crate::bdev::raid::mirror::Doing;
use crate::metrics::sample::SessionSample;

fn sample() -> Sample {
    let mut turns = Spread::default();
    (turns.counts[0], turns.counts[1], turns.total_ns) = (3, 2, 5000);
    let reads = Figure { ios: 7, bytes: 28672, times: turns };
    let figures = Figures { reads, flushes: 4, errors: 1, in_flight: 2, ..Figures::default() };
    Sample {
        uptime_ns: 1_500_000_000,
        reactors: vec![ReactorSample {
            turns,
            waits: 9,
            at_work: [1, 2, 3, 4],
            paced: 6,
            pools: [[10, 20], [30, 40]],
            ..ReactorSample::default()
        }],
        bdevs: vec![
            BdevSample {
                name: "disk \"0\"".to_owned(),
                bytes: 512,
                luns: vec![("iqn.t".to_owned(), 3)],
                figures: vec![(0, figures), (2, figures)],
                stages: Some(Box::new([Spread::default(), Spread::default(), turns, Spread::default()])),
                waited: Waited { commands: 11, ns: 2_500_000_000 },
                members: Vec::new(),
            },
            BdevSample { name: "idle".to_owned(), ..BdevSample::default() },
            BdevSample {
                name: "mirror".to_owned(),
                members: vec![Doing::Current, Doing::Out, Doing::Filling(7), Doing::Out],
                ..BdevSample::default()
            },
        ],
        targets: vec![("iqn.t".to_owned(), 1)],
        sessions: vec![SessionSample::default()],
        connections: [1, 0, 2],
        facts: vec![(Fact::LoginFailed, "authentication", 6), (Fact::Lost, "", 8)],
        calls: vec![("bdev_get_bdevs", Calls { count: 2, errors: 1, took_ns: 250_000_000 })],
        ..Sample::default()
    }
}

#[test]
fn what_prometheus_reads() {
    let text = text(&sample()).unwrap();
    for expected in [
        "# HELP lunette_uptime_seconds How long the daemon has been there.\n# TYPE lunette_uptime_seconds gauge\n\
         lunette_uptime_seconds 1.5\n",
        "# TYPE lunette_reactor_turn_seconds histogram\n\
         lunette_reactor_turn_seconds_bucket{reactor=\"0\",le=\"0.000001024\"} 3\n\
         lunette_reactor_turn_seconds_bucket{reactor=\"0\",le=\"0.000002048\"} 5\n",
        "lunette_reactor_turn_seconds_bucket{reactor=\"0\",le=\"+Inf\"} 5\n\
         lunette_reactor_turn_seconds_sum{reactor=\"0\"} 0.000005\n\
         lunette_reactor_turn_seconds_count{reactor=\"0\"} 5\n",
        "\nlunette_reactor_throttled_commands{reactor=\"0\"} 6\n",
        "\nlunette_bdev_throttled_commands_total{bdev=\"disk \\\"0\\\"\"} 11\n",
        "\nlunette_bdev_throttled_seconds_total{bdev=\"disk \\\"0\\\"\"} 2.5\n",
        "\nlunette_reactor_hungry_commands{reactor=\"0\"} 3\n",
        "\nlunette_reactor_buffer_in_use_bytes{reactor=\"0\",pool=\"solicited\"} 40\n",
        "\nlunette_bdev_ios_total{bdev=\"disk \\\"0\\\"\",reactor=\"2\",op=\"read\"} 7\n",
        "\nlunette_bdev_ios_total{bdev=\"disk \\\"0\\\"\",reactor=\"2\",op=\"flush\"} 4\n",
        "\nlunette_bdev_io_seconds_count{bdev=\"disk \\\"0\\\"\",op=\"read\"} 10\n",
        "\nlunette_bdev_stage_seconds_bucket{bdev=\"disk \\\"0\\\"\",stage=\"queue\",le=\"0.000002048\"} 0\n",
        "\nlunette_bdev_stage_seconds_bucket{bdev=\"disk \\\"0\\\"\",stage=\"device\",le=\"0.000002048\"} 5\n\
         lunette_bdev_stage_seconds_bucket{bdev=\"disk \\\"0\\\"\",stage=\"device\",le=\"0.000008192\"} 5\n",
        "stage=\"device\",le=\"34.359738368\"} 5\n\
         lunette_bdev_stage_seconds_bucket{bdev=\"disk \\\"0\\\"\",stage=\"device\",le=\"+Inf\"} 5\n\
         lunette_bdev_stage_seconds_sum{bdev=\"disk \\\"0\\\"\",stage=\"device\"} 0.000005\n",
        "\nlunette_bdev_in_flight{bdev=\"disk \\\"0\\\"\",reactor=\"0\"} 2\n",
        "\nlunette_bdev_members{bdev=\"mirror\",state=\"current\"} 1\n\
         lunette_bdev_members{bdev=\"mirror\",state=\"filling\"} 1\n\
         lunette_bdev_members{bdev=\"mirror\",state=\"out\"} 2\n",
        "\nlunette_lun_info{target=\"iqn.t\",lun=\"3\",bdev=\"disk \\\"0\\\"\"} 1\n",
        "\nlunette_login_failures_total{reason=\"authentication\"} 6\n",
        "\nlunette_events_lost_total 8\n",
        "\nlunette_rpc_seconds_total{method=\"bdev_get_bdevs\"} 0.25\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    assert!(!text.contains("lunette_rejects_total"), "one without series is left out");
    assert!(!text.contains("lunette_bdev_stage_seconds_count{bdev=\"idle\""), "no stages of what had no IO");
}

#[test]
fn names_say_what_they_are() {
    let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for family in FAMILIES {
        assert!(family.name.starts_with("lunette_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
    }
}
