//! A thousand power cuts: what was answered is there, what is there was asked for, and nothing is half there.

use serde_json::json;

use super::fake::{Bug, Careless, FakeFolder, Trouble};
use super::{NOW, Slow};
use crate::control::store::file;
use crate::control::store::folder::{Folder, save};
use crate::control::store::{Records, Store};
use crate::limits::SAVE_RETRY_NS;
use crate::sim::rng::Rng;
use crate::time::Tick;

const NAME: &str = "state";

/// One disk, and what may be found there.
struct World {
    rng: Rng,
    disk: Careless,
    /// What was answered last, and all that was tried since.
    may_be: Vec<Records>,
    cuts: u64,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut rng = Rng::new(seed);
        let disk = Careless { folder: FakeFolder::new(rng.fork()), bug, name: NAME };
        World { rng, disk, may_be: vec![Records::new()], cuts: 0 }
    }

    /// A daemon's life, from one power cut to the next; or what was found that cannot be.
    fn live(&mut self) -> Result<(), String> {
        let found = match self.disk.read(NAME).unwrap() {
            None => Records::new(),
            Some(text) => file::records(&text).map_err(|error| error.to_string())?,
        };
        if !self.may_be.contains(&found) {
            return Err(format!("{found:?} is none of {:?}", self.may_be));
        }
        self.may_be = vec![found.clone()];
        let slow = Slow::holding(&found);
        let mut store = Store::new(found, Box::new(slow.clone()));
        self.disk.folder.fuel = self.rng.below(40);
        let mut now = NOW;
        loop {
            let key = ["reservations/a", "reservations/b", "alua/a"][self.rng.index(3)];
            let value = (!self.rng.one_in(4))
                .then(|| json!({ "at": self.rng.below(1 << 40), "long": "x".repeat(self.rng.index(300)) }));
            let is_answered = store.set_then(key, value, (), now).is_some();
            let wanted = store.records().clone();
            if is_answered && self.may_be.last() != Some(&wanted) {
                return Err("it was answered before it was saved".to_owned());
            }
            self.disk.folder.trouble = if self.rng.one_in(8) { Trouble::Errors } else { Trouble::None };
            if self.write(&slow, &mut store, now) {
                return Ok(());
            }
            now = now.after_ns(SAVE_RETRY_NS);
            // Tried again, where it failed.
            let _ = store.expire(now);
            if self.write(&slow, &mut store, now) {
                return Ok(());
            }
        }
    }

    /// Writes what there is to write. True when the power went.
    fn write(&mut self, slow: &Slow, store: &mut Store<()>, now: Tick) -> bool {
        let Some((revision, records)) = slow.take() else { return false };
        self.may_be.push(records.clone());
        let saved = save(&mut self.disk, NAME, &file::text(&file::lines(&records)));
        if self.disk.folder.fuel == 0 {
            if saved.is_ok() {
                self.may_be = vec![records];
            }
            self.disk.folder.cut();
            self.cuts += 1;
            return true;
        }
        if saved.is_ok() {
            self.may_be = vec![records];
        }
        let _ = store.saved(revision, saved.is_ok(), now);
        false
    }
}

/// How many cuts it takes until something is wrong; none where nothing is.
fn first_failure(bug: Option<Bug>, cuts_max: u64) -> Option<(u64, String)> {
    let mut cuts = 0;
    for seed in 0.. {
        let mut world = World::new(seed, bug);
        for _ in 0..6 {
            if let Err(text) = world.live() {
                return Some((cuts + world.cuts, text));
            }
        }
        cuts += world.cuts;
        if cuts >= cuts_max {
            return None;
        }
    }
    None
}

#[test]
fn a_thousand_power_cuts() {
    assert_eq!(first_failure(None, 1000), None);
}

#[test]
fn every_careless_way_to_save_is_found_out() {
    for bug in [Bug::NoSync, Bug::RenameBeforeSync, Bug::NoFolderSync, Bug::InPlace] {
        let (cuts, text) = first_failure(Some(bug), 1000).unwrap_or_else(|| panic!("{bug:?} is not found"));
        assert!(cuts < 100, "{bug:?}: {cuts} cuts, {text}");
    }
}
