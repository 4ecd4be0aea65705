//! Configurations of other targets: the first byte says whose, the rest is the file. Whatever it is, it is read or refused, and
//! what is written can be loaded and be read again.

use std::io;
use std::path::{Path, PathBuf};

use lunette::import::export::{self, To};
use lunette::import::source::{Files, Source};
use lunette::import::{Format, import};
use lunette::rpc::config::Plan;

/// A machine without files.
struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn matching(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

const FORMATS: [Format; 7] =
    [Format::Tgt, Format::Iet, Format::Lio, Format::Scst, Format::Ctld, Format::Istgt, Format::Spdk];

pub(super) fn one(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest).into_owned();
    let sources = [Source { name: "f".to_owned(), text }];
    let _ = Format::detect(&sources);
    let format = FORMATS[usize::from(*first) % FORMATS.len()];
    let Ok(imported) = import(format, &sources, &NoFiles, &[], &[]) else { return };
    let text = imported.config.to_string();
    Plan::parse(&text).unwrap();
    for to in [To::Spdk, To::Lio, To::Tgt] {
        export::export(to, &Source { name: "f".to_owned(), text: text.clone() }, &NoFiles).unwrap();
    }
}
