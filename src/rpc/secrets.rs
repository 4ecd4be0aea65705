//! CHAP secrets that calls name instead of saying them: a file that only its owner reads, or a credential that systemd has passed on
//! (`LoadCredential=` or `LoadCredentialEncrypted=`). They are read when the call is made, and what is saved names them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::auth_file::AuthFile;
use super::context::lock;
use crate::closed_file;
use crate::iscsi::chap::Secret;
use crate::limits::CHAP_SECRET_BYTES_MAX;

/// Where systemd puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// In this file.
    File(PathBuf),
    /// In the credential of this name.
    Credential(String),
}

impl Origin {
    /// The secret, or what is wrong with where it is to be.
    pub(super) fn read(&self) -> Result<Secret, String> {
        let path = match self {
            Origin::File(path) if path.is_absolute() => path.clone(),
            Origin::File(path) => return Err(format!("{} is not absolute", path.display())),
            Origin::Credential(name) => credential(name, std::env::var_os(CREDENTIALS).map(PathBuf::from))?,
        };
        read(&path).map_err(|why| format!("{}: {why}", path.display()))
    }
}

/// The file of a credential.
fn credential(name: &str, folder: Option<PathBuf>) -> Result<PathBuf, String> {
    let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    if !is_plain {
        return Err(format!("{name:?} is no name of a credential"));
    }
    let folder = folder.ok_or_else(|| {
        format!("systemd has passed no credentials on: the unit needs LoadCredential={name}:FILE")
    })?;
    Ok(folder.join(name))
}

/// What a file says.
fn read(path: &Path) -> Result<Secret, String> {
    let bytes = closed_file::read_secret(path, CHAP_SECRET_BYTES_MAX)?;
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(Secret(bytes))
}

/// Where an account's two secrets are, as far as they were not said: the initiator's and the target's.
pub(super) type Origins = [Option<Origin>; 2];

/// Where secrets are that were not said.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    /// By authentication group and user.
    named: Mutex<BTreeMap<(u32, String), Origins>>,
    /// SPDK's file of accounts, where one was named.
    file: Mutex<Option<AuthFile>>,
}

impl Sealed {
    /// An account was made.
    pub(super) fn set(&self, tag: u32, user: String, origins: Origins) {
        let mut all = lock(&self.named);
        if origins == [None, None] {
            all.remove(&(tag, user));
        } else {
            all.insert((tag, user), origins);
        }
    }

    /// Where its secrets are.
    pub(super) fn of(&self, tag: u32, user: &str) -> Origins {
        lock(&self.named).get(&(tag, user.to_owned())).cloned().unwrap_or_default()
    }

    /// The file of accounts.
    pub(super) fn auth_file(&self) -> Option<AuthFile> {
        lock(&self.file).clone()
    }

    /// The file of accounts is this one.
    pub(super) fn set_auth_file(&self, file: AuthFile) {
        *lock(&self.file) = Some(file);
    }

    /// Whether a group is as the file of accounts says.
    pub(super) fn is_of_file(&self, tag: u32) -> bool {
        lock(&self.file).as_ref().is_some_and(|file| file.tags.contains(&tag))
    }

    /// A group is as a call says from now on, whatever the file of accounts does.
    pub(super) fn take_from_file(&self, tag: u32) {
        if let Some(file) = lock(&self.file).as_mut() {
            file.tags.remove(&tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_are_files_of_their_folder() {
        let folder = Some(PathBuf::from("/run/credentials/lunette.service"));
        assert_eq!(
            credential("alice", folder.clone()),
            Ok(PathBuf::from("/run/credentials/lunette.service/alice"))
        );
        for name in ["", ".", "..", "a/b", "../shadow", "a\0"] {
            assert!(credential(name, folder.clone()).is_err(), "{name:?}");
        }
        assert_eq!(
            credential("alice", None).unwrap_err(),
            "systemd has passed no credentials on: the unit needs LoadCredential=alice:FILE"
        );
    }

    #[test]
    fn a_secret_that_others_reach_is_none() {
        let path = std::env::temp_dir().join(format!("lunette-secret-{}", std::process::id()));
        std::fs::write(&path, "correct-horse-12\r\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        assert_eq!(Origin::File(path.clone()).read(), Ok(Secret(b"correct-horse-12".to_vec())));
        mode(0o604);
        assert!(Origin::File(path.clone()).read().unwrap_err().contains("chmod 600"));
        std::fs::write(&path, "\n").unwrap();
        mode(0o600);
        assert!(Origin::File(path.clone()).read().unwrap_err().ends_with("it is empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(Origin::File("relative".into()).read().unwrap_err().ends_with("is not absolute"));
        assert!(Origin::File("/".into()).read().unwrap_err().ends_with("it is not a file"));
    }
}
