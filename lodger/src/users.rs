//! `--user`: names and numbers by the guest's own /etc/passwd and /etc/group.

/// Whom the command runs as.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|l| {
        let mut f = l.split(':');
        let (name, uid, gid) = (f.next()?, f.nth(1)?, f.next()?);
        Some(User {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        })
    })
}

/// Name, number and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|l| {
        let mut f = l.split(':');
        let (name, gid, members) = (f.next()?, f.nth(1)?, f.next().unwrap_or(""));
        Some((name, gid.parse().ok()?, members))
    })
}

/// A number that setuid(2) takes: −1 means "keep" there.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&n| n != u32::MAX)
}

/// Resolves `NAME|UID[:GROUP|GID]` by the texts of /etc/passwd and /etc/group.
/// Without a group: the user's group and supplementary groups; for a number
/// that passwd does not know, the group of the same number.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (spec, None),
    };
    if user.is_empty() {
        return Err("expected NAME|UID[:GID]".into());
    }
    let known = users(passwd)
        .find(|u| u.name == user)
        .or_else(|| users(passwd).find(|u| Some(u.uid) == id(user)));
    let uid = match (&known, id(user)) {
        (Some(u), _) => u.uid,
        (None, Some(n)) => n,
        (None, None) => return Err(format!("no user '{user}' in the guest's /etc/passwd")),
    };
    if let Some(g) = wanted_group {
        let gid = groups(group)
            .find(|(name, ..)| *name == g)
            .map(|(_, gid, _)| gid)
            .or_else(|| id(g))
            .ok_or_else(|| format!("no group '{g}' in the guest's /etc/group"))?;
        return Ok(Identity {
            uid,
            gid,
            groups: Vec::new(),
        });
    }
    let mut supplementary = Vec::new();
    if let Some(u) = &known {
        for (_, gid, members) in groups(group) {
            if members.split(',').any(|m| m == u.name) && gid != u.gid {
                supplementary.push(gid);
            }
        }
    }
    Ok(Identity {
        uid,
        gid: known.map_or(uid, |u| u.gid),
        groups: supplementary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken line\nme:x:1000:100:Me:/home/me:/bin/sh\n\
                          12:x:7:7::/:/bin/sh\nbad:x:xx:1::/:\n";
    const GROUP: &str =
        "root:x:0:\nusers:x:100:me\nadm:x:4:syslog,me\nempty:x:5\ndocker:x:998:me,root\n";

    fn who(spec: &str) -> Result<(u32, u32, Vec<u32>), String> {
        resolve(spec, PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(who("root"), Ok((0, 0, vec![998])));
        assert_eq!(who("me"), Ok((1000, 100, vec![4, 998])));
        assert_eq!(who("1000"), Ok((1000, 100, vec![4, 998])));
        assert_eq!(who("1234"), Ok((1234, 1234, vec![])));
        assert_eq!(who("1234:5"), Ok((1234, 5, vec![])));
        assert_eq!(who("me:adm"), Ok((1000, 4, vec![])));
        // A name wins over a number.
        assert_eq!(who("12"), Ok((7, 7, vec![])));
    }

    #[test]
    fn mistakes() {
        for bad in [
            "",
            "nobody",
            ":5",
            "me:none",
            "bad",
            "4294967295",
            "-1",
            "me:-1",
        ] {
            assert!(who(bad).is_err(), "{bad}");
        }
    }
}
