//! The accounts of the machine, as far as its own file knows them. A network may know more.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

const FILE: &str = "/etc/passwd";

/// An account, by one of its keys.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Account<'a> {
    Name(&'a str),
    Number(u32),
}

/// The home directory of an account; `None` if the file does not know it. Reads the file.
pub(crate) fn home_of(account: Account<'_>) -> Option<PathBuf> {
    home_among(&fs::read(FILE).ok()?, account)
}

/// The home directory of an account in the contents of the file, which may have any encoding. A
/// line that is wrong counts as none.
fn home_among(contents: &[u8], account: Account<'_>) -> Option<PathBuf> {
    contents.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let is_meant = match account {
            Account::Name(name) => *fields.first()? == name.as_bytes(),
            Account::Number(number) => {
                str::from_utf8(fields.get(2)?).is_ok_and(|field| field.parse() == Ok(number))
            }
        };
        let home = Path::new(OsStr::from_bytes(fields.get(5)?));
        (is_meant && home.is_absolute()).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_directory_of_an_account_is_known_by_its_name_and_its_number() {
        let contents = b"root:x:0:0:root:/root:/bin/sh\nwrong\nj:x:9:9:J\xfcrg:/home/j:\n\
            me:x:10:10::/home/me:\nnone:x:11:11:::\nhere:x:12:12::home:\n";
        let check = |account: Account<'_>, expected: Option<&str>| {
            let found = home_among(contents, account);
            assert_eq!(found, expected.map(PathBuf::from), "{account:?}");
        };
        check(Account::Number(0), Some("/root"));
        check(Account::Number(9), Some("/home/j"));
        check(Account::Number(10), Some("/home/me"));
        check(Account::Number(1), None);
        check(Account::Name("me"), Some("/home/me"));
        check(Account::Name("m"), None);
        check(Account::Name("wrong"), None);
        check(Account::Name("none"), None);
        check(Account::Number(12), None);
    }
}
