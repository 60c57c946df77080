//! The accounts of the machine, as far as its own file knows them. A network may know more.

use std::{
    fs,
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
    home_among(&fs::read_to_string(Path::new(FILE)).ok()?, account)
}

/// The home directory of an account in the text of the file. A line that is wrong counts as none.
fn home_among(text: &str, account: Account<'_>) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_meant = match account {
            Account::Name(name) => fields.first() == Some(&name),
            Account::Number(number) => fields.get(2)?.parse() == Ok(number),
        };
        fields.get(5).filter(|_| is_meant).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_directory_of_an_account_is_known_by_its_name_and_its_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nwrong\nme:x:10:10::/home/me:\n";
        let check = |account: Account<'_>, expected: Option<&str>| {
            let found = home_among(text, account);
            assert_eq!(found, expected.map(PathBuf::from), "{account:?}");
        };
        check(Account::Number(0), Some("/root"));
        check(Account::Number(10), Some("/home/me"));
        check(Account::Number(1), None);
        check(Account::Name("me"), Some("/home/me"));
        check(Account::Name("m"), None);
        check(Account::Name("wrong"), None);
    }
}
