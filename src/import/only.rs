//! Some targets of a configuration that has more, for whoever moves one after the other: with the disks and portal groups that they
//! need, and no others. What is worked out of the whole file, as numbers and identities, stays as it is there.

use super::model::{Lun, Model};
use super::report::{ImportError, Place, Report};

/// Leaves these targets in the model, and what they need.
///
/// # Errors
/// There is no such target.
pub(super) fn keep(
    model: &mut Model,
    only: &[String],
    place: &Place,
    report: &mut Report,
) -> Result<(), ImportError> {
    let is = |target: &str, wanted: &String| target.eq_ignore_ascii_case(wanted);
    if let Some(unknown) =
        only.iter().find(|wanted| !model.targets.iter().any(|target| is(&target.name, wanted)))
    {
        let names: Vec<&str> = model.targets.iter().map(|target| target.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(ImportError::new(
            place,
            format_args!(
                "--only {unknown}: there is no such target; those that could be taken over: {names}"
            ),
        ));
    }
    let before = (model.targets.len(), model.disks.len());
    model.targets.retain(|target| only.iter().any(|wanted| is(&target.name, wanted)));
    keep_disks(model);
    let targets = &model.targets;
    model.portal_groups.retain(|group| {
        targets.iter().any(|target| {
            target.portal_groups.iter().any(|(tag, _)| *tag == group.tag)
                || target.redirects.iter().any(|(tag, ..)| *tag == group.tag)
        })
    });
    let (targets, disks) = (before.0 - model.targets.len(), before.1 - model.disks.len());
    report.changed(
        place,
        format_args!("--only: {targets} other targets and {disks} other disks were left out; the lines below are of all"),
    );
    Ok(())
}

/// Leaves out disks that no LUN leads to.
fn keep_disks(model: &mut Model) {
    let mut is_kept = vec![false; model.disks.len()];
    let luns = model.targets.iter().flat_map(|target| {
        target.luns.iter().chain(target.access.iter().filter_map(|access| access.luns.as_ref()).flatten())
    });
    luns.for_each(|lun| is_kept[lun.disk] = true);
    // Where each is from now on.
    let mut count = 0;
    let places: Vec<usize> = is_kept
        .iter()
        .map(|&is_kept| {
            count += usize::from(is_kept);
            count.saturating_sub(1)
        })
        .collect();
    let mut flags = is_kept.into_iter();
    model.disks.retain(|_| flags.next() == Some(true));
    let moved = |lun: &mut Lun| lun.disk = places[lun.disk];
    for target in &mut model.targets {
        target.luns.iter_mut().for_each(moved);
        target.access.iter_mut().filter_map(|access| access.luns.as_mut()).flatten().for_each(moved);
    }
}
