//! CHAP secrets, out of files that only their owner can read.

use std::path::Path;

use clap::Args;

use super::Failed;
use super::args::Serve;
use crate::closed_file;
use crate::control::identity::hex;
use crate::iscsi::chap::{Account, Credential, Secret};
use crate::limits::CHAP_SECRET_BYTES_MAX;

/// RFC 7143 §9.2.1: at least 96 bits.
const SECRET_BYTES_MIN: usize = 12;
/// What Windows initiators take at most.
const SECRET_BYTES_COMMON_MAX: usize = 16;

/// `lunette chap-secret`.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ChapSecret {
    /// 16 characters, of 96 random bits: all that Windows initiators take. Without it 32, of 128 (RFC 7143 §9.2.1)
    #[arg(long)]
    short: bool,
}

/// Prints a secret that nobody has had before.
pub(super) fn make(args: ChapSecret) -> Result<(), Failed> {
    super::print(&format!("{}\n", random(args.short)?))
}

/// A secret that nobody has had before.
pub(super) fn random(short: bool) -> Result<String, Failed> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Failed::failure)?;
    Ok(written(ChapSecret { short }, random))
}

/// The secret that these bits make.
fn written(args: ChapSecret, random: [u8; 16]) -> String {
    /// Six bits each, none of which means anything to a shell or in a file of settings.
    const LETTERS: &[u8; 64] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._";
    if args.short {
        random.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect()
    } else {
        hex(&random)
    }
}

/// The CHAP account that the switches ask for, if any.
pub(super) fn account(args: &Serve) -> Result<Option<Account>, Failed> {
    let initiator = credential(args.chap_user.as_deref(), args.chap_secret_file.as_deref(), args.weak_chap)?;
    let Some(initiator) = initiator else { return Ok(None) };
    let target = credential(args.mutual_user.as_deref(), args.mutual_secret_file.as_deref(), args.weak_chap)?;
    // RFC 7143 §12.1.3: with one secret for both directions the initiator could be made to answer its own challenge.
    if target.as_ref().is_some_and(|target| target.secret == initiator.secret) {
        return Err(Failed::usage(
            "--chap-secret-file and --mutual-secret-file hold the same secret: choose another for one",
        ));
    }
    Ok(Some(Account { initiator, target }))
}

fn credential(
    user: Option<&str>,
    file: Option<&Path>,
    is_weak_fine: bool,
) -> Result<Option<Credential>, Failed> {
    let (Some(user), Some(file)) = (user, file) else { return Ok(None) };
    Ok(Some(Credential { name: user.to_owned(), secret: from_file(file, is_weak_fine)? }))
}

/// A file's secret, if nobody guesses it.
pub(super) fn from_file(file: &Path, is_weak_fine: bool) -> Result<Secret, Failed> {
    let secret = secret(file).map_err(|text| Failed::failure(format!("{}: {text}", file.display())))?;
    match secret.0.len() {
        0 => return Err(Failed::failure(format!("{}: it is empty", file.display()))),
        bytes if bytes < SECRET_BYTES_MIN && !is_weak_fine => {
            return Err(Failed::failure(format!(
                "{}: a secret of {bytes} bytes can be guessed; make it 12 to 16 bytes, or give --weak-chap",
                file.display()
            )));
        }
        bytes if bytes > SECRET_BYTES_COMMON_MAX => {
            tracing::warn!(file = %file.display(), bytes, "Windows initiators take CHAP secrets of 12 to 16 bytes only");
        }
        _ => {}
    }
    Ok(secret)
}

fn secret(path: &Path) -> Result<Secret, String> {
    let bytes = closed_file::read_secret(path, CHAP_SECRET_BYTES_MAX)?;
    if bytes.len() > CHAP_SECRET_BYTES_MAX {
        return Err(format!("more than {CHAP_SECRET_BYTES_MAX} bytes"));
    }
    Ok(Secret(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    /// A file with this content and mode, gone at the end.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, content: &[u8], mode: u32) -> Temporary {
            let path = std::env::temp_dir().join(format!("lunette-{}-{name}", std::process::id()));
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Temporary(path)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).unwrap();
        }
    }

    fn read(file: &Temporary, is_weak_fine: bool) -> Result<Vec<u8>, String> {
        match credential(Some("user"), Some(&file.0), is_weak_fine) {
            Ok(credential) => Ok(credential.unwrap().secret.0),
            Err(Failed::Usage(text) | Failed::Failure(text)) => Err(text),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_newline_at_the_end_does_not_count() {
        for (name, content) in
            [("lf", &b"123456789012\n"[..]), ("crlf", b"123456789012\r\n"), ("none", b"123456789012")]
        {
            assert_eq!(read(&Temporary::new(name, content, 0o600), false), Ok(b"123456789012".to_vec()));
        }
        assert_eq!(
            read(&Temporary::new("two", b"1234567890\n\n", 0o600), true),
            Ok(b"1234567890\n".to_vec())
        );
    }

    #[test]
    fn made_ones_have_all_of_their_bits() {
        let random = [0, 1, 9, 10, 35, 36, 61, 62, 63, 64, 127, 128, 0xaa, 0xf0, 0xfe, 0xff];
        let long = written(ChapSecret { short: false }, random);
        assert_eq!(long, "0001090a23243d3e3f407f80aaf0feff");
        assert_eq!(written(ChapSecret { short: true }, random), "019azAZ._0_0GM._");
        for secret in [written(ChapSecret { short: true }, random), long] {
            let file = Temporary::new("made", format!("{secret}\n").as_bytes(), 0o600);
            assert_eq!(read(&file, false), Ok(secret.into_bytes()), "serve takes it");
        }
    }

    /// RFC 7143 §9.2.1: from random bytes, and nothing else.
    #[test]
    fn made_ones_are_random() {
        let made = [(); 4].map(|()| random(false).map_err(|error| format!("{error:?}")).unwrap());
        for (index, secret) in made.iter().enumerate() {
            assert!(!made[..index].contains(secret), "{secret} twice");
        }
    }

    #[test]
    fn others_must_not_read_it() {
        let error = read(&Temporary::new("open", b"123456789012", 0o604), false).unwrap_err();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn short_secrets_need_a_switch() {
        let file = Temporary::new("short", b"12345678901", 0o600);
        assert!(read(&file, false).unwrap_err().contains("--weak-chap"));
        assert_eq!(read(&file, true), Ok(b"12345678901".to_vec()));
        assert!(read(&Temporary::new("empty", b"\n", 0o600), true).is_err());
    }
}
