//! What may block is done on threads of its own, which tell control when it is done.

use super::Daemon;
use crate::time::Tick;

impl Daemon {
    /// Looks for media that are not there yet.
    pub(super) fn probe(&mut self, now: Tick) {
        for (name, bdev) in self.prober.due(&self.control, now) {
            let (remote, named) = (self.remote.clone(), name.clone());
            let probe = move || {
                let probed = bdev.probe();
                drop(bdev);
                remote.order(Box::new(move |daemon, _| {
                    daemon.prober.probed(&mut daemon.control, &name, probed)
                }));
            };
            if let Err(error) = std::thread::Builder::new().name("bdev-probe".to_owned()).spawn(probe) {
                self.prober.probed(&mut self.control, &named, Err(error.into()));
            }
        }
    }

    /// Measures the space that thinly provisioned units draw on.
    pub(super) fn survey(&mut self, now: Tick) {
        let Some(rounds) = self.surveyor.due(&self.control, now) else { return };
        let remote = self.remote.clone();
        let measured = move |unit| {
            remote.order(Box::new(move |daemon: &mut Daemon, _| daemon.control.space_measured(unit)));
        };
        let run = move || rounds.run(measured);
        if let Err(error) = std::thread::Builder::new().name("bdev-space".to_owned()).spawn(run) {
            tracing::warn!(%error, "no thread to measure the space of disks on: it is tried again");
        }
    }

    /// Asks devices which of their blocks take space.
    pub(super) fn ask_devices(&mut self) {
        while let Some(survey) = self.control.survey_due() {
            let (remote, not_run) = (self.remote.clone(), survey.not_run());
            let ask = move || {
                let surveyed = survey.run();
                remote.order(Box::new(move |daemon: &mut Daemon, _| daemon.control.surveyed(surveyed)));
            };
            if let Err(error) = std::thread::Builder::new().name("bdev-survey".to_owned()).spawn(ask) {
                tracing::warn!(%error, "no thread to ask a disk on which of its blocks take space: they count as mapped");
                self.control.surveyed(not_run);
            }
        }
    }

    /// Has devices erase themselves.
    pub(super) fn erase_devices(&mut self) {
        while let Some(erase) = self.control.erase_due() {
            let (remote, not_run) = (self.remote.clone(), erase.not_run("no thread for it".to_owned()));
            let run = move || {
                let erased = erase.run();
                remote.order(Box::new(move |daemon: &mut Daemon, _| daemon.control.erased(erased)));
            };
            if let Err(error) = std::thread::Builder::new().name("bdev-erase".to_owned()).spawn(run) {
                tracing::warn!(%error, "no thread to erase a disk on");
                self.control.erased(not_run);
            }
        }
    }
}
