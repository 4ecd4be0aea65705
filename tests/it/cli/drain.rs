//! `lunette drain`.

use lunette_initiator::config::Auth;

use super::daemon::{Lunette, Shared, ended};
use crate::harness::until;

/// RFC 7143 §11.13.5: service unavailable.
const UNAVAILABLE: (u8, u8) = (3, 1);

fn shared(lunette: &Lunette) -> Shared {
    Shared::of(lunette.run(&["share", "1M", "--portal", "127.0.0.1:0", "--json"]).json())
}

#[test]
fn nobody_new_comes_and_who_is_there_is_waited_for() {
    let lunette = Lunette::start();
    let (shared, other) = (shared(&lunette), shared(&lunette));
    let mut client = shared.login("a", Auth::None).unwrap();
    let drain = lunette.begin(&["drain", "ram0", "--timeout", "60"]);
    let said = "! iqn.2026-11.io.lunette:ram0: nobody new can log in, it is drained";
    until("it is drained", || lunette.run(&["status"]).ok().contains(said));
    assert_eq!(shared.refuses("b", Auth::None), UNAVAILABLE);
    other.login("b", Auth::None).unwrap().logout().unwrap();
    client.logout().unwrap();
    assert_eq!(
        ended(drain, "").ok(),
        "iqn.2026-11.io.lunette:ram0: no new logins ('lunette drain --undo' lets them in again)\n\
         1 of 1 sessions logged out\n"
    );
    assert_eq!(shared.refuses("a", Auth::None), UNAVAILABLE);
    let back = lunette.run(&["drain", "ram0", "--undo"]).ok();
    assert_eq!(back, "iqn.2026-11.io.lunette:ram0: initiators can log in again\n");
    shared.login("a", Auth::None).unwrap().logout().unwrap();
}

#[test]
fn who_stays_is_named_or_ended() {
    let lunette = Lunette::start();
    let shared = shared(&lunette);
    let client = shared.login("a", Auth::None).unwrap();
    let stays = lunette.run(&["drain", "--all", "--timeout", "0"]).failed(1);
    assert!(stays.contains("still logged in: iqn.2026-11.io.example:a (127.0.0.1)"), "{stays}");
    let ended = lunette.run(&["drain", "--all", "--timeout", "0", "--force", "--json"]).json();
    assert_eq!((ended["sessions"].as_u64(), ended["ended"].as_u64()), (Some(1), Some(1)));
    assert_eq!(ended["left"], serde_json::json!([]));
    drop(client);
    // It is not saved.
    let config = lunette.run(&["rpc", "lunette_get_config"]).ok();
    assert!(!config.contains("drain"), "{config}");
}

#[test]
fn it_is_said_which_target() {
    let lunette = Lunette::start();
    for (args, code) in [
        (&["drain"][..], 2),
        (&["drain", "ram0", "--all"], 2),
        (&["drain", "ram0"], 1),
        (&["drain", "--all", "--undo", "--force"], 2),
    ] {
        assert_eq!(lunette.run(args).code, code, "{args:?}");
    }
    assert_eq!(lunette.run(&["drain", "--all"]).code, 0, "there is nobody");
}
