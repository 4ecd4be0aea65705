//! SPDK's file of CHAP accounts (`auth_file` of `iscsi_set_options`): authentication groups as sections `[AuthGroup1]`, in which each
//! line `Auth "user" "secret"`, or `Auth "user" "secret" "muser" "msecret"`, is an account.
//!
//! What is wrong is told by its line, never by what stands there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::secrets::Sealed;
use crate::closed_file;
use crate::control::Control;
use crate::control::auth::AuthGroup;
use crate::control::error::ChangeError;
use crate::iscsi::chap::{Account, Credential, Secret};
use crate::net::kernel::KernelNet;

/// The longest such file: as many accounts as there can be, of usual names and secrets.
const BYTES_MAX: usize = 8 << 20;
/// How the sections begin that are meant.
const SECTION: &str = "AuthGroup";

/// The file that was named, and the groups (tags) that are as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct AuthFile {
    pub(super) path: PathBuf,
    pub(super) tags: BTreeSet<u32>,
}

/// The groups of a file; none where there is no file, as with SPDK: the log says so.
pub(super) fn read(path: &Path) -> Result<Vec<AuthGroup>, String> {
    let wrong = |why: String| format!("auth_file: {}: {why}", path.display());
    if !path.is_absolute() {
        return Err(wrong("it is not absolute".to_owned()));
    }
    if matches!(path.try_exists(), Ok(false)) {
        let path = path.display();
        tracing::warn!("auth_file: {path} is not there: who has to prove an account of it cannot log in");
        return Ok(Vec::new());
    }
    let bytes = closed_file::read(path, BYTES_MAX + 1).map_err(wrong)?;
    if bytes.len() > BYTES_MAX {
        return Err(wrong(format!("it has more than {} MiB", BYTES_MAX >> 20)));
    }
    parse(&bytes).map_err(wrong)
}

/// Makes the groups that `tags` names, and those that are there of these, what `groups` says: all of it or nothing.
pub(super) fn replace(
    control: &mut Control<KernelNet>,
    tags: &BTreeSet<u32>,
    groups: Vec<AuthGroup>,
) -> Result<(), ChangeError> {
    let before: Vec<AuthGroup> =
        control.auth_groups().filter(|group| tags.contains(&group.tag)).cloned().collect();
    for group in &before {
        control.delete_auth_group(group.tag)?;
    }
    let mut made = Vec::new();
    for group in groups {
        let tag = group.tag;
        let Err(error) = control.create_auth_group(group) else {
            made.push(tag);
            continue;
        };
        // They were there, and there was room for them.
        for tag in made {
            let _ = control.delete_auth_group(tag);
        }
        for group in before {
            let _ = control.create_auth_group(group);
        }
        return Err(error);
    }
    Ok(())
}

/// The groups of a file are now these, as `sealed` is to know in the same turn.
pub(super) fn take_in(
    control: &mut Control<KernelNet>,
    sealed: &Sealed,
    path: PathBuf,
    groups: Vec<AuthGroup>,
) -> Result<(), ChangeError> {
    let old = sealed.auth_file().map(|file| file.tags).unwrap_or_default();
    let tags = groups.iter().map(|group| group.tag).collect();
    replace(control, &old, groups)?;
    sealed.set_auth_file(AuthFile { path, tags });
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Vec<AuthGroup>, String> {
    let mut groups: Vec<AuthGroup> = Vec::new();
    // The section: none yet, one of others, or a group.
    let mut section: Option<Option<u32>> = None;
    for (number, line) in lines(bytes) {
        let wrong = |why: &str| format!("line {number}: {why}");
        if let Some(name) = line.strip_prefix(b"[") {
            let name = name.strip_suffix(b"]").ok_or_else(|| wrong("a section is [NAME]"))?;
            let tag = tag(name).map_err(wrong)?;
            section = Some(tag);
            if let Some(tag) = tag
                && groups.iter().all(|group| group.tag != tag)
            {
                groups.push(AuthGroup { tag, accounts: Vec::new() });
            }
            continue;
        }
        let tag = section.ok_or_else(|| wrong("it stands before the first section"))?;
        let group = groups.iter_mut().find(|group| Some(group.tag) == tag);
        let Some(group) = group else { continue };
        let words = words(&line).map_err(wrong)?;
        let (key, values) = words.split_first().ok_or_else(|| wrong("it says nothing"))?;
        if key.eq_ignore_ascii_case(b"Comment") {
            continue;
        }
        if !key.eq_ignore_ascii_case(b"Auth") {
            return Err(wrong("of a group there are lines Auth and Comment only"));
        }
        group.accounts.push(account(values).map_err(wrong)?);
    }
    Ok(groups)
}

/// The tag that a section's name has in it; none of one that is no authentication group.
fn tag(name: &[u8]) -> Result<Option<u32>, &'static str> {
    let is_meant =
        name.get(..SECTION.len()).is_some_and(|head| head.eq_ignore_ascii_case(SECTION.as_bytes()));
    if !is_meant {
        return Ok(None);
    }
    let digits = name.split(|byte| !byte.is_ascii_digit()).find(|digits| !digits.is_empty());
    let tag = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match tag {
        Some(0) | None => Err("a group's number is from 1 to 4294967295: [AuthGroup1]"),
        some => Ok(some),
    }
}

