//! What is drawn, on a terminal that is none.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn sample() -> Sample {
    let lun = |bdev: &str, read_ios: f64, latency_us: f64| Lun {
        target: "iqn.2026-11.io.example:t".to_owned(),
        number: if bdev == "fast" { "0" } else { "1" }.to_owned(),
        bdev: bdev.to_owned(),
        read_ios,
        write_ios: 0.0,
        read_bytes: read_ios * 4096.0,
        write_bytes: 0.0,
        latency_us: Some(latency_us),
        p50_us: Some(1.024),
        p99_us: (bdev == "fast").then_some(latency_us * 3.0),
        stages_us: [Some((1.0, 1.0)), Some((1.0, 70.0)), Some((latency_us, latency_us * 3.0)), None],
    };
    let session = |number: u64, commands: u64| Session {
        number,
        initiator: format!("iqn.2026-11.io.example:{number}"),
        target: "iqn.2026-11.io.example:t".to_owned(),
        address: "192.0.2.1".to_owned(),
        reactor: "reactor_0".to_owned(),
        connections: 1,
        commands,
        oldest_us: 2_500,
    };
    let command = |session: u64| Command {
        session,
        lun: "0".to_owned(),
        bdev: "fast".to_owned(),
        name: "READ(16)".to_owned(),
        lba: "7".to_owned(),
        bytes: 4096,
        age_us: 2_500,
        waits_for: "device".to_owned(),
        about: "the device has it".to_owned(),
    };
    Sample {
        luns: vec![lun("slow", 10.0, 9_000.0), lun("fast", 123_456.0, 12.0)],
        sessions: vec![session(3, 0), session(4, 1)],
        commands: vec![command(4)],
        latencies: Vec::new(),
        devices_us: Some((1.024, 2_500.0)),
        reactors: vec![("reactor_0".to_owned(), 2, 1)],
    }
}

fn lines(screen: &mut Screen) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(110, 14)).unwrap();
    terminal.draw(|frame| screen.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..110).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..14).map(line).collect()
}

#[test]
fn the_busiest_lun_is_on_top_until_another_order_is_asked_for() {
    let mut screen = Screen::new();
    screen.show(sample());
    let shown = lines(&mut screen);
    assert!(shown[0].starts_with("123.5k IO/s  505.7MB/s  2 sessions"), "{}", shown[0]);
    assert!(shown[0].contains("  devices p50 <1 us p99 2.5 ms"), "{}", shown[0]);
    assert!(shown[1].starts_with("reactor_0: 2 conns, 1 in flight"), "{}", shown[1]);
    assert!(shown[6].contains("LUNs, by IOs"), "{}", shown[6]);
    assert!(shown[7].contains("p50") && shown[7].contains("p99"), "{}", shown[7]);
    assert!(shown[8].contains("fast") && shown[8].contains("12 us     <1 us     36 us"), "{}", shown[8]);
    assert!(screen.pressed(KeyCode::Char('s')) && screen.pressed(KeyCode::Char('s')));
    let shown = lines(&mut screen);
    assert!(shown[6].contains("LUNs, by latency") && shown[8].contains("slow"), "{shown:#?}");
    assert!(screen.pressed(KeyCode::Char('s')));
    let shown = lines(&mut screen);
    assert!(shown[6].contains("LUNs, by p99") && shown[8].contains("fast"), "{shown:#?}");
    assert!(!screen.pressed(KeyCode::Char('q')));
}

#[test]
fn a_lun_leads_to_its_stages_and_back() {
    let mut screen = Screen::new();
    screen.show(sample());
    for key in [KeyCode::Down, KeyCode::Enter] {
        lines(&mut screen);
        assert!(screen.pressed(key));
    }
    let shown = lines(&mut screen);
    assert!(shown[6].contains("LUN 0 of t: where the time of its commands goes"), "{}", shown[6]);
    for (line, expected) in [
        (8, "queue    <1 us     <1 us     until its turn"),
        (9, "receive  <1 us     70 us     until a device had"),
        (10, "device   12 us     36 us     until the device had"),
        (11, "send     -         -         until its answer"),
    ] {
        assert!(shown[line].contains(expected), "{shown:#?}");
    }
    assert!(screen.pressed(KeyCode::Esc));
    assert!(lines(&mut screen)[6].contains("LUNs, by IOs"));
}

#[test]
fn a_session_leads_to_its_commands_and_back() {
    let mut screen = Screen::new();
    screen.show(sample());
    for key in [KeyCode::Tab, KeyCode::Down, KeyCode::Enter] {
        lines(&mut screen);
        assert!(screen.pressed(key));
    }
    let shown = lines(&mut screen);
    assert!(shown[6].contains("commands in flight of session 4"), "{}", shown[6]);
    assert!(shown[8].contains("READ(16)") && shown[8].contains("device: the device has it"), "{}", shown[8]);
    assert!(screen.pressed(KeyCode::Esc));
    assert!(lines(&mut screen)[6].contains("sessions, by commands"));
}

#[test]
fn scripts_get_tables() {
    let text = in_words(&sample());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[3], "target  LUN  bdev  read/s  write/s  read B/s  write B/s  latency  p50    p99");
    assert_eq!(lines[4], "t       0    fast  123.5k  0        505.7M    0          12 us    <1 us  36 us");
    assert!(text.contains("READ(16)"));
}
