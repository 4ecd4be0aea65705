//! A folder on a disk that loses power. Until a file is synced, each of its 64-byte blocks may be lost for itself, and its
//! length; until the folder is synced, each entry that was made, moved or taken away may be as it was, whatever came
//! after it.

use std::collections::BTreeMap;
use std::io;

use crate::control::store::folder::Folder;
use crate::sim::rng::Rng;

const BLOCK: usize = 64;

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What a power loss leaves for certain.
    durable: Vec<u8>,
    /// What is read now.
    now: Vec<u8>,
}

/// What goes wrong while there is power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Nothing.
    None,
    /// Every operation fails, having done its work or not.
    Errors,
}

#[derive(Debug)]
pub(super) struct FakeFolder {
    inodes: Vec<Inode>,
    /// Names as they are read now, and as they are on the disk.
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    /// Changes of names that are not durable: to what, or gone.
    unsynced: Vec<(String, Option<usize>)>,
    /// Operations until the power goes.
    pub(super) fuel: u64,
    pub(super) trouble: Trouble,
    rng: Rng,
}

impl FakeFolder {
    pub(super) fn new(rng: Rng) -> FakeFolder {
        FakeFolder {
            inodes: Vec::new(),
            now: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            fuel: u64::MAX,
            trouble: Trouble::None,
            rng,
        }
    }

    /// The power goes, and comes back.
    pub(super) fn cut(&mut self) {
        for (name, inode) in std::mem::take(&mut self.unsynced) {
            if self.rng.one_in(2) {
                continue;
            }
            match inode {
                Some(inode) => self.durable.insert(name, inode),
                None => self.durable.remove(&name),
            };
        }
        self.now = self.durable.clone();
        for inode in &mut self.inodes {
            let length = if self.rng.one_in(2) { inode.now.len() } else { inode.durable.len() };
            let mut left = inode.durable.clone();
            left.resize(length, 0);
            for (at, block) in left.chunks_mut(BLOCK).enumerate() {
                let written = inode.now.get(at * BLOCK..).unwrap_or_default();
                if self.rng.one_in(2) {
                    for (to, from) in block.iter_mut().zip(written) {
                        *to = *from;
                    }
                }
            }
            *inode = Inode { durable: left.clone(), now: left };
        }
        self.fuel = u64::MAX;
        self.trouble = Trouble::None;
    }

    /// Whether the operation happens, and how it ends.
    fn step(&mut self) -> (bool, io::Result<()>) {
        if self.fuel == 0 {
            return (false, Err(io::Error::other("no power")));
        }
        self.fuel -= 1;
        match self.trouble {
            Trouble::None => (true, Ok(())),
            Trouble::Errors => (self.rng.one_in(2), Err(io::Error::other("trouble"))),
        }
    }

    fn inode(&mut self, name: &str) -> io::Result<&mut Inode> {
        let index = *self.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[index])
    }
}

impl Folder for FakeFolder {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.now.get(name).map(|&inode| self.inodes[inode].now.clone()))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (happens, ended) = self.step();
        if happens {
            let inode = self.inodes.len();
            self.inodes.push(Inode { durable: Vec::new(), now: bytes.to_vec() });
            self.now.insert(name.to_owned(), inode);
            self.unsynced.push((name.to_owned(), Some(inode)));
        }
        ended
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let (happens, ended) = self.step();
        if happens {
            let inode = self.inode(name)?;
            inode.durable.clone_from(&inode.now);
        }
        ended
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (happens, ended) = self.step();
        if happens {
            let inode = self.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
            self.now.insert(to.to_owned(), inode);
            // Each for itself: the old name may be there still, or the new one not yet.
            self.unsynced.push((to.to_owned(), Some(inode)));
            self.unsynced.push((from.to_owned(), None));
        }
        ended
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let (happens, ended) = self.step();
        if happens {
            self.durable.clone_from(&self.now);
            self.unsynced.clear();
        }
        ended
    }
}

/// Mistakes that programs make when they save a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    /// The file is not synced.
    NoSync,
    /// It is renamed before it is synced.
    RenameBeforeSync,
    /// The folder is not synced.
    NoFolderSync,
    /// The file is written in place.
    InPlace,
}

/// A folder that is used wrongly.
#[derive(Debug)]
pub(super) struct Careless {
    pub(super) folder: FakeFolder,
    pub(super) bug: Option<Bug>,
    pub(super) name: &'static str,
}

impl Folder for Careless {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.folder.read(name)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let name = if self.bug == Some(Bug::InPlace) { self.name } else { name };
        self.folder.write(name, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        match self.bug {
            Some(Bug::NoSync) => Ok(()),
            Some(Bug::InPlace) => self.folder.sync(self.name),
            Some(Bug::RenameBeforeSync) => {
                self.folder.rename(name, self.name)?;
                self.folder.sync(self.name)
            }
            Some(Bug::NoFolderSync) | None => self.folder.sync(name),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        match self.bug {
            Some(Bug::InPlace | Bug::RenameBeforeSync) => Ok(()),
            Some(Bug::NoSync | Bug::NoFolderSync) | None => self.folder.rename(from, to),
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        if self.bug == Some(Bug::NoFolderSync) { Ok(()) } else { self.folder.sync_folder() }
    }
}