fn account(values: &[Vec<u8>]) -> Result<Account, &'static str> {
    let credential = |name: &[u8], secret: &[u8]| {
        let name = std::str::from_utf8(name).map_err(|_| "a user's name is not UTF-8")?.to_owned();
        Ok(Credential { name, secret: Secret(secret.to_vec()) })
    };
    match values {
        [user, secret] => Ok(Account { initiator: credential(user, secret)?, target: None }),
        [user, secret, muser, msecret] => {
            Ok(Account { initiator: credential(user, secret)?, target: Some(credential(muser, msecret)?) })
        }
        _ => Err("an account is Auth USER SECRET, or Auth USER SECRET MUSER MSECRET"),
    }
}

/// Lines with something in them, each with its number: without what is around them and comments; one that ends in a backslash goes
/// on in the next.
fn lines(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let is_empty = line.is_empty() || line.starts_with(b"#");
        let (part, is_cut) = match line.strip_suffix(b"\\") {
            Some(part) => (part, true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, before)) if goes_on => before.extend_from_slice(part),
            _ if is_empty => continue,
            _ => lines.push((index + 1, part.to_vec())),
        }
        goes_on = is_cut;
    }
    lines
}

/// A line's words: between blanks, or in quotes; a backslash takes what follows as it is. The first may end at `=`, too.
fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        let is_end = match quote {
            None => byte == b' ' || byte == b'\t' || (byte == b'=' && words.is_empty()),
            Some(_) => false,
        };
        if is_end {
            words.extend(word.take());
            continue;
        }
        let is_after_key = byte == b'=' && words.len() == 1 && word.is_none() && quote.is_none();
        if is_after_key {
            // `Auth = "user"`.
            continue;
        }
        let open = word.get_or_insert_default();
        match (byte, quote) {
            (b'\\', None | Some(b'"')) => open.extend(bytes.next()),
            (b'"' | b'\'', None) => quote = Some(byte),
            (_, Some(end)) if byte == end => quote = None,
            _ => open.push(byte),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By tag: user, secret and the target's.
    fn seen(text: &str) -> Vec<(u32, Vec<[String; 4]>)> {
        let of = |account: Account| {
            let text = |secret: Secret| String::from_utf8(secret.0).unwrap();
            let (muser, msecret) =
                account.target.map(|target| (target.name, text(target.secret))).unwrap_or_default();
            [account.initiator.name, text(account.initiator.secret), muser, msecret]
        };
        let groups = parse(text.as_bytes()).unwrap();
        groups.into_iter().map(|group| (group.tag, group.accounts.into_iter().map(of).collect())).collect()
    }

    fn strings(texts: [&str; 4]) -> [String; 4] {
        texts.map(str::to_owned)
    }

    #[test]
    fn groups_are_sections_and_accounts_are_lines() {
        let text = concat!(
            "# CHAP\r\n\n[Global]\n  AuthFile x y z\n",
            "[AuthGroup1]\n  Comment \"the first\"\n  Auth \"alice\" \"secret one\"\n",
            "  auth bob\tsecret-two \"lunette\" 'its \"own\"'\n",
            "  # Auth nobody nothing\n",
            "[authgroup 12]\nAuth \\\n  carol \\\n  \"with \\\"quotes\\\" \\\\ in\"\n",
            "[AuthGroup1]\n  Auth=dave a\\ b\n  Auth = \"erin\" \"=\"\n[AuthGroup3]",
        );
        let first = vec![
            strings(["alice", "secret one", "", ""]),
            strings(["bob", "secret-two", "lunette", "its \"own\""]),
            strings(["dave", "a b", "", ""]),
            strings(["erin", "=", "", ""]),
        ];
        let twelfth = vec![strings(["carol", "with \"quotes\" \\ in", "", ""])];
        assert_eq!(seen(text), [(1, first), (12, twelfth), (3, Vec::new())]);
        assert_eq!(seen(""), []);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_without_secrets() {
        for (text, why) in [
            ("Auth a TOP\n", "line 1: it stands before the first section"),
            ("\n[AuthGroup0]\n", "line 2: a group's number is from 1 to 4294967295: [AuthGroup1]"),
            ("[AuthGroup]\n", "line 1: a group's number"),
            ("[AuthGroup4294967296]\n", "line 1: a group's number"),
            ("[AuthGroup1\n", "line 1: a section is [NAME]"),
            ("[AuthGroup1]\nAuth a\n", "line 2: an account is"),
            ("[AuthGroup1]\nAuth a TOP b\n", "line 2: an account is"),
            ("[AuthGroup1]\nAuth a TOP b TOP c\n", "line 2: an account is"),
            ("[AuthGroup1]\nAuth a \"TOP\n", "line 2: a quote is not closed"),
            ("[AuthGroup1]\nAut a TOP\n", "line 2: of a group there are"),
            ("[AuthGroup1]\n\"\"\n", "line 2: of a group there are"),
        ] {
            let told = parse(text.as_bytes()).unwrap_err();
            assert!(told.starts_with(why) && !told.contains("TOP"), "{text:?}: {told}");
        }
        assert!(parse(b"[AuthGroup1]\nAuth \xff TOP\n").unwrap_err().ends_with("not UTF-8"));
    }

    /// Whatever stands in it, nothing worse than an error comes of it.
    #[test]
    fn any_bytes_can_be_read() {
        let mut rng = crate::sim::rng::Rng::new(7);
        for _ in 0..2000 {
            let text: Vec<u8> = (0..rng.below(60))
                .map(|_| {
                    const BYTES: &[u8] = b"[AuthGroup1]\nAuth \"'\\= \t#\xff";
                    BYTES[rng.index(BYTES.len())]
                })
                .collect();
            let _ = parse(&text);
            let _ = parse(&[b"[AuthGroup1]\n".as_slice(), &text].concat());
        }
    }
}
